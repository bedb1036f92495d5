"""Cells taken apart into simplices, and what closes the gaps between them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from steadygaze.certificate.closing import closing, fans, open_faces, same_places
from steadygaze.certificate.simplices import simplices_of


def boxes(n: int, corners: list[tuple[list[float], list[float]]]) -> tuple[np.ndarray, ...]:
    """Vertices, lists of them and their facets, of boxes given by their low and high corners."""
    points, index, masks = [], [], []
    for low, high in corners:
        for sides in itertools.product((0, 1), repeat=n):
            points.append([(low, high)[side][axis] for axis, side in enumerate(sides)])
            masks.append(sum(1 << (2 * axis + side) for axis, side in enumerate(sides)))
    vertices, index = np.unique(np.array(points), axis=0, return_inverse=True)
    ptr = np.arange(len(corners) + 1) * 2**n
    return vertices, ptr, index.reshape(-1), np.array(masks, np.uint64)[:, None]


def volume(vertices: np.ndarray, simplices: np.ndarray) -> float:
    corners = vertices[simplices]
    sides = corners[:, 1:] - corners[:, :1]
    return float(np.abs(np.linalg.det(sides)).sum()) / math.factorial(vertices.shape[1])


@pytest.mark.parametrize("n", range(1, 6))
def test_boxes_are_taken_apart_alike_where_they_meet(n):
    low, high = [0.0] * n, [1.0] * n
    vertices, ptr, index, mask = boxes(n, [(low, [0.5, *high[1:]]), ([0.5, *low[1:]], high)])
    simplices, owner = simplices_of(ptr, index, mask, n)
    assert len(simplices) == 2 * math.factorial(n)
    assert np.bincount(owner).tolist() == [math.factorial(n)] * 2
    assert volume(vertices, simplices) == pytest.approx(1)
    assert not len(open_faces(simplices, vertices)[0])


def test_a_vertex_within_an_edge_makes_a_fan():
    vertices, ptr, index, mask = boxes(2, [([0, 0], [0.5, 1]), ([0.5, 0], [1, 0.3]), ([0.5, 0.3], [1, 1])])
    simplices, owner = simplices_of(ptr, index, mask, 2)
    left, at = open_faces(simplices, vertices)
    assert sorted(owner[at].tolist()) == [0, 1, 2]
    flat, edge = fans(left, vertices)
    assert owner[at[edge]].tolist() == [0]
    assert volume(vertices, flat) < 1e-15
    assert not len(open_faces(np.concatenate([simplices, flat]), vertices)[0])


def test_edges_that_only_overlap_are_closed_from_both_sides():
    vertices, ptr, index, mask = boxes(
        2, [([0, 0], [0.5, 0.4]), ([0, 0.4], [0.5, 1]), ([0.5, 0], [1, 0.7]), ([0.5, 0.7], [1, 1])]
    )
    simplices, owner = simplices_of(ptr, index, mask, 2)
    left, at = open_faces(simplices, vertices)
    flat, edge = fans(left, vertices)
    assert set(owner[at[edge]].tolist()) == {1, 2}
    assert not len(open_faces(np.concatenate([simplices, flat]), vertices)[0])


@pytest.mark.parametrize("n", [3, 4])
def test_faces_that_only_overlap_are_closed_by_flat_fillers(n):
    whole = ([0.0] * n, [1.0] * n)
    parts = [(whole[0], [0.5, 0.4, *whole[1][2:]]), ([0.0, 0.4, *whole[0][2:]], [0.5, *whole[1][1:]])]
    parts += [([0.5, *whole[0][1:]], [*whole[1][:-1], 0.7]), ([0.5, *whole[0][1:-1], 0.7], whole[1])]
    vertices, ptr, index, mask = boxes(n, parts)
    simplices, _ = simplices_of(ptr, index, mask, n)
    left, _ = open_faces(simplices, vertices)
    assert len(left)
    filler = closing(left, vertices)
    assert volume(vertices, filler) < 1e-14
    assert not len(open_faces(np.concatenate([simplices, filler]), vertices)[0])


def test_a_gap_stays_a_gap():
    vertices, ptr, index, mask = boxes(3, [([0, 0, 0], [0.5, 1, 1]), ([0.6, 0, 0], [1, 1, 1])])
    simplices, _ = simplices_of(ptr, index, mask, 3)
    left, _ = open_faces(simplices, vertices)
    filler = closing(left, vertices)
    assert not len(filler) or len(open_faces(np.concatenate([simplices, filler]), vertices)[0])


def test_places_that_are_one_get_one_number():
    places = np.array([[0.1, 0.2], [0.5, 0.5], [0.1, 0.2 + 1e-16], [0.1, 0.2 + 1e-12]])
    assert same_places(np.arange(4), places).tolist() == [0, 1, 0, 3]
    assert same_places(np.zeros(0, np.int64), places).tolist() == [0, 1, 2, 3]
