"""Boxes that bounds leave to the sweep, which takes them apart into activation regions."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np

from steadygaze.geometry.cells import from_polytopes
from steadygaze.geometry.measure import cone_volumes, volumes
from steadygaze.question.problem import Problem
from steadygaze.search.base import CellMap, Options, unexamined
from steadygaze.search.boxes import DEAR, SLOW, cells_of, gauges_of, shares_of
from steadygaze.search.sweep import Sweep

# A box is handed over when so few of its units are in doubt: it then holds some tens of regions, which the
# sweep judges in the time that bounds take for one or two boxes.
_DOUBTS = 48
# So is a box whose every edge is at most this share of the whole box's, however many are in doubt: where
# hundreds of units share one hinge, as over a blank background, they stay in doubt in boxes of any size.
_NARROW = 2.0**-6
# One at 0 is judged by bounds down to this share: while it waits, or is taken apart, nothing is known of 0.
# So is any of a network whose regions take long, unless more of its units are in doubt than if hinges of all
# were spread over the whole box: where units share hinges, halving a box leaves as many in doubt.
_NARROWER = 2.0**-14
# A corner lies in a piece if the cones from it over the piece's facets exceed its volume by less than this
# share, which is rounding: a box much smaller than `Tolerance.located` could lie beyond a border altogether.
_OUTSIDE = 1e-12
# Boxes are collected until there are so many: the sweep works on batches. Not of slow networks, whose regions
# take long one by one.
_TOGETHER = 128
# So many are enough where one of them is the nearest to 0 of all that is undecided, and one where it is at 0:
# the safe scale waits for it.
_NEAREST = 16


class Handover:
    """Collects boxes, and runs a sweep over them whenever enough have come together."""

    def __init__(self, problem: Problem, options: Options) -> None:
        self._problem = problem
        self._options = replace(options, memory=options.memory // 2)
        self._dear, self._hinges = problem.graph.effort > DEAR, problem.graph.units + problem.graph.windows
        self._together = 1 if problem.graph.effort > SLOW else _TOGETHER
        self._pieces = from_polytopes(tuple(piece.polytope for piece in problem.pieces))
        self._waiting: list[tuple[int, np.ndarray]] = []
        self._sweep: Sweep | None = None
        self._maps: list[CellMap] = []
        self._before = 0

    @property
    def regions(self) -> int:
        """Regions visited so far."""
        return self._before + (self._sweep.standing().regions if self._sweep is not None else 0)

    def takes(self, boxes: np.ndarray, doubts: np.ndarray) -> np.ndarray:
        """Which of the boxes ``(B, n, 2)`` are taken over, ``(B,)``, given how many units are in doubt."""
        piece = np.full(len(boxes), -1)
        gauge = gauges_of(boxes, self._problem.box)
        share = shares_of(boxes, self._problem.box)
        # A hinge crosses about each of the slices into which the box is cut along one of the axes.
        spread = doubts <= self._hinges * share.sum(axis=1)
        narrow = np.where((gauge == 0) | (self._dear & spread), _NARROWER, _NARROW)
        few = np.flatnonzero((doubts <= _DOUBTS) | (share <= narrow[:, None]).all(axis=1))
        piece[few] = self._piece_of(boxes[few])
        for number in np.unique(piece[piece >= 0]):
            self._waiting.append((int(number), boxes[piece == number]))
        return piece >= 0

    def ready(self, nearest: float) -> bool:
        """Whether a sweep runs, or enough boxes wait for one.

        Args:
            nearest: the least gauge of a box that is open elsewhere.
        """
        enough, box = self._together, self._problem.box
        own = min((gauges_of(boxes, box).min() for _, boxes in self._waiting), default=np.inf)
        if own < nearest:
            enough = min(enough, _NEAREST if own else 1)
        return self._sweep is not None or sum(len(boxes) for _, boxes in self._waiting) >= enough

    def pending(self) -> bool:
        """Whether anything is left to do."""
        return self._sweep is not None or bool(self._waiting)

    def step(self) -> list[CellMap]:
        """One step of the sweep; what it has found, once it is through."""
        if self._sweep is None:
            waiting: dict[int, list[np.ndarray]] = {}
            for piece, boxes in self._waiting:
                waiting.setdefault(piece, []).append(boxes)
            start = [(piece, cells_of(np.concatenate(boxes))) for piece, boxes in waiting.items()]
            self._sweep, self._waiting = Sweep(self._problem, self._options, start), []
        if self._sweep.pending():
            self._sweep.step()
        if self._sweep.pending():
            return []
        self.close()
        return self._maps[-1:]

    def found(self) -> list[CellMap]:
        """All that was found; boxes that wait are in it, undecided."""
        running = [self._sweep.found()] if self._sweep is not None else []
        return [*self._maps, *running, *(unexamined(cells_of(boxes)) for _, boxes in self._waiting)]

    def close(self) -> None:
        """End the sweep that runs, and keep what it has found."""
        if self._sweep is not None:
            self._sweep.close()
            self._maps.append(self._sweep.found())
            self._before += self._sweep.standing().regions
            self._sweep = None

    def _piece_of(self, boxes: np.ndarray) -> np.ndarray:
        """The piece of the perturbation that each box lies in, -1 where it reaches into several."""
        if self._pieces.count == 1:
            return np.zeros(len(boxes), np.int64)
        found = np.full(len(boxes), -1)
        n = boxes.shape[1]
        ends = np.array(list(product((0, 1), repeat=n)))
        corners = boxes[:, np.arange(n), ends]
        size = volumes(self._pieces)
        for piece in range(self._pieces.count):
            of = np.full(corners.shape[0] * len(ends), piece)
            cones = cone_volumes(self._pieces, of, np.ascontiguousarray(corners.reshape(-1, n)))
            inside = cones <= size[piece] * (1 + _OUTSIDE)
            found[inside.reshape(-1, len(ends)).all(axis=1)] = piece
        return found
