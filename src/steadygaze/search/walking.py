"""Walks along lines through 0, from region to region, to where robustness is lost.

All regions that touch the line are looked at, so that a line may run along hinges or through corners.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from steadygaze.geometry.cells import Cells, concatenate
from steadygaze.geometry.half_widths import inward
from steadygaze.geometry.kinds import ROBUST
from steadygaze.geometry.measure import cone_volumes, volumes
from steadygaze.geometry.sections import bounds, line_intervals
from steadygaze.search.regions import NOTHING, TOUCH, UNKNOWN, WELD, Regions

# Places on a line closer than this share of it are one.
_SAME = 1e-9


@dataclass(frozen=True)
class Stop:
    """Where a walk ended.

    Attributes:
        at: multiple of the direction; 1 is the end of the box.
        regions: numbers of the robust regions that the walk left there.
    """

    at: float
    regions: np.ndarray


def regions_at_origin(regions: Regions) -> np.ndarray:
    """All regions that contain 0; none where the one that begins there is a sliver."""
    origin = np.zeros(len(regions.widths))
    first = regions.around(origin, inward(regions.problem.box))
    if first < 0:
        return np.zeros(0, np.int64)
    known, ahead = {first}, [first]
    while ahead:
        every, _ = regions.facets_of(np.array(ahead))
        at = every[np.abs(regions.slack(every, np.broadcast_to(origin, (len(every), len(origin))))) <= TOUCH]
        regions.cross(at)
        behind = set(regions.neighbour[at].tolist()) - known - {-1, -2, -3}
        known |= behind
        ahead = sorted(behind)
    return np.array(sorted(known))


def robust_at_origin(regions: Regions, chosen: np.ndarray, share: float) -> bool:
    """Whether every judged cell of these regions that holds 0 is robust."""
    cells, kind, _ = judged(regions, chosen)
    low, high = bounds(cells)
    slack = TOUCH * regions.widths
    near = np.flatnonzero(((low <= slack) & (-slack <= high)).all(axis=1))
    cones = cone_volumes(cells, near, np.zeros((len(near), len(slack))))
    holds = near[cones <= volumes(cells.take(near)[0]) * (1 + share)]
    return bool((kind[holds] == ROBUST).all()) and bool(len(holds))


def judged(regions: Regions, chosen: np.ndarray) -> tuple[Cells, np.ndarray, np.ndarray]:
    """The judged cells of the given regions, their kinds, and the region of each."""
    first = np.array(regions.first_of_map)
    block = np.searchsorted(first, chosen, side="right") - 1
    cells, kinds, owners = [], [], []
    for k in np.unique(block):
        map_, local = regions.maps[k], chosen[block == k] - first[k]
        own = np.flatnonzero(np.isin(map_.region, local))
        cells.append(map_.cells.take(own)[0])
        kinds.append(map_.kind[own])
        owners.append(map_.region[own] + first[k])
    return concatenate(cells), np.concatenate(kinds), np.concatenate(owners)


class Walk:
    """From the regions `start` along ``direction`` (n,), past `beyond` times it, while all is robust.

    Round by round: cross the facets that `wanted` gives, then `advance`; several walks share their rounds.
    """

    def __init__(
        self, regions: Regions, start: np.ndarray, direction: np.ndarray, beyond: float = 0.0
    ) -> None:
        self._regions, self.direction, self.beyond = regions, direction, beyond
        self.start = self._ahead = np.asarray(start)
        self._done: set[int] = set()
        self._at = 1.0
        self._spans: list[tuple[np.ndarray, np.ndarray]] = []
        self._met = (np.zeros(0, np.int64), np.zeros((0, 2)))
        self._facet = np.zeros(0, np.int64)

    @property
    def passed(self) -> np.ndarray:
        """The regions that were looked at."""
        return np.array(sorted(self._done), np.int64)

    def wanted(self) -> np.ndarray:
        """The facets that the line touches in the regions reached last; none at the end of the walk."""
        if not len(self._ahead):
            return np.zeros(0, np.int64)
        self._done.update(self._ahead.tolist())
        cells, kind, owner = judged(self._regions, self._ahead)
        span = line_intervals(cells, self.direction, self._regions.widths)
        beyond = self.beyond
        met = (span[:, 0] <= span[:, 1]) & (span[:, 1] >= beyond - _SAME)
        bad = met & (kind != ROBUST) & ((span[:, 1] > beyond + _SAME) | (beyond == 0.0))
        self._at = min(self._at, np.maximum(span[bad, 0], beyond).min(initial=1.0))
        self._spans.append((owner[met & ~bad], span[met & ~bad]))
        self._met = (owner[met], span[met])
        self._facet = _facets_at(self._regions, *self._met, self.direction, self._at)
        return self._facet

    def advance(self) -> None:
        """Go on to the regions behind the facets, which have been crossed."""
        behind = self._regions.neighbour[self._facet]
        blind = self._facet[(behind == NOTHING) | (behind == UNKNOWN)]
        if len(blind):
            self._at = min(self._at, _least(self._regions, blind, *self._met, self.direction, self.beyond))
        self._ahead = np.array(sorted(set(behind[behind >= 0].tolist()) - self._done), np.int64)
        self._facet = np.zeros(0, np.int64)

    def stop(self) -> Stop:
        """Where the walk ended."""
        owner = np.concatenate([owner for owner, _ in self._spans])
        span = np.concatenate([span for _, span in self._spans])
        at = min(self._at, self._covered(span))
        last = (span[:, 1] >= at - _SAME) & (span[:, 0] <= at)
        return Stop(float(at), np.unique(owner[last]))

    def _covered(self, span: np.ndarray) -> float:
        """How far the robust cells follow one upon another; behind a gap nothing is known."""
        reach = self.beyond
        for low, high in span[np.argsort(span[:, 0])]:
            if low > reach + WELD:
                break
            reach = max(reach, high)
        return np.inf if reach >= self._at - WELD else float(reach)


def walked(regions: Regions, walks: Sequence[Walk]) -> Iterator[bool]:
    """Take walks to their ends, side by side; yields after each round."""
    while True:
        facets = [walk.wanted() for walk in walks]
        if not any(len(facet) for facet in facets):
            return
        regions.cross(np.concatenate(facets))
        for walk in walks:
            walk.advance()
        yield True


def _facets_at(
    regions: Regions, owner: np.ndarray, span: np.ndarray, direction: np.ndarray, stop: float
) -> np.ndarray:
    """Facets of the regions that the line touches before `stop`."""
    ends = span.reshape(-1)
    region = np.repeat(owner, 2)
    some = ends <= stop + _SAME
    every, of = regions.facets_of(region[some])
    points = ends[some][of, None] * direction
    return np.unique(every[np.abs(regions.slack(every, points)) <= TOUCH])


def _least(
    regions: Regions,
    facet: np.ndarray,
    owner: np.ndarray,
    span: np.ndarray,
    direction: np.ndarray,
    beyond: float,
) -> float:
    """The first place from `beyond` on where the line touches one of the facets."""
    least = 1.0
    for f in facet:
        for end in span[owner == regions.region[f]].reshape(-1):
            on = abs(regions.slack(np.array([f]), (end * direction)[None])[0]) <= TOUCH
            if on and end >= beyond - _SAME:
                least = min(least, max(end, beyond))
    return least


def to_the_end(box: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """The direction, scaled so that it ends on the box's border."""
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.where(
            direction > 0, box[:, 1] / direction, np.where(direction < 0, box[:, 0] / direction, np.inf)
        )
    return direction * reach.min()
