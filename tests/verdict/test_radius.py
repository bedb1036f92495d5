"""How far from 0 all is robust: where another search knows more than `nearest`, the radius says so, too."""

from __future__ import annotations

import numpy as np
import pytest

import steadygaze as sg
from steadygaze.deadline import NEVER
from steadygaze.geometry.half_widths import distances, half_widths
from steadygaze.search.base import Standing
from steadygaze.verdict.budget import INTERRUPT
from steadygaze.verdict.findings import Finding, radius_of
from steadygaze.verdict.reviewing import reviewed

BOXES = {
    "even": [(-0.3, 0.3), (-2.0, 2.0)],
    "uneven": [(-0.3, 0.1), (-2.0, 5.0)],
    "one-sided": [(0.0, 1.0), (-0.2, 0.3)],
}


def found(answer, name: str, radius: float | None, stopped=None) -> Finding:
    claim = "radius" if name == "nearest" else "whole box"
    return Finding(name, claim, answer.map, None, Standing(0.1, 0.1, 1, 0, radius=radius), stopped)


@pytest.fixture(scope="module")
def answer():
    """All of the box is robust."""
    image = sg.load_image("digits:202").image
    told = sg.verify("digits-mlp", image, sg.Brightness(-0.002, 0.004) | sg.Contrast(-0.002, 0.001))
    assert told.verdict == "robust"
    return told


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", BOXES)
def test_what_is_nearer_than_the_radius_lies_in_the_safe_box(answer, name, norm):
    """And it is the farthest of which that can be said, by the distance of one amount alone."""
    box, scale = np.array(BOXES[name]), 0.25
    radius = radius_of([found(answer, "nearest", 1e-6)], box, norm, scale).value
    rng = np.random.default_rng(3)
    thetas = rng.uniform(box[:, 0], box[:, 1], (20000, len(box)))
    thetas *= rng.choice([1.0, 0.3], (20000, 1))
    near = thetas[distances(thetas, half_widths(box), norm) < radius]
    assert len(near) > 50
    assert ((near >= scale * box[:, 0]) & (near <= scale * box[:, 1])).all()
    ends = np.abs(scale * box / half_widths(box)[:, None])
    assert radius == pytest.approx(ends[ends > 0].min(), abs=1e-9)


def test_a_search_that_went_farther_keeps_its_radius(answer):
    box = np.array(BOXES["even"])
    assert radius_of([found(answer, "nearest", 0.5)], box, "linf", 0.25).value == pytest.approx(0.5)
    assert radius_of([found(answer, "nearest", 0.5)], box, "linf", None).value == pytest.approx(0.5)


def test_where_no_search_went_by_distance_there_is_no_radius(answer):
    assert radius_of([found(answer, "bound", None)], np.array(BOXES["even"]), "linf", 1.0) is None


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_box_that_another_search_proved_is_robust_to_its_corners(answer, norm):
    """The radius was that of `nearest`, which had been stopped: 0.03 beside a box that need not shrink."""
    stopped, box = found(answer, "nearest", 0.03, INTERRUPT), answer.problem.box
    review = reviewed(answer.problem, [found(answer, "bound", None), stopped], norm, 0, NEVER)
    assert review.scale == 1
    corner = np.abs(box).max(axis=1)[None]
    assert review.radius.value == distances(corner, half_widths(box), norm)[0]
