"""One model against another: the counts of pairs, the tests' own values, and what is no pair."""

from __future__ import annotations

import math

import pytest

from recorded import entry
from steadygaze.aggregate import ATTENTION, CLASS, compared
from steadygaze.aggregate.outcomes import outcomes_of
from steadygaze.errors import UsageError


def outcomes(model: str, holds: list[float | None]):
    """Images i0, i1, ... that hold up to a scale and fail from there; None: nothing is known."""
    return outcomes_of(
        [
            entry(
                f"i{k}",
                (h, h if h is None or h < 1 else None, h, h if h is None or h < 1 else None),
                model=model,
            )
            for k, h in enumerate(holds)
        ]
    )


def test_pairs_that_differ_are_counted_and_tested():
    first, second = (
        outcomes("one", [1, 1, 1, 1, 0.2, 0.2, 1]),
        outcomes("two", [1, 0.1, 0.1, 0.1, 0.2, 1, None]),
    )
    found = compared(first, second, CLASS, 0.5)
    assert (found.n, found.only_first, found.only_second, found.unsettled) == (7, 4, 1, 1)
    assert found.difference == pytest.approx(3 / 7)
    assert found.p == pytest.approx(2 * (1 + 5) / 2**5)  # two-sided: at most one of five the other way
    b, c, n = 4.5, 1.5, 9
    reach = 1.959964 * math.sqrt(b + c - (b - c) ** 2 / n) / n
    assert found.interval == pytest.approx(((b - c) / n - reach, (b - c) / n + reach), abs=1e-6)
    assert found.scale_difference == pytest.approx((3 * 0.9 - 0.8 + 1) / 7)
    low, high = found.scale_interval
    assert low < found.scale_difference < high
    assert found.scale_p is None  # five pairs differ


def test_where_nothing_differs_there_is_no_p_and_the_interval_stays_wide():
    found = compared(outcomes("one", [1, 0]), outcomes("two", [1, 0]), ATTENTION, 1.0)
    assert found.p is None
    assert found.scale_p is None
    assert found.scale_interval is None
    assert found.difference == 0
    assert found.interval[0] < -0.4
    assert found.interval[1] > 0.4


def test_swapping_swaps():
    first, second = (
        outcomes("one", [1, 1, 0.3, 0.5, 0.1, 1, 0.9]),
        outcomes("two", [0.5, 1, 0.2, 0.4, 0.2, 0.3, 0.1]),
    )
    one, two = compared(first, second, CLASS, 0.5), compared(second, first, CLASS, 0.5)
    assert (one.only_first, one.only_second) == (two.only_second, two.only_first)
    assert one.difference == -two.difference
    assert one.p == two.p
    assert one.scale_difference == pytest.approx(-two.scale_difference)
    assert one.scale_p == two.scale_p


def test_only_images_that_both_answered_are_pairs():
    first = outcomes_of([entry("a", (1, None, 1, None)), entry("b", (1, None, 1, None)), entry("c", None)])
    second = outcomes_of([entry("c", (1, None, 1, None)), entry("b", (1, None, 1, None)), entry("a", None)])
    assert compared(first, second, CLASS, 1.0).n == 1
    with pytest.raises(UsageError, match="no image in common"):
        compared(first.chosen([2]), second, CLASS, 1.0)
