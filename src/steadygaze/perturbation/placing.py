"""Where the entries of a map stand in the image, and where what stands there came from.

A change of amounts 0 to theta moves content that constant amounts of its own and of later links have placed.
Let s(theta) say where each pixel of a link's output comes from, c be s(0), and D the way from the entries of
the map back through the grid and all later constants to that output. What an entry p shows then came from

    D^-1 c^-1 s(theta) D p  =  p + (A_c A_D)^-1 (s(theta) - c)(D p),

A being the linear parts: at theta = 0 exactly p.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Placement:
    """An affine map of the plane: (x, y) becomes ``matrix`` (2, 2) @ (x, y) + ``shift`` (2,).

    x counts to the right and y down, from the centre of the picture; as a grid, entries of a map become
    pixels of the image.
    """

    matrix: np.ndarray
    shift: np.ndarray

    @property
    def is_identity(self) -> bool:
        """Whether every point stays where it is."""
        return self.keeps_directions and not self.shift.any()

    @property
    def keeps_directions(self) -> bool:
        """Whether it moves all points alike."""
        return bool((self.matrix == np.eye(2)).all())

    def of(self, inner: Placement) -> Placement:
        """``inner`` first, then this."""
        return Placement(self.matrix @ inner.matrix, self.matrix @ inner.shift + self.shift)

    def at(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the points (x, y), two arrays of one shape, go."""
        if self.is_identity:
            return x, y
        (a, b), (c, d) = self.matrix
        return a * x + b * y + self.shift[0], c * x + d * y + self.shift[1]


def moved_by(right: float, down: float) -> Placement:
    """Every point moved by so many pixels."""
    return Placement(np.eye(2), np.array([right, down], dtype=np.float64))


def grid(
    origin: Sequence[float],
    column: Sequence[float],
    row: Sequence[float],
    entries: Sequence[int],
    pixels: Sequence[int],
) -> Placement:
    """From the entries of a map to pixels of the image, both counted from their middles.

    Entry (i, j) stands at the pixel (x, y) = ``origin`` + j ``column`` + i ``row``; ``entries`` and
    ``pixels`` are the shapes (..., H, W) of the map and of the image.
    """
    matrix = np.array([column, row], dtype=np.float64).T
    (middle, centre) = (np.array([size[-1] - 1, size[-2] - 1]) / 2 for size in (entries, pixels))
    return Placement(matrix, matrix @ middle + origin - centre)


#: Every point where it is: the grid of maps that have the image's size.
IN_PLACE = moved_by(0.0, 0.0)
