"""Nearest points and sections through 0, against linear programs and clipped polygons."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from scipy.optimize import linprog

from steadygaze.geometry.cells import from_polytopes
from steadygaze.geometry.cutting import cut
from steadygaze.geometry.polytope import box, interval
from steadygaze.geometry.sections import (
    axis_intervals,
    bounds,
    by_distance,
    distances,
    euclidean,
    gauge,
    least_distances,
    least_euclidean,
    nearest,
    plane_section,
)


def arrangement(low, high, hinges, seed):
    """A box cut by random hinges: cells, normals, offsets."""
    low, high, rng = np.array(low), np.array(high), np.random.default_rng(seed)
    start = from_polytopes((box(low, high),))
    normals = rng.standard_normal((hinges, len(low)))
    offsets = -(normals * (low + rng.random((hinges, len(low))) * (high - low))).sum(axis=1)
    names = np.arange(hinges, dtype=np.uint64)
    cells = cut(start, start.theta @ normals.T + offsets, np.full(hinges, 1e-12), names).cells
    return cells, normals, offsets


def corners(cells, p):
    return cells.theta[cells.idx[cells.ptr[p] : cells.ptr[p + 1]]]


def least(points, cost, equal, bound, limit):
    """Minimum of cost @ (weights, t) over the convex combinations of points, or None where there are none."""
    m = len(points)
    rows = np.vstack([np.append(np.ones(m), 0.0)[None], equal])
    found = linprog(
        cost,
        A_ub=bound,
        b_ub=limit,
        A_eq=rows,
        b_eq=np.append(1.0, np.zeros(len(equal))),
        bounds=[(0, None)] * m + [(None, None)],
        method="highs",
    )
    return found.fun if found.status == 0 else None


def distance(points, below, above):
    """The gauge of the nearest point of a hull."""
    m, n = points.shape
    up = np.column_stack([points.T, -above])
    down = np.column_stack([-points.T, -below])
    return least(
        points, np.append(np.zeros(m), 1.0), np.zeros((0, m + 1)), np.vstack([up, down]), np.zeros(2 * n)
    )


BOXES = [
    ([-1.0], [1.0]),
    ([0.0, 0.0], [0.3, 1.0]),
    ([-0.3, 0.0], [0.3, 1.0]),
    ([-1.0, -2.0], [1.0, 0.5]),
    ([-0.1, 0.0, 0.0], [0.1, 0.1, 0.5]),
    ([-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]),
    ([-0.1, 0.0, 0.0, -0.2], [0.1, 0.1, 0.5, 0.3]),
]


@pytest.mark.parametrize(("low", "high"), BOXES)
@pytest.mark.parametrize("seed", range(3))
def test_the_nearest_point_against_linear_programs(low, high, seed):
    cells, _, _ = arrangement(low, high, 6, seed)
    below, above = -np.array(low), np.array(high)
    rng = np.random.default_rng(seed)
    middle = np.array([gauge(corners(cells, p).mean(axis=0), below, above) for p in range(cells.count)])
    for limit in (0.0, 0.4, 0.8):
        picked = np.flatnonzero((middle > limit) & (rng.random(cells.count) < 0.7))
        some, _ = cells.take(picked)
        found = nearest(some, below, above)
        if not len(picked):
            assert found is None
            continue
        exact = [distance(corners(some, p), below, above) for p in range(some.count)]
        assert found.distance == pytest.approx(min(exact), abs=1e-9)
        assert exact[found.cell] == pytest.approx(found.distance, abs=1e-9)
        assert gauge(found.point, below, above) == pytest.approx(found.distance, abs=1e-12)
        assert (found.point >= np.array(low) - 1e-12).all()
        assert (found.point <= np.array(high) + 1e-12).all()


@pytest.mark.parametrize("norm", ["gauge", "euclidean"])
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_cells_come_nearest_first_and_no_more_is_worked_out_than_that_takes(n, norm):
    cells, _, _ = arrangement([-0.7] * n, [1.0] * n, 6, n)
    one = np.ones(n)
    exact, bound = (
        (lambda some: distances(some, one, one), least_distances(cells, one, one))
        if norm == "gauge"
        else (lambda some: euclidean(some, one), least_euclidean(cells, one))
    )
    every, _ = exact(cells)
    assert (bound <= every + 1e-12).all()
    asked = []

    def counted(some):
        asked.append(some.count)
        return exact(some)

    order = by_distance(cells, bound, counted)
    first = next(order)
    assert first.distance == pytest.approx(every.min(), abs=1e-12)
    assert sum(asked) <= 2 * (bound <= every.min()).sum() + 8
    found = [first, *order]
    assert [each.distance for each in found] == sorted(each.distance for each in found)
    np.testing.assert_allclose([each.distance for each in found], np.sort(every), atol=1e-12)
    np.testing.assert_allclose(every[[each.cell for each in found]], np.sort(every), atol=1e-12)
    assert sum(asked) == cells.count


@pytest.mark.parametrize(("low", "high"), BOXES)
def test_bounds_on_distances_against_linear_programs(low, high):
    cells, _, _ = arrangement(low, high, 6, 5)
    below, above = -np.array(low), np.array(high)
    bound = least_distances(cells, below, above)
    exact = np.array([distance(corners(cells, p), below, above) for p in range(cells.count)])
    low_corner, high_corner = bounds(cells)
    boxed = gauge(np.clip(0.0, low_corner, high_corner), below, above)
    assert (bound <= exact + 1e-9).all()
    assert (bound >= boxed - 1e-12).all(), "no worse than the bounding box"


def test_a_cell_that_holds_the_origin_is_at_distance_zero():
    cells, _, _ = arrangement([-1.0, -1.0], [1.0, 1.0], 3, 0)
    found = nearest(cells, np.ones(2), np.ones(2))
    assert found.distance == pytest.approx(0, abs=1e-15)
    np.testing.assert_allclose(found.point, 0, atol=1e-15)


@pytest.mark.parametrize("n", [4, 5])
@pytest.mark.parametrize("seed", range(8))
def test_no_point_of_a_cell_is_nearer_than_its_distance(n, seed):
    """Programs stop within their tolerance, and ranges may be narrow."""
    rng = np.random.default_rng(seed)
    widths = 10.0 ** rng.integers(-7, 1, n)
    cells, _, _ = arrangement(-widths, widths, 4, seed)
    distance, points = distances(cells, widths, widths)
    assert (distance <= gauge(points, widths, widths)).all()
    np.testing.assert_allclose(distance, gauge(points, widths, widths), atol=1e-8)
    for p in range(cells.count):
        own = corners(cells, p)
        for step in 10.0 ** -np.arange(1.0, 12.0):
            nearer = (1 - step) * points[p] + step * own
            assert distance[p] <= gauge(nearer, widths, widths).min() + 1e-15


def test_the_nearest_point_may_lie_inside_an_edge():
    # The segment from (0.2, 1) to (1, 0.1): its nearest point is where both coordinates are equal.
    triangle = from_polytopes((box(np.zeros(2), np.ones(2)),))
    values = triangle.theta @ np.array([[0.9], [0.8]]) - 0.98
    cells = cut(triangle, values, np.full(1, 1e-12), np.zeros(1, np.uint64)).cells
    beyond = [
        p for p in range(2) if (corners(cells, p).max(axis=0) == 1).all() and corners(cells, p).min() > 0
    ][:1]
    chosen, _ = cells.take(np.array(beyond))
    found = nearest(chosen, np.ones(2), np.ones(2))
    assert found.distance == pytest.approx(0.98 / 1.7, rel=1e-12)
    np.testing.assert_allclose(found.point, 0.98 / 1.7, rtol=1e-12)
    # The mean of both coordinates is least, and more than any one of them, at (1, 0.1).
    np.testing.assert_allclose(least_distances(chosen, np.ones(2), np.ones(2)), [0.55], rtol=1e-12)


def test_the_gauge_of_a_side_without_length():
    theta = np.array([[0.0, 0.5], [-0.1, 0.5], [0.2, -3.0]])
    np.testing.assert_array_equal(
        gauge(theta, np.array([0.0, 2.0]), np.array([0.4, 1.0])), [0.5, np.inf, 1.5]
    )


@pytest.mark.parametrize(("low", "high"), BOXES[1:])
@pytest.mark.parametrize("seed", range(2))
def test_intervals_on_the_axes_against_linear_programs(low, high, seed):
    cells, _, _ = arrangement(low, high, 6, 10 + seed)
    n, widths = len(low), np.array(high) - np.array(low)
    for axis in range(n):
        found = axis_intervals(cells, axis, widths)
        others = [i for i in range(n) if i != axis]
        exact = []
        for p in range(cells.count):
            own = corners(cells, p)
            equal = np.column_stack([own[:, others].T, np.zeros(n - 1)])
            ends = [least(own, np.append(s * own[:, axis], 0.0), equal, None, None) for s in (1, -1)]
            if ends[0] is not None:
                exact.append((ends[0], -ends[1]))
        # The axis may run along the face between parts of a cell: its interval then comes once for each.
        found, exact = (np.unique(np.round(e, 9), axis=0) for e in (found, exact))
        np.testing.assert_allclose(found, exact, atol=1e-8)
        assert found[:, 0].min() == pytest.approx(low[axis])
        assert found[:, 1].max() == pytest.approx(high[axis])


def test_an_axis_of_one_parameter_is_all_of_it():
    cells = from_polytopes((interval(-1, 0.25), interval(0.25, 2)))
    np.testing.assert_array_equal(axis_intervals(cells, 0, np.array([3.0])), [[-1, 0.25], [0.25, 2]])


def clipped(low, high, axes, normals, offsets, signs):
    """The section of one cell: the box's rectangle clipped by its half-planes."""
    shape = shapely.box(low[axes[0]], low[axes[1]], high[axes[0]], high[axes[1]])
    for normal, offset, sign in zip(normals[:, axes], offsets, signs, strict=True):
        size = np.hypot(*normal)
        foot, along = -offset * normal / size**2, np.array([-normal[1], normal[0]]) / size * 100
        out = sign * normal / size * 100
        half = shapely.Polygon([foot - along, foot + along, foot + along + out, foot - along + out])
        shape = shape.intersection(half)
    return shape


@pytest.mark.parametrize(("low", "high"), BOXES[1:])
def test_plane_sections_against_clipped_rectangles(low, high):
    cells, normals, offsets = arrangement(low, high, 6, 3)
    n, widths = len(low), np.array(high) - np.array(low)
    for axes in [(i, j) for i in range(n) for j in range(i + 1, n)]:
        found = plane_section(cells, axes, widths)
        area = {}
        for k, cell in enumerate(found.cell):
            polygon = shapely.Polygon(found.corners[found.ptr[k] : found.ptr[k + 1]])
            signs = np.sign(corners(cells, cell).mean(axis=0) @ normals.T + offsets)
            oracle = clipped(low, high, list(axes), normals, offsets, signs)
            assert polygon.is_valid
            assert polygon.exterior.is_ccw
            assert polygon.symmetric_difference(oracle).area == pytest.approx(0, abs=1e-9)
            area[cell] = polygon.area
        assert sum(area.values()) == pytest.approx(widths[list(axes)].prod(), rel=1e-9)


@pytest.mark.parametrize(("low", "high"), BOXES[1:])
def test_planes_through_any_point(low, high):
    cells, normals, offsets = arrangement(low, high, 6, 5)
    widths, rng = np.array(high) - np.array(low), np.random.default_rng(2)
    through = np.array(low) + rng.uniform(0.1, 0.9, len(low)) * widths
    axes = (len(low) - 1, 0)
    found = plane_section(cells, axes, widths, through)
    moved = offsets + np.delete(normals, axes, axis=1) @ np.delete(through, axes)
    total = 0.0
    for k, cell in enumerate(found.cell):
        polygon = shapely.Polygon(found.corners[found.ptr[k] : found.ptr[k + 1]])
        signs = np.sign(corners(cells, cell).mean(axis=0) @ normals.T + offsets)
        oracle = clipped(low, high, list(axes), normals, moved, signs)
        assert polygon.symmetric_difference(oracle).area == pytest.approx(0, abs=1e-9)
        total += polygon.area
    assert total == pytest.approx(widths[list(axes)].prod(), rel=1e-9)


def test_a_plane_between_two_cells_shows_both():
    start = from_polytopes((box(np.array([0.0, 0.0, -1.0]), np.ones(3)),))
    cells = cut(start, start.theta[:, 2:].copy(), np.full(1, 1e-12), np.zeros(1, np.uint64)).cells
    found = plane_section(cells, (0, 1), np.array([1.0, 1.0, 2.0]))
    assert set(found.cell) == {0, 1}
    assert set(np.diff(found.ptr)) == {4}


def test_no_cells_have_no_sections():
    none, _ = from_polytopes((box(-np.ones(3), np.ones(3)),)).take(np.zeros(0, np.int64))
    assert plane_section(none, (0, 2), np.full(3, 2.0)).cell.size == 0
    assert axis_intervals(none, 1, np.full(3, 2.0)).shape == (0, 2)
    assert nearest(none, np.ones(3), np.ones(3)) is None


def test_bounding_boxes():
    cells, _, _ = arrangement([-1.0, -1.0], [1.0, 1.0], 5, 4)
    low, high = bounds(cells)
    for p in range(cells.count):
        own = corners(cells, p)
        np.testing.assert_array_equal([low[p], high[p]], [own.min(axis=0), own.max(axis=0)])
