"""Images on one side of a diagonal of the shifts: bounded there, and off by nothing but rounding."""

from __future__ import annotations

import numpy as np
import pytest

from steadygaze.enclosing.enclosures import Enclosure
from steadygaze.perturbation import Brightness, Chain, Exposure, Patch, Translate
from steadygaze.perturbation.siding import crossed, diagonal_of, on_side

RNG = np.random.default_rng(5)
IMAGE = RNG.random((2, 6, 7))
MOVED = Translate((-2.5, 2.5), (-1.5, 2.5), fill=(0.3, 0.1))
CHAINS = {
    "alone": Chain(MOVED),
    "brighter before": Chain(Brightness(-0.2, 0.3), MOVED),
    "exposed and covered after": Chain(MOVED, Exposure(-0.1, 0.1), Patch(0, 0.5, top=1, left=2, size=2)),
    "exposed before": Chain(Exposure(-0.1, 0.1), MOVED),
    "moved before": Chain(Translate((-1, 1), 0.5), MOVED),
}


def boxes_across(chain, count):
    """Boxes in one cell each, with a piece of its diagonal inside; some reach from corner to corner."""
    (first, second), box = diagonal_of(chain), chain.box
    boxes = np.repeat(box[None], count, axis=0) * RNG.choice([1.0, 0.01, 1e-9], (count, 1, 1))
    for number in range(count):
        cell = np.array([RNG.integers(-2, 2), RNG.integers(-1, 2)])
        middle, half = RNG.uniform(0.1, 0.9), RNG.choice([0.09, 1e-3, 1e-10])
        ends = np.array([middle - half * RNG.random(2), middle + half * RNG.random(2)]).T
        own = ends if number % 3 else np.array([(0.0, RNG.choice([1.0, 0.1, 2.0**-20]))] * 2)
        boxes[number, [first, second]] = own + cell[:, None]
    return boxes


def on_that_side(chain, boxes, above, count):
    """Points ``(count, B, n)`` of boxes on one side of the diagonal, some of them on it."""
    first, second = diagonal_of(chain)
    thetas = boxes[..., 0] + RNG.random((count, *boxes.shape[:2])) * np.ptp(boxes, axis=2)
    thetas[::7] = np.where(RNG.random(thetas[::7].shape) < 0.5, boxes[..., 0], boxes[..., 1])
    cells = np.floor(boxes.mean(axis=2))
    shares = thetas[..., [first, second]] - cells[:, [first, second]]
    wrong = (shares[..., 1] > shares[..., 0]) != above
    # Mirrored, where that is in the box, and else moved onto the diagonal.
    ends = boxes[:, [first, second]] - cells[:, [first, second], None]
    low, high = ends[..., 0].max(axis=1), ends[..., 1].min(axis=1)
    shares[wrong] = shares[wrong][:, ::-1]
    inside = ((ends[..., 0] <= shares) & (shares <= ends[..., 1])).all(axis=2)
    shares = np.where(inside[..., None], shares, (low + RNG.random(low.shape) * (high - low))[:, None])
    thetas[..., [first, second]] = cells[:, [first, second]] + shares
    return np.clip(thetas, boxes[..., 0], boxes[..., 1])


@pytest.mark.parametrize("keep_rest", [False, True])
@pytest.mark.parametrize("above", [False, True])
@pytest.mark.parametrize("name", CHAINS)
def test_images_and_expected_maps_lie_within_on_that_side(name, above, keep_rest):
    chain = CHAINS[name]
    boxes = boxes_across(chain, 12)
    assert crossed(diagonal_of(chain), boxes).all()
    sided = on_side(chain, above)
    amounts = Enclosure.of_boxes(boxes, chain.products, keep_rest)
    made = [sided.enclose(IMAGE, amounts), sided.enclose_expected(IMAGE[0], amounts)]
    middle, half = boxes.mean(axis=2), np.ptp(boxes, axis=2) / 2
    for thetas in on_that_side(chain, boxes, above, 40):
        t = np.zeros((len(boxes), amounts.count))
        t[:, : len(chain.box)] = np.clip((thetas - middle) / np.where(half > 0, half, 1.0), -1, 1)
        for found, values in zip(
            made, (chain.apply(IMAGE, thetas), chain.expected(IMAGE[0], thetas)), strict=True
        ):
            assert (np.abs(values - found.at(t)) <= found.error + 1e-14).all()


def test_nothing_is_off_there_but_rounding():
    chain = CHAINS["alone"]
    boxes = boxes_across(chain, 9)
    for above in (False, True):
        assert on_side(chain, above).enclose(IMAGE, boxes).error.max() < 1e-14
    assert chain.enclose(IMAGE, boxes).error.max() > 0.01


def test_boxes_across_a_diagonal_lie_in_one_cell():
    chain = Chain(Brightness(-0.2, 0.3), MOVED)
    shifts = [
        [(0, 1), (0, 1)], [(0, 0.5), (0.5, 1)], [(-1, 0), (0, 1)], [(-0.5, 0), (0.25, 1)],
        [(-0.5, 0), (0, 0.25)], [(0, 1.1), (0, 1)], [(-0.1, 0.1), (-0.1, 0.1)], [(0.2, 0.3), (0.25, 0.25)],
    ]  # fmt: skip
    boxes = np.array([[(-0.2, 0.3), *own] for own in shifts])
    assert crossed(diagonal_of(chain), boxes).tolist() == [True, False, True, True, False, False, False, True]


def test_there_is_one_where_both_shifts_vary_and_triangles_are_read():
    bilinear = Translate((-1, 1), (-1, 1), interpolation="bilinear")
    assert diagonal_of(Chain(Brightness(-0.2, 0.3), MOVED)) == (1, 2)
    for links in ((bilinear,), (Translate((-1, 1), 0.5),), (MOVED, MOVED), (Brightness(-0.1, 0.1),)):
        assert diagonal_of(Chain(*links)) is None
