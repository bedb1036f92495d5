"""Pooling that goes over each channel's map in the same steps everywhere, as convolutions do."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from steadygaze.network.layers import AveragePool, Conv
from steadygaze.network.pieces import MaxPool

# Grids of so many pools are kept: networks have few, and all boxes ask for them.
_KEPT = 64


@dataclass(frozen=True)
class Grid:
    """Windows that read their own channel alone, from ``step * (y, x)`` on.

    Attributes:
        step: rows and columns from one window to the next.
        places: of each input of a window, rows and columns from there; below 0 in what is padded.
    """

    step: tuple[int, int]
    places: tuple[tuple[int, int], ...]

    @property
    def first(self) -> tuple[int, int]:
        """The first row and column of a window."""
        return min(row for row, _ in self.places), min(column for _, column in self.places)

    @property
    def span(self) -> tuple[int, int]:
        """Rows and columns of a window."""
        (top, left), rows, columns = self.first, *zip(*self.places, strict=True)
        return max(rows) - top + 1, max(columns) - left + 1


@lru_cache(maxsize=_KEPT)
def grid_of(pool: MaxPool) -> Grid | None:
    """How the windows of a pool lie; None where they do not go over ``(C, H, W)`` in steps."""
    if len(pool.shape) != 3 or len(pool.pooled) != 3 or pool.shape[0] != pool.pooled[0]:
        return None
    windows = pool.windows.cpu().reshape(*pool.pooled, -1)
    _, height, width = pool.shape
    real = windows >= 0
    along, across = _axis(windows // width % height, real, 1), _axis(windows % width, real, 2)
    if along is None or across is None:
        return None
    grid = Grid((along[0], across[0]), tuple(zip(along[1], across[1], strict=True)))
    return grid if _windows(grid, pool.shape, pool.pooled).equal(windows) else None


def _axis(at: Tensor, real: Tensor, axis: int) -> tuple[int, list[int]] | None:
    """The step along an axis, and where each place of a window begins, from positions ``(C, H', W', k)``."""
    at, real = (own.movedim(axis, 0).flatten(1, 2) for own in (at, real))
    count = len(at)
    both = real[1:] & real[:-1]
    step = int((at[1:] - at[:-1])[both][0]) if both.any() else 1
    if step < 1:
        return None
    begins = list[int]()
    for own, known in zip(at.unbind(2), real.unbind(2), strict=True):
        if not known.any():  # padding in all windows
            return None
        number = torch.arange(count)[:, None].expand(own.shape)
        begins.append(int((own - step * number)[known][0]))
    return step, begins


def _windows(grid: Grid, shape: tuple[int, ...], pooled: tuple[int, ...]) -> Tensor:
    """Positions ``(C, H', W', k)`` in the flattened input; -1 in what is padded."""
    (channels, height, width), (_, high, wide) = shape, pooled
    rows, columns = (torch.tensor(own) for own in zip(*grid.places, strict=True))
    row = (grid.step[0] * torch.arange(high)[:, None] + rows)[:, None]
    column = (grid.step[1] * torch.arange(wide)[:, None] + columns)[None]
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    at = torch.where(inside, row * width + column, -1)
    channel = height * width * torch.arange(channels)[:, None, None, None]
    return torch.where(at >= 0, channel + at, -1)


@lru_cache(maxsize=_KEPT)
def averaging(pool: AveragePool, channels: int) -> Conv | None:
    """The convolution that averages each channel alike; None where windows at the edges weigh otherwise."""
    along, across = _stencil(pool.rows), _stencil(pool.columns)
    if along is None or across is None:
        return None
    (down, above, rows), (step, left, columns) = along, across
    weight = torch.outer(rows, columns).expand(channels, 1, -1, -1).contiguous()
    return Conv(weight, weight.new_zeros(channels), (down, step), (above, left), groups=channels)


def _stencil(weights: Tensor) -> tuple[int, int, Tensor] | None:
    """Step, padding in front and weights ``(k,)`` of a window along an axis, from a matrix ``(H', H)``."""
    count, length = weights.shape
    whole = max(range(count), key=lambda row: int(torch.count_nonzero(weights[row])))
    used = weights[whole].nonzero()[:, 0]
    if not len(used):
        return None
    first, stencil = int(used[0]), weights[whole, used[0] : used[-1] + 1]
    rows, columns = (torch.arange(size, device=weights.device) for size in (count, length))
    rows = rows[:, None]
    for step in range(1, length + 1):
        begin = first - step * whole
        at = columns - (begin + step * rows)
        inside = (at >= 0) & (at < len(stencil))
        wanted = torch.where(inside, stencil[at.clamp(0, len(stencil) - 1)], 0.0)
        if begin <= 0 and wanted.equal(weights):
            return step, -begin, stencil
    return None
