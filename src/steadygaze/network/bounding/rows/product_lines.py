"""Products of two computed values between planes in both, over known ranges: see `lines` for other layers.

Of a in [l, u] and b in [m, v] these are never below 0 (McCormick, Mathematical Programming 10, 1976):

    (a - l)(b - m),    (u - a)(v - b),    (a - l)(v - b),    (u - a)(b - m),

which makes two planes below a b, and two above. Another one touches a b in the middle (c, d) of both ranges,
less, or more, by what (a - c)(b - d) may be: both move with the coordinates of a box, so that this is less
than what a rectangle leaves. Which of them, each row chooses for itself (`enclosing/planes`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steadygaze.enclosing.forms import Forms, numbers_of
from steadygaze.enclosing.planes import rows_before_products
from steadygaze.network.bounding.rows.bands import Band
from steadygaze.network.bounding.rows.lines import AbstractLines, Range, lost, size_of, unit_of

# What rounding in a handful of operations may add, as a share.
_ROUNDING = 2.0**-40


@dataclass(frozen=True, eq=False)
class ProductLines(AbstractLines):
    """Planes below and above N products, over B boxes; both factors come side by side, as N + M numbers.

    Attributes:
        planes: ``(B, 2, 3, 3, N)``: see `rows_before_products`, as the others are.
        sizes: ``(B, N)``.
        reaches: ``(B, 2 N)`` the largest magnitudes of both factors of each product.
        first, second: ``(2, B, 1 + n, ...)``.
        gate: ``(N,)`` which of the M is a product's second factor.
    """

    planes: Tensor
    sizes: Tensor
    reaches: Tensor
    first: Tensor
    second: Tensor
    gate: Tensor

    @staticmethod
    def of(forms: tuple[Forms, Forms], bands: tuple[Band, Band], ranges: tuple[Range, Range]) -> ProductLines:
        """Those of factors of which this is known; the second has the first one's shape, or 1 along axes."""
        count, device = forms[1].error[0].numel(), forms[1].error.device
        gate = torch.arange(count, device=device).reshape(forms[1].shape).expand(forms[0].shape).flatten()
        a, b = (own.flattened() for own in forms)
        low, high = (end.flatten(1) for end in ranges[0])
        least, most = (end.flatten(1)[:, gate] for end in ranges[1])
        middles = low / 2 + high / 2, least / 2 + most / 2
        beside = _beside(a, b, gate, middles, (high / 2 - low / 2) * (most / 2 - least / 2))
        reaches = size_of(low, high), size_of(least, most)
        size = 4 * reaches[0] * reaches[1] + 2 * size_of(*beside)
        first, second = (torch.stack([band.middle.flatten(2), band.half.flatten(2)]) for band in bands)
        planes = _planes((low, high), (least, most), middles, beside)
        return ProductLines(planes, size, torch.cat(reaches, dim=1), first, second, gate)

    def pulled(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        parts = (rows, self.planes, self.sizes, self.first, self.second, self.gate)
        found = rows_before_products(*numbers_of(parts))
        made, other, (constant, size) = (torch.from_numpy(own).to(rows.device) for own in found)
        terms = (rows.shape[2] + 32) * unit_of(rows)
        if rows.dtype != torch.float64:
            size = size + lost(self.reaches)
        return torch.cat([made, other], dim=2).to(rows.dtype), constant, terms * (1 + 2 * terms) * size

    def taken(self, rows: Tensor, inputs: Tensor) -> Tensor:
        # All planes are near to it; which ones were taken the row alone knows.
        first, second = inputs.split([len(self.gate), inputs.shape[1] - len(self.gate)], dim=1)
        return first * second[:, self.gate]

    def take(self, chosen: Tensor) -> ProductLines:
        first, second = self.first[:, chosen], self.second[:, chosen]
        own = (self.planes[chosen], self.sizes[chosen], self.reaches[chosen])
        return ProductLines(*own, first, second, self.gate)

    def to(self, kind: torch.dtype) -> ProductLines:
        # Rows are multiplied in float64, whatever they are in.
        return self


def _planes(a: Range, b: Range, middles: tuple[Tensor, Tensor], beside: tuple[Tensor, Tensor]) -> Tensor:
    """The planes ``(B, 2, 3, 3, N)`` below and above products of numbers in ranges ``(B, N)``."""
    (low, high), (least, most), (c, d), (under, over) = a, b, middles, beside
    below = [(d, c, under - c * d), (least, low, -low * least), (most, high, -high * most)]
    above = [(d, c, over - c * d), (most, low, -low * most), (least, high, -high * least)]
    sides = [torch.stack([torch.stack(plane, dim=1) for plane in side], dim=1) for side in (below, above)]
    return torch.stack(sides, dim=1)


def _beside(
    a: Forms, b: Forms, gate: Tensor, middles: tuple[Tensor, Tensor], most: Tensor
) -> tuple[Tensor, Tensor]:
    """Least and largest of ``(a - c)(b - d)``, ``(B, N)``, c and d being `middles`; most: by ranges alone.

    Where a coordinate or symbol moves both, its square is known to be between 0 and 1.
    """
    both = min(a.rows.shape[1], b.rows.shape[1])
    alike = a.rows[:, 1:both] * b.rows[:, 1:both, gate]
    off = (a.centre - middles[0]).abs(), (b.centre[:, gate] - middles[1]).abs()
    reach = (a.reach + off[0]) * (b.reach[:, gate] + off[1])
    apart = reach - alike.abs().sum(dim=1)
    below, above = alike.clamp_max(0.0).sum(dim=1) - apart, alike.clamp_min(0.0).sum(dim=1) + apart
    outward = _ROUNDING * (reach + most)
    return torch.fmax(below - outward, -most - outward), torch.fmin(above + outward, most + outward)
