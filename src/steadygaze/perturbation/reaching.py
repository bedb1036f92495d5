"""Which pixels the content of a mask reaches where the image is read bilinearly.

A pixel that is read at (u, v) takes a share of pixel (c, r) where |u - c| < 1 and |v - r| < 1. Whether there
is an amount in the range for which this holds is settled by halving: a box of amounts is dropped where
enclosures of (u, v) over it lead nowhere near the mask, and a pixel is done where some amount leads there.

A pixel beside the mask touches it at amounts of 0, and so may whole faces and curves of amounts do. Boxes
along these would double with every halving, were it not that those are dropped which come near along one axis
only where they do not along the other, and that what neither hangs on is not halved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np

from steadygaze.enclosing.enclosures import Enclosure

# A place this close (in pixels) to where its share of a pixel ends has none: rounding leads no farther.
TOUCHING = 1e-9
# How often the boxes are halved. What is open then reaches into the shares of the mask by less than the
# places differ over 2^-40 of the ranges, and counts as touching.
_HALVINGS = 40
# A pixel with more open boxes than these, no corner of which takes a share, counts as touching, too: where
# four and five amounts pull against each other there is no end of them.
MOST_BOXES = 1 << 9

#: Columns and rows that pixels (N,) are read at, over boxes of amounts.
Places = tuple[Enclosure, Enclosure]


def reached(
    mask: np.ndarray,
    ranges: np.ndarray,
    halve: Sequence[int],
    places: Callable[[np.ndarray, np.ndarray], Places],
) -> np.ndarray:
    """The pixels (H, W) that take a share of ``mask`` (H, W) for some amounts in the ``ranges`` (k, 2).

    ``places`` says where pixels of the given numbers (N,) are read over boxes of amounts (N, k, 2).
    ``halve`` lists the amounts to be halved; where those are fixed, the others move each pixel's place along
    one axis alone, so that ``places`` says exactly where it gets to.
    """
    found = np.zeros(mask.size, dtype=bool)
    near = Near(mask, 1.0)
    pixels = np.arange(mask.size)
    boxes = np.broadcast_to(ranges, (mask.size, *ranges.shape))
    halve = list(halve)
    points = np.array([*product((0.0, 1.0), repeat=len(halve)), [0.5] * len(halve)])
    for _ in range(_HALVINGS * max(1, len(halve))):
        open_, axes = near.together(*places(pixels, boxes))
        pixels, boxes, axes = pixels[open_], boxes[open_], axes[open_]
        low, width = boxes[:, halve, 0], boxes[:, halve, 1] - boxes[:, halve, 0]
        for point in points:
            fixed = boxes.copy()
            fixed[:, halve] = (low + point * width)[..., None]
            across, down = places(pixels, fixed)
            found[pixels[near(*across.bounds(), *down.bounds())]] = True
        unsettled = ~found[pixels] & (np.bincount(pixels, minlength=mask.size)[pixels] <= MOST_BOXES)
        pixels, boxes, axes = pixels[unsettled], boxes[unsettled], axes[unsettled]
        if not len(pixels) or not halve:
            break
        pixels, boxes = np.repeat(pixels, 2), _halved(boxes, _telling(axes, boxes, ranges, halve))
    return found.reshape(mask.shape)


class Near:
    """Whether some pixel of a mask (H, W) is less than ``reach`` away, along both axes, from boxes of places.

    With a reach of 1 a share of it is taken somewhere in the box, with 1/2 its square overlaps the box.
    """

    def __init__(self, mask: np.ndarray, reach: float) -> None:
        self._sizes, self._far = mask.shape, reach - TOUCHING
        self._sums = np.pad(mask.astype(np.int64).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
        self._rows, self._columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))

    def __call__(
        self, u_low: np.ndarray, u_high: np.ndarray, v_low: np.ndarray, v_high: np.ndarray
    ) -> np.ndarray:
        """For columns and rows within these bounds, arrays of one shape: bool of the same."""
        left, right = self._reach(u_low, u_high, self._sizes[1])
        top, bottom = self._reach(v_low, v_high, self._sizes[0])
        sums = self._sums
        count = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
        return (left < right) & (top < bottom) & (count > 0)

    def together(self, across: Enclosure, down: Enclosure) -> tuple[np.ndarray, np.ndarray]:
        """For places (N,): whether they may be near, bool (N,), and what that hangs on, (N, n).

        The second is by how much each coordinate moves the distances to the borders of the mask's reach that
        the box lies on.
        """
        (u_low, u_high), (v_low, v_high) = across.bounds(), down.bounds()
        open_ = self(u_low, u_high, v_low, v_high)
        if not open_.any():
            return open_, np.zeros((len(open_), across.count))
        left, right = self._reach(u_low, u_high, self._sizes[1])
        top, bottom = self._reach(v_low, v_high, self._sizes[0])
        # How far within the reach of the mask places are from each of its sides: all four must be above 0.
        least, most = np.maximum(left, self._columns[0]), np.minimum(right - 1, self._columns[-1])
        highest, lowest = np.maximum(top, self._rows[0]), np.minimum(bottom - 1, self._rows[-1])
        across_sides = [across - (least - self._far), across * -1.0 + (most + self._far)]
        down_sides = [down - (highest - self._far), down * -1.0 + (lowest + self._far)]
        for one, other in product(across_sides, down_sides):
            open_ &= ~_never_both(one, other)
        hangs = np.zeros((len(open_), across.count))
        for side in (*across_sides, *down_sides):
            crossed = side.bounds()[0] <= 0
            hangs += np.abs(side.slopes) * crossed[:, None]
        return open_, hangs

    def _reach(self, low: np.ndarray, high: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """First pixel, and first one after the last, that is near enough to what is between two places."""
        first = np.floor(low - self._far) + 1
        after = np.ceil(high + self._far)
        return np.clip(first, 0, size).astype(int), np.clip(after, 0, size).astype(int)


def _never_both(one: Enclosure, other: Enclosure) -> np.ndarray:
    """Where no point of a box has both above 0, (N,): a mean of them with some weights is at most 0 on it.

    The largest value of a mean is a convex function of the weights that bends where a slope vanishes.
    """
    opposed = one.slopes * other.slopes < 0
    weights = np.where(opposed, other.slopes / np.where(opposed, other.slopes - one.slopes, 1.0), 1.0)
    never = np.zeros(len(one.centre), dtype=bool)
    for weight in weights.swapaxes(0, 1):
        mean = one * weight + other * (1 - weight)
        never |= mean.bounds()[1] <= 0
    return never


def _telling(hangs: np.ndarray, boxes: np.ndarray, ranges: np.ndarray, halve: list[int]) -> np.ndarray:
    """The amount of each box to halve, (N,): what moves it most; where nothing does, what is widest."""
    widths = (boxes[..., 1] - boxes[..., 0]) / np.maximum(ranges[:, 1] - ranges[:, 0], 1e-300)
    moving = hangs[:, halve]
    moved = moving.max(axis=1, keepdims=True) > 0
    return np.array(halve)[np.where(moved, moving, widths[:, halve]).argmax(axis=1)]


def _halved(boxes: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Both halves of each box (N, k, 2) along its own axis (N,), one after the other."""
    halves, every = np.repeat(boxes, 2, axis=0), np.arange(len(boxes))
    low, high = boxes[every, axes, 0], boxes[every, axes, 1]
    middle = low + (high - low) / 2
    halves[2 * every, axes, 1] = middle
    halves[2 * every + 1, axes, 0] = middle
    return halves
