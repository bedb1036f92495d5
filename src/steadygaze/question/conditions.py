"""Conditions on the inconsistency where it varies within a region, as cones, for exact engines."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from steadygaze.geometry.cones import Cones
from steadygaze.network.regions.piecewise import push_forward
from steadygaze.network.saliency import GradCam
from steadygaze.perturbation.records import AffineImage
from steadygaze.question.problem import Problem


def cones_on(problem: Problem, piece: int, pieces: Mapping[int, Tensor], rows: int) -> Cones:
    """The condition on regions where the units keep these pieces and the expected map moves."""
    maps = problem.maps_on(pieces, rows)
    form = problem.expected_pieces[piece]
    basis = torch.from_numpy(np.concatenate([form.base[None], form.directions])).to(maps.device)
    products = (maps @ basis.T).cpu().numpy()
    gram = (basis @ basis.T).cpu().numpy()
    size = torch.linalg.vector_norm(maps, dim=1).cpu().numpy()
    original = float(torch.linalg.vector_norm(problem.target))
    nothing = not gram.any()  # everything is shifted out of the image
    return Cones(
        a=products[:, 0],
        b=products[:, 1:],
        size=size,
        gram=np.broadcast_to(gram, (len(size), *gram.shape)),
        kappa=_kappa(problem),
        margin=problem.tolerance.margin,
        zero=((size == 0) | nothing) & _zero_fails(problem),
        undecided=(size > 0) & (size < problem.tolerance.vanishing * original),
    )


def affine_maps_on(
    problem: Problem, piece: int, pieces: Mapping[int, Tensor], middle: np.ndarray
) -> AffineImage:
    """Maps before they are rectified, on regions where the units keep these pieces.

    Only for maps that are the positive part of an affine one. middle ``(R, n)`` is a point of each
    region; the answer has base ``(R, P)`` and directions ``(R, n, P)``.
    """
    assert isinstance(problem.saliency, GradCam)
    node = problem.saliency.node(problem.graph, problem.pixels)
    gradient = problem.graph.pull_back(problem.graph.seed(problem.label, len(middle)), pieces, node)
    weights = gradient.mean((2, 3))
    directions = torch.from_numpy(problem.pieces[piece].image.directions).to(weights.device)
    moved = push_forward(problem.graph, directions, pieces, node, len(middle))
    slopes = torch.einsum("bk,bnkhw->bnhw", weights, moved)
    values = problem.graph.values_at(problem.unclipped(middle), (node,))[node]
    level = problem.kept(torch.einsum("bk,bkhw->bhw", weights, values)).cpu().numpy()
    slope = problem.kept(slopes.flatten(0, 1)).reshape(*slopes.shape[:2], -1).cpu().numpy()
    return AffineImage(level - np.einsum("rn,rnp->rp", middle, slope), slope)


def rectified_cones(problem: Problem, form: AffineImage, rows: np.ndarray, active: np.ndarray) -> Cones:
    """The condition on cells of regions `rows` where only the `active` ``(cells, P)`` entries count."""
    target = problem.target.numpy()
    whole = np.concatenate([form.base[rows][:, None], form.directions[rows]], axis=1) * active[:, None]
    products = whole @ target
    return Cones(
        a=products[:, 0],
        b=products[:, 1:],
        size=np.full(len(rows), np.linalg.norm(target)),
        gram=np.einsum("rip,rjp->rij", whole, whole),
        kappa=_kappa(problem),
        margin=problem.tolerance.margin,
        zero=np.logical_not(active.any(axis=1)) & _zero_fails(problem),
        undecided=np.zeros(len(rows), bool),
    )


def _kappa(problem: Problem) -> float:
    kappa = problem.inconsistency.cone(problem.threshold)
    assert kappa is not None, "pose refuses other measures"
    return kappa


def _zero_fails(problem: Problem) -> bool:
    """Whether the inconsistency of a zero map, the metric's maximum, is above the threshold."""
    return problem.inconsistency.maximum > problem.threshold
