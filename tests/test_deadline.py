"""A deadline that passes anywhere, in searching or in reading, ends in an honest answer; and the loops ask.

No test here measures time: the clock is the number of times that it was asked.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import numpy as np
import pytest
import torch

import steadygaze as sg
from steadygaze.answer.result import Verdict
from steadygaze.deadline import NEVER, Deadline, Expired
from steadygaze.geometry.cells import concatenate, from_polytopes
from steadygaze.geometry.clipping import clip
from steadygaze.geometry.cutting import cut
from steadygaze.geometry.kinds import ROBUST
from steadygaze.geometry.measure import cone_volumes, facets, volumes
from steadygaze.geometry.polytope import box as box_of
from steadygaze.network.bounding.tightening import Effort
from steadygaze.question.images import load_image
from steadygaze.question.limits import Limits
from steadygaze.search.base import Options
from steadygaze.verdict.budget import Budget
from steadygaze.verdict.engines import search_by_name
from steadygaze.verdict.reading import located, safe_scale

METHODS = ("auto", "sweep", "bfs", "gbs", "nearest", "bound")
ASKS = (0, 1, 3, 10, 30, 100, 300)


def asked(times: float) -> Deadline:
    """A deadline that passes when it has been asked so many times."""
    return Deadline(ends=times, clock=count(1).__next__)


@pytest.fixture(scope="module")
def failing():
    """A problem that fails in a part of its box, and one in many parameters."""
    image = load_image("digits:202").image
    box = sg.Brightness(-0.3, 0.3) | sg.Patch(0, 1, top=3, left=3, size=2)
    return sg.verify("digits-mlp", image, box, threads=1).problem


@pytest.fixture(scope="module")
def moving():
    """A problem whose maps move, so that boundaries are curved."""
    image = load_image("digits:202").image
    box = sg.Translate(dx=(-1, 1), dy=(-1, 1))
    return sg.verify("digits-cnn", image, box, threads=1, regions_limit=1).problem


@pytest.fixture(scope="module")
def wide():
    """A problem of eight parameters, for which regions are kept as half-spaces."""
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    net = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(9, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3)
    )
    box = [sg.Direction(-0.3, 0.3, array=rng.normal(0, 1, (1, 3, 3))) for _ in range(8)]
    chain = box[0]
    for link in box[1:]:
        chain = chain | link
    image = np.full((1, 3, 3), 0.5)
    return sg.verify(net, image, chain, clip=None, threads=1, method="nearest", regions_limit=1).problem


def judged(problem, method, times, monkeypatch):
    """The answer of a run whose time is over when it has been asked so many times."""
    monkeypatch.setattr(Deadline, "after", lambda *_: asked(times))
    return sg.solve(problem, method=method, limits=Limits(seconds=7.0), threads=1)


def check_honest(answer, times):
    """What is claimed holds by plain evaluation."""
    problem, shares, map_ = answer.problem, answer.shares, answer.map
    assert sum(shares.values()) == pytest.approx(1, abs=1e-9)
    draws = np.random.default_rng(times).random((40, len(problem.box)))
    thetas = problem.box[:, 0] + draws * np.ptp(problem.box, axis=1)
    kinds = problem.at(thetas).kind
    for theta_kind, cells in zip(kinds, located(map_, thetas, problem.tolerance), strict=True):
        assert not len(cells) or theta_kind in map_.kind[cells] or (map_.kind[cells] > 2).any()
    if answer.safe_scale:
        assert (problem.at(answer.safe_scale * (1 - 1e-6) * thetas).kind == ROBUST).all()
    radius, half = answer.result.radius, np.ptp(problem.box, axis=1) / 2
    if radius is not None and radius.value:
        inside = np.clip((2 * draws - 1) * half * radius.value * (1 - 1e-6), *problem.box.T)
        assert (problem.at(inside).kind == ROBUST).all()
    failure = answer.result.nearest_failure
    assert (answer.verdict == Verdict.VIOLATED) == (failure is not None)
    assert failure is None or answer.at(failure.theta).kind == failure.kind != "robust"
    assert answer.verdict != Verdict.ROBUST


@pytest.mark.parametrize("times", ASKS)
@pytest.mark.parametrize("method", METHODS)
def test_a_deadline_anywhere_ends_in_an_honest_answer(failing, method, times, monkeypatch):
    answer = judged(failing, method, times, monkeypatch)
    check_honest(answer, times)
    if times < 5:
        assert answer.result.settings["stopped"] == "the time limit of 7 s", "the limit that was given"
        assert answer.result.settings["stopped_by"] == "time"


@pytest.mark.parametrize("times", [1, 20, 100])
@pytest.mark.parametrize("method", ["sweep", "gbs", "bound"])
def test_where_maps_move(moving, method, times, monkeypatch):
    check_honest(judged(moving, method, times, monkeypatch), times)


@pytest.mark.parametrize("times", [1, 4, 8, 16, 40])
@pytest.mark.parametrize("method", ["nearest", "bfs", "bound"])
def test_with_many_parameters(wide, method, times, monkeypatch):
    check_honest(judged(wide, method, times, monkeypatch), times)


def test_what_was_not_read_is_said(failing, monkeypatch):
    answer = judged(failing, "sweep", 0, monkeypatch)
    assert "the time limit of 7 s left no time to read" in answer.result.reason
    assert answer.result.origin is None
    assert answer.safe_scale == 0


def test_time_that_suffices_changes_nothing(failing, monkeypatch):
    there = judged(failing, "sweep", 10**9, monkeypatch)
    monkeypatch.undo()
    here = sg.solve(failing, method="sweep", threads=1)
    assert there.shares == here.shares
    assert there.result.origin == here.result.origin
    assert there.safe_scale == here.safe_scale


@pytest.mark.parametrize("method", ["sweep", "bfs", "gbs", "nearest", "bound"])
def test_searches_ask_in_their_steps(failing, method):
    """A step that is asked to stop at once does no more than that."""
    search = search_by_name(method, failing, Options(threads=1, deadline=asked(0)))
    try:
        search.step()
        assert search.standing().finished == 0
    except Expired:
        pass
    finally:
        search.close()
    assert search.pending(), "a search that was stopped is not at its end"
    assert (search.found().kind != ROBUST).all()


def test_bounds_ask_at_every_node_on_their_way_and_back(moving):
    nodes, boxes = len(moving.graph.nodes), 1e-3 * moving.box[None]

    def bounded(effort, deadline):
        bounds = moving.bounds(boxes, 8, effort, deadline)
        bounds.gaps(moving.label)
        moving.enclosed_inconsistency(boxes, bounds)

    there_and_back, rows = 2 * (nodes - moving.pixels) - 3, 4  # from the pixels: this clip cuts nothing off
    for effort in Effort:
        clock = count(1)
        bounded(effort, Deadline(ends=1e9, clock=clock.__next__))
        asks = next(clock) - 1
        assert asks >= there_and_back + rows * (effort in (Effort.GAPS, Effort.UNITS))
        for times in (0, nodes // 2, asks - 1):
            with pytest.raises(Expired):
                bounded(effort, asked(times))


def many(n=3, parts=1500):
    """Many cells: copies of a cube."""
    cube = from_polytopes((box_of(np.zeros(n), np.ones(n)),))
    return concatenate([cube] * parts)


def test_kernels_ask_between_cells():
    cells = many()
    hinge = (cells.theta[:, :1] - 0.5).copy(), np.zeros(1), np.arange(1, dtype=np.uint64)
    every, middle = np.arange(cells.count), np.full((cells.count, 3), 0.5)
    points, slope = np.full((200, 3), 0.5), np.ones((200, 3, 1))
    cube = from_polytopes((box_of(np.zeros(3), np.ones(3)),))
    calls = [
        lambda deadline: cut(cells, *hinge, deadline=deadline),
        lambda deadline: volumes(cells, deadline),
        lambda deadline: facets(cells, deadline),
        lambda deadline: cone_volumes(cells, every, middle, deadline=deadline),
        lambda deadline: clip(cube, points, np.ones((200, 1)), slope, np.zeros((1, 1)), deadline),
    ]
    for call in calls:
        call(NEVER)
        with pytest.raises(Expired):
            call(asked(4))


def test_pieces_of_kernels_make_the_whole():
    cells = many(parts=300)
    made = cut(cells, cells.theta[:, :1] - 0.25, np.zeros(1), np.arange(1, dtype=np.uint64))
    assert (np.bincount(made.parent) == 2).all()
    assert np.bincount(made.parent, volumes(made.cells)) == pytest.approx(np.ones(300))
    found = facets(cells)
    assert (np.bincount(found.cell, minlength=300) == 6).all()


def test_the_scale_is_never_above_what_was_read(failing):
    answer = sg.solve(failing, method="sweep", threads=1)
    for times in range(0, 12, 2):
        assert 0 <= safe_scale(answer.map, failing.box, asked(times)) <= answer.safe_scale + 1e-12


def test_parts_of_a_budget_name_the_limits_that_were_given(failing):
    standing = search_by_name("sweep", failing, Options(threads=1)).standing()
    budget = Budget(Limits(2.0, regions=10), asked(0), 10).part(0.5).part(0.5)
    assert budget.exceeded(standing).words == "the time limit of 2 s"
    budget = Budget(Limits(2.0, regions=10), NEVER, 10).part(0.1)
    assert budget.regions == 1
    assert budget.exceeded(replace(standing, regions=1)).words == "the limit of 10 regions"


def test_what_was_over_before_the_call_counts():
    limits = Limits(seconds=1000.0, spent=300.0)
    assert 599 < limits.deadline(loading=100.0).left <= 600
    assert Limits(spent=300.0).deadline(loading=100.0).left == np.inf


@pytest.mark.parametrize(("seconds", "least"), [(1.0, 0.25), (1000.0, 0.5)])
def test_the_search_has_some_time_however_long_loading_took(seconds, least):
    assert 0 < Limits(seconds, spent=2 * seconds).deadline(loading=3.0).left <= least
