"""How open boxes are cut."""

from __future__ import annotations

import numpy as np
import pytest

from steadygaze.search import dividing
from steadygaze.search.boxes import shells, volumes_of
from steadygaze.search.dividing import Dividing
from variants import Variant

SPOT = Variant("mlp", "spot").problem
EVEN = np.full((1, 2), 0.5)


def test_the_parameter_that_moves_units_is_halved_first():
    pull = np.array([[0.99, 0.01], [0.01, 0.99]])
    divided = Dividing(SPOT, False).divided(SPOT.box[None].repeat(2, axis=0), pull, np.ones(2), 128, False)
    sizes = np.ptp(divided.parts[:2], axis=2) / np.ptp(SPOT.box, axis=1)
    np.testing.assert_allclose(sizes, [[0.5, 1], [1, 0.5]])


def test_boxes_with_many_doubts_are_cut_into_several_at_once():
    boxes = SPOT.box[None].repeat(3, axis=0)
    doubts = 128 * np.array([0.5, 2.0, 4.0])
    divided = Dividing(SPOT, False).divided(boxes, EVEN.repeat(3, axis=0), doubts, 128, False)
    sizes, counts = np.unique(volumes_of(divided.parts) / SPOT.volume, return_counts=True)
    np.testing.assert_allclose(sizes, [1 / 16, 1 / 4, 1 / 2])
    assert counts.tolist() == [16, 4, 2]


def test_units_in_doubt_fall_with_edges_and_not_with_volumes():
    """Where one parameter alone moves units, one halving leaves half of them, of two parameters two do."""
    doubts, one = np.array([512.0]), np.array([[1.0, 0.0]])
    for pull, parts in ((one, 4), (EVEN, 16)):
        assert len(Dividing(SPOT, False).divided(SPOT.box[None], pull, doubts, 128, False).parts) == parts


def test_of_smooth_networks_sizes_tell_how_finely_boxes_are_cut(monkeypatch):
    """All of their units are in doubt. One halving at a time was made, each box judged in vain."""
    monkeypatch.setattr(dividing, "CHEAP", 0)
    problem = Variant("sigmoid", "spot").problem
    parts, whole = Dividing(problem, False), problem.box[None]
    assert len(parts.divided(whole, EVEN, np.array([1e6]), 128, False).parts) == 2
    for halvings, decided in ((1, False), (2, False), (3, True)):
        parts.learn(np.repeat(whole, 4, axis=0) * 0.5 ** (halvings / 2), np.full(4, decided))
    assert len(parts.divided(whole, EVEN, np.array([1e6]), 128, False).parts) == 8


def test_boxes_that_many_parts_leave_too_large_are_cut_about_0():
    """A range is told of the box about 0 alone; of 16 parts at once, four would have to be decided for it."""
    whole, parts = SPOT.box[None], Dividing(SPOT, False)
    far = parts.divided(whole, EVEN, np.array([20.0 * 128]), 128, False).parts
    np.testing.assert_allclose(far, shells(whole[0], dividing._FEW_SHELLS))
    near = parts.divided(whole, EVEN, np.array([8.0 * 128]), 128, False).parts
    assert np.ptp(volumes_of(near)) == pytest.approx(0)


def test_the_smallest_are_left_and_told():
    """Of those at 0 without which there is no safe scale, and of how small they are."""
    middle = 0.4 * SPOT.box[:, 1:]
    boxes = np.stack([SPOT.box * 2.0**-25, middle + SPOT.box * 2.0**-25])
    divided = Dividing(SPOT, False).divided(boxes, EVEN.repeat(2, axis=0), np.ones(2), 128, True)
    np.testing.assert_array_equal(divided.small, boxes)
    assert not len(divided.parts)
    assert (divided.small_at_zero, divided.halvings_at_zero) == (1, 25)


def test_where_exact_engines_take_over_no_box_is_cut_about_0():
    """Their regions are the same however the box is cut."""
    exact = Dividing(SPOT, True)
    assert exact.first(0.4, True) is None
    parts = exact.divided(SPOT.box[None], EVEN, np.array([20.0 * 128]), 128, False).parts
    assert np.ptp(volumes_of(parts)) == pytest.approx(0)
