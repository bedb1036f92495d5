"""What each ONNX operator is in terms of PyTorch's functions, for `evaluator`.

Constants and computed values are the same here: float64 tensors, or int64 ones where the file computes
shapes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as functional
from onnx import TensorProto, numpy_helper
from torch import Tensor

from steadygaze.network.reading.onnx_gradients import (
    activations,
    constants,
    picking,
    recurrent,
    resizing,
    sequences,
    smooth,
    summing,
)
from steadygaze.network.reading.onnx_gradients.nodes import Node, Rule

_INTEGERS = (
    TensorProto.INT8,
    TensorProto.INT16,
    TensorProto.INT32,
    TensorProto.INT64,
    TensorProto.UINT8,
    TensorProto.UINT16,
    TensorProto.UINT32,
    TensorProto.UINT64,
)


def tensor_of(array: np.ndarray) -> Tensor:
    """Numbers of the file: floating point as float64, whole numbers as int64."""
    if array.dtype == np.bool_:
        return torch.from_numpy(np.array(array))
    return torch.from_numpy(
        np.array(array, np.int64 if np.issubdtype(array.dtype, np.integer) else np.float64)
    )


# Windows


def _frame(node: Node, kernel: Sequence[int], spatial: Sequence[int]) -> list[tuple[int, int]]:
    """Padding (before, after) of each spatial axis."""
    rule, rank = node.text("auto_pad", "NOTSET"), len(kernel)
    if rule in ("NOTSET", ""):
        pads = node.get("pads", [0] * (2 * rank))
        return list(zip(pads[:rank], pads[rank:], strict=True))
    if rule == "VALID":
        return [(0, 0)] * rank
    strides, dilations = node.get("strides", [1] * rank), node.get("dilations", [1] * rank)
    frame = []
    for size, k, stride, dilation in zip(spatial, kernel, strides, dilations, strict=True):
        missing = max(0, (math.ceil(size / stride) - 1) * stride + (k - 1) * dilation + 1 - size)
        less, more = missing // 2, missing - missing // 2
        frame.append((less, more) if rule == "SAME_UPPER" else (more, less))
    return frame


def _hanging(
    node: Node, kernel: Sequence[int], sizes: Sequence[int], frame: list[tuple[int, int]]
) -> list[int]:
    """Numbers that a last window rounded up reaches beyond the padding, per axis."""
    rank = len(kernel)
    strides, dilations = node.get("strides", [1] * rank), node.get("dilations", [1] * rank)
    over = []
    for size, (before, after), k, stride, dilation in zip(
        sizes, frame, kernel, strides, dilations, strict=True
    ):
        span = (k - 1) * dilation + 1
        room = size + before + after - span
        count = (math.ceil(room / stride) if node.get("ceil_mode", 0) else room // stride) + 1
        if (count - 1) * stride >= size + before:  # it would start in the padding after the axis
            count -= 1
        over.append(max(0, (count - 1) * stride + span - (size + before + after)))
    return over


def _flat(frame: Sequence[tuple[int, int]]) -> list[int]:
    return [amount for pair in reversed(frame) for amount in pair]


_CONVOLVE = (functional.conv1d, functional.conv2d, functional.conv3d)
_SPREAD = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)


def _conv(node: Node) -> Tensor:
    weight = node[1]
    frame = _frame(node, weight.shape[2:], node.x.shape[2:])
    x = functional.pad(node.x, _flat(frame))
    ones = [1] * (weight.dim() - 2)
    strides, dilations = node.get("strides", ones), node.get("dilations", ones)
    options = {"stride": strides, "dilation": dilations, "groups": node.get("group", 1)}
    return _CONVOLVE[weight.dim() - 3](x, weight, node.optional(2), **options)


def _transposed(node: Node) -> Tensor:
    weight, pads = node[1], node.get("pads", [0, 0] * (node[1].dim() - 2))
    ones = [1] * (weight.dim() - 2)
    made = _SPREAD[weight.dim() - 3](
        node.x,
        weight,
        node.optional(2),
        stride=node.get("strides", ones),
        output_padding=node.get("output_padding", [0] * len(ones)),
        groups=node.get("group", 1),
        dilation=node.get("dilations", ones),
    )
    cuts = list(zip(pads[: len(ones)], pads[len(ones) :], strict=True))
    return functional.pad(made, [-cut for cut in _flat(cuts)])


def _gather_elements(node: Node) -> Tensor:
    axis = node.get("axis", 0)
    index = torch.where(node[1] < 0, node[1] + node.x.shape[axis], node[1])
    return node.x.gather(axis, index.expand(len(node.x), *index.shape[1:]) if axis else index)


def _max_pool(node: Node) -> Tensor:
    kernel = node.get("kernel_shape", [])
    sizes = node.x.shape[2:]
    frame = _frame(node, kernel, sizes)
    over = _hanging(node, kernel, sizes, frame)
    whole = [(before, after + more) for (before, after), more in zip(frame, over, strict=True)]
    x = functional.pad(node.x, _flat(whole), value=-math.inf)
    ones = [1] * len(kernel)
    pool = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[len(kernel) - 1]
    return pool(x, kernel, node.get("strides", ones), 0, node.get("dilations", ones))


def _average_pool(node: Node) -> Tensor:
    kernel = node.get("kernel_shape", [])
    sizes = node.x.shape[2:]
    frame = _frame(node, kernel, sizes)
    over = _hanging(node, kernel, sizes, frame)
    beyond = _flat([(0, more) for more in over])
    x = functional.pad(functional.pad(node.x, _flat(frame)), beyond)
    counted = torch.ones((1, 1, *sizes), dtype=torch.float64)
    padding = 1.0 if node.get("count_include_pad", 0) else 0.0
    counted = functional.pad(functional.pad(counted, _flat(frame), value=padding), beyond)
    window = torch.ones((1, 1, *kernel), dtype=torch.float64)
    ones = [1] * len(kernel)
    options = {"stride": node.get("strides", ones), "dilation": node.get("dilations", ones)}
    convolve = _CONVOLVE[len(kernel) - 1]
    sums = convolve(x.flatten(0, 1)[:, None], window, **options)[:, 0].unflatten(0, x.shape[:2])
    return sums / convolve(counted, window, **options)


def _lp_pool(node: Node) -> Tensor:
    kernel, sizes, p = node.get("kernel_shape", []), node.x.shape[2:], node.get("p", 2)
    frame = _frame(node, kernel, sizes)
    over = _hanging(node, kernel, sizes, frame)
    whole = [(before, after + more) for (before, after), more in zip(frame, over, strict=True)]
    x = functional.pad(torch.abs(node.x) ** p, _flat(whole))
    window, ones = torch.ones((1, 1, *kernel), dtype=torch.float64), [1] * len(kernel)
    options = {"stride": node.get("strides", ones), "dilation": node.get("dilations", ones)}
    convolve = _CONVOLVE[len(kernel) - 1]
    return convolve(x.flatten(0, 1)[:, None], window, **options)[:, 0].unflatten(0, x.shape[:2]) ** (1 / p)


# Arithmetic


def _gemm(node: Node) -> Tensor:
    a, b, c = node.x, node[1], node.optional(2)
    a, b = a.T if node.get("transA", 0) else a, b.T if node.get("transB", 0) else b
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    if c is not None and c.dim() == 1 and alpha == beta == 1 and a.is_floating_point():
        return torch.addmm(c, a, b)  # as mostly: one operation for three
    product = a @ b if alpha == 1 else alpha * (a @ b)
    return product if c is None else product + (c if beta == 1 else beta * c)


def _divide(node: Node) -> Tensor:
    whole = not (node.x.is_floating_point() or node[1].is_floating_point())
    return torch.div(node.x, node[1], rounding_mode="trunc" if whole else None)


def _sum(node: Node) -> Tensor:
    total = node.x
    for place in range(1, len(node.inputs)):
        total = total + node[place]
    return total


def _rectified(x: Tensor, slope: Tensor | float) -> Tensor:
    return torch.where(x > 0, x, slope * x)


def _clip(node: Node) -> Tensor:
    x = node.x
    for place, name in ((1, "min"), (2, "max")):
        limit = node.optional(place) if name not in node.attributes else torch.tensor(node.get(name, 0.0))
        if limit is not None:
            x = torch.where(x > limit, *((x, limit) if name == "min" else (limit, x)))
    return x.to(node.x.dtype)


def _reduce(function: Callable[[Tensor, int, bool], Tensor]) -> Rule:
    def rule(node: Node) -> Tensor:
        x, keep = node.x, bool(node.get("keepdims", 1))
        axes = node.axes(1, x.dim())
        if not axes:
            if node.get("noop_with_empty_axes", 0):
                return x
            axes = list(range(x.dim()))
        for axis in sorted(axes, reverse=True):
            x = function(x, axis, keep)
        return x

    return rule


# Shapes


def _cast(node: Node) -> Tensor:
    kind = node.get("to", TensorProto.FLOAT)
    if kind in _INTEGERS:
        return node.x.detach().to(torch.int64)
    return node.x.bool() if kind == TensorProto.BOOL else node.x.to(torch.float64)


def _constant(node: Node) -> Tensor:
    (value,) = node.attributes.values()
    return tensor_of(numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value))


def _constant_of_shape(node: Node) -> Tensor:
    value = node.get("value", None)
    fill = torch.zeros(1, dtype=torch.float64) if value is None else tensor_of(numpy_helper.to_array(value))
    return fill.reshape(()).expand(node.x.tolist())


def _expand(node: Node) -> Tensor:
    return node.x.expand(torch.broadcast_shapes(node.x.shape, node[1].tolist()))


def _flatten(node: Node) -> Tensor:
    axis, shape = node.get("axis", 1), node.x.shape
    return node.x.reshape(math.prod(shape[: axis if axis >= 0 else len(shape) + axis]), -1)


def _gather(node: Node) -> Tensor:
    axis, index = node.get("axis", 0) % node.x.dim(), node[1]
    index = torch.where(index < 0, index + node.x.shape[axis], index)
    picked = node.x.index_select(axis, index.reshape(-1))
    return picked.reshape((*node.x.shape[:axis], *index.shape, *node.x.shape[axis + 1 :]))


def _counted(node: Node) -> Tensor:
    """Indices along the node's axis, counted from the front."""
    return torch.where(node[1] < 0, node[1] + node.x.shape[node.get("axis", 0)], node[1])


def _pad(node: Node) -> Tensor:
    rank = node.x.dim()
    amounts = node.whole("pads", 1) or []
    axes = node.axes(3, rank) or list(range(rank))
    frame = [(0, 0)] * rank
    for place, axis in enumerate(axes):
        frame[axis] = (amounts[place], amounts[place + len(axes)])
    mode = node.text("mode", "constant")
    if mode != "constant":
        return _mirrored(node.x, frame, mode)
    fill = node.optional(2)
    value = float(node.get("value", 0.0)) if fill is None else float(fill)
    return functional.pad(node.x, _flat(frame), value=value)


def _mirrored(x: Tensor, frame: Sequence[tuple[int, int]], mode: str) -> Tensor:
    """A frame of the value's own numbers, axis by axis."""
    for axis, (before, after) in enumerate(frame):
        size = x.shape[axis]
        place = torch.arange(-before, size + after)
        if mode == "edge":
            place = place.clamp(0, size - 1)
        elif mode == "wrap":
            place = place % size
        else:
            place = place % max(2 * size - 2, 1)
            place = torch.where(place < size, place, 2 * size - 2 - place)
        x = x.index_select(axis, place)
    return x


def _depth_to_space(node: Node) -> Tensor:
    x, b = node.x, node.get("blocksize", 1)
    rows, channels, height, width = x.shape
    if node.text("mode", "DCR") == "CRD":
        return functional.pixel_shuffle(x, b)
    parts = x.reshape(rows, b, b, channels // b**2, height, width)
    return torch.einsum("nijchw->nchiwj", parts).reshape(rows, channels // b**2, height * b, width * b)


def _space_to_depth(node: Node) -> Tensor:
    x, b = node.x, node.get("blocksize", 1)
    rows, channels, height, width = x.shape
    if node.text("mode", "DCR") == "CRD":
        return functional.pixel_unshuffle(x, b)
    parts = x.reshape(rows, channels, height // b, b, width // b, b)
    return torch.einsum("nchiwj->nijchw", parts).reshape(rows, channels * b**2, height // b, width // b)


def _range(node: Node) -> Tensor:
    start, limit, step = (node[place].reshape(()).item() for place in range(3))
    return torch.arange(start, limit, step, dtype=node.x.dtype)


def _reshape(node: Node) -> Tensor:
    shape = node.whole("shape", 1) or []
    if not node.get("allowzero", 0):
        shape = [node.x.shape[place] if size == 0 else size for place, size in enumerate(shape)]
    return node.x.reshape(shape)


def _shape(node: Node) -> Tensor:
    return torch.tensor(list(node.x.shape)[node.get("start", 0) : node.get("end", None)], dtype=torch.int64)


def _slice(node: Node) -> Tensor:
    x = node.x
    starts, ends = node.whole("starts", 1) or [], node.whole("ends", 2) or []
    axes = node.axes(3, x.dim()) or list(range(len(starts)))
    steps = node.whole("steps", 4) or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # As numpy counts from the end; an end far below 0 stands for "past the beginning".
        size = x.shape[axis]
        past = step < 0 and end < -size
        places = range(size)[slice(start, None if past else end, step)]
        x = x.index_select(axis, torch.tensor(list(places), dtype=torch.int64))
    return x


def _split(node: Node) -> tuple[Tensor, ...]:
    axis = node.get("axis", 0)
    sizes = node.whole("split", 1)
    if sizes is None:
        count = node.outputs
        sizes = [math.ceil(node.x.shape[axis] / count)] * count
        sizes[-1] = node.x.shape[axis] - sum(sizes[:-1])
    return node.x.split(sizes, axis)


def _squeeze(node: Node) -> Tensor:
    axes = node.axes(1, node.x.dim())
    return node.x.reshape(
        [n for i, n in enumerate(node.x.shape) if (n != 1 if axes is None else i not in axes)]
    )


def _unsqueeze(node: Node) -> Tensor:
    named = node.whole("axes", 1) or []
    x = node.x
    for axis in sorted(axis % (x.dim() + len(named)) for axis in named):
        x = x.unsqueeze(axis)
    return x


def _transpose(node: Node) -> Tensor:
    return node.x.permute(list(node.get("perm", range(node.x.dim() - 1, -1, -1))))


def _gelu(node: Node) -> Tensor:
    return functional.gelu(node.x, approximate=node.text("approximate", "none"))


RULES: dict[str, Rule] = {
    **constants.RULES,
    "Add": lambda node: node.x + node[1],
    "AveragePool": _average_pool,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": lambda node: torch.cat([node[i] for i in range(len(node.inputs))], node.get("axis", 1)),
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "ConvTranspose": _transposed,
    "Div": _divide,
    "DepthToSpace": _depth_to_space,
    "Dropout": lambda node: node.x,
    "Einsum": lambda node: torch.einsum(
        node.text("equation", ""), *(node[place] for place in range(len(node.inputs)))
    ),
    "Equal": lambda node: node.x == node[1],
    "Erf": lambda node: torch.erf(node.x),
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": lambda node: node.x[tuple(node[1].unbind(-1))],
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda node: node.x.mean(tuple(range(2, node.x.dim())), keepdim=True),
    "Identity": lambda node: node.x,
    "LeakyRelu": lambda node: _rectified(node.x, node.get("alpha", 0.01)),
    "LpPool": _lp_pool,
    "MatMul": lambda node: node.x @ node[1],
    "MaxPool": _max_pool,
    "Mean": lambda node: _sum(node) / len(node.inputs),
    "Mod": lambda node: (torch.fmod if node.get("fmod", 0) else torch.remainder)(node.x, node[1]),
    "Mul": lambda node: node.x * node[1],
    "Neg": lambda node: -node.x,
    "PRelu": lambda node: _rectified(node.x, node[1]),
    "Pad": _pad,
    "Range": _range,
    "ReduceMean": _reduce(lambda x, axis, keep: x.mean(axis, keepdim=keep)),
    "ReduceProd": _reduce(lambda x, axis, keep: x.prod(axis, keepdim=keep)),
    "ReduceSum": _reduce(lambda x, axis, keep: x.sum(axis, keepdim=keep)),
    "Relu": lambda node: functional.relu(node.x),
    "Reshape": _reshape,
    "ScatterElements": lambda node: node.x.scatter(node.get("axis", 0), _counted(node), node[2]),
    "ScatterND": lambda node: torch.index_put(node.x, tuple(node[1].unbind(-1)), node[2]),
    "Shape": _shape,
    "Sigmoid": lambda node: torch.sigmoid(node.x),
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    # Not functional.softplus, which is x itself above 20.
    "Softplus": lambda node: torch.logaddexp(node.x, torch.zeros_like(node.x)),
    "Split": _split,
    "Sqrt": lambda node: torch.sqrt(node.x),
    "Squeeze": _squeeze,
    "Sub": lambda node: node.x - node[1],
    "Sum": _sum,
    "Tanh": lambda node: torch.tanh(node.x),
    "Tile": lambda node: node.x.repeat(node[1].tolist()),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": lambda node: torch.where(node.x.bool(), node[1], node[2]),
    **picking.RULES,
    **activations.RULES,
    **recurrent.RULES,
    **resizing.RULES,
    **sequences.RULES,
    **smooth.RULES,
    **summing.RULES,
}
"""What each operator of a file is in terms of PyTorch; all that the reader takes, and no more."""
