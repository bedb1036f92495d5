"""The colours of a map: blue is robust, orange lost its attention, grey its class, pink stripes are open.

Blue against orange is told apart with any colour vision; within both, the shade is the inconsistency: deep
blue where nothing moved, pale at the threshold, deep orange furthest from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steadygaze.geometry.kinds import ATTENTION_CHANGED, CLASS_CHANGED, ROBUST, UNDECIDED

ROBUST_RAMP = ((36, 98, 152), (205, 226, 242))
ATTENTION_RAMP = ((253, 208, 149), (168, 62, 4))
CLASS_GREY = (138, 138, 138)
OPEN_STRIPES = ((252, 232, 242), (214, 106, 160))
STRIPE = 12  # pixels of the map's image

# One colour per kind where shades do not matter: legends, bars, words.
FLAT = ("#3f82bb", "#8a8a8a", "#e58b3a", "#d66aa0")


@dataclass(frozen=True)
class Scale:
    """What the shades span: blue 0 to ``threshold``, orange ``threshold`` to ``top``."""

    threshold: float
    top: float

    def shade(self, inconsistency: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Places in the blue and in the orange ramp, both in [0, 1]; the middle where it is not known."""
        blue = inconsistency / self.threshold if self.threshold > 0 else np.ones_like(inconsistency)
        span = self.top - self.threshold
        orange = (inconsistency - self.threshold) / span if span > 0 else np.zeros_like(inconsistency)
        return np.clip(np.nan_to_num(blue, nan=0.5), 0, 1), np.clip(np.nan_to_num(orange, nan=0.5), 0, 1)


def _along(ramp: tuple[tuple[int, ...], ...], place: NDArray[np.float64]) -> NDArray[np.float64]:
    start, end = np.array(ramp, float)
    return start + place[..., None] * (end - start)


def cell_colours(
    kind: NDArray[np.int8], inconsistency: NDArray[np.float64], scale: Scale
) -> NDArray[np.uint8]:
    """One colour per cell, ``(M, 3)``; undecided cells get the darker colour of their stripes."""
    blue, orange = scale.shade(inconsistency)
    colours = np.empty((len(kind), 3))
    colours[kind == ROBUST] = _along(ROBUST_RAMP, blue)[kind == ROBUST]
    colours[kind == ATTENTION_CHANGED] = _along(ATTENTION_RAMP, orange)[kind == ATTENTION_CHANGED]
    colours[kind == CLASS_CHANGED] = CLASS_GREY
    colours[kind == UNDECIDED] = OPEN_STRIPES[1]
    return np.rint(colours).astype(np.uint8)


def striped(image: NDArray[np.uint8], where: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """``image`` ``(rows, columns, 3)`` with diagonal stripes where ``where`` holds."""
    row, column = np.nonzero(where)
    dark = (row + column) // STRIPE % 2
    image[row, column] = np.array(OPEN_STRIPES, np.uint8)[dark]
    return image


def ramp_colours(scale: Scale, steps: int = 256) -> NDArray[np.uint8]:
    """The colour bar from 0 to ``scale.top``, ``(steps, 3)``: one half for each ramp, or blue alone."""
    place = np.linspace(0, 1, steps)
    if scale.top <= scale.threshold:
        return np.rint(_along(ROBUST_RAMP, place)).astype(np.uint8)
    half = steps // 2
    both = np.concatenate([_along(ROBUST_RAMP, place[::2]), _along(ATTENTION_RAMP, place[::2])])
    return np.rint(both[: 2 * half]).astype(np.uint8)
