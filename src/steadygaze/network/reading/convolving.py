"""Transposed convolutions of files, on top of the `Assembler`."""

from __future__ import annotations

import numpy as np
import torch

from steadygaze.network.reading.assembly import Assembler, Pads, Value
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
