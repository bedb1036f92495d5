"""Norms that are written out, ``(x - mean) / sqrt(variance + epsilon)``, told from what they are made of.

So are those with the number beside the root, ``(x - mean) / (deviation + epsilon)``, and those of x itself.

As one layer rounding that comes in goes out as it came; of its parts, each bounded by itself, every norm
makes it ten times larger, and nothing is left to say of a network of twenty.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steadygaze.network.layers import Add, ScaleShift
from steadygaze.network.reading.assembling.assembly import Assembler, Value
from steadygaze.network.smooth import Smooth
from steadygaze.network.taking import Take


@dataclass(frozen=True)
class WrittenNorm:
    """``scale c / (sqrt(variance + epsilon) + beside)``, the variance being the mean of c² over axes.

    c is ``x - mean`` if it is centred, else x. Axes are those of the file's shape, sorted; epsilon >= 0,
    beside >= 0, and one of them is above 0. scale: a number, or one for each entry, as in a layer.
    """

    x: Value
    axes: tuple[int, ...]
    centred: bool
    epsilon: float
    beside: float
    variance: Value
    scale: Tensor


def written_norm(asm: Assembler, away: Value, inverse: Value) -> WrittenNorm | None:
    """The norm that a product is; None if it is none.

    The factors must be x, or that less its mean, or these times constants, and one by the deviation.
    """
    node, outer, added = _scaled(asm, inverse.node)
    root, stretched, beside = _before(asm, node, exponent=-0.5), 1.0, 0.0
    if root is None and (width := _before(asm, node, exponent=-1.0)) is not None:
        node, stretched, beside = _scaled(asm, width)
        root = _before(asm, node, exponent=0.5)
    if root is None or added or beside < 0 or stretched <= 0:
        return None
    node, factor, shift = _scaled(asm, root)
    squares, axes = asm.means.get(node, (None, ()))
    squared = None if squares is None else _before(asm, squares.node, exponent=2.0)
    if squared is None or not (factor > 0 and shift >= 0 and shift + beside > 0):
        return None
    for value, weight in ((away, torch.ones((), dtype=torch.float64)), _weighed(asm, away)):
        x, centred = _source(asm, value, squared, axes)
        if x is None:
            continue
        row = tuple(1 if axis in axes else size for axis, size in enumerate(asm.shape(x)))
        fits = asm.shape(inverse) == row and inverse.batched == x.batched == away.batched
        if not fits or (x.batched and 0 in axes):
            continue
        length = stretched * factor**0.5  # the divisor is length * sqrt(v + epsilon) + beside
        variance, scale = Value(node, inverse.batched), weight * (outer / length)
        return WrittenNorm(x, axes, centred, shift / factor, beside / length, variance, scale)
    return None


def _source(asm: Assembler, away: Value, squared: int, axes: tuple[int, ...]) -> tuple[Value | None, bool]:
    """What is normalised, and whether its mean was taken from it, given the factor and what was squared."""
    centred = _centred(asm, away.node)
    if centred is not None and centred[1] == axes and _centred(asm, squared) == centred:
        return centred[0], True
    return (away, False) if squared == away.node else (None, False)


def _weighed(asm: Assembler, x: Value) -> tuple[Value, Tensor]:
    """What a value is some number times, entry by entry, and these numbers."""
    layer = asm.nodes[x.node].layer
    if not isinstance(layer, ScaleShift) or layer.shift.any() or not layer.scale.all():
        return x, torch.ones((), dtype=torch.float64)
    return Value(asm.nodes[x.node].inputs[0], x.batched), layer.scale


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
