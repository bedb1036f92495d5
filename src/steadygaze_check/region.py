"""Parts of the box about 0 of which something is claimed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Region:
    """A box ``(n, 2)`` that holds 0, or, with half axes, the part of it within an ellipsoid about 0."""

    box: np.ndarray
    axes: np.ndarray | None = None

    def holds(self, point: np.ndarray) -> bool:
        """Whether a point ``(n,)`` lies in it."""
        inside = bool(((self.box[:, 0] <= point) & (point <= self.box[:, 1])).all())
        return inside and (self.axes is None or bool(np.linalg.norm(point / self.axes) <= 1))

    def reach(self, directions: np.ndarray) -> np.ndarray:
        """Upper bounds ``(A,)`` of <u, θ> over its points, for directions u ``(A, n)``."""
        most = np.maximum(directions * self.box[:, 0], directions * self.box[:, 1]).sum(axis=1)
        if self.axes is not None:
            most = np.minimum(most, np.linalg.norm(directions * self.axes, axis=1))
        return most + 2.0**-45 * np.abs(directions * np.abs(self.box).max(axis=1)).sum(axis=1)
