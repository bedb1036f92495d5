"""Compiled: ranges of images that are bilinear, or linear on triangles, between their pixels.

Along segments and over boxes of places, less functions that are given or chosen here; see
``enclosing.resampling``, which says what they are for. Images come with a frame of one pixel all round.
"""

from __future__ import annotations

import numpy as np

from steadygaze.enclosing.enclosures import UNIT
from steadygaze.geometry.bits import kernel, part

# Values, differences and places are each the result of fewer roundings than this.
_ROUNDINGS = 16
# Along each axis of a box, and along segments, the image is looked at so often for a curve that fits it.
_NODES = 5
# Where a quadratic is nearer to flat along some line than this, by its determinant, its vertex is not sought.
_FLAT = 1e-9


@part
def _place(x, size):
    """Cell and share within it, of a place along an axis of ``size`` pixels in the frame; clamped to it."""
    inside = min(max(x, -1.0), size * 1.0) + 1.0
    cell = min(int(inside), size)
    return cell, inside - cell


@part
def _value(image, column, row, fu, fv, triangles):
    """The image (H + 2, W + 2) at shares fu, fv of the cell (column, row)."""
    a, b = image[row, column], image[row, column + 1]
    c, d = image[row + 1, column], image[row + 1, column + 1]
    if triangles:
        if fu >= fv:
            return a + fu * (b - a) + fv * (d - b)
        return a + fv * (c - a) + fu * (d - c)
    top, bottom = a + fu * (b - a), c + fu * (d - c)
    return top + fv * (bottom - top)


@part
def _steepness(image, first, last, top, bottom):
    """Over cells: largest differences of neighbours along rows and columns; least and largest value."""
    across, down, least, most = 0.0, 0.0, np.inf, -np.inf
    for row in range(top, bottom + 2):
        for column in range(first, last + 2):
            least, most = min(least, image[row, column]), max(most, image[row, column])
            if column <= last:
                across = max(across, abs(image[row, column + 1] - image[row, column]))
            if row <= bottom:
                down = max(down, abs(image[row + 1, column] - image[row, column]))
    return across, down, least, most


@part
def _first_crossing(x, step, lowest, highest):
    """The first whole number within these limits that x passes when it moves by a multiple of the step."""
    if step > 0.0:
        return max(np.floor(x) + 1.0, lowest)
    return min(np.ceil(x) - 1.0, highest)


@part
def _time(knot, x, step, lowest, highest):
    """When x + t step passes the knot; never, if it does not move or the knot is out of range."""
    if step == 0.0 or knot < lowest or knot > highest:
        return np.inf
    return (knot - x) / step


@part
def _piece(image, u, du, v, dv, start, stop, slope, bow, triangles):
    """Range of the image along u + t du, v + t dv less t slope + (2 t² - 1) bow, t between two crossings."""
    height, width = image.shape[0] - 2, image.shape[1] - 2
    middle = 0.5 * (start + stop)
    column, fu = _place(u + middle * du, width)
    row, fv = _place(v + middle * dv, height)
    a, b = image[row, column], image[row, column + 1]
    c, d = image[row + 1, column], image[row + 1, column + 1]
    outside = abs(u + middle * du - 0.5 * (width - 1)) > 0.5 * (width + 1)
    outside |= abs(v + middle * dv - 0.5 * (height - 1)) > 0.5 * (height + 1)
    if outside:
        across, down, twist = 0.0, 0.0, 0.0
    elif triangles:
        across, down, twist = (b - a, d - b, 0.0) if fu >= fv else (d - c, c - a, 0.0)
    else:
        across, down, twist = b - a, c - a, a - b - c + d
    # About the middle: constant + h first + h² second, h from the middle on.
    constant = _value(image, column, row, fu, fv, triangles) - middle * slope
    constant -= (2.0 * middle * middle - 1.0) * bow
    first = (across + twist * fv) * du + (down + twist * fu) * dv - slope - 4.0 * middle * bow
    second = twist * du * dv - 2.0 * bow
    low, high = np.inf, -np.inf
    half = 0.5 * (stop - start)
    for h in (-half, half):
        here = constant + h * first + h * h * second
        low, high = min(low, here), max(high, here)
    if second != 0.0:
        h = -first / (2.0 * second)
        if -half < h < half:
            here = constant + h * first + h * h * second
            low, high = min(low, here), max(high, here)
    return low, high


@part
def _swept(image, u, du, v, dv, slope, bow, triangles):
    """Range of the image along u + t du, v + t dv less t slope + (2 t² - 1) bow, for t in [-1, 1]."""
    height, width = image.shape[0] - 2.0, image.shape[1] - 2.0
    column, row = _first_crossing(u - du, du, -1.0, width), _first_crossing(v - dv, dv, -1.0, height)
    # Diagonals are where u - v is whole; in the frame it lies between these two.
    least_whole, most_whole = -1.0 - height, 1.0 + width
    difference = _first_crossing(u - du - v + dv, du - dv, least_whole, most_whole)
    low, high, t = np.inf, -np.inf, -1.0
    while t < 1.0:
        at_column = _time(column, u, du, -1.0, width)
        at_row = _time(row, v, dv, -1.0, height)
        at_diagonal = np.inf
        if triangles:
            at_diagonal = _time(difference, u - v, du - dv, least_whole, most_whole)
        stop = max(min(at_column, at_row, at_diagonal, 1.0), t)
        # The same crossing is not met twice: each moves on to the next whole number.
        if at_column <= stop:
            column += 1.0 if du > 0.0 else -1.0
        if at_row <= stop:
            row += 1.0 if dv > 0.0 else -1.0
        if at_diagonal <= stop:
            difference += 1.0 if du > dv else -1.0
        if stop > t:
            least, most = _piece(image, u, du, v, dv, t, stop, slope, bow, triangles)
            low, high = min(low, least), max(high, most)
            t = stop
    return low, high


@part
def _fitted_along(image, u, du, v, dv, triangles):
    """Of t, and of 2 t² - 1: what they weigh in the image along a segment, by its Chebyshev series."""
    height, width = image.shape[0] - 2, image.shape[1] - 2
    line, bow = 0.0, 0.0
    for node in range(_NODES):
        t = np.cos((node + 0.5) * np.pi / _NODES)
        column, fu = _place(u + t * du, width)
        row, fv = _place(v + t * dv, height)
        here = _value(image, column, row, fu, fv, triangles) * 2.0 / _NODES
        line, bow = line + here * t, bow + here * (2.0 * t * t - 1.0)
    return line, bow


@kernel
def walked(images, places, triangles, bent, made):
    """Centre, slope, bow and error of images along segments u + t du ± eu, v + t dv ± ev."""
    u, du, eu, v, dv, ev = places
    centre, slope, bows, error = made
    height, width = images.shape[2] - 2, images.shape[3] - 2
    for b in range(len(u)):
        source = b % len(images)
        for y in range(u.shape[1]):
            for x in range(u.shape[2]):
                cu, cv, su, sv = u[b, y, x], v[b, y, x], du[b, y, x], dv[b, y, x]
                size = width + height + 4 + abs(cu) + abs(cv) + abs(su) + abs(sv)
                rounding = _ROUNDINGS * UNIT * size
                ru, rv = abs(su) + eu[b, y, x] + rounding, abs(sv) + ev[b, y, x] + rounding
                first, _ = _place(cu - ru, width)
                last, _ = _place(cu + ru, width)
                top, _ = _place(cv - rv, height)
                bottom, _ = _place(cv + rv, height)
                for m in range(images.shape[1]):
                    image = images[source, m]
                    across, down, least, largest = _steepness(image, first, last, top, bottom)
                    if across == 0.0 and down == 0.0:
                        centre[b, m, y, x], slope[b, m, y, x] = image[top, first], 0.0
                        bows[b, m, y, x], error[b, m, y, x] = 0.0, 0.0
                        continue
                    ends, both = 0.0, 0.0
                    for sign in (-1.0, 1.0):
                        column, fu = _place(cu + sign * su, width)
                        row, fv = _place(cv + sign * sv, height)
                        end = _value(image, column, row, fu, fv, triangles)
                        ends, both = ends + sign * end, both + end
                    chord, bow = 0.5 * ends, 0.0
                    low, high = _swept(image, cu, su, cv, sv, chord, 0.0, triangles)
                    if bent:
                        column, fu = _place(cu, width)
                        row, fv = _place(cv, height)
                        own = 0.25 * both - 0.5 * _value(image, column, row, fu, fv, triangles)
                        below, above = _swept(image, cu, su, cv, sv, chord, own, triangles)
                        if above - below < high - low:
                            low, high, bow = below, above, own
                        line, own = _fitted_along(image, cu, su, cv, sv, triangles)
                        below, above = _swept(image, cu, su, cv, sv, line, own, triangles)
                        if above - below < high - low:
                            low, high, chord, bow = below, above, line, own
                    most = abs(low) + abs(high) + abs(chord) + 4.0 * abs(bow)
                    off = 0.5 * (high - low) + across * eu[b, y, x] + down * ev[b, y, x]
                    off += rounding * (across + down) + _ROUNDINGS * UNIT * most
                    if off > 0.5 * (largest - least):
                        # Where much of the image is passed by, its values alone may say more than a chord.
                        low, high, chord, bow = least, largest, 0.0, 0.0
                        off = 0.5 * (high - low) + _ROUNDINGS * UNIT * (abs(low) + abs(high))
                    centre[b, m, y, x], slope[b, m, y, x] = low + 0.5 * (high - low), chord
                    bows[b, m, y, x] = bow
                    error[b, m, y, x] = off * (1.0 + _ROUNDINGS * UNIT)


@part
def _knots(low, high, size, other_low, other_high, triangles, cells, shares, places):
    """Where grid lines (and, along edges, diagonals) cross [low, high], with its ends; returns how many."""
    count = 2
    places[0], places[1] = low, high
    knot = max(np.floor(low) + 1.0, -1.0)
    while knot < high and knot <= size:
        places[count] = knot
        count += 1
        knot += 1.0
    if triangles:
        for other in (other_low, other_high):
            share = other - np.floor(other)
            knot = max(np.floor(low - share) + 1.0, -2.0) + share
            while knot < high and knot <= size:
                places[count] = knot
                count += 1
                knot += 1.0
    for k in range(count):
        cells[k], shares[k] = _place(places[k], size)
    return count


@part
def _fitted_over(image, u, half_u, v, half_v):
    """A quadratic that is near the image over a box, by its Chebyshev series: what takes of a place weigh.

    Of the ways to the right and down from the middle, of their product, and of the square of each.
    """
    height, width = image.shape[0] - 2, image.shape[1] - 2
    tilt_u, tilt_v, twist, bow_u, bow_v = 0.0, 0.0, 0.0, 0.0, 0.0
    for j in range(_NODES):
        down = np.cos((j + 0.5) * np.pi / _NODES)
        row, fv = _place(v + down * half_v, height)
        for i in range(_NODES):
            across = np.cos((i + 0.5) * np.pi / _NODES)
            column, fu = _place(u + across * half_u, width)
            here = _value(image, column, row, fu, fv, False) * 2.0 / _NODES**2
            tilt_u, tilt_v = tilt_u + here * across, tilt_v + here * down
            twist += 2.0 * here * across * down
            bow_u, bow_v = bow_u + here * (2.0 * across**2 - 1.0), bow_v + here * (2.0 * down**2 - 1.0)
    tilt_u, tilt_v, twist = tilt_u / half_u, tilt_v / half_v, twist / (half_u * half_v)
    return tilt_u, tilt_v, twist, 2.0 * bow_u / half_u**2, 2.0 * bow_v / half_v**2


@part
def _quadratic(constant, across, down, twist, bow_u, bow_v, half_u, half_v):
    """Range of constant + across h + down k + twist h k + bow_u h² + bow_v k², |h|, |k| at most the halves.

    It is attained at a corner, at the vertex along an edge, or, where it is bowed one way along every line,
    at its own vertex.
    """
    low, high = np.inf, -np.inf
    for side in (-1.0, 1.0):
        k = side * half_v
        for other in (-1.0, 1.0):
            h = other * half_u
            here = constant + across * h + down * k + twist * h * k + bow_u * h * h + bow_v * k * k
            low, high = min(low, here), max(high, here)
        if bow_u != 0.0:
            h = min(max(-(across + twist * k) / (2.0 * bow_u), -half_u), half_u)
            here = constant + across * h + down * k + twist * h * k + bow_u * h * h + bow_v * k * k
            low, high = min(low, here), max(high, here)
        h = side * half_u
        if bow_v != 0.0:
            k = min(max(-(down + twist * h) / (2.0 * bow_v), -half_v), half_v)
            here = constant + across * h + down * k + twist * h * k + bow_u * h * h + bow_v * k * k
            low, high = min(low, here), max(high, here)
    both = 4.0 * bow_u * bow_v
    bowl = both - twist * twist
    if both > 0.0 and bowl > _FLAT * both:
        h = (twist * down - 2.0 * bow_v * across) / bowl
        k = (twist * across - 2.0 * bow_u * down) / bowl
        if abs(h) <= half_u and abs(k) <= half_v:
            here = constant + across * h + down * k + twist * h * k + bow_u * h * h + bow_v * k * k
            low, high = min(low, here), max(high, here)
    elif both > 0.0 and bowl > -_FLAT * both:
        # Along the line on which it is nearly flat it bends by less than this until it leaves the box.
        flat = 8.0 * _FLAT * (abs(bow_u) * half_u**2 + abs(bow_v) * half_v**2)
        low, high = low - flat, high + flat
    return low, high


@part
def _bowed(image, u, v, fit, ends_u, ends_v):
    """Range of the image over a box less a quadratic about (u, v), given the ends of its cells in order."""
    height, width = image.shape[0] - 2, image.shape[1] - 2
    tilt_u, tilt_v, twist, bow_u, bow_v = fit
    low, high = np.inf, -np.inf
    for j in range(len(ends_v) - 1):
        y, half_v = 0.5 * (ends_v[j] + ends_v[j + 1]), 0.5 * (ends_v[j + 1] - ends_v[j])
        row, fv = _place(y, height)
        for i in range(len(ends_u) - 1):
            x, half_u = 0.5 * (ends_u[i] + ends_u[i + 1]), 0.5 * (ends_u[i + 1] - ends_u[i])
            column, fu = _place(x, width)
            a, b = image[row, column], image[row, column + 1]
            c, d = image[row + 1, column], image[row + 1, column + 1]
            across, down, own = (
                (1.0 - fv) * (b - a) + fv * (d - c),
                (1.0 - fu) * (c - a) + fu * (d - b),
                a - b - c + d,
            )
            if x < -1.0 or x > width or y < -1.0 or y > height:
                across, down, own = 0.0, 0.0, 0.0
            right, below = x - u, y - v
            constant = _value(image, column, row, fu, fv, False) - tilt_u * right - tilt_v * below
            constant -= twist * right * below + bow_u * right * right + bow_v * below * below
            across -= tilt_u + twist * below + 2.0 * bow_u * right
            down -= tilt_v + twist * right + 2.0 * bow_v * below
            least, most = _quadratic(constant, across, down, own - twist, -bow_u, -bow_v, half_u, half_v)
            low, high = min(low, least), max(high, most)
    return low, high


@kernel
def ranged(images, places, triangles, tilted, bent, squared, made):
    """Ranges of images over boxes, less a linear, bilinear or quadratic function where they may be."""
    u, u_low, u_high, v, v_low, v_high = places
    low, high, across, down, twists, bows_u, bows_v, rounding = made
    height, width = images.shape[2] - 2, images.shape[3] - 2
    most = 3 * (max(height, width) + 4) + 2
    columns, rows = np.empty(most, np.int64), np.empty(most, np.int64)
    shares_u, shares_v, places_u, places_v = np.empty(most), np.empty(most), np.empty(most), np.empty(most)
    for b in range(len(u)):
        source = b % len(images)
        for y in range(u.shape[1]):
            for x in range(u.shape[2]):
                cu, cv = u[b, y, x], v[b, y, x]
                size = width + height + 4 + abs(cu) + abs(cv)
                # A little wider, for the roundings of places in the frame.
                slack = 4.0 * UNIT * size
                u0, u1 = u_low[b, y, x] - slack, u_high[b, y, x] + slack
                v0, v1 = v_low[b, y, x] - slack, v_high[b, y, x] + slack
                across_count = _knots(u0, u1, width, v0, v1, triangles, columns, shares_u, places_u)
                down_count = _knots(v0, v1, height, u0, u1, triangles, rows, shares_v, places_v)
                first, last, top, bottom = columns[0], columns[1], rows[0], rows[1]
                for m in range(images.shape[1]):
                    image = images[source, m]
                    steep_u, steep_v, lowest, highest = _steepness(image, first, last, top, bottom)
                    if lowest == highest:  # all that is left is one value, without rounding
                        made[:, b, m, y, x] = 0.0
                        low[b, m, y, x] = high[b, m, y, x] = lowest
                        continue
                    tilt_u, tilt_v, twist = 0.0, 0.0, 0.0
                    if tilted and steep_u + steep_v > 0.0:
                        for j in range(2):
                            for i in range(2):
                                shares = shares_u[i], shares_v[j]
                                corner = _value(image, columns[i], rows[j], *shares, triangles)
                                tilt_u += (2 * i - 1) * corner / (2.0 * (u1 - u0))
                                tilt_v += (2 * j - 1) * corner / (2.0 * (v1 - v0))
                                twist += (2 * i - 1) * (2 * j - 1) * corner / ((u1 - u0) * (v1 - v0))
                        # No steeper than the image is: quotients of tiny differences are mostly rounding.
                        tilt_u = min(max(tilt_u, -steep_u), steep_u)
                        tilt_v = min(max(tilt_v, -steep_v), steep_v)
                        twist = min(max(twist, -2.0 * steep_u), 2.0 * steep_u) if bent else 0.0
                    least, largest, below, above = np.inf, -np.inf, np.inf, -np.inf
                    for j in range(down_count):
                        for i in range(across_count):
                            here = _value(image, columns[i], rows[j], shares_u[i], shares_v[j], triangles)
                            here -= tilt_u * (places_u[i] - cu) + tilt_v * (places_v[j] - cv)
                            least, largest = min(least, here), max(largest, here)
                            here -= twist * (places_u[i] - cu) * (places_v[j] - cv)
                            below, above = min(below, here), max(above, here)
                    if above - below < largest - least:
                        least, largest = below, above
                    else:
                        twist = 0.0
                    bow_u, bow_v = 0.0, 0.0
                    if squared and steep_u + steep_v > 0.0 and (across_count > 2 or down_count > 2):
                        half_u, half_v = 0.5 * (u1 - u0), 0.5 * (v1 - v0)
                        tu, tv, tw, bu, bv = _fitted_over(image, cu, half_u, cv, half_v)
                        # As above: no more curved than differences of neighbours over the box can tell.
                        bu = min(max(bu, -steep_u / half_u), steep_u / half_u)
                        bv = min(max(bv, -steep_v / half_v), steep_v / half_v)
                        tu, tv = min(max(tu, -steep_u), steep_u), min(max(tv, -steep_v), steep_v)
                        fit = tu, tv, min(max(tw, -2.0 * steep_u), 2.0 * steep_u), bu, bv
                        ends_u, ends_v = np.sort(places_u[:across_count]), np.sort(places_v[:down_count])
                        below, above = _bowed(image, cu, cv, fit, ends_u, ends_v)
                        if above - below < largest - least:
                            least, largest = below, above
                            tilt_u, tilt_v, twist, bow_u, bow_v = fit
                    if tilted and largest - least > highest - lowest:
                        least, largest, tilt_u, tilt_v, twist = lowest, highest, 0.0, 0.0, 0.0
                        bow_u, bow_v = 0.0, 0.0
                    low[b, m, y, x], high[b, m, y, x] = least, largest
                    across[b, m, y, x], down[b, m, y, x], twists[b, m, y, x] = tilt_u, tilt_v, twist
                    bows_u[b, m, y, x], bows_v[b, m, y, x] = bow_u, bow_v
                    rounding[b, m, y, x] = 0.0
                    if steep_u + steep_v > 0.0:
                        sizes = abs(least) + abs(largest) + (size + u1 - u0 + v1 - v0) * (steep_u + steep_v)
                        sizes += abs(twist) * (size * (u1 - u0 + v1 - v0) + 2.0 * (u1 - u0) * (v1 - v0))
                        sizes += abs(bow_u) * (u1 - u0) * (2.0 * size + 2.0 * (u1 - u0))
                        sizes += abs(bow_v) * (v1 - v0) * (2.0 * size + 2.0 * (v1 - v0))
                        rounding[b, m, y, x] = _ROUNDINGS * UNIT * sizes
