"""Maps that take long at a single point, within a limit of time."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

from steadygaze.deadline import Deadline
from steadygaze.network.integrated import IntegratedGradients
from steadygaze.network.saliency import AbstractSaliency
from steadygaze.question.problem import Problem


def saliency_until(saliency: AbstractSaliency, deadline: Deadline) -> AbstractSaliency:
    """The same saliency, whose maps at points raise Expired where the deadline passes on the way.

    Those of most take no longer than a gradient, and are as they were.
    """
    return replace(saliency, deadline=deadline) if isinstance(saliency, IntegratedGradients) else saliency


def problem_until(problem: Problem, deadline: Deadline) -> Problem:
    """The same problem with such a saliency, and with all that it has found out already."""
    saliency = saliency_until(problem.saliency, deadline)
    if saliency is problem.saliency:
        return problem
    made = copy(problem)
    object.__setattr__(made, "saliency", saliency)  # `replace` would forget what is kept beside the fields
    return made
