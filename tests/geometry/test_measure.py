"""Volumes, cones and facets against Qhull and formulas."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracles import hull_volume
from steadygaze.geometry.cells import Cells, from_polytopes
from steadygaze.geometry.cutting import cut
from steadygaze.geometry.measure import centres, cone_volumes, facets, volumes
from steadygaze.geometry.polytope import Polytope, box, interval, polygon, product


def cells_of(n, hinges, seed):
    """The unit box cut by random hinges."""
    rng = np.random.default_rng(seed)
    normals = rng.standard_normal((hinges, n))
    start = from_polytopes((box(np.zeros(n), np.ones(n)),))
    values = start.theta @ normals.T - (normals * rng.random((hinges, n))).sum(axis=1)
    return cut(start, values, np.full(hinges, 1e-12), np.arange(hinges, dtype=np.uint64)).cells


def corners(cells, p):
    return cells.theta[cells.idx[cells.ptr[p] : cells.ptr[p + 1]]]


def simplex(n):
    points = np.concatenate([np.zeros((1, n)), np.eye(n)])
    return Polytope(points, ~np.eye(n + 1, dtype=bool))


def cross_polytope(n):
    points = np.concatenate([np.eye(n), -np.eye(n)])
    signs = np.array(list(itertools.product((1, -1), repeat=n)))
    return Polytope(points, points @ signs.T == 1)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_bodies_with_a_formula(n):
    assert volumes(from_polytopes((simplex(n),)))[0] == pytest.approx(1 / math.factorial(n), rel=1e-13)
    if n > 1:
        assert volumes(from_polytopes((cross_polytope(n),)))[0] == pytest.approx(
            2**n / math.factorial(n), rel=1e-13
        )
    sides = np.arange(1, n + 1) / 3
    assert volumes(from_polytopes((box(-sides, sides),)))[0] == pytest.approx(np.prod(2 * sides), rel=1e-13)


def test_a_prism_over_a_pentagon():
    angles = 2 * np.pi * np.arange(5) / 5
    pentagon = polygon(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    cells = from_polytopes((product(pentagon, interval(-1, 2)),))
    assert volumes(cells)[0] == pytest.approx(3 * 2.5 * np.sin(2 * np.pi / 5), rel=1e-13)
    assert len(facets(cells).bit) == 7


@pytest.mark.parametrize(("n", "hinges"), [(1, 8), (2, 12), (3, 9), (4, 6), (5, 4)])
def test_cells_against_hulls(n, hinges):
    cells = cells_of(n, hinges, n)
    hulls = [hull_volume(corners(cells, p)) for p in range(cells.count)]
    np.testing.assert_allclose(volumes(cells), hulls, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_labels_that_mark_no_facet_do_not_count(n):
    # Hinges that only touch a corner, an edge or a face leave their label there.
    cells = from_polytopes((box(np.zeros(n), np.ones(n)),))
    normals = np.concatenate([np.ones((1, n)), -np.eye(n), np.ones((1, n))])
    offsets = np.concatenate([[0.0], np.ones(n), [-float(n)]])
    labelled = Cells(
        cells.theta,
        cells.names,
        cells.ptr,
        cells.idx,
        np.where(
            (np.abs(cells.theta @ normals.T + offsets) < 1e-12)[cells.idx],
            np.uint64(1) << np.arange(40, 42 + n, dtype=np.uint64),
            np.uint64(0),
        ).sum(axis=1, keepdims=True, dtype=np.uint64)
        + cells.mask,
    )
    assert (labelled.mask != cells.mask).any()
    assert volumes(labelled)[0] == pytest.approx(1.0, rel=1e-13)
    assert len(facets(labelled).bit) == 2 * n
    np.testing.assert_array_equal(np.sort(facets(labelled).key), np.sort(facets(cells).key))


@pytest.mark.parametrize("n", [3, 4])
def test_labels_of_some_corners_of_a_facet_do_not_count(n):
    """A hinge that is within its tolerance at three of four corners in a plane, and not at the fourth."""
    cells = from_polytopes((box(np.zeros(n), np.ones(n)),))
    middle = np.full(n, 0.4)
    for face in itertools.combinations(range(n), n - 2):
        for side in itertools.product([0.0, 1.0], repeat=n - 2):
            on = np.flatnonzero((cells.theta[cells.idx][:, list(face)] == side).all(axis=1))
            for some in itertools.combinations(on, 3):
                mask = cells.mask.copy()
                mask[list(some)] |= np.uint64(1) << np.uint64(40)
                labelled = Cells(cells.theta, cells.names, cells.ptr, cells.idx, mask)
                assert volumes(labelled)[0] == pytest.approx(1.0, rel=1e-13)
                assert cone_volumes(labelled, np.zeros(1), middle[None])[0] == pytest.approx(1.0, rel=1e-13)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_cones_tell_inside_from_outside(n):
    cells, rng = cells_of(n, 5, 10 + n), np.random.default_rng(0)
    for p in range(cells.count):
        own = corners(cells, p)
        weights = rng.dirichlet(np.ones(len(own)), size=8)
        inside, middle = weights @ own, own.mean(axis=0)
        outside = middle + (own - middle) * 1.01
        chosen = np.full(8, p)
        np.testing.assert_allclose(cone_volumes(cells, chosen, inside), volumes(cells)[p], rtol=1e-9)
        beyond = cone_volumes(cells, np.full(len(own), p), outside)
        assert (beyond > volumes(cells)[p] * (1 + 1e-6)).all()


def test_centres_are_means_of_vertices():
    cells = cells_of(3, 6, 1)
    np.testing.assert_allclose(centres(cells), [corners(cells, p).mean(axis=0) for p in range(cells.count)])


@pytest.mark.parametrize(("n", "hinges"), [(1, 8), (2, 10), (3, 8), (4, 5)])
def test_inner_facets_occur_twice_and_outer_ones_once(n, hinges):
    cells = cells_of(n, hinges, 20 + n)
    found = facets(cells)
    on_the_box = []
    for cell, bit in zip(found.cell, found.bit, strict=True):
        span = slice(cells.ptr[cell], cells.ptr[cell + 1])
        carries = (cells.mask[span, bit // 64] >> np.uint64(bit % 64)) & np.uint64(1) > 0
        own = cells.theta[cells.idx[span][carries]]
        assert len(own) >= n
        on_the_box.append(bool(((own == 0).all(axis=0) | (own == 1).all(axis=0)).any()))
    _, number, counts = np.unique(found.key, return_inverse=True, return_counts=True)
    np.testing.assert_array_equal(counts[number] == 1, on_the_box)
    assert set(counts) <= {1, 2}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-8, 8), st.integers(-8, 8)), min_size=1, max_size=8))
def test_plane_cells_against_the_shoelace_formula(hinges):
    # Hinges with small whole coefficients meet each other and the corners of the box again and again.
    start = from_polytopes((box(-np.ones(2), np.ones(2)),))
    rows = np.array(hinges, float)
    values = start.theta @ rows[:, :2].T + rows[:, 2] / 4
    cells = cut(start, values, np.full(len(rows), 1e-12), np.arange(len(rows), dtype=np.uint64)).cells
    areas = []
    for p in range(cells.count):
        own = corners(cells, p)
        x, y = (own - own.mean(axis=0)).T
        order = np.argsort(np.arctan2(y, x))
        areas.append(abs(x[order] @ np.roll(y[order], 1) - y[order] @ np.roll(x[order], 1)) / 2)
    np.testing.assert_allclose(volumes(cells), areas, atol=1e-13)
    assert sum(areas) == pytest.approx(4.0, rel=1e-12)
