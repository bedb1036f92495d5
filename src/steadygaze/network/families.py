"""Families of functions with numbers of their own: powers, logarithms; and the exponential function.

All have the places of a given slope in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from steadygaze.network.rule import Rule


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
            return lambda level: ()

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
def log(floor: float) -> Rule:
    """``log z`` from a floor of 0 or more; from 0 on it is not bounded there, as in `power`."""

    def over(factor: float, degree: float) -> Callable[[Tensor], Tensor]:
        return lambda z: factor * _power(z.clamp_min(floor), degree)

    return Rule(
        lambda z: torch.log(z.clamp_min(floor)),
        over(1.0, -1),
        over(-1.0, -2),
        slopes=lambda level: (level.abs().reciprocal(),),
        seconds=lambda level: (level.abs().rsqrt(),),
        floor=floor,
    )


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

FAMILIES: dict[str, Callable[..., Rule]] = {"power": power, "log": log}
"""Functions with numbers of their own, by their names."""
