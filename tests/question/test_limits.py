"""A limit of time ends a question before it is posed, too: at every phase, in a sentence, without a claim."""

from __future__ import annotations

import time
from contextlib import nullcontext
from functools import partial
from itertools import count

import numba.core.event as numba_events
import numpy as np
import pytest
import torch
from torch import nn

import steadygaze as sg
from steadygaze.deadline import NEVER, Deadline, Expired
from steadygaze.network.graph import Graph
from steadygaze.network.reading import originals
from steadygaze.network.reading.load import load_network
from steadygaze.perturbation.chain import Chain
from steadygaze.question.claims import compared
from steadygaze.question.limits import Limits
from steadygaze.question.posing import pose
from steadygaze.question.problem import Problem
from steadygaze.verdict.driver import solve

IMAGE = np.random.default_rng(0).random((1, 6, 6))
ASKED = compared(
    "attention",
    saliency="gradient",
    channel_sum=False,
    layer=None,
    inconsistency="cosine",
    threshold=0.3,
    baseline="black",
)._asdict()


def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 3))


def posed(late: Deadline = NEVER) -> Problem:
    network = load_network(module().eval(), input_shape=IMAGE.shape)
    return pose(network, IMAGE, Chain(sg.Brightness(-0.2, 0.2)), label=None, clip=(0, 1), late=late, **ASKED)


def asked(times: float) -> Deadline:
    """A deadline that passes when it has been asked so many times."""
    return Deadline(ends=times + 0.5, clock=count(1).__next__)


@pytest.fixture
def heavy(monkeypatch):
    """From here on an image takes more products than there is time for."""
    monkeypatch.setattr(Graph, "effort", 10**10)


def test_posing_asks_in_every_phase_and_poses_nothing_when_it_is_late():
    clock = count(1)
    posed(Deadline(ends=1e9, clock=clock.__next__))
    often = next(clock) - 1
    assert often >= 12, "at every node, and after each comparison"
    for times in range(often):
        with pytest.raises(Expired):
            posed(asked(times))
    assert posed(asked(often)).label == posed().label


@pytest.mark.usefixtures("heavy")
def test_a_question_that_is_not_posed_in_time_is_told_of(monkeypatch):
    slow, own = [0], originals.TorchOriginal.logits

    def logits(self, images):
        slow[0] += 1
        time.sleep(1.2)
        return own(self, images)

    monkeypatch.setattr(originals.TorchOriginal, "logits", logits)
    began = time.perf_counter()
    with pytest.raises(sg.SettingError, match=r"time limit is 0\.5 s.*comparing it with the original"):
        sg.verify(module(), IMAGE, sg.Brightness(-0.2, 0.2), time_limit=0.5, threads=1)
    assert slow[0] <= 1, "no more is begun"
    assert time.perf_counter() - began < 20.0


@pytest.mark.usefixtures("heavy")
@pytest.mark.parametrize("compiled", [pytest.param(True, marks=pytest.mark.slow), False])
def test_what_is_compiled_while_a_question_is_posed_counts_for_no_limit(compiled, monkeypatch):
    """Kernels are compiled once on a machine: the first question of a large network had no answer there."""
    own = originals.TorchOriginal.logits

    def logits(self, images):
        with numba_events.trigger_event("numba:compile") if compiled else nullcontext():
            time.sleep(4.0)
        return own(self, images)

    sg.verify(module(), IMAGE, sg.Brightness(-0.2, 0.2), threads=1)  # what is compiled, is compiled by now
    monkeypatch.setattr(originals.TorchOriginal, "logits", logits)
    ask = partial(sg.verify, module(), IMAGE, sg.Brightness(-0.2, 0.2), time_limit=3.0, threads=1)
    if compiled:
        assert ask().result.timing["load"] < 3.5
    else:
        with pytest.raises(sg.SettingError, match=r"time limit is 3 s"):
            ask()


def test_small_networks_are_posed_however_little_time_there_is():
    answer = sg.verify(module(), IMAGE, sg.Brightness(-0.2, 0.2), time_limit=1e-3, threads=1)
    assert answer.result.settings["stopped_by"] in ("time", None)
    assert Limits(1e-3).late(answer.problem.network.graph.effort, 5.0) is NEVER
    assert Limits(None).late(answer.problem.network.graph.effort, 5.0) is NEVER


@pytest.mark.usefixtures("heavy")
def test_the_pass_at_0_ends_in_time_and_nothing_is_claimed():
    problem = posed()
    clock = count(1)
    problem.distances_of_hinges(Deadline(ends=1e9, clock=clock.__next__))
    assert next(clock) > len(problem.graph.nodes) - 2
    for times in range(3):
        with pytest.raises(Expired):
            posed().distances_of_hinges(asked(times))


@pytest.mark.usefixtures("heavy")
@pytest.mark.parametrize("method", ["auto", "nearest", "bound", "sweep"])
def test_a_large_network_is_not_searched_when_posing_took_all_of_the_time(method):
    """A small one is, for half a second: there something may be found."""
    problem = posed()
    assert Limits(10.0).deadline(11.0, problem.graph.effort).left == 0.0
    assert Limits(10.0).deadline(11.0).left > 0.4
    answer = solve(problem, method=method, limits=Limits(10.0), loading=100.0, threads=1)
    assert str(answer.verdict) == "unknown"
    assert not answer.safe_scale
    assert answer.shares.robust == 0.0


@pytest.mark.usefixtures("heavy")
def test_where_the_time_is_over_before_the_pass_at_0_the_answer_says_so(monkeypatch):
    def over(*_: object) -> None:
        raise Expired("over")

    monkeypatch.setattr(Problem, "distances_of_hinges", over)
    answer = solve(posed(), method="auto", limits=Limits(30.0), threads=1)
    assert str(answer.verdict) == "unknown"
    assert not answer.safe_scale
    assert answer.shares.undecided == pytest.approx(1.0)
    assert "time limit" in answer.result.reason


def test_hinges_that_the_box_does_not_reach_are_left_out():
    problem = posed()
    near = problem.distances_of_hinges()
    assert len(near)
    assert (near <= 1.0).all()
    assert (np.diff(near) >= 0).all()
