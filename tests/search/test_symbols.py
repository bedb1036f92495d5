"""For how many units in doubt polynomials have room, and what a search learns of that."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from steadygaze.deadline import NEVER, Deadline
from steadygaze.geometry.kinds import ROBUST
from steadygaze.network.bounding.taylor.polynomial import FEW_DOUBTS
from steadygaze.network.integrated import IntegratedGradients
from steadygaze.network.reading.load import load_network
from steadygaze.network.saliency import Gradient, NoMap
from steadygaze.perturbation.notation import chain_of
from steadygaze.question.inconsistency import Cosine
from steadygaze.question.posing import pose
from steadygaze.search import symbols
from steadygaze.search.experience import Experience
from steadygaze.search.falsifying import Falsifier
from steadygaze.search.judged_boxes import judge_boxes
from steadygaze.search.symbols import room_for_doubts, seconds_of

IMAGE = np.random.default_rng(0).uniform(0.2, 0.8, (1, 8, 8))


class Gated(nn.Module):
    """Residual blocks of rectifiers, each of whose channels is weighed by its own means."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.stem, self.out = nn.Conv2d(1, 8, 3, padding=1), nn.Linear(8, 3)
        self.convs = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(16))
        self.gates = nn.ModuleList(nn.Linear(8, 8) for _ in range(16))

    def forward(self, x):
        x = torch.relu(self.stem(x))
        for conv, gate in zip(self.convs, self.gates, strict=True):
            y = torch.relu(conv(x))
            x = x + y * torch.sigmoid(gate(y.mean((2, 3))))[:, :, None, None]
        return self.out(x.mean((2, 3)))


@pytest.fixture(scope="module")
def network():
    return load_network(Gated().double().eval(), input_shape=(1, 8, 8))


def posed(network, saliency):
    line = chain_of("exposure(amount=-0.2..0.2) | brightness(amount=-0.1..0.1)")
    return pose(
        network, IMAGE, line, label=None, threshold=0.3, clip=(0.0, 1.0),
        saliency=saliency, inconsistency=Cosine(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def problem(network):
    return posed(network, NoMap())


def experienced(followed):
    known = Experience()
    known.followed = followed
    return known


def test_there_is_room_for_some_times_as_many_as_were_enough(problem):
    assert room_for_doubts(problem, 1, Experience(), NEVER) == 256
    assert room_for_doubts(problem, 1, experienced(30), NEVER) == 256
    assert room_for_doubts(problem, 1, experienced(200), NEVER) == 800


def test_but_no_more_than_there_is_time_and_memory_for(monkeypatch, problem):
    clock = [0.0]
    seconds = seconds_of(problem, 100)
    soon = Deadline(seconds, clock=lambda: clock[0])
    assert 32 <= room_for_doubts(problem, 1, experienced(200), soon) <= 100
    assert room_for_doubts(problem, 64, experienced(200), soon) == FEW_DOUBTS
    monkeypatch.setattr(symbols, "_DOUBTS_BYTES", 8 * 512 * 100)
    assert room_for_doubts(problem, 1, experienced(200), NEVER) == 100
    assert room_for_doubts(problem, 2, experienced(200), NEVER) == 50
    assert room_for_doubts(problem, 8, experienced(200), NEVER) == FEW_DOUBTS


def test_gradients_take_as_much_memory_again(monkeypatch, network):
    monkeypatch.setattr(symbols, "_DOUBTS_BYTES", 8 * 512 * 200)
    rooms = [room_for_doubts(posed(network, own), 1, Experience(), NEVER) for own in (NoMap(), Gradient())]
    assert rooms == [200, 100]


def test_seconds_go_with_rows_and_boxes(problem):
    assert seconds_of(problem, 20) < seconds_of(problem, 40)
    assert seconds_of(problem, 20, boxes=2) == pytest.approx(seconds_of(problem, 40))
    assert math.isinf(seconds_of(problem, 10**6))


def test_boxes_of_deep_gated_networks_are_decided_by_a_symbol_for_each_unit(monkeypatch, problem):
    box = 0.125 * problem.box[None]
    known = Experience()
    judged = judge_boxes(problem, box, 32, known)
    assert judged.kind.tolist() == [ROBUST]
    known.learn_few(np.ones(1), judged)  # a box nearly half as large as one that holds a failure
    assert FEW_DOUBTS < known.followed < 1000
    assert known.plain.followed == known.followed
    draws = np.random.default_rng(1).uniform(size=(300, 2))
    assert (problem.replay(box[0, :, 0] + draws * np.ptp(box[0], axis=1)).gap > 0).all()
    monkeypatch.setattr(symbols, "_DOUBTS", FEW_DOUBTS)
    assert judge_boxes(problem, box, 32, Experience()).kind.tolist() != [ROBUST]


def test_a_failing_corner_tells_that_no_larger_box_is_decided(problem):
    looked = Falsifier(problem)
    assert not looked.fails_within(3)
    assert looked.fails_within(2)
    assert looked.least_gauge <= 0.25
    assert looked.fails_within(0)


def test_corners_are_evaluated_where_that_takes_less_than_boxes_do(monkeypatch, problem):
    """Of a VGG-11 they took as long as four of 24 boxes, and its safe scale was smaller."""
    for follows, saliency in ((False, NoMap()), (True, IntegratedGradients())):
        with monkeypatch.context() as patched:
            patched.setitem(vars(problem), "follows_polynomials", follows)
            patched.setitem(vars(problem), "saliency", saliency)
            looked = Falsifier(problem)
            assert not looked.fails_within(0)
            assert not len(looked.found())
    known = Falsifier(problem)
    assert known.glance()
    with monkeypatch.context() as patched:
        patched.setitem(vars(problem), "follows_polynomials", False)
        assert known.fails_within(0)
