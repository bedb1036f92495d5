"""How much longer a block of layers can make errors over boxes (see `blocks`).

Followed are two numbers for each node of a block: how long the Jacobian up to it may be at most, by the
norms of the layers before, and how far it may be from that at the point of which the block's Jacobian is
known. Where that is J at the point and J + j in the box, and a layer's own is D and D + d, the next ones are
DJ and (D + d)(J + j): no further apart than |D + d| |j| + |d| |J + j|, where |J + j| is known from the first.
The mean of J + j between what is known of a value and where it is turns the error of one end of the block
into that of the other; what the block itself adds is apart from it (`Forms.entered`).
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import torch
from torch import Tensor

from steadygaze.deadline import NEVER, Deadline
from steadygaze.enclosing.forms import all_of, lengths_of
from steadygaze.network.bounding.anchors.anchored import Anchored
from steadygaze.network.bounding.blocks import Block, BlockNorms, factors_at, normalised_at, slopes_at
from steadygaze.network.bounding.taylor.polynomial_slopes import (
    AbstractBehind,
    NormSlopes,
    PolynomialSlopes,
    ProductSlopes,
    Slopes,
)
from steadygaze.network.graph import Graph
from steadygaze.network.layers import AbstractAffine, Add

# Makes up for rounding in a handful of operations.
_UPWARD = 1 + 2.0**-30

# Errors matter that may come to this in the logits, or to this share of a gradient.
_NOTICED = 2.0**-12

# How long a Jacobian may be, and how far from that at the point: ``(B,)`` each.
_Growth = tuple[Tensor, Tensor]


class BlocksAhead:
    """Errors on their way through blocks: which block they are in, and how long they were where it began."""

    def __init__(self, graph: Graph, norms: BlockNorms, asks: bool, deadline: Deadline = NEVER) -> None:
        """asks: whether norms may be worked out that are not known yet."""
        self._graph, self._norms, self._asks, self._deadline = graph, norms, asks, deadline
        self._growth: dict[int, _Growth] = {}
        self._before: Tensor | None = None

    def passed(
        self, index: int, values: Anchored, slopes: PolynomialSlopes | None, line: Tensor | None
    ) -> Anchored:
        """What is known of a node's values; slopes, line: see `Followed`, None of affine layers."""
        if self._before is not None:
            node = self._graph.nodes[index]
            given = [self._growth[source] for source in node.inputs]
            ends = ends_of(self._graph, index, self._norms, slopes, line)
            self._growth[index] = _joined(node.layer, given, ends)
            block = self._norms.ending.get(index)
            if block is not None:
                norm = _norm_of(self._norms, block, self._growth[index], self._deadline)
                values = replace(values, away=values.away.left(norm, self._before))
                self._growth, self._before = {}, None
        return self.begun(index, values)

    def begun(self, index: int, values: Anchored) -> Anchored:
        """The same, where a block may begin at this node."""
        block = self._norms.beginning.get(index)
        if block is None or not _is_followed(
            self._norms, block, values, _NOTICED, self._asks, self._deadline, ahead=True
        ):
            return values
        away = values.away.entered()
        self._before = all_of(away.errors)
        self._growth = {index: _unchanged(self._before)}
        return replace(values, away=away)


class BlocksBehind(AbstractBehind):
    """Errors of gradients on their way back through blocks."""

    def __init__(self, graph: Graph, norms: BlockNorms, asks: bool, deadline: Deadline = NEVER) -> None:
        """asks: whether norms may be worked out that are not known yet."""
        self._graph, self._norms, self._asks, self._deadline = graph, norms, asks, deadline
        self._growth: dict[int, _Growth] = {}
        self._block: Block | None = None
        self._before: Tensor | None = None

    def arrived(self, index: int, gradient: Anchored, slopes: PolynomialSlopes | None) -> Anchored:
        """What is known of the gradient at a node, of which nothing more comes; slopes: of its layer."""
        gradient = self.ended(index, gradient)
        block = self._norms.ending.get(index)
        if block is not None:
            limit = _NOTICED * lengths_of(gradient.anchor + gradient.away.centre)
            if _is_followed(self._norms, block, gradient, limit, self._asks, self._deadline, ahead=False):
                away = gradient.away.entered()
                gradient, self._before = replace(gradient, away=away), all_of(away.errors)
                self._block, self._growth = block, {index: _unchanged(self._before)}
        if self._block is not None:
            self._follow(index, slopes)
        return gradient

    def ended(self, index: int, gradient: Anchored) -> Anchored:
        """The same, where a block may end at this node."""
        if self._block is None or self._before is None or index != self._block.first:
            return gradient
        norm = _norm_of(self._norms, self._block, self._growth[index], self._deadline)
        self._growth, self._block = {}, None
        return replace(gradient, away=gradient.away.left(norm, self._before))

    def _follow(self, index: int, slopes: PolynomialSlopes | None) -> None:
        node, own = self._graph.nodes[index], self._growth.pop(index)
        ends = ends_of(self._graph, index, self._norms, slopes, None)
        for source, end in zip(node.inputs, ends, strict=True):
            more = _through(own, end)
            known = self._growth.get(source)
            self._growth[source] = more if known is None else _sum(known, more)


def _unchanged(lengths: Tensor) -> _Growth:
    return torch.ones_like(lengths), torch.zeros_like(lengths)


def _is_followed(
    norms: BlockNorms,
    block: Block,
    x: Anchored,
    limits: Tensor | float,
    asks: bool,
    deadline: Deadline,
    ahead: bool,
) -> bool:
    """Whether errors go through a block as a whole; see `BlockNorms.helps`."""
    if not (asks and norms.affords(block, deadline)) and not norms.knows(block):
        return False
    return norms.helps(block, all_of(x.away.errors), limits, ahead)


def _norm_of(norms: BlockNorms, block: Block, growth: _Growth, deadline: Deadline) -> Tensor:
    """At least the norms ``(B,)`` of the block's Jacobians anywhere in the boxes."""
    longest, away = growth
    if not bool((away < longest).any()):
        return longest
    return torch.fmin(longest, (away + norms.norm(block, deadline)) * _UPWARD)


def _through(growth: _Growth, end: _Growth) -> _Growth:
    (longest, away), (most, off) = growth, end
    return longest * most * _UPWARD, (away * most + longest * off) * _UPWARD


def _sum(a: _Growth, b: _Growth) -> _Growth:
    return (a[0] + b[0]) * _UPWARD, (a[1] + b[1]) * _UPWARD


def _joined(layer: object, given: list[_Growth], ends: list[_Growth]) -> _Growth:
    """That of a node whose inputs have grown so; they are set side by side where it is affine and no sum."""
    parts = [_through(own, end) for own, end in zip(given, ends, strict=True)]
    if isinstance(layer, AbstractAffine) and not isinstance(layer, Add) and len(parts) > 1:
        first, second = (torch.stack(own).square().sum(dim=0).sqrt() for own in zip(*parts, strict=True))
        return first * _UPWARD, second * _UPWARD
    return reduce(_sum, parts)


def ends_of(
    graph: Graph, index: int, norms: BlockNorms, slopes: PolynomialSlopes | None, line: Tensor | None
) -> list[_Growth]:
    """For each input how long a layer's Jacobian is over boxes, and how far from that at the point."""
    node = graph.nodes[index]
    if isinstance(node.layer, AbstractAffine):
        norm = 1.0 if isinstance(node.layer, Add) else graph.norm(index)
        assert norm is not None, "errors of networks with blocks grow"
        own = torch.tensor([norm, 0.0], dtype=torch.float64, device=graph.device)
        return [(own[0], own[1])] * len(node.inputs)
    state = norms.pieces[index]
    if isinstance(slopes, ProductSlopes):
        known, stretch = factors_at(graph, index, state), slopes.layer.stretch
        ends = [
            (stretch(own.whole.most), stretch(_off(own, at)))
            for own, at in zip(slopes.factors, known, strict=True)
        ]
        return ends[::-1]  # each factor is what the other's errors are multiplied by
    if isinstance(slopes, NormSlopes):
        return [_of_norm(slopes, *normalised_at(graph, index, state))]
    assert isinstance(slopes, Slopes), "blocks have no other layers"
    at = slopes_at(graph, index, state)
    if line is not None:
        return [(line.abs().amax(dim=1), (line - at).abs().amax(dim=1))]
    doubt = 0.0 if slopes.doubt is None else slopes.doubt
    return [((slopes.factor.whole.most + doubt).amax(dim=1), (_off(slopes.factor, at) + doubt).amax(dim=1))]


def _off(x: Anchored, known: Tensor) -> Tensor:
    """How far numbers may be from known ones ``(1, *shape)``."""
    return x.whole.raised(-known).most


def _of_norm(slopes: NormSlopes, values: Tensor, scales: Tensor) -> _Growth:
    """Of ``r (I - 1 / n - y y' / n)``, which is no longer than r; where values and scales are known."""
    longest = slopes.scales.whole.most.flatten(1).amax(dim=1)
    changed = _off(slopes.scales, scales).flatten(1).amax(dim=1)

    def along(own: Tensor) -> Tensor:
        return torch.linalg.vector_norm(own, dim=-1, keepdim=True)

    turned = along(_off(slopes.values, values)) * (along(slopes.values.whole.most) + along(values))
    turned = (scales * turned / values.shape[-1]).flatten(1).amax(dim=1)
    return longest * _UPWARD, (changed + turned) * _UPWARD
