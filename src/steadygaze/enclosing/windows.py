"""Lines of max pooling, window by window: what rows become before it, and what lies behind it.

A window's largest input is at least its winner, and at most a weighted sum of all and an offset; where a
window is not contested it is the winner.
"""

from __future__ import annotations

import numpy as np

from steadygaze.geometry.bits import kernel, part


@part
def _larger(one, other):
    """The larger of two, of which the second is a number."""
    return one if one > other else other


@part
def _or_infinite(one):
    return one if one == one else np.inf


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
        sizes, least_sizes = np.zeros(windows), np.zeros(windows)
        # Row by row: the entries of one lie side by side in memory, those of one input far apart.
        for c in range(count):
            row, wide = middle[b, c], half[b, c]
            for w in range(windows):
                best, at = winner[b, w], number[w]
                low, high = row[best] - wide[best], row[best] + wide[best]
                size = abs(row[best]) + abs(wide[best])
                if at >= 0:
                    high = 0.0 if c else offset[b, at]
                    size += 0.0 if c else abs(offset[b, at])
                    for j in range(weights.shape[2]):
                        weight = weights[b, at, j]
                        if weight != 0:
                            own, width = row[places[at, j]], wide[places[at, j]]
                            high += weight * own + abs(weight) * width
                            size += abs(weight) * (abs(own) + abs(width))
                ends[0, b, c, w], ends[1, b, c, w] = low, high
                sizes[w] += size
                least_sizes[w] += abs(low)
        for w in range(windows):
            at = number[w]
            beside[0, b, w] = beside[1, b, w] = error[b, winner[b, w]]
            if at >= 0:
                above = 0.0
                for j in range(weights.shape[2]):
                    if weights[b, at, j] != 0:
                        above += abs(weights[b, at, j]) * error[b, places[at, j]]
                beside[1, b, w] = above
            beside[2, b, w] = sizes[w] + least_sizes[w]
    return ends, beside


@kernel
def told_apart(low, high, windows, at, rectified):
    """Winners of windows ``(W, k)`` over boxes, by ranges ``(B, N)`` of inputs, and who may exceed them.

    The winner is the largest where ``at`` ``(B,)`` says in their ranges, a half being the middle. Returns
    its place in the window ``(B, W, 1)`` and among the inputs ``(B, W)``; ``(B, W, k)`` bool, who may exceed
    it (and 0, where rectified says so); and ``(W,)`` bool, of which windows someone may.
    """
    (boxes, _), (count, width) = low.shape, windows.shape
    place, winner = np.zeros((boxes, count, 1), np.int64), np.empty((boxes, count), np.int64)
    rival, contested = np.zeros((boxes, count, width), np.bool_), np.zeros(count, np.bool_)
    for b in range(boxes):
        for w in range(count):
            most, best = -np.inf, -1
            for k in range(width):
                own = windows[w, k]
                if own >= 0:
                    here = (1 - at[b]) * low[b, own] + at[b] * high[b, own]
                    if best < 0 or here > most:
                        most, best = here, k
            place[b, w, 0], winner[b, w] = best, windows[w, best]
            floor = low[b, winner[b, w]]
            if rectified and floor < 0:
                floor = 0.0
            for k in range(width):
                # What is no number tells nothing.
                if windows[w, k] >= 0 and k != best and not high[b, windows[w, k]] <= floor:
                    rival[b, w, k] = contested[w] = True
    return place, winner, rival, contested


@kernel
def may_win(low, high, windows, winner, place, tolerance):
    """``(B, W, k)`` bool, which other inputs reach the winner, up to a tolerance ``(B, W)``; and ``(W,)``,
    of which windows some do in some box. place: ``(B, W)`` of the winner in its window.
    """
    (boxes, _), (count, width) = low.shape, windows.shape
    may, near = np.zeros((boxes, count, width), np.bool_), np.zeros(count, np.bool_)
    for b in range(boxes):
        for w in range(count):
            floor = low[b, winner[b, w]] - tolerance[b, w]
            for k in range(width):
                if windows[w, k] >= 0 and k != place[b, w] and not high[b, windows[w, k]] < floor:
                    may[b, w, k] = near[w] = True
    return may, near


@kernel
def largest_between(low, high, windows):
    """Least and largest values ``(2, B, W)`` of maxima of windows ``(W, k)``, inputs being in ``(B, N)``."""
    (boxes, _), (count, width) = low.shape, windows.shape
    made = np.full((2, boxes, count), -np.inf)
    for b in range(boxes):
        for w in range(count):
            for k in range(width):
                own = windows[w, k]
                if own >= 0:
                    made[0, b, w] = _larger(low[b, own], made[0, b, w])
                    # An end that is no number may be any.
                    made[1, b, w] = _larger(_or_infinite(high[b, own]), made[1, b, w])
    return made


@kernel
def kept_between(low, high, windows, winner):
    """See `kept_low`: least values ``(B, W)``, and ``(B, W)`` bool, which leave nothing out."""
    (boxes, _), (count, width) = low.shape, windows.shape
    least, whole = np.empty((boxes, count)), np.empty((boxes, count), np.bool_)
    for b in range(boxes):
        for w in range(count):
            kept, left_out = low[b, winner[b, w]], -np.inf
            for k in range(width):
                own = windows[w, k]
                if own >= 0 and high[b, own] > 0:
                    kept = _larger(low[b, own], kept)
                elif own >= 0:
                    left_out = _larger(_or_infinite(high[b, own]), left_out)
            least[b, w], whole[b, w] = kept, left_out <= kept
    return least, whole
