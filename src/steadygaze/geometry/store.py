"""Growing stores that the cutting kernels write into, and the one step that they share: splitting a cell.

Slices are copied by loops: slice assignment pulls in error texts that take the compiler a second each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from steadygaze.geometry.bits import U, fill_table, find_slot, kernel, mix, part, popcount, vertex_name
from steadygaze.geometry.cells import Cells

FIRST, ONE = np.int64(0), np.int64(1)  # a plain 0 or 1 would have its callee compiled for that very number

WHOLE = -1
UNFINISHED = -2


@dataclass(frozen=True)
class Cut:
    """What cutting gives.

    Attributes:
        cells: the parts; old vertices keep their numbers, new ones follow.
        parent: ``(parts,)`` number of the cell that each part was cut from.
        stop: ``(parts,)`` ``WHOLE`` for an ordinary part, ``UNFINISHED`` for one that still has to be cut
            (the room ran out), else the column below which the part lies (only where parts below are final).
        above, below, weight: ``(new vertices,)``: vertex = above + weight (below - above), in order of
            creation, so that any further values at the vertices can be interpolated (`interpolate`).
    """

    cells: Cells
    parent: np.ndarray
    stop: np.ndarray
    above: np.ndarray
    below: np.ndarray
    weight: np.ndarray


class Vertices(NamedTuple):
    """All vertices: values beside coordinates, names, a table that finds names, and how they came about."""

    rows: np.ndarray
    names: np.ndarray
    table: np.ndarray
    above: np.ndarray
    below: np.ndarray
    weight: np.ndarray


class Parts(NamedTuple):
    """The parts that are finished, as in `Cells`."""

    ptr: np.ndarray
    idx: np.ndarray
    mask: np.ndarray
    parent: np.ndarray
    stop: np.ndarray


class Cell(NamedTuple):
    """Room for the incidences of one cell, or of a pile of them."""

    idx: np.ndarray
    mask: np.ndarray


class Hinge(NamedTuple):
    """The function rows[:, plus] - rows[:, minus] (minus < 0: rows[:, plus]), its name and its tolerance."""

    plus: int
    minus: int
    name: np.uint64
    tol: float


class Window(NamedTuple):
    """The cell as it was before a window began to cut it, its size, and the window's columns."""

    cell: Cell
    size: int
    first: int
    last: int


def cut_with(cells: Cells, values: np.ndarray, kernel: Callable[..., tuple]) -> Cut:
    """Run a cutting kernel on the cells, with wider facet sets if they turn out too narrow."""
    rows = np.concatenate([values, cells.theta], axis=1)
    while True:
        vertices, used, parts, count, fits = kernel(rows, cells.names, cells.ptr, cells.idx, cells.mask)
        if fits:
            break
        cells = cells.widened()
    born = slice(len(rows), used)
    end = parts.ptr[count]
    made = Cells(
        theta=np.ascontiguousarray(vertices.rows[:used, values.shape[1] :]),
        names=vertices.names[:used].copy(),
        ptr=parts.ptr[: count + 1].copy(),
        idx=parts.idx[:end].copy(),
        mask=parts.mask[:end].copy(),
    )
    return Cut(
        cells=made,
        parent=parts.parent[:count].copy(),
        stop=parts.stop[:count].copy(),
        above=vertices.above[born].copy(),
        below=vertices.below[born].copy(),
        weight=vertices.weight[born].copy(),
    )


@kernel
def interpolate(values, above, below, weight):
    """Values ``(old + new, k)`` at all vertices from those ``(old, k)`` at the vertices before a cut."""
    old, width = values.shape
    out = np.empty((old + len(above), width))
    for v in range(old):
        for j in range(width):
            out[v, j] = values[v, j]
    for v in range(len(above)):
        a, b, w = above[v], below[v], weight[v]
        for j in range(width):
            out[old + v, j] = out[a, j] + w * (out[b, j] - out[a, j])
    return out


@part
def longer(array, size):
    """A copy with room for `size` entries."""
    bigger = np.empty(size, array.dtype)
    for i in range(len(array)):
        bigger[i] = array[i]
    return bigger


@part
def taller(array, size):
    """A copy with room for `size` rows."""
    bigger = np.empty((size, array.shape[1]), array.dtype)
    for i in range(array.shape[0]):
        for j in range(array.shape[1]):
            bigger[i, j] = array[i, j]
    return bigger


@part
def new_vertices(rows, names):
    """A store that holds the given vertices and has room for as many again."""
    size = 2 * len(rows) + 256
    named = longer(names, size)
    return Vertices(
        taller(rows, size), named, fill_table(named, len(rows), size),
        np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size),
    )  # fmt: skip


@part
def with_room(vertices, used, extra):
    """The vertices, with room for `extra` more."""
    if used + extra <= len(vertices.names):
        return vertices
    size = 2 * (used + extra)
    names = longer(vertices.names, size)
    return Vertices(
        taller(vertices.rows, size), names, fill_table(names, used, size),
        longer(vertices.above, size), longer(vertices.below, size), longer(vertices.weight, size),
    )  # fmt: skip


@part
def new_cell(size, words):
    """Empty room for `size` incidences."""
    return Cell(np.empty(size, np.int64), np.empty((size, words), np.uint64))


@part
def roomy(cell, size):
    """A cell with room for `size` vertices (what it holds may be lost)."""
    if size <= len(cell.idx):
        return cell
    return new_cell(2 * size, cell.mask.shape[1])


@part
def lengthened(cell, size):
    """A cell with room for `size` vertices that keeps what it holds."""
    if size <= len(cell.idx):
        return cell
    return Cell(longer(cell.idx, 2 * size), taller(cell.mask, 2 * size))


@part
def copy_cell(source, start, size, target, to):
    """Copy `size` incidences from one store to another."""
    for t in range(size):
        target.idx[to + t] = source.idx[start + t]
        for w in range(source.mask.shape[1]):
            target.mask[to + t, w] = source.mask[start + t, w]


@part
def new_parts(cells, incidences, words):
    """An empty store of parts with room for about this much."""
    return Parts(
        np.zeros(cells + 1, np.int64),
        np.empty(incidences, np.int64), np.empty((incidences, words), np.uint64),
        np.empty(cells + 1, np.int64), np.empty(cells + 1, np.int64),
    )  # fmt: skip


@part
def emit(parts, count, cell, size, parent, stop):
    """Add one finished part."""
    start = parts.ptr[count]
    if count + 1 >= len(parts.ptr):
        room = 2 * len(parts.ptr)
        parts = Parts(
            longer(parts.ptr, room),
            parts.idx,
            parts.mask,
            longer(parts.parent, room),
            longer(parts.stop, room),
        )
    if start + size > len(parts.idx):
        room = 2 * (start + size)
        parts = Parts(parts.ptr, longer(parts.idx, room), taller(parts.mask, room), parts.parent, parts.stop)
    copy_cell(cell, FIRST, size, Cell(parts.idx, parts.mask), start)
    parts.ptr[count + 1] = start + size
    parts.parent[count] = parent
    parts.stop[count] = stop
    return parts


@part
def free_bit(mask, size, n, reserved):
    """A facet bit that the cell does not need and that is not reserved, or -1.

    If all are taken, a label of fewer than n vertices, which marks no facet, is given up.
    """
    words = mask.shape[1]
    for w in range(words):
        used = reserved[w]
        for t in range(size):
            used |= mask[t, w]
        if used != U(0xFFFFFFFFFFFFFFFF):
            for bit in range(64):
                if not (used >> U(bit)) & U(1):
                    return w * 64 + bit
    for w in range(words):
        for bit in range(64):
            count = 0
            for t in range(size):
                count += np.int64((mask[t, w] >> U(bit)) & U(1))
            if count < n and not (reserved[w] >> U(bit)) & U(1):
                for t in range(size):
                    mask[t, w] &= ~(U(1) << U(bit))
                return w * 64 + bit
    return -1


@part
def is_edge(mask, size, a, b, n):
    """Whether vertices a and b of a cell are joined by an edge."""
    words = mask.shape[1]
    shared = 0
    labels = 0
    for w in range(words):
        shared += popcount(mask[a, w] & mask[b, w])
        labels += popcount(mask[a, w])
    if shared < n - 1:
        return False
    if labels == n or size == n + 1:  # a simple vertex: its n - 1 shared facets meet in one edge
        return True
    for c in range(size):
        if c in (a, b):
            continue
        inside = True
        for w in range(words):
            common = mask[a, w] & mask[b, w]
            if mask[c, w] & common != common:
                inside = False
                break
        if inside:
            return False
    return True


@part
def height(rows, v, hinge):
    """Value of the hinge at a vertex."""
    if hinge.minus < 0:
        return rows[v, hinge.plus]
    return rows[v, hinge.plus] - rows[v, hinge.minus]


@part
def sides(rows, cell, size, hinge):
    """How many vertices of the cell are above and below the hinge."""
    ups, downs = 0, 0
    for t in range(size):
        z = height(rows, cell.idx[t], hinge)
        if z > hinge.tol:
            ups += 1
        elif z < -hinge.tol:
            downs += 1
    return ups, downs


@part
def _name_in_window(vertices, v, cell, a, b, hinge, window):
    """Name of a vertex by the face of the window's cell on which it lies and the inputs that tie there.

    A face on which d + 1 inputs tie in one point is that point, whoever computes it.
    """
    face, ties = U(0), U(0)
    for t in range(window.size):
        inside = True
        for w in range(cell.mask.shape[1]):
            common = cell.mask[a, w] & cell.mask[b, w] & window.cell.mask[window.size, w]
            if window.cell.mask[t, w] & common != common:
                inside = False
        if inside:
            face += mix(vertices.names[window.cell.idx[t]])
    top = vertices.rows[v, hinge.plus]
    for k in range(window.first, window.last):
        if abs(vertices.rows[v, k] - top) <= hinge.tol:
            ties += mix(U(k - window.first + 1))
    return mix(mix(face) ^ mix(ties ^ hinge.name))


@part
def _new_vertex(vertices, used, cell, a, b, hinge, window):
    """Number of the vertex where the hinge meets the edge from a (above) to b (below), made if not known."""
    rows, names = vertices.rows, vertices.names
    name, slot = hinge.name, FIRST  # found below: from the edge, before the values, or from the face, after
    high, low = cell.idx[a], cell.idx[b]
    top = height(rows, high, hinge)
    weight = top / (top - height(rows, low, hinge))
    if hinge.minus < 0:
        name = vertex_name(names[high], names[low], hinge.name)
        slot = find_slot(vertices.table, names, name)
        if vertices.table[slot] >= 0:
            return vertices.table[slot]
    for r in range(rows.shape[1]):
        rows[used, r] = rows[high, r] + weight * (rows[low, r] - rows[high, r])
    if hinge.minus < 0:
        rows[used, hinge.plus] = 0.0
    else:
        name = _name_in_window(vertices, used, cell, a, b, hinge, window)
        slot = find_slot(vertices.table, names, name)
        if vertices.table[slot] >= 0:
            return vertices.table[slot]
    vertices.table[slot] = used
    names[used] = name
    vertices.above[used], vertices.below[used], vertices.weight[used] = high, low, weight
    return used


@part
def split(vertices, used, hinge, cell, size, bit, up, down, n, window):
    """Split one cell by a hinge into the parts up and down; returns (vertices used, size up, size down)."""
    rows = vertices.rows
    word, flag = bit // 64, U(1) << U(bit % 64)
    ups, downs = FIRST, FIRST
    for t in range(size):
        z = height(rows, cell.idx[t], hinge)
        if z >= -hinge.tol:
            copy_cell(cell, t, ONE, up, ups)
            if z <= hinge.tol:
                up.mask[ups, word] |= flag
            ups += 1
        if z <= hinge.tol:
            copy_cell(cell, t, ONE, down, downs)
            if z >= -hinge.tol:
                down.mask[downs, word] |= flag
            downs += 1
    for a in range(size):
        if height(rows, cell.idx[a], hinge) <= hinge.tol:
            continue
        for b in range(size):
            if height(rows, cell.idx[b], hinge) >= -hinge.tol or not is_edge(cell.mask, size, a, b, n):
                continue
            v = _new_vertex(vertices, used, cell, a, b, hinge, window)
            used = max(used, v + 1)
            up.idx[ups] = v
            down.idx[downs] = v
            for w in range(cell.mask.shape[1]):
                common = cell.mask[a, w] & cell.mask[b, w]
                up.mask[ups, w] = common
                down.mask[downs, w] = common
            up.mask[ups, word] |= flag
            down.mask[downs, word] |= flag
            ups += 1
            downs += 1
    return used, ups, downs
