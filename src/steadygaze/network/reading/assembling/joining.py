"""Operations that several values meet in, and those made of them: products, softmax, norms, attention."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from steadygaze.network.joint import MatrixProduct, Multiply, Normalise, Softmax
from steadygaze.network.reading.assembling import activations, collapsing
from steadygaze.network.reading.assembling.assembly import Assembler, Value
from steadygaze.network.reading.assembling.gates import gated, soft_plus, soft_sign
from steadygaze.network.reading.assembling.masking import Masked, kept_of
from steadygaze.network.reading.assembling.ranges import range_of
from steadygaze.network.reading.assembling.written_norms import WrittenNorm, written_norm
from steadygaze.network.smooth import Smooth

_NOT_BELOW_0 = (
    "allowed is that of squares, absolute values, exponentials, sigmoids, rectified and clamped values, "
    "their means and what is added to them"
)


def together(asm: Assembler, a: Value, b: Value) -> tuple[Value, Value]:
    """Two values, broadcast to one shape as in numpy."""
    shapes = (asm.shape(a), asm.shape(b))
    try:
        full = tuple(int(size) for size in np.broadcast_shapes(*shapes))
    except ValueError as error:
        raise asm.refuse(
            f"shapes {shapes[0]} and {shapes[1]} do not go together",
            "allowed are shapes that broadcast; check the image's layout and its size (--resize)",
        ) from error
    return asm.expand(a, full), asm.expand(b, full)


def product(asm: Assembler, a: Value, b: Value) -> Value:
    """The product of two computed values; one that is an activation written out is that (see `gates`)."""
    for factor, gate in ((a, b), (b, a)):
        found = gated(asm.nodes, factor.node, gate.node)
        if found is not None and (asm.shape(a), a.batched) == (asm.shape(b), b.batched):
            x = asm.scale_shift(Value(found.source, a.batched), found.inner, 0.0)
            return asm.scale_shift(asm.smooth(x, found.function), found.outer, 0.0)
    return multiplied(asm, a, b)


def multiplied(asm: Assembler, a: Value, b: Value, limit: float = math.inf) -> Value:
    """The product of two computed values; `limit` is what its absolute values cannot exceed."""
    if a == b:
        return power(asm, a, 2.0)
    for value, gate in ((a, b), (b, a)):
        norm = written_norm(asm, value, gate)
        if norm is not None:
            return _as_layers(asm, norm)
    for value, gate in ((a, b), (b, a)):
        axes = _repeated(asm.shape(value), asm.shape(gate))
        if axes and value.batched == gate.batched:
            return asm.append(Multiply(limit, axes), value, gate)
    return asm.append(Multiply(limit), *together(asm, a, b))


def _as_layers(asm: Assembler, norm: WrittenNorm) -> Value:
    """A norm that was written out, by its own layer.

    Where a number e stands beside the root w, it is a norm with e² more below, times
    ``sqrt(w² + e²) / (w + e)``. That is 1 less ``2 e w / ((w + e) (w + e + sqrt(w² + e²)))``, some e / w:
    what rounding or bounds leave in doubt about w counts by a millionth.
    """
    e = norm.beside
    made = normalised(asm, norm.x, norm.axes, norm.epsilon + e * e, norm.centred)
    if e > 0:
        squares = asm.scale_shift(norm.variance, 1.0, norm.epsilon)
        width = asm.scale_shift(power(asm, squares, 0.5), 1.0, e)
        longer = power(asm, asm.scale_shift(squares, 1.0, e * e), 0.5)
        inverse = power(asm, asm.add(width, longer), -1.0)
        twice = multiplied(asm, inverse, power(asm, width, -1.0))
        less = asm.add(asm.scale_shift(inverse, 2 * e, 0.0), asm.scale_shift(twice, -2 * e * e, 0.0))
        made = asm.add(made, asm.scale_shift(multiplied(asm, made, less), -1.0, 0.0))
    return made if bool((norm.scale == 1).all()) else asm.scale_shift(made, norm.scale.numpy(), 0.0)


def _repeated(shape: tuple[int, ...], gate: tuple[int, ...]) -> tuple[int, ...]:
    """Axes, counted from the last, along which a gate has one entry for all of a value; () if it is none."""
    if len(shape) != len(gate) or any(own not in (1, size) for size, own in zip(shape, gate, strict=True)):
        return ()
    return tuple(axis for axis in range(-len(shape), 0) if gate[axis] < shape[axis])


def matrix_product(asm: Assembler, a: Value, b: Value) -> Value:
    """Matrices times matrices, leading axes broadcast as in numpy."""
    first, second = asm.shape(a), asm.shape(b)
    if min(len(first), len(second)) < 2 or first[-1] != second[-2]:
        raise asm.refuse(
            f"it multiplies values of shapes {first} and {second}",
            "allowed are matrices whose inner sizes agree, with leading axes that broadcast",
        )
    # Both count the batch as an axis, or neither: one that came as a matrix alone has it as a row.
    leading = tuple(int(size) for size in np.broadcast_shapes(first[:-2], second[:-2]))
    batched = bool(leading) and leading[0] == 1
    shapes = ((*leading, *first[-2:]), (*leading, *second[-2:]))
    if not batched:
        shapes = tuple((1, *shape) for shape in shapes)
    values = [
        asm.expand(asm.reshape(v, (1,) * (len(shape) - len(asm.shape(v))) + asm.shape(v)), shape)
        for v, shape in zip((a, b), shapes, strict=True)
    ]
    made = asm.append(MatrixProduct(), *values)
    return made if batched else asm.reshape(made, asm.shape(made)[1:])


def softmax(asm: Assembler, x: Value | Masked, axis: int) -> Value:
    """Softmax along one axis of the file's shape, which is not the batch."""
    scores = x.scores if isinstance(x, Masked) else x
    rank = len(asm.shape(scores))
    axis %= rank
    if rank == 1 or (scores.batched and axis == 0):
        raise asm.refuse(
            f"it works along axis {axis} of {asm.shape(scores)}", "allowed are axes but the batch"
        )
    order = [*(i for i in range(rank) if i != axis), axis]
    back = sorted(range(rank), key=order.__getitem__)
    moved, kept = asm.permute(scores, order), None
    if isinstance(x, Masked):
        seen = kept_of(asm, x).transpose(order)
        if not seen.any(axis=-1).all():
            raise asm.refuse(
                "its mask hides all scores of some row, of which there is no softmax",
                "allowed are masks that leave at least one of each row; take these rows out",
            )
        kept = torch.from_numpy(np.array(seen[0] if moved.batched else seen, order="C"))
    return asm.permute(asm.append(Softmax(kept), moved), back)


def softmax_together(asm: Assembler, x: Value, axis: int) -> Value:
    """Softmax over an axis and all behind it, as operators of ONNX had it before version 13."""
    shape = asm.shape(x)
    if axis == len(shape) - 1:
        return softmax(asm, x, axis)
    rows = asm.reshape(x, (1, math.prod(shape[:axis]), math.prod(shape[axis:])))
    return asm.reshape(softmax(asm, rows, 2), shape)


def power(asm: Assembler, x: Value, exponent: float) -> Value:
    """``x ** exponent``: whole exponents from 1 on of anything, others of what cannot be below 0."""
    if exponent == 1:
        return x
    if exponent == 0 or not math.isfinite(exponent):
        raise asm.refuse(f"its exponent is {exponent:g}", "allowed are finite numbers other than 0")
    source = asm.nodes[x.node]
    if isinstance(source.layer, Smooth) and source.layer.function == "power":
        inner, floor = source.layer.numbers
        if floor >= 0:  # a power of a power of what is never below 0
            before = Value(source.inputs[0], x.batched)
            whole = inner * exponent
            return before if whole == 1 else asm.smooth(before, "power", whole, floor)
    floor, _ = range_of(asm.nodes, x.node)
    if floor < 0 and exponent > 1 and exponent == int(exponent):
        return asm.smooth(x, "power", float(exponent), -math.inf)
    if floor < 0:
        what = "divides by" if exponent == -1 else f"raises to the power {exponent:g}"
        raise asm.refuse(
            f"it {what} a computed value that may be below 0 as far as the layers before it tell",
            f"{_NOT_BELOW_0}; clamp the value beforehand",
        )
    return asm.smooth(x, "power", float(exponent), floor)


def exponential(asm: Assembler, base: np.ndarray, x: Value) -> Value:
    """``base ** x`` of constant numbers above 0: the exponential of multiples of x."""
    if not (np.isfinite(base) & (base > 0)).all():
        lowest = float(np.min(base)) if np.isfinite(base).all() else math.nan
        raise asm.refuse(
            f"it raises {lowest:g} to a computed power", "allowed are constant bases that are numbers above 0"
        )
    return asm.smooth(asm.scale_shift(x, np.log(np.asarray(base, np.float64)), 0.0), "exp")


def raised(asm: Assembler, base: Value, exponent: Value) -> Value:
    """``base ** exponent``, both computed: ``exp(exponent log base)``, of a base above 0."""
    floor, _ = range_of(asm.nodes, base.node)
    if floor <= 0:
        raise asm.refuse(
            "it raises a computed value to a computed power, which may be 0 or below as far as the layers "
            "before it tell",
            "allowed are bases that these keep above 0; clamp it there beforehand",
        )
    return asm.smooth(multiplied(asm, exponent, logarithm(asm, base)), "exp")


def logarithm(asm: Assembler, x: Value) -> Value:
    """``log x`` of what cannot be below 0.

    Of a sigmoid, a softmax, an exponential, and of 1 and an exponential it is taken together with these.
    """
    source = asm.nodes[x.node]
    before = None if not source.inputs else Value(source.inputs[0], x.batched)
    if before is not None and isinstance(source.layer, Smooth) and source.layer.function == "sigmoid":
        return activations.log_sigmoid(asm, before)
    if before is not None and isinstance(source.layer, Smooth) and source.layer.function == "exp":
        return before
    if before is not None and isinstance(source.layer, Softmax) and source.layer.kept is None:
        total = log_of_sum(asm, before, [len(asm.shape(before)) - 1], keep=True)
        return asm.add(before, asm.scale_shift(total, -1.0, 0.0))
    argument = soft_plus(asm.nodes, x.node)
    if argument is not None:
        return asm.smooth(Value(argument, x.batched), "softplus")
    floor, _ = range_of(asm.nodes, x.node)
    if floor < 0:
        raise asm.refuse(
            "it takes the logarithm of a computed value that may be below 0 as far as the layers before it "
            "tell",
            f"{_NOT_BELOW_0}; clamp the value beforehand",
        )
    return asm.smooth(x, "log", floor)


def log_of_sum(asm: Assembler, x: Value, axes: Sequence[int], keep: bool) -> Value:
    """``log sum exp x`` over axes of the file's shape, which stay as axes of one entry or are dropped."""
    return logarithm(asm, collapsing.total(asm, asm.smooth(x, "exp"), axes, keep))


def distances(asm: Assembler, x: Value, y: Value | np.ndarray) -> Value:
    """How far rows ``(..., n, d)`` are from rows ``(..., m, d)``: ``(..., n, m)``."""
    *lead, rows, size = asm.shape(x)
    first = asm.reshape(x, (*lead, rows, 1, size))
    if isinstance(y, Value):
        *leading, others, _ = asm.shape(y)
        second = asm.scale_shift(asm.reshape(y, (*leading, 1, others, size)), -1.0, 0.0)
        away = asm.add(first, second)
    else:
        away = asm.scale_shift(first, 1.0, -np.expand_dims(y, -3))
    squares = power(asm, away, 2.0)
    return power(asm, collapsing.total(asm, squares, [len(asm.shape(squares)) - 1], keep=False), 0.5)


def divided(asm: Assembler, a: Value, b: Value) -> Value:
    """The quotient of two computed values, the second above 0; ``x / (1 + |x|)`` is soft sign."""
    if soft_sign(asm.nodes, a.node, b.node):
        return asm.smooth(a, "softsign")
    return multiplied(asm, a, power(asm, b, -1.0))


def normalised(asm: Assembler, x: Value, axes: Sequence[int], epsilon: float, centred: bool = True) -> Value:
    """``(x - mean) / sqrt(variance + epsilon)`` over some axes; not centred: x by its root mean square."""
    shape = asm.shape(x)
    size = math.prod(shape[axis] for axis in axes)
    if not epsilon > 0:
        raise asm.refuse(f"its epsilon is {epsilon:g}", "allowed are numbers above 0")
    rank = len(shape)
    kept = [axis for axis in range(rank) if axis not in axes]
    order = [*kept, *axes]
    if x.batched and 0 in axes:
        raise asm.refuse(f"it normalises over axes {tuple(axes)}", "allowed are axes other than the batch")
    moved = asm.permute(x, order)
    rows = asm.reshape(moved, [*(shape[axis] for axis in kept), size])
    made = asm.reshape(asm.append(Normalise(epsilon, centred), rows), [shape[axis] for axis in order])
    return asm.permute(made, sorted(range(rank), key=order.__getitem__))


def grouped(asm: Assembler, x: Value, groups: int, epsilon: float) -> Value:
    """Each group of channels (axis 1) centred and scaled over itself, with all places."""
    shape = asm.shape(x)
    if len(shape) < 3 or not x.batched or shape[1] % groups:
        raise asm.refuse(
            f"it normalises {groups} groups of channels of a value of shape {shape}",
            "allowed are values with a batch, channels and places, whose channels the groups divide",
        )
    rows = asm.reshape(x, (1, groups, math.prod(shape[1:]) // groups))
    return asm.reshape(normalised(asm, rows, (2,), epsilon), shape)


def along_channels(asm: Assembler, x: Value, weight: np.ndarray | None, bias: np.ndarray | None) -> Value:
    """``weight * x + bias`` with one number for each channel (axis 1)."""
    if weight is None and bias is None:
        return x
    column = (-1,) + (1,) * (len(asm.shape(x)) - 2)
    scale = np.ones(1) if weight is None else weight
    shift = np.zeros(1) if bias is None else bias
    return asm.scale_shift(x, scale.reshape(column), shift.reshape(column))


def responding(asm: Assembler, x: Value, size: int, alpha: float, beta: float, k: float) -> Value:
    """Local response normalisation: ``x (k + alpha / size sum of squares)^-beta`` over `size` channels."""
    shape = asm.shape(x)
    channels = shape[1]
    squares = asm.reshape(power(asm, x, 2.0), (1, channels, math.prod(shape[2:])))
    before = (size - 1) // 2
    places = np.arange(channels)
    gap = places[None, :] - places[:, None]
    window = ((gap >= -before) & (gap < size - before)).astype(np.float64) * (alpha / size)
    sums = asm.matmul_left(window, squares)
    scale = power(asm, asm.reshape(asm.scale_shift(sums, 1.0, k), shape), -beta)
    return multiplied(asm, x, scale)


def causal(queries: int, keys: int) -> np.ndarray:
    """The mask by which each of so many places of the query sees the places of the key up to its own."""
    return np.tri(queries, keys, dtype=np.bool_)


def both(mask: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """A mask, of numbers or of truth values, that also hides what is not seen."""
    return mask & seen if mask.dtype == np.bool_ else np.where(seen, mask, -np.inf)


def for_each_head(asm: Assembler, x: Value, heads: int) -> Value:
    """Keys or values ``(batch, fewer heads, places, size)`` repeated for groups of heads of the queries."""
    batch, own, *rest = asm.shape(x)
    if own == heads:
        return x
    if heads % own:
        raise asm.refuse(
            f"its queries have {heads} heads and its keys or values {own}", "allowed are heads that divide"
        )
    repeated = asm.expand(asm.reshape(x, (batch, own, 1, *rest)), (batch, own, heads // own, *rest))
    return asm.reshape(repeated, (batch, heads, *rest))
