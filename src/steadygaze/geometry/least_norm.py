"""The point of least Euclidean norm of a polytope, known by its corners or only by what is lowest on it.

P. Wolfe, *Finding the nearest point in a polytope*, Mathematical Programming 11 (1976). A problem of least
squares with weights of at least 0 says the same, but its solvers stop early where corners are degenerate.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# A corner lower than the point by this share of the corners' squares is not worth going to.
_LEAST_GAIN = 1e-14
_ROUNDS = 1000


def least_norms(
    start: np.ndarray, lowest: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The points ``(k, n)`` of least norm of k polytopes, and lower bounds ``(k,)`` of the norms of all.

    A point is found within rounding of the corners, which may be far larger; whatever it is, no point of the
    polytope is nearer than the lowest corner along its direction is.

    Args:
        start: ``(k, n)`` a point of each.
        lowest: takes numbers of polytopes ``(m,)`` and directions ``(m, n)``; gives for each the corner
            ``(m, n)`` that is least along its direction.
    """
    points = start.copy()
    corrals = [point[None] for point in start]
    weights = [np.ones(1) for _ in start]
    scale = np.square(start).sum(axis=1)
    left, least = np.arange(len(start)), np.zeros(len(start))
    for _ in range(_ROUNDS):
        corners = lowest(left, points[left])
        scale[left] = np.maximum(scale[left], np.square(corners).sum(axis=1))
        squares, height = np.square(points[left]).sum(axis=1), np.einsum("kn,kn->k", corners, points[left])
        size = np.sqrt(squares)
        least[left] = np.maximum(
            least[left], np.divide(height, size, out=np.zeros_like(size), where=size > 0)
        )
        gain = squares - height
        known = [(corrals[k] == corner).all(axis=1).any() for k, corner in zip(left, corners, strict=True)]
        go = (gain > _LEAST_GAIN * scale[left]) & ~np.array(known, bool)
        left, corners = left[go], corners[go]
        if not len(left):
            break
        for k, corner in zip(left, corners, strict=True):
            grown = np.concatenate([corrals[k], corner[None]]), np.append(weights[k], 0.0)
            corrals[k], weights[k] = _shrunk(*grown)
            points[k] = weights[k] @ corrals[k]
    return points, np.minimum(least, np.linalg.norm(points, axis=1))


def _shrunk(corral: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The corners, and their weights, that the point of least norm of their hull is a mean of."""
    while True:
        best = _affine_weights(corral)
        if (best > 0).all():
            return corral, best
        falling = best < weight
        step = (weight[falling] / (weight - best)[falling])[best[falling] <= 0].min()
        weight = np.maximum(weight + step * (best - weight), 0.0)
        kept = weight > 0
        low = np.flatnonzero(best <= 0)
        if kept.all():  # rounding: the one that was to go goes
            kept[low[weight[low].argmin()]] = False
        corral, weight = corral[kept], weight[kept] / weight[kept].sum()


def _affine_weights(corral: np.ndarray) -> np.ndarray:
    """Weights, of any sign, of the point of least norm of the plane through the corners; their sum is 1."""
    sides = corral[1:] - corral[0]
    along = np.linalg.lstsq(sides.T, -corral[0], rcond=None)[0]
    return np.concatenate([[1 - along.sum()], along])
