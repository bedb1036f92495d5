"""Directions that part cells from regions about 0, and points that show where robustness ends.

They are hints: whoever reads them has to see that they do what they are for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from steadygaze.answer.result import Result
from steadygaze.geometry.cells import Cells
from steadygaze.geometry.kinds import ROBUST, UNDECIDED
from steadygaze.geometry.least_norm import least_norms
from steadygaze.geometry.measure import centres
from steadygaze.geometry.sections import bounds, by_euclidean, by_gauge, gauge

# A reader takes regions to be smaller by this share, and looks this share beyond them.
_WITHIN, _BEYOND = 1e-9, 1e-6
# Where a cell touches a region, the direction between them is found from a smaller one more surely.
_SMALLER = (1 - 1e-2, 1 - 1e-4, 1 - 1e-6, 1.0)
_ROUNDING = 1e-13


@dataclass(frozen=True)
class Region:
    """A box ``(n, 2)``, or with half axes ``(n,)`` an ellipsoid about 0."""

    box: np.ndarray
    axes: np.ndarray | None = None


def regions_of(result: Result, box: np.ndarray) -> Iterator[Region]:
    """The regions that an answer says something of."""
    half = np.ptp(box, axis=1) / 2
    norm = result.settings.get("norm", "linf")
    distances = [] if result.radius is None else [(result.radius.value * (1 - _WITHIN), result.radius.norm)]
    if result.nearest_failure is not None:
        distances.append((result.nearest_failure.distance * (1 - _BEYOND), norm))
    for distance, which in distances:
        ball = np.outer(half * distance, [-1.0, 1.0])
        yield Region(np.clip(ball, box[:, :1], box[:, 1:]), half * distance if which == "l2" else None)
    if result.safe_scale is not None:
        yield Region(box * result.safe_scale * (1 - _WITHIN))
    if result.origin is not None:
        for axis, ends in enumerate(result.origin.ranges):
            part = np.zeros_like(box)
            part[axis] = np.array(ends) * (1 - _WITHIN)
            yield Region(part)


def apart(cells: Cells, kind: np.ndarray, regions: Iterator[Region]) -> tuple[np.ndarray, np.ndarray]:
    """Cells ``(A,)`` and directions ``(A, n)``: on the cell <u, θ> is larger than on one of the regions.

    Only cells that are not robust and whose bounding box meets a region are asked.
    """
    found, directions = [np.zeros(0, np.int64)], [np.zeros((0, cells.dimension))]
    low, high = bounds(cells)
    for region in regions:
        meets = ((low <= region.box[:, 1]) & (high >= region.box[:, 0])).all(axis=1)
        left = np.flatnonzero(meets & (kind != ROBUST))
        for smaller in _SMALLER if region.axes is None else (1.0,):
            if not len(left):
                break
            across = _across(cells, left, region, smaller)
            beyond = _beyond(cells, left, region, across)
            found.append(left[beyond])
            directions.append(across[beyond])
            left = left[~beyond]
    return np.concatenate(found), np.concatenate(directions)


def failing_points(
    cells: Cells, kind: np.ndarray, ties: Cells | None, result: Result, box: np.ndarray
) -> np.ndarray:
    """Failing points ``(k, n)`` just beyond what an answer says to be robust, or the nearest failure.

    Where ties may have ended what it says, points of theirs.
    """
    half, points = np.ptp(box, axis=1) / 2, []
    fails = np.flatnonzero((kind != ROBUST) & (kind != UNDECIDED))
    some, told = cells.take(fails)[0], result.nearest_failure
    asked = []
    if told is not None:
        norm = result.settings.get("norm", "linf")
        nearest = by_euclidean(some, half) if norm == "l2" else by_gauge(some, half, half)
        asked.append((nearest, told.distance, lambda p: float(_length(p, half, norm))))
    if result.safe_scale is not None and result.safe_scale < 1:
        scales = (-box[:, 0], box[:, 1])
        asked.append((by_gauge(some, *scales), result.safe_scale, lambda p: float(gauge(p, *scales))))
    for nearest, reach, length in asked:
        limit = reach * (1 + _BEYOND / 2) + _WITHIN / 2
        first = next(nearest, None)
        if first is not None and first.distance <= limit and not any(length(p) <= limit for p in points):
            middle = centres(some.take(np.array([first.cell]))[0])[0]
            room, far = limit - first.distance, length(middle) - first.distance
            points.append(first.point + min(1.0, room / max(far, 1e-300)) * (middle - first.point))
    for axis, ends in enumerate(result.origin.ranges if result.origin is not None else ()):
        for end, limit in zip(ends, box[axis], strict=True):
            if end != limit:
                point = np.zeros(len(box))
                point[axis] = end * (1 + _BEYOND / 2) + _WITHIN / 2 * limit
                points.append(point)
                if ties is not None:
                    points.append(np.where(point, end, 0.0))
    if ties is not None:
        points.append(next(by_gauge(ties, -box[:, 0], box[:, 1])).point)
    return np.clip(np.array(points).reshape(-1, len(box)), box[:, 0], box[:, 1])


def _length(point: np.ndarray, half: np.ndarray, norm: str) -> float:
    return float(np.linalg.norm(point / half, 2 if norm == "l2" else np.inf))


def _across(cells: Cells, chosen: np.ndarray, region: Region, smaller: float) -> np.ndarray:
    """Directions ``(k, n)`` from the nearest point of a smaller region to that of each chosen cell."""
    lengths = np.maximum(np.abs(region.box).max(axis=1), 1e-300) if region.axes is None else region.axes
    lengths = np.where(lengths > 1e-200, lengths, np.ptp(cells.theta, axis=0))
    sides, ptr = region.box / lengths[:, None] * smaller, cells.ptr

    def lowest(some: np.ndarray, directions: np.ndarray) -> np.ndarray:
        made = np.empty_like(directions)
        for row, (own, direction) in enumerate(zip(chosen[some], directions, strict=True)):
            corners = cells.theta[cells.idx[ptr[own] : ptr[own + 1]]] / lengths
            made[row] = corners[(corners @ direction).argmin()]
        if region.axes is not None:
            return made
        return made - np.where(directions > 0, sides[:, 1], sides[:, 0])

    start = cells.theta[cells.idx[ptr[chosen]]] / lengths
    start = start if region.axes is not None else start - sides[:, 0]
    found, _ = least_norms(start, lowest)
    size = np.linalg.norm(found, axis=1, keepdims=True)
    return found / np.where(size > 0, size, 1.0) / lengths


def _beyond(cells: Cells, chosen: np.ndarray, region: Region, directions: np.ndarray) -> np.ndarray:
    """Whether directions do part each chosen cell from the region."""
    reach = np.maximum(directions * region.box[:, 0], directions * region.box[:, 1]).sum(axis=1)
    if region.axes is not None:
        reach = np.minimum(reach, np.linalg.norm(directions * region.axes, axis=1))
    out = np.zeros(len(chosen), bool)
    for row, (cell, direction) in enumerate(zip(chosen, directions, strict=True)):
        products = cells.theta[cells.idx[cells.ptr[cell] : cells.ptr[cell + 1]]] * direction
        slack = _ROUNDING * (np.abs(products).sum(axis=1).max() + abs(reach[row]))
        out[row] = products.sum(axis=1).min() > reach[row] + slack
    return out
