"""Values and their rounding on single regions, where it is known on which piece each unit is.

The tolerance of a hinge is a share of the largest terms that its unit sums anywhere in the box. Where those
are off, a unit may lie within it and be clearly on one side of its breakpoint. On a region all is affine, so
that what the terms come to at its vertices bounds them all over it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steadygaze.network.graph import Graph
from steadygaze.network.layers import AbstractAffine
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.varying import AbstractVarying

#: What double precision leaves of terms that cancel, with tenfold to spare in sums of some hundred.
SHARE = 2e-14


@dataclass(frozen=True)
class Local:
    """A node at B points of regions: value ``(B, *shape)``, and what rounding may leave of its terms."""

    value: Tensor
    noise: Tensor


def on_pieces(graph: Graph, image: Local, pieces: Mapping[int, Tensor], wanted: int) -> Local:
    """What a node comes to where all units before it are on the given pieces.

    Nothing passes a unit that is off, however close to its breakpoint it is. Of each layer rounding leaves a
    share of the sum of its absolute terms; from there on errors are taken to be independent, as in
    `reading.noise.noise_at`.

    Args:
        graph: the network.
        image: what its node 0 takes.
        pieces: ``(B, N)`` of the nodes before the wanted one that pick.
        wanted: index of the node.
    """
    found = {0: image}
    for index, node in enumerate(graph.nodes[1 : wanted + 1], start=1):
        inputs = [found[source] for source in node.inputs]
        values, before = [each.value for each in inputs], [each.noise for each in inputs]
        layer = node.layer
        if isinstance(layer, AbstractAffine):
            found[index] = Local(layer.forward(*values), grown_noise(graph, index, values, before))
        elif isinstance(layer, MaxPool):
            winners = layer.winners(pieces[index])
            value, noise = (each.flatten(1).gather(1, winners) for each in (values[0], before[0]))
            found[index] = Local(value.reshape(-1, *node.shape), noise.reshape(-1, *node.shape))
        else:
            assert isinstance(layer, PiecewiseLinear)
            flat, noise, on = values[0].flatten(1), before[0].flatten(1), pieces[index]
            steep = layer.slopes_of(on)
            level = layer.offsets.expand(-1, flat.shape[1]).gather(0, on.long())
            shape = values[0].shape
            found[index] = Local((level + steep * flat).reshape(shape), (steep.abs() * noise).reshape(shape))
    return found[wanted]


class Uneven(AbstractVarying):
    """At each image tolerances are what rounding leaves of the terms there, so many times."""

    def __init__(self, graph: Graph, tolerances: Mapping[int, Tensor], times: float = 1.0) -> None:
        super().__init__(tolerances)
        self._graph, self._times = graph, times

    def of(self, values: Mapping[int, Tensor]) -> dict[int, Tensor]:
        graph = self._graph
        found: dict[int, Tensor] = {}
        noise = {0: SHARE * values[0].abs()}
        for index, node in enumerate(graph.nodes[1:], start=1):
            inputs, layer = node.inputs, node.layer
            if isinstance(layer, AbstractAffine):
                noise[index] = grown_noise(
                    graph, index, [values[i] for i in inputs], [noise[i] for i in inputs]
                )
                continue
            if not isinstance(layer, PiecewiseLinear | MaxPool):
                break  # behind what is smooth those of the whole box stay
            source = Local(values[inputs[0]], noise[inputs[0]])
            found[index] = torch.minimum(self._times * slack_of(layer, source), self[index])
            pieces = layer.pieces_of(source.value, found[index])
            flat = source.noise.flatten(1)
            own = (
                flat.gather(1, layer.winners(pieces))
                if isinstance(layer, MaxPool)
                else layer.slopes_of(pieces).abs() * flat
            )
            noise[index] = own.reshape(values[index].shape)
        return {node: found.get(node, own) for node, own in self.items()}


def grown_noise(
    graph: Graph, index: int, values: Sequence[Tensor], noises: Sequence[Tensor], constant: bool = True
) -> Tensor:
    """What rounding may leave behind an affine node, from its inputs and what it left of them.

    constant: whether its constant terms are among what is summed.
    """
    layer, square = graph.nodes[index].layer, graph.squared(index)
    assert isinstance(layer, AbstractAffine)
    assert isinstance(square, AbstractAffine)
    terms = layer.magnitude(*values) if constant else layer.absolute.linear(*(each.abs() for each in values))
    passed = square.linear(*(each.square() for each in noises))
    return (passed + (SHARE * terms).square()).sqrt()


def of_image(base: Tensor, directions: Tensor, theta: Tensor) -> Local:
    """The image ``base`` + theta ``directions`` at theta ``(B, n)``: ``(C, H, W)`` and ``(n, C, H, W)``."""
    flat = directions.flatten(1)
    value = torch.addmm(base.reshape(1, -1), theta, flat)
    terms = torch.addmm(base.abs().reshape(1, -1), theta.abs(), flat.abs())
    shape = (len(theta), *base.shape)
    return Local(value.reshape(shape), SHARE * terms.reshape(shape))


def slack_of(layer: PiecewiseLinear | MaxPool, source: Local) -> Tensor:
    """How close to a breakpoint, or to the lead, rounding may put inputs ``(B, *shape)``: ``(B, units)``.

    Of a window only inputs count that may be the largest.
    """
    value, noise = source.value.flatten(1), source.noise.flatten(1)
    if isinstance(layer, PiecewiseLinear):
        return noise  # beside a breakpoint other than 0 it is a share of terms as large as that
    padding, inputs = layer.windows < 0, layer.windows.clamp_min(0)
    least = (value - noise)[:, inputs].masked_fill(padding, -torch.inf).amax(dim=2, keepdim=True)
    out = padding | ((value + noise)[:, inputs] < least)
    return noise[:, inputs].masked_fill(out, 0.0).amax(dim=2)
