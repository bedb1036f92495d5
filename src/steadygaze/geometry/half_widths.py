"""Distances from 0 in half-widths of a box: the unit of radii, and of how near a failure is."""

from __future__ import annotations

import numpy as np

# The orders of the norms by their names.
_ORDERS = {"linf": np.inf, "l2": 2.0}


def half_widths(box: np.ndarray) -> np.ndarray:
    """Half of each side of the box ``(n, 2)``: ``(n,)``."""
    return (box[:, 1] - box[:, 0]) / 2


def distances(thetas: np.ndarray, half: np.ndarray, norm: str) -> np.ndarray:
    """Distances ``(B,)`` of points ``(B, n)`` from 0, in lengths ``(n,)``; norm is "linf" or "l2"."""
    return np.linalg.norm(thetas / half, _ORDERS[norm], axis=1)


def inward(box: np.ndarray) -> np.ndarray:
    """A direction ``(n,)`` from 0 into the box along which no hinge of a real network runs."""
    crooked = np.modf((np.arange(len(box)) + 1) * 0.6180339887498949)[0] - 0.5
    return (box[:, 0] + box[:, 1]) / 2 + crooked * 0.3 * (box[:, 1] - box[:, 0])
