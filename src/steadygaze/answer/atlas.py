"""What the page needs to tell of any theta that is pointed at: plain arrays, no torch.

Places are in the box as it is drawn: u = (theta - low) / (high - low), so that the box is [0, 1]^n. Cells are
numbered as in the map, and a table holds those that the page knows; what lies in none of them was not
examined.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steadygaze.errors import InternalCheckError

FloatArray = NDArray[np.float64]
WholeArray = NDArray[np.int64]


@dataclass(frozen=True)
class CellTable:
    """M cells: number in the map, kind, activation region (-1 unknown), share of the box, inconsistency.

    All are ``(M,)``; an inconsistency is nan where it is not known or not asked about, and where it varies
    inside the cell one of its values, to colour the cell by.
    """

    number: WholeArray
    kind: NDArray[np.int8]
    region: WholeArray
    share: FloatArray
    inconsistency: FloatArray

    def __post_init__(self) -> None:
        lengths = {name: len(column) for name, column in vars(self).items()}
        if len(set(lengths.values())) != 1:
            raise InternalCheckError(f"the columns of a table of cells differ in length: {lengths}")


@dataclass(frozen=True)
class Stretches:
    """The cells of one parameter: ends ``(M, 2)`` of each."""

    ends: FloatArray


@dataclass(frozen=True)
class Sheet:
    """The section through 0 in the plane of two parameters, which are ``axes``.

    Polygon p is a part of cell ``cell[p]`` of the table and has the corners ``points[offsets[p]:offsets[p +
    1]]``. Where these are too many, ``picture`` ``(rows, columns)``, lowest row first, is the cell at the
    middle of each picture element instead, -1 for none.
    """

    axes: tuple[int, int]
    cell: WholeArray
    points: FloatArray
    offsets: WholeArray
    picture: WholeArray | None = None


@dataclass(frozen=True)
class HalfSpaces:
    """M polytopes, each what some half-spaces have in common.

    Plane q is normal[q] . u = offset[q], ``(Q, n)`` and ``(Q,)``. Polytope m lies on one side of each of
    ``facet[ptr[m]:ptr[m + 1]]``: of q + 1 below plane q, of -(q + 1) above it. ``low`` and ``high``,
    ``(M, n)``, enclose each.
    """

    normal: FloatArray
    offset: FloatArray
    ptr: WholeArray
    facet: WholeArray
    low: FloatArray
    high: FloatArray


@dataclass(frozen=True)
class Forms:
    """Pictures affine in theta on each piece: base ``(pieces, ...)``, directions ``(pieces, n, ...)``."""

    base: FloatArray
    directions: FloatArray


@dataclass(frozen=True)
class Stops:
    """S points at which the network was evaluated, the most telling ones first.

    Attributes:
        theta: ``(S, n)``. region: ``(S,)`` that it stands for, -1 for itself alone.
        logits: ``(S, K)``. slopes: ``(S, n, K)``, of those that stand for a region; else 0.
        saliency: ``(S, h, w)``, summed over the channels; nan where it is not compared. inconsistency:
            ``(S,)``. None, both of them, where the class alone was asked about.
        image, expected: ``(S, C, H, W)`` and ``(S, h, w)``; None where forms give them, and where no
            map was asked about.
        angles: ``(S, n + 2)``: products of the map with the base and the directions of the expected one, and
            the length of the map; None where the inconsistency cannot be worked out from these.
    """

    theta: FloatArray
    region: WholeArray
    logits: FloatArray
    slopes: FloatArray
    saliency: FloatArray | None
    inconsistency: FloatArray | None
    image: FloatArray | None = None
    expected: FloatArray | None = None
    angles: FloatArray | None = None


@dataclass(frozen=True)
class Atlas:
    """All of it.

    Attributes:
        classes: the name of each class.
        cells: the table. cell_count, region_count: of the whole map.
        ground: where the cells lie: stretches, or half-spaces (each polytope a cell of the table, in order),
            or sections through 0.
        stops: points at which the network was evaluated.
        image: the image before the clip, None where stops have it. expected: the same for the expected map,
            of which there is none where the class alone was asked about.
        pieces: which form holds where; None where there is one.
        gram: ``(pieces, n + 1, n + 1)`` products of the base and directions of the expected map, with angles.
        same_inconsistency: whether the inconsistency of a cell holds all over it.
        same_map: whether the map of a stop holds all over its region.
        same_scores: whether logits and slopes do.
    """

    classes: tuple[str, ...]
    cells: CellTable
    cell_count: int
    region_count: int
    ground: Stretches | HalfSpaces | tuple[Sheet, ...]
    stops: Stops
    image: Forms | None
    expected: Forms | None
    pieces: HalfSpaces | None
    gram: FloatArray | None
    same_inconsistency: bool
    same_map: bool
    same_scores: bool
