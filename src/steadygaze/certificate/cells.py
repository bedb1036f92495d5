"""The map: its vertices, numbered once each, and its cells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from steadygaze.certificate.files import BLOCK, Files
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


class Welded(NamedTuple):
    """Which vertices of a map are written, and under which numbers.

    Attributes:
        chosen: ``(V,)`` numbers in the map of those that are kept: in the order of names.
        number: ``(vertices of the map,)`` the number of each among those kept; of no meaning if it is unused.
    """

    chosen: np.ndarray
    number: np.ndarray


def write_map(
    map_: CellMap, pieces: tuple[AffinePiece, ...], origin: np.ndarray, files: Files
) -> dict[str, object]:
    """Write the cells, but for those without volume that mark where nobody has looked.

    origin: numbers in the map of the cells of R0. Returns what the index says of the map.
    """
    kept = (map_.kind != UNDECIDED) | (map_.region >= 0) | (map_.volume > 0)
    cells = map_.cells if kept.all() else map_.cells.take(np.flatnonzero(kept))[0]
    welded = weld(cells)
    vertices, n = len(welded.chosen), cells.dimension
    number = welded.number.astype(np.int32 if vertices < 2**31 else np.int64)
    files.array("vertices", "<f8", (vertices, n), _rows(cells.theta, welded.chosen))
    files.whole("cell_ptr", "<i8", cells.ptr)
    files.array("cell_vertex", f"<i{number.itemsize}", (len(cells.idx),), _rows(number, cells.idx))
    files.whole("cell_facets", "<u8", cells.mask)
    files.whole("cell_kind", "|i1", map_.kind[kept])
    files.whole("cell_piece", "<i4", piece_of_cells(cells, pieces))
    files.whole("cell_region", "<i8", map_.region[kept])
    files.whole("origin_cells", "<i8", (np.cumsum(kept) - 1)[origin[kept[origin]]])
    return {
        "cells": cells.count,
        "vertices": vertices,
        "conforming": map_.conforming,
        "rest": float(map_.rest),
    }


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


def _rows(array: np.ndarray, chosen: np.ndarray) -> Iterator[np.ndarray]:
    """The chosen rows, block by block."""
    step = max(1, BLOCK // max(1, array[:1].size))
    return (array[chosen[first : first + step]] for first in range(0, len(chosen), step))
