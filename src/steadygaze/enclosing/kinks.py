"""Images read about pixels that places cross grid lines at, with kinks as coordinates that pixels share.

About a pixel (U, V) a bilinear image is, for places (U + a, V + b) with |a|, |b| <= 1,

    p + A a + K |a| + B b + L |b| + c(sign a, sign b) |a| |b|,

and a is affine in the coordinates t of a box but for little. Where amounts are 0, at t = o, all places are at
their pixels: a = r (d · s), |d|_1 = 1, with s_j = (t_j - o_j) / (1 + |o_j|) in [-1, 1]. Whatever size a box
about 0 has, |a| is a share of how far the place moves. But it depends on the direction d alone, and many
pixels share one, or have nearly the same: |n · s| for each of some directions n is one coordinate more.
Between two of them, d = x n + y m + e with x + y = 1, x, y >= 0, and

    |d · s| = x |n · s| + y |m · s| - x y D ± (x y D + |e|_1),    D = |n - m|_1:

where n · s and m · s have different signs, what is left is at most 2 min(x |n · s|, y |m · s|), and
|n · s| + |m · s| = |(n - m) · s| <= D. With one of them alone |d · s| is |n · s| ± |d - n|_1.
"""

from __future__ import annotations

import numpy as np

from steadygaze.enclosing.enclosures import UNIT, Enclosure

# Directions are one that differ by less than this: by rounding, and by what turns add to small boxes.
_SAME = 1e-9
# What is computed for one value has fewer roundings than this.
_ROUNDINGS = 64


def kinked(
    images: np.ndarray, u: Enclosure, v: Enclosure, moving: np.ndarray, count: int, kinks: int
) -> Enclosure:
    """Framed images ``(B or 1, M, H + 2, W + 2)`` read at places ``(B, H, W)``: ``(B, M, H, W)``.

    The last ``kinks`` of the ``count`` coordinates are what pixels share; ``moving`` are those that places
    have, in order. Errors are infinite where a place may leave the cells about the pixel next to it.
    """
    shape = (len(u.centre), images.shape[1], *u.shape)
    centre, error = np.zeros(shape), np.full(shape, np.inf)
    slopes = np.zeros((shape[0], count, *shape[1:]))
    for box in range(shape[0]):
        one = _of_box(images[box % len(images)], (u, v), box, kinks)
        centre[box], own, shared, error[box] = one
        slopes[box, moving] = own
        slopes[box, count - kinks :] = shared
    return Enclosure(centre, slopes, error)


def _of_box(
    image: np.ndarray, places: tuple[Enclosure, Enclosure], box: int, kinks: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Centre, slopes by coordinates and by kinks, and error, of images ``(M, H + 2, W + 2)`` over one box."""
    at, off, ways, lost, reach = zip(*(_about_pixels(own, box) for own in places), strict=True)
    height, width = image.shape[1] - 2, image.shape[2] - 2
    inside = (at[0] >= 0) & (at[0] < width) & (at[1] >= 0) & (at[1] < height)
    inside &= (reach[0] < 1) & (reach[1] < 1)
    column, row = (np.where(inside, own, 0).astype(np.int64) + 1 for own in at)

    def pixel(right: int, down: int) -> np.ndarray:
        return image[:, row + down, column + right]

    middle = pixel(0, 0)
    centre, error, sizes = middle.copy(), np.zeros(middle.shape), np.zeros(middle.shape)
    slopes = np.zeros((len(ways[0]), *middle.shape))
    shared = np.zeros((kinks, *middle.shape))
    meeting = _meeting(np.stack(off)[:, inside], np.stack(ways)[:, :, inside])
    far = (1 + np.abs(meeting))[:, None, None]
    around = [(pixel(*after), pixel(*before)) for after, before in (((1, 0), (-1, 0)), ((0, 1), (0, -1)))]
    bends = [(after + before) / 2 - middle for after, before in around]
    sizes_of = np.stack([np.where(inside, np.sqrt((own**2).sum(axis=0)), 0.0) for own in bends])
    numbers, shares, rests, _ = _shared_directions(np.stack(ways) * far, kinks, sizes_of)
    for axis, ((after, before), kink) in enumerate(zip(around, bends, strict=True)):
        tilt = (after - before) / 2
        centre += tilt * off[axis]
        slopes += tilt * ways[axis][:, None]
        rest, spread = rests[:, axis]
        apart, most = off[axis] + np.tensordot(meeting, ways[axis], axes=1), reach[axis] * far.max()
        for number, share in zip(numbers[:, axis], shares[:, axis], strict=True):
            # A coordinate g is 2 |n · s| - 1.
            centre += kink * (share / 2)
            # Each pixel has one number, so that no two of these are one.
            rows, columns = np.indices(number.shape)
            shared[number, :, rows, columns] += np.moveaxis(kink * (share / 2), 0, -1)
        centre -= kink * rest
        sizes += (np.abs(tilt) + np.abs(kink)) * reach[axis]
        error += (
            np.abs(kink) * (spread + np.abs(apart) + lost[axis] + _ROUNDINGS * UNIT * most)
            + np.abs(tilt) * lost[axis]
        )
    both = np.stack(
        [pixel(a, b) - pixel(a, 0) - pixel(0, b) + middle for a in (-1, 1) for b in (-1, 1)] + [0 * middle]
    )
    area = reach[0] * reach[1] / 2
    centre += area * (both.max(axis=0) + both.min(axis=0))
    error += area * (both.max(axis=0) - both.min(axis=0))
    sizes += area * np.abs(both).max(axis=0)
    error += 8 * UNIT * np.abs(centre) * (error > 0) + _ROUNDINGS * UNIT * sizes
    error *= 1 + _ROUNDINGS * UNIT
    return centre, slopes, shared, np.where(inside, error, np.inf)


def _meeting(off: np.ndarray, ways: np.ndarray) -> np.ndarray:
    """About which coordinates ``(n,)`` places, off by ``(2, P)``, with ways ``(2, n, P)``, are at pixels.

    Within a box, which ends there if it is not inside.
    """
    if not off.any():
        return np.zeros(ways.shape[1])
    lines, values = np.moveaxis(ways, 1, -1).reshape(-1, ways.shape[1]), -off.ravel()
    # By the scale of places, as of tiny boxes all squares are next to nothing.
    size = np.abs(lines).max(initial=0.0) or 1.0
    return np.clip(np.linalg.lstsq(lines / size, values / size)[0], -1.0, 1.0)


def _about_pixels(own: Enclosure, box: int) -> tuple[np.ndarray, ...]:
    """Along one axis: nearest pixels, how far middles are off them, slopes, errors, how far places reach."""
    centre, ways = own.centre[box], own.slopes[box]
    at = np.rint(centre)
    off, rounding = centre - at, 4 * UNIT * (np.abs(centre) + 1)
    lost = own.error[box] + np.where(np.abs(off) > 0, rounding, 0.0)
    return at, off, ways, lost, (np.abs(off) + np.abs(ways).sum(axis=0) + lost) * (1 + 1e-12)


def _shared_directions(
    ways: np.ndarray, kinks: int, sizes: np.ndarray | float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What kinks of some sizes ``(2, H, W)`` along ways ``(2, n, H, W)`` are made of, if pixels share them.

    Returns the numbers ``(2, 2, H, W)`` of two shared ones for each way; their shares, as lengths; by how
    much both together are too large in the middle, and how far from there at most, ``(2, 2, H, W)``; and
    the directions ``(k, n)`` that are shared.
    """
    n, shape = ways.shape[1], (ways.shape[0], *ways.shape[2:])
    flat = np.moveaxis(ways, 1, -1).reshape(-1, n)
    length = np.abs(flat).sum(axis=1)
    safe = np.where(length > 0, length, 1.0)
    along = flat / safe[:, None]
    along[length == 0] = 0.0
    along[length == 0, 0] = 1.0
    # Of both ways to go along a line the one whose first large entry is positive.
    first = (np.abs(along) > _SAME).argmax(axis=1)
    along = along * np.sign(along[np.arange(len(along)), first])[:, None]
    rounded, place = np.unique(np.rint(along / _SAME).astype(np.int64), axis=0, return_inverse=True)
    found, place = rounded * _SAME, place.ravel()
    if n == 2:
        # By their angles, as neighbours are to be mixed; of more coordinates the order says less.
        order = np.argsort(np.arctan2(found[:, 1], found[:, 0]), kind="stable")
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        found, place = found[order], rank[place]
    chosen = np.arange(len(found))
    if len(found) > kinks:
        squares = (length * np.broadcast_to(sizes, shape).ravel()) ** 2
        share = np.cumsum(_density(found, np.bincount(place, weights=squares, minlength=len(found))))
        chosen = np.unique(np.searchsorted(share, (np.arange(kinks) + 0.5) / kinks).clip(0, len(found) - 1))
    nodes = found[chosen] / np.abs(found[chosen]).sum(axis=1, keepdims=True)
    numbers, shares, bend = _between_neighbours(along, nodes, np.searchsorted(chosen, place))
    off = np.abs(
        along - (shares[0][:, None] * nodes[numbers[0]] + shares[1][:, None] * nodes[numbers[1]])
    ).sum(axis=1)
    spread = length * (bend + off + _ROUNDINGS * UNIT)
    return (
        numbers.reshape(2, *shape),
        (shares * length).reshape(2, *shape),
        np.stack([length * bend, spread]).reshape(2, *shape),
        nodes,
    )


def _density(found: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """How many of the directions ``(D, n)`` are to be shared where each is, as shares of all ``(D,)``.

    What is left of a kink goes with the angle between its neighbours. With as many of these to an angle as
    the third root of the squares ``(D,)`` of kinks there is, what is left of all is shortest.
    """
    spans = np.ones(len(found))
    if found.shape[1] == 2:
        spans = np.gradient(np.arctan2(found[:, 1], found[:, 0]))
    weight = np.cbrt(squares * spans**2) + np.finfo(np.float64).tiny
    return weight / weight.sum()


def _between_neighbours(
    along: np.ndarray, nodes: np.ndarray, after: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each direction ``(P, n)`` the two nodes, in order, that it lies between, and their shares.

    And by how much these are too large in the middle, ``(P,)``: x y D (see the module).
    """
    count = len(nodes)
    high, low = np.minimum(after, count - 1), np.maximum(after - 1, 0)
    gap = nodes[high] - nodes[low]
    square = (gap**2).sum(axis=1)
    part = np.where(
        square > 0, ((along - nodes[low]) * gap).sum(axis=1) / np.where(square > 0, square, 1.0), 0.0
    )
    # Off the line between both, one of them alone may be nearer.
    part = np.clip(part, 0.0, 1.0)
    far = np.abs(gap).sum(axis=1)
    shares = np.stack([1 - part, part])
    bend = shares[0] * shares[1] * far
    mixed = bend + np.abs(along - (shares[0][:, None] * nodes[low] + shares[1][:, None] * nodes[high])).sum(
        axis=1
    )
    ends = np.stack([np.abs(along - nodes[own]).sum(axis=1) for own in (low, high)])
    single = ends.min(axis=0) < mixed
    nearest = ends.argmin(axis=0)
    shares = np.where(single, np.stack([nearest == 0, nearest == 1]).astype(float), shares)
    bend = np.where(single, 0.0, bend)
    return np.stack([low, high]), shares, bend
