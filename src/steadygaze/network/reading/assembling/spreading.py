"""Variances written as ``E[x²] - E[x]²``, on top of the `Assembler`."""

from __future__ import annotations

from steadygaze.network.reading.assembling import collapsing, joining
from steadygaze.network.reading.assembling.assembly import Assembler, Value
from steadygaze.network.smooth import Smooth


def difference(asm: Assembler, a: Value, b: Value) -> Value:
    """``a - b`` of two computed values; the mean of squares less the square of the mean is the variance.

    In real numbers both are ``E[(x - E[x])²]``, of which it is known that it is not below 0, and in which no
    large numbers cancel.
    """
    found = _variance(asm, a, b)
    return asm.add(a, asm.scale_shift(b, -1.0, 0.0)) if found is None else found


def _variance(asm: Assembler, a: Value, b: Value) -> Value | None:
    squares, mean = asm.means.get(a.node), asm.means.get(_squared(asm, b.node))
    if squares is None or mean is None:
        return None
    (square, axes), (x, others) = squares, mean
    same = _squared(asm, square.node) == x.node and (square.batched, axes) == (x.batched, others)
    if not same or asm.shape(a) != asm.shape(b) or a.batched != b.batched:
        return None
    middle = asm.scale_shift(collapsing.mean(asm, x, axes, keep=True), -1.0, 0.0)
    away = joining.power(asm, asm.add(x, middle), 2.0)
    return asm.reshape(collapsing.mean(asm, away, axes, keep=True), asm.shape(a))


def _squared(asm: Assembler, node: int) -> int:
    """What a node is the square of; -1 if it is none."""
    layer = asm.nodes[node].layer
    is_square = isinstance(layer, Smooth) and layer.function == "power" and layer.numbers[0] == 2
    return asm.nodes[node].inputs[0] if is_square else -1
