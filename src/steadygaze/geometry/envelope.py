"""Cut convex cells into the parts on which each input of a window is the largest (max pooling).

The part of a cell where input i wins is cut from the cell directly, by the hinges between i and its rivals,
so that no cell is cut where neither side of a hinge is the largest: the parts are the activation regions.
A vertex is named by the face of the cell on which it lies and by the inputs that tie there, which is the same
whichever input's part, and whichever of two neighbouring cells, made it.
"""

from __future__ import annotations

import numpy as np

from steadygaze.geometry.bits import U, kernel, part, spliced
from steadygaze.geometry.cells import Cells
from steadygaze.geometry.cutting import NO_LIMIT
from steadygaze.geometry.store import (
    FIRST,
    ONE,
    UNFINISHED,
    WHOLE,
    Cell,
    Cut,
    Hinge,
    Window,
    copy_cell,
    cut_with,
    emit,
    free_bit,
    lengthened,
    new_cell,
    new_parts,
    new_vertices,
    roomy,
    sides,
    split,
    with_room,
)

_FACETS_FULL = -1


def cut_by_windows(
    cells: Cells,
    values: np.ndarray,
    tolerance: np.ndarray,
    windows: np.ndarray,
    size: int,
    *,
    room: int = NO_LIMIT,
) -> Cut:
    """Cut every cell into the parts on which each window keeps its largest input.

    Args:
        cells: what is cut.
        values: ``(vertices, windows * size)`` float64, the inputs of the windows one after the other; an
            input may stand twice in its window (instead of padding).
        tolerance: ``(windows,)`` inputs this close together are equal.
        windows: ``(windows,)`` uint64, names of the windows; they enter the names of the new vertices.
        size: inputs per window.
        room: stop cutting once this many vertices are new; what is left is marked unfinished.
    """
    n = cells.dimension

    def kernel(rows, names, ptr, idx, mask):
        return _cut_cells(rows, names, ptr, idx, mask, tolerance, windows, size, room, n)

    return cut_with(cells, values, kernel)


@part
def _has_winner(rows, cell, size, first, last, tol):
    """Whether one input of the window is exceeded by no other on the whole cell."""
    for i in range(first, last):
        wins = True
        for t in range(size):
            for k in range(first, last):
                wins &= rows[cell.idx[t], i] >= rows[cell.idx[t], k] - tol
        if wins:
            return True
    return False


@part
def _window_of(cell, size, first, last):
    """The cell with, in one more row, all the labels that it uses."""
    kept = new_cell(size + 1, cell.mask.shape[1])
    copy_cell(cell, FIRST, size, kept, FIRST)
    for w in range(cell.mask.shape[1]):
        used = U(0)
        for t in range(size):
            used |= cell.mask[t, w]
        kept.mask[size, w] = used
    return Window(kept, size, first, last)


@part
def _part_where(vertices, used, i, window, name, tol, up, down, n):
    """Cut out where input i wins in the window's cell: returns the stores, the part and its size (or 0)."""
    size = size_before = window.size  # the window's own labels stay reserved: they name its faces
    cell = new_cell(size, window.cell.mask.shape[1])
    copy_cell(window.cell, 0, size, cell, FIRST)
    for k in range(window.first, window.last):
        if k == i:
            continue
        hinge = Hinge(i, k, name, tol)
        ups, downs = sides(vertices.rows, cell, size, hinge)
        if ups == 0 and (downs > 0 or k < i):  # exceeded, or equal to an earlier input
            return vertices, used, cell, up, down, 0
        if downs == 0:
            continue
        vertices = with_room(vertices, used, ups * downs + 1)
        up, down = roomy(up, size + ups * downs), roomy(down, size + ups * downs)
        bit = free_bit(cell.mask, size, n, window.cell.mask[size_before])
        if bit < 0:
            return vertices, used, cell, up, down, _FACETS_FULL
        used, size, downs = split(vertices, used, hinge, cell, size, bit, up, down, n, window)
        cell, up = up, cell
    return vertices, used, cell, up, down, size


@spliced
def _cut_one(vertices, used, limit, parts, count, p, cell, tol, windows, span, n):
    """Cut one cell by all windows, depth first; returns the stores and whether the facets fitted."""
    words, roomy_size = cell.mask.shape[1], 32 * ONE
    up, down, pile = new_cell(roomy_size, words), new_cell(roomy_size, words), new_cell(roomy_size, words)
    depth = len(windows) * span + 2
    pile_ptr, pile_next = np.zeros(depth, np.int64), np.empty(depth, np.int64)
    top, k, size = 0, 0, len(cell.idx)
    while True:
        while k < len(windows) and used < limit:
            first, last = k * span, (k + 1) * span
            if _has_winner(vertices.rows, cell, size, first, last, tol[k]):
                k += 1
                continue
            window = _window_of(cell, size, first, last)
            k += 1
            for i in range(last - 1, first - 1, -1):
                vertices, used, part, up, down, found = _part_where(
                    vertices, used, i, window, windows[k - 1], tol[k - 1], up, down, n
                )
                if found == _FACETS_FULL:
                    return vertices, used, parts, count, False
                if found > 0:
                    pile = lengthened(pile, pile_ptr[top] + found)
                    copy_cell(part, FIRST, found, pile, pile_ptr[top])
                    pile_next[top] = k
                    top += 1
                    pile_ptr[top] = pile_ptr[top - 1] + found
            top -= 1
            size = pile_ptr[top + 1] - pile_ptr[top]
            cell = roomy(cell, size)
            copy_cell(pile, pile_ptr[top], size, cell, FIRST)
        parts = emit(parts, count, cell, size, p, WHOLE if k == len(windows) else UNFINISHED)
        count += 1
        if top == 0:
            return vertices, used, parts, count, True
        top -= 1
        size = pile_ptr[top + 1] - pile_ptr[top]
        cell = roomy(cell, size)
        copy_cell(pile, pile_ptr[top], size, cell, FIRST)
        k = pile_next[top]


@kernel
def _cut_cells(rows, names, ptr, idx, mask, tol, windows, span, room, n):
    """Cut all cells; returns (vertices, vertices used, parts, number of parts, whether the facets fitted)."""
    used = np.int64(len(rows))
    limit = used + room
    vertices = new_vertices(rows, names)
    parts = new_parts(len(ptr) + 255, 2 * len(idx) + 256, mask.shape[1])
    count = np.int64(0)
    for p in range(len(ptr) - 1):
        first, last = ptr[p], ptr[p + 1]
        cell = new_cell(last - first, mask.shape[1])
        copy_cell(Cell(idx, mask), first, last - first, cell, FIRST)
        vertices, used, parts, count, fits = _cut_one(
            vertices, used, limit, parts, count, p, cell, tol, windows, span, n
        )
        if not fits:
            return vertices, used, parts, count, False
    return vertices, used, parts, count, True
