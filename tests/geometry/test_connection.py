"""Connected parts and outlines of sets of cells, against pixel grids and unions of polygons."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import shapely
from scipy import ndimage
from scipy.sparse.csgraph import connected_components

from oracles import corners_of
from steadygaze.geometry.cells import Cells, from_polytopes, separated
from steadygaze.geometry.connection import (
    components,
    loose_components,
    loose_outline,
    loose_parts,
    outline,
    shared_facets,
)
from steadygaze.geometry.cutting import cut
from steadygaze.geometry.measure import facets, volumes
from steadygaze.geometry.polytope import box, interval, polygon, product


def grid(n: int, size: int) -> tuple[Cells, np.ndarray]:
    """Unit cells of [0, size]^n by cutting, and the whole-number position of each."""
    start = from_polytopes((box(np.zeros(n), np.full(n, float(size))),))
    steps = [(axis, k) for k in range(1, size) for axis in range(n)]
    np.random.default_rng(0).shuffle(steps)
    values = np.stack([start.theta[:, axis] - k for axis, k in steps], axis=1)
    names = np.arange(len(steps), dtype=np.uint64)
    cells = cut(start, values, np.full(len(steps), 1e-12), names).cells
    middles = [own.mean(axis=0) for own in corners_of(cells)]
    return cells, np.floor(middles).astype(int)


def chosen(cells: Cells, place: np.ndarray, mask: np.ndarray) -> tuple[Cells, np.ndarray]:
    """The cells on the mask's pixels, and their places."""
    picked = np.flatnonzero(mask[tuple(place.T)])
    return cells.take(picked)[0], place[picked]


PLANE, SPACE = grid(2, 9), grid(3, 4)
MASKS = [
    np.random.default_rng(seed).random((9, 9)) < share for seed in range(6) for share in (0.45, 0.6, 0.75)
]


def same_partition(one: np.ndarray, other: np.ndarray) -> bool:
    return len(set(zip(one, other, strict=True))) == len(set(one)) == len(set(other))


@pytest.mark.parametrize("number", range(len(MASKS)))
def test_cells_connect_through_edges_and_not_through_corners(number):
    some, place = chosen(*PLANE, MASKS[number])
    labels, count = ndimage.label(MASKS[number])
    found = components(some)
    assert same_partition(found, labels[tuple(place.T)])
    assert len(set(found)) == count


@pytest.mark.parametrize("seed", range(4))
def test_cells_in_space_connect_through_faces_alone(seed):
    mask = np.random.default_rng(seed).random((4, 4, 4)) < 0.4
    some, place = chosen(*SPACE, mask)
    assert same_partition(components(some), ndimage.label(mask)[0][tuple(place.T)])


def test_shared_facets_are_those_between_neighbours():
    cells, place = PLANE
    pairs = shared_facets(facets(cells))
    assert len(pairs) == 2 * 9 * 8
    assert (np.abs(place[pairs[:, 0]] - place[pairs[:, 1]]).sum(axis=1) == 1).all()


@pytest.mark.parametrize("number", range(len(MASKS)))
def test_the_outline_of_each_part_is_its_union(number):
    some, place = chosen(*PLANE, MASKS[number])
    parts = components(some)
    for part in range(parts.max() + 1):
        own, _ = some.take(np.flatnonzero(parts == part))
        shape = outline(own)
        union = shapely.unary_union([shapely.box(x, y, x + 1, y + 1) for x, y in place[parts == part]])
        assert shape.is_valid
        assert shape.area == pytest.approx(volumes(own).sum())
        assert shape.symmetric_difference(union).area == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("picture", "holes"),
    [
        (["###", "#.#", "###"], 1),
        (["#####", "#.#.#", "#####"], 2),
        (["#####", "#.###", "##.##", "#####"], 2),  # two holes that touch in a corner
        (["#####", "#...#", "#.#.#", "#...#", "#####"], 1),  # an island, of which only the rest is asked
        ([".###", "##.#", "#.##", "###."], 2),
        (["####", "#..#", "#.#.", "###."], 1),  # the hole touches the outside in a corner
    ],
)
def test_holes_and_pinch_points(picture, holes):
    mask = np.zeros((9, 9), bool)
    for row, line in enumerate(picture):
        for column, sign in enumerate(line):
            mask[row + 1, column + 1] = sign == "#"
    some, _ = chosen(*PLANE, mask)
    part = components(some)
    largest, _ = some.take(np.flatnonzero(part == np.bincount(part).argmax()))
    shape = outline(largest)
    assert shape.is_valid
    assert shape.area == pytest.approx(volumes(largest).sum())
    assert sum(len(p.interiors) for p in shapely.get_parts(shape)) == holes


def test_the_outline_of_cells_that_share_only_a_part_of_it():
    # Random lines: cells of many shapes, in part with vertices in the middle of a neighbour's side.
    rng = np.random.default_rng(2)
    start = from_polytopes((box(np.zeros(2), np.ones(2)),))
    normals = rng.standard_normal((9, 2))
    values = start.theta @ normals.T - (normals * rng.random((9, 2))).sum(axis=1)
    cells = cut(start, values, np.full(9, 1e-12), np.arange(9, dtype=np.uint64)).cells
    some, _ = cells.take(np.flatnonzero(rng.random(cells.count) < 0.6))
    hulls = [shapely.MultiPoint(own).convex_hull for own in corners_of(some)]
    union = shapely.unary_union(hulls)
    parts = components(some)
    shapes = [outline(some.take(np.flatnonzero(parts == p))[0]) for p in range(parts.max() + 1)]
    assert sum(shape.area for shape in shapes) == pytest.approx(union.area, rel=1e-9)
    assert shapely.unary_union(shapes).symmetric_difference(union).area == pytest.approx(0, abs=1e-9)


def rectangle(x0, x1, y0, y1):
    return box(np.array([x0, y0], float), np.array([x1, y1], float))


@pytest.mark.parametrize("number", range(len(MASKS)))
def test_cells_without_common_vertices_connect_the_same_way(number):
    some, _ = chosen(*PLANE, MASKS[number])
    assert same_partition(loose_components(separated(some)), components(some))


@pytest.mark.parametrize("seed", range(3))
def test_cells_in_space_without_common_vertices(seed):
    some, _ = chosen(*SPACE, np.random.default_rng(seed).random((4, 4, 4)) < 0.4)
    assert same_partition(loose_components(separated(some)), components(some))


@pytest.mark.parametrize("number", range(len(MASKS)))
def test_the_outline_of_cells_without_common_vertices(number):
    some, _ = chosen(*PLANE, MASKS[number])
    part = components(some)
    own, _ = some.take(np.flatnonzero(part == np.bincount(part).argmax()))
    one, other = outline(own), loose_outline(separated(own))
    assert one.symmetric_difference(other).area == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("seed", range(40))
def test_the_outline_of_pieces_that_were_cut_apart_on_their_own(seed):
    """Strips cut by lines of their own, some cells left out, corners off by rounding: corners meet sides."""
    rng = np.random.default_rng(seed)
    edges = np.sort(np.concatenate([[0, 3], rng.uniform(0, 3, 2)]))
    polygons: list[np.ndarray] = []
    for low, high in pairwise(edges):
        start = from_polytopes((box(np.array([low, 0]), np.array([high, 2.0])),))
        normals = rng.standard_normal((6, 2))
        values = start.theta @ normals.T - (normals * rng.random((6, 2)) * (3, 2)).sum(axis=1)
        cells = cut(start, values, np.full(6, 1e-12), np.arange(6, dtype=np.uint64)).cells
        polygons += [own for own in corners_of(cells) if rng.random() < 0.8]
    hulls = [shapely.MultiPoint(own).convex_hull for own in polygons]
    turned = [np.asarray(hull.exterior.coords)[:-1] for hull in hulls]
    # Slivers that rounding leaves on the sides of a cell, so that three edges lie on each other there.
    turned += [np.array([first, second, second + 1e-14]) for first, second in pairwise(turned[0])]
    moved = [polygon(own + rng.uniform(-1e-15, 1e-15, own.shape)) for own in turned]
    found, union = loose_outline(from_polytopes(tuple(moved))), shapely.unary_union(hulls)
    assert found.is_valid
    assert found.symmetric_difference(union).area == pytest.approx(0, abs=1e-6)
    assert sum(len(p.interiors) for p in shapely.get_parts(found)) == sum(
        len(p.interiors) for p in shapely.get_parts(union)
    )


@pytest.mark.parametrize("seed", range(40))
def test_no_crack_is_left_where_a_corner_lies_on_a_slanting_side(seed):
    """One triangle on a side and two on the other, which meet in its middle: rounding moves that corner."""
    rng = np.random.default_rng(seed)
    a, b = rng.random(2) * (1, 0.2), rng.random(2) * (1, 0.2) + (0, 0.7)
    middle = a + rng.uniform(0.2, 0.8) * (b - a)
    left, right = np.array([-1.0, rng.random()]), np.array([2.0, rng.random()])
    corners = [(a, b, left), (a, middle, right), (middle, b, right)]
    found = loose_outline(from_polytopes(tuple(polygon(np.array(three)) for three in corners)))
    assert found.geom_type == "Polygon"
    assert not found.interiors
    assert found.area == pytest.approx(shapely.Polygon([a, right, b, left]).area, rel=1e-7)


def test_a_long_side_meets_several_short_ones():
    beside = [rectangle(1, 2, k / 3, (k + 1) / 3) for k in range(3)]
    apart = [rectangle(1, 2, 1.5, 2)]
    found = loose_components(from_polytopes((rectangle(0, 1, 0, 1), *beside, *apart)))
    assert found[:4].tolist() == [found[0]] * 4
    assert found[4] != found[0]


def test_sides_that_overlap_in_a_part_of_both():
    cells = from_polytopes((rectangle(0, 1, 0, 1), rectangle(0.9, 3, 1, 2)))
    assert len(set(loose_components(cells))) == 1


def test_a_tip_in_the_middle_of_a_side_is_no_connection():
    tip = polygon(np.array([[1.0, 1.0], [1.5, 2.0], [0.5, 2.0]]))
    assert len(set(loose_components(from_polytopes((rectangle(0, 2, 0, 1), tip))))) == 2


@pytest.mark.parametrize("n", [1, 2, 3])
def test_cells_are_not_joined_through_a_thin_wall(n):
    """It is thinner than what corners are allowed to be off."""
    ends = [(0.0, 0.4), (0.4, 0.4 + 3e-9), (0.4 + 3e-9, 1.0)]
    left, wall, right = (
        box(np.array([low] + [0.0] * (n - 1)), np.array([high] + [1.0] * (n - 1))) for low, high in ends
    )
    cells = from_polytopes((left, right))
    assert len(set(loose_components(cells))) == 1
    found = loose_parts(cells, from_polytopes((wall,)))
    assert len(set(found.part)) == 2
    assert not len(found.doubtful)


def test_cells_that_meet_beside_a_small_wall_are_joined_or_in_doubt():
    beside = rectangle(0.4, 1.4, 1e-9, 1.0)
    cells, wall = (
        from_polytopes((rectangle(0, 0.4, 0, 1), beside)),
        from_polytopes((rectangle(0.4, 1.4, 0, 1e-9),)),
    )
    assert len(set(loose_parts(cells, wall).part)) == 1
    short = from_polytopes((rectangle(0, 0.4, 0, 3e-9), rectangle(0.4, 1.4, 1e-9, 3e-9)))
    found = loose_parts(short, wall)
    assert len(set(found.part)) == 1 or len(found.doubtful)


@pytest.mark.parametrize("number", range(len(MASKS)))
def test_walls_beside_cells_part_nothing_that_meets(number):
    some, _ = chosen(*PLANE, MASKS[number])
    walls, _ = chosen(*PLANE, ~MASKS[number])
    found = loose_parts(separated(some), separated(walls))
    assert same_partition(found.part, components(some))
    assert not len(found.doubtful)


def bricks(n, size, seed):
    """Boxes with whole-number corners that fill [0, size]^n without a pattern, as low and high corners."""
    rng, left, done = np.random.default_rng(seed), [(np.zeros(n, int), np.full(n, size))], []
    while left:
        low, high = left.pop()
        axis = rng.integers(n)
        if high[axis] - low[axis] < 2 or rng.random() < 0.1:
            done.append((low, high))
            continue
        at = rng.integers(low[axis] + 1, high[axis])
        left += [
            (low, np.where(np.arange(n) == axis, at, high)),
            (np.where(np.arange(n) == axis, at, low), high),
        ]
    return np.array([low for low, _ in done]), np.array([high for _, high in done])


@pytest.mark.parametrize("pairs_at_once", [1, 50, 100_000])
@pytest.mark.parametrize("seed", range(4))
def test_bricks_that_overlap_in_parts_of_their_faces(seed, pairs_at_once, monkeypatch):
    """In space a part may come out too small, never too large; it does where faces barely overlap."""
    monkeypatch.setattr("steadygaze.geometry.connection._PAIRS_AT_ONCE", pairs_at_once)
    monkeypatch.setattr("steadygaze.geometry.connection._FACETS_AT_ONCE", 30)
    low, high = bricks(3, 6, seed)
    some = np.random.default_rng(seed).random(len(low)) < 0.5
    low, high = low[some], high[some]
    common = np.minimum(high, high[:, None]) - np.maximum(low, low[:, None])
    meets = (common >= 0).all(axis=2) & ((common > 0).sum(axis=2) == 2)
    right = connected_components(meets)[1]
    cells = from_polytopes(
        tuple(box(a.astype(float), b.astype(float)) for a, b in zip(low, high, strict=True))
    )
    found = loose_components(separated(cells))
    assert same_partition(found, right)


def test_faces_that_overlap_near_a_corner_of_both():
    cells = (
        box(np.zeros(3), np.array([4.0, 4.0, 1.0])),
        box(np.array([2.5, 2.5, 1.0]), np.array([9.0, 9.0, 2.0])),
    )
    assert len(set(loose_components(from_polytopes(cells)))) == 1


def test_an_edge_across_the_middle_of_a_face_is_no_connection():
    roof = product(polygon(np.array([[1.0, 1.0], [1.5, 2.0], [0.5, 2.0]])), interval(0, 2))
    below = box(np.zeros(3), np.array([2.0, 1.0, 2.0]))
    assert len(set(loose_components(from_polytopes((below, roof))))) == 2
