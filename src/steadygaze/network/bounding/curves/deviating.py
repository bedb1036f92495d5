"""How far a smooth function is from lines over intervals: the least and the largest of ``f(z) - slope z``.

Inside an interval they are where f' is the slope. For most functions these places are known in closed form.
For the others the real line is taken apart at the places where f'' changes its sign: between two of these f'
never turns, and a table of it tells where it is the slope, nearly. Where f'' is not below 0, the tangent at
*any* place p bounds ``f(z) - slope z`` from below, which at p itself is ``f(p) - slope p``, and between two
ends a and b no less than that less ``max((f'(p) - slope) (p - a), (slope - f'(p)) (b - p), 0)``. So a place
that is nearly the right one costs tightness, and hardly any of it; what is bounded is so wherever p is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

from steadygaze.network.bounding.curves.meeting import far, met
from steadygaze.network.rule import Rule

# Places in a table. They are closer to each other next to where f'' is 0: f' hardly moves there.
_PLACES = 2**14
# Beyond it f' of the functions without closed forms is its limit, to rounding.
_REACH = 45.0


@dataclass(frozen=True)
class Extremes:
    """Bounds of ``f(z) - slope z`` over intervals, and places at which it comes to them, or nearly.

    All are of the shape of the slopes.
    """

    below: Tensor
    below_at: Tensor
    above: Tensor
    above_at: Tensor


def extremes(rule: Rule, slope: Tensor, low: Tensor, high: Tensor) -> Extremes:
    """The least and the largest of ``f(z) - slope z`` for z of each ``[low, high]``; rounding is left out.

    slope: ``(..., N)``, for intervals ``(N,)``.
    """
    low, high = low.expand(slope.shape), high.expand(slope.shape)
    if rule.slopes is not None:
        inner = met(rule.slopes(slope), rule.period, low, high)
        found = _of_places(rule, slope, torch.stack([low, high, *inner]), 0.0, 0.0)
        return found if math.isinf(rule.period) else _where_far(found, rule, slope, low, high)
    places, down, up = [low, high], [torch.zeros_like(slope)] * 2, [torch.zeros_like(slope)] * 2
    for section in _sections(rule):
        # A section that the interval does not meet comes down to an end of it.
        a, b = (torch.minimum(low.clamp_min(end), high) for end in (section.low, section.high))
        z = section.place(slope).clamp(a, b)
        away = rule.derivative(z) - slope
        away = away if section.rises else -away
        slack = torch.maximum(away.clamp_min(0.0) * (z - a), (-away).clamp_min(0.0) * (b - z))
        nothing = torch.zeros_like(slack)
        # The other extreme is at an end of the section: an end of the interval, or within another section.
        places.append(z)
        down.append(slack if section.rises else nothing)
        up.append(nothing if section.rises else slack)
    return _of_places(rule, slope, torch.stack(places), torch.stack(down), torch.stack(up))


def _of_places(
    rule: Rule, slope: Tensor, places: Tensor, down: Tensor | float, up: Tensor | float
) -> Extremes:
    """The extremes, which are at some of the places ``(P, ..., N)``, or so much below or above them."""
    deviation = rule.value(places) - slope * places
    below, first = (deviation - down).min(dim=0)
    above, last = (deviation + up).max(dim=0)
    at = (places.gather(0, chosen[None])[0] for chosen in (first, last))
    return Extremes(below, next(at), above, next(at))


def _where_far(found: Extremes, rule: Rule, slope: Tensor, low: Tensor, high: Tensor) -> Extremes:
    """Extremes that hold where the places of a period are not known: of f and of the line, each alone."""
    away = far(rule.period, low, high)
    values = rule.value(low.new_tensor(rule.turns))
    own = torch.where(slope == 0, 0.0, slope.abs() * torch.maximum(low.abs(), high.abs()))
    return Extremes(
        torch.where(away, values.min() - own, found.below),
        torch.where(away, low, found.below_at),
        torch.where(away, values.max() + own, found.above),
        torch.where(away, high, found.above_at),
    )


@dataclass(frozen=True, eq=False)
class _Section:
    """A part of the real line on which f' never turns, and a table of f' there.

    Attributes:
        rises: whether f' rises. places, levels: ``(P,)``, both rising; levels are f' or, where it falls, -f'.
    """

    low: float
    high: float
    rises: bool
    places: Tensor
    levels: Tensor

    def place(self, slope: Tensor) -> Tensor:
        """Where f' is nearly the slope; an end of the section, which may be infinite, where it is nowhere."""
        places, levels = self.places.to(slope.device), self.levels.to(slope.device)
        level = (slope if self.rises else -slope).contiguous()
        after = torch.searchsorted(levels, level)
        inside = after.clamp(1, len(levels) - 1)
        lower, upper = levels[inside - 1], levels[inside]
        share = ((level - lower) / (upper - lower)).clamp(0.0, 1.0)
        found = torch.lerp(places[inside - 1], places[inside], share)
        found = torch.where(after == 0, self.low, found)
        return torch.where(after == len(levels), self.high, found)


@lru_cache(maxsize=16)
def _sections(rule: Rule) -> tuple[_Section, ...]:
    share = torch.linspace(0, 1, _PLACES, dtype=torch.float64)
    sections = list[_Section]()
    for low, high in pairwise((-math.inf, *rule.bends, math.inf)):
        # Half a wave: steps are short at both ends.
        near, far = max(low, -_REACH), min(high, _REACH)
        places = near + (far - near) * (1 - torch.cos(math.pi * share)) / 2
        slopes = rule.derivative(places)
        rises = bool(slopes[-1] > slopes[0])
        # Where f' is flat its rounding may go up and down.
        levels = (slopes if rises else -slopes).cummax(dim=0).values
        sections.append(_Section(low, high, rises, places, levels))
    return tuple(sections)
