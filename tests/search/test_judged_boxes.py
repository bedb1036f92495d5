"""Boxes judged with as much effort as pays: what is learnt, and that more effort decides no box wrongly."""

from __future__ import annotations

import numpy as np
import pytest

from steadygaze.geometry.kinds import UNDECIDED
from steadygaze.search.judged_boxes import Experience, Judged, judge_boxes
from variants import Variant

ROOM = 8


def judged(**found):
    """What was found of four boxes; nan where nothing is said."""
    names = ("gaps", "symbols", "units")
    nothing = np.full(4, np.nan)
    fixed = {"kind": np.zeros(4, np.int8), "doubts": np.zeros(4), "pull": np.zeros((4, 2))}
    return Judged(**fixed, **{name: np.array(found.get(name, nothing), float) for name in names})


def test_an_effort_is_tried_on_few_boxes_of_each_size_and_kept_where_it_pays():
    experience, quarter, tiny = Experience(), np.full(4, 0.25), np.full(1, 2.0**-9)
    for _ in range(2):
        assert experience.pays("gaps", quarter, 0.5).all()
        experience.learn(quarter, judged(gaps=[0, 0, 0, 1]))
    assert not experience.pays("gaps", quarter, 0.5).any()
    assert experience.pays("gaps", quarter, 0.25).all()
    assert experience.pays("gaps", tiny, 0.5).all()
    assert experience.pays("symbols", quarter, 0.5).all()


def test_what_rows_for_units_leave_is_learnt_by_size():
    experience = Experience()
    assert np.isnan(experience.units(np.array([0.5]))).all()
    experience.learn(np.full(4, 0.5), judged(units=[0.2, np.nan, 0.4, np.nan]))
    assert experience.units(np.array([0.5, 0.5001]))[0] == pytest.approx(0.3)
    assert np.isnan(experience.units(np.array([0.25]))).all()


def test_batches_are_joined_in_their_order():
    both = Judged.joined([judged(gaps=[0, 1, 0, 1]), judged(gaps=[1, 1, 1, 1])])
    assert both.gaps.tolist() == [0, 1, 0, 1, 1, 1, 1, 1]
    assert len(both.kind) == len(both.pull) == 8


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
