"""How far from 0 a search should go at once, by plain evaluation at a few points. It proves nothing.

Where the hinges lie is learnt from one pass at 0, which tells the value of each unit and its slopes there, as
if the network were affine as far as one looks; and then from what the boxes held that were examined.
"""

from __future__ import annotations

from functools import cached_property
from itertools import product

import numpy as np

from steadygaze.deadline import NEVER, Deadline
from steadygaze.geometry.half_widths import distances
from steadygaze.question.problem import Problem
from steadygaze.search.failing import failing_at

# Points lie on rays from 0, at distances that halve so often from the farthest on.
_HALVINGS = 7
# So many rays have random directions, beside those to corners and faces of the box.
_RANDOM = 2
# Between a failing point and the last one before it on its ray so many more are tried, on so many rays.
_BETWEEN, _RAYS = 7, 3
# A box is a little larger than the distance of the point that it was made for, so that the point lies inside.
_MARGIN = 1.02
# Where no more regions than this are to be expected in all, finding out where a failure is takes longer than
# looking at all of them.
_FEW = 2_000
# So many may be visited at once at first, and by what factor their number may grow after that: where a region
# takes long, slowly, for of a box that is not finished when the time is over little is known. In the plane
# and beyond, each box cuts regions of the one before.
_FIRST, _GROWTH, _SLOW_GROWTH, _SLOW_GROWTH_ON_LINE = 10_000, 4, 2, 1.25
# A box reaches at most so many times as far as the one before.
_FARTHER = 8
# Where an image takes long, fewer: as many as take about half a second. So many products (see `Graph.effort`)
# are made by one thread meanwhile, of which a region takes some three passes. Where that makes less than so
# many regions, each takes long.
_EFFORT, _PASSES, _SLOW = 2e9, 3, 100
# Hinges whose distances differ relatively by less are one, as those of equal windows of a blank background.
_EQUAL = 1e-9
# This share of the distance of a hinge keeps a box off it.
_BEFORE = 0.999
# A first box is no smaller than this, in half-widths: rounding shall not decide what lies in it.
_LEAST = 1e-7
# Looking for failing points may take this share of the time.
_LOOKING = 0.1


class Course:
    """What plain evaluation suggests: how near the first failure is, and how many regions lie before it.

    Args:
        half: ``(n,)`` half-widths of the box. norm: by which failures are near; boxes go by L-infinity.
        deadline: of the search; points are evaluated for a share of the time.
    """

    def __init__(self, problem: Problem, half: np.ndarray, norm: str, deadline: Deadline = NEVER) -> None:
        self._problem, self._half, self._norm, self._deadline = problem, half, norm, deadline
        self._unit = problem.box / half[:, None]
        self._rays = _rays(self._unit)
        self.farthest = float(np.abs(self._unit).max())
        self._levels = self.farthest * 0.5 ** np.arange(_HALVINGS)[::-1]
        self._regions, self._more = 1.0, 1.0

    @property
    def region_effort(self) -> float:
        """About how many products a region takes."""
        return _PASSES * self._problem.graph.effort

    @property
    def slow(self) -> bool:
        """Whether each region takes long: few of them are visited in half a second."""
        return self._at_first < _SLOW

    @property
    def _at_first(self) -> float:
        """How many regions may be visited at once at first."""
        return min(_FIRST, _EFFORT / self.region_effort)

    def learn(self, examined: float, regions: int) -> None:
        """So many regions lie within a distance of 0."""
        self._regions = float(max(regions, 1))
        self._more = self._regions / self._expected(examined)

    def disappointed(self) -> None:
        """A box took much longer than was to be expected: there seem to be more regions."""
        self._more *= 16.0

    def regions_within(self, distance: float) -> float:
        """How many regions are to be expected within a distance of 0."""
        return self._more * self._expected(distance)

    def next_radius(self, examined: float, failure: float) -> float:
        """How far to go next, all nearer than `examined` being known; `failure` is the nearest one found.

        As far as the nearest failure that is known, unless too many regions are to be expected before it.
        """
        first = self._at_first
        if self.regions_within(self.farthest) <= first / _FIRST * _FEW:
            return self.farthest
        growth = _GROWTH
        if self.slow:
            growth = _SLOW_GROWTH if len(self._half) > 1 else _SLOW_GROWTH_ON_LINE
        allowed = max(first, (growth * self._regions + first) if examined else 1.0)
        reach = self._within(allowed)
        if reach <= examined * (1 + _EQUAL):  # one more hinge, or where hinges are of no help, as far again
            later = self._hinges[self._hinges > examined * (1 + _EQUAL)]
            reach = max(float(later[1]) if len(later) > 1 else 0.0, (1 + 1 / max(8.0, allowed)) * examined)
        reach = max(min(reach, _FARTHER * examined) if examined else reach, _LEAST)
        if self.slow and not examined:  # a small box first: looking for failures takes longer
            return float(min(reach, self.farthest))
        known = min(failure, float(self._distance(self.failing).min(initial=np.inf))) * _MARGIN
        return float(min(reach, known if known > examined else self.farthest, self.farthest))

    def _on_rays(self, distance: np.ndarray, rays: np.ndarray) -> np.ndarray:
        """Points ``(distances, rays, n)`` at distances ``(distances, rays or 1)``, or at the box's border."""
        return self._half * np.clip(distance[..., None] * rays, self._unit[:, 0], self._unit[:, 1])

    def _fails(self, thetas: np.ndarray) -> np.ndarray:
        """At which of the points ``(..., n)`` class or attention fails, as far as there is time to look.

        The last of them are looked at first.
        """
        flat = thetas.reshape(-1, thetas.shape[-1])
        found = np.zeros(len(flat), bool)
        some = int(np.clip(_EFFORT // self.region_effort, 1, len(flat)))
        enough = self._deadline.part(_LOOKING)
        for last in range(len(flat), 0, -some):
            rows = slice(max(0, last - some), last)
            found[rows] = failing_at(self._problem, flat[rows])[1]
            if some < len(flat) and enough.passed():
                break
        return found.reshape(thetas.shape[:-1])

    @cached_property
    def failing(self) -> np.ndarray:
        """Failing points ``(k, n)`` on the rays where they begin nearest to 0; nearest by the norm first."""
        fails = self._fails(self._on_rays(self._levels[:, None], self._rays))
        hit = np.flatnonzero(fails.any(axis=0))
        if not len(hit):
            return np.zeros((0, len(self._half)))
        first = fails[:, hit].argmax(axis=0)
        chosen = np.argsort(first, kind="stable")[:_RAYS]
        last = np.concatenate([[0.0], self._levels])[first[chosen]]
        way = last + np.linspace(0.0, 1.0, _BETWEEN + 2)[1:, None] * (self._levels[first[chosen]] - last)
        between = self._on_rays(way, self._rays[hit[chosen]])
        found = between[self._fails(between)]
        return found[np.argsort(self._distance(found), kind="stable")]

    def _distance(self, thetas: np.ndarray) -> np.ndarray:
        return distances(thetas, self._half, self._norm)

    @cached_property
    def _hinges(self) -> np.ndarray:
        """How far hinges lie from 0 if the network is affine up to there, sorted; equal ones once, those at 0
        left out, for no box is small enough for them.
        """
        away = self._problem.distances_of_hinges(self._deadline)
        distinct = np.diff(away, prepend=-1.0) > _EQUAL * np.maximum(away, _LEAST)
        return away[distinct & (away > _LEAST)]

    def _expected(self, distance: float) -> float:
        """Regions within a distance of 0 by the hinges there.

        H hinges cut a box into about H regions along a line and, measured on dense networks, into H to the
        power 1.3 to 2.2 of them in two to four dimensions.
        """
        crossed = 1 + int(np.searchsorted(self._hinges, distance))
        return float(crossed) ** min(len(self._half), 2)

    def _within(self, allowed: float) -> float:
        """The distance within which so many regions are to be expected."""
        crossed = int((max(allowed, 1.0) / self._more) ** (1 / min(len(self._half), 2)))
        if crossed > len(self._hinges):
            return self.farthest
        # Where even what lies before the first hinge took too long, a part of it.
        nearer = min(1.0, max(allowed, 1.0) / self._more)
        return _BEFORE * nearer * float(self._hinges[max(crossed, 1) - 1])


def _rays(unit: np.ndarray) -> np.ndarray:
    """Directions ``(R, n)`` of length 1 to corners and faces of the box, and some at random."""
    n = len(unit)
    drawn = unit[:, 0] + np.random.default_rng(2).random((_RANDOM, n)) * np.ptp(unit, axis=1)
    faces = (np.eye(n)[:, None] * unit[:, :, None]).reshape(-1, n)
    ends = np.concatenate([np.array(list(product(*unit))), faces, drawn])
    size = np.abs(ends).max(axis=1)
    return np.unique(ends[size > 0] / size[size > 0, None], axis=0)
