"""Sweep: the complete exact map of the box, stage by stage, in batches.

All vertices of a batch of cells go through the network together; at each stage the cells are cut where units
change piece. A batch that has grown too large is parted, and the parts are worked off last in, first out, so
that memory is bounded by the budget and not by the number of regions. Parts are numbered by their way through
the tree of batches, which depends on neither threads nor time, and neither does the map.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from itertools import chain, pairwise

import numpy as np
import torch
from torch import Tensor

from steadygaze.deadline import Expired
from steadygaze.geometry.cells import Cells, from_polytopes
from steadygaze.geometry.cutting import NO_LIMIT
from steadygaze.geometry.measure import volumes
from steadygaze.geometry.sections import gauge
from steadygaze.geometry.store import UNFINISHED, Cut
from steadygaze.network.regions.fronts import Front, Sides
from steadygaze.network.regions.piecewise import flat_array
from steadygaze.question.problem import Problem
from steadygaze.search.base import (
    AbstractSearch,
    CellMap,
    Enclosed,
    Options,
    Standing,
    advanced,
    joined,
    threads_of,
    unexamined,
)
from steadygaze.search.judging import judge
from steadygaze.search.telling_apart import astray, hinges_on

# A batch holds at most this many cells: enough for full matrix products, few enough for the caches and for
# two threads to share small problems evenly.
_CELLS = 1024
# Rows of a batch take at most this many bytes: larger arrays are mapped afresh each time, and fault in page
# by page.
_CACHED = 1 << 24
# However long its rows are, a batch holds so many: products of fewer are slow.
_LEAST_ROWS = 16
# A small problem is parted early, as soon as a batch holds this many numbers, and again before its gradients
# are taken, so that two threads share it; parted this often, there are batches enough. Smaller batches take
# longer on two threads than on one, for it is not products that take the time.
_SHARED, _SHARES = 1 << 19, 2
# New vertices for which a batch has room in one stage: so many and so many more for each of its cells. What
# is left is cut in batches of its own, which the threads share and which have fewer hinges each to try.
_ROOM, _ROOM_EACH = 256, 4
# Each thread's batch, with everything derived from it, takes about six times its rows at the vertices.
_COPIES = 6
# Waiting batches may take this part of the memory; while they take more, those come next that have come
# farthest, for they hold the most and are done soonest, and last of these what a stage has left over.
_WAITING = 8


@dataclass(frozen=True)
class _Batch:
    """Cells on their way through the stages.

    Attributes:
        way: position in the tree of batches; orders the map.
        piece: affine piece of the perturbation.
        stage: the next stage to cross.
        trail: for each stage crossed, pieces uint8 ``(ancestors, units)`` and ``(cells,)`` each cell's
            ancestor.
        patterns: ``(cells,)`` uint64 names of the patterns so far.
        doubtful: ``(cells,)`` bool, whether rounding decides on some of the pieces so far.
        begun: whether the stage is begun, and these cells are what the room did not suffice for.
        alone: whether it is one cell, which the stage cuts by tolerances of its own (see `telling_apart`).
    """

    way: tuple[int, ...]
    piece: int
    stage: int
    cells: Cells
    front: Front
    trail: tuple[tuple[np.ndarray, np.ndarray], ...]
    patterns: np.ndarray
    doubtful: np.ndarray
    begun: bool = False
    alone: bool = False

    @property
    def bytes(self) -> int:
        """Memory that the batch takes while it waits, with its share of the pieces that siblings have too."""
        cells = self.cells
        arrays = (cells.theta, cells.names, cells.idx, cells.mask, self.patterns)
        rows = chain(self.front.rows.values(), self.front.alive.values())
        shared = (pieces.shape[1] * min(len(pieces), cells.count) for pieces, _ in self.trail)
        return sum(each.nbytes for each in chain(arrays, rows)) + sum(shared)

    def take(self, chosen: np.ndarray, way: tuple[int, ...]) -> _Batch:
        """Some of the cells, as a batch of their own."""
        cells, kept = self.cells.take(chosen)
        return replace(self._heirs(chosen), way=way, cells=cells, front=self.front.take(kept))

    def parts(self, made: Cut, front: Front) -> _Batch:
        """The parts that a cut made of the cells, and the front after it."""
        return replace(self._heirs(made.parent), cells=made.cells, front=front, begun=False)

    def past(self, made: Cut, front: Front, sides: Sides) -> _Batch:
        """The same past the stage, to whose hinges the parts lie so."""
        trail = [(before, ancestor[made.parent]) for before, ancestor in self.trail]
        return _Batch(
            self.way, self.piece, self.stage + 1, made.cells, front,
            (*trail, (sides.pieces, np.arange(made.cells.count))), self.patterns[made.parent] + sides.names,
            self.doubtful[made.parent] | sides.loose if self.alone else self.doubtful[made.parent],
        )  # fmt: skip

    def _heirs(self, rows: np.ndarray) -> _Batch:
        """What cells know that come from the given ones: trail and patterns."""
        trail = tuple((pieces, ancestor[rows]) for pieces, ancestor in self.trail)
        return replace(self, trail=trail, patterns=self.patterns[rows], doubtful=self.doubtful[rows])


@dataclass(frozen=True)
class _Outcome:
    """What one step of one thread gives: batches to go on with, or a piece of the map."""

    batches: tuple[_Batch, ...]
    map: CellMap | None
    way: tuple[int, ...]
    seconds: dict[str, float]


class Sweep(AbstractSearch):
    """See the module. Refuses, through `Problem.pieces`, chains that are not piecewise affine."""

    name = "sweep"
    claim = "whole box"

    def __init__(
        self, problem: Problem, options: Options, start: Sequence[tuple[int, Cells]] | None = None
    ) -> None:
        """By default the whole box; `start` names parts of it, each within one piece of the perturbation."""
        self._problem = problem
        self._threads, self._deadline = options.threads, options.deadline
        row = 8 * problem.stages.widest_row
        room = min(_CACHED, options.memory // (2 * options.threads * _COPIES))
        self._rows = min(max(room // row, _LEAST_ROWS), 4 * _CELLS)
        self._shared = _SHARED // problem.stages.widest_row
        self._waiting: list[_Batch] = []
        self._held, self._may_hold = 0, options.memory // _WAITING
        start = pieces_of(problem) if start is None else start
        self._start = start
        self._put([self._first(number, piece, cells) for number, (piece, cells) in enumerate(start)])
        self._running: dict[Future[_Outcome], _Batch] = {}
        self._maps: list[tuple[tuple[int, ...], CellMap]] = []
        self._options = options
        self._pool: ThreadPoolExecutor | None = None  # what one thread is done with needs no others
        self._standing = Standing(0.0, 0.0, 0, 0)

    def pending(self) -> bool:
        """Whether batches wait or run."""
        return bool(self._waiting or self._running)

    def step(self) -> None:
        """Hand out waiting batches and take in those that are done.

        A batch that no other could be worked on beside is not handed out: a thread takes a while to begin.
        """
        if not self._running and (len(self._waiting) == 1 or self._threads == 1):
            batch = self._next()
            with self._options.alone():
                self._take(batch, lambda: self._advance(batch))
            return
        pool = self._pool = self._pool or threads_of(self._options, "sweep")
        # One more than there are threads: none has to wait until this one is back here.
        while self._waiting and len(self._running) <= self._threads:
            batch = self._next()
            self._running[pool.submit(self._advance, batch)] = batch
        done, _ = wait(self._running, return_when=FIRST_COMPLETED)
        self._receive(sorted(done, key=lambda future: self._running[future].way, reverse=True))

    def standing(self) -> Standing:
        """How far the sweep has come."""
        return self._standing

    def found(self) -> CellMap:
        """The map; cells that still wait are in it, undecided."""
        maps = [map_ for _, map_ in self.found_on_pieces()]
        return maps[0] if len(maps) == 1 else joined(maps)

    def found_on_pieces(self) -> list[tuple[int, CellMap]]:
        """The map in parts, each with the number of the piece of the perturbation that it lies in."""
        self._collect()
        late = self._deadline.passed()
        rest = [(batch.way, unexamined(batch.cells, flat=late)) for batch in self._waiting]
        parts = sorted(self._maps + rest, key=lambda entry: entry[0])
        if late and rest:  # measuring what waits takes long: its volume is what the others leave
            left = sum(float(volumes(cells).sum()) for _, cells in self._start)
            left -= sum(float(map_.volume.sum()) for _, map_ in self._maps)
            parts[-1] = (parts[-1][0], replace(parts[-1][1], rest=max(left, 0.0)))
        return [(self._start[way[0]][0], map_) for way, map_ in parts]

    def parted(self) -> tuple[list[tuple[int, CellMap]], list[tuple[int, Cells]]]:
        """What is judged, and the cells that wait, each with the piece that it lies in; of a closed sweep."""
        judged = sorted(self._maps, key=lambda entry: entry[0])
        waiting = sorted(self._waiting, key=lambda batch: batch.way)
        return (
            [(self._start[way[0]][0], map_) for way, map_ in judged],
            [(batch.piece, batch.cells) for batch in waiting],
        )

    def enclosed(self) -> Enclosed | None:
        """Nothing that the map does not tell."""
        return None

    def close(self) -> None:
        """Finish what runs and end the threads."""
        self._collect()
        if self._pool is not None:
            self._pool.shutdown()

    def _collect(self) -> None:
        if self._running:
            wait(self._running)
            self._receive(list(self._running))

    def _receive(self, done: Sequence[Future[_Outcome]]) -> None:
        for future in done:
            self._take(self._running.pop(future), future.result)

    def _take(self, batch: _Batch, outcome_of: Callable[[], _Outcome]) -> None:
        """Take in what a batch gives."""
        try:
            outcome = outcome_of()
        except BaseException as error:  # its cells are undecided, as before
            self._put([batch])
            if not isinstance(error, Expired):
                raise
        else:
            self._take_in(outcome)

    def _next(self) -> _Batch:
        last = len(self._waiting) - 1
        if self._held > self._may_hold:
            far = [(batch.stage, not batch.begun, number) for number, batch in enumerate(self._waiting)]
            last = max(far)[-1]
        batch = self._waiting.pop(last)
        self._held -= batch.bytes
        return batch

    def _put(self, batches: Sequence[_Batch]) -> None:
        """What is nearest to 0 comes next, so that a run that is stopped knows the surroundings of 0."""
        order = range(len(batches))
        if len(batches) > 1:
            half = np.ptp(self._problem.box, axis=1) / 2
            distance = [float(gauge(batch.cells.theta, half, half).min()) for batch in batches]
            order = sorted(order, key=lambda number: (distance[number], number), reverse=True)
        for number in order:
            self._waiting.append(batches[number])
            self._held += batches[number].bytes

    def _take_in(self, outcome: _Outcome) -> None:
        self._put(outcome.batches)
        was, map_ = self._standing, outcome.map
        work = {phase: was.work.get(phase, 0.0) + spent for phase, spent in outcome.seconds.items()}
        work = {**was.work, **work}
        if map_ is None:
            self._standing = replace(was, work=work)
            return
        self._maps.append((outcome.way, map_))
        self._standing = advanced(
            was, [map_], self._problem.volume, regions=was.regions + len(map_.pattern),
            bytes=was.bytes + map_.bytes, work=work,
        )  # fmt: skip

    def _first(self, number: int, piece: int, cells: Cells) -> _Batch:
        form = self._problem.pieces[piece].image
        front = self._problem.stages.start(form.base, form.directions)
        return _Batch(
            (number,),
            piece,
            0,
            cells,
            front,
            (),
            np.zeros(cells.count, np.uint64),
            np.zeros(cells.count, bool),
        )

    def _advance(self, batch: _Batch) -> _Outcome:
        """Take a batch through the stages until it is judged or has to be parted."""
        stages, seconds = self._problem.stages, {"cut": 0.0, "evaluate": 0.0, "judge": 0.0}
        while batch.stage < len(stages.stages):
            crossed = self._cross(batch, seconds)
            if len(crossed) != 1:
                return _Outcome(crossed, None, batch.way, seconds)
            batch = crossed[0]
        began = time.perf_counter()
        theta = torch.from_numpy(batch.cells.theta).to(self._problem.graph.device)
        front = stages.reach(batch.front, batch.stage, theta)
        logits = front.at(self._problem.graph.last, theta)
        map_ = judge(
            self._problem,
            batch.piece,
            batch.cells,
            logits,
            batch.patterns,
            lambda rows: self._pieces(batch, rows),
            self._deadline,
            batch.doubtful if batch.doubtful.any() else None,
        )
        seconds["judge"] += time.perf_counter() - began
        return _Outcome((), map_, batch.way, seconds)

    def _cross(self, batch: _Batch, seconds: dict[str, float]) -> tuple[_Batch, ...]:
        """The batch past its next stage, parted if it has grown too large."""
        self._deadline.ask()
        stages, number = self._problem.stages, batch.stage
        began = time.perf_counter()
        theta = torch.from_numpy(batch.cells.theta).to(self._problem.graph.device)
        front = stages.reach(batch.front, number, theta)
        room, slack = min(4 * self._rows, _ROOM + _ROOM_EACH * batch.cells.count), None
        if stages.uneven and not batch.alone:
            batch = replace(batch, front=front, alone=True)
            if batch.cells.count > 1:
                return self._each(batch)
        if batch.alone:
            room, (values, slack) = NO_LIMIT, self._own_hinges(batch)
        else:
            values = flat_array(front.at(stages.stages[number].source, theta))
        crossing = stages.crossing(values, number, slack)
        reached = time.perf_counter()
        made = stages.cut(batch.cells, values, number, crossing, room, self._deadline, slack)
        cut = time.perf_counter()
        seconds["evaluate"] += reached - began
        seconds["cut"] += cut - reached
        if (made.stop == UNFINISHED).any():
            return self._later(batch, front, made, made.stop == UNFINISHED)
        after, values = stages.cross(front, number, made, values, crossing)
        sides = stages.sides(made.cells, values, number, crossing, slack)
        if sides.loose.any() and not batch.alone:
            wrong = self._astray(batch, made, sides)
            if wrong.any():
                return self._later(batch, front, made, wrong, alone=True)
        grown = batch.past(made, after, sides)
        if not grown.cells.compact:
            grown = grown.take(np.arange(grown.cells.count), grown.way)
        seconds["evaluate"] += time.perf_counter() - cut
        return self._parted(grown)

    def _later(
        self, batch: _Batch, front: Front, made: Cut, left: np.ndarray, alone: bool = False
    ) -> tuple[_Batch, ...]:
        """The parts cross the stage in batches of their own: those that are left, ``(parts,)`` bool, again.

        They are left where the room ran out in the middle of the stage. alone: or as each must be cut alone.
        """
        grown = batch.parts(made, self._problem.stages.widened(front, made))
        done, again = self._chunks(grown, np.flatnonzero(~left)), np.flatnonzero(left)
        if alone:
            chunks = [*done, *again[:, None]]
        else:
            chunks = [*done, *self._chunks(grown, again, at_least=1 if done else 2)]
        return tuple(
            replace(
                grown.take(chunk, (*batch.way, part)),
                begun=part >= len(done),
                alone=alone and part >= len(done),
            )
            for part, chunk in enumerate(chunks)
        )

    def _each(self, batch: _Batch) -> tuple[_Batch, ...]:
        """A batch of each of the cells."""
        return tuple(batch.take(np.array([k]), (*batch.way, k)) for k in range(batch.cells.count))

    def _own_hinges(self, batch: _Batch) -> tuple[np.ndarray, np.ndarray]:
        """What the stage reads at the vertices of the one cell, and the tolerances ``(columns,)`` there."""
        pieces = self._pieces(batch, np.zeros(len(batch.cells.theta), np.int64))
        values, slack = hinges_on(self._problem, batch.piece, batch.stage, batch.cells.theta, pieces)
        return values, slack.max(axis=0)

    def _astray(self, batch: _Batch, made: Cut, sides: Sides) -> np.ndarray:
        """Which parts ``(parts,)`` bool only a tolerance keeps where they are said to be."""
        wrong, loose = np.zeros(made.cells.count, bool), np.flatnonzero(sides.loose)
        cells, pieces = made.cells.take(loose)[0], self._pieces(batch, made.parent[loose])
        found = astray(self._problem, batch.piece, batch.stage, cells, pieces, sides.columns[loose])
        wrong[loose] = found
        return wrong

    def _parted(self, batch: _Batch) -> tuple[_Batch, ...]:
        depth = _SHARES if batch.stage == len(self._problem.stages.stages) else 1
        shared = len(batch.way) <= depth and batch.cells.count >= self._shared
        chunks = self._chunks(batch, np.arange(batch.cells.count), at_least=2 if shared else 1)
        if len(chunks) == 1:
            return (batch,)
        return tuple(batch.take(chunk, (*batch.way, part)) for part, chunk in enumerate(chunks))

    def _chunks(self, batch: _Batch, cells: np.ndarray, at_least: int = 1) -> list[np.ndarray]:
        """The cells of the given numbers, as many together as a batch may hold."""
        if not len(cells):
            return []
        vertices = len(batch.cells.theta) * len(cells) // batch.cells.count
        parts = max(at_least, -(-len(cells) // _CELLS), -(-vertices // self._rows))
        if parts == 1:
            return [cells]
        edges = np.linspace(0, len(cells), min(parts, len(cells)) + 1).astype(int)
        return [cells[first:last] for first, last in pairwise(edges)]

    def _pieces(self, batch: _Batch, rows: np.ndarray) -> dict[int, Tensor]:
        """The pieces of all units on the given cells, by node, as far as stages are crossed."""
        stages, device = self._problem.stages.stages[: batch.stage], self._problem.graph.device
        return {
            stage.node: torch.from_numpy(pieces[ancestor[rows]]).to(device)
            for stage, (pieces, ancestor) in zip(stages, batch.trail, strict=True)
        }


def pieces_of(problem: Problem) -> list[tuple[int, Cells]]:
    """The affine pieces of the perturbation by their numbers; they tile the box."""
    cells = from_polytopes(tuple(piece.polytope for piece in problem.pieces))
    if cells.count == 1:
        return [(0, cells)]
    return [(number, cells.take(np.array([number]))[0]) for number in range(cells.count)]
