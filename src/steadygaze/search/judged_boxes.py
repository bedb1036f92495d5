"""Boxes of parameters judged by bounds, each with as much effort as has paid on boxes of its size.

First forms alone: they are the cheapest. Where they leave the class open, bands and rows for the class gaps;
where these do, too, slopes of their own for the gaps that are open, and rows for units, which cost several
times as much. How far the last two bring a gap's bound closer to its value in the middle is much the same for
boxes of one size: one box of each size is tried, and then those that would be decided by as much. Rows for
gaps come first where forms decide few of the boxes of a size, as they compute forms besides.

Where the class holds and the inconsistency is left open, gradients are carried back once more with as many
symbols as there are units in doubt, if they are not too many: what no longer cancels is most of the doubt.
This and the rows for gaps are tried on a few boxes of each size, and then where they decide a share of them
that makes up for what they take. What is tried without success may take a tenth of what a search has taken.

Where networks multiply errors and pixels stray, these have symbols (`straying`).

Of deep smooth networks small boxes whose inconsistency polynomials leave open are asked for gradients to
twice the precision; once that decides one of them, gradients of all boxes are.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import torch

from steadygaze.deadline import NEVER, Deadline
from steadygaze.geometry.kinds import ATTENTION_CHANGED, CLASS_CHANGED, ROBUST, UNDECIDED
from steadygaze.network.bounding.bounds import Bounds
from steadygaze.network.bounding.small_boxes import are_small
from steadygaze.network.bounding.tightening import Effort
from steadygaze.question.problem import Problem
from steadygaze.search.boxes import SLOW, volumes_of
from steadygaze.search.experience import Experience, Judged
from steadygaze.search.straying import rooms_of, shared_by
from steadygaze.search.symbols import room_for_doubts

# Gradients of boxes with more units in doubt are not carried back again: hardly any would be decided.
_MOST_SYMBOLS = 256
# Boxes that polynomials leave open are judged by forms, too, where those took no more than this share of the
# time that is left: forms take about as long, and of large networks decide next to none of these.
_BESIDES = 1 / 8

# Of boxes on which an effort is tried, the share that it must decide: what it takes against the two halves of
# a box, which would have to be judged without it.
_GAPS_PAY, _SYMBOLS_PAY = 0.75, 0.4
# Rows for units are not even tried where they would have to leave less than this; and slopes, which cost
# little and bring little, where they would have to leave less than that.
_HOPEFUL, _SLIGHT = 1 / 32, 0.75
# What efforts cost, forms for a box being 1: measured on one core, networks of 1,500 to 10,000 units. Rows
# for units cost more the more units are in doubt, slopes the more gaps are open.
_GAPS_COST, _UNITS_COST, _DOUBTS_COST, _SYMBOLS_COST, _SLOPES_COST = 2.0, 2.0, 1 / 128, 6.0, 0.5
# More symbols, which are for maps alone, may lose so much at first, whatever else lost: one trial of them
# costs more than what the class is asked for by may lose.
_SYMBOLS_FIRST = 12.0
# A box that rows for units have to bring no more than half the way is tried whatever it costs.
_LIKELY = 0.5
# More effort for a box may take this share of the time that is left, where so many products (see
# `Graph.effort`) are made in a second.
_SHARE, _RATE = 0.1, 3e10
# A box about 0, on which every range depends, is worth more.
_SHARE_AT_ZERO = 0.3
# Of slow networks few boxes are judged, and each that is decided is worth more symbols: there are so many for
# each unit in doubt, as their products have some, too, and they may take that share of the time.
_SYMBOLS_EACH, _MUCH = 3, 0.4


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
    if experience is None or not experience.strays:
        return _in_turn(problem, boxes, room, experience, deadline)
    shared = shared_by(problem, deadline)
    rooms = rooms_of(problem, boxes, experience, deadline, shared)
    some, rest = np.flatnonzero(rooms), np.flatnonzero(rooms == 0)
    parts = []
    if len(some):
        parts.append(_by_pixels(problem, boxes[some], rooms[some], experience, deadline, shared))
    if len(rest):
        parts.append(_in_turn(problem, boxes[rest], room, experience, deadline))
    return Judged.joined(parts).take(np.argsort(np.concatenate([some, rest])))


def _in_turn(
    problem: Problem, boxes: np.ndarray, room: int, experience: Experience | None, deadline: Deadline
) -> Judged:
    """`judge_boxes` without symbols for pixels."""
    ways = [partial(_otherwise, experience=None if experience and experience.is_plain else experience)]
    if problem.follows_polynomials:
        # Which piece a unit is on polynomials follow less well than symbols do.
        bends = any(node > problem.pixels for node in problem.graph.piecewise)
        followed = partial(_by_polynomials, experience=experience or Experience())
        ways = [followed, *ways] if bends else [followed]
    began = deadline.clock()
    found = ways[0](problem, boxes, room, deadline=deadline)
    for way in ways[1:]:
        left = np.flatnonzero(found.kind == UNDECIDED)
        if len(left) and deadline.clock() - began <= _BESIDES * deadline.planned:
            found = found.replaced(left, way(problem, boxes[left], room, deadline=deadline))
    return found


def _by_pixels(
    problem: Problem,
    boxes: np.ndarray,
    rooms: np.ndarray,
    experience: Experience,
    deadline: Deadline,
    shared: int,
) -> Judged:
    """`judge_boxes` with symbols for pixels and so much room ``(B,)``, box by box: forms are wide.

    shared: how many symbols pixels share; 0 for one each.
    """
    parts = []
    for box, room in zip(boxes, rooms.tolist(), strict=True):
        judging = _Judging(problem, box[None], room, experience, deadline, shared)
        judging.judge(np.zeros(1, np.int64), Effort.PIXELS)
        found = np.array(judging.kind != UNDECIDED, np.float64)
        parts.append(replace(judging.judged(), forms=np.full(1, np.nan), pixels=found))
    return Judged.joined(parts)


def _are_small(problem: Problem, boxes: np.ndarray) -> np.ndarray:
    """Which boxes ``(B,)`` of a deep smooth network are bounded by differences, see `are_small`."""
    return are_small(problem.graph, problem.perturbation.enclose(problem.image, boxes))


def _by_polynomials(
    problem: Problem, boxes: np.ndarray, room: int, deadline: Deadline, experience: Experience
) -> Judged:
    room = room_for_doubts(problem, len(boxes), experience, deadline)
    judging = _Judging(problem, boxes, room, experience, deadline)
    judging.judge(np.arange(len(boxes)), Effort.POLYNOMIALS)
    return judging.judged()


def _otherwise(
    problem: Problem, boxes: np.ndarray, room: int, deadline: Deadline, experience: Experience | None
) -> Judged:
    """`judge_boxes` by forms, and by more than these."""
    if problem.graph.drowns:
        # Small boxes are bounded in another way: not together with others.
        small = _are_small(problem, boxes)
        if small.any() and not small.all():
            parts = [_otherwise(problem, boxes[own], room, deadline, experience) for own in (small, ~small)]
            order = np.concatenate([np.flatnonzero(own) for own in (small, ~small)])
            return Judged.joined(parts).take(np.argsort(order))
    judging = _Judging(problem, boxes, room, experience, deadline)
    if experience is None:
        judging.judge(np.arange(len(boxes)), Effort.FORMS)
    else:
        judging.begin(experience)
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
        shared: int = 0,
    ) -> None:
        self._deadline, self._shared = deadline, shared
        self._problem, self._boxes, self._room, self._experience = problem, boxes, room, experience
        self._shares = volumes_of(boxes) / problem.volume
        gaps = (len(boxes), problem.graph.classes - 1)
        self.kind, self.open = np.full(len(boxes), UNDECIDED, np.int8), np.ones(len(boxes), bool)
        self.low, self.middle = np.full(gaps, -np.inf), np.zeros(gaps)
        self.doubts, self.pull = np.zeros(len(boxes)), np.zeros(boxes.shape[:2])
        self.forms, self.gaps, self.symbols = (np.full(len(boxes), np.nan) for _ in range(3))
        self.units, self.slopes = (np.full(len(boxes), np.nan) for _ in range(2))
        self.spent, self.lost = np.zeros(len(boxes)), np.zeros(len(boxes))
        self.precise, self.pixels = np.zeros(len(boxes), bool), np.full(len(boxes), np.nan)
        self.followed = np.full(len(boxes), np.nan)

    def judged(self) -> Judged:
        """What has been found."""
        found = (self.forms, self.gaps, self.symbols, self.units, self.slopes, self.spent, self.lost)
        return Judged(self.kind, self.doubts, self.pull, *found, self.precise, self.pixels, self.followed)

    def begin(self, experience: Experience) -> None:
        """Judge all boxes by forms, or by rows for the class gaps at once where forms decide few."""
        first = experience.goes_first(self._shares)
        if not first.all():
            some = np.flatnonzero(~first)
            self.judge(some, Effort.FORMS)
            self.spent[some] += 1.0
        if first.any():
            self._ask_gaps(np.flatnonzero(first))

    def try_gaps(self, experience: Experience) -> None:
        """Judge boxes whose class is open by rows for the class gaps, where that pays."""
        open_ = np.flatnonzero(self.open & np.isnan(self.gaps))
        chosen = open_[experience.pays("gaps", self._shares[open_], _GAPS_PAY, _GAPS_COST)]
        if len(chosen):
            self._ask_gaps(chosen)

    def try_units(self, experience: Experience) -> None:
        """Judge boxes whose class is still open by rows for units, where that should decide it."""
        asked = self._worth(experience)
        if len(asked):
            before, worst = self.low[asked], self.low[asked].argmin(axis=1)
            self.judge(asked, Effort.UNITS)
            middle, rows = self.middle[asked], np.arange(len(asked))
            self.units[asked] = ((middle - self.low[asked]) / (middle - before))[rows, worst]
            cost = _UNITS_COST + _DOUBTS_COST * self.doubts[asked]
            self._book(asked, cost, ~self.open[asked], _LIKELY)

    def judge(self, some: np.ndarray, effort: Effort) -> None:
        """Judge the boxes of these numbers with so much effort."""
        problem = self._problem
        bounds = problem.bounds(self._boxes[some], self._room, effort, self._deadline, shared=self._shared)
        formed = [bound.cpu().numpy() for bound in bounds.enclosed_gaps(problem.label).bounds()]
        fresh = np.isnan(self.forms[some])
        settled = np.logical_or.reduce(formed[1] < -problem.gap_tolerance, axis=1)
        settled |= np.logical_and.reduce(formed[0] > problem.gap_tolerance, axis=1)
        self.forms[some[fresh]] = settled[fresh]
        # A range that is not known at all, as behind a norm that may be 0, has no middle.
        known = np.isfinite(formed).all(axis=0)
        self.middle[some[fresh]] = np.mean(np.where(known, formed, 0.0), axis=0)[fresh]
        settled = torch.from_numpy(problem.gap_tolerance).to(bounds.pull.device)
        low, high = (bound.cpu().numpy() for bound in bounds.gaps(problem.label, settled))
        # Where bounds are infinite, what is made of them may be nothing.
        low, high = np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)
        if self._experience is not None and bounds.backward is not None:
            self._turn(some, bounds, low, self._experience)
        self.low[some] = low
        self.doubts[some], self.pull[some] = bounds.doubts.cpu().numpy(), _shares(bounds)
        failing = (high < -problem.gap_tolerance).any(axis=1)
        holding = (low > problem.gap_tolerance).all(axis=1)
        self.kind[some[failing]] = CLASS_CHANGED
        self.open[some[failing | holding]] = False
        held = np.flatnonzero(holding)
        if len(held):
            apart = self._shared or problem.image.size if effort is Effort.PIXELS else 0
            self.kind[some[held]] = self._attention(some[held], bounds.take(torch.from_numpy(held)), apart)
        if effort is Effort.POLYNOMIALS:
            decided = self.kind[some] != UNDECIDED
            self.followed[some[decided]] = bounds.values[problem.graph.last].symbols

    def _ask_gaps(self, asked: np.ndarray) -> None:
        self.judge(asked, Effort.GAPS)
        self._book(asked, _GAPS_COST, ~self.open[asked], _GAPS_PAY)
        # Of those that forms have decided nothing is known of rows.
        self.gaps[asked] = np.where(self.forms[asked] == 1, np.nan, ~self.open[asked])

    def _book(self, some: np.ndarray, cost: np.ndarray | float, decided: np.ndarray, pay: float) -> None:
        """Note what an effort cost that pays for itself where it decides such a share of boxes."""
        self.spent[some] += cost
        self.lost[some] += np.where(decided, (1 - 1 / pay) * cost, cost)

    def _turn(self, some: np.ndarray, bounds: Bounds, low: np.ndarray, experience: Experience) -> None:
        """Raise the lower bounds ``(B, K - 1)`` of gaps of some boxes by slopes, where that should decide."""
        tolerance = self._problem.gap_tolerance
        wanted = _wanted(low, self.middle[some])
        expected = experience.left("slopes", self._shares[some])
        likely = wanted > np.nan_to_num(expected, nan=np.inf)
        unknown = np.flatnonzero(np.isnan(expected) & (wanted > _SLIGHT))
        likely[unknown] = experience.affords(np.full(len(unknown), _SLOPES_COST))
        box, gap = np.nonzero(likely[:, None] & (low <= tolerance))
        if not len(box):
            return
        before, worst = low.copy(), low.argmin(axis=1)
        wanting = (torch.from_numpy(own).to(bounds.pull.device) for own in (box, gap, tolerance[gap]))
        found = bounds.steepened_gaps(self._problem.label, *wanting).cpu().numpy()
        low[box, gap] = np.fmax(low[box, gap], found)
        turned = np.unique(box)
        left = (self.middle[some] - low) / (self.middle[some] - before)
        self.slopes[some[turned]] = left[turned, worst[turned]]
        cost = _SLOPES_COST * np.bincount(box, minlength=len(some))
        self._book(some, cost, np.logical_and.reduce(low > tolerance, axis=1), _LIKELY)

    def _worth(self, experience: Experience) -> np.ndarray:
        """Numbers of the open boxes that rows for units should decide.

        Of the boxes of which nothing is known, the one is tried that wants the least. Only rows for gaps tell
        how much is wanted.
        """
        expected = experience.left("units", self._shares)
        wanted = _wanted(self.low, self.middle)
        ends, whole = self._boxes, self._problem.box
        below, above = (ends[..., 0] < 0) | (whole[:, 0] == 0), (ends[..., 1] > 0) | (whole[:, 1] == 0)
        about_zero = (below & above & (ends[..., 0] <= 0) & (ends[..., 1] >= 0)).all(axis=1)
        affordable = self._affordable(self.doubts, np.where(about_zero, _SHARE_AT_ZERO, _SHARE))
        wanted[~self.open | np.isnan(self.gaps) | ~affordable] = 0.0
        likely = wanted > np.nan_to_num(expected, nan=np.inf)
        unknown = np.flatnonzero(np.isnan(expected) & (wanted > _HOPEFUL))
        if len(unknown):
            best = unknown[wanted[unknown].argmax()]
            cost = np.array([_UNITS_COST + _DOUBTS_COST * self.doubts[best]])
            likely[best] = wanted[best] > _LIKELY or about_zero[best] or experience.affords(cost)[0]
        return np.flatnonzero(likely)

    def _affordable(self, rows: np.ndarray, share: np.ndarray | float = _SHARE) -> np.ndarray:
        """``(B,)`` bool: whether so many rows ``(B,)`` come back in such a share of the time."""
        return rows * self._problem.graph.effort <= share * _RATE * self._deadline.planned

    def _attention(self, some: np.ndarray, bounds: Bounds, apart: int) -> np.ndarray:
        """Kinds of boxes that the class holds on, whose bounds are known, of so many pixels by symbols."""
        problem = self._problem
        followed = None if bounds.followed is None else self._experience
        if followed is not None:
            bounds = replace(bounds, precise=followed.drowned)
        least, most = problem.enclosed_inconsistency(self._boxes[some], bounds)
        doubts = bounds.doubts.cpu().numpy()
        open_ = (least <= problem.threshold) & (most > problem.threshold)
        if apart and open_.any():
            # Gradients have symbols of their own, and as many rows cost them no more than they did values.
            finer = replace(bounds, room=self._room + apart)
            self._narrow(some, np.flatnonzero(open_), finer, (least, most))
        elif self._experience is not None:
            # With few units in doubt all had a symbol, and most of their products.
            many = (doubts > self._room / 4) & (doubts <= _MOST_SYMBOLS)
            symbols = np.minimum(_SYMBOLS_EACH * doubts, _MOST_SYMBOLS)
            slow = problem.graph.effort > SLOW
            again = np.flatnonzero(open_ & many & self._affordable(symbols, _MUCH if slow else _SHARE))
            again = again[np.argsort(doubts[again], kind="stable")]  # the likeliest are tried first
            worth = (self._shares[some[again]], _SYMBOLS_PAY, _SYMBOLS_COST, _SYMBOLS_FIRST)
            pays = self._experience.pays("symbols", *worth) | slow
            self._refine(some, again[pays], bounds, (least, most))
        if followed is not None and not bounds.precise and open_.any():
            self._carry_precisely(some, np.flatnonzero(open_), bounds, (least, most))
        kind = np.full(len(some), UNDECIDED, np.int8)
        margin = problem.tolerance.margin + problem.expected_slack
        kind[most <= problem.threshold - margin] = ROBUST
        kind[least > problem.threshold + margin] = ATTENTION_CHANGED
        tried = np.isfinite(self.symbols[some])
        self.symbols[some[tried]] = kind[tried] != UNDECIDED
        self.spent[some[tried]] += _SYMBOLS_COST
        return kind

    def _refine(
        self, some: np.ndarray, again: np.ndarray, bounds: Bounds, ends: tuple[np.ndarray, np.ndarray]
    ) -> None:
        """Narrow the ends of the inconsistency of these of some boxes, by more symbols."""
        span = max(1, len(self._boxes) * self._room // _MOST_SYMBOLS)
        for first in range(0, len(again), span):
            self._narrow(some, again[first : first + span], replace(bounds, room=_MOST_SYMBOLS), ends)
        self.symbols[some[again]] = 0.0

    def _carry_precisely(
        self,
        some: np.ndarray,
        again: np.ndarray,
        bounds: Bounds,
        ends: tuple[np.ndarray, np.ndarray],
    ) -> None:
        """Narrow the ends of the inconsistency of these of some boxes, by gradients to twice the precision.

        Of small boxes: where it is not rounding that leaves them open, neither is it of larger ones.
        """
        again = again[_are_small(self._problem, self._boxes[some[again]])]
        if len(again):
            self._narrow(some, again, replace(bounds, precise=True), ends)
            least, most = (own[again] for own in ends)
            limit = self._problem.threshold
            self.precise[some[again]] = (least > limit) | (most <= limit)

    def _narrow(
        self, some: np.ndarray, part: np.ndarray, finer: Bounds, ends: tuple[np.ndarray, np.ndarray]
    ) -> None:
        """Narrow the ends of the inconsistency of these of some boxes by finer bounds of all of them."""
        own = finer.take(torch.from_numpy(part))
        low, high = self._problem.enclosed_inconsistency(self._boxes[some[part]], own)
        ends[0][part], ends[1][part] = np.fmax(ends[0][part], low), np.fmin(ends[1][part], high)


def _wanted(low: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """``(B,)`` what share of its distance to its middle each gap's bound ``(B, K - 1)`` may keep, at most.

    It is 0 where a gap is below 0 in the middle, and at least 1 where no gap is open.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(middle > 0, middle / (middle - low), 0.0).min(axis=1)


def _shares(bounds: Bounds) -> np.ndarray:
    """What share of the doubt each parameter is to blame for, ``(B, n)``."""
    pull = bounds.pull.cpu().numpy()
    total = pull.sum(axis=1, keepdims=True)
    return np.divide(pull, total, out=np.full_like(pull, 1 / pull.shape[1]), where=total > 0)
