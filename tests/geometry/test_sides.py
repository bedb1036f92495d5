"""Winners of windows and sides of hinges, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from steadygaze.geometry.cells import from_polytopes
from steadygaze.geometry.polytope import box as box_of
from steadygaze.geometry.sides import (
    above,
    best_of_windows,
    firsts_of_windows,
    loose_parts,
    met,
    pattern_names,
    pattern_weights,
    spread,
    winners,
)


@pytest.mark.parametrize("seed", range(4))
def test_the_best_of_each_window(seed):
    rng = np.random.default_rng(seed)
    values = rng.integers(-3, 3, (30, 8)) + rng.choice([0.0, 1e-9], (30, 8))
    windows = np.array([[0, 1, 2], [-1, 3, 4], [5, -1, 5], [-1, -1, 7]])
    tolerance = np.array([1e-8, 1e-8, 0.0, 1e-8])
    best, place = best_of_windows(values, windows, tolerance)
    for row in range(30):
        for w, window in enumerate(windows):
            inputs = [values[row, j] if j >= 0 else -np.inf for j in window]
            assert best[row, w] == max(inputs)
            near = [k for k, value in enumerate(inputs) if value >= max(inputs) - tolerance[w]]
            assert place[row, w] == near[0]


@pytest.mark.parametrize("marks", [[0.0], [-1.0, 2.0], []])
def test_how_hinges_lie_to_all_rows(marks):
    """Values and marks are whole numbers, so that many are on a hinge, or beside it by half the tolerance."""
    rng = np.random.default_rng(0)
    values = rng.integers(-2, 3, (1, 60)) + rng.choice([-1.0, 0.0, 0.5e-8, 2e-8, 1.0], (3, 60))
    tolerance = np.full(len(marks) * 60, 1e-8)
    cutting, active, sides, alive = met(values, np.array(marks), tolerance)
    hinges = np.concatenate([values - mark for mark in marks], axis=1) if marks else values[:, :0]
    above, below = (hinges > 1e-8).any(axis=0), (hinges < -1e-8).any(axis=0)
    np.testing.assert_array_equal(cutting, np.flatnonzero(above & below))
    positive, low = (hinges > 0).any(axis=0), (hinges <= 1e-8).any(axis=0)
    np.testing.assert_array_equal(active, np.flatnonzero(positive & low))
    np.testing.assert_array_equal(sides, above)
    np.testing.assert_array_equal(alive, np.flatnonzero((hinges > 0).any(axis=0)))


def test_different_patterns_have_different_names():
    sides = np.array(np.meshgrid(*[range(3)] * 6)).reshape(6, -1).T.astype(np.uint8)
    names = np.arange(6, dtype=np.uint64)
    assert len(np.unique(pattern_names(sides, names))) == 3**6
    assert pattern_names(np.zeros((1, 6), np.uint8), names)[0] == 0


@pytest.mark.parametrize("count", [0, 1, 5, 12])
def test_sides_of_the_chosen_columns_are_put_beside_those_that_all_cells_share(count):
    rng = np.random.default_rng(count)
    sides, names = rng.integers(0, 3, 12).astype(np.uint8), rng.integers(0, 99, 12).astype(np.uint64)
    chosen = np.sort(rng.choice(12, count, replace=False))
    found = rng.integers(0, 3, (7, count)).astype(np.uint8)
    whole, named = spread(sides, chosen, found, pattern_weights(names))
    expected = np.repeat(sides[None], 7, axis=0)
    expected[:, chosen] = found
    np.testing.assert_array_equal(whole, expected)
    np.testing.assert_array_equal(named, pattern_names(expected, names))


LOW, HIGH = np.array([0.0]), np.array([1.0])
TOLERANCE, LEVEL = np.array([1e-3]), np.array([1e-6])
# A hinge at both ends of a segment: its side, whether it is loose, and whether it may be level.
ENDS = [
    ((-1.0, 1e-2), 1, True, False),  # nobody asks for cells that are crossed
    ((0.0, 1.0), 1, False, False),
    ((-1e-4, 1.0), 1, True, False),
    ((-1e-10, 1.0), 1, False, False),  # a sliver
    ((-1.0, 1e-4), 0, True, False),
    ((-1.0, 1e-10), 0, False, False),
    ((-1e-4, -1e-5), 0, False, False),
    ((-1e-4, 1e-5), 0, True, False),
    ((1e-5, 1e-4), 0, True, False),
    ((0.0, 1e-7), 0, False, True),
    ((0.0, 0.0), 0, False, False),
]


def segment():
    return from_polytopes((box_of(LOW, HIGH),))


@pytest.mark.parametrize(("ends", "side", "loose", "faint"), ENDS)
def test_cells_that_a_tolerance_alone_keeps_on_a_side_are_loose(ends, side, loose, faint):
    found = above(segment(), np.array(ends)[:, None], TOLERANCE, LEVEL)
    assert (found[0].item(), found[1].item(), found[2]) == (side, loose, faint)


@pytest.mark.parametrize(
    ("behind", "winner", "loose", "faint"),
    [
        ((-1.0, -0.5), 0, False, False),
        ((-1.0, 1e-4), 0, True, False),
        ((-1.0, 1e-10), 0, False, False),
        ((1e-4, 1e-4), 0, True, False),
        ((1e-7, 1e-7), 0, False, True),
        ((1e-2, 1.0), 1, False, False),
    ],
)
def test_windows_that_a_tolerance_alone_settles_are_loose(behind, winner, loose, faint):
    values = np.stack([np.zeros(2), np.array(behind)], axis=1)
    found = winners(segment(), values, TOLERANCE, LEVEL, 2)
    assert (found[0].item(), found[1].item(), found[2]) == (winner, loose, faint)


@pytest.mark.parametrize(
    ("ends", "stop", "loose"),
    [
        ((0.5, 1.0), -1, False),
        ((0.0, 1e3), -1, False),
        ((0.0, 0.5), -1, True),  # so flat that rounding moves its border
        ((-1e-4, 1e3), -1, True),
        ((1e-4, 1e3), -1, True),
        ((-1e3, -0.5), 0, False),
        ((-1e3, 1e-4), 0, True),
        ((-0.5, 0.0), 0, True),
    ],
)
def test_parts_by_class_that_a_tolerance_alone_keeps_are_loose(ends, stop, loose):
    assert loose_parts(segment(), np.array(ends)[:, None], TOLERANCE, np.array([stop])).item() is loose


def test_windows_whose_first_within_the_tolerance_is_not_the_largest():
    rng = np.random.default_rng(0)
    values = rng.integers(-3, 3, (30, 8)) + rng.choice([0.0, 1e-9], (30, 8))
    windows, tolerance = (
        np.array([[0, 1, 2], [2, 3, 4], [5, 6, 5], [7, 7, 7]]),
        np.array([1e-8, 0, 1e-8, 1e-8]),
    )
    best, place = best_of_windows(values, windows, tolerance)
    firsts, ahead = firsts_of_windows(values, windows, tolerance)
    np.testing.assert_array_equal(firsts, place)
    taken = values[np.arange(30)[:, None], windows[np.arange(4), place]]
    np.testing.assert_array_equal(ahead, (taken < best).any(axis=0))
    assert ahead.any()
    assert not ahead.all()
