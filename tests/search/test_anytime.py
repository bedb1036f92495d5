"""Whenever a search is stopped, what it knows around 0 is told, and with more time it is never less.

Small networks stand for large ones here: an image is said to take much effort, and the clock is the number of
times that it was asked, or the regions that may be visited.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import numpy as np
import pytest
import torch
from torch import nn

import steadygaze as sg
from covering import check_cover
from steadygaze.deadline import NEVER, Deadline
from steadygaze.geometry.half_widths import half_widths
from steadygaze.geometry.kinds import ROBUST, UNDECIDED
from steadygaze.network.graph import Graph
from steadygaze.question import problem as problems
from steadygaze.question.learning import seconds_of_image
from steadygaze.question.limits import Limits
from steadygaze.search import branch_and_bound, judged_boxes
from steadygaze.search.base import Options
from steadygaze.search.boxes import gauges_of
from steadygaze.search.branch_and_bound import BranchAndBound
from steadygaze.search.course import Course
from steadygaze.search.experience import Judged
from steadygaze.search.falsifying import Falsifier
from steadygaze.search.nearest import Nearest
from steadygaze.search.sweep import Sweep
from steadygaze.verdict.budget import kept_for_reading
from steadygaze.verdict.driver import solve
from steadygaze.verdict.engines import search_by_name, searches_for
from steadygaze.verdict.findings import Finding, around_of
from steadygaze.verdict.held import Claims, hold
from steadygaze.verdict.reading import failures_by_distance, safe_scale
from variants import searched

LINKS = (
    sg.Brightness(-0.3, 0.25),
    sg.Patch(0, 0.9, top=2, left=1, size=2),
    sg.Patch(0, 0.5, top=0, left=3, size=2),
)


def posed(parameters: int):
    """A small convolutional network under so many perturbations, never seen before: nothing of it is kept."""
    torch.manual_seed(5)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 3),
    )
    chain = LINKS[0]
    for link in LINKS[1:parameters]:
        chain = chain | link
    image = np.random.default_rng(7).random((1, 6, 6)) * 0.6 + 0.2
    return sg.verify(net.eval(), image, chain, threads=1, regions_limit=1, method="bfs").problem


@pytest.fixture
def heavy(monkeypatch):
    """From here on an image takes more products than there is time for."""
    monkeypatch.setattr(Graph, "effort", 10**15)


def asked(times: float) -> Deadline:
    """A deadline that passes when it has been asked so many times."""
    return Deadline(ends=times, clock=count(1).__next__)


def asked_from(left: float) -> Deadline:
    """A deadline with so many seconds left, at which time stands still."""
    return Deadline(ends=left, clock=lambda: 0.0)


def known(answer):
    """The safe scale, the radius and the safe ranges, as numbers that may only grow."""
    result = answer.result
    ranges = np.abs(result.origin.ranges).reshape(-1) if result.origin is not None else np.zeros(1)
    radius = result.radius.value if result.radius is not None else 0.0
    return [answer.safe_scale or 0.0, radius, *(ranges if ranges.any() else ())]


def check_by_sampling(answer):
    """Within what is claimed to be safe, all points are."""
    problem = answer.problem
    box, rng = problem.box, np.random.default_rng(1)
    draws = box[:, 0] + rng.random((200, len(box))) * np.ptp(box, axis=1)
    if answer.safe_scale:
        inside = answer.safe_scale * (1 - 1e-9) * np.concatenate([draws, box.T])
        assert (problem.at(inside).kind == ROBUST).all()
    radius = answer.result.radius
    if radius is not None and radius.value:
        ball = radius.value * (1 - 1e-9) * half_widths(box) * (2 * rng.random((200, len(box))) - 1)
        assert (problem.at(np.clip(ball, *box.T)).kind == ROBUST).all()
    for axis, ends in enumerate(answer.result.origin.ranges if answer.result.origin is not None else ()):
        line = np.zeros((50, len(box)))
        line[:, axis] = np.linspace(*ends, 50) * (1 - 1e-9)
        assert (problem.at(line).kind == ROBUST).all()


@pytest.mark.parametrize(
    ("parameters", "method"),
    [
        *((n, method) for n in (1, 2, 3) for method in ("nearest", "sweep", "bfs")),
        *((1, "bound"), (2, "bound"), pytest.param(3, "bound", marks=pytest.mark.slow)),
    ],
)
@pytest.mark.usefixtures("heavy")
def test_more_regions_never_know_less(parameters, method):
    problem, before = posed(parameters), [0.0]
    for regions in (1, 40) if method == "bound" else (1, 2, 4, 8, 30):
        answer = solve(problem, method=method, limits=Limits(regions=regions), threads=1)
        now = known(answer)
        assert all(new >= old - 1e-12 for new, old in zip(now, before, strict=False)), f"{regions} regions"
        check_by_sampling(answer)
        before = now


@pytest.mark.parametrize("parameters", [1, 2, 3])
@pytest.mark.usefixtures("heavy")
def test_the_first_region_gives_a_radius_and_ranges(parameters):
    answer = solve(posed(parameters), method="nearest", limits=Limits(regions=1), threads=1)
    assert answer.result.settings["stopped_by"] == "regions"
    assert answer.safe_scale > 0
    assert answer.result.radius.value > 0
    widths = [high - low for low, high in answer.result.origin.ranges]
    assert min(widths) > 0
    assert not answer.result.origin.complete
    check_by_sampling(answer)


@pytest.mark.parametrize("parameters", [1, 2, 3])
@pytest.mark.usefixtures("heavy")
def test_auto_has_a_radius_at_any_time_that_a_region_fits_into(parameters, monkeypatch):
    problem, before = posed(parameters), [0.0]
    for times in (200, 300, 1_500):
        monkeypatch.setattr(Deadline, "after", lambda *_, times=times: asked(times))
        answer = solve(problem, method="auto", limits=Limits(seconds=10.0), threads=1)
        assert "nearest" in answer.result.method
        assert "sweep" not in answer.result.method
        now = known(answer)
        assert min(now[:2]) > 0
        assert len(now) > 2, "safe ranges are known, too"
        assert all(new >= old - 1e-12 for new, old in zip(now, before, strict=False)), f"{times} times"
        before = now
        check_by_sampling(answer)
        if answer.result.settings["stopped_by"] == "time":
            (told,) = [note for note in answer.result.notes if "imes the time" in note]
            assert "safe scale" in told


@pytest.mark.usefixtures("heavy")
def test_ranges_are_as_wide_as_any_of_the_maps_proves():
    """Whichever comes first in the answer: else they would shrink as soon as bounds have judged more."""
    problem, found = posed(3), {}
    for name, steps in (("bound", 3), ("nearest", 60)):
        search = search_by_name(name, problem, Options(threads=1, handover=False))
        for _ in range(steps):
            search.step()
        search.close()
        found[name] = Finding(name, search.claim, search.found(), None, search.standing(), None, (), 1.0)
    alone = {name: np.abs(around_of(problem, [finding]).origin.ranges) for name, finding in found.items()}
    assert (alone["nearest"] > alone["bound"]).any()
    both = around_of(problem, [found["bound"], found["nearest"]]).origin.ranges
    assert (np.abs(both) == np.maximum(*alone.values())).all()


def times_of(problem, seconds):
    """How long each search has."""
    left, times = seconds, {}
    for name, share in searches_for(problem, asked_from(seconds), 1):
        times[name] = share * left
        left -= share * left
    return times


@pytest.mark.parametrize(
    ("parameters", "effort"), [(1, 10**6), (2, 10**6), (3, 10**6), (3, 10**15), (2, 10**7)]
)
def test_what_goes_outwards_never_has_less_of_a_longer_time(parameters, effort):
    """Whether the complete map fits, or may fit, or does not."""
    problem = posed(parameters)
    vars(problem.graph)["effort"] = effort
    before = 0.0
    for seconds in np.geomspace(1e-4, 1e6, 60):
        outwards = times_of(problem, seconds)["nearest"]
        assert outwards >= before * (1 - 1e-9)
        before = outwards


def test_bounds_have_most_of_little_time_where_regions_of_two_parameters_take_long():
    """What they have is never less of a longer time; where regions take little they have none."""
    problem, before, shares = posed(2), 0.0, []
    vars(problem.graph)["effort"] = 10**7
    for seconds in np.geomspace(1e-4, 1e6, 60):
        bounded = times_of(problem, seconds)["bound"]
        assert bounded >= before * (1 - 1e-9)
        before = bounded
        shares.append(bounded / seconds)
    assert max(shares) == pytest.approx(0.85)
    assert min(shares) < 0.01
    assert times_of(problem, 0.0)["bound"] == 0  # the time is over just as it is asked for
    vars(problem.graph)["effort"] = 10**6
    assert "bound" not in times_of(problem, 1.0)


@pytest.mark.usefixtures("heavy")
def test_the_pass_at_0_is_made_once_for_all_who_ask(monkeypatch):
    made, own = [], problems.hinges_from_zero
    monkeypatch.setattr(problems, "hinges_from_zero", lambda *given: (made.append(1), own(*given))[1])
    solve(posed(1), method="auto", limits=Limits(seconds=60.0, regions=3), threads=1)
    assert len(made) == 1


def test_what_does_not_fit_goes_outwards_at_once():
    problem, names = posed(3), lambda *given: [name for name, _ in searches_for(*given)]
    assert names(problem, NEVER, 1) == ["sweep", "bound", "nearest", "gbs"]
    assert names(problem, Deadline.after(60.0), 1) == ["sweep", "bound", "nearest", "gbs"]
    vars(problem.graph)["effort"] = 10**11
    assert names(problem, Deadline.after(60.0), 1) == ["nearest", "bound", "gbs"]
    assert dict(searches_for(problem, Deadline.after(60.0), 1))["nearest"] == 1.0
    vars(problem.graph)["effort"] = 10**7
    assert names(problem, NEVER, 1) == ["sweep", "bound", "nearest", "gbs"]
    assert names(problem, Deadline.after(1e5), 1) == ["nearest", "sweep", "bound", "gbs"]
    assert names(posed(1), Deadline.after(1e5), 1) == ["sweep", "nearest", "gbs"]


@pytest.mark.parametrize("times", [3, 10, 30])
def test_a_box_that_takes_too_long_is_given_up_and_what_it_holds_is_kept(times, monkeypatch):
    """Again and again; in the end the map says what the complete one does."""
    problem = posed(2)
    whole = searched(Sweep(problem, Options(threads=1))).found()
    left = iter([asked(times)] * 3)
    expected, given_up = Nearest._expected_end, []
    monkeypatch.setattr(Nearest, "_expected_end", lambda self: next(left, None) or expected(self))
    give_up = Nearest._give_up
    monkeypatch.setattr(Nearest, "_give_up", lambda self, box: (given_up.append(1), give_up(self, box))[1])
    monkeypatch.setattr(Course, "next_radius", lambda self, examined, failure: 2 * examined + 0.4)
    search = searched(Nearest(problem, Options(threads=1)))
    assert given_up
    map_ = search.found()
    check_cover(problem, map_)
    nearest = next(failures_by_distance(whole, problem.box), None)
    mine = next(failures_by_distance(map_, problem.box), None)
    assert nearest is not None
    assert mine.distance == pytest.approx(nearest.distance, abs=1e-9)
    assert safe_scale(map_, problem.box) == pytest.approx(safe_scale(whole, problem.box), abs=1e-9)


@pytest.mark.usefixtures("heavy")
@pytest.mark.parametrize("regions", [1.0, 2.0])
def test_after_a_first_box_that_took_too_long_a_smaller_one_has_all_that_is_left(regions, monkeypatch):
    """Else a region that takes a third of the time would be begun again and again, and never be done.

    A box that should be a single region has all of the time at once: none takes less.
    """
    problem, boxes, patience = posed(1), [], []
    expected = Nearest._expected_end
    monkeypatch.setattr(Course, "regions_within", lambda *_: regions)

    def told(self):
        boxes.append(self._examined.copy())
        patience.append(expected(self))
        return replace(patience[-1], ends=0.0) if len(patience) == 1 else patience[-1]

    monkeypatch.setattr(Nearest, "_expected_end", told)
    monkeypatch.setattr(Sweep, "step", lambda self: None)
    deadline = Deadline.after(1e4)
    search = Nearest(problem, Options(threads=1, deadline=deadline))
    while len(boxes) < 2:
        search.step()
    search.close()
    assert (patience[0].ends < deadline.ends) == (regions > 1)
    assert patience[1].ends == deadline.ends
    assert (np.abs(boxes[1]) < np.abs(boxes[0])).all()


@pytest.mark.parametrize("parameters", [1, 2])
def test_the_first_hinges_are_where_they_are_said_to_be(parameters):
    """No pattern changes before the first of them; beyond it one does."""
    problem = posed(parameters)
    course = Course(problem, half_widths(problem.box), "linf")
    first = course._hinges[0]
    corners = np.stack(np.meshgrid(*[[-1.0, 1.0]] * parameters), axis=-1).reshape(-1, parameters)
    rays = corners * half_widths(problem.box)
    names = problem.stages.pattern_names_at(
        problem.unclipped(np.concatenate([0.999 * first * rays, 1.001 * first * rays]))
    )
    inside, outside = names[: len(rays)], names[len(rays) :]
    assert (inside == inside[0]).all()
    assert (outside != inside[0]).any()


@pytest.mark.parametrize("parameters", [1, 2])
@pytest.mark.usefixtures("heavy")
def test_each_box_reaches_farther_than_the_one_before(parameters):
    """Also where the next one would reach as far, but for the last digit of what has come of it."""
    problem = posed(parameters)
    course = Course(problem, half_widths(problem.box), "linf")
    examined = course.next_radius(0.0, np.inf)
    for _ in range(6):
        before = np.nextafter(examined, 0.0)
        course.learn(before, 1)
        examined = course.next_radius(before, np.inf)
        assert examined > before * (1 + 1e-6)


def test_time_is_kept_for_reading_where_points_take_long():
    problem = posed(1)
    problem.graph.worked_out.clear()  # what a point takes is found out, then
    assert kept_for_reading(problem, asked(1000)).seconds == 0
    vars(problem.graph)["effort"] = 10**11
    assert kept_for_reading(problem, NEVER).seconds == 0
    assert kept_for_reading(problem, asked(1000)).seconds == pytest.approx(20)
    assert 0 < kept_for_reading(problem, asked(30)).seconds <= 0.3 * 30


def test_what_a_point_takes_is_not_found_out_twice(monkeypatch):
    """Images were evaluated when the question was posed, and told how long one takes."""
    problem = posed(1)
    vars(problem.graph)["effort"] = 10**11
    seconds = seconds_of_image(problem.graph)
    assert seconds is not None
    assert 0 < seconds < 1
    monkeypatch.setattr(problems.Problem, "at", lambda *_: pytest.fail("a point was evaluated"))
    point = kept_for_reading(problem, asked(1000)).point
    assert 2 * seconds <= point <= 3 * seconds


def test_of_little_time_more_is_kept_and_the_answer_is_held_against_fewer_points():
    problem = posed(1)
    problem.graph.worked_out.clear()
    assert kept_for_reading(problem, asked(1000)).held(5.0) is None, "as many as usual"
    vars(problem.graph)["effort"] = 10**11
    little = kept_for_reading(problem, asked(14))
    assert 0.3 * 14 < little.seconds <= 0.6 * 14
    assert [little.held(left) for left in (0.0, 7.0, 9.0)] == [1, 2, 4]
    answers = [
        hold(problem, [], Claims(1e-6, None, None, None), 0.0, first=first).agreeing for first in (1, None)
    ]
    assert answers[0] == 1 < answers[1]


@pytest.mark.slow
def test_a_large_network_has_an_answer_in_some_seconds():
    """A residual network of a hundred thousand units, with random weights."""
    from benchmarks.networks import seeded

    image = np.random.default_rng(0).random((1, 28, 28)) * 0.8 + 0.1
    for chain in (
        sg.Brightness(-0.05, 0.05),
        sg.Brightness(-0.05, 0.05) | sg.Patch(0, 0.2, top=12, left=12, size=3),
    ):
        answer = sg.verify(seeded("resnet18-16"), image, chain, time_limit=60.0)
        assert answer.safe_scale > 0
        check_by_sampling(answer)


@pytest.mark.usefixtures("heavy")
def test_where_hinges_meet_at_0_boxes_end_there(monkeypatch):
    """Without constant terms, over a blank background, units are on a breakpoint at 0 whatever the box."""
    monkeypatch.setattr(Falsifier, "search", lambda self: None)
    torch.manual_seed(2)
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(6, 6, 3, bias=False), nn.ReLU(),
        nn.Flatten(), nn.Linear(6 * 16, 3, bias=False),
    )  # fmt: skip
    image = np.zeros((1, 6, 6))
    image[0, 2:4, 3] = (0.6, 0.8)
    chain = sg.Brightness(-0.3, 0.2)
    answer = sg.verify(
        net.eval(), image, chain, saliency="softmax-gradient", threshold=0.6, threads=1, regions_limit=60,
        method="bound",
    )  # fmt: skip
    assert answer.safe_scale > 0
    assert min(np.abs(answer.result.origin.ranges).ravel()) > 0
    check_by_sampling(answer)


@pytest.mark.usefixtures("heavy")
@pytest.mark.parametrize("saliency", ["softmax-gradient", "gradient"])
def test_where_bounds_fail_at_0_itself_no_time_is_promised(saliency, monkeypatch):
    """Whatever the time; and nothing of the kind is said where they do not."""
    problem = sg.verify(
        posed(1).network, np.full((1, 6, 6), 0.5), LINKS[0], saliency=saliency, regions_limit=1
    ).problem
    if saliency == "softmax-gradient":
        monkeypatch.setattr(
            judged_boxes._Judging,
            "_attention",
            lambda self, some, bounds, apart: np.full(len(some), UNDECIDED, np.int8),
        )
    answer = solve(problem, method="bound", limits=Limits(regions=40), threads=1)
    told = [note for note in answer.result.notes if "smallest box at 0" in note]
    assert len(told) == (saliency == "softmax-gradient")
    assert bool(answer.safe_scale) != bool(told)


@pytest.mark.parametrize("share", [0.4, 0.6])
def test_when_half_of_the_time_is_over_boxes_at_0_come_first(share, monkeypatch):
    """Else all of it may go to boxes elsewhere, and no range is known to be safe."""
    asked, now = [], [0.0]

    def judged(problem, boxes, room, experience, deadline):
        asked.append(boxes)
        nothing, open_ = np.zeros(len(boxes)), np.full(len(boxes), UNDECIDED)
        return Judged(open_, nothing, np.zeros(boxes.shape[:2]), *(nothing for _ in range(10)))

    monkeypatch.setattr(branch_and_bound, "judge_boxes", judged)
    monkeypatch.setattr(Falsifier, "search", lambda self: None)
    problem = posed(2)
    search = BranchAndBound(problem, Options(handover=False, deadline=Deadline(1.0, clock=lambda: now[0])))
    for _ in range(5):
        search.step()
    now[0], before = share, len(asked)
    for _ in range(4):
        search.step()
    search.close()
    elsewhere = [gauges_of(boxes, problem.box).max() > 0 for boxes in asked[before:]]
    assert any(elsewhere) == (share < 0.5)
