"""What files compute of shapes and constants alone, in terms of PyTorch's functions, for `onnx_evaluator`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from steadygaze.network.reading.onnx_nodes import Node, Rule


def _remainder(node: Node) -> Tensor:
    return torch.fmod(node.x, node[1]) if node.get("fmod", 0) else torch.remainder(node.x, node[1])


def _pair(function: Callable[[Tensor, Tensor], Tensor]) -> Rule:
    return lambda node: function(node.x, node[1])


RULES: Mapping[str, Rule] = {
    "And": _pair(torch.logical_and),
    "Ceil": lambda node: torch.ceil(node.x),
    "Cos": lambda node: torch.cos(node.x),
    "Equal": _pair(torch.eq),
    "Floor": lambda node: torch.floor(node.x),
    "Greater": _pair(torch.gt),
    "GreaterOrEqual": _pair(torch.ge),
    "Less": _pair(torch.lt),
    "LessOrEqual": _pair(torch.le),
    "Mod": _remainder,
    "Not": lambda node: torch.logical_not(node.x),
    "Or": _pair(torch.logical_or),
    "Pow": _pair(torch.pow),
    "Sin": lambda node: torch.sin(node.x),
    "Size": lambda node: torch.tensor(node.x.numel()),
    "Where": lambda node: torch.where(node.x.bool(), node[1], node[2]),
}
"""Operators of constants, by name."""
