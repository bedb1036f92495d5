"""Points at which class or attention fails, and not at that point alone.

On the border of two linear pieces a map is what a rule says of units that are exactly at their breakpoint; it
may be that of a piece that lies outside the box, or of none. Such a point says nothing of what is around it.
"""

from __future__ import annotations

import numpy as np

from steadygaze.geometry.kinds import ATTENTION_CHANGED, CLASS_CHANGED
from steadygaze.question.points import Points
from steadygaze.question.problem import Problem
from steadygaze.question.slack import slack_at

# How far aside it is looked, as a share of the way to some point inside the box.
_ASIDE = 2.0**-20
# The point inside: shares of the box, one after another, that no border of the box's own is likely to hold.
_TURN = (np.sqrt(5) - 1) / 2


def failing_at(problem: Problem, thetas: np.ndarray) -> tuple[Points, np.ndarray]:
    """What points ``(B, n)`` are, and at which class or attention fails, ``(B,)`` bool.

    Attention is only said to fail at a point where something fails right beside it, too. The class needs no
    such look: logits are continuous. Nothing is said of a class gap within the tolerance of 0, where classes
    may tie, and of an inconsistency within that of the threshold.
    """
    points = problem.at(thetas)
    fails = _surely(problem, points)
    alone = np.flatnonzero(fails & (points.kind == ATTENTION_CHANGED))
    if len(alone):
        distance = points.inconsistency[alone]
        near = problem.threshold + slack_at(problem, thetas[alone], points.maps[alone], distance)
        alone, dropped = alone[distance > near], alone[distance <= near]
        fails[dropped] = False
        box = problem.box
        inside = box[:, 0] + np.ptp(box, axis=1) * (1 + np.modf(_TURN * np.arange(1, len(box) + 1))[0]) / 3
        beside = thetas[alone] + _ASIDE * (inside - thetas[alone])
        fails[alone] = _surely(problem, problem.at(beside))
    return points, fails


def _surely(problem: Problem, points: Points) -> np.ndarray:
    """Where points fail by more than what rounding may make of a tie, or of a threshold that is just kept."""
    tied = np.abs(points.gap) <= problem.gap_tolerance.max()
    moved = points.inconsistency > problem.threshold + problem.tolerance.margin
    return ~tied & ((points.kind == CLASS_CHANGED) | ((points.kind == ATTENTION_CHANGED) & moved))
