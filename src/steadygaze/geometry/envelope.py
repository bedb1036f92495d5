"""Cut convex cells into the parts on which each input of a window is the largest (max pooling).

The part of a cell where input i wins is cut from the cell directly, by the hinges between i and its rivals,
so that no cell is cut where neither side of a hinge is the largest: the parts are the activation regions.
A vertex is named by the face of the cell on which it lies and by the inputs that tie there, which is the same
whichever input's part, and whichever of two neighbouring cells, made it.
"""

from __future__ import annotations

import numpy as np

from steadygaze.deadline import NEVER, Deadline
from steadygaze.geometry.bits import U, kernel, spliced
from steadygaze.geometry.cells import Cells
from steadygaze.geometry.cutting import NO_LIMIT
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


def cut_by_windows(
    cells: Cells,
    values: np.ndarray,
    tolerance: np.ndarray,
    windows: np.ndarray,
    size: int,
    *,
    room: int = NO_LIMIT,
    deadline: Deadline = NEVER,
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
        deadline: when to give up.

    Raises Expired where the deadline passes on the way.
    """
    n, limit = cells.dimension, len(cells.theta) + room

    def kernel(vertices, parts, work, given, cell, used, made):  # see store.Kernel
        return _cut_cells(vertices, parts, work, given, cell, used, made, limit, tolerance, windows, size, n)

    return cut_with(cells, values, kernel, deadline)


@spliced
def _has_winner(rows, idx, start, size, first, last, tol):
    """Whether one input of the window is exceeded by no other on the whole cell."""
    for i in range(first, last):
        wins = True
        for t in range(start, start + size):
            for k in range(first, last):
                wins &= rows[idx[t], i] >= rows[idx[t], k] - tol
        if wins:
            return True
    return False


@spliced
def _keep(work, start, size):
    """Keep the cell at `start` of the pile aside, with, in one more row, all the labels that it uses."""
    copied(work.pile, work.pile_mask, start, size, work.kept, work.kept_mask, FIRST)
    for w in range(work.pile_mask.shape[1]):
        used = U(0)
        for t in range(size):
            used |= work.kept_mask[t, w]
        work.kept_mask[size, w] = used


@spliced
def _part_where(vertices, work, used, i, window, name, tol, start, n):
    """Put the part of the kept cell where input i wins at `start` of the pile.

    Returns (vertices used, size of the part or 0 for none, why back).
    """
    size = window.size
    copied(work.kept, work.kept_mask, FIRST, size, work.pile, work.pile_mask, start)
    for k in range(window.first, window.last):
        if k == i:
            continue
        hinge = Hinge(i, k, name, tol)
        ups, downs = sides(vertices.rows, work.pile, start, size, hinge)
        if ups == 0 and (downs > 0 or k < i):  # exceeded, or equal to an earlier input
            return used, 0, DONE
        if downs == 0:
            continue
        why = lacking(vertices, work, used, start, size, ups * downs)
        # The window's own labels stay reserved: they name its faces.
        bit = free_bit(work.pile_mask, start, size, n, work.kept_mask[window.size])
        if why != DONE or bit < 0:
            return used, 0, FULL_LABELS if why == DONE else why
        used, size, downs = split(vertices, work, used, hinge, start, size, bit, n, window)
        copied(work.up, work.up_mask, FIRST, size, work.pile, work.pile_mask, start)
    return used, size, DONE


@spliced
def _cut_one(vertices, parts, work, given, p, used, made, limit, tol, windows, span, n):
    """Cut one cell by all windows, depth first; returns (vertices used, parts made, why back)."""
    size = given.ptr[p + 1] - given.ptr[p]
    if size > len(work.pile):
        return used, made, FULL_WORK
    copied(given.idx, given.mask, given.ptr[p], size, work.pile, work.pile_mask, FIRST)
    depth = len(windows) * span + 2
    ends, nexts = np.zeros(depth, np.int64), np.empty(depth, np.int64)
    top, start, k = 0, FIRST, 0
    while True:
        while k < len(windows) and used < limit:
            first, last = k * span, (k + 1) * span
            k += 1
            if _has_winner(vertices.rows, work.pile, start, size, first, last, tol[k - 1]):
                continue
            if start + size + 1 > len(work.kept):
                return used, made, FULL_WORK
            _keep(work, start, size)
            window = Window(size, first, last)
            for i in range(last - 1, first - 1, -1):
                if start + window.size > len(work.pile):
                    return used, made, FULL_WORK
                used, found, why = _part_where(
                    vertices, work, used, i, window, windows[k - 1], tol[k - 1], start, n
                )
                if why != DONE:
                    return used, made, why
                if found > 0:
                    nexts[top] = k
                    start += found
                    top += 1
                    ends[top] = start
            top -= 1
            start = ends[top]
            size = ends[top + 1] - start
        stop = WHOLE if k == len(windows) else UNFINISHED
        if not emit(parts, made, work.pile, work.pile_mask, start, size, p, stop):
            return used, made, FULL_PARTS
        made += 1
        if top == 0:
            return used, made, DONE
        top -= 1
        start = ends[top]
        size = ends[top + 1] - start
        k = nexts[top]


@kernel
def _cut_cells(vertices, parts, work, given, p, used, made, limit, tol, windows, span, n):
    """Cut the cells from number p on; see `store.Kernel`."""
    while p < len(given.ptr) - 1:
        now_used, now_made, why = _cut_one(
            vertices, parts, work, given, p, used, made, limit, tol, windows, span, n
        )
        if why != DONE:
            return p, used, made, why
        p, used, made = p + 1, now_used, now_made
    return p, used, made, DONE
