"""Compiled: what is summed up over the coefficients of forms and bands, in one pass through memory each.

Coefficients are most of what is known of a layer's values, and far more than a cache holds: each pass that is
made over them takes as long as reading them.
"""

from __future__ import annotations

import numpy as np

from steadygaze.geometry.bits import kernel, summing_kernel


@kernel
def magnitudes_of(rows, first):
    """Sums ``(B, N)`` of the magnitudes of rows ``(B, R, N)`` from the first one asked for on."""
    boxes, count, entries = rows.shape
    made = np.zeros((boxes, entries))
    for b in range(boxes):
        own = made[b]
        for r in range(first, count):
            row = rows[b, r]
            for n in range(entries):
                own[n] += abs(row[n])
    return made


@kernel
def reaches_of(middle, half):
    """Of bands ``(B, 1 + n, N)`` sums ``(3, B, N)`` of magnitudes.

    Those of the coefficients of the functions below and above, and those of all numbers of the bands.
    """
    boxes, count, entries = middle.shape
    made = np.zeros((3, boxes, entries))
    for b in range(boxes):
        below, above, size = made[0, b], made[1, b], made[2, b]
        for r in range(count):
            row, width = middle[b, r], half[b, r]
            for n in range(entries):
                size[n] += abs(row[n]) + abs(width[n])
            if r:
                for n in range(entries):
                    below[n] += abs(row[n] - width[n])
                    above[n] += abs(row[n] + width[n])
    return made


@kernel
def bands_between(middle, half, below, below_offset, above, above_offset):
    """Middles and half widths ``(2, B, 1 + n, N)`` of bands behind units with lines ``(B, N)``."""
    boxes, count, entries = middle.shape
    made = np.empty((2, boxes, count, entries))
    for b in range(boxes):
        mean, spread = (above[b] + below[b]) / 2, (above[b] - below[b]) / 2
        wide = (np.abs(above[b]) + np.abs(below[b])) / 2
        skew = (np.abs(above[b]) - np.abs(below[b])) / 2
        for r in range(count):
            row, width, moved, own = middle[b, r], half[b, r], made[0, b, r], made[1, b, r]
            for n in range(entries):
                moved[n] = mean[n] * row[n] + skew[n] * width[n]
                own[n] = spread[n] * row[n] + wide[n] * width[n]
        for n in range(entries):
            made[0, b, 0, n] += (above_offset[b, n] + below_offset[b, n]) / 2
            made[1, b, 0, n] += (above_offset[b, n] - below_offset[b, n]) / 2
    return made


@summing_kernel
def rows_between(rows, below, above, lower, upper):
    """Rows ``(B, R, N)`` behind units as rows before them, and sums ``(2, B, R)`` in float64.

    An entry takes the line below where it is positive, the line above where it is negative. rows:
    ``(1, R, N)`` if they are the same for all boxes. below, above: slopes ``(B, N)``. lower, upper:
    ``(B, 2, N)``, of what is summed up what belongs to each line.
    """
    boxes, entries = below.shape
    count = rows.shape[1]
    made, sums = np.empty((boxes, count, entries), rows.dtype), np.empty((2, boxes, count))
    nothing = rows.dtype.type(0)
    for b in range(boxes):
        for r in range(count):
            row, own = rows[b if len(rows) > 1 else 0, r], made[b, r]
            constant = rounding = 0.0
            for n in range(entries):
                # What is no number stays none.
                up, down = (row[n], nothing) if row[n] > 0 else (nothing, row[n])
                own[n] = up * below[b, n] + down * above[b, n]
                constant += up * lower[b, 0, n] + down * upper[b, 0, n]
                rounding += up * lower[b, 1, n] + down * upper[b, 1, n]
            sums[0, b, r], sums[1, b, r] = constant, rounding
    return made, sums
