"""Windows over three axes of places, ``(1, C, D, H, W)``, as windows over maps, on top of the `Assembler`.

The slices of a volume are channels of one map. A convolution of it, transposed or not, is one of all slices
together, whose weights are 0 where a slice is in no window; windows of pools are boxes: first over rows and
columns of each slice, then over slices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np

from steadygaze.network.building import check_size
from steadygaze.network.reading.assembling import convolving, picking
from steadygaze.network.reading.assembling.assembly import Assembler, PoolGeometry, Value
from steadygaze.network.reading.assembling.windows import Windows

_Pool: TypeAlias = Callable[[Value], Value]

RANK = 5
"""Axes of a volume with its batch and its channels."""


@dataclass(frozen=True)
class DeepGeometry:
    """Windows over slices, rows and columns: three numbers each, pads (before, after) of each axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pads: tuple[tuple[int, int], ...] = ((0, 0),) * 3
    dilation: tuple[int, ...] = (1, 1, 1)
    ceil: bool = False

    @property
    def slices(self) -> PoolGeometry:
        """Along the slices alone, as the rows of a map."""
        return PoolGeometry(
            (self.kernel[0], 1),
            (self.stride[0], 1),
            (self.pads[0], (0, 0)),
            (self.dilation[0], 1),
            self.ceil,
        )

    @property
    def planes(self) -> PoolGeometry:
        """Of rows and columns alone."""
        kernel, stride, dilation = ((own[1], own[2]) for own in (self.kernel, self.stride, self.dilation))
        return PoolGeometry(kernel, stride, (self.pads[1], self.pads[2]), dilation, self.ceil)


def convolved(
    asm: Assembler,
    x: Value,
    weight: np.ndarray,
    bias: np.ndarray | None,
    geometry: DeepGeometry,
    groups: int,
) -> Value:
    """Convolution by weight ``(O, C / groups, kd, kh, kw)``; the geometry's kernel is that of the weight."""
    channels, depth, *_ = _volume(asm, x)
    if weight.shape[1] * groups != channels or weight.shape[0] % groups:
        raise asm.refuse(
            f"weight {weight.shape} in {groups} groups does not fit a value of shape {asm.shape(x)}",
            "allowed are matching sizes; check the image's layout and its size (--resize)",
        )
    (before, after), step, reach = geometry.pads[0], geometry.stride[0], geometry.dilation[0]
    windows = Windows(depth, weight.shape[2], step, before, after, reach)
    if windows.count < 1:
        raise asm.refuse(
            f"its windows of {weight.shape[2]} slices do not fit {depth} of them",
            "allowed are at least as many slices as a window has",
        )
    outputs, inputs, _, *kernel = weight.shape
    full = (outputs, windows.count, inputs, depth, *kernel)
    check_size(full, f"the weights of {asm.where}, of all {depth} slices together")
    wide = np.zeros(full)
    for to, places in enumerate(windows.positions().tolist()):
        for at, place in enumerate(places):
            if place >= 0:
                wide[:, to, :, place] = weight[:, :, at]
    wide = wide.reshape(outputs * windows.count, inputs * depth, *kernel)
    repeated = None if bias is None else np.repeat(bias, windows.count)
    plane = geometry.planes
    made = asm.conv(_sliced(asm, x), wide, repeated, plane.stride, plane.pads, plane.dilation, groups)
    return asm.reshape(made, (1, outputs, windows.count, *asm.shape(made)[2:]))


def transposed(
    asm: Assembler,
    x: Value,
    weight: np.ndarray,
    bias: np.ndarray | None,
    geometry: DeepGeometry,
    more: Sequence[int],
    groups: int,
) -> Value:
    """Transposed convolution by weight ``(C, O / groups, kd, kh, kw)``; the kernel is that of the weight.

    What the geometry's pads say is cut off; `more` is left on behind, one number for each axis of places.
    """
    channels, depth, *_ = _volume(asm, x)
    if weight.shape[0] != channels or channels % groups:
        raise asm.refuse(
            f"weight {weight.shape} in {groups} groups does not fit a value of shape {asm.shape(x)}",
            "allowed are matching sizes; check the image's layout and its size (--resize)",
        )
    (before, after), step, reach = geometry.pads[0], geometry.stride[0], geometry.dilation[0]
    inputs, outputs, kernel_depth, *kernel = weight.shape
    made = (depth - 1) * step + reach * (kernel_depth - 1) + 1 + more[0] - before - after
    if made < 1 or more[0] >= max(step, reach):
        raise asm.refuse(
            f"it makes {made} slices of {depth}, {more[0]} of them by its output padding",
            "allowed is at least one, and an output padding of less than a stride or a dilation",
        )
    full = (inputs, depth, outputs, made, *kernel)
    check_size(full, f"the weights of {asm.where}, of all {depth} slices together")
    wide = np.zeros(full)
    for place in range(depth):
        for at in range(kernel_depth):
            to = place * step + at * reach - before
            if 0 <= to < made:
                wide[:, place, :, to] = weight[:, :, at]
    wide = wide.reshape(inputs * depth, outputs * made, *kernel)
    repeated = None if bias is None else np.repeat(bias, made)
    plane, rest = geometry.planes, (more[1], more[2])
    flat = convolving.transposed(
        asm, _sliced(asm, x), wide, repeated, plane.stride, plane.pads, rest, plane.dilation, groups
    )
    return asm.reshape(flat, (1, outputs * groups, made, *asm.shape(flat)[2:]))


def largest(asm: Assembler, x: Value, geometry: DeepGeometry) -> Value:
    """The largest number of each window; of equal ones the first, slice by slice and row by row."""
    planes, slices = (
        None if _alone(own) else partial(asm.max_pool, geometry=own)
        for own in (geometry.planes, geometry.slices)
    )
    return _in_turn(asm, x, planes, slices)


def averaged(
    asm: Assembler, x: Value, geometry: DeepGeometry, count_padding: bool, divisor: float | None = None
) -> Value:
    """The average of each window; `divisor` replaces its size."""
    planes, slices = (
        None
        if _alone(own) and share in (None, 1.0)
        else partial(asm.average_pool, geometry=own, count_padding=count_padding, divisor=share)
        for own, share in ((geometry.planes, divisor), (geometry.slices, divisor and 1.0))
    )
    return _in_turn(asm, x, planes, slices)


def adaptively_averaged(asm: Assembler, x: Value, size: Sequence[int]) -> Value:
    """Averages over windows that divide a volume into `size` parts."""
    return _in_turn(
        asm,
        x,
        lambda map_: asm.adaptive_average(map_, (size[1], size[2])),
        lambda map_: asm.adaptive_average(map_, (size[0], asm.shape(map_)[3])),
    )


def adaptively_largest(asm: Assembler, x: Value, size: Sequence[int]) -> Value:
    """The largest of each of the windows that divide a volume into `size` parts."""
    return _in_turn(
        asm,
        x,
        lambda map_: picking.adaptive_max(asm, map_, (size[1], size[2])),
        lambda map_: picking.adaptive_max(asm, map_, (size[0], asm.shape(map_)[3])),
    )


def _alone(geometry: PoolGeometry) -> bool:
    """Whether windows are of one number each, in steps of one: they are the numbers."""
    return (geometry.kernel, geometry.stride, geometry.pads) == ((1, 1), (1, 1), ((0, 0), (0, 0)))


def _in_turn(asm: Assembler, x: Value, planes: _Pool | None, slices: _Pool | None) -> Value:
    """A pool of all slices as channels, then one along slices: rows of a map with a column for each place."""
    channels, depth, *_ = _volume(asm, x)
    flat = _sliced(asm, x) if planes is None else planes(_sliced(asm, x))
    *_, height, width = asm.shape(flat)
    rows = asm.reshape(flat, (1, channels, depth, height * width))
    return asm.reshape(rows if slices is None else slices(rows), (1, channels, -1, height, width))


def _sliced(asm: Assembler, x: Value) -> Value:
    channels, depth, height, width = _volume(asm, x)
    return asm.reshape(x, (1, channels * depth, height, width))


def _volume(asm: Assembler, x: Value) -> tuple[int, ...]:
    shape = asm.shape(x)
    if len(shape) != RANK or not x.batched:
        raise asm.refuse(
            f"got a value of shape {shape}",
            "allowed is a volume (batch, channels, depth, height, width) in three dimensions",
        )
    return shape[1:]
