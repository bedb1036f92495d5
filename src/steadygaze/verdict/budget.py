"""How far a run has come, and when it is to stop."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, replace

import numpy as np

from steadygaze.deadline import Deadline, Expired
from steadygaze.network.integrated import IntegratedGradients
from steadygaze.question.learning import seconds_of_image
from steadygaze.question.limits import Limits
from steadygaze.question.problem import Problem
from steadygaze.question.timing import problem_until
from steadygaze.search.base import Standing
from steadygaze.verdict.findings import Stopped

# The map may take this share of the memory limit; joining and reading it takes up to three times as much.
_MAP_SHARE = 1 / 4
# Bytes of a map that are joined, checked and read in a second, at least: a search that has found much stops
# a little earlier.
_READ = 40e6

# Reading, replaying and holding what was found takes as long as evaluating about so many points; that much of
# the time is kept for it, but no more than this share of what is left. The least that it takes is kept up to
# another share. Where points take no time, nothing is: there the allowance is enough.
_POINTS, _MOST_KEPT = 20, 0.3
_FEWEST_POINTS, _MOST_OF_LITTLE = 7, 0.6
_QUICK = 10**7
# Learning how large terms are, the unperturbed image and a second look at it in single precision take as long
# as so many points; of the points that an answer is held against there is one at the least.
_FIXED_POINTS = 5

# How many times as long as forward a point takes, and one of which no map is asked for.
_PASSES, _PASSES_OF_CLASS = 2.2, 1.1

INTERRUPT = Stopped("interrupt", "an interrupt")


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        fraction: share of the box that is judged, in [0, 1].
        regions: visited so far.
        robust_share: share of the box that is judged robust.
        phase: `"compiling"`, `"searching"` or `"checking"`.
        radius: distance from 0, in half-widths, within which all is robust, where the search goes by it.
    """

    fraction: float
    regions: int
    robust_share: float
    phase: str
    radius: float | None = None


@dataclass(frozen=True)
class Kept:
    """What of a limit of time is kept for what comes after the search.

    Attributes:
        seconds: before the deadline at which the search of a large network has to end.
        point: seconds that a point takes there; 0 of other networks, or without a limit.
    """

    seconds: float = 0.0
    point: float = 0.0

    def held(self, left: float) -> int | None:
        """How many points an answer is held against in any case, where so many seconds are left; None for
        the usual number.
        """
        return max(1, int(left / self.point) - _FIXED_POINTS) if self.point else None


def kept_for_reading(problem: Problem, deadline: Deadline, allowance: float = 0.0) -> Kept:
    """What is kept before the deadline, learnt from one point.

    allowance: seconds that reading has after it, in any case. Of little time half of these count as kept.
    """
    if deadline.left == math.inf or problem.graph.effort < _QUICK:
        return Kept()
    point = _seconds_of_point(problem, deadline)
    left, after = deadline.left, allowance / 2
    little = min(_FEWEST_POINTS * point, _MOST_OF_LITTLE * (left + after)) - after
    enough = max(_MOST_KEPT * left, little)
    return Kept(min(_POINTS * point, enough), point)


def _seconds_of_point(problem: Problem, deadline: Deadline) -> float:
    """How long a point takes: a pass forward, which was timed before, and for its map one back."""
    forward = seconds_of_image(problem.graph)
    if forward is not None and not isinstance(problem.saliency, IntegratedGradients):
        return (_PASSES_OF_CLASS if problem.class_alone else _PASSES) * forward
    timed = problem_until(problem, deadline.part(_MOST_KEPT))
    before = deadline.clock()
    with contextlib.suppress(Expired):  # a point that takes longer than the time counts as long
        timed.at(np.zeros((1, len(problem.box))))
    return deadline.clock() - before


@dataclass(frozen=True)
class Budget:
    """What one search may use of the limits. However small its part, what is named are the limits given.

    Attributes:
        limits: those given. deadline: of this search. regions: that it may visit, None for any number.
    """

    limits: Limits
    deadline: Deadline
    regions: int | None

    def exceeded(self, now: Standing) -> Stopped | None:
        """Which limit a search has run into."""
        reading = now.bytes / _READ
        if self.deadline.passed() or self.deadline.left + self.limits.allowance / 2 < reading:
            return self.out_of_time
        if now.bytes > self.limits.memory * 2**30 * _MAP_SHARE:
            return Stopped("memory", f"the memory limit of {self.limits.memory:g} GiB")
        if self.regions is not None and now.regions >= self.regions:
            return Stopped("regions", f"the limit of {self.limits.regions} regions")
        return None

    @property
    def out_of_time(self) -> Stopped:
        """What is said of a search that its deadline ended."""
        if self.deadline.halted() or self.limits.seconds is None:
            return INTERRUPT
        return Stopped("time", f"the time limit of {self.limits.seconds:g} s")

    def part(self, share: float) -> Budget:
        """A share of the time that is left and of the regions."""
        regions = None if self.regions is None else max(1, int(self.regions * share))
        return replace(self, deadline=self.deadline.part(share), regions=regions)

    def less(self, regions: int) -> Budget:
        """What is left when so many regions were visited: at least one, so that a search can begin."""
        return replace(self, regions=None if self.regions is None else max(self.regions - regions, 1))
