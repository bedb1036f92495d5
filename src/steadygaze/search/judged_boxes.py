"""Boxes of parameters judged by bounds, each with as much effort as has paid on boxes of its size.

First forms alone: they are the cheapest. Where they leave the class open, bands and rows for the class gaps;
where these do, too, rows for units, which cost several times as much. How far they bring the gap's bound
closer to its value in the middle is much the same for boxes of one size: one box of each size is tried, and
then those that would be decided by as much.

Where the class holds and the inconsistency is left open, gradients are carried back once more with as many
symbols as there are units in doubt, if they are not too many: what no longer cancels is most of the doubt.
This and the rows for gaps are tried on a few boxes of each size, and then where they decide a share of them
that makes up for what they take.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from steadygaze.deadline import NEVER, Deadline
from steadygaze.geometry.kinds import ATTENTION_CHANGED, CLASS_CHANGED, ROBUST, UNDECIDED
from steadygaze.network.bounding.bounds import Bounds
from steadygaze.network.bounding.tightening import Effort
from steadygaze.question.problem import Problem
from steadygaze.search.boxes import volumes_of

# Gradients of boxes with more units in doubt are not carried back again: hardly any would be decided.
_MOST_SYMBOLS = 256


# Boxes of each size on which an effort is tried, and the share of them that it must decide: what an effort
# takes against the two halves of a box, which would have to be judged without it.
_TRIALS = 6
_GAPS_PAY, _SYMBOLS_PAY = 0.25, 0.4
# Rows for units are not even tried where they would have to leave less than this.
_HOPEFUL = 1 / 32
# More effort for a box may take this share of the time that is left, where so many products (see
# `Graph.effort`) are made in a second.
_SHARE, _RATE = 0.1, 1e10


@dataclass(frozen=True)
class Judged:
    """What bounds say of B boxes.

    Attributes:
        kind: ``(B,)`` int8, UNDECIDED where they leave it open.
        doubts: ``(B,)`` units that may be on several pieces.
        pull: ``(B, n)`` what part of the doubt each parameter is to blame for, 0 to 1.
        gaps, symbols: ``(B,)`` 1 if rows for gaps, or more symbols, have decided the class, or the box; 0 if
            they have not, nan where they were not tried.
        units: ``(B,)`` how far rows for units brought the bound of the least gap towards its value in the
            middle: the share of the distance that was left. nan where they were not tried.
    """

    kind: np.ndarray
    doubts: np.ndarray
    pull: np.ndarray
    gaps: np.ndarray
    symbols: np.ndarray
    units: np.ndarray

    @staticmethod
    def joined(parts: Sequence[Judged]) -> Judged:
        """Those of several batches, one after the other."""
        names = [field.name for field in fields(Judged)]
        return Judged(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


class Experience:
    """What efforts were worth on boxes of each size: sums and numbers of what `Judged` says of them."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, int], tuple[float, int]] = {}

    def learn(self, shares: np.ndarray, judged: Judged) -> None:
        """Take in what became of boxes that are these shares ``(B,)`` of the whole."""
        for name in ("gaps", "symbols", "units"):
            found = getattr(judged, name)
            for number in np.flatnonzero(np.isfinite(found)):
                key = (name, _size(shares[number]))
                total, count = self._seen.get(key, (0.0, 0))
                self._seen[key] = total + float(found[number]), count + 1

    def pays(self, name: str, shares: np.ndarray, least: float) -> np.ndarray:
        """``(B,)`` bool: where it decided such a share of boxes, or has been tried on few of them."""
        seen = [self._seen.get((name, _size(share)), (0.0, 0)) for share in shares]
        return np.array([count < _TRIALS or total >= least * count for total, count in seen], bool)

    def units(self, shares: np.ndarray) -> np.ndarray:
        """``(B,)`` what rows for units are expected to leave; nan where nothing is known."""
        seen = [self._seen.get(("units", _size(share)), (np.nan, 1)) for share in shares]
        return np.array([total / count for total, count in seen])


def judge_boxes(
    problem: Problem,
    boxes: np.ndarray,
    room: int,
    experience: Experience | None = None,
    deadline: Deadline = NEVER,
) -> Judged:
    """Judge boxes ``(B, n, 2)`` by bounds whose forms have room for so many symbols.

    A box is robust if all class gaps are above 0 and the inconsistency is at most the threshold, each by more
    than its tolerance, everywhere in it; class-changed if one gap is below 0 everywhere; attention-changed if
    the class holds and the inconsistency is above the threshold everywhere.
    experience: of what more effort than forms is worth; None for no more effort.

    Raises Expired where the deadline passes on the way.
    """
    judging = _Judging(problem, boxes, room, experience, deadline)
    judging.judge(np.arange(len(boxes)), Effort.FORMS)
    if experience is not None:
        judging.try_gaps(experience)
        judging.try_units(experience)
    return judging.judged()


class _Judging:
    """What is known of boxes while they are judged.

    Attributes:
        low, middle: ``(B, K - 1)`` least value of each class gap, and the one in the middle of its range.
        open: ``(B,)`` bool, whether the class is left open.
    """

    def __init__(
        self,
        problem: Problem,
        boxes: np.ndarray,
        room: int,
        experience: Experience | None,
        deadline: Deadline,
    ) -> None:
        self._deadline = deadline
        self._problem, self._boxes, self._room, self._experience = problem, boxes, room, experience
        self._shares = volumes_of(boxes) / problem.volume
        gaps = (len(boxes), problem.graph.classes - 1)
        self.kind, self.open = np.full(len(boxes), UNDECIDED, np.int8), np.ones(len(boxes), bool)
        self.low, self.middle = np.full(gaps, -np.inf), np.zeros(gaps)
        self.doubts, self.pull = np.zeros(len(boxes)), np.zeros(boxes.shape[:2])
        self.gaps, self.symbols, self.units = (np.full(len(boxes), np.nan) for _ in range(3))

    def judged(self) -> Judged:
        """What has been found."""
        return Judged(self.kind, self.doubts, self.pull, self.gaps, self.symbols, self.units)

    def try_gaps(self, experience: Experience) -> None:
        """Judge boxes whose class is open by rows for the class gaps, where that pays."""
        asked = np.flatnonzero(self.open & experience.pays("gaps", self._shares, _GAPS_PAY))
        if len(asked):
            self.judge(asked, Effort.GAPS)
            self.gaps[asked] = ~self.open[asked]

    def try_units(self, experience: Experience) -> None:
        """Judge boxes whose class is still open by rows for units, where that should decide it."""
        asked = self._worth(experience.units(self._shares))
        if len(asked):
            before, worst = self.low[asked], self.low[asked].argmin(axis=1)
            self.judge(asked, Effort.UNITS)
            middle, rows = self.middle[asked], np.arange(len(asked))
            self.units[asked] = ((middle - self.low[asked]) / (middle - before))[rows, worst]

    def judge(self, some: np.ndarray, effort: Effort) -> None:
        """Judge the boxes of these numbers with so much effort."""
        bounds = self._problem.bounds(self._boxes[some], self._room, effort, self._deadline)
        low, high = (bound.cpu().numpy() for bound in bounds.gaps(self._problem.label))
        if effort is Effort.FORMS:
            self.middle[some] = (low + high) / 2
        self.low[some] = low
        self.doubts[some], self.pull[some] = bounds.doubts.cpu().numpy(), _shares(bounds)
        failing = (high < -self._problem.gap_tolerance).any(axis=1)
        holding = (low > self._problem.gap_tolerance).all(axis=1)
        self.kind[some[failing]] = CLASS_CHANGED
        self.open[some[failing | holding]] = False
        held = np.flatnonzero(holding)
        if len(held):
            self.kind[some[held]] = self._attention(some[held], bounds.take(torch.from_numpy(held)))

    def _worth(self, expected: np.ndarray) -> np.ndarray:
        """Numbers of the open boxes that rows for units decide, if they leave what is expected ``(B,)``.

        Of the boxes of which that is not known, the one is tried that wants the least. Only rows for gaps
        tell how much is wanted.
        """
        away = self.middle - self.low
        with np.errstate(divide="ignore", invalid="ignore"):
            wanted = np.where(self.middle > 0, self.middle / away, 0.0).min(axis=1)
        wanted[~self.open | np.isnan(self.gaps) | ~self._affordable(self.doubts)] = 0.0
        likely = wanted > np.nan_to_num(expected, nan=np.inf)
        unknown = np.flatnonzero(np.isnan(expected) & (wanted > _HOPEFUL))
        if len(unknown):
            likely[unknown[wanted[unknown].argmax()]] = True
        return np.flatnonzero(likely)

    def _affordable(self, rows: np.ndarray) -> np.ndarray:
        """``(B,)`` bool: whether so many rows ``(B,)`` come back through the network in time."""
        return rows * self._problem.graph.effort <= _SHARE * _RATE * self._deadline.left

    def _attention(self, some: np.ndarray, bounds: Bounds) -> np.ndarray:
        """Kinds of boxes that the class holds on, whose bounds are known."""
        problem = self._problem
        least, most = problem.enclosed_inconsistency(self._boxes[some], bounds)
        doubts = bounds.doubts.cpu().numpy()
        open_ = (least <= problem.threshold) & (most > problem.threshold)
        if self._experience is not None:
            # With few units in doubt all had a symbol, and most of their products.
            many = (doubts > self._room / 4) & (doubts <= _MOST_SYMBOLS)
            pays = self._experience.pays("symbols", self._shares[some], _SYMBOLS_PAY)
            pays &= self._affordable(np.full(len(some), _MOST_SYMBOLS))
            self._refine(some, np.flatnonzero(open_ & many & pays), bounds, (least, most))
        kind = np.full(len(some), UNDECIDED, np.int8)
        margin = problem.tolerance.margin
        kind[most <= problem.threshold - margin] = ROBUST
        kind[least > problem.threshold + margin] = ATTENTION_CHANGED
        tried = np.isfinite(self.symbols[some])
        self.symbols[some[tried]] = kind[tried] != UNDECIDED
        return kind

    def _refine(
        self, some: np.ndarray, again: np.ndarray, bounds: Bounds, ends: tuple[np.ndarray, np.ndarray]
    ) -> None:
        """Narrow the ends of the inconsistency of these of some boxes, by more symbols."""
        span = max(1, len(self._boxes) * self._room // _MOST_SYMBOLS)
        for first in range(0, len(again), span):
            part = again[first : first + span]
            finer = replace(bounds.take(torch.from_numpy(part)), room=_MOST_SYMBOLS)
            low, high = self._problem.enclosed_inconsistency(self._boxes[some[part]], finer)
            ends[0][part], ends[1][part] = np.fmax(ends[0][part], low), np.fmin(ends[1][part], high)
        self.symbols[some[again]] = 0.0


def _shares(bounds: Bounds) -> np.ndarray:
    """What share of the doubt each parameter is to blame for, ``(B, n)``."""
    pull = bounds.pull.cpu().numpy()
    total = pull.sum(axis=1, keepdims=True)
    return np.divide(pull, total, out=np.full_like(pull, 1 / pull.shape[1]), where=total > 0)


def _size(share: float) -> int:
    """How often the whole was halved."""
    return round(-math.log2(share)) if share > 0 else 0
