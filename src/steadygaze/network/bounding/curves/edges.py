"""Lines below and above smooth functions over intervals, each with a slope of its own.

Of all lines below f over ``[low, high]`` the one that is highest in the middle has the least area between
itself and f. It lies on the edge of the convex hull of f there: it is the tangent in the middle, where no
part of f is below that; else it touches f on both sides of the middle, at an end or as a tangent (for sigmoid
and tanh: Zhang et al., Efficient Neural Network Robustness Certification with General Activation Functions,
NeurIPS 2018). Whether a line of some slope touches f on one side of the middle or on the other tells whether
a steeper one is higher there, so that the two places close in on those of the edge: the next slope is that of
the line through both. Where one of them is an end, that is Newton's method for the tangent from there.

Slopes are only sought, offsets are proven: whatever the slope, the offset is the least that
``f(z) - slope z`` can be (see `deviating`), less what rounding may have added. The same for lines above.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from steadygaze.network.bounding.curves.deviating import extremes
from steadygaze.network.bounding.curves.enclosing import NARROW, ROUNDING, known_part, range_over
from steadygaze.network.rule import Rule
from steadygaze.network.smooth import Smooth

# How often both places are moved; and how far a line has to be off in the middle for that, as a share of the
# range of f.
_STEPS, _OFF = 2, 2.0**-20


@dataclass(frozen=True)
class Edges:
    """``slope z + offset`` below and above f over intervals, in their shape; rounding is included."""

    below: Tensor
    below_offset: Tensor
    above: Tensor
    above_offset: Tensor

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All of them, in this order."""
        return self.below, self.below_offset, self.above, self.above_offset


def edges(layer: Smooth, low: Tensor, high: Tensor) -> Edges:
    """The lines that are closest in the middle of each ``[low, high]`` (float64, finite, low <= high)."""
    rule, shape = layer.rule, low.shape
    low, high = known_part(rule, low.flatten(), high.flatten())
    middle = low / 2 + high / 2
    first, last, value = rule.value(torch.stack([low, high, middle]))
    bottom, top = range_over(rule, low, high)
    reach = torch.maximum(low.abs(), high.abs())
    narrow, tangent = high - low <= NARROW * (1 + reach), rule.derivative(middle)
    chord = torch.where(narrow, tangent, (last - first) / (high - low).clamp_min(NARROW))
    chord = chord.clamp(-rule.steepest, rule.steepest)
    flat = torch.stack([bottom, -top])
    sign = low.new_tensor([[1.0], [-1.0]])
    sign, a, b, at, level = (own.expand_as(flat) for own in (sign, low, high, middle, torch.zeros_like(low)))
    lines = _Lines(rule, sign, a, b, at, level, flat, before=a, behind=b)
    found = extremes(rule, torch.stack([chord, tangent]), low, high)
    for slope, below, below_at, above, above_at in zip(
        (chord, tangent), found.below, found.below_at, found.above, found.above_at, strict=True
    ):
        offset, at = torch.stack([below, -above]), torch.stack([below_at, above_at])
        lines = lines.with_line(slope.expand_as(offset), offset, at)
    # No line below f is above f in the middle, nor above the chord; and the other way round.
    across = torch.where(narrow, value, first / 2 + last / 2)
    most = torch.stack([torch.minimum(value, across), -torch.maximum(value, across)])
    off = most - lines.level > _OFF * (top - bottom)
    slope, offset = lines.slope, lines.offset
    if off.any():
        part = lines.take(off)
        for _ in range(_STEPS):
            part = part.closer()
        slope, offset = slope.masked_scatter(off, part.slope), offset.masked_scatter(off, part.offset)
    return Edges(*(own.reshape(shape) for own in _outward(slope, offset, low, high, bottom, top)))


def held(layer: Smooth, slopes: Edges, low: Tensor, high: Tensor) -> Edges:
    """Lines of the same slopes, as close as they may be over each ``[low, high]``."""
    rule, shape = layer.rule, low.shape
    low, high = known_part(rule, low.flatten(), high.flatten())
    slope = torch.stack([slopes.below.flatten(), slopes.above.flatten()])
    found = extremes(rule, slope, low, high)
    offset = torch.stack([found.below[0], -found.above[1]])
    bottom, top = range_over(rule, low, high)
    return Edges(*(own.reshape(shape) for own in _outward(slope, offset, low, high, bottom, top)))


def _outward(
    slope: Tensor, offset: Tensor, low: Tensor, high: Tensor, bottom: Tensor, top: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Slopes and offsets below and above, rounding included, of lines ``(2, N)`` below f and below -f."""
    reach = torch.maximum(low.abs(), high.abs())
    offset = offset - ROUNDING * (1 + torch.maximum(bottom.abs(), top.abs()) + slope.abs() * reach)
    return slope[0], offset[0], slope[1], -offset[1]


@dataclass(frozen=True, eq=False)
class _Lines:
    """The best lines so far below f, where the sign is 1, or, where it is -1, below -f.

    Attributes:
        slope: times the sign that of the line, and offset.
        before, behind: places on both sides of the middle, on which lines touch. All are of one shape.
    """

    rule: Rule
    sign: Tensor
    low: Tensor
    high: Tensor
    middle: Tensor
    slope: Tensor
    offset: Tensor
    before: Tensor
    behind: Tensor

    @property
    def level(self) -> Tensor:
        """The lines in the middle."""
        return self.sign * self.slope * self.middle + self.offset

    def with_line(self, slope: Tensor, offset: Tensor, at: Tensor) -> _Lines:
        """With lines of such slopes and offsets, where they are the better ones; and where they touch."""
        better = self.sign * slope * self.middle + offset > self.level
        return replace(
            self,
            slope=torch.where(better, slope, self.slope),
            offset=torch.where(better, offset, self.offset),
            before=torch.where(at < self.middle, torch.maximum(at, self.before), self.before),
            behind=torch.where(at > self.middle, torch.minimum(at, self.behind), self.behind),
        )

    def closer(self) -> _Lines:
        """With the lines through both places, or as far below these as they have to be."""
        start, end = self.rule.value(torch.stack([self.before, self.behind]))
        run = self.behind - self.before
        slope = torch.where(run > 0, (end - start) / run, self.slope)
        # Between places hardly apart the difference is rounding, and may be as steep as it likes.
        slope = slope.clamp(-self.rule.steepest, self.rule.steepest)
        found = extremes(self.rule, slope, self.low, self.high)
        under = self.sign > 0
        offset = torch.where(under, found.below, -found.above)
        return self.with_line(slope, offset, torch.where(under, found.below_at, found.above_at))

    def take(self, some: Tensor) -> _Lines:
        """Those that are set in a mask, one after the other."""
        names = ("sign", "low", "high", "middle", "slope", "offset", "before", "behind")
        return replace(self, **{name: getattr(self, name)[some] for name in names})
