"""What holds at single points, and the maps of the original model, which is what replays are judged by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from steadygaze.errors import ModelError
from steadygaze.geometry.draws import unit_draws
from steadygaze.geometry.kinds import ATTENTION_CHANGED, CLASS_CHANGED, ROBUST, UNDECIDED
from steadygaze.network.graph import Graph
from steadygaze.network.integrated import IntegratedGradients
from steadygaze.network.reading.load import Network
from steadygaze.network.reading.noise import level_at
from steadygaze.network.saliency import AbstractGradientSaliency, AbstractSaliency, NoMap
from steadygaze.perturbation.chain import Chain
from steadygaze.perturbation.placing import grid
from steadygaze.question.inconsistency import AbstractInconsistency

# Gradients that count for less than this share of a map are not asked for.
_NOTHING = 1e-12
# Rounding leaves less of the inconsistency of two maps that are the same.
_UNMOVED = 1e-6
# How many theta are drawn to compare the import with the original, and to learn the scale of rounding.
_PROBES = 16
# So many products are made in learning that scale (see `Graph.effort`), where that is more than two points
# of each kind, or than one where a single image takes as many as `_LONG`.
_EFFORT, _LONG = 2 * 10**9, 10**9
# As many points are evaluated at once as take so many products, and at most so many: of a small network more
# take no less time each, and of any their values take memory.
_TOGETHER, _MOST = 2 * 10**9, 1024
# About so many corners of a box are enough to learn that scale from.
_CORNERS = 64


@dataclass(frozen=True)
class Points:
    """What plain evaluation says at B points.

    Attributes:
        predicted: ``(B,)`` class with the largest logit.
        gap: ``(B,)`` class gap, f_c - max of the others.
        inconsistency: ``(B,)``.
        kind: ``(B,)`` int8, ROBUST, CLASS_CHANGED or ATTENTION_CHANGED; UNDECIDED where classes tie.
        maps: ``(B, P)`` as they are compared.
    """

    predicted: np.ndarray
    gap: np.ndarray
    inconsistency: np.ndarray
    kind: np.ndarray
    maps: Tensor

    @property
    def failing(self) -> np.ndarray:
        """Where class or attention has changed ``(B,)``: a tie is no failure, and not robust either."""
        return (self.kind == CLASS_CHANGED) | (self.kind == ATTENTION_CHANGED)


def judged(
    logits: Tensor,
    gap: np.ndarray,
    maps: Tensor,
    expected: Tensor,
    inconsistency: AbstractInconsistency,
    threshold: float,
) -> Points:
    """Points from logits ``(B, K)``, class gaps ``(B,)``, and both maps as they are compared, ``(B, P)``."""
    distance = inconsistency.between(maps, expected)
    if (distance < _UNMOVED).any():
        # A map that is what it should be to the last bit has not moved, whatever rounding a cosine adds.
        distance = distance.masked_fill((maps == expected).all(dim=1) & expected.any(dim=1), 0.0)
    distance = distance.numpy()
    kind = np.where(distance > threshold, ATTENTION_CHANGED, ROBUST)
    kind = np.where(gap > 0, kind, np.where(gap < 0, CLASS_CHANGED, UNDECIDED))
    return Points(logits.argmax(dim=1).numpy(), gap, distance, kind.astype(np.int8), maps)


def maps_of_original(
    network: Network,
    saliency: AbstractSaliency,
    images: Tensor,
    logits: Tensor,
    label: int,
    tolerances: Mapping[int, Tensor],
    level: Tensor | None = None,
) -> Tensor | None:
    """Maps ``(B, P)`` of class `label` at pixels ``(B, C, H, W)``, by the original's own gradients.

    logits ``(B, K)`` are the original's. None for maps that read activations inside the network (Grad-CAM),
    which the original does not show, and for models that give no gradients: there the imported network has to
    do. So it has where units are level within the tolerances of `Graph.pieces_at`: the original's noise would
    choose their slopes, and not the convention. level ``(B,)`` says where, if that is known (see `level_at`).
    """
    if isinstance(saliency, NoMap):
        return saliency.maps(network.graph, images, label).flatten(1)
    if isinstance(saliency, IntegratedGradients):
        return _integrated_by_original(network, saliency, images, label, tolerances)
    if not isinstance(saliency, AbstractGradientSaliency):
        return None
    seed = saliency.seed(logits, label)
    weights, total = seed.numpy(), None
    try:
        for k in np.flatnonzero((np.abs(weights) > _NOTHING).any(axis=0)):
            found = np.asarray(network.original.gradients(images.numpy(), int(k)), np.float64)
            weight = weights[:, k, None, None, None]
            part = torch.from_numpy(found if (weight == 1).all() else weight * found)
            total = part if total is None else total + part
    except ModelError:
        return None
    total = torch.zeros_like(images) if total is None else total
    maps = saliency.from_gradient(total * images if saliency.times_pixels else total)
    seen = images.to(network.graph.device)
    level = level_at(network.graph, seen, tolerances) if level is None else level
    if level.any():
        maps[level.cpu()] = saliency.maps(network.graph, seen[level], label, tolerances).flatten(1).cpu()
    return maps


def _integrated_by_original(
    network: Network,
    saliency: IntegratedGradients,
    images: Tensor,
    label: int,
    tolerances: Mapping[int, Tensor],
) -> Tensor | None:
    """As `maps_of_original`; where the gradient changes along the path, the imported network says."""
    graph = network.graph

    def gradients(points: Tensor) -> Tensor:
        own = np.asarray(network.original.gradients(points.cpu().numpy(), label), np.float64)
        found = torch.from_numpy(own).to(points.device)
        level = level_at(graph, points, tolerances)
        if level.any():
            pieces = graph.pieces_at(points[level], tolerances)
            found[level] = graph.pull_back(graph.seed(label, int(level.sum())), pieces)
        return found

    try:
        return saliency.maps_by(graph, images.to(graph.device), gradients).flatten(1).cpu()
    except ModelError:
        return None


def drawn(box: np.ndarray) -> np.ndarray:
    """Random theta ``(16, n)`` of a box ``(n, 2)``, always the same."""
    return box[:, 0] + unit_draws(0, _PROBES, len(box)) * (box[:, 1] - box[:, 0])


def in_parts(thetas: np.ndarray, effort: int) -> list[np.ndarray]:
    """Theta ``(B, n)`` in parts to be evaluated at once, given what one image takes (see `Graph.effort`)."""
    size = min(max(1, _TOGETHER // effort), _MOST)
    return [thetas[first : first + size] for first in range(0, len(thetas), size)]


def scaling_of(box: np.ndarray, probes: np.ndarray, effort: int) -> np.ndarray:
    """The theta ``(k, n)`` from which the scale of rounding is learnt: of the probes, and corners of the box.

    Fewer of both where one image takes more effort.
    """
    few, corners = probed(effort), corners_of(box)
    return np.concatenate([probes[:few], corners[:: max(1, len(corners) // few)]])


def probed(effort: int) -> int:
    """How many of the probes it is learnt from, if there are so many."""
    return max(2 if effort < _LONG else 1, _EFFORT // effort)


def corners_of(box: np.ndarray) -> np.ndarray:
    """Corners ``(k, n)`` of a box ``(n, 2)``; of many the two where all is least or largest, and some others.

    These are drawn, always the same.
    """
    n = len(box)
    if 2**n <= _CORNERS:
        ends = np.array([[number >> axis & 1 for axis in reversed(range(n))] for number in range(2**n)])
    else:
        ends = unit_draws(2, _CORNERS, n).round().astype(int)
        ends[0], ends[-1] = 0, 1
    return np.take_along_axis(box.T, ends, axis=0)


def placed(perturbation: Chain, saliency: AbstractSaliency, graph: Graph, pixels: tuple[int, ...]) -> Chain:
    """The perturbation as it moves and hides entries of maps, wherever those stand in the image.

    pixels: the shape ``(C, H, W)`` of the image.
    """
    own = saliency.standing(graph)
    place = (own.origin, own.column, own.row)
    return perturbation.placed(grid(*place, entries=saliency.map_shape(graph), pixels=pixels))
