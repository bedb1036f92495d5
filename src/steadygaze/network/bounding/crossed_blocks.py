"""Blocks in which a norm of each token is followed by what mixes the tokens of each channel apart.

So MLP-Mixer has it: x + M(norm(x)), where norms are along channels and M is along tokens. No part of the
values goes through both without any other, so that the Jacobian of all is one matrix of all tokens and
channels, and too large. But that of the norm is S P, with a number for each token, S, and a matrix P whose
norm is at most 1, and M is made of a matrix for each channel. The norm of I + M S P is at most 1 and the
largest one of M S together.
"""

from __future__ import annotations

from dataclasses import dataclass

from steadygaze.network.graph import Graph
from steadygaze.network.joint import Normalise
from steadygaze.network.layers import Add, Dense, Permute, ScaleShift
from steadygaze.network.pieces import PiecewiseLinear
from steadygaze.network.smooth import Smooth

_TURNED = (1, 0)


@dataclass(frozen=True)
class Crossing:
    """Where such a block has its parts: the nodes of x, of the norm, and of M, which is added to x."""

    first: int
    norm: int
    last: int

    def tokens(self, graph: Graph) -> int:
        """How many numbers each of the matrices mixes."""
        return graph.nodes[self.last].shape[0]

    def channels(self, graph: Graph) -> int:
        """How many matrices there are."""
        return graph.nodes[self.last].shape[1]


def crossing_of(graph: Graph, last: int) -> Crossing | None:
    """That of such a block that ends at a node; None where none does."""
    node = graph.nodes[last]
    if not isinstance(node.layer, Add) or len(node.inputs) != 2 or len(node.shape) != 2:
        return None
    for x, mixed in (node.inputs, node.inputs[::-1]):
        inside = _back(graph, mixed, x)
        if inside and _crosses(graph, inside):
            return Crossing(x, inside[0], mixed)
    return None


def _back(graph: Graph, index: int, to: int) -> list[int] | None:
    """The nodes from behind one to another, each of one input, in order; None where there is no such way."""
    found = list[int]()
    while index > to:
        if len(graph.nodes[index].inputs) != 1:
            return None
        found.append(index)
        (index,) = graph.nodes[index].inputs
    return found[::-1] if index == to else None


def _crosses(graph: Graph, inside: list[int]) -> bool:
    """Whether it is a norm, and between two turns layers that leave rows apart."""
    nodes = [graph.nodes[index] for index in inside]
    turns = [
        number
        for number, node in enumerate(nodes)
        if isinstance(node.layer, Permute) and node.layer.axes == _TURNED
    ]
    if not isinstance(nodes[0].layer, Normalise) or len(turns) != 2 or turns[1] != len(nodes) - 1:
        return False
    if any(len(node.shape) != 2 for node in nodes):
        return False
    apart = all(isinstance(node.layer, ScaleShift) for node in nodes[1 : turns[0]])
    alone = Dense | Smooth | PiecewiseLinear | ScaleShift
    rows = nodes[turns[0]].shape[0]
    between = nodes[turns[0] + 1 : turns[1]]
    return apart and all(isinstance(node.layer, alone) and node.shape[0] == rows for node in between)


def cost_of(graph: Graph, crossing: Crossing, products: float) -> float:
    """Products that its matrices and their squares take; products: of one pass through the layers of M."""
    tokens, channels = crossing.tokens(graph), crossing.channels(graph)
    return tokens * products + channels * float(tokens) ** 3
