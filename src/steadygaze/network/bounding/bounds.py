"""Bounds of a network over boxes of parameters: values forward, gradients backward, as affine forms."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from steadygaze.deadline import NEVER, Deadline
from steadygaze.enclosing.enclosures import Pairs
from steadygaze.enclosing.forms import Forms
from steadygaze.network.bounding.block_growth import BlocksBehind
from steadygaze.network.bounding.blocks import BlockNorms
from steadygaze.network.bounding.forms.affine import affine
from steadygaze.network.bounding.forms.attention import relax_joint_node
from steadygaze.network.bounding.forms.derivatives import Derivative, SmoothSlopes
from steadygaze.network.bounding.forms.joint import Factors, Scales, Shares
from steadygaze.network.bounding.forms.relaxing import Choice, relax
from steadygaze.network.bounding.forms.single_entries import transpose_of
from steadygaze.network.bounding.forms.slack import Slack, slacks_over
from steadygaze.network.bounding.rows.backward import Backward
from steadygaze.network.bounding.rows.steepening import steepened
from steadygaze.network.bounding.taylor.polynomial_slopes import PolynomialSlopes, pulled_back
from steadygaze.network.bounding.tightening import Effort, Tightening
from steadygaze.network.graph import Graph
from steadygaze.network.joint import AbstractJoint, Multiply
from steadygaze.network.layers import AbstractAffine, Add, Shape
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.smooth import Smooth

# Bytes of a network's values, over all rows whose slopes are sought at once.
_TURNED_BYTES = 2**22


@dataclass(frozen=True, eq=False)
class Bounds:
    """What is known of a network over B boxes.

    Attributes:
        graph: the network.
        values: forms ``(B, *shape)`` of the nodes that were asked for.
        slopes: of each node that is not affine, what its gradient needs.
        pull: ``(B, n)``, what part of the doubt about units each coordinate of the box is to blame for.
        doubts: ``(B,)`` number of units that may be on several pieces, and of windows that several may win.
        room: symbols that the forms of one box may have.
        tolerances: of each node that picks, as `bounds_of` was given them.
        backward: what linear bounds need on their way back; None if nobody asked for them.
        deadline: asked on the way through the network and back, node by node.
        followed: in place of the slopes, where values are followed as polynomials; None elsewhere.
        precise: whether gradients of such go back to twice the precision.
        norms, asks: of blocks, through which errors of such are followed as a whole, see `polynomial_bounds`.
    """

    graph: Graph
    values: Mapping[int, Forms]
    slopes: Mapping[int, Derivative | SmoothSlopes | Choice | Factors | Shares | Scales]
    pull: Tensor
    doubts: Tensor
    room: int
    tolerances: Mapping[int, Slack]
    backward: Backward | None = None
    deadline: Deadline = NEVER
    followed: Mapping[int, PolynomialSlopes] | None = None
    precise: bool = False
    norms: BlockNorms | None = None
    asks: bool = False

    def take(self, chosen: Tensor) -> Bounds:
        """What is known over some of the boxes."""
        followed = self.followed
        if followed is not None:
            followed = {index: slopes.take(chosen) for index, slopes in followed.items()}
        return replace(
            self,
            values={index: forms.take(chosen) for index, forms in self.values.items()},
            slopes={index: slopes.take(chosen) for index, slopes in self.slopes.items()},
            pull=self.pull[chosen],
            doubts=self.doubts[chosen],
            backward=None if self.backward is None else self.backward.take(chosen),
            followed=followed,
        )

    def enclosed_gaps(self, label: int) -> Forms:
        """Forms ``(K - 1,)`` of logit `label` minus each of the others."""
        others = self._others(label)
        return self.values[self.graph.last].linear(
            lambda x: x[:, [label]] - x[:, others], lambda x: x[:, [label]] + x[:, others], terms=2
        )

    def gaps(self, label: int, settled: float | Tensor = math.inf) -> tuple[Tensor, Tensor]:
        """Least and largest values ``(B, K - 1)`` of these gaps.

        With more effort than forms, the bound that may tell the sign of a gap is sought by a row, too: from
        below where the gap is above 0 in the middle, else from above. There is none for a gap that forms know
        to be farther from 0 than what is `settled`, one number or ``(K - 1,)``, in all boxes.
        """
        low, high = self.enclosed_gaps(label).bounds()
        if self.backward is None:
            return low, high
        left = (~((low > settled) | (high < -settled))).any(dim=0).nonzero()[:, 0]
        if not len(left):
            return low, high
        least, most = low[:, left], high[:, left]
        positive = least + most > 0
        sign = torch.where(positive, 1.0, -1.0)
        found = self.backward.least(sign[..., None] * self._rows(label)[left], self.graph.last)
        least = torch.where(positive, torch.fmax(least, found), least)
        most = torch.where(positive, most, torch.fmin(most, -found))
        return low.index_copy(1, left, least), high.index_copy(1, left, most)

    def steepened_gaps(self, label: int, boxes: Tensor, gaps: Tensor, wanted: Tensor) -> Tensor:
        """Lower bounds ``(P,)`` of single gaps, for each the number of its box and its own, ``(P,)``.

        The slopes of lines below units are turned for each of them until its bound is above what is wanted
        ``(P,)``, as far as some steps take it. Nobody may have asked for forms alone.
        """
        backward, rows = self.backward, self._rows(label)
        assert backward is not None, "there is more than forms"
        size = 8 * sum(math.prod(node.shape) for node in self.graph.nodes)
        found = wanted.clone()
        for part in torch.arange(len(boxes), device=boxes.device).split(max(1, _TURNED_BYTES // size)):
            own = backward.take(boxes[part])
            found[part] = steepened(own, rows[gaps[part]], self.graph.last, wanted[part])
        return found

    def _rows(self, label: int) -> Tensor:
        """Each class gap as a row for the logits, ``(K - 1, K)``."""
        others = self._others(label)
        rows = torch.zeros((len(others), self.graph.classes), dtype=torch.float64, device=self.pull.device)
        rows[:, label] = 1.0
        rows[range(len(others)), others] = -1.0
        return rows

    def _others(self, label: int) -> list[int]:
        return [k for k in range(self.graph.classes) if k != label]

    def pull_back(self, seed: Forms, to: int) -> Forms:
        """Forms ``(B, *shape)`` of the gradient of ``<seed, logits>`` at the output of node `to`.

        seed has the shape ``(K,)``; its symbols must not be those of `values`. Raises Expired where the
        deadline passes on the way.
        """
        if self.followed is not None:
            behind = None
            if self.norms is not None:
                asks = self.asks and self.precise
                behind = BlocksBehind(self.graph, self.norms, asks, self.deadline)
            return pulled_back(self.graph, self.followed, seed, to, self.deadline, self.precise, behind)
        graph, used = self.graph, seed.symbols
        pending: dict[int, Forms] = {graph.last: seed}
        downstream = graph.downstream_of(to)
        for index in range(graph.last, to, -1):
            gradient = pending.pop(index, None)
            if gradient is None:
                continue
            self.deadline.ask()
            for source, part in zip(
                graph.nodes[index].inputs, self._pulled(index, gradient, used), strict=True
            ):
                if source in downstream:
                    pending[source] = pending[source] + part if source in pending else part
                    used = max(used, part.symbols)
        if to in pending:
            return pending[to].reshaped(*graph.nodes[to].shape)
        nothing = seed.error.new_zeros((len(seed.error), *graph.nodes[to].shape))
        return Forms.exact(nothing, seed.count)

    def _pulled(self, index: int, gradient: Forms, used: int) -> tuple[Forms, ...]:
        node = self.graph.nodes[index]
        shapes = tuple(self.graph.nodes[source].shape for source in node.inputs)
        layer = node.layer
        if isinstance(layer, AbstractAffine):
            norm = 1.0 if isinstance(layer, Add) else self.graph.norm(index)
            return tuple(_transposed(layer, gradient, shapes, k, norm) for k in range(len(shapes)))
        slopes = self.slopes[index]
        if isinstance(slopes, Factors | Shares | Scales):
            return slopes.pulled(gradient, self.room, used)
        return (slopes.pulled(gradient.flattened(), self.room, used).reshaped(*shapes[0]),)


def _transposed(
    layer: AbstractAffine, gradient: Forms, shapes: tuple[Shape, ...], source: int, norm: float | None
) -> Forms:
    """The part of a gradient that goes to one input of an affine layer, which this norm is of."""
    return gradient.linear(
        lambda g: transpose_of(layer, g, shapes)[source],
        lambda g: layer.absolute.transpose(g, shapes)[source],
        layer.terms,
        norm=norm,
    )


def bounds_of(
    graph: Graph,
    pixels: Forms,
    nodes: Collection[int],
    tolerances: Mapping[int, Slack],
    room: int,
    start: int = 0,
    effort: Effort = Effort.FORMS,
    deadline: Deadline = NEVER,
) -> Bounds:
    """The network over boxes, node `start` being known to lie within `pixels` ``(B, C, H, W)``.

    With another `start` than node 0 only what depends on it is bounded, and must depend on nothing else.
    nodes: those whose values are kept. tolerances of each node that picks: see `relax`.
    room: the number of symbols that the forms of one box may have; more make bounds tighter and slower.
    effort: how tight bounds shall be. deadline: asked at every node.

    Raises Expired where the deadline passes on the way.
    """
    tightening = None if effort is Effort.FORMS else Tightening(graph, pixels, start, effort, deadline)
    own = slacks_over(graph, pixels.centre, tolerances)
    values: dict[int, Forms] = {start: pixels}
    kept: dict[int, Forms] = {start: pixels} if start in nodes else {}
    slopes: dict[int, Derivative | SmoothSlopes | Choice | Factors | Shares | Scales] = {}
    pull = pixels.error.new_zeros((len(pixels.error), pixels.count))
    doubts = pixels.error.new_zeros(len(pixels.error))
    used = pixels.symbols
    for index, inputs in graph.walked(values, start, deadline):
        layer = graph.nodes[index].layer
        if isinstance(layer, AbstractAffine):
            values[index] = affine(layer, *inputs, norm=graph.norm(index))
            if tightening is not None:
                tightening.affine(index, values[index])
        elif isinstance(layer, AbstractJoint):
            values[index], found, deviation = relax_joint_node(graph, index, inputs, room, used, nodes)
            slopes[index], used = found, max(used, values[index].symbols)
            pull, doubts = pull + values[index].flattened().blamed(deviation), doubts + found.doubts
            if tightening is not None and isinstance(layer, Multiply):
                tightening.multiplied(index, inputs, values[index])
            elif tightening is not None:
                tightening.ended(index, values[index])
        else:
            assert isinstance(layer, PiecewiseLinear | MaxPool | Smooth), "only node 0 is an Input"
            ranges, symbols = None, room
            if tightening is not None:
                ranges = tightening.ranges(index, inputs[0])
                symbols = tightening.room(index, ranges, room, used)
            done = relax(layer, inputs[0], own.get(index), symbols, used, ranges)
            if tightening is not None:
                tightening.bent(index, done.values)
            values[index], slopes[index] = done.values, done.slopes
            used = max(used, done.values.symbols)
            pull, doubts = pull + done.pull, doubts + done.slopes.doubts
        if index in nodes:
            kept[index] = values[index]
    known = None if tightening is None else tightening.backward
    return Bounds(graph, kept, slopes, pull, doubts, room, tolerances, known, deadline)


def of_parameters(pull: Tensor, products: Pairs) -> Tensor:
    """What is due to products ``(B, n + products)`` put down to their factors, ``(B, n)``."""
    if not products:
        return pull
    count = pull.shape[1] - len(products)
    factors = torch.tensor(products, device=pull.device).flatten()
    halves = (pull[:, count:] / 2).repeat_interleave(2, dim=1)
    return pull[:, :count].index_add(1, factors, halves)
