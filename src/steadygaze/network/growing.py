"""By what factor the entries of a row may grow as it is pulled back through one layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from steadygaze.network.layers import AbstractAffine, AbstractLayer, Shape
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.smooth import Smooth


def growth_of(layer: AbstractLayer, shape: Shape, shapes: tuple[Shape, ...], device: torch.device) -> float:
    """The largest absolute sum of weights on one input, or the steepest slope; infinite if it is not known.

    Args:
        shape: of the layer's output.
        shapes: of its inputs.
        device: where its weights are.
    """
    if isinstance(layer, AbstractAffine):
        ones = torch.ones((1, *shape), dtype=torch.float64, device=device)
        return max((float(part.max()) for part in layer.absolute.transpose(ones, shapes)), default=0.0)
    if isinstance(layer, PiecewiseLinear):
        return float(layer.slopes.abs().max())
    if isinstance(layer, MaxPool):
        # Above a maximum the winner is weighed by 1 less the weights of all others, each at most 1.
        readers = layer.windows[layer.windows >= 0].bincount().max()
        return float(readers) * max(1, layer.windows.shape[1] - 2)
    if isinstance(layer, Smooth):
        return layer.rule.steepest
    return math.inf


def most_growth(nodes: Sequence[tuple[AbstractLayer, Shape, tuple[int, ...]]], device: torch.device) -> float:
    """By what factor entries of a row grow at most on its way back through all nodes, wherever it starts.

    nodes: of each its layer, the shape of its output, and the numbers of its inputs.
    """
    least = [0.0] * len(nodes)
    for index in reversed(range(len(nodes))):
        # A row may start here with entries of 1.
        least[index] = max(1.0, least[index])
        layer, shape, inputs = nodes[index]
        factor = growth_of(layer, shape, tuple(nodes[source][1] for source in inputs), device)
        for source in inputs:
            least[source] += least[index] * factor if factor else 0.0
    return max(least)
