"""Layers that are not affine over boxes: values, derivatives and gradients hold what the layers do."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from formed import MIXED, affine_part, coordinates, drawn, exact, excess, some_forms, symbols_of
from steadygaze.enclosing.forms import SIGN, Forms
from steadygaze.network.bounding.forms.derivatives import Derivative, SmoothSlopes
from steadygaze.network.bounding.forms.relaxing import Choice, magnitudes, rectified, relax
from steadygaze.network.bounding.forms.slack import Slack
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.smooth import RULES, Smooth


def piecewise(edges, slopes, offsets):
    columns = (torch.tensor(rows, dtype=torch.float64) for rows in (slopes, offsets))
    slopes, offsets = (rows[:, None] if rows.ndim == 1 else rows for rows in columns)
    return PiecewiseLinear(torch.tensor(edges).double(), slopes, offsets)


UNITS = 4
RELU = piecewise([0.0], [0.0, 1.0], [0.0, 0.0])
LAYERS = {
    "relu": RELU,
    "leaky": piecewise([0.0], [0.1, 1.0], [0.0, 0.0]),
    "steeper below": piecewise([0.0], [2.0, 0.3], [0.0, 0.0]),
    "absolute": piecewise([0.0], [-1.0, 1.0], [0.0, 0.0]),
    "prelu": piecewise([0.0], [[0.3, 1.0, -0.5, 2.0], [1.0] * 4], [[0.0] * 4] * 2),
    "hardtanh": piecewise([-1.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 1.0]),
    "relu6": piecewise([0.0, 6.0], [0.0, 1.0, 0.0], [0.0, 0.0, 6.0]),
    "hard sigmoid": piecewise([-3.0, 3.0], [0.0, 1 / 6, 0.0], [0.0, 0.5, 1.0]),
    "a tooth": piecewise([-0.5, 0.5], [1.0, -2.0, 1.0], [1.5, 0.0, -1.5]),
    **{name: Smooth(name) for name in RULES},
}
PIECEWISE = [name for name, layer in LAYERS.items() if isinstance(layer, PiecewiseLinear)]
TWO_PIECES = [name for name in PIECEWISE if len(LAYERS[name].breakpoints) == 1]
seeds = given(seed=st.integers(0, 2**32 - 1))


def derivative_at(layer, z):
    return layer.derivative(z) if isinstance(layer, Smooth) else layer.slopes_of(layer.pieces_of(z))


def derivative_excess(derivative, slope, t):
    """How far derivatives lie outside what is known of them."""
    if isinstance(derivative, SmoothSlopes):
        derivative = derivative.derivative
    centre = derivative.centre
    if derivative.slopes is not None:
        centre = centre + torch.einsum("bi,bin->bn", t, derivative.slopes)
    return float(((slope - centre).abs() - derivative.radius - 1e-12).max())


@pytest.mark.parametrize("name", LAYERS)
@seeds
def test_values_and_derivatives_stay_inside(name, seed):
    layer, rng = LAYERS[name], np.random.default_rng(seed)
    spread = rng.choice([0.0, 1e-9, 0.1, 1.0, 8.0])
    forms = some_forms(rng, spread=spread, error=rng.choice([0.0, 0.1]) * spread)
    done = relax(layer, forms, None, int(rng.integers(0, 9)), forms.symbols + int(rng.integers(3)))
    for _ in range(6):
        t, s = coordinates(rng, 3, 2), symbols_of(rng, forms)
        z = drawn(rng, forms, t, s)
        assert excess(done.values, layer.forward(z), t, s) <= 0
        assert derivative_excess(done.slopes, derivative_at(layer, z), t) <= 0


@pytest.mark.parametrize("name", PIECEWISE)
@seeds
def test_ranges_that_end_on_a_breakpoint(name, seed):
    """Units that touch a breakpoint from below or above, or lie on it, in a box and beside it."""
    layer, rng = LAYERS[name], np.random.default_rng(seed)
    edges = torch.from_numpy(rng.choice(layer.breakpoints.numpy(), (3, UNITS)))
    reach = torch.from_numpy(rng.choice([0.0, 1e-17, 0.5, 2.0], (3, UNITS)))
    side = torch.from_numpy(rng.choice([-1.0, 0.0, 1.0], (3, UNITS)))
    rows = torch.stack([edges + side * reach, reach], dim=1)
    done = relax(layer, Forms(rows, torch.zeros_like(edges), 1), None, 9, 0)
    none = torch.zeros((3, 0)).double()
    for at in np.linspace(-1, 1, 9):
        t = torch.full((3, 1), at).double()
        z = affine_part(Forms(rows, torch.zeros_like(edges), 1), t, none)
        assert excess(done.values, layer.forward(z), t, none) <= 0
        assert derivative_excess(done.slopes, derivative_at(layer, z), t) <= 0


@pytest.mark.parametrize("name", PIECEWISE)
def test_units_that_keep_their_piece_are_exact(name):
    layer, rng = LAYERS[name], np.random.default_rng(2)
    forms = some_forms(rng, spread=1e-3, error=0.0)
    done = relax(layer, forms, None, 9, forms.symbols)
    steady = done.slopes.radius == 0
    assert steady.sum() > 6
    t, s = coordinates(rng, 3, 2), symbols_of(rng, forms)
    made = affine_part(done.values, t, torch.cat([s, torch.zeros((3, 9)).double()], dim=1))
    away = (made - layer.forward(affine_part(forms, t, s))).abs()
    assert float(away[steady].max()) < 1e-14
    assert float(done.values.error[steady].max()) < 1e-14


# Its derivative is a line on each piece, and so known but for rounding.
@pytest.mark.parametrize("function", [name for name in RULES if name != "hard-swish"])
def test_smooth_functions_are_tight_to_second_order(function):
    """Values and derivatives: what is not affine shrinks fourfold when the range is halved."""
    rng = np.random.default_rng(3)
    wide = some_forms(rng, symbols=0, error=0.0, shape=(40,))
    lost = []
    for share in (2e-2, 1e-2):
        rows = torch.cat([wide.rows[:, :1], share * wide.rows[:, 1:]], dim=1)
        done = relax(Smooth(function), Forms(rows, wide.error, 2), None, 0, 0)
        lost.append((done.values.error, done.slopes.derivative.radius))
    for coarse, fine in zip(*lost, strict=True):
        assert float(fine.sum()) < float(coarse.sum()) / 3.5


# -- what counts as a piece


def derivative_of(rows, error=0.0, tolerance=None, count=1):
    """Of one ReLU with these rows, centre first."""
    forms = Forms(torch.tensor(rows).double().reshape(1, -1, 1), torch.tensor([[error]]).double(), count)
    tolerance = None if tolerance is None else Slack.within(torch.tensor([tolerance]).double())
    return relax(RELU, forms, tolerance, 9, forms.symbols)


def test_a_unit_that_is_0_on_part_of_the_box_is_not_active():
    """As behind another ReLU: it never goes below 0, and is 0 on a part that has a volume."""
    for tolerance in (None, 1e-9):
        by_symbol = derivative_of([0.5, 0.0, 0.5], tolerance=tolerance)
        by_error = derivative_of([0.5, 0.0], error=0.5, tolerance=tolerance)
        for done in (by_symbol, by_error):
            assert done.slopes.radius.item() == 0.5
            assert done.slopes.two.item()
            assert done.slopes.doubts.item() == 1


def test_a_unit_that_touches_0_at_a_face_is_active():
    """It is affine in the box: only on the face it is 0."""
    done = derivative_of([0.5, 0.5], tolerance=1e-9)
    assert (done.slopes.centre.item(), done.slopes.radius.item()) == (1.0, 0.0)
    from_below = derivative_of([-0.5, 0.5], tolerance=1e-9)
    assert (from_below.slopes.centre.item(), from_below.slopes.radius.item()) == (0.0, 0.0)


@pytest.mark.parametrize("moving", [0.0, 3e-16])
def test_a_unit_that_may_be_level_with_0_all_over_the_box_does_not_touch_it(moving):
    """What rounding leaves of a 0 reaches a little further than the tolerance, and it is off all the same."""
    forms = Forms(torch.tensor([[[4e-16], [moving]]]).double(), torch.tensor([[9e-16]]).double(), 1)
    slopes = relax(RELU, forms, Slack.within(torch.tensor([1e-15]).double()), 0, 0).slopes
    assert slopes.centre - slopes.radius <= 0 < slopes.centre + slopes.radius


def test_a_unit_that_is_0_everywhere_is_off():
    for rows in ([0.0, 0.0], [0.0], [1e-10, 0.0], [0.0, 1e-10]):
        done = derivative_of(rows, tolerance=1e-9)
        assert (done.slopes.centre.item(), done.slopes.radius.item()) == (0.0, 0.0)


def test_the_tolerance_keeps_pieces_and_not_values():
    """A unit that reaches above 0 by less than the tolerance is off, and yet its value is bounded."""
    for rows in ([0.0, 1e-3], [-1.0, 1.0 + 1e-3]):
        done = derivative_of(rows, tolerance=2e-3)
        assert (done.slopes.centre.item(), done.slopes.radius.item()) == (0.0, 0.0)
        assert done.values.bounds()[1].item() >= 1e-3
        assert derivative_of(rows, tolerance=0.5e-3).slopes.radius.item() == 0.5
    above = derivative_of([1.0, 1.0 + 1e-3], tolerance=2e-3)
    assert (above.slopes.centre.item(), above.slopes.radius.item()) == (1.0, 0.0)
    assert above.values.bounds()[0].item() <= 0.0


def test_three_pieces_are_not_taken_for_two():
    forms = Forms(torch.tensor([0.0, 2.0]).double().reshape(1, 2, 1), torch.zeros((1, 1)).double(), 1)
    tooth = relax(LAYERS["a tooth"], forms, None, 9, 0).slopes
    assert not tooth.two.item()
    assert (tooth.centre.item(), tooth.radius.item()) == (-0.5, 1.5)


@pytest.mark.parametrize("function", [magnitudes, rectified])
@seeds
def test_magnitudes_and_positive_parts(function, seed):
    rng = np.random.default_rng(seed)
    forms = some_forms(rng, spread=rng.choice([0.0, 0.3, 3.0]), origin=MIXED)
    made = function(forms, int(rng.integers(0, 20)))
    t, s = coordinates(rng, 3, 2), symbols_of(rng, forms)
    z = drawn(rng, forms, t, s)
    assert excess(made, z.abs() if function is magnitudes else z.clamp_min(0.0), t, s) <= 0


# -- windows

SPREAD_OUT = MaxPool(torch.tensor([[0, 1, 2], [3, 4, 5], [6, 7, -1]]), (8,), (3,))
ZEROS = Slack.within(torch.zeros(4).double())
OVERLAPPING = MaxPool(torch.tensor([[0, 1, 2], [1, 2, 3], [2, 3, 4], [-1, 5, 0]]), (6,), (4,))
POOLS = {"apart": SPREAD_OUT, "overlapping": OVERLAPPING}


def level(forms, rng):
    """Some inputs equal to others: on all of the box, or but for one coefficient."""
    rows, error = forms.rows.clone(), forms.error.clone()
    for box in range(len(rows)):
        first, second, third = rng.permutation(rows.shape[2])[:3]
        rows[box, :, second], error[box, second] = rows[box, :, first], error[box, first]
        rows[box, 0, third] = rows[box, 0, first]
    return Forms(rows, error, forms.count, forms.origin)


@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
@seeds
def test_windows_hold_their_largest_and_every_winner(pool, seed):
    rng = np.random.default_rng(seed)
    spread = rng.choice([0.0, 1e-3, 0.3, 2.0])
    forms = level(some_forms(rng, spread=spread, error=0.1 * spread, shape=pool.shape), rng)
    done = relax(pool, forms, None, int(rng.integers(0, 9)), forms.symbols)
    for _ in range(6):
        t, s = coordinates(rng, 3, 2), symbols_of(rng, forms)
        z = drawn(rng, forms, t, s)
        best, place = pool.compete(z)
        assert excess(done.values, best, t, s) <= 0
        winner = pool.winners(place)
        known = done.slopes.rival.gather(2, place.long()[..., None])[..., 0] | (winner == done.slopes.winner)
        level_with = (z.gather(1, done.slopes.winner) - best).abs() < 1e-12
        assert (known | level_with).all()


def test_padding_never_wins():
    forms = Forms(torch.full((1, 2, 6), -3.0).double(), torch.zeros((1, 6)).double(), 1)
    done = relax(OVERLAPPING, forms, None, 9, 0)
    low, high = done.values.bounds()
    assert float(high.max()) <= 1e-12
    assert float(low.min()) >= -6 - 1e-12
    assert not done.slopes.rival[0, 3, 0]


def test_equal_windows_have_their_first_as_winner():
    for rows in ([0.0, 0.0], [0.5, 1.0]):
        column = torch.tensor(rows).double().reshape(1, 2, 1).expand(1, 2, 6)
        done = relax(
            OVERLAPPING,
            Forms(column, torch.zeros((1, 6)).double(), 1),
            Slack.within(torch.zeros(4).double()),
            9,
            0,
        )
        assert done.slopes.winner.tolist() == [[0, 1, 2, 5]]


@pytest.mark.parametrize("lost", range(6))
def test_windows_with_a_number_that_is_none_may_be_anything(lost):
    """As behind a norm whose length may be 0; the others of a window say nothing of it."""
    rows = torch.arange(12.0).double().reshape(1, 2, 6)
    rows[0, :, lost] = torch.nan
    known = relax(OVERLAPPING, Forms(rows.nan_to_num(0.0), torch.zeros((1, 6)).double(), 1), ZEROS, 9, 0)
    found = relax(OVERLAPPING, Forms(rows, torch.zeros((1, 6)).double(), 1), ZEROS, 9, 0)
    low, high = found.values.bounds()
    touched = (OVERLAPPING.windows == lost).any(dim=1)
    assert not (low > -torch.inf)[0, touched].any()
    assert not (high < torch.inf)[0, touched].any()
    for own, same in zip((low, high), known.values.bounds(), strict=True):
        assert torch.allclose(own[0, ~touched], same[0, ~touched])


def test_an_earlier_one_that_is_level_on_part_of_the_box_is_a_rival():
    """Blank pixels behind a clip: 0 on one part, below on none; of equal ones the first wins."""
    pool = MaxPool(torch.tensor([[0, 1]]), (2,), (1,))
    for tolerance in (0.0, 1e-9):
        # The first is at most 0, and 0 in part; the second is 0.
        forms = Forms(
            torch.tensor([[[-0.5, 0.0], [0.0, 0.0], [0.5, 0.0]]]).double(), torch.zeros((1, 2)).double(), 1
        )
        done = relax(pool, forms, Slack.within(torch.tensor([tolerance]).double()), 9, 1)
        assert done.slopes.winner.tolist() == [[1]]
        assert done.slopes.rival.tolist() == [[[True, False]]]
        assert done.slopes.doubts.tolist() == [1]


# -- gradients


def signs_told(made, gradient, sigma):
    """Symbols of a pulled gradient: those that the gradient had, then of what units do; else None."""
    boxes, old = len(made.rows), gradient.symbols
    told = torch.full((boxes, made.symbols - old), torch.nan).double()
    entry = made.rows[:, 1 + gradient.count + old :].abs().argmax(dim=2)
    for k in range(told.shape[1]):
        if made.origin is None or old + k >= made.origin.shape[1]:
            break
        signed = (made.origin[:, old + k] == SIGN).all(dim=1)
        unit = entry[:, k, None]
        sign = sigma.gather(1, unit) * torch.where(gradient.centre.gather(1, unit) < 0, -1.0, 1.0)
        told[:, k] = torch.where(signed, sign[:, 0], told[:, k])
    return told


@pytest.mark.parametrize("origin", [None, MIXED], ids=["plain", "two-valued"])
@pytest.mark.parametrize("room", [0, 9, 40])
@seeds
def test_pulled_gradients_hold_every_combination_of_pieces(origin, room, seed):
    """With symbols of units and products of symbols at just the values that they stand for."""
    rng = np.random.default_rng(seed)
    gradient = some_forms(rng, error=rng.choice([0.0, 0.1]), spread=rng.choice([0.0, 0.3]), origin=origin)
    radius = torch.from_numpy(rng.random((3, UNITS)) * (rng.random((3, UNITS)) < 0.7))
    centre = torch.from_numpy(rng.standard_normal((3, UNITS)))
    two = torch.from_numpy(rng.random((3, UNITS)) < 0.8)
    made = Derivative(centre, radius, two=two).pulled(gradient, room, gradient.symbols)
    old = gradient.symbols
    for _ in range(4):
        t, s = coordinates(rng, 3, 2), symbols_of(rng, gradient)
        g = drawn(rng, gradient, t, s)
        sigma = torch.from_numpy(rng.choice([-1.0, 1.0], (3, UNITS)))
        share = torch.where(two, sigma, torch.from_numpy(rng.uniform(-1, 1, (3, UNITS))))
        told = torch.cat([s, signs_told(made, gradient, sigma)], dim=1)
        for k in range(old, made.symbols):
            for box in range(3):
                if made.origin is not None and k < made.origin.shape[1] and made.origin[box, k, 0] >= 0:
                    first, second = made.origin[box, k]
                    told[box, k] = told[box, first] * told[box, second]
        free = told.isnan()
        loose = (made.rows[:, 3:].abs() * free[..., None]).sum(dim=1) + made.error
        away = (g * (centre + share * radius) - affine_part(made, t, told.nan_to_num(0.0))).abs() - loose
        assert float(away.max()) <= 1e-13


@pytest.mark.parametrize("function", ["sigmoid", "gelu"])
@seeds
def test_pulled_gradients_hold_smooth_derivatives(function, seed):
    rng = np.random.default_rng(seed)
    spread = rng.choice([0.0, 0.1, 2.0])
    z = some_forms(rng, spread=spread)
    gradient = some_forms(rng, spread=rng.choice([0.0, 0.3]), origin=MIXED)
    derivative = relax(Smooth(function), z, None, 9, z.symbols).slopes
    made = derivative.pulled(gradient, 9, gradient.symbols)
    for _ in range(6):
        t, own, s = coordinates(rng, 3, 2), symbols_of(rng, z), symbols_of(rng, gradient)
        slope = Smooth(function).derivative(drawn(rng, z, t, own))
        assert excess(made, slope * drawn(rng, gradient, t, s), t, s) <= 0


@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
@pytest.mark.parametrize("room", [0, 9, 40])
@seeds
def test_pulled_gradients_hold_every_choice_of_winners(pool, room, seed):
    rng = np.random.default_rng(seed)
    windows, span = pool.windows.shape
    gradient = some_forms(rng, spread=0.3, shape=(windows,), origin=MIXED if seed % 2 else None)
    real = [[j for j in range(span) if pool.windows[w, j] >= 0] for w in range(windows)]
    place = torch.tensor([[rng.choice(own) for own in real] for _ in range(3)])
    may = torch.from_numpy(rng.random((3, windows, span)) < 0.4) & (pool.windows >= 0)
    rival = may.scatter(2, place[..., None], False)
    winner = pool.winners(place.to(torch.uint8))
    made = Choice(winner, rival, pool).pulled(gradient, room, gradient.symbols)
    allowed = rival.scatter(2, place[..., None], True)
    for _ in range(6):
        t, s = coordinates(rng, 3, 2), symbols_of(rng, gradient)
        g = drawn(rng, gradient, t, s)
        chosen = torch.tensor([[rng.choice(np.flatnonzero(row)) for row in own] for own in allowed.numpy()])
        assert excess(made, pool.transpose(g, chosen.to(torch.uint8)), t, s) <= 0


def test_windows_without_rivals_hand_their_gradient_on():
    gradient = some_forms(np.random.default_rng(5), boxes=1, shape=(4,), error=0.0, origin=MIXED)
    winner = torch.tensor([[2, 2, 2, 0]])
    made = Choice(winner, torch.zeros((1, 4, 3), dtype=torch.bool), OVERLAPPING).pulled(gradient, 20, 7)
    expected = torch.zeros((1, 10, 6)).double().index_add(2, winner[0], gradient.rows)
    torch.testing.assert_close(made.rows, expected)
    assert float(made.error.max()) < 1e-13
    assert made.origin is gradient.origin


# -- rounding, in exact fractions


@pytest.mark.parametrize("room", [0, 30])
@pytest.mark.parametrize("slopes", [(0.1, 1.0), (-0.1, 0.7), (0.7, 0.7 + 1e-9)])
def test_derivatives_of_two_slopes_are_rounded_outwards(slopes, room):
    """Neither the middle of two slopes nor half of what lies between them need be a float."""
    rng = np.random.default_rng(6)
    nothing = torch.zeros((1, 1000), dtype=torch.float64)
    z = Forms(torch.stack([nothing, nothing + 1.0], dim=1), nothing, 1)
    derivative = relax(piecewise([0.0], list(slopes), [0.0, 0.0]), z, None, 0, 0).slopes
    gradient = torch.from_numpy(rng.standard_normal((1, 1000)))
    made = derivative.pulled(Forms.exact(gradient, 0), room, 0)
    g, rows, error = (exact(own)[0] for own in (gradient, made.rows, made.error))
    own = np.abs(rows[1:]).sum(axis=0)
    for slope in slopes:
        away = np.abs(Fraction(slope) * g - rows[0])
        # Its symbol is at an end; what is left is for the error.
        assert (np.where(own > 0, np.abs(away - own), away) <= error).all()


@pytest.mark.parametrize("doubtful", [False, True])
def test_gradients_that_cancel_in_one_input_are_rounded_outwards(doubtful):
    """Three windows with one winner: 1e16 + 1 - 1e16 is 1, and float64 makes it 0."""
    gradient = Forms(torch.tensor([[[1e16, 1.0, -1e16, 0.0]]]).double(), torch.zeros((1, 4)).double(), 0)
    rival = torch.zeros((1, 4, 3), dtype=torch.bool)
    rival[0, 3, 1] = doubtful
    made = Choice(torch.tensor([[2, 2, 2, 0]]), rival, OVERLAPPING).pulled(gradient, 9, 0)
    low, high = made.bounds()
    assert float(low[0, 2]) <= 1.0 <= float(high[0, 2])


# -- small networks, all patterns


@pytest.mark.parametrize("seed", range(12))
def test_every_pattern_of_a_small_network(seed):
    """Two hidden layers with all units in doubt: all patterns' gradients lie within, exactly."""
    rng = np.random.default_rng(seed)
    first, second, last = (torch.from_numpy(rng.standard_normal(size)) for size in ((3, 5), (4, 3), (1, 4)))
    low, high = (float(x) for x in rng.choice([0.0, 0.1, -0.5, 1.0, 0.7], 2, replace=False))
    doubt = rng.random(7) < 0.9

    def slopes(units):
        centre = torch.full((1, len(units)), (low + high) / 2).double()
        radius = torch.where(torch.from_numpy(units), abs(high - low) / 2, 0.0)[None]
        return Derivative(torch.where(radius > 0, centre, high), radius, two=radius > 0)

    for room in (0, 5, 30):
        g = slopes(doubt[3:]).pulled(Forms.exact(last, 1), room, 0)
        g = g.linear(lambda x: x @ second, lambda x: x @ second.abs(), 4)
        g = slopes(doubt[:3]).pulled(g, room, g.symbols)
        g = g.linear(lambda x: x @ first, lambda x: x @ first.abs(), 3)
        bottom, top = (exact(bound)[0] for bound in g.bounds())
        for on in product((0, 1), repeat=int(doubt.sum())):
            slope = np.full(7, high)
            slope[doubt] = np.where(on, high, low)
            d = exact(torch.from_numpy(slope))
            gradient = ((exact(last)[0] * d[3:]) @ exact(second) * d[:3]) @ exact(first)
            assert (bottom <= gradient).all()
            assert (gradient <= top).all()
