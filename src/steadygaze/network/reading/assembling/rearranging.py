"""Operations of files that move, repeat and leave out numbers, and change none, on top of the `Assembler`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch

from steadygaze.network.layers import Reshape
from steadygaze.network.reading.assembling.assembly import Assembler, Value
from steadygaze.network.taking import Take

Mirror: TypeAlias = Literal["reflect", "edge", "wrap"]
"""What a frame repeats: the numbers behind the edge, the edge itself, or those of the other side."""


def taken(asm: Assembler, x: Value, axis: int, index: Sequence[int] | np.ndarray) -> Value:
    """The positions `index` of an axis of the file's shape; those below 0 are counted from the end."""
    shape = asm.shape(x)
    axis %= len(shape)
    places = np.asarray(index, np.int64)
    if not places.size or places.min() < -shape[axis] or places.max() >= shape[axis]:
        raise asm.refuse(
            f"it takes positions {_few(places)} of axis {axis} of {shape}",
            f"allowed are at least one, from {-shape[axis]} to {shape[axis] - 1}",
        )
    places = np.where(places < 0, places + shape[axis], places)
    if np.array_equal(places, np.arange(shape[axis])):
        return x
    if x.batched and axis == 0:  # several rows of one image, which are no batch
        x = asm.append(Reshape(shape), x, batched=False)
    if np.array_equal(places, np.arange(places[0], places[0] + len(places))):
        return asm.crop(x, axis, int(places[0]), int(places[-1]) + 1)
    return asm.append(Take(torch.from_numpy(places), axis - x.batched), x)


def picked(asm: Assembler, x: Value, places: np.ndarray) -> Value:
    """The numbers of x at `places`, counted in turn from 0, whose shape is that of the result."""
    flat = asm.reshape(x, (math.prod(asm.shape(x)),))
    return asm.reshape(taken(asm, flat, 0, places.ravel()), places.shape)


def gathered(asm: Assembler, x: Value, axis: int, index: np.ndarray) -> Value:
    """For each entry of `index` the number at that position of the axis, and at its own place of the others.

    The index has as many axes as the value, none of them longer than the value's, but for the one it names.
    """
    shape = asm.shape(x)
    axis %= len(shape)
    fits = index.ndim == len(shape) and all(
        place == axis or size <= shape[place] for place, size in enumerate(index.shape)
    )
    if not fits or not index.size or index.min() < -shape[axis] or index.max() >= shape[axis]:
        raise asm.refuse(
            f"it gathers from a value of shape {shape} along axis {axis} by an index of shape {index.shape}",
            f"allowed are positions from {-shape[axis]} to {shape[axis] - 1}, in a shape no larger elsewhere",
        )
    numbers = np.arange(math.prod(shape)).reshape(shape)
    kept = tuple(slice(None) if place == axis else slice(size) for place, size in enumerate(index.shape))
    return picked(asm, x, np.take_along_axis(numbers[kept], index, axis))


def _few(places: np.ndarray) -> str:
    shown = ", ".join(map(str, places[:8].tolist()))
    return f"({shown}{', ...' if len(places) > 8 else ''})"


def mirrored(asm: Assembler, x: Value, pads: Sequence[tuple[int, int]], mode: Mirror) -> Value:
    """A frame of the value's own numbers, (before, after) per axis of the file's shape."""
    for axis, (pad, size) in enumerate(zip(pads, asm.shape(x), strict=True)):
        most = {"reflect": size - 1, "wrap": size, "edge": max(pad)}[mode]
        if not 0 <= min(pad) <= max(pad) <= most:
            raise asm.refuse(
                f"it pads axis {axis} of {asm.shape(x)} by {pad} in the mode {mode}",
                f"allowed are 0 to {most} there" if mode != "edge" else "allowed are numbers from 0 on",
            )
        x = taken(asm, x, axis, np.pad(np.arange(size), pad, mode))
    return x


def tiled(asm: Assembler, x: Value, repeats: Sequence[int]) -> Value:
    """The whole value repeated along each axis; further axes go in front."""
    old = asm.shape(x)
    x = asm.reshape(x, (1,) * (len(repeats) - len(old)) + old)
    counts = (1,) * (len(old) - len(repeats)) + tuple(repeats)
    for axis, (size, count) in enumerate(zip(asm.shape(x), counts, strict=True)):
        x = taken(asm, x, axis, np.tile(np.arange(size), count))
    return x


def windowed(asm: Assembler, x: Value, axis: int, places: np.ndarray) -> Value:
    """An axis of the file's shape as two: windows, and the positions ``(windows, size)`` that each covers."""
    shape = asm.shape(x)
    axis %= len(shape)
    return asm.reshape(
        taken(asm, x, axis, places.ravel()), (*shape[:axis], *places.shape, *shape[axis + 1 :])
    )


def shape_of(asm: Assembler, part: Value | np.ndarray) -> tuple[int, ...]:
    """The shape of a computed value, in the file's terms, or of a constant."""
    return asm.shape(part) if isinstance(part, Value) else np.shape(part)


def with_axis(asm: Assembler, part: Value | np.ndarray, axis: int) -> Value | np.ndarray:
    """A computed value or a constant with a new axis of one entry, which then is number `axis`."""
    shape = list(shape_of(asm, part))
    shape.insert(axis % (len(shape) + 1), 1)
    return asm.reshape(part, shape) if isinstance(part, Value) else part.reshape(shape)


def side_by_side(asm: Assembler, parts: Sequence[Value | np.ndarray], axis: int) -> Value:
    """Values, at least one of them computed, and constants along an axis of the file's shape.

    Constants are what a frame of zeros holds after they are added.
    """
    shapes = [shape_of(asm, part) for part in parts]
    rank = len(shapes[0])
    axis %= rank
    others = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    if any(len(shape) != rank for shape in shapes) or len(others) > 1:
        raise asm.refuse(
            f"shapes {shapes} are concatenated", "allowed are shapes that differ in that axis only"
        )
    parts = [part for part, shape in zip(parts, shapes, strict=True) if shape[axis]]
    values = [part for part in parts if isinstance(part, Value)]
    if len(values) == len(parts):
        return asm.concat(values, axis)
    framed: list[Value] = []
    before: list[np.ndarray] = []
    for place, part in enumerate(parts):
        if isinstance(part, np.ndarray):
            before.append(part)
            continue
        last = len(framed) == len(values) - 1
        behind = [one for one in parts[place + 1 :] if isinstance(one, np.ndarray)] if last else []
        framed.append(_between(asm, before, part, behind, axis))
        before = []
    return framed[0] if len(framed) == 1 else asm.concat(framed, axis)


def _between(
    asm: Assembler, before: list[np.ndarray], x: Value, behind: list[np.ndarray], axis: int
) -> Value:
    """A computed value with constants on both sides of it along an axis."""
    if not before and not behind:
        return x
    nothing = np.zeros(asm.shape(x))
    constant = np.concatenate([*before, nothing, *behind], axis=axis)
    pads = [(0, 0)] * nothing.ndim
    pads[axis] = (sum(one.shape[axis] for one in before), sum(one.shape[axis] for one in behind))
    return asm.scale_shift(asm.pad(x, pads, 0.0), 1.0, constant)


def overwritten(
    asm: Assembler, x: Value | np.ndarray, places: np.ndarray, updates: Value | np.ndarray
) -> Value:
    """x with numbers of `updates`, counted in turn, where `places`, shaped as x, is not below 0.

    At least one of both is computed.
    """
    flat, size = places.ravel(), places.size
    if isinstance(updates, Value) and (flat >= 0).all():
        source, index = asm.reshape(updates, (-1,)), flat
    else:
        parts = [asm.reshape(one, (-1,)) if isinstance(one, Value) else one.ravel() for one in (x, updates)]
        source, index = side_by_side(asm, parts, 0), np.where(flat < 0, np.arange(size), size + flat)
    return asm.reshape(taken(asm, source, 0, index), places.shape)


def places_of(
    asm: Assembler, shape: Sequence[int], where: Sequence[object], updates: Sequence[int]
) -> np.ndarray:
    """For `overwritten`: the places that an index of numpy names, filled in turn by updates of that shape.

    Raises ModelError where it names a place that there is not, or one of them twice.
    """
    count = math.prod(updates)
    try:
        named = np.arange(math.prod(shape)).reshape(shape)[tuple(where)]  # type: ignore[index]
        order = np.broadcast_to(np.arange(count).reshape(updates), named.shape)
    except (IndexError, ValueError) as error:
        raise asm.refuse(
            f"it writes numbers of shape {tuple(updates)} into a value of shape {tuple(shape)} ({error})",
            "allowed are places that there are, and a number for each",
        ) from error
    if len(np.unique(named)) < named.size:
        raise asm.refuse("it writes several numbers to one place", "allowed is one for each place")
    places = np.full(math.prod(shape), -1)
    places[named.ravel()] = order.ravel()
    return places.reshape(shape)


def deep_to_wide(asm: Assembler, x: Value, block: int, depth_first: bool) -> Value:
    """Channels of a value ``(..., C b b, H, W)`` become blocks of b by b numbers, ``(..., C, H b, W b)``.

    Channels are counted block by block within each (PyTorch, CRD), or depth_first the other way (DCR).
    """
    *lead, channels, height, width = _planes(asm, x)
    if channels % block**2:
        raise asm.refuse(
            f"it takes {channels} channels apart into blocks of {block} by {block}",
            f"allowed are multiples of {block**2} channels",
        )
    split = (block, block, channels // block**2) if depth_first else (channels // block**2, block, block)
    rank = len(lead)
    x = asm.reshape(x, (*lead, *split, height, width))
    depth, down, right = (rank + 2, rank, rank + 1) if depth_first else (rank, rank + 1, rank + 2)
    x = asm.permute(x, (*range(rank), depth, rank + 3, down, rank + 4, right))
    return asm.reshape(x, (*lead, channels // block**2, height * block, width * block))


def wide_to_deep(asm: Assembler, x: Value, block: int, depth_first: bool) -> Value:
    """The reverse of `deep_to_wide`."""
    *lead, channels, height, width = _planes(asm, x)
    if height % block or width % block:
        raise asm.refuse(
            f"it takes a map of {height} by {width} apart into blocks of {block} by {block}",
            "allowed are sizes that the blocks divide",
        )
    rank = len(lead)
    x = asm.reshape(x, (*lead, channels, height // block, block, width // block, block))
    blocks, depth = (rank + 2, rank + 4), (rank,)
    order = (*blocks, *depth) if depth_first else (*depth, *blocks)
    x = asm.permute(x, (*range(rank), *order, rank + 1, rank + 3))
    return asm.reshape(x, (*lead, channels * block**2, height // block, width // block))


def shuffled(asm: Assembler, x: Value, groups: int) -> Value:
    """Channels (axis 1) dealt out in turn: the first of each group, then the second of each."""
    first, channels, *rest = asm.shape(x)
    if channels % groups:
        raise asm.refuse(
            f"it shuffles {channels} channels in {groups} groups", "allowed are groups that divide them"
        )
    x = asm.reshape(x, (first, groups, channels // groups, *rest))
    x = asm.permute(x, (0, 2, 1, *range(3, 3 + len(rest))))
    return asm.reshape(x, (first, channels, *rest))


def _planes(asm: Assembler, x: Value) -> tuple[int, ...]:
    shape = asm.shape(x)
    if len(shape) < 3:
        raise asm.refuse(
            f"got a value of shape {shape}", "allowed are values that end in channels, rows and columns"
        )
    return shape
