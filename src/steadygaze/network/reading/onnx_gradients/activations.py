"""What smooth activations of ONNX are in terms of PyTorch's functions, for `evaluator`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from steadygaze.network.reading.onnx_gradients.nodes import Node, Rule


def _exponential(x: Tensor, alpha: float, gamma: float) -> Tensor:
    """``gamma x`` above 0, ``gamma alpha (exp(x) - 1)`` below; neither branch overflows."""
    return gamma * torch.where(x > 0, x, alpha * torch.expm1(torch.where(x > 0, torch.zeros_like(x), x)))


def _celu(node: Node) -> Tensor:
    alpha = node.get("alpha", 1.0)
    return alpha * _exponential(node.x / alpha, 1.0, 1.0)


RULES: Mapping[str, Rule] = {
    "Acos": lambda node: torch.acos(node.x),
    "Acosh": lambda node: torch.acosh(node.x),
    "Asin": lambda node: torch.asin(node.x),
    "Asinh": lambda node: torch.asinh(node.x),
    "Atan": lambda node: torch.atan(node.x),
    "Atanh": lambda node: torch.atanh(node.x),
    "Celu": _celu,
    "Cosh": lambda node: torch.cosh(node.x),
    "Elu": lambda node: _exponential(node.x, node.get("alpha", 1.0), 1.0),
    "HardSwish": lambda node: functional.hardswish(node.x),
    "Mish": lambda node: functional.mish(node.x),
    "Selu": lambda node: _exponential(
        node.x, node.get("alpha", 1.67326319217681884765625), node.get("gamma", 1.05070102214813232421875)
    ),
    "Sinh": lambda node: torch.sinh(node.x),
    "Softsign": lambda node: functional.softsign(node.x),
    "Tan": lambda node: torch.tan(node.x),
}
"""Smooth activations, by name."""
