"""A network as a list of nodes in the order of evaluation: forward, pieces and gradients, batched.

Node 0 is the pixels ``(C, H, W)`` in [0, 1]; the last node is the logits ``(K,)``. The layout and the
normalisation that the original model wants are nodes of the graph: gradients are with respect to pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from steadygaze.deadline import NEVER, Deadline
from steadygaze.network.columns import columns_of
from steadygaze.network.growing import most_growth
from steadygaze.network.joint import AbstractJoint
from steadygaze.network.layers import AbstractAffine, AbstractLayer, Conv, Dense, Shape
from steadygaze.network.norms import norm_of
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.smooth import Smooth
from steadygaze.network.squares import squared
from steadygaze.network.varying import at_values

# Bytes of the largest output in one block of rows: measured, networks of large maps run 2-4 times as fast in
# blocks that stay in the cache as in one block of a thousand rows.
_BLOCK_BYTES = 2**22
_GPU_BLOCK_BYTES = 2**28  # large products keep it busy, and its memory holds all values of a block

# How many products take the time of a value that is written and read once: measured, in double precision.
_OF_A_VALUE = 50

#: Beyond this growth rounding entry by entry may come to a thousandth of what is computed.
GROWTH = 2.0**36

_Known = TypeVar("_Known")


@dataclass(frozen=True)
class Node:
    """A layer, the nodes it reads (all before its own), the shape of its output, and its name."""

    layer: AbstractLayer
    inputs: tuple[int, ...]
    shape: Shape
    name: str


@dataclass(frozen=True)
class _Pieces:
    """The pieces that an evaluation picks, by node, and the tolerances that it picks them with."""

    pieces: dict[int, Tensor]
    tolerances: Mapping[int, Tensor]


@dataclass(frozen=True)
class Graph:
    """Nodes in topological order; rows of a batch never mix."""

    nodes: tuple[Node, ...]

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, K)`` at pixels ``(B, C, H, W)``."""
        return self.values_at(x, (self.last,))[self.last]

    def values_at(
        self, x: Tensor, nodes: Collection[int], skip_idle: bool = False, deadline: Deadline = NEVER
    ) -> dict[int, Tensor]:
        """Outputs ``(B, *shape)`` of the given nodes at pixels ``(B, C, H, W)``.

        skip_idle leaves units out of dense products that are 0 on all rows. The deadline is asked at every
        node: raises Expired.
        """
        blocks = self._blocks(x)
        return self._joined([self._evaluate(block, nodes, None, skip_idle, deadline) for block in blocks])

    def pieces_at(self, x: Tensor, tolerances: Mapping[int, Tensor] | None = None) -> dict[int, Tensor]:
        """What the gradient at a point depends on, ``(B, N)`` for each node that is not affine.

        Of a piecewise node the piece of every unit, or the winner of every window, uint8; of a smooth one the
        derivative of every unit, of a joint one its state, float64. tolerances ``(N,)`` of the nodes that
        pick say how close to a breakpoint, or to each other, values are on it, or equal: these units are on
        the piece below, and the first of equal inputs wins. None: 0.
        """
        return self.logits_and_pieces(x, tolerances)[1]

    def logits_and_pieces(
        self, x: Tensor, tolerances: Mapping[int, Tensor] | None = None
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Logits ``(B, K)`` and, as in `pieces_at`, the pieces, in one pass."""
        every = range(len(self.nodes))
        found = [
            _Pieces({}, at_values(tolerances, lambda block=block: self.values_at(block, every)))
            for block in self._blocks(x)
        ]
        logits = [
            self._evaluate(block, (self.last,), own)[self.last]
            for block, own in zip(self._blocks(x), found, strict=True)
        ]
        return torch.cat(logits), self._joined([own.pieces for own in found])

    def pieces_of(
        self, values: Mapping[int, Tensor], tolerances: Mapping[int, Tensor] | None = None
    ) -> dict[int, Tensor]:
        """`pieces_at` the pixels at which all nodes have these values."""
        found = _Pieces({}, at_values(tolerances, lambda: values))
        for index in (*self.piecewise, *self.smooth):
            self._pick(index, tuple(values[source] for source in self.nodes[index].inputs), found)
        return found.pieces

    def gradient_at(self, x: Tensor, label: int) -> Tensor:
        """Gradient ``(B, C, H, W)`` of logit `label` with respect to the pixels ``(B, C, H, W)``."""
        return self.pull_back(self.seed(label, x.shape[0]), self.pieces_at(x))

    def pull_back(
        self,
        seed: Tensor,
        pieces: Mapping[int, Tensor],
        to: int = 0,
        start: int | None = None,
        skip_idle: bool = False,
    ) -> Tensor:
        """Gradient of ``<seed, logits>`` at the output of node `to` where every unit keeps its piece.

        Of smooth units the derivative is that at the point.
        seed is ``(B, K)``, pieces are those of `pieces_at` (only nodes after `to` are read); returns
        ``(B, *nodes[to].shape)``. With `start` the seed is for the output of that node, not for the logits.
        skip_idle leaves units out of dense products through which nothing comes back on any row.
        """
        pull = self._pulled_through_alive if skip_idle else self.pulled
        start = self.last if start is None else start
        downstream = self.downstream_of(to)
        rows = self._block_rows(seed)
        if len(seed) <= rows:
            return self._pull_block(seed, pieces, start, to, downstream, pull)
        pulled = seed.new_empty((len(seed), *self.nodes[to].shape))
        for first in range(0, len(seed), rows):
            block = slice(first, first + rows)
            own = {index: chosen[block] for index, chosen in pieces.items()}
            pulled[block] = self._pull_block(seed[block], own, start, to, downstream, pull)
        return pulled

    def pulled(
        self, index: int, g: Tensor, pieces: Mapping[int, Tensor], layer: AbstractLayer | None = None
    ) -> tuple[Tensor, ...]:
        """Gradients at the inputs of one node, given those at its output, ``(B, *shape)``; see `pull_back`.

        The given ones may be overwritten. layer: another one in its place.
        """
        node = self.nodes[index]
        layer = node.layer if layer is None else layer
        if isinstance(layer, AbstractAffine):
            return layer.transpose(g, tuple(self.nodes[source].shape for source in node.inputs))
        if isinstance(layer, AbstractJoint):
            return layer.transpose(
                g, pieces[index], tuple(self.nodes[source].shape for source in node.inputs)
            )
        assert isinstance(layer, PiecewiseLinear | MaxPool | Smooth), "only node 0 is an Input"
        return (layer.transpose(g, pieces[index]),)

    def gate_after(self, to: int) -> int | None:
        """The first activations after node `to`, if they are piecewise linear and all the rest reads them.

        All gradients at `to` then come through them.
        """
        gate = next((index for index in self.piecewise if index > to), None)
        if gate is None or not isinstance(self.nodes[gate].layer, PiecewiseLinear):
            return None
        before = self.downstream_of(to) - set(range(gate, len(self.nodes)))
        past = any(before.intersection(node.inputs) for node in self.nodes[gate + 1 :])
        return None if past else gate

    def seed(self, label: int, rows: int) -> Tensor:
        """One-hot rows ``(rows, K)`` that make `pull_back` the gradient of one logit."""
        seed = torch.zeros((rows, self.classes), dtype=torch.float64, device=self.device)
        seed[:, label] = 1.0
        return seed

    @property
    def last(self) -> int:
        """Index of the logits."""
        return len(self.nodes) - 1

    @property
    def input_shape(self) -> Shape:
        """(C, H, W) of the pixels."""
        return self.nodes[0].shape

    @property
    def classes(self) -> int:
        """Number of logits."""
        return self.nodes[-1].shape[0]

    @cached_property
    def piecewise(self) -> tuple[int, ...]:
        """Indices of the nodes that pick pieces: `PiecewiseLinear` and `MaxPool`."""
        return tuple(
            i for i, node in enumerate(self.nodes) if isinstance(node.layer, (PiecewiseLinear, MaxPool))
        )

    @cached_property
    def smooth(self) -> tuple[int, ...]:
        """Indices of the `Smooth` nodes, and of those that are smooth in several values at once."""
        return tuple(i for i, node in enumerate(self.nodes) if isinstance(node.layer, Smooth | AbstractJoint))

    @property
    def piecewise_linear(self) -> bool:
        """Whether the network is affine wherever every unit keeps its piece: it has no smooth node."""
        return not self.smooth

    @cached_property
    def units(self) -> int:
        """Number of units with an activation: piecewise linear (ReLU and its relatives) or smooth."""
        return sum(math.prod(n.shape) for n in self.nodes if isinstance(n.layer, PiecewiseLinear | Smooth))

    @cached_property
    def windows(self) -> int:
        """Number of max-pool windows."""
        return sum(math.prod(n.shape) for n in self.nodes if isinstance(n.layer, MaxPool))

    @cached_property
    def parameters(self) -> int:
        """Number of constants in affine layers."""
        return sum(n.layer.parameters for n in self.nodes if isinstance(n.layer, AbstractAffine))

    @cached_property
    def effort(self) -> int:
        """About how many products one image takes on its way forward.

        A value that is written and read once takes the time of some tens of products.
        """
        return sum(products_of(node) + _OF_A_VALUE * math.prod(node.shape) for node in self.nodes)

    @cached_property
    def growth(self) -> float:
        """By what factor the entries of a row may at most grow on its way back, wherever it starts.

        On its way it grows at each node by no more than the largest absolute sum of weights on one input, or
        the steepest slope; where a value is read by several nodes, what comes from all of them adds up. Of
        smooth nodes of several inputs, but for products of bounded values, or of unbounded slopes it is inf.
        """
        layers = tuple((node.layer, node.shape, node.inputs) for node in self.nodes)
        return most_growth(layers, self.device)

    def norm(self, index: int) -> float | None:
        """How much longer an affine node can make a vector (see `norm_of`); None of any other.

        None of all where errors hardly grow: following their length takes a tenth longer. It is worked out
        when a node is first asked about: of a large network that takes seconds for all of them together.
        """
        layer = self.nodes[index].layer
        if not isinstance(layer, AbstractAffine) or self.growth < GROWTH:
            return None
        if index not in self._norms:
            shapes = tuple(self.nodes[source].shape for source in self.nodes[index].inputs)
            self._norms[index] = norm_of(layer, shapes)
        return self._norms[index]

    @property
    def drowns(self) -> bool:
        """Whether it is smooth and so deep that what rounding does may be multiplied beyond its values."""
        return bool(self.smooth) and self.growth >= GROWTH

    @cached_property
    def _norms(self) -> dict[int, float]:
        return {}

    @cached_property
    def worked_out(self) -> dict[Hashable, Tensor]:
        """What others have worked out that depends on nothing but the network, by what it is."""
        return {}

    @cached_property
    def single(self) -> Graph:
        """The graph with its affine layers in float32; all others are as they were."""
        kind, layers = torch.float32, (node.layer for node in self.nodes)
        layers = (own.to(kind) if isinstance(own, AbstractAffine) else own for own in layers)
        return Graph(tuple(replace(node, layer=own) for node, own in zip(self.nodes, layers, strict=True)))

    def squared(self, index: int, coarsely: bool = False) -> AbstractLayer:
        """The layer of a node with its weights, or slopes, squared; coarsely: of a layer that is `coarse`."""
        if (index, coarsely) not in self._squares:
            layer = self.nodes[index].layer
            own = layer.coarse if coarsely and isinstance(layer, AbstractAffine) else None
            self._squares[index, coarsely] = squared(own or layer)
        return self._squares[index, coarsely]

    @cached_property
    def _squares(self) -> dict[tuple[int, bool], AbstractLayer]:
        return {}

    @cached_property
    def device(self) -> torch.device:
        """Where the constants live; the CPU if there are none."""
        tensors = (v for node in self.nodes for v in vars(node.layer).values() if isinstance(v, Tensor))
        return next((tensor.device for tensor in tensors), torch.device("cpu"))

    @cached_property
    def readers(self) -> tuple[tuple[int, ...], ...]:
        """For each node, the nodes that read it (twice if they read it twice)."""
        readers: list[list[int]] = [[] for _ in self.nodes]
        for index, node in enumerate(self.nodes):
            for source in node.inputs:
                readers[source].append(index)
        return tuple(tuple(found) for found in readers)

    def walked(
        self, known: MutableMapping[int, _Known], start: int = 0, deadline: Deadline = NEVER
    ) -> Iterator[tuple[int, tuple[_Known, ...]]]:
        """The nodes after `start` that depend on those known, in order, and what is known of their inputs.

        known: of `start`; what a node comes to is entered before the next one is asked for, and what no
        later one reads is dropped then. deadline: asked at every node.

        Raises Expired where the deadline passes on the way.
        """
        for index in range(start + 1, len(self.nodes)):
            sources = self.nodes[index].inputs
            if not known.keys() >= set(sources):  # it depends on what comes before `start`
                continue
            deadline.ask()
            yield index, tuple(known[source] for source in sources)
            for source in set(sources):
                if self.readers[source][-1] == index:
                    del known[source]

    def to(self, device: torch.device | str) -> Graph:
        """The same graph with its constants on `device`."""
        return Graph(tuple(replace(node, layer=node.layer.to(device)) for node in self.nodes))

    def downstream_of(self, index: int) -> frozenset[int]:
        """The node itself and all nodes that depend on it."""
        if index not in self._downstream:
            found = {index}
            for later in range(index + 1, len(self.nodes)):
                if found.intersection(self.nodes[later].inputs):
                    found.add(later)
            self._downstream[index] = frozenset(found)
        return self._downstream[index]

    @cached_property
    def _downstream(self) -> dict[int, frozenset[int]]:
        """`downstream_of` the nodes that were asked about."""
        return {}

    @cached_property
    def _largest(self) -> int:
        return max(math.prod(node.shape) for node in self.nodes)

    def _block_rows(self, x: Tensor) -> int:
        return max(16, (_GPU_BLOCK_BYTES if x.is_cuda else _BLOCK_BYTES) // (8 * self._largest))

    def _blocks(self, x: Tensor) -> tuple[Tensor, ...]:
        rows = self._block_rows(x)
        return (x,) if len(x) <= rows else x.split(rows)

    @staticmethod
    def _joined(blocks: list[dict[int, Tensor]]) -> dict[int, Tensor]:
        if len(blocks) == 1:
            return blocks[0]
        return {index: torch.cat([block[index] for block in blocks]) for index in blocks[0]}

    def _evaluate(
        self,
        x: Tensor,
        nodes: Collection[int],
        pieces: _Pieces | None = None,
        skip_idle: bool = False,
        deadline: Deadline = NEVER,
    ) -> dict[int, Tensor]:
        """Values of the given nodes, as for `values_at`; fills `pieces` if it is not None."""
        values: dict[int, Tensor] = {}
        kept: dict[int, Tensor] = {}
        for index, node in enumerate(self.nodes):
            deadline.ask()
            inputs = tuple(values[source] for source in node.inputs) if index else (x,)
            if skip_idle and isinstance(node.layer, Dense):
                values[index] = node.layer.forward_of_alive(*inputs)
            else:
                values[index] = self._value(index, inputs, pieces)
            if index in nodes:
                kept[index] = values[index]
            for source in node.inputs:
                if self.readers[source][-1] == index:
                    values.pop(source, None)
        return kept

    def _value(self, index: int, inputs: tuple[Tensor, ...], found: _Pieces | None) -> Tensor:
        layer = self.nodes[index].layer
        picked = None if found is None else self._pick(index, inputs, found)
        return layer.forward(*inputs) if picked is None else picked

    def _pick(self, index: int, inputs: tuple[Tensor, ...], found: _Pieces) -> Tensor | None:
        """Add what the gradient depends on at a node; its value, too, where that comes with it."""
        layer = self.nodes[index].layer
        if isinstance(layer, MaxPool):
            value, found.pieces[index] = layer.compete(inputs[0], found.tolerances.get(index))
            return value
        if isinstance(layer, PiecewiseLinear):
            found.pieces[index] = layer.pieces_of(inputs[0], found.tolerances.get(index))
        elif isinstance(layer, Smooth):
            found.pieces[index] = layer.derivative(inputs[0])
        elif isinstance(layer, AbstractJoint):
            found.pieces[index] = layer.state(*inputs)
        return None

    def _pull_block(
        self,
        seed: Tensor,
        pieces: Mapping[int, Tensor],
        start: int,
        to: int,
        downstream: frozenset[int],
        pull: Callable[[int, Tensor, Mapping[int, Tensor]], tuple[Tensor, ...]],
    ) -> Tensor:
        pending: dict[int, Tensor] = {start: seed.clone()}
        for index in range(start, to, -1):
            g = pending.pop(index, None)
            if g is None:
                continue
            for source, part in zip(self.nodes[index].inputs, pull(index, g, pieces), strict=True):
                if source in downstream:
                    pending[source] = pending[source] + part if source in pending else part
        if to in pending:
            return pending[to].reshape(seed.shape[0], *self.nodes[to].shape)
        return seed.new_zeros((seed.shape[0], *self.nodes[to].shape))

    def _pulled_through_alive(
        self, index: int, g: Tensor, pieces: Mapping[int, Tensor]
    ) -> tuple[Tensor, ...]:
        """As `pulled`, where the gradients at activations have passed their pieces."""
        layer, readers = self.nodes[index].layer, self.readers[index]
        above = self.nodes[readers[0]].layer if len(readers) == 1 else None
        if isinstance(layer, Dense) and g.ndim == 2 and isinstance(above, PiecewiseLinear):
            alive = above.alive(pieces[readers[0]])
            if 2 * alive.shape[0] <= g.shape[1]:
                return (columns_of(g, alive) @ layer.weight.index_select(0, alive),)
        return self.pulled(index, g, pieces)


def products_of(node: Node) -> int:
    """Products in one pass of one image through a node."""
    if isinstance(node.layer, Dense):
        return node.layer.weight.numel() * math.prod(node.shape[:-1])
    return node.layer.weight.numel() * math.prod(node.shape[1:]) if isinstance(node.layer, Conv) else 0
