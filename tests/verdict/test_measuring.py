"""Measures of likeness at random points, held against their definitions."""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata

import steadygaze as sg
from steadygaze.answer.parts import Measured
from steadygaze.answer.result import Result
from steadygaze.deadline import Deadline
from steadygaze.digits import builtin_model, digit
from steadygaze.errors import SettingError
from steadygaze.question import points as evaluation
from steadygaze.question.limits import Limits
from steadygaze.question.problem import Problem
from steadygaze.verdict.measuring import measure


@pytest.fixture(scope="module")
def answer():
    chain = sg.Brightness(-0.2, 0.2) | sg.Patch(0, 1, top=2, left=2, size=2)
    return sg.verify(builtin_model("digits-mlp"), digit(7)[0], chain)


def test_correlations_are_those_of_the_maps_at_the_points(answer):
    problem, found = answer.problem, measure(answer.problem, 60, seed=4)
    low, high = problem.box.T
    thetas = low + np.random.default_rng(4).random((60, 2)) * (high - low)
    points = problem.at(thetas)
    held = points.gap > 0
    assert found.drawn == 60
    assert 0 < found.held == held.sum()
    kept = problem.compared.numpy()
    maps = problem.maps_at(problem.images(thetas[held])).flatten(1).numpy()[:, kept]
    expected = problem.map0.flatten().numpy()[kept]
    plain = [np.corrcoef(row, expected)[0, 1] for row in maps]
    ranked = [np.corrcoef(rankdata(row), rankdata(expected))[0, 1] for row in maps]
    for values, own in zip((plain, ranked), found.measures, strict=False):
        assert (own.least, own.median, own.largest) == pytest.approx(
            (min(values), np.median(values), max(values))
        )
        assert np.allclose(own.theta, thetas[held][np.argmin(values)])
    assert [own.name for own in found.measures] == ["Pearson", "Spearman", "SSIM"]


def test_a_map_that_has_not_moved_is_the_same_by_all_measures():
    still = sg.verify(builtin_model("digits-mlp"), digit(7)[0], sg.Brightness(0, 1e-12))
    for own in measure(still.problem, 5).measures:
        assert own.least == pytest.approx(1.0)


def test_they_stand_beside_the_answer_and_come_back_from_its_file(answer, tmp_path):
    told = answer.measured(20)
    assert told.shares == answer.shares
    assert answer.result.measured is None
    folder = told.save(tmp_path)
    assert Result.from_json((folder / "result.json").read_text()) == told.result
    page = (folder / "report.html").read_text()
    assert "Measured, not proven" in page
    assert f"{told.result.measured.measures[0].least:.4f}" in page
    assert "Measured, not proven" not in (answer.save(tmp_path / "bare") / "report.html").read_text()


def test_what_cannot_be_measured_is_refused(answer, monkeypatch):
    for points in (0, -1, 10**6, 2.5, True):
        with pytest.raises(SettingError, match="must be a whole number from 1"):
            answer.measured(points)
    monkeypatch.setitem(sys.modules, "skimage.metrics", None)
    with pytest.raises(SettingError, match=r"steadygaze\[measures\]"):
        answer.measured(5)


def test_many_points_are_looked_at_in_parts(answer, monkeypatch):
    """All at once they take memory without end; what is measured does not depend on it."""
    whole, sizes, images = measure(answer.problem, 200), [], Problem.images
    monkeypatch.setattr(evaluation, "_MOST", 64)
    monkeypatch.setattr(Problem, "images", lambda self, at: sizes.append(len(at)) or images(self, at))
    assert measure(answer.problem, 200) == whole
    assert max(sizes) == 64


@pytest.mark.parametrize("asked", [0, 1, 37])
def test_what_is_reached_in_time_is_what_fewer_points_tell(answer, asked):
    """It is asked about each part, and about each point: the deadline passes in the middle of a part."""
    times = count()
    found = measure(answer.problem, 200, seed=3, deadline=Deadline(halted=lambda: next(times) > asked))
    assert found.drawn == asked
    assert found == (measure(answer.problem, found.drawn, seed=3) if found.drawn else Measured(0, 0, 3, ()))


def test_a_limit_of_time_holds_for_measuring(answer):
    told = answer.measured(100_000, time_limit=0.05)
    assert told.result.measured.drawn < 100_000


def test_what_is_left_of_the_limit_is_for_measuring():
    timing = {"total": 3.0, "before the call": 1.0, "compiling": 2.0}
    assert Limits(None).left_for_more(timing) is None
    assert Limits(20.0).left_for_more(timing) == 18.0
    assert Limits(2.5).left_for_more(timing) == Limits(2.5).allowance / 2


def test_an_answer_without_time_for_one_point_can_be_saved(tmp_path: Path) -> None:
    answer = sg.verify("digits-mlp", "digits:7", "brightness(amount=-0.1..0.1)").measured(9, time_limit=0.0)
    answer.save(tmp_path / "answer")
    assert answer.result.measured is None
    assert any("No likeness was measured" in note for note in answer.result.notes)
