"""What ONNX operators that pick are in terms of PyTorch's functions, for `evaluator`.

Where a derivative jumps it is that of the piece below; of equal numbers the first wins, and a constant before
any that is computed.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from steadygaze.network.reading.onnx_gradients.nodes import Node, Rule


def _of_several(sign: float) -> Rule:
    """Max (1) and Min (-1)."""

    def rule(node: Node) -> Tensor:
        given = [node[place] for place in range(len(node.inputs))]
        best, *others = sorted(given, key=lambda one: not one.requires_grad)
        for one in others:
            wins = sign * one > sign * best if one.requires_grad else sign * one >= sign * best
            best = torch.where(wins, one, best)
        return best

    return rule


def _along(sign: float) -> Rule:
    """ReduceMax (1) and ReduceMin (-1)."""

    def rule(node: Node) -> Tensor:
        x, rank = node.x, node.x.dim()
        axes = node.axes(1, rank)
        if not axes and node.get("noop_with_empty_axes", 0):
            return x
        chosen = sorted(axes or range(rank))
        flat = x.movedim(chosen, list(range(rank - len(chosen), rank))).flatten(rank - len(chosen))
        first = (sign * flat == (sign * flat).amax(-1, keepdim=True)).to(torch.uint8).argmax(-1, keepdim=True)
        best = flat.gather(-1, first)[..., 0]
        for axis in chosen if node.get("keepdims", 1) else ():
            best = best.unsqueeze(axis)
        return best

    return rule


def _global_max(node: Node) -> Tensor:
    flat = node.x.flatten(2)
    best = flat.gather(2, (flat == flat.amax(2, keepdim=True)).to(torch.uint8).argmax(2, keepdim=True))
    return best.reshape(*node.x.shape[:2], *[1] * (node.x.dim() - 2))


def _hard_sigmoid(node: Node) -> Tensor:
    y = node.get("alpha", 0.2) * node.x + node.get("beta", 0.5)
    y = torch.where(y > 0, y, torch.zeros_like(y))
    return torch.where(y > 1, torch.ones_like(y), y)


def _shrink(node: Node) -> Tensor:
    x, width, back = node.x, node.get("lambd", 0.5), node.get("bias", 0.0)
    low = torch.where(x > -width, torch.zeros_like(x), x + back)
    return torch.where(x > width, x - back, low)


def _thresholded(node: Node) -> Tensor:
    return torch.where(node.x > node.get("alpha", 1.0), node.x, torch.zeros_like(node.x))


RULES: Mapping[str, Rule] = {
    "Abs": lambda node: torch.where(node.x > 0, node.x, -node.x),
    "GlobalMaxPool": _global_max,
    "HardSigmoid": _hard_sigmoid,
    "Max": _of_several(1.0),
    "Min": _of_several(-1.0),
    "ReduceMax": _along(1.0),
    "ReduceMin": _along(-1.0),
    "Shrink": _shrink,
    "ThresholdedRelu": _thresholded,
}
"""Operators that pick, by name."""
