"""How far a run has come, and when it is to stop."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, replace

import numpy as np

from steadygaze.deadline import Deadline, Expired
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
# the time is kept for it, but no more than this share of what is left. Where points take no time, nothing is:
# there the allowance is enough.
_POINTS, _MOST_KEPT = 20, 0.3
_QUICK = 10**7

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


def kept_for_reading(problem: Problem, deadline: Deadline) -> float:
    """Seconds before the deadline at which the search of a large network has to end."""
    if deadline.left == math.inf or problem.graph.effort < _QUICK:
        return 0.0
    timed = problem_until(problem, deadline.part(_MOST_KEPT))
    before = deadline.clock()
    with contextlib.suppress(Expired):  # a point that takes longer than the time counts as long
        timed.at(np.zeros((1, len(problem.box))))
    return min(_POINTS * (deadline.clock() - before), _MOST_KEPT * deadline.left)


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
