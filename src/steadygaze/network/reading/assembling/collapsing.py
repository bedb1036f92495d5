"""Sums and means over axes of the file's shape, on top of the `Assembler`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from steadygaze.network.building import check_size
from steadygaze.network.reading.assembling.assembly import Assembler, PoolGeometry, Value


def mean(asm: Assembler, x: Value, axes: Sequence[int], keep: bool) -> Value:
    """The mean over axes, which stay as axes of one entry or are dropped."""
    made, rank = _collapsed(asm, x, axes, keep, divisor=None), len(asm.shape(x))
    if made.node != x.node:
        asm.means[made.node] = (x, tuple(sorted({axis % rank for axis in axes})))
    return made


def total(asm: Assembler, x: Value, axes: Sequence[int], keep: bool) -> Value:
    """The sum over axes, as `mean`."""
    return _collapsed(asm, x, axes, keep, divisor=1.0)


def running(asm: Assembler, x: Value, axis: int, *, exclusive: bool = False, reverse: bool = False) -> Value:
    """Sums of the numbers up to each along an axis of the file's shape, or up to the one before it.

    reverse: from each on, or from the one after it.
    """
    shape = asm.shape(x)
    axis %= len(shape)
    if x.batched and axis == 0:
        raise asm.refuse(f"it sums up along axis {axis} of {shape}", "allowed are axes but the batch")
    check_size((shape[axis], shape[axis]), f"the weights of {asm.where}")
    counted = np.tri(shape[axis], k=-1 if exclusive else 0)
    order = [*(place for place in range(len(shape)) if place != axis), axis]
    back = sorted(range(len(shape)), key=order.__getitem__)
    made = asm.dense(asm.permute(x, order), counted.T if reverse else counted, None)
    return asm.permute(made, back)


def _collapsed(asm: Assembler, x: Value, axes: Sequence[int], keep: bool, divisor: float | None) -> Value:
    shape = asm.shape(x)
    chosen = sorted({axis % len(shape) for axis in axes})
    kept = [1 if axis in chosen else size for axis, size in enumerate(shape)]
    span = math.prod(shape[axis] for axis in chosen)
    if span > 1:
        x = _windowed(asm, x, [axis for axis in chosen if shape[axis] > 1], span, divisor)
    return asm.reshape(x, kept if keep else [n for axis, n in enumerate(shape) if axis not in chosen])


def _windowed(asm: Assembler, x: Value, chosen: Sequence[int], span: int, divisor: float | None) -> Value:
    shape = asm.shape(x)
    if len(shape) == 4 and x.batched and set(chosen) <= {2, 3}:  # a map stays one
        rows, columns = (shape[axis] if axis in chosen else 1 for axis in (2, 3))
    else:
        others = [axis for axis in range(len(shape)) if axis not in chosen]
        x = asm.reshape(asm.permute(x, [*others, *chosen]), (1, math.prod(shape) // span, 1, span))
        rows, columns = 1, span
    return asm.average_pool(x, PoolGeometry((rows, columns), (1, 1)), count_padding=True, divisor=divisor)
