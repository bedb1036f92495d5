"""Smooth functions over intervals: affine enclosures of their values and of their derivatives.

An enclosure of g over ``[low, high]`` is a line and an error, ``g(z) in slope z + offset ± error`` there. The
line is parallel to the chord: for the chord's slope λ the deviation ``g(z) - λ z`` is equal at both ends, and
where it is largest or smallest inside, g' is λ. For most functions these places are known in closed form. For
the others the deviation is taken at the ends of `_PARTS` equal parts of width h: between two of them it
leaves the range of its two values by no more than ``sup|g''| h² / 8``, the error of linear interpolation.
Either way the error shrinks with the square of the interval's width. Over wide intervals the range of g
itself, which is the enclosure of slope 0, may be tighter, and is then taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steadygaze.network.bounding.curves.meeting import far, met
from steadygaze.network.rule import Curve, Places, Rule
from steadygaze.network.smooth import Smooth

# Parts in which a deviation is looked at: the interpolation between them adds less than a hundredth to the
# error of a chord over which g'' hardly varies.
_PARTS = 16
#: What rounding may add to an enclosure, relative to the largest of 1 and the numbers that go into it: the
# functions here are good to a few units of 2^-53, and a deviation is a difference of two such numbers. Places
# in closed form are themselves rounded; as the deviation is flat there, they miss its extreme by less.
ROUNDING = 2.0**-46
#: Below this width (relative, where z is large) the chord is a difference of nearly equal numbers.
NARROW = 2.0**-26


def relaxed(layer: Smooth, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Slope, offset and error, in the shape of low and high: ``f(z) in slope z + offset ± error``.

    That holds for every z of each ``[low, high]`` (float64, finite, low <= high; equal ends are allowed),
    rounding included. See the module for how.
    """
    rule, low, high = layer.rule, *known_part(layer.rule, low, high)
    curve = _Curve(rule.value, rule.derivative, rule.curvature, rule.turns, rule.slopes, rule.period)
    return _enclosed(curve, low, high)


def range_of(layer: Smooth, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Least and largest f(z) for z of each ``[low, high]``, rounding included."""
    rule, low, high = layer.rule, *known_part(layer.rule, low, high)
    bottom, top = range_over(rule, low, high)
    outward = ROUNDING * (1 + torch.maximum(bottom.abs(), top.abs()))
    return bottom - outward, top + outward


def derivative_relaxed(layer: Smooth, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As `relaxed`, for the derivative: ``f'(z) in slope z + offset ± error``."""
    rule, low, high = layer.rule, *known_part(layer.rule, low, high)
    curve = _Curve(rule.derivative, rule.second, rule.third, rule.bends, rule.seconds, rule.period)
    return _enclosed(curve, low, high)


def known_part(rule: Rule, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """What of the interval is not below the least argument that there is."""
    if math.isinf(rule.floor):
        return low, high
    return low.clamp_min(rule.floor), high.clamp_min(rule.floor)


@dataclass(frozen=True)
class _Curve:
    """A function, or a derivative, to be enclosed: as `Rule` has it of the function."""

    value: Curve
    derivative: Curve
    curvature: float
    turns: Sequence[float]
    slopes: Places | None
    period: float


def _enclosed(curve: _Curve, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    reach = torch.maximum(low.abs(), high.abs())
    first, last = curve.value(low), curve.value(high)
    narrow = high - low <= NARROW * (1 + reach)
    middle = curve.derivative((low + high) / 2)
    chord = torch.where(narrow, middle, (last - first) / (high - low).clamp_min(NARROW))
    bottom, top = range_over(curve, low, high)
    if curve.slopes is None:
        below, above = _sampled(curve.value, curve.curvature, chord, low, high)
    else:
        ends = (first - chord * low, last - chord * high)
        below, above = torch.minimum(*ends), torch.maximum(*ends)
        for z in met(curve.slopes(chord), curve.period, low, high):
            deviation = curve.value(z) - chord * z
            below, above = torch.minimum(below, deviation), torch.maximum(above, deviation)
    flat = (top - bottom < above - below) | far(curve.period, low, high)
    slope = torch.where(flat, 0.0, chord)
    below, above = torch.where(flat, bottom, below), torch.where(flat, top, above)
    size = 1 + torch.maximum(bottom.abs(), top.abs()) + slope.abs() * reach
    return slope, (below + above) / 2, (above - below) / 2 + ROUNDING * size


def range_over(curve: Rule | _Curve, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The range of a function: it turns nowhere else, so that its extremes are at the ends or at turns."""
    first, last = curve.value(low), curve.value(high)
    bottom, top = torch.minimum(first, last), torch.maximum(first, last)
    turns = [torch.full_like(low, turn) for turn in curve.turns]
    for place in met(turns, curve.period, low, high):
        value = curve.value(place)
        bottom, top = torch.minimum(bottom, value), torch.maximum(top, value)
    return bottom, top


def _sampled(
    curve: Curve, curvature: float, slope: Tensor, low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor]:
    """The range of ``g(z) - slope z``, from its values at the ends of equal parts."""
    step = (high - low) / _PARTS
    below, above = torch.full_like(low, torch.inf), torch.full_like(low, -torch.inf)
    for part in range(_PARTS + 1):
        z = (low + part * step).clamp(low, high)
        deviation = curve(z) - slope * z
        below, above = torch.minimum(below, deviation), torch.maximum(above, deviation)
    # The factor: rounding may move the ends of a part, and so make it wider, in the last places.
    between = step.square() * (curvature * (1 + 2.0**-20) / 8)
    return below - between, above + between
