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
from steadygaze.geometry.kinds import ROBUST, UNDECIDED
from steadygaze.geometry.sections import gauge
from steadygaze.question.problem import Problem
from steadygaze.search.base import AbstractSearch, CellMap, Enclosed, Options, Standing, joined, threads_of
from steadygaze.search.boxes import (
    SLOW,
    bends_at_zero,
    framed,
    gauges_of,
    halved,
    map_of,
    parted_at_zero,
    shells,
    volumes_of,
)
from steadygaze.search.decidable import Decidable
from steadygaze.search.falsifying import Falsifier
from steadygaze.search.handover import Handover
from steadygaze.search.judged_boxes import Experience, Judged, judge_boxes

# Symbols that forms may have: measured, more make the bounds of real networks tighter by less than they cost.
_ROOM = 32
# Bytes that a batch's widest forms may take: larger ones leave the cache.
_BATCH_BYTES = 1 << 24
# Batches to a step; a fixed number, so that the map does not depend on the number of threads.
_BATCHES = 4
# Of slow networks few boxes are judged within a limit of time, and these lie about 0, in one whose edges are
# halved so often if it cannot be decided; of the slowest smooth ones, of which a box takes a second, twice as
# often at once.
_SHELLS, _SLOWEST = 8, 10**8
# So are boxes of so many parameters once a failure is known, if less often: 2^n parts meet at 0 where they
# are halved, and all of them must be decided before any range is.
_MANY, _FEW_SHELLS = 3, 3
# Of boxes that hold 0 the larger ones get forms alone, as long as none is decided: more effort for them takes
# the time that smaller ones need.
_WIDE = 2.0**-12
# Bytes of the map that one step may add: with many parameters a box has many corners.
_STEP_BYTES = 1 << 25
_MOST_PARAMETERS = 10
# Into at most so many parts the box is cut at the borders of the perturbation's pieces.
_MOST_PARTS = 4096
# Boxes of more parameters are not handed over: their regions have too many corners for the sweep.
_MOST_HANDED = 6
# Boxes whose every edge is at most this share of the whole box's are not halved any more.
_SMALLEST = 2.0**-24
# Of the boxes of a step, so many are the nearest to 0; the rest the largest. Each step in which the safe
# scale does not rise takes from the share, down to a least: at 0 hinges may meet that no box tells apart. Of
# slow networks all are near while the safe scale rises: large boxes of theirs are hardly ever decided.
_NEAR_SHARE, _NEAR_LEAST, _NEAR_FALL = 0.5, 0.05, 0.9
# Once a failure is known the verdict is, too, and what is left to tell is how far all is safe: so many of
# them are the nearest then, at first and at least.
_KNOWN_SHARE, _KNOWN_LEAST = 0.9, 0.5
# A box with twice as many units in doubt as boxes are decided with is halved once, one with four times as
# many quartered at once, and so on up to so many halvings.
_HALVINGS = 4
# A box that would need more of them is so large that parts about 0 come first.
_FAR = 3
# The safe scale is pursued until it is known up to this share of itself.
_SCALE_CLOSE = 0.01
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
        row = 8 * widest * (1 + len(problem.box) + _ROOM)
        self._batch = int(np.clip(_BATCH_BYTES // row, 4, 64))
        self._slow = problem.graph.effort > SLOW
        if self._slow:  # one after the other: what was judged before the time is over counts
            self._batch = 1
        opened = _bytes_of(2**_HALVINGS, len(problem.box))
        self._step = max(min(4, _BATCHES * self._batch), min(_BATCHES * self._batch, _STEP_BYTES // opened))
        self._bends = np.array(problem.perturbation.bends, dtype=bool)
        self._open = self._parts_at_borders() if self._handover is not None else problem.box[None].copy()
        self._done: list[CellMap] = []
        self._falsifier = Falsifier(problem, options.deadline)
        self._blocked, self._experience = np.inf, Experience()
        self._small: list[np.ndarray] = []
        self._near_share, self._reached = _NEAR_SHARE, 0.0
        self._decidable = Decidable(problem.class_alone)
        self._pool = threads_of(options, "bound")
        self._counts = {"boxes": 0, "boxes_robust": 0, "boxes_failing": 0, "boxes_handed_over": 0}
        # Of those that are too small to be cut, the ones at 0: without them there is no safe scale.
        self._counts["boxes_given_up"] = 0
        # How often the edges of the smallest box at 0 that was left open were halved.
        self._counts["halvings_at_zero"] = 0
        self._shares = {"share_by_bounds": 0.0, "share_by_regions": 0.0}
        self._standing = Standing(0.0, 0.0, 0, 0)

    def pending(self) -> bool:
        """Whether boxes are open, and more of them are to be decided."""
        if self._handover is not None and self._handover.pending():
            return True
        return bool(len(self._open)) and not self._satisfied()

    def step(self) -> None:
        """Judge some boxes, or go on with those that were handed over."""
        first = not self._standing.regions
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
        """Cut the whole box about 0 where that is worth it, and no part of it was judged yet.

        No range goes beyond the nearest failure: what lies within is cut apart from what does not.
        """
        near, outwards = self._falsifier.least_gauge, self._outwards()
        inside = 0 < near < 1
        if self._slow or self._done or self._handover is not None or not (inside or outwards):
            return
        inner, *around = framed(self._problem.box, near) if inside else self._problem.box[None]
        first = shells(inner, _FEW_SHELLS) if outwards else inner[None]
        self._open = np.concatenate([first, *(part[None] for part in around)])

    def _outwards(self) -> bool:
        """Whether boxes that hold 0 are cut about it: how far all is safe is asked more than what fails."""
        many = len(self._problem.box) >= _MANY and self._handover is None
        return self._slow or (many and len(self._falsifier.found()) > 0)

    def _go_on(self) -> None:
        began = time.perf_counter()
        if self._handover is not None and (self._handover.ready() or not len(self._open)):
            self._take_in(self._handover.step())
            phase = "regions"
        else:
            self._judge(self._chosen())
            phase = "bounds"
        self._note(phase, time.perf_counter() - began)

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
        rest = np.concatenate([self._open, *self._small])
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
        """Whether enough is decided: never while the whole box may still turn out robust."""
        return self._knows_failure() and 1 - self._standing.finished <= self._wanted and not len(self._near())

    def _knows_failure(self) -> bool:
        return bool(np.isfinite(self._blocked)) or len(self._falsifier.found()) > 0

    def _near(self) -> np.ndarray:
        """The open boxes on which the safe scale depends, nearest first."""
        gauge = gauges_of(self._open, self._problem.box)
        limit = min(self._blocked, self._falsifier.least_gauge, 1.0)
        near = np.flatnonzero(gauge < limit)
        near = near[np.argsort(gauge[near], kind="stable")]
        return near if len(near) and gauge[near[0]] < limit * (1 - _SCALE_CLOSE) else near[:0]

    def _chosen(self) -> np.ndarray:
        """Takes the boxes of this step out of the open ones."""
        count = min(self._step, len(self._open))
        near = self._near()
        if len(near):
            self._pace(float(gauges_of(self._open[near[:1]], self._problem.box)[0]))
        first = self._at_zero_first(near)
        if len(first):
            near, count = first[:count], min(count, len(first))
        share = self._near_share * (1 / _NEAR_SHARE if self._slow else 1.0)
        near = near[: math.ceil(count * (1.0 if len(first) else share))]
        rest = np.setdiff1d(np.arange(len(self._open)), near)
        largest = np.argsort(-volumes_of(self._open[rest]), kind="stable")[: count - len(near)]
        taken = np.concatenate([near, rest[largest]])
        boxes = self._open[taken]
        self._open = np.delete(self._open, taken, axis=0)
        return boxes

    def _at_zero_first(self, near: np.ndarray) -> np.ndarray:
        """Of these open boxes, nearest first, those that come before all others.

        Of slow networks the ones that hold 0: without them there is no safe scale, and what lies around them
        is larger.
        """
        if not self._slow or self._reached:
            return near[:0]
        return near[gauges_of(self._open[near], self._problem.box) == 0]

    def _pace(self, reached: float) -> None:
        """The share of the boxes near 0, given how far from there all is robust now."""
        known = self._knows_failure()
        self._near_share = max(self._near_share * _NEAR_FALL, _KNOWN_LEAST if known else _NEAR_LEAST)
        if reached > self._reached:
            self._near_share, self._reached = _KNOWN_SHARE if known else _NEAR_SHARE, reached

    # -- what becomes of them

    def _judge(self, boxes: np.ndarray) -> None:
        parts = np.array_split(boxes, min(_BATCHES, -(-len(boxes) // min(4, self._batch))))
        found = list(self._pool.map(self._judged, parts))
        late = [part for part, judged in zip(parts, found, strict=True) if judged is None]
        self._open = np.concatenate([self._open, *late])
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
        if decided.any():
            self._enter(boxes[decided], judged.kind[decided])
        left = np.flatnonzero(~decided)
        if self._handover is not None:
            given = self._handover.takes(boxes[left], judged.doubts[left])
            self._counts["boxes_handed_over"] += int(given.sum())
            left = left[~given]
        self._cut(boxes[left], judged.pull[left], judged.doubts[left])
        self._falsifier.try_at(boxes[~decided].mean(axis=2))

    def _judged(self, boxes: np.ndarray) -> Judged | None:
        """What bounds say of boxes; None where the time is over before they have said it."""
        # Where exact engines take over, more effort for a box is more than they need for it.
        plain = self._handover is not None or (self._slow and not self._reached and self._wide(boxes))
        experience = None if plain else self._experience
        try:
            self._deadline.ask()
            return judge_boxes(self._problem, boxes, _ROOM, experience, self._deadline)
        except Expired:
            return None

    def _wide(self, boxes: np.ndarray) -> bool:
        """Whether these are parts of the whole box with 0 inside, and not small ones."""
        share = (boxes[..., 1] - boxes[..., 0]) / np.ptp(self._problem.box, axis=1)
        holding = gauges_of(boxes, self._problem.box) == 0
        return bool(holding.all() and (share > _WIDE).any())

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

    def _cut(self, boxes: np.ndarray, pull: np.ndarray, doubts: np.ndarray) -> None:
        """Halve boxes, once or several times, and open the parts; the smallest are left as they are.

        Of a network whose boxes take seconds, of many parameters once a failure is known, and where far too
        many units are in doubt, one that holds 0 is cut about 0 (see `shells`): halved again and again, its
        parts at 0 would take more steps than there is time for.
        """
        share = (boxes[..., 1] - boxes[..., 0]) / np.ptp(self._problem.box, axis=1)
        small = (share <= _SMALLEST).all(axis=1)
        self._small.append(boxes[small])
        about_zero = gauges_of(boxes, self._problem.box) == 0
        self._counts["boxes_given_up"] += int((small & about_zero).sum())
        for edges in share[about_zero]:
            depth = round(-math.log2(edges.max()))
            self._counts["halvings_at_zero"] = max(self._counts["halvings_at_zero"], depth)
        times = np.ones(len(boxes), np.int64)
        if not self._problem.graph.smooth:  # there all units are in doubt
            more = np.log2(np.maximum(doubts, 1) / self._decidable.most)
            times = np.maximum(np.rint(more).astype(int), 1)
        several = len(self._problem.box) > 1 and self._handover is None
        outwards = about_zero & (self._outwards() | ((times > _FAR) & several))
        parts = [part for box in boxes[~small & outwards] for part in self._about_zero(box)]
        self._open = np.concatenate([self._open, *parts])
        small, times = small | outwards, times.clip(max=_HALVINGS)
        boxes, pull, times = boxes[~small], pull[~small], times[~small]
        while len(boxes):
            boxes = halved(boxes, self._axes(boxes, pull), self._bends)
            pull, times = np.tile(pull, (2, 1)), np.tile(times - 1, 2)
            self._open = np.concatenate([self._open, boxes[times == 0]])
            boxes, pull, times = boxes[times > 0], pull[times > 0], times[times > 0]

    def _about_zero(self, box: np.ndarray) -> list[np.ndarray]:
        """The parts of a box that holds 0: the one about 0, and what lies around it.

        One that is small already is cut at 0, too: over a blank background, or where a network has no
        constant terms, hinges meet at 0, and no box with 0 inside is small enough for them.
        """
        graph = self._problem.graph
        share = (box[:, 1] - box[:, 0]) / np.ptp(self._problem.box, axis=1)
        small = bool((share <= 0.5**_SHELLS).all())
        halvings = _SHELLS if self._slow else _FEW_SHELLS
        if graph.smooth and graph.effort > _SLOWEST and not small:
            halvings, small = 2 * _SHELLS, bends_at_zero(self._problem)
        parts = parted_at_zero(box) if small else box[None]
        return [shells(part, halvings) for part in parts]

    def _axes(self, boxes: np.ndarray, pull: np.ndarray) -> np.ndarray:
        """For each box the parameter that is to blame for most of the doubt, long edges counting for more."""
        share = (boxes[..., 1] - boxes[..., 0]) / np.ptp(self._problem.box, axis=1)
        length = share / share.max(axis=1, keepdims=True)
        return ((pull + 1 / (4 * share.shape[1])) * length).argmax(axis=1)

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
            reached=self._reached,
        )


def _bytes_of(boxes: int, n: int) -> int:
    """What so many boxes of n parameters take as cells of a map."""
    return boxes * 2**n * 8 * (n + 3)
