"""Affine forms: every operation holds what the numbers may be, in exact fractions too."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from formed import MIXED, affine_part, coordinates, drawn, exact, excess, some_forms, symbols_of
from steadygaze.enclosing.enclosures import Enclosure
from steadygaze.enclosing.forms import ANY, SIGN, Forms, fresh_symbols

WEIGHT = torch.tensor([[1.0, -2.0, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0], [3.0, 3.0, -3.0, 1.0]]).double()
BIAS = torch.tensor([0.25, 0.0, -1.0]).double()


def weighed(forms, weight=WEIGHT, bias=BIAS):
    return forms.linear(lambda x: x @ weight.T, lambda x: x @ weight.abs().T, weight.shape[1], bias[None])


OPERATIONS = {
    "sum": (lambda x, y: x + y, lambda x, y: x + y),
    "doubled": (lambda x, y: x + x, lambda x, y: 2 * x),
    "difference": (lambda x, y: x + -y, lambda x, y: x - y),
    "nothing left": (lambda x, y: (x + y) + -x, lambda x, y: y),
    "scaled": (lambda x, y: x.scaled(WEIGHT[2]), lambda x, y: x * WEIGHT[2]),
    "scaled by box": (lambda x, y: x.scaled(SCALES), lambda x, y: x * SCALES),
    "raised": (lambda x, y: x.raised(SCALES), lambda x, y: x + SCALES),
    "product": (lambda x, y: x.times(y), lambda x, y: x * y),
    "square": (lambda x, y: x.times(x), lambda x, y: x * x),
    "linear": (lambda x, y: weighed(x), lambda x, y: x @ WEIGHT.T + BIAS),
    "nested": (lambda x, y: weighed((x + -y).times(x + y)), lambda x, y: (x * x - y * y) @ WEIGHT.T + BIAS),
    "reshaped": (lambda x, y: x.reshaped(2, 2).flattened() + y, lambda x, y: x + y),
    "without symbols": (lambda x, y: (x + y).without_symbols(), lambda x, y: x + y),
    "with more symbols": (lambda x, y: x.with_symbols(9) + y, lambda x, y: x + y),
}
SCALES = torch.tensor([[0.5, -1.5, 2.0, 0.0]] * 3).double() * torch.tensor([[1.0], [-1.0], [3.0]]).double()


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("origin", [None, MIXED], ids=["plain", "two-valued"])
@given(seed=st.integers(0, 2**32 - 1))
def test_values_stay_inside(name, origin, seed):
    rng = np.random.default_rng(seed)
    spread = rng.choice([0.0, 1e-9, 0.3, 4.0])
    x = some_forms(rng, spread=spread, error=spread, origin=origin)
    # The second has fewer symbols, which are the first of those that the first has.
    y = some_forms(rng, symbols=3, spread=spread)
    enclosed, plain = OPERATIONS[name]
    made = enclosed(x, y)
    for _ in range(4):
        t, s = coordinates(rng, 3, 2), symbols_of(rng, x)
        values = plain(drawn(rng, x, t, s), drawn(rng, y, t, s[:, :3]))
        # An error drawn twice is not the same twice: "square" and "nothing left" must hold all the more.
        assert excess(made, values, t, s) <= 0


def test_what_is_shared_cancels():
    rng = np.random.default_rng(0)
    x, y = some_forms(rng, error=0.0), some_forms(rng, error=0.0)
    nothing = (x + y) + -x + -y
    assert float(nothing.reach.max()) < 1e-14
    kept = (x.without_symbols() + y) + -x + -y
    assert float(kept.reach.max()) > 0.1


def test_products_are_tight_to_second_order():
    """What a product does not follow shrinks fourfold when both factors' ranges are halved."""
    rng = np.random.default_rng(1)
    x, y = some_forms(rng, symbols=0, error=0.0), some_forms(rng, symbols=0, error=0.0)
    errors = []
    for share in (1e-2, 5e-3):
        first, second = (
            Forms(torch.cat([f.rows[:, :1], share * f.rows[:, 1:]], dim=1), f.error, f.count) for f in (x, y)
        )
        errors.append(first.times(second).error.sum())
    assert errors[1] == pytest.approx(float(errors[0]) / 4, rel=1e-9)


# -- rounding, in exact fractions

# Numbers among which sums cancel, lose their small terms, or are not representable.
CROOKED = (1e16, -1e16, 1.0, -1.0, 1 / 3, 0.1, -0.1, 2.0**-60, 1e-300, 0.0, 3e7 + 1 / 7)


def crooked(rng, *shape):
    """Adversarial numbers: many cancel but for what rounding leaves."""
    picked = rng.choice(CROOKED, shape)
    return torch.from_numpy(np.where(rng.random(shape) < 0.5, picked, rng.standard_normal(shape)))


def crooked_forms(rng, boxes=2, count=2, symbols=2, entries=3):
    rows = crooked(rng, boxes, 1 + count + symbols, entries)
    return Forms(rows, crooked(rng, boxes, entries).abs(), count)


def lacking(made, rows, error):
    """By how much the error of `made` falls short of the exact rows and error, in fractions; at most 0."""
    rounding = np.abs(exact(made.rows) - rows).sum(axis=1)
    return (rounding + error - exact(made.error)).max()


exactly = given(seed=st.integers(0, 2**32 - 1))


@exactly
def test_a_linear_map_is_rounded_outwards(seed):
    rng = np.random.default_rng(seed)
    x, weight, bias = crooked_forms(rng), crooked(rng, 4, 3), crooked(rng, 4)
    made = weighed(x, weight, bias)
    rows, w = exact(x.rows), exact(weight)
    moved = rows @ w.T
    moved[:, 0] += exact(bias)
    assert lacking(made, moved, exact(x.error) @ np.abs(w).T) <= 0


@exactly
def test_sums_and_scalings_are_rounded_outwards(seed):
    rng = np.random.default_rng(seed)
    x, y, factor = crooked_forms(rng), crooked_forms(rng), crooked(rng, 2, 3)
    rows, other = exact(x.rows), exact(y.rows)
    assert lacking(x + y, rows + other, exact(x.error) + exact(y.error)) <= 0
    f = exact(factor)
    assert lacking(x.scaled(factor), rows * f[:, None], exact(x.error) * np.abs(f)) <= 0
    raised = rows.copy()
    raised[:, 0] += f
    assert lacking(x.raised(factor), raised, exact(x.error)) <= 0


@exactly
def test_products_are_rounded_outwards(seed):
    rng = np.random.default_rng(seed)
    x, y = crooked_forms(rng), crooked_forms(rng, symbols=0)
    (a, *alpha), (b, *beta) = (exact(f.rows).swapaxes(0, 1) for f in (x, y))
    d, e = exact(x.error), exact(y.error)
    rows = exact(x.rows) * b[:, None]
    rows[:, 1:3] += a[:, None] * np.stack(beta, axis=1)
    reaches = (np.abs(alpha).sum(axis=0) + d) * (np.abs(beta).sum(axis=0) + e)
    assert lacking(x.times(y), rows, d * np.abs(b) + e * np.abs(a) + reaches) <= 0


@exactly
def test_bounds_and_strays_are_rounded_outwards(seed):
    x = crooked_forms(np.random.default_rng(seed))
    rows, error = exact(x.rows), exact(x.error)
    reach = np.abs(rows[:, 1:]).sum(axis=1) + error
    low, high = (exact(bound) for bound in x.bounds())
    assert (low <= rows[:, 0] - reach).all()
    assert (high >= rows[:, 0] + reach).all()
    assert (exact(x.reach) >= reach).all()
    assert (exact(x.strays) >= np.abs(rows[:, 3:]).sum(axis=1) + error).all()
    assert lacking(x.without_symbols(), rows[:, :3], np.abs(rows[:, 3:]).sum(axis=1) + error) <= 0


def test_cancellation_is_not_lost():
    """1e16 + 1 - 1e16 is 1, and float64 makes it 0: the error has to say so."""
    values = torch.tensor([[1e16, 1.0, -1e16]]).double()
    ones = torch.ones((1, 3)).double()
    made = Forms.exact(values, 1).linear(lambda x: x @ ones.T, lambda x: x @ ones.T, 3)
    low, high = made.bounds()
    assert low <= 1 <= high
    assert float(high - low) < 100


# -- symbols


@pytest.mark.parametrize("room", [0, 1, 3, 9])
@given(seed=st.integers(0, 2**32 - 1))
def test_widened_forms_hold_every_deviation(room, seed):
    rng = np.random.default_rng(seed)
    x = some_forms(rng, symbols=2)
    deviation = torch.from_numpy(rng.random((3, 4)) * (rng.random((3, 4)) < 0.7))
    made = x.widened(deviation, room, x.symbols)
    assert made.symbols <= max(room, x.symbols)
    # What the new rows and the new error may do together is just the deviation.
    fresh = made.rows[:, 5:].abs().sum(dim=1) + made.error - x.error
    assert (fresh >= deviation).all()
    torch.testing.assert_close(fresh, deviation)
    t, s = coordinates(rng, 3, 2), symbols_of(rng, x)
    share = torch.from_numpy(rng.choice([-1.0, 1.0], (3, 4)))
    assert excess(made, drawn(rng, x, t, s) + share * deviation, t, s) <= 0


def test_each_deviation_has_a_symbol_of_its_own():
    deviation = torch.tensor([[0.5, 0.0, 0.75, 0.0078125], [0.0, 0.0, 0.0, 0.25]]).double()
    fresh = fresh_symbols(deviation, 9)
    assert fresh.rows.shape == (2, 2, 4), "as many as the neediest box has that are worth one"
    assert ((fresh.rows != 0).sum(dim=1) <= 1).all()
    torch.testing.assert_close(fresh.rows.abs().sum(dim=1) + fresh.rest, deviation, rtol=0, atol=0)
    assert fresh.rest.tolist() == [[0.0, 0.0, 0.0, 0.0078125], [0.0, 0.0, 0.0, 0.0]]
    none = fresh_symbols(torch.zeros((2, 4)).double(), 9)
    assert not none.rows.numel()
    assert not fresh_symbols(deviation, -1).rows.numel()


def test_new_symbols_leave_the_places_of_others_free():
    """Two branches that were told of each other's symbols may be added up."""
    x = some_forms(np.random.default_rng(3), symbols=0, error=0.0)
    deviation = torch.ones((3, 4)).double()
    first = x.widened(deviation, 20, 0)
    second = x.widened(deviation, 20, first.symbols)
    assert first.symbols == 4
    assert second.symbols == 8
    both = first + -second
    # Independent deviations add up to 2; in one place they would cancel.
    torch.testing.assert_close(both.reach, 2 * deviation)


def test_what_is_known_of_symbols_is_kept():
    rng = np.random.default_rng(4)
    x, plain = some_forms(rng, origin=MIXED), some_forms(rng, symbols=9)
    for made in (x + plain, plain + x, -x, x.scaled(WEIGHT[0]), x.raised(SCALES), weighed(x), x.times(plain)):
        assert made.origin is not None
        assert made.origin[:, : len(MIXED)].tolist() == [list(map(list, MIXED))] * 3
    assert x.without_symbols().origin is None
    assert plain.times(x).origin is None, "the second factor's symbols are dropped"
    fresh = torch.ones((3, 1, 4)).double()
    joined = x.joined(fresh, 9, torch.full((3, 1, 2), SIGN))
    assert joined.symbols == 10
    assert joined.origin[0, 6:].tolist() == [[ANY, ANY]] * 3 + [[SIGN, SIGN]]
    assert not joined.rows[:, 10:12].any(), "places of others stay empty"
    later = joined.joined(fresh, 10, None)
    assert later.origin.shape[1] == 10, "of the eleventh nothing is known"


def test_two_branches_know_together_what_each_knows():
    rng = np.random.default_rng(5)
    nothing = some_forms(rng, symbols=0)
    fresh = torch.ones((3, 2, 4)).double()
    first = nothing.joined(fresh, 0, torch.full((3, 2, 2), SIGN))
    second = nothing.joined(fresh, 2, torch.full((3, 2, 2), SIGN))
    for both in (first + second, second + first):
        assert (both.origin == SIGN).all()
        assert both.symbols == 4


def test_boxes_are_taken_with_all_that_is_known():
    rng = np.random.default_rng(6)
    x = some_forms(rng, origin=MIXED)
    taken = x.take(torch.tensor([2, 0]))
    t, s = coordinates(rng, 3, 2), symbols_of(rng, x)
    torch.testing.assert_close(affine_part(taken, t[[2, 0]], s[[2, 0]]), affine_part(x, t, s)[[2, 0]])
    assert taken.origin.shape == (2, len(MIXED), 2)


# -- forms of enclosures and of known numbers


def test_the_forms_of_an_enclosure_are_the_enclosure():
    rng = np.random.default_rng(7)
    enclosure = Enclosure(
        rng.standard_normal((2, 3)), rng.standard_normal((2, 2, 3)), rng.random((2, 3)) / 10
    )
    forms = Forms.of(enclosure, torch.device("cpu"))
    t = coordinates(rng, 2, 2)
    torch.testing.assert_close(
        affine_part(forms, t, t[:, :0]), torch.from_numpy(enclosure.at(t.numpy())), rtol=0, atol=1e-15
    )
    assert forms.symbols == 0
    low, high = enclosure.bounds()
    np.testing.assert_allclose(forms.bounds()[0], low, atol=1e-14)
    np.testing.assert_allclose(forms.bounds()[1], high, atol=1e-14)


def test_known_numbers_have_neither_slopes_nor_errors():
    values = torch.arange(6.0).reshape(2, 3).double()
    known = Forms.exact(values, 2)
    assert known.symbols == 0
    assert not known.reach.any()
    assert not known.strays.any()
    more = some_forms(np.random.default_rng(8), boxes=2, shape=(3,))
    for both in (known + more, more + known):
        torch.testing.assert_close(both.centre, values + more.centre)
        torch.testing.assert_close(both.rows[:, 1:], more.rows[:, 1:], rtol=0, atol=0)
    assert Fraction(float(known.bounds()[1][1, 2])) >= 5
