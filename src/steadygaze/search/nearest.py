"""Best-first search: activation regions in order of distance from 0, until the first failure.

The frontier is the set of facets that nobody has crossed, each with its distance from 0. What lies closer
than all of them is examined; so the least distance is, at any time, a radius within which everything known
is everything there is. The search ends when a failing point is known that is nearer than the frontier
(cf. GeoCert: Jordan, Lewis, Dimakis, NeurIPS 2019, for balls in the space of pixels).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from steadygaze.geometry.cells import Cells
from steadygaze.geometry.sections import by_distance, distances, euclidean, least_distances, least_euclidean
from steadygaze.kinds import ROBUST, UNDECIDED
from steadygaze.problem import Problem
from steadygaze.search.base import AbstractSearch, CellMap, Enclosed, Options, Standing, inward
from steadygaze.search.regions import UNKNOWN, Regions

# The first steps cross few facets, for the nearest failure is often near; each step twice as many.
_FIRST_BATCH = 8
# Distances closer than this are equal.
_SAME = 1e-12
# With more parameters the distances of facets are bounded, not found: there are too many of them.
_MOST_EXACT = 3


class Nearest(AbstractSearch):
    """The nearest failure in half-widths of the box, L-infinity or L2, and with it the safe scale.

    The two distances, in half-widths and in the box's own shape about 0, order regions differently where 0 is
    not in the middle; the search goes on until both answers are certain. With more than three parameters
    facets are ordered by lower bounds of their distances: more regions are looked at, for the same answers.
    Refuses, through `Problem.pieces`, chains that are not piecewise affine.
    """

    name = "nearest"
    claim = "radius"

    def __init__(self, problem: Problem, options: Options) -> None:
        self._problem = problem
        self._norm = options.norm
        self._regions = Regions(problem, options, self._bounded)
        self._open = np.zeros(0, np.int64)
        self._seen = 0
        self._judged = 0
        self._size = _FIRST_BATCH
        # Of the nearest failure, of the nearest cell that is not robust, and of that in the box's own shape.
        self._failure, self._block, self._scale = np.inf, np.inf, np.inf
        self._standing = Standing(0.0, 0.0, 0, 0, radius=0.0)

    def pending(self) -> bool:
        """Whether something nearer than what is known may still be found."""
        return not self._regions.count or bool(len(self._promising()))

    def step(self) -> None:
        """Cross the nearest facets."""
        regions = self._regions
        if not regions.count:
            regions.around(np.zeros(len(self._problem.box)), inward(self._problem.box))
        else:
            chosen = self._promising()
            regions.cross(chosen[: self._size])
            self._size = min(2 * self._size, regions.batch)
        fresh = np.arange(self._seen, len(regions.neighbour))
        self._seen += len(fresh)
        self._open = np.concatenate([self._open, fresh])
        self._open = self._open[regions.neighbour[self._open] == UNKNOWN]
        self._take_stock()

    def standing(self) -> Standing:
        """How far the search has come."""
        return self._standing

    def found(self) -> CellMap:
        """The map of what was examined; the facets of the frontier are in it, undecided."""
        return self._regions.map()

    def enclosed(self) -> Enclosed | None:
        """Nothing that the map does not tell."""
        return None

    def close(self) -> None:
        """End the threads."""
        self._regions.close()

    def _promising(self) -> np.ndarray:
        """Facets that may lie before what is known, nearest first."""
        near, scale = self._regions.distance[self._open].T
        before = (near < self._failure - _SAME) | (scale < min(self._scale, 1.0) - _SAME)
        return self._open[before][np.argsort(near[before], kind="stable")]

    def _near(self, cells: Cells) -> tuple[np.ndarray, np.ndarray]:
        """Distances ``(cells,)`` from 0 in half-widths of the box, and the points of the cells at them."""
        half = np.ptp(self._problem.box, axis=1) / 2
        return distances(cells, half, half) if self._norm == "linf" else euclidean(cells, half)

    def _scaled(self, cells: Cells) -> tuple[np.ndarray, np.ndarray]:
        """The same in the box's own shape."""
        box = self._problem.box
        return distances(cells, -box[:, 0], box[:, 1])

    def _least(self, cells: Cells) -> np.ndarray:
        """Lower bounds ``(cells, 2)`` on both."""
        box = self._problem.box
        half = np.ptp(box, axis=1) / 2
        near = least_distances(cells, half, half) if self._norm == "linf" else least_euclidean(cells, half)
        return np.stack([near, least_distances(cells, -box[:, 0], box[:, 1])], axis=1)

    def _bounded(self, cells: Cells) -> np.ndarray:
        """Both distances ``(facets, 2)``; with many parameters lower bounds, which order well enough."""
        if len(self._problem.box) > _MOST_EXACT:
            return self._least(cells)
        return np.stack([self._near(cells)[0], self._scaled(cells)[0]], axis=1)

    def _nearer(self, cells: Cells, known: float, which: int) -> float:
        """The least distance of the cells, unless it is above what is known."""
        bound = self._least(cells)[:, which]
        chosen = np.flatnonzero(bound < known)
        exact = (self._near, self._scaled)[which]
        found = next(by_distance(cells.take(chosen)[0], bound[chosen], exact), None)
        return known if found is None else min(known, found.distance)

    def _take_stock(self) -> None:
        regions = self._regions
        for map_ in regions.maps[self._judged :]:
            bad = np.flatnonzero(map_.kind != ROBUST)
            if len(bad):
                cells, _ = map_.cells.take(bad)
                open_ = map_.kind[bad] == UNDECIDED
                failing, undecided = (cells.take(np.flatnonzero(some))[0] for some in (~open_, open_))
                self._failure = self._nearer(failing, self._failure, 0)
                self._block = self._nearer(undecided, min(self._block, self._failure), 0)
                self._scale = self._nearer(cells, self._scale, 1)
        frontier = regions.distance[self._open, 0].min(initial=np.inf)
        self._standing = replace(
            regions.standing(self._standing),
            radius=float(min(frontier, self._block)),
        )
        self._judged = len(regions.maps)
