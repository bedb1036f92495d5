"""What both readers share: operations as model files mean them, turned into nodes of a graph.

Files count the batch as an axis, and many fix it at 1 in a reshape. A `Value` therefore says whether its
first axis is the batch: every operation means what it means for *one* image, so that the graph holds for any
number of rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from steadygaze.errors import ModelError
from steadygaze.network.building import GraphBuilder, check_size
from steadygaze.network.graph import Graph, Node
from steadygaze.network.layers import (
    AbstractLayer,
    Add,
    AveragePool,
    Concat,
    Conv,
    Dense,
    Pad,
    Permute,
    Reshape,
    ScaleShift,
    Shape,
)
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.reading.assembling.windows import Windows, adaptive_averages
from steadygaze.network.smooth import Smooth
from steadygaze.network.taking import Take

# Single-precision files write "no bound" as the largest finite number.
_UNBOUNDED = 3e38
LARGEST_WINDOW = 255
"""Numbers that one window of a max pooling may cover."""
SOFTPLUS_THRESHOLD = 20.0
"""Beyond it softplus is x to within exp(-20) = 2e-9, and PyTorch takes x: how it computes, not what."""

Pads = tuple[tuple[int, int], tuple[int, int]]
"""Rows (before, after), columns (before, after)."""


@dataclass(frozen=True)
class Value:
    """The output of a node, as the file sees it: with a first axis of 1 for the batch, or (rarely) not."""

    node: int
    batched: bool


@dataclass(frozen=True)
class PoolGeometry:
    """Window of a pooling layer: (rows, columns) each."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: Pads = ((0, 0), (0, 0))
    dilation: tuple[int, int] = (1, 1)
    ceil: bool = False

    def along(self, axis: int, size: int) -> Windows:
        """The windows along the rows (0) or columns (1) of a map of that size."""
        before, after = self.pads[axis]
        return Windows(
            size, self.kernel[axis], self.stride[axis], before, after, self.dilation[axis], self.ceil
        )


class Assembler:
    """Builds a graph from operations as files state them; `where` names the operation at hand in errors.

    means: of nodes that are means, of what, and over which axes of the file's shape.
    """

    def __init__(self, input_shape: Shape) -> None:
        self._builder = GraphBuilder(input_shape)
        self.where = "pixels"
        self.means: dict[int, tuple[Value, tuple[int, ...]]] = {}

    @property
    def pixels(self) -> Value:
        """The image, ``(1, C, H, W)``."""
        return Value(0, True)

    @property
    def nodes(self) -> Sequence[Node]:
        """What has been appended so far, from the pixels on."""
        return self._builder.nodes

    def shape(self, value: Value) -> Shape:
        """Shape as the file sees it, a batch counted as 1."""
        inner = self._builder.shape(value.node)
        return (1, *inner) if value.batched else inner

    def refuse(self, reason: str, way_out: str) -> ModelError:
        """The error of an operation that has a name we know but a form we do not take."""
        return ModelError(f"{self.where}: {reason}; {way_out}")

    def build(self, output: Value) -> Graph:
        """The graph that ends in `output`, flattened to logits ``(K,)``."""
        size = math.prod(self.shape(output))
        if self._builder.shape(output.node) != (size,):
            output = self.append(Reshape((size,)), output)
        return self._builder.build(output.node)

    # Affine layers

    def dense(self, x: Value, weight: np.ndarray, bias: np.ndarray | None) -> Value:
        """``x Wᵀ + b`` over the last axis; weight ``(out, in)``."""
        self._expect(self.shape(x)[-1:] == weight.shape[1:], f"weight {weight.shape}", x)
        return self.append(Dense(self.constant(weight), self._bias(bias, weight.shape[0])), x)

    def matmul_left(self, weight: np.ndarray, x: Value) -> Value:
        """``W X`` for a constant W and X whose last two axes are a matrix."""
        x = self._unbatched(x) if len(self.shape(x)) == 2 else x
        rank = len(self.shape(x))
        swap = (*range(rank - 2), rank - 1, rank - 2)
        return self.permute(self.dense(self.permute(x, swap), weight, None), swap)

    def conv(
        self,
        x: Value,
        weight: np.ndarray,
        bias: np.ndarray | None,
        stride: tuple[int, int],
        pads: Pads,
        dilation: tuple[int, int],
        groups: int,
    ) -> Value:
        """Convolution of a map ``(1, C, H, W)`` by weight ``(O, C / groups, kh, kw)``."""
        channels, *_ = self.map_shape(x)
        self._expect(weight.ndim == 4 and weight.shape[1] * groups == channels, f"weight {weight.shape}", x)
        (top, bottom), (left, right) = pads
        padding = (top, left)
        if (top, left) != (bottom, right):
            x, padding = self.pad(x, ((0, 0), (0, 0), *pads), 0.0), (0, 0)
        layer = Conv(
            self.constant(weight), self._bias(bias, weight.shape[0]), stride, padding, dilation, groups
        )
        return self.append(layer, x)

    def batch_norm(
        self,
        x: Value,
        weight: np.ndarray | None,
        bias: np.ndarray | None,
        mean: np.ndarray,
        variance: np.ndarray,
        epsilon: float,
    ) -> Value:
        """``(x - mean) / sqrt(variance + epsilon) * weight + bias`` per channel (axis 1)."""
        column = (-1,) + (1,) * (len(self.shape(x)) - 2)
        scale = 1.0 / np.sqrt(np.asarray(variance, np.float64) + epsilon)
        scale = scale if weight is None else scale * weight
        shift = -np.asarray(mean, np.float64) * scale
        shift = shift if bias is None else shift + bias
        return self.scale_shift(x, scale.reshape(column), shift.reshape(column))

    def scale_shift(self, x: Value, scale: np.ndarray | float, shift: np.ndarray | float) -> Value:
        """``scale * x + shift``, broadcast as in numpy."""
        scale, shift = np.asarray(scale, np.float64), np.asarray(shift, np.float64)
        full = self.broadcast(self.shape(x), scale.shape, shift.shape)
        x = self.expand(x, full)
        inner = full[1:] if x.batched else full
        aligned = (
            self.constant(c.reshape(_stretched(c.shape, len(full))[-len(inner) :])) for c in (scale, shift)
        )
        return self.append(ScaleShift(*aligned), x)

    def add(self, a: Value, b: Value) -> Value:
        """The sum of two computed values, broadcast."""
        full = self.broadcast(self.shape(a), self.shape(b))
        a, b = self.expand(a, full), self.expand(b, full)
        if a.batched != b.batched:
            a, b = self._unbatched(a), self._unbatched(b)
        return self.append(Add(), a, b)

    def concat(self, values: Sequence[Value], axis: int) -> Value:
        """Values side by side along an axis other than the batch."""
        values = [self._unbatched(v) for v in values] if self._is_batch(values[0], axis) else list(values)
        shapes = [self.shape(v) for v in values]
        axis %= len(shapes[0])
        others = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
        if len(others) > 1:
            raise self.refuse(
                f"shapes {shapes} are concatenated", "allowed are shapes that differ in that axis only"
            )
        if len({v.batched for v in values}) > 1:
            values = [self._unbatched(v) for v in values]
        return self._settled(self.append(Concat(axis - values[0].batched), *values))

    def pad(self, x: Value, pads: Sequence[tuple[int, int]], value: float) -> Value:
        """A constant frame, (before, after) per axis of the file's shape; negative numbers crop."""
        pads = tuple((int(before), int(after)) for before, after in pads)
        if x.batched and pads[0] != (0, 0):
            raise self.refuse("the batch is padded", "allowed is padding of the other axes")
        if not math.isfinite(value):
            raise self.refuse(f"the padding value is {value}", "allowed are finite numbers")
        return (
            self.append(Pad(pads[1:] if x.batched else pads, float(value)), x) if any(map(any, pads)) else x
        )

    def crop(self, x: Value, axis: int, first: int, end: int, step: int = 1) -> Value:
        """Positions first, first + step, ... up to `end`, which is left out, along one axis of the shape."""
        shape = self.shape(x)
        axis %= len(shape)
        if (first, end, step) == (0, shape[axis], 1):
            return x
        places = range(first, end, step) if step else range(0)
        if self._is_batch(x, axis) or not places or not 0 <= min(places) <= max(places) < shape[axis]:
            raise self.refuse(
                f"positions {first}:{end}:{step} are taken of axis {axis} of {shape}",
                "allowed are slices that are not empty, of axes other than the batch",
            )
        if step < 0 or (step > 1 and (len(shape) != 4 or axis < 2)):
            return self.append(Take(torch.tensor(places), axis - x.batched), x)
        pads = [(0, 0)] * len(shape)
        pads[axis] = (-first, end - shape[axis])
        cropped = self.pad(x, pads, 0.0)
        if step == 1:
            return cropped
        # Averages over single positions: exactly the numbers at each step.
        stride = (step, 1) if axis == 2 else (1, step)
        return self.average_pool(cropped, PoolGeometry((1, 1), stride), count_padding=False)

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """The same numbers in `shape`, where one entry may be -1; the batch counts as 1."""
        old, shape = self.shape(x), tuple(int(size) for size in shape)
        if shape.count(-1) == 1:
            known = -math.prod(shape)
            rest = math.prod(old) // known if known else 0
            shape = tuple(rest if size == -1 else size for size in shape)
        if math.prod(shape) != math.prod(old) or min(shape, default=1) < 1:
            raise self.refuse(
                f"a value of shape {old} (batch 1) is reshaped to {shape}",
                "allowed are shapes of as many numbers; check the image's layout and its size (--resize)",
            )
        if shape == old:
            return x
        batched = len(shape) > 1 and shape[0] == 1
        return self.append(Reshape(shape[1:] if batched else shape), x, batched=batched)

    def expand(self, x: Value, shape: Sequence[int]) -> Value:
        """Axes of one entry repeated as often as `shape`, in the file's terms, says; new axes go in front."""
        old = self.shape(x)
        x = self.reshape(x, (1,) * (len(shape) - len(old)) + old)
        if len(shape) > len(old) and shape[0] != 1:  # the new first axis is no batch
            x = self._unbatched(x)
        for axis, (have, want) in enumerate(zip(self.shape(x), shape, strict=True)):
            if have == want:
                continue
            if have != 1 or self._is_batch(x, axis):
                raise self.refuse(
                    f"a value of shape {old} is expanded to {tuple(shape)}",
                    "allowed is to repeat axes of one entry other than the batch",
                )
            x = self.append(Take(torch.zeros(want, dtype=torch.int64), axis - x.batched), x)
        return x

    def permute(self, x: Value, axes: Sequence[int]) -> Value:
        """Axes reordered, the batch counted."""
        rank = len(self.shape(x))
        order = tuple(axis % rank for axis in axes)
        if sorted(order) != list(range(rank)):
            raise self.refuse(f"axes {tuple(axes)} reorder {rank} axes", "allowed is each axis once")
        if order == tuple(range(rank)):
            return x
        if x.batched and order[0] == 0:
            return self.append(Permute(tuple(axis - 1 for axis in order[1:])), x)
        return self._settled(self.append(Permute(order), self._unbatched(x)))

    # Pooling

    def max_pool(self, x: Value, geometry: PoolGeometry) -> Value:
        """The largest number of each window of a map ``(1, C, H, W)``."""
        channels, height, width = self.map_shape(x)
        size = math.prod(geometry.kernel)
        if size > LARGEST_WINDOW:
            raise self.refuse(
                f"a max-pool window covers {size} numbers",
                f"allowed are at most {LARGEST_WINDOW}; pool in two steps",
            )
        along = [geometry.along(0, height), geometry.along(1, width)]
        pooled = (channels, along[0].count, along[1].count)
        check_size((*pooled, size), f"the windows of {self.where}")
        rows, columns = (windows.positions() for windows in along)
        r, c = rows[:, None, :, None], columns[None, :, None, :]
        plane = torch.where((r < 0) | (c < 0), -1, r * width + c).reshape(-1, size)
        if bool((plane < 0).all(1).any()):
            raise self.refuse("a max-pool window covers padding only", "allowed is less padding than window")
        planes = torch.arange(channels)[:, None, None] * (height * width)
        windows = torch.where(plane < 0, -1, plane + planes).reshape(-1, size)
        return self.append(MaxPool(windows, (channels, height, width), pooled), x)

    def average_pool(
        self, x: Value, geometry: PoolGeometry, count_padding: bool, divisor: float | None = None
    ) -> Value:
        """The average of each window of a map ``(1, C, H, W)``; `divisor` replaces its size."""
        _, *sizes = self.map_shape(x)
        rows, columns = (geometry.along(axis, size) for axis, size in enumerate(sizes))
        for windows, size in ((rows, sizes[0]), (columns, sizes[1])):
            check_size((windows.count, size), f"the output of {self.where}")
        across = None if divisor is None else 1.0
        return self.append(
            AveragePool(rows.averages(count_padding, divisor), columns.averages(count_padding, across)), x
        )

    def adaptive_average(self, x: Value, size: tuple[int, int]) -> Value:
        """Averages over windows that divide a map ``(1, C, H, W)`` into `size` parts."""
        _, *extents = self.map_shape(x)
        check_size(size, f"the output of {self.where}")
        rows, columns = (adaptive_averages(e, s) for e, s in zip(extents, size, strict=True))
        return self.append(AveragePool(rows, columns), x)

    # Activations

    def leaky_relu(self, x: Value, slope: np.ndarray | float, shared: bool = False) -> Value:
        """x above 0, ``slope * x`` below: 0 is ReLU, an array PReLU (broadcast as in numpy).

        shared: see `PiecewiseLinear`.
        """
        slope = np.asarray(slope, np.float64)
        if slope.size > 1:
            if self.broadcast(self.shape(x), slope.shape) != self.shape(x):
                raise self.refuse(
                    f"slopes of shape {slope.shape}", f"allowed is what broadcasts to {self.shape(x)}"
                )
            slope = np.broadcast_to(slope, self.shape(x))
        low = self.constant(slope.reshape(1, -1))
        slopes = torch.cat([low, torch.ones_like(low)])
        zero = torch.zeros(1, dtype=torch.float64)
        return self.append(PiecewiseLinear(zero, slopes, torch.zeros((2, 1), dtype=torch.float64), shared), x)

    def clip(self, x: Value, low: float | None, high: float | None) -> Value:
        """x limited to [low, high]; None for no limit."""
        low = None if low is None or low < -_UNBOUNDED else low
        high = None if high is None or high > _UNBOUNDED else high
        limits = [limit for limit in (low, high) if limit is not None]
        if not limits:
            return x
        if limits != sorted(set(limits)) or not all(map(math.isfinite, limits)):
            raise self.refuse(
                f"the limits are {limits}", "allowed are finite numbers, the lower below the upper"
            )
        slopes = [0.0] * (low is not None) + [1.0] + [0.0] * (high is not None)
        offsets = ([] if low is None else [low]) + [0.0] + ([] if high is None else [high])
        edges, a, b = (torch.tensor(v, dtype=torch.float64) for v in (limits, slopes, offsets))
        return self.append(PiecewiseLinear(edges, a[:, None], b[:, None]), x)

    def smooth(self, x: Value, function: str, *numbers: float) -> Value:
        """A smooth function of each number, by its name, see `Smooth`."""
        return self.append(Smooth(function, numbers), x)

    def softplus(self, x: Value, beta: float, threshold: float) -> Value:
        """``log(1 + exp(beta x)) / beta``; runtimes take x itself beyond ``beta x = threshold``."""
        if not beta > 0 or threshold < SOFTPLUS_THRESHOLD:
            raise self.refuse(
                f"its beta is {beta:g} and its threshold {threshold:g}",
                f"allowed are a beta above 0 and a threshold of at least {SOFTPLUS_THRESHOLD:g}",
            )
        return self.scale_shift(self.smooth(self.scale_shift(x, beta, 0.0), "softplus"), 1.0 / beta, 0.0)

    # Constants and shapes

    def constant(self, array: np.ndarray) -> Tensor:
        """A contiguous float64 tensor of a file's constant, which must be finite.

        Such an array is not copied, which takes as long as a pass: it must not be changed afterwards.
        """
        check_size(np.shape(array), f"a constant of {self.where}")
        given = np.asarray(array)
        kept = given.flags.c_contiguous and given.flags.writeable  # tensors are of what may be written to
        array = np.array(given, dtype=np.float64, order="C", copy=None if kept else True)
        if not np.isfinite(array).all():
            bad = int(np.count_nonzero(~np.isfinite(array)))
            raise self.refuse(
                f"{bad} of {array.size} weights are NaN or infinite",
                "allowed are finite numbers; train or export the network again",
            )
        return torch.from_numpy(array)

    def _bias(self, bias: np.ndarray | None, size: int) -> Tensor:
        if bias is None:
            return torch.zeros(size, dtype=torch.float64)
        if np.size(bias) != size:
            raise self.refuse(f"the bias has {np.size(bias)} entries", f"allowed are {size}, one per output")
        return self.constant(np.reshape(bias, -1))

    def append(self, layer: AbstractLayer, *values: Value, batched: bool | None = None) -> Value:
        """One more layer, which reads the given values; it is batched as the first of them, if not told.

        Layers read axes: a value without any, one number for the image, is a row of one in between.
        """
        if not isinstance(layer, Reshape) and any(self.shape(v) == () for v in values):
            rows = [self.append(Reshape((1,)), v) if self.shape(v) == () else v for v in values]
            return self.append(Reshape(()), self.append(layer, *rows))
        node = self._builder.add(layer, *(v.node for v in values), name=self.where)
        return Value(node, values[0].batched if batched is None else batched)

    def map_shape(self, x: Value) -> Shape:
        """``(C, H, W)`` of a map ``(1, C, H, W)``; the error of a value that is none."""
        shape = self.shape(x)
        if len(shape) != 4 or not x.batched:
            raise self.refuse(
                f"got a value of shape {shape}",
                "allowed is a map (batch, channels, height, width) in two dimensions",
            )
        return shape[1:]

    def _expect(self, fits: bool, what: str, x: Value) -> None:
        if not fits:
            raise self.refuse(
                f"{what} does not fit a value of shape {self.shape(x)}",
                "allowed are matching sizes; check the image's layout and its size (--resize)",
            )

    def broadcast(self, *shapes: Shape) -> Shape:
        """The shape that these go together in, in the file's terms."""
        try:
            return tuple(np.broadcast_shapes(*shapes))
        except ValueError as error:
            raise self.refuse(
                f"shapes {', '.join(map(str, shapes))} do not go together",
                "allowed are shapes that broadcast; check the image's layout and its size (--resize)",
            ) from error

    def _is_batch(self, x: Value, axis: int) -> bool:
        return x.batched and axis % len(self.shape(x)) == 0

    def _unbatched(self, x: Value) -> Value:
        return self.append(Reshape(self.shape(x)), x, batched=False) if x.batched else x

    def _settled(self, x: Value) -> Value:
        """A first axis of 1 is the batch again, if there are others."""
        shape = self.shape(x)
        if x.batched or shape[0] != 1 or len(shape) == 1:
            return x
        return self.append(Reshape(shape[1:]), x, batched=True)


def _stretched(shape: Shape, rank: int) -> Shape:
    return (1,) * (rank - len(shape)) + shape
