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
A box or a segment that grid lines cross leaves kinks. A quadratic, by the Chebyshev series of the image at a
few points, is nearer to one than any line (of |t| it leaves 0.15, a line 0.5), and taken off where it is.
(Balunović et al., Certifying Geometric Robustness of Neural Networks, NeurIPS 2019, bound the same by
sampling and Lipschitz constants.)
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np

from steadygaze.enclosing.affine_kernels import led_to
from steadygaze.enclosing.bilinear import ranged, walked
from steadygaze.enclosing.enclosures import UNIT, Enclosure, Pairs, tighter
from steadygaze.enclosing.kinks import kinked
from steadygaze.enclosing.tilts import put_back


def resampled(
    values: Enclosure,
    u: Enclosure,
    v: Enclosure,
    fill: np.ndarray,
    moving: np.ndarray,
    *,
    triangles: bool,
    products: Pairs = (),
    kinks: int = 0,
) -> Enclosure:
    """The values (B, M, H, W) read at places ``u``, ``v`` (B, H, W): enclosed, (B, M, H, W).

    ``fill`` (M,) is what each of the M channels is outside; ``moving`` (k,) are those of the coordinates of
    the values that places have, in order; ``products`` are the factors of the last ones, see ``Enclosure``,
    but for so many ``kinks`` after them, which nothing else has: what pixels share of these (see ``kinks``).
    """
    across, down = u.moving, v.moving
    centre = framed(values.centre, fill)
    pairs = {}
    if not triangles:  # there nothing bends
        pairs = _pairs_followed(
            moving[across].tolist(), moving[down].tolist(), values.count - kinks, products
        )
    if len(np.union1d(across, down)) <= 1:
        made = _along(centre, u, v, moving, values.count, next(iter(pairs.values()), None), triangles)
    else:
        made = _within(centre, u, v, moving, values.count, pairs, triangles)
    if kinks and len(moving) and not triangles:
        made = tighter(kinked(centre, u, v, moving, values.count, kinks), made)
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


def places_of(rows: Sequence[Sequence[Enclosure]], height: int, width: int) -> tuple[Enclosure, Enclosure]:
    """Columns and rows ``(B, H, W)`` that pixels are read at, from the first pixel.

    rows: of each the factors of x and y, and the shift, ``(B,)``, x and y being counted from the centre.
    """
    every = [own for row in rows for own in row]
    boxes, count = every[0].slopes.shape
    centres, slopes = np.stack([own.centre for own in every]), np.stack([own.slopes for own in every])
    errors = np.stack([own.error for own in every]).reshape(2, 3, boxes)
    parts = (centres.reshape(2, 3, boxes), slopes.reshape(2, 3, boxes, count), errors)
    made = led_to(*parts, height, width, UNIT, every[0].upward)
    across, down = (Enclosure(*own) for own in zip(*made, strict=True))
    return across, down


def extremes(
    images: np.ndarray, u: Enclosure, v: Enclosure, *, triangles: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest values, two arrays (B, M, H, W), over the box round the places (B, H, W).

    ``images`` is ``(B or 1, M, H + 2, W + 2)``: images with one pixel of fill all round.
    """
    made = _boxed(images, u, v, triangles, tilted=False, bent=False, squared=False)
    low, high, rounding = made[0], made[1], made[-1]
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


def _pairs_followed(
    across: list[int], down: list[int], count: int, products: Pairs
) -> dict[tuple[int, int], int]:
    """Of each two coordinates that move columns and rows, that of their product; {} where one is missing.

    With those of each two that move one of them, where none of these is missing. count: of all coordinates.
    """
    first = count - len(products)
    place = {pair: first + number for number, pair in enumerate(products)}
    wanted = {(min(j, k), max(j, k)) for j in across for k in down}
    squares = set(combinations_with_replacement(across, 2)) | set(combinations_with_replacement(down, 2))
    if not wanted <= place.keys():
        return {}
    followed = wanted | squares if squares <= place.keys() else wanted
    return {pair: place[pair] for pair in sorted(followed)}


def _along(
    images: np.ndarray,
    u: Enclosure,
    v: Enclosure,
    moving: np.ndarray,
    count: int,
    bow: int | None,
    triangles: bool,
) -> Enclosure:
    """Where the places lie on segments, one coordinate of the boxes being all that moves them.

    bow: the coordinate of its square; None where there is none.
    """
    places, own = [], np.union1d(u.moving, v.moving)
    for one in (u, v):
        step = one.slopes[:, own[0]] if len(own) else np.zeros(one.centre.shape)
        places += [one.centre, step, one.error]
    made = np.empty((4, *_shape(images, u)))
    walked(images, np.stack(places), triangles, bow is not None, made)
    slopes = np.zeros((made.shape[1], count, *made.shape[2:]))
    if len(own):
        slopes[:, moving[own[0]]] = made[1]
    if bow is not None:
        slopes[:, bow] = made[2]
    return Enclosure(made[0], slopes, made[3])


def _within(
    images: np.ndarray,
    u: Enclosure,
    v: Enclosure,
    moving: np.ndarray,
    count: int,
    pairs: dict[tuple[int, int], int],
    triangles: bool,
) -> Enclosure:
    """Where they lie in boxes, moved by several coordinates; pairs: of these, the coordinate of each two."""
    squared = any(j == k for j, k in pairs)
    made = _boxed(images, u, v, triangles, tilted=True, bent=bool(pairs), squared=squared)
    centre, slopes, error = (
        np.empty(made.shape[1:]),
        np.zeros((made.shape[1], count, *made.shape[2:])),
        np.empty(made.shape[1:]),
    )
    number = {int(coordinate): place for place, coordinate in enumerate(moving)}
    bent = np.array([(number[j], number[k], own) for (j, k), own in pairs.items()], np.int64).reshape(-1, 3)
    places = [
        part for one in (u, v) for part in (np.ascontiguousarray(one.slopes), np.ascontiguousarray(one.error))
    ]
    put_back(made, *places, moving, bent, centre, slopes, error)
    return Enclosure(centre, slopes, error)


def _boxed(
    images: np.ndarray,
    u: Enclosure,
    v: Enclosure,
    triangles: bool,
    *,
    tilted: bool,
    bent: bool,
    squared: bool,
) -> np.ndarray:
    """Range over boxes of the values less across (u - centre) + down (v - centre) + twist times both.

    And less the bow of each times its square. One array (8, B, M, H, W): the range, the two slopes, which
    are 0 unless ``tilted``, the twist, which is 0 unless ``bent``, the two bows, 0 unless ``squared``, and
    what rounding may have done to the range.
    """
    made = np.empty((8, *_shape(images, u)))
    places = np.stack([u.centre, *u.bounds(), v.centre, *v.bounds()])
    ranged(images, places, triangles, tilted, bent, squared, made)
    return made


def _shape(images: np.ndarray, u: Enclosure) -> tuple[int, ...]:
    return len(u.centre), images.shape[1], *u.shape
