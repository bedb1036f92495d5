"""How large rounding errors may be, unit by unit, and how close to zero counts as zero on their account."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from steadygaze.network.graph import Graph
from steadygaze.network.layers import AbstractAffine
from steadygaze.network.pieces import MaxPool, PiecewiseLinear

# Of the scale of a unit's input this share counts after the unit, too.
_LEFT_OVER = 1e-2


def scales_at(graph: Graph, images: Tensor) -> dict[int, Tensor]:
    """The largest sum of absolute terms at the images, ``(units,)``, of stages' sources and logits.

    Rounding errors are proportional to this scale and not to the value itself, which may cancel. Up to a
    piecewise node magnitudes are added up; there they start again from the values, which are 0 where units
    are off: what rounding may leave of those is a small share of their input's.
    """
    wanted = {graph.last} | {graph.nodes[node].inputs[0] for node in graph.piecewise}
    values = graph.values_at(images, set(range(len(graph.nodes))))
    sizes: dict[int, Tensor] = {}
    for index, node in enumerate(graph.nodes):
        if isinstance(node.layer, AbstractAffine):
            sizes[index] = node.layer.magnitude(*(sizes[source] for source in node.inputs))
        elif isinstance(node.layer, PiecewiseLinear | MaxPool):
            before = sizes[node.inputs[0]]
            before = node.layer.forward(before) if isinstance(node.layer, MaxPool) else before
            sizes[index] = torch.maximum(values[index].abs(), _LEFT_OVER * before)
        else:
            sizes[index] = values[index].abs() if index else values[index].abs().clamp_min(1.0)
    return {node: sizes[node].flatten(1).amax(dim=0) for node in wanted}


def tolerances_of(graph: Graph, scales: Mapping[int, Tensor], tolerance: float) -> dict[int, Tensor]:
    """For each node that picks, ``(units,)``: a hinge is zero within so much, and so is an input's lead.

    That is a share of the scales (see `scales_at`), and of the breakpoints, which are subtracted.
    """
    found = {}
    for index in graph.piecewise:
        node = graph.nodes[index]
        scale = scales[node.inputs[0]]
        if isinstance(node.layer, MaxPool):
            scale = torch.where(node.layer.windows >= 0, scale[node.layer.windows], 0.0).amax(dim=1)
        else:
            assert isinstance(node.layer, PiecewiseLinear)
            scale = scale.clamp_min(float(node.layer.breakpoints.abs().max()))
        found[index] = scale * tolerance
    return found
