"""Transposed convolutions of files, on top of the `Assembler`."""

from __future__ import annotations

import math

import numpy as np
import torch

from steadygaze.network.reading.assembling.assembly import Assembler, Pads, Value
from steadygaze.network.transposed import TransposedConv


def transposed(
    asm: Assembler,
    x: Value,
    weight: np.ndarray,
    bias: np.ndarray | None,
    stride: tuple[int, int],
    pads: Pads,
    more: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Value:
    """Transposed convolution of a map ``(1, C, H, W)`` by weight ``(C, O / groups, kh, kw)``.

    What `pads` says is cut off, (before, after) for rows and columns; `more` is left on behind.
    """
    channels, *_ = asm.map_shape(x)
    if weight.ndim != 4 or weight.shape[0] != channels or channels % groups:
        raise asm.refuse(
            f"weight {weight.shape} in {groups} groups does not fit a value of shape {asm.shape(x)}",
            "allowed are matching sizes; check the image's layout and its size (--resize)",
        )
    if any(n >= max(step, reach) for n, step, reach in zip(more, stride, dilation, strict=True)):
        raise asm.refuse(
            f"its output padding is {more} with strides {stride} and dilations {dilation}",
            "allowed is less than a stride or a dilation",
        )
    outputs = weight.shape[1] * groups
    if bias is not None and bias.shape != (outputs,):
        raise asm.refuse(f"its bias has shape {bias.shape}", f"allowed are {outputs} entries")
    (top, bottom), (left, right) = pads
    even = (top, left) == (bottom, right)
    layer = TransposedConv(
        asm.constant(weight),
        torch.zeros(outputs, dtype=torch.float64) if bias is None else asm.constant(bias),
        stride,
        (top, left) if even else (0, 0),
        more,
        dilation,
        groups,
    )
    made = asm.append(layer, x)
    return made if even else asm.pad(made, ((0, 0), (0, 0), (-top, -bottom), (-left, -right)), 0.0)


def folded(
    asm: Assembler,
    x: Value,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pads: Pads,
    dilation: tuple[int, int],
) -> Value:
    """Windows of a map as columns ``(1, C kh kw, windows)``, summed up where they lie on each other.

    That is a transposed convolution in which each number of a window goes to its own place.
    """
    shape = asm.shape(x)
    spans = [step * (count - 1) + 1 for step, count in zip(dilation, kernel, strict=True)]
    counts = [
        (extent + sum(pad) - span) // step + 1
        for extent, pad, span, step in zip(size, pads, spans, stride, strict=True)
    ]
    places = math.prod(kernel)
    fits = min(counts) > 0 and shape[2:] == (math.prod(counts),) and shape[1] % places == 0
    if not x.batched or not fits:
        raise asm.refuse(
            f"it puts windows of {kernel[0]} x {kernel[1]} together to {size[0]} x {size[1]} from a value of "
            f"shape {shape}",
            "allowed is a row for each number of a window, and a column for each window",
        )
    channels = shape[1] // places
    alone = np.eye(places).reshape(places, 1, *kernel)
    more = [
        extent + sum(pad) - (step * (count - 1) + span)
        for extent, pad, step, count, span in zip(size, pads, stride, counts, spans, strict=True)
    ]
    columns = asm.reshape(x, (1, shape[1], *counts))
    weight = np.tile(alone, (channels, 1, 1, 1))
    return transposed(asm, columns, weight, None, stride, pads, (more[0], more[1]), dilation, channels)
