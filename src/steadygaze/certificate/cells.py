"""The map: its vertices, numbered once each, and its cells."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from steadygaze.answer.result import Result
from steadygaze.certificate.closing import closing, fans, open_faces, same_places
from steadygaze.certificate.files import Files
from steadygaze.certificate.separation import apart, failing_points, regions_of
from steadygaze.certificate.simplices import simplices_of
from steadygaze.geometry.cells import Cells, from_polytopes
from steadygaze.geometry.kinds import UNDECIDED
from steadygaze.geometry.measure import facets
from steadygaze.geometry.planes import planes_of_facets
from steadygaze.perturbation.records import AffinePiece
from steadygaze.search.base import CellMap

# A vertex may be outside of the piece that its cell lies in by so much of the box's widths: rounding.
_OUTSIDE = 1e-9
# Places that differ by no more than this share of the box's widths are one, computed in different ways.
_SAME = 1e-9
# So near to a face of the box that cells cover, a vertex lies on it.
_SNAP = 1e-14


class Welded(NamedTuple):
    """Which vertices of a map are written, and under which numbers.

    Attributes:
        chosen: ``(V,)`` numbers in the map of those that are kept: in the order of names.
        number: ``(vertices of the map,)`` the number of each among those kept; of no meaning if it is unused.
    """

    chosen: np.ndarray
    number: np.ndarray


def write_map(
    map_: CellMap,
    pieces: tuple[AffinePiece, ...],
    origin: np.ndarray,
    result: Result,
    box: np.ndarray,
    files: Files,
) -> dict[str, object]:
    """Write the cells, but for those without volume that mark where nobody has looked, and hints to them.

    origin: numbers in the map of the cells of R0. Returns what the index says of the map.
    """
    kept = (map_.kind != UNDECIDED) | (map_.region >= 0) | (map_.volume > 0)
    kept |= not kept.any()  # of a search that was stopped at once
    cells = map_.cells if kept.all() else map_.cells.take(np.flatnonzero(kept))[0]
    placed, covered = _placed(cells, box)
    vertices = len(placed.theta)
    kind = "<i4" if max(vertices, cells.count) < 2**31 else "<i8"
    files.whole("vertices", "<f8", placed.theta)
    files.whole("cell_ptr", "<i8", placed.ptr)
    files.whole("cell_vertex", kind, placed.vertex)
    files.whole("simplices", kind, placed.simplices)
    files.whole("simplex_cell", kind, placed.owner)
    files.whole("cell_kind", "|i1", map_.kind[kept])
    files.whole("cell_piece", "<i4", piece_of_cells(cells, pieces))
    files.whole("cell_region", "<i8", map_.region[kept])
    files.whole("origin_cells", "<i8", (np.cumsum(kept) - 1)[origin[kept[origin]]])
    written = replace(cells, theta=placed.theta, ptr=placed.ptr, idx=placed.vertex)
    parted, directions = apart(written, map_.kind[kept], regions_of(result, box))
    files.whole("apart_cell", "<i8", parted)
    files.whole("apart_normal", "<f8", directions)
    files.whole("failing", "<f8", failing_points(cells, map_.kind[kept], map_.ties, result, box))
    return {
        "cells": cells.count,
        "vertices": vertices,
        "conforming": map_.conforming,
        "rest": float(map_.rest),
        "covered": covered.tolist(),
    }


class Placed(NamedTuple):
    """Cells as they are written.

    Attributes:
        theta: ``(V, n)`` vertices. ptr, vertex: ``(M + 1,)``, ``(I,)`` those of each cell.
        simplices, owner: ``(S, n + 1)`` vertex numbers and ``(S,)`` the cell of each, -1 for a filler.
    """

    theta: np.ndarray
    ptr: np.ndarray
    vertex: np.ndarray
    simplices: np.ndarray
    owner: np.ndarray


def _placed(cells: Cells, box: np.ndarray) -> tuple[Placed, np.ndarray]:
    """The cells with simplices that meet face to face as far as can be, and the box that they may cover."""
    welded, n = weld(cells), cells.dimension
    theta, number = cells.theta[welded.chosen], welded.number
    covered = np.stack([theta.min(axis=0), theta.max(axis=0)], axis=1)
    near = _SNAP * np.ptp(box, axis=1)
    for side in (0, 1):
        theta = np.where(np.abs(theta - covered[:, side]) <= near, covered[:, side], theta)
    scaled = (theta - covered[:, 0]) / np.maximum(np.ptp(covered, axis=1), 1e-300)
    simplices, owner = simplices_of(cells.ptr, number[cells.idx], cells.mask, n)
    left, at = open_faces(simplices, scaled)
    ptr, vertex = cells.ptr, number[cells.idx]
    same = same_places(np.unique(left), scaled)
    if (same != np.arange(len(same))).any():
        vertex, simplices = same[vertex], np.sort(same[simplices], axis=1)
        whole = (np.diff(simplices, axis=1) > 0).all(axis=1)
        simplices, owner = simplices[whole], owner[whole]
        left, at = open_faces(simplices, scaled)
    if n == 2 and len(left):
        flat, edge = fans(left, scaled)
        own = owner[at[edge]]
        simplices, owner = np.concatenate([simplices, flat]), np.concatenate([owner, own])
        ptr, vertex = _with_vertices(ptr, vertex, np.repeat(own, 3), flat.reshape(-1), len(theta))
        left, at = open_faces(simplices, scaled)
    filler = closing(left, scaled)
    simplices = np.concatenate([simplices, filler])
    owner = np.concatenate([owner, np.full(len(filler), -1)])
    used, vertex = np.unique(vertex, return_inverse=True)
    simplices = np.searchsorted(used, simplices)
    return Placed(theta[used], ptr, vertex.reshape(-1), simplices, owner), np.stack(
        [np.minimum(covered[:, 0], 0.0), np.maximum(covered[:, 1], 0.0)], axis=1
    )


def _with_vertices(
    ptr: np.ndarray, vertex: np.ndarray, cell: np.ndarray, more: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Lists of vertices with some more in some of the cells, in rising order; `count`: of all vertices."""
    owner = np.concatenate([np.repeat(np.arange(len(ptr) - 1), np.diff(ptr)), cell])
    key = np.unique(owner * count + np.concatenate([vertex, more]))
    sizes = np.bincount(key // count, minlength=len(ptr) - 1)
    return np.concatenate([[0], np.cumsum(sizes)]), key % count


def weld(cells: Cells) -> Welded:
    """Vertices of the same name and, but for rounding, the same place are one.

    The place counts because names tell vertices apart only where cells meet facet to facet.
    """
    used = np.flatnonzero(np.bincount(cells.idx, minlength=len(cells.theta)))
    theta, names = cells.theta[used], cells.names[used]
    order = np.lexsort((*theta.T[::-1], names))
    theta, names = theta[order], names[order]
    near = _SAME * np.ptp(theta, axis=0) if len(theta) else 0.0
    new = np.ones(len(order), bool)
    new[1:] = (names[1:] != names[:-1]) | (np.abs(np.diff(theta, axis=0)) > near).any(axis=1)
    number = np.zeros(len(cells.theta), np.int64)
    number[used[order]] = np.cumsum(new) - 1
    return Welded(used[order[new]], number)


def piece_of_cells(cells: Cells, pieces: tuple[AffinePiece, ...]) -> np.ndarray:
    """The piece of the perturbation that each cell lies in, int32 ``(cells,)``; -1 where it lies in none."""
    if len(pieces) == 1 or not cells.count:
        return np.zeros(cells.count, np.int32)
    best = np.full(cells.count, -np.inf)
    chosen, inside = np.full(cells.count, -1, np.int32), np.zeros(cells.count, bool)
    sizes = np.diff(cells.ptr)
    tiles = from_polytopes(tuple(piece.polytope for piece in pieces)) if pieces else None
    for number in range(len(pieces)):
        assert tiles is not None
        slack = _slack(cells, tiles.take(np.array([number]))[0], np.ptp(tiles.theta, axis=0))
        own = slack[cells.idx]
        middle, least = np.add.reduceat(own, cells.ptr[:-1]) / sizes, np.minimum.reduceat(own, cells.ptr[:-1])
        better = middle > best
        best[better], chosen[better], inside[better] = middle[better], number, least[better] >= -_OUTSIDE
    return np.where(inside, chosen, -1).astype(np.int32)


def _slack(cells: Cells, tile: Cells, widths: np.ndarray) -> np.ndarray:
    """How far inside the nearest plane of the tile each vertex is, in widths of the box; negative outside."""
    found = facets(tile)
    planes = planes_of_facets(tile, found.cell, found.bit, widths)
    return (planes.offset - (cells.theta / widths) @ planes.normal.T).min(axis=1)
