"""Which of the open boxes come next."""

from __future__ import annotations

import numpy as np

from steadygaze.search import open_boxes
from steadygaze.search.boxes import gauges_of, shells
from steadygaze.search.open_boxes import OpenBoxes
from variants import Variant

SPOT = Variant("mlp", "spot").problem


def ringed(halvings):
    """The whole box, cut about 0, the largest parts first."""
    return shells(SPOT.box, halvings)[::-1]


def test_half_of_them_are_the_nearest_and_the_rest_the_largest():
    boxes = OpenBoxes(SPOT, ringed(6))
    count = len(boxes)
    taken = boxes.take(4, np.inf, False)
    near, large = taken[:2], taken[2:]
    np.testing.assert_allclose(near[0], SPOT.box / 64)
    np.testing.assert_allclose(gauges_of(near, SPOT.box), [0, 1 / 64])
    np.testing.assert_allclose(gauges_of(large, SPOT.box), 0.5)
    assert len(boxes) == count - 4


def test_those_that_hold_the_origin_come_first_when_it_is_late_unless_they_are_small():
    for halvings, alone in ((6, True), (12, False)):
        boxes = OpenBoxes(SPOT, ringed(halvings))
        taken = boxes.take(4, np.inf, False, True)
        assert (len(taken) == 1) == alone
        np.testing.assert_allclose(taken[0], SPOT.box / 2**halvings)
    known = OpenBoxes(SPOT, ringed(6)[:-1])
    assert len(known.take(4, np.inf, False, True)) == 4
    assert known.reached > 0


def test_boxes_near_the_origin_get_fewer_turns_while_they_lead_nowhere():
    boxes = OpenBoxes(SPOT, SPOT.box[None])
    for _ in range(100):
        boxes.add(boxes.take(1, np.inf, False))
    assert boxes._near_share == open_boxes._NEAR_LEAST
    boxes.replace(ringed(3)[:1])
    boxes.take(1, np.inf, False)
    assert boxes.reached == 0.5
    assert boxes._near_share == open_boxes._NEAR_SHARE


def test_boxes_near_the_origin_get_their_turns_while_they_are_decided():
    """The safe scale rises when the last of those at one distance is decided, which takes many steps."""
    boxes = OpenBoxes(SPOT, SPOT.box[None])
    for step in range(100):
        taken = boxes.take(1, np.inf, False)
        boxes.learn(taken if step % 3 else taken[:0])
        boxes.add(taken)
    assert boxes._near_share > open_boxes._NEAR_SHARE
    assert boxes.reached == 0


def test_what_is_decided_farther_away_is_no_turn_for_those_near_the_origin():
    boxes = OpenBoxes(SPOT, np.concatenate([ringed(3), ringed(3)]))
    for _ in range(5):
        taken = boxes.take(4, np.inf, False)
        boxes.learn(taken[gauges_of(taken, SPOT.box) > gauges_of(taken[:2], SPOT.box).max()])
        boxes.add(taken)
    assert boxes._near_share < open_boxes._NEAR_SHARE


def test_most_turns_go_to_boxes_near_the_origin_once_a_failure_is_known():
    """The verdict is known then; how far all is safe is not."""
    boxes = OpenBoxes(SPOT, ringed(3)[:1])
    boxes.add(boxes.take(1, 1.0, True))
    assert boxes._near_share == open_boxes._KNOWN_SHARE
    for _ in range(100):
        boxes.add(boxes.take(1, 1.0, True))
    assert boxes._near_share == open_boxes._KNOWN_LEAST


def test_what_lies_beyond_the_nearest_failure_is_not_near():
    boxes = OpenBoxes(SPOT, ringed(3))
    near = boxes.boxes[boxes.near(0.2)]
    assert len(near)
    assert (gauges_of(near, SPOT.box) < 0.2).all()


def test_on_a_line_the_safe_scale_is_pursued_further_once_nothing_else_is_left():
    """In the plane that would take many boxes."""
    line, plane = Variant("mlp", "brightness").problem, SPOT
    for problem, closer in ((line, 1), (plane, 0)):
        box = problem.box
        edge = np.stack([0.996 * box[:, 1], box[:, 1]], axis=1)
        boxes = OpenBoxes(problem, edge[None])
        assert len(boxes.near(1.0)) == 0
        assert len(boxes.near(1.0, closer=True)) == closer
        assert len(boxes.near(0.996 + 1e-6, closer=True)) == 0
