"""That the cells cover a part of the box once, and which of them lie apart from a region.

The writer takes each cell apart into simplices, whose corners are vertices of that cell, so that they lie in
it. Where cells do not meet face to face it adds fillers, which are simplices of no cell. Nothing else of how
the cells lie is believed.
"""

from __future__ import annotations

import math

import numpy as np

from steadygaze_check.arithmetic import UNIT, UP
from steadygaze_check.faces import Faces
from steadygaze_check.folder import Certificate
from steadygaze_check.region import Region
from steadygaze_check.touching import touching


class Tiling:
    """How the simplices lie.

    Attributes:
        extra: upper bound of the volume of all fillers.
        high: ``(M,)`` upper bounds of the volumes of the cells' simplices, each by itself.
        heights: ``(A,)`` lower bounds of <u, θ> over a cell, for each cell that a direction u is given for.
    """

    def __init__(self, certificate: Certificate) -> None:
        c = self._c = certificate
        count, n, cell = len(c.cell_kind), c.dimension, c.simplex_cell
        self._owner = owner = np.where(cell < 0, count + np.arange(len(cell)), cell)
        faces = np.concatenate([np.delete(c.simplices, k, axis=1) for k in range(n + 1)])
        order = np.lexsort(faces.T)
        faces, owners = faces[order], np.tile(owner, n + 1)[order]
        apexes = c.simplices.T.ravel()[order]
        same = (faces[1:] == faces[:-1]).all(axis=1)
        self._pairs = np.stack([owners[:-1], owners[1:]], axis=1)[same]
        self._shared = c.vertices[faces[1:][same]]
        edges = np.diff(self._shared / c.width, axis=1)
        gram = edges @ edges.transpose(0, 2, 1)
        self._solid = np.linalg.det(gram) > 1e-10 * np.prod(np.diagonal(gram, axis1=1, axis2=2), axis=1)
        # Faces of cells that a filler alone has, too: what is behind the filler may lie on them.
        filled = np.flatnonzero(same)[(self._pairs < count).sum(axis=1) == 1]
        filled += owners[filled] >= count
        self._filled = c.vertices[faces[filled]], c.vertices[apexes[filled]], owners[filled]
        begin = np.flatnonzero(np.append(True, ~same))
        odd = begin[np.diff(np.append(begin, len(faces))) % 2 == 1]
        self._outer, self._facing = c.vertices[faces[odd]], owners[odd]
        corners = c.vertices[c.simplices]
        self._bounds, self._whole = (corners.min(axis=1), corners.max(axis=1)), determinants(corners)
        # So much more than 1 that it makes up for the rounding of sums over simplices, too.
        self._up = 1 + (len(cell) + 64) * UNIT
        most = (np.abs(self._whole[0]) + self._whole[1]) * (self._up / math.factorial(n))
        self.extra = float(most[cell < 0].sum())
        self.high = np.bincount(np.maximum(cell, 0), most * (cell >= 0), minlength=count)
        self.told = f"{len(faces) - len(odd)} of {len(faces)} faces of {len(cell)} simplices cancel"
        self.told += f", {int((cell < 0).sum())} of them fillers of {self.extra / c.volume:.1e} of the box"
        sizes = np.diff(c.cell_ptr)[c.apart_cell]
        begin = np.cumsum(sizes) - sizes
        spots = np.repeat(c.cell_ptr[c.apart_cell] - begin, sizes) + np.arange(sizes.sum())
        products = c.vertices[c.cell_vertex[spots]] * np.repeat(c.apart_normal, sizes, axis=0)
        least = products.sum(axis=1) - 2.0**-45 * np.abs(products).sum(axis=1)
        self.heights = np.minimum.reduceat(least, begin) if len(begin) else np.zeros(0)

    def surplus(self, region: Region, apart: np.ndarray | bool = False) -> float:
        """At most the volume that lies in several simplices; infinite if they may not cover a region.

        apart: which cells ``(M,)`` do not meet the region. See docs/checker.md for the proof.
        """
        low, high = region.box.T
        cells = np.zeros(len(self.high) + len(self._owner), bool)
        cells[: len(self.high)] = apart
        meets = ((self._outer.min(axis=1) < high) & (self._outer.max(axis=1) > low)).all(axis=1)
        draw, core = np.random.default_rng(3), 1.0 if region.axes is None else 0.99 / np.sqrt(len(low))
        if (low < high).all() and not (meets & ~cells[self._facing]).any():
            for _ in range(32):
                found, sure = self.holding(core * (low + draw.random(len(low)) * (high - low)))
                if sure.all() and len(found) % 2:
                    volume = (self.high.sum() + self.extra) * self._up
                    return float(np.maximum(volume - np.prod(high - low) * (1 - 2.0**-47), 0.0))
        return np.inf

    def holding(self, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The simplices that a point lies in or, for all that is known, may lie in; whether it surely does.

        With a corner moved to the point, the determinants of a simplex have one sign if it lies inside; if
        two have different ones, it does not, in a flat simplex either.
        """
        low, high = self._bounds
        near = np.flatnonzero(((low <= point) & (point <= high)).all(axis=1))
        parts = moved(self._c.vertices[self._c.simplices[near]], point)
        above, below = (sum(sign * part > slack for part, slack in parts) for sign in (1, -1))
        inside = np.maximum(above, below) == len(parts)
        maybe = np.asarray(above * below == 0)
        return near[maybe], inside[maybe]

    def part(self, cells: np.ndarray, surely: Faces | None = None) -> np.ndarray:
        """Which cells ``(M,)`` hang together by shared faces, within `cells` ``(M,)``, with those at 0.

        None if not all at 0 are among them. surely: by faces that are surely not flat, and not by fillers,
        but by faces that lie on one another at a point well inside both; and not by these, all over which
        nothing is robust.
        """
        count, member, pairs = len(cells), np.append(cells, np.ones(len(self._owner), bool)), self._pairs
        if surely is not None:
            sure = self._solid & (pairs < count).all(axis=1)
            pairs = pairs[sure][~surely.whole(self._shared[sure])]
            some = cells[self._filled[2]] & ~surely.whole(self._filled[0])
            (faces, apexes, owners), width = (each[some] for each in self._filled), self._c.width
            pairs = np.concatenate([pairs, touching(faces / width, apexes / width, owners)])
        pairs, at = pairs[member[pairs].all(axis=1)], self._owner[self.holding(0 * self._c.width)[0]]
        found = np.zeros(len(member), bool)
        found[at] = member[at].all()
        while (meets := found[pairs].any(axis=1) & ~found[pairs].all(axis=1)).any():
            found[pairs[meets]] = True
        return found[:count]

    def held(self, middle: np.ndarray, shrink: np.ndarray) -> np.ndarray:
        """Lower bounds ``(M,)`` of the volume that is left of each cell's simplices, once the cell is shrunk.

        middle: ``(M, n)`` the points about which cells are shrunk, by factors `shrink` ``(M,)``. Where the
        middle m has barycentric coordinates μ in a simplex T, the points of T with coordinates of at least
        (1 - t) max(μ, 0) lie in the shrunken cell: of T's volume (1 - (1 - t) Σ max(μ, 0))^n is left.
        """
        c, n, cell, (value, error) = self._c, self._c.dimension, self._c.simplex_cell, self._whole
        parts = moved(c.vertices[c.simplices], middle[cell])
        outside = sum(np.maximum(np.sign(value) * part + slack, 0.0) for part, slack in parts)
        # The middle, as it was computed, is some 1e-15 of the box off.
        lost = n * (1 - shrink[cell]) * (outside * self._up + 2.0**-40 * c.volume)
        left = np.where((cell >= 0) & (shrink[cell] > 0), np.abs(value) - error - lost, 0.0)
        held = np.maximum(left, 0.0) / (self._up * math.factorial(n))
        return np.bincount(np.maximum(cell, 0), held, minlength=len(c.cell_kind))


def determinants(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """det of the edges from the first of the corners ``(S, n + 1, n)``, and bounds of the errors, ``(S,)``.

    Elimination with pivots is exact for rows of length 1 that are off by n^1.5 2^(n - 1) γ_n each (Higham,
    Accuracy and Stability of Numerical Algorithms, 2002, theorem 9.3); by Hadamard, det by n times that.
    """
    edges = corners[:, 1:] - corners[:, :1]
    n, length = edges.shape[2], np.linalg.norm(edges, axis=2)
    most = length.prod(axis=1)
    value = np.linalg.det(edges / np.maximum(length, 1e-300)[:, :, None]) * most
    return value, (n**4 * 2**n + 16) * UNIT * UP * most + 1e-200


def moved(corners: np.ndarray, points: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The determinants of simplices with one of the corners, each in turn, moved to points ``(S, n)``."""
    made = []
    for k in range(corners.shape[1]):
        other = corners.copy()
        other[:, k] = points
        made.append(determinants(other))
    return made
