"""Maps that take long at a point: no run waits for them beyond its time."""

from __future__ import annotations

from functools import partial
from itertools import count

import numpy as np
import pytest
import torch
from torch import nn

import steadygaze as sg
from steadygaze.deadline import NEVER, Deadline
from steadygaze.errors import SettingError
from steadygaze.geometry.kinds import ROBUST
from steadygaze.network.graph import Graph
from steadygaze.network.saliency import Gradient
from steadygaze.question.timing import problem_until, saliency_until


def asked(times):
    """A deadline that passes when it has been asked so many times."""
    return Deadline(ends=times, clock=count(1).__next__)


def question():
    torch.manual_seed(4)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3)
    )
    image = np.random.default_rng(3).random((1, 6, 6)) * 0.6 + 0.2
    return net.eval(), image, sg.Brightness(-0.2, 0.2)


def test_only_saliencies_that_take_long_have_a_deadline():
    gradient = Gradient()
    assert saliency_until(gradient, asked(1)) is gradient
    problem = sg.verify(*question(), regions_limit=1).problem
    assert problem_until(problem, asked(1)) is problem


def test_what_a_problem_has_found_out_is_kept():
    problem = sg.verify(*question(), saliency="integrated-gradients", regions_limit=4).problem
    assert problem.saliency.deadline is NEVER, "an answer may be asked at any time"
    made = problem_until(problem, asked(1))
    assert made.saliency.deadline is not NEVER
    assert made.map0 is problem.map0
    assert problem.saliency.deadline is NEVER


@pytest.mark.parametrize("times", [1, 10, 20, 30, 40, 50, 60, 80, 100, 140, 200, 300, 600])
def test_whenever_the_time_is_over_there_is_an_answer_or_a_sentence(times, monkeypatch):
    """Also while the map of a point is in the making: in posing, searching, replaying and checking."""
    monkeypatch.setattr(Deadline, "after", lambda *_, **__: asked(times))
    monkeypatch.setattr(Graph, "effort", 10**8)
    ask = partial(
        sg.verify, *question(), saliency="integrated-gradients", method="bound", threshold=0.01, audit=2,
        time_limit=9.0, threads=1,
    )  # fmt: skip
    if times < 30:
        with pytest.raises(SettingError, match="the original takes longer"):
            ask()
        return
    answer = ask()
    problem, failure = answer.problem, answer.result.nearest_failure
    if answer.safe_scale:
        points = answer.safe_scale * (1 - 1e-9) * np.linspace(*problem.box[0], 30)[:, None]
        assert (problem.at(points).kind == ROBUST).all()
    assert failure is not None or times < 600
    if failure is not None:
        assert problem.replay(np.array([failure.theta])).kind[0] != ROBUST
