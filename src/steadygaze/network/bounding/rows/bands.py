"""Values between two affine functions of the coordinates of a box, carried through a network: bands.

A band says of values z, for every t in [-1, 1]^n,

    |z - (m0 + sum_i t_i m_i)| <= (h0 + sum_i t_i h_i) + e,    e <= error:

a middle and a half width that both depend on t. Affine layers move the middle by W and the half width by |W|;
other layers are put between their lines. There are no symbols, so that nothing that two units owe to the same
doubt cancels; but a line below may have another slope than the line above, which forms with symbols do not
have, and after a single layer that is not affine nothing is lost against `backward`. (Forward bounds: Xu et
al., Automatic Perturbation Analysis for Scalable Certified Robustness and Beyond, NeurIPS 2020.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from steadygaze.enclosing.enclosures import UNIT
from steadygaze.enclosing.forms import Forms, numbers_of
from steadygaze.enclosing.passes import apart, bands_between, put_together, reaches_of
from steadygaze.enclosing.windows import bands_behind
from steadygaze.network.bounding.forms.few_places import few_places, is_told_apart, sent
from steadygaze.network.bounding.rows.lines import AbstractLines, Lines, Range
from steadygaze.network.bounding.rows.window_lines import WindowLines
from steadygaze.network.layers import AbstractAffine, Dense, Shape

# Products of a dense layer below which all of them take no longer than telling apart which are needed.
_LITTLE = 2**22


@dataclass(frozen=True, eq=False)
class Band:
    """See the module: middle and half ``(B, 1 + n, *shape)``, error ``(B, *shape)`` >= 0."""

    middle: Tensor
    half: Tensor
    error: Tensor

    @staticmethod
    def of(forms: Forms) -> Band:
        """What forms say, their symbols being errors."""
        known = forms.without_symbols().with_symbols(0)
        return Band(known.rows, torch.zeros_like(known.rows), known.error)

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """Least and largest values ``(B, *shape)``, rounded outwards."""
        return self._reaches[3], self._reaches[4]

    def through(self, lines: AbstractLines, shape: Shape) -> Band:
        """Behind a layer that is not affine, whose output has the given shape."""
        if isinstance(lines, Lines):
            return self._between(lines, shape)
        assert isinstance(lines, WindowLines), "there are two kinds of lines"
        return self._largest(lines, shape)

    def take(self, chosen: Tensor) -> Band:
        """Those of some boxes."""
        return Band(self.middle[chosen], self.half[chosen], self.error[chosen])

    def between(self, below: Tensor, above: Tensor) -> Band:
        """With functions below and above ``(B, 1 + n, N)`` instead, where these are closer to each other."""
        middle, half, error = self._flat()
        new, width = (below + above) / 2, (above - below) / 2
        closer = width[:, 0] < half[:, 0] + error
        rounding = 4 * UNIT * (below.abs() + above.abs()).sum(dim=1)
        return _shaped(
            torch.where(closer[:, None], new, middle),
            torch.where(closer[:, None], width, half),
            torch.where(closer, rounding, error),
            tuple(self.error.shape[1:]),
        )

    @property
    def _size(self) -> Tensor:
        return self._reaches[2]

    @cached_property
    def _reaches(self) -> Tensor:
        """``(5, B, *shape)``: how far the functions below and above reach from their constants; all
        magnitudes, summed up; least and largest values, rounded outwards.
        """
        if self.error.device.type == "cpu":
            made = reaches_of(*numbers_of(self._flat()), UNIT)
            return torch.from_numpy(made).reshape(5, *self.error.shape)
        low, high = self.middle - self.half, self.middle + self.half
        below, above = (own[:, 1:].abs().sum(dim=1) for own in (low, high))
        size = self.middle.abs().sum(dim=1) + self.half.abs().sum(dim=1)
        share = (self.middle.shape[1] + 8) * UNIT
        outward = (size * share + self.error) * (1 + share)
        return torch.stack([below, above, size, low[:, 0] - outward - below, high[:, 0] + outward + above])

    def _flat(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.middle.flatten(2), self.half.flatten(2), self.error.flatten(1)

    def _between(self, lines: Lines, shape: Shape) -> Band:
        parts, size = self._flat(), self._size.flatten(1)
        own = (lines.below, lines.below_offset, lines.above, lines.above_offset)
        if size.device.type == "cpu":
            made, errors = bands_between(*numbers_of((*parts, size, *own)), UNIT)
            moved, width = torch.from_numpy(made)
            return _shaped(moved, width, torch.from_numpy(errors), shape)
        moved, width = _put_between(*parts[:2], lines)
        steep = torch.maximum(lines.above.abs(), lines.below.abs())
        offsets = lines.above_offset.abs() + lines.below_offset.abs()
        error = (parts[2] + 16 * UNIT * size) * steep + 8 * UNIT * offsets
        return _shaped(moved, width, error * (1 + 16 * UNIT), shape)

    def _largest(self, lines: WindowLines, shape: Shape) -> Band:
        parts = numbers_of((*self._flat(), *lines.parts))
        ends, beside = (torch.from_numpy(own).to(self.error.device) for own in bands_behind(*parts))
        (least, most), (below, above, size) = ends, beside
        terms = lines.weights.shape[2] + 8
        rounding = (terms + 2) * UNIT * size
        error = (torch.maximum(below, above) + rounding) * (1 + 2 * terms * UNIT)
        return _shaped((most + least) / 2, (most - least) / 2, error, shape)


def _put_between(middle: Tensor, half: Tensor, lines: Lines) -> tuple[Tensor, Tensor]:
    """What `bands_between` gives on a processor."""
    mean, spread = (lines.above + lines.below) / 2, (lines.above - lines.below) / 2
    wide = (lines.above.abs() + lines.below.abs()) / 2
    skew = (lines.above.abs() - lines.below.abs()) / 2
    moved = mean[:, None] * middle + skew[:, None] * half
    width = spread[:, None] * middle + wide[:, None] * half
    moved[:, 0] += (lines.above_offset + lines.below_offset) / 2
    width[:, 0] += (lines.above_offset - lines.below_offset) / 2
    return moved, width


def moved(layer: AbstractAffine, bands: Sequence[Band], ranges: Sequence[Range]) -> tuple[Band, Range]:
    """What an affine layer makes of bands, and of ranges alone, of each of its inputs.

    Several inputs are set side by side, to be one linear function. Ranges know nothing of the coordinates:
    where they are wide, and most units before the layer on one piece, they may say more than bands, whose
    lines below units are those that are best in the middle.
    """
    sizes = [math.prod(band.error.shape[1:]) for band in bands]
    shapes = tuple(tuple(band.error.shape[1:]) for band in bands)
    middle, half, error = (
        torch.cat(parts, dim=-1) for parts in zip(*(band._flat() for band in bands), strict=True)
    )
    known = tuple(torch.cat([own.flatten(1) for own in ends], dim=1) for ends in zip(*ranges, strict=True))

    def parts(joined: Tensor) -> tuple[Tensor, ...]:
        split = joined.split(sizes, dim=1)
        return tuple(part.reshape(len(part), *own) for part, own in zip(split, shapes, strict=True))

    size = torch.cat([band._size.flatten(1) for band in bands], dim=1)
    share, boxes = (layer.terms + 4) * UNIT, len(error)
    ahead = apart(*numbers_of((middle, half, error, size, *known)), share, UNIT)
    absolute, straight = (torch.from_numpy(own).to(error.device) for own in ahead)
    absolute, straight = layer.absolute.linear(*parts(absolute)), layer.linear(*parts(straight))
    constant, shape = layer.constant(shapes), straight.shape[1:]
    constant = middle.new_empty(0) if constant is None else constant.flatten()
    own = numbers_of((absolute.flatten(1), straight.flatten(1), constant))
    made = put_together(*own, boxes, share, 1 + 2 * (layer.terms + 8) * UNIT, UNIT)
    absolute, straight, made = (torch.from_numpy(part).to(middle.device) for part in (*own[:2], made))
    error, low, high = made.reshape(3, boxes, *shape)
    middle, half = (own[: boxes * middle.shape[1]].unflatten(0, (boxes, -1)) for own in (straight, absolute))
    return _shaped(middle, half, error, tuple(shape)), (low, high)


def moved_by_few(
    layer: AbstractAffine, band: Band, known: Range, before: Forms, behind: Forms
) -> tuple[Band, Range] | None:
    """As `moved` of one input, whose forms before the layer and behind it are known.

    Where the middle has the coefficients of the forms but at few places, and half widths but at these, what
    is left to multiply is a difference at few places. None where that is not so.
    """
    shape = tuple(band.error.shape[1:])
    middle, half, error = band._flat()
    if not is_told_apart(layer, shape) or (
        isinstance(layer, Dense) and layer.weight.shape[0] * middle.numel() < _LITTLE
    ):
        return None
    beside = middle - before.rows[:, : middle.shape[1]].flatten(2)
    places = few_places(beside, half)
    if places is None:
        return None
    share = (layer.terms + 4) * UNIT
    # Coefficients of the forms are at most the middle and what that is beside them.
    error = error + share * (band._size.flatten(1) + 2 * beside.abs().sum(dim=1))
    centre, radius = _ball(known, share)
    error, radius = layer.absolute.linear(torch.cat([error, radius]).unflatten(1, shape)).chunk(2)
    own = sent(layer, beside, places, shape)
    middle = behind.rows[:, : middle.shape[1]] + own
    half = sent(layer.absolute, half, places, shape)
    centre = layer.linear(centre.unflatten(1, shape))
    constant = layer.constant((shape,))
    if constant is not None:
        error = error + share * (constant.abs() + middle[:, 0].abs() + own[:, 0].abs())
    return _behind(layer, Band(middle, half, error), centre, radius, share, constant)


def _ball(known: Range, share: float) -> tuple[Tensor, Tensor]:
    """Centres and radii ``(B, M)`` of ranges, with what rounding of a layer adds to the values, a share."""
    low, high = (own.flatten(1) for own in known)
    radius = (high - low) / 2 * (1 + 4 * UNIT) + (share + 4 * UNIT) * torch.maximum(low.abs(), high.abs())
    return low / 2 + high / 2, radius


def _behind(
    layer: AbstractAffine, band: Band, centre: Tensor, radius: Tensor, share: float, constant: Tensor | None
) -> tuple[Band, Range]:
    """What is known behind a layer, of which the constant is left out of the centre; errors rounded up."""
    if constant is not None:
        centre = centre + constant
        radius = radius + share * (constant.abs() + centre.abs())
    upward = 1 + 2 * (layer.terms + 8) * UNIT
    radius = radius * upward + 4 * UNIT * centre.abs()
    return Band(band.middle, band.half, band.error * upward), (centre - radius, centre + radius)


def _shaped(middle: Tensor, half: Tensor, error: Tensor, shape: Shape) -> Band:
    return Band(
        middle.reshape(*middle.shape[:2], *shape),
        half.reshape(*half.shape[:2], *shape),
        error.reshape(len(error), *shape),
    )
