"""How many symbols a box has time for, and how many of its units in doubt have one beside polynomials."""

from __future__ import annotations

import math

from steadygaze.deadline import Deadline
from steadygaze.network.bounding.taylor.polynomial import FEW_DOUBTS
from steadygaze.question.problem import Problem
from steadygaze.search.experience import Experience

# Seconds for each coefficient of each value, and bytes of the widest forms that double them: measured on one
# core, networks of 45,000 to 190,000 values and 360 to 3,072 pixels.
_SECONDS, _WIDE = 7e-9, 2**26
_MOST_BYTES = 2**28
# Units in doubt have room for so many symbols, and for so many times as many as polynomials had that decided
# a box: how many are in doubt goes with a box's edges. Where they are too many, as over boxes that are far
# too large, what these take is lost: with room for 2,048 from the first box on, that took 6 of 10 seconds.
_DOUBTS, _MORE = 256, 4
# But no more than lets boxes take that share of the time, and the widest forms so many bytes: half of these
# where gradients are asked for, which have symbols of their own (2.1 GB in all, not 1.6, of a ResNet-18
# of width 8). Symbols come one layer after the other, so that forms have half of them.
_SHARE, _DOUBTS_BYTES = 0.8, 2**27


def seconds_of(problem: Problem, rows: int, boxes: int = 1) -> float:
    """About how long boxes take with so many symbols each; infinite where forms are too wide."""
    sizes = [math.prod(node.shape) for node in problem.graph.nodes]
    widest = 8 * rows * max(sizes) * boxes
    seconds = _SECONDS * rows * boxes * sum(sizes) * (1 + widest / _WIDE)
    return seconds if widest <= _MOST_BYTES else math.inf


def room_for_doubts(problem: Problem, boxes: int, experience: Experience, deadline: Deadline) -> int:
    """How many units in doubt may have a symbol over each of so many boxes, if all of them then have one."""
    widest = max(math.prod(node.shape) for node in problem.graph.nodes)
    most = _DOUBTS_BYTES // (1 if problem.class_alone else 2) // (8 * widest * boxes)
    room = min(max(_DOUBTS, _MORE * experience.followed), most)
    while room > FEW_DOUBTS and seconds_of(problem, room // 2, boxes) > _SHARE * deadline.planned:
        room //= 2
    return max(room, FEW_DOUBTS)
