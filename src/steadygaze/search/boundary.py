"""Geometric boundary search (GBS): only the outermost boundary of the robust part around 0.

A walk from 0 along a ray, and one each way along every axis, find where robustness is lost. From there the
boundary is followed from piece to piece, through the regions that touch it and no others. Where the closed
boundary does not enclose 0 it was that of a hole, and the walk goes on behind it. What is inside may have
holes; it is not examined unless that is asked for (Munakata et al., NFM 2023, which gives the method for two
parameters).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from steadygaze.answer.drawing import BoundaryPieces
from steadygaze.geometry.connection import loose_outline
from steadygaze.geometry.half_widths import inward
from steadygaze.geometry.joining import connected
from steadygaze.geometry.measure import cone_volumes, volumes
from steadygaze.geometry.sections import bounds, line_intervals
from steadygaze.question.problem import Problem
from steadygaze.search.base import AbstractSearch, CellMap, Enclosed, Options, Standing
from steadygaze.search.regions import WELD, Regions
from steadygaze.search.robust_part import CLASS_BOUNDARY, Pieces, RobustPart
from steadygaze.search.walking import Walk, regions_at_origin, robust_at_origin, to_the_end, walked

if TYPE_CHECKING:
    import shapely

Ring = tuple[tuple[float, float], ...]

# The areas of a closed boundary add up to nothing, as vectors, within this share of their sum.
_CLOSED = 1e-6


class Boundary(AbstractSearch):
    """The outer boundary of the robust part that contains 0, and the safe range along each axis.

    Refuses, through `Problem.pieces`, chains that are not piecewise affine.

    Args:
        outward: examine the whole robust part, from 0 outwards, instead of following its boundary first.
    """

    claim = "outer boundary"

    def __init__(self, problem: Problem, options: Options, outward: bool = False) -> None:
        self.name = "bfs" if outward else "gbs"
        self._outward = outward
        self._problem = problem
        self._regions = Regions(problem, options)
        self._part = RobustPart(self._regions)
        self._examine = options.examine
        self._ranges = np.zeros((len(problem.box), 2))
        self._outer: Pieces | None = None
        self._others: Pieces | None = None
        self._examined = self._empty = self._closed = False
        self._standing = Standing(0.0, 0.0, 0, 0)
        self._course = self._run()
        self._pending = True

    def pending(self) -> bool:
        """Whether the boundary, or its inside if asked for, is not finished."""
        return self._pending

    def step(self) -> None:
        """Walk a line, or settle the facets that touch what is known of the boundary."""
        self._pending = next(self._course, None) is not None
        self._standing = self._regions.standing(self._standing)

    def standing(self) -> Standing:
        """How far the search has come."""
        return self._standing

    def found(self) -> CellMap:
        """The map of the regions that were visited; what lies behind the others' facets is undecided."""
        return self._regions.map()

    def close(self) -> None:
        """End the threads."""
        self._regions.close()

    def enclosed(self) -> Enclosed | None:
        """The robust part around 0 as its boundary tells it; None where the boundary is not closed yet."""
        n = len(self._problem.box)
        nothing = np.zeros(0, np.int64)
        if self._empty:
            return Enclosed(
                nothing, 0.0, np.zeros((n, 2)), () if n == 2 else None, () if n == 2 else None, True
            )
        if self._outer is None or self._others is None or not (self._closed or self._examined):
            return None
        outlines = self._outlines() if n == 2 else ((), ())
        return Enclosed(
            cells=self._part.number[self._part.members],
            share=self._share(),
            ranges=self._ranges,
            outline=outlines[0] if n == 2 else None,
            holes=outlines[1] if n == 2 and self._examined else None,
            examined=self._examined,
            boundary=told(self._outer) if self._closed else None,
        )

    def _share(self) -> float:
        """Of the cells that make the part up where all are known, else of what the boundary encloses."""
        assert self._outer is not None
        if not self._examined:
            return enclosed_share(self._outer, self._regions.widths)
        return self._share_of_members()

    def _share_of_members(self) -> float:
        volume = np.concatenate([map_.volume for map_ in self._regions.maps])
        return float(volume[self._part.number[self._part.members]].sum()) / self._problem.volume

    def _filled(self) -> bool:
        """Whether the cells that are known fill what the closed boundary encloses: no room for a hole.

        Facets that nobody has crossed are then crossed at next to no cost, for slivers that no volume shows.
        """
        assert self._outer is not None
        left = enclosed_share(self._outer, self._regions.widths) - self._share_of_members()
        return left <= self._problem.tolerance.cover

    def _outlines(self) -> tuple[Ring, tuple[Ring, ...]]:
        """The outer boundary and those of holes, in the plane."""
        assert self._outer is not None
        assert self._others is not None
        if self._closed:
            # In a box as narrow as rounding the ends of pieces may lie apart, and no ring is closed.
            return next(iter(rings(self._outer)), ()), rings(self._others)
        import shapely  # here and below: slow to import, and only this search in the plane needs it

        area = loose_outline(self._part.solid(self._part.members))
        main = max(shapely.get_parts(area), key=lambda polygon: polygon.area)
        return corners(main.exterior), tuple(corners(hole) for hole in main.interiors)

    # -- the course of the search; every yield is the end of a step

    def _run(self) -> Iterator[bool]:
        regions, part = self._regions, self._part
        zero = regions_at_origin(regions)
        yield True
        if not len(zero):
            return  # nothing is known of what lies there
        if not robust_at_origin(regions, zero, self._problem.tolerance.located):
            self._empty = True
            return
        lines = list(self._lines())
        walks = [Walk(regions, zero, direction) for direction, _, _ in lines]
        yield from walked(regions, walks)
        stops = [(walk.stop(), walk.direction) for walk in walks]
        for (stop, direction), (_, axis, end) in zip(stops, lines, strict=True):
            if axis >= 0:
                self._ranges[axis, end] = stop.at * direction[axis]
        part.absorb()
        part.join(self._robust_at(zero, np.zeros(len(regions.widths))))
        if not self._outward:
            for walk in walks:
                self._seed(walk)
                yield True
            yield from self._enclose(stops[-1][1])
        # Pieces that do not close, where slivers along curved boundaries are too thin, say nothing of the
        # inside: then all of it is examined. So it is where what was visited on the way leaves nothing over.
        asked = self._outward or self._examine or len(regions.widths) == 1 or not self._closed
        if asked or self._filled():
            yield from self._settled(part.untouched)
            self._examined = True
            self._divide(part.pieces(), stops[-1][1])

    def _lines(self) -> Iterator[tuple[np.ndarray, int, int]]:
        """The axes, both ways, and a ray along which no hinge runs; with axis and end, -1 for the ray."""
        box = self._problem.box
        for axis, end in np.ndindex(*box.shape):
            if box[axis, end]:
                yield np.eye(len(box))[axis] * box[axis, end], axis, end
        yield to_the_end(box, inward(box)), -1, -1

    def _seed(self, walk: Walk) -> None:
        """Begin to follow the boundary where a walk ended.

        Cells may touch the line there that hang together with those that it came through in one point only.
        """
        stop, part = walk.stop(), self._part
        cells = self._robust_at(stop.regions, stop.at * walk.direction)
        if not len(cells):
            return
        passed = part.of_regions(walk.passed)
        if self._problem.follows_maps:  # a region has many cells, and few meet the line
            span = line_intervals(part.solid(passed), walk.direction, self._regions.widths)
            passed = passed[span[:, 0] <= span[:, 1]]
        passed = np.union1d(passed, cells)
        number = part.linked(passed)
        own = np.isin(passed, self._robust_at(walk.start, walk.beyond * walk.direction))
        cells = np.intersect1d(cells, passed[np.isin(number, number[own])])
        part.join(cells)
        part.settle(part.facets_of(cells))

    def _robust_at(self, regions: np.ndarray, point: np.ndarray) -> np.ndarray:
        """The robust cells of these regions that hold the point."""
        self._part.absorb()
        cells = self._part.of_regions(regions)
        if not self._problem.follows_maps:
            return cells
        solid = self._part.solid(cells)
        low, high = bounds(solid)
        slack = WELD * self._regions.widths
        near = np.flatnonzero(((low - slack <= point) & (point <= high + slack)).all(axis=1))
        cones = cone_volumes(solid, near, np.repeat(point[None], len(near), axis=0))
        return cells[near[cones <= volumes(solid.take(near)[0]) * (1 + self._problem.tolerance.located)]]

    def _settled(self, wanted: Callable[[], np.ndarray]) -> Iterator[bool]:
        """Settle facets, a batch a step, until none is wanted."""
        facet = wanted()
        while len(facet):
            self._part.settle(facet[: self._regions.batch])
            yield True
            facet = wanted()

    def _enclose(self, ray: np.ndarray) -> Iterator[bool]:
        """Follow the boundary; where it does not enclose 0, go on along the ray behind it."""
        part, regions, reached = self._part, self._regions, -np.inf
        while True:
            yield from self._settled(part.touched)
            last, region = self._divide(part.pieces(), ray)
            if region < 0:
                return
            if last <= reached:  # slivers: the walk behind the hole has come back to the same piece
                self._leave_open(part.pieces())
                return
            reached = last
            onward = Walk(regions, np.array([region]), ray, beyond=last)
            yield from walked(regions, [onward])
            self._seed(onward)

    def _divide(self, pieces: Pieces, ray: np.ndarray) -> tuple[float, int]:
        """Tell the outer boundary from those of holes.

        The ray's last crossing is with the outer boundary, and leaves it, unless it enters the robust part
        behind a hole; then returns where, and the region behind; else region -1.
        """
        span = line_intervals(pieces.cells, ray, self._regions.widths)[:, 1]
        if not (span >= 0).any():  # the ray meets no piece: what is known cannot be all of a boundary
            self._leave_open(pieces)
            return 1.0, -1
        crossing = int(np.argmax(span))
        if pieces.normal[crossing] @ (ray / self._regions.widths) < 0:
            return float(span[crossing]), int(pieces.region[crossing])
        label = parts_of_boundary(pieces) if len(ray) > 1 else np.zeros(pieces.cells.count)
        outer = label == label[crossing]
        self._outer, self._others = pieces.take(outer), pieces.take(~outer)
        self._closed = is_closed(self._outer, self._regions.widths)
        return 1.0, -1

    def _leave_open(self, pieces: Pieces) -> None:
        """Take all pieces for a boundary that does not close."""
        self._outer, self._others = pieces, pieces.take(np.zeros(pieces.cells.count, bool))
        self._closed = False


def parts_of_boundary(pieces: Pieces) -> np.ndarray:
    """Number of the connected part of the boundary that each piece belongs to; pieces connect by vertices."""
    count = pieces.cells.count
    owner = np.repeat(np.arange(count), np.diff(pieces.cells.ptr))
    _, point = np.unique(pieces.points, return_inverse=True)
    size = count + int(point.max(initial=-1)) + 1
    return connected(np.stack([owner, count + point], axis=1), size)[:count]


def areas(pieces: Pieces, widths: np.ndarray) -> np.ndarray:
    """Area of each piece, ``(k,)``, in widths of the box: that of the cone from a point at distance 1."""
    n = len(widths)
    start = pieces.cells.theta[pieces.cells.idx[pieces.cells.ptr[:-1]]]
    apex = start + pieces.normal * widths
    every = np.arange(pieces.cells.count)
    return n * cone_volumes(pieces.cells, every, apex, pieces.bit) / np.prod(widths)


def enclosed_share(pieces: Pieces, widths: np.ndarray) -> float:
    """Share of the box that the pieces enclose (less what they exclude): the divergence theorem."""
    return float((areas(pieces, widths) * pieces.offset).sum() / len(widths))


def is_closed(pieces: Pieces, widths: np.ndarray) -> bool:
    """Whether the areas of the pieces add up to nothing, as vectors."""
    area = areas(pieces, widths)
    return bool(np.linalg.norm(area @ pieces.normal) <= _CLOSED * area.sum())


def told(pieces: Pieces) -> BoundaryPieces:
    """The pieces as the answer keeps them."""
    words = np.array(["class changes", "neighbour fails", "unexamined", "face of the box"])
    owner = np.repeat(np.arange(pieces.cells.count), np.diff(pieces.cells.ptr))
    return BoundaryPieces(pieces.cells.theta[pieces.cells.idx], owner, words[pieces.kind - CLASS_BOUNDARY])


def rings(pieces: Pieces) -> tuple[Ring, ...]:
    """Polygons, largest first, that pieces of a boundary in the plane enclose."""
    import shapely

    ends = pieces.theta[pieces.points].reshape(-1, 2, 2)
    area = shapely.build_area(
        shapely.union_all(shapely.linestrings(ends[(ends[:, 0] != ends[:, 1]).any(axis=1)]))
    )
    parts = sorted(shapely.get_parts(area), key=lambda polygon: -polygon.area)
    return tuple(corners(polygon.exterior) for polygon in parts)


def corners(ring: shapely.LinearRing) -> Ring:
    """The corners of a ring, those left out that lie on a straight side."""
    import shapely

    plain = shapely.simplify(shapely.Polygon(ring), 0.0).exterior
    return tuple((float(x), float(y)) for x, y in plain.coords[:-1])
