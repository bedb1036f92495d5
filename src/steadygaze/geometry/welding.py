"""Points that were computed in different ways and are one: numbered once."""

from __future__ import annotations

import numpy as np

from steadygaze.geometry.bits import U, kernel, mix, mixed, part
from steadygaze.geometry.cells import Cells

#: This share of the box is what rounding leaves of a corner where something else lies at the same place.
ROUNDING = 1e-12
# Width of the grid's cells, in radii: so wide that few points lie near the border of theirs.
_GRID = 64.0


class Weld:
    """Numbers points ``(n,)``; one that lies within `radius` of an earlier one gets its number.

    Args:
        widths: ``(n,)`` lengths that count as 1.
        radius: in that measure.
    """

    def __init__(self, widths: np.ndarray, radius: float) -> None:
        self._widths, self._radius = np.asarray(widths, float), radius
        self._points = np.empty((64, len(widths)))
        self._names = np.empty(64, np.uint64)
        self._table = np.full(256, -1, np.int64)
        self.count = 0

    @property
    def points(self) -> np.ndarray:
        """``(count, n)``."""
        return self._points[: self.count] * self._widths

    def numbers(self, points: np.ndarray) -> np.ndarray:
        """The number of each point ``(k, n)``; new ones are entered."""
        need = self.count + len(points)
        if need > len(self._points):
            size = max(need, 2 * len(self._points))
            self._points = np.resize(self._points, (size, self._points.shape[1]))
            self._names = np.resize(self._names, size)
        if 4 * need > len(self._table):
            self._table = np.full(8 * need, -1, np.int64)
            _refill(self._table, self._names, self.count)
        out, self.count = _weld(
            self._table, self._points, self._names, self.count, points / self._widths, self._radius
        )
        return out


def welded_names(cells: Cells, widths: np.ndarray, radius: float, apart: np.ndarray) -> np.ndarray:
    """Names ``(vertices,)`` uint64, the same for points that lie within `radius` of each other.

    But the sides of a thin cell must not become one: nobody would see any more that it lies between others.

    Args:
        cells: those whose vertices get names. widths, radius: as in `Weld`.
        apart: ``(cells,)`` those of which no two vertices get the same name.
    """
    ptr, idx = cells.take(np.flatnonzero(apart))[0].ptr, cells.idx[np.repeat(apart, np.diff(cells.ptr))]
    names = mixed(Weld(widths, radius).numbers(cells.theta).astype(np.uint64) + U(1))
    # Vertices of one cell that differ by less than rounding are told apart by their rows.
    for level in (1, 2):
        torn = np.flatnonzero(np.isin(names, names[_repeated(names, ptr, idx)]))
        if not len(torn):
            break
        rows = Weld(widths, ROUNDING).numbers(cells.theta[torn]) if level == 1 else torn
        names[torn] = mixed(np.asarray(rows).astype(np.uint64) + U(1) + (U(level) << U(60)))
    return names


@kernel
def _repeated(names, ptr, idx):
    """The vertices whose name an earlier vertex of the same cell has."""
    out, count = np.empty(len(idx), np.int64), 0
    for p in range(len(ptr) - 1):
        for t in range(ptr[p], ptr[p + 1]):
            for u in range(ptr[p], t):
                if names[idx[u]] == names[idx[t]]:
                    out[count] = idx[t]
                    count += 1
                    break
    return out[:count]


@part
def _near(point, grid, radius, aside):
    """For each axis where the next grid cell is within the radius, the way to it; returns their bits."""
    bits = 0
    for i in range(len(point)):
        place = point[i] / grid - np.floor(point[i] / grid)
        aside[i] = -1.0 if place < 0.5 else 1.0
        if min(place, 1.0 - place) * grid <= 1.01 * radius:
            bits |= 1 << i
    return bits


@part
def _cell_name(point, grid, aside, axes):
    """Name of the grid cell of a point, or of the one aside from it along the axes of these bits."""
    name = U(0x243F6A8885A308D3)
    for i in range(len(point)):
        at = np.floor(point[i] / grid) + (aside[i] if (axes >> i) & 1 else 0.0)
        name = mix(name ^ mix(U(np.int64(at)) + U(i + 1)))
    return name


@kernel
def _refill(table, names, count):
    for v in range(count):
        slot = np.int64(mix(names[v]) % U(len(table)))
        while table[slot] >= 0:
            slot = (slot + 1) % len(table)
        table[slot] = v


@kernel
def _weld(table, points, names, count, new, radius):
    n, grid = new.shape[1], _GRID * radius
    out, aside = np.full(len(new), -1, np.int64), np.empty(n)
    for k in range(len(new)):
        near = _near(new[k], grid, radius, aside)
        for axes in range(1 << n):
            if axes & ~near:
                continue
            name = _cell_name(new[k], grid, aside, axes)
            slot = np.int64(mix(name) % U(len(table)))
            while table[slot] >= 0 and out[k] < 0:
                v = table[slot]
                if names[v] == name:
                    far = 0.0
                    for i in range(n):
                        far = max(far, abs(points[v, i] - new[k, i]))
                    if far <= radius:
                        out[k] = v
                slot = (slot + 1) % len(table)
        if out[k] < 0:
            name = _cell_name(new[k], grid, aside, 0)
            slot = np.int64(mix(name) % U(len(table)))
            while table[slot] >= 0:
                slot = (slot + 1) % len(table)
            table[slot], names[count], out[k] = count, name, count
            for i in range(n):
                points[count, i] = new[k, i]
            count += 1
    return out, count
