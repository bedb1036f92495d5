"""The table of ONNX operators: what each one means as an operation of the `Assembler`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from steadygaze.network.reading.assembling import activations, collapsing, joining, masking, spreading
from steadygaze.network.reading.assembling.assembly import Assembler, Value
from steadygaze.network.reading.assembling.held import AbstractHeld
from steadygaze.network.reading.from_onnx import activations as onnx_activations
from steadygaze.network.reading.from_onnx import (
    moving,
    picking,
    products,
    recurrent,
    resizing,
    sequences,
    smooth,
    stepping,
    windows,
    writing,
)
from steadygaze.network.reading.from_onnx.calls import Call, Rule
from steadygaze.network.reading.from_onnx.constants import SLICED, slices_of
from steadygaze.network.reading.from_onnx.stepping import HeldRule
from steadygaze.network.reading.marks import by_bounds, mixed


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

    def rule(call: Call) -> Value | AbstractHeld:
        asm = call.assembler
        a, b = call.inputs
        if isinstance(a, Value) and isinstance(b, Value):
            return asm.add(a, b) if second_scale == 1 else spreading.difference(asm, a, b)
        if isinstance(a, Value):
            x = a if first_scale == 1 else asm.scale_shift(a, first_scale, 0.0)
            return masking.raised(asm, x, second_scale * call.constant(1, "second operand"))
        x = call.value(1) if second_scale == 1 else asm.scale_shift(call.value(1), second_scale, 0.0)
        return masking.raised(asm, x, first_scale * call.constant(0, "first operand"))

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
        return smooth.divided(call)
    divisor = call.constant(1, "divisor").astype(np.float64)
    if (divisor == 0).any():
        raise call.assembler.refuse("it divides by 0", "allowed are other numbers; check the weights")
    return call.assembler.scale_shift(call.value(), 1.0 / divisor, 0.0)


def _slice(call: Call) -> Value | np.ndarray:
    inputs = [None, *(call.optional(i, name) for i, name in enumerate(SLICED, start=1))]
    x, shape = call.value(), call.assembler.shape(call.value())
    try:
        slices = slices_of(inputs, call.attributes, len(shape))
    except ValueError as error:
        raise call.assembler.refuse(str(error), "allowed is one start and one end for each axis") from error
    sizes = [len(range(*kept.indices(size))) for kept, size in zip(slices, shape, strict=True)]
    if 0 in sizes:
        return np.zeros(sizes)
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


def _mean_of_several(call: Call) -> Value:
    return call.assembler.scale_shift(_sum(call), 1 / len(call.given()), 0.0)


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


def _collapsed(over: Callable[[Assembler, Value, Sequence[int], bool], Value]) -> Rule:
    """ReduceMean, ReduceSum."""
    return lambda call: over(call.assembler, call.value(), *call.reduced())


def _cast_like(call: Call) -> Value | np.ndarray:
    """As precise as an example: what is computed from the image is as precise as what is verified."""
    value, example = call.inputs[:2]
    if isinstance(example, np.ndarray) and not np.issubdtype(example.dtype, np.floating):
        raise call.assembler.refuse(
            f"its example is of type {example.dtype}", "allowed are FLOAT and DOUBLE; take the conversion out"
        )
    return value.astype(np.float64) if isinstance(value, np.ndarray) else call.value()


def _running(call: Call) -> Value:
    """CumSum."""
    asm, axis = call.assembler, call.constant(1, "axis")
    axis = call.axis(int(axis.reshape(())), len(asm.shape(call.value())))
    exclusive, reverse = bool(call.get("exclusive", 0)), bool(call.get("reverse", 0))
    return collapsing.running(asm, call.value(), axis, exclusive=exclusive, reverse=reverse)


def _leaky_relu(call: Call) -> Value:
    return call.assembler.leaky_relu(call.value(), call.get("alpha", 0.01))


def _gelu(call: Call) -> Value:
    approximate = call.get("approximate", b"none").decode() == "tanh"
    return call.assembler.smooth(call.value(), "gelu-tanh" if approximate else "gelu")


OPERATORS: dict[str, Rule] = {
    "Add": _linear_binary(1.0, 1.0),
    "BatchNormalization": _batch_norm,
    "Cast": Call.value,
    "CastLike": _cast_like,
    "Clip": _clip,
    "CumSum": _running,
    "Div": mixed(_div),
    "Dropout": Call.value,
    "Erf": by_bounds(activations.smooth("erf")),
    "Flatten": _flatten,
    "Gelu": by_bounds(_gelu),
    "Gemm": _gemm,
    "Identity": Call.value,
    "LeakyRelu": _leaky_relu,
    "Mean": _mean_of_several,
    "Mul": mixed(_mul),
    "Neg": lambda call: call.assembler.scale_shift(call.value(), -1.0, 0.0),
    "PRelu": lambda call: call.assembler.leaky_relu(call.value(), call.constant(1, "slope")),
    "ReduceMean": _collapsed(collapsing.mean),
    "ReduceSum": _collapsed(collapsing.total),
    "Relu": lambda call: call.assembler.leaky_relu(call.value(), 0.0),
    "Reshape": _reshape,
    "Sigmoid": by_bounds(activations.smooth("sigmoid")),
    "Slice": _slice,
    "Softplus": by_bounds(activations.smooth("softplus")),
    "Split": _split,
    "Squeeze": _squeeze,
    "Sub": _linear_binary(1.0, -1.0),
    "Sum": _sum,
    "Tanh": by_bounds(activations.smooth("tanh")),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    **windows.RULES,
    **picking.RULES,
    **onnx_activations.RULES,
    **moving.RULES,
    **resizing.RULES,
    **products.RULES,
    **recurrent.RULES,
    **sequences.RULES,
    **smooth.RULES,
    **stepping.RULES,
    **writing.RULES,
}
"""Operators that become layers when an input is computed from the image."""

HELD_OPERATORS: Mapping[str, HeldRule] = {**stepping.HELD, **windows.HELD}
"""What operators make of what is held: see `AbstractHeld`. All others refuse it."""
