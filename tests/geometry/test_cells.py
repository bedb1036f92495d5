"""The arrays that hold cells: choosing, joining and naming them."""

from __future__ import annotations

import numpy as np
import pytest

from steadygaze.geometry.bits import fill_table, find_slot, mix, popcount, vertex_name
from steadygaze.geometry.cells import concatenate, from_polytopes
from steadygaze.geometry.measure import volumes
from steadygaze.geometry.polytope import box, interval, product, triangle

HALVES = (triangle((0, 0), (2, 0), (2, 1)), triangle((0, 0), (2, 1), (0, 1)))


def corners(cells, p):
    return cells.theta[cells.idx[cells.ptr[p] : cells.ptr[p + 1]]]


def test_polytopes_that_meet_share_their_vertices():
    cells = from_polytopes(HALVES)
    assert (cells.count, cells.dimension, len(cells.theta)) == (2, 2, 4)
    np.testing.assert_allclose(volumes(cells), [1.0, 1.0])


def test_negative_zero_is_zero():
    cells = from_polytopes((interval(-1.0, -0.0), interval(0.0, 1.0)))
    assert len(cells.theta) == 3
    assert len(np.unique(cells.names)) == 3


def test_vertices_are_in_the_order_of_their_coordinates():
    rng = np.random.default_rng(2)
    grid = [np.sort(rng.integers(-3, 4, 2)) + np.array([0, 1]) for _ in range(12)]
    cells = from_polytopes(
        tuple(product(interval(*a), interval(*b)) for a, b in zip(grid[::2], grid[1::2], strict=True))
    )
    np.testing.assert_array_equal(cells.theta, np.unique(cells.theta, axis=0))
    assert len(cells.idx) == 4 * 6


def test_choosing_cells_keeps_what_they_are():
    cells = from_polytopes(tuple(product(half, interval(a, a + 1)) for half in HALVES for a in range(4)))
    chosen = np.array([6, 1, 3])
    some, kept = cells.take(chosen)
    np.testing.assert_array_equal(cells.names[kept], some.names)
    for new, old in enumerate(chosen):
        np.testing.assert_array_equal(corners(some, new), corners(cells, old))
    np.testing.assert_allclose(volumes(some), volumes(cells)[chosen])
    assert set(np.unique(some.idx)) == set(range(len(some.theta))), "vertices that no cell keeps are gone"
    none, _ = cells.take(np.zeros(0, np.int64))
    assert none.count == 0
    assert len(none.theta) == 0


def test_joining_batches_of_different_width():
    one, other = from_polytopes(HALVES[:1]), from_polytopes(HALVES[1:]).widened()
    both = concatenate([one, other])
    assert both.mask.shape[1] == 2
    np.testing.assert_allclose(volumes(both), [1.0, 1.0])
    assert len(np.unique(both.names)) == 4, "equal vertices of several batches keep equal names"


def test_names_depend_on_coordinates_and_not_on_company():
    alone = from_polytopes((box(np.zeros(3), np.ones(3)),))
    grid = from_polytopes(tuple(box(np.full(3, a), np.full(3, a + 1.0)) for a in (0.0, 1.0)))
    assert set(alone.names) <= set(grid.names)
    assert len(np.unique(grid.names)) == 15


@pytest.mark.parametrize("seed", range(3))
def test_the_table_finds_every_name(seed):
    names = np.random.default_rng(seed).integers(0, 2**63, 500, dtype=np.uint64)
    table = fill_table(names, 300, 500)
    assert all(table[find_slot(table, names, name)] == v for v, name in enumerate(names[:300]))
    assert all(table[find_slot(table, names, name)] == -1 for name in names[300:])


def test_small_change_of_the_kernels():
    for number in (0, 1, 0b1011, 2**63, 2**64 - 1):
        assert popcount(np.uint64(number)) == bin(number).count("1")
    a, b, hinge = np.uint64(3), np.uint64(2**63 + 5), np.uint64(7)
    assert vertex_name(a, b, hinge) == vertex_name(b, a, hinge)
    names = {vertex_name(a, b, np.uint64(h)) for h in range(100)} | {
        vertex_name(a, np.uint64(h), b) for h in range(100)
    }
    assert len(names) == 200
    assert len({mix(np.uint64(x)) for x in range(1000)}) == 1000
