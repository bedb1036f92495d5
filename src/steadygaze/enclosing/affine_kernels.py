"""Compiled: sums and products of enclosures, and places that these lead pixels to, in one pass each.

What a few numbers over a few boxes are known to lie within takes next to no time to work out; the dozen
operations on arrays that it takes without a kernel made a fifth of the bounds of small networks. Rounding is
counted as `enclosures` does.
"""

from __future__ import annotations

import math

import numpy as np

from steadygaze.geometry.bits import kernel


@kernel
def added(centre, slopes, error, other_centre, other_slopes, other_error, unit, upward):
    """The sum of two enclosures: centres and errors ``(B, N)``, slopes ``(B, n, N)``.

    unit: unit roundoff; upward: what makes up for the rounding of errors.
    """
    boxes, count, entries = slopes.shape
    middle, moved, errors = np.empty((boxes, entries)), np.empty(slopes.shape), np.empty((boxes, entries))
    for b in range(boxes):
        for n in range(entries):
            middle[b, n] = centre[b, n] + other_centre[b, n]
            size = abs(middle[b, n])
            for j in range(count):
                moved[b, j, n] = slopes[b, j, n] + other_slopes[b, j, n]
                size += abs(moved[b, j, n])
            errors[b, n] = (error[b, n] + other_error[b, n] + 2 * unit * size) * upward
    return middle, moved, errors


@kernel
def multiplied(centre, slopes, error, other_centre, other_slopes, other_error, unit, upward):
    """The product of two enclosures, as `added`."""
    boxes, count, entries = slopes.shape
    middle, moved, errors = np.empty((boxes, entries)), np.empty(slopes.shape), np.empty((boxes, entries))
    for b in range(boxes):
        for n in range(entries):
            one, other = centre[b, n], other_centre[b, n]
            halves = quadratic = spread = other_spread = 0.0
            for j in range(count):
                alpha, beta = slopes[b, j, n], other_slopes[b, j, n]
                spread, other_spread = spread + abs(alpha), other_spread + abs(beta)
                halves += alpha * beta / 2
                quadratic += abs(alpha * beta / 2)
                for k in range(j):
                    quadratic += abs(alpha * other_slopes[b, k, n] + slopes[b, k, n] * beta)
                moved[b, j, n] = one * beta + other * alpha
            middle[b, n] = one * other + halves
            first, second = abs(one) + spread, abs(other) + other_spread
            own = quadratic + error[b, n] * (second + other_error[b, n]) + other_error[b, n] * first
            errors[b, n] = (own + (count + 4) * unit * first * second) * upward
    return middle, moved, errors


@kernel
def waved(centre, slopes, error, is_sine, steps, function, narrow, unit, upward):
    """The sine or the cosine of an enclosure of degrees, ``(B, N)`` and ``(B, n, N)``: see `curves.smooth`.

    steps: how many equal ones the range of each is cut into. function: how many units of roundoff values may
    be off by. narrow: ranges of less, as a share of their place, have no chord. The others are as above.
    """
    boxes, count, entries = slopes.shape
    middle, moved, errors = np.empty((boxes, entries)), np.empty(slopes.shape), np.empty((boxes, entries))
    degree = math.pi / 180
    values, places = np.empty(steps + 1), np.empty(steps + 1)
    for b in range(boxes):
        for n in range(entries):
            at, radius = centre[b, n], error[b, n]
            for j in range(count):
                radius += abs(slopes[b, j, n])
            radius *= upward
            outward = 2 * unit * (abs(at) + radius) if radius > 0 else 0.0
            low, high = at - radius - outward, at + radius + outward
            largest = 0.0
            for k in range(steps + 1):
                places[k] = high if k == steps else min(low + k / steps * (high - low), high)
                angle = places[k] * degree
                values[k] = math.sin(angle) if is_sine else math.cos(angle)
                largest = max(largest, abs(values[k]))
            wide = high - low > narrow * (1 + abs(low) + abs(high))
            slope = (values[steps] - values[0]) / (high - low) if wide else 0.0
            farthest = max(abs(low - at), abs(high - at)) * abs(slope)
            # From one end of a step to the next it is within this of the chord.
            step = (high - low) / steps * (1 + 8 * unit) + 8 * unit * max(abs(low), abs(high))
            bow = (degree * step * (1 + 8 * unit)) ** 2 / 8
            lowest, least = np.inf, np.inf
            highest, most = -np.inf, -np.inf
            for k in range(steps + 1):
                tilted = values[k] - slope * (places[k] - at)
                lowest, highest = min(lowest, values[k] - bow), max(highest, values[k] + bow)
                least, most = min(least, tilted - bow), max(most, tilted + bow)
            lowest, highest = max(lowest, -1.0), min(highest, 1.0)
            if highest - lowest < most - least:
                slope, least, most = 0.0, lowest, highest
            # Turned into radians with a rounding or two, each moving the value by at most as much.
            turned = 4 * unit * degree * max(abs(low), abs(high))
            rounding = function * unit * (largest + farthest) + turned
            middle[b, n] = least + (most - least) / 2
            for j in range(count):
                moved[b, j, n] = slopes[b, j, n] * slope
            own = (error[b, n] * abs(slope) + unit * abs(middle[b, n])) * upward
            errors[b, n] = (own + (most - least) / 2 + rounding) * upward
    return middle, moved, errors


@kernel
def led_to(factors, slopes, errors, height, width, unit, upward):
    """Columns and rows that pixels of an image are read at: centres, slopes and errors.

    They are a x + b y + c for pixels (x, y) counted from the centre, by the factors a, b and c of each
    ``(2, 3, B)``, with slopes ``(2, 3, B, n)`` and errors ``(2, 3, B)``, and are counted from the first one.
    Returns ``(2, B, H, W)``, ``(2, B, n, H, W)`` and ``(2, B, H, W)``. The numbers are as for `added`.
    """
    _, _, boxes, count = slopes.shape
    across, down = (width - 1) / 2, (height - 1) / 2
    middle, moved = np.empty((2, boxes, height, width)), np.empty((2, boxes, count, height, width))
    wrong = np.empty((2, boxes, height, width))
    for axis in range(2):
        shift = down if axis else across
        for b in range(boxes):
            p, q, r = factors[axis, 0, b], factors[axis, 1, b], factors[axis, 2, b]
            e, f, g = errors[axis, 0, b], errors[axis, 1, b], errors[axis, 2, b]
            # Pixels are at multiples of a half: what is moved by such is not rounded.
            one, other = not (p == 0 or abs(p) == 1), not (q == 0 or abs(q) == 1)
            rounds = 2 * unit if one or other or r != 0 else 0.0
            for row in range(height):
                y = row - down
                for column in range(width):
                    x = column - across
                    first, second = p * x, q * y
                    both = first + second
                    moved_by = both + r
                    middle[axis, b, row, column] = moved_by + shift
                    size = abs(first) + abs(second) + abs(both) + abs(moved_by) + abs(moved_by + shift)
                    wrong[axis, b, row, column] = e * abs(x) + f * abs(y) + g + rounds * size
            for j in range(count):
                p, q, r = slopes[axis, 0, b, j], slopes[axis, 1, b, j], slopes[axis, 2, b, j]
                for row in range(height):
                    y = row - down
                    for column in range(width):
                        x = column - across
                        first, second = p * x, q * y
                        moved[axis, b, j, row, column] = first + second + r
                        wrong[axis, b, row, column] += 4 * unit * (abs(first) + abs(second) + abs(r))
            for row in range(height):
                for column in range(width):
                    wrong[axis, b, row, column] *= upward
    return middle, moved, wrong
