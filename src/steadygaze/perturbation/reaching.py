"""Which pixels the content of a mask reaches where the image is read bilinearly.

A pixel that is read at (u, v) takes a share of pixel (c, r) where |u - c| < 1 and |v - r| < 1. Whether there
is an amount in the range for which this holds is settled by halving: a box of amounts is dropped where
enclosures of (u, v) over it lead nowhere near the mask, and a pixel is done where some amount leads there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np

# A place this close (in pixels) to where its share of a pixel ends has none: rounding leads no farther.
TOUCHING = 1e-9
# How often the boxes are halved. What is open then reaches into the shares of the mask by less than the
# places differ over 2^-40 of the ranges, and counts as touching.
_HALVINGS = 40

#: Least and largest column, least and largest row, (N,) each.
Spans = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def reached(
    mask: np.ndarray,
    ranges: np.ndarray,
    halve: Sequence[int],
    spans: Callable[[np.ndarray, np.ndarray], Spans],
) -> np.ndarray:
    """The pixels (H, W) that take a share of ``mask`` (H, W) for some amounts in the ``ranges`` (k, 2).

    ``spans`` says between which places pixels of the given numbers (N,) are read over boxes of amounts
    (N, k, 2). ``halve`` lists the amounts to be halved; where those are fixed, the others move each pixel's
    place along one axis alone, so that ``spans`` says exactly where it gets to.
    """
    found = np.zeros(mask.size, dtype=bool)
    near = Near(mask, 1.0)
    pixels = np.arange(mask.size)
    boxes = np.broadcast_to(ranges, (mask.size, *ranges.shape))
    halve = list(halve)
    points = np.array([*product((0.0, 1.0), repeat=len(halve)), [0.5] * len(halve)])
    for halving in range(_HALVINGS * max(1, len(halve))):
        open_ = near(*spans(pixels, boxes))
        pixels, boxes = pixels[open_], boxes[open_]
        low, width = boxes[:, halve, 0], boxes[:, halve, 1] - boxes[:, halve, 0]
        for point in points:
            fixed = boxes.copy()
            fixed[:, halve] = (low + point * width)[..., None]
            found[pixels[near(*spans(pixels, fixed))]] = True
        unsettled = ~found[pixels]
        pixels, boxes = pixels[unsettled], boxes[unsettled]
        if not len(pixels) or not halve:
            break
        pixels, boxes = np.repeat(pixels, 2), _halved(boxes, halve[halving % len(halve)])
    return found.reshape(mask.shape)


class Near:
    """Whether some pixel of a mask (H, W) is less than ``reach`` away, along both axes, from boxes of places.

    With a reach of 1 a share of it is taken somewhere in the box, with 1/2 its square overlaps the box.
    """

    def __init__(self, mask: np.ndarray, reach: float) -> None:
        self._sizes, self._far = mask.shape, reach - TOUCHING
        self._sums = np.pad(mask.astype(np.int64).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))

    def __call__(
        self, u_low: np.ndarray, u_high: np.ndarray, v_low: np.ndarray, v_high: np.ndarray
    ) -> np.ndarray:
        """For columns and rows within these bounds, arrays of one shape: bool of the same."""
        left, right = self._reach(u_low, u_high, self._sizes[1])
        top, bottom = self._reach(v_low, v_high, self._sizes[0])
        sums = self._sums
        count = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
        return (left < right) & (top < bottom) & (count > 0)

    def _reach(self, low: np.ndarray, high: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """First pixel, and first one after the last, that is near enough to what is between two places."""
        first = np.floor(low - self._far) + 1
        after = np.ceil(high + self._far)
        return np.clip(first, 0, size).astype(int), np.clip(after, 0, size).astype(int)


def _halved(boxes: np.ndarray, axis: int) -> np.ndarray:
    """Both halves of each box (N, k, 2) along an axis, one after the other."""
    halves = np.repeat(boxes, 2, axis=0)
    middle = boxes[:, axis, 0] + (boxes[:, axis, 1] - boxes[:, axis, 0]) / 2
    halves[0::2, axis, 1] = middle
    halves[1::2, axis, 0] = middle
    return halves
