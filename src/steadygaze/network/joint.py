"""Smooth layers of several values at once: products of two computed values, norms, and softmax.

Their gradient at a point needs values of that point, the layer's `state`: both factors of a product, the
probabilities of a softmax, values and scales of a norm. All are smooth everywhere, so that a network with one
of them has no linear pieces.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from steadygaze.network.layers import AbstractLayer, Shape


class AbstractJoint(AbstractLayer):
    """A smooth layer whose outputs depend on several numbers each."""

    @abstractmethod
    def state(self, *xs: Tensor) -> Tensor:
        """What the gradient at inputs ``(B, *shape)`` depends on, ``(B, M)``."""

    @abstractmethod
    def transpose(self, g: Tensor, state: Tensor, input_shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        """Vector-Jacobian product of g ``(B, *shape)`` at that state: one for each input."""

    @abstractmethod
    def terms_back(self, g: Tensor, state: Tensor, input_shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        """`transpose` with the absolute values of all its terms, for g >= 0: what errors grow to backward."""

    def squares_back(
        self, squares: Tensor, state: Tensor, input_shapes: tuple[Shape, ...]
    ) -> tuple[Tensor, ...]:
        """Squares at the inputs of independent errors that have these squares at the output; or more.

        Here they are taken to go all the same way, which multiplies with each layer.
        """
        grown = self.terms_back(squares.sqrt(), state, input_shapes)
        return tuple(each.square() for each in grown)

    @abstractmethod
    def terms_on(self, errors: tuple[Tensor, ...], *xs: Tensor) -> Tensor:
        """What errors >= 0 of the inputs grow to, to first order and in absolute values."""


class AbstractProduct(AbstractJoint):
    """A map of two values that is linear in each, without weights: sums of products of their entries.

    The functions take any number of leading axes, which broadcast.
    """

    arity = 2

    @abstractmethod
    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """The map."""

    @abstractmethod
    def first(self, g: Tensor, b: Tensor) -> Tensor:
        """What of a gradient g comes to the first factor, the second being b."""

    @abstractmethod
    def second(self, a: Tensor, g: Tensor) -> Tensor:
        """What of a gradient g comes to the second factor, the first being a."""

    @abstractmethod
    def stretch(self, known: Tensor) -> Tensor:
        """How much longer, ``(B,)``, any of the three makes a vector where one factor is `known`, at most."""

    @abstractmethod
    def terms(self, *shapes: Shape) -> int:
        """The largest number of products summed for one value by any of the three, given both shapes."""

    def forward(self, *xs: Tensor) -> Tensor:
        return self.product(*xs)

    def state(self, *xs: Tensor) -> Tensor:
        return torch.cat([x.flatten(1) for x in xs], dim=1)

    def transpose(self, g: Tensor, state: Tensor, input_shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        parts = state.split([math.prod(shape) for shape in input_shapes], dim=1)
        a, b = (part.reshape(-1, *shape) for part, shape in zip(parts, input_shapes, strict=True))
        return self.first(g, b), self.second(a, g)

    def terms_back(self, g: Tensor, state: Tensor, input_shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        return self.transpose(g, state.abs(), input_shapes)

    def terms_on(self, errors: tuple[Tensor, ...], *xs: Tensor) -> Tensor:
        a, b = xs
        return self.product(errors[0], b.abs()) + self.product(a.abs(), errors[1])


class AbstractSymmetric(AbstractJoint):
    """One of one input, whose Jacobian is symmetric."""

    def terms_on(self, errors: tuple[Tensor, ...], *xs: Tensor) -> Tensor:
        return self.terms_back(errors[0], self.state(*xs), (tuple(xs[0].shape[1:]),))[0]


@dataclass(frozen=True, eq=False)
class Multiply(AbstractProduct):
    """Two values of the same shape, entry by entry.

    limit: what the absolute values of the output cannot exceed, where the reader of the network knows that.
    axes: those, counted from the last one (-1), along which the second value has one entry for all of the
    first, as a gate that weighs channels has.
    """

    limit: float = math.inf
    axes: tuple[int, ...] = ()

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b

    def first(self, g: Tensor, b: Tensor) -> Tensor:
        return g * b

    def second(self, a: Tensor, g: Tensor) -> Tensor:
        product = a * g
        return product.sum(dim=self.axes, keepdim=True) if self.axes else product

    def stretch(self, known: Tensor) -> Tensor:
        if not self.axes:
            return known.flatten(1).abs().amax(dim=1)
        lengths = torch.linalg.vector_norm(known, dim=self.axes)
        return lengths.reshape(len(known), -1).amax(dim=1) * (1 + 2.0**-30)

    def terms(self, *shapes: Shape) -> int:
        return math.prod(shapes[0][axis] for axis in self.axes)


@dataclass(frozen=True, eq=False)
class MatrixProduct(AbstractProduct):
    """Matrices ``(*leading, m, k)`` times matrices ``(*leading, k, n)``: attention has two of these."""

    def output_shape(self, *shapes: Shape) -> Shape:
        return (*shapes[0][:-1], shapes[1][-1])

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        return a @ b

    def first(self, g: Tensor, b: Tensor) -> Tensor:
        return g @ b.transpose(-1, -2)

    def second(self, a: Tensor, g: Tensor) -> Tensor:
        return a.transpose(-1, -2) @ g

    def stretch(self, known: Tensor) -> Tensor:
        # Of the singular values the eighth root of the sum of their eighth powers.
        matrices = known.reshape(len(known), -1, *known.shape[-2:])
        lengths = torch.linalg.vector_norm(matrices, dim=(2, 3), keepdim=True).clamp_min(2.0**-500)
        turned = matrices / lengths
        square = turned @ turned.mT if known.shape[-2] <= known.shape[-1] else turned.mT @ turned
        # What is added makes up for rounding, which is far below it for matrices of up to a thousand rows.
        shares = (torch.linalg.vector_norm(square @ square, dim=(2, 3)) + 2.0**-30).pow(0.25)
        return (lengths[..., 0, 0] * shares).amax(dim=1) * (1 + 2.0**-30)

    def terms(self, *shapes: Shape) -> int:
        return max(*shapes[0][-2:], shapes[1][-1])


@dataclass(frozen=True, eq=False)
class Normalise(AbstractSymmetric):
    """``c / sqrt(mean(c²) + epsilon)`` along the last axis, c being x less its mean if `centred`, else x.

    Layer, group and instance norms are this, and with `centred` False the norm by the root mean square (Ba et
    al., 2016; Zhang and Sennrich, 2019). epsilon > 0.
    """

    epsilon: float
    centred: bool = True

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    def forward(self, *xs: Tensor) -> Tensor:
        away, scales = self._parts(xs[0])
        return away * scales

    def state(self, *xs: Tensor) -> Tensor:
        away, scales = self._parts(xs[0])
        return torch.cat([(away * scales).flatten(1), scales.flatten(1)], dim=1)

    def transpose(self, g: Tensor, state: Tensor, input_shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        values = state[:, : math.prod(input_shapes[0])].reshape(-1, *input_shapes[0])
        scales = state[:, math.prod(input_shapes[0]) :].reshape(-1, *input_shapes[0][:-1], 1)
        level = g - g.mean(dim=-1, keepdim=True) if self.centred else g
        return (scales * (level - values * (values * g).mean(dim=-1, keepdim=True)),)

    def terms_back(self, g: Tensor, state: Tensor, input_shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        values = state[:, : math.prod(input_shapes[0])].reshape(-1, *input_shapes[0]).abs()
        scales = state[:, math.prod(input_shapes[0]) :].reshape(-1, *input_shapes[0][:-1], 1)
        level = g + g.mean(dim=-1, keepdim=True) if self.centred else g
        return (scales * (level + values * (values * g).mean(dim=-1, keepdim=True)),)

    def squares_back(
        self, squares: Tensor, state: Tensor, input_shapes: tuple[Shape, ...]
    ) -> tuple[Tensor, ...]:
        """By the squares of the Jacobian ``scale (I - 1 / n - v v' / n)``; not centred, without the 1 / n."""
        values = state[:, : math.prod(input_shapes[0])].reshape(-1, *input_shapes[0])
        scales = state[:, math.prod(input_shapes[0]) :].reshape(-1, *input_shapes[0][:-1], 1)
        n, one = input_shapes[0][-1], float(self.centred)

        def mean(x: Tensor) -> Tensor:
            return (x * squares).mean(dim=-1, keepdim=True)

        others = one * mean(torch.ones_like(values)) + 2 * one * values * mean(values)
        others = (others + values.square() * mean(values.square())) / n
        own = squares * (1 - 2 * (one + values.square()) / n)
        return (scales.square() * (own + others).clamp_min(0.0),)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        away = x - x.mean(dim=-1, keepdim=True) if self.centred else x
        return away, torch.rsqrt(away.square().mean(dim=-1, keepdim=True) + self.epsilon)


@dataclass(frozen=True, eq=False)
class Softmax(AbstractSymmetric):
    """``exp(z_j) / sum over k of exp(z_k)`` along the last axis.

    kept: which arguments count, bool, in the shape of the input or broadcast to it; the others have the
    probability 0. At least one counts in each row. None: all.
    """

    kept: Tensor | None = None

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    def forward(self, *xs: Tensor) -> Tensor:
        seen = xs[0] if self.kept is None else xs[0].masked_fill(~self.kept, -math.inf)
        return torch.softmax(seen, dim=-1)

    def state(self, *xs: Tensor) -> Tensor:
        return self.forward(*xs).flatten(1)

    def transpose(self, g: Tensor, state: Tensor, input_shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        p = state.reshape(-1, *input_shapes[0])
        return (p * (g - (p * g).sum(dim=-1, keepdim=True)),)

    def terms_back(self, g: Tensor, state: Tensor, input_shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        p = state.reshape(-1, *input_shapes[0])
        return (p * (g + (p * g).sum(dim=-1, keepdim=True)),)
