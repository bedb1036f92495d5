"""Affine arithmetic: what is computed with sampled numbers lies in what is computed with enclosures."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadygaze.enclosing import enclosures
from steadygaze.enclosing.enclosures import Enclosure, Weights

RNG = np.random.default_rng(21)
ROWS, COUNT, SHAPE = 3, 2, (4,)


def some(scale=1.0, error=0.1, rng=RNG):
    return Enclosure(
        rng.standard_normal((ROWS, *SHAPE)),
        scale * rng.standard_normal((ROWS, COUNT, *SHAPE)),
        error * rng.random((ROWS, *SHAPE)),
    )


def drawn(enclosure, t, rng):
    """Values that the enclosure allows at ``t``: errors at their ends, 0, or between."""
    shares = rng.choice([-1.0, 0.0, 1.0, 0.3], size=enclosure.error.shape)
    return enclosure.at(t) + shares * enclosure.error


def coordinates(rng):
    t = rng.uniform(-1, 1, (ROWS, COUNT))
    return np.where(rng.random(t.shape) < 0.5, np.sign(t), t)


def excess(enclosure, values, t):
    """How far the values lie outside, at ``t``; rounding of the comparison itself allowed."""
    away = np.abs(values - enclosure.at(t)) - enclosure.error
    return (away - 1e-14 * (1 + np.abs(values))).max()


def times(first, second):
    return first * second


OPERATIONS = {
    "sum": lambda x, y: x + y,
    "difference": lambda x, y: x - y,
    "product": times,
    "square of one": lambda x, y: x * x,
    "opposite": lambda x, y: 1.5 - x,
    "scaled": lambda x, y: -3.0 * x + y,
    "by an array": lambda x, y: np.array([0.0, -2.0, 1.0, 0.5]) * x + np.arange(4.0),
    "nested": lambda x, y: (x - y) * (x + y) * 0.3 - x,
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("scale", [0.0, 1e-9, 0.3, 4.0])
@given(seed=st.integers(0, 2**32 - 1))
def test_values_stay_inside(name, scale, seed):
    rng = np.random.default_rng(seed)
    x, y = some(scale, rng=rng), some(scale, error=scale, rng=rng)
    made = OPERATIONS[name](x, y)
    for _ in range(8):
        t = coordinates(rng)
        values = drawn(x, t, rng), drawn(y, t, rng)
        assert excess(made, OPERATIONS[name](*values), t) <= 0


def test_a_linear_function_carries_errors_by_its_absolute_weights():
    matrix = RNG.standard_normal((5, 4))
    weights = Weights(lambda values: values @ np.abs(matrix).T, 4)
    x = some()
    made = x.linear(lambda values: values @ matrix.T, weights)
    np.testing.assert_allclose(made.error, x.error @ np.abs(matrix).T, rtol=1e-12)
    for _ in range(20):
        t = coordinates(RNG)
        assert excess(made, drawn(x, t, RNG) @ matrix.T, t) <= 0


def test_what_depends_on_the_same_parameter_cancels():
    x = some(error=0.0)
    assert (x - x).radius.max() < 1e-14
    both = (x + 1.0) * (x - 1.0) - x * x
    assert np.abs(both.centre + 1).max() < 1e-14


def test_the_remainder_of_a_product_is_of_second_order():
    x, y = some(error=0.0), some(error=0.0)

    def halved(one, factor):
        return Enclosure(one.centre, factor * one.slopes, one.error)

    errors = [(halved(x, f) * halved(y, f)).error for f in (1.0, 0.5, 0.25)]
    np.testing.assert_allclose(errors[0], 4 * errors[1], rtol=1e-9)
    np.testing.assert_allclose(errors[1], 4 * errors[2], rtol=1e-9)


def test_a_square_is_known_to_be_one_sided():
    x = Enclosure(np.zeros((1, 1)), np.ones((1, 1, 1)), np.zeros((1, 1)))
    low, high = (x * x).bounds()
    assert -1e-14 < low.item() <= 0
    assert 1 <= high.item() < 1 + 1e-14


@given(
    numbers=st.lists(st.floats(-1e6, 1e6).map(lambda x: x if abs(x) > 1e-90 else 0.0), min_size=4, max_size=4)
)
def test_rounding_is_enclosed_in_exact_arithmetic(numbers):
    a, b, c, d = numbers
    x = Enclosure.exact(np.array([[a]]), 1)
    y = Enclosure.exact(np.array([[b]]), 1)
    made = (x * y + c) * d - x * 0.1 + y
    exactly = [Fraction(number) for number in numbers]
    value = (exactly[0] * exactly[1] + exactly[2]) * exactly[3] - exactly[0] * Fraction(0.1) + exactly[1]
    low, high = made.bounds()
    assert Fraction(low.item()) <= value <= Fraction(high.item())


@given(low=st.floats(-1e3, 1e3), width=st.floats(0, 1e3))
def test_boxes_are_covered_by_their_coordinates(low, width):
    high = max(low, low + width)
    amounts = Enclosure.of_boxes(np.array([[[low, high]]]))
    middle, half, error = (Fraction(v.item()) for v in (amounts.centre, amounts.slopes, amounts.error))
    assert middle - half - error <= Fraction(low)
    assert middle + half + error >= Fraction(high)
    assert Fraction(float(error)) <= Fraction(3e-12)
    first, last = amounts.bounds()
    assert first.item() <= low <= high <= last.item()


def test_between_holds_both_ends():
    low, high = RNG.random((2, 3)), 1 + RNG.random((2, 3))
    made = Enclosure.between(low, high, 2)
    first, last = made.bounds()
    assert (first <= low).all()
    assert (last >= high).all()
    assert (last - first <= (high - low) + 1e-13).all()


def test_exact_numbers_stay_exact_where_nothing_is_rounded():
    zero = Enclosure.exact(np.zeros((2, 3)), 2)
    amount = Enclosure.of_boxes(np.array([[[-1.0, 1.0], [0.0, 0.5]]] * 2))[0:1]
    assert zero.is_exact
    assert (zero * amount).is_exact
    assert not amount.is_exact
    np.testing.assert_array_equal((zero * amount + 0.0).bounds(), np.zeros((2, 2, 3)))


def product_of(a, b):
    """The enclosure of a b, and the number itself."""
    x, y = Enclosure.exact(np.array([[a]]), 1), Enclosure.exact(np.array([[b]]), 1)
    return (x * y).bounds(), Fraction(a) * Fraction(b)


@pytest.mark.parametrize("fault", ["remainder", "sign", "rounding"])
def test_planted_faults_are_seen(monkeypatch, fault):
    """The checks above do fail: with the remainder dropped, a slope turned round, rounding left out."""
    plain = Enclosure._times

    def faulty(self, other):
        made = plain(self, other)
        if fault == "remainder":
            return Enclosure(made.centre, made.slopes, self.error * np.abs(other.centre))
        if fault == "sign":
            return Enclosure(made.centre, -made.slopes, made.error)
        return Enclosure(made.centre, made.slopes, made.error * 0)

    monkeypatch.setattr(Enclosure, "_times", faulty)
    seen = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x, y, t = some(rng=rng, error=0.0), some(rng=rng, error=0.0), coordinates(rng)
        seen += excess(x * y, drawn(x, t, rng) * drawn(y, t, rng), t) > 0
        (low, high), exactly = product_of(*rng.random(2))
        seen += not Fraction(low.item()) <= exactly <= Fraction(high.item())
    assert seen >= 10
    monkeypatch.undo()
    for a, b in RNG.random((20, 2)):
        (low, high), exactly = product_of(a, b)
        assert Fraction(low.item()) <= exactly <= Fraction(high.item())


def test_what_rounding_takes_from_middle_and_slopes_is_kept():
    """Sums and products, in exact fractions: within the rest and its error, which is of second order."""
    rng = np.random.default_rng(8)
    for scale in (0.0, 1e-14, 1e-9, 0.1):
        x, y = (_keeping(some(scale, 0.0, rng)) for _ in range(2))
        factor = rng.standard_normal(SHAPE)
        cases = {
            "sum": (x + y, lambda a, b, _: a + b),
            "shifted": (x + factor, lambda a, _, f: a + f),
            "scaled": (x * factor, lambda a, _, f: a * f),
            "product": (x * y, lambda a, b, _: a * b),
            "nested": ((x + 1.0) * (y - factor) + 0.3, lambda a, b, f: (a + 1) * (b - f) + Fraction(0.3)),
            "opposite": (1.0 - x, lambda a, *_: 1 - a),
        }
        for name, (made, own) in cases.items():
            rest, error = made.beside
            assert (error <= 16 * scale**2 * (name in ("product", "nested")) + 1e-28).all(), name
            for t in ([1.0, -1.0], [0.25, 1.0], [0.0, 0.0]):
                for place in np.ndindex(ROWS, *SHAPE):
                    given = [_exactly(e, place, t) for e in (x, y)]
                    true = own(*given, Fraction(factor[place[1:]]))
                    (box, *entry), factors = place, [1.0, *t]
                    kept = zip(factors, rest[(box, slice(None), *entry)], strict=True)
                    off = abs(
                        true - _exactly(made, place, t) - sum(Fraction(s) * Fraction(own) for s, own in kept)
                    )
                    assert off <= Fraction(error[place]), name


def _keeping(enclosure):
    rest = np.zeros((ROWS, 1 + enclosure.count, *SHAPE))
    return replace(enclosure, rest=rest, rest_error=enclosure.error)


def test_parameters_are_known_to_twice_the_precision():
    """Both ends of boxes, in exact fractions."""
    rng = np.random.default_rng(3)
    boxes = np.sort(rng.standard_normal((40, 2, 2)) * 10.0 ** rng.integers(-9, 3, (40, 2, 1)), axis=-1)
    known = Enclosure.of_boxes(boxes, keep_rest=True)
    rest, error = known.beside
    assert (error <= 1e-31 * np.abs(boxes).max(axis=-1)).all()
    for box, axis, end in np.ndindex(boxes.shape):
        t = 2 * end - 1
        rows = (Fraction(known.centre[box, axis]), t * Fraction(known.slopes[box, axis, axis]))
        kept = Fraction(rest[box, 0, axis]) + t * Fraction(rest[box, 1 + axis, axis])
        assert abs(Fraction(boxes[box, axis, end]) - sum(rows) - kept) <= Fraction(error[box, axis])


def test_products_are_the_same_made_at_once_or_one_by_one(monkeypatch):
    known = some()
    first, second = replace(known, error=0 * known.error), some(error=0.0)
    at_once = first * second
    t = np.array(list(np.ndindex(*(3,) * COUNT))) - 1.0
    excesses = [excess(at_once, first.at(own) * second.at(own), own) for own in t[:, None].repeat(ROWS, 1)]
    assert max(excesses) <= 0
    monkeypatch.setattr(enclosures, "_FEW", 0)
    np.testing.assert_allclose(at_once.error, (first * second).error, rtol=1e-12)


def test_coordinates_that_move_nothing_may_be_left_out():
    boxes = np.array([[[0.1, 0.2], [0.3, 0.3], [-0.3, 0.4]]])
    known = Enclosure.of_boxes(boxes, ((0, 2),), keep_rest=True)
    assert known.moving.tolist() == [0, 2]
    own = known.along(known.moving)
    assert (own.count, own.rest) == (2, None)
    np.testing.assert_array_equal(own.slopes, known.slopes[:, [0, 2]])
    np.testing.assert_array_equal(own.error, known.error)


def test_nothing_is_kept_that_nobody_asks_for():
    boxes = np.array([[[0.1, 0.2], [-0.3, 0.4]]])
    plain, keeping = Enclosure.of_boxes(boxes), Enclosure.of_boxes(boxes, keep_rest=True)
    assert (plain[0] + plain[1] * 3.0).rest is None
    assert (keeping[0] + keeping[1] * 3.0).rest is not None
    assert (1.0 - keeping[0] * plain[1]).rest is not None


def _exactly(enclosure, place, t):
    """The affine part at coordinates, in fractions."""
    box, *entry = place
    slopes = enclosure.slopes[(box, slice(None), *entry)]
    linear = sum(Fraction(own) * Fraction(slope) for own, slope in zip(t, slopes, strict=True))
    return Fraction(enclosure.centre[place]) + linear
