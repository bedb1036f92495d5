"""Faces of cells that are called robust, on which a class ties or a map vanishes, as far as bounds tell.

A class gap is affine on a cell and nowhere below 0: where it vanishes is the convex hull of the vertices at
which it does. So it is with a map that moves, up to that of vertices between which it changes its sign.
"""

from __future__ import annotations

import numpy as np

from steadygaze_check.region import Region

# A face that is not parted from a region by more than this share of the box is taken to meet it.
_CLEAR = 2.0**-44
# So many steps towards the point of a face that is nearest to a region.
_STEPS = 64


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
        """Whether a direction parts a face from a region: one square to it, along it from 0, or the nearest.

        That is sought from a point which moves to one corner of the face after another, as far as it helps.
        """
        unit, (low, high) = face / self._width, region.box.T / self._width
        at = unit.mean(axis=0)
        square = np.linalg.svd(unit - at)[2][-1]
        if any(self._parts(region, face, each) for each in (square, -square, at)):
            return True
        for _ in range(_STEPS):
            away = at - np.clip(at, low, high)
            if not away.any() or self._parts(region, face, away):
                return bool(away.any())
            step = unit[(unit @ away).argmin()] - at
            size = float(step @ step)
            at = at + step * min(1.0, max(0.0, -float(step @ away) / size)) if size else at
        return False

    def _parts(self, region: Region, face: np.ndarray, direction: np.ndarray) -> bool:
        """Whether all of a face is farther along a direction, in widths, than all of a region."""
        direction = direction / self._width
        clear = _CLEAR * float(np.abs(direction) @ self._width)
        return float((face @ direction).min()) > float(region.reach(direction[None])[0]) + clear

    def whole(self, corners: np.ndarray) -> np.ndarray:
        """Whether all corners of each ``(L, n, n)`` are points of one and the same of the faces.

        Robust cells on both sides of such a one do not hang together there.
        """
        numbers: dict[bytes, set[int]] = {}
        for number, points in enumerate(self.points):
            if len(points) >= len(self._width):
                for point in points + 0.0:
                    numbers.setdefault(point.tobytes(), set()).add(number)
        out, nothing = np.zeros(len(corners), bool), set()
        if numbers:
            for k, each in enumerate(corners + 0.0):
                out[k] = bool(set.intersection(*(numbers.get(p.tobytes(), nothing) for p in each)))
        return out
