"""All searches on one problem, asked as a user asks them, and held against one another."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from steadygaze.answer.result import Origin, Result
from steadygaze.question.problem import Problem
from steadygaze.search.base import Options
from steadygaze.verdict.answer import Answer
from steadygaze.verdict.driver import solve

# Points at which the map of each search is compared with the original model.
AUDITED = 50


def assert_searches_agree(problem: Problem, close: float = 1e-9) -> Result:
    """Ask every search, and compare; returns what the sweep says.

    close: how far shares, ranges, scale and distances may be apart; where boundaries are curved, what is left
    undecided between their two sides.
    """
    whole = _asked(problem, "sweep")
    sweep, n = whole.result, len(problem.box)
    step = _asked(problem, "bfs")
    np.testing.assert_array_equal(np.sort(step.map.pattern), np.sort(whole.map.pattern))
    bfs, near = step.result, _asked(problem, "nearest").result
    full, rim = _asked(problem, "gbs", examine=True).result, _asked(problem, "gbs").result
    reached = _asked(problem, "bfs", reachable=True).result
    assert bfs.verdict == sweep.verdict
    assert bfs.shares.values() == pytest.approx(sweep.shares.values(), abs=close)
    for other in (bfs, near):
        assert other.safe_scale == pytest.approx(sweep.safe_scale, abs=close)
        assert (other.nearest_failure is None) == (sweep.nearest_failure is None)
        if other.nearest_failure and sweep.nearest_failure:
            found, wanted = other.nearest_failure.distance, sweep.nearest_failure.distance
            assert found == pytest.approx(wanted, abs=10 * close)
    wanted = _origin(sweep)
    # A wall of ties may part the robust part (verdict/touching): then no search says how much it is.
    walled = wanted.share is None and whole.map.ties is not None and whole.map.ties.count > 0
    for other in (bfs, full, reached):
        found = _origin(other)
        assert found.interior == ("not examined" if walled else "examined")
        assert found.share == (None if walled else pytest.approx(wanted.share, abs=close))
        assert np.allclose(found.ranges, wanted.ranges, atol=10 * close, rtol=0)
    if walled:
        return sweep
    outer = _origin(rim)
    assert np.allclose(outer.ranges, wanted.ranges, atol=10 * close, rtol=0)
    if outer.interior == "examined" or n == 1:
        assert outer.share == pytest.approx(wanted.share, abs=close)
    assert outer.share >= wanted.share - close
    if n == 2:
        hollow = 0.0 if outer.interior == "examined" else _hollow(wanted, problem)
        assert outer.share == pytest.approx(wanted.share + hollow, abs=close)
        assert len(_origin(full).holes or ()) == len(wanted.holes or ())
        for found in (outer, _origin(full)):
            assert _apart(found, wanted) <= 10 * close * problem.volume
    if full.safe_scale is not None and sweep.safe_scale is not None:
        assert full.safe_scale == pytest.approx(sweep.safe_scale, abs=close)
    for other in (full, rim, reached, near):
        assert other.regions["visited"] <= sweep.regions["visited"]
    return sweep


def _asked(problem: Problem, method: str, **options: bool) -> Answer:
    answer = solve(problem, method=method, threads=1, audit_points=AUDITED, options=Options(**options))
    assert answer.result.settings["stopped"] is None
    return answer


def _origin(result: Result) -> Origin:
    assert result.origin is not None
    return result.origin


def _hollow(origin: Origin, problem: Problem) -> float:
    """Share of the box that is in holes of the robust part."""
    return sum(shapely.Polygon(ring).area for ring in origin.holes or ()) / problem.volume


def _apart(one: Origin, other: Origin) -> float:
    """Area between two outer boundaries."""
    if not one.outer_boundary or not other.outer_boundary:
        assert not one.outer_boundary
        assert not other.outer_boundary
        return 0.0
    areas = (shapely.Polygon(origin.outer_boundary) for origin in (one, other))
    return next(areas).symmetric_difference(next(areas)).area
