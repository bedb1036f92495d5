"""Points that are one within a radius get one number."""

from __future__ import annotations

import numpy as np
import pytest

from steadygaze.geometry.welding import Weld


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
def test_shaken_points_keep_their_numbers(n):
    rng = np.random.default_rng(n)
    widths = np.full(n, 0.3)
    points = rng.random((3000, n)) * 0.3 - 0.1
    # Those on the seams of the grid behind it, where a number could be lost.
    points[:500] = np.round(points[:500] / (0.3 * 64e-8)) * (0.3 * 64e-8)
    weld = Weld(widths, 1e-8)
    first = weld.numbers(points)
    for _ in range(3):
        shaken = points + rng.uniform(-3e-9, 3e-9, points.shape) * 0.3
        np.testing.assert_array_equal(weld.numbers(shaken), first)
    assert weld.count >= 0.99 * len(points), "few random points are that close"
    assert np.abs(weld.points[first] - points).max() <= 0.3 * 1.1e-8


def test_points_farther_apart_stay_two():
    weld = Weld(np.ones(2), 1e-8)
    assert len(set(weld.numbers(np.array([[0.0, 0.0], [2e-8, 0.0], [0.0, 2e-8]])).tolist())) == 3


def test_points_are_known_again_after_the_table_has_grown():
    points = np.random.default_rng(5).random((3000, 2))
    weld = Weld(np.ones(2), 1e-8)
    first = weld.numbers(points[:50])
    weld.numbers(points)
    np.testing.assert_array_equal(weld.numbers(points[:50]), first)
    assert weld.count == 3000
