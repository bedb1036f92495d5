"""The stores that the cutting kernels write into, and the steps that they share.

The stores have a fixed size while a kernel runs. One that runs full stops the kernel at the cell in hand; it
is enlarged out here, and the kernel goes on from that cell. Growing inside the kernels would take them twice
as long to compile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from steadygaze.deadline import Deadline
from steadygaze.geometry.bits import U, fill_table, find_slot, kernel, mix, part, popcount, vertex_name
from steadygaze.geometry.cells import Cells

# So many cells are cut in one call of a kernel, between which the time is asked, or as many as have so many
# vertices: of one or two parameters they have few, and a call takes as long as cutting some dozens.
_AT_ONCE, _VERTICES_AT_ONCE = 128, 2048

WHOLE = -1
UNFINISHED = -2

FIRST, ONE = np.int64(0), np.int64(1)  # a plain 0 or 1 would have its callee compiled for that very number

# Why a kernel came back: all cells are cut, a store is full, or a cell has more facets than its labels have
# bits.
DONE, FULL_VERTICES, FULL_PARTS, FULL_WORK, FULL_LABELS = range(5)


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
    """Cells: those given, and the parts of them that are finished (as in `Cells`)."""

    ptr: np.ndarray
    idx: np.ndarray
    mask: np.ndarray
    parent: np.ndarray
    stop: np.ndarray


class Work(NamedTuple):
    """Incidences of cells in work: a pile of open ones, the two sides of a split, a cell kept aside."""

    pile: np.ndarray
    pile_mask: np.ndarray
    up: np.ndarray
    up_mask: np.ndarray
    down: np.ndarray
    down_mask: np.ndarray
    kept: np.ndarray
    kept_mask: np.ndarray


class Hinge(NamedTuple):
    """The function rows[:, plus] - rows[:, minus] (minus < 0: rows[:, plus]), its name and its tolerance."""

    plus: int
    minus: int
    name: np.uint64
    tol: float


class Window(NamedTuple):
    """The columns of a window whose cell is kept aside, and that cell's size (one more row: its labels)."""

    size: int | np.int64
    first: int | np.int64
    last: int | np.int64


Kernel = Callable[[Vertices, Parts, Work, Parts, int, int, int], tuple[int, int, int, int]]
"""(vertices, parts, work, given, next cell, vertices used, parts made) -> (next cell, used, made, why)."""


def cut_with(cells: Cells, values: np.ndarray, kernel: Kernel, deadline: Deadline) -> Cut:
    """Run a cutting kernel on the cells, with larger stores whenever one runs full.

    Raises Expired where the deadline passes on the way.
    """
    old = len(cells.theta)
    vertices = _vertices(np.concatenate([values, cells.theta], axis=1), cells.names, 2 * old + 256)
    given, parts = (
        _given(cells),
        _parts(2 * cells.count + 256, 2 * len(cells.idx) + 1024, cells.mask.shape[1]),
    )
    work = _work(256, cells.mask.shape[1])
    cell, used, made, count = 0, old, 0, cells.count
    step = max(_AT_ONCE, _VERTICES_AT_ONCE * count // max(1, len(cells.idx)))
    while True:
        deadline.ask()
        some = given._replace(ptr=given.ptr[: cell + step + 1]) if count > cell + step else given
        cell, used, made, why = kernel(vertices, parts, work, some, cell, used, made)
        if why == DONE and cell == count:
            break
        if why == DONE:
            continue
        if why == FULL_LABELS:
            return cut_with(cells.widened(), values, kernel, deadline)
        room = len(vertices.names)
        vertices = _refilled(vertices, used, 2 * room if why == FULL_VERTICES else room)
        if why == FULL_PARTS:
            parts = Parts(*(_longer(array, 2 * len(array)) for array in parts))
        if why == FULL_WORK:
            work = _work(2 * len(work.pile), cells.mask.shape[1])
    return _result(vertices, parts, used, made, old, values.shape[1])


def _result(vertices: Vertices, parts: Parts, used: int, made: int, old: int, width: int) -> Cut:
    end, born = parts.ptr[made], slice(old, used)
    cells = Cells(
        theta=np.ascontiguousarray(vertices.rows[:used, width:]),
        names=vertices.names[:used].copy(),
        ptr=parts.ptr[: made + 1].copy(),
        idx=parts.idx[:end].copy(),
        mask=parts.mask[:end].copy(),
    )
    history = (vertices.above[born].copy(), vertices.below[born].copy(), vertices.weight[born].copy())
    return Cut(cells, parts.parent[:made].copy(), parts.stop[:made].copy(), *history)


def _vertices(rows: np.ndarray, names: np.ndarray, size: int) -> Vertices:
    names = _longer(names, size)
    table = fill_table(names, len(rows), size)
    return Vertices(
        _longer(rows, size), names, table, np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size)
    )


def _refilled(vertices: Vertices, used: int, size: int) -> Vertices:
    """The first `used` vertices in stores of that size; the cell in hand is begun again without others."""
    names = _longer(vertices.names[:used], size)
    history = (_longer(array[:used], size) for array in (vertices.above, vertices.below, vertices.weight))
    return Vertices(_longer(vertices.rows[:used], size), names, fill_table(names, used, size), *history)


def _given(cells: Cells) -> Parts:
    nothing = np.zeros(0, np.int64)
    return Parts(cells.ptr, cells.idx, cells.mask, nothing, nothing)


def _parts(cells: int, incidences: int, words: int) -> Parts:
    return Parts(
        np.zeros(cells + 1, np.int64),
        np.empty(incidences, np.int64),
        np.empty((incidences, words), np.uint64),
        np.empty(cells, np.int64),
        np.empty(cells, np.int64),
    )


def _work(size: int, words: int) -> Work:
    idx, mask = np.empty((4, size), np.int64), np.empty((4, size, words), np.uint64)
    return Work(idx[0], mask[0], idx[1], mask[1], idx[2], mask[2], idx[3], mask[3])


def _longer(array: np.ndarray, size: int) -> np.ndarray:
    longer = np.empty((size, *array.shape[1:]), array.dtype)
    longer[: len(array)] = array
    return longer


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
def copied(idx, mask, start, size, to_idx, to_mask, to):
    """Copy `size` incidences (by a loop: a slice assignment takes the compiler a second)."""
    for t in range(size):
        to_idx[to + t] = idx[start + t]
        for w in range(mask.shape[1]):
            to_mask[to + t, w] = mask[start + t, w]


@part
def emit(parts, made, idx, mask, start, size, parent, stop):
    """Add one finished part; returns whether there was room."""
    at = parts.ptr[made]
    if made >= len(parts.parent) or at + size > len(parts.idx):
        return False
    copied(idx, mask, start, size, parts.idx, parts.mask, at)
    parts.ptr[made + 1] = at + size
    parts.parent[made] = parent
    parts.stop[made] = stop
    return True


@part
def free_bit(mask, start, size, n, reserved):
    """A facet bit that the cell does not need and that is not reserved, or -1.

    If all are taken, a label of fewer than n vertices, which marks no facet, is given up.
    """
    words = mask.shape[1]
    for w in range(words):
        used = reserved[w]
        for t in range(start, start + size):
            used |= mask[t, w]
        if used != U(0xFFFFFFFFFFFFFFFF):
            for bit in range(64):
                if not (used >> U(bit)) & U(1):
                    return w * 64 + bit
    for w in range(words):
        for bit in range(64):
            count = 0
            for t in range(start, start + size):
                count += np.int64((mask[t, w] >> U(bit)) & U(1))
            if count < n and not (reserved[w] >> U(bit)) & U(1):
                for t in range(start, start + size):
                    mask[t, w] &= ~(U(1) << U(bit))
                return w * 64 + bit
    return -1


@part
def is_edge(mask, start, size, a, b, n):
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
    for c in range(start, start + size):
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
def sides(rows, idx, start, size, hinge):
    """How many vertices of the cell are above and below the hinge."""
    ups, downs = 0, 0
    for t in range(start, start + size):
        z = height(rows, idx[t], hinge)
        if z > hinge.tol:
            ups += 1
        elif z < -hinge.tol:
            downs += 1
    return ups, downs


@part
def _name_in_window(vertices, work, v, common, hinge, window):
    """Name of a vertex by the face of the window's cell on which it lies and the inputs that tie there.

    A face on which d + 1 inputs tie in one point is that point, whoever computes it.
    """
    face, ties = U(0), U(0)
    for t in range(window.size):
        inside = True
        for w in range(len(common)):
            own = common[w] & work.kept_mask[window.size, w]
            if work.kept_mask[t, w] & own != own:
                inside = False
        if inside:
            face += mix(vertices.names[work.kept[t]])
    top = vertices.rows[v, hinge.plus]
    for k in range(window.first, window.last):
        if abs(vertices.rows[v, k] - top) <= hinge.tol:
            ties += mix(U(k - window.first + 1))
    return mix(mix(face) ^ mix(ties ^ hinge.name))


@part
def _new_vertex(vertices, work, used, high, low, common, hinge, window):
    """Number of the vertex where the hinge meets the edge from `high` to `low`; made if it is not known."""
    rows, names = vertices.rows, vertices.names
    top = height(rows, high, hinge)
    weight = top / (top - height(rows, low, hinge))
    name = vertex_name(names[high], names[low], hinge.name)
    slot = find_slot(vertices.table, names, name)
    if hinge.minus < 0 and vertices.table[slot] >= 0:
        return vertices.table[slot]
    for r in range(rows.shape[1]):
        rows[used, r] = rows[high, r] + weight * (rows[low, r] - rows[high, r])
    if hinge.minus < 0:
        rows[used, hinge.plus] = 0.0
    else:
        name = _name_in_window(vertices, work, used, common, hinge, window)
        slot = find_slot(vertices.table, names, name)
        if vertices.table[slot] >= 0:
            return vertices.table[slot]
    vertices.table[slot] = used
    names[used] = name
    vertices.above[used], vertices.below[used], vertices.weight[used] = high, low, weight
    return used


@part
def split(vertices, work, used, hinge, start, size, bit, n, window):
    """Split the cell at `start` of the pile into `work.up` and `work.down`.

    Returns (vertices used, size up, size down).
    """
    rows, pile, mask = vertices.rows, work.pile, work.pile_mask
    word, flag, words = bit // 64, U(1) << U(bit % 64), mask.shape[1]
    ups, downs = FIRST, FIRST
    common = np.empty(words, np.uint64)
    for t in range(start, start + size):
        z = height(rows, pile[t], hinge)
        if z >= -hinge.tol:
            copied(pile, mask, t, ONE, work.up, work.up_mask, ups)
            if z <= hinge.tol:
                work.up_mask[ups, word] |= flag
            ups += 1
        if z <= hinge.tol:
            copied(pile, mask, t, ONE, work.down, work.down_mask, downs)
            if z >= -hinge.tol:
                work.down_mask[downs, word] |= flag
            downs += 1
    for a in range(start, start + size):
        if height(rows, pile[a], hinge) <= hinge.tol:
            continue
        for b in range(start, start + size):
            if height(rows, pile[b], hinge) >= -hinge.tol or not is_edge(mask, start, size, a, b, n):
                continue
            for w in range(words):
                common[w] = mask[a, w] & mask[b, w]
            v = _new_vertex(vertices, work, used, pile[a], pile[b], common, hinge, window)
            used = max(used, v + 1)
            work.up[ups], work.down[downs] = v, v
            for w in range(words):
                work.up_mask[ups, w] = common[w]
                work.down_mask[downs, w] = common[w]
            work.up_mask[ups, word] |= flag
            work.down_mask[downs, word] |= flag
            ups += 1
            downs += 1
    return used, ups, downs


@part
def lacking(vertices, work, used, start, size, crossings):
    """Which store has no room for a split with that many new vertices; DONE if all have."""
    if used + crossings + 1 > len(vertices.names):
        return FULL_VERTICES
    if start + 2 * (size + crossings) > len(work.pile):
        return FULL_WORK
    return DONE
