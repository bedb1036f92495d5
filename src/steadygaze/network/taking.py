"""Positions of one axis, each as often as it is named: mirrored frames, repeats, steps, other orders."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steadygaze.network.layers import AbstractWeighing, Shape


@dataclass(frozen=True, eq=False)
class Take(AbstractWeighing):
    """Positions `index` ``(n,)``, int64, of the axis `axis` (the batch not counted)."""

    index: Tensor
    axis: int

    def output_shape(self, *shapes: Shape) -> Shape:
        return (*shapes[0][: self.axis], len(self.index), *shapes[0][self.axis + 1 :])

    def forward(self, *xs: Tensor) -> Tensor:
        return xs[0].index_select(self.axis + 1, self.index)

    def transpose(self, g: Tensor, input_shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        whole = g.new_zeros((g.shape[0], *input_shapes[0]))
        return (whole.index_add_(self.axis + 1, self.index, g),)

    @property
    def terms(self) -> int:
        return int(torch.bincount(self.index).max())
