"""Cutting by hinges against linear programs and Qhull, also where hinges coincide, touch or leave slivers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from oracles import corners_of, hull_volume, inner_radius
from steadygaze.geometry.cells import Cells, concatenate, from_polytopes
from steadygaze.geometry.cutting import cut
from steadygaze.geometry.measure import facets, volumes
from steadygaze.geometry.polytope import box, interval, product, triangle
from steadygaze.geometry.sides import above, pattern_names
from steadygaze.geometry.store import UNFINISHED, WHOLE, interpolate

TOLERANCE = 1e-12


def unit_box(n: int) -> Cells:
    return from_polytopes((box(np.zeros(n), np.ones(n)),))


def heights(cells: Cells, normals: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Hinge values normals theta + offsets at all vertices."""
    return np.ascontiguousarray(cells.theta @ normals.T + offsets)


def cut_by(cells: Cells, normals: np.ndarray, offsets: np.ndarray, **options):
    names = np.arange(len(normals), dtype=np.uint64)
    return cut(cells, heights(cells, normals, offsets), np.full(len(normals), TOLERANCE), names, **options)


def patterns_of(cells: Cells, normals: np.ndarray, offsets: np.ndarray) -> list[tuple[int, ...]]:
    """On which side of each hinge the mean of each cell's vertices lies."""
    means = np.stack([own.mean(axis=0) for own in corners_of(cells)])
    return [tuple(row) for row in (means @ normals.T + offsets > 0).astype(int)]


def expected_patterns(normals: np.ndarray, offsets: np.ndarray, sides: np.ndarray) -> set[tuple[int, ...]]:
    """All sign patterns with interior points, by linear programs."""
    found = [()]
    for k in range(len(normals)):
        grown = []
        for pattern in found:
            for side in (0, 1):
                signs = 2 * np.array([*pattern, side]) - 1
                if inner_radius(signs[:, None] * normals[: k + 1], signs * offsets[: k + 1], sides) > 1e-10:
                    grown.append((*pattern, side))
        found = grown
    return set(found)


def assert_sound(cells: Cells, whole: float) -> None:
    """Cells are as large as the hulls of their vertices, fill the whole, and no vertex is there twice."""
    found = volumes(cells)
    hulls = [hull_volume(own) for own in corners_of(cells)]
    np.testing.assert_allclose(found, hulls, rtol=0, atol=1e-12 * whole)
    assert found.sum() == pytest.approx(whole, rel=1e-12)
    assert len(np.unique(cells.names)) == len(cells.names)


def random_hinges(n: int, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Hinges through random points of the unit box."""
    rng = np.random.default_rng(seed)
    normals = rng.standard_normal((count, n))
    return normals, -(normals * rng.random((count, n))).sum(axis=1)


@pytest.mark.parametrize(("n", "count"), [(1, 12), (2, 9), (3, 7), (4, 6)])
@pytest.mark.parametrize("seed", [0, 1])
def test_random_hinges_give_just_the_cells_of_the_arrangement(n, count, seed):
    normals, offsets = random_hinges(n, count, seed)
    made = cut_by(unit_box(n), normals, offsets)
    found = patterns_of(made.cells, normals, offsets)
    assert len(found) == len(set(found))
    assert set(found) == expected_patterns(normals, offsets, np.array([[0.0, 1.0]] * n))
    assert_sound(made.cells, 1.0)
    assert (made.stop == WHOLE).all()
    assert (made.parent == 0).all()


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_hinges_in_general_position_give_the_count_of_zaslavsky(n):
    # All hinges pass near the middle, so that all their crossings lie inside the box.
    rng = np.random.default_rng(n)
    normals = rng.standard_normal((n + 3, n))
    offsets = -normals @ np.full(n, 0.5) + 1e-4 * rng.standard_normal(n + 3)
    made = cut_by(unit_box(n), normals, offsets)
    assert made.cells.count == sum(math.comb(n + 3, k) for k in range(n + 1))
    assert volumes(made.cells).sum() == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_values_at_new_vertices_are_those_of_the_hinges(n):
    normals, offsets = random_hinges(n, 6, 7)
    start = unit_box(n)
    made = cut_by(start, normals, offsets)
    carried = interpolate(heights(start, normals, offsets), made.above, made.below, made.weight)
    np.testing.assert_allclose(carried, heights(made.cells, normals, offsets), atol=1e-12)
    assert ((made.weight > 0) & (made.weight < 1)).all()


def test_a_hinge_that_comes_again_cuts_nothing():
    normals, offsets = random_hinges(3, 4, 3)
    once = cut_by(unit_box(3), normals, offsets)
    factors = np.array([1.0, -2.0, 1e3, 1e-3])
    again = cut_by(
        unit_box(3),
        np.concatenate([normals, factors[:, None] * normals]),
        np.concatenate([offsets, factors * offsets]),
    )
    assert again.cells.count == once.cells.count
    np.testing.assert_array_equal(np.sort(again.cells.names), np.sort(once.cells.names))


@pytest.mark.parametrize("n", [2, 3, 4])
def test_hinges_through_one_vertex(n):
    # Every hinge passes through the middle: a vertex that lies on all of them.
    rng = np.random.default_rng(5)
    normals = rng.integers(-2, 3, (7, n)).astype(float)
    normals = normals[normals.any(axis=1)]
    offsets = -normals.sum(axis=1) / 2
    made = cut_by(unit_box(n), normals, offsets)
    found = patterns_of(made.cells, normals, offsets)
    assert len(found) == len(set(found))
    assert set(found) == expected_patterns(normals, offsets, np.array([[0.0, 1.0]] * n))
    assert_sound(made.cells, 1.0)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_the_braid_arrangement_cuts_the_cube_into_the_orders_of_its_coordinates(n):
    pairs = [(i, j) for i in range(n) for j in range(i)]
    normals = np.array([[float(k == i) - float(k == j) for k in range(n)] for i, j in pairs])
    made = cut_by(unit_box(n), normals, np.zeros(len(pairs)))
    np.testing.assert_allclose(volumes(made.cells), 1 / math.factorial(n), rtol=1e-12)
    assert made.cells.count == math.factorial(n)
    assert len(made.cells.theta) == 2**n, "the hinges pass through corners; no vertex is new"


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_hinges_on_the_faces_of_the_box_cut_nothing(n):
    normals = np.concatenate([np.eye(n), -np.eye(n), 3 * np.eye(n)])
    offsets = np.concatenate([np.zeros(n), np.ones(n), np.full(n, -3.0)])
    made = cut_by(unit_box(n), normals, offsets)
    assert made.cells.count == 1
    assert len(made.cells.theta) == 2**n


@pytest.mark.parametrize("width", [1e-6, 1e-9, 8e-12])
@pytest.mark.parametrize("n", [2, 3])
def test_slivers_are_cells(n, width):
    normal = np.ones(n)
    normals = np.stack([normal, normal, np.eye(n)[0], normal])
    offsets = np.array([-0.9, -0.9 - width, -0.3, -0.9 - width / 4])
    made = cut_by(unit_box(n), normals, offsets)
    assert volumes(made.cells).sum() == pytest.approx(1.0, rel=1e-12)
    assert made.cells.count == 8


def test_a_hinge_within_the_tolerance_of_another_is_the_same():
    normals, offsets = np.ones((2, 3)), np.array([-0.9, -0.9 - 2e-13])
    assert cut_by(unit_box(3), normals, offsets).cells.count == 2


@pytest.mark.parametrize("sides", [(1.0, 1e-9), (1e-9, 1e9), (1e6, 1e6)])
def test_boxes_of_any_shape(sides):
    cells = from_polytopes((box(np.zeros(2), np.array(sides)),))
    normals, offsets = random_hinges(2, 8, 2)
    made = cut_by(cells, normals / np.array(sides), offsets)
    plain = cut_by(unit_box(2), normals, offsets)
    assert made.cells.count == plain.cells.count
    assert volumes(made.cells).sum() == pytest.approx(sides[0] * sides[1], rel=1e-12)


def test_more_facets_than_a_word_has_bits():
    angles = 2 * np.pi * (np.arange(100) + 0.5) / 100
    normals = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    cells = from_polytopes((box(-np.ones(2), np.ones(2)),))
    made = cut_by(cells, -normals, np.full(100, 0.9))
    sizes = np.diff(made.cells.ptr)
    assert sizes.max() == 100
    assert made.cells.mask.shape[1] > 1
    polygon = 100 * 0.81 * np.tan(np.pi / 100)
    assert volumes(made.cells)[sizes.argmax()] == pytest.approx(polygon, rel=1e-12)
    assert_sound(made.cells, 4.0)
    assert (facets(made.cells).cell == sizes.argmax()).sum() == 100


def test_more_facets_than_a_word_has_bits_in_space():
    rng = np.random.default_rng(0)
    normals = rng.standard_normal((90, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    cells = from_polytopes((box(-np.ones(3), np.ones(3)),))
    made = cut_by(cells, normals, np.full(90, -0.9), stop_below=True)
    # What is not below any hinge is empty here; take the hinges the other way round for the ball-like core.
    core = cut_by(cells, -normals, np.full(90, 0.9), stop_below=True)
    kept = core.stop == WHOLE
    assert kept.sum() == 1
    ball, _ = core.cells.take(np.flatnonzero(kept))
    assert (facets(ball).cell == 0).sum() > 64
    assert volumes(core.cells).sum() == pytest.approx(8.0, rel=1e-12)
    assert volumes(ball)[0] == pytest.approx(hull_volume(ball.theta), rel=1e-12)
    assert volumes(made.cells).sum() == pytest.approx(8.0, rel=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_parts_below_are_final_where_that_is_asked(n):
    normals, offsets = random_hinges(n, 5, 11)
    made = cut_by(unit_box(n), normals, offsets, stop_below=True)
    values = heights(made.cells, normals, offsets)
    for part in range(made.cells.count):
        own = values[made.cells.idx[made.cells.ptr[part] : made.cells.ptr[part + 1]]]
        stop = made.stop[part]
        assert (own[:, : stop if stop >= 0 else None] >= -1e-12).all(), (
            "above all hinges before the one it stopped at"
        )
        if stop >= 0:
            assert (own[:, stop] <= 1e-12).all()
            assert own[:, stop].min() < -1e-9
    assert (made.stop == WHOLE).sum() <= 1
    assert_sound(made.cells, 1.0)


def test_a_cell_wholly_below_stops_uncut():
    made = cut_by(unit_box(2), np.array([[1.0, 1.0], [1.0, 0.0]]), np.array([-3.0, -0.5]), stop_below=True)
    assert made.cells.count == 1
    assert made.stop.tolist() == [0]
    flat = cut(unit_box(2), np.zeros((4, 1)), np.full(1, 1e-12), np.zeros(1, np.uint64), stop_below=True)
    assert flat.stop.tolist() == [WHOLE], "a hinge that vanishes all over is not below"


@pytest.mark.parametrize("room", [0, 1, 3, 10, 40])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_cutting_can_be_broken_off_and_taken_up_again(n, room):
    normals, offsets = random_hinges(n, 8, 4)
    whole = cut_by(unit_box(n), normals, offsets).cells
    cells, done, rounds = unit_box(n), [], 0
    while cells.count:
        made = cut_by(cells, normals, offsets, room=max(room, 1) if rounds else room)
        finished, _ = made.cells.take(np.flatnonzero(made.stop != UNFINISHED))
        done.append(finished)
        cells, _ = made.cells.take(np.flatnonzero(made.stop == UNFINISHED))
        rounds += 1
        assert rounds < 1000
    parts = concatenate(done)
    assert rounds > 1 or room >= 10
    np.testing.assert_array_equal(np.unique(parts.names), np.sort(whole.names))
    np.testing.assert_allclose(np.sort(volumes(parts)), np.sort(volumes(whole)), atol=1e-13)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_names_agree_however_the_cells_are_batched(n):
    first, second = random_hinges(n, 4, 21), random_hinges(n, 4, 22)
    coarse = cut_by(unit_box(n), *first).cells
    whole = cut_by(coarse, *second).cells
    halves = []
    for chosen in (np.arange(coarse.count)[1::2], np.arange(coarse.count)[::2]):
        half, _ = coarse.take(chosen)
        halves.append(cut_by(half, *second).cells)
    both = concatenate(halves)
    assert both.count == whole.count
    np.testing.assert_array_equal(np.unique(both.names), np.sort(whole.names))
    np.testing.assert_array_equal(np.sort(facets(both).key), np.sort(facets(whole).key))


def test_cells_that_share_a_face_share_the_vertices_on_it():
    prisms = (
        product(triangle((0, 0), (1, 0), (1, 1)), interval(0, 1)),
        product(triangle((0, 0), (1, 1), (0, 1)), interval(0, 1)),
    )
    normals, offsets = random_hinges(3, 5, 9)
    made = cut_by(from_polytopes(prisms), normals, offsets)
    assert_sound(made.cells, 1.0)
    counts = np.unique(facets(made.cells).key, return_counts=True)[1]
    assert set(counts) == {1, 2}
    assert set(made.parent) == {0, 1}


def test_sides_are_read_off_the_vertices():
    normals, offsets = random_hinges(3, 6, 13)
    names = np.arange(6, dtype=np.uint64)
    made = cut_by(unit_box(3), normals, offsets)
    sides = above(made.cells, heights(made.cells, normals, offsets), *np.full((2, 6), TOLERANCE))[0]
    assert [tuple(row) for row in sides] == patterns_of(made.cells, normals, offsets)
    assert len(np.unique(pattern_names(sides, names))) == made.cells.count
    parted = pattern_names(sides[:, :2], names[:2]) + pattern_names(sides[:, 2:], names[2:])
    np.testing.assert_array_equal(pattern_names(sides, names), parted)
