"""What is to be found in the columns of rows: anything but zeros, or a value near to a mark."""

from __future__ import annotations

import numpy as np

from steadygaze.geometry.bits import kernel, summing_kernel


def used_columns(rows: np.ndarray) -> np.ndarray:
    """Numbers ``(k,)`` of the columns of rows ``(B, N)`` that are not 0 in every row."""
    return _used_columns(rows)


@kernel
def _used_columns(rows):
    width = rows.shape[1]
    used = np.zeros(width, np.uint8)
    for v in range(len(rows)):
        for j in range(width):
            used[j] |= rows[v, j] != 0
    found = np.empty(width, np.int64)
    count = 0
    for j in range(width):
        if used[j]:
            found[count] = j
            count += 1
    return found[:count]


def columns_unlike_first(rows: np.ndarray, most: int) -> np.ndarray | None:
    """Numbers ``(k,)`` of the columns of rows ``(B, N)`` that are not the first column once more.

    None as soon as there are more than `most`.
    """
    found = _columns_unlike_first(rows, most)
    return found if len(found) <= most else None


@kernel
def _columns_unlike_first(rows, most):
    width = rows.shape[1]
    unlike = np.zeros(width, np.uint8)
    for v in range(len(rows)):
        first = rows[v, 0]
        for j in range(width):
            unlike[j] |= rows[v, j] != first
        if unlike.sum() > most:
            break
    return np.flatnonzero(unlike)


def rows_within(values: np.ndarray, marks: np.ndarray, slack: np.ndarray) -> np.ndarray:
    """Which of the rows ``(B, N)`` have a value within its column's slack of a mark (see `any_within`)."""
    return _rows_within(values, marks, slack)


@kernel
def _rows_within(values, marks, slack):
    out = np.zeros(len(values), np.bool_)
    for v in range(len(values)):
        found = False
        for mark in marks:
            for j in range(len(slack)):
                found |= abs(values[v, j] - mark) <= slack[j]
        out[v] = found
    return out


def any_within(values: np.ndarray, marks: np.ndarray, slack: np.ndarray) -> bool:
    """Whether any of values ``(B, N)`` is within its column's slack ``(N,)`` of one of the marks ``(k,)``."""
    return _any_within(values, marks, slack)


@kernel
def _any_within(values, marks, slack):
    for mark in marks:
        for v in range(len(values)):
            found = False
            for j in range(len(slack)):
                found |= abs(values[v, j] - mark) <= slack[j]
            if found:
                return True
    return False


def sums_of_magnitudes(weight: np.ndarray, bias: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """``|rows| |weight|ᵀ + |bias|``, ``(B, out)``; rows are ``(B, in)``, weight is ``(out, in)``."""
    return _sums_of_magnitudes(weight, bias, rows)


@summing_kernel
def _sums_of_magnitudes(weight, bias, rows):
    out = np.empty((len(rows), len(bias)))
    for i in range(len(bias)):
        own = weight[i]
        for v in range(len(rows)):
            total = 0.0
            for j in range(len(own)):
                total += abs(own[j] * rows[v, j])
            out[v, i] = total + abs(bias[i])
    return out
