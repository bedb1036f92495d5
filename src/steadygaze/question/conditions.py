"""Conditions on the inconsistency where it varies within a region, as cones, for exact engines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from steadygaze.geometry.cones import Cones, factor_of
from steadygaze.network.regions.pushing import push_forward
from steadygaze.network.saliency import GradCam
from steadygaze.perturbation.records import AffineImage
from steadygaze.question.distances import maps_on
from steadygaze.question.problem import Problem
from steadygaze.question.slack import lengths_at, lengths_on


def cones_on(problem: Problem, piece: int, pieces: Mapping[int, Tensor], rows: int) -> Cones:
    """The condition on regions where the units keep these pieces and the expected map moves."""
    maps = maps_on(problem, pieces, rows)
    form = problem.expected_pieces[piece]
    basis = torch.from_numpy(np.concatenate([form.base[None], form.directions])).to(maps.device)
    products = (maps @ basis.T).cpu().numpy()
    factor = factor_of(basis.cpu().numpy()[None])
    sizes = torch.linalg.vector_norm(maps, dim=1)
    size, errors = sizes.cpu().numpy(), lengths_on(problem, pieces, sizes)
    off = 2 * np.divide(errors, size, out=np.zeros_like(errors), where=size > 0)
    original = float(torch.linalg.vector_norm(problem.target))
    nothing = not factor.any()  # everything is shifted out of the image
    return Cones(
        a=products[:, 0],
        b=products[:, 1:],
        size=size,
        factor=np.broadcast_to(factor, (len(size), *factor.shape[1:])),
        kappa=_kappa(problem),
        margin=_margin(problem) + off,
        error=np.full(len(size), float(torch.linalg.vector_norm(problem.expected_errors))),
        zero=((size == 0) | nothing) & _zero_fails(problem),
        undecided=(size > 0) & (size < problem.tolerance.vanishing * original),
    )


def affine_maps_on(
    problem: Problem, piece: int, pieces: Mapping[int, Tensor], middle: np.ndarray
) -> AffineImage:
    """Maps before they are rectified, if they are, on regions where the units keep these pieces.

    Only for maps that are affine there, or the positive part of what is. middle ``(R, n)`` is a point of each
    region; the answer has base ``(R, P)`` and directions ``(R, n, P)``.
    """
    graph, saliency = problem.graph, problem.saliency
    node = saliency.node(graph, problem.pixels) if isinstance(saliency, GradCam) else problem.pixels
    gradient = graph.pull_back(graph.seed(problem.label, len(middle)), pieces, node)
    weights = gradient.mean((2, 3), keepdim=True) if isinstance(saliency, GradCam) else gradient
    directions = torch.from_numpy(problem.pieces[piece].image.directions).to(weights.device)
    moved = push_forward(graph, directions, pieces, node, len(middle))
    values = graph.values_at(problem.unclipped(middle), (node,))[node]
    level, slopes = weights * values, weights[:, None] * moved
    if isinstance(saliency, GradCam) or saliency.channel_sum:
        level, slopes = level.sum(dim=1), slopes.sum(dim=2)
    slope = problem.kept(slopes.flatten(0, 1)).reshape(*slopes.shape[:2], -1).cpu().numpy()
    return AffineImage(problem.kept(level).cpu().numpy() - np.einsum("rn,rnp->rp", middle, slope), slope)


def affine_cones(problem: Problem, form: AffineImage, middle: np.ndarray) -> Cones:
    """The condition on regions on which maps are affine, `form`; middle ``(R, n)`` is a point of each."""
    every = np.arange(len(middle))
    cones = rectified_cones(problem, form, middle, every, np.ones(form.base.shape, bool))
    length = np.linalg.norm(_values(form, middle), axis=1)
    nothing = ~cones.factor.any(axis=(1, 2))
    small = length < problem.tolerance.vanishing * cones.size
    return replace(cones, zero=nothing & _zero_fails(problem), undecided=~nothing & small)


def rectified_cones(
    problem: Problem, form: AffineImage, middle: np.ndarray, rows: np.ndarray, active: np.ndarray
) -> Cones:
    """The condition on cells of regions `rows` where only the `active` ``(cells, P)`` entries count.

    form and middle are as for `affine_cones`.
    """
    target = problem.target.numpy()
    whole = np.concatenate([form.base[rows][:, None], form.directions[rows]], axis=1) * active[:, None]
    products = whole @ target
    values = _values(form, middle)
    sizes = np.linalg.norm(np.maximum(values, 0.0) if problem.rectifies_maps else values, axis=1)
    cones = Cones(
        a=products[:, 0],
        b=products[:, 1:],
        size=np.full(len(rows), np.linalg.norm(target)),
        factor=factor_of(whole),
        kappa=_kappa(problem),
        margin=np.full(len(rows), _margin(problem) + problem.expected_slack),
        error=lengths_at(problem, middle, sizes)[rows],
        zero=np.logical_not(active.any(axis=1)) & _zero_fails(problem),
        undecided=np.zeros(len(rows), bool),
    )
    return cones.extrapolated(middle[rows])


def _values(form: AffineImage, theta: np.ndarray) -> np.ndarray:
    """What affine maps ``(R, P)`` are at a point ``(R, n)`` of each region."""
    return form.base + np.einsum("rn,rnp->rp", theta, form.directions)


def _kappa(problem: Problem, beyond: float = 0.0) -> float:
    """The cosine at the threshold, or a little beyond it."""
    kappa = problem.inconsistency.cone(problem.threshold + beyond)
    assert kappa is not None, "pose refuses other measures"
    return kappa


def _margin(problem: Problem) -> float:
    """By how much the cosine falls where the inconsistency is beyond the threshold by its margin.

    Of lengths of differences that is less than the margin itself, the less the smaller the threshold is.
    """
    return _kappa(problem) - _kappa(problem, problem.tolerance.margin)


def _zero_fails(problem: Problem) -> bool:
    """Whether the inconsistency of a zero map, the metric's maximum, is above the threshold."""
    return problem.inconsistency.maximum > problem.threshold
