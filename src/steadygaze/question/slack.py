"""How far rounding may move an inconsistency, which is more than the margin where the terms of maps cancel.

Rounding adds to each entry a share of the terms that make it up (`network/regions/rounding`), however small
their sum is. Where weights of 1e9 cancel, that is 1e-7 of a map, which may decide on which side of the
threshold it lies. Maps are mostly so far from that, whatever units are on, that nobody looks at their terms.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from steadygaze.network.regions.rounding import most_terms_of_maps, terms_of_gradients, terms_of_maps
from steadygaze.network.saliency import AbstractGradientSaliency
from steadygaze.question.problem import Problem

# Of the most terms that there may be, which are taken to be independent, so many times as much.
_ROOM = 64.0


def slack_on(
    problem: Problem, pieces: Mapping[int, Tensor], maps: Tensor, distance: np.ndarray
) -> np.ndarray:
    """How far rounding may move the inconsistency on regions where the units keep these pieces: ``(rows,)``.

    Args:
        maps: ``(rows, P)``; where the inconsistency `turns`, their lengths ``(rows, 1)`` will do.
        distance: the inconsistency ``(rows,)``. Where it is so far from the threshold that no terms could
            bring it there, only what the expected map adds is told.
    """
    measure, found = problem.inconsistency, np.full(len(maps), problem.expected_slack)
    most = measure.slack(maps, _ROOM * _errors(problem, problem.most_terms)).cpu().numpy()
    close = ~(np.abs(distance - problem.threshold) > most + problem.expected_slack)
    if close.any():
        asked = torch.from_numpy(np.flatnonzero(close)).to(maps.device)
        found[close] += measure.slack(maps[asked], errors_on(problem, pieces, asked)).cpu().numpy()
    return found


def slack_at(problem: Problem, thetas: np.ndarray, maps: Tensor, distance: np.ndarray) -> np.ndarray:
    """The same at theta ``(B, n)``, where maps as they are compared ``(B, P)`` are off by so much, ``(B,)``.

    The terms at a point take three times as long as its map.
    """
    measure, found, close = problem.inconsistency, np.zeros(len(thetas)), np.ones(len(thetas), bool)
    if _has_most_terms(problem):
        most = measure.slack(maps, _ROOM * _errors(problem, problem.most_terms).cpu()).numpy()
        close = ~(np.abs(distance - problem.threshold) > most + problem.expected_slack)
    if close.any():
        errors = _errors(problem, _terms_at(problem, thetas[close])).cpu()
        found[close] = measure.slack(maps[torch.from_numpy(close)], errors).numpy()
    return found + problem.expected_slack


def errors_on(problem: Problem, pieces: Mapping[int, Tensor], asked: Tensor) -> Tensor:
    """What rounding leaves of maps ``(k, P)``, on the asked ``(k,)`` of such regions."""
    graph, saliency = problem.graph, problem.saliency
    assert isinstance(saliency, AbstractGradientSaliency)
    own = {node: rows[asked] for node, rows in pieces.items()}
    terms = terms_of_gradients(graph, graph.seed(problem.label, len(asked)), own, problem.pixels)
    return _errors(problem, saliency.from_gradient(terms))


def lengths_on(problem: Problem, pieces: Mapping[int, Tensor], sizes: Tensor) -> np.ndarray:
    """How long errors of maps are, ``(rows,)``, on such regions; sizes ``(rows,)`` are those of the maps.

    0 is told of those that no terms could make as long as the margin is wide.
    """
    most = _ROOM * torch.linalg.vector_norm(_errors(problem, problem.most_terms)).to(sizes.device)
    asked = (most > problem.tolerance.margin * sizes).nonzero()[:, 0]
    found = torch.zeros_like(sizes)
    if len(asked):
        found[asked] = torch.linalg.vector_norm(errors_on(problem, pieces, asked), dim=1)
    return found.cpu().numpy()


def lengths_at(problem: Problem, thetas: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """As `lengths_on`, at theta ``(B, n)``, where maps of any kind have these sizes ``(B,)``."""
    images = problem.images(thetas).to(problem.graph.device)
    terms = most_terms_of_maps(problem.saliency, problem.network.graph, images, problem.label)
    most = _ROOM * torch.linalg.vector_norm(_errors(problem, terms), dim=1).cpu().numpy()
    asked = np.flatnonzero(most > problem.tolerance.margin * sizes)
    found = np.zeros(len(thetas))
    if len(asked):
        errors = _errors(problem, _terms_at(problem, thetas[asked]))
        found[asked] = torch.linalg.vector_norm(errors, dim=1).cpu().numpy()
    return found


def _has_most_terms(problem: Problem) -> bool:
    """Whether it is known how large terms of maps can be at most, whatever the pixels are."""
    saliency = problem.saliency
    plain = isinstance(saliency, AbstractGradientSaliency) and not saliency.varies
    return plain and problem.graph.piecewise_linear


def _terms_at(problem: Problem, thetas: np.ndarray) -> Tensor:
    images = problem.images(thetas).to(problem.graph.device)
    return terms_of_maps(problem.saliency, problem.network.graph, images, problem.label, problem.by_network)


def _errors(problem: Problem, terms: Tensor) -> Tensor:
    return problem.tolerance.rounding * problem.kept(terms)
