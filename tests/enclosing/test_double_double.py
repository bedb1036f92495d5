"""Numbers to twice the precision: against exact fractions, and functions of them against mpmath."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
import torch

from steadygaze.enclosing import double_double, double_functions, double_kernels
from steadygaze.enclosing.double_double import Precise, precise_products
from steadygaze.enclosing.double_functions import exponential, logarithm, normal_share

COUNT = 200


@pytest.fixture(autouse=True, params=["kernels", "tensors"])
def _many_digits(request, monkeypatch):
    if request.param == "tensors":  # as on a GPU
        monkeypatch.setattr(double_kernels, "suit", lambda x: False)
    with mpmath.workprec(300):
        yield


def numbers(low, high, error=0.0, seed=0):
    """Numbers with a low part each, known but for a relative error."""
    rng = np.random.default_rng(seed)
    high_part = torch.from_numpy(rng.uniform(low, high, COUNT))
    low_part = high_part * torch.from_numpy(rng.uniform(-1, 1, COUNT)) * 2.0**-54
    return Precise(high_part, low_part, error * high_part.abs())


def exact(x, index, share=0.0):
    """One of the numbers, off by a share of its error."""
    parts = (float(own.flatten()[index]) for own in (x.high, x.low, x.error))
    high, low, error = (Fraction(part) for part in parts)
    return high + low + Fraction(share) * error


def many(fraction):
    return mpmath.mpf(fraction.numerator) / fraction.denominator


def excess(found, true):
    """By how much of its error each number is off, at most; true: what they are, as mpmath or fractions."""
    worst = 0.0
    for index, value in enumerate(true):
        error = float(found.error.flatten()[index])
        if error == np.inf:
            continue
        off = abs(many(exact(found, index)) - (many(value) if isinstance(value, Fraction) else value))
        worst = max(worst, float(off / error) if error else float(off > 0) * 1e9)
    return worst


OPERATIONS: dict[str, Any] = {
    "sum": (lambda a, b: a + b, lambda a, b: a + b),
    "difference": (lambda a, b: a - b, lambda a, b: a - b),
    "product": (lambda a, b: a * b, lambda a, b: a * b),
    "square": (lambda a, _: a.square(), lambda a, _: a * a),
    "reciprocal": (lambda a, _: a.reciprocal(), lambda a, _: 1 / a),
    "plus a number": (lambda a, _: a + 0.7, lambda a, _: a + Fraction(0.7)),
    "sum of pairs": (
        lambda a, b: Precise(*(torch.stack(own, 1) for own in zip(a._parts, b._parts, strict=True))).total(1),
        lambda a, b: a + b,
    ),
    "a third": (lambda a, _: a.times(Precise.of(Fraction(1, 3))), lambda a, _: a / 3),
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("error", [0.0, 1e-25])
def test_sums_and_products_are_off_by_no_more_than_said(name, error):
    function, own = OPERATIONS[name]
    for scale in (1.0, 1e-12, 1e9):
        a, b = numbers(0.1, 3.0, error), numbers(-scale, scale, error, seed=1)
        found = function(a, b)
        for share in (-1, 0, 1):
            true = [own(exact(a, k, share), exact(b, k, share)) for k in range(COUNT)]
            assert excess(found, true) <= 1
        size = (found.high.abs() + a.high.abs() + b.high.abs()) * (1 + a.high.abs())
        assert (found.error <= (8 * error + 2.0**-96) * size).all()


FUNCTIONS: dict[str, Any] = {
    "root": (lambda x: x.rsqrt(), lambda x: 1 / mpmath.sqrt(x), (1e-6, 50.0)),
    "exp": (exponential, mpmath.exp, (-40.0, 10.0)),
    "exp near 0": (exponential, mpmath.exp, (-0.01, 0.01)),
    "exp far away": (exponential, mpmath.exp, (-900.0, 720.0)),
    "log": (logarithm, mpmath.log, (1e-4, 1e3)),
    "normal": (normal_share, mpmath.ncdf, (-4.0, 4.0)),
    "normal far away": (normal_share, mpmath.ncdf, (-14.0, 14.0)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("error", [0.0, 1e-24])
def test_functions_are_off_by_no_more_than_said(name, error):
    function, own, (low, high) = FUNCTIONS[name]
    x = numbers(low, high, error)
    found = function(x)
    for share in (-1, 0, 1):
        assert excess(found, [own(many(exact(x, k, share))) for k in range(COUNT)]) <= 1
    if "far" not in name:
        assert (found.error <= (1e3 * error + 2.0**-94) * (1 + found.high.abs()) * (1 + found.high**3)).all()


@pytest.mark.parametrize("x", [-11.9375, -11.0, -5.0, -0.0625, 0.0, 0.0625, 8.0, 11.9375])
def test_places_of_the_normal_distribution_are_known_to_all_digits(x):
    """Where nothing of the series is left: those far below 0 are differences of numbers about 1."""
    found = normal_share(Precise.exact(torch.tensor([x], dtype=torch.float64)))
    assert excess(found, [mpmath.ncdf(mpmath.mpf(x))]) <= 1
    assert found.error[0] <= 2.0**-100 * found.high[0]


def test_what_is_not_known_has_an_infinite_error():
    x = Precise.exact(torch.tensor([0.0, 1e-310, 800.0], dtype=torch.float64))
    assert x.reciprocal().error[0] == torch.inf
    assert exponential(x).error[2] == torch.inf
    wide = Precise.rounded(torch.ones(1, dtype=torch.float64), torch.full((1,), 10.0, dtype=torch.float64))
    nothing = Precise.exact(torch.full((1,), torch.nan, dtype=torch.float64))
    for function in (exponential, normal_share, logarithm, Precise.rsqrt):
        assert function(wide).error == torch.inf
        assert not function(nothing).error < torch.inf


def exact_products(weight, rows):
    """The entries of ``rows weightᵀ``, row by row, as fractions."""
    return [
        sum(Fraction(float(a)) * Fraction(float(b)) for a, b in zip(row, own, strict=True))
        for own in rows
        for row in weight
    ]


@pytest.mark.parametrize("spread", [0, 12, 40])
def test_matrix_products_are_known_to_twice_the_precision(spread):
    rng = np.random.default_rng(spread)
    weight = torch.from_numpy(rng.standard_normal((5, 300)))
    x = torch.from_numpy(rng.standard_normal((3, 300)) * 10.0 ** -rng.uniform(0, spread, (3, 300)))
    x[1] = 0.0
    found = precise_products(lambda w, rows: rows @ w.T, weight, x, 300, shared=True)
    true = exact_products(weight, x)
    assert excess(found, true) <= 1
    assert (found.error <= 2.0**-82).all()


@pytest.mark.parametrize("parts", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", [(8, 8), (8, 53), (53, 8), (24, 53), (30, 41), (53, 53)])
def test_products_of_numbers_with_few_bits_are_known_however_they_are_cut(bits, parts):
    """Some parts of them, or what is left, are 0 throughout."""
    rng = np.random.default_rng(sum(bits))
    first, second = (
        torch.from_numpy(np.rint(rng.uniform(-1, 1, (n, 200)) * 2.0**own) * 2.0**-own)
        for n, own in zip((4, 2), bits, strict=True)
    )
    found = precise_products(lambda w, rows: rows @ w.T, first, second, 200, shared=True, parts=parts)
    assert excess(found, exact_products(first, second)) <= 1
    assert (found.error <= max(2.0**-100, 2.0 ** (-31 - 22 * parts))).all()


@pytest.mark.parametrize("size", [1e300, 1e301, 1e307, -1.5e308])
@pytest.mark.parametrize("weights", [1e-301, 1e-150, 1e-5])
def test_products_of_numbers_near_the_largest_are_known_or_not_at_all(size, weights):
    rng = np.random.default_rng(7)
    weight = weights * torch.from_numpy(rng.standard_normal((5, 16)))
    x = torch.from_numpy(rng.standard_normal((1, 16)))
    x[0, 3] = size
    for first, second in ((weight, x), (x, weight)):
        found = precise_products(lambda w, rows: rows @ w.T, first, second, 16, shared=True)
        true = exact_products(first, second)
        assert excess(found, true) <= 1


def test_products_of_two_computed_matrices_have_scales_of_their_own():
    rng = np.random.default_rng(1)
    a, b = (torch.from_numpy(rng.standard_normal((2, 3, *shape))) for shape in ((4, 6), (6, 2)))
    b[1] *= 1e-30
    found = precise_products(torch.matmul, a, b, 6, shared=False)
    true = [
        sum(Fraction(float(a[n, h, i, k])) * Fraction(float(b[n, h, k, j])) for k in range(6))
        for n in range(2)
        for h in range(3)
        for i in range(4)
        for j in range(2)
    ]
    assert excess(found, true) <= 1
    assert (found.error[1] <= 1e-55).all()


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_totals_along_an_axis_are_off_by_no_more_than_said(axis):
    whole = numbers(-1.0, 1.0, 1e-25).shaped(lambda own: own.reshape(5, 8, 5))
    found = whole.total(axis)
    assert found.high.shape[axis] == 1
    places = torch.arange(COUNT).reshape(5, 8, 5).movedim(axis, -1).flatten(0, 1)
    for share in (-1, 0, 1):
        true = [sum(exact(whole, k, share) for k in own.tolist()) for own in places]
        assert excess(found, true) <= 1
    assert (found.error <= 10 * (1e-25 + 2.0**-100)).all()


def coefficients(shared, orders=5):
    """Numbers of a series, each with a low part and an error."""
    own = [numbers(-2.0, 2.0, 1e-25, seed=10 + k) for k in range(orders)]
    found = torch.stack([torch.stack(one._parts) for one in own])
    return found[..., :1] if shared else found


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("error", [0.0, 1e-24])
def test_series_are_off_by_no_more_than_said(shared, error):
    x, given = numbers(-1.5, 1.5, error, seed=3), coefficients(shared)
    found = x.series(given)
    each = [Precise(*own.expand(-1, COUNT)) for own in given]
    for share in (-1, 0, 1):
        true = []
        for index in range(COUNT):
            powers = [exact(x, index, share) ** k for k in range(len(given))]
            true.append(
                sum(exact(own, index, share) * power for own, power in zip(each, powers, strict=True))
            )
        assert excess(found, true) <= 1
    assert (found.error <= 1e3 * (error + 1e-25 + 2.0**-100)).all()


@pytest.mark.parametrize("name", ["added", "multiplied", "summed", "cut", "series", "shared series"])
def test_kernels_give_the_numbers_that_tensors_give(name, monkeypatch):
    a, b = numbers(0.1, 3.0, 1e-25), numbers(-1e-3, 1e3, 1e-25, seed=1)
    parts = [own.high * 2.0 ** (-20 * k) for k, own in enumerate((a, b, a, b))]
    made = {
        "added": lambda: a + b,
        "multiplied": lambda: a * b,
        "summed": lambda: double_double._total_of(parts),
        "cut": lambda: Precise(*double_double._cut(b.high.reshape(4, 50), 20, 2)[0]),
        "series": lambda: a.series(coefficients(False)),
        "shared series": lambda: a.series(coefficients(True)),
    }[name]
    one = made()
    monkeypatch.setattr(double_kernels, "suit", lambda x: x.device.type == "cpu")
    other = made()
    assert all((x == y).all() for x, y in zip(one._parts, other._parts, strict=True))


# -- planted faults: each must be seen


def test_a_product_without_what_rounding_took_is_seen(monkeypatch):
    monkeypatch.setattr(double_kernels, "suit", lambda x: False)
    monkeypatch.setattr(double_double, "two_product", lambda a, b: (a * b, 0 * a * b))
    with pytest.raises(AssertionError):
        test_sums_and_products_are_off_by_no_more_than_said("product", 0.0)


@pytest.mark.parametrize("name", ["added", "multiplied"])
def test_a_kernel_that_loses_the_low_part_is_seen(monkeypatch, name):
    whole = getattr(double_kernels, name)
    monkeypatch.setattr(double_kernels, "suit", lambda x: True)
    monkeypatch.setattr(double_kernels, name, lambda *given: whole(*given) * [[1.0], [0.0], [1.0]])
    with pytest.raises(AssertionError):
        test_sums_and_products_are_off_by_no_more_than_said("sum" if name == "added" else "product", 0.0)


def test_a_series_that_loses_the_low_part_is_seen(monkeypatch):
    whole = double_kernels.series
    monkeypatch.setattr(double_kernels, "suit", lambda x: True)
    monkeypatch.setattr(double_kernels, "series", lambda *given: whole(*given) * [[1.0], [0.0], [1.0]])
    with pytest.raises(AssertionError):
        test_series_are_off_by_no_more_than_said(False, 0.0)


def test_parts_of_too_many_bits_are_seen(monkeypatch):
    monkeypatch.setattr(double_double, "_BITS", 70)
    with pytest.raises(AssertionError):
        test_matrix_products_are_known_to_twice_the_precision(0)


def test_rounding_of_what_is_left_behind_parts_is_seen(monkeypatch):
    monkeypatch.setattr(double_double, "UNIT", 0.0)
    with pytest.raises(AssertionError):
        test_products_of_numbers_with_few_bits_are_known_however_they_are_cut((53, 53), 1)


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_part_that_is_lost_is_seen(monkeypatch, lost):
    whole = double_double._cut

    def shorter(*given):
        parts, size = whole(*given)
        parts[lost] = None
        return parts, size

    monkeypatch.setattr(double_double, "_cut", shorter)
    with pytest.raises(AssertionError):
        test_products_of_numbers_with_few_bits_are_known_however_they_are_cut((53, 53), 2)


def test_parts_of_numbers_too_large_for_them_are_seen(monkeypatch):
    monkeypatch.setattr(torch, "where", lambda _, own, other: own)
    with pytest.raises(AssertionError):
        test_products_of_numbers_near_the_largest_are_known_or_not_at_all(1e307, 1e-150)


def test_a_series_that_ends_too_soon_is_seen(monkeypatch):
    whole = double_functions._around_places()
    shorter = whole.clone()
    shorter[12:] = 0.0
    monkeypatch.setattr(double_functions, "_around_places", lambda: shorter)
    with pytest.raises(AssertionError):
        test_functions_are_off_by_no_more_than_said("normal", 0.0)
