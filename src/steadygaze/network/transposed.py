"""Transposed convolution: what a convolution's gradient does, as a layer of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch.nn.functional as functional
from torch import Tensor

from steadygaze.network.layers import AbstractAffine, Shape


@dataclass(frozen=True, eq=False)
class TransposedConv(AbstractAffine):
    """Each input of ``(C, H, W)`` spread over a window; weight ``(C, O / groups, kh, kw)``, bias ``(O,)``.

    Windows are `stride` apart; `padding` rows and columns are cut off on both sides, and `more` are left on
    at the lower and right one.
    """

    weight: Tensor
    bias: Tensor
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    more: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def output_shape(self, *shapes: Shape) -> Shape:
        sizes = [
            (size - 1) * step - 2 * cut + reach * (width - 1) + 1 + more
            for size, step, cut, more, reach, width in zip(
                shapes[0][1:],
                self.stride,
                self.padding,
                self.more,
                self.dilation,
                self.weight.shape[2:],
                strict=True,
            )
        ]
        return (self.weight.shape[1] * self.groups, *sizes)

    def forward(self, *xs: Tensor) -> Tensor:
        return self._spread(xs[0], self.bias)

    def linear(self, *xs: Tensor) -> Tensor:
        return self._spread(xs[0], None)

    def transpose(self, g: Tensor, input_shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        height, width = input_shapes[0][1:]
        if g.shape[0] == 0:
            return (g.new_zeros((0, *input_shapes[0])),)
        read = functional.conv2d(g, self.weight, None, self.stride, self.padding, self.dilation, self.groups)
        return (read[:, :, :height, :width],)

    def _absolute(self) -> TransposedConv:
        return replace(self, weight=self.weight.abs(), bias=self.bias.abs())

    @property
    def terms(self) -> int:
        return self.weight[0, 0].numel() * max(self.weight.shape[:2])

    def _spread(self, x: Tensor, bias: Tensor | None) -> Tensor:
        if x.shape[0] == 0:
            return x.new_zeros((0, *self.output_shape(tuple(x.shape[1:]))))
        return functional.conv_transpose2d(
            x, self.weight, bias, self.stride, self.padding, self.more, self.groups, self.dilation
        )
