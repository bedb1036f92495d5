"""What ONNX operators of sequences are in terms of PyTorch's functions, for `evaluator`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from steadygaze.network.reading.onnx_gradients.nodes import Node


def _split(node: Node) -> list[Tensor]:
    axis, given = node.get("axis", 0), node.optional(1)
    if given is None:
        return list(node.x.split(1, axis) if node.get("keepdims", 1) else node.x.unbind(axis))
    return list(node.x.split(given.tolist(), axis))


def _joined(node: Node) -> Tensor:
    parts: Any = node.x
    return (torch.stack if node.get("new_axis", 0) else torch.cat)(parts, node.get("axis", 0))


RULES: Mapping[str, Any] = {
    "ConcatFromSequence": _joined,
    "SequenceAt": lambda node: node.x[int(node[1])],
    "SequenceConstruct": lambda node: list(node.inputs),
    "SplitToSequence": _split,
}
"""Operators of sequences, which are lists, by name."""
