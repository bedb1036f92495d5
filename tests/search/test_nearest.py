"""Boxes about 0 that grow: whatever sizes are guessed, what is answered is what the complete map says."""

from dataclasses import replace

import numpy as np
import pytest

from covering import check_cover
from landscapes import hole
from steadygaze.answer.result import Verdict
from steadygaze.deadline import NEVER
from steadygaze.errors import InternalCheckError
from steadygaze.geometry.kinds import ROBUST, UNDECIDED
from steadygaze.question.limits import Limits
from steadygaze.question.problem import Problem
from steadygaze.search.base import CellMap, Options
from steadygaze.search.boxes import cells_of
from steadygaze.search.course import Course
from steadygaze.search.nearest import Nearest
from steadygaze.verdict.driver import solve
from steadygaze.verdict.reading import around_origin, failures_by_distance, safe_scale, shares_of
from variants import EVERY, FOLLOWED, searched

LARGE = next(v for v in EVERY if str(v) == "residual, spot")
SHIFTED = next(v for v in EVERY if len(v.problem.pieces) > 1)
# How far the next box is said to go, all nearer than the first argument being known.
GUESSES = {
    "in small steps": lambda self, examined, failure: examined + 0.07,
    "far too far": lambda self, examined, failure: 2.0,
    "in long steps": lambda self, examined, failure: 2 * examined + 0.01,
}


def first_of(map_: CellMap, problem: Problem, norm: str = "linf") -> float | None:
    found = next(failures_by_distance(map_, problem.box, norm), None)
    return None if found is None else found.distance


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("guess", GUESSES)
@pytest.mark.parametrize("variant", [v for v in EVERY if not v.problem.follows_maps][::4], ids=str)
def test_guesses_decide_nothing(variant, guess, norm, monkeypatch):
    monkeypatch.setattr(Course, "next_radius", GUESSES[guess])
    problem = variant.problem
    search = searched(Nearest(problem, Options(norm=norm)))
    map_, wanted = search.found(), first_of(variant.map, problem, norm)
    assert first_of(map_, problem, norm) == (None if wanted is None else pytest.approx(wanted, abs=1e-9))
    assert safe_scale(map_, problem.box) == pytest.approx(safe_scale(variant.map, problem.box), abs=1e-9)
    assert wanted is None or search.standing().radius == pytest.approx(wanted, abs=1e-9)
    check_cover(problem, map_)
    assert set(map_.pattern) <= set(variant.map.pattern)


@pytest.mark.parametrize("variant", [LARGE, SHIFTED], ids=str)
def test_boxes_that_cover_everything_give_the_whole_map(variant, monkeypatch):
    """Regions that several boxes cut are counted once, and the robust part goes on from box to box."""
    problem = variant.problem
    monkeypatch.setattr(Course, "next_radius", GUESSES["in long steps"])
    monkeypatch.setattr(Nearest, "_take_stock", lambda self, map_: None)
    search = searched(Nearest(problem, Options()))
    map_ = search.found()
    assert map_.rest == 0
    assert search.standing().regions == len(map_.pattern) == len(variant.map.pattern)
    assert abs(map_.volume.sum() - problem.volume) <= 1e-9 * problem.volume
    for found, wanted in zip(shares_of(map_).values(), shares_of(variant.map).values(), strict=True):
        assert found == pytest.approx(wanted, abs=1e-9)
    mine, theirs = (around_origin(m, problem.box, problem.tolerance).origin for m in (map_, variant.map))
    assert mine.share == pytest.approx(theirs.share, abs=1e-9)
    assert np.allclose(mine.ranges, theirs.ranges, atol=1e-9)
    if problem.follows_maps:
        return
    inconsistency = dict(zip(variant.map.pattern, variant.map.inconsistency, strict=True))
    wanted = [inconsistency[name] for name in map_.pattern]
    np.testing.assert_allclose(map_.inconsistency, wanted, atol=1e-12)


def test_a_search_that_is_closed_in_the_middle_of_a_box_claims_what_it_knows(monkeypatch):
    monkeypatch.setattr(Course, "next_radius", GUESSES["far too far"])
    search = Nearest(LARGE.problem, Options())
    search.step()
    search.step()
    search.close()
    map_, right = search.found(), safe_scale(LARGE.map, LARGE.problem.box)
    assert (map_.kind == UNDECIDED).any()
    assert safe_scale(map_, LARGE.problem.box) <= right + 1e-12
    assert 0 <= search.standing().radius <= first_of(LARGE.map, LARGE.problem) + 1e-12
    check_cover(LARGE.problem, map_)


def test_a_failure_that_points_miss_is_found(monkeypatch):
    """Plain evaluation sees nothing at all: the boxes grow until they meet the failure."""
    monkeypatch.setattr(Course, "_fails", lambda self, thetas: np.zeros(thetas.shape[:-1], bool))
    map_ = searched(Nearest(LARGE.problem, Options())).found()
    assert first_of(map_, LARGE.problem) == pytest.approx(first_of(LARGE.map, LARGE.problem))


def test_a_stopped_search_tells_of_the_failing_points_that_it_knows():
    answer = solve(LARGE.problem, method="nearest", limits=Limits(seconds=1e-9), threads=1)
    wanted, failure = first_of(LARGE.map, LARGE.problem), answer.result.nearest_failure
    assert answer.result.settings["stopped_by"] == "time"
    assert answer.verdict == Verdict.VIOLATED
    assert failure is not None
    assert failure.distance >= wanted - 1e-12
    assert LARGE.problem.replay(np.array([failure.theta])).kind[0] != ROBUST
    assert answer.result.radius is not None
    assert answer.result.radius.value <= wanted


def test_planted_a_part_is_lost(monkeypatch):
    """Of each box after the first, one part: the cells no longer add up."""
    parted = Nearest._parted

    def careless(self, cells):
        inside, outside = parted(self, cells)
        return (inside.take(np.arange(inside.count - 1))[0] if self._boxes else inside), outside

    monkeypatch.setattr(Course, "next_radius", GUESSES["in long steps"])
    monkeypatch.setattr(Nearest, "_parted", careless)
    with pytest.raises(InternalCheckError, match="gap or an overlap"):
        check_cover(LARGE.problem, searched(Nearest(LARGE.problem, Options())).found())


def test_planted_a_search_that_ends_too_early(monkeypatch):
    """It takes what lies ahead for three times as far as it is, and misses the failure."""
    monkeypatch.setattr(Course, "next_radius", GUESSES["in small steps"])
    monkeypatch.setattr(Nearest, "_open", lambda self: 3 * self._reach(0) < min(self._failure, 1.0))
    search = searched(Nearest(LARGE.problem, Options()))
    assert first_of(search.found(), LARGE.problem) is None
    assert search.standing().radius < first_of(LARGE.map, LARGE.problem)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_distance_is_bounded_from_below_where_the_time_is_over(norm):
    """By that of the boxes about the cells, in the norm that was asked for."""
    problem = hole((0.5, 0.4), 0.2)
    late = replace(NEVER, halted=lambda: True)
    search = Nearest(problem, Options(norm=norm, threads=1, deadline=late))
    try:
        cells = cells_of(np.array([[[0.3, 0.6], [0.2, 0.4]], [[-0.9, -0.5], [-0.1, 0.1]]]))
        distance = {"linf": 0.3, "l2": np.hypot(0.3, 0.2)}[norm]
        assert search._nearer(cells, np.inf, 0) == pytest.approx(distance)
        assert search._nearer(cells, 0.1, 0) == 0.1
        assert search._nearer(cells, np.inf, 1) == pytest.approx(0.3), "in the box's own shape"
    finally:
        search.close()


@pytest.mark.parametrize("variant", FOLLOWED[:6], ids=str)
def test_cells_along_curves_meet_as_little_facet_to_facet_as_in_the_sweep(variant, monkeypatch):
    """Taken for meeting so, parts of the robust part around 0 were lost behind the first curve."""
    monkeypatch.setattr(Course, "next_radius", GUESSES["far too far"])
    problem = variant.problem
    map_ = searched(Nearest(problem, Options())).found()
    assert map_.conforming is variant.map.conforming is False
    ours, theirs = (around_origin(one, problem.box, problem.tolerance) for one in (map_, variant.map))
    assert ours.origin.share == pytest.approx(theirs.origin.share, abs=1e-9)
