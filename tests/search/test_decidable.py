"""With how many units in doubt boxes are worth judging."""

import numpy as np
import pytest

from steadygaze.search.decidable import Decidable, Sizes


def learnt(doubts, decided, alone=False, times=32):
    found = Decidable(alone)
    before = found.most
    found.learn(np.full(times, doubts), np.arange(times) < decided * times)
    return found.most / before


LEVEL = pytest.approx(2**0.5, rel=0.01)


def test_boxes_that_are_seldom_decided_have_too_many_units_in_doubt():
    assert 1 / learnt(Decidable(False).most, 0.2) == LEVEL
    assert learnt(Decidable(False).most, 0.6) == 1


def test_a_few_boxes_tell_nothing():
    assert learnt(Decidable(False).most, 0.0, times=4) == 1
    assert learnt(1.4 * Decidable(False).most, 1.0, times=4) == 1


def test_boxes_that_are_often_decided_may_have_more_in_doubt():
    assert learnt(1.4 * Decidable(False).most, 0.6) == LEVEL
    assert learnt(1.4 * Decidable(False).most, 0.2) == 1


def test_there_are_never_none_left_that_are_worth_judging():
    for alone in (False, True):
        found = Decidable(alone)
        for doubts in (256, 181, 128, 90, 64, 45, 32, 16, 1):
            found.learn(np.full(32, doubts), np.zeros(32, bool))
        assert found.most == 32


def test_of_the_class_alone_one_decided_box_is_enough_until_others_are_not():
    """It holds on boxes with more in doubt than maps do, too; of 297 boxes cut for one that was, 8 were."""
    assert Decidable(True).most > Decidable(False).most
    assert learnt(4 * Decidable(True).most, 1.0, alone=True, times=1) == 4
    assert learnt(4 * Decidable(True).most, 1 / 32, alone=True) == 1
    assert learnt(4 * Decidable(True).most, 0.5, alone=True) == 4
    assert 1 / learnt(Decidable(True).most, 0.0, alone=True) == LEVEL


def test_boxes_are_halved_past_sizes_of_which_too_few_are_decided():
    sizes = Sizes()
    assert sizes.halvings(3, 4) == 1
    sizes.learn(np.repeat([4, 5, 6], 4), np.repeat([False, False, True], 4))
    assert sizes.halvings(3, 4) == 3
    assert sizes.halvings(3, 2) == 2
    assert sizes.halvings(5, 4) == 1


def test_a_few_boxes_of_a_size_tell_nothing():
    sizes = Sizes()
    sizes.learn(np.repeat(4, 3), np.zeros(3, bool))
    assert sizes.halvings(3, 4) == 1
