"""Blocks of layers, and the norms of their Jacobians at a point.

Errors become longer by the norm of each layer that they go through, and of a deep network the product of
these is beyond anything that it does: where each of three convolutions of a residual block makes vectors up
to six times as long, all of the block hardly makes any longer than four times. So the Jacobian of a block at
a point is worked out, as a matrix, and a bound of its largest singular value. How far that of any other point
is from it follows from how far derivatives are, each multiplied by the norms of the block's other layers
(`block_growth`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from steadygaze.deadline import NEVER, Deadline
from steadygaze.enclosing.enclosures import UNIT
from steadygaze.network.bounding.crossed_blocks import Crossing, cost_of, crossing_of
from steadygaze.network.graph import Graph, products_of
from steadygaze.network.joint import Multiply, Normalise
from steadygaze.network.layers import AbstractAffine, AbstractLayer, Add, Conv, Dense, ScaleShift, Shape
from steadygaze.network.norms import norm_by_sums, spectral_norm
from steadygaze.network.pieces import PiecewiseLinear
from steadygaze.network.smooth import Smooth

# A block has so many layers with weights at least: of one the norm is known without its matrix.
_WEIGHTED = 2
# Products that a block's matrix and its square may take, a second or two, and numbers that it may have.
_MUCH, _MOST = 10**11, 2**24
# So many take next to no time.
_LITTLE = 2 * 10**8
# Each may take this share of the time that is left, where one thread makes so many products in a second, and
# two make so many.
_SHARE, _RATE, _RATE_OF_TWO = 0.2, 1.5e10, 2.5e10
# Places of maps on which channels are convolved by matrices.
_FEW_PLACES = 256
# Bytes of the largest values of one block that go back together.
_BYTES = 2**23
# Makes up for rounding in a handful of operations; and for what rounding makes of a projection's length, 1.
_UPWARD, _NO_LONGER = 1 + 2.0**-40, 1 + 2.0**-30


@dataclass(frozen=True)
class Block:
    """All between two nodes: whatever comes after the last depends on the first through it alone."""

    first: int
    last: int


def blocks_of(graph: Graph, start: int) -> tuple[Block, ...]:
    """Blocks behind a node whose Jacobians can be worked out, in order; they share their ends at most."""
    ends, cuts = _ends(graph, start), frozenset(_cuts(graph, start))
    found = (_crossed(graph, Block(*pair), cuts) for pair in pairwise(ends))
    return tuple(block for block in found if _suits(graph, block))


def _crossed(graph: Graph, block: Block, cuts: frozenset[int]) -> Block:
    """The block; of one that ends with a crossing that alone, if whatever comes after depends on it alone."""
    crossing = crossing_of(graph, block.last)
    inside = crossing is not None and crossing.first >= block.first and crossing.first in cuts
    return Block(crossing.first, block.last) if crossing is not None and inside else block


def _crossing(graph: Graph, block: Block) -> Crossing | None:
    """What a block consists of, if that is a crossing."""
    crossing = crossing_of(graph, block.last)
    return crossing if crossing is not None and crossing.first == block.first else None


def _cuts(graph: Graph, start: int) -> list[int]:
    """Nodes past which no value goes but their own."""
    found, furthest = [start], max(graph.readers[start], default=start)
    for index in range(start + 1, len(graph.nodes)):
        if furthest <= index:
            found.append(index)
        furthest = max(furthest, *graph.readers[index], index)
    return found


def _ends(graph: Graph, start: int) -> list[int]:
    """Where blocks end: where values are fewest, behind some layers with weights."""
    cuts = _cuts(graph, start)
    sizes = [math.prod(graph.nodes[cut].shape) for cut in cuts]
    weights = [
        sum(isinstance(node.layer, Conv | Dense) for node in graph.nodes[before + 1 : cut + 1])
        for before, cut in pairwise(cuts)
    ]
    found, weighted = [start], 0
    for number in range(1, len(cuts)):
        weighted += weights[number - 1]
        others = (size for size in sizes[number:] if size != sizes[number])
        if number == len(cuts) - 1:
            found.append(cuts[number])
            break
        summed = isinstance(graph.nodes[cuts[number + 1]].layer, Add) and sizes[number + 1] == sizes[number]
        if weighted >= _WEIGHTED and (summed or next(others, math.inf) > sizes[number]):
            found.append(cuts[number])
            weighted = 0
    return found


def _suits(graph: Graph, block: Block) -> bool:
    """Whether its layers are of the kinds that are known here, and its matrix is not too large."""
    inside = range(block.first + 1, block.last + 1)
    nodes = [graph.nodes[index] for index in inside]
    kinds = AbstractAffine | Smooth | PiecewiseLinear | Multiply | Normalise
    if not all(isinstance(node.layer, kinds) for node in nodes):
        return False
    if sum(isinstance(node.layer, Conv | Dense) for node in nodes) < _WEIGHTED:
        return False
    crossing = _crossing(graph, block)
    if crossing is not None:
        numbers = crossing.channels(graph) * crossing.tokens(graph) ** 2
        return numbers <= _MOST and _cost(graph, block) <= _MUCH
    apart = _apart(graph, block)
    fewer, more = sorted(math.prod(graph.nodes[end].shape) // apart for end in (block.first, block.last))
    return apart * fewer * more <= _MOST and _cost(graph, block) <= _MUCH


def _apart(graph: Graph, block: Block) -> int:
    """How many parts of its values, the tokens of a transformer, go through it without any other; 1: one.

    Its matrix is then made of one for each of them, and no larger than the largest of these.
    """
    nodes = [graph.nodes[index] for index in range(block.first, block.last + 1)]
    # Dense layers and norms are along the last axis; all others take each number by itself.
    alone = Dense | Normalise | Smooth | PiecewiseLinear | ScaleShift | Add
    (tokens, *_), axes = nodes[0].shape, {len(node.shape) for node in nodes}
    same = {node.shape[0] for node in nodes} == {tokens} and axes == {2}
    return tokens if same and all(isinstance(node.layer, alone) for node in nodes[1:]) else 1


def _cost(graph: Graph, block: Block) -> float:
    """Products that its matrix, its square and the factors of that take; in float32 two count as one."""
    crossing = _crossing(graph, block)
    if crossing is not None:
        inside = range(crossing.norm + 1, crossing.last + 1)
        return cost_of(graph, crossing, sum(products_of(graph.nodes[index]) for index in inside))
    apart = _apart(graph, block)
    sizes = [math.prod(graph.nodes[end].shape) // apart for end in (block.first, block.last)]
    products = sum(products_of(node) for node in graph.nodes[block.first + 1 : block.last + 1])
    return sizes[1] * products + apart * min(sizes) ** 2 * sum(sizes) / 2


class BlockNorms:
    """Norms of the Jacobians of a network's blocks at a point: each once it is worth what it takes."""

    def __init__(self, graph: Graph, start: int, x: Tensor, maps: bool = False) -> None:
        """start: where bounds begin. x: ``(1, *shape)``, pixels; those of the point.

        maps: whether gradients are asked for, too, so that what values are off by goes all the way back.
        """
        self._graph, self._start, self._x, self._maps = graph, start, x, maps
        self._norms: dict[int, float] = {}
        self._matrices: dict[int, Tensor] = {}

    @cached_property
    def beginning(self) -> Mapping[int, Block]:
        """Blocks by the number of their first node."""
        return {block.first: block for block in self.ending.values()}

    @cached_property
    def ending(self) -> Mapping[int, Block]:
        """Blocks by the number of their last node."""
        return {block.last: block for block in blocks_of(self._graph, self._start)}

    @cached_property
    def pieces(self) -> Mapping[int, Tensor]:
        """What the gradient at the point depends on, see `Graph.pieces_at`."""
        return self._graph.pieces_at(self._x)

    def helps(self, block: Block, lengths: Tensor, limits: Tensor | float, ahead: bool) -> bool:
        """Whether errors of these lengths ``(B,)`` should be followed through a block as a whole.

        Where its norm is known they are, or takes next to no time. Else where by the norms of all layers that
        are left they would come to these limits ``(B,)``. ahead: with values, not with gradients.
        """
        if self.knows(block) or _cost(self._graph, block) <= _LITTLE:
            return True
        left = self._growth_ahead[block.first] if ahead else self._growth_behind[block.last]
        if ahead and self._maps:
            left *= self._growth_behind[self._graph.last]
        return bool((lengths * left > limits).any())

    def knows(self, block: Block) -> bool:
        """Whether its norm has been worked out."""
        return block.last in self._norms

    def affords(self, block: Block, deadline: Deadline) -> bool:
        """Whether there is time for its norm."""
        rate = _RATE if torch.get_num_threads() == 1 else _RATE_OF_TWO
        return _cost(self._graph, block) <= _SHARE * rate * deadline.left

    def norm(self, block: Block, deadline: Deadline = NEVER) -> float:
        """That of a block; infinite where nothing is known. Raises Expired."""
        crossing = _crossing(self._graph, block)
        if block.last not in self._norms and crossing is not None:
            self._norms[block.last] = self._crossed(crossing, deadline)
        if block.last not in self._norms:
            rows, size = self._jacobian(block, deadline), self._rounding(block)
            known = bool(torch.isfinite(rows).all()) and math.isfinite(size)
            self._norms[block.last] = (spectral_norm(rows) + size) * _UPWARD if known else math.inf
        return self._norms[block.last]

    @cached_property
    def _growth_ahead(self) -> Mapping[int, float]:
        """About how much longer errors of a node's values are in the logits, by norms of affine layers."""
        graph = self._graph
        found = dict.fromkeys(range(len(graph.nodes)), 0.0)
        found[graph.last] = 1.0
        for index in range(graph.last, self._start, -1):
            for source in graph.nodes[index].inputs:
                found[source] += found[index] * self._about(index)
        return found

    @cached_property
    def _growth_behind(self) -> Mapping[int, float]:
        """About how much longer errors of the gradient at a node are at the pixels, likewise."""
        found = dict.fromkeys(range(len(self._graph.nodes)), 0.0)
        found[self._start] = 1.0
        for index in range(self._start + 1, len(self._graph.nodes)):
            for source in self._graph.nodes[index].inputs:
                found[index] += found[source] * self._about(index)
        return found

    def _about(self, index: int) -> float:
        layer = self._graph.nodes[index].layer
        return 1.0 if isinstance(layer, Add) else self._graph.norm(index) or 1.0

    def _crossed(self, crossing: Crossing, deadline: Deadline) -> float:
        """That of a block with such parts."""
        graph, tokens = self._graph, crossing.tokens(self._graph)
        inner = Block(crossing.norm, crossing.last)
        # No channel gets into another's: all of a token at once are a row of each one's matrix.
        channels, found = crossing.channels(graph), list[Tensor]()
        largest = max(math.prod(graph.nodes[index].shape) for index in range(inner.first, inner.last + 1))
        every = torch.eye(tokens, dtype=torch.float64, device=graph.device)
        for part in every.split(max(16, _BYTES // (8 * largest))):
            # Layers multiply gradients in place: each entry is a number of its own.
            found.append(self._pulled(inner, part[:, :, None].repeat(1, 1, channels), deadline))
        scales = normalised_at(graph, crossing.norm, self.pieces[crossing.norm])[1]
        rows = torch.cat(found) * scales
        size = self._rounding(inner) * float(scales.max())
        if not (bool(torch.isfinite(rows).all()) and math.isfinite(size)):
            return math.inf
        # What rounding took from the scales, and from the products with them, is a share of each entry.
        share = 4 * (graph.nodes[crossing.norm].shape[-1] + 8) * tokens * UNIT
        mixed = spectral_norm(rows.permute(2, 0, 1).contiguous()) * (1 + share) + size
        return (1 + mixed * _NO_LONGER) * _UPWARD

    def _jacobian(self, block: Block, deadline: Deadline) -> Tensor:
        """``(P, N, M)``, from M values at its first node to N at its last, for each of P parts of these."""
        graph = self._graph
        shape, apart = graph.nodes[block.last].shape, _apart(graph, block)
        count, inside = math.prod(shape) // apart, range(block.first, block.last + 1)
        largest = max(math.prod(graph.nodes[index].shape) for index in inside)
        every = torch.arange(count, device=graph.device)
        found = list[Tensor]()
        for part in every.split(max(16, _BYTES // (8 * largest))):
            # One row for each part: none gets into another's.
            seed = torch.zeros((len(part), apart, count), dtype=torch.float64, device=graph.device)
            seed[torch.arange(len(part)), :, part] = 1.0
            rows = self._pulled(block, seed.reshape(-1, *shape), deadline)
            found.append(rows.reshape(len(part), apart, -1))
        return torch.cat(found).transpose(0, 1)

    def _pulled(self, block: Block, seed: Tensor, deadline: Deadline) -> Tensor:
        pending = {block.last: seed}
        for index in range(block.last, block.first, -1):
            if index not in pending:
                continue
            deadline.ask()
            own = {index: self.pieces[index].expand(len(seed), -1)} if index in self.pieces else {}
            node, gradient = self._graph.nodes[index], pending.pop(index)
            if _is_of_small_maps(node.layer, node.shape):
                parts = (self._pulled_apart(index, gradient),)
            else:
                parts = self._graph.pulled(index, gradient, own)
            for source, part in zip(self._graph.nodes[index].inputs, parts, strict=True):
                pending[source] = pending[source] + part if source in pending else part
        return pending[block.first]

    def _pulled_apart(self, index: int, gradient: Tensor) -> Tensor:
        """That of a convolution of each channel alone: as matrices, which on small maps are faster."""
        node = self._graph.nodes[index]
        channels, *_ = shape = self._graph.nodes[node.inputs[0]].shape
        if index not in self._matrices:
            places = math.prod(node.shape[1:])
            one = torch.eye(places, dtype=torch.float64, device=gradient.device)
            one = one[:, None].expand(-1, channels, -1).reshape(places, *node.shape)
            assert isinstance(node.layer, Conv)
            made = node.layer.transpose(one, (shape,))[0]
            self._matrices[index] = made.flatten(2).transpose(0, 1).contiguous()
        made = torch.bmm(gradient.flatten(2).transpose(0, 1), self._matrices[index])
        return made.transpose(0, 1).reshape(-1, *shape)

    def _rounding(self, block: Block) -> float:
        """At least the norm of what rounding takes from the matrix.

        A row has length 1 where it begins. Followed are how long rows are at most on their way back, and how
        far they are off.
        """
        graph = self._graph
        lengths = {block.last: (1.0, 0.0)}
        for index in range(block.last, block.first, -1):
            if index not in lengths:
                continue
            long, off = lengths.pop(index)
            for source, norm, rounded in self._stretches(index):
                more = (norm * long, norm * off + rounded * (long + off))
                known = lengths.get(source, (0.0, 0.0))
                together = known[0] + more[0]
                lengths[source] = (together * _UPWARD, (known[1] + more[1] + UNIT * together) * _UPWARD)
        return math.sqrt(math.prod(graph.nodes[block.last].shape)) * lengths[block.first][1] * _UPWARD

    def _plain(self, index: int) -> float:
        """The norm of a layer without weights, which adds no two values or leaves them as they are."""
        norm = self._graph.norm(index)
        assert norm is not None, "errors of networks with blocks grow"
        return norm

    def _stretches(self, index: int) -> Iterator[tuple[int, float, float]]:
        """For each input how much longer rows become, and how far rounding takes them off."""
        node = self._graph.nodes[index]
        if isinstance(node.layer, Add):
            yield from ((source, 1.0, 0.0) for source in node.inputs)
        elif isinstance(node.layer, AbstractAffine):
            shapes = tuple(self._graph.nodes[source].shape for source in node.inputs)
            most = norm_by_sums(node.layer, shapes) if node.layer.parameters else self._plain(index)
            rounded = (node.layer.terms_backward + 4) * UNIT * most
            yield from ((source, most, rounded) for source in node.inputs)
        elif isinstance(node.layer, Multiply):
            a, b = factors_at(self._graph, index, self.pieces[index])
            terms = (node.layer.terms(tuple(a.shape[1:]), tuple(b.shape[1:])) + 4) * UNIT
            for source, other in zip(node.inputs, (b, a), strict=True):
                most = float(node.layer.stretch(other).max()) * _UPWARD
                yield source, most, terms * most
        elif isinstance(node.layer, Normalise):
            values, scales = normalised_at(self._graph, index, self.pieces[index])
            # I, and what is taken from it, of which each is no longer than the values' mean square, or 1.
            bound = 2 + float(values.square().mean(dim=-1).max()) * _UPWARD
            most = float(scales.max()) * bound * _UPWARD
            yield node.inputs[0], most, (values.shape[-1] + 8) * 4 * UNIT * most
        else:
            most = float(slopes_at(self._graph, index, self.pieces[index]).abs().max())
            yield node.inputs[0], most, 2 * UNIT * most


def _is_of_small_maps(layer: AbstractLayer, shape: Shape) -> bool:
    """Whether it convolves each channel by itself, and has maps of few places."""
    if not isinstance(layer, Conv) or math.prod(shape[1:]) > _FEW_PLACES:
        return False
    return layer.groups > 1 and layer.groups == shape[0] and layer.weight.shape[1] == 1


def slopes_at(graph: Graph, index: int, pieces: Tensor) -> Tensor:
    """Derivatives ``(B, N)`` of units, given their pieces."""
    layer = graph.nodes[index].layer
    return layer.slopes_of(pieces) if isinstance(layer, PiecewiseLinear) else pieces


def factors_at(graph: Graph, index: int, state: Tensor) -> tuple[Tensor, Tensor]:
    """Both factors ``(B, *shape)`` of a product, given its state."""
    first, second = (graph.nodes[source].shape for source in graph.nodes[index].inputs)
    a, b = state.split([math.prod(first), math.prod(second)], dim=1)
    return a.reshape(-1, *first), b.reshape(-1, *second)


def normalised_at(graph: Graph, index: int, state: Tensor) -> tuple[Tensor, Tensor]:
    """Values ``(B, *shape)`` of a norm and its scales ``(B, *groups, 1)``, given its state."""
    shape = graph.nodes[index].shape
    values, scales = state.split([math.prod(shape), math.prod(shape[:-1])], dim=1)
    return values.reshape(-1, *shape), scales.reshape(-1, *shape[:-1], 1)
