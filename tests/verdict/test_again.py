"""The same question asked again has the same answer, however fast the clock runs, if the limit is far.

No test here measures time: each look at the clock costs as much as is said.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import steadygaze as sg
from steadygaze.deadline import NEVER, Deadline
from steadygaze.question.limits import Limits
from steadygaze.question.problem import Problem
from steadygaze.search import judged_boxes
from steadygaze.search.base import Options
from steadygaze.search.course import Course
from steadygaze.search.judged_boxes import _Judging
from steadygaze.search.nearest import Nearest

LIMIT = 16.0
IMAGE = np.random.default_rng(4).random((1, 6, 6))
LINE = "brightness(amount=-0.2..0.2)"
PATCH = "patch(opacity=0..0.4, top=1, left=1, size=2)"
SPACE = f"contrast(amount=-0.1..0.1) | brightness(amount=-0.1..0.1) | {PATCH}"
TURN = "rotate(degrees=-4..4)"


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 3)
    ).double()


def posed(chain: str) -> Problem:
    return sg.verify(network(), IMAGE, chain, threshold=0.1, regions_limit=1, threads=1).problem


def late(over: float) -> Deadline:
    """When so much of the limit is over, by a clock that stands still."""
    return Deadline(LIMIT, lambda: over, whole=LIMIT)


class Clock:
    """Gains so much at each look, and counts them."""

    def __init__(self, pace: float = 0.0) -> None:
        self.pace, self.looks = pace, 0

    def __call__(self) -> float:
        self.looks += 1
        return self.pace * self.looks

    def deadline(self, seconds: float | None, spent: float = 0.0) -> Deadline:
        return Deadline() if seconds is None else Deadline(seconds - spent, self)


def test_plans_are_made_with_half_of_the_time_while_it_is_left():
    assert [late(over).planned for over in (0.0, 1.0, 8.0, 8.5, 20.0)] == [8.0, 8.0, 8.0, 7.5, 0.0]
    assert late(0.0).part(0.25).planned == 2.0
    assert late(10.0).part(0.5).planned == 3.0
    assert replace(late(3.0), whole=np.inf).planned == 13.0
    assert NEVER.planned == NEVER.part(0.5).planned == np.inf
    assert Limits(seconds=LIMIT, spent=2.0).deadline(loading=3.0).planned == LIMIT / 2


def test_the_same_effort_is_made_for_boxes(monkeypatch):
    problem, rows = posed(LINE), np.array([10.0])
    monkeypatch.setattr(judged_boxes, "_RATE", 10 * problem.graph.effort / (0.1 * 0.4 * LIMIT))
    judging = [_Judging(problem, problem.box[None], 32, None, late(over)) for over in (0.0, 7.0, 12.0)]
    assert [each._affordable(rows).tolist() for each in judging] == [[True], [True], [False]]


def test_a_box_is_not_given_up_for_what_the_machine_does_in_a_moment():
    """Of an easy question all boxes take less than a fortieth of the time."""
    search = Nearest(posed(LINE), Options(threads=1, deadline=late(1.0)))
    search._began, search._boxes = 1.0 - 1e-6, 1
    search._done = replace(search._done, regions=1000)
    search._course = Course(search._problem, search._half, "linf")
    assert search._expected_end().ends == 1.0 + 0.05 * LIMIT / 2
    search._began, search._done = 0.0, replace(search._done, regions=2)
    assert search._expected_end().ends == 1.0 + 8 * 0.5


@pytest.mark.parametrize(
    ("chain", "method"),
    [(LINE, "bound"), (LINE, "nearest"), (SPACE, "auto"), (TURN, "auto")],
)
def test_the_answer_is_the_same(monkeypatch, chain, method):
    def told(clock: Clock) -> dict[str, object]:
        monkeypatch.setattr(Deadline, "after", clock.deadline)
        answer = sg.verify(network(), IMAGE, chain, method=method, threshold=0.1, time_limit=LIMIT, threads=1)
        assert answer.result.settings["stopped"] is None
        found = answer.result.to_dict()
        return {name: found[name] for name in found if name not in ("timing", "settings", "versions")}

    quick = Clock()
    first = told(quick)
    assert told(Clock(0.45 * LIMIT / quick.looks)) == first
