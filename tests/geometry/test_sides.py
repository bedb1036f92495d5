"""Winners of windows and extremes of columns, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from steadygaze.geometry.sides import best_of_windows, extremes, pattern_names


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


def test_extremes_of_columns():
    values = np.random.default_rng(0).standard_normal((17, 5))
    low, high = extremes(values)
    np.testing.assert_array_equal(low, values.min(axis=0))
    np.testing.assert_array_equal(high, values.max(axis=0))


def test_different_patterns_have_different_names():
    sides = np.array(np.meshgrid(*[range(3)] * 6)).reshape(6, -1).T.astype(np.uint8)
    names = np.arange(6, dtype=np.uint64)
    assert len(np.unique(pattern_names(sides, names))) == 3**6
    assert pattern_names(np.zeros((1, 6), np.uint8), names)[0] == 0
