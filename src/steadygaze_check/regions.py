"""Boxes and ellipsoids about 0, and proofs that convex hulls of points lie outside of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Region:
    """A box ``(n, 2)``, or, with half axes, the part of it within an ellipsoid about 0."""

    box: np.ndarray
    axes: np.ndarray | None = None

    @property
    def core(self) -> np.ndarray:
        """A box within it."""
        return self.box if self.axes is None else self.box * 0.99 / np.sqrt(len(self.box))

    def holds(self, points: np.ndarray) -> np.ndarray:
        """Which of the points ``(m, n)`` lie in it."""
        inside = np.all((self.box[:, 0] <= points) & (points <= self.box[:, 1]), axis=1)
        return inside if self.axes is None else inside & (np.linalg.norm(points / self.axes, axis=1) <= 1)

    def misses(self, points: np.ndarray, width: np.ndarray) -> bool:
        """Whether the hull of points is proven to have none of its inside; `width` scales the axes."""
        if (points.min(axis=0) > self.box[:, 1]).any() or (points.max(axis=0) < self.box[:, 0]).any():
            return True
        if self.axes is not None:
            return distance(points / self.axes) >= 1
        corners = np.unique(
            np.stack(np.meshgrid(*self.box, indexing="ij"), -1).reshape(-1, len(width)), axis=0
        )
        points, corners = points / width, corners / width
        between = (points[:, None] - corners).reshape(-1, len(width))
        # Where the two nearly touch, the direction between them is found more surely a little apart.
        guides = (points[:, None] - shrunk * corners for shrunk in (1.0, 1 - 1e-6, 1 - 1e-4, 1 - 1e-2))
        return any(separated(between, guide.reshape(-1, len(width))) for guide in guides)


def separated(points: np.ndarray, guide: np.ndarray | None = None) -> bool:
    """Whether the convex hull of points ``(m, n)`` is proven not to contain 0: all lie beyond a plane.

    The plane is looked for with `guide`, if given.
    """
    across = _nearest_to_zero(points if guide is None else guide)
    slack = (len(across) + 4) * 2.0**-50 * float((np.abs(points) @ np.abs(across)).max())
    return bool((points @ across).min() > slack)


def distance(points: np.ndarray) -> float:
    """A lower bound of the distance of 0 from the convex hull of points ``(m, n)``."""
    low = float((points @ _nearest_to_zero(points)).min())
    return max(0.0, low * (1 - 1e-12) - 1e-14 * float(np.abs(points).max()))


def _nearest_to_zero(points: np.ndarray) -> np.ndarray:
    """About the direction of the hull's point nearest to 0, by Wolfe's method; users check what they need."""
    chosen, weight = np.array([np.einsum("mn,mn->m", points, points).argmin()]), np.ones(1)
    for _ in range(200):
        x = weight @ points[chosen]
        best = int((points @ x).argmin())
        if points[best] @ x >= x @ x * (1 - 1e-9) or best in chosen:
            break
        chosen, weight = np.append(chosen, best), np.append(weight, 0.0)
        while True:
            own = points[chosen]
            system = np.ones((len(chosen) + 1, len(chosen) + 1))
            system[0, 0], system[1:, 1:] = 0.0, own @ own.T
            target = np.linalg.lstsq(system, np.eye(len(system))[0], rcond=None)[0][1:]
            down = target <= 1e-14
            if not down.any():
                weight = target
                break
            step = float(np.min(weight[down] / np.maximum(weight[down] - target[down], 1e-300)))
            weight = weight + min(1.0, step) * (target - weight)
            keep = weight > 1e-14
            if keep.all() or not keep.any():
                break
            chosen, weight = chosen[keep], weight[keep] / weight[keep].sum()
    own = points[chosen]
    normal = np.linalg.svd(own[1:] - own[0])[2][len(own) - 1 :] if len(own) > 1 else np.eye(points.shape[1])
    # Across the flat of the points chosen: they lie at one height to the last digits, however near 0 it is.
    across = normal.T @ (normal @ own.mean(axis=0))
    return across / np.linalg.norm(across) if across.any() else across
