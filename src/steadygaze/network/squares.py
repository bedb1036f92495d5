"""Layers with squared weights: what variances follow, as those of independent rounding errors."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from torch import Tensor

from steadygaze.network.layers import AbstractAffine, AbstractLayer
from steadygaze.network.pieces import PiecewiseLinear


def squared(layer: AbstractLayer) -> AbstractLayer:
    """The layer with its weights, or its slopes, squared; maxima pick as before."""
    if isinstance(layer, PiecewiseLinear):
        return replace(layer, slopes=layer.slopes.square())
    if not isinstance(layer, AbstractAffine):
        return layer
    own: Any = layer  # every final layer is a dataclass, which its abstract bases cannot say
    values = ((field.name, getattr(own, field.name)) for field in fields(own))
    weights = {name: v.square() for name, v in values if isinstance(v, Tensor) and v.is_floating_point()}
    return replace(own, **weights)
