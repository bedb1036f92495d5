"""On which side of each hinge cells lie, read off their vertices, and names for the resulting patterns."""

from __future__ import annotations

import numba as nb
import numpy as np

from steadygaze.geometry.bits import U, mix
from steadygaze.geometry.cells import Cells


def above(cells: Cells, values: np.ndarray, tolerance: np.ndarray) -> np.ndarray:
    """Whether each cell reaches above each hinge, uint8 ``(cells, hinges)``.

    For cells that no hinge crosses this is the side they lie on; where a hinge vanishes on a whole cell both sides
    agree, and it counts as below.
    """
    return _above(values, tolerance, cells.ptr, cells.idx)


def winners(cells: Cells, values: np.ndarray, tolerance: np.ndarray, size: int) -> np.ndarray:
    """The first input of each window that no other input of it exceeds on the cell, uint8 ``(cells, windows)``.

    values ``(vertices, windows * size)`` holds the inputs of the windows one after the other.
    """
    return _winners(values, tolerance, cells.ptr, cells.idx, size)


def pattern_names(pieces: np.ndarray, salt: int) -> np.ndarray:
    """A name, uint64 ``(rows,)``, for each row of pieces uint8 ``(rows, units)``; names of several layers add up."""
    return _pattern_names(pieces, np.uint64(salt))


@nb.njit(cache=True, nogil=True)
def _above(values, tol, ptr, idx):
    width = values.shape[1]
    out = np.zeros((len(ptr) - 1, width), np.uint8)
    for p in range(len(ptr) - 1):
        for t in range(ptr[p], ptr[p + 1]):
            for j in range(width):
                out[p, j] |= values[idx[t], j] > tol[j]
    return out


@nb.njit(cache=True, nogil=True)
def _winners(values, tol, ptr, idx, size):
    windows = values.shape[1] // size
    out = np.zeros((len(ptr) - 1, windows), np.uint8)
    for p in range(len(ptr) - 1):
        for w in range(windows):
            for i in range(w * size, (w + 1) * size):
                wins = True
                for t in range(ptr[p], ptr[p + 1]):
                    for k in range(w * size, (w + 1) * size):
                        wins &= values[idx[t], i] >= values[idx[t], k] - tol[w]
                if wins:
                    out[p, w] = i - w * size
                    break
    return out


@nb.njit(cache=True, nogil=True)
def _pattern_names(pieces, salt):
    weights = np.empty(pieces.shape[1], np.uint64)
    for j in range(len(weights)):
        weights[j] = mix(salt + U(j) * U(0x9E3779B97F4A7C15))
    out = np.zeros(len(pieces), np.uint64)
    for p in range(len(pieces)):
        total = U(0)
        for j in range(len(weights)):
            total += U(pieces[p, j]) * weights[j]
        out[p] = total
    return out
