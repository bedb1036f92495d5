"""What is said of ten times the time: from the number of regions, and from the pace of the search."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import steadygaze
from steadygaze.search.base import Standing
from steadygaze.verdict import driver
from steadygaze.verdict.expecting import expectation, pace_of
from steadygaze.verdict.findings import Finding, Stopped

STOPPED = Stopped("time", "the time limit of 10 s")


class Asked:
    box = np.array([[-1.0, 1.0]])
    class_alone = False
    graph = SimpleNamespace(drowns=False)


OPEN = SimpleNamespace(rest=1.0)


def gone(*way, seconds=8.0):
    return Finding("bound", "whole box", OPEN, None, Standing(0.0, 0.0, 3, 0), STOPPED, way, seconds)


@pytest.mark.parametrize(
    ("way", "factor"),
    [
        (((1.0, 1e-6), (7.0, 2e-6)), 10.0),
        (((1.0, 1e-6), (3.0, 2e-6), (5.0, 4e-6), (8.0, 3.2e-5)), 10.0**4),
        (((3.0, 1e-6),), 1.0),
        (((5.0, 1e-6),), None),
        ((), None),
    ],
)
def test_the_pace_of_the_second_half(way, factor):
    told = pace_of([gone(*way), gone((1.0, 1e-9))] if way else [gone()], 10.0)
    assert told == (None if factor is None else pytest.approx(factor))


@pytest.mark.parametrize(
    ("way", "loading", "words"),
    [
        (((1.0, 1e-6), (7.0, 2e-6)), 0.0, "from 2e-06 to about 2e-05"),
        (((1.0, 1e-6), (7.0, 8e-6)), 0.0, "from 2e-06 to between about 2e-05 and 0.002"),
        (((1.0, 1e-6), (7.0, 1.0)), 0.0, "between about 2e-05 and 1;"),
        (((7.0, 2e-6),), 0.0, "about 2e-05"),
        (((7.0, 2e-6),), 8.0, "about 3.8e-05"),
    ],
)
def test_the_sentence_tells_both_guesses(way, loading, words):
    (told,) = expectation(Asked, [gone(*way)], 2e-6, None, loading)
    assert words in told
    assert told.endswith("it is at most 1.")


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ([{"boxes": 3, "boxes_given_up": 0, "halvings_at_zero": 16}], "one of 2^-16 of the range"),
        ([{"boxes": 1, "boxes_given_up": 0, "halvings_at_zero": 0}], "open the whole box, and"),
        ([{"boxes": 0, "boxes_given_up": 0, "halvings_at_zero": 0}], "for a first box at 0; ten times"),
        ([{"boxes_given_up": 1, "halvings_at_zero": 24}], "of 2^-24 of the range: units"),
        ([{"boxes_given_up": 1, "halvings_at_zero": 24}], "not likely to give a safe scale"),
        ([{}], "ten times as much may."),
        ([{"boxes": 2, "boxes_given_up": 0, "halvings_at_zero": 8}, {}], "ten times as much may."),
    ],
)
def test_where_nothing_is_known_of_0_the_smallest_box_left_open_is_told(counts, words):
    """Only of a region of an exact engine is it known that it is a matter of time."""
    findings = [replace(gone(), standing=replace(gone().standing, counts=own)) for own in counts]
    (told,) = expectation(Asked, findings, 0.0, None)
    assert words in told


@pytest.mark.parametrize(("loading", "said"), [(7.0, False), (12.9, True)])
def test_where_loading_took_the_time_that_is_told(loading, said):
    """A search of half a second under a limit of 10 s seemed to have had all of it."""
    (told,) = expectation(Asked, [gone(seconds=8.0)], 0.0, None, loading)
    assert ("loading took 13 s of the time, and 8 s were left" in told) == said


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        (0.8012, "hardly raise the safe scale: it is at most 0.802"),
        (0.7, "likely to raise the safe scale little from 0.7; it is at most 0.802"),
    ],
)
def test_a_scale_that_a_failure_bounds_is_not_said_to_grow_beyond_it(scale, words):
    """It was said to grow from 0.8 to between about 0.8 and 0.8."""
    failure = SimpleNamespace(theta=(0.802,))
    (told,) = expectation(Asked, [gone((1.0, scale), (7.0, scale))], scale, failure)
    assert words in told


def test_what_is_settled_by_either_guess():
    (told,) = expectation(Asked, [gone((1.0, 0.1), (7.0, 0.2))], 0.2, None)
    assert "likely to settle" in told


@pytest.mark.parametrize("method", ["nearest", "bound"])
def test_a_search_leaves_its_way_behind(method, monkeypatch):
    """And it is that of what it proved: it rises, and ends within what is robust."""
    seen = []
    monkeypatch.setattr(driver, "expectation", lambda _, findings, *rest: seen.extend(findings) or ())
    image = np.random.default_rng(3).random((1, 8, 8))
    answer = steadygaze.verify(
        "digits-cnn", image, "brightness(amount=-0.2..0.2)", method=method, time_limit=20.0
    )
    (finding,) = seen
    reached = [far for _, far in finding.way]
    assert reached == sorted(reached)
    assert all(0 <= when <= finding.seconds for when, _ in finding.way)
    assert not reached or reached[-1] <= (answer.safe_scale if method == "bound" else 1.0) + 1e-9
