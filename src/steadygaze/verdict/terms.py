"""How large the terms are that values of a network are sums of: what rounding may leave of them follows.

They belong to plain evaluation, and know nothing of what searches take for rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from steadygaze.geometry.draws import unit_draws
from steadygaze.network import coarse
from steadygaze.network.graph import Graph
from steadygaze.network.layers import AbstractAffine
from steadygaze.network.pieces import MaxPool, PiecewiseLinear

# Of the terms that go into a unit this share counts behind it, too, where the unit itself is 0.
_LEFT_OVER = 1e-2
# Random theta beside 0 and corners from which the sizes of terms are learnt; of large networks fewer, those
# that so many products take (see `Graph.effort`).
_LEARNT, _CORNERS, _EFFORT = 3, 2, 10**9


@dataclass(frozen=True)
class Terms:
    """The sizes of terms.

    scale: ``(K,)`` of logits. sizes: ``(N,)`` by nodes that pick. values: ``(k, *shape)`` of what these read,
    where it was learnt.
    """

    scale: np.ndarray
    sizes: dict[int, Tensor]
    values: dict[int, Tensor]

    @classmethod
    def of(cls, graph: Graph, values: Mapping[int, Tensor]) -> Terms:
        """Sums of absolute terms, those that make up the logits, and what units or windows go by.

        They are taken for the largest magnitudes among the values ``(k, *shape)`` of all nodes.
        """
        most: dict[int, Tensor] = {}
        sizes: dict[int, Tensor] = {}
        for index, node in enumerate(graph.nodes):
            if isinstance(node.layer, AbstractAffine):
                most[index] = coarse.magnitude(node.layer, *(most[source] for source in node.inputs))
                continue
            largest = values[index].abs().amax(dim=0, keepdim=True)
            before = most[node.inputs[0]] if node.inputs else largest
            if isinstance(node.layer, MaxPool):
                own = node.layer.forward(before)
                most[index], sizes[index] = torch.maximum(largest, _LEFT_OVER * own), own.flatten()
            elif isinstance(node.layer, PiecewiseLinear):
                most[index] = torch.maximum(largest, _LEFT_OVER * before)
                # What comes near a breakpoint other than 0 sums terms of its size; others lie near 0 alone.
                sizes[index] = before.flatten()
            else:
                most[index] = largest if index else largest.clamp_min(1.0)
        picked = {graph.nodes[node].inputs[0] for node in graph.piecewise}
        scale = most[graph.last].flatten().cpu().numpy()
        return cls(scale, sizes, {node: values[node] for node in picked})


def places_to_learn(box: np.ndarray, effort: int) -> np.ndarray:
    """Theta ``(k, n)`` of a box ``(n, 2)`` at which the sizes of terms are learnt; the last is 0.

    effort: of one image (see `Graph.effort`).
    """
    corners = np.array([box[:, 0], box[:, 1]])
    count = min(_EFFORT // effort, _CORNERS + _LEARNT)
    draws = unit_draws(3, count, len(box)).copy()
    draws[:_CORNERS] = draws[:_CORNERS].round()
    places = np.concatenate([np.zeros((1, len(box))), corners, box[:, 0] + draws * (box[:, 1] - box[:, 0])])
    # A range has two corners, one of them mostly at 0: what is there twice says nothing more.
    return np.array([*dict.fromkeys(map(tuple, places.tolist()))][::-1])
