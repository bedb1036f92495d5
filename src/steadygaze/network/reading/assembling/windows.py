"""Sliding windows along one axis: how many there are and what each one covers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Windows:
    """Windows of `kernel` positions, `dilation` apart, every `stride` along an axis of `size`.

    The axis is padded at both ends.
    With `ceil` a last window may hang over the end, as long as it starts inside the axis or the padding
    before it.
    """

    size: int
    kernel: int
    stride: int
    before: int = 0
    after: int = 0
    dilation: int = 1
    ceil: bool = False

    @property
    def count(self) -> int:
        """Number of windows; below 1 if not even one fits."""
        room = self.size + self.before + self.after - self.dilation * (self.kernel - 1) - 1
        if not self.ceil:
            return room // self.stride + 1
        count = -(-room // self.stride) + 1
        overhangs = (count - 1) * self.stride >= self.size + self.before
        return count - 1 if overhangs else count

    def positions(self) -> Tensor:
        """Positions covered, int64 ``(count, kernel)``; -1 where a window covers padding."""
        places = self._places()
        return torch.where((places >= 0) & (places < self.size), places, -1)

    def averages(self, count_padding: bool, divisor: float | None = None) -> Tensor:
        """Matrix ``(count, size)`` that averages over each window.

        A window is divided by the number of positions it covers, padding counted or not, or by `divisor`.
        """
        places = self._places()
        inside = (places >= 0) & (places < self.size)
        counted = places < self.size + self.after if count_padding else inside
        matrix = torch.zeros((self.count, self.size), dtype=torch.float64)
        matrix.scatter_add_(1, places.clamp(0, self.size - 1), inside.to(torch.float64))
        return matrix / (counted.sum(1, keepdim=True) if divisor is None else divisor)

    def _places(self) -> Tensor:
        starts = torch.arange(self.count) * self.stride - self.before
        return starts[:, None] + torch.arange(self.kernel) * self.dilation


def adaptive_ranges(size: int, count: int) -> list[tuple[int, int]]:
    """First position, and the one behind the last, of `count` windows that together cover an axis.

    Window i covers positions floor(i size / count) up to ceil((i + 1) size / count), as torch defines them.
    """
    return [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def adaptive_averages(size: int, count: int) -> Tensor:
    """Matrix ``(count, size)`` of averages over `adaptive_ranges`."""
    matrix = torch.zeros((count, size), dtype=torch.float64)
    for i, (first, end) in enumerate(adaptive_ranges(size, count)):
        matrix[i, first:end] = 1.0 / (end - first)
    return matrix


def same_padding(
    size: int, kernel: int, stride: int, dilation: int, longer: Literal["before", "after"]
) -> tuple[int, int]:
    """Padding (before, after) that makes ceil(size / stride) windows; an odd one goes to the `longer` end."""
    count = math.ceil(size / stride)
    total = max((count - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
    short = total // 2
    return (total - short, short) if longer == "before" else (short, total - short)
