"""Smooth activations made of functions of `smooth.RULES`: scaled, mirrored, joined with a rectifier."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from steadygaze.network.reading.assembling.assembly import Assembler, Value

# Klambauer et al., Self-Normalizing Neural Networks, NeurIPS 2017.
SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def smooth(function: str) -> Callable[[Any], Value]:
    """The rule of an operator, in either reader's table, that is this function of `smooth.RULES`."""
    return lambda call: call.assembler.smooth(call.value(), function)


def elu(asm: Assembler, x: Value, alpha: float, scale: float, steepness: float = 1.0) -> Value:
    """``scale z`` above 0 and ``scale alpha (exp(steepness z) - 1)`` below.

    That is a multiple of the plain ELU of ``steepness z``, and what it lacks above 0 by a rectifier. Raises
    ModelError unless the numbers are finite and the steepness is above 0.
    """
    if not (math.isfinite(alpha) and math.isfinite(scale) and 0 < steepness < math.inf):
        raise asm.refuse(
            f"its alpha is {alpha:g}, its scale {scale:g} and its input scale {steepness:g}",
            "allowed are finite numbers, and an input scale above 0",
        )
    curve = asm.smooth(asm.scale_shift(x, steepness, 0.0), "elu")
    curve = asm.scale_shift(curve, scale * alpha, 0.0)
    lacking = scale - scale * alpha * steepness
    if lacking == 0:
        return curve
    return asm.add(curve, asm.scale_shift(asm.leaky_relu(x, 0.0), lacking, 0.0))


def celu(asm: Assembler, x: Value, alpha: float) -> Value:
    """``max(z, 0) + min(alpha (exp(z / alpha) - 1), 0)``: the plain ELU of ``z / alpha``, times alpha.

    Raises ModelError unless alpha is a finite number above 0.
    """
    if not 0 < alpha < math.inf:
        raise asm.refuse(f"its alpha is {alpha:g}", "allowed are finite numbers above 0")
    return asm.scale_shift(asm.smooth(asm.scale_shift(x, 1 / alpha, 0.0), "elu"), alpha, 0.0)


def hyperbolic(asm: Assembler, x: Value, sign: float) -> Value:
    """``(exp(z) + sign exp(-z)) / 2``: the hyperbolic cosine, or with -1 the sine."""
    up, down = asm.smooth(x, "exp"), asm.smooth(asm.scale_shift(x, -1.0, 0.0), "exp")
    return asm.add(asm.scale_shift(up, 0.5, 0.0), asm.scale_shift(down, sign / 2, 0.0))


def log_of_two(asm: Assembler, a: Value, b: Value | np.ndarray) -> Value:
    """``log(exp(a) + exp(b))``: the softplus of their difference, on top of the second."""
    if isinstance(b, Value):
        return asm.add(asm.smooth(asm.add(a, asm.scale_shift(b, -1.0, 0.0)), "softplus"), b)
    a = asm.expand(a, asm.broadcast(asm.shape(a), b.shape))
    return asm.scale_shift(asm.smooth(asm.scale_shift(a, 1.0, -b), "softplus"), 1.0, b)


def log_sigmoid(asm: Assembler, x: Value) -> Value:
    """``-log(1 + exp(-z))``."""
    return asm.scale_shift(asm.smooth(asm.scale_shift(x, -1.0, 0.0), "softplus"), -1.0, 0.0)
