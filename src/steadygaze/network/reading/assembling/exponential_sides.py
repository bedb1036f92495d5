"""Exponential linear units as files write them out: a line above 0 and an exponential below.

``where(x > 0, a x + b, s exp(c x) + t)`` with ``b = s + t`` does not jump, and is `activations.elu`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import TypeAlias

from steadygaze.network.reading.assembling import activations
from steadygaze.network.reading.assembling.assembly import Assembler, Value
from steadygaze.network.reading.assembling.steps import IDENTITY, NEVER, Line, NotAffineError, Steps
from steadygaze.network.smooth import Smooth

Ways: TypeAlias = "Iterator[tuple[Value, Callable[[], Steps]]]"
"""The values that something is a function of, number by number, the last first, with these functions."""
Down: TypeAlias = Callable[[Value], Ways]
"""These of a value."""

_ALWAYS = Line(NEVER.slope, IDENTITY.slope)
_ZERO = (Fraction(0),)


def elu_of(asm: Assembler, condition: Ways, first: Value, second: Value, down: Down) -> Value | None:
    """The first value where the condition holds and the second elsewhere, as an exponential linear unit.

    None where it is none, with numbers that are the same for all units.
    """
    for root, made in condition:
        try:
            unit = _unit(asm, root, made(), first, second, down)
        except NotAffineError:
            continue
        if unit is not None:
            return unit
    return None


def _unit(
    asm: Assembler, root: Value, condition: Steps, above: Value, below: Value, down: Down
) -> Value | None:
    if condition.places != _ZERO:
        return None
    if condition.lines[0].same(_ALWAYS) and condition.lines[2].same(NEVER):
        above, below = below, above
    elif not (condition.lines[0].same(NEVER) and condition.lines[2].same(_ALWAYS)):
        return None
    straight = _through(above, root, down, 1)
    found = _exponential(asm, below, down)
    if straight is None or found is None:
        return None
    outer, inside = found
    inner = _through(inside, root, down, -1)
    if inner is None or inner[0] <= 0 or inner[1] != 0:
        return None
    (a, b), (s, t), c = straight, outer, inner[0]
    if a == 0 or b != s + t:
        return None
    made = activations.elu(asm, root, float(s / a), float(a), float(c))
    return made if b == 0 else asm.scale_shift(made, 1.0, float(b))


def _through(value: Value, root: Value, down: Down, side: int) -> tuple[Fraction, Fraction] | None:
    """Slope and offset of the line that a value is of the root on a side of 0 (-1, 1); None if it is none."""
    made = next((made for one, made in down(value) if one == root), None)
    if made is None:
        return None
    steps = made()
    if any(side * place > 0 for place in steps.places):
        return None
    return _numbers(steps.lines[-1 if side > 0 else 0])


def _exponential(asm: Assembler, value: Value, down: Down) -> tuple[tuple[Fraction, Fraction], Value] | None:
    """Factor and shift of an exponential that the value is, and what it is the exponential of."""
    for one, made in down(value):
        node = asm.nodes[one.node]
        if isinstance(node.layer, Smooth) and node.layer.function == "exp":
            steps = made()
            numbers = None if steps.places else _numbers(steps.lines[0])
            return None if numbers is None else (numbers, Value(node.inputs[0], one.batched))
    return None


def _numbers(line: Line) -> tuple[Fraction, Fraction] | None:
    if len(line.slope) > 1 or len(line.offset) > 1:
        return None
    return line.slope[0], line.offset[0]
