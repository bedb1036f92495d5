"""Gradients on many regions at once, as combinations of few maps.

Regions of one batch lie close together, so that most units keep their piece on all of them. Where that is so
a backward pass for each region does the same arithmetic again and again. Two ways do it once:

- All gradients pass through the first activations. If few units of those are alive on any of the regions, a
  gradient is a combination of the maps of these units, weighed by what comes back to them.
- Else the network is cut at the units that do vary. One backward pass takes the class's logit, and the input
  of each such unit, back to the pixels and to the outputs of the varying units before it. The gradient of a
  region is then a combination of these maps, whose weights follow from stage to stage.

Both are exact in real arithmetic. In the second, maps are added up that may cancel; `cancelling` tells where,
and these regions are for a pass of their own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from steadygaze.network.columns import columns_of
from steadygaze.network.graph import Graph, products_of
from steadygaze.network.layers import Dense
from steadygaze.network.pieces import MaxPool, PiecewiseLinear

# A gradient shorter than this share of the maps that add up to it has lost digits.
_CANCELLED = 1e-2
# Combining pays where it is less than this share of the work of a pass for each region: it has its own cost.
_PAYS = 0.5
# The same where the maps to combine are the weights of a dense layer, which need no pass of their own.
_PAYS_AT_HAND = 1.0
# Numbers that are added up in a matrix product while a layer adds up one: convolutions are slower by so much.
_PRODUCT = 4


@dataclass(frozen=True)
class Combined:
    """Gradients as ``weights`` (rows, k) of ``maps`` (k, *shape); safe says that they do not cancel."""

    weights: Tensor
    maps: Tensor
    safe: bool

    def cancelling(self, sizes: Tensor) -> Tensor:
        """Numbers of the rows whose Euclidean `sizes` ``(rows,)`` are too small beside what adds up."""
        if self.safe:
            return torch.zeros(0, dtype=torch.long)
        terms = self.weights.abs() @ torch.linalg.vector_norm(self.maps.flatten(1), dim=1)
        return (sizes < _CANCELLED * terms).nonzero()[:, 0]


def combined(graph: Graph, label: int, pieces: Mapping[int, Tensor], to: int, rows: int) -> Combined | None:
    """Gradients of the label's logit at the output of node `to`, or None where combining does not pay.

    pieces are those of `Graph.pull_back`, on `rows` regions.
    """
    if rows < 2 or graph.smooth:
        return None
    return _by_gate(graph, label, pieces, to, rows) or _by_differences(graph, label, pieces, to, rows)


def _by_gate(graph: Graph, label: int, pieces: Mapping[int, Tensor], to: int, rows: int) -> Combined | None:
    """By the units of the first activations that are alive on some region."""
    gate = graph.gate_after(to)
    if gate is None:
        return None
    layer, source = graph.nodes[gate].layer, graph.nodes[gate].inputs[0]
    assert isinstance(layer, PiecewiseLinear)
    alive, before = layer.alive(pieces[gate]), graph.nodes[source]
    at_hand = source > to and isinstance(before.layer, Dense) and len(before.shape) == 1
    pays = _PAYS_AT_HAND if at_hand else _PAYS
    if len(alive) > pays * min(rows, math.prod(graph.nodes[to].shape)):
        return None
    back = graph.pull_back(graph.seed(label, rows), pieces, source, skip_idle=True)
    if at_hand:
        assert isinstance(before.layer, Dense)
        maps = graph.pull_back(before.layer.weight.index_select(0, alive), {}, to, before.inputs[0])
    else:
        units = back.new_zeros((len(alive), math.prod(before.shape)))
        units[torch.arange(len(alive)), alive] = 1.0
        maps = graph.pull_back(units.reshape(-1, *before.shape), {}, to, source)
    return Combined(columns_of(back.flatten(1), alive), maps, safe=True)


def _by_differences(
    graph: Graph, label: int, pieces: Mapping[int, Tensor], to: int, rows: int
) -> Combined | None:
    """By the units that vary over the regions."""
    after = [node for node in graph.piecewise if node > to]
    varying = {node: (pieces[node] != pieces[node][:1]).any(dim=0).nonzero()[:, 0] for node in after}
    # Each map comes back from its unit down, and takes part in the sum for each region.
    work = [products_of(node) if index > to else 0 for index, node in enumerate(graph.nodes)]
    passes = 1 + sum(len(units) * sum(work[:node]) for node, units in varying.items()) / max(1, sum(work))
    count = 1 + sum(len(units) for units in varying.values())
    sums = count * math.prod(graph.nodes[to].shape) / max(1, _PRODUCT * sum(work))
    if passes + rows * sums > _PAYS * rows:
        return None
    ends = {node: _Ends.of(graph, node, pieces[node], units) for node, units in varying.items()}
    weights = torch.ones((rows, 1), dtype=torch.float64, device=graph.device)
    pending = {graph.last: graph.seed(label, 1)}
    for index in range(graph.last, to, -1):
        g = pending.pop(index, None)
        if g is None:
            continue
        if index in ends:
            parts, weights = _cut_at(graph, index, g, pieces[index][:1], varying[index], ends[index], weights)
        else:
            parts = graph.pulled(index, g, pieces)
        for source, part in zip(graph.nodes[index].inputs, parts, strict=True):
            pending[source] = _sum(pending[source], part) if source in pending else part
    if to not in pending:
        return None
    maps = _with_rows(pending[to], weights.shape[1]).reshape(-1, *graph.nodes[to].shape)
    return Combined(weights, maps, safe=weights.shape[1] == 1)


def _cut_at(
    graph: Graph, index: int, g: Tensor, first: Tensor, varying: Tensor, ends: _Ends, weights: Tensor
) -> tuple[tuple[Tensor], Tensor]:
    """Gradients at the input of a node that is cut at its varying units, and the weights with theirs.

    g are those at its output, first ``(1, N)`` the pieces of one region: of all, but for the varying units.
    """
    flat = g.flatten(1)
    coming = weights[:, : len(g)] @ flat[:, varying]
    flat[:, varying] = 0.0
    (part,) = graph.pulled(index, flat.reshape(g.shape), {index: first.expand(len(g), -1)})
    if len(ends.places):
        began = weights.shape[1]
        part = _with_rows(part, began + len(ends.places)).flatten(1)
        part[torch.arange(began, len(part), device=g.device), ends.places] = 1.0
        weights = torch.cat([weights, coming[:, ends.unit] * ends.slope], dim=1)
    return (part.reshape(-1, *graph.nodes[graph.nodes[index].inputs[0]].shape),), weights


@dataclass(frozen=True)
class _Ends:
    """Where gradients go on from the varying units of one node.

    Attributes:
        places: ``(k,)`` positions in the flattened source: a unit's own, or each winner's of a window.
        unit: ``(k,)`` which of the varying units goes there. slope: ``(rows, k)`` how much of it does.
    """

    places: Tensor
    unit: Tensor
    slope: Tensor

    @classmethod
    def of(cls, graph: Graph, node: int, pieces: Tensor, units: Tensor) -> _Ends:
        layer = graph.nodes[node].layer
        if isinstance(layer, PiecewiseLinear):
            return cls(units, torch.arange(len(units)), layer.slopes_of(pieces, units))
        assert isinstance(layer, MaxPool)
        size = layer.windows.shape[1]
        taken = torch.nn.functional.one_hot(pieces[:, units].long(), size).to(torch.float64)
        unit, position = taken.any(dim=0).nonzero(as_tuple=True)
        return cls(layer.windows[units[unit], position], unit, taken[:, unit, position])


def _with_rows(g: Tensor, rows: int) -> Tensor:
    """The gradients with as many rows as given; those of maps that begin later are 0."""
    if len(g) == rows:
        return g
    return torch.cat([g, g.new_zeros((rows - len(g), *g.shape[1:]))])


def _sum(one: Tensor, other: Tensor) -> Tensor:
    rows = max(len(one), len(other))
    return _with_rows(one, rows) + _with_rows(other, rows)
