"""network.onnx as a list of operations on rows of numbers, each with what bounds its rounding.

An operation maps rows ``(B, N)`` to rows ``(B, M)``. Linear ones know three numbers of their matrix A:
``lift`` >= |A|_2, ``size`` >= | |A| |_2, ``reach`` (M,) >= the 2-norm of each row; and ``terms``, the number
of products that go into an entry. The same code multiplies doubles and exact numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np

from steadygaze_check.dyadic import Dyadic

UNIT = 2.0**-53
#: Factor by which bounds are enlarged where they are computed, for the rounding of that computation.
UP = 1.0 + 2.0**-36
#: Norms below this are not trusted to have been computed from squares.
SMALL = 1e-140
# Numbers that the windows of convolutions may take at once.
_PATCHES = 1 << 23


def gamma(terms: int) -> float:
    """Bound of the relative error of a sum of so many products, in any order, with a few operations more."""
    return (terms + 8) * UNIT * UP


def norms(rows: np.ndarray) -> np.ndarray:
    """At least the Euclidean norm of each row; squares below the smallest double are not lost."""
    found = np.sqrt(np.einsum("rn,rn->r", rows, rows)) * UP
    small = np.flatnonzero(found < SMALL)
    if len(small):
        found[small] = np.abs(rows[small]).max(axis=1, initial=0.0) * np.sqrt(rows.shape[1]) * UP
    return found


def norm(values: np.ndarray) -> float:
    """At least the Euclidean norm of all entries together."""
    return float(norms(values.reshape(1, -1))[0])


class AbstractLinear(ABC):
    """``A x + b``."""

    bias: np.ndarray
    terms: int
    backward_terms: int

    @abstractmethod
    def multiply(self, rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """``rows A^T`` where A has the entries of `weight`, doubles or whole numbers."""

    @abstractmethod
    def pull_back(self, rows: np.ndarray) -> np.ndarray:
        """``rows A``."""

    @property
    @abstractmethod
    def weight(self) -> np.ndarray:
        """The numbers that make A."""

    @property
    @abstractmethod
    def lift(self) -> float:
        """At least the spectral norm of A."""

    @property
    @abstractmethod
    def size(self) -> float:
        """At least the spectral norm of the matrix of magnitudes of A."""

    @property
    @abstractmethod
    def reach(self) -> np.ndarray:
        """At least the Euclidean norm of each row of A."""

    @cached_property
    def _exact(self) -> tuple[Dyadic, Dyadic]:
        return Dyadic.of(self.weight), Dyadic.of(self.bias)

    def exact(self, rows: Dyadic, constant: np.ndarray) -> Dyadic:
        """The same without rounding; the bias is added to rows where `constant` (B,) is 1 rather than 0."""
        weight, bias = self._exact
        product = Dyadic(self.multiply(rows.whole, weight.whole), rows.exponent + weight.exponent)
        return product + Dyadic(constant[:, None] * bias.whole, bias.exponent)


@final
@dataclass(frozen=True, eq=False)
class Dense(AbstractLinear):
    """A matrix."""

    matrix: np.ndarray
    bias: np.ndarray

    @property
    def weight(self) -> np.ndarray:
        return self.matrix

    @property
    def terms(self) -> int:
        return self.matrix.shape[1]

    @property
    def backward_terms(self) -> int:
        return self.matrix.shape[0]

    def multiply(self, rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return rows @ weight.T

    def pull_back(self, rows: np.ndarray) -> np.ndarray:
        return rows @ self.matrix

    @cached_property
    def lift(self) -> float:
        return spectral_bound(self.matrix)

    @cached_property
    def size(self) -> float:
        return spectral_bound(np.abs(self.matrix))

    @cached_property
    def reach(self) -> np.ndarray:
        return norms(self.matrix)


@final
@dataclass(frozen=True, eq=False)
class Along(AbstractLinear):
    """A matrix ``(O, K)`` along the middle axis of ``(before, K, after)``; nothing is added."""

    matrix: np.ndarray
    before: int
    after: int

    @property
    def weight(self) -> np.ndarray:
        return self.matrix

    @property
    def bias(self) -> np.ndarray:
        return np.zeros(self.before * len(self.matrix) * self.after)

    @property
    def terms(self) -> int:
        return self.matrix.shape[1]

    @property
    def backward_terms(self) -> int:
        return self.matrix.shape[0]

    def multiply(self, rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return (weight @ rows.reshape(len(rows), self.before, -1, self.after)).reshape(len(rows), -1)

    def pull_back(self, rows: np.ndarray) -> np.ndarray:
        return (self.matrix.T @ rows.reshape(len(rows), self.before, -1, self.after)).reshape(len(rows), -1)

    @cached_property
    def lift(self) -> float:
        return spectral_bound(self.matrix)

    @cached_property
    def size(self) -> float:
        return spectral_bound(np.abs(self.matrix))

    @cached_property
    def reach(self) -> np.ndarray:
        each = norms(self.matrix)
        return np.tile(np.repeat(each, self.after), self.before)


@final
@dataclass(frozen=True, eq=False)
class Convolution(AbstractLinear):
    """A convolution of ``(C, H, W)`` with ``(O, C / groups, h, w)``; pads: top, left, bottom, right."""

    kernel: np.ndarray
    channel_bias: np.ndarray
    shape: tuple[int, int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilations: tuple[int, int]
    groups: int

    @property
    def out_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the result."""
        (_, H, W), (h, w) = self.shape, self.kernel.shape[2:]
        tall = H + self.pads[0] + self.pads[2] - (h - 1) * self.dilations[0] - 1
        wide = W + self.pads[1] + self.pads[3] - (w - 1) * self.dilations[1] - 1
        return len(self.kernel), tall // self.strides[0] + 1, wide // self.strides[1] + 1

    @property
    def weight(self) -> np.ndarray:
        return self.kernel

    @property
    def bias(self) -> np.ndarray:
        return np.repeat(self.channel_bias, self.out_shape[1] * self.out_shape[2])

    @property
    def terms(self) -> int:
        return int(np.prod(self.kernel.shape[1:]))

    @property
    def backward_terms(self) -> int:
        return len(self.kernel) * int(np.prod(self.kernel.shape[2:]))

    def multiply(self, rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
        room = max(1, _PATCHES // (self.terms * self.groups * self.out_shape[1] * self.out_shape[2]))
        if len(rows) > room:
            parts = [self.multiply(rows[k : k + room], weight) for k in range(0, len(rows), room)]
            return np.concatenate(parts)
        (C, H, W), (top, left, bottom, right) = self.shape, self.pads
        padded = np.zeros((len(rows), C, H + top + bottom, W + left + right), rows.dtype)
        padded[:, :, top : top + H, left : left + W] = rows.reshape(-1, C, H, W)
        outs, tall, wide = self.out_shape
        (h, w), (down, across), (s, t) = self.kernel.shape[2:], self.dilations, self.strides
        windows = np.lib.stride_tricks.sliding_window_view(
            padded, ((h - 1) * down + 1, (w - 1) * across + 1), axis=(2, 3)
        )[:, :, ::s, ::t, ::down, ::across].transpose(0, 2, 3, 1, 4, 5)
        out = np.empty((len(rows), outs, tall * wide), rows.dtype)
        each, own = outs // self.groups, C // self.groups
        for g in range(self.groups):
            patches = windows[:, :, :, g * own : (g + 1) * own].reshape(len(rows) * tall * wide, -1)
            product = patches @ weight[g * each : (g + 1) * each].reshape(each, -1).T
            out[:, g * each : (g + 1) * each] = product.reshape(len(rows), tall * wide, each).transpose(
                0, 2, 1
            )
        return out.reshape(len(rows), -1)

    def pull_back(self, rows: np.ndarray) -> np.ndarray:
        (C, H, W), (top, left, bottom, right) = self.shape, self.pads
        outs, tall, wide = self.out_shape
        (h, w), (down, across), (s, t) = self.kernel.shape[2:], self.dilations, self.strides
        each, own = outs // self.groups, C // self.groups
        padded = np.zeros((len(rows), H + top + bottom, W + left + right, C), rows.dtype)
        images = rows.reshape(len(rows), outs, tall * wide).transpose(0, 2, 1)
        for g in range(self.groups):
            kernel = self.kernel[g * each : (g + 1) * each].transpose(0, 2, 3, 1).reshape(each, -1)
            flat = np.ascontiguousarray(images[:, :, g * each : (g + 1) * each]).reshape(-1, each)
            taps = (flat @ kernel).reshape(len(rows), tall, wide, h, w, own)
            for i in range(h):
                for j in range(w):
                    high, far = i * down + s * (tall - 1) + 1, j * across + t * (wide - 1) + 1
                    padded[:, i * down : high : s, j * across : far : t, g * own : (g + 1) * own] += taps[
                        :, :, :, i, j
                    ]
        return padded[:, top : top + H, left : left + W].transpose(0, 3, 1, 2).reshape(len(rows), -1)

    @property
    def _overlap(self) -> float:
        """In how many windows an entry can be, at most: one for each tap of its own residue class."""
        counts = []
        for k, s, d in zip(self.kernel.shape[2:], self.strides, self.dilations, strict=True):
            counts.append(int(np.bincount((np.arange(k) * d) % s).max()))
        return float(counts[0] * counts[1])

    @cached_property
    def lift(self) -> float:
        """|A x| <= |K| |windows of x| <= |K| sqrt(overlap) |x|, where K is the matrix of kernels."""
        return self._most(self.kernel)

    @cached_property
    def size(self) -> float:
        return self._most(np.abs(self.kernel))

    def _most(self, kernel: np.ndarray) -> float:
        parts = np.split(kernel, self.groups)
        return (
            max(spectral_bound(part.reshape(len(part), -1)) for part in parts) * np.sqrt(self._overlap) * UP
        )

    @cached_property
    def reach(self) -> np.ndarray:
        each = norms(self.kernel.reshape(len(self.kernel), -1))
        return np.repeat(each, self.out_shape[1] * self.out_shape[2])


@final
@dataclass(frozen=True, eq=False)
class Diagonal(AbstractLinear):
    """Each entry times its own number, plus its own number."""

    factor: np.ndarray
    bias: np.ndarray
    terms = 1
    backward_terms = 1

    @property
    def weight(self) -> np.ndarray:
        return self.factor

    def multiply(self, rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return rows * weight

    def pull_back(self, rows: np.ndarray) -> np.ndarray:
        return rows * self.factor

    @property
    def lift(self) -> float:
        return float(np.abs(self.factor).max())

    @property
    def size(self) -> float:
        return self.lift

    @property
    def reach(self) -> np.ndarray:
        return np.abs(self.factor)


@final
@dataclass(frozen=True, eq=False)
class Select(AbstractLinear):
    """Entries by number, with repetition; -1 stands for the constant in `bias`, which is 0 elsewhere."""

    index: np.ndarray
    bias: np.ndarray
    entries: int
    terms = 1

    @property
    def backward_terms(self) -> int:
        return int(np.bincount(self.index[self.index >= 0], minlength=1).max())

    @property
    def weight(self) -> np.ndarray:
        return np.ones(1)

    def multiply(self, rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
        out = rows[:, self.index] * weight[0]
        out[:, self.index < 0] = 0
        return out

    def pull_back(self, rows: np.ndarray) -> np.ndarray:
        kept = np.flatnonzero(self.index >= 0)
        if self.backward_terms <= 1:
            once = np.zeros((len(rows), self.entries), rows.dtype)
            once[:, self.index[kept]] = rows[:, kept]
            return once
        out = np.zeros((self.entries, len(rows)), rows.dtype)
        np.add.at(out, self.index[kept], rows.T[kept])
        return out.T

    @cached_property
    def lift(self) -> float:
        kept = self.index[self.index >= 0]
        return float(np.sqrt(np.bincount(kept, minlength=1).max())) * UP if len(kept) else 0.0

    @property
    def size(self) -> float:
        return self.lift

    @property
    def reach(self) -> np.ndarray:
        return (self.index >= 0).astype(np.float64)


@final
@dataclass(frozen=True, eq=False)
class Sum:
    """Two nodes added, entry by entry."""


@final
@dataclass(frozen=True, eq=False)
class Join:
    """Several nodes as one: entry `order[k]` of all their entries, one after the other."""

    order: np.ndarray


@final
@dataclass(frozen=True, eq=False)
class Rectifier:
    """``x`` above 0 and ``slope * x`` below; the derivative at 0 is the slope (0 for ReLU)."""

    slope: np.ndarray


@final
@dataclass(frozen=True, eq=False)
class Clip:
    """``min(max(x, low), high)``."""

    low: float
    high: float


@final
@dataclass(frozen=True, eq=False)
class Largest:
    """The largest of each `width` entries in a row; of equal ones the first."""

    width: int


Operation = AbstractLinear | Sum | Join | Rectifier | Clip | Largest


@final
@dataclass(frozen=True, eq=False)
class Node:
    """An operation, the numbers of the nodes that it reads, and its number of entries."""

    operation: Operation | None
    inputs: tuple[int, ...]
    entries: int


def spectral_bound(matrix: np.ndarray) -> float:
    """At least the spectral norm: |M|_2^2 = |M M^T|_2, and |G|_2^2 = |G^2|_2 <= |G^2|_F for symmetric G.

    Each product of doubles is off by at most gamma(k) times the product of Frobenius norms.
    """
    frobenius = norm(matrix)
    if frobenius < SMALL or min(matrix.shape) == 1 or min(matrix.shape) > 2048:
        return frobenius
    scaled = matrix / frobenius
    gram = scaled @ scaled.T if matrix.shape[0] <= matrix.shape[1] else scaled.T @ scaled
    slack = gamma(max(matrix.shape)) + 4 * UNIT
    return frobenius * float(np.sqrt(_symmetric_bound(gram, 5) + slack)) * UP


def _symmetric_bound(gram: np.ndarray, squarings: int) -> float:
    size = norm(gram)
    if squarings == 0 or size == 0:
        return size
    scaled = gram / size
    square = scaled @ scaled
    return size * float(np.sqrt(_symmetric_bound(square, squarings - 1) + gamma(len(gram)) + 8 * UNIT)) * UP
