"""What the recurrent ONNX operator is in terms of PyTorch's functions, for `onnx_evaluator`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from steadygaze.network.reading.onnx_nodes import Node, Rule


def _recurrent(node: Node) -> tuple[Tensor, Tensor]:
    batch_first = bool(node.get("layout", 0))
    x = node.x.transpose(0, 1) if batch_first else node.x
    read, kept, bias, first = node[1], node[2], node.optional(3), node.optional(5)
    size, direction = kept.shape[-1], node.text("direction", "forward")
    made: list[Tensor] = []
    ends: list[Tensor] = []
    for way in range(len(read)):
        state = torch.zeros((x.shape[1], size), dtype=torch.float64)
        if first is not None:
            state = first[:, way] if batch_first else first[way]
        found: list[Tensor] = []
        backwards = direction == "reverse" or way == 1
        for step in x.flip(0) if backwards else x:
            z = step @ read[way].T + state @ kept[way].T
            z = z if bias is None else z + bias[way, :size] + bias[way, size:]
            state = torch.where(z > 0, z, torch.zeros_like(z))
            found.append(state)
        ends.append(state)
        made.append(torch.stack(found[::-1] if backwards else found))
    states, last = torch.stack(made, dim=1), torch.stack(ends)
    if batch_first:
        return states.permute(2, 0, 1, 3), last.transpose(0, 1)
    return states, last


RULES: Mapping[str, Rule] = {"RNN": _recurrent}
"""Recurrent operators, by name."""
