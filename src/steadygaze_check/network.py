"""network.onnx as a list of operations on rows of numbers ``(B, N)``; what is not known here is refused.

There are four: affine maps, sums of two nodes, rectifiers, and the largest of windows. A clip is two
rectifiers: low + max(x - low, 0) - max(x - high, 0).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from steadygaze_check.arithmetic import UP, Dyadic, norms, spectral_bound
from steadygaze_check.folder import BadCertificate, demand

_LARGEST_MATRIX, _MOST_ENTRIES, _PATCHES = 1 << 27, 1 << 22, 1 << 23
Rows = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Affine:
    """``A x + b``.

    Attributes:
        weight, bias: the numbers that make A, and b.
        apply: ``(rows, weight)`` to ``rows A^T`` where A has these entries, doubles or whole numbers.
        transpose: rows to ``rows A``.
        lift, size: at least |A|_2 and | |A| |_2 (not of a `matrix`, of which parts are used).
        reach: ``(M,)``, at least the Euclidean norm of each row of A.
        terms: how many products go into an entry of A x at most, and into one of A^T g.
        entrywise: ``e |A|^T`` for errors e, where rows of A have few entries; else None.
        matrix: A, if the operation was given as one.
    """

    weight: np.ndarray
    bias: np.ndarray
    apply: Callable[[np.ndarray, np.ndarray], np.ndarray]
    transpose: Rows
    lift: float
    size: float
    reach: np.ndarray
    terms: tuple[int, int]
    entrywise: Rows | None = None
    matrix: np.ndarray | None = None

    @cached_property
    def _exact(self) -> tuple[Dyadic, Dyadic]:
        return Dyadic.of(self.weight), Dyadic.of(self.bias)

    def exact(self, rows: Dyadic, constant: np.ndarray) -> Dyadic:
        """The same without rounding; the bias is added to rows where `constant` (B,) is 1 rather than 0."""
        weight, bias = self._exact
        product = Dyadic(self.apply(rows.whole, weight.whole), rows.exponent + weight.exponent)
        return product + Dyadic(constant[:, None] * bias.whole, bias.exponent)


def dense(matrix: np.ndarray, bias: np.ndarray) -> Affine:
    """A matrix ``(M, N)``."""
    terms = (matrix.shape[1], matrix.shape[0])
    times, back = (lambda rows, weight: rows @ weight.T), (lambda rows: rows @ matrix)
    return Affine(matrix, bias, times, back, np.inf, np.inf, norms(matrix), terms, matrix=matrix)


def diagonal(factor: np.ndarray, bias: np.ndarray) -> Affine:
    """Each entry times its own number, plus its own number."""
    most, size = float(np.abs(factor).max()), np.abs(factor)
    times, back = (lambda rows, weight: rows * weight), (lambda rows: rows * factor)
    return Affine(factor, bias, times, back, most, most, size, (1, 1), lambda e: e * size)


def select(index: np.ndarray, bias: np.ndarray, entries: int) -> Affine:
    """Entries by number, with repetition, plus a number each; -1 stands for none."""
    kept = index >= 0
    often = int(np.bincount(index[kept], minlength=1).max())

    def apply(rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
        out = rows[:, index] * weight[0]
        out[:, ~kept] = 0
        return out

    def transpose(rows: np.ndarray) -> np.ndarray:
        out = np.zeros((entries, len(rows)))
        if often <= 1:
            out[index[kept]] = rows.T[kept]
        else:
            np.add.at(out, index[kept], rows.T[kept])
        return out.T

    most, one = math.sqrt(often) * UP, np.ones(1)
    reach = kept.astype(np.float64)
    return Affine(one, bias, apply, transpose, most, most, reach, (1, often), lambda e: apply(e, one))


def convolution(kernel: np.ndarray, bias: np.ndarray, index: np.ndarray, entries: int) -> Affine:
    """Kernels ``(O, K)`` for patches ``index`` (groups, K / taps, taps, places) of the entries, -1 for a 0.

    |A x| <= |kernels| |patches of x| <= |kernels| sqrt(overlap) |x|, if an entry is in so many patches.
    """
    groups, channels, taps, places = index.shape
    each, terms = len(kernel) // groups, channels * taps
    overlap = float(np.bincount(index[index >= 0], minlength=1).max())

    def apply(rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
        batch = max(1, _PATCHES // index.size)
        if len(rows) > batch:
            return np.concatenate([apply(rows[k : k + batch], weight) for k in range(0, len(rows), batch)])
        with_zero = np.concatenate([rows, np.zeros((len(rows), 1), rows.dtype)], axis=1)
        patches = with_zero[:, index.reshape(groups, terms, places)]
        return (weight.reshape(groups, each, terms) @ patches).reshape(len(rows), -1)

    def transpose(rows: np.ndarray) -> np.ndarray:
        back = kernel.reshape(groups, each, terms).transpose(0, 2, 1)
        patches = (back @ rows.reshape(len(rows), groups, each, places)).reshape(-1, *index.shape)
        out = np.zeros((len(rows), entries + 1))
        for tap in range(taps):  # no entry is twice in one place's patch, nor at one tap of two places
            out[:, index[:, :, tap]] += patches[:, :, :, tap]
        return out[:, :entries]

    def most(matrix: np.ndarray) -> float:
        parts = matrix.reshape(groups, each, terms)
        return max(spectral_bound(part) for part in parts) * math.sqrt(overlap) * UP

    lift, size, reach = most(kernel), most(np.abs(kernel)), np.repeat(norms(kernel), places)
    return Affine(kernel, np.repeat(bias, places), apply, transpose, lift, size, reach, (terms, each * taps))


@dataclass(frozen=True, eq=False)
class Sum:
    """Two nodes added, entry by entry."""


@dataclass(frozen=True, eq=False)
class Rectifier:
    """``x`` above 0 and ``slope * x`` below; the derivative at 0 is the slope (0 for ReLU), or left open."""

    slope: np.ndarray
    open_at_zero: bool = False


@dataclass(frozen=True, eq=False)
class Largest:
    """The largest of each `width` entries in a row; of equal ones the first."""

    width: int


@dataclass(frozen=True, eq=False)
class Node:
    """An operation, the numbers of the nodes that it reads, and its number of entries."""

    operation: Affine | Sum | Rectifier | Largest | None
    inputs: tuple[int, ...]
    entries: int


@dataclass(frozen=True)
class _Tensor:
    """What a name of the graph stands for: a node and the shape of one image's entries."""

    node: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def numbers(self) -> np.ndarray:
        return np.arange(self.size).reshape(self.shape)


class Network:
    """The operations in order. Node 0 is the image before the clip, `pixels` what the classifier is handed.

    `last` are the logits, and `needed` the nodes that they are made of.

    Raises BadCertificate for operators, attributes and shapes that this checker does not know.
    """

    def __init__(self, data: bytes, shape: tuple[int, ...], classes: int, clip: list[float] | None) -> None:
        self._index: dict[int, np.ndarray] = {}  # what nodes select that are no more than a selection
        self.nodes: list[Node] = [Node(None, (), math.prod(shape))]
        image = _Tensor(0, shape)
        image = image if clip is None else self._clipped(image, float(clip[0]), float(clip[1]))
        self.pixels = image.node
        graph = _parsed(data)
        known: dict[str, _Tensor | np.ndarray] = {each.name: _constant(each) for each in graph.initializer}
        inputs = [each for each in graph.input if each.name not in known]
        demand(len(inputs) == 1 and len(graph.output) == 1, "the network has not one input and one output")
        dims = [d.dim_value for d in inputs[0].type.tensor_type.shape.dim][1:]
        demand(tuple(dims) == shape, f"the network takes {dims}, the image is {list(shape)}")
        known[inputs[0].name] = image
        for node in graph.node:
            rule = _OPERATORS.get(node.op_type)
            if rule is None or node.domain not in ("", "ai.onnx") or len(node.output) != 1:
                raise BadCertificate(f"operator {node.op_type:.60} is not one that this checker knows")
            attributes = {a.name: _attribute(a) for a in node.attribute}
            unknown = [name for name in node.input if name and name not in known]
            demand(not unknown, f"{node.op_type} reads an unknown name")
            try:
                made = rule(self, attributes, *(known[n] if n else None for n in node.input))
            except (TypeError, ValueError, AttributeError, IndexError, OverflowError):
                raise BadCertificate(f"{node.op_type} has other arguments than the format says") from None
            demand(not attributes, f"{node.op_type} has attributes {sorted(attributes)}, which are not known")
            known[node.output[0]] = made
        last = known.get(graph.output[0].name)
        if not isinstance(last, _Tensor) or last.size != classes:
            raise BadCertificate(f"the network does not end in {classes} logits")
        self.last = last.node
        self.needed = {last.node}
        for number in range(last.node, 0, -1):
            self.needed |= set(self.nodes[number].inputs) if number in self.needed else set()

    def _made(self, operation: Affine | Rectifier | Largest, x: _Tensor, shape: tuple[int, ...]) -> _Tensor:
        entries = math.prod(shape)
        demand(entries <= _MOST_ENTRIES, f"an operator makes {entries} numbers, {_MOST_ENTRIES} are allowed")
        self.nodes.append(Node(operation, (x.node,), entries))
        return _Tensor(len(self.nodes) - 1, shape)

    # -- one method for each operator; each takes what it reads out of the attributes

    def _gemm(self, attributes: dict[str, Any], x: Any, weight: Any, bias: Any = None) -> _Tensor:
        unusual = attributes.pop("alpha", 1.0), attributes.pop("beta", 1.0), attributes.pop("transA", 0)
        demand(unusual == (1.0, 1.0, 0), "Gemm has alpha, beta or transA")
        matrix = _array(weight, 2)
        matrix = matrix if attributes.pop("transB", 0) else matrix.T
        demand(_tensor(x).shape == matrix.shape[1:], f"Gemm multiplies {x.shape} by {matrix.shape}")
        bias = np.zeros(len(matrix)) if bias is None else _fits(bias, (len(matrix),))
        return self._made(dense(np.ascontiguousarray(matrix), bias), x, (len(matrix),))

    def _matmul(self, _: dict[str, Any], left: Any, right: Any) -> _Tensor:
        x = _tensor(left if isinstance(left, _Tensor) else right)
        constant = right if x is left else left
        if not isinstance(constant, np.ndarray) or constant.ndim < 2:
            raise BadCertificate("MatMul needs one constant")
        matrix = _array(constant.reshape(constant.shape[-2:]), 2)
        matrix = matrix.T if x is left else matrix
        axis = len(x.shape) - (1 if x is left else 2)
        demand(axis >= 0 and x.shape[axis] == matrix.shape[1], f"MatMul multiplies {x.shape} by a misfit")
        before, after = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
        shape = (*x.shape[:axis], len(matrix), *x.shape[axis + 1 :])
        demand(math.prod(shape) * x.size < 1 << 24, "MatMul is too large")
        whole = np.kron(np.eye(before), np.kron(matrix, np.eye(after)))
        return self._made(dense(whole, np.zeros(len(whole))), x, shape)

    def _conv(self, attributes: dict[str, Any], x: Any, kernel: Any, bias: Any = None) -> _Tensor:
        x, kernel = _tensor(x), _array(kernel, 4)
        outs, own, h, w = kernel.shape
        groups, pads = attributes.pop("group", 1), attributes.pop("pads", [0, 0, 0, 0])
        strides, dilations = attributes.pop("strides", [1, 1]), attributes.pop("dilations", [1, 1])
        demand(attributes.pop("auto_pad", b"NOTSET") == b"NOTSET", "Conv has auto_pad")
        demand(attributes.pop("kernel_shape", [h, w]) == [h, w], "Conv says another kernel_shape")
        sound = len(strides) == len(dilations) == 2 and len(pads) == 4 and len(x.shape) == 3
        sound = sound and min(*strides, *dilations, groups) >= 1 and min(pads) >= 0
        sound = sound and max(*strides, *dilations, *pads) < 1 << 12
        demand(sound and outs % groups == 0 and own * groups == x.shape[0], "Conv has impossible sizes")
        far = [(size - 1) * step + 1 for size, step in zip((h, w), dilations, strict=True)]
        room = np.pad(x.numbers, [(0, 0), (pads[0], pads[2]), (pads[1], pads[3])], constant_values=-1)
        demand(room.shape[1] >= far[0] and room.shape[2] >= far[1], "Conv leaves nothing")
        index = np.lib.stride_tricks.sliding_window_view(room, far, axis=(1, 2))
        index = index[:, :: strides[0], :: strides[1], :: dilations[0], :: dilations[1]]
        shape = (outs, *index.shape[1:3])
        index = index.transpose(0, 3, 4, 1, 2).reshape(groups, own, h * w, -1)
        values = np.zeros(outs) if bias is None else _fits(bias, (outs,))
        return self._made(convolution(kernel.reshape(outs, -1), values, index, x.size), x, shape)

    def _plus(self, _: dict[str, Any], x: Any, y: Any) -> _Tensor:
        if isinstance(x, _Tensor) and isinstance(y, _Tensor):
            demand(x.shape == y.shape, f"Add takes {x.shape} and {y.shape}")
            self.nodes.append(Node(Sum(), (x.node, y.node), x.size))
            return _Tensor(len(self.nodes) - 1, x.shape)
        x, constant = (x, y) if isinstance(x, _Tensor) else (_tensor(y), x)
        return self._made(diagonal(np.ones(x.size), _fits(constant, x.shape).ravel()), x, x.shape)

    def _times(self, _: dict[str, Any], x: Any, y: Any) -> _Tensor:
        x, constant = (x, y) if isinstance(x, _Tensor) else (_tensor(y), x)
        return self._made(diagonal(_fits(constant, x.shape).ravel(), np.zeros(x.size)), x, x.shape)

    def _relu(self, _: dict[str, Any], x: Any, slope: Any = None) -> _Tensor:
        slope = np.zeros(1) if slope is None else slope
        return self._made(Rectifier(_fits(slope, _tensor(x).shape).ravel()), x, x.shape)

    def _clip(self, _: dict[str, Any], x: Any, low: Any, high: Any) -> _Tensor:
        return self._clipped(_tensor(x), float(_fits(low, ())), float(_fits(high, ())))

    def _identity(self, _: dict[str, Any], x: Any) -> _Tensor:
        return _tensor(x)

    def _flatten(self, attributes: dict[str, Any], x: Any) -> _Tensor:
        demand(attributes.pop("axis", 1) == 1, "Flatten does not keep the batch")
        return _Tensor(_tensor(x).node, (x.size,))

    def _reshape(self, attributes: dict[str, Any], x: Any, target: Any) -> _Tensor:
        demand(attributes.pop("allowzero", 0) == 0, "Reshape has allowzero")
        demand(isinstance(target, np.ndarray) and target.dtype == np.int64, "Reshape needs a shape")
        first, *rest = target.tolist()
        keeps = first in (-1, 0, 1) and rest.count(-1) <= (first != -1) and 0 not in rest
        demand(keeps and min(rest, default=1) >= -1, f"Reshape to {target.tolist()} does not keep the batch")
        known = math.prod(size for size in rest if size > 0)
        shape = tuple(_tensor(x).size // known if size == -1 else size for size in rest)
        demand(math.prod(shape) == x.size, f"Reshape takes {x.shape} to {shape}")
        return _Tensor(x.node, shape)

    def _transpose(self, attributes: dict[str, Any], x: Any) -> _Tensor:
        order = attributes.pop("perm", [])
        fine = order[:1] == [0] and sorted(order) == list(range(len(_tensor(x).shape) + 1))
        demand(fine, f"Transpose by {order} does not keep the batch")
        return self._selected(x, x.numbers.transpose([axis - 1 for axis in order[1:]]))

    def _pad(self, attributes: dict[str, Any], x: Any, pads: Any, value: Any = None) -> _Tensor:
        demand(attributes.pop("mode", b"constant") == b"constant", "Pad is not constant")
        fine = pads.dtype == np.int64 and pads.size == 2 * len(_tensor(x).shape) + 2
        demand(fine and pads.min() >= 0 and pads.max() < 1 << 12, "Pad has impossible sizes")
        both = pads.reshape(2, -1).T
        demand(not both[0].any(), "Pad does not keep the batch")
        index = np.pad(x.numbers, [tuple(row) for row in both[1:].tolist()], constant_values=-1)
        return self._selected(x, index, 0.0 if value is None else float(_fits(value, ())))

    def _gather(self, attributes: dict[str, Any], x: Any, index: Any) -> _Tensor:
        demand(attributes.pop("axis", 0) == 1 and len(_tensor(x).shape) == 1, "Gather is not of flat entries")
        fine = index.dtype == np.int64 and index.min() >= 0 and index.max() < x.size
        demand(fine, "Gather has numbers out of range")
        return self._selected(x, index)

    def _reducemax(self, attributes: dict[str, Any], x: Any, axes: Any = None) -> _Tensor:
        """The largest of windows; of rectified numbers, the largest of 0 and of the numbers before.

        The derivative is 0 where none is above 0, and elsewhere that of the first of the largest, as it was.
        """
        axes = attributes.pop("axes", None) if axes is None else axes.tolist()
        plain = attributes.pop("keepdims", 1) == 0 and attributes.pop("noop_with_empty_axes", 0) == 0
        fine = axes in ([-1], [len(_tensor(x).shape)]) and len(x.shape) >= 2
        demand(plain and fine, "ReduceMax is not of the last axis, or keeps it")
        node, shape = self.nodes[x.node], x.shape[:-1]
        before = self.nodes[node.inputs[0]]
        index = self._index.get(x.node)
        if index is not None and isinstance(before.operation, Rectifier) and not before.operation.slope.any():
            windows = index.reshape(-1, x.shape[-1])
            with_zero = np.concatenate([np.full((len(windows), 1), -1), windows], axis=1)
            x = self._selected(_Tensor(before.inputs[0], (before.entries,)), with_zero)
        return self._made(Largest(x.shape[-1]), x, shape)

    # -- what several operators need

    def _selected(self, x: _Tensor, index: np.ndarray, constant: float = 0.0) -> _Tensor:
        flat = index.ravel()
        made = self._made(select(flat, np.where(flat < 0, constant, 0.0), x.size), x, index.shape)
        if flat.min() >= 0:
            self._index[made.node] = flat
        return made

    def _clipped(self, x: _Tensor, low: float, high: float) -> _Tensor:
        demand(low < high, "Clip has nothing between its bounds")
        ones, parts = np.ones(x.size), []
        for bound, sign, constant in ((low, 1.0, low), (high, -1.0, 0.0)):
            above = self._made(diagonal(ones, -bound * ones), x, x.shape)
            above = self._made(Rectifier(0 * ones, open_at_zero=True), above, x.shape)
            parts.append(self._made(diagonal(sign * ones, constant * ones), above, x.shape))
        return self._plus({}, *parts)


_OPERATORS: dict[str, Callable[..., _Tensor]] = {
    name: getattr(Network, f"_{name.lower()}")
    for name in [
        "Gemm",
        "MatMul",
        "Conv",
        "Relu",
        "Clip",
        "Identity",
        "Flatten",
        "Reshape",
        "Transpose",
        "Pad",
        "Gather",
        "ReduceMax",
    ]
} | {"Add": Network._plus, "Mul": Network._times, "PRelu": Network._relu}


def _parsed(data: bytes) -> Any:
    try:
        model = onnx.load_model_from_string(data)
    except Exception:  # protobuf has many ways to say that bytes are no message
        raise BadCertificate("network.onnx is not an ONNX file") from None
    versions = [each.version for each in model.opset_import if each.domain in ("", "ai.onnx")]
    demand(len(versions) == 1 and 13 <= versions[0] <= 30, f"network.onnx has opset {versions}")
    demand(not model.graph.sparse_initializer and not model.functions, "network.onnx has functions")
    return model.graph


def _constant(each: Any) -> np.ndarray:
    """The numbers of a tensor, whose size is looked at before memory is taken."""
    inside = each.data_location == onnx.TensorProto.DEFAULT and not each.external_data
    demand(inside, "network.onnx reads other files")
    known = each.data_type in (onnx.TensorProto.DOUBLE, onnx.TensorProto.INT64)
    given = len(each.raw_data) // 8 or len(each.double_data) or len(each.int64_data)
    fits = all(size > 0 for size in each.dims) and given == math.prod(each.dims) < _LARGEST_MATRIX
    demand(known and fits, f"{each.name:.60} has other than {list(each.dims)} doubles")
    try:
        array = numpy_helper.to_array(each)
    except (ValueError, TypeError):
        raise BadCertificate(f"{each.name:.60} cannot be read") from None
    sound = array.dtype != np.float64 or (np.isfinite(array).all() and (np.abs(array) < 1e100).all())
    demand(sound, f"{each.name:.60} holds numbers that are not finite")
    return array


def _attribute(attribute: Any) -> Any:
    demand(attribute.type in (1, 2, 3, 6, 7), f"attribute {attribute.name:.60} is of an unknown type")
    value = onnx.helper.get_attribute_value(attribute)
    return list(value) if attribute.type in (6, 7) else value


def _tensor(value: Any) -> _Tensor:
    if not isinstance(value, _Tensor):
        raise BadCertificate("an operator has constants where it needs what depends on the image")
    return value


def _array(value: Any, axes: int) -> np.ndarray:
    fine = isinstance(value, np.ndarray) and value.ndim == axes and value.dtype == np.float64
    demand(fine, f"an operator needs a constant of doubles with {axes} axes")
    return value


def _fits(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Constants spread over one image's entries; a leading axis for the batch, of length 1, may be there."""
    demand(isinstance(value, np.ndarray) and value.dtype == np.float64, "an operator needs doubles")
    while value.ndim > len(shape) and value.shape[0] == 1:
        value = value[0]
    return np.broadcast_to(value, shape).copy()
