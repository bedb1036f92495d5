"""What efforts were worth on boxes is learnt, by size."""

from __future__ import annotations

import numpy as np
import pytest

from steadygaze.search.experience import Experience, Judged


def judged(**found):
    """What was found of four boxes; nan where nothing is said."""
    names = ("forms", "gaps", "symbols", "units", "slopes", "pixels", "followed")
    fixed = {"kind": np.zeros(4, np.int8), "doubts": np.zeros(4), "pull": np.zeros((4, 2))}
    fixed |= {name: np.array(found.get(name, np.zeros(4)), float) for name in ("spent", "lost")}
    fixed["precise"] = np.array(found.get("precise", np.zeros(4)), bool)
    nothing = np.full(4, np.nan)
    return Judged(**fixed, **{name: np.array(found.get(name, nothing), float) for name in names})


def test_an_effort_is_tried_on_few_boxes_of_each_size_and_kept_where_it_pays():
    experience, quarter, tiny = Experience(), np.full(4, 0.25), np.full(1, 2.0**-9)
    for _ in range(2):
        assert experience.pays("gaps", quarter, 0.5, 1.0).all()
        experience.learn(quarter, judged(gaps=[0, 0, 0, 1]))
    assert not experience.pays("gaps", quarter, 0.5, 1.0).any()
    assert experience.pays("gaps", quarter, 0.25, 1.0).all()
    assert experience.pays("gaps", tiny, 0.5, 1.0).all()
    assert experience.pays("symbols", quarter, 0.5, 1.0).all()


@pytest.mark.parametrize(("forms", "gaps", "tried"), [(1, 0, False), (0, 0, True), (1, 1, True)])
def test_what_larger_boxes_have_shown_is_not_tried_again(forms, gaps, tried):
    """Unless forms decided none of them, either, as they were too wide for anything."""
    experience, half, eighth = Experience(), np.full(4, 0.5), np.full(1, 0.125)
    for _ in range(2):
        experience.learn(half, judged(forms=[forms, 0, 0, 0], gaps=[gaps] * 4))
    assert experience.pays("gaps", eighth, 0.75, 1.0).tolist() == [tried]
    assert not np.isfinite(experience.left("units", eighth)).any()
    experience.learn(half, judged(units=[0.9] * 4))
    assert np.isfinite(experience.left("units", eighth)).all() == bool(forms)
    assert not np.isfinite(experience.left("units", np.full(1, 1.0))).any()


def test_what_is_lost_in_trials_is_a_share_of_what_is_spent():
    experience, quarter = Experience(), np.full(4, 0.25)
    assert experience.pays("gaps", quarter, 0.5, 3.0).tolist() == [True, False, False, False]
    experience.learn(quarter, judged(spent=np.full(4, 3.0), lost=np.full(4, 2.0)))
    assert not experience.affords(np.full(1, 1.0)).any()
    experience.learn(quarter, judged(spent=np.full(4, 20.0)))
    assert experience.affords(np.full(6, 1.0)).tolist() == [True] * 5 + [False]
    experience.learn(quarter, judged(lost=np.full(4, -100.0)))
    assert experience.affords(np.full(20, 1.0)).sum() == 13


def test_more_symbols_are_tried_whatever_the_class_has_lost_until_they_have_lost_enough():
    """Each costs 6, and pays where it decides 0.4 of the boxes: one makes up for one and a half failures."""
    one = np.full(1, 0.25)
    for found, tries in (([0], 2), ([1, 0, 1, 0], 16)):
        experience = Experience()
        experience.learn(np.full(4, 0.25), judged(spent=np.full(4, 3.0), lost=np.full(4, 9.0)))
        assert not experience.affords(one).any()
        for tried in range(tries):
            size = np.full(4, 2.0**-tried)  # each of its own, so that none is known well
            assert experience.pays("symbols", size[:1], 0.4, 6.0, 12.0).all()
            last = [found[tried % len(found)], np.nan, np.nan, np.nan]
            experience.learn(size, judged(symbols=last))
        assert experience.pays("symbols", np.full(1, 2.0**-20), 0.4, 6.0, 12.0).tolist() == [1 in found]


def test_rows_for_gaps_come_first_where_they_pay_and_forms_do_not():
    some, one, no, yes = np.full(4, 0.5), np.full(1, 0.5), [0] * 4, [1] * 4
    for forms, gaps, first in ((no, yes, True), (yes, yes, False), (no, no, False)):
        experience = Experience()
        assert not experience.goes_first(one).any()
        for _ in range(2):
            experience.learn(some, judged(forms=forms, gaps=gaps))
        assert experience.goes_first(one).tolist() == [first]
        assert not experience.goes_first(np.full(1, 0.25)).any()


@pytest.mark.parametrize("name", ["units", "slopes"])
def test_what_an_effort_leaves_is_learnt_by_size(name):
    experience = Experience()
    assert np.isnan(experience.left(name, np.array([0.5]))).all()
    experience.learn(np.full(4, 0.5), judged(**{name: [0.2, np.nan, 0.4, np.nan]}))
    assert experience.left(name, np.array([0.5, 0.5001]))[0] == pytest.approx(0.3)
    assert np.isnan(experience.left(name, np.array([0.25]))).all()


def test_batches_are_joined_in_their_order():
    both = Judged.joined([judged(gaps=[0, 1, 0, 1]), judged(gaps=[1, 1, 1, 1])])
    assert both.gaps.tolist() == [0, 1, 0, 1, 1, 1, 1, 1]
    assert len(both.kind) == len(both.pull) == 8


def test_symbols_for_pixels_are_tried_at_zero_first_and_where_they_pay():
    experience, size, other = Experience(), np.full(4, 0.25), np.full(2, 0.5)
    at_zero, most = np.array([True, False]), np.full(2, 4.0)
    assert experience.tries_pixels(other, most, at_zero).tolist() == [True, False]
    experience.learn(size, judged(pixels=[0, 0, 0, 0]))
    assert experience.tries_pixels(other, most, at_zero).tolist() == [True, False]
    experience.learn(size, judged(pixels=[0, 0, np.nan, np.nan]))
    assert not experience.tries_pixels(other, most, at_zero).any()
    experience.learn(np.full(4, 0.125), judged(pixels=[1, np.nan, np.nan, np.nan]))
    assert experience.pixels_decided
    # From then on those at 0 always, others as long as little was lost; none where none of many was decided.
    assert experience.tries_pixels(other, most, at_zero).tolist() == [True, False]
    assert experience.tries_pixels(other, most + 2, at_zero).all()
    assert not experience.tries_pixels(size[:2], most + 2, at_zero).any()
    assert experience.tries_pixels(np.full(2, 0.125), most, at_zero).all()
