"""What the pictures need of an answer: plain arrays, no torch.

A map has up to 10^5-10^6 cells, so cells are rows of arrays, never objects. ``kind`` holds the codes
0 robust, 1 class-changed, 2 attention-changed, 3 undecided; ``nan`` is an inconsistency that is not known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steadygaze.answer.atlas import Atlas
from steadygaze.errors import InternalCheckError

KINDS = ("robust", "class-changed", "attention-changed", "undecided")  # the name of kind code 0, 1, 2, 3

CURVES = ("inconsistency", "class gap")  # along one parameter; of the class alone only the second

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Interval1D:
    """The map of one parameter: M cells along the axis, values at both ends of each.

    ``edges``, ``inconsistency``, ``class_gap``: ``(M, 2)``; ``kind``: ``(M,)``. Cells may come in any order.
    """

    edges: FloatArray
    kind: NDArray[np.int8]
    inconsistency: FloatArray
    class_gap: FloatArray

    def __post_init__(self) -> None:
        cells = len(self.kind)
        shapes = [self.edges.shape, self.inconsistency.shape, self.class_gap.shape]
        if shapes != [(cells, 2)] * 3:
            raise InternalCheckError(
                f"{cells} cells of an axis need arrays of shape ({cells}, 2), got {shapes}"
            )


@dataclass(frozen=True)
class Polygons:
    """The map of two parameters, or one slice through 0 of the map of more; ``axes`` are their places in θ.

    Cell m has the corners ``points[offsets[m]:offsets[m + 1]]``, in order around it; ``points``: ``(P, 2)``,
    ``offsets``: ``(M + 1,)`` from 0 to P, ``kind`` and ``inconsistency``: ``(M,)``; ``cell`` ``(M,)``:
    numbers in the map, where there is one.
    """

    axes: tuple[int, int]
    points: FloatArray
    offsets: NDArray[np.int64]
    kind: NDArray[np.int8]
    inconsistency: FloatArray
    cell: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        cells = len(self.kind)
        if len(self.offsets) != cells + 1 or self.inconsistency.shape != (cells,):
            raise InternalCheckError(
                f"{cells} polygons need {cells + 1} offsets and {cells} inconsistencies, "
                f"got {len(self.offsets)} and {self.inconsistency.shape}"
            )
        if self.points.shape != (self.offsets[-1], 2) or self.offsets[0] != 0:
            raise InternalCheckError(
                f"the offsets {self.offsets[0]}..{self.offsets[-1]} do not span points of {self.points.shape}"
            )


@dataclass(frozen=True)
class Exhibit:
    """One point of the box to look at: the image there, its saliency map and the map expected there.

    ``image``: ``(C, H, W)`` in [0, 1]; ``saliency`` and ``expected``: ``(C, H, W)`` or ``(H, W)``, ``nan``
    where pixels are not compared, None where the class alone had to hold.
    ``title`` is "original", "worst allowed" or "nearest failing".
    """

    title: str
    theta: tuple[float, ...]
    image: FloatArray
    saliency: FloatArray | None
    expected: FloatArray | None
    predicted: int
    class_gap: float
    inconsistency: float
    kind: int


@dataclass(frozen=True)
class BoundaryPieces:
    """Pieces of an outer boundary, flat polytopes: ``corners`` ``(k, n)`` and ``(k,)`` the ``piece`` of each.

    ``kind`` ``(pieces,)``: "class changes", "neighbour fails", "unexamined" or "face of the box".
    """

    corners: FloatArray
    piece: NDArray[np.int64]
    kind: NDArray[np.str_]


@dataclass(frozen=True)
class Drawing:
    """``intervals`` for one parameter, else one entry of ``polygons`` per pair of parameters, or none.

    ``boundary`` where a search followed it; ``atlas`` for a page that one can point into.
    """

    intervals: Interval1D | None
    polygons: tuple[Polygons, ...]
    exhibits: tuple[Exhibit, ...]
    boundary: BoundaryPieces | None = None
    atlas: Atlas | None = None
