"""Cutting by windows (max pooling): the parts are where each input is the largest, also where inputs tie."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from oracles import corners_of, hull_volume, inner_radius
from steadygaze.geometry.cells import concatenate, from_polytopes
from steadygaze.geometry.cutting import cut
from steadygaze.geometry.envelope import cut_by_windows
from steadygaze.geometry.measure import facets, volumes
from steadygaze.geometry.polytope import box
from steadygaze.geometry.sides import winners
from steadygaze.geometry.store import UNFINISHED, interpolate

TOLERANCE = 1e-12


def unit_box(n):
    return from_polytopes((box(np.zeros(n), np.ones(n)),))


def inputs_at(theta, slopes, offsets):
    """Values ``(points, windows * size)`` of inputs slopes ``(windows * size, n)`` theta + offsets."""
    return np.ascontiguousarray(theta @ slopes.T + offsets)


def winners_on(cells, values, size):
    """The winner of each window on each cell."""
    tolerance = np.full(values.shape[1] // size, TOLERANCE)
    return winners(cells, values, tolerance, tolerance, size)[0]


def cut_windows(cells, slopes, offsets, size, **options):
    count = len(slopes) // size
    names = np.arange(count, dtype=np.uint64) + np.uint64(77)
    values = inputs_at(cells.theta, slopes, offsets)
    return cut_by_windows(cells, values, np.full(count, TOLERANCE), names, size, **options)


def random_inputs(n, windows, size, seed):
    """Inputs that are equal near the middle of the box, so that all of them win somewhere."""
    rng = np.random.default_rng(seed)
    slopes = rng.standard_normal((windows * size, n))
    return slopes, -slopes @ np.full(n, 0.5) + 0.2 * rng.standard_normal(windows * size)


def winning_sets(slopes, offsets, size, n):
    """All choices of one winner per window that have interior points, by linear programs."""
    sides, windows, found = np.array([[0.0, 1.0]] * n), len(slopes) // size, set()
    for choice in itertools.product(range(size), repeat=windows):
        picked = [(w * size + i, w * size + k) for w, i in enumerate(choice) for k in range(size) if k != i]
        normals = np.array([slopes[i] - slopes[k] for i, k in picked])
        bounds = np.array([offsets[i] - offsets[k] for i, k in picked])
        if inner_radius(normals, bounds, sides) > 1e-10:
            found.add(choice)
    return found


def means(cells):
    return np.stack([own.mean(axis=0) for own in corners_of(cells)])


def largest(cells, slopes, offsets, size):
    """The winner of each window at the mean of each cell."""
    values = inputs_at(means(cells), slopes, offsets).reshape(cells.count, -1, size)
    return [tuple(row) for row in values.argmax(axis=2)]


def used_names(cells):
    """Names of the vertices that some cell has; cutting out one part leaves vertices that none keeps."""
    return np.unique(cells.names[cells.idx])


def assert_sound(cells, whole):
    hulls = [hull_volume(own) for own in corners_of(cells)]
    np.testing.assert_allclose(volumes(cells), hulls, rtol=0, atol=1e-12 * whole)
    assert volumes(cells).sum() == pytest.approx(whole, rel=1e-12)
    assert len(np.unique(cells.names)) == len(cells.names)
    assert set(np.unique(facets(cells).key, return_counts=True)[1]) <= {1, 2}


@pytest.mark.parametrize(("n", "windows", "size"), [(1, 3, 4), (2, 3, 4), (2, 1, 9), (3, 2, 4), (4, 2, 3)])
@pytest.mark.parametrize("seed", [0, 1])
def test_parts_are_the_regions_of_the_largest_input(n, windows, size, seed):
    slopes, offsets = random_inputs(n, windows, size, seed)
    made = cut_windows(unit_box(n), slopes, offsets, size)
    found = largest(made.cells, slopes, offsets, size)
    assert len(found) == len(set(found))
    assert set(found) == winning_sets(slopes, offsets, size, n)
    assert_sound(made.cells, 1.0)
    values = inputs_at(made.cells.theta, slopes, offsets)
    read = winners_on(made.cells, values, size)
    assert [tuple(row) for row in read] == found
    carried = interpolate(inputs_at(unit_box(n).theta, slopes, offsets), made.above, made.below, made.weight)
    np.testing.assert_allclose(carried, values, atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_inputs_that_stand_twice_change_nothing(n):
    slopes, offsets = random_inputs(n, 2, 3, 5)
    order = np.array([0, 1, 1, 2, 0, 3, 3, 4, 5, 5])
    plain = cut_windows(unit_box(n), slopes, offsets, 3)
    twice = cut_windows(unit_box(n), slopes[order], offsets[order], 5)
    assert twice.cells.count == plain.cells.count
    np.testing.assert_allclose(np.sort(volumes(twice.cells)), np.sort(volumes(plain.cells)), atol=1e-13)
    first = winners_on(twice.cells, inputs_at(twice.cells.theta, slopes[order], offsets[order]), 5)
    assert set(np.unique(first[:, 0])) <= {0, 1, 3}, "of equal inputs the first wins"
    assert set(np.unique(first[:, 1])) <= {0, 2, 3}


@pytest.mark.parametrize("n", [2, 3, 4])
def test_many_inputs_tie_in_one_point(n):
    # All inputs are 0 in the middle; +-theta_i win in the 2 n pyramids over the faces of the cube.
    slopes = np.concatenate([np.eye(n), -np.eye(n)])
    made = cut_windows(unit_box(n), slopes, -slopes.sum(axis=1) / 2, 2 * n)
    np.testing.assert_allclose(volumes(made.cells), 1 / (2 * n), rtol=1e-12)
    assert made.cells.count == 2 * n
    assert len(used_names(made.cells)) == 2**n + 1
    assert_sound(made.cells, 1.0)


def test_inputs_that_tie_all_over_are_one():
    slopes, offsets = np.ones((4, 2)), np.zeros(4)
    made = cut_windows(unit_box(2), slopes, offsets, 4)
    assert made.cells.count == 1
    assert winners_on(made.cells, inputs_at(made.cells.theta, slopes, offsets), 4)[0, 0] == 0


def test_one_input_that_is_largest_all_over_cuts_nothing():
    slopes, offsets = random_inputs(3, 1, 4, 0)
    offsets[2] += 50
    made = cut_windows(unit_box(3), slopes, offsets, 4)
    assert made.cells.count == 1
    values = inputs_at(made.cells.theta, slopes, offsets)
    assert winners_on(made.cells, values, 4).tolist() == [[2]]


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("room", [0, 1, 5])
def test_cutting_can_be_broken_off_and_taken_up_again(n, room):
    slopes, offsets = random_inputs(n, 4, 4, 8)
    whole = cut_windows(unit_box(n), slopes, offsets, 4).cells
    cells, done, rounds = unit_box(n), [], 0
    while cells.count:
        made = cut_windows(cells, slopes, offsets, 4, room=max(room, 1) if rounds else room)
        done.append(made.cells.take(np.flatnonzero(made.stop != UNFINISHED))[0])
        cells, _ = made.cells.take(np.flatnonzero(made.stop == UNFINISHED))
        rounds += 1
        assert rounds < 1000
    parts = concatenate(done)
    assert rounds > 1
    np.testing.assert_array_equal(used_names(parts), used_names(whole))
    np.testing.assert_allclose(np.sort(volumes(parts)), np.sort(volumes(whole)), atol=1e-13)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_neighbours_cut_apart_agree_on_their_common_vertices(n):
    rng = np.random.default_rng(3)
    normals, offsets = rng.standard_normal((4, n)), rng.standard_normal(4) * 0.1
    offsets -= normals @ np.full(n, 0.5)
    cells = unit_box(n)
    coarse = cut(
        cells, inputs_at(cells.theta, normals, offsets), np.full(4, TOLERANCE), np.arange(4, dtype=np.uint64)
    ).cells
    windows = random_inputs(n, 3, 4, 9)
    whole = cut_windows(coarse, *windows, 4).cells
    single = [cut_windows(coarse.take(np.array([p]))[0], *windows, 4).cells for p in range(coarse.count)]
    both = concatenate(single)
    np.testing.assert_array_equal(used_names(both), used_names(whole))
    np.testing.assert_array_equal(np.sort(facets(both).key), np.sort(facets(whole).key))
    assert_sound(whole, 1.0)


def test_padding_and_many_windows_on_one_cell():
    # Sixteen windows whose inputs are shared: each cell needs more labels than a word has bits on the way.
    rng = np.random.default_rng(0)
    slopes = rng.standard_normal((16 * 6, 2))
    made = cut_windows(unit_box(2), slopes, -slopes.sum(axis=1) / 2 + 0.05 * rng.standard_normal(96), 6)
    found = largest(made.cells, slopes, -slopes.sum(axis=1) / 2, 6)
    assert len(found) == made.cells.count > 100
    assert volumes(made.cells).sum() == pytest.approx(1.0, rel=1e-12)
