"""Compiled: slopes of lines below units that each row chooses for itself: see `LastBend`."""

from __future__ import annotations

import numpy as np

from steadygaze.geometry.bits import summing_kernel

# Where between a band's middle and the function below it inputs are expected.
_DOWN = 0.5
_TINY = 2.0**-1000


@summing_kernel
def chosen(rows, slopes, below, above, middle, half, worth, limit):
    """Of rows ``(B, R, N)`` behind units those that should gain, and with which slopes.

    It is an estimate: it chooses, and no more. Sums may be taken in any order.

    Args:
        rows: ``(1, R, N)`` if they are the same for all boxes.
        slopes: ``(2, N)``, those of units below and above 0.
        below, above: ``(B, N)``, slopes of the lines.
        middle, half: ``(B, 1 + n, N)``, the band of the inputs.
        worth: what share of how far it reaches a row has to gain. limit: how many rows of a box may be found.

    Returns:
        How many rows are found of each box ``(B,)``; their numbers ``(B, R)``; how far they go to other ones
        ``(B, R)``; and how far those are, of all rows, ``(B, R, N)``.
    """
    (boxes, entries), count = below.shape, middle.shape[1]
    number, shares = np.zeros((boxes, rows.shape[1]), np.int64), np.zeros((boxes, rows.shape[1]))
    gains = np.empty(rows.shape[1])
    found, steep = np.zeros(boxes, np.int64), np.zeros((boxes, rows.shape[1], entries))
    function, change, point = np.empty(count), np.empty(count), np.empty(count)
    torn, taken, here = np.empty(entries, np.int64), np.empty(entries), np.empty(entries)
    for b in range(boxes):
        some = 0
        for n in range(entries):
            if slopes[0, n] < above[b, n] < slopes[1, n]:
                torn[some] = n
                some += 1
        for r in range(rows.shape[1] if some else 0):
            row = rows[b if len(rows) > 1 else 0, r]
            for n in range(entries):
                taken[n] = max(row[n], 0.0) * below[b, n] + min(row[n], 0.0) * above[b, n]
            here[:some] = 0.0
            reach = 0.0
            for c in range(count):
                own, wide, total = middle[b, c], half[b, c], 0.0
                for n in range(entries):
                    total += taken[n] * own[n]
                function[c], point[c], change[c] = total, 1.0, 0.0
                if c:
                    reach += abs(total)
                    point[c] = -1.0 if total > 0 else 1.0
                for k in range(some):
                    here[k] += point[c] * (own[torn[k]] - _DOWN * wide[torn[k]])
            for k in range(some):
                n = torn[k]
                if row[n] > 0:
                    steep[b, r, n] = (slopes[1, n] if here[k] > 0 else slopes[0, n]) - below[b, n]
                here[k] = row[n] * steep[b, r, n]
            for c in range(count):
                own, wide = middle[b, c], half[b, c]
                for k in range(some):
                    change[c] += here[k] * (own[torn[k]] - _DOWN * wide[torn[k]])
            gain = best = 0.0
            for share in (1.0, 0.5):
                least = share * change[0] + reach
                for c in range(1, count):
                    least -= abs(function[c] + share * change[c])
                if least > gain:
                    gain, best = least, share
            if gain > worth * reach:
                at = found[b]
                if at < limit:
                    found[b] += 1
                else:  # in place of the one that gains the least
                    at = 0
                    for k in range(1, limit):
                        at = k if gains[k] < gains[at] else at
                    if limit == 0 or gain <= gains[at] * reach:
                        continue
                number[b, at], shares[b, at], gains[at] = r, best, gain / max(reach, _TINY)
    return found, number, shares, steep


@summing_kernel
def turned(rows, slopes, lower, upper, below, above, size, found, chosen, shares, steep, unit, terms):
    """Rows ``(B, R, N)`` behind units that are `chosen`, with other slopes.

    Args:
        rows, slopes, below, above: as for `chosen`, what that returns being the last arguments but two.
        lower, upper: of lines as `rows_between` takes them.
        size: ``(B, N)``, at least the magnitudes of inputs.
        unit, terms: unit roundoff, and how many products are summed up.

    Returns:
        The numbers ``(B, T)`` of rows, what they become before the units ``(B, T, N)``, constants and
        roundings ``(B, T)``. T is what the box with the most has; others repeat their first row, or row 0,
        with the lines' own slopes.
    """
    boxes, entries = below.shape
    most, upward = found.max(), 1 + 2 * terms * unit
    made, number = np.empty((boxes, most, entries)), np.zeros((boxes, most), np.int64)
    constants, roundings = np.zeros((boxes, most)), np.zeros((boxes, most))
    for b in range(boxes):
        for t in range(most):
            r, share = (chosen[b, t], shares[b, t]) if t < found[b] else (chosen[b, 0], 0.0)
            number[b, t] = r
            row = rows[b if len(rows) > 1 else 0, r]
            constant = rounding = 0.0
            for n in range(entries):
                entry = row[n]
                if entry > 0 and share > 0 and steep[b, r, n] != 0:
                    # Through the bend any line is below that is between both sides.
                    slope = below[b, n] + share * steep[b, r, n]
                    slope = min(max(slope, slopes[0, n]), slopes[1, n])
                    made[b, t, n] = entry * slope
                    rounding += entry * 4 * unit * size[b, n] * abs(slope) * upward
                elif entry > 0:
                    made[b, t, n] = entry * below[b, n]
                    constant += entry * lower[b, 0, n]
                    rounding += entry * lower[b, 1, n]
                else:
                    made[b, t, n] = entry * above[b, n]
                    constant += entry * upper[b, 0, n]
                    rounding += entry * upper[b, 1, n]
            constants[b, t], roundings[b, t] = constant, rounding
    return number, made, constants, roundings
