"""What a map of cells says: shares, the robust part around 0, safe ranges and scale, the nearest failures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from steadygaze.answer.drawing import KINDS, BoundaryPieces
from steadygaze.answer.result import Failure, Origin, Shares
from steadygaze.deadline import NEVER, Deadline, Expired
from steadygaze.geometry.cells import Cells
from steadygaze.geometry.connection import components, loose_outline, loose_parts, outline
from steadygaze.geometry.half_widths import half_widths
from steadygaze.geometry.kinds import ATTENTION_CHANGED, CLASS_CHANGED, ROBUST, UNDECIDED
from steadygaze.geometry.measure import Facets, cone_volumes, facets
from steadygaze.geometry.outside import clearly_outside
from steadygaze.geometry.sections import (
    Nearest,
    axis_intervals,
    bounds,
    by_euclidean,
    by_gauge,
    gauge,
    nearest,
    nearest_or_less,
)
from steadygaze.search.base import CellMap
from steadygaze.tolerance import Tolerance

if TYPE_CHECKING:
    import shapely


def shares_of(map_: CellMap) -> Shares:
    """Shares of the box by kind; a kind that no cell has is exactly 0, and one that all have exactly 1.

    The cover check has compared the sum of the volumes with that of the box; dividing by the sum makes shares
    add up to 1.
    """
    sums = np.array([map_.volume[map_.kind == kind].sum() for kind in range(4)])
    sums[UNDECIDED] += map_.rest
    parts = sums / sums.sum() if sums.sum() > 0 else np.array([0.0, 0.0, 0.0, 1.0])
    return Shares(*(float(part) for part in parts))


# A safe scale, a radius, or an end of a range in widths of the box, below this is that of a point: rounding
# leaves some 1e-15 of them where 0 itself is blocked.
NOTHING = 1e-12


@dataclass(frozen=True)
class Around:
    """The connected robust part that contains 0.

    Attributes:
        cells: numbers of its cells in the map: none if 0 is not proven robust.
        origin: what is known of it, None where it was not asked for.
        boundary: pieces of its outer boundary (see `search.base.Enclosed`), where a search followed it.
    """

    cells: np.ndarray
    origin: Origin | None
    boundary: BoundaryPieces | None = None


def around_origin(map_: CellMap, box: np.ndarray, tolerance: Tolerance, deadline: Deadline = NEVER) -> Around:
    """R0 with its share, safe ranges along the axes and, in the plane, its outline.

    A point between cells is robust only if all of them are; so 0 is outside R0 as soon as one cell at 0 is
    not robust. Where the deadline passes on the way, ranges are given without the share, or nothing is.
    """
    plane = len(box) == 2
    if not map_.rest and (map_.kind == ROBUST).all():
        return Around(np.arange(map_.cells.count), _everything(box))
    chosen, outer, holes = np.zeros(0, np.int64), (), ()
    ranges, complete = ((0.0, 0.0),) * len(box), _complete(map_)
    try:
        at_origin = cells_at(map_, np.zeros(len(box)), tolerance, deadline)
        begins = len(at_origin) > 0 and bool((map_.kind[at_origin] == ROBUST).all())
        if begins:
            ranges = safe_ranges(map_, box, deadline)
    except Expired:
        return Around(chosen, None)
    if begins:
        robust = np.flatnonzero(map_.kind == ROBUST)
        cells, _ = map_.cells.take(robust)
        doubtful = np.zeros((0, 2), np.int64)
        try:
            found = facets(cells, deadline) if map_.conforming else None
            if found is not None:
                part = components(cells, found)
            else:
                walls, _ = map_.cells.take(np.flatnonzero((map_.kind != ROBUST) & (map_.volume > 0)))
                part, doubtful = loose_parts(cells, walls, deadline)
        except Expired:
            return Around(chosen, Origin(None, ranges, None, None, "not examined"))
        reached = np.zeros(map_.cells.count, bool)
        reached[part[np.searchsorted(robust, at_origin)]] = True
        own = reached[part]
        complete = complete and not (own[doubtful[:, 0]] != own[doubtful[:, 1]]).any()
        chosen = robust[own]
        outer, holes = _outlines(cells, own, found, deadline) if plane else ((), ())
    return Around(
        chosen,
        Origin(
            share=float(map_.volume[chosen].sum() / (map_.volume.sum() + map_.rest)),
            ranges=ranges,
            outer_boundary=outer or None,
            holes=holes if plane else None,
            interior="examined",
            complete=complete,
        ),
    )


def _complete(map_: CellMap) -> bool:
    """Whether the robust part around 0 cannot be larger than it seems.

    It can where something is undecided or was not examined, and where, with three and more parameters, cells
    do not meet facet to facet, so that some that touch are not known to.
    """
    known = not map_.rest and not map_.volume[map_.kind == UNDECIDED].any()
    return known and (map_.conforming or map_.cells.dimension <= 2)


def _everything(box: np.ndarray) -> Origin:
    """R0 where every cell of the box is robust."""
    (left, right), (low, high) = box[0].tolist(), box[-1].tolist()
    plane = len(box) == 2
    return Origin(
        share=1.0,
        ranges=tuple((float(first), float(last)) for first, last in box),
        outer_boundary=((left, low), (right, low), (right, high), (left, high)) if plane else None,
        holes=() if plane else None,
        interior="examined",
    )


class Locator:
    """Finds the cells of a map that contain a point; what it takes once for all points is done when made."""

    def __init__(self, map_: CellMap, tolerance: Tolerance) -> None:
        self._map, self._tolerance = map_, tolerance
        if not map_.cells.count:
            return
        self._low, self._high = bounds(map_.cells)
        self._widths = np.ptp(map_.cells.theta, axis=0)
        # A cell that fills the box about it is that box: no cones need to be summed, which takes n! of them.
        around = np.prod(self._high - self._low, axis=1)
        self._filled = (around > 0) & (map_.volume >= around * (1 - tolerance.located))

    def at(self, theta: np.ndarray, deadline: Deadline = NEVER) -> np.ndarray:
        """Numbers of the cells that contain the point ``(n,)``, their borders included.

        Raises Expired where the deadline passes on the way.
        """
        map_, slack = self._map, self._tolerance.located
        if not map_.cells.count:
            return np.zeros(0, np.int64)
        deadline.ask()
        reach = slack * self._widths
        near = np.flatnonzero(((self._low <= theta + reach) & (theta - reach <= self._high)).all(axis=1))
        boxes, near = near[self._filled[near]], near[~self._filled[near]]
        if not len(near):  # as with one parameter
            return boxes
        here = np.repeat(theta[None], len(near), axis=0)
        near = near[~clearly_outside(map_.cells, near, here, self._widths)]
        here = np.repeat(theta[None], len(near), axis=0)
        cones = cone_volumes(map_.cells, near, here, deadline=deadline)
        held = near[cones <= map_.volume[near] * (1 + slack)]
        return np.sort(np.concatenate([boxes, held]))


def cells_at(
    map_: CellMap, theta: np.ndarray, tolerance: Tolerance, deadline: Deadline = NEVER
) -> np.ndarray:
    """`Locator.at` of one point ``(n,)``."""
    return Locator(map_, tolerance).at(theta, deadline)


def located(
    map_: CellMap, thetas: np.ndarray, tolerance: Tolerance, deadline: Deadline = NEVER
) -> Iterator[np.ndarray]:
    """`Locator.at` of each of the points ``(B, n)``."""
    locator = Locator(map_, tolerance)
    yield from (locator.at(theta, deadline) for theta in thetas)


def safe_ranges(
    map_: CellMap, box: np.ndarray, deadline: Deadline = NEVER
) -> tuple[tuple[float, float], ...]:
    """For each parameter, the range around 0 that meets no cell but robust ones, the others being 0."""
    blocked, widths = map_.blocking(), box[:, 1] - box[:, 0]
    ranges = []
    for axis in range(len(box)):
        ranges.append(ends_around_zero(axis_intervals(blocked, axis, widths, deadline), *box[axis]))
    return tuple(ranges)


def ends_around_zero(blocked: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """What of a range about 0 is left by blocked intervals ``(k, 2)``.

    An end within rounding of 0 is 0: it is where 0 itself is blocked.
    """
    up = np.maximum(blocked[blocked[:, 1] >= 0, 0], 0.0).min(initial=high)
    down = np.minimum(blocked[blocked[:, 0] <= 0, 1], 0.0).max(initial=low)
    least = NOTHING * (high - low)
    return float(down if -down > least else 0.0), float(up if up > least else 0.0)


def safe_scale(map_: CellMap, box: np.ndarray, deadline: Deadline = NEVER) -> float:
    """Largest s in [0, 1] with s * box wholly robust; undecided cells count as not robust.

    Where the deadline passes on the way, a smaller one.
    """
    first = nearest_or_less(map_.blocking(), -box[:, 0], box[:, 1], deadline)
    return min(1.0, map_.within if first is None else min(map_.within, first))


@dataclass(frozen=True)
class Scales:
    """How far robustness holds, and where it is known to fail, as multiples s of the box.

    Attributes:
        class_holds: the class is proven to hold in all of s * box up to this s; 1 for the whole box, None
            where no inside was examined. class_fails: the class fails in s * box for every s above this one;
            None where no such failure is known. Between the two nothing is known.
        attention_holds, attention_fails: the same of class and attention together.
    """

    class_holds: float | None
    class_fails: float | None
    attention_holds: float | None
    attention_fails: float | None

    def to_dict(self) -> dict[str, dict[str, float | None]]:
        """Ready for JSON."""
        return {
            "class": {"holds": self.class_holds, "fails": self.class_fails},
            "attention": {"holds": self.attention_holds, "fails": self.attention_fails},
        }


def scales_of(
    map_: CellMap, box: np.ndarray, safe: float | None, failure: Failure | None, deadline: Deadline = NEVER
) -> Scales:
    """The scales of class and attention, from the map, the safe scale and the nearest failure of an answer.

    What lies behind cells that lose attention alone is known where all of the box was examined; else the
    class is proven to hold no farther than both.
    """
    holds = safe
    if safe is not None and safe < 1 and map_.rest == 0 and not map_.inner:
        loses = map_.blocking((CLASS_CHANGED, UNDECIDED))
        first = nearest_or_less(loses, -box[:, 0], box[:, 1], deadline)
        holds = max(safe, min(1.0, map_.within, map_.within if first is None else first))
    least = {
        kind: _failing_from(map_, map_.kind == kind, box, deadline)
        for kind in (CLASS_CHANGED, ATTENTION_CHANGED)
    }
    if failure is not None:
        kind = KINDS.index(failure.kind)
        there = float(gauge(np.array([failure.theta]), -box[:, 0], box[:, 1])[0])
        least[kind] = min(least[kind], there)
    of_class, of_either = least[CLASS_CHANGED], min(least.values())
    return Scales(holds, of_class if of_class <= 1 else None, safe, of_either if of_either <= 1 else None)


def _failing_from(map_: CellMap, failing: np.ndarray, box: np.ndarray, deadline: Deadline) -> float:
    """The least multiple of the box that reaches one of the cells; infinite where none is known by then."""
    try:
        found = nearest(map_.cells.take(np.flatnonzero(failing))[0], -box[:, 0], box[:, 1], deadline)
    except Expired:
        return np.inf
    return np.inf if found is None else found.distance


def failures_by_distance(
    map_: CellMap, box: np.ndarray, norm: str = "linf", deadline: Deadline = NEVER
) -> Iterator[Nearest]:
    """The point of each failing cell that is nearest to 0, in half-widths of the box, nearest first.

    norm is "linf" or "l2".
    """
    half = half_widths(box)
    failing = np.flatnonzero((map_.kind == CLASS_CHANGED) | (map_.kind == ATTENTION_CHANGED))
    cells, _ = map_.cells.take(failing)
    near = (
        by_euclidean(cells, half, deadline=deadline)
        if norm == "l2"
        else by_gauge(cells, half, half, deadline=deadline)
    )
    for each in near:
        yield replace(each, cell=int(failing[each.cell]))


def _outlines(
    cells: Cells, own: np.ndarray, found: Facets | None, deadline: Deadline
) -> tuple[tuple, tuple | None]:
    """Boundary and holes of the cells `own` (bool); no boundary, and None, where the deadline passes.

    found: their facets, where they meet facet to facet.
    """
    import shapely  # here: slow to import, and only answers in the plane need it

    if found is None:
        try:
            area = loose_outline(cells.take(np.flatnonzero(own))[0], deadline)
        except Expired:
            return (), None
    else:
        area = outline(cells, Facets(*(column[own[found.cell]] for column in found)))
    polygons = [shapely.simplify(p, 0.0) for p in shapely.get_parts(area)]
    if not polygons:
        return (), ()
    main = max(polygons, key=lambda polygon: polygon.area)
    return _ring(main.exterior), tuple(_ring(hole) for hole in main.interiors)


def _ring(ring: shapely.LinearRing) -> tuple[tuple[float, float], ...]:
    return tuple((float(x), float(y)) for x, y in ring.coords[:-1])
