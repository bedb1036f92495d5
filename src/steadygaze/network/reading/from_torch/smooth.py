"""PyTorch operators that are smooth, or in which values meet: activations, powers, norms, attention."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from steadygaze.network.reading.assembling import (
    activations,
    collapsing,
    contracting,
    joining,
    multiplying,
    picking,
)
from steadygaze.network.reading.assembling.assembly import Value
from steadygaze.network.reading.assembling.rearranging import shape_of
from steadygaze.network.reading.from_torch.arguments import (
    COMPUTED,
    COUNT,
    FLAG,
    NONE,
    NUMBER,
    PRECISION,
    WEIGHTS,
    WHOLE,
    Argument,
    Call,
    Rows,
    Rule,
    only,
    unread,
    weights,
    whole_numbers,
)
from steadygaze.network.reading.marks import by_bounds


def _glu(call: Call) -> Value:
    """One half times the sigmoid of the other."""
    asm, axis, size = call.assembler, call["dim"], call.shape()[call["dim"]]
    first, second = (asm.crop(call.value(), axis, a, a + size // 2) for a in (0, size // 2))
    return joining.multiplied(asm, first, asm.smooth(second, "sigmoid"))


def _power(exponent: float) -> Rule:
    return lambda call: joining.power(call.assembler, call.value(), exponent)


def _pow(call: Call) -> Value:
    exponents = np.unique(call.constant("exponent"))
    if len(exponents) != 1:
        raise call.refuse("exponent", "one number for all of the value")
    return joining.power(call.assembler, call.value(), float(exponents[0]))


def _exponential(call: Call) -> Value:
    """exp2, and pow of a constant base."""
    if "exponent" not in call.arguments:
        return joining.exponential(call.assembler, np.full((), 2.0), call.value())
    return joining.exponential(call.assembler, call.constant("self"), call.value("exponent"))


def _pow_of_tensors(call: Call) -> Value:
    base, exponent = call.part("self"), call.part("exponent")
    if not isinstance(exponent, Value):
        return _pow(call)
    if not isinstance(base, Value):
        return joining.exponential(call.assembler, base, exponent)
    return joining.raised(call.assembler, base, exponent)


def _product(call: Call) -> Value:
    axes = [call["dim"]] if "dim" in call.arguments else range(len(call.shape()))
    keep = bool(call["keepdim"]) if "dim" in call.arguments else False
    return multiplying.product_along(call.assembler, call.value(), axes, keep)


def _axes_of(call: Call) -> Sequence[int]:
    given = call["dim"]
    return [given] if isinstance(given, int) else given or range(len(call.shape()))


def _vector_norm(call: Call) -> Value:
    """The p-th root of the sum of p-th powers of absolute values; the largest of these, or their sum."""
    asm, axes, keep, p = call.assembler, _axes_of(call), bool(call["keepdim"]), float(call["ord"])
    x = call.value() if p % 2 == 0 else picking.absolute(asm, call.value())
    if p == math.inf:
        return picking.largest(asm, x, axes, keep, shared=True)
    if p == 1:
        return collapsing.total(asm, x, axes, keep)
    total = collapsing.total(asm, joining.power(asm, x, p), axes, keep)
    return joining.power(asm, total, 1 / p)


def _variance(exponent: float) -> Rule:
    """Powers of variances over axes: var (1), std (1/2)."""

    def rule(call: Call) -> Value:
        asm, x, shape, axes = call.assembler, call.value(), call.shape(), _axes_of(call)
        count = math.prod(shape[axis] for axis in {axis % len(shape) for axis in axes})
        if "unbiased" in call.arguments:  # the older of the two forms
            correction = int(call["unbiased"])
        else:
            correction = 1 if call["correction"] is None else call["correction"]
        if not count > correction:
            name = "unbiased" if "unbiased" in call.arguments else "correction"
            raise call.refuse(name, f"a number below {count}, of how many the variance is")
        mean = collapsing.mean(asm, x, axes, keep=True)
        away = joining.power(asm, asm.add(x, picking.negative(asm, mean)), 2.0)
        spread = collapsing.mean(asm, away, axes, bool(call["keepdim"]))
        if correction:
            spread = asm.scale_shift(spread, count / (count - correction), 0.0)
        return joining.power(asm, spread, exponent)

    return rule


def _variance_and_mean(call: Call) -> list[Value]:
    mean = collapsing.mean(call.assembler, call.value(), _axes_of(call), bool(call["keepdim"]))
    return [_variance(1.0)(call), mean]


def _logarithm(base: float) -> Rule:
    return lambda call: call.assembler.scale_shift(
        joining.logarithm(call.assembler, call.value()), 1 / math.log(base), 0.0
    )


def _log_of_one_more(call: Call) -> Value:
    return joining.logarithm(call.assembler, call.assembler.scale_shift(call.value(), 1.0, 1.0))


def _log_of_sum(call: Call) -> Value:
    return joining.log_of_sum(call.assembler, call.value(), _axes_of(call), bool(call["keepdim"]))


def _log_of_two(call: Call) -> Value:
    """logaddexp: of computed values, or of one and constants."""
    first, second = call.part("self"), call.part("other")
    if not isinstance(first, Value):
        first, second = second, first
    assert isinstance(first, Value), "constants are known on reading"
    return activations.log_of_two(call.assembler, first, second)


def _distances(call: Call) -> Value:
    """cdist: Euclidean, of rows and rows."""
    asm, first, second = call.assembler, call.part("x1"), call.part("x2")
    if isinstance(first, Value):
        return joining.distances(asm, first, second)
    assert isinstance(second, Value), "constants are known on reading"
    made = joining.distances(asm, second, first)
    rank = len(asm.shape(made))
    return asm.permute(made, (*range(rank - 2), rank - 1, rank - 2))


def _softmax(call: Call) -> Value:
    return joining.softmax(call.assembler, call.value(), call["dim"])


def _attention(call: Call) -> Value:
    names = ("query", "key", "value")
    asm, mask = call.assembler, call["attn_mask"]
    if isinstance(mask, torch.Tensor):
        mask = mask.detach().numpy()
    if call["enable_gqa"]:
        q, k, v = (call.value(name) for name in names)
        k, v = (joining.for_each_head(asm, x, asm.shape(q)[1]) for x in (k, v))
        parts: list[Value | np.ndarray] = [q, k, v]
    else:
        parts = [call.part(name) for name in names]
    if call["is_causal"]:
        mask = joining.causal(*(shape_of(asm, part)[-2] for part in parts[:2]))
    return contracting.attention(asm, parts[0], parts[1], parts[2], call["scale"], mask)


def _layer_norm(call: Call) -> Value:
    return _affine(call, joining.normalised(call.assembler, call.value("input"), _last(call), call["eps"]))


def _rms_norm(call: Call) -> Value:
    x = joining.normalised(call.assembler, call.value("input"), _last(call), call["eps"], centred=False)
    return _affine(call, x)


def _last(call: Call) -> tuple[int, ...]:
    """The last axes, which a norm is taken over."""
    rank, over = len(call.shape("input")), len(call["normalized_shape"])
    return tuple(range(rank - over, rank))


def _affine(call: Call, x: Value) -> Value:
    weight, bias = (call.optional(name) if name in call.arguments else None for name in ("weight", "bias"))
    if weight is None and bias is None:
        return x
    scale, shift = np.ones(1) if weight is None else weight, np.zeros(1) if bias is None else bias
    return call.assembler.scale_shift(x, scale, shift)


def _group_norm(call: Call) -> Value:
    asm = call.assembler
    made = joining.grouped(asm, call.value("input"), int(call["num_groups"]), call["eps"])
    return joining.along_channels(asm, made, call.optional("weight"), call.optional("bias"))


def _instance_norm(call: Call) -> Value:
    """Each channel over its own places; with running statistics it is a batch normalisation."""
    asm, x = call.assembler, call.value("input")
    weight, bias = call.optional("weight"), call.optional("bias")
    if not call["use_input_stats"]:
        mean, variance = call.constant("running_mean"), call.constant("running_var")
        return asm.batch_norm(x, weight, bias, mean, variance, call["eps"])
    made = joining.grouped(asm, x, asm.shape(x)[1], call["eps"])
    return joining.along_channels(asm, made, weight, bias)


def _first(rule: Callable[[Call], Value]) -> Rule:
    """An operator with statistics as further outputs, which no node may read."""
    return lambda call: [rule(call)]


_ONE = {"self": COMPUTED}
_VECTOR = weights(1) | NONE
_NOT_USED = unread("not used in evaluation")
_SOME = weights() | NONE
_AXES = NONE | WHOLE | whole_numbers()
_NORM = {
    "input": COMPUTED,
    "normalized_shape": whole_numbers(),
    "weight": _SOME,
    "bias": _SOME,
    "eps": NUMBER,
}
_NORM |= {"cudnn_enable": _NOT_USED}
_GROUPS = {"input": COMPUTED, "num_groups": COUNT, "weight": _VECTOR, "bias": _VECTOR, "eps": NUMBER}
_GROUPS |= {"cudnn_enabled": _NOT_USED}
_INSTANCE = {"input": COMPUTED, "momentum": _NOT_USED, "eps": NUMBER, "use_input_stats": FLAG}
_INSTANCE |= dict.fromkeys(("weight", "bias", "running_mean", "running_var"), _VECTOR)
_INSTANCE |= {"cudnn_enabled": _NOT_USED}
_ATTENTION = {
    **dict.fromkeys(("query", "key", "value"), COMPUTED | WEIGHTS),
    "attn_mask": NONE | WEIGHTS | COMPUTED,
    "dropout_p": only(0.0),
}
_ATTENTION |= {"is_causal": FLAG, "scale": NONE | NUMBER, "enable_gqa": FLAG}
# Of no axes, PyTorch has the variance over all, and another gradient.
_NAMED = Argument("at least one axis", lambda given: whole_numbers().fits(given) and len(given) > 0)
_SPREAD = {"self": COMPUTED, "dim": NONE | _NAMED, "correction": NONE | NUMBER, "unbiased": FLAG}
_SPREAD |= {"keepdim": FLAG}
_ROWS_OF = COMPUTED | weights(2, 3)
_PAIRS = {"x1": _ROWS_OF, "x2": _ROWS_OF, "p": only(2, 2.0)}
_PAIRS |= {"compute_mode": unread("by which products it is computed")}
_ORDER = only(math.inf) | Argument(
    "a whole number above 0", lambda given: NUMBER.fits(given) and given in range(1, 17)
)
_LENGTH = {"self": COMPUTED, "ord": _ORDER, "dim": _AXES, "keepdim": FLAG, "dtype": PRECISION}

ROWS: Rows = (
    ("glu", by_bounds(_glu), {"self": COMPUTED, "dim": WHOLE}),
    ("exp", by_bounds(activations.smooth("exp")), _ONE),
    ("exp2 special_exp2", by_bounds(_exponential), _ONE),
    (
        "pow.Scalar",
        by_bounds(_exponential),
        {"self": NUMBER, "exponent": COMPUTED},
    ),
    ("log", by_bounds(lambda call: joining.logarithm(call.assembler, call.value())), _ONE),
    ("log2", by_bounds(_logarithm(2.0)), _ONE),
    ("log10", by_bounds(_logarithm(10.0)), _ONE),
    ("log1p", by_bounds(_log_of_one_more), _ONE),
    ("logsumexp", by_bounds(_log_of_sum), {"self": COMPUTED, "dim": _AXES, "keepdim": FLAG}),
    (
        "logaddexp",
        by_bounds(_log_of_two),
        {"self": COMPUTED | WEIGHTS, "other": COMPUTED | WEIGHTS},
    ),
    ("cosh", by_bounds(lambda call: activations.hyperbolic(call.assembler, call.value(), 1.0)), _ONE),
    ("sinh", by_bounds(lambda call: activations.hyperbolic(call.assembler, call.value(), -1.0)), _ONE),
    ("cdist", by_bounds(_distances), _PAIRS),
    ("sqrt", by_bounds(_power(0.5)), _ONE),
    ("rsqrt", by_bounds(_power(-0.5)), _ONE),
    ("reciprocal", by_bounds(_power(-1.0)), _ONE),
    ("square", by_bounds(_power(2.0)), _ONE),
    ("pow.Tensor_Scalar", by_bounds(_pow), {"self": COMPUTED, "exponent": NUMBER}),
    (
        "pow.Tensor_Tensor",
        by_bounds(_pow_of_tensors),
        dict.fromkeys(("self", "exponent"), COMPUTED | WEIGHTS),
    ),
    ("prod", by_bounds(_product), {"self": COMPUTED, "dtype": PRECISION}),
    (
        "prod.dim_int",
        by_bounds(_product),
        {"self": COMPUTED, "dim": WHOLE, "keepdim": FLAG, "dtype": PRECISION},
    ),
    ("var.correction var.dim", by_bounds(_variance(1.0)), _SPREAD),
    ("var_mean.correction var_mean.dim", by_bounds(_variance_and_mean), _SPREAD),
    ("std.correction std.dim", by_bounds(_variance(0.5)), _SPREAD),
    ("linalg_vector_norm", by_bounds(_vector_norm), _LENGTH),
    ("softmax.int", by_bounds(_softmax), {"self": COMPUTED, "dim": WHOLE, "dtype": PRECISION}),
    ("_softmax", by_bounds(_softmax), {"self": COMPUTED, "dim": WHOLE, "half_to_float": only(False)}),
    ("scaled_dot_product_attention", by_bounds(_attention), _ATTENTION),
    ("layer_norm", by_bounds(_layer_norm), _NORM),
    ("native_layer_norm", by_bounds(_first(_layer_norm)), _NORM),
    ("rms_norm", by_bounds(_rms_norm), _NORM),
    ("group_norm", by_bounds(_group_norm), _GROUPS),
    ("instance_norm", by_bounds(_instance_norm), _INSTANCE),
    (
        "expand_as",
        lambda call: call.assembler.expand(call.value(), call.shape("other")),
        {"self": COMPUTED, "other": COMPUTED},
    ),
)
"""Operators that are smooth, or in which values meet, by name and overload."""
