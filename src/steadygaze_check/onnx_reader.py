"""Read network.onnx: a short list of operators, every attribute of each looked at, and all else refused."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from steadygaze_check.folder import BadCertificate
from steadygaze_check.network import (
    Along,
    Clip,
    Convolution,
    Dense,
    Diagonal,
    Join,
    Largest,
    Node,
    Operation,
    Rectifier,
    Select,
    Sum,
)

_LARGEST_MATRIX, _MOST_ENTRIES = 1 << 27, 1 << 22


@dataclass(frozen=True)
class _Tensor:
    """What a name of the graph stands for: a node and the shape of one image's entries."""

    node: int
    shape: tuple[int, ...]


class Network:
    """The operations in order. Node 0 is the image before the clip, `pixels` what is handed to the
    classifier.

    Raises BadCertificate for operators, attributes and shapes that this checker does not know.
    """

    def __init__(
        self, data: bytes, shape: tuple[int, ...], classes: int, clip: tuple[float, float] | None
    ) -> None:
        self.nodes: list[Node] = [Node(None, (), math.prod(shape))]
        self._known: dict[str, _Tensor | np.ndarray] = {}
        self.pixels = 0
        if clip is not None:
            self.pixels = self._add(Clip(*clip), 0, entries=self.nodes[0].entries)
        graph = _parsed(data)
        constants = {each.name for each in graph.initializer}
        inputs = [each for each in graph.input if each.name not in constants]
        _demand(len(inputs) == 1 and len(graph.output) == 1, "the network must have one input and one output")
        dims = [d.dim_value for d in inputs[0].type.tensor_type.shape.dim][1:]
        _demand(tuple(dims) == shape, f"the network takes {dims}, the image is {list(shape)}")
        for each in graph.initializer:
            self._known[each.name] = _constant(each)
        self._known[inputs[0].name] = _Tensor(self.pixels, shape)
        for node in graph.node:
            _demand(
                len(node.output) == 1 and node.domain in ("", "ai.onnx"),
                f"operator {node.op_type} is not known",
            )
            attributes = {a.name: _attribute(a) for a in node.attribute}
            rule = getattr(self, _OPERATORS.get(node.op_type, ""), None)
            if rule is None or not node.op_type:
                raise BadCertificate(
                    f"operator {node.op_type} is not one that this checker proves anything of"
                )
            arguments = [self._known.get(name) if name else None for name in node.input]
            _demand(
                not [n for n in node.input if n and n not in self._known],
                f"{node.op_type} reads an unknown name",
            )
            try:
                self._known[node.output[0]] = rule(attributes, *arguments)
            except (TypeError, ValueError, AttributeError, IndexError, OverflowError):
                raise BadCertificate(f"{node.op_type} has other arguments than the format says") from None
            _demand(
                not attributes, f"{node.op_type} has attributes {sorted(attributes)}, which are not known"
            )
        last = self._known.get(graph.output[0].name)
        if not isinstance(last, _Tensor) or math.prod(last.shape) != classes:
            raise BadCertificate(f"the network does not end in {classes} logits")
        self.last = last.node

    def _add(self, operation: Operation, *inputs: int, entries: int) -> int:
        _demand(entries <= _MOST_ENTRIES, f"an operator makes {entries} numbers, {_MOST_ENTRIES} are allowed")
        self.nodes.append(Node(operation, inputs, entries))
        return len(self.nodes) - 1

    def _made(self, operation: Operation, x: _Tensor, shape: tuple[int, ...]) -> _Tensor:
        return _Tensor(self._add(operation, x.node, entries=math.prod(shape)), shape)

    # -- one method for each operator; each takes what it reads out of the attributes

    def _gemm(self, attributes: dict[str, Any], x: Any, weight: Any, bias: Any = None) -> _Tensor:
        unusual = attributes.pop("alpha", 1.0), attributes.pop("beta", 1.0), attributes.pop("transA", 0)
        _demand(unusual == (1.0, 1.0, 0), "Gemm has alpha, beta or transA")
        matrix = _array(weight, 2)
        matrix = matrix if attributes.pop("transB", 0) else matrix.T
        x = _tensor(x, 1)
        _demand(matrix.shape[1] == x.shape[0], f"Gemm multiplies {x.shape} by {matrix.shape}")
        bias = np.zeros(len(matrix)) if bias is None else _fits(bias, (len(matrix),))
        return self._made(Dense(np.ascontiguousarray(matrix), bias), x, (len(matrix),))

    def _matmul(self, attributes: dict[str, Any], left: Any, right: Any) -> _Tensor:
        del attributes
        x, other = (left, right) if isinstance(left, _Tensor) else (right, left)
        x, matrix = _tensor(x), np.asarray(other)
        _demand(x is not other and isinstance(other, np.ndarray), "MatMul needs one constant")
        matrix = (
            matrix.reshape(matrix.shape[matrix.ndim - 2 :]) if math.prod(matrix.shape[:-2]) == 1 else matrix
        )
        _demand(matrix.ndim == 2 and matrix.dtype == np.float64, "MatMul needs a constant matrix of doubles")
        if x is left:
            _demand(x.shape[-1] == len(matrix), f"MatMul multiplies {x.shape} by {matrix.shape}")
            made = Along(np.ascontiguousarray(matrix.T), math.prod(x.shape[:-1]), 1)
            return self._made(made, x, (*x.shape[:-1], matrix.shape[1]))
        fits = len(x.shape) >= 2 and x.shape[-2] == matrix.shape[1]
        _demand(fits, f"MatMul multiplies {matrix.shape} by {x.shape}")
        made = Along(matrix, math.prod(x.shape[:-2]), x.shape[-1])
        return self._made(made, x, (*x.shape[:-2], len(matrix), x.shape[-1]))

    def _conv(self, attributes: dict[str, Any], x: Any, kernel: Any, bias: Any = None) -> _Tensor:
        x, kernel = _tensor(x, 3), _array(kernel, 4)
        outs, own, h, w = kernel.shape
        groups = attributes.pop("group", 1)
        strides, dilations = attributes.pop("strides", [1, 1]), attributes.pop("dilations", [1, 1])
        pads = attributes.pop("pads", [0, 0, 0, 0])
        _demand(attributes.pop("auto_pad", b"NOTSET") == b"NOTSET", "Conv has auto_pad")
        _demand(
            attributes.pop("kernel_shape", [h, w]) == [h, w],
            "Conv says another kernel_shape than its kernel has",
        )
        sound = (
            len(strides) == len(dilations) == 2 and len(pads) == 4 and min(*strides, *dilations, groups) >= 1
        )
        sound = sound and min(pads) >= 0 and max(*strides, *dilations, *pads) < 1 << 12
        _demand(sound and outs % groups == 0 and own * groups == x.shape[0], "Conv has impossible sizes")
        values = np.zeros(outs) if bias is None else _fits(bias, (outs,))
        made = Convolution(kernel, values, x.shape, tuple(strides), tuple(pads), tuple(dilations), groups)
        _demand(min(made.out_shape) >= 1, "Conv leaves nothing")
        return self._made(made, x, made.out_shape)

    def _plus(self, attributes: dict[str, Any], x: Any, y: Any) -> _Tensor:
        del attributes
        if isinstance(x, _Tensor) and isinstance(y, _Tensor):
            _demand(x.shape == y.shape, f"Add takes {x.shape} and {y.shape}")
            return _Tensor(self._add(Sum(), x.node, y.node, entries=math.prod(x.shape)), x.shape)
        x, constant = (x, y) if isinstance(x, _Tensor) else (y, x)
        x = _tensor(x)
        return self._made(Diagonal(np.ones(math.prod(x.shape)), _fits(constant, x.shape).ravel()), x, x.shape)

    def _mul(self, attributes: dict[str, Any], x: Any, y: Any) -> _Tensor:
        del attributes
        x, constant = (x, y) if isinstance(x, _Tensor) else (y, x)
        x = _tensor(x)
        factor = _fits(constant, x.shape).ravel()
        return self._made(Diagonal(factor, np.zeros(len(factor))), x, x.shape)

    def _relu(self, attributes: dict[str, Any], x: Any) -> _Tensor:
        del attributes
        x = _tensor(x)
        return self._made(Rectifier(np.zeros(math.prod(x.shape))), x, x.shape)

    def _prelu(self, attributes: dict[str, Any], x: Any, slope: Any) -> _Tensor:
        del attributes
        x = _tensor(x)
        return self._made(Rectifier(_fits(slope, x.shape).ravel()), x, x.shape)

    def _clip(self, attributes: dict[str, Any], x: Any, low: Any, high: Any) -> _Tensor:
        del attributes
        x, low, high = _tensor(x), _fits(low, ()), _fits(high, ())
        _demand(low < high, "Clip has nothing between its bounds")
        return self._made(Clip(float(low), float(high)), x, x.shape)

    def _identity(self, attributes: dict[str, Any], x: Any) -> _Tensor:
        del attributes
        return _tensor(x)

    def _flatten(self, attributes: dict[str, Any], x: Any) -> _Tensor:
        x = _tensor(x)
        _demand(attributes.pop("axis", 1) == 1, "Flatten does not keep the batch")
        return _Tensor(x.node, (math.prod(x.shape),))

    def _reshape(self, attributes: dict[str, Any], x: Any, target: Any) -> _Tensor:
        x = _tensor(x)
        _demand(attributes.pop("allowzero", 0) == 0, "Reshape has allowzero")
        _demand(
            isinstance(target, np.ndarray) and target.dtype == np.int64 and target.ndim == 1,
            "Reshape needs a shape",
        )
        first, *rest = target.tolist()
        keeps = first in (-1, 0, 1) and rest.count(-1) <= (first != -1)
        keeps = keeps and min(rest, default=1) >= -1 and 0 not in rest
        _demand(keeps, f"Reshape to {target.tolist()} does not keep the batch")
        known = math.prod(size for size in rest if size > 0)
        rest = [math.prod(x.shape) // known if size == -1 else size for size in rest]
        _demand(math.prod(rest) == math.prod(x.shape), f"Reshape takes {x.shape} to {rest}")
        return _Tensor(x.node, tuple(rest))

    def _transpose(self, attributes: dict[str, Any], x: Any) -> _Tensor:
        x = _tensor(x)
        order = attributes.pop("perm", None)
        fine = order is not None and order[0] == 0 and sorted(order) == list(range(len(x.shape) + 1))
        _demand(fine, f"Transpose by {order} does not keep the batch")
        index = _numbers(x).transpose([axis - 1 for axis in order[1:]])
        return self._selected(x, index, 0.0)

    def _pad(self, attributes: dict[str, Any], x: Any, pads: Any, value: Any = None) -> _Tensor:
        x = _tensor(x)
        _demand(attributes.pop("mode", b"constant") == b"constant", "Pad is not constant")
        fine = isinstance(pads, np.ndarray) and pads.dtype == np.int64 and pads.size == 2 * len(x.shape) + 2
        _demand(fine and pads.min() >= 0 and pads.max() < 1 << 12, "Pad has impossible sizes")
        both = pads.reshape(2, -1).T
        _demand(not both[0].any(), "Pad does not keep the batch")
        index = np.pad(_numbers(x), [tuple(row) for row in both[1:].tolist()], constant_values=-1)
        return self._selected(x, index, 0.0 if value is None else float(_fits(value, ())))

    def _gather(self, attributes: dict[str, Any], x: Any, index: Any) -> _Tensor:
        x = _tensor(x, 1)
        _demand(attributes.pop("axis", 0) == 1, "Gather takes another axis than 1")
        fine = isinstance(index, np.ndarray) and index.dtype == np.int64 and index.size < _LARGEST_MATRIX
        _demand(fine and index.min() >= 0 and index.max() < x.shape[0], "Gather has numbers out of range")
        return self._selected(x, index, 0.0)

    def _reducemax(self, attributes: dict[str, Any], x: Any, axes: Any = None) -> _Tensor:
        x = _tensor(x)
        axes = attributes.pop("axes", None) if axes is None else axes.tolist()
        _demand(attributes.pop("keepdims", 1) == 0, "ReduceMax keeps its axis")
        _demand(attributes.pop("noop_with_empty_axes", 0) == 0, "ReduceMax has noop_with_empty_axes")
        _demand(
            axes in ([-1], [len(x.shape)]) and len(x.shape) >= 2, "ReduceMax takes another axis than the last"
        )
        return self._largest(x)

    def _concat(self, attributes: dict[str, Any], *parts: Any) -> _Tensor:
        parts = [_tensor(part) for part in parts]
        axis = attributes.pop("axis", 0) - 1
        _demand(0 <= axis < len(parts[0].shape), "Concat does not keep the batch")
        starts = np.cumsum([0] + [math.prod(part.shape) for part in parts])
        same = {(*part.shape[:axis], *part.shape[axis + 1 :]) for part in parts}
        _demand(
            len(same) == 1 and len({len(part.shape) for part in parts}) == 1, "Concat takes different shapes"
        )
        order = np.concatenate(
            [_numbers(part) + start for part, start in zip(parts, starts, strict=False)], axis=axis
        )
        nodes = [part.node for part in parts]
        return _Tensor(self._add(Join(order.ravel()), *nodes, entries=order.size), order.shape)

    # -- what several operators need

    def _selected(self, x: _Tensor, index: np.ndarray, constant: float) -> _Tensor:
        flat = index.ravel()
        bias = np.where(flat < 0, constant, 0.0)
        return self._made(Select(flat, bias, math.prod(x.shape)), x, index.shape)

    def _largest(self, x: _Tensor) -> _Tensor:
        """The largest of windows; of rectified numbers, the largest of 0 and of the numbers before.

        The derivative is 0 where none is above 0, and elsewhere that of the first of the largest, as it was.
        """
        node, shape = self.nodes[x.node], x.shape[:-1]
        if isinstance(node.operation, Select) and (node.operation.index >= 0).all():
            before = self.nodes[node.inputs[0]]
            if isinstance(before.operation, Rectifier) and not before.operation.slope.any():
                windows = node.operation.index.reshape(-1, x.shape[-1])
                with_zero = np.concatenate([np.full((len(windows), 1), -1), windows], axis=1)
                source = _Tensor(before.inputs[0], (before.entries,))
                x = self._selected(source, with_zero.reshape(*shape, -1), 0.0)
        return self._made(Largest(x.shape[-1]), x, shape)


_OPERATORS = {
    name: f"_{name.lower()}"
    for name in (
        *("Gemm", "MatMul", "Conv", "Mul", "Relu", "PRelu", "Clip", "Reshape", "Flatten", "Transpose"),
        *("Pad", "Gather", "ReduceMax", "Concat", "Identity"),
    )
} | {"Add": "_plus"}


def _parsed(data: bytes) -> Any:
    try:
        model = onnx.load_model_from_string(data)
    except Exception:  # protobuf has many ways to say that bytes are no message
        raise BadCertificate("network.onnx is not an ONNX file") from None
    versions = [each.version for each in model.opset_import if each.domain in ("", "ai.onnx")]
    _demand(len(versions) == 1 and 13 <= versions[0] <= 30, f"network.onnx has opset {versions}")
    _demand(
        not model.graph.sparse_initializer and not model.functions,
        "network.onnx has functions or sparse numbers",
    )
    return model.graph


def _constant(each: Any) -> np.ndarray:
    _demand(
        each.data_location == onnx.TensorProto.DEFAULT and not each.external_data,
        "network.onnx reads other files",
    )
    _demand(
        each.data_type in (onnx.TensorProto.DOUBLE, onnx.TensorProto.INT64),
        f"{each.name:.60} is not of doubles",
    )
    _demand(all(size >= 0 for size in each.dims), f"{each.name:.60} has an impossible shape")
    given = len(each.raw_data) // 8 or len(each.double_data) or len(each.int64_data)
    _demand(
        given == math.prod(each.dims) < _LARGEST_MATRIX,
        f"{each.name:.60} has other than {list(each.dims)} numbers",
    )
    try:
        array = numpy_helper.to_array(each)
    except (ValueError, TypeError):
        raise BadCertificate(f"{each.name:.60} cannot be read") from None
    sound = array.dtype != np.float64 or (np.isfinite(array).all() and (np.abs(array) < 1e100).all())
    _demand(array.size > 0 and bool(sound), f"{each.name:.60} is empty, or holds numbers that are not finite")
    return array


def _attribute(attribute: Any) -> Any:
    if attribute.type == onnx.AttributeProto.TENSOR:
        return _constant(attribute.t)
    _demand(attribute.type in (1, 2, 3, 6, 7), f"attribute {attribute.name:.60} is of an unknown type")
    value = onnx.helper.get_attribute_value(attribute)
    return list(value) if attribute.type in (6, 7) else value


def _tensor(value: Any, axes: int | None = None) -> _Tensor:
    if not isinstance(value, _Tensor):
        raise BadCertificate("an operator has constants where it needs what depends on the image")
    _demand(axes is None or len(value.shape) == axes, f"an operator with {axes} axes takes {value.shape}")
    return value


def _array(value: Any, axes: int) -> np.ndarray:
    fine = isinstance(value, np.ndarray) and value.ndim == axes and value.dtype == np.float64
    _demand(fine, f"an operator needs a constant of doubles with {axes} axes")
    return value


def _fits(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Constants spread over one image's entries; a leading axis for the batch, of length 1, may be there."""
    _demand(
        isinstance(value, np.ndarray) and value.dtype == np.float64, "an operator needs a constant of doubles"
    )
    values = value
    while values.ndim > len(shape) and values.shape[0] == 1:
        values = values[0]
    try:
        return np.broadcast_to(values, shape).copy()
    except ValueError:
        raise BadCertificate(f"constants of shape {value.shape} do not fit {shape}") from None


def _numbers(x: _Tensor) -> np.ndarray:
    return np.arange(math.prod(x.shape)).reshape(x.shape)


def _demand(fine: Any, sentence: str) -> None:
    if not fine:
        raise BadCertificate(sentence)
