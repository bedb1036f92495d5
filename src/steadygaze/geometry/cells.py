"""Cells: convex polytopes held as arrays of vertices and facet labels.

A cell is a list of vertices; each of its incidences (cell, vertex) carries a bit set that tells on which
facets of that cell the vertex lies. Vertices are shared between cells and carry a 64-bit name that
depends on how they came about and not on who made them (see `bits.vertex_name`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from steadygaze.geometry.bits import kernel, mix
from steadygaze.geometry.polytope import Polytope

WORD = 64


@dataclass(frozen=True)
class Cells:
    """A batch of convex polytopes in R^n as a structure of arrays.

    Attributes:
        theta: ``(vertices, n)`` float64, coordinates.
        names: ``(vertices,)`` uint64, canonical names.
        ptr: ``(cells + 1,)`` int64; the incidences of cell p are ``ptr[p]:ptr[p + 1]``.
        idx: ``(incidences,)`` int64, vertex numbers.
        mask: ``(incidences, words)`` uint64, the facets of the cell that the vertex lies on.
    """

    theta: np.ndarray
    names: np.ndarray
    ptr: np.ndarray
    idx: np.ndarray
    mask: np.ndarray

    @property
    def count(self) -> int:
        """Number of cells."""
        return len(self.ptr) - 1

    @property
    def dimension(self) -> int:
        """The n of R^n."""
        return self.theta.shape[1]

    @property
    def compact(self) -> bool:
        """Whether every vertex is one of some cell."""
        return bool(np.bincount(self.idx, minlength=len(self.theta)).all())

    def widened(self) -> Cells:
        """The same cells with room for twice as many facets each."""
        return replace(self, mask=np.concatenate([self.mask, np.zeros_like(self.mask)], axis=1))

    def take(self, chosen: np.ndarray) -> tuple[Cells, np.ndarray]:
        """The chosen cells (numbers, in that order) and the old numbers of the vertices that they keep."""
        ptr, idx, mask, kept = _take(
            self.ptr, self.idx, self.mask, np.asarray(chosen, np.int64), len(self.theta)
        )
        return Cells(self.theta[kept], self.names[kept], ptr, idx, mask), kept


def from_polytopes(polytopes: tuple[Polytope, ...]) -> Cells:
    """Cells of polytopes that meet face to face; equal coordinates become one vertex."""
    words = max(-(-p.facets.shape[1] // WORD) for p in polytopes)
    points = np.concatenate([p.vertices for p in polytopes]) + 0.0  # + 0.0 turns -0.0 into 0.0
    order = np.lexsort(points.T[::-1])
    points, new = points[order], np.ones(len(points), bool)
    new[1:] = (points[1:] != points[:-1]).any(axis=1)
    theta, idx = points[new], np.empty(len(points), np.int64)
    idx[order] = np.cumsum(new) - 1
    masks = np.concatenate([_pack(p.facets, words) for p in polytopes])
    ptr = np.zeros(len(polytopes) + 1, np.int64)
    np.cumsum([len(p.vertices) for p in polytopes], out=ptr[1:])
    return Cells(theta, names_of_points(theta), ptr, idx, masks)


def names_of_points(theta: np.ndarray) -> np.ndarray:
    """Names of vertices that are given by their coordinates (the corners of the box and of its pieces)."""
    return _names_of_points(np.ascontiguousarray(theta).view(np.uint64))


def concatenate(batches: list[Cells]) -> Cells:
    """All cells of the batches, in order. Vertices are not merged; equal ones keep equal names."""
    words = max(b.mask.shape[1] for b in batches)
    masks = [np.pad(b.mask, ((0, 0), (0, words - b.mask.shape[1]))) for b in batches]
    first = np.cumsum([0] + [len(b.theta) for b in batches])
    start = np.cumsum([0] + [len(b.idx) for b in batches])
    ptr = [b.ptr[1:] + s for b, s in zip(batches, start[:-1], strict=True)]
    return Cells(
        theta=np.concatenate([b.theta for b in batches]),
        names=np.concatenate([b.names for b in batches]),
        ptr=np.concatenate([np.zeros(1, np.int64), *ptr]),
        idx=np.concatenate([b.idx + f for b, f in zip(batches, first[:-1], strict=True)]),
        mask=np.concatenate(masks),
    )


def separated(cells: Cells) -> Cells:
    """The same cells sharing no vertices, for hinges that are functions of one cell only.

    Vertex k belongs to incidence k, and names differ from cell to cell.
    """
    owner = np.repeat(np.arange(cells.count), np.diff(cells.ptr))
    names = _separate_names(cells.names[cells.idx], owner)
    return Cells(cells.theta[cells.idx], names, cells.ptr, np.arange(len(cells.idx)), cells.mask)


def faces(cells: Cells, cell: np.ndarray, bit: np.ndarray) -> Cells:
    """The given facets as flat polytopes of their own, in the order given (see `measure.Facets`)."""
    sizes = np.diff(cells.ptr)[cell]
    owner = np.repeat(np.arange(len(cell)), sizes)
    at = cells.ptr[cell][owner] + np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    on = (cells.mask[at, bit[owner] // WORD] >> (bit[owner] % WORD).astype(np.uint64)) & np.uint64(1) > 0
    ptr = np.concatenate([[0], np.cumsum(np.bincount(owner[on], minlength=len(cell)))])
    return Cells(cells.theta, cells.names, ptr, cells.idx[at[on]], cells.mask[at[on]])


def _pack(facets: np.ndarray, words: int) -> np.ndarray:
    mask = np.zeros((len(facets), words), np.uint64)
    for f in range(facets.shape[1]):
        mask[facets[:, f], f // WORD] |= np.uint64(1) << np.uint64(f % WORD)
    return mask


@kernel
def _names_of_points(raw):
    names = np.empty(len(raw), np.uint64)
    for v in range(len(raw)):
        name = np.uint64(0x51ED270B0A1F39C1)
        for i in range(raw.shape[1]):
            name = mix(name ^ mix(raw[v, i] + np.uint64(i + 1)))
        names[v] = name
    return names


@kernel
def _separate_names(names, owner):
    out = np.empty(len(names), np.uint64)
    for k in range(len(names)):
        out[k] = mix(names[k] ^ mix(np.uint64(owner[k] + 1)))
    return out


@kernel
def _take(ptr, idx, mask, chosen, vertices):
    total = 0
    for c in chosen:
        total += ptr[c + 1] - ptr[c]
    new_ptr = np.zeros(len(chosen) + 1, np.int64)
    new_idx = np.empty(total, np.int64)
    new_mask = np.empty((total, mask.shape[1]), np.uint64)
    number = np.empty(vertices, np.int64)
    for v in range(vertices):  # a loop: np.full takes the compiler a quarter of a second
        number[v] = -1
    kept = np.empty(min(vertices, total), np.int64)
    used = 0
    at = 0
    for k in range(len(chosen)):
        for t in range(ptr[chosen[k]], ptr[chosen[k] + 1]):
            v = idx[t]
            if number[v] < 0:
                number[v] = used
                kept[used] = v
                used += 1
            new_idx[at] = number[v]
            for w in range(mask.shape[1]):
                new_mask[at, w] = mask[t, w]
            at += 1
        new_ptr[k + 1] = at
    return new_ptr, new_idx, new_mask, kept[:used]
