"""Cut convex cells by hinges: the kernel of every exact engine.

A hinge is a function that is affine on each cell and continuous across cells, given by its values at the
vertices. Cutting a cell by a hinge: its vertices are above, on or below (within the tolerance); one on it
takes the hinge as a label and goes to both parts; an edge that joins above and below gets a new vertex,
whose values are interpolated, never recomputed. Two vertices of a polytope are joined by an edge if and
only if no third vertex lies on all the facets that contain both.

The idea of carrying values along exactly restricted lines and planes is that of Sotoudeh and Thakur
(NeurIPS 2019); that of splitting edges by unit, Berzins (ICML 2023). There is one algorithm for every n and
no linear program; coincident hinges, slivers and vertices of any degree need no special case.
"""

from __future__ import annotations

import numpy as np

from steadygaze.geometry.bits import kernel, part, spliced
from steadygaze.geometry.cells import Cells
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

NO_LIMIT = 1 << 62


def cut(
    cells: Cells,
    values: np.ndarray,
    tolerance: np.ndarray,
    hinges: np.ndarray,
    *,
    stop_below: bool = False,
    room: int = NO_LIMIT,
) -> Cut:
    """Cut every cell by every hinge that crosses it.

    Args:
        cells: what is cut.
        values: ``(vertices, hinges)`` float64, each hinge at each vertex.
        tolerance: ``(hinges,)`` a value this close to zero is zero.
        hinges: ``(hinges,)`` uint64, names of the hinges; they enter the names of the new vertices.
        stop_below: the part below a hinge is final and is not cut by later hinges (robust parts are cut so).
        room: stop cutting once this many vertices are new; what is left is marked unfinished.
    """
    n = cells.dimension

    def kernel(rows, names, ptr, idx, mask):
        return _cut_cells(rows, names, ptr, idx, mask, tolerance, hinges, stop_below, room, n)

    return cut_with(cells, values, kernel)


@part
def _crossing(rows, idx, first, last, tol, low, high, columns, stop_below):
    """Columns whose hinge crosses the cell (with `stop_below`: reaches below it); returns their number."""
    width = len(tol)
    for j in range(width):
        low[j] = rows[idx[first], j]
        high[j] = low[j]
    for t in range(first + 1, last):
        row = rows[idx[t]]
        for j in range(width):
            z = row[j]
            low[j] = z if z < low[j] else low[j]
            high[j] = z if z > high[j] else high[j]
    count = 0
    for j in range(width):
        if low[j] < -tol[j] and (stop_below or high[j] > tol[j]):
            columns[count] = j
            count += 1
    return count


@spliced
def _cut_one(vertices, used, limit, parts, count, p, cell, columns, tol, hinges, stop_below, n):
    """Cut one cell by the given columns, depth first; returns the stores and whether the facets fitted."""
    words, roomy_size = cell.mask.shape[1], 32 * ONE
    up, down, pile = new_cell(roomy_size, words), new_cell(roomy_size, words), new_cell(roomy_size, words)
    pile_ptr, pile_next = np.zeros(len(columns) + 2, np.int64), np.empty(len(columns) + 2, np.int64)
    top, k, stop, size = 0, 0, WHOLE, len(cell.idx)
    window, unreserved = Window(cell, 0, 0, 0), np.zeros(words, np.uint64)
    while True:
        while k < len(columns) and used < limit and stop == WHOLE:
            j = columns[k]
            k += 1
            hinge = Hinge(j, -1, hinges[j], tol[j])
            ups, downs = sides(vertices.rows, cell, size, hinge)
            if downs == 0 or (ups == 0 and not stop_below):
                continue
            if ups == 0:
                stop = j
                continue
            vertices = with_room(vertices, used, ups * downs)
            up, down = roomy(up, size + ups * downs), roomy(down, size + ups * downs)
            bit = free_bit(cell.mask, size, n, unreserved)
            if bit < 0:
                return vertices, used, parts, count, False
            used, ups, downs = split(vertices, used, hinge, cell, size, bit, up, down, n, window)
            if stop_below:
                parts = emit(parts, count, down, downs, p, j)
                count += 1
            else:
                pile = lengthened(pile, pile_ptr[top] + downs)
                copy_cell(down, FIRST, downs, pile, pile_ptr[top])
                pile_next[top] = k
                top += 1
                pile_ptr[top] = pile_ptr[top - 1] + downs
            cell, up = up, cell
            size = ups
        if used >= limit and k < len(columns) and stop == WHOLE:
            stop = UNFINISHED
        parts = emit(parts, count, cell, size, p, stop)
        count += 1
        if top == 0:
            return vertices, used, parts, count, True
        top -= 1
        size = pile_ptr[top + 1] - pile_ptr[top]
        cell = roomy(cell, size)
        copy_cell(pile, pile_ptr[top], size, cell, FIRST)
        k, stop = pile_next[top], WHOLE


@kernel
def _cut_cells(rows, names, ptr, idx, mask, tol, hinges, stop_below, room, n):
    """Cut all cells; returns (vertices, vertices used, parts, number of parts, whether the facets fitted)."""
    used, width = np.int64(len(rows)), len(tol)
    limit = used + room
    vertices = new_vertices(rows, names)
    parts = new_parts(len(ptr) + 255, 2 * len(idx) + 256, mask.shape[1])
    low, high, columns = np.empty(width), np.empty(width), np.empty(width, np.int64)
    count = np.int64(0)
    for p in range(len(ptr) - 1):
        first, last = ptr[p], ptr[p + 1]
        crossing = width  # past the limit cells are only passed on, as unfinished
        if used < limit:
            crossing = _crossing(vertices.rows, idx, first, last, tol, low, high, columns, stop_below)
        cell = new_cell(last - first, mask.shape[1])
        copy_cell(Cell(idx, mask), first, last - first, cell, FIRST)
        vertices, used, parts, count, fits = _cut_one(
            vertices, used, limit, parts, count, p, cell, columns[:crossing], tol, hinges, stop_below, n
        )
        if not fits:
            return vertices, used, parts, count, False
    return vertices, used, parts, count, True
