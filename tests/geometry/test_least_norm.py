"""The point of least norm of a polytope: no corner lies lower than it."""

from __future__ import annotations

import numpy as np
import pytest

from steadygaze.geometry.cells import from_polytopes
from steadygaze.geometry.halfspaces import Halfspaces, euclidean_points
from steadygaze.geometry.least_norm import least_norms
from steadygaze.geometry.polytope import box
from steadygaze.geometry.sections import euclidean


def least_of(corners: np.ndarray) -> np.ndarray:
    return least_norms(corners[:1], lambda _, way: corners[(corners @ way.T).argmin(axis=0)])[0][0]


def assert_least(point: np.ndarray, corners: np.ndarray) -> None:
    """A point of the hull is its least one if the hull lies behind the plane through it, across it."""
    assert (corners @ point).min() >= point @ point - 1e-12


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("seed", range(20))
def test_of_corners_on_a_grid_and_anywhere(n, seed):
    """Corners on a grid lie in common planes, often with the point itself."""
    rng = np.random.default_rng(seed)
    moved = rng.integers(-1, 3, n) * 0.5
    for corners in (rng.integers(-2, 3, (12 * n, n)) * 0.25 + moved, rng.normal(size=(3 * n, n)) + moved):
        point = least_of(corners)
        assert_least(point, corners)
        assert np.linalg.norm(point) <= np.linalg.norm(corners, axis=1).min() + 1e-15


@pytest.mark.parametrize("size", [1.0, 1e3, 1e6])
@pytest.mark.parametrize("seed", range(10))
def test_no_point_is_nearer_than_the_bound(size, seed):
    """Corners far out, and a face that passes 0 closely: what rounds there is far above the norm."""
    rng = np.random.default_rng(seed)
    corners = size * rng.normal(size=(9, 4))
    corners[:, 0] = np.abs(corners[:, 0])
    corners[:5, 0] = 1e-5
    points, least = least_norms(corners[:1], lambda _, way: corners[(corners @ way.T).argmin(axis=0)])
    norm = np.linalg.norm(points[0])
    assert least[0] <= norm
    assert least[0] == pytest.approx(norm, abs=1e-9 * size)
    assert least[0] <= (corners @ points[0]).min() / norm + 1e-15 * size


def test_of_boxes_it_is_the_nearest_corner_side_or_face():
    rng = np.random.default_rng(1)
    low = rng.uniform(-1, 1, (20, 4)).round(1)
    high = low + rng.uniform(0.1, 1, (20, 4)).round(1)
    lengths = np.array([1.0, 0.5, 2.0, 1.0])
    cells = from_polytopes(tuple(box(a, b) for a, b in zip(low, high, strict=True)))
    walls = np.concatenate([np.eye(4), -np.eye(4)])
    shapes = [Halfspaces(walls, np.concatenate([b, -a])) for a, b in zip(low, high, strict=True)]
    wanted = np.clip(0.0, low, high)
    for far, points in (euclidean(cells, lengths), euclidean_points(shapes, lengths)):
        np.testing.assert_allclose(points, wanted, atol=1e-12)
        np.testing.assert_allclose(far, np.linalg.norm(wanted / lengths, axis=1), atol=1e-12)


def test_corners_on_which_nonnegative_least_squares_stop_early():
    """Of these grids SciPy's solver leaves three at a point that is not the nearest."""
    rng = np.random.default_rng(0)
    for _ in range(3000):
        n = int(rng.integers(2, 6))
        corners = rng.integers(-2, 3, (12 * n, n)) * 0.25 + rng.integers(-1, 3, n) * 0.5
        assert_least(least_of(corners), corners)
