"""The largest input of each window over boxes, where several may be it: as affine forms and deviations."""

from __future__ import annotations

import numpy as np

from steadygaze.enclosing.enclosures import UNIT
from steadygaze.geometry.bits import kernel

# What rounding in a handful of operations may add, as a factor.
_UPWARD = 1 + 2.0**-46
# No number above 0 is below it.
_TINY = float(np.finfo(np.float64).tiny)


def largest_of_windows(
    rows: np.ndarray,
    error: np.ndarray,
    windows: np.ndarray,
    winner: np.ndarray,
    rival: np.ndarray,
    total: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The largest of the winner and its rivals, rows ``(B, C, W)``, error and deviation ``(B, W)``.

    Inputs are affine forms, rows ``(B, C, N)`` and error ``(B, N)``. The largest so far, L, begins as the
    winner; then comes one rival x_j after the other. max(0, a) of a = x_j - L lies between the chord over
    the range of a and as much below it as at 0. So L becomes (1 - slope) L + slope x_j and half of that, plus
    or minus half of it, which is added to the deviation. Numbers that are none stay none.

    Args:
        windows: ``(W, k)`` columns, -1 for none.
        winner: ``(B, W)`` the column that L begins as.
        rival: ``(B, W, k)`` bool, the inputs that may exceed it; padding is none of them.
        total: ``(B, W)`` >= 0, by how much the others may exceed it.
    """
    parts = (rows, error, windows, winner, rival, total)
    return _largest_of_windows(*(np.ascontiguousarray(own) for own in parts))


@kernel
def _largest_of_windows(rows, error, windows, winner, rival, total):
    boxes, count = rows.shape[:2]
    (width, size), share = windows.shape, (count + 16) * UNIT
    out, off, away = np.empty((boxes, count, width)), np.empty((boxes, width)), total.copy()
    own, ahead = np.empty(count), np.empty(count)
    for b in range(boxes):
        for w in range(width):
            for c in range(count):
                own[c] = rows[b, c, winner[b, w]]
            lost = error[b, winner[b, w]]
            for j in range(size):
                if not rival[b, w, j]:
                    continue
                at = windows[w, j]
                spread = magnitude = 0.0
                for c in range(count):
                    ahead[c] = rows[b, c, at] - own[c]
                    magnitude += abs(own[c]) + abs(rows[b, c, at])
                    spread += abs(ahead[c]) if c else 0.0
                beside = lost + error[b, at] + away[b, w]
                rounding = share * (magnitude + beside)
                reach = spread + beside + rounding
                high, low = ahead[0] + reach, ahead[0] - reach
                # Written so that a number that is none stays none.
                high, low = 0.0 if high < 0 else high, 0.0 if low > 0 else low
                slope = high / (_TINY if high - low < _TINY else high - low)
                deviation = -low * slope / 2
                for c in range(count):
                    own[c] += slope * ahead[c]
                own[0] += deviation
                lost = (1 - slope) * lost + slope * error[b, at] + rounding
                away[b, w] = ((1 - slope) * away[b, w] + deviation) * _UPWARD
            for c in range(count):
                out[b, c, w] = own[c]
            off[b, w] = lost
    return out, off, away
