"""Fewer nodes, the same function: what is exact in real arithmetic is folded before anything is computed.

Scales and shifts (mean / std, batch normalisation, separate biases) go into the neighbouring dense layer or
convolution, consecutive dense layers become one where that makes it no larger, and reshapes and permutations
that follow one another become one or vanish.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace

import torch
from torch import Tensor

from steadygaze.network.building import GraphBuilder, trimmed
from steadygaze.network.graph import Graph, Node
from steadygaze.network.layers import (
    AbstractLayer,
    Conv,
    Dense,
    Pad,
    Permute,
    Reshape,
    ScaleShift,
)
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.smooth import Smooth

_NAMELESS = (ScaleShift, Reshape, Permute)


def simplified(graph: Graph) -> Graph:
    """The same function of the pixels with fewer nodes; node 0 stays the pixels, the last node the logits."""
    while True:
        smaller = _without_transposed_flattening(_pass(graph))
        if len(smaller.nodes) == len(graph.nodes):
            return smaller
        graph = smaller


def pooled_first(graph: Graph, keep: Collection[int]) -> Graph:
    """The same function, gradients included, with activations behind the max pooling that reads them.

    The largest of activated values is the activated largest value where the activation never falls, and one
    unit is in doubt where a whole window was. Where it is level above a rise, as ReLU6 is, the first of equal
    ones may still be on the rise: such are left alone. So are those in `keep`; nodes keep their numbers.
    """
    nodes = list(graph.nodes)
    for index, node in enumerate(graph.nodes):
        readers = graph.readers[index]
        if index in keep or len(readers) != 1 or not _keeps_order(node.layer):
            continue
        behind = graph.nodes[readers[0]]
        if isinstance(behind.layer, MaxPool):
            nodes[index] = replace(node, layer=behind.layer, shape=behind.shape, name=behind.name)
            nodes[readers[0]] = replace(behind, layer=node.layer, name=node.name)
    return Graph(tuple(nodes))


def _keeps_order(layer: AbstractLayer) -> bool:
    """Whether it is one function for all units, level on its lowest piece at most, and falls nowhere."""
    if isinstance(layer, PiecewiseLinear):
        return layer.slopes.shape[1] == 1 and layer.rises and bool((layer.slopes[1:] > 0).all())
    # It turns nowhere, so that it rises everywhere where it rises at all.
    return isinstance(layer, Smooth) and layer.rises


def _without_transposed_flattening(graph: Graph) -> Graph:
    """Flattening in another order of axes is flattening, with the dense layer's columns reordered."""
    nodes = list(graph.nodes)
    for index, node in enumerate(nodes):
        flatten = node.inputs[0] if node.inputs else index
        permute = nodes[flatten].inputs[0] if nodes[flatten].inputs else index
        if not isinstance(node.layer, Dense) or len(graph.readers[flatten]) != 1:
            continue
        reorder, reshape = nodes[permute].layer, nodes[flatten].layer
        if isinstance(reorder, Permute) and isinstance(reshape, Reshape) and len(reshape.shape) == 1:
            (source,) = nodes[permute].inputs
            place = torch.arange(math.prod(nodes[source].shape)).reshape(nodes[source].shape)
            column = place.permute(reorder.axes).flatten()
            weight = torch.empty_like(node.layer.weight)
            weight[:, column] = node.layer.weight
            nodes[flatten] = replace(nodes[flatten], inputs=(source,))
            nodes[index] = replace(node, layer=Dense(weight, node.layer.bias))
    return trimmed(Graph(tuple(nodes)))


def _pass(graph: Graph) -> Graph:
    builder = GraphBuilder(graph.input_shape)
    place = {0: 0}
    for index, node in enumerate(graph.nodes[1:], start=1):
        sources = tuple(place[source] for source in node.inputs)
        before = builder.nodes[sources[0]]
        if len(sources) == 1 and _is_identity(node.layer, before.shape):
            place[index] = sources[0]
            continue
        # A node that others read too must stay, and computing it twice would save nothing.
        alone = len(sources) == 1 and len(graph.readers[node.inputs[0]]) == 1
        merged = _merged(before, node, builder) if alone else None
        if merged is None:
            place[index] = builder.add(node.layer, *sources, name=node.name)
        else:
            named = node if isinstance(before.layer, _NAMELESS) else before
            place[index] = builder.add(merged, *before.inputs, name=named.name)
    return builder.build(place[graph.last])


def _is_identity(layer: AbstractLayer, shape: tuple[int, ...]) -> bool:
    if isinstance(layer, Reshape):
        return layer.shape == shape
    if isinstance(layer, Permute):
        return layer.axes == tuple(range(len(shape)))
    if isinstance(layer, ScaleShift):
        return bool((layer.scale == 1).all() and (layer.shift == 0).all())
    return isinstance(layer, Pad) and not any(map(any, layer.pads))


def _merged(before: Node, node: Node, builder: GraphBuilder) -> AbstractLayer | None:
    """One layer that does what both do, or None."""
    first, second, between = before.layer, node.layer, before.shape
    match first, second:
        case Reshape(), Reshape():
            return second
        case Permute(), Permute():
            return Permute(tuple(first.axes[axis] for axis in second.axes))
        case ScaleShift(), ScaleShift():
            return _scaled_twice(first, second)
        case ScaleShift(), Dense():
            return _scaled_before_dense(first, second, between)
        case Dense(), ScaleShift():
            return _scaled_after_dense(first, second)
        case ScaleShift(), Conv():
            return _scaled_before_conv(first, second)
        case Conv(), ScaleShift():
            return _scaled_after_conv(first, second)
        case Dense(), Dense():
            return _dense_twice(first, second)
        case Conv(), Conv():
            return _pointwise_before_conv(first, second)
    return None


def _scaled_twice(first: ScaleShift, second: ScaleShift) -> ScaleShift:
    return ScaleShift(first.scale * second.scale, first.shift * second.scale + second.shift)


def _scaled_before_dense(first: ScaleShift, second: Dense, between: tuple[int, ...]) -> Dense | None:
    vectors = [_along(c, len(between), len(between) - 1) for c in (first.scale, first.shift)]
    if vectors[0] is None or vectors[1] is None:
        return None
    scale, shift = (vector.expand(between[-1]) for vector in vectors if vector is not None)
    return Dense(second.weight * scale, second.bias + second.weight @ shift)


def _scaled_after_dense(first: Dense, second: ScaleShift) -> Dense | None:
    rank = max(second.scale.ndim, second.shift.ndim, 1)
    scale, shift = (_along(c, rank, rank - 1) for c in (second.scale, second.shift))
    if scale is None or shift is None:
        return None
    return Dense(first.weight * scale.reshape(-1, 1), first.bias * scale + shift)


def _scaled_before_conv(first: ScaleShift, second: Conv) -> Conv | None:
    scale, shift = (_along(c, 3, 0) for c in (first.scale, first.shift))
    padded = second.padding != (0, 0)
    # Zero padding is put around the shifted map: the shift would be missing in the frame.
    if scale is None or shift is None or (padded and bool((shift != 0).any())):
        return None
    channels = second.weight.shape[1]
    scale, shift = (
        c.expand(channels * second.groups).reshape(second.groups, 1, channels, 1, 1) for c in (scale, shift)
    )
    grouped = second.weight.reshape(second.groups, -1, *second.weight.shape[1:])
    bias = second.bias + (grouped * shift).sum((2, 3, 4)).flatten()
    weight = (grouped * scale).reshape(second.weight.shape).contiguous()
    return Conv(weight, bias, second.stride, second.padding, second.dilation, second.groups)


def _scaled_after_conv(first: Conv, second: ScaleShift) -> Conv | None:
    scale, shift = (_along(c, 3, 0) for c in (second.scale, second.shift))
    if scale is None or shift is None:
        return None
    weight = first.weight * scale.reshape(-1, 1, 1, 1)
    return Conv(weight, first.bias * scale + shift, first.stride, first.padding, first.dilation, first.groups)


def _dense_twice(first: Dense, second: Dense) -> Dense | None:
    inputs, hidden, outputs = first.weight.shape[1], first.weight.shape[0], second.weight.shape[0]
    if inputs * outputs > inputs * hidden + hidden * outputs:
        return None
    return Dense((second.weight @ first.weight).contiguous(), second.bias + second.weight @ first.bias)


def _pointwise_before_conv(first: Conv, second: Conv) -> Conv | None:
    plain = first.weight.shape[2:] == (1, 1) and first.stride == (1, 1) and first.padding == (0, 0)
    mixed, channels = first.weight.shape[:2]
    # As with a shift, zero padding would come before the first bias instead of after it.
    padded = second.padding != (0, 0) and bool((first.bias != 0).any())
    if not plain or padded or first.groups != 1 or second.groups != 1 or channels > mixed:
        return None
    weight = torch.einsum("omhw,mi->oihw", second.weight, first.weight[:, :, 0, 0]).contiguous()
    bias = second.bias + torch.einsum("omhw,m->o", second.weight, first.bias)
    return Conv(weight, bias, second.stride, second.padding, second.dilation)


def _along(constant: Tensor, rank: int, axis: int) -> Tensor | None:
    """The constant as a vector along one axis of an array of that rank; None if it varies along another."""
    shape = (1,) * (rank - constant.ndim) + tuple(constant.shape)
    if math.prod(shape) != shape[axis]:
        return None
    return constant.reshape(-1)
