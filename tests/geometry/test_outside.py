"""Points outside cells, against linear programs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from oracles import corners_of
from steadygaze.geometry.cells import from_polytopes
from steadygaze.geometry.cutting import cut
from steadygaze.geometry.outside import clearly_outside
from steadygaze.geometry.polytope import box


def arrangement(widths, hinges, seed):
    rng = np.random.default_rng(seed)
    start = from_polytopes((box(np.zeros(len(widths)), widths),))
    normals = rng.standard_normal((hinges, len(widths)))
    values = (start.theta / widths) @ normals.T - (normals * rng.random(normals.shape)).sum(axis=1)
    return cut(start, values, np.full(hinges, 1e-12), np.arange(hinges, dtype=np.uint64)).cells


def is_inside(points, theta):
    """Whether theta is a convex combination of the points."""
    found = linprog(
        np.zeros(len(points)),
        A_eq=np.vstack([points.T, np.ones(len(points))]),
        b_eq=np.append(theta, 1.0),
        method="highs",
    )
    return found.status == 0


@pytest.mark.parametrize("widths", [[1.0], [1.0, 1.0], [1e-3, 1.0, 50.0], [1.0] * 5], ids=len)
def test_what_is_outside_is_so_and_most_of_it_is_told(widths):
    widths = np.array(widths)
    cells = arrangement(widths, 5, 0)
    points = np.random.default_rng(1).random((40, len(widths))) * widths
    pair = np.indices((len(points), cells.count)).reshape(2, -1)
    told = clearly_outside(cells, pair[1], points[pair[0]], widths)
    hulls = corners_of(cells)
    inside = np.array([is_inside(hulls[c] / widths, points[p] / widths) for p, c in pair.T])
    assert not (told & inside).any()
    assert inside.sum() == len(points)  # each lies in one cell
    assert told.sum() >= 0.95 * (~inside).sum()


@pytest.mark.parametrize("n", [1, 2, 4])
def test_vertices_middles_and_points_of_faces_are_not_outside(n):
    cells = arrangement(np.ones(n), 6, 2)
    owner = np.repeat(np.arange(cells.count), np.diff(cells.ptr))
    own = cells.theta[cells.idx]
    middle = np.array([hull.mean(axis=0) for hull in corners_of(cells)])[owner]
    for share in (0.0, 0.5, 1.0):
        assert not clearly_outside(cells, owner, middle + share * (own - middle), np.ones(n)).any()


def test_flat_cells_and_no_cells():
    start = from_polytopes((box(np.array([0.0, 0.5]), np.array([1.0, 0.5])),))
    points = np.array([[0.5, 0.5], [0.5, 0.500001], [1.0, 0.5], [1.1, 0.5]])
    told = clearly_outside(start, np.zeros(4, np.int64), points, np.ones(2))
    assert told.tolist() == [False, True, False, True]
    assert clearly_outside(start, np.zeros(0, np.int64), points[:0], np.ones(2)).tolist() == []
