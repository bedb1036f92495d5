"""Sums of magnitudes, and of squares, through large layers in single precision, in a third of the time.

They tell how large rounding may be, which is asked to a digit or two: what is off by a hundred thousandth
here is a tolerance, never a bound. Nothing cancels in such sums, so that single precision is as good as
double as long as no product leaves its range; where one may, double precision takes over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from steadygaze.network.graph import Graph
from steadygaze.network.layers import AbstractAffine, Shape, fits_single


def magnitude(layer: AbstractAffine, *xs: Tensor) -> Tensor:
    """`AbstractAffine.magnitude` at inputs ``(B, *shape)``, about."""
    coarse = layer.coarse
    if coarse is None or not all(map(fits_single, xs)):
        return layer.magnitude(*xs)
    return coarse.forward(*(x.abs().float() for x in xs)).double()


def magnitude_back(layer: AbstractAffine, g: Tensor, shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
    """``|W|ᵀ |g|`` of ``g`` ``(B, *output shape)``, one ``(B, *shape)`` for each input, about."""
    size, largest = g.abs(), _largest(g)
    if layer.coarse is None or not largest:
        return layer.absolute.transpose(size, shapes)
    parts = layer.coarse.transpose((size / largest).float(), shapes)
    return tuple(part.double() * largest for part in parts)


def squares(graph: Graph, index: int, *xs: Tensor) -> Tensor:
    """Squares ``(B, *shape)`` of what a node reads, by the squares of its weights, about."""
    layer, largest = graph.nodes[index].layer, max(map(_largest, xs), default=0.0)
    assert isinstance(layer, AbstractAffine)
    if layer.coarse is None or not largest:
        square = graph.squared(index)
        assert isinstance(square, AbstractAffine)
        return square.linear(*xs)
    own = graph.squared(index, coarsely=True)
    assert isinstance(own, AbstractAffine)
    return own.linear(*((x / largest).float() for x in xs)).double() * largest


def squares_back(
    graph: Graph, index: int, squares: Tensor, pieces: Mapping[int, Tensor]
) -> tuple[Tensor, ...]:
    """Squares ``(B, *shape)`` at a node's output as they are at its inputs, about; see `Graph.pulled`."""
    layer, largest = graph.nodes[index].layer, _largest(squares)
    if not isinstance(layer, AbstractAffine) or layer.coarse is None or not largest:
        return graph.pulled(index, squares, pieces, graph.squared(index))
    own = graph.squared(index, coarsely=True)
    parts = graph.pulled(index, (squares / largest).float(), pieces, own)
    return tuple(part.double() * largest for part in parts)


def _largest(values: Tensor) -> float:
    """The largest magnitude; 0 where it is no number to divide by."""
    found = float(values.abs().max()) if values.numel() else 0.0
    return found if math.isfinite(found) else 0.0
