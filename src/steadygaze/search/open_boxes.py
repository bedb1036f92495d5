"""The boxes of a search that are open, and which of them come next."""

from __future__ import annotations

import math
from typing import final

import numpy as np

from steadygaze.question.problem import Problem
from steadygaze.search.boxes import SLOW, gauges_of, shares_of, volumes_of

# Of the boxes of a step, so many are the nearest to 0 at first, and more while some of these are decided; the
# rest the largest. All have to be decided for a robust box, and where the time ends before, those near 0 are
# a safe scale. Each step in which none of them is decided takes from the share, down to a least: at 0 hinges
# may meet that no box tells apart. Of slow networks all are near while the safe scale rises: large boxes of
# theirs are hardly ever decided.
_NEAR_SHARE, _NEAR_LEAST, _NEAR_FALL, _NEAR_DECIDED = 0.5, 0.05, 0.9, 0.9
# Once a failure is known the verdict is, too, and what is left to tell is how far all is safe: so many of
# them are the nearest then, at first and at least.
_KNOWN_SHARE, _KNOWN_LEAST = 0.9, 0.5
# Edges of a box that is small, as shares of the whole box's: at 0 hinges may meet that none tells apart.
_SMALL = 2.0**-12
# The safe scale is pursued until it is known up to this share of itself. Of one parameter, where that takes
# few boxes, up to a tenth of it once nothing else is left to do: else a longer run, which knows a nearer
# failure when it cuts the box, could know a scale that is smaller by so much.
_SCALE_CLOSE, _SCALE_CLOSER = 0.01, 0.001


@final
class OpenBoxes:
    """Open boxes of one search.

    Args:
        problem: whose whole box they are parts of.
        boxes: ``(B, n, 2)`` the first ones.
    """

    def __init__(self, problem: Problem, boxes: np.ndarray) -> None:
        self._whole, self._slow = problem.box, problem.graph.effort > SLOW
        self._boxes = boxes
        self._near_share, self._reached = _NEAR_SHARE, 0.0
        self._front, self._decided = -1.0, False

    def __len__(self) -> int:
        return len(self._boxes)

    @property
    def boxes(self) -> np.ndarray:
        """``(B, n, 2)``."""
        return self._boxes

    @property
    def reached(self) -> float:
        """The share of the whole box, about 0, in which no box is open, as far as boxes were taken."""
        return self._reached

    @property
    def nearest(self) -> float:
        """The least gauge of an open box; infinite without any."""
        return float(gauges_of(self._boxes, self._whole).min(initial=np.inf))

    def replace(self, boxes: np.ndarray) -> None:
        """Open these ``(B, n, 2)`` in place of all that are."""
        self._boxes = boxes

    def add(self, *boxes: np.ndarray) -> None:
        """Open more."""
        self._boxes = np.concatenate([self._boxes, *boxes])

    def learn(self, decided: np.ndarray) -> None:
        """Take in which boxes ``(B, n, 2)`` were decided of those taken last."""
        self._decided = bool((gauges_of(decided, self._whole) <= self._front).any())

    def near(self, blocked: float, closer: bool = False) -> np.ndarray:
        """The numbers of those on which the safe scale depends, nearest first.

        Args:
            blocked: the least gauge of a known failure.
            closer: whether nothing else is left to do.
        """
        gauge = gauges_of(self._boxes, self._whole)
        limit = min(blocked, 1.0)
        near = np.flatnonzero(gauge < limit)
        near = near[np.argsort(gauge[near], kind="stable")]
        close = _SCALE_CLOSER if closer and len(self._whole) == 1 else _SCALE_CLOSE
        return near if len(near) and gauge[near[0]] < limit * (1 - close) else near[:0]

    def take(
        self, count: int, blocked: float, known: bool, late: bool = False, closer: bool = False
    ) -> np.ndarray:
        """Takes so many boxes out, those of the next step.

        Args:
            count: at most so many.
            blocked: the least gauge of a known failure.
            known: whether one is known.
            late: whether much of the time is over, so that a safe scale is what is wanted if there is none.
            closer: as in `near`.
        """
        count = min(count, len(self._boxes))
        near = self.near(blocked, closer)
        if len(near):
            self._pace(float(gauges_of(self._boxes[near[:1]], self._whole)[0]), known)
        first = self._at_zero_first(near, late)
        if len(first):
            near, count = first[:count], min(count, len(first))
        share = self._near_share * (1 / _NEAR_SHARE if self._slow else 1.0)
        near = near[: math.ceil(count * (1.0 if len(first) else min(share, 1.0)))]
        self._front = float(gauges_of(self._boxes[near], self._whole).max(initial=-1.0))
        rest = np.setdiff1d(np.arange(len(self._boxes)), near)
        largest = np.argsort(-volumes_of(self._boxes[rest]), kind="stable")[: count - len(near)]
        taken = np.concatenate([near, rest[largest]])
        boxes = self._boxes[taken]
        self._boxes = np.delete(self._boxes, taken, axis=0)
        return boxes

    def _at_zero_first(self, near: np.ndarray, late: bool) -> np.ndarray:
        """Of these open boxes, nearest first, those that come before all others.

        Of slow networks, and of others when it is late, the ones that hold 0: without them there is no safe
        scale, and what lies around them is larger. Small ones come first of slow networks alone.
        """
        if self._reached or not (self._slow or late):
            return near[:0]
        holding = near[gauges_of(self._boxes[near], self._whole) == 0]
        if self._slow:
            return holding
        return holding[(shares_of(self._boxes[holding], self._whole) > _SMALL).any(axis=1)]

    def _pace(self, reached: float, known: bool) -> None:
        """The share of the boxes near 0, given how far from there all is robust now."""
        self._near_share = max(self._near_share * _NEAR_FALL, _KNOWN_LEAST if known else _NEAR_LEAST)
        if self._decided:
            self._near_share = max(self._near_share, _NEAR_DECIDED)
        if reached > self._reached:
            best = _KNOWN_SHARE if known else _NEAR_SHARE
            self._near_share, self._reached = max(best, self._near_share), reached
        self._decided = False
