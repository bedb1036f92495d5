"""Needles: networks whose one failing spot is known by construction, and too small for samples to meet.

The spot is a box of chosen place and size in the space of the parameters. Its depth is a hat over it, made of
two layers of rectifiers: h = max(0, 1 - |theta - place|_1 / size). Subtracted from a logit with enough weight
it changes the class within the spot (a class needle). Added to both logits of the class and its rival it
changes no gap, and turns the gradient of the class's logit by a right angle wherever it is not 0 (an
attention needle). No engine may call robust what holds it.
"""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from steadygaze.answer.result import Verdict
from steadygaze.geometry.kinds import ATTENTION_CHANGED, CLASS_CHANGED
from steadygaze.network.reading.load import load_network
from steadygaze.network.saliency import Gradient
from steadygaze.perturbation import Chain, Direction
from steadygaze.question.inconsistency import Cosine
from steadygaze.question.limits import Limits
from steadygaze.question.posing import pose
from steadygaze.question.problem import Problem
from steadygaze.search.base import Options
from steadygaze.verdict.answer import Answer
from steadygaze.verdict.driver import solve

MIDDLE = 0.5
METHODS = ("sweep", "bfs", "gbs", "nearest", "bound", "auto")
KINDS = {"class": CLASS_CHANGED, "attention": ATTENTION_CHANGED}
SIZES = (1e-1, pytest.param(1e-3, marks=pytest.mark.slow), 1e-6)
PLACE = (0.377, -0.413, 0.291, 0.322)


class Needle(nn.Module):
    """Logits of two classes over one pixel for each parameter, and a pixel that nothing moves."""

    def __init__(self, kind: str, place: np.ndarray, size: float) -> None:
        super().__init__()
        n = len(place)
        self.edges = nn.Linear(n + 1, 2 * n, dtype=torch.float64)
        self.hat = nn.Linear(2 * n, 1, dtype=torch.float64)
        self.spread = nn.Linear(1, 2, bias=False, dtype=torch.float64)
        self.tilt = nn.Linear(n + 1, 2, dtype=torch.float64)
        with torch.no_grad():
            self.edges.weight.zero_()
            for axis, sign in itertools.product(range(n), (0, 1)):
                self.edges.weight[2 * axis + sign, axis] = 1.0 - 2.0 * sign
                self.edges.bias[2 * axis + sign] = (2.0 * sign - 1.0) * (place[axis] + MIDDLE)
            self.hat.weight[:], self.hat.bias[:] = -1.0 / size, 1.0
            self.spread.weight[:, 0] = torch.tensor([-4.0, 0.0] if kind == "class" else [1.0, 1.0])
            # The class's own slope is along the pixel that nothing moves, at a right angle to that of the
            # hat.
            self.tilt.weight.zero_()
            self.tilt.weight[0, n], self.tilt.bias[:] = 1.0, torch.tensor([0.5, 0.0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)
        return self.tilt(x) + self.spread(torch.relu(self.hat(torch.relu(self.edges(x)))))


@cache
def needle(kind: str, n: int, size: float) -> tuple[Problem, np.ndarray]:
    """The problem, and the middle of its failing spot, of the given size in half-widths of the box."""
    place = np.array(PLACE[:n])
    chain = Chain(*(Direction(-1, 1, array=np.eye(n + 1)[axis].reshape(1, 1, n + 1)) for axis in range(n)))
    problem = pose(
        load_network(Needle(kind, place, size), input_shape=(1, 1, n + 1)),
        np.full((1, 1, n + 1), MIDDLE),
        chain,
        label=None,
        saliency=Gradient(),
        inconsistency=Cosine(),
        threshold=2.0 if kind == "class" else 0.3,
        clip=None,
    )
    return problem, place


def assert_not_missed(answer: Answer, kind: str, place: np.ndarray, size: float, exact: bool) -> None:
    """The spot is found, or left undecided; and nothing that reaches it is called safe."""
    assert answer.verdict != Verdict.ROBUST
    nearest = np.abs(place).max() - size
    assert answer.safe_scale is None or answer.safe_scale <= nearest + 2 * size
    if answer.result.radius is not None:
        assert answer.result.radius.value <= nearest + 2 * size
    if exact:
        assert answer.verdict == Verdict.VIOLATED
        failure = answer.result.nearest_failure
        assert failure.kind == f"{kind}-changed"
        assert np.abs(np.array(failure.theta) - place).sum() <= size
        assert failure.margin > 0
        own = np.abs(failure.theta).max()
        assert failure.theta_distance == pytest.approx(own, rel=1e-12)
        assert own >= failure.distance * (1 - 1e-9)


def asked(problem: Problem, method: str) -> Answer:
    # The walk round the robust part does not see what is inside of it, which is another claim: it is told to
    # look.
    options = Options(examine=method == "gbs")
    return solve(problem, method=method, options=options, limits=Limits(seconds=20), threads=1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_no_engine_misses_a_needle(method, kind, n, size):
    problem, place = needle(kind, n, size)
    assert problem.at(place[None] + size / 3).kind[0] == KINDS[kind]
    answer = asked(problem, method)
    assert_not_missed(answer, kind, place, size, exact=method != "bound")


@pytest.mark.parametrize("size", [1e-1, 1e-6])
@pytest.mark.parametrize("n", [3, 4])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["sweep", "bound", "nearest", "bfs"])
def test_nor_in_more_parameters(method, kind, n, size):
    problem, place = needle(kind, n, size)
    assert_not_missed(asked(problem, method), kind, place, size, exact=method != "bound")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("size", [1e-2, 1e-6])
def test_bounds_alone_do_not_prove_it_away(kind, n, size):
    problem, place = needle(kind, n, size)
    options = Options(handover=False, undecided=0.1)
    answer = solve(problem, method="bound", options=options, limits=Limits(seconds=2), threads=1)
    assert_not_missed(answer, kind, place, size, exact=False)


def test_samples_do_not_meet_the_smallest():
    problem, _ = needle("class", 2, 1e-6)
    draws = np.random.default_rng(0).uniform(-1, 1, (20_000, 2))
    assert (problem.at(draws).kind == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_gbs_says_that_it_did_not_look_inside(kind):
    problem, _ = needle(kind, 2, 1e-3)
    answer = solve(problem, method="gbs", threads=1)
    assert answer.verdict != Verdict.ROBUST
    assert answer.safe_scale is None
