"""Regions kept as half-spaces: the answers that vertices give, and answers where these are too many."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from landscapes import Term, edge, hole, islands, kink, landscape, slope
from sparing import sparing
from steadygaze.answer.result import Verdict
from steadygaze.errors import InternalCheckError, SettingError
from steadygaze.geometry.kinds import UNDECIDED
from steadygaze.question.problem import Problem
from steadygaze.search.base import CellMap, Options
from steadygaze.search.nearest import Nearest
from steadygaze.search.outward import Outward
from steadygaze.verdict.driver import solve
from steadygaze.verdict.reading import failures_by_distance, safe_scale
from variants import EVERY, FOLLOWED, Variant, searched

# One in three of the variants is quick enough for every day; the others are of the same kinds.
STILL = sparing((variant for variant in EVERY if variant not in FOLLOWED), 3)
SHAPES = [hole((0.5, 0.1), 0.2), hole((0.4, 0.1, 0.05), 0.3), islands(3), kink(4), edge(3), slope(5)]


def first(map_: CellMap, problem: Problem, norm: str = "linf") -> float | None:
    found = next(failures_by_distance(map_, problem.box, norm), None)
    return None if found is None else found.distance


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("variant", STILL)
def test_the_nearest_failure_is_that_of_the_complete_map(variant, norm):
    problem = variant.problem
    search = searched(Outward(problem, Options(norm=norm)))
    map_, wanted = search.found(), first(variant.map, problem, norm)
    assert first(map_, problem, norm) == (None if wanted is None else pytest.approx(wanted, abs=1e-9))
    assert safe_scale(map_, problem.box) == pytest.approx(safe_scale(variant.map, problem.box), abs=1e-9)
    assert wanted is None or search.standing().radius <= wanted + 1e-9
    assert_inside(variant, map_)


def assert_inside(variant: Variant, map_: CellMap) -> None:
    """What the simplices say is so at their middles."""
    middles = map_.cells.theta[map_.cells.idx].reshape(map_.cells.count, -1, len(variant.problem.box)).mean(1)
    plain = variant.sampled(middles)
    sure = (np.abs(plain.gap) > 1e-9) & (np.abs(plain.inconsistency - variant.threshold) > 1e-7)
    sure &= map_.kind != UNDECIDED
    np.testing.assert_array_equal(map_.kind[sure], plain.kind[sure])


@pytest.mark.parametrize("variant", STILL)
def test_all_regions_are_those_of_the_complete_map(variant):
    search = searched(Outward(variant.problem, Options(), everything=True))
    map_ = search.found()
    np.testing.assert_array_equal(np.sort(map_.pattern), np.sort(variant.map.pattern))
    kinds = [
        [set(m.kind[m.region == r].tolist()) for r in np.argsort(m.pattern)] for m in (map_, variant.map)
    ]
    assert kinds[0] == kinds[1]
    assert safe_scale(map_, variant.problem.box) == pytest.approx(
        safe_scale(variant.map, variant.problem.box), abs=1e-9
    )


@pytest.mark.parametrize("problem", SHAPES)
def test_shapes_that_searches_must_meet(problem):
    far, near = (searched(kind(problem, Options())).found() for kind in (Outward, Nearest))
    assert first(far, problem) == pytest.approx(first(near, problem))
    assert safe_scale(far, problem.box) == pytest.approx(safe_scale(near, problem.box))


@pytest.mark.parametrize(
    ("made", "distance"),
    [
        (lambda n: slope(n), lambda n, norm: 0.4 / n if norm == "linf" else 0.4 / np.sqrt(n)),
        (lambda n: islands(n), lambda n, norm: 0.3),
        (lambda n: elbow(n), lambda n, norm: 0.5 / n if norm == "linf" else 0.5 / np.sqrt(n)),
    ],
    ids=["slope", "islands", "elbow"],
)
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("n", [8, 12])
def test_many_parameters(made: Callable, distance: Callable, norm: str, n: int):
    """Answers that one can work out by hand."""
    answer = solve(made(n), method="nearest", options=Options(norm=norm), audit_points=20, threads=1)
    assert answer.verdict == Verdict.VIOLATED
    assert answer.result.nearest_failure.distance == pytest.approx(distance(n, norm))
    assert answer.result.radius.value == pytest.approx(distance(n, norm))
    assert answer.safe_scale == pytest.approx(distance(n, "linf"))
    assert sum(answer.shares.values()) == pytest.approx(1.0)
    assert answer.result.origin is None


def elbow(n: int) -> Problem:
    """Robust where theta_1 + ... + theta_n < 0.5, behind a hinge at 0.2."""
    tilt = Term((1e-9,) + (0.0,) * (n - 1), 1.0)  # no map is zero, or just the opposite of another
    return landscape([Term((1.0,) * n, -0.2, -1.0), tilt], 0.3 - 1.0, [(-1.0, 1.0)] * n)


def test_a_whole_box_of_many_parameters_is_robust():
    problem = landscape([Term((1.0,) * 9, 4.0, 2.0), Term((-1.0,) * 9, 0.3)], 1.0, [(-0.3, 0.3)] * 9)
    for method in ("nearest", "bfs", "auto"):
        answer = solve(problem, method=method, audit_points=20, threads=1)
        assert answer.verdict == Verdict.ROBUST
        assert answer.shares.robust == 1.0
        assert answer.safe_scale == 1.0
        assert answer.result.regions["visited"] == 2


def test_a_facet_that_nobody_crosses_is_no_proof(monkeypatch):
    problem = landscape([Term((1.0,) * 9, 4.0, 2.0), Term((-1.0,) * 9, 0.3)], 1.0, [(-0.3, 0.3)] * 9)
    monkeypatch.setattr(Outward, "_wanted", lambda self: np.flatnonzero(self._state.rows > 9))
    close = Outward._work_out

    def closed(self, act):
        close(self, act)
        self._state.rows[:] = 0

    monkeypatch.setattr(Outward, "_work_out", closed)
    with pytest.raises(InternalCheckError, match="claims to hold all"):
        solve(problem, method="nearest", threads=1)


def test_a_stopped_search_claims_what_it_has_seen():
    problem = kink(8)
    search, radii = Outward(problem, Options()), []
    for _ in range(4):
        search.step()
        radii.append(search.standing().radius)
        assert safe_scale(search.found(), problem.box) <= radii[-1] + 1e-12
    assert radii == sorted(radii)
    assert search.pending()


@pytest.mark.parametrize("method", ["sweep", "gbs"])
def test_what_needs_corners_refuses_many_parameters(method):
    with pytest.raises(SettingError, match=r"8 parameters.*--method nearest"):
        solve(slope(8), method=method)
    with pytest.raises(SettingError, match="reachable"):
        solve(slope(8), method="bfs", options=Options(reachable=True))


@pytest.mark.parametrize("n", [5, pytest.param(8, marks=pytest.mark.slow)])
def test_the_answer_of_many_parameters_can_be_written(tmp_path, n):
    folder = solve(slope(n), threads=1).save(tmp_path / "answer", picture=True)
    assert (folder / "map.png").exists()
    assert ("nearest" if n == 8 else "sweep") in (folder / "result.json").read_text()
