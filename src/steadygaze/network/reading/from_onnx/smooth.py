"""ONNX operators that are smooth, or in which values meet: activations, powers, norms, reductions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from steadygaze.network.reading.assembling import (
    activations,
    collapsing,
    contracting,
    joining,
    multiplying,
    picking,
)
from steadygaze.network.reading.assembling.assembly import Assembler, Value
from steadygaze.network.reading.assembling.masking import Masked
from steadygaze.network.reading.from_onnx.calls import Call, Rule
from steadygaze.network.reading.marks import by_bounds

# The last version in which a softmax took all axes from one on together.
_LAST_TOGETHER = 12
# Axes of rows that hold all heads.
_ROWS = 3


def _swish(call: Call) -> Value:
    """``z sigmoid(alpha z)``."""
    asm, alpha = call.assembler, call.get("alpha", 1.0)
    if not alpha:
        return asm.scale_shift(call.value(), 0.5, 0.0)
    return asm.scale_shift(asm.smooth(asm.scale_shift(call.value(), alpha, 0.0), "silu"), 1 / alpha, 0.0)


def _power(exponent: float) -> Rule:
    return lambda call: joining.power(call.assembler, call.value(), exponent)


def _pow(call: Call) -> Value:
    exponent = call.either(1)
    if isinstance(exponent, Value):
        base = call.either(0)
        if isinstance(base, Value):
            return joining.raised(call.assembler, base, exponent)
        return joining.exponential(call.assembler, call.constant(0, "base"), exponent)
    exponents = np.unique(call.constant(1, "exponent"))
    if len(exponents) != 1:
        raise call.assembler.refuse(
            f"its exponents are {len(exponents)} numbers", "allowed is one for all of the value"
        )
    return joining.power(call.assembler, call.value(), float(exponents[0]))


def softmax(call: Call, scores: Value | Masked) -> Value:
    """Along one axis; before version 13, whose default was 1, all axes from it on were taken together."""
    asm, along = call.assembler, call.opset > _LAST_TOGETHER
    rank = len(asm.shape(scores.scores if isinstance(scores, Masked) else scores))
    axis = call.axis(call.get("axis", -1 if along else 1), rank)
    if along or axis == rank - 1:
        return joining.softmax(asm, scores, axis)
    if isinstance(scores, Masked):
        raise scores.refusal(asm)
    return joining.softmax_together(asm, scores, axis)


def _attention(call: Call) -> Value:
    """Attention of values with a batch, heads, places and a size; or of rows that hold the heads."""
    asm, mask = call.assembler, call.either(3)
    q, k, v = (call.value(place) for place in range(3))
    together = len(asm.shape(q)) == _ROWS
    heads = int(call.get("q_num_heads", 1)) if together else asm.shape(q)[1]
    if together:
        fewer = int(call.get("kv_num_heads", heads))
        q, k, v = (_heads(asm, x, n) for x, n in ((q, heads), (k, fewer), (v, fewer)))
    k, v = (joining.for_each_head(asm, x, heads) for x in (k, v))
    if call.get("is_causal", 0):
        seen = joining.causal(asm.shape(q)[-2], asm.shape(k)[-2])
        if isinstance(mask, Value):
            raise asm.refuse("its mask is computed, and it is causal", "allowed is one of the two")
        mask = seen if mask is None else joining.both(mask, seen)
    made = contracting.attention(asm, q, k, v, call.get("scale", None), mask)
    if not together:
        return made
    batch, _, places, size = asm.shape(made)
    return asm.reshape(asm.permute(made, (0, 2, 1, 3)), (batch, places, heads * size))


def _heads(asm: Assembler, x: Value, heads: int) -> Value:
    """Rows ``(batch, places, heads of a size)`` with the heads in front of the places."""
    batch, places, size = asm.shape(x)
    if size % heads:
        raise asm.refuse(f"it has {heads} heads in rows of {size}", "allowed are heads that divide the rows")
    return asm.permute(asm.reshape(x, (batch, places, heads, size // heads)), (0, 2, 1, 3))


def _sum_of_squares(exponent: float) -> Rule:
    """Powers of sums of squares over axes: ReduceL2, ReduceSumSquare."""

    def rule(call: Call) -> Value:
        asm, (axes, keep) = call.assembler, call.reduced()
        squares = joining.power(asm, call.value(), 2.0)
        return joining.power(asm, collapsing.total(asm, squares, axes, keep), exponent)

    return rule


def _log_of_sum(call: Call) -> Value:
    axes, keep = call.reduced()
    return joining.logarithm(call.assembler, collapsing.total(call.assembler, call.value(), axes, keep))


def _last(call: Call) -> tuple[int, ...]:
    """The axes from the named one on."""
    rank = len(call.assembler.shape(call.value()))
    return tuple(range(call.axis(call.get("axis", -1), rank), rank))


def _over_last(centred: bool) -> Rule:
    """LayerNormalization and RMSNormalization."""

    def rule(call: Call) -> Value:
        asm = call.assembler
        made = joining.normalised(asm, call.value(), _last(call), call.get("epsilon", 1e-5), centred)
        scale, bias = call.constant(1, "scale"), call.optional(2, "bias")
        return asm.scale_shift(made, scale, 0.0 if bias is None else bias)

    return rule


def _group_norm(call: Call) -> Value:
    asm, x, groups = call.assembler, call.value(), int(call.get("num_groups", 1))
    made = joining.grouped(asm, x, groups, call.get("epsilon", 1e-5))
    return _per_channel(call, made)


def _instance_norm(call: Call) -> Value:
    asm, x = call.assembler, call.value()
    made = joining.grouped(asm, x, asm.shape(x)[1], call.get("epsilon", 1e-5))
    return _per_channel(call, made)


def _per_channel(call: Call, x: Value) -> Value:
    asm = call.assembler
    numbers = [call.constant(place, name) for place, name in ((1, "scale"), (2, "bias"))]
    channels = asm.shape(x)[1:2]
    if any(one.shape != channels for one in numbers):
        raise asm.refuse(
            f"its scale and bias have shapes {[one.shape for one in numbers]}",
            f"allowed is one number for each of {channels} channels; export for operator set 21 and above",
        )
    return joining.along_channels(asm, x, *numbers)


def _response(call: Call) -> Value:
    asm, x = call.assembler, call.value()
    if len(asm.shape(x)) < 3:
        raise asm.refuse(f"its value has shape {asm.shape(x)}", "allowed are values with channels and places")
    numbers = (call.get("alpha", 1e-4), call.get("beta", 0.75), call.get("bias", 1.0))
    return joining.responding(asm, x, int(call.get("size", 1)), *numbers)


def _unit_length(call: Call) -> Value:
    """LpNormalization: divided by the root of the sum of squares, or by the sum of absolute values."""
    asm, x = call.assembler, call.value()
    axis = call.axis(call.get("axis", -1), len(asm.shape(x)))
    square = call.get("p", 2) == 2
    each = joining.power(asm, x, 2.0) if square else picking.absolute(asm, x)
    total = collapsing.total(asm, each, [axis], keep=True)
    return joining.multiplied(asm, x, joining.power(asm, total, -0.5 if square else -1.0))


def _log_softmax(call: Call) -> Value:
    """The logarithm of a softmax along one axis; before version 13 of all axes from it on."""
    asm, x, along = call.assembler, call.value(), call.opset > _LAST_TOGETHER
    rank = len(asm.shape(x))
    axis = call.axis(call.get("axis", -1 if along else 1), rank)
    axes = [axis] if along else list(range(axis, rank))
    total = joining.log_of_sum(asm, x, axes, keep=True)
    return asm.add(x, asm.scale_shift(total, -1.0, 0.0))


def divided(call: Call) -> Value:
    """Div by a computed value."""
    asm, divisor = call.assembler, call.value(1)
    if isinstance(call.inputs[0], Value):
        return joining.divided(asm, call.value(0), divisor)
    return asm.scale_shift(joining.power(asm, divisor, -1.0), call.constant(0, "numerator"), 0.0)


RULES: Mapping[str, Rule] = {
    "Attention": by_bounds(_attention),
    "Exp": by_bounds(activations.smooth("exp")),
    "GroupNormalization": by_bounds(_group_norm),
    "InstanceNormalization": by_bounds(_instance_norm),
    "LRN": by_bounds(_response),
    "LayerNormalization": by_bounds(_over_last(centred=True)),
    "Log": by_bounds(lambda call: joining.logarithm(call.assembler, call.value())),
    "LogSoftmax": by_bounds(_log_softmax),
    "LpNormalization": by_bounds(_unit_length),
    "Pow": by_bounds(_pow),
    "RMSNormalization": by_bounds(_over_last(centred=False)),
    "Reciprocal": by_bounds(_power(-1.0)),
    "ReduceLogSum": by_bounds(_log_of_sum),
    "ReduceLogSumExp": by_bounds(
        lambda call: joining.log_of_sum(call.assembler, call.value(), *call.reduced())
    ),
    "ReduceL2": by_bounds(_sum_of_squares(0.5)),
    "ReduceProd": by_bounds(
        lambda call: multiplying.product_along(call.assembler, call.value(), *call.reduced())
    ),
    "ReduceSumSquare": by_bounds(_sum_of_squares(1.0)),
    "Softmax": by_bounds(lambda call: softmax(call, call.value())),
    "Sqrt": by_bounds(_power(0.5)),
    "Swish": by_bounds(_swish),
}
"""What each of these operators means, when an input is computed from the image."""
