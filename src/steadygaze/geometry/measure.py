"""Volumes of cells, points in cells, facets of cells: what can be read off vertices and labels.

A polytope is the union of the cones from any of its points over its facets; a facet is the polytope of the
vertices that carry its label, and so on down to edges. Labels that mark no facet (a hinge that only
touches the cell in a corner) give cones of no volume, but for those of corners that a facet has, too.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from steadygaze.deadline import NEVER, Deadline
from steadygaze.geometry.bits import U, kernel, mix, part, popcount, spliced
from steadygaze.geometry.cells import Cells

# So many cells, or facets, are measured in one call of a kernel, between which the time is asked.
_AT_ONCE = 256


def volumes(cells: Cells, deadline: Deadline = NEVER) -> np.ndarray:
    """Volume of each cell, ``(cells,)``, by cones from its first vertex.

    Raises Expired where the deadline passes on the way; so do the others here that take one.
    """
    every, firsts = np.arange(cells.count), cells.theta[cells.idx[cells.ptr[:-1]]]
    return _cones_of(cells, every, firsts, np.full(cells.count, -1), 0, deadline)


def centres(cells: Cells) -> np.ndarray:
    """Mean of the vertices of each cell, ``(cells, n)``: a point of its interior."""
    return _centres(cells.theta, cells.ptr, cells.idx)


def cone_volumes(
    cells: Cells,
    chosen: np.ndarray,
    points: np.ndarray,
    labels: np.ndarray | None = None,
    deadline: Deadline = NEVER,
) -> np.ndarray:
    """Sum of the volumes of the cones from each point over all facets of its chosen cell.

    It equals the volume of the cell if the point lies in the cell, and is larger if it does not.

    Args:
        chosen: ``(k,)`` cell numbers.
        points: ``(k, n)``.
        labels: ``(k,)`` the one facet to take (its label) instead of all.
    """
    chosen = np.asarray(chosen, np.int64)
    points = np.ascontiguousarray(points, float)
    labels = np.full(len(chosen), -1) if labels is None else labels
    return _cones_of(cells, chosen, points, labels, -1, deadline)


def _cones_of(
    cells: Cells, chosen: np.ndarray, apexes: np.ndarray, only: np.ndarray, vertex: int, deadline: Deadline
) -> np.ndarray:
    out = np.empty(len(chosen))
    for first in range(0, len(chosen), _AT_ONCE):
        deadline.ask()
        some = slice(first, first + _AT_ONCE)
        out[some] = _cone_volumes(
            cells.theta, cells.ptr, cells.idx, cells.mask, chosen[some], apexes[some], only[some], vertex
        )
    return out


class Facets(NamedTuple):
    """The facets of cells.

    Attributes:
        cell: ``(facets,)`` number of the cell.
        bit: ``(facets,)`` label within that cell.
        key: ``(facets,)`` uint64; two cells that share a facet give it the same key.
    """

    cell: np.ndarray
    bit: np.ndarray
    key: np.ndarray


def facets(cells: Cells, deadline: Deadline = NEVER) -> Facets:
    """All facets of all cells: the labels whose vertex sets are contained in no other label's."""
    found = []
    for first in range(0, max(cells.count, 1), _AT_ONCE):
        deadline.ask()
        ptr = cells.ptr[first : first + _AT_ONCE + 1]
        cell, bit, key = _facets(cells.names, ptr, cells.idx, cells.mask, cells.dimension)
        found.append((first + cell, bit, key))
    return Facets(*(np.concatenate(column) for column in zip(*found, strict=True)))


def facet_centres(cells: Cells, cell: np.ndarray, bit: np.ndarray) -> np.ndarray:
    """Mean of the vertices of each facet, ``(facets, n)``: a point inside it. cell, bit: as in `Facets`."""
    return _facet_centres(cells.theta, cells.ptr, cells.idx, cells.mask, cell, bit)


@kernel
def _centres(theta, ptr, idx):
    out = np.zeros((len(ptr) - 1, theta.shape[1]))
    for p in range(len(out)):
        for t in range(ptr[p], ptr[p + 1]):
            for i in range(theta.shape[1]):
                out[p, i] += theta[idx[t], i]
        for i in range(theta.shape[1]):
            out[p, i] /= ptr[p + 1] - ptr[p]
    return out


@kernel
def _facet_centres(theta, ptr, idx, mask, cell, bit):
    out = np.zeros((len(cell), theta.shape[1]))
    for k in range(len(cell)):
        count = 0
        for t in range(ptr[cell[k]], ptr[cell[k] + 1]):
            if (mask[t, bit[k] // 64] >> U(bit[k] % 64)) & U(1):
                count += 1
                for i in range(theta.shape[1]):
                    out[k, i] += theta[idx[t], i]
        for i in range(theta.shape[1]):
            out[k, i] /= count
    return out


@part
def _determinant(corners, n):
    """|det| of the n x n matrix held in `corners` (overwritten), by elimination with row pivots."""
    det = 1.0
    for i in range(n):
        best = i
        for r in range(i + 1, n):
            if abs(corners[r, i]) > abs(corners[best, i]):
                best = r
        if corners[best, i] == 0.0:
            return 0.0
        if best != i:
            for c in range(n):
                corners[i, c], corners[best, c] = corners[best, c], corners[i, c]
        det *= corners[i, i]
        for r in range(i + 1, n):
            f = corners[r, i] / corners[i, i]
            for c in range(i, n):
                corners[r, c] -= f * corners[i, c]
    return abs(det)


@part
def _members(mask, old, size, bit, new):
    """Members of the vertex list `old` that carry the label; returns (their number, their fingerprint)."""
    word, flag = bit // 64, U(1) << U(bit % 64)
    count, print_ = 0, U(0)
    for t in range(size):
        if mask[old[t], word] & flag:
            new[count] = old[t]
            count += 1
            print_ += mix(U(old[t] + 1))
    return count, print_


@part
def _ends(points, face, count):
    """The two ends of an edge: the farthest pair, should a sliver have left more than two vertices on it."""
    if count == 2:
        return face[0], face[1]
    best, ends = -1.0, (face[0], face[0])
    for t in range(count):
        for u in range(t):
            far = 0.0
            for i in range(points.shape[1]):
                far += (points[face[t], i] - points[face[u], i]) ** 2
            if far > best:
                best, ends = far, (face[t], face[u])
    return ends


@part
def _used_bits(mask, bits):
    """Labels that occur at all; returns their number."""
    count = 0
    for w in range(mask.shape[1]):
        used = U(0)
        for t in range(len(mask)):
            used |= mask[t, w]
        for b in range(64):
            if (used >> U(b)) & U(1):
                bits[count] = 64 * w + b
                count += 1
    return count


@part
def _within(mask, first, last, a, b):
    """Whether every vertex that carries label a carries label b too."""
    for t in range(first, last):
        if (mask[t, a // 64] >> U(a % 64)) & U(1) and not (mask[t, b // 64] >> U(b % 64)) & U(1):
            return False
    return True


@part
def _without_inner(mask, labels, count, only, n):
    """Leave out labels whose vertices carry another one, too, as more do, but not all; returns their number.

    Where a hinge touches a cell in three corners of a facet, as far as rounding tells, the facet counts them
    already. `only` is kept.
    """
    vertices, most = len(mask), 0
    sizes = np.zeros(count, np.int64)
    for a in range(count):
        word, flag = labels[a] // 64, U(1) << U(labels[a] % 64)
        for t in range(vertices):
            if mask[t, word] & flag:
                sizes[a] += 1
        most = max(most, sizes[a])
    if most <= n:  # facets have so many vertices at least
        return count
    kept = 0
    for a in range(count):
        inner = False
        for b in range(count):
            if sizes[a] < sizes[b] < vertices and _within(mask, 0, vertices, labels[a], labels[b]):
                inner = True
                break
        if not inner or labels[a] == only:
            labels[kept], sizes[kept] = labels[a], sizes[a]
            kept += 1
    return kept


@spliced
def _cones(points, mask, apex, only, apex_vertex):
    """Sum over the simplices of the cones from `apex` over the polytope's facets of |det|.

    points ``(m, n)`` are the vertices, mask ``(m, words)`` their labels; only is the one facet to take, or
    -1;
    apex_vertex is the number of the vertex at the apex, or -1. A walk down the faces, depth first: at depth
    d a face of dimension n - d is given by its vertices; its own apex is the first of them, and only the
    faces that do not contain the apex make cones.
    """
    m, n = points.shape
    if n == 1:
        total = 0.0
        for t in range(m):
            if only < 0 or (mask[t, only // 64] >> U(only % 64)) & U(1):
                total += abs(points[t, 0] - apex[0])
        return total
    labels = np.empty(64 * mask.shape[1], np.int64)
    label_count = _without_inner(mask, labels, _used_bits(mask, labels), only, n)
    apexes, corners = np.empty((n, n)), np.empty((n, n))
    face, size, at = np.empty((n, m), np.int64), np.empty(n, np.int64), np.zeros(n, np.int64)
    seen, seen_count = np.empty((n, label_count), np.uint64), np.zeros(n, np.int64)
    own = np.empty(n, np.int64)
    for t in range(m):
        face[0, t] = t
    own[0] = apex_vertex
    size[0] = m
    for i in range(n):
        apexes[0, i] = apex[i]
    total, d = 0.0, 0
    while d >= 0:
        if at[d] == label_count:
            d -= 1
            continue
        bit = labels[at[d]]
        at[d] += 1
        if d == 0 and only >= 0 and bit != only:
            continue
        if own[d] >= 0 and (mask[own[d], bit // 64] >> U(bit % 64)) & U(1):
            continue
        count, print_ = _members(mask, face[d], size[d], bit, face[d + 1])
        known = count < n - d - 1
        for k in range(seen_count[d]):
            known |= seen[d, k] == print_
        if known:
            continue
        seen[d, seen_count[d]] = print_
        seen_count[d] += 1
        if n - d - 1 > 1:
            d += 1
            size[d], at[d], seen_count[d], own[d] = count, 0, 0, face[d, 0]
            for i in range(n):
                apexes[d, i] = points[own[d], i]
            continue
        a, b = _ends(points, face[d + 1], count)
        for i in range(n):
            for r in range(1, n - 1):
                corners[r - 1, i] = apexes[r, i] - apexes[0, i]
            corners[n - 2, i] = points[a, i] - apexes[0, i]
            corners[n - 1, i] = points[b, i] - apexes[0, i]
        total += _determinant(corners, n)
    return total


@part
def _gather(theta, idx, mask, first, last):
    points = np.empty((last - first, theta.shape[1]))
    for t in range(first, last):
        for i in range(theta.shape[1]):
            points[t - first, i] = theta[idx[t], i]
    return points, mask[first:last]


@kernel
def _cone_volumes(theta, ptr, idx, mask, chosen, apexes, only, apex_vertex):
    out = np.empty(len(chosen))
    scale = 1.0
    for i in range(2, theta.shape[1] + 1):
        scale *= i
    for k in range(len(chosen)):
        points, labels = _gather(theta, idx, mask, ptr[chosen[k]], ptr[chosen[k] + 1])
        out[k] = _cones(points, labels, apexes[k], only[k], apex_vertex) / scale
    return out


@kernel
def _facets(names, ptr, idx, mask, n):
    bits = 64 * mask.shape[1]
    room = 0
    for p in range(len(ptr) - 1):
        for w in range(mask.shape[1]):
            used = U(0)
            for t in range(ptr[p], ptr[p + 1]):
                used |= mask[t, w]
            room += popcount(used)
    cell, bit, key = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.uint64)
    out = 0
    labels, keys, sizes = np.empty(bits, np.int64), np.empty(bits, np.uint64), np.empty(bits, np.int64)
    for p in range(len(ptr) - 1):
        first, last, count = ptr[p], ptr[p + 1], 0
        for w in range(mask.shape[1]):
            left = U(0)
            for t in range(first, last):
                left |= mask[t, w]
            while left:
                lowest = left & (~left + U(1))
                left ^= lowest
                size, total = 0, U(0)
                for t in range(first, last):
                    if mask[t, w] & lowest:
                        size += 1
                        total += mix(names[idx[t]])
                if size >= n:
                    labels[count], keys[count], sizes[count] = 64 * w + popcount(lowest - U(1)), total, size
                    count += 1
        for a in range(count):
            maximal = True
            for b in range(count):
                if a == b or sizes[b] < sizes[a] or (sizes[a] == sizes[b] and (keys[a] != keys[b] or b > a)):
                    continue
                if _within(mask, first, last, labels[a], labels[b]):
                    maximal = False
                    break
            if maximal:
                cell[out], bit[out], key[out] = p, labels[a], keys[a]
                out += 1
    return cell[:out], bit[:out], key[:out]
