"""Breadth-first search over activation regions, across facets, from the one at 0."""

from __future__ import annotations

import numpy as np

from steadygaze.geometry.half_widths import inward
from steadygaze.question.problem import Problem
from steadygaze.search.base import AbstractSearch, CellMap, Enclosed, Options, Standing
from steadygaze.search.regions import UNKNOWN, Regions


class BreadthFirst(AbstractSearch):
    """All activation regions of the box, each found from its neighbours.

    Refuses, through `Problem.pieces`, chains that are not piecewise affine.
    """

    name = "bfs"
    claim = "whole box"

    def __init__(self, problem: Problem, options: Options) -> None:
        self._problem = problem
        self._regions = Regions(problem, options)
        self._began, self._next = False, 0
        self._standing = Standing(0.0, 0.0, 0, 0)

    def pending(self) -> bool:
        """Whether facets are left that nobody has crossed."""
        return not self._began or self._next < len(self._regions.neighbour)

    def step(self) -> None:
        """Cross the next facets, in the order in which they were found."""
        regions = self._regions
        if not self._began:
            regions.around(np.zeros(len(self._problem.box)), inward(self._problem.box))
            self._began = True
        else:
            ahead = regions.neighbour[self._next : self._next + regions.batch]
            chosen = self._next + np.flatnonzero(ahead == UNKNOWN)
            regions.cross(chosen)
            self._next += len(ahead)
        self._standing = regions.standing(self._standing)

    def standing(self) -> Standing:
        """How far the search has come."""
        return self._standing

    def found(self) -> CellMap:
        """The map; what lies behind facets that were not crossed is in it as undecided."""
        return self._regions.map()

    def enclosed(self) -> Enclosed | None:
        """Nothing that the map does not tell."""
        return None

    def close(self) -> None:
        """End the threads."""
        self._regions.close()
