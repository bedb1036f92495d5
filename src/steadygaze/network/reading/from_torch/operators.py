"""The table of PyTorch (ATen) operators: what each one means as an operation of the `Assembler`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch._ops import OpOverload

from steadygaze.network.reading.assembling import activations, collapsing, joining, masking, spreading
from steadygaze.network.reading.assembling.assembly import Assembler, Value
from steadygaze.network.reading.assembling.held import AbstractHeld
from steadygaze.network.reading.from_torch import activations as torch_activations
from steadygaze.network.reading.from_torch import (
    moving,
    picking,
    products,
    recurrent,
    resizing,
    shapes,
    smooth,
    stepping,
    windows,
    writing,
)
from steadygaze.network.reading.from_torch.arguments import (
    COMPUTED,
    CONSTANT,
    COUNT,
    FLAG,
    FORMAT,
    LIMIT,
    NONE,
    NUMBER,
    OPERAND,
    PRECISION,
    PROCESSOR,
    WEIGHTS,
    WHOLE,
    Argument,
    Call,
    Operator,
    Rows,
    Rule,
    only,
    unread,
    weights,
    whole_numbers,
)
from steadygaze.network.reading.from_torch.moving import MIRRORS
from steadygaze.network.reading.marks import by_bounds, mixed


def _linear(call: Call) -> Value:
    return call.assembler.dense(call.value("input"), call.constant("weight"), call.optional("bias"))


def _addmm(call: Call) -> Value:
    product = call.assembler.dense(call.value("mat1"), call.constant("mat2").T * call["alpha"], None)
    return call.assembler.scale_shift(product, 1.0, call.constant("self") * call["beta"])


def _batch_norm(call: Call) -> Value:
    names, channels = ("weight", "bias", "running_mean", "running_var"), call.shape("input")[1:2]
    for name in names:
        given = call.optional(name)
        if given is not None and given.shape != channels:
            raise call.refuse(name, f"one number for each of {channels} channels")
    weight, bias = (call.optional(name) for name in names[:2])
    mean, variance = (call.constant(name) for name in names[2:])
    if not (variance + call["eps"] > 0).all():
        raise call.refuse("running_var", "variances that are above 0 with eps")
    return call.assembler.batch_norm(call.value("input"), weight, bias, mean, variance, call["eps"])


def _native_batch_norm(call: Call) -> list[Value]:
    return [_batch_norm(call)]


def _clamp(call: Call) -> Value:
    """Limits whose derivative at the limit itself is 1: a point on a kink belongs to the piece below it."""
    asm, low, high = call.assembler, _limit(call, "min"), _limit(call, "max")
    value = call.value() if low is None else _negative(call, _below(asm, _negative(call), -low))
    return value if high is None else _below(asm, value, high)


def _below(asm: Assembler, value: Value, limit: np.ndarray) -> Value:
    """The smaller of a value and a limit, which is one number or has one for each."""
    if limit.ndim == 0:
        return asm.clip(value, None, float(limit))
    return asm.scale_shift(asm.clip(asm.scale_shift(value, 1.0, -limit), None, 0.0), 1.0, limit)


def _negative(call: Call, value: Value | None = None) -> Value:
    return call.assembler.scale_shift(value or call.value(), -1.0, 0.0)


def _limit(call: Call, name: str) -> np.ndarray | None:
    """What an argument limits the value to, one number where all are equal; None where there is none."""
    limit = call.optional(name) if name in call.arguments else None
    if limit is None:
        return None
    shape, numbers = call.shape(), np.unique(limit)
    if limit.ndim > len(shape) or not _keeps(limit.shape, shape):
        raise call.refuse(name, f"one number, or a constant tensor of what broadcasts to {shape}")
    if len(numbers) == 1:
        return numbers.reshape(())
    if not np.isfinite(limit).all():
        raise call.refuse(name, "one number, or a constant tensor of finite ones")
    return limit


def _keeps(constant: Sequence[int], shape: tuple[int, ...]) -> bool:
    """Whether a constant of that shape leaves the other shape as it is when the two are broadcast."""
    try:
        return np.broadcast_shapes(tuple(constant), shape) == shape
    except ValueError:
        return False


def _prelu(call: Call) -> Value:
    slope, rank = call.constant("weight"), len(call.shape())
    # A vector of slopes goes along the channels; one slope goes everywhere.
    shaped = slope.reshape((-1,) + (1,) * (rank - 2)) if slope.size > 1 else slope
    return call.assembler.leaky_relu(call.value(), shaped)


def _prelu_kernel(call: Call) -> Value:
    slope = call.constant("weight")
    if not _keeps(slope.shape, call.shape()):
        raise call.refuse("weight", f"what broadcasts to {call.shape()}")
    return call.assembler.leaky_relu(call.value(), slope)


def _mean(call: Call) -> Value:
    axes, keep = _axes(call)
    return collapsing.mean(call.assembler, call.value(), axes, keep)


def _total(call: Call) -> Value:
    axes, keep = _axes(call)
    return collapsing.total(call.assembler, call.value(), axes, keep)


def _axes(call: Call) -> tuple[list[int], bool]:
    """The axes that a reduction names, and whether they stay; no axes, or none named, are all of them."""
    given, keep = call.arguments.get("dim"), call.arguments.get("keepdim", False)
    axes = [given] if isinstance(given, int) else given or range(len(call.shape()))
    return list(axes), keep


def _sum_of(sign: float) -> Rule:
    """``self + sign * alpha * other``: add and sub."""

    def rule(call: Call) -> Value | AbstractHeld:
        asm, a, b = call.assembler, call["self"], call["other"]
        factor = sign * call.arguments.get("alpha", 1)
        if isinstance(a, Value) and isinstance(b, Value):
            if factor == -1:
                return spreading.difference(asm, a, b)
            return asm.add(a, b if factor == 1 else asm.scale_shift(b, factor, 0.0))
        if isinstance(a, Value):
            return masking.raised(asm, a, factor * call.constant("other"))
        b = call.value("other")
        return masking.raised(
            asm, b if factor == 1 else asm.scale_shift(b, factor, 0.0), call.constant("self")
        )

    return rule


def _reversed_sub(call: Call) -> Value:
    """``other - alpha * self``."""
    return call.assembler.scale_shift(call.value(), -float(call["alpha"]), call.constant("other"))


def _mul(call: Call) -> Value:
    if isinstance(call["self"], Value) and isinstance(call["other"], Value):
        return joining.product(call.assembler, call["self"], call["other"])
    if isinstance(call["self"], Value):
        return call.assembler.scale_shift(call.value(), call.constant("other"), 0.0)
    return call.assembler.scale_shift(call.value("other"), call.constant("self"), 0.0)


def _div(call: Call) -> Value:
    asm = call.assembler
    if isinstance(call["other"], Value):
        if isinstance(call["self"], Value):
            return joining.divided(asm, call["self"], call["other"])
        return asm.scale_shift(joining.power(asm, call["other"], -1.0), call.constant("self"), 0.0)
    divisor = call.constant("other")
    if (divisor == 0).any():
        raise call.assembler.refuse("it divides by 0", "allowed is division by other numbers")
    return call.assembler.scale_shift(call.value(), 1.0 / divisor, 0.0)


def _same(call: Call) -> Value:
    """Copies, conversions that keep the numbers, and dropout, which evaluation leaves out."""
    return call.value(next(iter(call.arguments)))


def _gelu(call: Call) -> Value:
    return call.assembler.smooth(call.value(), "gelu-tanh" if call["approximate"] == "tanh" else "gelu")


def _softplus(call: Call) -> Value:
    return call.assembler.softplus(call.value(), float(call["beta"]), float(call["threshold"]))


_EVALUATION = only(False)
_NOT_USED = unread("not used in evaluation")
_VECTOR = weights(1) | NONE
_AXES = NONE | WHOLE | whole_numbers()
_NORM = {"input": COMPUTED, "weight": _VECTOR, "bias": _VECTOR, "momentum": _NOT_USED, "eps": NUMBER}
_STATISTICS = Argument(
    f"{weights(1).words}: without statistics of its own it takes those of the batch, so that an image "
    "changes the logits of another (track_running_stats=True)",
    weights(1).fits,
)
_NORM |= dict.fromkeys(("running_mean", "running_var"), _STATISTICS)
_OWN_STATISTICS = Argument(
    f"{_EVALUATION.words}: in training it takes the mean and variance of the batch, so that an image changes "
    "the logits of another (F.batch_norm(..., training=False), with statistics that were kept)",
    _EVALUATION.fits,
)
_NORM |= {"training": _OWN_STATISTICS, "cudnn_enabled": _NOT_USED}
_REAL = Argument(
    f"{PRECISION.words}: whole numbers jump from one to the next, half precision rounds, and complex numbers "
    "are two real ones each, to be computed apart",
    PRECISION.fits,
)
_CAST = {
    "self": COMPUTED,
    "other": Argument("a constant tensor of float32 or float64", lambda given: _is_precise(given)),
    "dtype": _REAL,
    "layout": NONE | Argument("dense", lambda given: given == torch.strided),
    "device": PROCESSOR,
    "memory_format": FORMAT,
}
_CAST |= dict.fromkeys(("pin_memory", "non_blocking", "copy"), unread("where it is kept"))


def _is_precise(given: Any) -> bool:
    return WEIGHTS.fits(given) and PRECISION.fits(given.dtype)


def _named(names: str, rule: Rule, arguments: Mapping[str, Argument]) -> Iterator[tuple[str, Operator]]:
    """The rows of the overloads of these names: each with the arguments that its schema has, all declared."""
    for name in names.split():
        declared = (argument.name for argument in overload(name)._schema.arguments)
        yield name, Operator(rule, {argument: arguments[argument] for argument in declared})


def overload(name: str) -> OpOverload:
    """The ATen operator of a name in the table, such as "relu" or "add.Tensor"."""
    packet, _, kind = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet), kind or "default")


def overload_name(operator: OpOverload) -> str:
    """The name that an ATen operator has in the table."""
    name = operator._schema.name.partition("::")[2]
    return f"{name}.{operator._overloadname}" if operator._overloadname != "default" else name


_ONE = {"self": COMPUTED}
_SUM = {"self": OPERAND, "other": OPERAND, "alpha": NUMBER}
_LIMITS = {"self": COMPUTED, **dict.fromkeys(("min", "max"), NONE | LIMIT | WEIGHTS)}
_PART = {"dim": WHOLE, "split_size": COUNT | whole_numbers(least=0), "split_sizes": whole_numbers(least=0)}
_PADDING = {
    "self": COMPUTED,
    "pad": whole_numbers(),
    "mode": only("constant", *MIRRORS),
    "value": NONE | NUMBER | only(-math.inf),
}
_SIZES = {"self": COMPUTED, "size": whole_numbers(), "shape": whole_numbers()}
_DROPOUT = {"input": COMPUTED, "p": _NOT_USED, "train": _EVALUATION}
_AFFINE = {"self": WEIGHTS, "mat1": COMPUTED, "mat2": weights(2), "beta": NUMBER, "alpha": NUMBER}
_REDUCED = {"self": COMPUTED, "dim": _AXES, "keepdim": FLAG, "dtype": PRECISION}


_ROWS: Rows = (
    ("linear", _linear, {"input": COMPUTED, "weight": weights(2), "bias": _VECTOR}),
    ("addmm", _addmm, _AFFINE),
    ("batch_norm", _batch_norm, _NORM),
    ("_native_batch_norm_legit_no_training", _native_batch_norm, _NORM),
    ("mean mean.dim", _mean, _REDUCED),
    ("sum sum.dim_IntList", _total, _REDUCED),
    (
        "cumsum",
        lambda call: collapsing.running(call.assembler, call.value(), call["dim"]),
        {"self": COMPUTED, "dim": WHOLE, "dtype": PRECISION},
    ),
    ("add.Tensor add.Scalar", _sum_of(1.0), _SUM),
    ("sub.Tensor sub.Scalar", _sum_of(-1.0), _SUM),
    ("rsub.Tensor rsub.Scalar", _reversed_sub, {"self": COMPUTED, "other": CONSTANT, "alpha": NUMBER}),
    ("mul.Tensor mul.Scalar", mixed(_mul), {"self": OPERAND, "other": OPERAND}),
    (
        "div.Tensor div.Scalar div.Tensor_mode div.Scalar_mode",
        mixed(_div),
        {"self": OPERAND, "other": OPERAND, "rounding_mode": NONE},
    ),
    ("neg", _negative, _ONE),
    ("relu", lambda call: call.assembler.leaky_relu(call.value(), 0.0), _ONE),
    ("relu6", lambda call: call.assembler.clip(call.value(), 0.0, 6.0), _ONE),
    (
        "leaky_relu",
        lambda call: call.assembler.leaky_relu(call.value(), call["negative_slope"]),
        {"self": COMPUTED, "negative_slope": NUMBER},
    ),
    ("prelu", _prelu, {"self": COMPUTED, "weight": weights(0, 1)}),
    ("_prelu_kernel", _prelu_kernel, {"self": COMPUTED, "weight": WEIGHTS}),
    (
        "hardtanh",
        lambda call: call.assembler.clip(call.value(), call["min_val"], call["max_val"]),
        {"self": COMPUTED, "min_val": LIMIT, "max_val": LIMIT},
    ),
    ("clamp clamp.Tensor", _clamp, _LIMITS),
    ("clamp_min clamp_min.Tensor clamp_max clamp_max.Tensor", _clamp, _LIMITS),
    ("arctan atan", by_bounds(activations.smooth("atan")), _ONE),
    ("sin", by_bounds(activations.smooth("sin")), _ONE),
    ("cos", by_bounds(activations.smooth("cos")), _ONE),
    (
        "erfc special_erfc",
        by_bounds(lambda c: c.assembler.scale_shift(c.assembler.smooth(c.value(), "erf"), -1.0, 1.0)),
        _ONE,
    ),
    (
        "expm1 special_expm1",
        by_bounds(lambda c: c.assembler.scale_shift(c.assembler.smooth(c.value(), "exp"), 1.0, -1.0)),
        _ONE,
    ),
    ("erf", by_bounds(activations.smooth("erf")), _ONE),
    ("sigmoid", by_bounds(activations.smooth("sigmoid")), _ONE),
    ("silu", by_bounds(activations.smooth("silu")), _ONE),
    ("tanh", by_bounds(activations.smooth("tanh")), _ONE),
    ("gelu", by_bounds(_gelu), {"self": COMPUTED, "approximate": only("none", "tanh")}),
    ("softplus", by_bounds(_softplus), {"self": COMPUTED, "beta": NUMBER, "threshold": LIMIT}),
    ("pad constant_pad_nd", shapes.padded, _PADDING),
    (
        "slice.Tensor",
        shapes.sliced,
        {"self": COMPUTED, "dim": WHOLE, "start": NONE | WHOLE, "end": NONE | WHOLE, "step": COUNT},
    ),
    ("select.int", shapes.selected, {"self": COMPUTED, "dim": WHOLE, "index": WHOLE}),
    ("chunk", shapes.parts, {"self": COMPUTED, "chunks": COUNT, "dim": WHOLE}),
    ("split.Tensor split.sizes split split_with_sizes", shapes.parts, {"self": COMPUTED, **_PART}),
    ("reshape view _unsafe_view", shapes.reshaped, _SIZES),
    ("flatten.using_ints", shapes.flattened, {"self": COMPUTED, "start_dim": WHOLE, "end_dim": WHOLE}),
    ("unflatten.int", shapes.unflattened, {"self": COMPUTED, "dim": WHOLE, "sizes": whole_numbers()}),
    ("squeeze squeeze.dim squeeze.dims", shapes.squeezed, {"self": COMPUTED, "dim": WHOLE | whole_numbers()}),
    ("unsqueeze", shapes.unsqueezed, {"self": COMPUTED, "dim": WHOLE}),
    (
        "permute",
        lambda call: call.assembler.permute(call.value(), call["dims"]),
        {"self": COMPUTED, "dims": whole_numbers()},
    ),
    ("transpose.int", shapes.transposed, {"self": COMPUTED, "dim0": WHOLE, "dim1": WHOLE}),
    ("t numpy_T", shapes.reversed_axes, _ONE),
    ("dropout feature_dropout alpha_dropout", _same, _DROPOUT),
    (
        "nan_to_num",
        _same,
        {"self": COMPUTED, **dict.fromkeys(("nan", "posinf", "neginf"), unread("real numbers are finite"))},
    ),
    ("alias clone contiguous lift_fresh_copy", _same, _CAST),
    ("_to_copy to.device to.dtype to.other to.dtype_layout", _same, _CAST),
    *windows.ROWS,
    *picking.ROWS,
    *torch_activations.ROWS,
    *moving.ROWS,
    *resizing.ROWS,
    *products.ROWS,
    *recurrent.ROWS,
    *smooth.ROWS,
    *stepping.ROWS,
    *writing.ROWS,
)


def _table(rows: Rows) -> dict[str, Operator]:
    return {name: own for names, rule, arguments in rows for name, own in _named(names, rule, arguments)}


OPERATORS: dict[str, Operator] = _table(_ROWS)
"""Operators that become layers when an argument is computed from the image, by name and overload."""

HELD_OPERATORS: dict[str, Operator] = _table((*stepping.HELD_ROWS, *windows.HELD_ROWS))
"""What operators make of arguments that are held: see `AbstractHeld`. All others refuse them."""
