"""What files compute with comparisons: put together while reading, and a layer where it does not jump.

``where(x > c, a x + b, d x + e)`` and its like (a rectifier times its mask, a shrinkage by signs) are
functions of one value, number by number. Truth values and signs of what is computed jump, and are no layers:
they are held as what they are (`Stepped`) until an operator makes a function of them that does not jump.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import numpy as np
import torch

from steadygaze.errors import ModelError
from steadygaze.network.layers import ScaleShift
from steadygaze.network.pieces import PiecewiseLinear
from steadygaze.network.reading.assembling import picking
from steadygaze.network.reading.assembling.assembly import SOFTPLUS_THRESHOLD, Assembler, Value
from steadygaze.network.reading.assembling.exponential_sides import elu_of
from steadygaze.network.reading.assembling.held import NO_JUMPS, AbstractHeld
from steadygaze.network.reading.assembling.steps import (
    IDENTITY,
    NEVER,
    NotAffineError,
    Steps,
    negated,
    selected,
    truths,
)
from steadygaze.network.smooth import Smooth

# Sides that differ by less than this share may be meant to meet: numbers of single precision are as exact.
_SINGLE = 1e-6


@dataclass(frozen=True)
class Stepped(AbstractHeld):
    """A function of one computed value, number by number, that may jump.

    truth says that it is a condition, maker which operator made it, as `Assembler.where` does. compared are
    two computed values whose difference it is of, where it says which of them is the larger, and larger
    whether it is 1 where the first is.
    """

    root: Value
    steps: Steps
    truth: bool
    maker: str
    compared: tuple[Value, Value] | None = None
    larger: bool = False

    def refusal(self, asm: Assembler) -> ModelError:
        jump, do = self.steps.jump(), "use a continuous form (Softshrink for Hardshrink, clamp for a step)"
        if jump is None:
            told = "it is a condition on a computed value"
        else:
            place, before, after = (float(one) for one in jump)
            told = f"it jumps from {before:g} to {after:g} where what it is computed from is {place:g}"
            if abs(after - before) <= _SINGLE * abs(before):
                told = (
                    f"its sides miss each other by {abs(after - before):.2g} where what it is computed from "
                    f"is {place:g}, by rounding as it seems, and that is a jump"
                )
                do = "compare with, and fill in, the very same numbers, or use clamp, maximum or minimum"
        return ModelError(
            f"{self.maker}: {told}, and {asm.where} takes it as it is; allowed is what comes together again: "
            f"{NO_JUMPS}; {do}, or take it out"
        )


Operand: TypeAlias = "Value | Stepped | np.ndarray"


def compared(asm: Assembler, first: Operand, second: Operand, how: str) -> Stepped:
    """Where the first is "above", "at least", "below", "at most", "equal" or "other" than the second."""
    if isinstance(first, Value) and isinstance(second, Value) and not _related(asm, first, second):
        away, steps = asm.add(first, picking.negative(asm, second)), Steps().compared(how)
        pair = None if how in ("equal", "other") else (first, second)
        return Stepped(away, steps, True, asm.where, pair, how in ("above", "at least"))
    root, (a, b) = _over_one(asm, (first, second))
    steps = _exactly(asm, lambda: (a + b * Steps.constant(-1.0)).compared(how))
    return Stepped(root, steps, True, asm.where)


def sign(asm: Assembler, x: Operand) -> Stepped:
    """-1, 0 or 1."""
    root, (own,) = _over_one(asm, (x,))
    return Stepped(root, _exactly(asm, own.signs), False, asm.where)


def logical(asm: Assembler, parts: Sequence[Operand], how: str) -> Stepped:
    """Conditions joined by "and", "or" or "xor"; numbers hold where they are not 0."""
    root, own = _over_one(asm, [_condition(asm, part) for part in parts])
    return Stepped(root, _exactly(asm, lambda: truths(own, how)), True, asm.where)


def inverted(asm: Assembler, part: Operand) -> Stepped:
    """The condition that does not hold; of a number, that it is 0."""
    known = _condition(asm, part)
    assert isinstance(known, Stepped), "constants are known on reading"
    return replace(known, steps=negated(known.steps), maker=asm.where, larger=not known.larger)


def _condition(asm: Assembler, part: Operand) -> Operand:
    if isinstance(part, np.ndarray):
        return (part != 0).astype(np.float64)
    return part if isinstance(part, Stepped) and part.truth else compared(asm, part, np.zeros(()), "other")


def _is_soft_plus(asm: Assembler, condition: Stepped, first: Operand, second: Operand) -> bool:
    """Whether the second is the soft plus of the first, and the first is taken where it is far above 0."""
    if not isinstance(first, Value) or not isinstance(second, Value) or condition.root != first:
        return False
    made, steps = asm.nodes[second.node], condition.steps
    named = isinstance(made.layer, Smooth) and made.layer.function == "softplus"
    far = bool(steps.places) and steps.places[0] >= SOFTPLUS_THRESHOLD and steps.lines[0].same(NEVER)
    return named and far and made.inputs == (first.node,)


def where(asm: Assembler, condition: Stepped, first: Operand, second: Operand) -> Value | Stepped:
    """The first where the condition holds, the second elsewhere."""
    if _is_soft_plus(asm, condition, first, second):
        assert isinstance(second, Value)
        return second
    pair = condition.compared
    if isinstance(first, Value) and isinstance(second, Value) and pair in ((first, second), (second, first)):
        largest_wins = (pair == (first, second)) == condition.larger
        return picking.bounded(asm, [first, second], largest_wins, shared=True)
    if isinstance(first, Value) and isinstance(second, Value):
        unit = elu_of(asm, _down(asm, condition), first, second, lambda value: _down(asm, value))
        if unit is not None:
            return unit
    root, (c, a, b) = _over_one(asm, (condition, first, second))
    truth = all(isinstance(one, Stepped) and one.truth for one in (first, second))
    return _settled(asm, Stepped(root, _exactly(asm, lambda: selected(c, a, b)), truth, asm.where))


def product(asm: Assembler, first: Operand, second: Operand) -> Value | Stepped:
    """The product of two, one of which steps."""
    return _made(asm, (first, second), lambda a, b: a * b)


def total(asm: Assembler, first: Operand, second: Operand, factor: float = 1.0) -> Value | Stepped:
    """``first + factor * second``, of which one steps."""
    return _made(asm, (first, second), lambda a, b: a + b * Steps.constant(factor))


def scaled(asm: Assembler, part: Operand, factor: np.ndarray | float) -> Value | Stepped:
    """What steps times constants."""
    return _made(asm, (part, np.asarray(factor, np.float64)), lambda a, b: a * b)


def number(asm: Assembler, part: Operand) -> Value | Stepped:
    """A condition as the numbers 1 and 0."""
    return _made(asm, (part,), lambda own: own)


def chosen(asm: Assembler, mask: np.ndarray, first: Operand, second: Operand) -> Value:
    """The first where a constant mask is true, the second elsewhere; one may be a constant.

    All three are broadcast, whatever the mask says.
    """
    full = asm.broadcast(mask.shape, _shape_of(asm, first), _shape_of(asm, second))
    first, second = (asm.expand(one, full) if isinstance(one, Value) else one for one in (first, second))
    if mask.all() or not mask.any():
        only = first if mask.all() else second
        if isinstance(only, Value):
            return only
    kept = mask.astype(np.float64)
    parts: list[Value] = []
    shift = np.zeros(())
    for part, share in ((first, kept), (second, 1 - kept)):
        if isinstance(part, Value):
            parts.append(asm.scale_shift(part, share, 0.0))
        elif isinstance(part, np.ndarray):
            shift = shift + np.where(share > 0, part, 0.0)
        else:
            raise part.refusal(asm)
    whole = parts[0] if len(parts) == 1 else asm.add(*parts)
    return asm.scale_shift(whole, 1.0, shift) if shift.any() else whole


def _settled(asm: Assembler, made: Stepped) -> Value | Stepped:
    """A layer where it does not jump; a condition stays one."""
    if made.truth or made.steps.jump() is not None:
        return made
    steps = made.steps.bends()
    lines = steps.lines[::2]
    if not steps.places:
        if lines[0].same(IDENTITY):
            return made.root
        return asm.scale_shift(
            made.root, *(_reals(asm, made.root, n) for n in (lines[0].slope, lines[0].offset))
        )
    other = any(not on.same(before) for before, on in zip(steps.lines[::2], steps.lines[1::2], strict=False))
    units = max(max(len(line.slope), len(line.offset)) for line in lines)
    slopes, offsets = (
        torch.from_numpy(np.stack([np.broadcast_to(n, units) for n in numbers]).astype(np.float64))
        for numbers in ([line.slope for line in lines], [line.offset for line in lines])
    )
    places = torch.tensor([float(place) for place in steps.places], dtype=torch.float64)
    first = PiecewiseLinear(places[:2], slopes[:3], offsets[:3], other)
    value = asm.append(first, made.root)
    # A layer bends at two places; beyond each further one a rectifier is added.
    for k in range(2, len(places)):
        bend = np.broadcast_to(lines[k + 1].slope - lines[k].slope, units)
        beyond = asm.leaky_relu(asm.scale_shift(made.root, 1.0, -float(places[k])), 0.0, other)
        value = asm.add(value, asm.scale_shift(beyond, _reals(asm, made.root, bend), 0.0))
    return value


def _reals(asm: Assembler, root: Value, numbers: np.ndarray) -> np.ndarray:
    """One number, or one for each unit, in the shape of the file's value."""
    real = numbers.astype(np.float64)
    return real.reshape(()) if len(real) == 1 else real.reshape(asm.shape(root))


def _made(asm: Assembler, parts: Sequence[Operand], made: Callable[..., Steps]) -> Value | Stepped:
    root, own = _over_one(asm, parts)
    return _settled(asm, Stepped(root, _exactly(asm, lambda: made(*own)), False, asm.where))


def _exactly(asm: Assembler, made: Callable[[], Steps]) -> Steps:
    try:
        return made()
    except NotAffineError as error:
        raise asm.refuse(
            str(error),
            "allowed are functions of one value that are affine between finitely many numbers, the same for "
            "all units; use the activation of that name, or clamp, where, and constants of one number",
        ) from error


def _over_one(asm: Assembler, parts: Sequence[Operand]) -> tuple[Value, list[Steps]]:
    """All parts as functions of one computed value, the last that all computed ones are made of."""
    ways = {place: list(_down(asm, part)) for place, part in enumerate(parts) if not _is_constant(part)}
    first, *others = ways.values()
    shared = [one for one, _ in first if all(any(one == end for end, _ in other) for other in others)]
    if not shared:
        raise asm.refuse(
            "it joins values of which one is chosen by another, and which are no functions of one value",
            "allowed are a comparison of a value with a constant and branches that are affine in that value, "
            "or the larger of two values; write it as maximum, minimum or clamp",
        )
    root = shared[0]
    found: list[Steps] = []
    for place, part in enumerate(parts):
        if place in ways:
            made = next(made for one, made in ways[place] if one == root)
            found.append(_exactly(asm, made))
        else:
            assert isinstance(part, np.ndarray)
            found.append(_exactly(asm, partial(_constant, asm, part, asm.shape(root))))
    return root, found


def _constant(asm: Assembler, part: np.ndarray, shape: tuple[int, ...]) -> Steps:
    if part.size > 1:
        try:
            part = np.broadcast_to(part, shape)
        except ValueError as error:
            raise asm.refuse(
                f"a constant of shape {part.shape} meets a value of shape {shape}",
                "allowed are constants of one number, or of the value's shape; where it makes B-splines of "
                "a Kolmogorov-Arnold network, use one of Chebyshev polynomials or of radial functions, which "
                "are read",
            ) from error
    return Steps.constant(part)


def _down(asm: Assembler, part: Operand) -> Iterator[tuple[Value, Callable[[], Steps]]]:
    """The values that a part is a function of, number by number, the last first, with these functions."""
    assert isinstance(part, Value | Stepped)
    root, steps = (part.root, part.steps) if isinstance(part, Stepped) else (part, Steps())
    layers: list[PiecewiseLinear | ScaleShift] = []
    index = root.node
    while True:
        shape = asm.nodes[index].shape
        yield Value(index, root.batched), partial(_through, steps, tuple(layers), shape)
        layer = asm.nodes[index].layer
        if not isinstance(layer, PiecewiseLinear | ScaleShift):
            return
        layers.append(layer)
        (index,) = asm.nodes[index].inputs


def _through(steps: Steps, layers: Sequence[PiecewiseLinear | ScaleShift], shape: tuple[int, ...]) -> Steps:
    for layer in layers:
        steps = steps.inside(_of_layer(layer, shape))
    return steps


def _of_layer(layer: PiecewiseLinear | ScaleShift, shape: tuple[int, ...]) -> Steps:
    if isinstance(layer, PiecewiseLinear):
        lines = list(zip(layer.slopes.numpy(), layer.offsets.numpy(), strict=True))
        return Steps.joined(layer.breakpoints.tolist(), lines)
    whole = [n if n.numel() == 1 else n.expand(shape) for n in (layer.scale, layer.shift)]
    return Steps.affine(whole[0].numpy(), whole[1].numpy())


def _related(asm: Assembler, first: Value, second: Value) -> bool:
    """Whether both are functions of one value, number by number."""
    ends = [{one for one, _ in _down(asm, value)} for value in (first, second)]
    return not ends[0].isdisjoint(ends[1])


def _shape_of(asm: Assembler, part: Operand) -> tuple[int, ...]:
    if isinstance(part, np.ndarray):
        return part.shape
    return asm.shape(part.root if isinstance(part, Stepped) else part)


def _is_constant(part: Operand) -> bool:
    return isinstance(part, np.ndarray)
