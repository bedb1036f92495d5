"""The convolutions of a network, and where the entries of their feature maps stand in the image.

Both are properties of the function, not of the order in which a file happens to write it down.

A layer whose windows are as large everywhere and equally far apart puts entry i of an axis at ``offset +
stride i`` pixels: that is the middle of the window that it sees, padding and all (Araujo, Norris and Sim,
Computing receptive fields of convolutional neural networks, Distill 2019).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor

from steadygaze.network.digests import digests
from steadygaze.network.graph import Graph
from steadygaze.network.joint import Multiply
from steadygaze.network.layers import (
    AbstractLayer,
    Add,
    AveragePool,
    Concat,
    Conv,
    Input,
    Pad,
    Permute,
    Reshape,
    ScaleShift,
)
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.smooth import Smooth
from steadygaze.network.taking import Take
from steadygaze.network.transposed import TransposedConv

# Readers name nodes "layer 'conv2d' (node 'features.3')".
_NAMED = re.compile(r".*\(node (['\"])(.*)\1\)", re.DOTALL)


@dataclass(frozen=True)
class Convolution:
    """``node`` is where its activations are: after the activation function, if one alone reads it."""

    name: str
    node: int


@dataclass(frozen=True)
class Standing:
    """Where the entries of a map are in the image, in pixels.

    Entry (row i, column j) stands at (x, y) = ``origin`` + j ``column`` + i ``row``, each being (x, y).
    """

    origin: tuple[float, float]
    column: tuple[float, float]
    row: tuple[float, float]


@dataclass(frozen=True)
class _Axis:
    """Entry i stands at offset + stride i along axis ``of`` of the image, 0 for rows and 1 for columns."""

    of: int
    offset: float
    stride: float

    def windowed(self, middle: float, step: float) -> _Axis:
        """The axis of windows whose first has its middle there, and which are so far apart."""
        return _Axis(self.of, self.offset + self.stride * middle, self.stride * step)


# For each axis of a node's output where its entries stand; None where that is in no one place.
_Axes = tuple[_Axis | None, ...]


def convolutions(graph: Graph) -> tuple[Convolution, ...]:
    """All of them, the one to look at first, each with a name of its own.

    That is the last one with more than one place in its map (a convolution with a single place is a dense
    layer by another name): the one with the fewest convolutions after it, of several the one with the most
    before it. Where that leaves a choice, the larger kernel goes first, then more channels, and then the
    weights decide; the order in which the network is written down never does.
    """
    found = [index for index, node in enumerate(graph.nodes) if isinstance(node.layer, Conv)]
    keys: dict[int, tuple[float | str, ...]] = {index: _rank(graph, index) for index in found}
    if len(set(keys.values())) < len(keys):
        told_apart = digests(graph)
        keys = {index: (*key, told_apart[index]) for index, key in keys.items()}
    found.sort(key=lambda index: keys[index])
    plain = [_own_name(graph.nodes[index].name) for index in found]
    counts = [plain[:place].count(name) for place, name in enumerate(plain)]
    names = [name if not count else f"{name}#{count + 1}" for name, count in zip(plain, counts, strict=True)]
    return tuple(
        Convolution(name, _activated(graph, index)) for name, index in zip(names, found, strict=True)
    )


def standing(graph: Graph, node: int) -> Standing:
    """Where the entries of the map at a node, ``(K, h, w)``, are in the image.

    Where layers before it leave no one place to an entry, the map is stretched over the image.
    """
    rows, columns = _axes(graph, node)[1:]
    if rows is None or columns is None or rows.of == columns.of:
        sizes = zip(graph.input_shape[1:], graph.nodes[node].shape[1:], strict=True)
        rows, columns = (
            _Axis(of, (pixels / entries - 1) / 2, pixels / entries)
            for of, (pixels, entries) in enumerate(sizes)
        )
    origin, row, column = [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]
    for axis, direction in ((rows, row), (columns, column)):
        origin[1 - axis.of] = axis.offset
        direction[1 - axis.of] = axis.stride
    return Standing((origin[0], origin[1]), (column[0], column[1]), (row[0], row[1]))


def _rank(graph: Graph, index: int) -> tuple[float, ...]:
    """Smaller for what comes first; from the function alone, up to equal weights."""
    layer = graph.nodes[index].layer
    assert isinstance(layer, Conv)
    upward = range(index + 1, len(graph.nodes))
    after = _longest(graph, {i: [s for s in graph.nodes[i].inputs if s >= index] for i in upward}, index)
    before = _longest(graph, {i: list(graph.nodes[i].inputs) for i in range(1, index + 1)}, 0)
    return (
        math.prod(graph.nodes[index].shape[1:]) == 1,
        after[graph.last],
        -before[index],
        -math.prod(layer.weight.shape[2:]),
        -layer.weight.shape[0],
        -layer.weight.numel(),
        -float(layer.weight.abs().sum()),
        -float(layer.bias.abs().sum()),
    )


def _longest(graph: Graph, sources: dict[int, list[int]], start: int) -> dict[int, float]:
    """The most convolutions on any path from node ``start`` to each that it reaches, start not counted."""
    most: dict[int, float] = {start: 0}
    for index, inputs in sources.items():
        known = [most[source] for source in inputs if source in most]
        if known:
            most[index] = max(known) + isinstance(graph.nodes[index].layer, Conv)
    return most


def _own_name(name: str) -> str:
    """What the model calls a node."""
    match = _NAMED.fullmatch(name)
    return match[2] if match else name


def _activated(graph: Graph, index: int) -> int:
    """The activation that alone reads a node, else the node itself."""
    readers = graph.readers[index]
    activated = len(readers) == 1 and isinstance(graph.nodes[readers[0]].layer, PiecewiseLinear | Smooth)
    return readers[0] if activated else index


def _axes(graph: Graph, node: int) -> _Axes:
    """Where the entries of the output of a node stand, axis by axis."""

    @cache
    def known(index: int) -> _Axes:
        own = graph.nodes[index]
        if isinstance(own.layer, Input):
            return None, _Axis(0, 0.0, 1.0), _Axis(1, 0.0, 1.0)
        shapes = [graph.nodes[source].shape for source in own.inputs]
        made = _followed(own.layer, [known(source) for source in own.inputs], shapes[0], own.shape)
        return made if len(made) == len(own.shape) else (None,) * len(own.shape)

    for index in range(node):  # from the ground up: deep networks would nest too far
        known(index)
    return known(node)


def _followed(
    layer: AbstractLayer, inputs: list[_Axes], shape: tuple[int, ...], made: tuple[int, ...]
) -> _Axes:
    """The axes of an output of shape ``made``, from those of the inputs, the first of them of ``shape``."""
    first = inputs[0]
    match layer:
        case ScaleShift() | PiecewiseLinear() | Smooth():
            return first
        case Conv():
            spans = [d * (k - 1) / 2 for d, k in zip(layer.dilation, layer.weight.shape[2:], strict=True)]
            middles = [span - pad for span, pad in zip(spans, layer.padding, strict=True)]
            return (None, *_windowed(first[1:], list(zip(middles, layer.stride, strict=True))))
        case TransposedConv():
            spans = [d * (k - 1) / 2 for d, k in zip(layer.dilation, layer.weight.shape[2:], strict=True)]
            first_ones = [cut - span for cut, span in zip(layer.padding, spans, strict=True)]
            steps = [(at / step, 1 / step) for at, step in zip(first_ones, layer.stride, strict=True)]
            return (None, *_windowed(first[1:], steps))
        case Take():
            index = layer.index.cpu().numpy()
            alone = [(0.0, 1.0)] * len(first)
            alone[layer.axis] = _taken(index, shape[layer.axis])
            return _windowed(first, alone)
        case AveragePool():
            windows = [_regular(*_support(matrix), matrix.shape[1]) for matrix in (layer.rows, layer.columns)]
            return (*first[:-2], *_windowed(first[-2:], windows))
        case MaxPool():
            return _followed_pool(layer, first)
        case Pad():
            steps = [(-float(before), 1.0) for before, _ in layer.pads]
            return _windowed(first, steps)
        case Permute():
            return tuple(first[axis] for axis in layer.axes)
        case Add():
            return _agreed(inputs)
        case Multiply():
            return _gated(inputs)
        case Concat():
            agreed = list(_agreed(inputs))
            agreed[layer.axis] = None
            return tuple(agreed)
        case Reshape():
            return _reshaped(first, shape, made)
    return ()


def _followed_pool(layer: MaxPool, first: _Axes) -> _Axes:
    """The axes behind windows within planes, or across planes at one place; of others none are known."""
    if len(layer.shape) != 3 or len(layer.pooled) != 3:
        return ()
    windows, plane = layer.windows.cpu(), math.prod(layer.shape[1:])
    windows = torch.where(windows < 0, windows.amax(dim=1, keepdim=True), windows)
    if bool((windows // plane == windows[:, :1] // plane).all()):
        return (None, *_windowed(first[1:], _pooled(layer)))
    across = layer.shape[1:] == layer.pooled[1:] and bool((windows % plane == windows[:, :1] % plane).all())
    return (None, *first[1:]) if across else ()


def _windowed(axes: _Axes, windows: list[tuple[float, float]]) -> _Axes:
    return tuple(
        None if axis is None else axis.windowed(*window) for axis, window in zip(axes, windows, strict=True)
    )


def _agreed(inputs: list[_Axes]) -> _Axes:
    """Where branches stand together: equally far apart, on the mean of their places."""
    agreed: list[_Axis | None] = []
    for axes in zip(*inputs, strict=True):
        own = [axis for axis in axes if axis is not None]
        together = len(own) == len(axes) and len({(axis.of, axis.stride) for axis in own}) == 1
        middle = math.fsum(axis.offset for axis in own) / len(axes)
        agreed.append(replace(own[0], offset=middle) if together else None)
    return tuple(agreed)


def _gated(inputs: list[_Axes]) -> _Axes:
    """Where a product stands: where both factors do, or the one that stands anywhere."""
    pairs = [tuple(axis for axis in axes if axis is not None) for axes in zip(*inputs, strict=True)]
    both = [_agreed([(axis,) for axis in own])[0] if own else None for own in pairs]
    return tuple(both)


def _reshaped(axes: _Axes, shape: tuple[int, ...], made: tuple[int, ...]) -> _Axes:
    """Axes of one entry may come and go; anything else mixes them."""
    if [size for size in shape if size > 1] != [size for size in made if size > 1]:
        return ()
    kept = iter([axis for axis, size in zip(axes, shape, strict=True) if size > 1])
    return tuple(next(kept) if size > 1 else None for size in made)


def _taken(index: np.ndarray, size: int) -> tuple[float, float]:
    """Where the first of the positions taken of an axis stands, and the step to the next.

    All of them in order, with a frame, stand where they stood; others are even steps, or spread evenly.
    """
    starts = np.flatnonzero(index == 0)
    framed = [start for start in starts if np.array_equal(index[start : start + size], np.arange(size))]
    if framed:
        return -float(framed[0]), 1.0
    steps = np.diff(index)
    if len(steps) and steps[0] and (steps == steps[0]).all():
        return float(index[0]), float(steps[0])
    step = size / len(index)
    return (step - 1) / 2, step


def _support(matrix: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """First and last entry of each window, a row of weights."""
    read = (matrix != 0).cpu().numpy()
    return read.argmax(axis=1), read.shape[1] - 1 - read[:, ::-1].argmax(axis=1)


def _pooled(layer: MaxPool) -> list[tuple[float, float]]:
    """The windows along rows and columns, as one channel has them."""
    _, height, width = layer.pooled
    places = layer.windows[: height * width].cpu().reshape(height, width, -1)
    size = layer.shape[-1]
    inside = places >= 0
    found = []
    for axis, (at, length) in enumerate(((places // size, layer.shape[-2]), (places % size, size))):
        lowest = torch.where(inside, at, length).amin(dim=(1 - axis, 2)).numpy()
        highest = torch.where(inside, at, -1).amax(dim=(1 - axis, 2)).numpy()
        found.append(_regular(lowest, highest, length))
    return found


def _regular(first: np.ndarray, last: np.ndarray, size: int) -> tuple[float, float]:
    """Middle of the first window and the step to the next, given the windows along an axis of that size.

    Windows that the border cuts are told by being smaller. Windows of no one step are taken to be spread
    evenly, and a single one to be as far from the next as it is long.
    """
    whole = np.flatnonzero(last - first == (last - first).max())
    steps = np.diff(first[whole]) / np.diff(whole)
    if len(whole) > 1 and (steps == steps[0]).all():
        return float((first[whole[0]] + last[whole[0]]) / 2 - steps[0] * whole[0]), float(steps[0])
    step = size / len(first)
    return (size - 1) / 2 - step * (len(first) - 1) / 2, step
