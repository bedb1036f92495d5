"""Operations of files that pick: the largest of several numbers, and pieces of a line, unit by unit."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from steadygaze.network.building import check_size
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.reading.assembling.assembly import LARGEST_WINDOW, Assembler, PoolGeometry, Value
from steadygaze.network.reading.assembling.windows import adaptive_ranges


def largest(asm: Assembler, x: Value, axes: Sequence[int], keep: bool, shared: bool) -> Value:
    """The largest number along axes of the file's shape, which stay as axes of one entry or are dropped.

    The first of equal ones wins; shared says that in the model they share the gradient.
    """
    shape = asm.shape(x)
    chosen = sorted({axis % len(shape) for axis in axes})
    kept = tuple(1 if axis in chosen else size for axis, size in enumerate(shape))
    span = math.prod(shape[axis] for axis in chosen)
    if span > 1:
        check_size((math.prod(kept), span), f"the windows of {asm.where}")
        places = np.moveaxis(np.arange(math.prod(shape)).reshape(shape), chosen, range(-len(chosen), 0))
        x = _largest_of(asm, x, places.reshape(-1, span), kept[1:] if x.batched else kept, shared)
    return x if keep else asm.reshape(x, [n for axis, n in enumerate(shape) if axis not in chosen])


def _largest_of(asm: Assembler, x: Value, places: np.ndarray, pooled: tuple[int, ...], shared: bool) -> Value:
    """The largest at each row of places ``(N_out, k)``; of many that of the largest of parts of them."""
    shape = asm.shape(x)[1:] if x.batched else asm.shape(x)
    rows, span = places.shape
    parts = -(-span // LARGEST_WINDOW)
    if parts == 1:
        return asm.append(MaxPool(torch.from_numpy(places), shape, pooled, shared), x)
    width = -(-span // parts)
    filled = np.full((rows, parts * width), -1)
    filled[:, :span] = places
    first = MaxPool(torch.from_numpy(filled.reshape(-1, width)), shape, (rows, parts), shared)
    each = np.arange(rows * parts).reshape(rows, parts)
    return _largest_of(asm, asm.append(first, x), each, pooled, shared)


def adaptive_max(asm: Assembler, x: Value, size: tuple[int, int]) -> Value:
    """The largest of each of the windows that divide a map ``(1, C, H, W)`` into `size` parts."""
    channels, *extents = asm.map_shape(x)
    check_size(size, f"the output of {asm.where}")
    if all(extent % count == 0 for extent, count in zip(extents, size, strict=True)):
        kernel = (extents[0] // size[0], extents[1] // size[1])
        if math.prod(kernel) <= LARGEST_WINDOW:
            return asm.max_pool(x, PoolGeometry(kernel, kernel))
    # Columns first: of equal ones the first in order of rows wins all the same.
    for axis in (1, 0):
        ranges = adaptive_ranges(extents[axis], size[axis])
        span = max(end - first for first, end in ranges)
        check_size((channels * extents[0], len(ranges), span), f"the windows of {asm.where}")
        along = np.array([[*range(first, end), *[-1] * (span - end + first)] for first, end in ranges])
        across = np.arange(extents[1 - axis])
        rows, columns = (
            (along[:, None], across[None, :, None]) if axis == 0 else (across[:, None, None], along)
        )
        plane = np.where((rows < 0) | (columns < 0), -1, rows * extents[1] + columns).reshape(-1, span)
        shift = np.arange(channels)[:, None, None] * math.prod(extents)
        places = np.where(plane < 0, -1, plane + shift).reshape(-1, span)
        extents[axis] = size[axis]
        x = _largest_of(asm, x, places, (channels, *extents), shared=False)
    return x


def largest_of_each(asm: Assembler, values: Sequence[Value], shared: bool) -> Value:
    """Number by number the largest of several computed values, broadcast; the first of equal ones wins."""
    full = np.broadcast_shapes(*map(asm.shape, values))
    values = [asm.expand(value, full) for value in values]
    if len(values) == 1:
        return values[0]
    if len(full) == 1 or not values[0].batched:
        values = [asm.reshape(value, (1, *full)) for value in values]
    joined = asm.concat(values, 1)
    size = math.prod(full)
    windows = torch.arange(len(values) * size).reshape(len(values), size).T.contiguous()
    inner = full if len(full) == 1 or full[0] != 1 else full[1:]
    made = asm.append(MaxPool(windows, asm.shape(joined)[1:], inner, shared), joined)
    return asm.reshape(made, full)


def at_least(asm: Assembler, x: Value, limit: np.ndarray, shared: bool) -> Value:
    """The larger of x and a constant, broadcast: on the constant the derivative is 0.

    One number is where a piece ends: that of 1e12, which only says that there is none, taken from x and added
    again, would leave few digits of it.
    """
    numbers = np.unique(limit)
    if numbers.tolist() == [-math.inf]:
        return asm.expand(x, asm.broadcast(asm.shape(x), limit.shape))
    if len(numbers) == 1 and numbers[0] != 0 and math.isfinite(numbers[0]):
        x = asm.expand(x, asm.broadcast(asm.shape(x), limit.shape))
        slopes, offsets = (torch.tensor(each, dtype=torch.float64) for each in ((0.0, 1.0), (*numbers, 0.0)))
        return asm.append(
            PiecewiseLinear(asm.constant(numbers), slopes[:, None], offsets[:, None], shared), x
        )
    beyond = asm.leaky_relu(asm.scale_shift(x, 1.0, -limit), 0.0, shared)
    return asm.scale_shift(beyond, 1.0, limit)


def negative(asm: Assembler, x: Value) -> Value:
    """-x."""
    return asm.scale_shift(x, -1.0, 0.0)


def bounded(asm: Assembler, parts: Sequence[Value | np.ndarray], largest_wins: bool, shared: bool) -> Value:
    """Number by number the largest, or the smallest, of computed values and constants, broadcast."""
    sign = 1.0 if largest_wins else -1.0
    values = [part for part in parts if isinstance(part, Value)]
    values = values if largest_wins else [negative(asm, value) for value in values]
    found = largest_of_each(asm, values, shared)
    for part in parts:
        if isinstance(part, np.ndarray):
            found = at_least(asm, found, sign * part.astype(np.float64), shared)
    return found if largest_wins else negative(asm, found)


def absolute(asm: Assembler, x: Value) -> Value:
    """|x|, at 0 with the derivative of the piece below."""
    return asm.leaky_relu(x, -1.0, shared=True)


def hard_sigmoid(asm: Assembler, x: Value, slope: float, shift: float) -> Value:
    """``slope x + shift`` limited to [0, 1]."""
    return asm.clip(asm.scale_shift(x, slope, shift), 0.0, 1.0)


def soft_shrink(asm: Assembler, x: Value, width: float) -> Value:
    """x moved towards 0 by `width`, no further than 0."""
    if width < 0 or not math.isfinite(width):
        raise asm.refuse(f"it shrinks by {width:g}", "allowed are finite numbers from 0 on")
    if width == 0:
        return x
    edges, slopes, offsets = (
        torch.tensor(numbers, dtype=torch.float64)
        for numbers in ((-width, width), (1.0, 0.0, 1.0), (width, 0.0, -width))
    )
    return asm.append(PiecewiseLinear(edges, slopes[:, None], offsets[:, None]), x)
