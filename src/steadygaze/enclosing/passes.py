"""Compiled: what is summed up over the coefficients of forms and bands, in one pass through memory each.

Coefficients are most of what is known of a layer's values, and far more than a cache holds: each pass that is
made over them takes as long as reading them.
"""

from __future__ import annotations

import numpy as np

from steadygaze.geometry.bits import kernel, summing_kernel


@kernel
def sums_of(rows, error, count, unit, upward):
    """Of forms ``(B, R, N)`` of so many coordinates, with errors ``(B, N)``, sums ``(6, B, N)``.

    They are spread, reach, size and strays, see `Forms`, and the least and the largest values. unit: unit
    roundoff; upward: what makes up for rounding a sum of R numbers.
    """
    boxes, numbers, entries = rows.shape
    made = np.zeros((6, boxes, entries))
    for b in range(boxes):
        spread, strays = made[0, b], made[3, b]
        for r in range(1, numbers):
            row = rows[b, r]
            for n in range(entries):
                spread[n] += abs(row[n])
            if r > count:
                for n in range(entries):
                    strays[n] += abs(row[n])
        for n in range(entries):
            centre = rows[b, 0, n]
            reach = (spread[n] + error[b, n]) * upward
            outward = 2 * unit * (abs(centre) + reach)
            made[1, b, n] = reach
            made[2, b, n] = abs(centre) + spread[n]
            strays[n] = (error[b, n] + strays[n]) * upward
            made[4, b, n] = centre - reach - outward
            made[5, b, n] = centre + reach + outward
    return made


@kernel
def moved_by_units(rows, error, size, slope, offset, deviation, unit, upward):
    """Forms ``(B, R, N)`` times slopes plus offsets ± deviations ``(B, N)``: rows, and errors ``(B, N)``.

    The last two numbers are as for `sums_of`; a few operations more are made up for by the one after it.
    """
    boxes, numbers, entries = rows.shape
    made, errors, once = np.empty((boxes, numbers, entries)), np.empty((boxes, entries)), 1 + 18 * unit
    for b in range(boxes):
        for r in range(numbers):
            row, own = rows[b, r], made[b, r]
            for n in range(entries):
                own[n] = row[n] * slope[b, n]
        for n in range(entries):
            made[b, 0, n] += offset[b, n]
            scaled = (error[b, n] + unit * size[b, n]) * abs(slope[b, n]) * upward
            errors[b, n] = ((scaled + unit * abs(made[b, 0, n])) * once + deviation[b, n]) * once
    return made, errors


@kernel
def blame_of(rows, count, deviation, reach, tiny):
    """``(B, n)`` what part of deviations ``(B, N)`` each of n coordinates of forms ``(B, R, N)`` is to blame
    for, given how far these reach ``(B, N)``.
    """
    boxes, entries = deviation.shape
    made, share = np.zeros((boxes, count)), np.zeros(entries)
    for b in range(boxes):
        for n in range(entries):
            share[n] = deviation[b, n] / max(reach[b, n], tiny) if deviation[b, n] else 0.0
        for r in range(count):
            row = rows[b, 1 + r]
            for n in range(entries):
                made[b, r] += share[n] * abs(row[n])
    return made


@kernel
def reaches_of(middle, half, error, unit):
    """Of bands ``(B, 1 + n, N)`` with errors ``(B, N)`` sums of magnitudes and bounds, ``(5, B, N)``.

    Sums are those of the coefficients of the functions below and above, and those of all numbers of the
    bands; the last two are least and largest values, rounded outwards. unit: unit roundoff.
    """
    boxes, count, entries = middle.shape
    made, share = np.zeros((5, boxes, entries)), (count + 8) * unit
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
        for n in range(entries):
            outward = (size[n] * share + error[b, n]) * (1 + share)
            made[3, b, n] = middle[b, 0, n] - half[b, 0, n] - outward - below[n]
            made[4, b, n] = middle[b, 0, n] + half[b, 0, n] + outward + above[n]
    return made


@kernel
def bands_between(middle, half, error, size, below, below_offset, above, above_offset, unit):
    """Middles and half widths ``(2, B, 1 + n, N)`` of bands behind units with lines ``(B, N)``, and errors.

    error ``(B, N)`` and size: of the bands before, see `reaches_of`, as unit is.
    """
    boxes, count, entries = middle.shape
    made, errors = np.empty((2, boxes, count, entries)), np.empty((boxes, entries))
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
            steep = max(abs(above[b, n]), abs(below[b, n]))
            rounding = 8 * unit * (abs(above_offset[b, n]) + abs(below_offset[b, n]))
            errors[b, n] = ((error[b, n] + 16 * unit * size[b, n]) * steep + rounding) * (1 + 16 * unit)
    return made, errors


@kernel
def apart(middle, half, error, size, low, high, share, unit):
    """What an affine layer makes bands ``(B, 1 + n, M)`` and ranges ``(B, M)`` of, row by row.

    Returns what goes through magnitudes of its weights, half widths, errors and radii of ranges, and what
    goes through its weights, middles and centres. share: what rounding of the layer is of all magnitudes.
    """
    boxes, count, entries = middle.shape
    rows = boxes * count
    absolute, straight = np.empty((rows + 2 * boxes, entries)), np.empty((rows + boxes, entries))
    for b in range(boxes):
        for r in range(count):
            for n in range(entries):
                absolute[b * count + r, n] = half[b, r, n]
                straight[b * count + r, n] = middle[b, r, n]
        for n in range(entries):
            absolute[rows + b, n] = error[b, n] + share * size[b, n]
            most = max(abs(low[b, n]), abs(high[b, n]))
            radius = (high[b, n] - low[b, n]) / 2 * (1 + 4 * unit) + (share + 4 * unit) * most
            absolute[rows + boxes + b, n] = radius
            straight[rows + b, n] = low[b, n] / 2 + high[b, n] / 2
    return absolute, straight


@kernel
def put_together(absolute, straight, constant, boxes, share, upward, unit):
    """What an affine layer has made of what is `apart`, with its constant ``(N,)``, or ``(0,)`` for none.

    The constant is added to middles in place. Returns errors, and least and largest values, ``(3, B, N)``.
    upward: what makes up for rounding of a sum of errors.
    """
    rows, entries = len(straight) - boxes, straight.shape[1]
    count = rows // boxes
    made = np.empty((3, boxes, entries))
    for b in range(boxes):
        for n in range(entries):
            error, radius = absolute[rows + b, n], absolute[rows + boxes + b, n]
            centre = straight[rows + b, n]
            if len(constant):
                own = abs(constant[n])
                straight[b * count, n] += constant[n]
                error += share * (own + abs(straight[b * count, n]))
                centre += constant[n]
                radius += share * (own + abs(centre))
            radius = radius * upward + 4 * unit * abs(centre)
            made[0, b, n] = error * upward
            made[1, b, n], made[2, b, n] = centre - radius, centre + radius
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
