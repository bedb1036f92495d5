"""Images read between their pixels, at places that are known to lie in boxes or along segments.

A place is (u, v): column and row, whole numbers at the pixels. Between pixels the image is bilinear on every
cell, or linear on its two triangles (split from the corner of least u and v to the opposite one). Round the
image there is a frame of one pixel of fill, and beyond it fill everywhere, so that the image is a function of
the whole plane, continuous and smooth but for kinks on grid lines (and diagonals).

Less a linear function it is still bilinear, or linear, on every cell. Over a box its extremes are therefore
attained at grid points inside, where grid lines cross the box's edges, or at its corners; along a segment, at
the ends, where it crosses grid lines, or where the quadratic between two crossings has its vertex. Looking at
all of them gives the exact range, across kinks and the border of the image. Taking off the linear function
first and putting its dependence on the parameters back makes the range one of second order away from kinks.
Where coordinates stand for products of the parameters' own, what is left is bent back, too: less a multiple
of the product of both ways from the centre the image is still bilinear on cells, and along a segment less one
of t² still quadratic. Within a cell nothing remains then, and all pixels that bend share these coordinates.
(Balunović et al., Certifying Geometric Robustness of Neural Networks, NeurIPS 2019, bound the same by
sampling and Lipschitz constants.)
"""

from __future__ import annotations

import numpy as np

from steadygaze.geometry.bits import kernel, part
from steadygaze.geometry.enclosures import UNIT, Enclosure, Pairs, tighter

# Values, differences and places are each the result of fewer roundings than this.
_ROUNDINGS = 16


def resampled(
    values: Enclosure,
    u: Enclosure,
    v: Enclosure,
    fill: np.ndarray,
    *,
    triangles: bool,
    products: Pairs = (),
) -> Enclosure:
    """The values (B, M, H, W) read at places ``u``, ``v`` (B, H, W): enclosed, (B, M, H, W).

    ``fill`` (M,) is what each of the M channels is outside; ``products`` are the factors of the last
    coordinates, see ``Enclosure``.
    """
    moving = np.flatnonzero((u.slopes.any(axis=(2, 3)) | v.slopes.any(axis=(2, 3))).any(axis=0))
    centre = framed(values.centre, fill)
    pairs = {} if triangles else _pairs_followed(u, v, products)  # on triangles nothing bends
    if len(moving) <= 1:
        made = _along(centre, u, v, moving, next(iter(pairs.values()), None), triangles)
    else:
        made = _within(centre, u, v, pairs, triangles)
    if values.is_exact:
        return made
    # Each slope image is read at the same places. Half its range there goes into the error.
    error = made.error
    slopes = made.slopes.copy()
    for j in range(values.count):
        if values.slopes[:, j].any():
            low, high = extremes(framed(values.slopes[:, j], np.zeros_like(fill)), u, v, triangles=triangles)
            slopes[:, j] += low + (high - low) / 2
            error = error + (high - low) / 2 + 4 * UNIT * (np.abs(low) + np.abs(high))
    if values.error.any():
        error = error + extremes(framed(values.error, np.zeros_like(fill)), u, v, triangles=triangles)[1]
    rounding = 4 * UNIT * np.abs(slopes).sum(axis=1)
    wide = Enclosure(made.centre, slopes, np.zeros_like(error)).widened(error + rounding)
    # What is read lies between the least and the largest value of its channel, or of the fill.
    low, high = values.bounds()
    least = np.minimum(low.min(axis=(2, 3)), fill)[:, :, None, None]
    most = np.maximum(high.max(axis=(2, 3)), fill)[:, :, None, None]
    return tighter(wide, Enclosure.between(least, most, values.count))


def extremes(
    images: np.ndarray, u: Enclosure, v: Enclosure, *, triangles: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest values, two arrays (B, M, H, W), over the box round the places (B, H, W).

    ``images`` is ``(B or 1, M, H + 2, W + 2)``: images with one pixel of fill all round.
    """
    low, high, _, _, _, rounding = _boxed(images, u, v, triangles, tilted=False, bent=False)
    return low - rounding, high + rounding


def framed(values: np.ndarray, fill: np.ndarray) -> np.ndarray:
    """The images (B, M, H, W) with a frame of one pixel of ``fill`` (M,); equal rows are kept once."""
    if values.strides[0] == 0:
        values = values[:1]
    rows, channels, height, width = values.shape
    made = np.empty((rows, channels, height + 2, width + 2))
    made[...] = fill[:, None, None]
    made[:, :, 1:-1, 1:-1] = values
    return made


def _pairs_followed(u: Enclosure, v: Enclosure, products: Pairs) -> dict[tuple[int, int], int]:
    """Of each two coordinates that move u and v, the coordinate of their product; {} where one is missing."""
    first = u.count - len(products)
    place = {pair: first + number for number, pair in enumerate(products)}
    across, down = (np.flatnonzero(one.slopes.any(axis=(0, 2, 3))).tolist() for one in (u, v))
    wanted = {(min(j, k), max(j, k)) for j in across for k in down}
    return {pair: place[pair] for pair in sorted(wanted)} if wanted <= place.keys() else {}


def _along(
    images: np.ndarray, u: Enclosure, v: Enclosure, moving: np.ndarray, bow: int | None, triangles: bool
) -> Enclosure:
    """Where the places lie on segments, one coordinate of the boxes being all that moves them.

    bow: the coordinate of its square; None where there is none.
    """
    places = []
    for one in (u, v):
        step = one.slopes[:, moving[0]] if len(moving) else np.zeros(one.centre.shape)
        places += [one.centre, step, one.error]
    made = np.empty((4, *_shape(images, u)))
    _walked(images, np.stack(places), triangles, bow is not None, made)
    slopes = np.zeros((made.shape[1], u.count, *made.shape[2:]))
    if len(moving):
        slopes[:, moving[0]] = made[1]
    if bow is not None:
        slopes[:, bow] = made[2]
    return Enclosure(made[0], slopes, made[3])


def _within(
    images: np.ndarray, u: Enclosure, v: Enclosure, pairs: dict[tuple[int, int], int], triangles: bool
) -> Enclosure:
    """Where they lie in boxes, moved by several coordinates; pairs: of these, the coordinate of each two."""
    low, high, across, down, twist, rounding = _boxed(images, u, v, triangles, tilted=True, bent=bool(pairs))
    slopes = across[:, None] * u.slopes[:, :, None] + down[:, None] * v.slopes[:, :, None]
    error = (high - low) / 2 + np.abs(across) * u.error[:, None] + np.abs(down) * v.error[:, None]
    rounding = rounding + 4 * UNIT * (np.abs(low) + np.abs(high))
    rounding = rounding + 4 * UNIT * (np.abs(across) * u.spread[:, None] + np.abs(down) * v.spread[:, None])
    centre = low + (high - low) / 2
    # twist (u - centre) (v - centre), with both known up to an error.
    for (j, k), product in pairs.items():
        own = twist * (u.slopes[:, j] * v.slopes[:, k])[:, None]
        if j == k:
            own = own / 2
            centre = centre + own
        else:
            own = own + twist * (u.slopes[:, k] * v.slopes[:, j])[:, None]
        slopes[:, product] += own
    if pairs:
        stray = u.error * (v.spread + v.error) + v.error * u.spread
        error = error + np.abs(twist) * stray[:, None]
        rounding = rounding + 4 * (len(pairs) + 4) * UNIT * np.abs(twist) * (u.spread * v.spread)[:, None]
    return Enclosure(centre, slopes, np.zeros_like(error)).widened(error + rounding)


def _boxed(
    images: np.ndarray, u: Enclosure, v: Enclosure, triangles: bool, *, tilted: bool, bent: bool
) -> np.ndarray:
    """Range over boxes of the values less across (u - centre) + down (v - centre) + twist times both.

    One array (6, B, M, H, W): the range, the two slopes, which are 0 unless ``tilted``, the twist, which is
    0 unless ``bent``, and what rounding may have done to the range.
    """
    made = np.empty((6, *_shape(images, u)))
    _ranged(images, np.stack([u.centre, *u.bounds(), v.centre, *v.bounds()]), triangles, tilted, bent, made)
    return made


def _shape(images: np.ndarray, u: Enclosure) -> tuple[int, ...]:
    return len(u.centre), images.shape[1], *u.shape


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


@kernel
def _walked(images, places, triangles, bent, made):
    """Centre, slope, bow and error of images along segments u + t du ± eu, v + t dv ± ev, see `_along`."""
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


@kernel
def _ranged(images, places, triangles, tilted, bent, made):
    """Ranges of images over boxes, less a linear or bilinear function where tilted or bent, see `_boxed`."""
    u, u_low, u_high, v, v_low, v_high = places
    low, high, across, down, twists, rounding = made
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
                    if tilted and largest - least > highest - lowest:
                        least, largest, tilt_u, tilt_v, twist = lowest, highest, 0.0, 0.0, 0.0
                    low[b, m, y, x], high[b, m, y, x] = least, largest
                    across[b, m, y, x], down[b, m, y, x], twists[b, m, y, x] = tilt_u, tilt_v, twist
                    rounding[b, m, y, x] = 0.0
                    if steep_u + steep_v > 0.0:
                        sizes = abs(least) + abs(largest) + (size + u1 - u0 + v1 - v0) * (steep_u + steep_v)
                        sizes += abs(twist) * (size * (u1 - u0 + v1 - v0) + 2.0 * (u1 - u0) * (v1 - v0))
                        rounding[b, m, y, x] = _ROUNDINGS * UNIT * sizes
