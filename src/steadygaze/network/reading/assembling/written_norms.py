"""Norms that are written out, ``(x - mean) / sqrt(variance + epsilon)``, told from what they are made of.

As one layer rounding that comes in goes out as it came; of its parts, each bounded by itself, every norm
makes it ten times larger, and nothing is left to say of a network of twenty.
"""

from __future__ import annotations

from dataclasses import dataclass

from steadygaze.network.layers import Add, ScaleShift
from steadygaze.network.reading.assembling.assembly import Assembler, Value
from steadygaze.network.smooth import Smooth
from steadygaze.network.taking import Take


@dataclass(frozen=True)
class WrittenNorm:
    """``scale (x - mean) / sqrt(variance + epsilon)``, mean and variance being taken over axes.

    Axes are those of the file's shape, sorted; epsilon is above 0.
    """

    x: Value
    axes: tuple[int, ...]
    epsilon: float
    scale: float


def written_norm(asm: Assembler, away: Value, inverse: Value) -> WrittenNorm | None:
    """The norm that a product is; None if the factors are not x less its mean, and one by its deviation."""
    centred = _centred(asm, away.node)
    if centred is None:
        return None
    x, axes = centred
    node, outer, added = _scaled(asm, inverse.node)
    node = _before(asm, node, exponent=-0.5)
    if node is None or added:
        return None
    node, factor, shift = _scaled(asm, node)
    squares, others = asm.means.get(node, (None, ()))
    before = None if squares is None else _before(asm, squares.node, exponent=2.0)
    if before is None or others != axes or _centred(asm, before) != centred:
        return None
    shape = asm.shape(x)
    row = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    fits = asm.shape(inverse) == row and inverse.batched == x.batched == away.batched
    if not (fits and factor > 0 and shift > 0) or (x.batched and 0 in axes):
        return None
    return WrittenNorm(x, axes, shift / factor, outer * factor**-0.5)


def _centred(asm: Assembler, node: int) -> tuple[Value, tuple[int, ...]] | None:
    """The value, and over which axes the mean is that was taken from it; None if a node is not that."""
    if not isinstance(asm.nodes[node].layer, Add):
        return None
    for own, other in (asm.nodes[node].inputs, asm.nodes[node].inputs[::-1]):
        negative = _unrepeated(asm, other)
        layer = asm.nodes[negative].layer
        if not isinstance(layer, ScaleShift) or bool((layer.scale != -1).any() or layer.shift.any()):
            continue
        mean = _unrepeated(asm, asm.nodes[negative].inputs[0])
        x, axes = asm.means.get(mean, (None, ()))
        if x is None or x.node != own:
            continue
        row = tuple(1 if axis in axes else size for axis, size in enumerate(asm.shape(x)))
        if asm.shape(Value(mean, x.batched)) == row:  # else it goes along other axes than its own
            return x, axes
    return None


def _scaled(asm: Assembler, node: int) -> tuple[int, float, float]:
    """The node that this one is one number times, and another more than, and both numbers."""
    factor, shift = 1.0, 0.0
    while isinstance(layer := asm.nodes[node].layer, ScaleShift):
        if layer.scale.numel() != 1 or layer.shift.numel() != 1:
            break
        factor, shift = factor * float(layer.scale), shift + factor * float(layer.shift)
        (node,) = asm.nodes[node].inputs
    return node, factor, shift


def _unrepeated(asm: Assembler, node: int) -> int:
    """What a node repeats along axes of one entry; the node itself if it repeats nothing."""
    while isinstance(layer := asm.nodes[node].layer, Take):
        (source,) = asm.nodes[node].inputs
        if asm.nodes[source].shape[layer.axis] != 1:
            break
        node = source
    return node


def _before(asm: Assembler, node: int, exponent: float) -> int | None:
    """What a node is that power of; None if it is none."""
    layer = asm.nodes[node].layer
    if not isinstance(layer, Smooth) or layer.function != "power" or layer.numbers[0] != exponent:
        return None
    return asm.nodes[node].inputs[0]
