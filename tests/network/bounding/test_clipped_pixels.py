"""Pixels clipped ahead of a network, many of them alike: against samples, one kink for all that share it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from steadygaze.enclosing.enclosures import Enclosure
from steadygaze.network.bounding import small_boxes
from steadygaze.network.bounding.bounds import Bounds
from steadygaze.network.bounding.clipped_pixels import ClippedPixels, clipped_alike
from steadygaze.network.bounding.tightening import Effort
from steadygaze.network.reading.load import load_network
from steadygaze.network.saliencies import by_name as saliency_by_name
from steadygaze.perturbation.notation import chain_of
from steadygaze.question.inconsistency import by_name as inconsistency_by_name
from steadygaze.question.posing import pose

SIDE, BOXES, COUNT = 8, 3, 2


def blank(seed, grey=6):
    """An image most of which is 0, some of it 1, and a few pixels of their own between."""
    rng = np.random.default_rng(seed)
    image = np.zeros((1, SIDE, SIDE))
    image[0, 2:4, 2:6] = 1.0
    at = rng.permutation(SIDE * SIDE)[:grey]
    image.reshape(-1)[at] = rng.uniform(0.02, 0.98, grey)
    return image


def net(seed):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(16, 3),
    )  # fmt: skip


def posed(chain, seed, saliency="gradient", inconsistency="cosine"):
    return pose(
        load_network(net(seed), input_shape=(1, SIDE, SIDE)),
        blank(seed),
        chain_of(chain),
        label=None,
        saliency=saliency_by_name(saliency),
        inconsistency=inconsistency_by_name(inconsistency),
        threshold=0.3,
        clip=(0.0, 1.0),
    )


def boxes_of(problem, seed, halvings):
    """One about 0, and some at seeded places."""
    rng, box = np.random.default_rng(seed), problem.box
    widths = np.ptp(box, axis=1) / 2**halvings
    low = box[:, 0] + rng.random((BOXES, len(box))) * (np.ptp(box, axis=1) - widths)
    low[0] = np.clip(-widths / 2, box[:, 0], box[:, 1] - widths)
    return np.stack([low, low + widths], axis=2)


CHAINS = (
    "contrast(amount=-0.2..0.2) | brightness(amount=-0.2..0.2)",
    "exposure(amount=-0.3..0.3) | brightness(amount=-0.1..0.1)",
    "rotate(degrees=-5..5) | brightness(amount=-0.2..0.2)",
    "translate(dx=-0.4..0.4) | contrast(amount=-0.2..0.2) | brightness(amount=-0.1..0.1)",
    "brightness(amount=-0.2..0.2) | patch(opacity=0..0.5, top=1, left=1, size=3)",
)


@pytest.mark.parametrize("seed", range(12))
def test_what_pixels_of_one_kink_do_beside_the_amounts_is_one_number(seed):
    """For every point of a box, whatever errors are, one number for each kink explains all of its pixels."""
    rng = np.random.default_rng(seed)
    problem = posed(CHAINS[0], seed)
    value = rng.integers(0, 4, (1, SIDE, SIDE))
    rows = rng.uniform(-0.3, 0.3, (BOXES, 1 + COUNT, 4))
    rows[:, 0] += rng.integers(0, 2, 4)
    rows[:, 0, 1] = rows[:, 0, 0]
    # Errors as large as what pixels move by, for they are what one function leaves out.
    error = rng.uniform(0, 0.1, (BOXES, 4))[:, value]
    pixels = Enclosure(rows[:, 0][:, value], rows[:, 1:][:, :, value], error)
    found = clipped_alike(problem.graph, problem.pixels, pixels)
    made = found.pixels
    kinks = made.count - COUNT
    assert 0 < kinks <= 4
    for _ in range(100):
        t = rng.uniform(-1, 1, (BOXES, COUNT))
        e = error * rng.choice([-1.0, 1.0, 0.0, 0.5], error.shape)
        v = pixels.centre + np.einsum("bn,bn...->b...", t, pixels.slopes) + e
        known = made.centre + np.einsum("bn,bn...->b...", t, made.slopes[:, :COUNT])
        left, slack = np.clip(v, 0, 1) - known, made.error * (1 + 1e-12) + 1e-15
        alone = (made.slopes[:, COUNT:] > 0).sum(axis=1)
        assert (alone <= 1).all()
        assert (np.abs(left) <= slack)[alone == 0].all()
        for box in range(BOXES):
            for kink in range(kinks):
                share = made.slopes[box, COUNT + kink]
                own = share > 0
                if not own.any():
                    continue
                low = ((left[box] - slack[box])[own] / share[own]).max()
                high = ((left[box] + slack[box])[own] / share[own]).min()
                assert max(low, -1) <= min(high, 1)


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("effort", [Effort.FORMS, Effort.GAPS, Effort.UNITS])
@pytest.mark.parametrize("inconsistency", ["cosine", "l2"])
def test_bounds_hold_at_samples(chain, effort, inconsistency, monkeypatch):
    """Gaps and inconsistency, also where expected maps move along."""
    used = []
    watched = small_boxes.clipped_alike
    monkeypatch.setattr(small_boxes, "clipped_alike", lambda *given: used.append(watched(*given)) or used[-1])
    rng = np.random.default_rng(7)
    for seed in range(2):
        problem = posed(chain, seed, inconsistency=inconsistency)
        for halvings in (0, 3, 8):
            boxes = boxes_of(problem, seed, halvings)
            bounds = problem.bounds(boxes, 32, effort)
            assert bounds.pull.shape == (BOXES, len(problem.box))
            low, high = (bound.numpy() for bound in bounds.gaps(problem.label))
            least, most = problem.enclosed_inconsistency(boxes, bounds)
            for box in range(BOXES):
                draws = rng.random((40, len(problem.box)))
                thetas = boxes[box, :, 0] + draws * np.ptp(boxes[box], axis=1)
                gaps = problem.gaps(problem.network.graph.forward(problem.images(thetas))).numpy()
                assert (gaps >= low[box] - 1e-9).all()
                assert (gaps <= high[box] + 1e-9).all()
                points = problem.at(thetas)
                inside = points.gap > 1e-9
                found = points.inconsistency[inside]
                assert (found <= most[box] + 1e-9).all()
                assert (found >= least[box] - 1e-9).all()
    assert any(found is not None for found in used), "some kinks are shared"


def test_bounds_are_tighter_over_a_blank_background(monkeypatch):
    """All of a blank background bends at once: as many errors, or lines of their own, never cancel."""
    problem = posed(CHAINS[0], 1)
    boxes = boxes_of(problem, 1, 2)[:1]
    widths = []
    for alike in (True, False):
        if not alike:
            monkeypatch.setattr(small_boxes, "clipped_alike", lambda *_: None)
        low, high = problem.bounds(boxes, 0, Effort.FORMS).gaps(problem.label)
        widths.append(float((high - low).max()))
    assert widths[0] < widths[1] / 2


def test_pixels_that_one_box_clips_to_a_constant_are_exact_whatever_bends_in_others():
    """Windows over them tie, and must go on to."""
    problem = posed(CHAINS[0], 1)
    centre = np.zeros((2, 1, SIDE, SIDE))
    centre[1] = -0.5
    pixels = Enclosure(centre, np.full((2, 1, 1, SIDE, SIDE), 0.1), np.full(centre.shape, 1e-17))
    made = clipped_alike(problem.graph, problem.pixels, pixels).pixels
    assert made.slopes[0].any()
    for own in (made.centre, made.slopes, made.error):
        assert not own[1].any()


def test_what_rounding_leaves_of_pixels_on_one_piece_is_no_kink():
    """It may be another number for each of them."""
    problem = posed(CHAINS[0], 1)
    centre = np.zeros((2, 1, SIDE, SIDE))
    centre[1] = 0.1 + 1e-17  # from 0 on, but for rounding
    pixels = Enclosure(centre, np.full((2, 1, 1, SIDE, SIDE), 0.1), np.full(centre.shape, 1e-17))
    made = clipped_alike(problem.graph, problem.pixels, pixels).pixels
    assert (made.slopes[0, 1:] > 0).all()
    assert not made.slopes[1, 1:].any()
    assert (made.error[1] >= 1e-17).all()


@pytest.mark.parametrize("seed", range(4))
def test_kinks_that_are_not_followed_are_errors(seed):
    """Forty slight ones of single pixels, besides one of many."""
    rng = np.random.default_rng(seed)
    problem = posed(CHAINS[0], seed)
    slopes = np.full((1, 1, 1, SIDE, SIDE), 0.3)
    slopes[0, 0, 0].reshape(-1)[:40] = rng.uniform(0.5e-3, 1e-3, 40)
    pixels = Enclosure(np.zeros((1, 1, SIDE, SIDE)), slopes, np.zeros((1, 1, SIDE, SIDE)))
    made = clipped_alike(problem.graph, problem.pixels, pixels).pixels
    assert made.count == 1 + 32
    for t in rng.uniform(-1, 1, 50):
        left = np.clip(t * slopes[0, 0], 0, 1) - made.centre[0] - t * made.slopes[0, 0]
        assert (np.abs(left) <= made.error[0] + np.abs(made.slopes[0, 1:]).sum(axis=0) + 1e-15).all()


def test_what_is_due_to_kinks_is_put_down_to_the_amounts():
    problem = posed(CHAINS[0], 1)
    nothing = Enclosure.exact(np.zeros((1, 1, SIDE, SIDE)), 2)
    blame = torch.tensor([[[0.25, 0.75], [1.0, 0.0]]])
    pull, doubts = torch.tensor([[1.0, 2.0, 4.0, 8.0]]), torch.tensor([3.0])
    told = ClippedPixels(nothing, blame, torch.tensor([2.0])).told(
        Bounds(problem.graph, {}, {}, pull, doubts, 0, {})
    )
    assert told.pull.tolist() == [[1 + 1 + 8, 2 + 3]]
    assert told.doubts.tolist() == [5.0]


def test_kinks_are_counted_once_and_blamed_on_the_amounts():
    problem = posed("contrast(amount=-0.2..0.2) | brightness(amount=-0.1..0.1)", 2)
    amounts = Enclosure.of_boxes(problem.box[None] / 2**12)
    found = clipped_alike(problem.graph, problem.pixels, problem.perturbation.enclose(problem.image, amounts))
    assert found.doubts.tolist() == [2.0], "pixels of 0, and of 1"
    assert found.blame.shape == (1, 2, 2)
    np.testing.assert_allclose(found.blame.sum(dim=2).numpy(), 1.0)
    # Black and white pixels move by half the contrast, and by the brightness.
    np.testing.assert_allclose(found.blame[0].numpy(), np.full((2, 2), 0.5), rtol=1e-2)


@pytest.mark.parametrize("grey", [0, SIDE * SIDE])
def test_nothing_is_shared_where_nothing_bends_or_all_pixels_differ(grey):
    problem = posed(CHAINS[0], 3)
    rng = np.random.default_rng(3)
    image = rng.uniform(0.0, 0.1, (1, 1, SIDE, SIDE)) if grey else np.full((1, 1, SIDE, SIDE), 0.5)
    slopes = np.full((1, 1, 1, SIDE, SIDE), 0.2)
    found = clipped_alike(problem.graph, problem.pixels, Enclosure(image, slopes, np.zeros_like(image)))
    assert found is None
