"""What layers make of known numbers, to twice the precision of float64: see `enclosing/double_double`.

For a function that is not made of what is known there the value in float64 is taken, off by its rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from functools import reduce

import torch
import torch.nn.functional as functional
from torch import Tensor

from steadygaze.enclosing.double_double import PARTS, Precise, precise_products
from steadygaze.enclosing.double_functions import exponential, logarithm, normal_density, normal_share
from steadygaze.enclosing.enclosures import UNIT
from steadygaze.network.bounding.curves.enclosing import ROUNDING
from steadygaze.network.joint import AbstractJoint, AbstractProduct, Multiply, Normalise, Softmax
from steadygaze.network.layers import (
    AbstractAffine,
    AbstractLayer,
    Add,
    AveragePool,
    Concat,
    Conv,
    Dense,
    Pad,
    Permute,
    Reshape,
    ScaleShift,
    Shape,
)
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.smooth import Smooth
from steadygaze.network.taking import Take
from steadygaze.network.transposed import TransposedConv

# Parts of sums of products of drifts: what two parts leave to be rounded is 2^-40 of what they drift by.
PARTS_OF_DRIFT = 2


def precise_value(layer: AbstractLayer, *xs: Tensor) -> Precise:
    """The layer's output ``(B, *shape)`` at known inputs ``(B, *shape)``."""
    if isinstance(layer, AbstractAffine):
        return _affine(layer, *xs)
    if isinstance(layer, AbstractJoint):
        return _joint(layer, *xs)
    (x,) = xs
    if isinstance(layer, Smooth):
        return _smooth(layer, x)
    if isinstance(layer, PiecewiseLinear):
        return _piecewise(layer, x)
    assert isinstance(layer, MaxPool), "only node 0 is an Input"
    return Precise.exact(layer.forward(x))


def precise_drift(layer: AbstractAffine, *xs: Tensor) -> Precise:
    """What an affine layer makes of known coefficients ``(B, n, *shape)``: ``(B, n, *shape)``."""
    rows = xs[0].shape[:2]
    made = _linear(layer, *(x.flatten(0, 1) for x in xs), parts=PARTS_OF_DRIFT)
    return made.shaped(lambda own: own.unflatten(0, rows))


# -- affine layers


def _affine(layer: AbstractAffine, *xs: Tensor) -> Precise:
    match layer:
        case Reshape() | Permute() | Pad() | Concat() | Take():
            return Precise.exact(layer.forward(*xs))
        case Add() | AveragePool():
            return _linear(layer, *xs)
        case ScaleShift():
            made = _linear(layer, *xs)
            return made + Precise.exact(layer.shift.expand_as(xs[0]))
        case Dense():
            made = _linear(layer, *xs)
            return made + Precise.exact(layer.bias.expand_as(made.high))
        case Conv() | TransposedConv():
            made = _linear(layer, *xs)
            return made + Precise.exact(layer.bias[:, None, None].expand_as(made.high))
    made, size = layer.forward(*xs), layer.magnitude(*xs)
    return Precise.rounded(made, (layer.terms + 4) * UNIT * size)


def _linear(layer: AbstractAffine, *xs: Tensor, parts: int = PARTS) -> Precise:
    """Without the constant part; parts: of sums of products, see `precise_products`."""
    match layer:
        case Reshape() | Permute() | Pad() | Concat() | Take():
            return Precise.exact(layer.linear(*xs))
        case Add():
            return reduce(lambda a, b: a + b, (Precise.exact(x) for x in xs))
        case ScaleShift():
            return Precise.exact(xs[0]) * Precise.exact(layer.scale.expand_as(xs[0]))
        case Dense():
            return precise_products(
                _dense, layer.weight, xs[0], layer.terms_forward, shared=True, parts=parts
            )
        case Conv() | TransposedConv():

            def moved(weight: Tensor, x: Tensor) -> Tensor:
                return replace(layer, weight=weight).linear(x)

            return precise_products(moved, layer.weight, xs[0], layer.terms_forward, shared=True, parts=parts)
        case AveragePool():
            return _averaged(layer, xs[0])
    made, size = layer.linear(*xs), layer.absolute.linear(*(x.abs() for x in xs))
    return Precise.rounded(made, (layer.terms + 4) * UNIT * size)


def _dense(weight: Tensor, x: Tensor) -> Tensor:
    return functional.linear(x, weight)


def _averaged(layer: AveragePool, x: Tensor) -> Precise:
    """Along columns, and what comes of it along rows; what is off there is averaged, too."""
    across = precise_products(lambda w, x: x @ w.mT, layer.columns, x, layer.columns.shape[1], shared=True)

    def along(values: Tensor) -> Precise:
        return precise_products(torch.matmul, layer.rows, values, layer.rows.shape[1], shared=True)

    error = torch.matmul(layer.rows.abs(), across.error) * (1 + 2 * layer.terms * UNIT)
    return (along(across.high) + along(across.low)).loosened(error)


def precise_transpose(layer: AbstractAffine, g: Tensor, shapes: tuple[Shape, ...], source: int) -> Precise:
    """What comes of known numbers ``(B, *shape)`` at its output, at one of its inputs of these shapes."""
    match layer:
        case Reshape() | Permute() | Pad() | Concat() | Add():
            return Precise.exact(layer.transpose(g, shapes)[source])
        case ScaleShift():
            return Precise.exact(g) * Precise.exact(layer.scale.expand_as(g))
        case Dense():
            return precise_products(lambda w, x: x @ w, layer.weight, g, layer.terms_backward, shared=True)
        case Conv() | TransposedConv():

            def moved(weight: Tensor, x: Tensor) -> Tensor:
                return replace(layer, weight=weight).transpose(x, shapes)[source]

            return precise_products(moved, layer.weight, g, layer.terms_backward, shared=True)
        case AveragePool():
            return _averaged(AveragePool(layer.rows.mT, layer.columns.mT), g)
        case Take():
            return precise_products(
                lambda one, x: layer.transpose(one * x, shapes)[source],
                g.new_ones(1),
                g,
                layer.terms_backward,
                shared=True,
            )
    made, size = layer.transpose(g, shapes)[source], layer.absolute.transpose(g.abs(), shapes)[source]
    return Precise.rounded(made, (layer.terms_backward + 4) * UNIT * size)


# -- layers of several values


def precise_along(
    product: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor, terms: int, axes: tuple[int, ...]
) -> Precise:
    """A product that is linear in both known factors ``(B, *shape)``; terms: see `precise_products`.

    Where there is one term, or they are summed along the given axes, which are kept, entries are multiplied.
    """
    if terms > 1 and not axes:
        return precise_products(product, a, b, terms, shared=False)
    a, b = torch.broadcast_tensors(a, b)
    made = Precise.exact(a) * Precise.exact(b)
    return reduce(lambda own, axis: own.total(axis), axes, made)


def _joint(layer: AbstractJoint, *xs: Tensor) -> Precise:
    if isinstance(layer, Multiply):
        a, b = torch.broadcast_tensors(*xs)
        return Precise.exact(a) * Precise.exact(b)
    if isinstance(layer, AbstractProduct):
        terms = layer.terms(*(tuple(x.shape[1:]) for x in xs))
        return precise_products(layer.product, xs[0], xs[1], terms, shared=False)
    if isinstance(layer, Normalise):
        return normalised_parts(layer, xs[0])[0]
    assert isinstance(layer, Softmax), "the table of joint layers has products, norms and softmax"
    kept = None if layer.kept is None else layer.kept.expand_as(xs[0])
    logits = xs[0] if kept is None else xs[0].masked_fill(~kept, 0.0)
    seen = logits if kept is None else logits.masked_fill(~kept, -torch.inf)
    top = seen.amax(dim=-1, keepdim=True)
    powers = exponential(Precise.exact(logits) + Precise.exact(-top.expand_as(logits)))
    if kept is not None:
        powers = powers.shaped(lambda own: own.masked_fill(~kept, 0.0))
    return powers * powers.total(-1).reciprocal().shaped(lambda own: own.expand_as(logits))


def levelled_values(x: Tensor) -> Precise:
    """Known numbers less their mean along the last axis."""
    return Precise.exact(x) - mean_of(Precise.exact(x)).shaped(lambda own: own.expand_as(x))


def normalised_parts(layer: Normalise, x: Tensor) -> tuple[Precise, Precise]:
    """Values ``(B, *shape)`` of a norm at known numbers, and its scales, one for each last axis."""
    away = levelled_values(x) if layer.centred else Precise.exact(x)
    scales = (mean_of(away.square()) + layer.epsilon).rsqrt()
    return away * scales.shaped(lambda own: own.expand_as(x)), scales


def mean_of(x: Precise) -> Precise:
    """Means along the last axis, which keeps one entry."""
    return x.total(-1).times(Precise.of(Fraction(1, x.high.shape[-1])))


# -- functions unit by unit


def _piecewise(layer: PiecewiseLinear, x: Tensor) -> Precise:
    if layer.is_relu:
        return Precise.exact(layer.forward(x))
    flat = x.flatten(1)
    pieces = layer.pieces_of(flat).long()
    slope, offset = (
        own.expand(len(own), flat.shape[1]).gather(0, pieces) for own in (layer.slopes, layer.offsets)
    )
    made = Precise.exact(slope) * Precise.exact(flat) + Precise.exact(offset)
    return made.shaped(lambda own: own.reshape(x.shape))


def _smooth(layer: Smooth, x: Tensor) -> Precise:
    own = Precise.exact(x)
    if layer.function == "power":
        found = _power(own, *layer.numbers)
    elif layer.function == "log":
        found = logarithm(own) if bool((x > max(0.0, layer.numbers[0])).all()) else None
    else:
        function = _FUNCTIONS.get(layer.function)
        found = None if function is None else function(own)
    rounded = layer.forward(x)
    error = ROUNDING * (1 + rounded.abs())
    if found is None:
        return Precise.rounded(rounded, error)
    return _closer(found, Precise.rounded(rounded, error))


def _closer(found: Precise, rounded: Precise) -> Precise:
    """Where a function to twice the precision does not reach, the one in float64 does."""
    return _where(found.error <= rounded.error, found, rounded)


def _power(x: Precise, exponent: float, floor: float) -> Precise | None:
    if exponent in (2.0, 3.0) and math.isinf(floor):
        return x.square() if exponent == 2.0 else x.square() * x
    if bool((x.high <= max(0.0, floor)).any()):
        return None
    if exponent == -1.0:
        return x.reciprocal()
    if exponent in (-0.5, 0.5):
        return x.rsqrt() if exponent < 0 else x * x.rsqrt()
    return None


def precise_slope(layer: Smooth, x: Tensor, rounded: Precise) -> Precise:
    """The derivative at known numbers ``(B, *shape)``; rounded: that in float64, and how far it is off."""
    own = Precise.exact(x)
    if layer.function == "power":
        exponent, floor = layer.numbers
        lower = own if exponent == 2.0 else _power(own, exponent - 1, floor)
        return rounded if lower is None else _closer(lower.times(Precise.of(Fraction(exponent))), rounded)
    function = _SLOPES.get(layer.function)
    return rounded if function is None else _closer(function(own), rounded)


def _sigmoid(x: Precise) -> Precise:
    """1 / (1 + exp(-|x|)), or 1 less that."""
    share = (exponential(_mirrored(x, x.high > 0)) + 1.0).reciprocal()
    return _where(x.high > 0, share, -share + 1.0)


def _mirrored(x: Precise, which: Tensor) -> Precise:
    return _where(which, -x, x)


def _where(which: Tensor, first: Precise, second: Precise) -> Precise:
    pairs = ((first.high, second.high), (first.low, second.low), (first.error, second.error))
    return Precise(*(torch.where(which, *pair) for pair in pairs))


def _gelu_tanh(x: Precise) -> Precise:
    # The constants are those of the layer, in float64.
    inner = x * (x.square().times((0.044715, 0.0)) + 1.0)
    return x * _sigmoid(inner.times((2 * math.sqrt(2 / math.pi), 0.0)))


def _softplus(x: Precise) -> Precise:
    """max(x, 0) + log(1 + exp(-|x|))."""
    rest = logarithm(exponential(_mirrored(x, x.high > 0)) + 1.0)
    return rest + x.shaped(lambda own: torch.where(x.high > 0, own, 0.0))


def _elu(x: Precise) -> Precise:
    below = exponential(_where(x.high > 0, _zeros(x), x)) + -1.0
    return _where(x.high > 0, x, below)


def _zeros(x: Precise) -> Precise:
    return Precise.exact(torch.zeros_like(x.high))


def _softsign(x: Precise) -> Precise:
    return x * (_mirrored(x, x.high < 0) + 1.0).reciprocal()


def _hard_swish(x: Precise) -> Precise:
    inner = (x * (x + 3.0)).times(Precise.of(Fraction(1, 6)))
    return _where(x.high < -3, _zeros(x), _where(x.high > 3, x, inner))


def _mish(x: Precise) -> Precise:
    """tanh(log(1 + p)) = p (p + 2) / (p (p + 2) + 2) for p = exp(x); beyond 40 it is 1 but for 2^-100."""
    near = _where(x.high > 40, _zeros(x), x)
    power = exponential(near)
    product = power * (power + 2.0)
    share = product * (product + 2.0).reciprocal()
    far = x.loosened(2.0**-100 * x.high.abs())
    return _where(x.high > 40, far, x * share)


def _sigmoid_slope(x: Precise) -> Precise:
    share = _sigmoid(x)
    return share * (-share + 1.0)


def _silu_slope(x: Precise) -> Precise:
    share = _sigmoid(x)
    return share + x * share * (-share + 1.0)


def _gelu_tanh_slope(x: Precise) -> Precise:
    """s + x s (1 - s) u' for the sigmoid s of ``u = c (x + 0.044715 x³)``."""
    square, scale = x.square(), 2 * math.sqrt(2 / math.pi)
    share = _sigmoid((x * (square.times((0.044715, 0.0)) + 1.0)).times((scale, 0.0)))
    steep = (square.times((0.044715, 0.0)).times((3.0, 0.0)) + 1.0).times((scale, 0.0))
    return share + x * share * (-share + 1.0) * steep


def _elu_slope(x: Precise) -> Precise:
    return exponential(_where(x.high > 0, _zeros(x), x))


def _mish_slope(x: Precise) -> Precise:
    """With p = exp(x) and h = 1 / (p² + 2 p + 2): 1 - 2 h + 4 x h² p (p + 1); 1 but for 2^-80 beyond 60."""
    near = _where(x.high > 60, _zeros(x), x)
    power = exponential(near)
    product = power * (power + 2.0)
    inverse = (product + 2.0).reciprocal()
    bend = (near * inverse.square() * power * (power + 1.0)).scaled(2)
    own = product * inverse + bend
    return _where(
        x.high > 60, Precise.rounded(torch.ones_like(x.high), torch.full_like(x.high, 2.0**-80)), own
    )


_SLOPES: Mapping[str, Callable[[Precise], Precise]] = {
    "sigmoid": _sigmoid_slope,
    "tanh": lambda x: _sigmoid_slope(x.scaled(1)).scaled(2),
    "silu": _silu_slope,
    "gelu": lambda x: normal_share(x) + x * normal_density(x),
    "gelu-tanh": _gelu_tanh_slope,
    "softplus": _sigmoid,
    "elu": _elu_slope,
    "mish": _mish_slope,
    "exp": exponential,
}
_FUNCTIONS: Mapping[str, Callable[[Precise], Precise]] = {
    "sigmoid": _sigmoid,
    "tanh": lambda x: _sigmoid(x.scaled(1)).scaled(1) + -1.0,
    "silu": lambda x: x * _sigmoid(x),
    "gelu": lambda x: x * normal_share(x),
    "gelu-tanh": _gelu_tanh,
    "softplus": _softplus,
    "elu": _elu,
    "softsign": _softsign,
    "hard-swish": _hard_swish,
    "mish": _mish,
    "exp": exponential,
}
