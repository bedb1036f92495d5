"""Faults planted into the traversals: each is caught by a check, or leaves an answer that claims less."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from covering import check_cover
from landscapes import hole, islands
from steadygaze.answer.result import Verdict
from steadygaze.errors import InternalCheckError
from steadygaze.geometry.kinds import ROBUST
from steadygaze.question.limits import Limits
from steadygaze.search import regions as regions_module
from steadygaze.search import sweep as sweep_module
from steadygaze.search import walking
from steadygaze.search.base import Options
from steadygaze.search.boundary import Boundary, is_closed
from steadygaze.search.breadth_first import BreadthFirst
from steadygaze.search.regions import Regions
from steadygaze.search.robust_part import GATE, RobustPart
from steadygaze.verdict.driver import solve
from steadygaze.verdict.reading import around_origin, failures_by_distance, safe_scale, shares_of
from variants import EVERY, searched

MIXED = next(v for v in EVERY if str(v) == "wide, spot")
LARGE = next(v for v in EVERY if str(v) == "residual, spot")
METHODS = ("bfs", "gbs", "nearest")


def assert_not_the_whole_map() -> None:
    """Breadth first finds a map that the cover check refuses, or that says what it has not examined."""
    map_ = searched(BreadthFirst(MIXED.problem, Options())).found()
    if map_.rest <= 0:
        with pytest.raises(InternalCheckError):
            check_cover(MIXED.problem, map_)
    else:
        assert shares_of(map_).undecided > 0


def wrapped(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, change: Callable) -> None:
    whole = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args, **rest: change(whole(*args, **rest)))


def test_the_wrong_way_across_a_facet(monkeypatch):
    enter = Regions._enter
    monkeypatch.setattr(
        Regions, "_enter", lambda self, piece, points, toward: enter(self, piece, points, -toward)
    )
    assert_not_the_whole_map()


def test_a_facet_taken_for_the_boxs_own(monkeypatch):
    def changed(found):
        outer = found.outer.copy()
        outer[::7] = True
        return replace(found, outer=outer)

    wrapped(monkeypatch, Regions, "_worked_out", changed)
    with pytest.raises(InternalCheckError, match="lies in no region"):
        searched(BreadthFirst(MIXED.problem, Options())).found()


def test_a_lost_frontier(monkeypatch):
    cross = Regions.cross
    monkeypatch.setattr(Regions, "cross", lambda self, facet: cross(self, facet[::2]))
    assert_not_the_whole_map()
    answer = solve(MIXED.problem, method="bfs")
    assert answer.verdict != Verdict.ROBUST
    assert answer.safe_scale <= safe_scale(MIXED.map, MIXED.problem.box) + 1e-12


def test_a_hinge_that_clipping_forgets(monkeypatch):
    clip = regions_module.clip

    def forgetful(start, points, value, *rest):
        value = value.copy()
        value[:, 3::10] = 1e9
        return clip(start, points, value, *rest)

    monkeypatch.setattr(regions_module, "clip", forgetful)
    with pytest.raises(InternalCheckError):
        check_cover(MIXED.problem, searched(BreadthFirst(MIXED.problem, Options())).found())


def test_a_neighbour_foretold_wrongly_is_not_believed(monkeypatch):
    """Any known region's name for what lies behind: the facet does not touch that region."""

    def changed(found):
        beyond = found.beyond.copy()
        beyond[beyond != 0] = np.roll(beyond[beyond != 0], 1)
        return replace(found, beyond=beyond)

    wrapped(monkeypatch, Regions, "_worked_out", changed)
    map_ = searched(BreadthFirst(MIXED.problem, Options())).found()
    np.testing.assert_array_equal(np.sort(map_.pattern), np.sort(MIXED.map.pattern))


def test_two_patterns_of_one_name(monkeypatch):
    def changed(act):
        return replace(act, names=act.names & np.uint64(7))

    wrapped(monkeypatch, regions_module, "regions_from", changed)
    with pytest.raises(InternalCheckError, match="share a 64-bit name"):
        searched(BreadthFirst(MIXED.problem, Options()))


def test_gates_where_there_are_none(monkeypatch):
    """Every facet towards another region is a gate, also where that region is not robust."""
    settle = RobustPart.settle

    def careless(self, facet):
        settle(self, facet)
        self._state.rows[facet[::3]] = GATE

    monkeypatch.setattr(RobustPart, "settle", careless)
    search = searched(Boundary(MIXED.problem, Options()))
    wanted = around_origin(MIXED.map, MIXED.problem.box, MIXED.problem.tolerance).origin.share
    found = search.enclosed()
    assert not search._closed
    assert found is None or found.examined or found.share != pytest.approx(wanted)


def test_a_lost_piece_does_not_close():
    search = searched(Boundary(MIXED.problem, Options()))
    widths = np.ptp(MIXED.problem.box, axis=1)
    assert is_closed(search._outer, widths)
    some = np.ones(search._outer.cells.count, bool)
    some[2] = False
    lost = search._outer.take(some)
    assert not is_closed(lost, widths)


def test_a_boundary_that_does_not_close_is_not_claimed(monkeypatch):
    """The inside is examined instead, and tells the same part by its cells."""
    monkeypatch.setattr("steadygaze.search.boundary.is_closed", lambda pieces, widths: False)
    found = searched(Boundary(MIXED.problem, Options())).enclosed()
    wanted = around_origin(MIXED.map, MIXED.problem.box, MIXED.problem.tolerance).origin
    assert found.examined
    assert found.share == pytest.approx(wanted.share)
    assert found.boundary is None
    assert len(found.outline) >= 3


def test_the_far_side_of_a_hole_is_no_outer_boundary(monkeypatch):
    """With the ray's last crossing taken for leaving whatever it is, the answer would be the hole's."""
    problem = hole((0.2, 0.2), 0.15)
    right = searched(Boundary(problem, Options())).enclosed().share
    assert right == pytest.approx(1.0)
    assert searched(Boundary(islands(2), Options())).enclosed().share == pytest.approx(0.65)


def test_a_walk_that_loses_its_way_claims_no_range_behind(monkeypatch):
    """No facet is found where the line leaves the first region: what lies behind is not called safe."""
    facets_at, problem = walking._facets_at, MIXED.problem
    monkeypatch.setattr(walking, "_facets_at", lambda *arguments: facets_at(*arguments)[:0])
    found = searched(Boundary(problem, Options())).enclosed()
    wanted = np.array(around_origin(MIXED.map, problem.box, problem.tolerance).origin.ranges)
    assert found is None or (np.abs(found.ranges) <= np.abs(wanted) + 1e-9).all()
    assert found is None or (np.abs(found.ranges) < np.abs(wanted) - 1e-6).any()


def test_a_walk_that_brings_nothing_new_ends_the_search(monkeypatch):
    """The ray seems to enter the robust part at the same place again and again: its inside is examined."""
    monkeypatch.setattr(Boundary, "_divide", lambda self, pieces, ray: (0.5, 0))
    search = Boundary(MIXED.problem, Options())
    for _ in range(1000):
        if search.pending():
            search.step()
    search.close()
    assert not search.pending()
    wanted = around_origin(MIXED.map, MIXED.problem.box, MIXED.problem.tolerance).origin
    assert search.enclosed().examined
    assert search.enclosed().share == pytest.approx(wanted.share)


def test_what_breaks_in_a_thread_surfaces(monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(regions_module, "clip", broken)
    monkeypatch.setattr(sweep_module, "judge", broken)
    for method in METHODS:
        with pytest.raises(ZeroDivisionError):
            solve(MIXED.problem, method=method)


@pytest.mark.parametrize("method", [*METHODS, "auto"])
@pytest.mark.parametrize(
    ("limits", "by"),
    [(Limits(seconds=1e-6), "time"), (Limits(regions=20), "regions"), (Limits(memory=1e-5), "memory")],
    ids=["time", "regions", "memory"],
)
def test_a_stopped_search_claims_what_it_knows(method, limits, by):
    problem, whole = LARGE.problem, LARGE.map
    answer = solve(problem, method=method, limits=limits, audit_points=50)
    answer.result.to_json()
    assert answer.result.settings["stopped_by"] in (by, None)
    assert answer.verdict != Verdict.ROBUST
    assert sum(answer.shares.values()) == pytest.approx(1.0)
    assert answer.shares.robust <= float(whole.volume[whole.kind == ROBUST].sum()) / problem.volume + 1e-9
    right = safe_scale(whole, problem.box)
    assert answer.safe_scale is None or answer.safe_scale <= right + 1e-9
    if answer.result.radius is not None:
        assert answer.result.radius.value <= next(failures_by_distance(whole, problem.box)).distance + 1e-9


@pytest.mark.parametrize("method", METHODS)
def test_an_interrupt_gives_the_partial_answer(method):
    steps = []

    def interrupting(now):
        steps.append(now)
        if len(steps) == 3:
            raise KeyboardInterrupt

    answer = solve(LARGE.problem, method=method, progress=interrupting)
    assert answer.result.settings["stopped_by"] == "interrupt"
    assert answer.verdict != Verdict.ROBUST
    assert answer.shares.undecided > 0


def test_auto_falls_back_on_nearest_and_gbs():
    """The sweep may not look at enough regions; what the others find is the complete map's."""
    problem = LARGE.problem
    whole = around_origin(LARGE.map, problem.box, problem.tolerance).origin
    answer = solve(problem, method="auto", limits=Limits(regions=1900))
    assert answer.result.method == "sweep + nearest + gbs"
    assert answer.safe_scale is None or answer.safe_scale <= safe_scale(LARGE.map, problem.box) + 1e-9
    if answer.result.claim == "outer boundary":
        assert answer.result.origin.share == pytest.approx(whole.share, abs=1e-6)
    assert solve(problem, method="auto").result.method == "sweep"


@pytest.mark.parametrize("method", ["bfs", "gbs"])
def test_where_a_sliver_begins_at_0_the_search_ends_and_nothing_is_claimed(monkeypatch, method):
    monkeypatch.setattr(Regions, "around", lambda *_: -1)
    result = solve(MIXED.problem, method=method, limits=Limits(seconds=20)).result
    assert result.settings["stopped"] is None
    assert result.verdict == Verdict.UNKNOWN
    assert result.shares.undecided == 1
    assert result.origin is None or not result.origin.complete
