"""Simplices cut in two, and what volume they have at least."""

from __future__ import annotations

import math

import numpy as np

from steadygaze_check.arithmetic import UNIT
from steadygaze_check.tiling import determinants


def halves(simplices: np.ndarray, edge: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Simplices ``(S, n + 1, n)`` cut at a point of an edge, which stands for the one end and for the other.

    edge: ``(S, 2)`` numbers of corners. place: ``(S,)`` how far from the first to the second.
    The two have the face opposite to the edge in common and lie on either side of it, wherever rounding put
    the point; so they do not overlap, and beside the simplex they cover next to nothing.
    """
    every = np.arange(len(simplices))
    start, end = simplices[every, edge[:, 0]], simplices[every, edge[:, 1]]
    point = start + place[:, None] * (end - start)
    one, two = simplices.copy(), simplices.copy()
    one[every, edge[:, 1]], two[every, edge[:, 0]] = point, point
    return one, two


def volumes(simplices: np.ndarray) -> np.ndarray:
    """Lower bounds ``(S,)`` of the volumes of simplices ``(S, n + 1, n)``."""
    value, error = determinants(simplices)
    return np.maximum(np.abs(value) - error, 0.0) * ((1 - 8 * UNIT) / math.factorial(simplices.shape[2]))
