"""Affine layers on numbers that are 0 but at few places, where only their part of the weights counts.

Over small boxes most of the first units keep their piece: bands have a half width there at few places, and a
middle that differs from the coefficients of forms at few.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from steadygaze.enclosing.sent_places import sent_from
from steadygaze.network.layers import AbstractAffine, Conv, Dense, Shape

# With more places than this share of all in all boxes, the whole product is as fast.
_FEW = 1 / 5


def is_told_apart(layer: AbstractAffine, shape: Shape) -> bool:
    """Whether of that layer, with inputs of a shape, a part of the weights may be taken."""
    if isinstance(layer, Conv):
        return layer.groups == 1 and layer.weight.device.type == "cpu"
    return isinstance(layer, Dense) and len(shape) == 1  # of several rows all have the same weights


def few_places(*numbers: Tensor, share: float = _FEW) -> Tensor | None:
    """Places ``(B, T)`` at which numbers, each ``(B, R, M)``, are not 0 in all R, -1 where a box has fewer.

    None where they are more than a share of all in all boxes.
    """
    some = torch.stack([own.abs().amax(dim=1) != 0 for own in numbers]).any(dim=0)
    counts = some.sum(dim=1)
    if counts.sum() > share * some.numel():
        return None
    most = int(counts.max())
    places = some.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :most]
    return torch.where(some.gather(1, places), places, -1)


def sent(layer: AbstractAffine, numbers: Tensor, places: Tensor, shape: Shape) -> Tensor:
    """``layer.linear(numbers)`` of numbers ``(B, R, M)`` of inputs of a shape, all others of which are 0.

    Returns ``(B, R, *outputs)``.
    """
    if isinstance(layer, Dense):
        # One product for all boxes, which costs no more than the weights that it reads.
        some = places.flatten().unique()
        some = some[some >= 0]
        return numbers[..., some] @ layer.weight[:, some].mT
    assert isinstance(layer, Conv), "others are not told apart"
    at = places.clamp_min(0)[:, None].expand(-1, numbers.shape[1], -1)
    made = sent_from(
        numbers.gather(2, at).numpy(),
        layer.weight.permute(1, 2, 3, 0).contiguous().numpy(),
        places.numpy(),
        geometry_of(layer, shape),
    )
    return torch.from_numpy(made).mT.reshape(*numbers.shape[:2], *layer.output_shape(shape))


def geometry_of(layer: Conv, shape: Shape) -> np.ndarray:
    """What kernels of convolutions go by: the inputs' shape, the outputs' extents, then stride, padding and
    dilation, each twice.
    """
    extents = layer.output_shape(shape)[1:]
    return np.array([*shape, *extents, *layer.stride, *layer.padding, *layer.dilation])
