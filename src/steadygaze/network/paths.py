"""Gradients along a segment of images, integrated: exactly where the network is piecewise linear.

There the segment is cut, node by node in the order of evaluation, where a unit changes its piece or a window
its winner: between two cuts all nodes before are affine, so that a crossing is where a line is zero. The
gradient is constant between neighbours of the final cuts (Sotoudeh and Thakur, NeurIPS 2019, who integrate
gradients so). Where the network has smooth nodes the integral is by Gauss's rule on ever more parts; where it
has others beside them, whose gradient jumps, the parts end where it does, as closely as interpolation finds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from steadygaze.deadline import NEVER, Deadline
from steadygaze.network.graph import Graph
from steadygaze.network.pieces import MaxPool, PiecewiseLinear

# Cuts closer than this share of the segment are one: the gradient between them weighs nothing.
_CLOSE = 1e-15
# Numbers that the values of one node may take at once, at many points of a segment.
_NUMBERS = 2**23
# Points of which so many products are made (see `Graph.effort`) are looked at between two looks at the time.
_PRODUCTS = 2 * 10**9
# Two inputs of a window that meet win there if no other leads by more than this share of the largest.
_ABREAST = 1e-9
# Gauss's rule has so many points on a part; parts are doubled until the integral moves by less than
# _SETTLED of its size, or there are _MOST_PARTS, or _MOST_HALVES for each that there was.
_POINTS, _SETTLED, _MOST_PARTS, _MOST_HALVES = 8, 1e-11, 512, 8
# Where there are more parts than this, each is short and so many points do.
_FEWER = ((2048, 2), (256, 4))
# Jumps of the gradient are sought between so many places, by lines between values there, and then between
# places so near to where they were found, in turn (0: between these places themselves).
_SOUGHT, _NEARER = 32, (0.0, 0.0, 1e-5, 0.0)
# Where jumps are known so closely, the integral moves by no more than this.
_SETTLED_OVER_JUMPS = 1e-9
# Of windows of curved values all that come so near to the largest are taken to win where they meet.
_ABREAST_OF_CURVES = 0.1


class Integral(NamedTuple):
    """Points ``(T,)`` of a segment, 0 to 1, and their weights ``(T,)``, which sum to 1."""

    places: Tensor
    weights: Tensor


def integrated(
    graph: Graph,
    start: Tensor,
    end: Tensor,
    gradients: Callable[[Tensor], Tensor],
    deadline: Deadline = NEVER,
) -> Tensor:
    """The mean ``(C, H, W)`` of gradients along the segment from one image ``(C, H, W)`` to another.

    gradients: makes gradients ``(B, C, H, W)`` of images ``(B, C, H, W)``, such as those of the graph.

    Raises Expired where the deadline passes on the way: through a large network there are tens of thousands
    of cuts, and a gradient between each two of them.
    """
    few = max(2, _PRODUCTS // graph.effort)
    if graph.piecewise_linear:
        found = between_cuts(cuts(graph, start, end, deadline))
        return _weighed(found, start, end, gradients, few, deadline)
    if graph.piecewise:
        ends, settled = _jumps(graph, start, end, deadline), _SETTLED_OVER_JUMPS
    else:
        ends, settled = torch.tensor([0.0, 1.0], dtype=torch.float64, device=end.device), _SETTLED
    most, before = max(_MOST_PARTS, _MOST_HALVES * (len(ends) - 1)), None
    while True:
        found = _weighed(_gauss(ends), start, end, gradients, few, deadline)
        if before is not None and bool((found - before).abs().max() <= settled * found.abs().max()):
            return found
        if len(ends) > most:
            return found
        ends, before = torch.cat([ends, (ends[1:] + ends[:-1]) / 2]).sort().values, found


def cuts(graph: Graph, start: Tensor, end: Tensor, deadline: Deadline = NEVER) -> Tensor:
    """Where the gradient may change along a segment, ``(T,)`` ascending, with 0 and 1. Raises Expired."""
    found = torch.tensor([0.0, 1.0], dtype=torch.float64, device=end.device)
    for index in graph.piecewise:
        found = _merged([found, *_crossed(graph, index, found, start, end, _ABREAST, deadline)])
    return found


def _jumps(graph: Graph, start: Tensor, end: Tensor, deadline: Deadline) -> Tensor:
    """Where the gradient jumps along a segment on which values are curved, and even places, 0 and 1."""
    even = torch.linspace(0.0, 1.0, _SOUGHT + 1, dtype=torch.float64, device=end.device)
    found = even
    for near in _NEARER:
        crossings = [
            each
            for index in graph.piecewise
            for each in _crossed(graph, index, found, start, end, _ABREAST_OF_CURVES, deadline)
        ]
        there = torch.cat([even.new_zeros(0), *crossings])
        around = [there, there - near, there + near] if near else [there]
        found = _merged([even, *(each.clamp(0.0, 1.0) for each in around)])
    return found


def _merged(places: list[Tensor]) -> Tensor:
    """Places in order, without those that are next to none beside the one before."""
    found = torch.cat(places).sort().values
    return found[torch.cat([found.new_ones(1).bool(), found.diff() > _CLOSE])]


def _crossed(
    graph: Graph, index: int, found: Tensor, start: Tensor, end: Tensor, abreast: float, deadline: Deadline
) -> list[Tensor]:
    """Where lines between values at the places `found` cross breakpoints of a node, or windows change."""
    few = max(2, _PRODUCTS // graph.effort)
    source = graph.nodes[index].inputs[0]
    rows = max(2, min(few, _NUMBERS // math.prod(graph.nodes[source].shape)))
    crossings = []
    for first in range(0, len(found) - 1, rows - 1):
        deadline.ask()
        places = found[first : first + rows]
        values = graph.values_at(_points(places, start, end), (source,))[source].flatten(1)
        crossings += _crossings(graph.nodes[index].layer, places, values, abreast)
    return crossings


def between_cuts(found: Tensor) -> Integral:
    """The middles between neighbouring cuts, weighed by how far these are apart."""
    return Integral((found[1:] + found[:-1]) / 2, found.diff())


def _gauss(ends: Tensor) -> Integral:
    """Gauss's rule on each of the parts between neighbouring ends, of fewer points where these are many."""
    points = next((points for parts, points in _FEWER if len(ends) > parts), _POINTS)
    nodes, weights = (torch.from_numpy(each).to(ends) for each in np.polynomial.legendre.leggauss(points))
    lengths = ends.diff()[:, None]
    places = ends[:-1, None] + lengths * (nodes + 1) / 2
    return Integral(places.reshape(-1), (lengths * weights / 2).reshape(-1))


def _weighed(
    integral: Integral,
    start: Tensor,
    end: Tensor,
    gradients: Callable[[Tensor], Tensor],
    few: int,
    deadline: Deadline,
) -> Tensor:
    """The weighed sum of gradients, of at most so few points at once."""
    total = torch.zeros_like(end)
    places, weights = (each.to(end.device) for each in integral)
    rows = max(1, min(few, _NUMBERS // end.numel()))
    for first in range(0, len(places), rows):
        deadline.ask()
        block = slice(first, first + rows)
        found = gradients(_points(places[block], start, end))
        total += torch.einsum("t,tchw->chw", weights[block], found)
    return total


def _points(places: Tensor, start: Tensor, end: Tensor) -> Tensor:
    return start + places[:, None, None, None] * (end - start)


def _crossings(layer: object, places: Tensor, values: Tensor, abreast: float) -> list[Tensor]:
    """Where units cross a breakpoint, or windows change their winner, between neighbouring places ``(T,)``.

    values: ``(T, N)`` of what the layer reads.
    """
    if isinstance(layer, PiecewiseLinear):
        return [_zeros(places, values - edge).places for edge in layer.breakpoints]
    assert isinstance(layer, MaxPool), "only these pick"
    lowest = values.amin(dim=1, keepdim=True) - 1.0  # padding never wins
    entries = torch.cat([values, lowest], dim=1)[:, layer.windows]
    found = []
    for first, second in combinations(range(entries.shape[2]), 2):
        met = _zeros(places, entries[..., first] - entries[..., second])
        before, after = entries[met.step, met.unit], entries[met.step + 1, met.unit]
        there = before + met.share[:, None] * (after - before)
        slack = abreast * there.abs().amax(dim=1)
        found.append(met.places[there[:, first] >= there.amax(dim=1) - slack])
    return found


class _Zeros(NamedTuple):
    """Zeros of lines: where, after which place, of which line, and how far on to the next place."""

    places: Tensor
    step: Tensor
    unit: Tensor
    share: Tensor


def _zeros(places: Tensor, values: Tensor) -> _Zeros:
    """Where lines ``(T, N)``, known at places ``(T,)``, change their sign between two, or come to 0."""
    below, level = values < 0, values == 0
    crossed = (below[:-1] ^ below[1:]) & ~level[1:] | level[1:]
    step, unit = torch.nonzero(crossed & ~level[:-1], as_tuple=True)
    low, high = values[step, unit], values[step + 1, unit]
    share = low / (low - high)
    return _Zeros(places[step] + share * (places[step + 1] - places[step]), step, unit, share)
