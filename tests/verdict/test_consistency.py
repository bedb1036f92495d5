"""All that an answer tells agrees with itself, by whichever search and wherever a limit ended it.

No test here measures time: the clock is the number of times that it was asked.
"""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import steadygaze as sg
from random_problems import random_problem
from steadygaze.answer.result import Result, Verdict
from steadygaze.deadline import Deadline
from steadygaze.errors import SettingError
from steadygaze.geometry.kinds import UNDECIDED
from steadygaze.geometry.sections import gauge
from steadygaze.question.limits import Limits
from steadygaze.question.problem import Problem
from steadygaze.search.branch_and_bound import BranchAndBound
from steadygaze.verdict import driver
from steadygaze.verdict.answer import Answer
from steadygaze.verdict.driver import solve
from variants import INEXACT

METHODS = ("auto", "sweep", "bfs", "gbs", "nearest", "bound")
ASKS = (1, 4, 8, 16, 31, 57, 106, 239, 700)
# Rounding of a share, or of a multiple of the box.
SLACK = 1e-9


class Sine(nn.Module):
    """Sine activations, as networks that represent images have them (SIREN)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(3.0 * x)


def siren() -> Problem:
    """A network of sines, robust in all of a small box."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(16, 6), Sine(), nn.Linear(6, 6), Sine(), nn.Linear(6, 3)
    ).double()  # fmt: skip
    image = np.random.default_rng(0).random((1, 4, 4))
    return sg.verify(net.eval(), image, sg.Brightness(-0.02, 0.02), threads=1, regions_limit=1).problem


def stopped_after(problem: Problem, method: str, asks: int, monkeypatch: pytest.MonkeyPatch) -> Answer:
    """The answer where the time is over when the clock was asked so often; reading takes what it takes."""
    monkeypatch.setattr(Deadline, "after", lambda *_: Deadline(ends=asks, clock=count(1).__next__))
    monkeypatch.setattr(Limits, "allowance", 1e9)
    return solve(problem, method=method, limits=Limits(seconds=7.0), threads=1)


def check_consistent(answer: Answer) -> None:
    """Verdict, shares, safe scale, ranges, robust part, radius and witness do not contradict one another."""
    result, box = answer.result, answer.problem.box
    shares = np.array(result.shares.values())
    assert (shares >= 0).all()
    assert shares.sum() == pytest.approx(1, abs=SLACK)
    # Facets behind which nobody has looked, and slivers, have no volume that a share would show.
    open_ = bool((answer.map.kind == UNDECIDED).any()) or answer.map.ties is not None
    decided = result.shares.robust == 1 and result.shares.undecided == 0 and not open_
    assert (result.verdict == Verdict.ROBUST) == decided
    if decided:
        check_robust(result, box)
    check_robust_part(result, box, answer.map.inner)
    failing = shares[1] + shares[2] > 0
    assert (result.verdict == Verdict.VIOLATED) == (result.nearest_failure is not None)
    assert not failing or result.nearest_failure is not None or "in its own precision" in result.reason
    if result.nearest_failure is not None:
        check_failure(answer)
    known = answer.scales()
    for holds, fails in (
        (known.class_holds, known.class_fails),
        (known.attention_holds, known.attention_fails),
        (known.attention_holds, known.class_holds),
    ):
        assert holds is None or fails is None or holds <= fails


def check_robust(result: Result, box: np.ndarray) -> None:
    """What else a robust answer says."""
    assert result.safe_scale == 1
    assert result.nearest_failure is None
    assert result.origin is not None
    assert result.origin.ranges == tuple(map(tuple, box.tolist()))
    assert result.origin.share == 1
    assert result.settings["stopped"] is None
    corner = np.abs(box / np.ptp(box, axis=1, keepdims=True) * 2).max(axis=1)
    norms = {"linf": corner.max(), "l2": np.linalg.norm(corner)}
    assert result.radius is None or result.radius.value == pytest.approx(norms[result.radius.norm])


def check_robust_part(result: Result, box: np.ndarray, inner: bool) -> None:
    """The safe box lies in the safe ranges, and no share is less than its volume."""
    scale, origin = result.safe_scale, result.origin
    if not scale:
        return
    assert origin is not None
    for (low, high), (first, last) in zip(origin.ranges, (scale * box).tolist(), strict=True):
        assert low <= first
        assert high >= last
    least = scale ** len(box) - SLACK
    assert inner or result.shares.robust >= least
    if origin.share is not None:
        assert origin.share >= least
        assert result.claim != "whole box" or origin.share <= result.shares.robust + SLACK


def check_failure(answer: Answer) -> None:
    """The nearest failure replays, and lies in the box, but in nothing that is told to be robust."""
    result, box = answer.result, answer.problem.box
    failure, origin = result.nearest_failure, result.origin
    assert failure is not None
    theta = np.array(failure.theta)
    assert answer.at(failure.theta).kind == failure.kind != "robust"
    assert not result.safe_scale or gauge(theta[None], -box[:, 0], box[:, 1])[0] > result.safe_scale
    assert not result.radius or not result.radius.value or failure.distance > result.radius.value
    for axis, (low, high) in enumerate(origin.ranges if origin is not None else ()):
        assert low == high == 0 or np.delete(theta, axis).any() or not low <= theta[axis] <= high


@pytest.mark.parametrize("asks", ASKS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", [*(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 6)), 23])
def test_wherever_a_search_of_regions_ends(seed, method, asks, monkeypatch):
    problem = random_problem(seed, 1 + seed % 3).problem
    check_consistent(stopped_after(problem, method, asks, monkeypatch))


@pytest.mark.parametrize("asks", ASKS)
@pytest.mark.parametrize(
    "place", [0, 3, 8, -1], ids=lambda place: str(INEXACT[place]) if place >= 0 else "siren"
)
def test_wherever_bounds_end(place, asks, monkeypatch):
    problem = INEXACT[place].problem if place >= 0 else siren()
    check_consistent(stopped_after(problem, "auto", asks, monkeypatch))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 160))
def test_wherever_any_search_ends(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    try:
        problem = random_problem(seed, int(rng.integers(1, 4))).problem
    except SettingError as refusal:
        pytest.skip(str(refusal))
    for method in METHODS:
        for asks in np.exp(rng.uniform(0, 7, 5)).astype(int).tolist():
            check_consistent(stopped_after(problem, method, asks, monkeypatch))
            monkeypatch.undo()


@pytest.mark.parametrize("method", METHODS)
def test_a_limit_that_passes_in_the_last_step_takes_nothing_away(method, monkeypatch):
    """All was decided by then, whatever the search would still have asked."""
    problem = siren() if method in ("auto", "bound") else random_problem(1, 2).problem
    whole = solve(problem, method=method, threads=1)
    assert whole.verdict == Verdict.ROBUST
    exceeded = driver.Budget.exceeded
    monkeypatch.setattr(
        driver.Budget,
        "exceeded",
        lambda self, now: self.out_of_time if now.finished > 1 - 1e-12 else exceeded(self, now),
    )
    cut = solve(problem, method=method, limits=Limits(seconds=1e6), threads=1)
    check_consistent(cut)
    assert cut.result.reason == whole.result.reason
    assert cut.shares == whole.shares


def test_time_that_is_over_when_the_last_box_is_judged(monkeypatch):
    """As of a network of sines, whose only box took as long as the limit."""
    problem, settle, judged_boxes = siren(), BranchAndBound._settle, []

    def slow(self, boxes, judged):
        settle(self, boxes, judged)
        judged_boxes.append(boxes)

    monkeypatch.setattr(BranchAndBound, "_settle", slow)
    monkeypatch.setattr(Deadline, "passed", lambda self: self.ends < np.inf and bool(judged_boxes))
    answer = solve(problem, limits=Limits(seconds=1e6), threads=1)
    assert len(judged_boxes) == 1
    assert answer.verdict == Verdict.ROBUST
    assert answer.result.settings["stopped"] is None


def test_failing_points_are_told_after_a_first_box_was_given_up(monkeypatch):
    """And in the last box, too: whatever moment ends the search, what it knows to fail is known."""
    problem = random_problem(6, 2).problem
    kinds = [
        stopped_after(problem, "nearest", asks, monkeypatch).verdict == Verdict.VIOLATED
        for asks in range(1, 24)
    ]
    assert kinds == sorted(kinds)
    assert kinds[-1]
