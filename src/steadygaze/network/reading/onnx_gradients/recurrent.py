"""What the recurrent ONNX operators are in terms of PyTorch's functions, for `evaluator`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from steadygaze.network.reading.onnx_gradients.nodes import Node, Rule

_Cell = Callable[[Tensor, "list[Tensor]", Tensor, Tensor, Tensor], "list[Tensor]"]


def _plain(node: Node) -> tuple[Tensor, ...]:
    rectifies = b"Relu" in node.get("activations", ())

    def cell(fed: Tensor, states: list[Tensor], kept: Tensor, own: Tensor, again: Tensor) -> list[Tensor]:
        z = fed + own + states[0] @ kept.T + again
        return [torch.where(z > 0, z, torch.zeros_like(z)) if rectifies else torch.tanh(z)]

    return _recurrent(node, cell, 1)


def _long_short(node: Node) -> tuple[Tensor, ...]:
    def cell(fed: Tensor, states: list[Tensor], kept: Tensor, own: Tensor, again: Tensor) -> list[Tensor]:
        i, o, f, c = (fed + own + states[0] @ kept.T + again).chunk(4, 1)
        made = torch.sigmoid(f) * states[1] + torch.sigmoid(i) * torch.tanh(c)
        return [torch.sigmoid(o) * torch.tanh(made), made]

    return _recurrent(node, cell, 2)


def _gated(node: Node) -> tuple[Tensor, ...]:
    late = bool(node.get("linear_before_reset", 0))

    def cell(fed: Tensor, states: list[Tensor], kept: Tensor, own: Tensor, again: Tensor) -> list[Tensor]:
        before = states[0]
        z, r, n = (fed + own).chunk(3, 1)
        vz, vr, vn = kept.chunk(3)
        bz, br, bn = again.chunk(3)
        z, r = torch.sigmoid(z + before @ vz.T + bz), torch.sigmoid(r + before @ vr.T + br)
        n = torch.tanh(n + (r * (before @ vn.T + bn) if late else (r * before) @ vn.T + bn))
        return [(1 - z) * n + z * before]

    return _recurrent(node, cell, 1)


def _recurrent(node: Node, cell: _Cell, kinds: int) -> tuple[Tensor, ...]:
    batch_first = bool(node.get("layout", 0))
    x = node.x.transpose(0, 1) if batch_first else node.x
    read, kept, bias, direction = node[1], node[2], node.optional(3), node.text("direction", "forward")
    size, width = kept.shape[-1], kept.shape[1]
    biases = torch.zeros((len(read), 2 * width), dtype=torch.float64) if bias is None else bias
    made: list[Tensor] = []
    ends: list[list[Tensor]] = [[] for _ in range(kinds)]
    for way in range(len(read)):
        states = [torch.zeros((x.shape[1], size), dtype=torch.float64)] * kinds
        for kind in range(kinds):
            first = node.optional(5 + kind)
            if first is not None:
                states[kind] = first[:, way] if batch_first else first[way]
        found: list[Tensor] = []
        backwards = direction == "reverse" or way == 1
        for step in x.flip(0) if backwards else x:
            states = cell(step @ read[way].T, states, kept[way], biases[way, :width], biases[way, width:])
            found.append(states[0])
        for each, state in zip(ends, states, strict=True):
            each.append(state)
        made.append(torch.stack(found[::-1] if backwards else found))
    whole, last = torch.stack(made, dim=1), [torch.stack(each) for each in ends]
    if batch_first:
        return whole.permute(2, 0, 1, 3), *(each.transpose(0, 1) for each in last)
    return whole, *last


RULES: Mapping[str, Rule] = {"GRU": _gated, "LSTM": _long_short, "RNN": _plain}
"""Recurrent operators, by name."""
