"""Boxes about 0 come first where one may take all the time: a range is known before any wide box is judged.

Small networks stand for large ones: an image is said to take much effort.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from steadygaze.deadline import Deadline, Expired
from steadygaze.geometry.kinds import ROBUST, UNDECIDED
from steadygaze.geometry.measure import centres
from steadygaze.question.limits import Limits
from steadygaze.search import branch_and_bound, dividing
from steadygaze.search.base import Options
from steadygaze.search.boxes import shares_of
from steadygaze.search.branch_and_bound import BranchAndBound
from steadygaze.search.falsifying import Falsifier
from steadygaze.search.judged_boxes import judge_boxes
from steadygaze.search.reaching_out import ReachingOut
from steadygaze.verdict.driver import solve
from variants import Variant

#: One-sided, over a grid that bends at 0, of two amounts, and with hinges of blank pixels that meet at 0.
ASKED = [
    ("mlp", "blurred"),
    ("max pool", "zoom, brighter"),
    ("residual", "gamma"),
    ("rectified pixels", "turn"),
]


@pytest.fixture
def slow(monkeypatch):
    for module in (branch_and_bound, dividing):
        monkeypatch.setattr(module, "SLOW", 0)


@pytest.mark.parametrize("largest", [-1, 0, 1, 3, 7, 8, 16, 20, 24])
def test_the_largest_box_that_is_decided_is_found(largest):
    """Where boxes are decided from so many halvings on; -1 for none."""
    reaching, asked = ReachingOut(16, 24), []
    while (halvings := reaching.halvings) is not None:
        asked.append(halvings)
        reaching.learn(halvings >= largest >= 0)
    assert reaching.decided == (largest if largest >= 0 else None)
    assert max(asked) <= 24
    assert len(asked) == len(set(asked)) <= 8


@pytest.mark.parametrize(("net", "chain"), ASKED)
@pytest.mark.usefixtures("slow")
def test_a_range_is_known_of_the_first_boxes(net, chain):
    problem, before = Variant(net, chain).problem, 0.0
    for boxes in (4, 12, 40):
        answer = solve(problem, method="bound", limits=Limits(regions=boxes), threads=1)
        assert answer.safe_scale is not None
        assert answer.safe_scale >= before
        before = answer.safe_scale
        draws = np.random.default_rng(1).random((100, len(problem.box)))
        inside = problem.box[:, 0] + draws * np.ptp(problem.box, axis=1)
        corners = np.concatenate([inside, problem.box.T])
        assert (problem.at(answer.safe_scale * (1 - 1e-9) * corners).kind == ROBUST).all()
    assert before > 0 or answer.result.nearest_failure is not None


@pytest.mark.parametrize(("net", "chain"), ASKED)
@pytest.mark.usefixtures("slow")
def test_boxes_about_zero_are_decided_where_images_bend_there_too(net, chain):
    search = BranchAndBound(Variant(net, chain).problem, Options(threads=1))
    while search._reaching_out is not None and search._reaching_out.halvings is not None:
        search.step()
    assert search._reaching_out is not None
    assert search._reaching_out.decided is not None


@pytest.mark.parametrize(("few", "told"), [(64, True), (0, False)])
def test_they_come_first_when_half_of_the_time_went_to_a_few_boxes_in_vain(monkeypatch, few, told):
    """Of networks that are not slow, too, where no box is decided that is not small."""
    problem, judged = Variant("max pool", "zoom, brighter").problem, []

    def judge(problem, boxes, *rest):
        judged.extend(boxes)
        wide = (shares_of(boxes, problem.box) > 2.0**-14).any(axis=1)
        found = judge_boxes(problem, boxes, *rest)
        return replace(found, kind=np.where(wide, UNDECIDED, found.kind))

    for name, value in {"judge_boxes": judge, "_BATCH_BYTES": 1, "_FEW": few}.items():
        monkeypatch.setattr(branch_and_bound, name, value)
    deadline = Deadline(ends=60.0, clock=lambda: float(len(judged)))
    search = BranchAndBound(problem, Options(threads=1, deadline=deadline))
    with suppress(Expired):
        while True:
            search.step()
    map_ = search.found()
    assert sum(map_.volume) == pytest.approx(problem.volume)
    robust = map_.cells.take(np.flatnonzero(map_.kind == ROBUST))[0]
    assert (robust.count > 0) == told
    if told:
        assert (robust.theta.min(axis=0) <= problem.box[:, 0] / 2**16).all()
        assert (robust.theta.max(axis=0) >= problem.box[:, 1] / 2**16).all()


@pytest.mark.parametrize(("net", "chain"), ASKED)
@pytest.mark.usefixtures("slow")
def test_boxes_cover_the_whole_whatever_was_decided(net, chain):
    problem, steps = Variant(net, chain).problem, 0
    search = BranchAndBound(problem, Options(threads=1))
    while search.pending() and steps < 12:
        search.step()
        steps += 1
        found = search.found()
        assert found.volume.sum() == pytest.approx(problem.volume)
        middles = centres(found.cells)[found.kind == ROBUST]
        assert (problem.at(middles).kind == ROBUST).all()
    assert steps > 2


@pytest.mark.parametrize("net", ["mlp", "gelu"])
@pytest.mark.usefixtures("slow")
def test_failing_points_are_still_looked_for(monkeypatch, net):
    """Once, after the boxes about 0 and before any other."""
    looked, own = list[int](), Falsifier.search
    monkeypatch.setattr(Falsifier, "search", lambda it: (looked.append(1), own(it))[1])
    search = BranchAndBound(Variant(net, "turn", threshold=0.001).problem, Options(threads=1))
    while search._reaching_out is not None and search._reaching_out.halvings is not None:
        search.step()
    assert not looked
    for _ in range(3):
        search.step()
    assert looked == [1]
