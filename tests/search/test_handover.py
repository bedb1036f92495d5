"""Boxes that are left to the sweep: which are taken, and that nothing of them is lost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from steadygaze.geometry.kinds import UNDECIDED
from steadygaze.search import handover
from steadygaze.search.base import Options, joined
from steadygaze.search.boxes import gauges_of, halved, volumes_of
from steadygaze.search.handover import Handover
from variants import Variant, mismatches

ONE_PIECE = Variant("mlp", "spot", clip=None)
SEVERAL = Variant("mlp", "shift both", clip=None)


def quarters(box):
    """Sixteen boxes."""
    boxes = box[None]
    for axis in (0, 1, 0, 1):
        boxes = halved(boxes, np.full(len(boxes), axis), np.zeros(boxes.shape[1], bool))
    return boxes


def through(hand):
    found = []
    while hand.pending():
        found += hand.step()
    return found


def test_boxes_with_many_doubts_are_left():
    hand = Handover(ONE_PIECE.problem, Options())
    boxes = quarters(ONE_PIECE.problem.box)
    doubts = np.where(np.arange(16) % 2, 48, 49)
    taken = hand.takes(boxes, doubts)
    assert taken.tolist() == [False, True] * 8
    assert hand.pending()
    assert not hand.ready(0.0)
    assert sum(map_.volume.sum() for map_ in hand.found()) == pytest.approx(volumes_of(boxes[1::2]).sum())
    assert all((map_.kind == UNDECIDED).all() for map_ in hand.found())


def test_narrow_boxes_are_taken_however_many_are_in_doubt_unless_regions_take_long(monkeypatch):
    """And even then where more are in doubt than spread hinges leave, so that halving leaves as many."""
    problem = ONE_PIECE.problem
    narrow = (problem.box * 2.0**-7 + problem.box[:, 1:] * 0.5)[None]
    narrower = (problem.box * 2.0**-15 + problem.box[:, 1:] * 0.5)[None]
    for dear, doubts, taken in (
        (False, 64, [True, True]),
        (True, 64, [False, True]),
        (True, 65, [True, True]),
    ):
        monkeypatch.setattr(handover, "DEAR", 0 if dear else problem.graph.effort)
        hand = Handover(problem, Options())
        hand._hinges = 64 * 2**6  # as of a network of so many units; each crosses slices along both axes
        found = [bool(hand.takes(box, np.full(1, float(doubts)))[0]) for box in (narrow, narrower)]
        assert found == taken


def test_enough_boxes_together_are_ready(monkeypatch):
    monkeypatch.setattr(handover, "_TOGETHER", 16)
    hand = Handover(ONE_PIECE.problem, Options())
    boxes = quarters(ONE_PIECE.problem.box)
    hand.takes(boxes[:10], np.zeros(10))
    assert not hand.ready(0.0)
    hand.takes(boxes[10:], np.zeros(6))
    assert hand.ready(0.0)


def test_boxes_that_the_safe_scale_waits_for_are_ready_before(monkeypatch):
    """One at 0 at once, others that are nearer than what is open elsewhere once there are a few."""
    monkeypatch.setattr(handover, "_NEAREST", 3)
    box = ONE_PIECE.problem.box
    far, near = box * 0.25 + box[:, 1:] * 0.5, box * 0.125 + box[:, 1:] * 0.25
    assert gauges_of(np.stack([far, near]), box).tolist() == [0.5, 0.25]
    hand = Handover(ONE_PIECE.problem, Options())
    hand.takes(np.stack([far, near]), np.zeros(2))
    assert not hand.ready(0.375)
    hand.takes(far[None], np.zeros(1))
    assert hand.ready(0.375)
    assert not hand.ready(0.25)
    through(hand)
    assert not hand.ready(np.inf)
    hand.takes(box[None] * 0.125, np.zeros(1))
    assert hand.ready(0.25)
    assert not hand.ready(0.0)


def test_narrow_boxes_are_taken_whatever_their_doubts_and_at_0_narrower_ones():
    """Bounds decide most of these; while they wait for a sweep nothing is known about 0."""
    box = ONE_PIECE.problem.box
    aside, at_zero = box * 2.0**-7 + box[:, 1:] / 2, box * 2.0**-13
    hand = Handover(ONE_PIECE.problem, Options())
    boxes = np.stack([aside, at_zero, at_zero / 4])
    assert hand.takes(boxes, np.full(3, 1000)).tolist() == [True, False, True]


@pytest.mark.parametrize("variant", [ONE_PIECE, SEVERAL], ids=str)
def test_what_is_taken_is_judged_as_by_the_sweep(variant):
    hand = Handover(variant.problem, Options())
    boxes = quarters(variant.problem.box)
    taken = hand.takes(boxes, np.zeros(16))
    assert taken.any()
    found = joined(through(hand))
    assert hand.regions >= len(found.pattern) > 0
    assert found.volume.sum() == pytest.approx(volumes_of(boxes[taken]).sum(), rel=1e-9)
    assert found.volume.sum() == pytest.approx(sum(m.volume.sum() for m in hand.found()), rel=1e-12)
    wrong, decided = mismatches(variant, found, variant.draw(200))
    assert not wrong
    assert decided > 0.8 * 200 * volumes_of(boxes[taken]).sum() / variant.problem.volume


def test_a_sweep_that_is_stopped_loses_nothing():
    hand = Handover(ONE_PIECE.problem, Options())
    boxes = quarters(ONE_PIECE.problem.box)
    hand.takes(boxes[:12], np.zeros(12))
    hand.step()
    hand.takes(boxes[12:], np.zeros(4))
    before = sum(map_.volume.sum() for map_ in hand.found())
    hand.close()
    after = hand.found()
    assert before == pytest.approx(ONE_PIECE.problem.volume, rel=1e-9)
    assert sum(map_.volume.sum() for map_ in after) == pytest.approx(before, rel=1e-9)
    assert hand.pending(), "the last four still wait"


# -- pieces of the perturbation


def pieces_that_hold(problem, box):
    """Pieces whose half-spaces hold all corners of a box, by the pieces' own vertices (a triangle each)."""
    corners = np.array([[box[0, i], box[1, j]] for i in (0, 1) for j in (0, 1)])
    holding = []
    for number, piece in enumerate(problem.pieces):
        points = piece.polytope.vertices
        middle = points.mean(axis=0)
        order = np.argsort(np.arctan2(*(points - middle).T[::-1]))
        ring = points[order]
        edge = np.roll(ring, -1, axis=0) - ring
        away = corners[:, None] - ring[None]
        side = edge[:, 0] * away[..., 1] - edge[:, 1] * away[..., 0]
        if (side >= -1e-12).all():
            holding.append(number)
    return holding


def test_boxes_are_taken_just_where_one_piece_holds_them():
    problem, rng = SEVERAL.problem, np.random.default_rng(0)
    low, high = problem.box.T
    width = (high - low) * 10.0 ** rng.uniform(-4, -0.5, (200, 1))
    start = low + rng.random((200, 2)) * (high - low - width)
    boxes = np.stack([start, start + width], axis=2)
    for number, box in zip(Handover(problem, Options())._piece_of(boxes), boxes, strict=True):
        holding = pieces_that_hold(problem, box)
        assert number in holding if holding else number == -1


@pytest.mark.parametrize("beyond", [1e-4, 1e-6, 1e-8, 1e-10])
def test_a_box_that_reaches_over_a_border_is_not_taken(beyond):
    """However little: on the other side the image moves another way, and all of a tiny box may lie there."""
    problem = SEVERAL.problem
    boxes = np.array([[[-beyond, 0.01], [0.2, 0.21]], [[-beyond, beyond], [0.2, 0.2 + beyond]]])
    assert Handover(problem, Options())._piece_of(boxes).tolist() == [-1, -1]
    inside = boxes.copy()
    inside[..., 0, :] += beyond
    assert (Handover(problem, Options())._piece_of(inside) >= 0).all(), "its face on the border is none"


def test_memory_is_shared():
    options = Options(memory=1 << 30)
    assert Handover(ONE_PIECE.problem, options)._options == replace(options, memory=1 << 29)
