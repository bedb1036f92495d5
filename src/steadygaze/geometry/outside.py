"""Points that lie outside a cell, told by a separating plane: where they do, no cones need to be summed."""

from __future__ import annotations

import numpy as np

from steadygaze.geometry.cells import Cells

# Steps towards the nearest point of a cell. Most planes are found at the first; a point that none has been
# found for by then lies in the cell, or so close to it that only the cones tell.
_STEPS = 20
# A point counts as outside only if it is farther from the cell than this share of the cell's own extent.
_CLEAR = 1e-6
# And than this share of the widths, of which rounding leaves some 1e-16.
_ROUNDING = 1e-12


def clearly_outside(cells: Cells, chosen: np.ndarray, points: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Whether each point ``(k, n)`` was found to lie outside its chosen cell ``(k,)``.

    True is certain: a plane has the point on one side and all vertices on the other. False says nothing.
    Planes are those that Gilbert's iteration for the nearest point of a convex hull comes upon (SIAM J.
    Control 4, 1966). Lengths are measured in `widths` ``(n,)``.
    """
    out = np.zeros(len(chosen), bool)
    left = np.arange(len(chosen))
    sizes = np.diff(cells.ptr)[chosen]
    starts = np.cumsum(sizes) - sizes
    at = np.arange(sizes.sum()) + np.repeat(cells.ptr[:-1][chosen] - starts, sizes)
    away = (cells.theta[cells.idx[at]] - np.repeat(points, sizes, axis=0)) / widths
    # No plane is found for a point that is a vertex of its cell: it would only use up all steps.
    vertex = np.logical_or.reduceat((away == 0).all(axis=1), starts) if len(left) else out
    left, away, sizes = left[~vertex], away[np.repeat(~vertex, sizes)], sizes[~vertex]
    starts = np.cumsum(sizes) - sizes
    nearest = np.add.reduceat(away, starts) / sizes[:, None] if len(left) else np.zeros((0, len(widths)))
    for _ in range(_STEPS):
        if not len(left):
            break
        height = np.einsum("in,in->i", away, np.repeat(nearest, sizes, axis=0))
        low, high = np.minimum.reduceat(height, starts), np.maximum.reduceat(height, starts)
        beyond = low > _CLEAR * (high - low) + _ROUNDING * np.linalg.norm(nearest, axis=1)
        out[left[beyond]] = True
        lowest = np.flatnonzero(height == np.repeat(low, sizes))
        lowest = lowest[np.searchsorted(lowest, starts)]
        nearest = _nearest_on_edge(nearest, away[lowest])[~beyond]
        away = away[np.repeat(~beyond, sizes)]
        left, sizes = left[~beyond], sizes[~beyond]
        starts = np.cumsum(sizes) - sizes
    return out


def _nearest_on_edge(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The point nearest to 0 on the edge between two points, row by row."""
    along = second - first
    square = np.einsum("kn,kn->k", along, along)
    share = -np.einsum("kn,kn->k", first, along) / np.where(square > 0, square, 1.0)
    return first + np.clip(share, 0.0, 1.0)[:, None] * along
