"""The tangent, and inverse functions that exist between limits: made of products, roots and logarithms.

Each is read where the layers before it keep its argument within these limits: a clamp, a tanh, a cosine.
"""

from __future__ import annotations

import math

from steadygaze.network.reading.assembling import joining
from steadygaze.network.reading.assembling.assembly import Assembler, Value
from steadygaze.network.reading.assembling.ranges import range_of


def tangent(asm: Assembler, x: Value) -> Value:
    """``sin x / cos x`` between two of its poles."""
    _within(asm, x, -math.pi / 2, math.pi / 2, "the tangent", "-pi/2 and pi/2, its poles")
    return joining.divided(asm, asm.smooth(x, "sin"), asm.smooth(x, "cos"))


def arc_sine(asm: Assembler, x: Value) -> Value:
    """``atan(x / sqrt((1 - x) (1 + x)))``."""
    _within(asm, x, -1.0, 1.0, "the arc sine or cosine", "-1 and 1, between which it exists")
    below, above = _sides(asm, x)
    left = joining.power(asm, joining.multiplied(asm, below, above), -0.5)
    return asm.smooth(joining.multiplied(asm, x, left), "atan")


def arc_cosine(asm: Assembler, x: Value) -> Value:
    """A right angle less the arc sine."""
    return asm.scale_shift(arc_sine(asm, x), -1.0, math.pi / 2)


def area_tangent(asm: Assembler, x: Value) -> Value:
    """atanh: ``(log(1 + x) - log(1 - x)) / 2``."""
    _within(asm, x, -1.0, 1.0, "the inverse hyperbolic tangent", "-1 and 1, between which it exists")
    below, above = _sides(asm, x)
    logarithms = joining.logarithm(asm, above), joining.logarithm(asm, below)
    return asm.add(*(asm.scale_shift(y, s, 0.0) for y, s in zip(logarithms, (0.5, -0.5), strict=True)))


def area_cosine(asm: Assembler, x: Value) -> Value:
    """acosh: ``log(x + sqrt((x - 1) (x + 1)))``."""
    _within(asm, x, 1.0, math.inf, "the inverse hyperbolic cosine", "1, from which on it exists")
    less, more = (asm.scale_shift(x, 1.0, shift) for shift in (-1.0, 1.0))
    return joining.logarithm(asm, asm.add(x, joining.power(asm, joining.multiplied(asm, less, more), 0.5)))


def _sides(asm: Assembler, x: Value) -> tuple[Value, Value]:
    """1 - x and 1 + x."""
    return asm.scale_shift(x, -1.0, 1.0), asm.scale_shift(x, 1.0, 1.0)


def _within(asm: Assembler, x: Value, low: float, high: float, what: str, ends: str) -> None:
    least, most = range_of(asm.nodes, x.node)
    if least < low or most > high:
        raise asm.refuse(
            f"it takes {what} of a computed value that may lie beyond {ends}, as far as the layers before it "
            "tell",
            "clamp the value beforehand",
        )
