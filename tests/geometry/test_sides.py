"""Winners of windows and sides of hinges, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from steadygaze.geometry.sides import best_of_windows, met, pattern_names


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
    np.testing.assert_array_equal(active, np.flatnonzero(above & (hinges <= 1e-8).any(axis=0)))
    np.testing.assert_array_equal(sides, above)
    np.testing.assert_array_equal(alive, np.flatnonzero((hinges > 0).any(axis=0)))


def test_different_patterns_have_different_names():
    sides = np.array(np.meshgrid(*[range(3)] * 6)).reshape(6, -1).T.astype(np.uint8)
    names = np.arange(6, dtype=np.uint64)
    assert len(np.unique(pattern_names(sides, names))) == 3**6
    assert pattern_names(np.zeros((1, 6), np.uint8), names)[0] == 0
