"""Faces of cells that are called robust, on which a class ties with another as far as bounds tell.

A class gap is affine on a cell and nowhere below 0: where it vanishes is the convex hull of the vertices at
which it does.
"""

from __future__ import annotations

import numpy as np

from steadygaze_check.tiling import Region

# A face that is not parted from a region by more than this share of the box is taken to meet it.
_CLEAR = 2.0**-44


class Faces:
    """The faces, each its points ``(k, n)``."""

    def __init__(self, points: list[np.ndarray], width: np.ndarray) -> None:
        self.points, self._width, n = points, width, len(width)
        ends = [(each.min(axis=0), each.max(axis=0)) for each in points]
        self._low, self._high = np.array(ends).reshape(-1, 2, n).transpose(1, 0, 2)

    def met(self, region: Region) -> list[np.ndarray]:
        """Those that are not shown to have no point in common with a region."""
        clear = _CLEAR * self._width
        beside = (self._low > region.box[:, 1] + clear) | (self._high < region.box[:, 0] - clear)
        return [
            self.points[k]
            for k in np.flatnonzero(~beside.any(axis=1))
            if not self._parted(region, self.points[k])
        ]

    def _parted(self, region: Region, face: np.ndarray) -> bool:
        """Whether a direction square to a face, or along it from 0, parts it from a region."""
        middle = face.mean(axis=0)
        square = np.linalg.svd((face - middle) / self._width)[2][-1] / self._width
        for direction in (square, -square, middle / self._width**2):
            clear = _CLEAR * float(np.abs(direction) @ self._width)
            if float((face @ direction).min()) > float(region.reach(direction[None])[0]) + clear:
                return True
        return False

    def beside_none(self, low: np.ndarray, high: np.ndarray) -> bool:
        """Whether one as large as a facet lies within none of the boxes ``low`` to ``high`` ``(M, n)``.

        Cells on both sides of it may be robust, and yet not hang together.
        """
        clear, n = _CLEAR * self._width, len(self._width)
        for k in np.flatnonzero([len(each) >= n for each in self.points]):
            within = (low <= self._low[k] + clear) & (high >= self._high[k] - clear)
            if not within.all(axis=1).any():
                return True
        return False
