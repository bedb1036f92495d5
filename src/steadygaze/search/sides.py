"""Boxes with a line inside along which all pixels bend: judged on each side of it (see `siding`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

import numpy as np

from steadygaze.geometry.kinds import UNDECIDED
from steadygaze.network.graph import GROWTH
from steadygaze.perturbation.siding import crossed, diagonal_of, on_side
from steadygaze.question.problem import Problem
from steadygaze.search.experience import Judged

# What is worked out of the network, the image and the map, and is the same on both sides.
_SHARED = ("known", "bounded", "gap_tolerance")
_SHARED_OF_MAPS = ("map0", "target", "compared", "expected_slack")


class Sides:
    """The sides of the diagonals along which images bend, of a network that multiplies errors.

    Of other networks boxes are judged as they are: there bends are small errors.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._diagonal = diagonal_of(problem.perturbation) if problem.graph.growth >= GROWTH else None

    @cached_property
    def problems(self) -> tuple[Problem, ...]:
        """The question on each side; the one about whole boxes where there is no diagonal."""
        problem = self._problem
        if self._diagonal is None:
            return (problem,)
        names = _SHARED if problem.class_alone else _SHARED + _SHARED_OF_MAPS
        shared = {name: getattr(problem, name) for name in names}
        found = []
        for above in (False, True):
            own = replace(problem, perturbation=on_side(problem.perturbation, above))
            vars(own).update(shared)
            found.append(own)
        return tuple(found)

    def across(self, boxes: np.ndarray) -> np.ndarray:
        """``(B,)`` bool: which boxes ``(B, n, 2)`` have a diagonal inside, and are judged on each side."""
        if self._diagonal is None:
            return np.zeros(len(boxes), bool)
        return crossed(self._diagonal, boxes)

    def judged(self, boxes: np.ndarray, judge: Callable[[Problem, np.ndarray], Judged]) -> Judged:
        """What bounds say of boxes: of those across a diagonal, what they say on both sides.

        judge: asks one question about boxes. Of a box that is open on one side the other is not looked at.
        """
        across = self.across(boxes)
        parts = [judge(self._problem, boxes[~across])] if not across.all() else []
        if across.any():
            first, second = self.problems
            found = judge(first, boxes[across])
            left = np.flatnonzero(found.kind != UNDECIDED)
            if len(left):
                found = found.met(left, judge(second, boxes[across][left]))
            parts.append(found)
        order = np.concatenate([np.flatnonzero(~across), np.flatnonzero(across)])
        return Judged.joined(parts).take(np.argsort(order))
