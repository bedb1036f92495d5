"""By what factor the entries of a row may grow as it is pulled back through one layer.

Through a product a row grows by the other factor. How large that is at most is known where it is bounded
whatever comes in, as behind a sigmoid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from steadygaze.network.joint import Multiply
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
    limits = _limits(nodes, device)
    for index in reversed(range(len(nodes))):
        # A row may start here with entries of 1.
        least[index] = max(1.0, least[index])
        layer, shape, inputs = nodes[index]
        if isinstance(layer, Multiply):
            factors = [limits[inputs[1]], limits[inputs[0]] * layer.terms(shape)]
        else:
            factors = [growth_of(layer, shape, tuple(nodes[source][1] for source in inputs), device)]
            factors *= len(inputs)
        for source, factor in zip(inputs, factors, strict=True):
            least[source] += least[index] * factor if factor else 0.0
    return max(least)


def _limits(
    nodes: Sequence[tuple[AbstractLayer, Shape, tuple[int, ...]]], device: torch.device
) -> list[float]:
    """The largest magnitudes of values of each node, whatever comes in; infinite where there is none.

    Nothing is asked about networks without products.
    """
    limits = list[float]()
    if not any(isinstance(layer, Multiply) for layer, _, _ in nodes):
        return [math.inf] * len(nodes)
    for layer, shape, inputs in nodes:
        known = [limits[source] for source in inputs]
        shapes = [nodes[source][1] for source in inputs]
        limits.append(_limit(layer, known, shapes, shape, device))
    return limits


def _limit(
    layer: AbstractLayer, known: list[float], shapes: list[Shape], shape: Shape, device: torch.device
) -> float:
    """That of one layer whose inputs have these; its output has the last shape."""

    def full(number: float, own: Shape) -> Tensor:
        return torch.full((1, *own), number, dtype=torch.float64, device=device)

    if isinstance(layer, Multiply):
        return min(known[0] * known[1] if min(known) > 0 else 0.0, layer.limit)
    if isinstance(layer, Smooth):
        ends = (-math.inf, math.inf, *layer.rule.turns)
        found = [float(layer.forward(full(max(at, layer.rule.floor), (1,))).abs()) for at in ends]
        return math.inf if any(map(math.isnan, found)) else max(found) * (1 + 2.0**-20)
    if not known or math.isinf(max(known)):
        return _limit_of_pieces(layer) if isinstance(layer, PiecewiseLinear) else math.inf
    if isinstance(layer, AbstractAffine):
        inputs = [full(limit, own) for limit, own in zip(known, shapes, strict=True)]
        return float(layer.absolute.forward(*inputs).max()) * (1 + 2.0**-20)
    if isinstance(layer, PiecewiseLinear):
        return float(layer.slopes.abs().max()) * known[0] + float(layer.offsets.abs().max())
    return known[0] if isinstance(layer, MaxPool) else math.inf


def _limit_of_pieces(layer: PiecewiseLinear) -> float:
    """That of a layer that is level at both ends."""
    if layer.slopes[0].any() or layer.slopes[-1].any():
        return math.inf
    at = layer.breakpoints[:, None].expand(-1, layer.slopes.shape[1])
    return max(float(own.abs().max()) for own in (layer.offsets[[0, -1]], layer.forward(at)))
