"""Activations that files write as products of two computed values: SiLU and GELU, known by their form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from steadygaze.network.graph import Node
from steadygaze.network.layers import ScaleShift
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
    """
    place, size, shift = _unscaled(nodes, gate)
    layer = nodes[place].layer
    source, amount, nothing = _unscaled(nodes, factor)
    if not isinstance(layer, Smooth) or nothing:
        return None
    argument, steepness, zero = _unscaled(nodes, nodes[place].inputs[0])
    if argument != source or zero or not steepness:
        return None
    if layer.function == "sigmoid" and shift == 0:
        return Gated(source, "silu", steepness, amount * size / steepness)
    if layer.function == "erf" and shift == size:
        steepness *= math.sqrt(2)  # 1 + erf(k x) = 2 Phi(sqrt(2) k x)
        return Gated(source, "gelu", steepness, 2 * amount * size / steepness)
    return None


def _unscaled(nodes: Sequence[Node], index: int) -> tuple[int, float, float]:
    """The node below scalings by one number, and the scale and the shift that they come to."""
    scale, shift = 1.0, 0.0
    while True:
        layer = nodes[index].layer
        if not isinstance(layer, ScaleShift) or layer.scale.numel() > 1 or layer.shift.numel() > 1:
            return index, scale, shift
        scale, shift = scale * float(layer.scale), shift + scale * float(layer.shift)
        (index,) = nodes[index].inputs
