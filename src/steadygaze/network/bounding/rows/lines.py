"""Layers that are not affine between two affine functions of their inputs, over known ranges.

Unit by unit two lines bound the function from below and from above, each with a slope of its own (Zhang et
al., Efficient Neural Network Robustness Certification with General Activation Functions, NeurIPS 2018). Of
all slopes that the function has, and that of the chord, a line takes the one whose offset from the function
has the least area: it is closest in the middle of the range. For ReLU that is the chord above, and below 0 or
1, whichever side of 0 is longer; for smooth functions see `edges`.
Of max pooling see `window_lines`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor

from steadygaze.enclosing.enclosures import UNIT
from steadygaze.enclosing.forms import numbers_of
from steadygaze.enclosing.hinges import relu_lines
from steadygaze.enclosing.passes import rows_between
from steadygaze.enclosing.windows import largest_between
from steadygaze.network.bounding.curves.edges import Edges, edges, held
from steadygaze.network.bounding.curves.enclosing import range_of
from steadygaze.network.layers import AbstractAffine, Shape
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.smooth import Smooth

# What rows in float32 may have lost beneath their least normal number, 2^-126, is below this share of sizes
# times a unit roundoff.
_LOST = 2.0**-60
#: What an offset in float32 may have lost so is below this.
LOST_OFFSET = 2.0**-110

#: Least and largest values, of the same shape.
Range: TypeAlias = tuple[Tensor, Tensor]


class AbstractLines(ABC):
    """Affine functions below and above a layer that is not affine, over B boxes."""

    @abstractmethod
    def pulled(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows ``(B, R, M)`` for the layer's output as rows ``(B, R, N)`` for its input.

        ``<row, output> >= <new row, input> + constant - rounding``. Returns new rows, constants ``(B, R)``
        and roundings ``(B, R)``. Rows ``(1, R, M)`` are those of every box. Several inputs are side by side.
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
    """``slope z + offset`` below and above each unit, all ``(B, N)``; size: at least the magnitude of z."""

    below: Tensor
    below_offset: Tensor
    above: Tensor
    above_offset: Tensor
    size: Tensor

    def pulled(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        own, constant, rounding = self._between(rows)
        return own, constant, rounding if self._lost is None else rounding + self._lost

    def _between(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """New rows, constants, and what rounding adds but for what is lost."""
        lower, upper = self.sides
        if rows.device.type == "cpu":
            parts = numbers_of((rows, self.below, self.above, lower, upper))
            own, found = (torch.from_numpy(made) for made in rows_between(*parts))
            return own, found[0], found[1]
        up, down = rows.clamp_min(0.0), rows.clamp_max(0.0)
        found = (lower @ up.mT + upper @ down.mT).to(torch.float64)
        # One of the two products is 0 everywhere.
        own = torch.mul(up, self.below[:, None]).addcmul_(down, self.above[:, None])
        return own, found[:, 0], found[:, 1]

    @cached_property
    def sides(self) -> tuple[Tensor, Tensor]:
        """Offsets below and above, and what rounding adds for each unit of a row, ``(B, 2, N)`` each.

        Constants, and what rounding is a share of, in one product each: the rows are much the larger part.
        """
        unit = unit_of(self.size)
        terms, shares = (self.size.shape[1] + 8) * unit, 4 * unit * self.size
        above = 1 + 2 * terms
        lower = (terms * self.below_offset.abs() + shares * self.below.abs()) * above
        upper = (terms * self.above_offset.abs() + shares * self.above.abs()) * -above
        return torch.stack([self.below_offset, lower], 1), torch.stack([self.above_offset, upper], 1)

    @cached_property
    def _lost(self) -> Tensor | None:
        """What rows in float32 may lose beneath their least normal number, ``(B, 1)``."""
        if self.size.dtype == torch.float64:
            return None
        unit = unit_of(self.size)
        return 2 * unit * lost(self.size) * (1 + 2 * (self.size.shape[1] + 8) * unit)

    def taken(self, rows: Tensor, inputs: Tensor) -> Tensor:
        below, above = self.below * inputs + self.below_offset, self.above * inputs + self.above_offset
        return torch.where(rows >= 0, below, above)

    def take(self, chosen: Tensor) -> Lines:
        return self.mapped(lambda own: own[chosen])

    def of_units(self, places: Tensor) -> Lines:
        """Those of the units of these numbers ``(k,)``."""
        return self.mapped(lambda own: own[:, places])

    @cached_property
    def alive(self) -> Tensor:
        """Numbers ``(k,)`` of the units that take something of a row in some box."""
        return torch.stack(self._parts[:4]).any(dim=0).any(dim=0).nonzero()[:, 0]

    def differs(self, other: Lines) -> Tensor:
        """``(B,)`` bool: over which boxes others of the same layer have other slopes or offsets."""
        pairs = zip(self._parts[:4], other._parts[:4], strict=True)
        return torch.stack([(own != one).any(dim=1) for own, one in pairs]).any(dim=0)

    @staticmethod
    def joined(*lines: Lines) -> Lines:
        """Those over the boxes of several, one after the other."""
        return Lines(*(torch.cat(parts) for parts in zip(*(own._parts for own in lines), strict=True)))

    def mapped(self, move: Callable[[Tensor], Tensor]) -> Lines:
        """Those that a function makes of slopes, offsets and sizes, each ``(B, N)``."""
        return Lines(*(move(own) for own in self._parts))

    @property
    def _parts(self) -> tuple[Tensor, ...]:
        return self.below, self.below_offset, self.above, self.above_offset, self.size

    def to(self, kind: torch.dtype) -> Lines:
        offsets = (self.below_offset - LOST_OFFSET, self.above_offset + LOST_OFFSET)
        size = self.size * (1 + 2.0**-20)
        parts = (self.below, offsets[0], self.above, offsets[1], size)
        return Lines(*(own.to(kind) for own in parts))


def lines_of(layer: PiecewiseLinear | Smooth, low: Tensor, high: Tensor) -> Lines:
    """The lines of a layer whose inputs lie in ``[low, high]``, ``(B, N)``."""
    if isinstance(layer, Smooth):
        return Lines(*edges(layer, low, high).parts, size_of(low, high))
    return _of_pieces(layer, low, high)


def smooth_lines(layer: Smooth, known: Range, wide: Range) -> tuple[Lines, Lines]:
    """Lines that are closest over what is known of ranges; and those that are closest over wider ones.

    All hold over what is known, ``(B, N)``. Rows with the second ones are no wider than rows with lines over
    the wide ranges, as their slopes are the same. The first ones are mostly better; where rows come from far
    beyond what is known, they may be worse.
    """
    found = edges(layer, *(torch.cat(ends) for ends in zip(known, wide, strict=True)))
    first, second = (Edges(*own) for own in zip(*(own.chunk(2) for own in found.parts), strict=True))
    size = size_of(*known)
    return Lines(*first.parts, size), Lines(*held(layer, second, *known).parts, size)


def piecewise_lines(layer: PiecewiseLinear, known: Range, wide: Range) -> tuple[Lines, Lines | None]:
    """Lines below with the slopes that wider ranges choose, and with those that known ones do.

    Which piece the line below follows is a choice of two, and what is known of a range alone, so that rows
    know nothing of it, may turn it where rows are better off without: each unit that they make wider then
    makes wider all behind it. Lines above are closest over what is known, in both. None: both are the same.

    Of leaky ReLU the first ones are those of CROWN, above, too, so that rows with them are no wider than its
    rows: over wide ranges of networks of few units hardly anything else makes sure of that.
    """
    first = _of_pieces(layer, *known)
    torn = first.below != first.above
    if is_leaky(layer):
        return _as_crown(layer, first, torn, known, wide)
    chosen = _rising(layer, *wide) if layer.is_hinge else _of_pieces(layer, *wide).below
    slope = torch.where(torn, chosen, first.below)
    if slope.equal(first.below):
        return first, None
    if layer.is_hinge:  # both lines go through the bend
        return replace(first, below=slope), first
    offset, _ = offsets_of(layer, *known, slope)
    return replace(first, below=slope, below_offset=torch.where(torn, offset, first.below_offset)), first


def is_leaky(layer: PiecewiseLinear) -> bool:
    """Whether it is leaky ReLU, whose slopes are both above 0, or one of them for each channel."""
    return layer.is_hinge and layer.rises and not layer.is_relu


def _as_crown(
    layer: PiecewiseLinear, best: Lines, torn: Tensor, known: Range, wide: Range
) -> tuple[Lines, Lines | None]:
    """Lines with the slopes of CROWN over wide ranges, held over known ones, and the best; None if the same.

    It takes the steeper line below where the chord above is steeper than a half (auto_LiRPA 0.7.1).
    """
    chord = torch.where(torn, _of_hinge(layer, *wide).above, best.above)
    least, most = layer.slopes
    slope = torch.where(torn, torch.where(chord > 0.5, most, least), best.below)
    if slope.equal(best.below) and chord.equal(best.above):
        return best, None
    _, offset = offsets_of(layer, *known, chord)
    offset = torch.where(torn & (chord != best.above), offset, best.above_offset)
    return replace(best, below=slope, above=chord, above_offset=offset), best


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
    if isinstance(layer, PiecewiseLinear) and layer.is_hinge and layer.rises:
        least, most = layer.forward(low), layer.forward(high)
        return (
            (least, most) if layer.is_relu else (least - 2 * UNIT * least.abs(), most + 2 * UNIT * most.abs())
        )
    if isinstance(layer, PiecewiseLinear):
        return offsets_of(layer, low, high, torch.zeros_like(low))
    least, most = torch.from_numpy(largest_between(*numbers_of((low, high, layer.windows)))).to(low.device)
    return least, most


def size_of(low: Tensor, high: Tensor) -> Tensor:
    """The largest magnitudes in ``[low, high]``."""
    return torch.maximum(low.abs(), high.abs())


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
    return (total + lost(size)) * (1 + 2 * rows.shape[2] * unit_of(rows))


def rounding_at(layer: AbstractAffine, shapes: tuple[Shape, ...], scale: Tensor, kind: torch.dtype) -> Tensor:
    """What rounding at an affine node adds for each unit of a row's entries, ``(B, M)``.

    In float64 the length of all of it, ``(B, 1)``. shapes: of the inputs. scale: see `Backward.scale`.
    """
    unit = UNIT if kind == torch.float64 else 2.0**-24
    sizes = (layer.terms_backward + 8) * unit * scale
    constant = layer.constant(shapes)
    if constant is not None:
        sizes = sizes + (scale.shape[1] + 4) * unit * constant.flatten().abs()
    if kind == torch.float64:
        return torch.linalg.vector_norm(sizes, dim=1, keepdim=True) * (1 + 2.0**-30)
    return (sizes * (1 + 2.0**-20)).to(kind)


def lost(size: Tensor) -> Tensor:
    """What products with numbers beneath 2^-126 may come to, ``(B, 1)``, before the unit roundoff."""
    return _LOST * size.to(torch.float64).sum(dim=1, keepdim=True)


def _of_pieces(layer: PiecewiseLinear, low: Tensor, high: Tensor) -> Lines:
    if layer.is_relu:
        return _of_relu(low, high)
    if layer.is_hinge:
        return _of_hinge(layer, low, high)
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
    return Lines(below, offset_below, above, offset_above, size_of(low, high))


def _of_hinge(layer: PiecewiseLinear, low: Tensor, high: Tensor) -> Lines:
    """As of ReLU, which such a function is but for a slope: f(z) = least z + (most - least) relu(z)."""
    least, most = layer.slopes
    size = size_of(low, high)
    torn, below = (low < 0) & (high > 0), _rising(layer, low, high)
    steep = (most - least) * (1 + 4 * UNIT) * (high / torch.where(torn, high - low, 1.0) * (1 + 4 * UNIT))
    # The line through both ends, and what rounding of its slope does to it.
    lifted = -low * steep * (1 + 4 * UNIT) + 4 * UNIT * (least.abs() + steep) * size
    above, offset = torch.where(torn, least + steep, below), torch.where(torn, lifted, 0.0)
    return Lines(below, torch.zeros_like(low), above, offset, size)


def _rising(layer: PiecewiseLinear, low: Tensor, high: Tensor) -> Tensor:
    """Slope of the line below a bend at 0 upwards: that of the longer side."""
    least, most = layer.slopes
    return torch.where((low >= 0) | (high > -low), most, least)


def _of_relu(low: Tensor, high: Tensor) -> Lines:
    made = relu_lines(*numbers_of((low, high)), UNIT)
    return Lines(*torch.from_numpy(made).to(low.device))
