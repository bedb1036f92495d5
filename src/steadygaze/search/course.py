"""How far from 0 a search should go at once, by plain evaluation at a few points. It proves nothing."""

from __future__ import annotations

from functools import cached_property
from itertools import product

import numpy as np

from steadygaze.geometry.half_widths import distances
from steadygaze.geometry.kinds import ROBUST
from steadygaze.question.problem import Problem

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
# So many may be visited at once at first, and by what factor their number may grow after that.
_FIRST, _GROWTH = 10_000, 4


class Course:
    """What plain evaluation suggests: how near the first failure is, and how many regions lie before it.

    Args:
        half: ``(n,)`` half-widths of the box. norm: by which failures are near; boxes go by L-infinity.
    """

    def __init__(self, problem: Problem, half: np.ndarray, norm: str) -> None:
        self._problem, self._half, self._norm = problem, half, norm
        self._unit = problem.box / half[:, None]
        self._rays = _rays(self._unit)
        self._levels = float(np.abs(self._unit).max()) * 0.5 ** np.arange(_HALVINGS)[::-1]

    def next_radius(self, examined: float, failure: float) -> float:
        """How far to go next, all nearer than `examined` being known; `failure` is the nearest one found.

        As far as the nearest failure that is known, unless too many regions are to be expected before it.
        """
        farthest = self._levels[-1]
        if self._regions_within(farthest) <= _FEW:
            return float(farthest)
        known = min(failure, float(self._distance(self.failing).min(initial=np.inf))) * _MARGIN
        wanted = min(known, farthest) if known > examined else farthest
        allowed = max(_FIRST, _GROWTH * self._regions_within(examined)) if examined else _FIRST
        while wanted > 2 * examined and wanted > self._levels[0] and self._regions_within(wanted) > allowed:
            wanted /= 2
        return float(wanted)

    def _on_rays(self, distance: np.ndarray, rays: np.ndarray) -> np.ndarray:
        """Points ``(distances, rays, n)`` at distances ``(distances, rays or 1)``, or at the box's border."""
        return self._half * np.clip(distance[..., None] * rays, self._unit[:, 0], self._unit[:, 1])

    def _fails(self, thetas: np.ndarray) -> np.ndarray:
        kind = self._problem.at(thetas.reshape(-1, thetas.shape[-1])).kind
        return (kind != ROBUST).reshape(thetas.shape[:-1])

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

    def _regions_within(self, distance: float) -> float:
        """How many regions are to be expected within a distance of 0.

        H hinges cut a box into about H regions along a line and, measured on dense networks, into H to the
        power 1.3 to 2.2 of them in two to four dimensions. Counted are those between 0 and points at that
        distance.
        """
        ends = self._on_rays(np.full((1, 1), distance), self._rays)[0]
        images = self._problem.unclipped(np.concatenate([np.zeros((1, len(self._half))), ends]))
        crossed = sum(
            int((sides[1:] != sides[0]).any(axis=0).sum()) for sides in self._problem.stages.sides_at(images)
        )
        return float(crossed) ** min(len(self._half), 2)


def _rays(unit: np.ndarray) -> np.ndarray:
    """Directions ``(R, n)`` of length 1 to corners and faces of the box, and some at random."""
    n = len(unit)
    drawn = unit[:, 0] + np.random.default_rng(2).random((_RANDOM, n)) * np.ptp(unit, axis=1)
    faces = (np.eye(n)[:, None] * unit[:, :, None]).reshape(-1, n)
    ends = np.concatenate([np.array(list(product(*unit))), faces, drawn])
    size = np.abs(ends).max(axis=1)
    return np.unique(ends[size > 0] / size[size > 0, None], axis=0)
