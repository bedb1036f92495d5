"""Convolutions in double precision, and their transposes, each shape in the way that is fastest for it.

PyTorch takes a product of its own for each image of a batch, and for each channel of a layer that looks at
channels one by one. That is as good as it gets where maps are large. Measured on one core:

- A layer with more channels than places in its map reads its weights from memory once for each image. One
  product over a block of images reads them once: 2-5 times as fast forward, 4-8 times as fast backward
  (512 channels at 4x4, 16 images).
- A layer that looks at channels one by one is a sum of shifted products, one for each place of its kernel:
  10-40 times as fast.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as functional
from torch import Tensor

# Bytes that the columns of one block may take: measured, one block over a whole batch is 2-3 times slower
# than blocks that stay in the cache; where the weights are larger than the columns, those have to pay.
_BLOCK_BYTES, _NARROW_BYTES = 2**21, 2**23
# Single precision back to as few channels as pixels have: PyTorch lays maps out anew first, which takes
# longer than all products. One product for all places of the kernel: 2-6 times as fast on whole images.
_FEW_CHANNELS = 3


@dataclass(frozen=True)
class Window:
    """How a kernel goes over a map: steps and zeros on both sides, along rows and columns each.

    In a layer of several groups each of them makes its channels from its own.
    """

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    def sizes(self, extents: tuple[int, ...], kernel: tuple[int, ...]) -> tuple[int, int]:
        """The places ``(H', W')`` of a kernel ``(kh, kw)`` on a map ``(H, W)``."""
        rows, columns = (
            (extent + 2 * pad - dilation * (size - 1) - 1) // stride + 1
            for extent, size, pad, dilation, stride in zip(
                extents, kernel, self.padding, self.dilation, self.stride, strict=True
            )
        )
        return rows, columns

    def taps(
        self, sizes: tuple[int, int], kernel: tuple[int, ...]
    ) -> Iterator[tuple[int, int, slice, slice]]:
        """For each place of the kernel what it reads of the padded map, at all places of the kernel there."""
        for row, column in product(range(kernel[0]), range(kernel[1])):
            rows, columns = (
                slice(at * dilation, at * dilation + stride * (size - 1) + 1, stride)
                for at, dilation, stride, size in zip(
                    (row, column), self.dilation, self.stride, sizes, strict=True
                )
            )
            yield row, column, rows, columns


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None, window: Window) -> Tensor:
    """The convolution of ``x`` ``(B, C, H, W)`` by a weight ``(O, C / groups, kh, kw)``.

    Returns ``(B, O, H', W')``.
    """
    kernel = tuple(weight.shape[2:])
    sizes = window.sizes(tuple(x.shape[2:]), kernel)
    options = (window.stride, window.padding, window.dilation, window.groups)
    if x.is_cuda or not len(x):
        return functional.conv2d(x, weight, bias, *options)
    out = x.new_empty((len(x), len(weight), *sizes))
    if _one_by_one(weight, window):
        out[:] = 0.0 if bias is None else bias[:, None, None]
        padded = _padded(x, window)
        for row, column, rows, columns in window.taps(sizes, kernel):
            out.addcmul_(padded[:, :, rows, columns], weight[:, 0, row, column, None, None])
        return out
    narrow = _is_narrow(weight, sizes, window)
    for block in _blocks(x, weight, sizes, window, _NARROW_BYTES if narrow else _BLOCK_BYTES):
        if narrow:
            made = weight.flatten(1) @ _columns(x[block], kernel, sizes, window)
            out[block] = made.reshape(len(weight), -1, *sizes).transpose(0, 1)
        else:
            out[block] = functional.conv2d(x[block], weight, bias, *options)
    if narrow and bias is not None:
        out += bias[:, None, None]
    return out


def pulled_back(g: Tensor, weight: Tensor, shape: tuple[int, ...], window: Window) -> Tensor:
    """Vector-Jacobian product of ``g`` ``(B, O, H', W')`` at an input of shape ``(C, H, W)``."""
    size = (len(g), *shape)
    if not len(g):
        return g.new_zeros(size)
    kernel, sizes = tuple(weight.shape[2:]), (g.shape[2], g.shape[3])
    one_by_one = _one_by_one(weight, window)
    few = g.dtype == torch.float32 and window.groups == 1 and shape[0] <= _FEW_CHANNELS
    if g.is_cuda or not (one_by_one or few or _is_narrow(weight, sizes, window)):
        # What `torch.nn.grad.conv2d_input` does, which first fills an input that nobody reads.
        ahead, wanted = (window.stride, window.padding, window.dilation), (True, False, False)
        return torch.ops.aten.convolution_backward(
            g, g.new_empty(size), weight, None, *ahead, False, (0, 0), window.groups, wanted
        )[0]
    out = g.new_empty(size)
    (high, wide), (above, left) = shape[1:], window.padding
    inner = (..., slice(above, above + high), slice(left, left + wide))
    if one_by_one:
        padded = g.new_zeros((*size[:2], high + 2 * above, wide + 2 * left))
        for row, column, rows, columns in window.taps(sizes, kernel):
            padded[:, :, rows, columns].addcmul_(g, weight[:, 0, row, column, None, None])
        out[:] = padded[inner]
        return out
    # What the inputs of each place of the kernel get comes of one product for all images, or of one for each.
    for block in _blocks(g, weight, sizes, window, _BLOCK_BYTES if few else _NARROW_BYTES):
        some = g[block]
        if few:
            made = (weight.flatten(1).T @ some.flatten(2)).transpose(0, 1)
        else:
            made = weight.flatten(1).T @ some.transpose(0, 1).reshape(len(weight), -1)
        made = made.reshape(-1, *kernel, len(some), *sizes)
        padded = g.new_zeros((shape[0], len(some), high + 2 * above, wide + 2 * left))
        for row, column, rows, columns in window.taps(sizes, kernel):
            padded[:, :, rows, columns] += made[:, row, column]
        out[block] = padded[inner].transpose(0, 1)
    return out


def _one_by_one(weight: Tensor, window: Window) -> bool:
    """Whether each channel is looked at alone, and makes one."""
    return window.groups > 1 and window.groups == len(weight) and weight.shape[1] == 1


def _is_narrow(weight: Tensor, sizes: tuple[int, int], window: Window) -> bool:
    """Whether there are more channels than places, so that reading the weights is what takes the time."""
    return window.groups == 1 and len(weight) > math.prod(sizes)


def _blocks(x: Tensor, weight: Tensor, sizes: tuple[int, int], window: Window, room: int) -> Iterator[slice]:
    """Rows of a batch whose columns take up to so many bytes together."""
    columns = 8 * math.prod(sizes) * math.prod(weight.shape[1:]) * window.groups
    rows = max(1, room // columns)
    return (slice(first, first + rows) for first in range(0, len(x), rows))


def _padded(x: Tensor, window: Window) -> Tensor:
    above, left = window.padding
    return functional.pad(x, (left, left, above, above)) if above or left else x


def _columns(x: Tensor, kernel: tuple[int, ...], sizes: tuple[int, int], window: Window) -> Tensor:
    """What the kernel reads at each place of each image, ``(C kh kw, B H' W')``."""
    padded = _padded(x, window)
    image, channel, row, column = padded.stride()
    (down, across), (step, stride) = window.dilation, window.stride
    read = torch.as_strided(
        padded,
        (x.shape[1], *kernel, len(x), *sizes),
        (channel, row * down, column * across, image, row * step, column * stride),
        padded.storage_offset(),
    )
    return read.reshape(x.shape[1] * math.prod(kernel), -1)
