"""The graph as an ONNX model whose constants are the graph's own, bit for bit, in float64.

Every layer becomes the operators that compute the same numbers and, at breakpoints and between equal entries
of a window, have the same derivative: a table of rules, one for each layer. Nothing is folded, rounded or
trained away, so that a reader who multiplies the file's numbers multiplies the graph's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import singledispatch
from importlib.metadata import version

import numpy as np
import onnx
from onnx import helper, numpy_helper
from torch import Tensor

from steadygaze.errors import SettingError
from steadygaze.network import layers, pieces
from steadygaze.network.graph import Graph
from steadygaze.network.joint import MatrixProduct, Multiply, Normalise, Softmax
from steadygaze.network.layers import AbstractLayer, Shape
from steadygaze.network.smooth import Smooth
from steadygaze.network.taking import Take
from steadygaze.network.transposed import TransposedConv

OPSET, IR_VERSION = 17, 8
# What one protocol buffer may hold, less room for all that is not constants.
_MOST_BYTES = 2**31 - 2**24


class Writer:
    """Collects the operators and constants of one model.

    Args:
        dtype: of all numbers, float64 or float32.
        batch: rows that the model takes: a number, or a name for any number.
        pooling: whether max pooling over regular windows may be the operator MaxPool.
    """

    def __init__(self, dtype: type = np.float64, batch: int | str = "N", pooling: bool = False) -> None:
        self.dtype, self.batch, self.pooling = np.dtype(dtype), batch, pooling
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._name = ""

    def begin(self, name: str) -> None:
        """What is added from here on makes the value of this name."""
        self._name, self._count = name, 0

    def add(self, operator: str, *inputs: str, last: bool = False, **attributes: object) -> str:
        """One more operator, whose output is named; with `last` it is the value that was begun."""
        output = self._name if last else self._part()
        node = helper.make_node(operator, list(inputs), [output], name=f"{output}:{operator}")
        node.attribute.extend(helper.make_attribute(name, attributes[name]) for name in sorted(attributes))
        self.nodes.append(node)
        return output

    def constant(self, values: object) -> str:
        """The name of a constant: whole numbers become int64, others the model's own type."""
        array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
        array = array.astype(np.int64 if array.dtype.kind in "iu" else self.dtype)
        name = self._part()
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
        return name

    def model(self, graph: Graph, source: str, target: str) -> onnx.ModelProto:
        """All of it as one model, checked."""
        kind = helper.np_dtype_to_tensor_dtype(self.dtype)
        size = sum(len(constant.raw_data) for constant in self.constants)
        if size > _MOST_BYTES:
            raise SettingError(
                f"the network has {size} bytes of constants, and one ONNX file holds at most {_MOST_BYTES}; "
                "leave the certificate or the export out"
            )
        made = helper.make_model(
            helper.make_graph(
                self.nodes,
                "steadygaze",
                [helper.make_tensor_value_info(source, kind, [self.batch, *graph.nodes[0].shape])],
                [helper.make_tensor_value_info(target, kind, [self.batch, *graph.nodes[-1].shape])],
                self.constants,
            ),
            producer_name="steadygaze",
            producer_version=version("steadygaze"),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )
        onnx.checker.check_model(made)
        return made

    def _part(self) -> str:
        self._count += 1
        return f"{self._name}.{self._count}"


def onnx_of(graph: Graph, writer: Writer, source: str = "pixels", target: str = "logits") -> onnx.ModelProto:
    """The graph as a model from `source` ``(N, *shape of node 0)`` to `target` ``(N, K)``.

    Raises SettingError where its constants do not fit into one file.
    """
    names = value_names(graph, source, target)
    for index, node in enumerate(graph.nodes[1:], start=1):
        writer.begin(names[index])
        inputs = tuple(names[read] for read in node.inputs)
        write(node.layer, writer, inputs, tuple(graph.nodes[read].shape for read in node.inputs))
    if graph.last == 0:
        writer.begin(target)
        writer.add("Identity", source, last=True)
    return writer.model(graph, source, target)


def value_names(graph: Graph, source: str = "pixels", target: str = "logits") -> tuple[str, ...]:
    """What the output of each node is called in the model."""
    inner = [f"{index}-{type(node.layer).__name__}" for index, node in enumerate(graph.nodes)]
    return (source, *inner[1:-1], target)


# -- the rules: each adds the operators of one layer, the last of which makes the value that was begun


@singledispatch
def write(layer: AbstractLayer, to: Writer, inputs: tuple[str, ...], shapes: tuple[Shape, ...]) -> None:
    """Add what computes the layer's value from the named inputs, whose shapes leave the batch out."""
    raise NotImplementedError(type(layer))


@write.register
def _(layer: layers.Dense, to: Writer, inputs: tuple[str, ...], shapes: tuple[Shape, ...]) -> None:
    if len(shapes[0]) == 1:
        to.add("Gemm", inputs[0], to.constant(layer.weight), to.constant(layer.bias), transB=1, last=True)
        return
    product = to.add("MatMul", inputs[0], to.constant(layer.weight.T))
    to.add("Add", product, to.constant(layer.bias), last=True)


@write.register
def _(layer: layers.Conv, to: Writer, inputs: tuple[str, ...], shapes: tuple[Shape, ...]) -> None:
    to.add(
        "Conv",
        inputs[0],
        to.constant(layer.weight),
        to.constant(layer.bias),
        kernel_shape=list(layer.weight.shape[2:]),
        strides=list(layer.stride),
        pads=[*layer.padding, *layer.padding],
        dilations=list(layer.dilation),
        group=layer.groups,
        last=True,
    )


@write.register
def _(layer: TransposedConv, to: Writer, inputs: tuple[str, ...], shapes: tuple[Shape, ...]) -> None:
    to.add(
        "ConvTranspose",
        inputs[0],
        to.constant(layer.weight),
        to.constant(layer.bias),
        kernel_shape=list(layer.weight.shape[2:]),
        strides=list(layer.stride),
        pads=[*layer.padding, *layer.padding],
        output_padding=list(layer.more),
        dilations=list(layer.dilation),
        group=layer.groups,
        last=True,
    )


@write.register
def _(layer: layers.ScaleShift, to: Writer, inputs: tuple[str, ...], shapes: tuple[Shape, ...]) -> None:
    scaled = to.add("Mul", inputs[0], to.constant(layer.scale))
    to.add("Add", scaled, to.constant(layer.shift), last=True)


@write.register
def _(layer: layers.AveragePool, to: Writer, inputs: tuple[str, ...], shapes: tuple[Shape, ...]) -> None:
    down = to.add("MatMul", to.constant(layer.rows), inputs[0])
    to.add("MatMul", down, to.constant(layer.columns.T), last=True)


@write.register
def _(layer: layers.Reshape, to: Writer, inputs: tuple[str, ...], shapes: tuple[Shape, ...]) -> None:
    to.add("Reshape", inputs[0], to.constant([-1, *layer.shape]), last=True)


@write.register
def _(layer: layers.Permute, to: Writer, inputs: tuple[str, ...], shapes: tuple[Shape, ...]) -> None:
    to.add("Transpose", inputs[0], perm=[0, *(axis + 1 for axis in layer.axes)], last=True)


@write.register
def _(layer: Take, to: Writer, inputs: tuple[str, ...], shapes: tuple[Shape, ...]) -> None:
    to.add("Gather", inputs[0], to.constant(layer.index), axis=layer.axis + 1, last=True)


@write.register
def _(layer: layers.Pad, to: Writer, inputs: tuple[str, ...], shapes: tuple[Shape, ...]) -> None:
    """What is cropped is sliced: not every runtime takes a padding below 0."""
    x, before, after = inputs[0], *np.array(layer.pads).T
    framed = bool((np.array(layer.pads) > 0).any())
    if min(*before, *after) < 0:
        starts, ends = np.maximum(0, -before), np.array(shapes[0]) - np.maximum(0, -after)
        axes = to.constant(np.arange(len(before)) + 1)
        x = to.add("Slice", x, to.constant(starts), to.constant(ends), axes, last=not framed)
    if framed or x == inputs[0]:
        pads = to.constant([0, *np.maximum(0, before), 0, *np.maximum(0, after)])
        to.add("Pad", x, pads, to.constant(float(layer.value)), mode="constant", last=True)


@write.register
def _(layer: layers.Add, to: Writer, inputs: tuple[str, ...], shapes: tuple[Shape, ...]) -> None:
    to.add("Add", *inputs, last=True)


@write.register
def _(layer: layers.Concat, to: Writer, inputs: tuple[str, ...], shapes: tuple[Shape, ...]) -> None:
    to.add("Concat", *inputs, axis=layer.axis + 1, last=True)


@write.register
def _(layer: pieces.PiecewiseLinear, to: Writer, inputs: tuple[str, ...], shapes: tuple[Shape, ...]) -> None:
    (x,) = inputs
    edges, slopes, offsets = layer.breakpoints.tolist(), layer.slopes, layer.offsets
    if layer.is_relu:
        to.add("Relu", x, last=True)
    elif edges == [0.0] and not offsets.any() and bool((slopes[1] == 1).all()):
        to.add("PRelu", x, to.constant(_in_shape(slopes[0], shapes[0])), last=True)
    elif _is_clip(layer):
        to.add("Clip", x, to.constant(edges[0]), to.constant(edges[1]), last=True)
    else:
        value = _line(to, x, slopes[0], offsets[0], shapes[0])
        for piece, edge in enumerate(edges, start=1):
            above = _line(to, x, slopes[piece], offsets[piece], shapes[0])
            where = to.add("Greater", x, to.constant(edge))
            value = to.add("Where", where, above, value, last=piece == len(edges))


@write.register
def _(layer: pieces.MaxPool, to: Writer, inputs: tuple[str, ...], shapes: tuple[Shape, ...]) -> None:
    regular = regular_windows(layer) if to.pooling else None
    if regular is not None:
        to.add("MaxPool", inputs[0], last=True, **regular)
        return
    flat = to.add("Reshape", inputs[0], to.constant([-1, math.prod(layer.shape)]))
    windows = to.add("Gather", flat, to.constant(filled_windows(layer)), axis=1)
    best = to.add("ReduceMax", windows, axes=[2], keepdims=0)
    to.add("Reshape", best, to.constant([-1, *layer.pooled]), last=True)


@write.register
def _(layer: Smooth, to: Writer, inputs: tuple[str, ...], shapes: tuple[Shape, ...]) -> None:
    if layer.function == "power":
        floor = layer.rule.floor
        known = inputs[0] if math.isinf(floor) else to.add("Max", inputs[0], to.constant(floor))
        to.add("Pow", known, to.constant(layer.numbers[0]), last=True)
    elif layer.function == "log":
        to.add("Log", to.add("Max", inputs[0], to.constant(layer.rule.floor)), last=True)
    else:
        _SMOOTH[layer.function](to, inputs[0])


@write.register
def _(layer: Multiply, to: Writer, inputs: tuple[str, ...], shapes: tuple[Shape, ...]) -> None:
    to.add("Mul", *inputs, last=True)


@write.register
def _(layer: MatrixProduct, to: Writer, inputs: tuple[str, ...], shapes: tuple[Shape, ...]) -> None:
    to.add("MatMul", *inputs, last=True)


@write.register
def _(layer: Softmax, to: Writer, inputs: tuple[str, ...], shapes: tuple[Shape, ...]) -> None:
    (scores,) = inputs
    if layer.kept is not None:
        scores = to.add("Add", scores, to.constant(np.where(layer.kept.cpu().numpy(), 0.0, -np.inf)))
    to.add("Softmax", scores, axis=-1, last=True)


@write.register
def _(layer: Normalise, to: Writer, inputs: tuple[str, ...], shapes: tuple[Shape, ...]) -> None:
    (away,) = inputs
    if layer.centred:
        away = to.add("Sub", away, to.add("ReduceMean", away, axes=[-1], keepdims=1))
    mean = to.add("ReduceMean", to.add("Mul", away, away), axes=[-1], keepdims=1)
    root = to.add("Sqrt", to.add("Add", mean, to.constant(layer.epsilon)))
    to.add("Div", away, root, last=True)


def filled_windows(layer: pieces.MaxPool) -> np.ndarray:
    """The windows without padding: its places repeat the entry before them, or the first that there is.

    So the largest entry, and which of several equal ones comes first, stay what they are.
    """
    windows = layer.windows.cpu().numpy().copy()
    for place in range(1, windows.shape[1]):
        padded = windows[:, place] < 0
        windows[padded, place] = windows[padded, place - 1]
    for place in reversed(range(windows.shape[1] - 1)):
        padded = windows[:, place] < 0
        windows[padded, place] = windows[padded, place + 1]
    return windows


def regular_windows(layer: pieces.MaxPool) -> Mapping[str, object] | None:
    """The attributes of MaxPool if its windows are the same all over ``(C, H, W)``, without padding."""
    windows = layer.windows.cpu().numpy()
    if len(layer.shape) != 3 or len(layer.pooled) != 3 or (windows < 0).any():
        return None
    channel, row, column = np.unravel_index(windows.reshape(*layer.pooled, -1), layer.shape)
    first = (row[0, 0, 0], column[0, 0, 0])
    kernel = [len(np.unique(places)) for places in first]
    strides = [
        int(places[0, 1 % places.shape[1]][0] - places[0, 0][0]) or 1
        for places in (row[:, :, 0], column[:, 0, :])
    ]
    grid = np.indices([*layer.pooled, *kernel])
    wanted = (grid[0], grid[1] * strides[0] + grid[3], grid[2] * strides[1] + grid[4])
    found = (
        places.reshape(grid.shape[1:]) if places.size == grid[0].size else None
        for places in (channel, row, column)
    )
    same = all(
        have is not None and np.array_equal(have, want) for have, want in zip(found, wanted, strict=True)
    )
    return {"kernel_shape": kernel, "strides": strides} if same else None


def _is_clip(layer: pieces.PiecewiseLinear) -> bool:
    edges = layer.breakpoints.tolist()
    if len(edges) != 2 or layer.slopes.shape[1] != 1 or layer.offsets.shape[1] != 1:
        return False
    offsets = [edges[0], 0.0, edges[1]]
    return layer.slopes[:, 0].tolist() == [0.0, 1.0, 0.0] and layer.offsets[:, 0].tolist() == offsets


def _in_shape(column: Tensor, shape: Shape) -> Tensor:
    """One number for all units, or one for each, in the shape that they have."""
    return column.reshape((1,) * len(shape) if len(column) == 1 else shape)


def _line(to: Writer, x: str, slope: Tensor, offset: Tensor, shape: Shape) -> str:
    product = to.add("Mul", x, to.constant(_in_shape(slope, shape)))
    return to.add("Add", product, to.constant(_in_shape(offset, shape)))


def _gelu(to: Writer, x: str) -> None:
    """x Φ(x) with Φ(x) = (1 + erf(x / √2)) / 2."""
    erf = to.add("Erf", to.add("Mul", x, to.constant(math.sqrt(0.5))))
    halved = to.add("Mul", to.add("Add", erf, to.constant(1.0)), to.constant(0.5))
    to.add("Mul", x, halved, last=True)


def _gelu_tanh(to: Writer, x: str) -> None:
    """x times the sigmoid of 2 √(2 / π) (x + 0.044715 x³)."""
    cubic = to.add("Mul", to.add("Mul", x, x), to.constant(0.044715))
    inner = to.add("Mul", x, to.add("Add", cubic, to.constant(1.0)))
    gate = to.add("Sigmoid", to.add("Mul", inner, to.constant(2 * math.sqrt(2 / math.pi))))
    to.add("Mul", x, gate, last=True)


# Runtimes have Elu, Softsign and HardSwish in single precision alone.


def _elu(to: Writer, x: str) -> None:
    """max(x, 0) + exp(min(x, 0)) - 1."""
    below = to.add("Exp", to.add("Min", x, to.constant(0.0)))
    to.add("Add", to.add("Relu", x), to.add("Sub", below, to.constant(1.0)), last=True)


def _softsign(to: Writer, x: str) -> None:
    to.add("Div", x, to.add("Add", to.add("Abs", x), to.constant(1.0)), last=True)


def _hard_swish(to: Writer, x: str) -> None:
    """x min(max(x + 3, 0), 6) / 6."""
    raised = to.add("Relu", to.add("Add", x, to.constant(3.0)))
    gate = to.add("Div", to.add("Min", raised, to.constant(6.0)), to.constant(6.0))
    to.add("Mul", x, gate, last=True)


def _mish(to: Writer, x: str) -> None:
    to.add("Mul", x, to.add("Tanh", to.add("Softplus", x)), last=True)


def _operator(name: str) -> Callable[[Writer, str], None]:
    def add(to: Writer, x: str) -> None:
        to.add(name, x, last=True)

    return add


def _silu(to: Writer, x: str) -> None:
    to.add("Mul", x, to.add("Sigmoid", x), last=True)


_SMOOTH: Mapping[str, Callable[[Writer, str], None]] = {
    "sigmoid": _operator("Sigmoid"),
    "tanh": _operator("Tanh"),
    "erf": _operator("Erf"),
    "atan": _operator("Atan"),
    "asinh": _operator("Asinh"),
    "sin": _operator("Sin"),
    "cos": _operator("Cos"),
    "softplus": _operator("Softplus"),
    "silu": _silu,
    "gelu": _gelu,
    "gelu-tanh": _gelu_tanh,
    "elu": _elu,
    "softsign": _softsign,
    "hard-swish": _hard_swish,
    "mish": _mish,
    "exp": _operator("Exp"),
}
