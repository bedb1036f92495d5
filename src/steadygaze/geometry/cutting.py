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

from steadygaze.deadline import NEVER, Deadline
from steadygaze.geometry.bits import kernel, part, spliced
from steadygaze.geometry.cells import Cells
from steadygaze.geometry.store import (
    DONE,
    FIRST,
    FULL_LABELS,
    FULL_PARTS,
    FULL_WORK,
    UNFINISHED,
    WHOLE,
    Cut,
    Hinge,
    Window,
    copied,
    cut_with,
    emit,
    free_bit,
    lacking,
    sides,
    split,
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
    deadline: Deadline = NEVER,
) -> Cut:
    """Cut every cell by every hinge that crosses it.

    Args:
        cells: what is cut.
        values: ``(vertices, hinges)`` float64, each hinge at each vertex.
        tolerance: ``(hinges,)`` a value this close to zero is zero.
        hinges: ``(hinges,)`` uint64, names of the hinges; they enter the names of the new vertices.
        stop_below: the part below a hinge is final and is not cut by later hinges (robust parts are cut so).
        room: stop cutting once this many vertices are new; what is left is marked unfinished.
        deadline: when to give up.

    Raises Expired where the deadline passes on the way.
    """
    n, limit = cells.dimension, len(cells.theta) + room

    def kernel(vertices, parts, work, given, cell, used, made):  # see store.Kernel
        return _cut_cells(
            vertices, parts, work, given, cell, used, made, limit, tolerance, hinges, stop_below, n
        )

    return cut_with(cells, values, kernel, deadline)


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
def _cut_one(vertices, parts, work, given, p, used, made, limit, columns, tol, hinges, stop_below, n):
    """Cut one cell by the given columns, depth first; returns (vertices used, parts made, why back)."""
    size = given.ptr[p + 1] - given.ptr[p]
    if size > len(work.pile):
        return used, made, FULL_WORK
    copied(given.idx, given.mask, given.ptr[p], size, work.pile, work.pile_mask, FIRST)
    ends, nexts = np.zeros(len(columns) + 2, np.int64), np.empty(len(columns) + 2, np.int64)
    unreserved = np.zeros(given.mask.shape[1], np.uint64)
    top, start, k, stop = 0, FIRST, 0, WHOLE
    while True:
        while k < len(columns) and used < limit and stop == WHOLE:
            j = columns[k]
            k += 1
            hinge = Hinge(j, -1, hinges[j], tol[j])
            ups, downs = sides(vertices.rows, work.pile, start, size, hinge)
            if downs == 0 or (ups == 0 and not stop_below):
                continue
            if ups == 0:
                stop = j
                continue
            why = lacking(vertices, work, used, start, size, ups * downs)
            bit = free_bit(work.pile_mask, start, size, n, unreserved)
            if why != DONE or bit < 0:
                return used, made, FULL_LABELS if why == DONE else why
            used, ups, downs = split(
                vertices, work, used, hinge, start, size, bit, n, Window(FIRST, FIRST, FIRST)
            )
            if stop_below:
                if not emit(parts, made, work.down, work.down_mask, FIRST, downs, p, j):
                    return used, made, FULL_PARTS
                made += 1
            else:
                copied(work.down, work.down_mask, FIRST, downs, work.pile, work.pile_mask, start)
                nexts[top] = k
                start += downs
                top += 1
                ends[top] = start
            size = ups
            copied(work.up, work.up_mask, FIRST, size, work.pile, work.pile_mask, start)
        if used >= limit and k < len(columns) and stop == WHOLE:
            stop = UNFINISHED
        if not emit(parts, made, work.pile, work.pile_mask, start, size, p, stop):
            return used, made, FULL_PARTS
        made += 1
        if top == 0:
            return used, made, DONE
        top -= 1
        start = ends[top]
        size = ends[top + 1] - start
        k, stop = nexts[top], WHOLE


@kernel
def _cut_cells(vertices, parts, work, given, p, used, made, limit, tol, hinges, stop_below, n):
    """Cut the cells from number p on; see `store.Kernel`."""
    width = len(tol)
    low, high, columns = np.empty(width), np.empty(width), np.empty(width, np.int64)
    while p < len(given.ptr) - 1:
        crossing = width  # past the limit cells are only passed on, as unfinished
        if used < limit:
            crossing = _crossing(
                vertices.rows, given.idx, given.ptr[p], given.ptr[p + 1], tol, low, high, columns, stop_below
            )
            if crossing == 0:
                size = given.ptr[p + 1] - given.ptr[p]
                if not emit(parts, made, given.idx, given.mask, given.ptr[p], size, p, WHOLE):
                    return p, used, made, FULL_PARTS
                p, made = p + 1, made + 1
                continue
        now_used, now_made, why = _cut_one(
            vertices, parts, work, given, p, used, made, limit, columns[:crossing], tol, hinges, stop_below, n
        )
        if why != DONE:
            return p, used, made, why
        p, used, made = p + 1, now_used, now_made
    return p, used, made, DONE
