"""Smooth functions of enclosures: samples lie inside, errors are of second order and not above a range's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadygaze.enclosing import curves
from steadygaze.enclosing.enclosures import Enclosure, tighter

FUNCTIONS = {
    "cosine": (curves.cosine, lambda x: np.cos(np.deg2rad(x)), (-500.0, 500.0)),
    "sine": (curves.sine, lambda x: np.sin(np.deg2rad(x)), (-500.0, 500.0)),
    "reciprocal": (curves.reciprocal, lambda x: 1 / x, (0.01, 10.0)),
    "exponential": (curves.exponential, np.exp, (-20.0, 20.0)),
    "logarithm": (curves.logarithm, np.log, (0.01, 10.0)),
}


def over(low, high, error=0.0):
    """Intervals as enclosures of one coordinate, a part of their width being error."""
    middle, half = (low + high) / 2, (high - low) / 2
    return Enclosure(middle, (half * (1 - error))[:, None], half * error)


def excess(made, function, low, high, error):
    worst = -np.inf
    for t in np.linspace(-1, 1, 41):
        for share in (-1.0, 0.0, 1.0):
            middle, half = (low + high) / 2, (high - low) / 2
            values = function(middle + half * ((1 - error) * t + error * share))
            away = np.abs(values - made.at(np.full((len(low), 1), t))) - made.error
            worst = max(worst, (away - 1e-14 * (1 + np.abs(values))).max())
    return worst


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("error", [0.0, 0.3, 1.0])
@given(seed=st.integers(0, 2**32 - 1), width=st.sampled_from([0.0, 1e-14, 1e-9, 1e-3, 0.1, 0.6]))
def test_samples_lie_inside(name, error, seed, width):
    make, function, (least, most) = FUNCTIONS[name]
    rng = np.random.default_rng(seed)
    half = width * (most - least) / 2
    middle = rng.uniform(least + half, most - half, 4)
    low, high = middle - half, middle + half
    made = make(over(low, high, error))
    assert (made.error >= 0).all()
    assert excess(made, function, low, high, error) <= 0


@pytest.mark.parametrize("name", FUNCTIONS)
def test_errors_fall_with_the_square_of_the_width(name):
    make, _, (least, most) = FUNCTIONS[name]
    middle = np.array([least + 0.43 * (most - least)])
    errors = []
    for width in (0.02, 0.01, 0.005):
        half = width * (most - least) / 2
        errors.append(make(over(middle - half, middle + half)).error[0])
    assert errors[0] >= 3.8 * errors[1] >= 14 * errors[2]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_error_is_larger_than_that_of_the_range(name):
    make, function, (least, most) = FUNCTIONS[name]
    for low, high in ((least, most), (least, 0.5 * (least + most)), (0.3 * most, 0.9 * most)):
        made = make(over(np.array([low]), np.array([high])))
        values = function(np.linspace(low, high, 2001))
        assert made.error[0] <= np.ptp(values) / 2 * 1.05


def test_over_points_only_rounding_is_left():
    for make, function, (least, most) in FUNCTIONS.values():
        at = np.linspace(least, most, 9)
        made = make(over(at, at))
        np.testing.assert_allclose(made.centre, function(at), rtol=1e-12, atol=1e-13)
        assert (made.radius <= 1e-12 * (1 + np.abs(function(at)))).all()


def test_a_tighter_enclosure_is_taken_entry_by_entry():
    first = Enclosure(np.array([[1.0, 2.0]]), np.ones((1, 1, 2)), np.array([[0.1, 0.5]]))
    second = Enclosure(np.array([[3.0, 4.0]]), np.zeros((1, 1, 2)), np.array([[0.3, 0.2]]))
    made = tighter(first, second)
    np.testing.assert_array_equal(made.centre, [[1.0, 4.0]])
    np.testing.assert_array_equal(made.slopes, [[[1.0, 0.0]]])
    np.testing.assert_array_equal(made.error, [[0.1, 0.2]])


@pytest.mark.parametrize("fault", ["sag", "steps"])
def test_planted_faults_are_seen(monkeypatch, fault):
    """Without what bounds the function between the places that are looked at, samples lie outside."""
    low, high = np.array([0.5]), np.array([3.0])
    if fault == "sag":
        chord = (np.exp(3.0) - np.exp(0.5)) / 2.5
        made = curves.convex(over(low, high), np.exp, lambda x: np.full_like(x, chord))
        assert excess(made, np.exp, low, high, 0.0) > 0
    else:
        low, high = np.array([-100.0]), np.array([130.0])
        cosine = FUNCTIONS["cosine"][1]
        made = curves.smooth(over(low, high), cosine, lambda a, b: (0 * a, 0 * b), (-1.0, 1.0))
        assert excess(made, cosine, low, high, 0.0) > 0
