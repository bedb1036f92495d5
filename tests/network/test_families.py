"""Powers and exp: against PyTorch, and their enclosures against dense samples."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from steadygaze.network import families
from steadygaze.network.bounding.curves.enclosing import derivative_relaxed, relaxed
from steadygaze.network.smooth import Smooth

ENCLOSURES = {"value": relaxed, "derivative": derivative_relaxed}
WHOLE = -math.inf
CASES = {
    "square": (Smooth("power", (2.0, WHOLE)), lambda z: z * z),
    "cube": (Smooth("power", (3.0, WHOLE)), lambda z: z * z * z),
    "fourth power": (Smooth("power", (4.0, WHOLE)), lambda z: z * z * z * z),
    "third root": (Smooth("power", (1 / 3, 1e-6)), lambda z: z.clamp_min(1e-6) ** (1 / 3)),
    "root": (Smooth("power", (0.5, 1e-12)), lambda z: z.clamp_min(1e-12).sqrt()),
    "1 / root": (Smooth("power", (-0.5, 1e-5)), lambda z: z.clamp_min(1e-5).rsqrt()),
    "reciprocal": (Smooth("power", (-1.0, 0.25)), lambda z: 1 / z.clamp_min(0.25)),
    "response": (Smooth("power", (-0.75, 1.0)), lambda z: z.clamp_min(1.0) ** -0.75),
    "power 2.5": (Smooth("power", (2.5, 0.0)), lambda z: z.clamp_min(0.0) ** 2.5),
    "log": (Smooth("log", (1e-3,)), lambda z: z.clamp_min(1e-3).log()),
    "log from 1 on": (Smooth("log", (1.0,)), lambda z: z.clamp_min(1.0).log()),
    "exp": (Smooth("exp"), torch.exp),
}
every = pytest.mark.parametrize("name", CASES)
both = pytest.mark.parametrize("kind", ENCLOSURES)


def true_values(name, kind, z):
    """By PyTorch's own function, at arguments that there are, and its autograd."""
    z = z.clone().requires_grad_()
    value = CASES[name][1](z)
    return (value if kind == "value" else torch.autograd.grad(value.sum(), z)[0]).detach()


def intervals(name):
    """Tiny, wide, one-sided and empty intervals, about the kinks, over the floor and far out."""
    floor = CASES[name][0].rule.floor
    generator = torch.Generator().manual_seed(len(name))
    middle = torch.randn(800, generator=generator, dtype=torch.float64) * 4
    half = 10 ** (torch.rand(800, generator=generator, dtype=torch.float64) * 10 - 9)
    kinks = torch.tensor([-3.0, 0.0, 3.0, 1e-5], dtype=torch.float64).repeat(200)
    zero = torch.zeros(800, dtype=torch.float64)
    low = torch.cat([middle - half, middle, kinks - half, kinks, -middle.abs(), kinks, kinks - half])
    high = torch.cat([middle + half, middle + 1e-9 * half, kinks + half, kinks + half, zero, kinks, kinks])
    if math.isfinite(floor):  # forms may reach below the floor; values do not
        near = floor + 10 ** (torch.rand(low.shape, generator=generator, dtype=torch.float64) * 12 - 9)
        low, high = torch.where(low < floor, torch.minimum(low, near), low), torch.maximum(high, near)
    return torch.minimum(low, high), torch.maximum(low, high)


@both
@every
def test_enclosures_hold_every_value(name, kind):
    layer = CASES[name][0]
    low, high = intervals(name)
    slope, offset, error = ENCLOSURES[kind](layer, low, high)
    known = low.clamp_min(layer.rule.floor) if math.isfinite(layer.rule.floor) else low
    shares = torch.cat([torch.linspace(0, 1, 41, dtype=torch.float64), 10.0 ** -torch.arange(3, 12, 2)])
    extra = [known + share * (high - known) for share in shares]
    extra += [
        torch.full_like(low, place).clamp(known, high) for place in (-3, math.nextafter(-3, 0), 0, 1e-300)
    ]
    extra += [torch.full_like(low, place).clamp(known, high) for place in (math.nextafter(3, 0), 3, -1.5)]
    for z in extra:
        z = z.clamp(known, high)
        missed = (true_values(name, kind, z) - slope * z - offset).abs() - error
        worst = int(missed.nan_to_num(-1.0).argmax())
        assert not missed[worst] > 0, f"at {z[worst]} of [{low[worst]}, {high[worst]}]"


@both
@every
def test_enclosures_are_close(name, kind):
    """Over [2, 2.01] the error is that of a chord, or rounding."""
    low, high = (torch.tensor([end], dtype=torch.float64) for end in (2.0, 2.01))
    slope, offset, error = ENCLOSURES[kind](CASES[name][0], low, high)
    z = torch.linspace(2.0, 2.01, 301, dtype=torch.float64)
    away = (true_values(name, kind, z) - slope * z - offset).abs().max()
    assert error <= 1.01 * away + 1e-11


@every
def test_values_and_derivatives_equal_autograd(name):
    layer = CASES[name][0]
    z = torch.linspace(-6, 6, 1201, dtype=torch.float64)
    z = z.clamp_min(layer.rule.floor) if math.isfinite(layer.rule.floor) else z
    z = z[z != layer.rule.floor]
    torch.testing.assert_close(layer.forward(z), true_values(name, "value", z), rtol=1e-13, atol=1e-13)
    own = layer.derivative(z[:, None])[:, 0]
    torch.testing.assert_close(own, true_values(name, "derivative", z), rtol=1e-12, atol=1e-12)


@both
def test_what_is_not_bounded_is_said_to_be_anything(kind):
    """Over an interval down to 0 a root has no bounded derivative; far out exp overflows."""
    zero, one = (torch.tensor([end], dtype=torch.float64) for end in (0.0, 1.0))
    for exponent in (0.5, -1.0):
        _, _, error = ENCLOSURES[kind](Smooth("power", (exponent, 0.0)), zero, one)
        assert not error < 1e100 or (kind == "value" and exponent > 0)
    _, _, error = ENCLOSURES[kind](Smooth("log", (0.0,)), zero, one)
    assert not error < 1e100
    _, _, error = ENCLOSURES[kind](Smooth("exp"), zero, 1000 * one)
    assert not error < 1e300


def test_a_wrong_place_is_seen(monkeypatch):
    """A fault planted in where a cube is as steep as its chord shows in its enclosures."""
    rule = families.power(3.0, WHOLE)
    moved = replace(rule, slopes=lambda level: tuple(0.5 * place for place in rule.slopes(level)))
    monkeypatch.setitem(families.FAMILIES, "power", lambda *numbers: moved)
    with pytest.raises(AssertionError):
        test_enclosures_hold_every_value("cube", "value")
