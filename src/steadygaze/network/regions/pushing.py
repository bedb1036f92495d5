"""Derivatives along directions of the input, forward through the network."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from steadygaze.network.graph import Graph
from steadygaze.network.layers import AbstractAffine
from steadygaze.network.pieces import MaxPool, PiecewiseLinear


def push_forward(graph: Graph, tangents: Tensor, pieces: Mapping[int, Tensor], to: int, rows: int) -> Tensor:
    """Derivatives of node `to` along directions of the input, where every unit keeps its piece.

    tangents ``(n, C, H, W)`` are the directions, the same for all rows; pieces as for `Graph.pull_back`.
    Returns ``(rows, n, *shape)``.
    """
    count = len(tangents)
    moved: dict[int, Tensor] = {0: tangents.repeat(rows, 1, 1, 1)}
    for index in range(1, to + 1):
        node = graph.nodes[index]
        inputs = [moved[source] for source in node.inputs]
        if isinstance(node.layer, AbstractAffine):
            moved[index] = node.layer.linear(*inputs)
            continue
        each = pieces[index].repeat_interleave(count, dim=0)
        flat = inputs[0].flatten(1)
        if isinstance(node.layer, MaxPool):
            moved[index] = flat.gather(1, node.layer.winners(each)).reshape(-1, *node.shape)
        else:
            assert isinstance(node.layer, PiecewiseLinear)
            moved[index] = (flat * node.layer.slopes_of(each)).reshape(-1, *node.shape)
    return moved[to].reshape(rows, count, *graph.nodes[to].shape)
