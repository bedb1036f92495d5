"""Bounds of the angle between two vectors known as forms: they hold at samples, and are tight."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from formed import MIXED, coordinates, drawn, exact, some_forms, symbols_of
from sparing import sparing
from steadygaze.enclosing.angles import cosine_bounds
from steadygaze.enclosing.forms import SIGN, Forms

# How far the cosine of two samples is off in float64.
ROUNDING = 1e-14


def cosines(s, e):
    sizes = torch.linalg.vector_norm(s, dim=1) * torch.linalg.vector_norm(e, dim=1)
    return torch.linalg.vecdot(s, e) / sizes


def assert_holds(first, second, rng, samples=8, rounding=ROUNDING):
    low, high = cosine_bounds(first, second)
    assert (low <= high).all()
    plain = low
    for near in (0.0, 0.7, 1.0, float(rng.uniform(-1, 1))):
        asked = cosine_bounds(first, second, near)
        assert (asked[0] >= plain).all()
        assert (asked[1] == high).all()
        low = torch.maximum(low, asked[0])
    for _ in range(samples):
        t, s = coordinates(rng, len(first.rows), first.count), symbols_of(rng, first)
        # Symbols of the second are its own.
        own = symbols_of(rng, second)
        found = cosines(drawn(rng, first, t, s), drawn(rng, second, t, own))
        assert (low <= found + rounding).all()
        assert (found <= high + rounding).all()


def vectors(rng, spread, error, *, entries=5, origin=None, symbols=3):
    return some_forms(rng, spread=spread, error=error, shape=(entries,), origin=origin, symbols=symbols)


def moved(forms, centre):
    """The same forms around another centre."""
    return replace(forms, rows=torch.cat([centre[:, None], forms.rows[:, 1:]], dim=1))


def across(rng, centre, amount):
    """A vector that is nearly parallel."""
    return centre * 1.7 + amount * torch.from_numpy(rng.standard_normal(tuple(centre.shape)))


ORIGINS = {"plain": None, "two-valued": MIXED}
seeds = given(seed=st.integers(0, 2**32 - 1))


@pytest.mark.parametrize("origin", ORIGINS.values(), ids=ORIGINS)
@pytest.mark.parametrize("spread", sparing([1e-6, 1e-2, 0.2, 1.0, 30.0]))
@seeds
def test_bounds_hold_at_samples(origin, spread, seed):
    rng = np.random.default_rng(seed)
    first = vectors(rng, spread, spread * rng.choice([0.0, 0.1]), origin=origin)
    second = vectors(rng, spread * rng.choice([0.0, 1.0]), 0.0, symbols=rng.integers(3))
    assert_holds(first, second, rng)


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["parallel", "opposite"])
@pytest.mark.parametrize("amount", sparing([0.0, 1e-9, 1e-6, 1e-2]))
@seeds
def test_bounds_hold_where_vectors_are_nearly_parallel(sign, amount, seed):
    rng = np.random.default_rng(seed)
    first = vectors(rng, rng.choice([0.0, 1e-4, 0.1]), rng.choice([0.0, 1e-6, 0.05]))
    second = moved(vectors(rng, rng.choice([0.0, 1e-3]), 0.0), sign * across(rng, first.centre, amount))
    assert_holds(first, second, rng)


@seeds
def test_bounds_hold_where_vectors_move_together(seed):
    """The second follows the first: what turns both the same way cancels, and the bounds are close."""
    rng = np.random.default_rng(seed)
    first = vectors(rng, 0.05, 0.0, symbols=0)
    scale = 1 + 1e-4 * torch.from_numpy(rng.standard_normal((3, 1, 5)))
    second = replace(first, rows=first.rows * scale)
    assert_holds(first, second, rng)
    apart = replace(second, rows=torch.cat([second.rows[:, :1], -second.rows[:, 1:]], dim=1))
    together, contrary = (cosine_bounds(first, other)[0] for other in (second, apart))
    assert (together >= contrary - 1e-12).all()


@pytest.mark.parametrize("largest", [3.0, 1e3, 1e9])
@seeds
def test_bounds_hold_where_a_symbol_flips_the_vector(largest, seed):
    """A two-valued symbol larger than the centre leaves vectors nearly opposite to each other, or none."""
    rng = np.random.default_rng(seed)
    first = vectors(rng, 0.1, rng.choice([0.0, 1e-3]), origin=MIXED)
    rows = first.rows.clone()
    factor = float(rng.choice([largest, 1.0, 1 + 1e-9]))
    rows[:, 4] = factor * rows[:, 0] * float(rng.choice([-1.0, 1.0]))
    second = vectors(rng, rng.choice([0.0, 0.1]), 0.0)
    # Where the flipped vector nearly vanishes, samples themselves are rounded: against its terms.
    assert_holds(replace(first, rows=rows), second, rng, rounding=1e-6 if factor == 1 + 1e-9 else ROUNDING)


@seeds
def test_bounds_hold_where_there_are_only_errors(seed):
    rng = np.random.default_rng(seed)
    first, second = vectors(rng, 0.0, rng.choice([1e-6, 0.3])), vectors(rng, 0.0, rng.choice([0.0, 0.3]))
    assert_holds(first, second, rng)


def test_vectors_that_may_vanish_or_turn_are_anywhere():
    rng = np.random.default_rng(3)
    second = vectors(rng, 0.1, 0.0)
    around = vectors(rng, 1.0, 0.0)
    nothing = torch.zeros((3, 5)).double()
    rows = around.rows.clone()
    rows[:, 1] = 1.01 * rows[:, 0]
    for first in (
        moved(around, nothing),
        replace(around, rows=rows),
        Forms(nothing[:, None], nothing, 2),
        Forms(nothing[:, None], nothing + 0.1, 2),
        replace(around, error=around.error + 9.0),
    ):
        for low, high in (cosine_bounds(first, second), cosine_bounds(second, first)):
            assert low.tolist() == [-1.0] * 3
            assert high.tolist() == [1.0] * 3


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e-40, 1e40, 1e160, 1e300])
def test_the_scale_of_vectors_does_not_matter(scale):
    """Products of such numbers would over- or underflow."""
    rng = np.random.default_rng(4)
    first, second = vectors(rng, 0.1, 0.01, origin=MIXED), vectors(rng, 0.1, 0.0)
    scaled = replace(first, rows=first.rows * scale, error=first.error * scale)
    for plain, large in zip(cosine_bounds(first, second), cosine_bounds(scaled, second), strict=True):
        torch.testing.assert_close(large, plain, rtol=0, atol=1e-12)
    for plain, large in zip(cosine_bounds(second, first), cosine_bounds(second, scaled), strict=True):
        torch.testing.assert_close(large, plain, rtol=0, atol=1e-12)


# -- tightness


def test_known_vectors_have_just_their_cosine():
    rng = np.random.default_rng(5)
    first, second = vectors(rng, 0.0, 0.0), vectors(rng, 0.0, 0.0)
    low, high = cosine_bounds(first, second)
    found = cosines(first.centre, second.centre)
    assert float((high - low).max()) < 1e-12
    assert (low <= found).all()
    assert (found <= high).all()


@pytest.mark.parametrize("second_moves", [False, True])
def test_what_is_lost_falls_with_the_square_of_the_spread(second_moves):
    """The width less that of the linear part; linear parts themselves fall with the spread."""
    rng = np.random.default_rng(6)
    first, second = vectors(rng, 1.0, 0.0, symbols=0), vectors(rng, float(second_moves), 0.0, symbols=0)
    lost = []
    for share in (4e-3, 2e-3, 1e-3):
        s, e = (
            replace(f, rows=torch.cat([f.rows[:, :1], share * f.rows[:, 1:]], 1)) for f in (first, second)
        )
        low, high = cosine_bounds(s, e)
        corners = torch.tensor(list(product((-1.0, 1.0), repeat=2))).double()
        none = torch.zeros((3, 0)).double()
        found = torch.stack(
            [
                cosines(drawn(rng, s, t, none), drawn(rng, e, t, none))
                for t in corners[:, None].expand(-1, 3, -1)
            ]
        )
        lost.append(float(((high - low) - (found.amax(0) - found.amin(0))).sum()))
    assert lost[1] < lost[0] / 3.5
    assert lost[2] < lost[1] / 3.5


@pytest.mark.parametrize("k", [0.5, 0.7, 0.9])
def test_vectors_may_turn_nearly_as_far_as_is_asked(k):
    """By a symbol across the centre, to the cosine that is asked about, or a little nearer: these are shown.

    So it is where the symbol is in parts, each along an entry of its own, and where all is twice as long.
    """
    parts = torch.eye(9, dtype=torch.float64)[1:] / np.sqrt(8)
    for share, size in ((0.98, 1.0), (0.95, 2.0)):
        across = size * share * np.sqrt(1 - k**2) / k
        for symbols in (parts.sum(dim=0, keepdim=True), parts):
            rows = torch.cat([torch.eye(9, dtype=torch.float64)[:1] * size, across * symbols])[None]
            first = Forms(rows, torch.zeros((1, 9)).double(), 0)
            second = Forms(rows[:, :1] / size, torch.zeros((1, 9)).double(), 0)
            assert float(cosine_bounds(first, second, k)[0]) > k
            assert float(cosine_bounds(first, second)[0]) < k
            # What is found is no more than what there is.
            exact_one = 1 / np.sqrt(1 + (across / size) ** 2)
            assert float(cosine_bounds(first, second, k)[0]) <= exact_one


def test_vectors_that_move_together_are_told_where_it_is_asked():
    """What coordinates do to both cancels there, too."""
    rng = np.random.default_rng(12)
    first = vectors(rng, 0.3, 0.0, symbols=0)
    second = replace(first, rows=first.rows * (1 + 1e-3 * torch.from_numpy(rng.standard_normal((3, 1, 5)))))
    apart = replace(second, rows=torch.cat([second.rows[:, :1], -second.rows[:, 1:]], dim=1))
    together, contrary = (cosine_bounds(first, other, 0.7)[0] for other in (second, apart))
    assert (together > 0.7).all()
    assert (together > contrary + 0.05).all()


def test_a_two_valued_symbol_gives_just_two_cosines():
    rng = np.random.default_rng(7)
    first = vectors(rng, 1.0, 0.0, origin=((SIGN, SIGN),))
    first = replace(first, rows=first.rows.index_fill(1, torch.tensor([1, 2]), 0.0))
    second = vectors(rng, 0.0, 0.0)
    low, high = cosine_bounds(first, second)
    ends = torch.stack([cosines(first.centre + sign * first.rows[:, 3], second.centre) for sign in (-1, 1)])
    torch.testing.assert_close(low, ends.amin(dim=0), rtol=0, atol=1e-11)
    torch.testing.assert_close(high, ends.amax(dim=0), rtol=0, atol=1e-11)
    anything = replace(first, origin=None)
    wider = cosine_bounds(anything, second)
    assert (wider[1] - wider[0] > high - low).all()


def test_products_of_two_valued_symbols_are_told_apart():
    """Three symbols and their products: all combinations, and nothing between them."""
    rng = np.random.default_rng(8)
    first = vectors(rng, 1.0, 0.0, origin=MIXED[1:6])
    # Numbers of symbols are one less without the first.
    origin = torch.tensor([(SIGN, SIGN), (SIGN, SIGN), (0, 1), (SIGN, SIGN), (2, 3)]).expand(3, -1, -1)
    rows = first.rows.index_fill(1, torch.tensor([1, 2]), 0.0)
    rows[:, 3:] *= 0.3
    first, second = replace(first, rows=rows, origin=origin), vectors(rng, 0.0, 0.0)
    found = []
    for a, b, c in product((-1.0, 1.0), repeat=3):
        s = torch.tensor([a, b, a * b, c, a * b * c]).double().expand(3, -1)
        found.append(cosines(drawn(rng, first, torch.zeros((3, 2)).double(), s), second.centre))
    low, high = cosine_bounds(first, second)
    torch.testing.assert_close(low, torch.stack(found).amin(dim=0), rtol=0, atol=1e-11)
    torch.testing.assert_close(high, torch.stack(found).amax(dim=0), rtol=0, atol=1e-11)


def test_boxes_that_know_different_things_do_not_mix():
    """One box has two-valued symbols, the next none, the third one of no length: each as if alone."""
    rng = np.random.default_rng(9)
    first, second = vectors(rng, 0.3, 0.01, origin=MIXED), vectors(rng, 0.1, 0.0)
    origin, rows = first.origin.clone(), first.rows.clone()
    origin[1] = -2
    rows[2, 4] = 0.0
    first = replace(first, rows=rows, origin=origin)
    low, high = cosine_bounds(first, second)
    for box in range(3):
        only = torch.tensor([box])
        alone = cosine_bounds(first.take(only), second.take(only))
        torch.testing.assert_close(low[only], alone[0], rtol=0, atol=1e-12)
        torch.testing.assert_close(high[only], alone[1], rtol=0, atol=1e-12)
    assert_holds(first, second, rng, samples=200)


# -- rounding, in exact fractions


def test_rounding_where_vectors_are_all_but_parallel():
    """There 1 - cos² is rounding alone, while errors turn the vector by its root."""
    rng = np.random.default_rng(0)
    count = 3000
    s = torch.from_numpy(rng.standard_normal((count, 2)))
    turn = torch.from_numpy(10 ** rng.uniform(-8.5, -7.5, (count, 1)))
    e = s + turn * torch.stack([-s[:, 1], s[:, 0]], dim=1)
    error = torch.from_numpy(
        np.abs(rng.standard_normal((count, 2))) * 10 ** rng.uniform(-5.3, -3.8, (count, 1))
    )
    low, high = cosine_bounds(Forms(s[:, None], error, 0), Forms(e[:, None], torch.zeros_like(e), 0))
    assert (high == 1.0).all()
    # The nearest to a failure, then exactly.
    for corner in product((-1.0, 1.0), repeat=2):
        worst = s + torch.tensor(corner).double() * error
        close = np.flatnonzero(cosines(worst, e) < low + 1e-12)
        for box in close:
            assert below(
                low[box], exact(s[box]) + exact(torch.tensor(corner)) * exact(error[box]), exact(e[box])
            )


def below(bound, s, e):
    """Whether a bound above 0 is at most the exact cosine."""
    return Fraction(float(bound)) ** 2 * (s @ s) * (e @ e) <= (s @ e) ** 2


@pytest.mark.parametrize("cancelled", [1e-3, 1e-6, 1e-9, 1e-12, 1e-15])
def test_rounding_where_the_centre_cancels(cancelled):
    """A symbol at its end leaves hardly anything of the centre: the cosine of what is left is exact."""
    rng = np.random.default_rng(11)
    s = torch.from_numpy(rng.standard_normal((40, 6)))
    left = cancelled * torch.from_numpy(rng.standard_normal((40, 6)))
    first = Forms(torch.stack([s, s + left], dim=1), torch.zeros_like(s), 0, torch.full((40, 1, 2), SIGN))
    second = Forms(torch.from_numpy(rng.standard_normal((40, 1, 6))), torch.zeros_like(s), 0)
    low, high = cosine_bounds(first, second)
    for box in range(40):
        (a, b), e = exact(first.rows[box]), exact(second.rows[box, 0])
        for vector in (a - b, a + b):
            cosine = float(vector @ e) / np.sqrt(float((vector @ vector) * (e @ e)))
            assert low[box] <= cosine + 1e-15
            assert high[box] >= cosine - 1e-15
    if cancelled == 1e-3:
        assert float((high - low).mean()) < 1.5, "what cancels to a thousandth is still told"
