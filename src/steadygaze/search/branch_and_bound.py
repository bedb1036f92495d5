"""Branch and bound: boxes of parameters, judged by bounds and halved where these leave the answer open.

Takes every perturbation that says where its images lie over a box, and every network of the table. Of the
open boxes the largest come next, as they hold most of what is undecided; in turn with them those nearest to
0, in the shape of the whole box, as the safe scale depends on these. Where the first boxes do not decide all,
points are tried, so that a failure comes to light long before bounds prove one.

Where the problem is piecewise affine, boxes in which few units change their piece are left to the sweep,
which takes them apart exactly; there nothing remains undecided but what is within the tolerance.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from steadygaze.deadline import Expired
from steadygaze.errors import SettingError
from steadygaze.geometry.draws import unit_draws
from steadygaze.geometry.kinds import ROBUST, UNDECIDED
from steadygaze.geometry.sections import gauge
from steadygaze.network.bounding.polynomials import most_rows
from steadygaze.question.problem import Problem
from steadygaze.search.about_zero import AboutZero
from steadygaze.search.base import AbstractSearch, CellMap, Enclosed, Options, Standing, joined, threads_of
from steadygaze.search.boxes import (
    CHEAP,
    DEAR,
    SLOW,
    axes_bent_at_zero,
    gauges_of,
    map_of,
    parted_at_zero,
    shares_of,
    volumes_of,
)
from steadygaze.search.decidable import Decidable
from steadygaze.search.dividing import HALVINGS, Dividing, smallest_share
from steadygaze.search.experience import Experience, Judged
from steadygaze.search.falsifying import Falsifier
from steadygaze.search.handover import Handover
from steadygaze.search.judged_boxes import judge_boxes
from steadygaze.search.open_boxes import OpenBoxes
from steadygaze.search.reaching_out import ReachingOut
from steadygaze.search.sides import Sides
from steadygaze.search.straying import NARROW, first_halvings

# Symbols that forms may have: measured, more make the bounds of real networks tighter by less than they cost.
_ROOM = 32
# Bytes that a batch's widest forms may take: larger ones leave the cache.
_BATCH_BYTES = 1 << 24
# Boxes of a batch of a deep smooth network whose values are not followed as polynomials: more of them take as
# long one by one.
_FEW_AT_ONCE = 4
# Batches to a step; a fixed number, so that the map does not depend on the number of threads.
_BATCHES = 4
# Of boxes that hold 0 the larger ones get forms alone, as long as none is decided: more effort for them takes
# the time that smaller ones need.
_WIDE = 2.0**-12
# After so many boxes of a deep smooth network, none of them decided, those that hold 0 are cut about it.
_IN_VAIN = 64
# Bytes of the map that one step may add: with many parameters a box has many corners.
_STEP_BYTES = 1 << 25
_MOST_PARAMETERS = 10
# Into at most so many parts the box is cut at the borders of the perturbation's pieces.
_MOST_PARTS = 4096
# Boxes of more parameters are not handed over: their regions have too many corners for the sweep.
_MOST_HANDED = 6
# After this share of the time boxes that hold 0 come first, if there is no safe scale yet; not before: what
# ends in half of its limit finds the same each time (see `Deadline.planned`).
_LATE = 0.5
# Where fewer boxes than these were judged by then, and none of them decided, it goes on as of slow networks:
# the largest box about 0 that can be decided is looked for first.
_FEW = 64
# Where the smallest boxes at 0 are left open, and none was decided yet, some are tried at so many other
# places: as small, and with edges doubled so often. If all of these are left open, none will ever be decided.
_ELSEWHERE, _DOUBLED = 8, (0, 6, 12)
# The share of the box that may be left undecided where no exact engine takes over.
_LEFT_OPEN = 0.01


class BranchAndBound(AbstractSearch):
    """See the module.

    Raises NotEnclosable where the perturbation does not say where its images lie, and SettingError where
    there are too many parameters.
    """

    name = "bound"
    claim = "whole box"

    def __init__(self, problem: Problem, options: Options) -> None:
        self._problem, self._deadline = problem, options.deadline
        self._late = options.deadline.part(_LATE)
        problem.check_enclosable()
        if len(problem.box) > _MOST_PARAMETERS:
            raise SettingError(
                f"bound takes up to {_MOST_PARAMETERS} parameters, as a box of n has 2^n corners, and the "
                f"chain has {len(problem.box)}; fix some of them as constants"
            )
        exact = options.handover and problem.is_exact and len(problem.box) <= _MOST_HANDED
        self._handover = Handover(problem, options) if exact else None
        default = 0.0 if exact else _LEFT_OPEN
        self._wanted = default if options.undecided is None else options.undecided
        widest = max(math.prod(node.shape) for node in problem.graph.nodes)
        rows = 1 + len(problem.box) + _ROOM
        if problem.follows_polynomials:
            rows = max(rows, most_rows(problem.graph, problem.perturbation.coordinates))
        row = 8 * widest * rows
        self._batch = int(np.clip(_BATCH_BYTES // row, 4, 64))
        self._slow = problem.graph.effort > SLOW
        # One after the other where a box takes long: what was judged before the time is over counts, and what
        # it tells decides which are next. Polynomials of several boxes take as long together as one by one.
        costly = problem.graph.effort > CHEAP
        if self._slow or (costly and problem.follows_polynomials):
            self._batch = 1
        elif costly and problem.graph.drowns:
            self._batch = min(self._batch, _FEW_AT_ONCE)
        opened = _bytes_of(2**HALVINGS, len(problem.box))
        self._step = max(min(4, _BATCHES * self._batch), min(_BATCHES * self._batch, _STEP_BYTES // opened))
        self._open = OpenBoxes(problem, self._parts_at_borders() if exact else problem.box[None].copy())
        self._dividing = Dividing(problem, exact)
        self._done: list[CellMap] = []
        self._falsifier = Falsifier(problem, options.deadline)
        self._sides = Sides(problem)
        self._strays = None if exact else first_halvings(problem, self._sides, self._deadline)
        self._blocked, self._experience = np.inf, Experience(self._strays is not None)
        self._small: list[np.ndarray] = []
        self._nowhere: bool | None = None
        self._decidable = Decidable(problem.class_alone)
        self._pool, self._alone = threads_of(options, "bound"), options.alone
        self._counts = {"boxes": 0, "boxes_robust": 0, "boxes_failing": 0, "boxes_handed_over": 0}
        # Of those that are too small to be cut, the ones at 0: without them there is no safe scale.
        self._counts["boxes_given_up"] = 0
        # How often the edges of the smallest box at 0 that was left open were halved.
        self._counts["halvings_at_zero"] = 0
        self._shares = {"share_by_bounds": 0.0, "share_by_regions": 0.0}
        self._standing = Standing(0.0, 0.0, 0, 0)
        self._looked = False
        self._reach_from(self._first_about_zero())

    def _first_about_zero(self) -> ReachingOut | None:
        """Which boxes about 0 come before all others: a wide box of a slow network may take all the time."""
        problem, strays = self._problem, self._strays
        if problem.follows_polynomials:
            return ReachingOut(NARROW if self._slow else strays or 0)
        if self._handover is None and (self._slow or strays is not None):
            return self._down_to_the_smallest(NARROW if self._slow else strays or 0)
        return None

    def _down_to_the_smallest(self, first: int = NARROW) -> ReachingOut:
        return ReachingOut(first, round(-math.log2(smallest_share(self._problem))))

    def _reach_from(self, first: ReachingOut | None) -> None:
        """Look for the largest box about 0 that can be decided, or its parts where something bends at 0.

        Where symbols for pixels see through how images bend, units alone make parts of it.
        """
        self._reaching_out, box = first, self._problem.box
        if first is None:
            return
        axes = axes_bent_at_zero(self._problem, images=self._strays is None)
        parts = parted_at_zero(box, axes)
        self._about_zero, first.parts = AboutZero(parts), len(parts)

    def pending(self) -> bool:
        """Whether boxes are open, and more of them are to be decided."""
        if self._handover is not None and self._handover.pending():
            return True
        return bool(len(self._open)) and not self._satisfied() and not self._nowhere

    def step(self) -> None:
        """Judge some boxes, or go on with those that were handed over."""
        if self._late.passed() and self._is_untold():
            self._reach_from(self._down_to_the_smallest())
        if self._reaching_out is not None and self._reaching_out.halvings is not None:
            self._reach_out(self._reaching_out, self._reaching_out.halvings)
            return
        first, self._looked = not self._looked, True
        # An easy question is decided by its first boxes, which cost less than hundreds of points.
        easy = not first or not self._at_points(self._falsifier.glance)
        if not easy:
            self._at_points(self._falsifier.search)
            self._begin_at_zero()
        self._go_on()
        if first and easy and self.pending():
            self._at_points(self._falsifier.search)
            self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """Cut the whole box about 0 where that is worth it, and no part of it was judged yet."""
        parts = self._dividing.first(self._falsifier.least_gauge, self._outwards())
        if parts is not None and not self._done:
            self._open.replace(parts)

    def _outwards(self) -> bool:
        """Whether boxes that hold 0 are cut about it: how far all is safe is asked more than what fails."""
        return self._in_vain() or self._dividing.outwards(len(self._falsifier.found()) > 0)

    def _in_vain(self) -> bool:
        """Whether boxes of a deep smooth network are far too large: all of many were left open."""
        return self._problem.graph.drowns and not self._done and self._counts["boxes"] >= _IN_VAIN

    def _is_untold(self) -> bool:
        """Whether few boxes were judged and none decided, and those about 0 may take the place of all.

        Of boxes that exact engines take over none may reach into several pieces of the perturbation.
        """
        whole = self._handover is None or len(self._problem.pieces) == 1
        given = self._counts["boxes_handed_over"] or any(len(boxes) for boxes in self._small)
        few = self._counts["boxes"] < _FEW and not (self._done or given)
        return self._reaching_out is None and whole and few

    def _reach_out(self, reaching: ReachingOut, halvings: int) -> None:
        """Judge one box about 0, or its parts; what is added to those that were decided is entered."""
        began, about = time.perf_counter(), self._about_zero
        if reaching.decided is not None and self._at_points(lambda: self._falsifier.fails_within(halvings)):
            reaching.learn(False)
            return
        decided = self._decides(about, halvings)
        if decided is None:
            self._deadline.ask()
            return
        if decided:
            added, kinds = about.added()
            self._enter(added, kinds)
            self._open.replace(about.around())
        else:
            self._note_open(round(-math.log2(shares_of(about.at(halvings), self._problem.box).max())))
        reaching.learn(decided)
        self._note("bounds", time.perf_counter() - began)

    def _decides(self, about: AboutZero, halvings: int) -> bool | None:
        """Whether all parts about 0 are of one kind; None where the time is over before."""
        while len(left := about.left(halvings)[: self._batch]):
            some = about.at(halvings)[left]
            with self._alone():
                judged = self._judged(some)
            if judged is None:
                return None
            self._experience.learn_few(volumes_of(some) / self._problem.volume, judged)
            self._counts["boxes"] += len(some)
            self._dividing.learn(some, judged.kind != UNDECIDED)
            about.learn(left, halvings, judged.kind)
            if (judged.kind == UNDECIDED).any():
                return False
        return about.alike

    def _go_on(self) -> None:
        began = time.perf_counter()
        handover = self._handover
        waits = handover is not None and handover.pending()
        if handover is not None and waits and (not len(self._open) or handover.ready(self._open.nearest)):
            self._take_in(handover.step())
            phase = "regions"
        else:
            late = self._late.passed()
            blocked, known = self._blocked_at(), self._knows_failure()
            self._judge(self._open.take(self._step, blocked, known, late, self._is_enough()))
            if self._nowhere is None and self._counts["boxes_given_up"] and not (self._done or self._slow):
                self._look_elsewhere()
            phase = "bounds"
        self._note(phase, time.perf_counter() - began)

    def _look_elsewhere(self) -> None:
        """Try small boxes away from 0: where rounding rules the map everywhere, none is decided."""
        box, share = self._problem.box, smallest_share(self._problem)
        edges = share * 2.0 ** np.repeat(_DOUBLED, _ELSEWHERE)[:, None] * np.ptp(box, axis=1)
        draws = np.tile(unit_draws(8, _ELSEWHERE, len(box)), (len(_DOUBLED), 1))
        low = box[:, 0] + draws * (np.ptp(box, axis=1) - edges)
        judged = self._judged(np.stack([low, low + edges], axis=2))
        self._nowhere = None if judged is None else bool((judged.kind == UNDECIDED).all())

    def _at_points(self, look: Callable[[], bool | None]) -> bool:
        """Look at points, and note what that took; returns what is told of them."""
        began = time.perf_counter()
        told = look()
        self._note("points", time.perf_counter() - began)
        return bool(told)

    def standing(self) -> Standing:
        """How far the search has come; open boxes count as the cells of the map that they would be."""
        open_ = _bytes_of(len(self._open), len(self._problem.box))
        return replace(self._standing, bytes=self._standing.bytes + open_)

    def found(self) -> CellMap:
        """The map: boxes, and cells of those that were handed over; open boxes are in it, undecided."""
        rest = np.concatenate([self._open.boxes, *self._small])
        maps = [*self._done, map_of(rest, np.full(len(rest), UNDECIDED, np.int8))]
        if self._handover is not None:
            maps += self._handover.found()
        whole = joined([map_ for map_ in maps if map_.cells.count])
        return replace(whole, failing=self._falsifier.found(), conforming=False)

    def enclosed(self) -> Enclosed | None:
        """Nothing that the map does not tell."""
        return None

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()
        if self._handover is not None:
            self._handover.close()

    def _parts_at_borders(self) -> np.ndarray:
        """The box cut where pieces of the perturbation begin and end, so that parts lie within one piece."""
        corners = np.concatenate([piece.polytope.vertices for piece in self._problem.pieces])
        every = np.concatenate([corners, self._problem.box.T])
        knots = [np.unique(values) for values in every.T]
        if math.prod(len(own) - 1 for own in knots) > _MOST_PARTS:
            return self._problem.box[None].copy()
        ends = [np.stack([own[:-1], own[1:]], axis=1) for own in knots]
        return np.array(list(product(*ends)))

    # -- which boxes come next

    def _satisfied(self) -> bool:
        """Whether enough is decided, and the safe scale known."""
        return self._is_enough() and not len(self._open.near(self._blocked_at(), closer=True))

    def _is_enough(self) -> bool:
        """Whether so much is decided as is asked for: never while the whole box may still turn out robust."""
        return self._knows_failure() and 1 - self._standing.finished <= self._wanted

    def _knows_failure(self) -> bool:
        return bool(np.isfinite(self._blocked)) or len(self._falsifier.found()) > 0

    def _blocked_at(self) -> float:
        """The least gauge of a known failure."""
        return min(self._blocked, self._falsifier.least_gauge)

    # -- what becomes of them

    def _judge(self, boxes: np.ndarray) -> None:
        parts = np.array_split(boxes, min(_BATCHES, -(-len(boxes) // min(4, self._batch))))
        found = list(self._pool.map(self._judged, parts))
        late = [part for part, judged in zip(parts, found, strict=True) if judged is None]
        self._open.add(*late)
        known = [(part, judged) for part, judged in zip(parts, found, strict=True) if judged is not None]
        if known:
            boxes = np.concatenate([part for part, _ in known])
            self._settle(boxes, Judged.joined([judged for _, judged in known]))
        self._deadline.ask()

    def _settle(self, boxes: np.ndarray, judged: Judged) -> None:
        """Take in what bounds say of boxes, and look at the middles of those that they leave open."""
        self._experience.learn(volumes_of(boxes) / self._problem.volume, judged)
        self._counts["boxes"] += len(boxes)
        decided = judged.kind != UNDECIDED
        self._decidable.learn(judged.doubts, decided)
        self._dividing.learn(boxes, decided)
        if decided.any():
            self._enter(boxes[decided], judged.kind[decided])
        left = np.flatnonzero(~decided)
        if self._handover is not None:
            given = self._handover.takes(boxes[left], judged.doubts[left])
            self._counts["boxes_handed_over"] += int(given.sum())
            left = left[~given]
        self._open.learn(np.delete(boxes, left, axis=0))
        self._divide(boxes[left], judged.pull[left], judged.doubts[left])
        self._falsifier.try_at(boxes[~decided].mean(axis=2))

    def _judged(self, boxes: np.ndarray) -> Judged | None:
        """What bounds say of boxes; None where the time is over before they have said it."""
        # Where exact engines take over, more effort for a box is more than they need for it, as a rule.
        taken = self._handover is not None and self._problem.graph.effort <= DEAR
        plain = taken or (self._slow and not self._open.reached and self._wide(boxes))
        experience = self._experience if not plain else None
        if plain and self._problem.follows_polynomials:
            experience = self._experience.plain
        try:
            self._deadline.ask()
            return self._sides.judged(
                boxes, lambda problem, own: judge_boxes(problem, own, _ROOM, experience, self._deadline)
            )
        except Expired:
            return None

    def _wide(self, boxes: np.ndarray) -> bool:
        """Whether these are parts of the whole box with 0 inside, and not small ones."""
        holding = gauges_of(boxes, self._problem.box) == 0
        return bool(holding.all() and (shares_of(boxes, self._problem.box) > _WIDE).any())

    def _enter(self, boxes: np.ndarray, kind: np.ndarray) -> None:
        map_ = map_of(boxes, kind)
        self._done.append(map_)
        robust = kind == ROBUST
        self._counts["boxes_robust"] += int(robust.sum())
        self._counts["boxes_failing"] += int((~robust).sum())
        self._shares["share_by_bounds"] += float(map_.volume.sum()) / self._problem.volume
        if not robust.all():
            self._blocked = min(self._blocked, float(gauges_of(boxes[~robust], self._problem.box).min()))
        self._count([map_])

    def _divide(self, boxes: np.ndarray, pull: np.ndarray, doubts: np.ndarray) -> None:
        """Open the parts of boxes; the smallest are left as they are."""
        divided = self._dividing.divided(
            boxes, pull, doubts, self._decidable.most, self._outwards(), self._in_vain()
        )
        self._open.add(divided.parts)
        self._small.append(divided.small)
        self._counts["boxes_given_up"] += divided.small_at_zero
        self._note_open(divided.halvings_at_zero)

    def _note_open(self, halvings: int) -> None:
        """A box at 0 whose edges were halved so often was left open."""
        self._counts["halvings_at_zero"] = max(self._counts["halvings_at_zero"], halvings)

    def _take_in(self, new: Sequence[CellMap]) -> None:
        for map_ in new:
            self._shares["share_by_regions"] += float(map_.volume.sum()) / self._problem.volume
            failing = (map_.kind != ROBUST) & (map_.kind != UNDECIDED)
            if failing.any():
                corners, _ = map_.cells.take(np.flatnonzero(failing))
                box = self._problem.box
                self._blocked = min(self._blocked, float(gauge(corners.theta, -box[:, 0], box[:, 1]).min()))
        self._count(new)

    def _count(self, new: Sequence[CellMap]) -> None:
        whole = self._problem.volume
        known = sum(float(m.volume[m.kind != UNDECIDED].sum()) for m in new) / whole
        robust = sum(float(m.volume[m.kind == ROBUST].sum()) for m in new) / whole
        was = self._standing
        self._standing = replace(
            was,
            finished=was.finished + known,
            robust=was.robust + robust,
            bytes=was.bytes + sum(m.bytes for m in new),
        )

    def _note(self, phase: str, seconds: float) -> None:
        inner = self._handover.regions if self._handover is not None else 0
        work = {**self._standing.work, phase: self._standing.work.get(phase, 0.0) + seconds}
        self._standing = replace(
            self._standing,
            regions=self._counts["boxes"] + inner,
            work=work,
            counts={**self._counts, **self._shares},
            reached=self._open.reached,
        )


def _bytes_of(boxes: int, n: int) -> int:
    """What so many boxes of n parameters take as cells of a map."""
    return boxes * 2**n * 8 * (n + 3)
