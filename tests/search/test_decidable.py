"""With how many units in doubt boxes are worth judging."""

import numpy as np

from steadygaze.search.decidable import Decidable


def learnt(doubts, decided, alone=False, times=32):
    found = Decidable(alone)
    before = found.most
    found.learn(np.full(times, doubts), np.arange(times) < decided * times)
    return found.most / before


def test_boxes_that_are_seldom_decided_have_too_many_units_in_doubt():
    assert learnt(Decidable(False).most, 0.2) == 0.5
    assert learnt(Decidable(False).most, 0.6) == 1


def test_a_few_boxes_tell_nothing():
    assert learnt(Decidable(False).most, 0.0, times=4) == 1
    assert learnt(2 * Decidable(False).most, 1.0, times=4) == 1


def test_boxes_that_are_often_decided_may_have_more_in_doubt():
    assert learnt(2 * Decidable(False).most, 0.6) == 2
    assert learnt(2 * Decidable(False).most, 0.2) == 1


def test_there_are_never_none_left_that_are_worth_judging():
    found = Decidable(False)
    for doubts in (128, 64, 32, 16, 1):
        found.learn(np.full(32, doubts), np.zeros(32, bool))
    assert found.most == 32


def test_of_the_class_alone_one_decided_box_is_enough():
    """It holds on boxes with more in doubt than maps do, too."""
    assert Decidable(True).most > Decidable(False).most
    assert learnt(3 * Decidable(True).most, 1 / 32, alone=True) == 3
    assert learnt(Decidable(True).most, 0.0, alone=True) == 1
