"""What ONNX operators that sum numbers up in turn are in terms of PyTorch's, for `evaluator`."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as functional
from torch import Tensor

from steadygaze.network.reading.onnx_gradients.nodes import Node, Rule


def _running(node: Node) -> Tensor:
    axis, reverse = int(node[1].reshape(())), bool(node.get("reverse", 0))
    x = node.x.flip(axis) if reverse else node.x
    sums = x.cumsum(axis) - (x if node.get("exclusive", 0) else 0)
    return sums.flip(axis) if reverse else sums


def _folded(node: Node) -> Tensor:
    """Col2Im: on a frame as large as its pads, which are cut off again."""
    (height, width), (rows, columns) = node[1].tolist(), node[2].tolist()
    top, left, bottom, right = node.get("pads", (0, 0, 0, 0))
    dilation, stride = node.get("dilations", (1, 1)), node.get("strides", (1, 1))
    size = (top + height + bottom, left + width + right)
    whole = functional.fold(node.x, size, (rows, columns), tuple(dilation), 0, tuple(stride))
    return whole[:, :, top : top + height, left : left + width]


RULES: Mapping[str, Rule] = {"Col2Im": _folded, "CumSum": _running}
"""Operators that sum up, by name."""
