"""Rounding never claims more than was proven."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadygaze.answer import words


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0 %"),
        (1, "100 %"),
        (0.999999, "> 99.9 %"),
        (1e-12, "< 0.1 %"),
        (0.1234, "12.3 %"),
        (None, "not known"),
    ],
)
def test_percent_says_nothing_and_all_only_where_it_is_so(share, text):
    assert words.percent(share) == text


@given(st.floats(-1e6, 1e6))
def test_proven_bounds_are_rounded_towards_zero(value):
    shown = float(words.toward_zero(value))
    assert abs(shown) <= abs(value)
    assert abs(shown) >= 0.998 * abs(value)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1_000, "1 kB"),
        (41_250, "41.2 kB"),
        (999_400, "999 kB"),
        (999_600, "1 MB"),
        (2_500_000, "2.5 MB"),
        (12_345_678_901, "12.3 GB"),
    ],
)
def test_sizes_are_told_in_a_unit_that_leaves_some_of_it(count, text):
    assert words.size(count) == text


def test_a_bound_as_asked_is_shown_as_asked():
    assert words.interval(-0.3, 0.1) == "-0.3 to 0.1"
    assert words.toward_zero(-0.0) == "0"


def test_a_value_just_above_the_threshold_is_told_from_it():
    assert words.apart(0.3000001, 0.3) == "0.3000001"
    assert words.apart(0.5, 0.3) == "0.5"


def test_constants_read_as_in_the_notation():
    assert [words.quantity(v) for v in (True, 2, 0.5, "add", [1.0, 2.0])] == [
        "true",
        "2",
        "0.5",
        "add",
        "[1, 2]",
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("digits:7", "digits:7"),
        ("ümläut-日本-😀.png", "ümläut-日本-😀.png"),
        (os.fsdecode(b"caf\xe9.png"), "caf\\xe9.png"),
        ("\ud800", "\\ud800"),
    ],
)
def test_names_are_text_whatever_their_bytes(name, text):
    assert words.written(name) == text
    assert words.written(name).encode()
