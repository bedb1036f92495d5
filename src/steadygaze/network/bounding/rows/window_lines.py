"""Max pooling between two affine functions of its inputs, over known ranges: see `lines` for other layers.

A window's largest input is at least the one that is taken for the winner, w, and at most
x_w + sum_j max(0, x_j - x_w) with a line above each maximum; or it is at most the largest bound.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from steadygaze.enclosing.enclosures import UNIT
from steadygaze.enclosing.forms import Forms, numbers_of
from steadygaze.enclosing.windows import kept_between, rows_before, told_apart
from steadygaze.network.bounding.forms.beside import EQUAL, beyond
from steadygaze.network.bounding.rows.lines import (
    LOST_OFFSET,
    AbstractLines,
    Lines,
    Range,
    lines_of,
    lost,
    size_of,
    unit_of,
)
from steadygaze.network.pieces import MaxPool, PiecewiseLinear

# How much less above the middle than below it inputs are compared.
_ABOVE = 0.2


@dataclass(frozen=True, eq=False)
class WindowLines(AbstractLines):
    """The largest input of each window between that of the winner and a weighted sum of all.

    Attributes:
        layer: the pool.
        winner: ``(B, M)`` position in the flattened input.
        contested: ``(W,)`` numbers of the windows that several may win in some box; of all others the
            largest input is the winner.
        weights: ``(B, W, k)`` of the inputs above, by their place in the window; offset ``(B, W)``.
        size: ``(B, N)`` at least the magnitudes of the inputs.
    """

    layer: MaxPool
    winner: Tensor
    contested: Tensor
    weights: Tensor
    offset: Tensor
    size: Tensor

    def pulled(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        parts = (rows, *self.parts, self.size)
        own, sums = (torch.from_numpy(found).to(rows.device) for found in rows_before(*numbers_of(parts)))
        terms = (rows.shape[2] + self.weights.shape[2] + 8) * unit_of(rows)
        scale = sums[1] if rows.dtype == torch.float64 else sums[1] + self._lost
        return own, sums[0], terms * (1 + 2 * terms) * scale

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """What kernels go by: see `rows_before`."""
        number = torch.full((self.winner.shape[1],), -1, device=self.winner.device)
        number[self.contested] = torch.arange(len(self.contested), device=number.device)
        return self.winner, number, self.places, self.weights, self.offset

    @cached_property
    def _lost(self) -> Tensor:
        """What rows in float32 may lose beneath their least normal number, ``(B, 1)``, before the unit."""
        beside = self.weights.abs() * self.size[:, self.places.clamp_min(0)]
        found = lost(self.size.gather(1, self.winner)) + lost(self.offset.abs()) + lost(beside.flatten(1))
        return found * (1 + 2.0**-10)

    @cached_property
    def places(self) -> Tensor:
        """``(W, k)`` positions of the inputs of contested windows; -1 where there is none."""
        return self.layer.windows[self.contested]

    @cached_property
    def taps(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weights below and above, by the places of inputs in windows ``(B, k, M)``; offsets above."""
        below = (self.winner[:, None] == self.layer.windows.T).to(self.size.dtype)
        above = below.index_copy(2, self.contested, self.weights.mT)
        nothing = torch.zeros_like(below[:, 0])
        return below, above, nothing.index_copy(1, self.contested, self.offset)

    def taken(self, rows: Tensor, inputs: Tensor) -> Tensor:
        best = inputs.gather(1, self.winner)
        above = (self.weights * inputs[:, self.places.clamp_min(0)]).sum(dim=2) + self.offset
        return torch.where(rows >= 0, best, best.index_copy(1, self.contested, above))

    def take(self, chosen: Tensor) -> WindowLines:
        weights, offset, size = self.weights[chosen], self.offset[chosen], self.size[chosen]
        return WindowLines(self.layer, self.winner[chosen], self.contested, weights, offset, size)

    def to(self, kind: torch.dtype) -> WindowLines:
        parts = (self.weights, self.offset + LOST_OFFSET, self.size * (1 + 2.0**-20))
        return WindowLines(self.layer, self.winner, self.contested, *(own.to(kind) for own in parts))


def window_lines(
    layer: MaxPool, forms: Forms, low: Tensor, high: Tensor, rectified: bool, at: Tensor
) -> WindowLines:
    """The lines of a pool whose inputs lie within forms ``(N,)`` and in ``[low, high]``, ``(B, N)``.

    rectified: whether only ReLU reads the maxima. What is nowhere above 0 is then left out of them, the
    winner aside: no value of ReLU is another by that. See `kept_low`. at: ``(B,)``, where in their ranges
    inputs are compared for the winner, a half being the middle.
    """
    # Most windows are settled by the ranges alone.
    found = told_apart(*numbers_of((low, high, layer.windows, at)), rectified)
    best, winner, rival, contested = (torch.from_numpy(own).to(low.device) for own in found)
    some = contested.nonzero()[:, 0]
    windows, best, rival = layer.windows[some], best[:, some], rival[:, some]
    least, most = (own[:, windows.clamp_min(0)].masked_fill_(windows < 0, -torch.inf) for own in (low, high))
    beside = beyond(forms, windows, winner[:, some], rival)
    weights, offset = _contested(least, most, best, rival, beside, at)
    return WindowLines(layer, winner, some, weights, offset, size_of(low, high))


def lines_behind_maxima(
    relu: PiecewiseLinear, low: Tensor, high: Tensor, winners: Range, at: Tensor
) -> Lines:
    """Of ReLU behind maxima in ``[low, high]``, of which rows take the winners below, ``(B, N)``.

    Their ranges choose the slope below. Those of the maxima reach higher, and would take 1 where winners are
    below 0 for the most part. at: as in `window_lines`.
    """
    lines = lines_of(relu, low, high)
    torn = lines.below != lines.above
    return replace(
        lines, below=torch.where(torn, (_within(*winners, at[:, None]) > 0).to(low.dtype), lines.below)
    )


def _within(low: Tensor, high: Tensor, at: Tensor) -> Tensor:
    """What is there in ranges."""
    return (1 - at) * low + at * high


def kept_low(layer: MaxPool, winner: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Least values ``(B, M)`` of rectified maxima of inputs in ``[low, high]``; and which leave nothing out.

    Those are maxima of all their inputs: what is nowhere above 0 is nowhere above the least value, either.
    """
    found = kept_between(*numbers_of((low, high, layer.windows, winner)))
    kept, whole = (torch.from_numpy(own).to(low.device) for own in found)
    return kept, whole


def _contested(
    least: Tensor,
    most: Tensor,
    best: Tensor,
    rival: Tensor,
    beside: tuple[Tensor, Tensor, Tensor],
    at: Tensor,
) -> tuple[Tensor, Tensor]:
    """Weights ``(B, M, k)`` and offsets ``(B, M)`` of the lines above windows that several may win.

    Args:
        least, most: ``(B, M, k)`` of each input; -inf where a window has none.
        best: ``(B, M, 1)`` the winner's place in its window. rival: ``(B, M, k)`` who may exceed it.
        beside: by how much inputs exceed it, see `beyond`. at: see `window_lines`.
    """
    # x_j - x_w lies between under and over; max(0, .) is below the line of slope s through (under, 0).
    over = torch.minimum(most - least.gather(2, best), beside[1])
    under = torch.maximum(least - most.gather(2, best), beside[0])
    real = most > -torch.inf
    reach = torch.where(real, size_of(least, most), 0.0).amax(dim=2)
    # On a blank background whole windows are equal: such inputs exceed the winner by rounding alone.
    equal = rival & (over <= EQUAL * reach[..., None])
    beyond_it = torch.where(equal, over, 0.0).amax(dim=2).clamp_min(0.0)
    rival = rival & ~equal
    over, under = (torch.where(rival, bound, 0.0) for bound in (over, under))
    sure = rival & (under >= 0)
    share = torch.where(sure, 1.0, over / (over - under).masked_fill(~rival, 1.0).clamp_min(1e-300))
    weights = torch.where(rival, share * (1 + 4 * UNIT), 0.0)
    shift = beyond_it + torch.where(sure, 0.0, -under * weights).sum(dim=2)
    weights = weights.scatter(2, best, 1 - weights.sum(dim=2, keepdim=True))
    terms = 4 * (least.shape[2] + 4)
    shift = shift + terms * UNIT * ((1 + weights.abs().sum(dim=2)) * reach + shift.abs())
    # A constant is the better bound where it is less in the middle, or as much above it as pays.
    flat, above = most.amax(dim=2), (0.5 + _ABOVE * (0.5 - at))[:, None, None]
    inputs = torch.where(weights > 0, _within(least, most, above), _within(most, least, above))
    constant = flat < (weights * torch.where(real, inputs, 0.0)).sum(dim=2) + shift
    constant &= (rival | equal).any(dim=2)
    return weights.masked_fill(constant[..., None], 0.0), torch.where(constant, flat, shift)
