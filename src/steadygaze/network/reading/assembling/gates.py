"""Activations that files write as products of two computed values, known by their form: SiLU and others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from steadygaze.network.graph import Node
from steadygaze.network.layers import ScaleShift
from steadygaze.network.pieces import PiecewiseLinear
from steadygaze.network.smooth import Smooth


@dataclass(frozen=True)
class Gated:
    """``outer * f(inner * x)`` with f the smooth function of that name and x the node `source`."""

    source: int
    function: str
    inner: float
    outer: float


def gated(nodes: Sequence[Node], factor: int, gate: int) -> Gated | None:
    """The product of the nodes `factor` and `gate` as one activation, or None if it is not one.

    ``x sigmoid(k x)`` is a SiLU, ``x (1 + erf(k x))`` a GELU; all may be scaled, as exporters place and round
    the factors 1/2 and 1/sqrt(2) in several ways. What was rounded is kept as it is in the file.
    ``x clip(k x + c, 0, 2 c)`` is a hard swish.
    """
    place, size, shift = _unscaled(nodes, gate)
    layer = nodes[place].layer
    source, amount, nothing = _unscaled(nodes, factor)
    if not isinstance(layer, Smooth | PiecewiseLinear) or nothing:
        return None
    argument, steepness, zero = _unscaled(nodes, nodes[place].inputs[0])
    if argument != source or not steepness:
        return None
    if isinstance(layer, PiecewiseLinear):
        if shift or not _is_clip(layer, 2 * zero) or steepness <= 0:
            return None
        steepness *= 3 / zero  # clip(k x + c, 0, 2 c) = 2 c clip(k x / (2 c) + 1 / 2, 0, 1)
        return Gated(source, "hard-swish", steepness, amount * size * 2 * zero / steepness)
    if zero:
        return None
    if layer.function == "sigmoid" and shift == 0:
        return Gated(source, "silu", steepness, amount * size / steepness)
    if layer.function == "erf" and shift == size:
        steepness *= math.sqrt(2)  # 1 + erf(k x) = 2 Phi(sqrt(2) k x)
        return Gated(source, "gelu", steepness, 2 * amount * size / steepness)
    return None


def soft_sign(nodes: Sequence[Node], numerator: int, divisor: int) -> bool:
    """Whether the divisor is 1 and the absolute value of the numerator."""
    place, scale, shift = _unscaled(nodes, divisor)
    layer = nodes[place].layer
    if not isinstance(layer, PiecewiseLinear) or (scale, shift) != (1.0, 1.0):
        return False
    rule = (layer.breakpoints.tolist(), layer.slopes.tolist(), layer.offsets.tolist())
    return rule == ([0.0], [[-1.0], [1.0]], [[0.0], [0.0]]) and nodes[place].inputs[0] == numerator


def soft_plus(nodes: Sequence[Node], index: int) -> int | None:
    """The node z where this one is 1 + exp(z), whose logarithm is a soft plus; None if it is not one."""
    place, scale, shift = _unscaled(nodes, index)
    layer = nodes[place].layer
    if isinstance(layer, Smooth) and layer.function == "exp" and (scale, shift) == (1.0, 1.0):
        return nodes[place].inputs[0]
    return None


def _is_clip(layer: PiecewiseLinear, high: float) -> bool:
    """Whether it limits numbers to 0 to `high`."""
    rule = (layer.breakpoints.tolist(), layer.slopes.tolist(), layer.offsets.tolist())
    return high > 0 and rule == ([0.0, high], [[0.0], [1.0], [0.0]], [[0.0], [0.0], [high]])


def _unscaled(nodes: Sequence[Node], index: int) -> tuple[int, float, float]:
    """The node below scalings by one number, and the scale and the shift that they come to."""
    scale, shift = 1.0, 0.0
    while True:
        layer = nodes[index].layer
        if not isinstance(layer, ScaleShift) or layer.scale.numel() > 1 or layer.shift.numel() > 1:
            return index, scale, shift
        scale, shift = scale * float(layer.scale), shift + scale * float(layer.shift)
        (index,) = nodes[index].inputs
