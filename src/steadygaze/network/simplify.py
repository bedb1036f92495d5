"""Fewer nodes, the same function: what is exact in real arithmetic is folded before anything is computed.

Scales and shifts (mean / std, batch normalisation, separate biases) go into the neighbouring dense layer or
convolution, consecutive dense layers become one where that makes it no larger, and reshapes and permutations that
follow one another become one or vanish.
"""

from __future__ import annotations

import math

from torch import Tensor

from steadygaze.network.graph import Graph, GraphBuilder
from steadygaze.network.layers import (
    AbstractLayer,
    Conv,
    Dense,
    Input,
    Pad,
    Permute,
    Reshape,
    ScaleShift,
    Shape,
)


def simplified(graph: Graph) -> Graph:
    """The same function of the pixels with fewer nodes; node 0 stays the pixels, the last node the logits."""
    while True:
        smaller = _pass(graph)
        if len(smaller.nodes) == len(graph.nodes):
            return smaller
        graph = smaller


def _pass(graph: Graph) -> Graph:
    builder = GraphBuilder(graph.input_shape)
    place = {0: 0}
    for index, node in enumerate(graph.nodes[1:], start=1):
        sources = tuple(place[source] for source in node.inputs)
        before = builder.nodes[sources[0]]
        if _is_identity(node.layer, before.shape) and len(sources) == 1:
            place[index] = sources[0]
            continue
        # A node that others read too must stay, and computing it twice would save nothing.
        alone = len(graph.readers[node.inputs[0]]) == 1 and len(sources) == 1
        merged = (
            None
            if not alone or isinstance(before.layer, Input)
            else _merged(before.layer, node.layer, before.shape)
        )
        if merged is None:
            place[index] = builder.add(node.layer, *sources, name=node.name)
        else:
            name = node.name if isinstance(before.layer, (ScaleShift, Reshape, Permute)) else before.name
            place[index] = builder.add(merged, *before.inputs, name=name)
    return builder.build(place[graph.last])


def _is_identity(layer: AbstractLayer, shape: Shape) -> bool:
    if isinstance(layer, Reshape):
        return layer.shape == shape
    if isinstance(layer, Permute):
        return layer.axes == tuple(range(len(shape)))
    if isinstance(layer, ScaleShift):
        return bool((layer.scale == 1).all() and (layer.shift == 0).all())
    return isinstance(layer, Pad) and not any(map(any, layer.pads))


def _merged(first: AbstractLayer, second: AbstractLayer, between: Shape) -> AbstractLayer | None:
    """One layer that does both, or None; `between` is the shape of what `first` hands to `second`."""
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
    return None


def _scaled_twice(first: ScaleShift, second: ScaleShift) -> ScaleShift:
    return ScaleShift(first.scale * second.scale, first.shift * second.scale + second.shift)


def _scaled_before_dense(first: ScaleShift, second: Dense, between: Shape) -> Dense | None:
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


def _along(constant: Tensor, rank: int, axis: int) -> Tensor | None:
    """The constant as a vector along one axis of an array of that rank; None if it varies along another axis."""
    shape = (1,) * (rank - constant.ndim) + tuple(constant.shape)
    if math.prod(shape) != shape[axis]:
        return None
    return constant.reshape(-1)
