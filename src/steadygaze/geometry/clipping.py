"""Polytopes of activation regions: the box clipped by the nearest hinges first, until none can reach.

Of ten thousand hinges a dozen are facets. Those nearest to the region's point are tried first; they soon
leave a polytope that lies within a small distance of the point, and the hinges farther away than that need
not be looked at. The shape is kept as vertices and labels, as everywhere; no linear program is solved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from steadygaze.deadline import NEVER, Deadline
from steadygaze.geometry.bits import U, kernel, part
from steadygaze.geometry.cells import WORD, Cells, names_of_points
from steadygaze.geometry.sides import SLIVER
from steadygaze.geometry.store import FIRST, free_bit, is_edge

# Why the kernel came back (see `_clip`).
_DONE, _FULL_VERTICES, _FULL_WORK, _FULL_LABELS = range(4)
# So many regions are clipped, or facets compared, in one call of a kernel, between which the time is asked.
_AT_ONCE = 32


@dataclass(frozen=True)
class Clipped:
    """Polytopes, and what their facets lie on.

    Attributes:
        cells: the polytopes; one that is thinner than the tolerance is left out.
        row: ``(cells,)`` which of the given regions each is.
        label: ``(cells, bits)`` int64, for each facet bit the hinge that it lies on; those of the polytope
            that was clipped are -2 - facet, and -1 is none.
        tested: ``(regions,)`` hinges whose values at vertices were looked at.
    """

    cells: Cells
    row: np.ndarray
    label: np.ndarray
    tested: np.ndarray


class _Room(NamedTuple):
    """Where the kernel writes: vertices of all polytopes, and two polytopes in work."""

    theta: np.ndarray
    mask: np.ndarray
    now: np.ndarray
    now_mask: np.ndarray
    next: np.ndarray
    next_mask: np.ndarray


def clip(
    start: Cells,
    points: np.ndarray,
    value: np.ndarray,
    slope: np.ndarray,
    tolerance: np.ndarray,
    deadline: Deadline = NEVER,
) -> Clipped:
    """The part of a polytope, given as the one cell of `start`, where all hinges are at least 0.

    Args:
        start: one cell: the box, or the piece of it on which the perturbation is affine.
        points: ``(B, n)`` a point in the closure of each region.
        value: ``(B, H)`` each hinge at the region's point. slope: ``(B, n, H)``.
        tolerance: ``(1, H)``, or of each region ``(B, H)``: a hinge this close to zero is zero.
        deadline: when to give up.

    Raises Expired where the deadline passes on the way.
    """
    count, n = points.shape
    words, size, made = start.mask.shape[1], 256, 16 * count + 64
    ptr, tested = np.zeros(count + 1, np.int64), np.zeros(count, np.int64)
    widths = np.ptp(start.theta, axis=0)
    corners, marks = np.ascontiguousarray(start.theta[start.idx]), start.mask
    room = _room(made, size, n, words)
    label = np.full((count, WORD * words), -1, np.int64)
    row, why = 0, _FULL_WORK
    while True:
        deadline.ask()
        some = points[: row + _AT_ONCE]
        row, why = _clip(corners, marks, some, value, slope, tolerance, widths, room, ptr, label, tested, row)
        if why == _DONE and row == count:
            break
        if why == _DONE:
            continue
        size *= 2 if why == _FULL_WORK else 1
        made *= 2 if why == _FULL_VERTICES else 1
        if why == _FULL_LABELS:
            words *= 2
            marks = _wider(marks, words)
            label = np.pad(label, ((0, 0), (0, label.shape[1])), constant_values=-1)
        room = _grown(room, _room(made, size, n, words), int(ptr[row]))
    kept = np.flatnonzero(np.diff(ptr) > 0)
    theta, mask = room.theta[: ptr[-1]].copy(), room.mask[: ptr[-1]].copy()
    packed = np.concatenate([[0], np.cumsum(np.diff(ptr)[kept])])
    cells = Cells(theta, names_of_points(theta + 0.0), packed, np.arange(len(theta)), mask)
    return Clipped(cells, kept, label[kept], tested)


def _room(made: int, size: int, n: int, words: int) -> _Room:
    def masks(count: int) -> np.ndarray:
        return np.zeros((count, words), np.uint64)

    return _Room(
        np.empty((made, n)), masks(made), np.empty((size, n)), masks(size), np.empty((size, n)), masks(size)
    )


def _wider(mask: np.ndarray, words: int) -> np.ndarray:
    return np.pad(mask, ((0, 0), (0, words - mask.shape[1])))


def _grown(old: _Room, new: _Room, used: int) -> _Room:
    new.theta[:used] = old.theta[:used]
    new.mask[:used, : old.mask.shape[1]] = old.mask[:used]
    return new


@part
def _distances(value, slope, widths, keys, order):
    """Distance of each hinge in widths of the box; returns the number of those that are not constant."""
    count, n = 0, slope.shape[0]
    for j in range(len(value)):
        steep = 0.0
        for i in range(n):
            steep += (slope[i, j] * widths[i]) ** 2
        if steep > 0.0:
            keys[count] = max(value[j], 0.0) / np.sqrt(steep)
            order[count] = j
            count += 1
    return count


@part
def _sunk(keys, order, count, at):
    """Let the entry at `at` sink to its place in the heap, least first."""
    key, item = keys[at], order[at]
    while True:
        child = 2 * at + 1
        if child >= count:
            break
        if child + 1 < count and keys[child + 1] < keys[child]:
            child += 1
        if keys[child] >= key:
            break
        keys[at], order[at] = keys[child], order[child]
        at = child
    keys[at], order[at] = key, item


@part
def _reach(theta, count, point, widths):
    """Largest distance of the vertices from the point, in widths of the box."""
    most = 0.0
    for t in range(count):
        far = 0.0
        for i in range(len(point)):
            far += ((theta[t, i] - point[i]) / widths[i]) ** 2
        most = far if far > most else most
    return np.sqrt(most)


@part
def _heights(room, count, point, level, slope, j, tol, heights):
    """The hinge's value at each vertex; returns how many lie above it and how many below."""
    ups, downs = 0, 0
    for t in range(count):
        h = level
        for i in range(len(point)):
            h += slope[i, j] * (room.now[t, i] - point[i])
        heights[t] = h
        ups += h > tol
        downs += h < -tol
    return ups, downs


@part
def _kept(room, count, heights, tol, bit, n):
    """Clip the polytope in work; returns the size of what is left."""
    word, flag, out = bit // 64, U(1) << U(bit % 64), 0
    words = room.now_mask.shape[1]
    for t in range(count):
        if heights[t] >= -tol:
            for i in range(n):
                room.next[out, i] = room.now[t, i]
            for w in range(words):
                room.next_mask[out, w] = room.now_mask[t, w]
            if heights[t] <= tol:
                room.next_mask[out, word] |= flag
            out += 1
    for a in range(count):
        if heights[a] <= tol:
            continue
        for b in range(count):
            if heights[b] >= -tol or not is_edge(room.now_mask, FIRST, count, a, b, n):
                continue
            weight = heights[a] / (heights[a] - heights[b])
            for i in range(n):
                room.next[out, i] = room.now[a, i] + weight * (room.now[b, i] - room.now[a, i])
            for w in range(words):
                room.next_mask[out, w] = room.now_mask[a, w] & room.now_mask[b, w]
            room.next_mask[out, word] |= flag
            out += 1
    for t in range(out):
        for i in range(n):
            room.now[t, i] = room.next[t, i]
        for w in range(words):
            room.now_mask[t, w] = room.next_mask[t, w]
    return out


def coincident(
    cells: Cells,
    cell: np.ndarray,
    bit: np.ndarray,
    points: np.ndarray,
    value: np.ndarray,
    slope: np.ndarray,
    tolerance: np.ndarray,
    weights: np.ndarray,
    window: np.ndarray,
    deadline: Deadline = NEVER,
) -> tuple[np.ndarray, np.ndarray]:
    """Sum ``(F,)`` over the hinges that vanish on a whole facet, but not on its cell, of their weights.

    And whether several of them are of one window, ``(F,)``: of these only one wins behind the facet, and the
    sum says nothing.

    Args:
        cell, bit: ``(F,)`` the facets. points ``(C, n)``, value ``(C, H)``, slope ``(C, n, H)``: the hinges
            of each cell. tolerance: ``(1, H)``, or of each cell ``(C, H)``.
        weights: ``(C, H)`` uint64; sums wrap round.
        window: ``(H,)`` the window that each hinge belongs to, those of one window in a row; -1 for none.
        deadline: when to give up.

    Raises Expired where the deadline passes on the way.
    """
    out, rivals = np.zeros(len(cell), np.uint64), np.zeros(len(cell), np.bool_)
    for first in range(0, len(cell), _AT_ONCE):
        deadline.ask()
        some = slice(first, first + _AT_ONCE)
        out[some], rivals[some] = _coincident(
            cells.theta, cells.ptr, cells.idx, cells.mask, cell[some], bit[some], points, value, slope,
            tolerance, weights, window,
        )  # fmt: skip
    return out, rivals


def reaching_past(
    cells: Cells,
    points: np.ndarray,
    value: np.ndarray,
    slope: np.ndarray,
    level: np.ndarray,
) -> np.ndarray:
    """Which cells ``(C,)`` a hinge falls below 0 on, by more than a sliver of them and by more than `level`.

    points ``(C, n)``, value ``(C, H)`` and slope ``(C, n, H)`` are the hinges of each cell; level ``(1, H)``,
    or of each cell ``(C, H)``.
    """
    return _reaching_past(cells.theta, cells.ptr, cells.idx, points, value, slope, level)


@kernel
def _reaching_past(theta, ptr, idx, points, value, slope, level):
    count, n, hinges = len(points), theta.shape[1], value.shape[1]
    out, low, high = np.zeros(count, np.bool_), np.empty(hinges), np.empty(hinges)
    for c in range(count):
        least = level[min(c, len(level) - 1)]
        low[:], high[:] = np.inf, -np.inf
        for t in range(ptr[c], ptr[c + 1]):
            for j in range(hinges):
                h = value[c, j]
                for i in range(n):
                    h += slope[c, i, j] * (theta[idx[t], i] - points[c, i])
                low[j], high[j] = min(low[j], h), max(high[j], h)
        for j in range(hinges):
            out[c] |= (-low[j] > least[j]) & (-low[j] > SLIVER * high[j])
    return out


@kernel
def _coincident(theta, ptr, idx, mask, cell, bit, points, value, slope, tolerance, weights, window):
    n, out, rivals = theta.shape[1], np.zeros(len(cell), np.uint64), np.zeros(len(cell), np.bool_)
    corners = np.empty((len(idx), n))
    for f in range(len(cell)):
        c, count, word, flag = cell[f], 0, bit[f] // 64, U(1) << U(bit[f] % 64)
        slack = tolerance[min(c, len(tolerance) - 1)]
        last = -1
        for t in range(ptr[c], ptr[c + 1]):
            if mask[t, word] & flag:
                for i in range(n):
                    corners[count, i] = theta[idx[t], i] - points[c, i]
                count += 1
        for j in range(value.shape[1]):
            on, moves = True, False
            for t in range(count):
                h = value[c, j]
                for i in range(n):
                    h += slope[c, i, j] * corners[t, i]
                if abs(h) > slack[j]:
                    on = False
                    break
            if on:
                for t in range(ptr[c], ptr[c + 1]):
                    h = value[c, j]
                    for i in range(n):
                        h += slope[c, i, j] * (theta[idx[t], i] - points[c, i])
                    moves |= h > slack[j]
                if moves:
                    out[f] += weights[c, j]
                    rivals[f] |= window[j] >= 0 and window[j] == last
                    last = window[j]
    return out, rivals


@kernel
def _clip(corners, marks, points, value, slope, tolerance, widths, room, ptr, label, tested, row):
    """Clip for the regions from number `row` on; returns the region in hand and why it came back."""
    n, hinges, size = points.shape[1], value.shape[1], len(room.now)
    keys, order, heights = np.empty(hinges), np.empty(hinges, np.int64), np.empty(size)
    unreserved = np.zeros(marks.shape[1], np.uint64)
    if len(corners) > size:
        return row, _FULL_WORK
    while row < len(points):
        point, level, steep, used = points[row], value[row], slope[row], ptr[row]
        count, tested[row], slack = len(corners), 0, tolerance[min(row, len(tolerance) - 1)]
        for t in range(count):
            for i in range(n):
                room.now[t, i] = corners[t, i]
            for w in range(marks.shape[1]):
                room.now_mask[t, w] = marks[t, w]
        for b in range(label.shape[1]):
            label[row, b] = -2 - b
        left = _distances(level, steep, widths, keys, order)
        for at in range(left // 2 - 1, -1, -1):
            _sunk(keys, order, left, at)
        reach = _reach(room.now, count, point, widths)
        while left > 0 and keys[0] <= reach:
            j = order[0]
            left -= 1
            keys[0], order[0] = keys[left], order[left]
            _sunk(keys, order, left, FIRST)
            tested[row] += 1
            ups, downs = _heights(room, count, point, level[j], steep, j, slack[j], heights)
            if downs == 0:
                continue
            if ups == 0:
                count = 0
                break
            if count + ups * downs > size:
                return row, _FULL_WORK
            bit = free_bit(room.now_mask, FIRST, count, n, unreserved)
            if bit < 0:
                return row, _FULL_LABELS
            label[row, bit] = j
            count = _kept(room, count, heights, slack[j], bit, n)
            reach = _reach(room.now, count, point, widths)
        if used + count > len(room.theta):
            return row, _FULL_VERTICES
        for t in range(count):
            for i in range(n):
                room.theta[used + t, i] = room.now[t, i]
            for w in range(marks.shape[1]):
                room.mask[used + t, w] = room.now_mask[t, w]
        row += 1
        ptr[row] = used + count
    return row, _DONE
