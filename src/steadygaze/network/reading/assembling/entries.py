"""Which entries of its inputs a layer reads for some entries of its output: boxes of positions along axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from steadygaze.network.joint import MatrixProduct
from steadygaze.network.layers import AbstractLayer, Add, Concat, Pad, Permute, Reshape, ScaleShift, Shape
from steadygaze.network.pieces import PiecewiseLinear
from steadygaze.network.taking import Take

Part: TypeAlias = tuple[tuple[int, int], ...]
"""Positions (first, end) along each axis, the batch not counted; the end is left out."""


def whole(shape: Shape) -> Part:
    """All entries of a value."""
    return tuple((0, size) for size in shape)


def entries_read(layer: AbstractLayer, part: Part, shapes: Sequence[Shape]) -> list[Part | None]:
    """Entries of each input, of these shapes, that `part` of the output depends on; None for no entry.

    All entries of an input, where no less is known.
    """
    match layer:
        case ScaleShift() | PiecewiseLinear() | Add():
            return [part] * len(shapes)
        case Pad():
            return [_inside(layer, part, shapes[0])]
        case Permute():
            return [tuple(part[layer.axes.index(axis)] for axis in range(len(part)))]
        case Take():
            places = layer.index[slice(*part[layer.axis])]
            return [_along(part, layer.axis, int(places.min()), int(places.max()) + 1)]
        case Concat():
            return _of_branches(layer, part, shapes)
        case MatrixProduct():
            (*lead, rows, _), (*_, columns) = part, part
            inner = (0, shapes[0][-1])
            return [(*lead, rows, inner), (*lead, inner, columns)]
        case Reshape():
            return [_reshaped(layer.shape, part, shapes[0])]
        case _:
            return [whole(shape) for shape in shapes]


def reads_frame(layer: Pad, part: Part, shape: Shape) -> bool:
    """Whether some of these entries are of the frame around an input of that shape."""
    sides = zip(part, layer.pads, shape, strict=True)
    return any(first < before or end > before + size for (first, end), (before, _), size in sides)


def _inside(layer: Pad, part: Part, shape: Shape) -> Part | None:
    sides = zip(part, layer.pads, shape, strict=True)
    inside = tuple(
        (max(first - before, 0), min(end - before, size)) for (first, end), (before, _), size in sides
    )
    return inside if all(first < end for first, end in inside) else None


def _of_branches(layer: Concat, part: Part, shapes: Sequence[Shape]) -> list[Part | None]:
    found = list[Part | None]()
    first, end = part[layer.axis]
    for shape in shapes:
        size = shape[layer.axis]
        near, far = max(first, 0), min(end, size)
        found.append(_along(part, layer.axis, near, far) if near < far else None)
        first, end = first - size, end - size
    return found


def _reshaped(shape: Shape, part: Part, before: Shape) -> Part:
    """Where nothing but axes of one entry comes or goes; else all of it."""
    own = [span for span, size in zip(part, shape, strict=True) if size != 1]
    if [size for size in shape if size != 1] != [size for size in before if size != 1]:
        return whole(before)
    left = iter(own)
    return tuple((0, 1) if size == 1 else next(left) for size in before)


def _along(part: Part, axis: int, first: int, end: int) -> Part:
    return (*part[:axis], (first, end), *part[axis + 1 :])
