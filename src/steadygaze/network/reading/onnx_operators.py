"""The table of ONNX operators: what each one means as an operation of the `Assembler`."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from steadygaze.network.reading import joining
from steadygaze.network.reading.assembly import Pads, PoolGeometry, Value
from steadygaze.network.reading.onnx_calls import Call, Rule
from steadygaze.network.reading.onnx_constants import SLICED, slices_of
from steadygaze.network.reading.onnx_smooth import SMOOTH, divided
from steadygaze.network.reading.windows import same_padding


def _gemm(call: Call) -> Value:
    asm, x = call.assembler, call.value(0)
    weight = call.constant(1, "weight").astype(np.float64)
    if weight.ndim != 2 or len(asm.shape(x)) != 2:
        raise asm.refuse(
            f"it multiplies a value of shape {asm.shape(x)} by a weight of shape {weight.shape}",
            "allowed are two matrices",
        )
    x = asm.permute(x, (1, 0)) if call.get("transA", 0) else x
    weight = (weight if call.get("transB", 0) else weight.T) * call.get("alpha", 1.0)
    bias = call.optional(2, "bias")
    if bias is None:
        return asm.dense(x, weight, None)
    bias = bias.astype(np.float64) * call.get("beta", 1.0)
    if bias.shape in ((len(weight),), (1, len(weight))):
        return asm.dense(x, weight, bias)
    product = asm.dense(x, weight, None)
    if bias.ndim > 2:
        raise asm.refuse(f"its bias has shape {bias.shape}", f"allowed is what fits {asm.shape(product)}")
    return asm.scale_shift(product, 1.0, bias)


def _matmul(call: Call) -> Value:
    asm = call.assembler
    first, second = call.inputs
    if isinstance(first, Value) and isinstance(second, Value):
        return joining.matrix_product(asm, first, second)
    matrix, x = (second, first) if isinstance(first, Value) else (first, call.value(1))
    leading = np.shape(matrix)[:-2] if isinstance(matrix, np.ndarray) else ()
    if not isinstance(matrix, np.ndarray) or matrix.ndim < 2 or math.prod(leading) != 1:
        raise asm.refuse(
            "it multiplies a constant that is not a matrix",
            "allowed is a computed value times a constant matrix",
        )
    flat = matrix.reshape(matrix.shape[-2:])
    product = asm.dense(x, flat.T, None) if isinstance(first, Value) else asm.matmul_left(flat, x)
    # Leading axes of the constant are axes of the product, each of one entry.
    missing = matrix.ndim - len(asm.shape(x))
    if missing > 0 and len(asm.shape(x)) < 2:
        raise asm.refuse(
            f"it multiplies a value of shape {asm.shape(x)} by a constant of shape {matrix.shape}",
            "allowed are values of two axes and more there",
        )
    return asm.reshape(product, (1,) * missing + asm.shape(product)) if missing > 0 else product


def _conv(call: Call) -> Value:
    asm, x = call.assembler, call.value(0)
    weight = call.constant(1, "weight")
    if weight.ndim != 4:
        raise asm.refuse(
            f"the weight has {weight.ndim} axes", "allowed are two-dimensional convolutions (4 axes)"
        )
    kernel = tuple(call.get("kernel_shape", weight.shape[2:]))
    if kernel != weight.shape[2:]:
        raise asm.refuse(f"its kernel_shape is {kernel}", f"allowed is the weight's, {weight.shape[2:]}")
    window = _geometry(call, kernel, x)
    groups = int(call.get("group", 1))
    return asm.conv(x, weight, call.optional(2, "bias"), window.stride, window.pads, window.dilation, groups)


def _geometry(call: Call, kernel: tuple[int, ...], x: Value) -> PoolGeometry:
    sizes = call.assembler.shape(x)[2:]
    if len(kernel) != 2 or len(sizes) != 2:
        raise call.assembler.refuse(
            f"the window is {kernel} on a value of shape {call.assembler.shape(x)}",
            "allowed are two-dimensional windows on maps (batch, channels, height, width)",
        )
    stride, dilation = (tuple(call.get(name, (1, 1))) for name in ("strides", "dilations"))
    top, left, bottom, right = call.get("pads", (0, 0, 0, 0))
    pads: Pads = ((top, bottom), (left, right))
    rule = call.get("auto_pad", b"NOTSET").decode()
    if rule != "NOTSET" and any(map(any, pads)):
        raise call.assembler.refuse(
            f"its auto_pad is {rule} and its pads are {(top, left, bottom, right)}",
            "allowed is one of the two; export the network again",
        )
    if rule.startswith("SAME"):
        longer: Literal["before", "after"] = "before" if rule == "SAME_LOWER" else "after"
        rows, columns = (
            same_padding(*each, longer) for each in zip(sizes, kernel, stride, dilation, strict=True)
        )
        pads = (rows, columns)
    return PoolGeometry(kernel, stride, pads, dilation, bool(call.get("ceil_mode", 0)))


def _pooled(call: Call) -> PoolGeometry:
    geometry = _geometry(call, tuple(call.get("kernel_shape", ())), call.value())
    rule = call.get("auto_pad", b"NOTSET").decode()
    if rule != "NOTSET" and (geometry.ceil or (rule != "VALID" and geometry.dilation != (1, 1))):
        raise call.assembler.refuse(
            f"its auto_pad is {rule} with ceil_mode {int(geometry.ceil)} and dilations {geometry.dilation}, "
            "which runtimes read in different ways",
            "allowed are pads in numbers there; export the network with those",
        )
    return geometry


def _max_pool(call: Call) -> Value:
    return call.assembler.max_pool(call.value(), _pooled(call))


def _average_pool(call: Call) -> Value:
    geometry = _pooled(call)
    return call.assembler.average_pool(call.value(), geometry, bool(call.get("count_include_pad", 0)))


def _global_max_pool(call: Call) -> Value:
    rows, columns = call.assembler.map_shape(call.value())[1:]
    return call.assembler.max_pool(call.value(), PoolGeometry((rows, columns), (1, 1)))


def _batch_norm(call: Call) -> Value:
    asm, x = call.assembler, call.value()
    names = ("scale", "bias", "mean", "variance")
    numbers = [call.constant(i, name) for i, name in enumerate(names, start=1)]
    channels = asm.shape(x)[1:2]
    if not channels or any(one.shape != channels for one in numbers):
        raise asm.refuse(
            f"its constants have shapes {[one.shape for one in numbers]}",
            f"allowed is one number for each channel of a value of shape {asm.shape(x)}",
        )
    scale, bias, mean, variance = numbers
    return asm.batch_norm(x, scale, bias, mean, variance, call.get("epsilon", 1e-5))


def _clip(call: Call) -> Value:
    low, high = (
        call.number(i, f"{name} limit", of) for i, name, of in ((1, "lower", "min"), (2, "upper", "max"))
    )
    return call.assembler.clip(call.value(), low, high)


def _linear_binary(first_scale: float, second_scale: float) -> Rule:
    """``first_scale * a + second_scale * b``: Add and Sub."""

    def rule(call: Call) -> Value:
        asm = call.assembler
        a, b = call.inputs
        if isinstance(a, Value) and isinstance(b, Value):
            return asm.add(a, b if second_scale == 1 else asm.scale_shift(b, second_scale, 0.0))
        if isinstance(a, Value):
            return asm.scale_shift(a, first_scale, second_scale * call.constant(1, "second operand"))
        return asm.scale_shift(call.value(1), second_scale, first_scale * call.constant(0, "first operand"))

    return rule


def _mul(call: Call) -> Value:
    a, b = call.inputs
    if isinstance(a, Value) and isinstance(b, Value):
        return joining.product(call.assembler, a, b)
    if isinstance(a, Value):
        return call.assembler.scale_shift(a, call.constant(1, "factor"), 0.0)
    return call.assembler.scale_shift(call.value(1), call.constant(0, "factor"), 0.0)


def _div(call: Call) -> Value:
    if isinstance(call.inputs[1], Value):
        return divided(call)
    divisor = call.constant(1, "divisor").astype(np.float64)
    if (divisor == 0).any():
        raise call.assembler.refuse("it divides by 0", "allowed are other numbers; check the weights")
    return call.assembler.scale_shift(call.value(), 1.0 / divisor, 0.0)


def _slice(call: Call) -> Value:
    inputs = [None, *(call.optional(i, name) for i, name in enumerate(SLICED, start=1))]
    x, shape = call.value(), call.assembler.shape(call.value())
    try:
        slices = slices_of(inputs, call.attributes, len(shape))
    except ValueError as error:
        raise call.assembler.refuse(str(error), "allowed is one start and one end for each axis") from error
    for axis, kept in enumerate(slices):
        x = call.assembler.crop(x, axis, *kept.indices(shape[axis]))
    return x


def _split(call: Call) -> tuple[Value, ...]:
    asm, x = call.assembler, call.value()
    axis = call.axis(call.get("axis", 0), len(asm.shape(x)))
    size, sizes = asm.shape(x)[axis], call.wholes(1, "split")
    count = call.get("num_outputs", call.outputs)
    if sizes is None:
        part = -(-size // count)
        sizes = [part] * (count - 1) + [size - part * (count - 1)]
        even = len(set(sizes)) == 1 or "num_outputs" in call.attributes
    else:
        even = "num_outputs" not in call.attributes
    if not even or len(sizes) != call.outputs or sum(sizes) != size or min(sizes) < 1:
        raise asm.refuse(
            f"axis {axis} of {asm.shape(x)} is split into {sizes} for {call.outputs} outputs",
            "allowed is one part of at least 1 for each output, all of the axis together",
        )
    ends = np.cumsum(sizes).tolist()
    return tuple(asm.crop(x, axis, end - part, end) for end, part in zip(ends, sizes, strict=True))


def _sum(call: Call) -> Value:
    asm = call.assembler
    values = [one for one in call.inputs if isinstance(one, Value)]
    total = values[0]
    for value in values[1:]:
        total = asm.add(total, value)
    for one in call.inputs:
        total = asm.scale_shift(total, 1.0, one) if isinstance(one, np.ndarray) else total
    return total


def _pad(call: Call) -> Value:
    asm, x = call.assembler, call.value()
    rank = len(asm.shape(x))
    amounts, chosen = call.wholes(1, "pads") or [], call.axes(rank, 3)
    axes = range(rank) if chosen is None else chosen
    if len(amounts) != 2 * len(axes):
        raise asm.refuse(
            f"it has {len(amounts)} amounts of padding for {len(axes)} axes", "allowed are two for each axis"
        )
    pads = [(0, 0)] * rank
    for place, axis in enumerate(axes):
        pads[axis] = (amounts[place], amounts[place + len(axes)])
    return asm.pad(x, pads, call.number(2, "fill", "value") or 0.0)


def _flatten(call: Call) -> Value:
    shape = call.assembler.shape(call.value())
    axis = call.get("axis", 1)
    if not -len(shape) <= axis <= len(shape):
        raise call.assembler.refuse(f"its axis is {axis}", f"allowed are {-len(shape)} to {len(shape)}")
    before = math.prod(shape[: axis if axis >= 0 else len(shape) + axis])
    return call.assembler.reshape(call.value(), (before, -1))


def _reshape(call: Call) -> Value:
    old = call.assembler.shape(call.value())
    shape = [int(size) for size in call.constant(1, "shape").ravel()]
    if not call.get("allowzero", 0):
        shape = [old[i] if size == 0 and i < len(old) else size for i, size in enumerate(shape)]
    return call.assembler.reshape(call.value(), shape)


def _squeeze(call: Call) -> Value:
    shape = call.assembler.shape(call.value())
    named = call.axes(len(shape))
    dropped = {i for i, size in enumerate(shape) if size == 1} if named is None else set(named)
    if any(shape[axis] != 1 for axis in dropped):
        raise call.assembler.refuse(f"axes {named} of {shape} are dropped", "allowed are axes of one entry")
    return call.assembler.reshape(call.value(), [n for i, n in enumerate(shape) if i not in dropped])


def _unsqueeze(call: Call) -> Value:
    shape = list(call.assembler.shape(call.value()))
    named = call.wholes(1, "axes") or []
    for axis in sorted(call.axes(len(shape) + len(named)) or ()):
        shape.insert(axis, 1)
    return call.assembler.reshape(call.value(), shape)


def _transpose(call: Call) -> Value:
    rank = len(call.assembler.shape(call.value()))
    return call.assembler.permute(call.value(), call.get("perm", tuple(reversed(range(rank)))))


def _concat(call: Call) -> Value:
    values = [call.value(place) for place in range(len(call.inputs))]
    axis = call.axis(call.get("axis", 1), len(call.assembler.shape(values[0])))
    return call.assembler.concat(values, axis)


def _reduce_mean(call: Call) -> Value:
    asm, x = call.assembler, call.value()
    rank = len(asm.shape(x))
    named = call.wholes(1, "axes")
    if not named and call.get("noop_with_empty_axes", 0):
        return x
    axes, keep = (call.axes(rank) or ()) if named else range(rank), bool(call.get("keepdims", 1))
    if rank == 4 and x.batched and set(axes) <= {2, 3}:
        return asm.mean(x, axes, keep)
    return joining.averaged(asm, x, axes, keep)


def _leaky_relu(call: Call) -> Value:
    return call.assembler.leaky_relu(call.value(), call.get("alpha", 0.01))


def _smooth(function: str) -> Rule:
    return lambda call: call.assembler.smooth(call.value(), function)


def _gelu(call: Call) -> Value:
    approximate = call.get("approximate", b"none").decode() == "tanh"
    return call.assembler.smooth(call.value(), "gelu-tanh" if approximate else "gelu")


OPERATORS: dict[str, Rule] = {
    **SMOOTH,
    "Add": _linear_binary(1.0, 1.0),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": Call.value,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "Div": _div,
    "Dropout": Call.value,
    "Erf": _smooth("erf"),
    "Flatten": _flatten,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda call: call.assembler.adaptive_average(call.value(), (1, 1)),
    "GlobalMaxPool": _global_max_pool,
    "Identity": Call.value,
    "LeakyRelu": _leaky_relu,
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "Mul": _mul,
    "Neg": lambda call: call.assembler.scale_shift(call.value(), -1.0, 0.0),
    "PRelu": lambda call: call.assembler.leaky_relu(call.value(), call.constant(1, "slope")),
    "Pad": _pad,
    "ReduceMean": _reduce_mean,
    "Relu": lambda call: call.assembler.leaky_relu(call.value(), 0.0),
    "Reshape": _reshape,
    "Sigmoid": _smooth("sigmoid"),
    "Slice": _slice,
    "Softplus": _smooth("softplus"),
    "Split": _split,
    "Squeeze": _squeeze,
    "Sub": _linear_binary(1.0, -1.0),
    "Sum": _sum,
    "Tanh": _smooth("tanh"),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""Operators that become layers when an input is computed from the image."""
