"""Outwards from 0 until the first failure: the sweep, in boxes about 0 that grow.

What lies in the box examined so far is known exactly, so that the distance from 0 of its faces is, at any
time, a radius within which everything known is everything there is. The search ends when the nearest failure
known is nearer than what lies ahead (cf. GeoCert: Jordan, Lewis, Dimakis, NeurIPS 2019, for balls in the
space of pixels, region by region). How far the next box reaches is a guess (`Course`), which decides how much
is looked at and never what is answered.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from steadygaze.deadline import Deadline, Expired
from steadygaze.geometry.cells import Cells, concatenate, faces
from steadygaze.geometry.cutting import cut
from steadygaze.geometry.half_widths import half_widths
from steadygaze.geometry.kinds import ROBUST, UNDECIDED
from steadygaze.geometry.measure import volumes
from steadygaze.geometry.sections import bounds, by_euclidean, by_gauge, gauge
from steadygaze.question.problem import Problem
from steadygaze.search.base import AbstractSearch, CellMap, Enclosed, Options, Standing, joined, unexamined
from steadygaze.search.boxes import cells_of
from steadygaze.search.course import Course
from steadygaze.search.sweep import Sweep, pieces_of

# Distances closer than this are equal.
_SAME = 1e-12
# Faces of boxes move by at least this much, in widths of the whole box, and by this share of how far off they
# are.
_MOVE, _MOVE_SHARE = 1e-9, 1e-3
# They come no nearer than this to its own faces, in widths of it.
_CLOSE = 1e-3
# A box is given up for a smaller one when it has taken so many times as long as was to be expected; the first
# one, of which nothing is known, when it has taken this share of the time, unless it should be a single
# region, than which nothing is less; its successor has what is left, as a single region may take as long.
_PATIENCE, _FIRST_PATIENCE = 8, 0.3
# None is given up before this share of the time, so that of easy questions the pace of the machine decides
# nothing.
_LEAST_PATIENCE = 0.05
# Names of the first box's faces as hinges; those of every box differ.
_FACES = np.uint64(1 << 59)


class Nearest(AbstractSearch):
    """The nearest failure in half-widths of the box, L-infinity or L2, and with it the safe scale.

    The two distances, in half-widths and in the box's own shape about 0, differ where 0 is not in the middle;
    the search goes on until both answers are certain.
    Refuses, through `Problem.pieces`, chains that are not piecewise affine.
    """

    name = "nearest"
    claim = "radius"

    def __init__(self, problem: Problem, options: Options) -> None:
        self._problem, self._options = problem, options
        self._half = half_widths(problem.box)
        self._course: Course | None = None
        self._examined = self._before = np.zeros_like(problem.box)
        self._patience, self._began = options.deadline, options.deadline.clock()
        self._ahead = pieces_of(problem)
        self._sweep: Sweep | None = None
        self._boxes, self._cut_short = 0, False
        self._maps: list[tuple[int, CellMap]] = []
        # Of the nearest failure, of the nearest cell that is not robust, and of that in the box's own shape.
        self._failure, self._block, self._scale = np.inf, np.inf, np.inf
        # With the boxes that are done, and with the one in work.
        self._done = self._standing = Standing(0.0, 0.0, 0, 0, radius=0.0)

    def pending(self) -> bool:
        """Whether something nearer than what is known may still be found."""
        return self._sweep is not None or self._open()

    def step(self) -> None:
        """Begin with the next box, or go on with one."""
        if self._sweep is None:
            self._begin()
        elif self._sweep.pending():
            self._sweep.step()
        assert self._sweep is not None
        self._standing = self._and(self._sweep)
        if not self._sweep.pending():
            self._end(self._sweep)
        elif self._patience.passed() and not self._options.deadline.passed():
            self._give_up(self._sweep)

    def standing(self) -> Standing:
        """How far the search has come."""
        return self._standing

    def found(self) -> CellMap:
        """The map of what was examined; the faces behind which nobody has looked are in it, undecided.

        Of a search that was stopped, failing points that plain evaluation knows are in it, too.
        """
        running = self._sweep.found_on_pieces() if self._sweep is not None else []
        parts = [*self._maps, *running]
        maps = _merged(parts) if self._boxes > 1 else [map_ for _, map_ in parts]
        rest = sum(float(volumes(cells).sum()) for _, cells in self._ahead)
        failing = self._course.failing if self._course and (self._cut_short or self._open()) else None
        if not maps:
            return replace(unexamined(concatenate([cells for _, cells in self._ahead])), failing=failing)
        whole = joined([*maps, self._border()])
        conforming = whole.conforming and self._boxes == 1 and not rest
        return replace(whole, conforming=conforming, rest=whole.rest + rest, failing=failing)

    def enclosed(self) -> Enclosed | None:
        """Nothing that the map does not tell."""
        return None

    def close(self) -> None:
        """Finish what runs and end the threads."""
        if self._sweep is not None:
            self._end(self._sweep)

    # -- boxes

    def _open(self) -> bool:
        """Whether the faces of the examined box are nearer than what was found."""
        return self._reach(0) < self._failure - _SAME or self._reach(1) < min(self._scale, 1.0) - _SAME

    def _reach(self, which: int) -> float:
        """The distance of what lies outside of the examined box, in half-widths or the box's own shape."""
        length = np.abs(self._problem.box) if which else self._half[:, None]
        inner = self._inner()
        return float((np.abs(self._examined) / np.where(inner, length, 1.0))[inner].min(initial=np.inf))

    def _inner(self) -> np.ndarray:
        """Which faces ``(n, 2)`` of the examined box are not the whole box's."""
        return self._examined != self._problem.box

    def _begin(self) -> None:
        """Take the next box, and part what lies ahead into what it holds and what it does not."""
        if self._course is None:
            self._course = Course(self._problem, self._half, self._options.norm, self._options.deadline)
        box = self._problem.box
        if self._reach(0) < self._failure - _SAME:
            radius = self._course.next_radius(self._reach(0), self._failure)
            wanted = np.outer(self._half, [-radius, radius])
        else:
            wanted = min(self._scale, 1.0) * box
        self._before, self._examined = self._examined, self._stretched(wanted)
        inside, outside = [], []
        for piece, cells in self._ahead:
            for part, parts in zip(self._parted(cells), (inside, outside), strict=True):
                parts += [(piece, part)] if part.count else []
        self._ahead = outside
        self._patience = self._expected_end()
        self._sweep = Sweep(self._problem, replace(self._options, deadline=self._patience), inside)
        self._boxes += 1

    def _expected_end(self) -> Deadline:
        """When the box that begins now will have taken far too long."""
        deadline, course = self._options.deadline, self._course
        assert course is not None
        if deadline.left == np.inf:
            return deadline
        done = self._done.regions
        if not done:
            single = course.regions_within(self._reach(0)) <= 1
            return deadline if self._boxes or single else deadline.part(_FIRST_PATIENCE)
        more = course.regions_within(self._reach(0)) - course.regions_within(self._done.radius or 0.0)
        each = (deadline.clock() - self._began) / done
        patience = max(_PATIENCE * max(more, 1.0) * each, _LEAST_PATIENCE * deadline.planned)
        return replace(deadline, ends=min(deadline.ends, deadline.clock() + patience))

    def _stretched(self, wanted: np.ndarray) -> np.ndarray:
        """The examined box ``(n, 2)`` with its faces where they are wanted, and none moved by a hair."""
        least = _CLOSE * 2 * self._half
        was, box = self._examined, self._problem.box
        move = np.maximum(_MOVE * 2 * self._half[:, None], _MOVE_SHARE * np.abs(was))
        low, high = was[:, 0] - move[:, 0], was[:, 1] + move[:, 1]
        low = np.where(wanted[:, 0] < was[:, 0], np.minimum(wanted[:, 0], low), was[:, 0])
        high = np.where(wanted[:, 1] > was[:, 1], np.maximum(wanted[:, 1], high), was[:, 1])
        low = np.where(low - box[:, 0] <= least, box[:, 0], low)
        high = np.where(box[:, 1] - high <= least, box[:, 1], high)
        return np.stack([low, high], axis=1)

    def _parted(self, cells: Cells) -> tuple[Cells, Cells]:
        """Cells cut by the faces of the examined box: the parts inside, and those outside."""
        axis, side = np.nonzero(self._inner())
        if not len(axis):
            return cells, cells.take(np.zeros(0, np.int64))[0]
        sign = np.where(side == 1, 1.0, -1.0)
        values = sign * (self._examined[axis, side] - cells.theta[:, axis])
        names = _FACES + np.uint64(64 * self._boxes) + (2 * axis + side).astype(np.uint64)
        made = cut(cells, values, 2 * _SAME * self._half[axis], names, stop_below=True)
        return made.cells.take(np.flatnonzero(made.stop < 0))[0], made.cells.take(
            np.flatnonzero(made.stop >= 0)
        )[0]

    def _border(self) -> CellMap:
        axis, side = np.nonzero(self._inner())
        whole = cells_of(self._examined[None])
        flat = faces(whole, np.zeros(len(axis), np.int64), 2 * axis + side)
        return unexamined(flat, flat=True)

    def _end(self, sweep: Sweep) -> None:
        """Take in what was found in a box, which the end of the run may have cut short."""
        sweep.close()
        self._cut_short = sweep.pending()
        self._done, self._sweep = self._and(sweep), None
        found = sweep.found_on_pieces()
        self._maps += found
        for _, map_ in found:
            self._take_stock(map_)
        count = _regions(self._maps) if self._boxes > 1 else self._done.regions
        radius = min(self._reach(0), self._block)
        self._done = self._standing = replace(self._done, regions=count, radius=radius)
        if self._course is not None:
            self._course.learn(self._reach(0), count)

    def _give_up(self, sweep: Sweep) -> None:
        """Leave a box that is too large: what is judged is kept, what waits lies ahead of a smaller one."""
        assert self._course is not None
        sweep.close()
        self._done, self._sweep = self._and(sweep), None
        judged, waiting = sweep.parted()
        self._maps += judged
        for _, map_ in judged:
            self._take_stock(map_)
        self._ahead += waiting
        self._examined = self._before
        self._course.disappointed()
        self._standing = self._done

    def _and(self, sweep: Sweep) -> Standing:
        """Where the search stands, with what the sweep of the box in work has done."""
        was, now = self._done, sweep.standing()
        return replace(
            was,
            finished=was.finished + now.finished,
            robust=was.robust + now.robust,
            regions=was.regions + now.regions,
            bytes=was.bytes + now.bytes,
            work={phase: was.work.get(phase, 0.0) + spent for phase, spent in now.work.items()},
        )

    # -- distances

    def _nearer(self, cells: Cells, known: float, which: int) -> float:
        """The least distance of the cells, unless it is above what is known: which as for `_reach`.

        Where the deadline passes, a lower bound of it: that of the boxes about the cells.
        """
        box, half, deadline = self._problem.box, self._half, self._options.deadline
        below, above = (-box[:, 0], box[:, 1]) if which else (half, half)
        euclidean = not which and self._options.norm == "l2"
        try:
            if euclidean:
                nearest_first = by_euclidean(cells, half, known, deadline)
            else:
                nearest_first = by_gauge(cells, below, above, known, deadline)
            found = next(nearest_first, None)
        except Expired:
            point = np.clip(0.0, *bounds(cells))
            far = np.linalg.norm(point / half, axis=1) if euclidean else gauge(point, below, above)
            return min(known, float(far.min()))
        return known if found is None else min(known, found.distance)

    def _take_stock(self, map_: CellMap) -> None:
        bad = np.flatnonzero(map_.kind != ROBUST)
        if len(bad):
            cells, _ = map_.cells.take(bad)
            open_ = map_.kind[bad] == UNDECIDED
            failing, undecided = (cells.take(np.flatnonzero(some))[0] for some in (~open_, open_))
            self._failure = self._nearer(failing, self._failure, 0)
            self._block = self._nearer(undecided, min(self._block, self._failure), 0)
            self._scale = self._nearer(cells, self._scale, 1)


def _regions(maps: list[tuple[int, CellMap]]) -> int:
    """How many regions there are, those that lie in several boxes counted once."""
    pieces = {piece for piece, _ in maps}
    return sum(
        len(np.unique(np.concatenate([map_.pattern for number, map_ in maps if number == piece])))
        for piece in pieces
    )


def _merged(maps: list[tuple[int, CellMap]]) -> list[CellMap]:
    """One map for each piece of the perturbation, in which regions that lie in several boxes are one."""
    out = []
    for piece in sorted({piece for piece, _ in maps}):
        map_ = joined([one for number, one in maps if number == piece])
        pattern, first, number = np.unique(map_.pattern, return_index=True, return_inverse=True)
        inconsistency = map_.inconsistency[first]
        np.fmax.at(inconsistency, number, map_.inconsistency)  # it is known where the class holds
        region = np.where(map_.region < 0, -1, np.append(number, 0)[map_.region])
        out.append(replace(map_, region=region, inconsistency=inconsistency, pattern=pattern))
    return out
