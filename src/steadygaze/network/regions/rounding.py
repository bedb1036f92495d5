"""How large rounding errors may be, unit by unit, and how close to zero counts as zero on their account."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from steadygaze.network import coarse
from steadygaze.network.graph import Graph
from steadygaze.network.integrated import IntegratedGradients
from steadygaze.network.joint import AbstractJoint, Normalise
from steadygaze.network.layers import AbstractAffine, Conv, Dense
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.saliency import AbstractGradientSaliency, AbstractSaliency, GradCam

# Of the scale of a unit's input this share counts after the unit, too.
_LEFT_OVER = 1e-2
# So many times as far as its terms add up to at the images a unit may come elsewhere.
_IN_REACH = 2.0
# Terms may be as small a share of the largest ones before rounding of those counts beside them: at an image,
# and where all inputs are as small as any was, for there seldom is such a place. So many are looked at.
_UNEVEN, _UNEVEN_BETWEEN, _LOOKED_AT = 1e-7, 1e-9, 8


def scales_of(graph: Graph, values: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """The largest sum of absolute terms at some images, ``(units,)``, of stages' sources and logits.

    Rounding errors are proportional to this scale and not to the value itself, which may cancel. Up to a
    piecewise node magnitudes are added up; there they start again from the values, which are 0 where units
    are off: what rounding may leave of those is a small share of their input's.

    values: ``(B, *shape)`` of all nodes at the images.
    """
    wanted = {graph.last} | {graph.nodes[node].inputs[0] for node in graph.piecewise}
    sizes: dict[int, Tensor] = {}
    for index, node in enumerate(graph.nodes):
        if isinstance(node.layer, AbstractAffine):
            sizes[index] = coarse.magnitude(node.layer, *(sizes[source] for source in node.inputs))
        elif isinstance(node.layer, PiecewiseLinear | MaxPool):
            before = sizes[node.inputs[0]]
            before = node.layer.forward(before) if isinstance(node.layer, MaxPool) else before
            sizes[index] = torch.maximum(values[index].abs(), _LEFT_OVER * before)
        else:
            sizes[index] = values[index].abs() if index else values[index].abs().clamp_min(1.0)
    return {node: sizes[node].flatten(1).amax(dim=0) for node in wanted}


def uneven(graph: Graph, values: Mapping[int, Tensor], scales: Mapping[int, Tensor]) -> bool:
    """Whether what some unit sums may be so small that rounding of its largest terms would count there.

    It is looked for at the images, and where all that a unit reads is as small as each was at some image:
    large terms may go off one after the other, and be off together only where nobody looked.

    values: ``(B, *shape)`` of all nodes at some images. scales: see `scales_of`.
    """
    asked: set[int] = set()
    for index, scale in scales.items():
        if not isinstance(graph.nodes[index].layer, AbstractAffine):
            if _is_small(_with_least(values[index]), scale):
                return True
        # What a sum of two branches adds up has the constant terms of both.
        elif not (_constant_terms(graph, index).flatten(1) >= _UNEVEN * scale).all():
            asked.add(index)
    sizes: dict[int, Tensor] = {}
    for index in _summed_for(graph, asked):  # mostly none, or few
        node = graph.nodes[index]
        if isinstance(node.layer, AbstractAffine):
            sizes[index] = coarse.magnitude(node.layer, *(sizes[source] for source in node.inputs))
        else:
            sizes[index] = _with_least(values[index])
        if index in asked and _is_small(sizes[index], scales[index]):
            return True
    return False


def _summed_for(graph: Graph, asked: Collection[int]) -> list[int]:
    """The nodes asked for, the affine ones that they sum up, and those before, in turn."""
    needed, pending = set(asked), list(asked)
    while pending:
        node = graph.nodes[pending.pop()]
        if isinstance(node.layer, AbstractAffine):
            pending += set(node.inputs) - needed
            needed.update(node.inputs)
    return sorted(needed)


def _with_least(values: Tensor) -> Tensor:
    """Magnitudes of values ``(B, *shape)``, behind the least of each, as many as are looked at."""
    size = values.abs()
    return torch.cat([size.amin(dim=0, keepdim=True), size[:_LOOKED_AT]])


def _is_small(sizes: Tensor, scale: Tensor) -> bool:
    """Whether some of the sizes ``(1 + B, *shape)``, the least first, is too small beside ``(units,)``."""
    flat = sizes.flatten(1)
    least = scale * _UNEVEN * torch.ones_like(flat[:, :1])
    least[0] *= _UNEVEN_BETWEEN / _UNEVEN
    return bool(((flat > 0) & (flat < least)).any())


def _constant_terms(graph: Graph, index: int) -> Tensor:
    """What the constant terms of affine nodes add to the terms of a node since the last other one.

    ``(1, *shape)``; 0 of those others.
    """
    node, known, asked = graph.nodes[index], graph.worked_out, ("constant terms", index)
    if asked in known:
        return known[asked]
    if isinstance(node.layer, Dense):
        found = node.layer.bias.abs().expand(1, *node.shape)
    elif isinstance(node.layer, Conv):
        found = node.layer.bias.abs()[:, None, None].expand(1, *node.shape)
    elif isinstance(node.layer, AbstractAffine):
        found = node.layer.magnitude(*(_constant_terms(graph, source) for source in node.inputs))
    else:
        found = torch.zeros((), dtype=torch.float64, device=graph.device).expand(1, *node.shape)
    known[asked] = found
    return found


def tolerances_of(graph: Graph, scales: Mapping[int, Tensor], tolerance: float) -> dict[int, Tensor]:
    """For each node that picks, ``(units,)``: a hinge is zero within so much, and so is an input's lead.

    That is a share of the scales (see `scales_of`), and of the breakpoints, which are subtracted: of one that
    is out of reach no digit is lost, and a unit of small terms may be off 0 by far more than rounding leaves,
    though by little beside a breakpoint of 6. Inputs of a window that are activated differ by what the terms
    of the activation leave, and not by less where little of these passes it.
    """
    found = {}
    for index in graph.piecewise:
        node = graph.nodes[index]
        scale = scales[node.inputs[0]]
        if isinstance(node.layer, MaxPool):
            before = graph.nodes[node.inputs[0]]
            if isinstance(before.layer, PiecewiseLinear):
                steepest = before.layer.slopes.abs().amax(dim=0)
                scale = torch.maximum(scale, steepest * scales[before.inputs[0]])
            scale = torch.where(node.layer.windows >= 0, scale[node.layer.windows], 0.0).amax(dim=1)
        else:
            assert isinstance(node.layer, PiecewiseLinear)
            farthest = node.layer.breakpoints.abs().max()
            scale = torch.maximum(scale, torch.minimum(_IN_REACH * scale, farthest))
        found[index] = scale * tolerance
    return found


def terms_of_maps(
    saliency: AbstractSaliency,
    graph: Graph,
    images: Tensor,
    label: int,
    tolerances: Mapping[int, Tensor] | None = None,
) -> Tensor:
    """What makes up each entry of the maps at pixels ``(B, C, H, W)``, as rounding sees it: ``(B, P)``.

    What rounding leaves of an entry is proportional to it, and not to the entry, which may cancel. label and
    tolerances are those of `AbstractSaliency.maps`.
    """
    if isinstance(saliency, GradCam):
        node, pieces = saliency.node(graph), graph.pieces_at(images, tolerances)
        gradients = terms_of_gradients(graph, graph.seed(label, len(images)), pieces, to=node)
        return saliency.from_parts(graph.values_at(images, (node,))[node].abs(), gradients).flatten(1)
    if isinstance(saliency, IntegratedGradients):
        seed = graph.seed(label, 1)

        def terms(points: Tensor) -> Tensor:
            along = graph.pieces_at(points, tolerances)
            return terms_of_gradients(graph, seed.expand(len(points), -1), along)

        return saliency.maps_by(graph, images, terms).abs().flatten(1)
    assert isinstance(saliency, AbstractGradientSaliency)
    return terms_of_gradient_maps(saliency, graph, images, label, graph.logits_and_pieces(images, tolerances))


def terms_of_gradient_maps(
    saliency: AbstractGradientSaliency,
    graph: Graph,
    images: Tensor,
    label: int,
    evaluated: tuple[Tensor, Mapping[int, Tensor]],
) -> Tensor:
    """`terms_of_maps` where the logits and pieces at the images are known."""
    logits, pieces = evaluated
    gradients = terms_of_gradients(graph, saliency.seed(logits, label), pieces)
    return saliency.from_gradient(gradients * images.abs() if saliency.times_pixels else gradients)


def terms_of_gradients(graph: Graph, seed: Tensor, pieces: Mapping[int, Tensor], to: int = 0) -> Tensor:
    """The terms that make up gradients at node `to`, of all layers together; arguments as of `pull_back`.

    Each layer adds up terms whose absolute sum is what its own rounding is proportional to. From there on
    rounding errors are taken to be independent: their squares go back by the squares of the weights. Absolute
    sums all the way back would grow by an order of magnitude with each wide layer, past any gradient.
    """
    steep = {node: own.square() if own.is_floating_point() else own for node, own in pieces.items()}
    gradients, spread = {graph.last: seed}, {graph.last: seed.square()}
    for index in range(graph.last, to, -1):
        if index not in gradients:
            continue
        node, g = graph.nodes[index], gradients.pop(index)
        shapes = tuple(graph.nodes[source].shape for source in node.inputs)
        parts = graph.pulled(index, g.clone(), pieces)
        terms, own_spread = parts, spread.pop(index)
        if isinstance(node.layer, AbstractJoint):
            passed = node.layer.squares_back(own_spread.reshape(g.shape), pieces[index], shapes)
        else:
            passed = coarse.squares_back(graph, index, own_spread, steep)
        if isinstance(node.layer, AbstractAffine):
            terms = coarse.magnitude_back(node.layer, g, shapes)
        elif isinstance(node.layer, Normalise):  # what cancels in it leaves as much as it is made of
            terms = node.layer.terms_back(g.abs(), pieces[index], shapes)
        for source, part, error, own in zip(node.inputs, parts, passed, terms, strict=True):
            shape = (len(seed), *graph.nodes[source].shape)
            more, part = (error + own.square()).reshape(shape), part.reshape(shape)
            gradients[source] = gradients[source] + part if source in gradients else part
            spread[source] = spread[source] + more if source in spread else more
    none = seed.new_zeros((len(seed), *graph.nodes[to].shape))
    return spread.get(to, none).reshape(none.shape).sqrt()


def most_terms_of_maps(saliency: AbstractSaliency, graph: Graph, images: Tensor, label: int) -> Tensor:
    """About as much as `terms_of_maps` can be at any images that are no larger, ``(B, P)``.

    Only for networks that are piecewise linear, and maps that are affine where units keep their pieces.
    """
    node = saliency.node(graph) if isinstance(saliency, GradCam) else 0
    known, asked = graph.worked_out, ("most terms of gradients", label, node)
    if asked not in known:
        known[asked] = _most_terms_of_gradients(graph, label, node)
    gradients = known[asked].expand(len(images), *graph.nodes[node].shape)
    if isinstance(saliency, GradCam):
        return saliency.from_parts(graph.values_at(images, (node,))[node].abs(), gradients).flatten(1)
    assert isinstance(saliency, AbstractGradientSaliency)
    return saliency.from_gradient(gradients * images.abs() if saliency.times_pixels else gradients)


def _most_terms_of_gradients(graph: Graph, label: int, to: int) -> Tensor:
    """As `terms_of_gradients`, with all units on their steepest pieces and every input of a window winning.

    Gradients go back by their squares, too, for what cancels here may not cancel elsewhere. ``(1, *shape)``.
    """
    seed = graph.seed(label, 1)
    sizes, spread = {graph.last: seed.square()}, {graph.last: seed.square()}
    for index in range(graph.last, to, -1):
        if index not in sizes:
            continue
        node, size = graph.nodes[index], sizes.pop(index)
        shapes = tuple(graph.nodes[source].shape for source in node.inputs)
        parts, passed = _steepest(graph, index, size), _steepest(graph, index, spread.pop(index))
        terms = parts
        if isinstance(node.layer, AbstractAffine):
            terms = tuple(part.square() for part in coarse.magnitude_back(node.layer, size.sqrt(), shapes))
        for source, part, error, own in zip(node.inputs, parts, passed, terms, strict=True):
            sizes[source] = sizes[source] + part if source in sizes else part
            spread[source] = spread[source] + error + own if source in spread else error + own
    return spread[to].sqrt() if to in spread else seed.new_zeros((1, *graph.nodes[to].shape))


def _steepest(graph: Graph, index: int, squares: Tensor) -> tuple[Tensor, ...]:
    """Squares ``(1, *shape)`` at a node's output as they are at its inputs, at most."""
    layer = graph.nodes[index].layer
    if isinstance(layer, PiecewiseLinear):
        slopes = layer.slopes.square().amax(dim=0)
        return ((squares.flatten(1) * slopes).reshape(squares.shape),)
    if isinstance(layer, MaxPool):
        found = squares.new_zeros((1, math.prod(layer.shape)))
        for column in layer.windows.T:
            found.index_add_(1, column.clamp_min(0), squares.flatten(1) * (column >= 0))
        return (found.reshape(1, *layer.shape),)
    return coarse.squares_back(graph, index, squares, {})
