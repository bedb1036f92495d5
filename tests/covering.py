"""Both checks of a map that is said to cover the box, as an answer makes them apart."""

from __future__ import annotations

from steadygaze.deadline import NEVER, Deadline
from steadygaze.question.problem import Problem
from steadygaze.search.base import CellMap
from steadygaze.verdict.checks import check_patterns, check_volume, drawn_for_patterns


def check_cover(problem: Problem, map_: CellMap, deadline: Deadline = NEVER) -> None:
    """Volumes must add up to the box's, and patterns at random theta must be known; see `verdict.checks`."""
    check_volume(problem, map_)
    check_patterns(problem, map_, drawn_for_patterns(problem, map_), deadline)
