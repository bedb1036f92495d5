"""What the ONNX operator Resize is in terms of PyTorch's functions, for `evaluator`.

Axis by axis: where an entry stands among the old ones, and what those around it count there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as functional
from torch import Tensor

from steadygaze.network.reading.onnx_gradients.nodes import Node, Rule


def _resize(node: Node) -> Tensor:
    x = node.x
    axes = node.get("axes", None)
    axes = list(range(x.dim())) if axes is None else [axis % x.dim() for axis in axes]
    scales, sizes = node.optional(2), node.optional(3)
    for place, axis in enumerate(axes):
        old = x.shape[axis]
        if scales is not None and scales.numel():
            scale = float(scales[place])
            new = int(torch.tensor(scale, dtype=torch.float32) * old)
        else:
            assert sizes is not None
            new = int(sizes[place])
            scale = new / old
        if (new, scale) != (old, 1.0):
            x = _along(node, x, axis, new, scale)
    return x


def _along(node: Node, x: Tensor, axis: int, new: int, scale: float) -> Tensor:
    old, mode = x.shape[axis], node.text("mode", "nearest")
    at = _stands(node.text("coordinate_transformation_mode", "half_pixel"), old, new, scale)
    column = (-1,) + (1,) * (x.dim() - 1 - axis)

    def entry(place: Tensor) -> Tensor:
        return x.index_select(axis, place.long().clamp(0, old - 1))

    if mode == "nearest":
        rounded: Mapping[str, Tensor] = {
            "round_prefer_floor": (at - 0.5).ceil(),
            "round_prefer_ceil": (at + 0.5).floor(),
            "floor": at.floor(),
            "ceil": at.ceil(),
        }
        return entry(rounded[node.text("nearest_mode", "round_prefer_floor")])
    if node.get("antialias", 0):
        return _blurred(node, x, axis, at, min(scale, 1.0))
    if mode == "linear":
        at = at.clamp(0, old - 1)
        share = (at - at.floor()).reshape(column)
        return entry(at.floor()) * (1 - share) + entry(at.floor() + 1) * share
    a, low, total, counted = node.get("cubic_coeff_a", -0.75), at.floor(), torch.zeros(()), torch.zeros(())
    for step in (-1, 0, 1, 2):
        d = (at - low - step).abs()
        near, far = (a + 2) * d**3 - (a + 3) * d**2 + 1, a * (d**3 - 5 * d**2 + 8 * d - 4)
        weight = torch.where(d <= 1, near, far)
        if node.get("exclude_outside", 0):
            weight = weight * ((low + step >= 0) & (low + step < old))
        total, counted = total + entry(low + step) * weight.reshape(column), counted + weight
    return total / counted.reshape(column) if node.get("exclude_outside", 0) else total


def _blurred(node: Node, x: Tensor, axis: int, at: Tensor, scale: float) -> Tensor:
    """With antialias: entry by entry, those that its window reaches, by their distance."""
    made, last = list[Tensor](), x.shape[axis] - 1
    for place in at.tolist():
        near = range(math.floor(place - 1 / scale), math.ceil(place + 1 / scale) + 1)
        near = [k for k in near if abs(k - place) * scale < 1]
        if node.get("exclude_outside", 0):
            near = [k for k in near if 0 <= k <= last]
        share = torch.tensor([1 - abs(k - place) * scale for k in near], dtype=x.dtype)
        column = share.reshape((-1,) + (1,) * (x.dim() - 1 - axis))
        part = x.index_select(axis, torch.tensor(near).clamp(0, last))
        made.append((part * column).sum(axis, keepdim=True) / share.sum())
    return torch.cat(made, axis)


def _stands(rule: str, old: int, new: int, scale: float) -> Tensor:
    i = torch.arange(new, dtype=torch.float64)
    if rule == "align_corners":
        return i * ((old - 1) / (new - 1) if new > 1 else 0.0)
    if rule == "asymmetric":
        return i / scale
    if rule == "pytorch_half_pixel" and new == 1:
        return torch.zeros(1, dtype=torch.float64)
    at = (i + 0.5) / scale - 0.5
    return at + old / 2 * (1 - new / (scale * old)) if rule == "half_pixel_symmetric" else at


def _of_old(node: Node) -> Tensor:
    """Upsample, and Resize of version 10."""
    x, scales = node.x, node.get("scales", None)
    scales = node[1].tolist() if scales is None else scales
    ways = {"coordinate_transformation_mode": b"asymmetric", "nearest_mode": b"floor"}
    old = replace(node, attributes={**node.attributes, **ways})
    for axis, scale in enumerate(scales):
        if scale != 1:
            x = _along(old, x, axis, int(torch.tensor(scale, dtype=torch.float32) * x.shape[axis]), scale)
    return x


# The last version in which Resize was as Upsample before it.
_LAST_OLD = 10


def _sampled(node: Node) -> Tensor:
    """GridSample: modes have other names from version 20 on."""
    mode = node.text("mode", "bilinear")
    mode = mode if mode.startswith(("bi", "n")) else f"bi{mode}"
    padding, corners = node.text("padding_mode", "zeros"), bool(node.get("align_corners", 0))
    return functional.grid_sample(node.x, node[1].expand(len(node.x), -1, -1, -1), mode, padding, corners)


def _affine_grid(node: Node) -> Tensor:
    sizes = [len(node.x), *node[1].tolist()[1:]]
    return functional.affine_grid(node.x, sizes, bool(node.get("align_corners", 0)))


RULES: Mapping[str, Rule] = {
    "AffineGrid": _affine_grid,
    "GridSample": _sampled,
    "Resize": lambda node: _resize(node) if node.opset > _LAST_OLD else _of_old(node),
    "Upsample": _of_old,
}
"""Operators that resize, by name."""
