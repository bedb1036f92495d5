"""The search for failing points: it finds planted failures, and keeps the nearest that really fail."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from steadygaze import Direction, Verdict, verify
from steadygaze.deadline import Deadline, Expired
from steadygaze.geometry.kinds import ATTENTION_CHANGED, CLASS_CHANGED, ROBUST
from steadygaze.geometry.sections import gauge
from steadygaze.question.problem import Points, Problem
from steadygaze.search import falsifying
from steadygaze.search.base import Options
from steadygaze.search.branch_and_bound import BranchAndBound
from steadygaze.search.falsifying import Falsifier
from variants import CHAINS, EVERY, Variant

LINE, PLANE, FOUR = (Variant("mlp", chain, clip=None) for chain in ("brightness", "spot", "four"))


def planted(monkeypatch, variant, class_gap, drift=lambda thetas: np.zeros(len(thetas))):
    """A problem whose gaps and inconsistencies at points are these functions of theta."""
    problem = replace(variant).problem

    def at(self, thetas):
        gap, inconsistency = class_gap(thetas), drift(thetas)
        attention = np.where(inconsistency > self.threshold, ATTENTION_CHANGED, ROBUST)
        kind = np.where(gap <= 0, CLASS_CHANGED, attention)
        maps = self.target.expand(len(thetas), -1)
        return Points(np.zeros(len(thetas), int), gap, inconsistency, kind, maps)

    monkeypatch.setattr(Problem, "at", at)
    return problem


def scaled(problem, thetas):
    """Theta with the middle of the box at 0 and its faces at -1 and 1."""
    return (thetas - problem.box.mean(axis=1)) / (np.ptp(problem.box, axis=1) / 2)


@pytest.mark.parametrize("variant", [LINE, PLANE, FOUR], ids=str)
def test_nothing_is_found_where_nothing_fails(monkeypatch, variant):
    falsifier = Falsifier(planted(monkeypatch, variant, lambda thetas: np.ones(len(thetas))))
    falsifier.search()
    assert falsifier.found().shape == (0, len(variant.problem.box))
    assert falsifier.least_gauge == np.inf


@pytest.mark.parametrize("attention", [False, True], ids=["class", "attention"])
@pytest.mark.parametrize("variant", [LINE, PLANE, FOUR], ids=str)
def test_a_small_failure_at_the_foot_of_a_slope_is_found(monkeypatch, variant, attention):
    """A ball far too small to be drawn, with a slope around it that leads there."""
    whole = variant.problem
    at = np.linspace(0.3, 0.55, len(whole.box))

    def depth(thetas):
        return np.linalg.norm(scaled(whole, thetas) - at, axis=1) - 0.02

    if attention:
        problem = planted(
            monkeypatch, variant, lambda t: np.ones(len(t)), lambda t: whole.threshold - 0.1 * depth(t)
        )
    else:
        problem = planted(monkeypatch, variant, depth)
    falsifier = Falsifier(problem)
    falsifier.search()
    assert len(falsifier.found())
    assert (depth(falsifier.found()) <= 0).all()


def test_a_failing_corner_is_found_once(monkeypatch):
    problem = planted(
        monkeypatch,
        FOUR,
        lambda t: np.where((scaled(FOUR.problem, t) == [1, -1, 1, -1]).all(axis=1), -1.0, 1.0),
    )
    falsifier = Falsifier(problem)
    falsifier.search()
    assert falsifier.found().tolist() == [[problem.box[i, (1, 0, 1, 0)[i]] for i in range(4)]]


def test_the_nearest_failures_are_kept_in_order(monkeypatch):
    """And from a failure far out the way back to 0 is looked at."""
    problem = planted(monkeypatch, PLANE, lambda t: 0.11 - np.abs(t / problem_box(PLANE)[:, 1]).max(axis=1))
    falsifier = Falsifier(problem)
    falsifier.search()
    found = falsifier.found()
    gauge = np.abs(found / problem.box[:, 1]).max(axis=1)
    assert (np.diff(gauge) >= 0).all()
    assert len(found) == 32
    assert 0.11 <= falsifier.least_gauge == pytest.approx(gauge[0])
    assert gauge[0] < 0.2
    falsifier.try_at(np.array([[0.11001, 0.11001]]) * problem.box[:, 1])
    assert falsifier.least_gauge == pytest.approx(0.11001)
    assert len(falsifier.found()) == 32


def problem_box(variant):
    return variant.problem.box


def test_failures_are_sought_a_little_nearer_wherever_they_are(monkeypatch):
    """Here not on the way to 0 from the one that is known."""
    box = problem_box(FOUR)

    def class_gap(thetas):
        aside = (thetas[:, 0] > 0.4 * box[0, 1]) & (thetas[:, 1] < 0.1 * box[1, 1])
        return np.where(aside, 0.5, 0.9) - gauge(thetas, -box[:, 0], box[:, 1])

    falsifier = Falsifier(planted(monkeypatch, FOUR, class_gap))
    falsifier.try_at(0.95 * box[:, 1][None])
    falsifier._approach()
    assert falsifier.least_gauge >= 0.9
    falsifier._draw_nearer(np.random.default_rng(5))
    assert 0.5 <= falsifier.least_gauge < 0.7


def test_points_that_hold_are_not_kept(monkeypatch):
    falsifier = Falsifier(planted(monkeypatch, PLANE, lambda thetas: thetas[:, 0]))
    gaps = falsifier.try_at(np.array([[0.1, 0.5], [-0.1, 0.5], [0.2, 0.1]]))
    assert gaps.tolist() == [0.1, -0.1, 0.2]
    assert falsifier.found().tolist() == [[-0.1, 0.5]]
    assert not len(falsifier.try_at(np.zeros((0, 2))))


@pytest.mark.parametrize("variant", [*EVERY[::3], Variant("mlp", "turn"), Variant("gelu", "turn")], ids=str)
def test_found_points_fail_in_the_module(variant):
    falsifier = Falsifier(variant.problem)
    falsifier.search()
    found, box = falsifier.found(), variant.perturbation.box
    failing = variant.sampled(variant.draw(300)).kind != ROBUST
    if failing.mean() > 0.02:
        assert len(found)
    if not len(found):
        return
    assert ((found >= box[:, 0]) & (found <= box[:, 1])).all()
    plain = variant.sampled(found)
    close = (np.abs(plain.gap) < 1e-9) | (np.abs(plain.inconsistency - variant.threshold) < 1e-9)
    assert ((plain.kind != ROBUST) | close).all()


def test_a_violation_is_known_after_one_step():
    """Long before bounds prove one."""
    search = BranchAndBound(Variant("mlp", "three", clip=None).problem, Options(handover=False))
    try:
        search.step()
        assert len(search.found().failing)
        assert search.standing().counts["boxes_failing"] == 0
    finally:
        search.close()
    assert "three" in CHAINS


def counted(monkeypatch, variant, class_gap, drift=lambda thetas: np.zeros(len(thetas))):
    """As `planted`, and a list of how many points each evaluation takes."""
    problem, sizes = planted(monkeypatch, variant, class_gap, drift), []
    evaluate = Problem.at

    def at(self, thetas):
        sizes.append(len(thetas))
        return evaluate(self, thetas)

    monkeypatch.setattr(Problem, "at", at)
    return problem, sizes


@pytest.mark.parametrize("variant", [LINE, PLANE, FOUR], ids=str)
def test_a_search_takes_a_bounded_number_of_points(monkeypatch, variant):
    """On slopes without a foot, where each step leads on; and where failures lie all along the way back."""
    whole = variant.problem
    problem, sizes = counted(
        monkeypatch,
        variant,
        lambda t: 9 + scaled(whole, t).sum(axis=1),
        lambda t: 0.01 * np.sin(40 * t).sum(axis=1),
    )
    Falsifier(problem).search()
    assert sum(sizes) <= falsifying._MOST
    failing, sizes = counted(monkeypatch, variant, lambda t: np.full(len(t), -1.0))
    Falsifier(failing).search()
    assert sum(sizes) <= falsifying._MOST


def test_where_steps_are_dear_both_aims_get_their_share(monkeypatch):
    monkeypatch.setattr(falsifying, "_MOST", 400)
    followed = []
    downhill = Falsifier._downhill

    def noted(self, start, which, most):
        before = self._taken
        downhill(self, start, which, most)
        followed.append(self._taken - before)

    monkeypatch.setattr(Falsifier, "_downhill", noted)
    whole = FOUR.problem
    problem = planted(
        monkeypatch,
        FOUR,
        lambda t: 9 + scaled(whole, t).sum(axis=1),
        lambda t: -1 + 0.1 * scaled(whole, t)[:, 0],
    )
    Falsifier(problem).search()
    assert len(followed) == 2
    assert min(followed) > 100
    assert sum(followed) <= 400 - 128 - 16, (
        "and no more than what is left of the points drawn and the corners"
    )


def test_nothing_leads_downhill_on_level_ground(monkeypatch):
    problem, sizes = counted(monkeypatch, PLANE, lambda t: np.ones(len(t)))
    Falsifier(problem).search()
    assert len(sizes) == 1, "the points drawn, and no step from them"


def test_a_search_takes_a_share_of_the_time(monkeypatch):
    """And what it found by then stands; where the run itself is over it says so."""
    now = [0.0]
    whole = PLANE.problem
    problem = planted(monkeypatch, PLANE, lambda t: 9 + scaled(whole, t).sum(axis=1))
    evaluate = Problem.at

    def slow(self, thetas):
        now[0] += 4.0
        return evaluate(self, thetas)

    monkeypatch.setattr(Problem, "at", slow)
    small, large = problem.graph.effort, int(falsifying._RATE)
    for effort, over in ((large, 12.0), (small, 52.0)):
        now[0], vars(problem.graph)["effort"] = 0.0, effort
        Falsifier(problem, Deadline(ends=100.0, clock=lambda: now[0])).search()
        assert now[0] == over, "10 s of 100, or of a small network half, and the evaluation that was begun"
    now[0] = 12.0
    with pytest.raises(Expired):
        Falsifier(problem, Deadline(ends=11.0, clock=lambda: now[0])).search()


def test_a_glance_takes_few_points_and_sees_a_failing_corner(monkeypatch):
    whole = FOUR.problem
    holds, sizes = counted(monkeypatch, FOUR, lambda t: np.ones(len(t)))
    assert not Falsifier(holds).glance()
    assert sum(sizes) <= 8
    fails = planted(monkeypatch, FOUR, lambda t: scaled(whole, t)[:, 0] + 0.9)
    falsifier = Falsifier(fails)
    assert falsifier.glance()
    assert len(falsifier.found())


def corner_at_a_breakpoint():
    """A box whose lower end is at the breakpoint of a unit that is active everywhere else in it."""
    network = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(2, 1), torch.nn.ReLU(), torch.nn.Linear(1, 2)
    ).double()
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[1.0, 0.0]]))
        network[1].bias.fill_(-0.25)
        network[3].weight.copy_(torch.tensor([[1.0], [0.0]]))
        network[3].bias.copy_(torch.tensor([0.5, 0.0]))
    changed = Direction(-0.25, 0.5, array=np.array([[[1.0, 0.0]]]))
    return network, np.full((1, 1, 2), 0.5), changed


@pytest.mark.parametrize("method", ["sweep", "nearest", "bound", "auto"])
def test_a_rule_at_a_breakpoint_is_no_failure(method):
    """At the corner itself the gradient is 0 by a rule; beside it the map does not move."""
    answer = verify(*corner_at_a_breakpoint(), method=method, threads=1, threshold=0.3, clip=None)
    assert answer.at([-0.25]).kind == "attention-changed"
    assert (answer.verdict, answer.result.nearest_failure) == (Verdict.ROBUST, None)
    assert answer.safe_scale == 1


def test_ties_and_thresholds_just_kept_are_no_failures(monkeypatch):
    """Rounding puts a gap that is 0 everywhere on either side, and an inconsistency that is just allowed."""
    noise = np.random.default_rng(1).normal

    def gap(thetas):
        return 1e-15 * noise(size=len(thetas))

    tied = Falsifier(planted(monkeypatch, PLANE, gap))
    tied.search()
    assert not len(tied.found())

    def drift(thetas):
        return PLANE.problem.threshold + 1e-15 * noise(size=len(thetas))

    kept = Falsifier(planted(monkeypatch, PLANE, lambda thetas: np.ones(len(thetas)), drift))
    kept.search()
    assert not len(kept.found())
