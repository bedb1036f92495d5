"""The network from the parameters to the logits, on one affine piece of the perturbation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from steadygaze.network.building import GraphBuilder
from steadygaze.network.graph import Graph
from steadygaze.network.layers import Dense, Reshape, ScaleShift
from steadygaze.network.pieces import PiecewiseLinear
from steadygaze.perturbation.records import AffineImage


def parameter_network(network: Graph, image: AffineImage, clip: tuple[float, float] | None) -> Graph:
    """``theta (n,) -> image (C, H, W) -> clip -> network -> logits (K,)`` as one graph.

    The clip is written by two ReLUs, ``high - relu((high - low) - relu(x - low))``, because that is what
    other verifiers read. In real arithmetic it is the clip; in floating point it may differ from it in the
    last place.
    """
    count, shape = len(image.directions), image.base.shape
    low = 0.0 if clip is None else clip[0]
    builder = GraphBuilder((count,))
    weight = torch.from_numpy(np.ascontiguousarray(image.directions.reshape(count, -1).T))
    last = builder.add(Dense(weight, torch.from_numpy(image.base.reshape(-1) - low)), 0, name="image")
    if clip is not None:
        span = clip[1] - low
        last = builder.add(_relu(), last, name="above the lower limit")
        last = builder.add(_turned(span), last, name="below the upper limit")
        last = builder.add(_relu(), last, name="within the limits")
        last = builder.add(_turned(clip[1]), last, name="clipped")
    last = builder.add(Reshape(tuple(shape)), last, name="pixels")
    first = len(builder.nodes) - 1  # the network's node k becomes node first + k
    for node in network.nodes[1:]:
        moved = replace(node, inputs=tuple(source + first for source in node.inputs))
        builder.nodes.append(moved)
    return Graph(tuple(builder.nodes))


def _relu() -> PiecewiseLinear:
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    return PiecewiseLinear(zero, torch.stack([zero, one]), torch.zeros((2, 1), dtype=torch.float64))


def _turned(shift: float) -> ScaleShift:
    """``shift - x``."""
    return ScaleShift(*(torch.tensor(value, dtype=torch.float64) for value in (-1.0, shift)))
