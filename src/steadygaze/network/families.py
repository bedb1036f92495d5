"""Families of functions with numbers of their own (powers, ELU), and functions whose derivative has kinks.

All have the places of a given slope in closed form. A derivative that jumps, as that of ELU with alpha other
than 1 at 0, is at the jump what it is on the piece below, as those of activations in pieces; its enclosures
hold both sides.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from steadygaze.network.rule import Rule

# Beside 0, on the far side of a jump there.
_ABOVE = 1e-300


def _at(*places: float) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """The same places, whatever the slope."""
    return lambda level: tuple(torch.full_like(level, place) for place in places)


def _power(base: Tensor, exponent: float) -> Tensor:
    """Powers; those of negative numbers only to whole exponents."""
    return torch.pow(base, exponent)


@lru_cache(maxsize=64)
def power(exponent: float, floor: float) -> Rule:
    """``z ** exponent``: whole exponents from 2 on everywhere (floor -inf), others from a floor of 0 or more.

    From 0 on, a derivative that is infinite there makes bounds over boxes that come to 0 infinite, too.
    """
    p = exponent

    def times(factor: float, degree: float) -> Callable[[Tensor], Tensor]:
        if degree == 0:
            return lambda z: torch.full_like(z, factor)
        return lambda z: factor * _power(z.clamp_min(floor), degree)

    def places(factor: float, degree: float) -> Callable[[Tensor], tuple[Tensor, ...]]:
        """All z with ``factor * z ** degree`` equal to a level."""
        if degree == 0:
            return _at()

        def found(level: Tensor) -> tuple[Tensor, ...]:
            root = _power((level / factor).abs(), 1 / degree)
            return (root, -root)

        return found

    whole = math.isinf(floor)
    return Rule(
        times(1.0, p),
        times(p, p - 1),
        times(p * (p - 1), p - 2),
        turns=(0.0,) if whole else (),
        bends=(0.0,) if whole and p > 2 else (),
        slopes=places(p, p - 1),
        seconds=places(p * (p - 1), p - 2),
        floor=floor,
    )


@lru_cache(maxsize=64)
def elu(alpha: float) -> Rule:
    """z above 0, ``alpha (exp(z) - 1)`` below (Clevert, Unterthiner and Hochreiter, 2016); alpha >= 0."""

    def below(z: Tensor) -> Tensor:
        return alpha * torch.exp(z.clamp_max(0.0))

    def places(level: Tensor) -> tuple[Tensor, ...]:
        """The derivatives below 0 are the function itself plus alpha: alpha exp(z)."""
        z = torch.log((level / alpha).clamp_min(torch.finfo(level.dtype).tiny)) if alpha else level
        return (z.clamp_max(0.0), *_at(0.0, _ABOVE)(level))

    return Rule(
        lambda z: torch.where(z > 0, z, alpha * torch.expm1(z.clamp_max(0.0))),
        lambda z: torch.where(z > 0, 1.0, below(z)),
        lambda z: torch.where(z > 0, 0.0, below(z)),
        turns=(0.0,),
        bends=(0.0, _ABOVE),
        slopes=places,
        seconds=places,
    )


def _soft_sign() -> Rule:
    """``z / (1 + |z|)``: f' = (1 + |z|)^-2, f'' = -2 sign(z) (1 + |z|)^-3, which jumps at 0."""

    def places(factor: float, degree: float) -> Callable[[Tensor], tuple[Tensor, ...]]:
        def found(level: Tensor) -> tuple[Tensor, ...]:
            tiny = torch.finfo(level.dtype).tiny
            size = _power((level.abs() / factor).clamp_min(tiny), -1 / degree) - 1
            return (size, -size, torch.zeros_like(level))

        return found

    return Rule(
        lambda z: z / (1 + z.abs()),
        lambda z: (1 + z.abs()) ** -2.0,
        lambda z: -2 * torch.sign(z) * (1 + z.abs()) ** -3.0,
        bends=(0.0,),
        slopes=places(1.0, 2.0),
        seconds=places(2.0, 3.0),
    )


def _hard_swish() -> Rule:
    """``z clip(z / 6 + 1 / 2, 0, 1)`` (Howard et al., 2019): f' = z / 3 + 1 / 2 from -3 to 3, jumps there."""
    corners = (-3.0, math.nextafter(-3.0, 0.0), math.nextafter(3.0, 0.0), 3.0)

    def inside(z: Tensor) -> Tensor:
        return (z > -3) & (z < 3)

    return Rule(
        lambda z: z * (z / 6 + 0.5).clamp(0.0, 1.0),
        lambda z: torch.where(inside(z), z / 3 + 0.5, (z >= 3).to(z.dtype)),
        lambda z: torch.where(inside(z), 1 / 3, 0.0).to(z.dtype),
        turns=(-1.5, *corners),
        bends=corners,
        slopes=lambda level: (3 * level - 1.5, *_at(*corners)(level)),
        seconds=_at(*corners),
    )


KINKED: dict[str, Rule] = {"soft-sign": _soft_sign(), "hard-swish": _hard_swish()}
"""Functions whose first or second derivative jumps."""

EXPONENTIAL: dict[str, Rule] = {
    # Beyond 709 it is infinite in float64, and so are bounds over boxes that come there.
    "exp": Rule(
        torch.exp,
        torch.exp,
        torch.exp,
        slopes=lambda level: (torch.log(level.clamp_min(torch.finfo(level.dtype).tiny)),),
        seconds=lambda level: (torch.log(level.clamp_min(torch.finfo(level.dtype).tiny)),),
    ),
}
"""The exponential function."""

FAMILIES: dict[str, Callable[..., Rule]] = {"power": power, "elu": elu}
"""Functions with numbers of their own, by their names."""
