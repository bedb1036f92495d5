"""Shares of images at a scale, against counting one image at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from recorded import entry
from steadygaze.aggregate import ATTENTION, CLASS, Rate, grouped, other_reason, robust, steps
from steadygaze.aggregate.outcomes import outcomes_of
from steadygaze.aggregate.rates import accurate
from steadygaze.campaign import Status

SCALE = st.one_of(st.none(), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))


def told(holds: float | None, fails: float | None, scale: float) -> str:
    """What the contract of a record says of one claim at a scale, in words."""
    if (holds or 0.0) >= scale:
        return "certified"
    return "failing" if fails is not None and fails <= scale else "open"


IMAGES = st.lists(
    st.tuples(
        st.one_of(st.none(), st.tuples(SCALE, SCALE, SCALE, SCALE)), st.integers(0, 2), st.integers(-1, 2)
    ),
    min_size=1,
    max_size=12,
)


@given(IMAGES, st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]))
def test_rates_are_those_of_counting(images, scale):
    entries = [
        entry(f"i{k}", scales, predicted=predicted, label=None if label < 0 else label)
        for k, (scales, predicted, label) in enumerate(images)
    ]
    outcomes = outcomes_of(entries)
    for claim in (CLASS, ATTENTION):
        words = ["open" if s is None else told(s[2 * claim], s[2 * claim + 1], scale) for s, _, _ in images]
        rate = robust(outcomes, claim, scale)
        assert (rate.n, rate.certain, rate.unsettled) == (
            len(images),
            words.count("certified"),
            words.count("open"),
        )
        known = [
            "failing" if s is not None and predicted != label else word
            for word, (s, predicted, label) in zip(words, images, strict=True)
            if label >= 0
        ]
        rate = robust(outcomes, claim, scale, accuracy=True)
        assert (rate.n, rate.certain, rate.unsettled) == (
            len(known),
            known.count("certified"),
            known.count("open"),
        )
    both = [
        ("open", "open") if s is None else (told(s[0], s[1], scale), told(s[2], s[3], scale))
        for s, _, _ in images
    ]
    certain = both.count(("certified", "failing"))
    contrary = sum(one == "failing" or two == "certified" for one, two in both)
    rate = other_reason(outcomes, scale)
    assert (rate.certain, rate.unsettled) == (certain, len(both) - certain - contrary)


def test_a_case_without_an_answer_is_open_at_every_scale():
    outcomes = outcomes_of([entry("a", None, status=Status.CRASHED), entry("b", (1, None, 1, None))])
    for scale in (0.0, 0.5, 1.0):
        assert robust(outcomes, ATTENTION, scale) == Rate(2, 1, 1)
        assert robust(outcomes, ATTENTION, scale, accuracy=True) == Rate(2, 1, 1)
    assert accurate(outcomes) == Rate(2, 1, 1)


def test_a_wrongly_classified_image_is_never_accurate():
    outcomes = outcomes_of([entry("a", (1, None, 1, None), predicted=3, label=4)])
    assert robust(outcomes, CLASS, 1.0) == Rate(1, 1, 0)
    assert robust(outcomes, CLASS, 0.0, accuracy=True) == Rate(1, 0, 0)
    assert accurate(outcomes) == Rate(1, 0, 0)


def test_steps_are_where_something_changes():
    outcomes = outcomes_of([entry("a", (0.4, 0.7, 0.2, 0.2)), entry("b", None)])
    assert steps(outcomes).tolist() == [0, 0.2, 0.4, 0.7, 1]
    assert len(steps(outcomes, most=3)) == 3
    rates = [robust(outcomes, CLASS, scale) for scale in (0.4, np.nextafter(0.4, 1), 0.7)]
    assert [(r.certain, r.unsettled) for r in rates] == [(1, 1), (0, 2), (0, 1)]


def test_an_interval_takes_the_unsettled_part_both_ways():
    low, high = Rate(10, 5, 2).interval()
    assert low == pytest.approx(stats.beta.ppf(0.025, 5, 6))
    assert high == pytest.approx(stats.beta.ppf(0.975, 8, 3))
    assert Rate(0, 0, 0).interval() == (0.0, 1.0)


def test_an_answer_from_before_scales_were_kept_proves_nothing():
    old = entry("a", (1, None, 1, None))
    answer = {name: value for name, value in old.record.answer.items() if name != "scales"}
    ((_, outcomes),) = grouped([replace(old, record=replace(old.record, answer=answer))]).items()
    assert robust(outcomes, ATTENTION, 0.5) == Rate(1, 0, 1)


def test_groups_are_by_what_is_asked():
    entries = [
        entry("a", (1, None, 1, None)),
        entry("a", (1, None, 0.5, 0.5), threshold=0.1),
        entry("b", (1, None, 1, None)),
        entry("a", (1, None, 1, None), model="two"),
    ]
    groups = grouped(entries)
    assert [(g.model, g.threshold, o.images) for g, o in groups.items()] == [
        ("one", 0.3, ("a", "b")),
        ("one", 0.1, ("a",)),
        ("two", 0.3, ("a",)),
    ]
