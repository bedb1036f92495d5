"""Lines of max pooling in the windows that places of a later map see (see `fields`).

There a pool reads a few places of each channel, and every place that sees some has other winners. What an
input weighs in the lines of a window is kept by its place in the window: a row is then multiplied and added
up by shifted maps, without asking which inputs those are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from steadygaze.network.bounding.rows.grids import Grid
from steadygaze.network.bounding.rows.lines import LOST_OFFSET, AbstractLines, lost, unit_of
from steadygaze.network.bounding.rows.window_lines import WindowLines


@dataclass(frozen=True, eq=False)
class LocalMaxima(AbstractLines):
    """The largest input of each window between two weighted sums of all, over B boxes.

    Attributes:
        below, above: ``(B, k, C, h, w)`` weights of the inputs of each window, by their place in it; 0 where
            there is no window.
        offset: ``(B, C h w)`` of the line above; that of the line below is 0.
        size: ``(B, C, h', w')`` at least the magnitudes of the inputs.
        grid: where the places of a window are; the first row and column are those of the inputs.
    """

    below: Tensor
    above: Tensor
    offset: Tensor
    size: Tensor
    grid: Grid

    @staticmethod
    def seen(
        lines: WindowLines,
        grid: Grid,
        windows: Callable[[Tensor], Tensor],
        inputs: Callable[[Tensor], Tensor],
    ) -> LocalMaxima:
        """Those of a whole map, in what `windows` and `inputs` take of maps ``(B, ..., C, H, W)`` of each."""
        (channels, *extents), shape = lines.layer.pooled, lines.layer.shape
        below, above, offset = (windows(own.unflatten(-1, (channels, *extents))) for own in lines.taps)
        size = inputs(lines.size.unflatten(-1, shape))
        return LocalMaxima(below, above, offset.flatten(1), size, grid)

    def pulled(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        up, down = rows.clamp_min(0.0), rows.clamp_max(0.0)
        lower, upper = self._sides
        found = (lower @ up.mT + upper @ down.mT).to(torch.float64)
        up, down = (own.unflatten(2, self.below.shape[2:]) for own in (up, down))
        own = rows.new_zeros((len(self.size), rows.shape[1], *self.size.shape[1:]))
        for place, part in enumerate(self._parts(own)):
            part.addcmul_(up, self.below[:, None, place]).addcmul_(down, self.above[:, None, place])
        rounding = found[:, 1] + 2 * self.below.shape[1] * unit_of(rows) * lost(self.size.flatten(1))
        return own.flatten(2), found[:, 0], rounding

    @cached_property
    def _sides(self) -> tuple[Tensor, Tensor]:
        """Offsets below and above, and what rounding adds for each unit of a row, ``(B, 2, M)`` each."""
        terms = (self.offset.shape[1] + self.below.shape[1] + 8) * unit_of(self.size)
        share, sizes = terms * (1 + 2 * terms), torch.stack(self._parts(self.size), dim=1)
        below, above = ((own.abs() * sizes).sum(dim=1).flatten(1) for own in (self.below, self.above))
        lower = torch.stack([torch.zeros_like(below), share * below], dim=1)
        return lower, torch.stack([self.offset, -share * (above + self.offset.abs())], dim=1)

    def _parts(self, maps: Tensor) -> list[Tensor]:
        """Of maps ``(..., h', w')`` what is at each place of the windows, ``(..., h, w)``."""
        (top, left), (down, across) = self.grid.first, self.grid.step
        high, wide = self.below.shape[-2:]
        return [
            maps[
                ...,
                row - top : row - top + down * (high - 1) + 1 : down,
                column - left : column - left + across * (wide - 1) + 1 : across,
            ]
            for row, column in self.grid.places
        ]

    def taken(self, rows: Tensor, inputs: Tensor) -> Tensor:
        at = torch.stack(self._parts(inputs.reshape(self.size.shape)), dim=1)
        below, above = ((own * at).sum(dim=1).flatten(1) for own in (self.below, self.above))
        return torch.where(rows >= 0, below, above + self.offset)

    def take(self, chosen: Tensor) -> LocalMaxima:
        return self._mapped(lambda own: own[chosen])

    def to(self, kind: torch.dtype) -> LocalMaxima:
        offset, size = self.offset + LOST_OFFSET, self.size * (1 + 2.0**-20)
        return replace(self, offset=offset, size=size)._mapped(lambda own: own.to(kind))

    def _mapped(self, move: Callable[[Tensor], Tensor]) -> LocalMaxima:
        below, above, offset, size = (move(own) for own in (self.below, self.above, self.offset, self.size))
        return LocalMaxima(below, above, offset, size, self.grid)
