"""What files compute of shapes and truths, in terms of PyTorch's functions, for `evaluator`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from steadygaze.network.reading.onnx_gradients.nodes import Node, Rule


def _pair(function: Callable[[Tensor, Tensor], Tensor]) -> Rule:
    return lambda node: function(node.x, node[1])


def _infinite(node: Node) -> Tensor:
    below, above = (node.get(name, 1) for name in ("detect_negative", "detect_positive"))
    return (torch.isneginf(node.x) & bool(below)) | (torch.isposinf(node.x) & bool(above))


def _scaled(node: Node) -> Tensor:
    offset, scale = (node.x.new_tensor(node.get(name, ())) for name in ("offset", "scale"))
    return (node.x - offset) * scale


def _dequantized(node: Node) -> Tensor:
    levels, axis, block = node.x.double(), node.get("axis", 1), node.get("block_size", 0)
    parts = [node[1].double(), torch.zeros(()) if node.optional(2) is None else node[2].double()]
    for place, part in enumerate(parts):
        if part.numel() > 1 and block:
            parts[place] = part.repeat_interleave(block, axis).narrow(axis, 0, levels.shape[axis])
        elif part.numel() > 1:
            parts[place] = part.reshape([-1 if i == axis % levels.dim() else 1 for i in range(levels.dim())])
    return (levels - parts[1]) * parts[0]


def _triangle(node: Node) -> Tensor:
    diagonal = node.optional(1)
    cut = torch.triu if node.get("upper", 1) else torch.tril
    return cut(node.x, 0 if diagonal is None else int(diagonal))


RULES: Mapping[str, Rule] = {
    "And": _pair(torch.logical_and),
    "CastLike": lambda node: node.x.to(node[1].dtype),
    "Ceil": lambda node: torch.ceil(node.x),
    "Cos": lambda node: torch.cos(node.x),
    "DequantizeLinear": _dequantized,
    "Floor": lambda node: torch.floor(node.x),
    "Greater": _pair(torch.gt),
    "GreaterOrEqual": _pair(torch.ge),
    "IsInf": _infinite,
    "IsNaN": lambda node: torch.isnan(node.x),
    "Less": _pair(torch.lt),
    "LessOrEqual": _pair(torch.le),
    "Not": lambda node: torch.logical_not(node.x),
    "Or": _pair(torch.logical_or),
    "Pow": _pair(torch.pow),
    "Scaler": _scaled,
    "Sign": lambda node: torch.sign(node.x),
    "Sin": lambda node: torch.sin(node.x),
    "Size": lambda node: torch.tensor(node.x.numel()),
    "Trilu": _triangle,
    "Xor": _pair(torch.logical_xor),
}
"""Operators of shapes and truths, by name."""
