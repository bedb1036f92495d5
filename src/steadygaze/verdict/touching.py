"""What ties make of a robust part: a point at which classes tie is none of it, whatever is around it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from steadygaze.answer.result import Origin
from steadygaze.deadline import NEVER, Deadline, Expired
from steadygaze.geometry.cells import Cells
from steadygaze.geometry.half_widths import half_widths
from steadygaze.geometry.sections import axis_intervals, bounds, nearest_or_less
from steadygaze.verdict.reading import NOTHING, Around, ends_around_zero

# Two faces whose bounding boxes share more than this, in widths of the box, may have both sides robust.
_SHARED = 1e-9
# Of more faces than this some two are taken to share something.
_COMPARED = 2000


def drawn_in(around: Around, ties: Cells, box: np.ndarray, deadline: Deadline = NEVER) -> Around:
    """The robust part without ties (see `CellMap.ties`): ranges end at them, and it is none if one lies at 0.

    One of as many parameters less one may be a wall through the robust part: what is behind it then belongs
    to it no longer, and how much that is, is left open. Where the deadline passes on the way, all is.
    """
    origin, half, nothing = around.origin, half_widths(box), np.zeros(0, np.int64)
    if origin is None:
        return around
    distance = nearest_or_less(ties, half, half, deadline)
    if distance is not None and distance <= NOTHING:
        plane = () if len(box) == 2 else None
        none = Origin(0.0, ((0.0, 0.0),) * len(box), None, plane, origin.interior, complete=False)
        return Around(nothing, none)
    try:
        met = [axis_intervals(ties, axis, np.ptp(box, axis=1), deadline) for axis in range(len(box))]
    except Expired:
        return Around(nothing, None)
    ends = [_short_of(*each) for each in zip(met, origin.ranges, box.tolist(), strict=True)]
    origin = replace(origin, ranges=tuple(ends))
    if not _may_part(ties, np.ptp(box, axis=1)):
        return replace(around, origin=origin)
    return Around(nothing, Origin(None, origin.ranges, None, None, "not examined", complete=False))


def _short_of(met: np.ndarray, given: tuple[float, float], whole: tuple[float, float]) -> tuple[float, float]:
    """A range about 0 drawn in to intervals ``(k, 2)`` that it meets, short of what they hold of its ends."""
    low, high = ends_around_zero(met, *given)
    held_low, held_high = (((met[:, 0] <= end) & (end <= met[:, 1])).any() for end in whole)
    return (
        float(np.nextafter(low, 0.0)) if held_low and low <= whole[0] < 0 else low,
        float(np.nextafter(high, 0.0)) if held_high and high >= whole[1] > 0 else high,
    )


def _may_part(ties: Cells, widths: np.ndarray) -> bool:
    """Whether a facet with a tie all over it may have robust cells on both sides, which both tell it."""
    n = ties.dimension
    walls, _ = ties.take(np.flatnonzero(np.diff(ties.ptr) >= n))
    if walls.count > _COMPARED:
        return True
    low, high = (side / widths for side in bounds(walls))
    for k in range(walls.count - 1):
        shared = np.minimum(high[k], high[k + 1 :]) - np.maximum(low[k], low[k + 1 :])
        meets = (shared >= -_SHARED).all(axis=1)
        if (meets & ((shared > _SHARED).sum(axis=1) >= min(1, n - 1))).any():
            return True
    return False
