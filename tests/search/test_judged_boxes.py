"""Boxes judged with as much effort as pays: more effort decides no box wrongly."""

from __future__ import annotations

import numpy as np
import pytest

from steadygaze.deadline import NEVER
from steadygaze.geometry.kinds import UNDECIDED
from steadygaze.search.experience import Experience
from steadygaze.search.judged_boxes import _Judging, judge_boxes
from variants import Variant

ROOM = 8


def test_rows_for_units_are_tried_about_0_whatever_they_cost():
    """No range is told before a box with 0 inside is decided; of others the cost decides."""
    problem = Variant("mlp", "spot").problem
    whole = problem.box
    chosen = []
    for box in (whole, whole / 2 + whole[:, 1:] / 2):
        judging = _Judging(problem, box[None], ROOM, Experience(), NEVER)
        judging.low[:], judging.middle[:] = -9.0, 1.0
        judging.doubts[:], judging.gaps[:] = 4000, 0
        chosen.append(len(judging._worth(Experience())))
    assert chosen == [1, 0]


@pytest.mark.parametrize("variant", [Variant("mlp", "turn"), Variant("max pool", "zoom, brighter")], ids=str)
def test_more_effort_decides_more_and_nothing_wrongly(variant):
    problem, rng = variant.problem, np.random.default_rng(1)
    whole = problem.box
    low = whole[:, 0] + rng.random((24, len(whole))) * 0.9 * np.ptp(whole, axis=1)
    boxes = np.stack([low, low + 0.1 * np.ptp(whole, axis=1)], axis=2)
    plain, more = judge_boxes(problem, boxes, ROOM).kind, judge_boxes(problem, boxes, ROOM, Experience()).kind
    settled = plain != UNDECIDED
    assert (more[settled] == plain[settled]).all()
    for number in np.flatnonzero(more != UNDECIDED):
        thetas = boxes[number, :, 0] + rng.random((20, len(whole))) * np.ptp(boxes[number], axis=1)
        assert (problem.at(thetas).kind == more[number]).all()
