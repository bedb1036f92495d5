"""Curves along one parameter go through what plain evaluation finds; of large networks at some places."""

from __future__ import annotations

import numpy as np
import pytest

from steadygaze.verdict.along import along
from variants import Variant

LINE = Variant("mlp", "brightness")
EDGES = np.linspace(*LINE.perturbation.box[0], 101)
CELLS = np.stack([EDGES[:-1], EDGES[1:]], axis=1)


def test_they_go_through_the_values_at_the_ends_of_cells():
    gap, drift = along(LINE.problem, CELLS, np.ones(100, bool))
    points = LINE.problem.at(CELLS.reshape(-1, 1))
    np.testing.assert_allclose(gap.reshape(-1), points.gap, atol=1e-12)
    np.testing.assert_allclose(drift.reshape(-1), points.inconsistency, atol=1e-12)
    alone, none = along(LINE.problem, CELLS, np.zeros(100, bool))
    np.testing.assert_allclose(alone, gap, atol=1e-12)
    assert np.isnan(none).all()


@pytest.mark.parametrize("varies", [False, True])
def test_where_points_take_long_they_go_through_some_of_them(varies, monkeypatch):
    problem, seen = LINE.problem, []
    for name in ("at", "gaps_at"):
        own = getattr(type(problem), name)

        def noted(self, thetas, own=own):
            seen.append(len(thetas))
            return own(self, thetas)

        monkeypatch.setattr(type(problem), name, noted)
    monkeypatch.setitem(vars(problem.graph), "effort", 10**10)
    gap, drift = along(problem, CELLS, np.full(100, varies))
    assert seen == [1] * 5
    monkeypatch.undo()
    points = problem.at(CELLS.reshape(-1, 1))
    exact = np.isclose(gap.reshape(-1), points.gap, atol=1e-12)
    assert exact[[0, -1]].all()
    assert np.abs(gap.reshape(-1) - points.gap).max() < 0.5 * np.ptp(points.gap)
    assert np.isnan(drift).all() != varies
