"""Smooth functions: their rules against autograd and dense grids, their enclosures against dense samples."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
import torch.nn.functional as functional

from steadygaze.network.bounding.curves.enclosing import derivative_relaxed, relaxed
from steadygaze.network.smooth import RULES, Smooth

# Written by PyTorch, and not from parts of ours.
PLAIN = {
    "sigmoid": functional.sigmoid,
    "tanh": functional.tanh,
    "erf": torch.erf,
    "atan": torch.atan,
    "asinh": torch.asinh,
    "sin": torch.sin,
    "cos": torch.cos,
    "softplus": lambda x: functional.softplus(x, threshold=1e9),
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu-tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "elu": functional.elu,
    "softsign": functional.softsign,
    "hard-swish": functional.hardswish,
    "mish": functional.mish,
}
# Functions of pieces: where they meet, derivatives of this order and above jump.
JUMPS = {"elu": 2, "softsign": 2, "hard-swish": 1}
SEAMS = {"elu": (0.0,), "softsign": (0.0,), "hard-swish": (-3.0, 3.0)}
# The slopes far out of those that come to their limits slowly.
SLOW = {"softsign": 1e-5, "atan": 1e-5, "asinh": 2e-3}
ENCLOSURES = {"value": (relaxed, 0), "derivative": (derivative_relaxed, 1)}
# What every enclosure adds for rounding, beside what the function asks for.
ROUNDING = 1e-12

PERIODIC = [name for name, rule in RULES.items() if math.isfinite(rule.period)]

every = pytest.mark.parametrize("name", RULES)
both = pytest.mark.parametrize("kind", ENCLOSURES)


def derivatives(name, x, count):
    """The function and its derivatives up to `count`, by repeated autograd of PyTorch's own function."""
    x = x.clone().requires_grad_()
    found = [PLAIN[name](x)]
    for _ in range(count):
        found.append(torch.autograd.grad(found[-1].sum(), x, create_graph=True)[0])
    return [value.detach() for value in found]


def off_seams(name, x, by=0.0):
    """The places that are farther than this from where pieces meet."""
    seams = torch.tensor(SEAMS.get(name, ()), dtype=torch.float64)
    return x[((x[:, None] - seams).abs() > by).all(1)]


def grid(low, high, count):
    return torch.linspace(low, high, count, dtype=torch.float64)


def enclosure(name, kind, low, high):
    low, high = (torch.as_tensor(end, dtype=torch.float64) for end in (low, high))
    return ENCLOSURES[kind][0](Smooth(name), low, high)


def true_values(name, kind, z):
    return derivatives(name, z, 1)[ENCLOSURES[kind][1]]


def test_the_table_is_the_one_tested():
    assert set(PLAIN) == set(RULES)


@every
def test_values_and_derivatives_equal_autograd(name):
    x = off_seams(name, torch.cat([grid(-12, 12, 2401), grid(-1e-3, 1e-3, 11), grid(-60, 60, 7)]))
    value, first, second = derivatives(name, x, 2)
    rule = RULES[name]
    assert torch.allclose(rule.value(x), value, rtol=1e-14, atol=2e-14)
    assert torch.allclose(rule.derivative(x), first, rtol=1e-13, atol=1e-13)
    assert torch.allclose(rule.second(x), second, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in RULES if name not in PERIODIC])
def test_nothing_overflows_far_out(name):
    far = torch.tensor([-1e300, -1e9, -800.0, 800.0, 1e9, 1e300], dtype=torch.float64)
    rule = RULES[name]
    ends = derivatives(name, torch.tensor([-50.0, 50.0], dtype=torch.float64), 1)[1]
    ends = torch.zeros_like(ends) if name in SLOW else ends  # they come to their limits slowly
    assert torch.isfinite(rule.value(far)).all()
    near = SLOW.get(name, 1e-15)
    assert torch.allclose(rule.derivative(far), ends.repeat_interleave(3), atol=near)
    assert rule.second(far).abs().max() <= ({"asinh": 2e-6}.get(name, 1e-8) if name in SLOW else 0.0)


@every
def test_the_bounds_of_the_second_and_third_derivative_hold_and_are_close(name):
    x = grid(-15, 15, 300_001)
    x = off_seams(name, x)
    _, _, second = derivatives(name, x, 2)
    rule = RULES[name]
    assert second.abs().max() <= rule.curvature <= second.abs().max() * (1 + 1e-3)
    if name == "hard-swish":
        assert rule.third == 0
        return
    third = derivatives(name, x, 3)[3]
    assert third.abs().max() <= rule.third <= third.abs().max() * (1 + 1e-3)


def repeated(name, places, low, high):
    """All places between two ends, ascending, given those of one period."""
    period = RULES[name].period
    if math.isinf(period):
        return list(places)
    count = math.ceil((high - low) / period) + 1
    every = sorted(place + k * period for place in places for k in range(-count, count + 1))
    return [place for place in every if low < place < high]


@every
def test_turns_are_all_there_are(name):
    x = grid(-15.00001, 15, 300_000)
    _, first, second = derivatives(name, x, 2)
    pairs = [(first, RULES[name].turns), (second, RULES[name].bends)]
    for values, places in pairs[: JUMPS.get(name, 2)]:
        clear = values.abs() > 1e-13  # far out all is rounding
        changes = torch.diff(values[clear].sign()).nonzero()[:, 0]
        found = repeated(name, places, -15, 15)
        assert [round(place, 3) for place in found] == pytest.approx(x[clear][changes].tolist(), abs=2e-3)
        size = derivatives(name, torch.tensor(places, dtype=torch.float64), 2)
        assert not places or size[1 if places == RULES[name].turns else 2].abs().max() < 1e-15


CLOSED = [
    (name, kind)
    for name, rule in RULES.items()
    for kind, places in (("value", rule.slopes), ("derivative", rule.seconds))
    if places is not None
]


@pytest.mark.parametrize(("name", "kind"), CLOSED)
def test_places_in_closed_form_hold_every_place_of_that_slope(name, kind):
    places = RULES[name].slopes if kind == "value" else RULES[name].seconds
    z = {"elu": grid(-6, -0.01, 600), "hard-swish": grid(-2.99, 2.99, 600)}.get(name, grid(-6, 6, 1201))
    if (name, kind) == ("hard-swish", "derivative"):
        z = z.new_tensor(SEAMS[name])  # between these it is a line, and has no place of its own
    level = derivatives(name, z, 2)[1 + ENCLOSURES[kind][1]]
    period = RULES[name].period
    away = [place - z for place in places(level)]
    if math.isfinite(period):
        away = [gap - period * (gap / period).round() for gap in away]
    near = torch.stack([gap.abs() for gap in away]).amin(0)
    # Near the level's extreme two places fall together, and are found to the square root of rounding.
    assert near.max() < 1e-6


def intervals(seed):
    """Random, tiny, wide, one-sided and empty intervals: their ends, 6000 of them."""
    generator = torch.Generator().manual_seed(seed)
    middle = torch.randn(1000, generator=generator, dtype=torch.float64) * 4
    half = 10 ** (torch.rand(1000, generator=generator, dtype=torch.float64) * 5 - 4)
    wide = torch.rand(1000, generator=generator, dtype=torch.float64) * 60
    zero = torch.zeros(1000, dtype=torch.float64)
    low = torch.cat([middle - half, middle, -wide, -middle.abs(), zero, middle])
    high = torch.cat([middle + half, middle + 1e-7 * half, wide.flip(0), zero, middle.abs(), middle])
    return low, high


@both
@every
def test_enclosures_hold_every_value(name, kind):
    low, high = intervals(seed=len(name))
    slope, offset, error = enclosure(name, kind, low, high)
    assert slope.shape == offset.shape == error.shape == low.shape
    for share in torch.linspace(0, 1, 301, dtype=torch.float64):
        z = (low + share * (high - low)).clamp(low, high)
        missed = (true_values(name, kind, z) - slope * z - offset).abs() - error
        worst = missed.argmax()
        assert missed[worst] <= 0, f"at {z[worst]} of [{low[worst]}, {high[worst]}]"


@both
@every
def test_enclosures_are_no_wider_than_the_chord_or_the_range_asks_for(name, kind):
    low, high = (ends[::4] for ends in intervals(seed=1))
    wide = high - low > 1e-3
    low, high = low[wide], high[wide]
    if JUMPS.get(name, 9) <= ENCLOSURES[kind][1] + 1:
        pytest.skip("the grid misses the places where pieces meet, and they are what counts")
    _, _, error = enclosure(name, kind, low, high)
    z = low + grid(0, 1, 2001)[:, None] * (high - low)
    values = true_values(name, kind, z.flatten()).reshape(z.shape)
    chord = (values[-1] - values[0]) / (high - low)
    best = torch.minimum(spread(values - chord * z), spread(values)) / 2
    bound = RULES[name].curvature if kind == "value" else RULES[name].third
    missed = bound * ((high - low) / 2000) ** 2 / 8  # by the grid
    slack = bound * ((high - low) / 16) ** 2 / 8 * (RULES[name].slopes is None or RULES[name].seconds is None)
    assert (error - best - missed - slack - ROUNDING * (1 + values.abs().amax(0))).max() <= 0


def spread(values):
    low, high = torch.aminmax(values, dim=0)
    return high - low


@both
@every
def test_the_error_shrinks_with_the_square_of_the_width(name, kind):
    middle = off_seams(name, grid(-3, 3, 61), by=0.02)
    _, _, wide = enclosure(name, kind, middle - 0.01, middle + 0.01)
    _, _, narrow = enclosure(name, kind, middle - 0.001, middle + 0.001)
    assert (narrow <= wide / 50 + ROUNDING).all()
    assert wide.max() < 2e-4


@both
@every
def test_an_interval_of_no_width_is_as_good_as_a_point(name, kind):
    z = grid(-8, 8, 33)
    slope, offset, error = enclosure(name, kind, z, z)
    assert ((slope * z + offset - true_values(name, kind, z)).abs() <= error).all()
    assert error.max() < ROUNDING


@pytest.mark.parametrize("name", PERIODIC)
@both
def test_enclosures_hold_far_out(name, kind):
    """Against 300 bits, where places of a period are rounded by more and more; at last the range is all."""
    generator = torch.Generator().manual_seed(5)
    middle = 10 ** (torch.rand(400, generator=generator, dtype=torch.float64) * 17)
    middle = torch.where(torch.rand(400, generator=generator) < 0.5, middle, -middle)
    half = 10 ** (torch.rand(400, generator=generator, dtype=torch.float64) * 4 - 3)
    low, high = middle - half, middle + half
    slope, offset, error = enclosure(name, kind, low, high)
    curve = {"sin": mpmath.sin, "cos": mpmath.cos}[name]
    turned = 0 if kind == "value" else mpmath.pi / 2  # the derivative is the function a quarter further
    for share in torch.linspace(0, 1, 21, dtype=torch.float64):
        z = (low + share * (high - low)).clamp(low, high)
        for place, *line in zip(*(part.tolist() for part in (z, slope, offset, error)), strict=True):
            with mpmath.workprec(300):
                value = curve(mpmath.mpf(place) + turned)
                assert abs(value - mpmath.mpf(line[0]) * place - line[1]) <= line[2], f"at {place}"
    wide = half > 4
    assert (error[wide] <= 1.001).all()
    assert (slope[middle.abs() > 1e8] == 0).all()
