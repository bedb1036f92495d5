"""What one pass of the network tells of a question before anything is searched."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from steadygaze.deadline import NEVER, Deadline
from steadygaze.geometry.half_widths import half_widths
from steadygaze.network.bounding.forms.slack import Slacks, slacks_of
from steadygaze.network.graph import Graph
from steadygaze.network.reading.noise import apart, level_of
from steadygaze.network.regions.local import Uneven
from steadygaze.network.regions.onesided import distances_of_hinges
from steadygaze.network.regions.piecewise import Stages
from steadygaze.network.regions.rounding import scales_of, tolerances_of, uneven
from steadygaze.perturbation.records import AffinePiece

_SECONDS = "seconds of an image"


@dataclass(frozen=True)
class Learnt:
    """How large rounding is, and what the network makes of the unperturbed image.

    Attributes:
        scales: of rounding, by nodes of the problem's graph; see `scales_of`.
        tolerances: ``(units,)`` by nodes that pick: how close to a breakpoint is on it; `local.Uneven` where
            terms are very unlike.
        by_network: the same by the network's own nodes, which begin behind the clip.
        logits, pieces: of the unperturbed image ``(1, K)``, and by the network's own nodes as in
            `Graph.pieces_at`.
        level: ``(1,)`` whether there noise may move some unit off a breakpoint; see `level_at`.
    """

    scales: Mapping[int, Tensor]
    tolerances: dict[int, Tensor]
    by_network: dict[int, Tensor]
    logits: Tensor
    pieces: Mapping[int, Tensor]
    level: Tensor


def learnt(graph: Graph, network: Graph, values: Mapping[int, Tensor], hinge: float) -> Learnt:
    """See `Learnt`.

    Args:
        graph: the network, with a clip before it if there is one. network: without.
        values: ``(1 + k, *shape)`` of all nodes of the graph at the unperturbed image, and at those from
            which the scale of rounding is learnt.
        hinge: the share of the scale that counts as zero.
    """
    pixels = graph.last - network.last
    scales, tolerances = _scaled(graph, values, hinge)
    by_network = {node - pixels: own for node, own in tolerances.items() if node > pixels}
    if isinstance(tolerances, Uneven):
        by_network = Uneven(network, by_network)
    first = {node - pixels: value[:1] for node, value in values.items() if node >= pixels}
    return Learnt(
        scales=scales,
        tolerances=tolerances,
        by_network=by_network,
        logits=first[network.last].clone(),
        pieces=network.pieces_of(first, by_network),
        level=level_of(network, first, by_network),
    )


def slacks_where(graph: Graph, moved: Graph, known: Learnt) -> Slacks:
    """`slacks_of` the graph or another form of it, which vary where tolerances do."""
    found = slacks_of(graph, moved, known.tolerances)
    if not isinstance(known.tolerances, Uneven):
        return Slacks(found)
    return Slacks(found, Uneven(moved, {node: slack.most for node, slack in found.items()}))


def values_at_all(graph: Graph, images: Tensor, deadline: Deadline = NEVER) -> dict[int, Tensor]:
    """Values ``(B, *shape)`` of all nodes at images ``(B, C, H, W)``, from which is learnt.

    How long an image took is learnt, too: see `seconds_of_image`. Raises Expired.
    """
    before = time.perf_counter()
    found = graph.values_at(images, range(len(graph.nodes)), skip_idle=True, deadline=deadline)
    graph.worked_out[_SECONDS] = torch.tensor((time.perf_counter() - before) / len(images))
    return found


def seconds_of_image(graph: Graph) -> float | None:
    """How long an image took on its way forward when the graph was last learnt from; None if it never was."""
    known = graph.worked_out.get(_SECONDS)
    return None if known is None else float(known)


def _scaled(
    graph: Graph, values: Mapping[int, Tensor], hinge: float
) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """Scales and tolerances from the values of all nodes at the images."""
    scales = scales_of(graph, {node: value[1:] for node, value in values.items()})
    tolerances = apart(graph, values, tolerances_of(graph, scales, hinge))
    return scales, Uneven(graph, tolerances) if uneven(graph, values, scales) else tolerances


def hinges_from_zero(
    stages: Stages, pieces: Sequence[AffinePiece], box: np.ndarray, deadline: Deadline = NEVER
) -> np.ndarray:
    """How far hinges lie from 0, in half-widths, if the network is affine up to there, sorted ``(H,)``.

    Raises Expired where the deadline passes on the way.
    """
    at_zero = (
        piece
        for piece in pieces  # those at 0 have the same image there
        if ((piece.polytope.vertices.min(axis=0) <= 0) & (piece.polytope.vertices.max(axis=0) >= 0)).all()
    )
    image = next(at_zero, pieces[0]).image
    form = stages.start(image.base, np.ascontiguousarray(image.directions)).forms[0]
    return distances_of_hinges(stages, form, box, half_widths(box), deadline)
