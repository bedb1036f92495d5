"""The table of ONNX operators: what each one means as an operation of the `Assembler`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from onnx import TensorProto

from steadygaze.network.reading.assembly import Assembler, Pads, PoolGeometry, Value
from steadygaze.network.reading.onnx_constants import axes_of, slices_of
from steadygaze.network.reading.windows import same_padding

_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE)


@dataclass(frozen=True)
class Call:
    """One node of the file: its operator's inputs (computed values, constants, or None where left out)."""

    assembler: Assembler
    inputs: tuple[Value | np.ndarray | None, ...]
    attributes: Mapping[str, Any]
    opset: int

    def value(self, place: int = 0) -> Value:
        """An input that the network computes."""
        found = self._input(place)
        if not isinstance(found, Value):
            raise self.assembler.refuse(
                f"input {place} is a constant",
                "allowed is a value computed from the image; export the network again",
            )
        return found

    def constant(self, place: int, name: str) -> np.ndarray:
        """An input that is fixed in the file."""
        found = self.optional(place, name)
        if found is None:
            raise self.assembler.refuse(f"its {name} is missing", "export the network again")
        return found

    def optional(self, place: int, name: str) -> np.ndarray | None:
        """An input that is fixed in the file, or None."""
        found = self._input(place)
        if isinstance(found, Value):
            raise self.assembler.refuse(
                f"its {name} is computed from the image", f"allowed is a constant {name}; make it a weight"
            )
        return found

    def get(self, name: str, default: Any) -> Any:
        """An attribute."""
        return self.attributes.get(name, default)

    def _input(self, place: int) -> Value | np.ndarray | None:
        return self.inputs[place] if place < len(self.inputs) else None


Rule: TypeAlias = Callable[[Call], Value]


def _gemm(call: Call) -> Value:
    asm, x = call.assembler, call.value(0)
    weight = call.constant(1, "weight")
    x = asm.permute(x, (1, 0)) if call.get("transA", 0) else x
    weight = (weight if call.get("transB", 0) else weight.T).astype(np.float64) * call.get("alpha", 1.0)
    bias = call.optional(2, "bias")
    if bias is None:
        return asm.dense(x, weight, None)
    bias = bias.astype(np.float64) * call.get("beta", 1.0)
    if bias.size == len(weight) and bias.shape[-1:] == (len(weight),):
        return asm.dense(x, weight, bias)
    return asm.scale_shift(asm.dense(x, weight, None), 1.0, bias)


def _matmul(call: Call) -> Value:
    asm = call.assembler
    first, second = call.inputs
    matrix = second if isinstance(first, Value) else first
    if not isinstance(matrix, np.ndarray) or matrix.ndim != 2:
        what = "two computed values" if isinstance(matrix, Value) else "a constant that is not a matrix"
        raise asm.refuse(f"it multiplies {what}", "allowed is a computed value times a constant matrix")
    if isinstance(first, Value):
        return asm.dense(first, matrix.T, None)
    return asm.matmul_left(matrix, call.value(1))


def _conv(call: Call) -> Value:
    asm, x = call.assembler, call.value(0)
    weight = call.constant(1, "weight")
    if weight.ndim != 4:
        raise asm.refuse(
            f"the weight has {weight.ndim} axes", "allowed are two-dimensional convolutions (4 axes)"
        )
    window = _geometry(call, tuple(weight.shape[2:]), x)
    groups = int(call.get("group", 1))
    return asm.conv(x, weight, call.optional(2, "bias"), window.stride, window.pads, window.dilation, groups)


def _geometry(call: Call, kernel: tuple[int, ...], x: Value) -> PoolGeometry:
    if len(kernel) != 2:
        raise call.assembler.refuse(f"the window is {kernel}", "allowed are two-dimensional windows")
    stride, dilation = (tuple(call.get(name, (1, 1))) for name in ("strides", "dilations"))
    top, left, bottom, right = call.get("pads", (0, 0, 0, 0))
    pads: Pads = ((top, bottom), (left, right))
    rule = call.get("auto_pad", b"NOTSET").decode()
    if rule.startswith("SAME"):
        longer: Literal["before", "after"] = "before" if rule == "SAME_LOWER" else "after"
        sizes = call.assembler.shape(x)[2:]
        rows, columns = (
            same_padding(*each, longer) for each in zip(sizes, kernel, stride, dilation, strict=True)
        )
        pads = (rows, columns)
    return PoolGeometry(kernel, stride, pads, dilation, bool(call.get("ceil_mode", 0)))


def _max_pool(call: Call) -> Value:
    return call.assembler.max_pool(
        call.value(), _geometry(call, tuple(call.get("kernel_shape", ())), call.value())
    )


def _average_pool(call: Call) -> Value:
    geometry = _geometry(call, tuple(call.get("kernel_shape", ())), call.value())
    return call.assembler.average_pool(call.value(), geometry, bool(call.get("count_include_pad", 0)))


def _global_max_pool(call: Call) -> Value:
    rows, columns = call.assembler.shape(call.value())[2:]
    return call.assembler.max_pool(call.value(), PoolGeometry((rows, columns), (1, 1)))


def _batch_norm(call: Call) -> Value:
    if call.get("training_mode", 0):
        raise call.assembler.refuse(
            "it is in training mode", "allowed is evaluation; export with model.eval()"
        )
    names = ("scale", "bias", "mean", "variance")
    scale, bias, mean, variance = (call.constant(i, name) for i, name in enumerate(names, start=1))
    return call.assembler.batch_norm(call.value(), scale, bias, mean, variance, call.get("epsilon", 1e-5))


def _clip(call: Call) -> Value:
    limits = [call.optional(i, name) for i, name in ((1, "lower limit"), (2, "upper limit"))]
    low, high = (None if limit is None else float(limit.reshape(-1)[0]) for limit in limits)
    return call.assembler.clip(call.value(), call.get("min", low), call.get("max", high))


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
        return call.assembler.product(a, b)
    if isinstance(a, Value):
        return call.assembler.scale_shift(a, call.constant(1, "factor"), 0.0)
    return call.assembler.scale_shift(
        call.value(1), call.constant(0, "factor") if b is not None else 1.0, 0.0
    )


def _div(call: Call) -> Value:
    divisor = call.constant(1, "divisor").astype(np.float64)
    if (divisor == 0).any():
        raise call.assembler.refuse("it divides by 0", "allowed are other numbers; check the weights")
    return call.assembler.scale_shift(call.value(), 1.0 / divisor, 0.0)


def _slice(call: Call) -> Value:
    inputs = [
        None,
        *(call.optional(i, name) for i, name in enumerate(("starts", "ends", "axes", "steps"), start=1)),
    ]
    x, shape = call.value(), call.assembler.shape(call.value())
    for axis, kept in enumerate(slices_of(inputs, call.attributes, len(shape))):
        x = call.assembler.crop(x, axis, *kept.indices(shape[axis]))
    return x


def _sum(call: Call) -> Value:
    total = call.value(0)
    for place in range(1, len(call.inputs)):
        total = call.assembler.add(total, call.value(place))
    return total


def _pad(call: Call) -> Value:
    asm, x = call.assembler, call.value()
    mode = call.get("mode", b"constant").decode()
    if mode != "constant":
        raise asm.refuse(f"the padding mode is {mode!r}", "allowed is 'constant'")
    old = call.opset < 11
    amounts = [int(n) for n in (call.get("pads", ()) if old else call.constant(1, "padding"))]
    rank = len(asm.shape(x))
    fill = call.get("value", 0.0) if old else call.optional(2, "fill")
    chosen = [] if old else call.optional(3, "axes")
    axes = range(rank) if old or chosen is None else [int(axis) % rank for axis in chosen]
    pads = [(0, 0)] * rank
    for place, axis in enumerate(axes):
        pads[axis] = (amounts[place], amounts[place + len(amounts) // 2])
    return asm.pad(x, pads, 0.0 if fill is None else float(np.reshape(fill, -1)[0]))


def _flatten(call: Call) -> Value:
    shape = call.assembler.shape(call.value())
    axis = call.get("axis", 1)
    before = int(np.prod(shape[: axis if axis >= 0 else len(shape) + axis]))
    return call.assembler.reshape(call.value(), (before, -1))


def _reshape(call: Call) -> Value:
    old = call.assembler.shape(call.value())
    given = call.get("shape", None) if call.opset < 5 else call.constant(1, "shape")
    shape = [int(size) for size in np.ravel(given)]
    if not call.get("allowzero", 0):
        shape = [old[i] if size == 0 and i < len(old) else size for i, size in enumerate(shape)]
    return call.assembler.reshape(call.value(), shape)


def _squeeze(call: Call) -> Value:
    shape = call.assembler.shape(call.value())
    axes = axes_of(_constants(call), call.attributes)
    dropped = {i for i, n in enumerate(shape) if n == 1} if axes is None else {a % len(shape) for a in axes}
    return call.assembler.reshape(
        call.value(), [n for i, n in enumerate(shape) if i not in dropped or n != 1]
    )


def _unsqueeze(call: Call) -> Value:
    shape = list(call.assembler.shape(call.value()))
    axes = axes_of(_constants(call), call.attributes) or ()
    for axis in sorted(axis % (len(shape) + len(axes)) for axis in axes):
        shape.insert(axis, 1)
    return call.assembler.reshape(call.value(), shape)


def _constants(call: Call) -> tuple[None, np.ndarray | None]:
    return (None, call.optional(1, "axes"))


def _transpose(call: Call) -> Value:
    rank = len(call.assembler.shape(call.value()))
    return call.assembler.permute(call.value(), call.get("perm", tuple(reversed(range(rank)))))


def _concat(call: Call) -> Value:
    values = [call.value(place) for place in range(len(call.inputs))]
    return call.assembler.concat(values, call.get("axis", 1))


def _reduce_mean(call: Call) -> Value:
    axes = axes_of(_constants(call), call.attributes)
    rank = len(call.assembler.shape(call.value()))
    return call.assembler.mean(
        call.value(), range(rank) if axes is None else axes, bool(call.get("keepdims", 1))
    )


def _cast(call: Call) -> Value:
    if call.get("to", None) not in _FLOATS:
        kind = TensorProto.DataType.Name(call.get("to", 0))
        raise call.assembler.refuse(f"it casts to {kind}", "allowed are FLOAT and DOUBLE")
    return call.value()


def _leaky_relu(call: Call) -> Value:
    return call.assembler.leaky_relu(call.value(), call.get("alpha", 0.01))


def _smooth(function: str) -> Rule:
    return lambda call: call.assembler.smooth(call.value(), function)


def _gelu(call: Call) -> Value:
    approximate = call.get("approximate", b"none").decode() == "tanh"
    return call.assembler.smooth(call.value(), "gelu-tanh" if approximate else "gelu")


OPERATORS: dict[str, Rule] = {
    "Add": _linear_binary(1.0, 1.0),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
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
    "Squeeze": _squeeze,
    "Sub": _linear_binary(1.0, -1.0),
    "Sum": _sum,
    "Tanh": _smooth("tanh"),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""Operators that become layers when an input is computed from the image."""
