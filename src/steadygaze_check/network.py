"""network.onnx as a list of operations on rows of numbers ``(B, N)``; what is not known here is refused.

There are two: affine maps, and the largest of windows. Rectified is the largest of 0 and x, a clip is
low + max(0, x - low) - max(0, x - high). Operators that only move numbers make no operation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from steadygaze_check.arithmetic import Dyadic
from steadygaze_check.folder import BadCertificate, demand

_LARGEST_ARRAY, _PATCHES = 1 << 26, 1 << 23
# How many operators there may be, how many numbers they may make, and how many they may read, in all.
_MOST_NODES, _MOST_ENTRIES, _MOST_READ = 2000, 1 << 23, 1 << 25


def take(rows: np.ndarray, index: np.ndarray) -> np.ndarray:
    """The entries of rows ``(B, N)`` by number, ``(B, *index.shape)``; 0 for -1."""
    if index.max(initial=-1) < 0:
        return np.broadcast_to(rows.dtype.type(0), (len(rows), *index.shape))
    if in_order(index, rows.shape[1]):
        return rows.reshape(len(rows), *index.shape)
    if index.min() < 0:
        rows = np.concatenate([rows, np.zeros((len(rows), 1), rows.dtype)], axis=1)
    return rows[:, index]


def in_order(index: np.ndarray, entries: int) -> bool:
    """Whether these are all the entries, one after another."""
    return index.size == entries and np.array_equal(index.ravel(), np.arange(entries))


def often(index: np.ndarray) -> int:
    """How often an entry is named, at most."""
    return int(np.bincount(index.ravel() + 1)[1:].max(initial=0))


class Linear:
    """A matrix A: kernels ``(groups, each, channels * taps)`` for the patches of entries that `index` names.

    index is ``(groups, channels, taps, places)``, -1 for a 0; no entry is twice at one tap, or in one patch.
    A dense matrix is one group at one place; a factor for each entry is as many groups as entries.
    terms: how many products make an entry of A x, and of A^T g, at most.
    """

    def __init__(self, kernel: np.ndarray, index: np.ndarray, entries: int) -> None:
        self.kernel, self.index, self._entries = kernel, index, entries
        groups, each, terms = kernel.shape
        self.terms, self._dense = (terms, each * index.shape[2]), groups == index.shape[3] == 1
        self._times = np.multiply if each == terms == 1 else np.matmul

    @cached_property
    def whole(self) -> Dyadic:
        """The kernel in whole numbers."""
        return Dyadic.of(self.kernel)

    def apply(self, rows: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        """``rows A^T``, where A has this kernel, of doubles or of whole numbers."""
        if self._dense:
            return take(rows, self.index.ravel()) @ kernel[0].T
        parts, batch = [], max(1, _PATCHES // self.index.size)
        for start in range(0, len(rows), batch):
            patches = take(rows[start : start + batch], self.index)
            parts.append(self._times(kernel, patches.reshape(len(patches), *kernel.shape[::2], -1)))
        return np.concatenate(parts).reshape(len(rows), -1)

    def transposed(self, g: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        """``g A``, where A has this kernel."""
        if self._dense:
            patches = g @ kernel[0]
        else:
            given = g.reshape(len(g), *kernel.shape[:2], -1)
            patches = self._times(kernel.transpose(0, 2, 1), given)
        if in_order(self.index, self._entries):
            return patches.reshape(len(g), self._entries)
        patches, out = (
            patches.reshape(len(g), *self.index.shape),
            np.zeros((len(g), self._entries + 1), g.dtype),
        )
        for tap in range(self.index.shape[2]):
            out[:, self.index[:, :, tap]] += patches[:, :, :, tap]
        return out[:, :-1]


@dataclass(frozen=True, eq=False)
class Node:
    """The sum of A x over the nodes x that are read, plus the bias; or the largest of windows ``(w, N)``.

    Each column of the windows names entries of the node that is read, -1 for a 0; of equal ones the first.
    """

    entries: int
    inputs: tuple[int, ...] = ()
    parts: tuple[Linear, ...] = ()
    bias: Any = None
    windows: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class _Tensor:
    """What a name of the graph stands for: entries of a node, -1 for a 0, in the shape that one image has."""

    node: int
    index: np.ndarray


class Network:
    """The operations in order. Node 0 is the image before the clip, `pixels` what the classifier is handed.

    `last` are the logits. Raises BadCertificate for operators, attributes and shapes that are not known here.
    """

    def __init__(self, data: bytes, shape: tuple[int, ...], classes: int, clip: list[float] | None) -> None:
        self.nodes, self._made_so_far, self._read_so_far = [Node(math.prod(shape))], 0, 0
        image = _Tensor(0, np.arange(math.prod(shape)).reshape(shape))
        if clip is not None:
            low, high = (self._relu({}, self._add({}, image, np.array(-float(bound)))) for bound in clip)
            above = self._add({}, low, np.array(float(clip[0])))
            image = self._add({}, above, self._mul({}, high, -np.ones(1)))
        try:
            model = onnx.load_model_from_string(data)
        except Exception:  # protobuf has many ways to say that bytes are no message
            raise BadCertificate("network.onnx is not an ONNX file") from None
        versions = [each.version for each in model.opset_import if each.domain in ("", "ai.onnx")]
        fine = versions == [17] and not model.graph.sparse_initializer and not model.functions
        demand(fine, "network.onnx has functions, or another opset than 17")
        self.pixels, graph = image.node, model.graph
        demand(len(graph.node) <= _MOST_NODES, "network.onnx has more operators than are allowed")
        known: dict[str, Any] = {each.name: _constant(each) for each in graph.initializer}
        inputs = [each for each in graph.input if each.name not in known]
        fine = len(inputs) == len(graph.output) == 1 and len(known) == len(graph.initializer)
        demand(fine, "the network has not one input and one output, or two constants of one name")
        dims = [d.dim_value for d in inputs[0].type.tensor_type.shape.dim][1:]
        demand(tuple(dims) == shape, f"the network takes {dims}, the image is {list(shape)}")
        known[inputs[0].name] = image
        for node in graph.node:
            kind, rule = f"operator {node.op_type:.60}", _OPERATORS.get(node.op_type)
            if rule is None or node.domain not in ("", "ai.onnx") or len(node.output) != 1:
                raise BadCertificate(f"{kind} is not one that this checker knows")
            fine = all(name in known for name in node.input) and node.output[0] not in known
            demand(fine, f"{kind} reads an unknown name, or makes a known one")
            attributes = {a.name: _attribute(a) for a in node.attribute}
            try:
                made = rule(self, attributes, *(known[name] for name in node.input))
            except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError):
                raise BadCertificate(f"{kind} has other arguments than the format says") from None
            demand(not attributes, f"{kind} has attributes {sorted(attributes)}, which are not known")
            known[node.output[0]] = made
        last = known.get(graph.output[0].name)
        fine = isinstance(last, _Tensor) and last.index.shape == (classes,)
        demand(fine, f"the network does not end in {classes} logits")
        self.last = self._mul({}, last, np.ones(1)).node
        self._needed = {self.last}
        for number in range(self.last, 0, -1):
            self._needed |= set(self.nodes[number].inputs) if number in self._needed else set()

    @property
    def products(self) -> int:
        """How many products one pass takes."""
        parts = [part for node in self.nodes for part in node.parts]
        return sum(part.index.size * part.kernel.shape[1] for part in parts)

    def after(self, known: Any) -> Iterator[tuple[int, Node]]:
        """The nodes that the logits need and that are not known yet, as soon as all that they read is."""
        for number, node in enumerate(self.nodes):
            wanted = number in self._needed and number not in known and node.inputs
            if wanted and all(each in known for each in node.inputs):
                yield number, node

    # -- one method for each operator; each takes what it reads out of the attributes

    def _gemm(self, attributes: dict[str, Any], x: Any, weight: Any, bias: Any) -> _Tensor:
        usual = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
        plain = [attributes.pop(*each) for each in usual.items()] == [1.0, 1.0, 0, 1]
        demand(plain and x.index.ndim == 1, "Gemm is not x W^T + b")
        return self._affine([(x, weight[None], x.index.reshape(1, -1, 1, 1))], bias, bias.shape)

    def _conv(self, attributes: dict[str, Any], x: Any, kernel: Any, bias: Any) -> _Tensor:
        outs, own, *sizes = kernel.shape
        usual = {"group": 1, "pads": [0] * 4, "strides": [1, 1], "dilations": [1, 1], "kernel_shape": sizes}
        groups, pads, strides, dilations, told = (attributes.pop(*each) for each in usual.items())
        around = [(0, 0), *zip(pads[:2], pads[2:], strict=True)]
        room = math.prod(size + sum(each) for size, each in zip(x.index.shape, around, strict=True))
        fine = told == sizes and len(strides) == 2 and min(*strides, *dilations) >= 1 and min(pads) >= 0
        demand(fine and room < 1 << 24, "Conv has impossible sizes")
        far = [(size - 1) * step + 1 for size, step in zip(sizes, dilations, strict=True)]
        padded = np.pad(x.index, around, constant_values=-1)
        index = np.lib.stride_tricks.sliding_window_view(padded, far, axis=(1, 2))
        index = index[:, :: strides[0], :: strides[1], :: dilations[0], :: dilations[1]]
        demand(index.size <= _MOST_READ, "Conv has more patches than are allowed")
        shape, places = (outs, *index.shape[1:3]), math.prod(index.shape[1:3])
        index = index.transpose(0, 3, 4, 1, 2).reshape(groups, own, math.prod(sizes), places)
        terms = [(x, kernel.reshape(groups, outs // groups, -1), index)]
        return self._affine(terms, np.repeat(bias, places), shape)

    def _add(self, _: dict[str, Any], x: Any, y: Any) -> _Tensor:
        read, bias = ([x], y) if isinstance(y, np.ndarray) else ([x, y], np.zeros(1))
        demand(read[-1].index.shape == x.index.shape, "Add takes different shapes")
        return self._weighed(read, np.ones(1), bias)

    def _mul(self, _: dict[str, Any], x: Any, y: Any) -> _Tensor:
        return self._weighed([x], y, np.zeros(1))

    def _relu(self, _: dict[str, Any], x: Any) -> _Tensor:
        windows = np.stack([np.full(x.index.size, -1), x.index.ravel()])
        return self._made(x.index.shape, (x.node,), windows=windows)

    def _reducemax(self, attributes: dict[str, Any], x: Any) -> _Tensor:
        plain = attributes.pop("axes", None) == [x.index.ndim] and attributes.pop("keepdims", 1) == 0
        demand(plain, "ReduceMax is not of the last axis, or keeps it")
        windows = x.index.reshape(-1, x.index.shape[-1]).T
        return self._made(x.index.shape[:-1], (x.node,), windows=windows)

    def _gather(self, attributes: dict[str, Any], x: Any, index: Any) -> _Tensor:
        demand(attributes.pop("axis", 0) == 1 and x.index.ndim == 1, "Gather is not of flat entries")
        demand(index.dtype == np.int64 and index.min() >= 0, "Gather has numbers out of range")
        return _Tensor(x.node, x.index[index])

    def _pad(self, attributes: dict[str, Any], x: Any, pads: Any) -> _Tensor:
        fine = attributes.pop("mode", b"constant") == b"constant" and x.index.ndim == 1
        fine = fine and pads.dtype == np.int64 and pads.shape == (4,) and not pads[::2].any()
        demand(fine and 0 <= pads.min() <= pads.max() < _MOST_ENTRIES, "Pad is not of flat entries")
        return _Tensor(x.node, np.pad(x.index, (int(pads[1]), int(pads[3])), constant_values=-1))

    def _reshape(self, _: dict[str, Any], x: Any, target: Any) -> _Tensor:
        first, *rest = target.tolist()
        demand(target.dtype == np.int64 and first == -1 and min(rest) > 0, "Reshape does not keep the batch")
        return _Tensor(x.node, x.index.reshape(rest))

    # -- what the operators are made of

    def _made(self, shape: tuple[int, ...], inputs: tuple[int, ...], **operation: Any) -> _Tensor:
        entries = math.prod(shape)
        read = sum(part.index.size for part in operation.get("parts", ()))
        self._made_so_far, self._read_so_far = self._made_so_far + entries, self._read_so_far + read
        fine = entries > 0 and self._made_so_far <= _MOST_ENTRIES and self._read_so_far <= _MOST_READ
        demand(fine, "network.onnx makes, or reads, more numbers than are allowed")
        self.nodes.append(Node(entries, inputs, **operation))
        return _Tensor(len(self.nodes) - 1, np.arange(entries).reshape(shape))

    def _weighed(self, read: list[_Tensor], factor: np.ndarray, bias: np.ndarray) -> _Tensor:
        """Tensors times a factor for each entry, added."""
        shape = read[0].index.shape
        kernel = np.broadcast_to(factor, shape).reshape(-1, 1, 1)
        terms = [(x, kernel, x.index.reshape(-1, 1, 1, 1)) for x in read]
        return self._affine(terms, np.broadcast_to(bias, shape).ravel(), shape)

    def _affine(self, terms: list[tuple[_Tensor, Any, Any]], bias: Any, shape: tuple[int, ...]) -> _Tensor:
        """Tensors, each with kernels and the index of what they read, as `Linear` has them; b by entry."""
        fine = bias.dtype == np.float64 and bias.shape == (math.prod(shape),)
        for x, kernel, index in terms:
            groups, channels, taps, places = index.shape
            fine = fine and kernel.dtype == np.float64 and len(bias) % (groups * places) == 0
            fine = fine and kernel.shape == (groups, len(bias) // (groups * places), channels * taps)
            fine = fine and often(x.index) <= 1
        demand(fine, "an operator's constants do not fit what it reads, or it reads an entry twice")
        parts = tuple(Linear(kernel, index, self.nodes[x.node].entries) for x, kernel, index in terms)
        return self._made(shape, tuple(x.node for x, _, _ in terms), parts=parts, bias=bias)


_NAMES = ("Gemm", "Conv", "Add", "Mul", "Relu", "ReduceMax", "Gather", "Pad", "Reshape")
_OPERATORS: dict[str, Callable[..., _Tensor]] = {k: getattr(Network, f"_{k.lower()}") for k in _NAMES}


def _constant(each: Any) -> np.ndarray:
    """The numbers of a tensor, whose size is looked at before memory is taken."""
    fine = each.data_type in (onnx.TensorProto.DOUBLE, onnx.TensorProto.INT64) and not each.data_location
    fine = fine and all(0 < size < _LARGEST_ARRAY for size in each.dims) and not each.external_data
    fine = fine and len(each.raw_data) == 8 * math.prod(each.dims) < 8 * _LARGEST_ARRAY
    demand(fine, f"{each.name:.60} has other than {list(each.dims)} doubles or whole numbers")
    array = numpy_helper.to_array(each)
    fine = array.dtype != np.float64 or (np.isfinite(array).all() and (np.abs(array) < 1e100).all())
    demand(fine, f"{each.name:.60} holds numbers that are not finite")
    return array


def _attribute(attribute: Any) -> Any:
    demand(attribute.type in (1, 2, 3, 6, 7), f"attribute {attribute.name:.60} is of an unknown type")
    value = onnx.helper.get_attribute_value(attribute)
    return list(value) if attribute.type in (6, 7) else value
