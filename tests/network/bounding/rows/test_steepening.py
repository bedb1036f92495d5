"""Slopes of lines below, sought for single rows: sound, by the right derivative, and tighter."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from formed import affine_part, exact
from steadygaze.enclosing.forms import Forms
from steadygaze.network.bounding.bounds import bounds_of
from steadygaze.network.bounding.rows import steepening
from steadygaze.network.bounding.rows.lines import Lines
from steadygaze.network.bounding.rows.steepening import steepened
from steadygaze.network.bounding.tightening import Effort
from steadygaze.network.reading.load import load_network

COUNT = 2


class Skipping(nn.Module):
    """A residual block, whose units may be moved so far from 0 that none is in doubt."""

    def __init__(self, away):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(16, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.first.bias.data += away
        self.second.bias.data += away

    def forward(self, x):
        y = torch.relu(self.first(x.flatten(1)))
        return self.last(torch.relu(self.second(y) + y))


def dense(bend, *sizes):
    parts = [nn.Flatten()]
    for inner, outer in pairwise(sizes[:-1]):
        parts += [nn.Linear(inner, outer), bend()]
    return nn.Sequential(*parts, nn.Linear(*sizes[-2:]))


SHAPES = {
    "deep": lambda: dense(nn.ReLU, 16, 12, 12, 12, 3),
    "two classes": lambda: dense(nn.ReLU, 16, 8, 8, 2),
    "one logit": lambda: dense(nn.ReLU, 16, 8, 8, 1),
    "ReLU last": lambda: nn.Sequential(dense(nn.ReLU, 16, 8, 8, 3), nn.ReLU()),
    "no hidden layer": lambda: dense(nn.ReLU, 16, 3),
    "leaky": lambda: dense(lambda: nn.LeakyReLU(0.1), 16, 8, 8, 3),
    "each its own slope": lambda: dense(lambda: nn.PReLU(8, 1.5), 16, 8, 8, 3),
    "bent twice": lambda: dense(nn.ReLU6, 16, 8, 8, 3),
    "smooth": lambda: dense(nn.SiLU, 16, 8, 8, 3),
    "largest": lambda: nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), dense(nn.ReLU, 12, 8, 8, 3)
    ),
    "residual": lambda: Skipping(0.0),
    "residual, none in doubt": lambda: Skipping(10.0),
}


def bounded(name, width, boxes=3, effort=Effort.UNITS):
    torch.manual_seed(len(name))
    graph = load_network(SHAPES[name]().double().eval(), input_shape=(1, 4, 4)).graph
    generator = torch.Generator().manual_seed(7)
    rows = 2 * torch.rand(boxes, 1 + COUNT, 1, 4, 4, generator=generator, dtype=torch.float64) - 1
    rows[:, 1:] *= width
    pixels = Forms(rows, torch.full((boxes, 1, 4, 4), 0.01 * width, dtype=torch.float64), COUNT)
    return bounds_of(graph, pixels, {graph.last}, {}, 8, effort=effort), pixels


def above(rows):
    """More than any bound of these rows can be."""
    return torch.full((len(rows),), torch.inf, dtype=torch.float64)


def every_row(bounds, boxes):
    """Rows for each gap of class 0 and its opposite, of each box, and the numbers of the boxes."""
    rows = bounds._rows(0)
    rows = torch.cat([rows, -rows])
    return rows.repeat(boxes, 1), torch.arange(boxes).repeat_interleave(len(rows))


def excess(name, width, seed=0):
    """How far what is sampled is below the bounds at most."""
    bounds, pixels = bounded(name, width)
    rows, of = every_row(bounds, 3)
    found = steepened(bounds.backward.take(of), rows, bounds.graph.last, above(rows))
    rng, worst = np.random.default_rng(seed), -np.inf
    for _ in range(40):
        t = torch.from_numpy(rng.choice([-1.0, 1.0, 0.3], (3, COUNT)))
        away = torch.from_numpy(rng.choice([-1.0, 1.0], tuple(pixels.error.shape)))
        values = bounds.graph.forward(affine_part(pixels, t, t[:, :0]) + away * pixels.error)
        worst = max(worst, float((found - (rows * values[of]).sum(dim=1)).max()))
    return worst


@pytest.mark.parametrize("name", SHAPES)
def test_bounds_stay_below_what_is_sampled_and_are_no_lower_than_before(name):
    for width in (1e-3, 0.3, 1.0):
        assert excess(name, width) <= 1e-9
        bounds, _ = bounded(name, width)
        rows, of = every_row(bounds, 3)
        backward = bounds.backward.take(of)
        plain = backward.least(rows[:, None], bounds.graph.last)[:, 0]
        assert (steepened(backward, rows, bounds.graph.last, above(rows)) >= plain).all()


@pytest.mark.parametrize("name", ["deep", "leaky", "largest", "residual"])
def test_bounds_become_tighter(name):
    bounds, _ = bounded(name, 0.7)
    rows, of = every_row(bounds, 3)
    backward = bounds.backward.take(of)
    plain = backward.least(rows[:, None], bounds.graph.last)[:, 0]
    assert (
        steepened(backward, rows, bounds.graph.last, above(rows)).sum()
        > plain.sum() + 0.01 * plain.abs().sum()
    )


def test_what_is_wanted_ends_the_search():
    bounds, _ = bounded("deep", 0.7)
    gaps = torch.arange(2).repeat(3)
    of = torch.arange(3).repeat_interleave(2)
    bounds.backward.last_bend.clear()  # else some rows have slopes of their own to begin with
    low = bounds.backward.least(bounds._rows(0).expand(3, -1, -1), bounds.graph.last)
    best = bounds.steepened_gaps(0, of, gaps, above(of)).reshape(3, 2)
    enough = bounds.steepened_gaps(0, of, gaps, low.flatten() - 1.0).reshape(3, 2)
    torch.testing.assert_close(enough, low, rtol=1e-12, atol=1e-12)
    assert (best > enough).any()
    between = ((best + low) / 2).flatten()
    some = bounds.steepened_gaps(0, of, gaps, between).reshape(3, 2)
    assert (some.flatten() >= between).all()


@pytest.mark.parametrize("name", ["deep", "leaky", "largest", "residual"])
def test_the_derivative_is_that_of_the_bound(name, monkeypatch):
    bounds, _ = bounded(name, 0.7)
    row, start = bounds._rows(0)[:1], bounds.graph.last
    backward = replace(bounds.backward.take(torch.zeros(1, dtype=torch.int64)), others={})
    backward = replace(backward, ends={})
    backward.grounds[min(backward.grounds)].error.zero_()  # the point of the box is all that is followed
    found = []
    turned = steepening._turned

    def watched(lines, derivative, *rest):
        found.append((lines, derivative))
        return turned(lines, derivative, *rest)

    monkeypatch.setattr(steepening, "_turned", watched)
    monkeypatch.setattr(steepening, "_STEPS", (1e-9,))
    steepened(backward, row, start, above(row))
    assert found
    for lines, derivative in found:
        index = next(index for index, own in backward.lines.items() if own is lines)
        torn = ((lines.above > 0.1) & (lines.above < 1))[0].nonzero()[:, 0]
        for unit in torn.tolist():
            ends = []
            for step in (1e-6, -1e-6):
                below = lines.below.clone()
                below[0, unit] += step
                moved = {**backward.lines, index: replace(lines, below=below)}
                ends.append(float(replace(backward, lines=moved).least(row[:, None], start)))
            assert float(derivative[0, unit]) == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-5)


def test_lines_with_turned_slopes_are_below_without_rounding(monkeypatch):
    seen = []
    turned = steepening._turned
    monkeypatch.setattr(steepening, "_turned", lambda *given: seen.append(turned(*given)) or seen[-1])
    for name, slope in (("deep", 0.0), ("leaky", 0.1)):
        seen.clear()
        bounds, _ = bounded(name, 0.7)
        rows, of = every_row(bounds, 3)
        steepened(bounds.backward.take(of), rows, bounds.graph.last, above(rows))
        for lines in seen:
            below, offset = exact(lines.below), exact(lines.below_offset)
            for z in exact(torch.tensor([-1.0, 1.0], dtype=torch.float64)):
                value = z if z > 0 else z * exact(torch.tensor(slope, dtype=torch.float64)).item()
                torn = ((lines.above > slope) & (lines.above < 1)).numpy()
                assert (below * z + offset <= value)[torn].all()
    assert seen


# -- planted faults


def test_lines_that_do_not_turn_keep_their_offsets():
    slopes = torch.tensor([[0.0, 0.5, 1.0]], dtype=torch.float64)
    offsets = torch.tensor([[-0.25, -0.5, -0.75]], dtype=torch.float64)
    above = torch.tensor([[0.5, 0.5, 1.0]], dtype=torch.float64)
    lines = Lines(slopes, offsets, above, torch.zeros_like(above), torch.ones_like(above))
    ends = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    found = steepening._turned(lines, torch.tensor([[2.0, 0.0, 3.0]], dtype=torch.float64), *ends, 0.1)
    # The first one turns, about 0; the second has no derivative, and the last is on one piece.
    assert found.below[0, 0] > 0
    assert found.below_offset.tolist() == [[0.0, -0.5, -0.75]]
    assert found.below[0, 1:].tolist() == [0.5, 1.0]


def test_slopes_beyond_both_of_a_unit_are_caught(monkeypatch):
    monkeypatch.setattr(steepening.torch, "clamp", lambda below, least, most: below)
    assert max(excess("deep", width) for width in (0.3, 1.0)) > 1e-6


def test_boxes_taken_for_one_another_are_caught(monkeypatch):
    take = steepening.Backward.take
    monkeypatch.setattr(steepening.Backward, "take", lambda self, chosen: take(self, chosen.flip(0)))
    assert excess("deep", 0.3) > 1e-6
