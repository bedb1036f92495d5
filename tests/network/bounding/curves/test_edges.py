"""Lines below and above smooth functions: against dense samples, high precision, and the convex hull."""

from __future__ import annotations

from dataclasses import replace

import mpmath
import pytest
import torch

from steadygaze.network.bounding.curves import edges as module
from steadygaze.network.bounding.curves.edges import edges
from steadygaze.network.smooth import RULES, Smooth

LAYERS = {name: Smooth(name) for name in (*RULES, "exp")} | {
    "square": Smooth("power", (2.0, -torch.inf)),
    "cube": Smooth("power", (3.0, -torch.inf)),
    "root": Smooth("power", (0.5, 1e-6)),
    "1 / root": Smooth("power", (-0.5, 1e-5)),
    "log": Smooth("log", (1e-3,)),
}
# Those that are not near a limit far below 0.
NOT_LEVEL = ("softsign", "atan", "asinh", "sin", "cos")
every = pytest.mark.parametrize("name", LAYERS)


def exact(name, z):
    """The function at a number, in high precision."""
    with mpmath.workprec(1300):  # an argument of 1e300 is reduced by a period, too
        z = mpmath.mpf(z)
        inner = 2 * mpmath.sqrt(2 / mpmath.pi) * (z + mpmath.mpf(0.044715) * z**3)
        return {
            "sigmoid": lambda: 1 / (1 + mpmath.exp(-z)),
            "tanh": lambda: mpmath.tanh(z),
            "erf": lambda: mpmath.erf(z),
            "atan": lambda: mpmath.atan(z),
            "asinh": lambda: mpmath.asinh(z),
            "sin": lambda: mpmath.sin(z),
            "cos": lambda: mpmath.cos(z),
            "softplus": lambda: mpmath.log1p(mpmath.exp(z)),
            "silu": lambda: z / (1 + mpmath.exp(-z)),
            "gelu": lambda: z * mpmath.erfc(-z / mpmath.sqrt(2)) / 2,
            "gelu-tanh": lambda: z / (1 + mpmath.exp(-min(inner, 10**6))),
            "elu": lambda: z if z > 0 else mpmath.expm1(z),
            "softsign": lambda: z / (1 + abs(z)),
            "hard-swish": lambda: z * max(mpmath.mpf(0), min(z + 3, mpmath.mpf(6))) / 6,
            "mish": lambda: z * mpmath.tanh(mpmath.log1p(mpmath.exp(z))),
            "exp": lambda: mpmath.exp(z),
        }[name]()


def intervals(layer):
    """Narrow, wide, one-sided ones, of no width, about the places where f'' changes its sign."""
    generator = torch.Generator().manual_seed(3)
    random = torch.rand(3, 150, generator=generator, dtype=torch.float64)
    middle = 8 * random[0] - 4
    half = 10 ** (6 * random[1] - 4.5)
    bends = torch.tensor((*layer.rule.bends, *layer.rule.turns, 0.0), dtype=torch.float64)
    at = bends[torch.randint(len(bends), (150,), generator=generator)]
    low = torch.cat([middle - half, at - half * random[2], at, at - half, middle, at])
    high = torch.cat([middle + half, at + half, at + half, at, middle, at])
    far = 8.0 if layer.function in ("exp", "power") else 1e4
    return low.clamp(-far, far), high.clamp(-far, far)


def missed(layer, low, high, found):
    """How far f is beyond its lines, at most, at places all over each interval, ends and middle too."""
    floor = layer.rule.floor
    share = torch.linspace(0, 1, 401, dtype=torch.float64)[:, None]
    z = torch.cat([low + share * (high - low), low[None], high[None]]).clamp(low, high).clamp_min(floor)
    for _ in range(2):  # closer to where it is worst, on either side
        value = layer.rule.value(z)
        below = found.below * z + found.below_offset - value
        above = value - found.above * z - found.above_offset
        worst = torch.maximum(below.amax(0), above.amax(0))
        near = z.gather(0, torch.stack([below.argmax(0), above.argmax(0)]))
        step = (share - 0.5)[:, None] * (high - low) / 200
        z = (near + step).flatten(0, 1).clamp(low, high).clamp_min(floor)
    return worst


@every
def test_lines_hold_at_dense_samples(name):
    layer = LAYERS[name]
    low, high = intervals(layer)
    assert (missed(layer, low, high, edges(layer, low, high)) <= 0).all()


@every
def test_a_line_that_is_off_by_a_billionth_is_seen(name, monkeypatch):
    """Of nearly all intervals: elsewhere what is left for rounding is more than that."""
    layer = LAYERS[name]
    low, high = intervals(layer)
    plain = module.extremes

    def planted(rule, slope, low, high):
        found = plain(rule, slope, low, high)
        return replace(found, below=found.below + 1e-9, above=found.above - 1e-9)

    monkeypatch.setattr(module, "extremes", planted)
    near = torch.maximum(low.abs(), high.abs()) < 8
    seen = missed(layer, low, high, edges(layer, low, high)) > 0
    assert seen[near].double().mean() > 0.5


@pytest.mark.parametrize("name", [*RULES, "exp"])
def test_lines_hold_in_high_precision(name):
    layer = LAYERS[name]
    low, high = (end[::40] for end in intervals(layer))
    found = edges(layer, low, high)
    z = low + torch.linspace(0, 1, 9, dtype=torch.float64)[:, None] * (high - low)
    for number in range(len(low)):
        lines = [getattr(found, part)[number].item() for part in ("below", "above")]
        offsets = [getattr(found, part)[number].item() for part in ("below_offset", "above_offset")]
        for place in z[:, number].clamp(low[number], high[number]).tolist():
            with mpmath.workprec(300):
                below, above = (mpmath.mpf(s) * place + o for s, o in zip(lines, offsets, strict=True))
                assert below <= exact(name, place) <= above, f"at {place}"


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(
    "ends",
    [
        (0.0, 0.0),
        (-1e-300, 1e-300),
        (1e-300, 2e-300),
        (-1e300, 1e300),
        (-1e300, -1e299),
        pytest.param((3.0, 1e300), marks=pytest.mark.slow),
        (-1e300, 0.5),
        (1e9, 1e9 + 1e-3),
        (-745.0, 40.0),
        (-1.0, 745.0),
    ],
)
def test_lines_hold_over_intervals_of_every_size(name, ends):
    layer = LAYERS[name]
    low, high = (torch.tensor([end], dtype=torch.float64) for end in ends)
    found = edges(layer, low, high)
    numbers = [getattr(found, part) for part in ("below", "below_offset", "above", "above_offset")]
    assert all(bool(own.isfinite().all()) for own in numbers)
    share = torch.cat([torch.linspace(0, 1, 101), torch.logspace(-300, 0, 101)]).double()
    z = torch.cat([low + share * (high - low), high - share * (high - low), torch.linspace(-9, 9, 99)])
    for place in {*z.double().clamp(low, high).tolist(), *ends}:
        with mpmath.workprec(300):
            below, above = (
                mpmath.mpf(slope.item()) * place + offset.item()
                for slope, offset in ((numbers[0], numbers[1]), (numbers[2], numbers[3]))
            )
            # Far below 0 the others are at their limits.
            limit = {"tanh": -1, "erf": -1, "elu": -1}.get(name, 0)
            value = exact(name, place) if place > -1e4 or name in NOT_LEVEL else limit
            assert below <= value <= above, f"at {place}"


@every
def test_lines_are_the_edges_of_the_convex_hull(name):
    """In the middle they are as close to f as any line that stays on its side of a dense grid of values."""
    layer = LAYERS[name]
    low, high = intervals(layer)
    wide = (high - low > 1e-2) & (high - low < 30)
    low, high = low[wide].clamp_min(layer.rule.floor), high[wide].clamp_min(layer.rule.floor)
    keep = (high - low > 1e-2).nonzero()[::6, 0]
    low, high = low[keep], high[keep]
    middle = low + (high - low) / 2
    share = torch.linspace(0, 1, 241, dtype=torch.float64)[:, None]
    z = low + share * (high - low)
    value = layer.rule.value(z)
    before, behind = slice(0, 121), slice(120, None)
    run = z[None, behind] - z[before, None]
    weight = torch.where(run > 0, (middle - z[before, None]) / run.clamp_min(1e-300), 0.0)
    chords = value[before, None] * (1 - weight) + value[None, behind] * weight
    found = edges(layer, low, high)
    # The hull of the grid is narrower than that of f by what f bends within a step.
    bent = torch.diff(value, n=2, dim=0).abs().amax(0) / 4
    slack = bent + 1e-5 * (value.amax(0) - value.amin(0)) + 1e-9 * (1 + value.abs().amax(0))
    assert (found.below * middle + found.below_offset >= chords.amin((0, 1)) - slack).all()
    assert (found.above * middle + found.above_offset <= chords.amax((0, 1)) + slack).all()


@every
def test_no_line_is_steeper_than_the_function(name):
    layer = LAYERS[name]
    low, high = intervals(layer)
    # Ends hardly apart, whose difference is that of rounding.
    low = torch.cat([low, low])
    high = torch.cat([high, low[: len(high)] * (1 + 2.0**-50) + 2.0**-60])
    found = edges(layer, low, high)
    slopes = torch.stack([found.below, found.above]).abs()
    assert slopes.max() <= layer.rule.steepest
    inner = low[None] + torch.linspace(0, 1, 500, dtype=torch.float64)[:, None] * (high - low)
    assert layer.rule.derivative(inner).abs().max() <= layer.rule.steepest
