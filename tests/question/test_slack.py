"""How far rounding may move an inconsistency at a point: looked at closely only near the threshold."""

from __future__ import annotations

import numpy as np
import pytest

from steadygaze.question import slack
from steadygaze.question.slack import slack_at
from variants import EVERY, Variant

MEASURES = ("cosine", "l1", "l2", "linf", "top-k")


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("net", ["mlp", "max pool", "residual", "tanh"])
def test_the_side_of_the_threshold_is_that_of_all_terms(monkeypatch, net, measure):
    problem = Variant(net, "spot", inconsistency=measure, threshold=0.05).problem
    thetas = problem.box[:, 0] + np.random.default_rng(3).random((64, 2)) * np.ptp(problem.box, axis=1)
    points = problem.at(thetas)
    given = (problem, thetas, points.maps, points.inconsistency)
    quick = slack_at(*given)
    monkeypatch.setattr(slack, "_has_most_terms", lambda _: False)
    close = slack_at(*given)
    off = np.abs(points.inconsistency - problem.threshold)
    assert ((off > quick) == (off > close)).all()
    assert (quick <= close).all()


def test_no_terms_are_asked_for_far_from_the_threshold(monkeypatch):
    problem = Variant("mlp", "spot", threshold=0.3).problem
    points = problem.at(problem.box.T)
    monkeypatch.setattr(slack, "_terms_at", lambda *_: pytest.fail("it is far from the threshold"))
    far = np.array([0.29, 1.2])
    assert (slack_at(problem, problem.box.T, points.maps, far) == problem.expected_slack).all()
    with pytest.raises(pytest.fail.Exception):
        slack_at(problem, problem.box.T, points.maps, np.array([0.3 + 1e-15, 1.2]))


@pytest.mark.parametrize("variant", EVERY[:40], ids=str)
def test_points_hold_the_maps_that_they_are_judged_by(variant):
    problem = variant.problem
    points = problem.at(problem.box.T)
    expected = problem.kept(problem.expected_at(problem.box.T))
    again = problem.inconsistency.between(points.maps, expected).numpy()
    assert np.allclose(again, points.inconsistency, atol=1e-7)
