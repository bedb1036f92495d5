"""Convolutions by kernels that are mixed for each image (conditional and dynamic convolution).

A convolution is linear in its kernel: by ``K₀ + Σ rₑ Kₑ``, where few numbers r are computed from the image,
it is ``conv(x, K₀) + Σ rₑ conv(x, Kₑ)``, one convolution by all kernels together (Yang et al., CondConv,
NeurIPS 2019; Chen et al., Dynamic Convolution, CVPR 2020).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from steadygaze.network.building import check_size
from steadygaze.network.layers import AbstractAffine
from steadygaze.network.reading.assembling import contracting
from steadygaze.network.reading.assembling.assembly import Assembler, Value

# How many numbers kernels may be mixed by: each is a convolution.
_MOST = 64


def mixed_convolution(
    asm: Assembler,
    x: Value,
    weight: Value,
    bias: Value | np.ndarray | None,
    groups: int,
    convolved: Callable[[Value, np.ndarray, int], Value],
) -> Value:
    """Convolution of a map ``(1, C, H, W)`` by a computed kernel ``(O, C / groups, kh, kw)``.

    convolved: the convolution of the map by constant kernels, without bias, in so many groups.

    Raises ModelError unless the kernel is an affine function of few numbers.
    """
    shape = asm.shape(weight)
    if len(shape) != 4 or not x.batched or shape[0] % groups:
        raise asm.refuse(
            f"its weights are computed, in a shape of {shape} and {groups} groups, for a value of shape "
            f"{asm.shape(x)}",
            "allowed are computed weights of convolutions in two dimensions, of one image",
        )
    mix, base, kernels = _taken_apart(asm, weight)
    count, outputs = len(kernels), shape[0]
    # Kernels of one group lie side by side.
    several = kernels.reshape(count, groups, outputs // groups, *shape[1:]).swapaxes(0, 1)
    made = convolved(x, several.reshape(count * outputs, *shape[1:]), groups)
    _, _, height, width = asm.shape(made)
    split = asm.reshape(made, (groups, count, outputs // groups, height * width))
    summed = contracting.einsum(asm, "gkop,k->gop", [split, asm.reshape(mix, (count,))])
    found = asm.reshape(summed, (1, outputs, height, width))
    if base.any():
        found = asm.add(found, convolved(x, base, groups))
    if isinstance(bias, Value):
        return asm.add(found, asm.expand(asm.reshape(bias, (1, outputs, 1, 1)), asm.shape(found)))
    return found if bias is None else asm.scale_shift(found, 1.0, bias.reshape(1, outputs, 1, 1))


def _taken_apart(asm: Assembler, weight: Value) -> tuple[Value, np.ndarray, np.ndarray]:
    """The few numbers that a kernel is an affine function of, the kernel at 0, and what each adds."""
    way: list[AbstractAffine] = []
    index = mix = weight.node
    least, kept = math.prod(asm.nodes[index].shape), 0
    while True:
        size = math.prod(asm.nodes[index].shape)
        if size < least:
            least, kept, mix = size, len(way), index
        node = asm.nodes[index]
        if not isinstance(node.layer, AbstractAffine) or len(node.inputs) != 1:
            break
        way.append(node.layer)
        (index,) = node.inputs
    shape = asm.shape(weight)
    if least > _MOST:
        raise asm.refuse(
            f"its weights are computed from the image, {math.prod(shape)} numbers of {least} or more",
            f"allowed are constants, or a mixture of up to {_MOST} kernels by computed numbers; make "
            "them parameters",
        )
    check_size((least + 1, math.prod(shape)), f"the kernels of {asm.where}")
    units = torch.eye(least, dtype=torch.float64)
    rows = torch.cat([units.new_zeros(1, least), units]).reshape(-1, *asm.nodes[mix].shape)
    for layer in reversed(way[:kept]):
        rows = layer.forward(rows)
    kernels = _plain(rows).reshape(-1, *shape)
    return Value(mix, batched=False), kernels[0], kernels[1:] - kernels[0]


def _plain(rows: Tensor) -> np.ndarray:
    return rows.detach().cpu().numpy()
