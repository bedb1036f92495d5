"""Boxes across a diagonal of the shifts are judged on each side, of networks that multiply errors."""

from __future__ import annotations

import numpy as np
import pytest

from smooth_networks import made
from steadygaze.geometry.kinds import CLASS_CHANGED, ROBUST, UNDECIDED
from steadygaze.network.graph import Graph
from steadygaze.network.reading.load import load_network
from steadygaze.network.saliency import Gradient
from steadygaze.perturbation.notation import chain_of
from steadygaze.question.inconsistency import Cosine
from steadygaze.question.limits import Limits
from steadygaze.question.posing import pose
from steadygaze.search import sides
from steadygaze.search.boxes import parted_at_zero
from steadygaze.search.experience import Experience
from steadygaze.search.judged_boxes import judge_boxes
from steadygaze.search.sides import Sides
from steadygaze.verdict.driver import solve

IMAGE = np.random.default_rng(0).uniform(0.2, 0.8, (1, 6, 6))
MOVED = "translate(dx=-1..1, dy=-1..1)"
NAMES = ("attention", "squeeze and excitation", "group and instance norm")


@pytest.fixture(autouse=True)
def _multiplying(monkeypatch):
    monkeypatch.setattr(sides, "GROWTH", 0.0)


def posed(name, chain=MOVED):
    return pose(
        load_network(made(name), input_shape=IMAGE.shape), IMAGE, chain_of(chain), label=None, threshold=0.3,
        clip=(0.0, 1.0), saliency=Gradient(), inconsistency=Cosine(),
    )  # fmt: skip


def judged(problem, boxes, room=32):
    return Sides(problem).judged(boxes, lambda own, some: judge_boxes(own, some, room, Experience()))


def parts_of(problem, share):
    """The parts of a box about 0, in one cell of the shifts each."""
    return parted_at_zero(share * problem.box, np.array(problem.perturbation.bends))


@pytest.mark.parametrize("chain", [MOVED, "brightness(amount=-0.1..0.1) | " + MOVED])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_decided_holds_at_points(name, chain):
    problem, rng = posed(name, chain), np.random.default_rng(2)
    decided = 0
    for share in (1.0, 0.3, 0.1, 0.01):
        boxes = parts_of(problem, share)
        kind = judged(problem, boxes).kind
        decided += int((kind != UNDECIDED).sum())
        for box, own in zip(boxes, kind, strict=True):
            if own != UNDECIDED:
                thetas = box[:, 0] + rng.random((60, len(box))) * np.ptp(box, axis=1)
                corners = np.where(rng.random((30, len(box))) < 0.5, *box.T)
                assert (problem.at(np.concatenate([thetas, corners])).kind == own).all()
    assert decided


@pytest.mark.parametrize("name", NAMES)
def test_gaps_hold_on_their_side(name):
    problem, rng = posed(name), np.random.default_rng(2)
    boxes = parts_of(problem, 0.25)
    boxes = boxes[Sides(problem).across(boxes)]
    for above, own in zip((False, True), Sides(problem).problems, strict=True):
        low, high = own.bounds(boxes, 32).gaps(problem.label)
        for _ in range(40):
            thetas = boxes[..., 0] + rng.random(boxes.shape[:2]) * np.ptp(boxes, axis=2)
            shares = np.sort(thetas - np.floor(boxes.mean(axis=2)), axis=1)
            shares = shares if above else shares[:, ::-1]
            gaps = problem.gaps(
                problem.network.graph.forward(problem.images(np.floor(boxes.mean(axis=2)) + shares))
            )
            assert (gaps >= low - 1e-12).all()
            assert (gaps <= high + 1e-12).all()


def test_boxes_are_decided_that_are_not_as_a_whole():
    problem = posed("attention")
    boxes = parts_of(problem, 1.0)
    alone = judge_boxes(problem, boxes, 32, Experience()).kind
    both = judged(problem, boxes).kind
    assert (alone[both == UNDECIDED] == UNDECIDED).all()
    narrow = [
        (own.bounds(boxes[3:], 32).enclosed_gaps(problem.label).error.max())
        for own in Sides(problem).problems
    ]
    assert max(narrow) < problem.bounds(boxes[3:], 32).enclosed_gaps(problem.label).error.max()


@pytest.mark.parametrize("kinds", [(ROBUST, UNDECIDED), (UNDECIDED, ROBUST), (ROBUST, CLASS_CHANGED)])
def test_a_box_is_what_it_is_on_both_sides_or_open(kinds, monkeypatch):
    problem = posed("attention")
    both, boxes = Sides(problem), parts_of(problem, 0.01)
    asked = []

    def judge(own, some):
        found = judge_boxes(problem, some, 32)
        side = both.problems.index(own) if own in both.problems else None
        asked.append((side, len(some)))
        found.kind[:] = ROBUST if side is None else kinds[side]
        return found

    kind = both.judged(boxes, judge).kind
    across = both.across(boxes)
    assert across.sum() == 2
    assert (kind[~across] == ROBUST).all()
    assert (kind[across] == UNDECIDED).all()
    # What is open on one side is not looked at on the other.
    assert asked == ([(None, 2), (0, 2)] if kinds[0] == UNDECIDED else [(None, 2), (0, 2), (1, 2)])


def test_both_sides_know_what_the_network_is():
    problem = posed("attention")
    for own in Sides(problem).problems:
        for name in ("known", "bounded", "gap_tolerance", "map0", "target"):
            assert getattr(own, name) is getattr(problem, name)


def test_others_are_judged_as_they_are(monkeypatch):
    problem = posed("attention", "translate(dx=-1..1, dy=-1..1, interpolation=bilinear)")
    assert Sides(problem).problems == (problem,)
    assert not Sides(problem).across(problem.box[None]).any()
    problem = posed("attention")
    monkeypatch.setattr(Graph, "growth", sides.GROWTH - 1.0)
    assert Sides(problem).problems == (problem,)
    assert not Sides(problem).across(parts_of(problem, 0.1)).any()


@pytest.mark.parametrize("name", NAMES[:2])
def test_a_search_is_right_about_its_safe_scale(name):
    problem = posed(name, "brightness(amount=-0.05..0.05) | " + MOVED)
    answer = solve(problem, method="bound", limits=Limits(regions=40), threads=1)
    reached, rng = answer.safe_scale or 0.0, np.random.default_rng(1)
    thetas = reached * (1 - 1e-9) * (problem.box[:, 0] + rng.random((200, 3)) * np.ptp(problem.box, axis=1))
    assert (problem.at(thetas).kind == ROBUST).all()
