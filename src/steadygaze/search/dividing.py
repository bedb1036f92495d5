"""How a box that bounds leave open is cut: halved, into several parts at once, or about 0."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from steadygaze.question.problem import Problem
from steadygaze.search.boxes import (
    CHEAP,
    SLOW,
    bends_at_zero,
    framed,
    gauges_of,
    halved,
    parted_at_zero,
    shares_of,
    shells,
    volumes_of,
)
from steadygaze.search.decidable import Sizes

# Of slow networks few boxes are judged within a limit of time, and these lie about 0, in one whose edges are
# halved so often if it cannot be decided; of the slowest smooth ones, of which a box takes a second, twice as
# often at once.
_SHELLS, _SLOWEST = 8, 10**8
# So are boxes of so many parameters once a failure is known, if less often: 2^n parts meet at 0 where they
# are halved, and all of them must be decided before any range is.
_MANY, _FEW_SHELLS = 3, 3
# See `smallest_share`: maps of deep smooth networks are not known over boxes many times as large as these.
_SMALLEST, _SMALLEST_DEEP = 2.0**-24, 2.0**-36
#: A box with twice as many units in doubt as boxes are decided with is halved once, one with four times as
#: many quartered at once, and so on up to so many halvings.
HALVINGS = 4
# A box that would need more of them is so large that parts about 0 come first.
_FAR = 3


@dataclass(frozen=True)
class Divided:
    """What boxes were cut into.

    Attributes:
        parts: ``(P, n, 2)``.
        small: ``(S, n, 2)`` those that are too small to be cut.
        small_at_zero: how many of these hold 0.
        halvings_at_zero: how often the edges of the smallest box that holds 0 had been halved.
    """

    parts: np.ndarray
    small: np.ndarray
    small_at_zero: int
    halvings_at_zero: int


def smallest_share(problem: Problem) -> float:
    """Boxes whose every edge is at most this share of the whole box's are not halved any more."""
    return _SMALLEST_DEEP if problem.graph.drowns else _SMALLEST


@final
class Dividing:
    """Cuts boxes of one search.

    Args:
        problem: whose whole box they are parts of.
        exact: whether exact engines take over small boxes of the search.
    """

    def __init__(self, problem: Problem, exact: bool) -> None:
        self._problem, self._exact = problem, exact
        self._slow = problem.graph.effort > SLOW
        self._smallest = smallest_share(problem)
        self._bends = np.array(problem.perturbation.bends, dtype=bool)
        self._sizes = Sizes()

    def learn(self, boxes: np.ndarray, decided: np.ndarray) -> None:
        """Take in which of boxes ``(B, n, 2)`` were decided, bool ``(B,)``."""
        if self._problem.graph.smooth and self._problem.graph.effort > CHEAP:
            self._sizes.learn(self._sizes_of(boxes), decided)

    def outwards(self, failure: bool) -> bool:
        """Whether boxes that hold 0 are cut about it: how far all is safe is asked more than what fails.

        Args:
            failure: whether one is known.
        """
        many = len(self._problem.box) >= _MANY and not self._exact
        return self._slow or (many and failure)

    def first(self, near: float, outwards: bool) -> np.ndarray | None:
        """The parts of the whole box that come first; None where it is not worth cutting.

        Args:
            near: the least gauge of a known failure; no range goes beyond it, so that what lies within is cut
                apart from what does not.
            outwards: see the method of this name.
        """
        inside = 0 < near < 1
        if self._slow or self._exact or not (inside or outwards):
            return None
        inner, *around = framed(self._problem.box, near) if inside else self._problem.box[None]
        first = shells(inner, _FEW_SHELLS) if outwards else inner[None]
        return np.concatenate([first, *(part[None] for part in around)])

    def divided(
        self,
        boxes: np.ndarray,
        pull: np.ndarray,
        doubts: np.ndarray,
        most: int,
        outwards: bool,
        in_vain: bool = False,
    ) -> Divided:
        """Halve boxes, once or several times; the smallest are left as they are.

        Of a network whose boxes take seconds, of many parameters once a failure is known, and where far too
        many units are in doubt, one that holds 0 is cut about 0 (see `shells`): halved again and again, its
        parts at 0 would take more steps than there is time for.

        Args:
            boxes: ``(B, n, 2)``.
            pull: ``(B, n)`` what part of the doubt each parameter is to blame for, 0 to 1.
            doubts: ``(B,)`` units in doubt in each.
            most: with how many of them boxes are decided.
            outwards: see the method of this name.
            in_vain: whether boxes are known to be far too large; those that hold 0 become much smaller then.
        """
        share = shares_of(boxes, self._problem.box)
        small, about_zero = (share <= self._smallest).all(axis=1), gauges_of(boxes, self._problem.box) == 0
        farther = np.zeros(len(boxes))
        if self._problem.graph.smooth:  # all units are in doubt
            sizes = self._sizes_of(boxes).tolist()
            times = np.array([self._sizes.halvings(size, HALVINGS) for size in sizes], np.int64)
        else:
            farther = np.log2(np.maximum(doubts, 1) / most)
            # As if so many parameters moved the same number of units each.
            moving = 1 / np.maximum((pull**2).sum(axis=1), 1 / len(self._problem.box))
            times = np.rint(farther * moving).astype(int).clip(1, HALVINGS)
        several = len(self._problem.box) > 1 and not self._exact
        framed_ = about_zero & ~small & (outwards | ((np.rint(farther) > _FAR) & several))
        parts = [part for box in boxes[framed_] for part in self._about_zero(box, in_vain)]
        left = ~small & ~framed_
        parts += self._halved(boxes[left], pull[left], times[left])
        return Divided(
            np.concatenate([boxes[:0], *parts]),
            boxes[small],
            int((small & about_zero).sum()),
            max((round(-math.log2(edges.max())) for edges in share[about_zero]), default=0),
        )

    def _sizes_of(self, boxes: np.ndarray) -> np.ndarray:
        """How often the whole box was halved for each of these."""
        shares = np.maximum(volumes_of(boxes) / self._problem.volume, np.finfo(np.float64).tiny)
        return np.rint(-np.log2(shares)).astype(np.int64)

    def _halved(self, boxes: np.ndarray, pull: np.ndarray, times: np.ndarray) -> list[np.ndarray]:
        """The parts of boxes that are halved so many times ``(B,)`` each."""
        parts = []
        while len(boxes):
            boxes = halved(boxes, self._axes(boxes, pull), self._bends)
            pull, times = np.tile(pull, (2, 1)), np.tile(times - 1, 2)
            parts.append(boxes[times == 0])
            boxes, pull, times = boxes[times > 0], pull[times > 0], times[times > 0]
        return parts

    def _about_zero(self, box: np.ndarray, in_vain: bool) -> list[np.ndarray]:
        """The parts of a box that holds 0: the one about 0, and what lies around it.

        One that is small already is cut at 0, too: over a blank background, or where a network has no
        constant terms, hinges meet at 0, and no box with 0 inside is small enough for them.
        """
        graph = self._problem.graph
        small = bool((shares_of(box, self._problem.box) <= 0.5**_SHELLS).all())
        halvings = _SHELLS if self._slow else _FEW_SHELLS
        if graph.drowns and (self._slow or in_vain):
            halvings, small = 2 * _SHELLS, small or bends_at_zero(self._problem)
        elif graph.smooth and graph.effort > _SLOWEST and not small:
            halvings, small = 2 * _SHELLS, bends_at_zero(self._problem)
        parts = parted_at_zero(box) if small else box[None]
        return [shells(part, halvings) for part in parts]

    def _axes(self, boxes: np.ndarray, pull: np.ndarray) -> np.ndarray:
        """For each box the parameter that is to blame for most of the doubt, long edges counting for more."""
        share = shares_of(boxes, self._problem.box)
        length = share / share.max(axis=1, keepdims=True)
        return ((pull + 1 / (4 * share.shape[1])) * length).argmax(axis=1)
