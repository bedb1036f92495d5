"""The table of layers: everything a network may be made of, and the rule of each.

Tensors are float64 and batch first, ``(B, *shape)``; shapes in this module leave the batch out, so that a
layer takes any number of rows. A layer is either affine (`AbstractAffine`: a linear map plus a constant; most
are here, others in `taking` and `transposed`), or it picks one affine piece per unit or one input per window
(`pieces`), or it is smooth (`smooth`). Nothing here knows of graphs or of files.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, TypeAlias, TypeVar

import torch
import torch.nn.functional as functional
from torch import Tensor

from steadygaze.network.columns import columns_of, sums_of_magnitudes, unlike_first, used_in
from steadygaze.network.convolving import Window, convolved, pulled_back

Shape: TypeAlias = tuple[int, ...]

# From so many weights on a layer is worth a copy in single precision.
_MANY_WEIGHTS = 2**15
# Products of two numbers between these are far from the ends of single precision.
_SMALL, _LARGE = 1e-15, 1e15
# Units of a dense layer from which on it pays to look for inputs that are 0.
_WIDE = 32
# Entries of rows of forms and bands from which on it does.
_MANY_ENTRIES = 2**16
# Rows from which on it pays to look for inputs that are the same.
_SHARED = 16
LayerType = TypeVar("LayerType", bound="AbstractLayer")


def fits_single(values: Tensor) -> bool:
    """Whether all of them are 0, or of a magnitude far from the ends of single precision."""
    size = values.abs()
    most = float(size.max()) if size.numel() else 0.0
    return most <= _LARGE and float(size.masked_fill_(size == 0, _LARGE).min()) >= _SMALL if most else True


class AbstractLayer(ABC):
    """One operation of a network; final subclasses are frozen dataclasses of tensors and plain values."""

    arity: int = 1

    @abstractmethod
    def output_shape(self, *shapes: Shape) -> Shape:
        """Shape of the output, given the shapes of the inputs (all without the batch)."""

    @abstractmethod
    def forward(self, *xs: Tensor) -> Tensor:
        """The value at inputs ``(B, *shape)``."""

    def to(self: LayerType, device: torch.device | str | torch.dtype) -> LayerType:
        """The same layer with its tensors on `device`; or its weights, not its indices, of another kind."""
        own: Any = self  # every final layer is a dataclass, which its abstract bases cannot say
        values = ((field.name, getattr(self, field.name)) for field in fields(own))
        moved = {name: v for name, v in values if isinstance(v, Tensor)}
        if isinstance(device, torch.dtype):
            moved = {name: v for name, v in moved.items() if v.is_floating_point()}
        return replace(own, **{name: v.to(device) for name, v in moved.items()})


class AbstractAffine(AbstractLayer):
    """A linear map plus a constant."""

    @abstractmethod
    def linear(self, *xs: Tensor) -> Tensor:
        """The map without its constant part: what directions, differences and gradients follow."""

    @abstractmethod
    def transpose(self, g: Tensor, input_shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        """Vector-Jacobian product of ``g`` ``(B, *output shape)``: one ``(B, *input shape)`` per input."""

    @cached_property
    def absolute(self) -> AbstractAffine:
        """The layer with weights ``|W|`` and constant ``|b|``."""
        return self._absolute()

    @abstractmethod
    def _absolute(self) -> AbstractAffine: ...

    @cached_property
    def coarse(self) -> AbstractAffine | None:
        """`absolute` in float32, for estimates; None where it is not worth it, or some weight too far out."""
        weights = [own for own in vars(self).values() if isinstance(own, Tensor) and own.is_floating_point()]
        many = sum(own.numel() for own in weights) >= _MANY_WEIGHTS
        if not many or any(own.is_cuda or not fits_single(own) for own in weights):
            return None
        return self.to(torch.float32)._absolute()

    def constant(self, shapes: tuple[Shape, ...]) -> Tensor | None:
        """What it adds to a linear function of inputs of these shapes, ``(1, *shape)``; None if that is 0."""
        if shapes not in self._constants:
            own = [value for value in vars(self).values() if isinstance(value, Tensor)]
            kind = next((value.dtype for value in own if value.is_floating_point()), torch.float64)
            device = own[0].device if own else None
            found = self.forward(*(torch.zeros((1, *shape), dtype=kind, device=device) for shape in shapes))
            self._constants[shapes] = found if found.any() else None
        return self._constants[shapes]

    @cached_property
    def _constants(self) -> dict[tuple[Shape, ...], Tensor | None]:
        return {}

    @property
    @abstractmethod
    def terms(self) -> int:
        """The largest number of products summed for one value, by `linear` or by `transpose`."""

    @property
    def terms_forward(self) -> int:
        """The same by `linear` alone: often several times fewer, where a layer makes many values of few."""
        return self.terms

    @property
    def terms_backward(self) -> int:
        """The same by `transpose` alone: several times fewer, where a layer makes few values of many."""
        return self.terms

    def magnitude(self, *xs: Tensor) -> Tensor:
        """``|W| |x| + |b|``: the scale against which the rounding error of `forward` is measured."""
        return self.absolute.forward(*(x.abs() for x in xs))

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

    def constant(self, shapes: tuple[Shape, ...]) -> None:
        del shapes

    def _absolute(self) -> AbstractAffine:
        return self

    @property
    def terms(self) -> int:
        return 2

    def linear(self, *xs: Tensor) -> Tensor:
        return self.forward(*xs)


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

    def forward_of_alive(self, x: Tensor) -> Tensor:
        """`forward`, without the inputs that are 0 on all rows where these are many.

        Inputs that are the first once more on all rows, as a blank background is, are multiplied by the sum
        of their weights.
        """
        if x.ndim == 2 and self.weight.shape[0] >= _WIDE:
            part = self._part_of_alive(x)
            if part is not None:
                return functional.linear(*part, self.bias)
            unlike = unlike_first(x) if x.shape[0] >= _SHARED else None
            if unlike is not None:
                return self._forward_of_unlike(x, unlike)
        return self.forward(x)

    def _part_of_alive(self, x: Tensor) -> tuple[Tensor, Tensor] | None:
        """Inputs and weights without the inputs that are 0 on all rows; None where these are not many."""
        alive = used_in(x)
        if 2 * alive.shape[0] > x.shape[1]:
            return None
        return columns_of(x, alive), columns_of(self.weight, alive)

    def _forward_of_unlike(self, x: Tensor, unlike: Tensor) -> Tensor:
        """`forward` where all inputs but those of the numbers ``(k,)`` are the first one once more."""
        like = torch.ones(x.shape[1], dtype=x.dtype, device=x.device).index_fill_(0, unlike, 0.0)
        made = functional.linear(columns_of(x, unlike), columns_of(self.weight, unlike), self.bias)
        return made.addmm_(x[:, :1], torch.mv(self.weight, like)[None])

    def linear(self, *xs: Tensor) -> Tensor:
        (x,) = xs
        # What is 0 on all rows, as units are that are off, is left out where that is most.
        if x.ndim == 2 and x.numel() >= _MANY_ENTRIES and self.weight.shape[0] >= _WIDE:
            part = self._part_of_alive(x)
            if part is not None:
                return functional.linear(*part)
        return functional.linear(x, self.weight)

    def magnitude(self, *xs: Tensor) -> Tensor:
        found = sums_of_magnitudes(self.weight, self.bias, xs[0])
        return super().magnitude(*xs) if found is None else found

    def transpose(self, g: Tensor, input_shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        del input_shapes
        return (g @ self.weight,)

    def _absolute(self) -> Dense:
        return Dense(self.weight.abs(), self.bias.abs())

    @property
    def terms(self) -> int:
        return max(self.weight.shape)

    @property
    def terms_forward(self) -> int:
        return self.weight.shape[1]

    @property
    def terms_backward(self) -> int:
        return self.weight.shape[0]


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
        sizes = self._window.sizes(tuple(extents), tuple(self.weight.shape[2:]))
        return (self.weight.shape[0], *sizes)

    def forward(self, *xs: Tensor) -> Tensor:
        return convolved(xs[0], self.weight, self.bias, self._window)

    def linear(self, *xs: Tensor) -> Tensor:
        return convolved(xs[0], self.weight, None, self._window)

    def transpose(self, g: Tensor, input_shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        return (pulled_back(g, self.weight, input_shapes[0], self._window),)

    def _absolute(self) -> Conv:
        return replace(self, weight=self.weight.abs(), bias=self.bias.abs())

    @property
    def terms(self) -> int:
        return self.weight[0, 0].numel() * max(self.weight.shape[:2])

    @property
    def terms_forward(self) -> int:
        return self.weight[0].numel()

    @property
    def terms_backward(self) -> int:
        return self.weight[:, 0].numel() // self.groups

    @property
    def _window(self) -> Window:
        return Window(self.stride, self.padding, self.dilation, self.groups)


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

    def _absolute(self) -> ScaleShift:
        return ScaleShift(self.scale.abs(), self.shift.abs())

    @property
    def terms(self) -> int:
        return 1


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

    @property
    def terms(self) -> int:
        return sum(self.rows.shape) + sum(self.columns.shape)


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

    def _absolute(self) -> Pad:
        return replace(self, value=abs(self.value))

    @property
    def terms(self) -> int:
        return 1

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
