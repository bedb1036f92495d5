"""Lines of max pooling, window by window: what rows become before it, and what lies behind it.

A window's largest input is at least its winner, and at most a weighted sum of all and an offset; where a
window is not contested it is the winner.
"""

from __future__ import annotations

import numpy as np

from steadygaze.geometry.bits import kernel


@kernel
def rows_before(rows, winner, number, places, weights, offset, size):
    """Rows ``(B, R, N)`` for the inputs of windows, of rows ``(B, R, W)``; and sums ``(2, B, R)`` in float64.

    The sums are the constants, and all magnitudes that are added up, each times what it is a share of.

    Args:
        rows: ``(1, R, W)`` if they are the same for all boxes.
        winner: ``(B, W)`` inputs. number: ``(W,)`` of each contested window its own, -1 for others.
        places: ``(C, k)`` inputs of contested windows, -1 where there is none.
        weights: ``(B, C, k)``; offset ``(B, C)``. size: ``(B, N)`` at least the magnitudes of inputs.
    """
    boxes, inputs = size.shape
    _, count, windows = rows.shape
    before = np.zeros((boxes, count, inputs), rows.dtype)
    sums = np.zeros((2, boxes, count))
    for b in range(boxes):
        for r in range(count):
            row, own = rows[b if len(rows) > 1 else 0, r], before[b, r]
            constant = scale = 0.0
            for w in range(windows):
                entry, at = row[w], number[w]
                if entry == 0:
                    continue
                if at < 0 or not entry < 0:
                    own[winner[b, w]] += entry
                    scale += abs(np.float64(entry)) * size[b, winner[b, w]]
                    continue
                lifted = np.float64(entry) * offset[b, at]
                constant, scale = constant + lifted, scale + abs(lifted)
                for j in range(weights.shape[2]):
                    if weights[b, at, j] != 0:
                        part = entry * weights[b, at, j]
                        own[places[at, j]] += part
                        scale += abs(np.float64(entry) * weights[b, at, j]) * size[b, places[at, j]]
            sums[0, b, r], sums[1, b, r] = constant, scale
    return before, sums


@kernel
def bands_behind(middle, half, error, winner, number, places, weights, offset):
    """Functions below and above ``(2, B, 1 + n, W)`` of windows of a band; and ``(3, B, W)`` of errors.

    The errors are those below and above, and all magnitudes that are added up. The arguments are as for
    `rows_before`, the band ``(B, 1 + n, N)`` and error ``(B, N)``.
    """
    boxes, count, _ = middle.shape
    windows = winner.shape[1]
    ends, beside = np.empty((2, boxes, count, windows)), np.empty((3, boxes, windows))
    for b in range(boxes):
        for w in range(windows):
            best, at = winner[b, w], number[w]
            size = least_size = 0.0
            for c in range(count):
                low, high = middle[b, c, best] - half[b, c, best], middle[b, c, best] + half[b, c, best]
                ends[0, b, c, w], ends[1, b, c, w] = low, high
                size += abs(middle[b, c, best]) + abs(half[b, c, best])
                least_size += abs(low)
            beside[0, b, w] = beside[1, b, w] = error[b, best]
            if at >= 0:
                size += abs(offset[b, at])
                above = 0.0
                for c in range(count):
                    ends[1, b, c, w] = 0.0 if c else offset[b, at]
                for j in range(weights.shape[2]):
                    weight = weights[b, at, j]
                    if weight == 0:
                        continue
                    place, share = places[at, j], abs(weight)
                    above += share * error[b, place]
                    for c in range(count):
                        own, width = middle[b, c, place], half[b, c, place]
                        ends[1, b, c, w] += weight * own + share * width
                        size += share * (abs(own) + abs(width))
                beside[1, b, w] = above
            beside[2, b, w] = size + least_size
    return ends, beside
