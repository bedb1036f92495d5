"""Taylor coefficients of smooth functions, and bounds of them, against mpmath."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import torch

from many_digits import FUNCTIONS
from steadygaze.network.bounding.curves import series
from steadygaze.network.bounding.curves.series import series_of
from steadygaze.network.smooth import Smooth

ORDER = 9
KNOWN = ("sigmoid", "tanh", "softplus", "exp", "silu", "gelu", "gelu-tanh", "mish")
POWERS = ((-0.5, 1e-3), (-1.0, 1e-3), (0.5, 1e-3), (2.0, -np.inf), (3.0, -np.inf))


@pytest.fixture(autouse=True)
def _many_digits():
    with mpmath.workprec(300):
        yield


def true_coefficients(function, x, order):
    return mpmath.taylor(function, mpmath.mpf(x), order)


def cases():
    """Layers, functions in mpmath, and points."""
    for name in KNOWN:
        yield Smooth(name), FUNCTIONS[name], (-9.0, -3.2, -1.0, -1e-9, 0.0, 0.4, 1.7, 6.0)
    yield Smooth("elu"), lambda z: FUNCTIONS["elu"](mpmath.re(z)), (-9.0, -3.2, -1.5, 1.5, 6.0)
    for exponent, floor in POWERS:
        whole = np.isinf(floor)
        points = (-2.0, 0.0, 0.7, 3.0) if whole else (0.02, 0.7, 3.0)
        yield Smooth("power", (exponent, floor)), lambda z, p=exponent: z ** mpmath.mpf(p), points


each_function = pytest.mark.parametrize(
    ("layer", "function", "points"), list(cases()), ids=lambda own: getattr(own, "function", "")
)


@each_function
def test_coefficients_are_off_by_no_more_than_they_say(layer, function, points):
    x = torch.tensor([points], dtype=torch.float64)
    found = series_of(layer, x, x, x, ORDER)
    assert found is not None
    for place, point in enumerate(points):
        true = true_coefficients(function, point, ORDER)
        for k in range(1, ORDER + 1):
            off = abs(mpmath.mpf(float(found.numbers[k][0, place])) - true[k])
            # mpmath takes derivatives by differences: these are good to many more digits than float64.
            assert off <= float(found.off[k][0, place]) + 1e-25
            assert float(found.off[k][0, place]) <= 1e-8 * (1 + abs(true[k]))


@each_function
@pytest.mark.parametrize("width", [pytest.param(0.01, marks=pytest.mark.slow), 1.0])
def test_bounds_hold_all_over_the_interval(layer, function, points, width):
    assert excess_of_bounds(layer, function, points, width) <= 1


def excess_of_bounds(layer, function, points, width):
    """The largest coefficient over its bound."""
    least = max(layer.numbers[1], -1e9) * 2 if layer.function == "power" else -1e9
    x = torch.tensor([points], dtype=torch.float64)
    low, high = (x - width / 2).clamp_min(least), x + width
    found = series_of(layer, x, low, high, ORDER)
    assert found is not None
    worst = 0.0
    for place in range(len(points)):
        for z in np.linspace(float(low[0, place]), float(high[0, place]), 7):
            true = true_coefficients(function, z, ORDER + 1)
            for k in range(1, ORDER + 2):
                worst = max(worst, float((abs(true[k]) - 1e-25) / float(found.bound(k)[0, place])))
    return worst


def excess_beyond(layer, function, points, width, order):
    """By how much of what they say values and derivatives are off, where series of that order end."""
    x = torch.tensor([points], dtype=torch.float64)
    found = series_of(layer, x, x - width, x + width, order)
    assert found is not None
    worst = 0.0
    for place, point in enumerate(points):
        numbers = [mpmath.mpf(float(own[0, place])) for own in found.numbers]
        off = [mpmath.mpf(float(own[0, place])) for own in found.off]
        bounds = [mpmath.mpf(float(found.bound(k)[0, place])) for k in (order, order + 1)]
        for d in mpmath.linspace(-width, width, 9):
            size, z = abs(d), mpmath.mpf(point) + d
            left = function(z) - function(mpmath.mpf(point))
            left -= sum(number * d**k for k, number in enumerate(numbers[:order]) if k)
            doubt = sum(own * size**k for k, own in enumerate(off[:order]) if k) + bounds[0] * size**order
            worst = max(worst, float(abs(left) / (doubt + mpmath.mpf(10) ** -40)))
            left = mpmath.diff(function, z, direction=int(mpmath.sign(d)))
            left -= sum((k + 1) * numbers[k + 1] * d**k for k in range(order))
            doubt = sum((k + 1) * off[k + 1] * size**k for k in range(order))
            doubt += (order + 1) * bounds[1] * size**order + mpmath.mpf(10) ** -30
            worst = max(worst, float(abs(left) / doubt))
    return worst


KINKED = (-0.3, -1e-3, 0.0, 0.02, 0.4)


@pytest.mark.parametrize("order", [2, 3, 6])
@pytest.mark.parametrize("width", [0.01, 0.5])
def test_values_and_derivatives_are_off_by_no_more_where_pieces_meet(width, order):
    assert excess_beyond(Smooth("elu"), FUNCTIONS["elu"], KINKED, width, order) <= 1
    assert excess_beyond(Smooth("mish"), FUNCTIONS["mish"], KINKED, width, order) <= 1


def test_pieces_that_meet_unseen_are_seen(monkeypatch):
    whole = series._Interval
    monkeypatch.setattr(series, "_Interval", lambda low, high: whole(low, torch.minimum(high, 0 * high)))
    assert excess_beyond(Smooth("elu"), FUNCTIONS["elu"], KINKED, 0.5, 3) > 1


def test_nothing_is_told_of_powers_that_come_to_their_floor():
    x = torch.tensor([[0.5]], dtype=torch.float64)
    assert series_of(Smooth("power", (-0.5, 0.1)), x, x - 0.45, x, 4) is None
    assert series_of(Smooth("softsign"), x, x, x, 4) is None


@pytest.mark.parametrize(
    ("name", "number", "value"),
    [("gelu", "_CRAMER", 0.2), ("mish", "_STRIP", 3.5), ("gelu-tanh", "_STRIP", 6.0)],
)
def test_a_bound_that_is_too_small_is_seen(monkeypatch, name, number, value):
    monkeypatch.setattr(series, number, value)
    assert excess_of_bounds(Smooth(name), FUNCTIONS[name], (-1.0, 0.0, 1.7), 1.0) > 1
