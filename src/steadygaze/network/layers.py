"""The table of layers: everything a network may be made of, and the rule of each.

Tensors are float64 and batch first, ``(B, *shape)``; shapes in this module leave the batch out, so that a
layer takes any number of rows. A layer is either affine (`AbstractAffine`: a linear map plus a constant), or
it picks one affine piece per unit (`PiecewiseLinear`) or one input per window (`MaxPool`), or it is smooth
(`Smooth`, in `smooth`). Nothing here knows of graphs or of files.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor
from torch.nn.grad import conv2d_input

from steadygaze.geometry.sides import best_of_windows

Shape: TypeAlias = tuple[int, ...]
LayerType = TypeVar("LayerType", bound="AbstractLayer")

# Bytes that one im2col block of a convolution may take: measured, one block over the whole batch is 2-3 times
# slower than blocks that stay in the cache.
_BLOCK_BYTES = 2**21


class AbstractLayer(ABC):
    """One operation of a network; final subclasses are frozen dataclasses of tensors and plain values."""

    arity: int = 1

    @abstractmethod
    def output_shape(self, *shapes: Shape) -> Shape:
        """Shape of the output, given the shapes of the inputs (all without the batch)."""

    @abstractmethod
    def forward(self, *xs: Tensor) -> Tensor:
        """The value at inputs ``(B, *shape)``."""

    def to(self: LayerType, device: torch.device | str) -> LayerType:
        """The same layer with its tensors on `device`."""
        own: Any = self  # every final layer is a dataclass, which its abstract bases cannot say
        values = ((field.name, getattr(self, field.name)) for field in fields(own))
        return replace(own, **{name: v.to(device) for name, v in values if isinstance(v, Tensor)})


class AbstractAffine(AbstractLayer):
    """A linear map plus a constant."""

    @abstractmethod
    def linear(self, *xs: Tensor) -> Tensor:
        """The map without its constant part: what directions, differences and gradients follow."""

    @abstractmethod
    def transpose(self, g: Tensor, input_shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        """Vector-Jacobian product of ``g`` ``(B, *output shape)``: one ``(B, *input shape)`` per input."""

    @abstractmethod
    def magnitude(self, *xs: Tensor) -> Tensor:
        """``|W| |x| + |b|``: the scale against which the rounding error of `forward` is measured."""

    @property
    def parameters(self) -> int:
        """Number of constants the layer holds."""
        own: Any = self  # as in `to`
        values = (getattr(self, field.name) for field in fields(own))
        return sum(value.numel() for value in values if isinstance(value, Tensor))


class AbstractWeighing(AbstractAffine):
    """An affine layer without a constant whose weights are all >= 0: it moves, sums or averages."""

    @property
    def parameters(self) -> int:
        return 0

    def linear(self, *xs: Tensor) -> Tensor:
        return self.forward(*xs)

    def magnitude(self, *xs: Tensor) -> Tensor:
        return self.forward(*(x.abs() for x in xs))


@dataclass(frozen=True, eq=False)
class Input(AbstractLayer):
    """The pixels, as they are handed to the classifier."""

    shape: Shape
    arity = 0

    def output_shape(self, *shapes: Shape) -> Shape:
        del shapes
        return self.shape

    def forward(self, *xs: Tensor) -> Tensor:
        return xs[0]


@dataclass(frozen=True, eq=False)
class Dense(AbstractAffine):
    """``x Wᵀ + b`` over the last axis; weight ``(out, in)``, bias ``(out,)``."""

    weight: Tensor
    bias: Tensor

    def output_shape(self, *shapes: Shape) -> Shape:
        return (*shapes[0][:-1], self.weight.shape[0])

    def forward(self, *xs: Tensor) -> Tensor:
        return functional.linear(xs[0], self.weight, self.bias)

    def linear(self, *xs: Tensor) -> Tensor:
        return functional.linear(xs[0], self.weight)

    def transpose(self, g: Tensor, input_shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        del input_shapes
        return (g @ self.weight,)

    def magnitude(self, *xs: Tensor) -> Tensor:
        return functional.linear(xs[0].abs(), self._absolute_weight, self.bias.abs())

    @cached_property
    def _absolute_weight(self) -> Tensor:
        return self.weight.abs()


@dataclass(frozen=True, eq=False)
class Conv(AbstractAffine):
    """Two-dimensional convolution of ``(C, H, W)``; weight ``(O, C / groups, kh, kw)``, bias ``(O,)``.

    `padding` is the number of zero rows and columns on *both* sides; one-sided padding is a `Pad` before it.
    """

    weight: Tensor
    bias: Tensor
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def output_shape(self, *shapes: Shape) -> Shape:
        _, *extents = shapes[0]
        kernel = self.weight.shape[2:]
        spans = [d * (k - 1) + 1 for d, k in zip(self.dilation, kernel, strict=True)]
        sizes = [
            (e + 2 * p - w) // s + 1
            for e, p, w, s in zip(extents, self.padding, spans, self.stride, strict=True)
        ]
        return (self.weight.shape[0], *sizes)

    def forward(self, *xs: Tensor) -> Tensor:
        return self._convolve(xs[0], self.weight, self.bias)

    def linear(self, *xs: Tensor) -> Tensor:
        return self._convolve(xs[0], self.weight, None)

    def transpose(self, g: Tensor, input_shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        size = (g.shape[0], *input_shapes[0])
        if g.shape[0] == 0:
            return (g.new_zeros(size),)
        options = (self.stride, self.padding, self.dilation, self.groups)
        # Its annotation says int where its documentation and its code take pairs.
        return (conv2d_input(size, self.weight, g, *options),)  # type: ignore[arg-type]

    def magnitude(self, *xs: Tensor) -> Tensor:
        return self._convolve(xs[0].abs(), self._absolute_weight, self.bias.abs())

    @cached_property
    def _absolute_weight(self) -> Tensor:
        return self.weight.abs()

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        options = (self.stride, self.padding, self.dilation, self.groups)
        shape = self.output_shape(tuple(x.shape[1:]))
        columns = 8 * math.prod(shape[1:]) * math.prod(weight.shape[1:]) * self.groups
        rows = max(1, _BLOCK_BYTES // columns)
        if x.is_cuda or x.shape[0] <= rows:
            return functional.conv2d(x, weight, bias, *options)
        out = x.new_empty((x.shape[0], *shape))
        for first in range(0, x.shape[0], rows):
            out[first : first + rows] = functional.conv2d(x[first : first + rows], weight, bias, *options)
        return out


@dataclass(frozen=True, eq=False)
class ScaleShift(AbstractAffine):
    """``scale * x + shift``; both broadcast against the input's shape, which is kept.

    Batch normalisation in evaluation mode, mean / std, and addition or multiplication of a constant.
    """

    scale: Tensor
    shift: Tensor

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    def forward(self, *xs: Tensor) -> Tensor:
        return torch.addcmul(self.shift, xs[0], self.scale)

    def linear(self, *xs: Tensor) -> Tensor:
        return xs[0] * self.scale

    def transpose(self, g: Tensor, input_shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        del input_shapes
        return (g * self.scale,)

    def magnitude(self, *xs: Tensor) -> Tensor:
        return torch.addcmul(self.shift.abs(), xs[0].abs(), self.scale.abs())


@dataclass(frozen=True, eq=False)
class AveragePool(AbstractWeighing):
    """Averages over windows of ``(C, H, W)``: ``rows @ x @ columnsᵀ``, rows ``(H', H)``, columns ``(W', W)``.

    Windows are boxes, so averaging separates into one small matrix per axis; overlapping, padded, rounded-up,
    adaptive and global windows differ in nothing but the entries.
    """

    rows: Tensor
    columns: Tensor

    def output_shape(self, *shapes: Shape) -> Shape:
        return (*shapes[0][:-2], self.rows.shape[0], self.columns.shape[0])

    def forward(self, *xs: Tensor) -> Tensor:
        return self.rows @ xs[0] @ self.columns.T

    def transpose(self, g: Tensor, input_shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        del input_shapes
        return (self.rows.T @ g @ self.columns,)


@dataclass(frozen=True, eq=False)
class Reshape(AbstractWeighing):
    """The same numbers in another shape (flatten, view, squeeze)."""

    shape: Shape

    def output_shape(self, *shapes: Shape) -> Shape:
        del shapes
        return self.shape

    def forward(self, *xs: Tensor) -> Tensor:
        return xs[0].reshape(xs[0].shape[0], *self.shape)

    def transpose(self, g: Tensor, input_shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        return (g.reshape(g.shape[0], *input_shapes[0]),)


@dataclass(frozen=True, eq=False)
class Permute(AbstractWeighing):
    """Axes reordered; output axis i is input axis ``axes[i]``, the batch not counted."""

    axes: tuple[int, ...]

    def output_shape(self, *shapes: Shape) -> Shape:
        return tuple(shapes[0][axis] for axis in self.axes)

    def forward(self, *xs: Tensor) -> Tensor:
        return xs[0].permute(0, *(axis + 1 for axis in self.axes))

    def transpose(self, g: Tensor, input_shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        del input_shapes
        inverse = sorted(range(len(self.axes)), key=self.axes.__getitem__)
        return (g.permute(0, *(axis + 1 for axis in inverse)),)


@dataclass(frozen=True, eq=False)
class Pad(AbstractAffine):
    """A constant frame; `pads` holds (before, after) for each axis, negative numbers crop."""

    pads: tuple[tuple[int, int], ...]
    value: float = 0.0

    def output_shape(self, *shapes: Shape) -> Shape:
        return tuple(size + sum(pad) for size, pad in zip(shapes[0], self.pads, strict=True))

    def forward(self, *xs: Tensor) -> Tensor:
        return functional.pad(xs[0], self._flat(), value=self.value)

    def linear(self, *xs: Tensor) -> Tensor:
        return functional.pad(xs[0], self._flat())

    def transpose(self, g: Tensor, input_shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        del input_shapes
        return (functional.pad(g, [-amount for amount in self._flat()]),)

    def magnitude(self, *xs: Tensor) -> Tensor:
        return functional.pad(xs[0].abs(), self._flat(), value=abs(self.value))

    def _flat(self) -> list[int]:
        return [amount for pad in reversed(self.pads) for amount in pad]


@dataclass(frozen=True, eq=False)
class Add(AbstractWeighing):
    """The sum of two branches of the same shape."""

    arity = 2

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    def forward(self, *xs: Tensor) -> Tensor:
        return xs[0] + xs[1]

    def transpose(self, g: Tensor, input_shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        del input_shapes
        return (g, g.clone())  # nobody shares a gradient, so that activations may be multiplied in place


@dataclass(frozen=True, eq=False)
class Concat(AbstractWeighing):
    """Two or more branches side by side along `axis` (the batch not counted)."""

    axis: int
    arity = -1

    def output_shape(self, *shapes: Shape) -> Shape:
        total = sum(shape[self.axis] for shape in shapes)
        return (*shapes[0][: self.axis], total, *shapes[0][self.axis + 1 :])

    def forward(self, *xs: Tensor) -> Tensor:
        return torch.cat(xs, dim=self.axis + 1)

    def transpose(self, g: Tensor, input_shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        return g.split([shape[self.axis] for shape in input_shapes], dim=self.axis + 1)


@dataclass(frozen=True, eq=False)
class PiecewiseLinear(AbstractLayer):
    """Unit by unit, ``slope * x + offset`` on each piece between breakpoints, continuous.

    breakpoints ``(k,)`` ascend and are the same for all units (k is 1 or 2); slopes and offsets are
    ``(k + 1, 1)``, or ``(k + 1, N)`` with one column per unit in flattened order. A point on a breakpoint
    belongs to the piece below it, so that the derivative of ReLU at 0 is 0.
    """

    breakpoints: Tensor
    slopes: Tensor
    offsets: Tensor

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    def forward(self, *xs: Tensor) -> Tensor:
        (x,) = xs
        if self.is_relu:
            return x.clamp_min(0.0)
        flat = x.flatten(1)
        out = torch.addcmul(self.offsets[0], flat, self.slopes[0])
        for piece, edge in enumerate(self.breakpoints, start=1):
            above = torch.addcmul(self.offsets[piece], flat, self.slopes[piece])
            out = torch.where(flat > edge, above, out)
        return out.reshape(x.shape)

    def pieces_of(self, x: Tensor) -> Tensor:
        """Index of the piece each unit is on, uint8 ``(B, N)``, for pre-activations ``(B, *shape)``."""
        flat = x.flatten(1)
        pieces = (flat > self.breakpoints[0]).to(torch.uint8)
        for edge in self.breakpoints[1:]:
            pieces += flat > edge
        return pieces

    def slopes_of(self, pieces: Tensor, units: Tensor | None = None) -> Tensor:
        """Slope of each unit, or of the units of the given numbers alone, on the given pieces ``(B, N)``."""
        pieces = pieces if units is None else pieces[:, units]
        if self.is_relu:
            return pieces.to(self.slopes.dtype)
        slopes = self.slopes if units is None or self.slopes.shape[1] == 1 else self.slopes[:, units]
        out = torch.where(pieces > 0, slopes[1], slopes[0])
        for piece in range(2, len(slopes)):
            out = torch.where(pieces >= piece, slopes[piece], out)
        return out

    def alive(self, pieces: Tensor) -> Tensor:
        """Numbers of the units whose slope is not 0 in some row of the pieces ``(B, N)``."""
        return (pieces if self.is_relu else self.slopes_of(pieces)).any(dim=0).nonzero()[:, 0]

    def transpose(self, g: Tensor, pieces: Tensor) -> Tensor:
        """Vector-Jacobian product of g ``(B, *shape)`` on the given pieces ``(B, N)``; g is overwritten."""
        slopes = pieces if self.is_relu else self.slopes_of(pieces)  # 0 and 1 need not become floats first
        return g.mul_(slopes.reshape(g.shape))

    @cached_property
    def is_relu(self) -> bool:
        rule = (self.breakpoints.tolist(), self.slopes.tolist(), self.offsets.tolist())
        return rule == ([0.0], [[0.0], [1.0]], [[0.0], [0.0]])


@dataclass(frozen=True, eq=False)
class MaxPool(AbstractLayer):
    """The largest input of each window; the first of several equal ones.

    windows ``(N_out, k)``, int64: positions in the flattened input of shape `shape`; -1 marks padding, which
    never wins. `pooled` is the output's shape. k is at most 255.
    """

    windows: Tensor
    shape: Shape
    pooled: Shape

    def output_shape(self, *shapes: Shape) -> Shape:
        del shapes
        return self.pooled

    def forward(self, *xs: Tensor) -> Tensor:
        return self.compete(xs[0])[0]

    def pieces_of(self, x: Tensor) -> Tensor:
        """Position in its window of each winner, uint8 ``(B, N_out)``, for inputs ``(B, *shape)``."""
        return self.compete(x)[1]

    def compete(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`forward` and `pieces_of` at once."""
        flat = x.flatten(1)
        if x.device.type == "cpu" and not x.requires_grad:  # ten times as fast as what follows
            best, place = best_of_windows(flat.numpy(), self.windows.numpy(), np.zeros(len(self.windows)))
            return torch.from_numpy(best).reshape(x.shape[0], *self.pooled), torch.from_numpy(place)
        best = self._candidate(flat, 0)
        place = torch.zeros(best.shape, dtype=torch.uint8, device=x.device)
        for position in range(1, self.windows.shape[1]):
            rival = self._candidate(flat, position)
            wins = rival > best
            place.masked_fill_(wins, position)
            best = torch.where(wins, rival, best)
        return best.reshape(x.shape[0], *self.pooled), place

    def winners(self, pieces: Tensor) -> Tensor:
        """Positions of the winners in the flattened input, int64 ``(B, N_out)``."""
        count, size = self.windows.shape
        starts = torch.arange(0, count * size, size, device=self.windows.device)
        return self.windows.flatten()[pieces + starts]

    def transpose(self, g: Tensor, pieces: Tensor) -> Tensor:
        """Vector-Jacobian product ``(B, *shape)`` of g ``(B, *pooled)`` where the given positions win."""
        out = g.new_zeros((g.shape[0], math.prod(self.shape)))
        out.scatter_add_(1, self.winners(pieces), g.flatten(1))
        return out.reshape(g.shape[0], *self.shape)

    def _candidate(self, flat: Tensor, position: int) -> Tensor:
        index = self.windows[:, position]
        return flat.index_select(1, index.clamp_min(0)).masked_fill(index < 0, -math.inf)
