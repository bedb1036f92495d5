"""The graph as an ONNX model of few operators, which a short program can read without trusting this one.

Gemm, Conv, Add, Mul (by constants), Relu, ReduceMax over windows, and three that only move numbers: Gather
and Pad of flat entries, and Reshape. In real arithmetic the values and, at breakpoints and between equal
entries of a window, the derivatives are those of the graph: constants are its own, bit for bit, and none are
multiplied. What that cannot be done for is written as `onnx_writer` writes it: smooth layers, and those whose
pieces do not meet to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from fractions import Fraction
from functools import singledispatch

import numpy as np
import onnx
from torch import Tensor
from torch.nn.functional import one_hot

from steadygaze.network import layers, pieces
from steadygaze.network.graph import Graph
from steadygaze.network.layers import AbstractLayer, Shape
from steadygaze.network.simplify import pooled_first
from steadygaze.network.taking import Take
from steadygaze.network.transposed import TransposedConv
from steadygaze.network.writing.onnx_writer import Writer, filled_windows, value_names, write


def normal_form(graph: Graph, keep: Collection[int] = ()) -> onnx.ModelProto:
    """The graph in float64, from `pixels` ``(N, C, H, W)`` to `logits` ``(N, K)``.

    Activations that max pooling reads come behind it, where they are the largest of 0 and the window; the
    values of the nodes in `keep` stay in the model, by their names of `value_names`.
    Raises SettingError where its constants do not fit into one file.
    """
    graph = pooled_first(graph, keep)
    writer, names = Writer(), value_names(graph)
    joined = {
        node.inputs[0]
        for node in graph.nodes
        if _is_relu(node.layer)
        and isinstance(graph.nodes[node.inputs[0]].layer, pieces.MaxPool)
        and len(graph.readers[node.inputs[0]]) == 1
        and node.inputs[0] not in keep
    }
    for index, node in enumerate(graph.nodes[1:], start=1):
        if index in joined:
            continue
        writer.begin(names[index])
        if node.inputs[0] in joined:
            pool = graph.nodes[node.inputs[0]]
            assert isinstance(pool.layer, pieces.MaxPool)
            _pooled(writer, names[pool.inputs[0]], pool.layer, with_zero=True)
        else:
            inputs = tuple(names[read] for read in node.inputs)
            lower(node.layer, writer, inputs, tuple(graph.nodes[read].shape for read in node.inputs))
    if graph.last == 0:
        writer.begin("logits")
        writer.add("Reshape", "pixels", writer.constant([-1, *graph.nodes[0].shape]), last=True)
    return writer.model(graph, "pixels", "logits")


@singledispatch
def lower(layer: AbstractLayer, to: Writer, inputs: tuple[str, ...], shapes: tuple[Shape, ...]) -> None:
    """Add what computes the layer's value from the named inputs, whose shapes leave the batch out."""
    write(layer, to, inputs, shapes)


@lower.register
def _(layer: layers.Dense, to: Writer, inputs: tuple[str, ...], shapes: tuple[Shape, ...]) -> None:
    if len(shapes[0]) == 1:
        write(layer, to, inputs, shapes)
        return
    made = _along(to, inputs[0], shapes[0], len(shapes[0]) - 1, layer.weight, layer.bias)
    _shaped(to, made, layer.output_shape(*shapes), last=True)


@lower.register
def _(layer: TransposedConv, to: Writer, inputs: tuple[str, ...], shapes: tuple[Shape, ...]) -> None:
    """The convolution, by the kernel turned around, of the entries set apart by zeros."""
    sizes = [
        (0, 0),
        *(
            (reach * (width - 1) - cut, reach * (width - 1) - cut + more)
            for reach, width, cut, more in zip(
                layer.dilation, layer.weight.shape[2:], layer.padding, layer.more, strict=True
            )
        ),
    ]
    channels, height, width = shapes[0]
    apart = ((height - 1) * layer.stride[0] + 1, (width - 1) * layer.stride[1] + 1)
    index = np.full((channels, *apart), -1)
    index[:, :: layer.stride[0], :: layer.stride[1]] = _numbers(shapes[0])
    index = _framed(index, sizes)
    spread = _shaped(to, _gathered(to, inputs[0], shapes[0], index.reshape(-1)), index.shape)
    grouped = layer.weight.reshape(layer.groups, -1, *layer.weight.shape[1:]).transpose(1, 2)
    kernel = grouped.flatten(0, 1).flip(2, 3)
    to.add(
        "Conv",
        spread,
        to.constant(kernel),
        to.constant(layer.bias),
        kernel_shape=list(kernel.shape[2:]),
        dilations=list(layer.dilation),
        group=layer.groups,
        last=True,
    )


@lower.register
def _(layer: Take, to: Writer, inputs: tuple[str, ...], shapes: tuple[Shape, ...]) -> None:
    if layer.terms > 1:  # no operator reads an entry twice, but a matrix of 0 and 1 may have a column of many
        rows = one_hot(layer.index, shapes[0][layer.axis]).double()
        made = _along(to, inputs[0], shapes[0], layer.axis, rows)
        _shaped(to, made, layer.output_shape(*shapes), last=True)
        return
    index = _numbers(shapes[0]).take(layer.index.cpu().numpy(), axis=layer.axis)
    _shaped(to, _gathered(to, inputs[0], shapes[0], index.reshape(-1)), index.shape, last=True)


@lower.register
def _(layer: layers.ScaleShift, to: Writer, inputs: tuple[str, ...], shapes: tuple[Shape, ...]) -> None:
    scale, shift = (c.reshape(c.shape[max(0, c.ndim - len(shapes[0])) :]) for c in (layer.scale, layer.shift))
    to.add("Add", to.add("Mul", inputs[0], to.constant(scale)), to.constant(shift), last=True)


@lower.register
def _(layer: layers.AveragePool, to: Writer, inputs: tuple[str, ...], shapes: tuple[Shape, ...]) -> None:
    (shape,) = shapes
    down = _along(to, inputs[0], shape, len(shape) - 2, layer.rows)
    half = (*shape[:-2], len(layer.rows), shape[-1])
    made = _along(to, _shaped(to, down, half), half, len(shape) - 1, layer.columns)
    _shaped(to, made, layer.output_shape(shape), last=True)


@lower.register
def _(layer: layers.Permute, to: Writer, inputs: tuple[str, ...], shapes: tuple[Shape, ...]) -> None:
    index = _numbers(shapes[0]).transpose(layer.axes)
    _shaped(to, _gathered(to, inputs[0], shapes[0], index.reshape(-1)), index.shape, last=True)


@lower.register
def _(layer: layers.Pad, to: Writer, inputs: tuple[str, ...], shapes: tuple[Shape, ...]) -> None:
    index = _framed(_numbers(shapes[0]), layer.pads)
    made = _shaped(
        to, _gathered(to, inputs[0], shapes[0], index.reshape(-1)), index.shape, last=not layer.value
    )
    if layer.value:
        to.add("Add", made, to.constant(np.where(index < 0, layer.value, 0.0)), last=True)


@lower.register
def _(layer: layers.Concat, to: Writer, inputs: tuple[str, ...], shapes: tuple[Shape, ...]) -> None:
    """The branches one after the other, each with zeros where the others are, added and then put in order."""
    sizes = [math.prod(shape) for shape in shapes]
    ends = np.cumsum(sizes)
    order = [_numbers(shape) + end - size for shape, end, size in zip(shapes, ends, sizes, strict=True)]
    made = ""
    for name, end, size in zip(inputs, ends, sizes, strict=True):
        flat = to.add("Reshape", name, to.constant([-1, size]))
        part = to.add("Pad", flat, to.constant([0, int(end - size), 0, int(ends[-1] - end)]), mode="constant")
        made = to.add("Add", made, part) if made else part
    index = np.concatenate(order, axis=layer.axis)
    _shaped(to, _gathered(to, made, (int(ends[-1]),), index.reshape(-1)), index.shape, last=True)


@lower.register
def _(layer: pieces.PiecewiseLinear, to: Writer, inputs: tuple[str, ...], shapes: tuple[Shape, ...]) -> None:
    """s₀ x + o₀ + Σ (sₖ rₖ − sₖ₋₁ rₖ) with rₖ = max(0, x − bₖ), slopes s and breakpoints b.

    That is the layer where its pieces meet exactly, and a unit on a breakpoint has the slope below.
    """
    if _is_relu(layer) or not _meets(layer):
        write(layer, to, inputs, shapes)
        return
    (x,) = inputs
    slopes, start = layer.slopes, layer.offsets[0]
    terms = [(x, slopes[0])]
    for edge, below, above in zip(layer.breakpoints.tolist(), slopes[:-1], slopes[1:], strict=True):
        r = to.add("Relu", to.add("Add", x, to.constant(-edge)) if edge else x)
        terms += [(r, above), (r, -below)]
    made = [
        name if bool((factor == 1).all()) else to.add("Mul", name, to.constant(_in_shape(factor, shapes[0])))
        for name, factor in terms
        if bool((factor != 0).any())
    ] or [to.add("Mul", x, to.constant(0.0))]
    total = made[0]
    for name in made[1:]:
        total = to.add("Add", total, name)
    to.add("Add", total, to.constant(_in_shape(start, shapes[0])), last=True)


@lower.register
def _(layer: pieces.MaxPool, to: Writer, inputs: tuple[str, ...], shapes: tuple[Shape, ...]) -> None:
    _pooled(to, inputs[0], layer, with_zero=False)


def _pooled(to: Writer, x: str, layer: pieces.MaxPool, with_zero: bool) -> None:
    """The largest of each window, or of 0 and the window."""
    windows = filled_windows(layer)
    if with_zero:
        windows = np.concatenate([np.full((len(windows), 1), -1), windows], axis=1)
    best = to.add("ReduceMax", _gathered(to, x, layer.shape, windows), axes=[2], keepdims=0)
    _shaped(to, best, layer.pooled, last=True)


def _is_relu(layer: AbstractLayer) -> bool:
    return isinstance(layer, pieces.PiecewiseLinear) and layer.is_relu


def _meets(layer: pieces.PiecewiseLinear) -> bool:
    """Whether neighbouring pieces have the same value where they meet, exactly."""
    count, wide = len(layer.slopes), max(layer.slopes.shape[1], layer.offsets.shape[1])
    both = [numbers.expand(count, wide).cpu().numpy() for numbers in (layer.slopes, layer.offsets)]
    columns = np.unique(np.concatenate(both), axis=1)
    edges = [Fraction(edge) for edge in layer.breakpoints.tolist()]
    for column in columns.T.tolist():
        slopes, offsets = [Fraction(s) for s in column[:count]], [Fraction(o) for o in column[count:]]
        if any(
            slopes[k] * edge + offsets[k] != slopes[k + 1] * edge + offsets[k + 1]
            for k, edge in enumerate(edges)
        ):
            return False
    return True


def _in_shape(column: Tensor, shape: Shape) -> Tensor:
    """One number for all units, or one for each, in the shape that they have."""
    return column.reshape(() if len(column) == 1 else shape)


def _numbers(shape: Shape) -> np.ndarray:
    """The entries of an array of this shape, by number."""
    return np.arange(math.prod(shape)).reshape(shape)


def _framed(index: np.ndarray, pads: Sequence[tuple[int, int]]) -> np.ndarray:
    """The numbers with -1 around them, (before, after) for each axis; negative ones crop."""
    index = np.pad(index, np.maximum(pads, 0), constant_values=-1)
    cropped = (
        slice(max(0, -before), size - max(0, -after))
        for (before, after), size in zip(pads, index.shape, strict=True)
    )
    return index[tuple(cropped)]


def _shaped(to: Writer, x: str, shape: Shape, last: bool = False) -> str:
    return to.add("Reshape", x, to.constant([-1, *shape]), last=last)


def _gathered(to: Writer, x: str, shape: Shape, index: np.ndarray) -> str:
    """Entries by number, -1 for a 0: ``(N, *index.shape)``."""
    size = math.prod(shape)
    flat = to.add("Reshape", x, to.constant([-1, size]))
    if (index < 0).any():
        flat = to.add("Pad", flat, to.constant([0, 0, 0, 1]), mode="constant")
    return to.add("Gather", flat, to.constant(np.where(index < 0, size, index)), axis=1)


def _along(to: Writer, x: str, shape: Shape, axis: int, matrix: Tensor, bias: Tensor | None = None) -> str:
    """A matrix times the vectors along one axis: a convolution whose channels are its entries."""
    order = np.moveaxis(_numbers(shape), axis, 0)
    rest = order.shape[1:]
    first = _shaped(to, _gathered(to, x, shape, order.reshape(-1)), (len(order), math.prod(rest), 1))
    kernel = to.constant(matrix[:, :, None, None])
    made = to.add("Conv", first, kernel, to.constant(np.zeros(len(matrix)) if bias is None else bias))
    back = np.moveaxis(_numbers((len(matrix), *rest)), 0, axis)
    return _gathered(to, made, back.shape, back.reshape(-1))
