"""Layers that are not affine between two affine functions of their inputs, over known ranges.

Unit by unit two lines bound the function from below and from above, each with a slope of its own (Zhang et
al., Efficient Neural Network Robustness Certification with General Activation Functions, NeurIPS 2018). Of
all slopes that the function has, and that of the chord, a line takes the one whose offset from the function
has the least area: it is closest in the middle of the range. For ReLU that is the chord above, and below 0 or
1, whichever side of 0 is longer; for smooth functions see `edges`.

A window's largest input is at least the one that wins in the middle, w, and at most
x_w + sum_j max(0, x_j - x_w) with a line above each maximum; or it is at most the largest bound.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from steadygaze.geometry.enclosures import UNIT
from steadygaze.geometry.forms import Forms
from steadygaze.network.bounding.beside import beyond
from steadygaze.network.bounding.edges import Edges, edges, held
from steadygaze.network.bounding.enclosing import range_of
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.smooth import Smooth

# What rows in float32 may have lost beneath their least normal number, 2^-126, is below this share of sizes
# times a unit roundoff; and what an offset may have lost, below this alone.
_LOST, _LOST_OFFSET = 2.0**-60, 2.0**-110


class AbstractLines(ABC):
    """Affine functions below and above a layer that is not affine, over B boxes."""

    @abstractmethod
    def pulled(self, rows: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows ``(B, R, M)`` for the layer's output as rows ``(B, R, N)`` for its input.

        ``<row, output> >= <new row, input> + constant - rounding``; size ``(B, N)`` is at least the magnitude
        of the input. Returns new rows, constants ``(B, R)`` and roundings ``(B, R)``.
        """

    @abstractmethod
    def taken(self, rows: Tensor, inputs: Tensor) -> Tensor:
        """What rows ``(B, M)`` take for the output ``(B, M)`` at inputs ``(B, N)``; rounding is left."""

    @abstractmethod
    def take(self, chosen: Tensor) -> AbstractLines:
        """Those of some boxes."""

    @abstractmethod
    def to(self, kind: torch.dtype) -> AbstractLines:
        """The same in another kind of number, up to one rounding of each."""


@dataclass(frozen=True, eq=False)
class Lines(AbstractLines):
    """``slope z + offset`` below and above each unit, all ``(B, N)``."""

    below: Tensor
    below_offset: Tensor
    above: Tensor
    above_offset: Tensor

    def pulled(self, rows: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        up, down = rows.clamp_min(0.0), rows.clamp_max(0.0)
        # Constants, and what rounding is a share of, in one product each: the rows are much the larger part.
        unit = unit_of(rows)
        terms, shares = (rows.shape[2] + 8) * unit, 4 * unit * size
        lower = torch.stack(
            [self.below_offset, terms * self.below_offset.abs() + shares * self.below.abs()], 1
        )
        upper = torch.stack(
            [self.above_offset, -terms * self.above_offset.abs() - shares * self.above.abs()], 1
        )
        # In this order measured to be faster than rows times columns.
        found = (lower @ up.mT + upper @ down.mT).to(torch.float64)
        # One of the two products is 0 everywhere.
        own = up.mul_(self.below[:, None]).addcmul_(down, self.above[:, None])
        lost = 0.0 if rows.dtype == torch.float64 else unit * _lost(size)
        return own, found[:, 0], (found[:, 1] + lost) * (1 + 2 * terms)

    def taken(self, rows: Tensor, inputs: Tensor) -> Tensor:
        below, above = self.below * inputs + self.below_offset, self.above * inputs + self.above_offset
        return torch.where(rows >= 0, below, above)

    def take(self, chosen: Tensor) -> Lines:
        return self.mapped(lambda own: own[chosen])

    def mapped(self, move: Callable[[Tensor], Tensor]) -> Lines:
        """Those that a function makes of slopes and offsets, each ``(B, N)``."""
        return Lines(*(move(own) for own in self._parts))

    def to(self, kind: torch.dtype) -> Lines:
        offsets = (self.below_offset - _LOST_OFFSET, self.above_offset + _LOST_OFFSET)
        return Lines(self.below.to(kind), offsets[0].to(kind), self.above.to(kind), offsets[1].to(kind))

    @property
    def _parts(self) -> tuple[Tensor, ...]:
        return (self.below, self.below_offset, self.above, self.above_offset)


@dataclass(frozen=True, eq=False)
class WindowLines(AbstractLines):
    """The largest input of each window between that of the winner and a weighted sum of all.

    Attributes:
        layer: the pool.
        winner: ``(B, M)`` position in the flattened input.
        weights: ``(B, M, k)`` of the inputs above, by their place in the window; offset ``(B, M)``.
    """

    layer: MaxPool
    winner: Tensor
    weights: Tensor
    offset: Tensor

    def pulled(self, rows: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        boxes, count, windows = rows.shape
        up, down = rows.clamp_min(0.0), rows.clamp_max(0.0)
        own = rows.new_zeros((boxes, count, size.shape[1]))
        own.scatter_add_(2, self.winner[:, None].expand(boxes, count, windows), up)
        scale = weighed(up, size.gather(1, self.winner))
        for j in range(self.weights.shape[2]):
            # Most windows are settled: at each place few have an input that counts.
            weighty = self.weights[:, :, j].any(dim=0).nonzero()[:, 0]
            if len(weighty):
                weight, part = self.weights[:, weighty, j], down[:, :, weighty]
                place = self.layer.windows[weighty, j].clamp_min(0)
                own.scatter_add_(2, place.expand(boxes, count, -1), part * weight[:, None])
                scale = scale + weighed(part, weight.abs() * size[:, place])
        constant = (down @ self.offset[..., None])[..., 0].to(torch.float64)
        scale = scale + weighed(down, self.offset.abs())
        return own, constant, (windows + self.weights.shape[2] + 8) * unit_of(rows) * scale

    def taken(self, rows: Tensor, inputs: Tensor) -> Tensor:
        above = (self.weights * inputs[:, self.layer.windows.clamp_min(0)]).sum(dim=2) + self.offset
        return torch.where(rows >= 0, inputs.gather(1, self.winner), above)

    def take(self, chosen: Tensor) -> WindowLines:
        return WindowLines(self.layer, self.winner[chosen], self.weights[chosen], self.offset[chosen])

    def to(self, kind: torch.dtype) -> WindowLines:
        return WindowLines(
            self.layer, self.winner, self.weights.to(kind), (self.offset + _LOST_OFFSET).to(kind)
        )


def lines_of(
    layer: PiecewiseLinear | MaxPool | Smooth, forms: Forms, low: Tensor, high: Tensor
) -> AbstractLines:
    """The lines of a layer whose inputs lie within forms ``(N,)`` and in ``[low, high]``, ``(B, N)``."""
    if isinstance(layer, Smooth):
        return Lines(*edges(layer, low, high).parts)
    return (
        _of_windows(layer, forms, low, high) if isinstance(layer, MaxPool) else _of_pieces(layer, low, high)
    )


def smooth_lines(
    layer: Smooth, known: tuple[Tensor, Tensor], wide: tuple[Tensor, Tensor]
) -> tuple[Lines, Lines]:
    """Lines that are closest over what is known of ranges; and those that are closest over wider ones.

    All hold over what is known, ``(B, N)``. Rows with the second ones are no wider than rows with lines over
    the wide ranges, as their slopes are the same. The first ones are mostly better; where rows come from far
    beyond what is known, they may be worse.
    """
    found = edges(layer, *(torch.cat(ends) for ends in zip(known, wide, strict=True)))
    first, second = (Edges(*own) for own in zip(*(own.chunk(2) for own in found.parts), strict=True))
    return Lines(*first.parts), Lines(*held(layer, second, *known).parts)


def piecewise_lines(
    layer: PiecewiseLinear, known: tuple[Tensor, Tensor], wide: tuple[Tensor, Tensor]
) -> tuple[Lines, Lines | None]:
    """Lines below with the slopes that wider ranges choose, and with those that known ones do.

    Which piece the line below follows is a choice of two, and what is known of a range alone, so that rows
    know nothing of it, may turn it where rows are better off without: each unit that they make wider then
    makes wider all behind it. Lines above are closest over what is known, in both. None: both are the same.
    """
    first = _of_pieces(layer, *known)
    torn = first.below != first.above
    slope = torch.where(torn, _of_pieces(layer, *wide).below, first.below)
    if slope.equal(first.below):
        return first, None
    offset, _ = offsets_of(layer, *known, slope)
    return replace(first, below=slope, below_offset=torch.where(torn, offset, first.below_offset)), first


def offsets_of(layer: PiecewiseLinear, low: Tensor, high: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """The largest offset of a line of that slope that stays below, and the smallest above, ``(B, N)``.

    What a piecewise linear function has beyond a line is extreme at the ends of the range or at a breakpoint.
    """
    at_low, at_high = layer.forward(low) - slope * low, layer.forward(high) - slope * high
    below, above = torch.minimum(at_low, at_high), torch.maximum(at_low, at_high)
    reach = torch.maximum(low.abs(), high.abs())
    size = slope.abs() * reach + torch.maximum(layer.forward(low).abs(), layer.forward(high).abs())
    for edge in layer.breakpoints:
        at = torch.minimum(torch.maximum(edge, low), high)
        value = layer.forward(at)
        below = torch.minimum(below, value - slope * at)
        above = torch.maximum(above, value - slope * at)
        size = torch.maximum(size, value.abs() + slope.abs() * reach)
    return below - 4 * UNIT * size, above + 4 * UNIT * size


def values_of(layer: PiecewiseLinear | MaxPool | Smooth, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Least and largest outputs ``(B, M)`` of a layer over ranges ``(B, N)`` of its inputs."""
    if isinstance(layer, Smooth):
        return range_of(layer, low, high)
    if isinstance(layer, PiecewiseLinear):
        return offsets_of(layer, low, high, torch.zeros_like(low))
    real, place = layer.windows >= 0, layer.windows.clamp_min(0)
    least, most = (bound[:, place].masked_fill(~real, -torch.inf).amax(dim=2) for bound in (low, high))
    return least, most


def unit_of(numbers: Tensor) -> float:
    """Unit roundoff of the kind of number: of float64 or of float32."""
    return UNIT if numbers.dtype == torch.float64 else 2.0**-24


def weighed(rows: Tensor, size: Tensor) -> Tensor:
    """Float64 ``(B, R)``, at least the sum of the magnitudes of rows ``(B, R, N)`` times sizes ``(B, N)``.

    It is for what rounding adds. In float64 that is so little that the inequality of Cauchy and Schwarz does;
    of rows in float32 numbers below 2^-126 may have been lost, which the second term makes up for.
    """
    if rows.dtype == torch.float64:
        lengths = torch.linalg.vector_norm(rows, dim=2) * torch.linalg.vector_norm(size, dim=1, keepdim=True)
        return lengths * (1 + 2.0**-30)
    total = (size[:, None] @ rows.abs().mT)[:, 0].to(torch.float64)
    return (total + _lost(size)) * (1 + 2 * rows.shape[2] * unit_of(rows))


def _lost(size: Tensor) -> Tensor:
    return _LOST * size.to(torch.float64).sum(dim=1, keepdim=True)


def _of_pieces(layer: PiecewiseLinear, low: Tensor, high: Tensor) -> Lines:
    if layer.is_relu:
        return _of_relu(low, high)
    tiny = torch.finfo(low.dtype).tiny
    chord = (layer.forward(high) - layer.forward(low)) / (high - low).clamp_min(tiny)
    last = layer.pieces_of(high)
    first = torch.minimum(layer.pieces_of(low), last)
    middle = low + (high - low) / 2
    slope = torch.where(first == last, layer.slopes_of(first), chord)
    offset_below, offset_above = offsets_of(layer, low, high, slope)
    below, above = slope, slope
    for piece in range(len(layer.slopes)):
        slope = layer.slopes_of(torch.full_like(first, piece))
        within = (first <= piece) & (piece <= last)
        under, over = offsets_of(layer, low, high, slope)
        better = within & ((slope - below) * middle + (under - offset_below) > 0)
        below, offset_below = torch.where(better, slope, below), torch.where(better, under, offset_below)
        better = within & ((slope - above) * middle + (over - offset_above) < 0)
        above, offset_above = torch.where(better, slope, above), torch.where(better, over, offset_above)
    return Lines(below, offset_below, above, offset_above)


def _of_relu(low: Tensor, high: Tensor) -> Lines:
    torn = (low < 0) & (high > 0)
    on = (low >= 0).to(low.dtype)
    below = torch.where(torn, (high > -low).to(low.dtype), on)
    # The chord is 0 at `low` but for the rounding of its slope, which the offset makes up for.
    chord = high / torch.where(torn, high - low, 1.0) * (1 + 4 * UNIT)
    above = torch.where(torn, chord, on)
    return Lines(below, torch.zeros_like(low), above, torch.where(torn, -low * chord * (1 + 4 * UNIT), 0.0))


def _of_windows(layer: MaxPool, forms: Forms, low: Tensor, high: Tensor) -> WindowLines:
    real = layer.windows >= 0
    place = layer.windows.clamp_min(0)
    least = low[:, place].masked_fill(~real, -torch.inf)
    most = high[:, place].masked_fill(~real, -torch.inf)
    best = (least / 2 + most / 2).argmax(dim=2)[..., None]
    winner = place.expand(len(low), -1, -1).gather(2, best)[..., 0]
    bottom, top = (bound.gather(2, best)[..., 0] for bound in (least, most))
    # x_j - x_w lies between under and over; max(0, .) is below the line of slope s through (under, 0).
    over, under = most - bottom[..., None], least - top[..., None]
    below, above, _ = beyond(forms, layer.windows, winner)
    over, under = torch.minimum(over, above), torch.maximum(under, below)
    rival = (real & (over > 0)).scatter(2, best, False)
    over, under = (torch.where(rival, bound, 0.0) for bound in (over, under))
    sure = rival & (under >= 0)
    share = torch.where(sure, 1.0, over / (over - under).masked_fill(~rival, 1.0).clamp_min(1e-300))
    weights = torch.where(rival, share * (1 + 4 * UNIT), 0.0)
    shift = torch.where(sure, 0.0, -under * weights).sum(dim=2)
    weights = weights.scatter(2, best, 1 - weights.sum(dim=2, keepdim=True))
    reach = torch.where(real, torch.maximum(least.abs(), most.abs()), 0.0).amax(dim=2)
    terms = 4 * (layer.windows.shape[1] + 4)
    shift = shift + terms * UNIT * ((1 + weights.abs().sum(dim=2)) * reach + shift.abs())
    # A constant is the better bound where it is less in the middle.
    middle = torch.where(real, least / 2 + most / 2, 0.0)
    flat = most.amax(dim=2)
    constant = flat < (weights * middle).sum(dim=2) + shift
    constant &= rival.any(dim=2)
    return WindowLines(
        layer, winner, weights.masked_fill(constant[..., None], 0.0), torch.where(constant, flat, shift)
    )
