"""Maps on activation regions, how far they are from the expected one, and where rounding rules that."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from steadygaze.network.regions.combined import Combined, combined
from steadygaze.network.saliency import AbstractGradientSaliency
from steadygaze.question.problem import Problem
from steadygaze.question.slack import slack_on


def maps_on(problem: Problem, pieces: Mapping[int, Tensor], rows: int) -> Tensor:
    """Saliency maps ``(rows, P)``, compared entries only, on regions where the units keep these pieces.

    A network without hidden units has no pieces, and still one region: `rows` says how many there are.
    """
    return _maps(problem, _combined(problem, pieces, rows), pieces, rows)


def distances_on(problem: Problem, pieces: Mapping[int, Tensor], rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Inconsistency ``(rows,)`` with the unmoved map on such regions; and where rounding rules it."""
    if problem.class_alone:
        return np.zeros(rows), np.zeros(rows, bool)
    assert isinstance(problem.saliency, AbstractGradientSaliency)
    if rows == 1 and _is_unmoved(problem, pieces):
        return np.zeros(1), np.array([problem.threshold < 2 * problem.expected_slack])
    found = _combined(problem, pieces, rows)
    if found is None or not (problem.saliency.linear and problem.inconsistency.turns):
        maps = _maps(problem, found, pieces, rows)
        distance, doubtful, size = distances_of(problem, maps)
        maps = size[:, None] if problem.inconsistency.turns else maps
        return distance, _ruled(problem, pieces, maps, distance, doubtful)
    maps = problem.kept(problem.saliency.from_gradient(found.maps), own=True)
    apart, size = problem.inconsistency.of_combined(found.weights, maps, problem.target.to(maps.device))
    doubtful = _undirected(problem, size, lambda: found.weights @ maps).numpy()
    distance = apart.cpu().numpy()
    lost = found.cancelling(size)
    if len(lost):
        at, plain = lost.cpu().numpy(), problem.saliency.from_gradient(_plain(problem, pieces, lost))
        distance[at], doubtful[at], size[lost] = distances_of(problem, problem.kept(plain, own=True))
    return distance, _ruled(problem, pieces, size[:, None], distance, doubtful)


def _is_unmoved(problem: Problem, pieces: Mapping[int, Tensor]) -> bool:
    """Whether units have the pieces ``(1, N)`` that they have at the unperturbed image: then the map is its.

    So they have on the region around 0, the first that is visited of a large network, for which one pass
    back takes a while.
    """
    here = problem.known.pieces
    return all(torch.equal(own, pieces[node + problem.pixels]) for node, own in here.items())


def _ruled(
    problem: Problem, pieces: Mapping[int, Tensor], maps: Tensor, distance: np.ndarray, doubtful: np.ndarray
) -> np.ndarray:
    """Where rounding rules the inconsistency, or may take it over the threshold because maps cancel."""
    slack = slack_on(problem, pieces, maps, distance)
    return doubtful | (np.abs(distance - problem.threshold) < slack)


def _maps(problem: Problem, found: Combined | None, pieces: Mapping[int, Tensor], rows: int) -> Tensor:
    """The maps of `maps_on`, from combinations where there are any."""
    assert isinstance(problem.saliency, AbstractGradientSaliency)
    if found is None:
        graph, seed = problem.graph, problem.graph.seed(problem.label, rows)
        gradient = graph.pull_back(seed, pieces, problem.pixels, skip_idle=True)
    else:
        gradient = (found.weights @ found.maps.flatten(1)).reshape(rows, *found.maps.shape[1:])
        lost = found.cancelling(torch.linalg.vector_norm(gradient.flatten(1), dim=1))
        gradient[lost] = _plain(problem, pieces, lost)
    return problem.kept(problem.saliency.from_gradient(gradient), own=True)


def _combined(problem: Problem, pieces: Mapping[int, Tensor], rows: int) -> Combined | None:
    """The gradients on such regions as combinations of few maps, where that pays."""
    if problem.inconsistency.counts_entries:  # it tells apart entries that only rounding does
        return None
    return combined(problem.graph, problem.label, pieces, problem.pixels, rows)


def _plain(problem: Problem, pieces: Mapping[int, Tensor], chosen: Tensor) -> Tensor:
    """Gradients ``(k, C, H, W)`` on the chosen ``(k,)`` of such regions, by a backward pass of each."""
    own = {node: rows[chosen] for node, rows in pieces.items()}
    return problem.graph.pull_back(problem.graph.seed(problem.label, len(chosen)), own, problem.pixels)


def distances_of(problem: Problem, maps: Tensor) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """Inconsistency ``(B,)`` of maps ``(B, P)`` with the target, where rounding rules it, and lengths."""
    size = torch.linalg.vector_norm(maps, dim=1)
    none = _undirected(problem, size, lambda: maps)
    distance = problem.inconsistency.between(maps, problem.target.to(maps.device))
    return distance.cpu().numpy(), (none | problem.inconsistency.doubtful(maps).cpu()).numpy(), size


def _undirected(problem: Problem, size: Tensor, maps: Callable[[], Tensor]) -> Tensor:
    """Where maps ``(B, P)`` of these lengths have no direction that rounding leaves: ``(B,)`` bool."""
    least = problem.tolerance.vanishing * torch.linalg.vector_norm(problem.target)
    # A size of 0 that is not one is an underflow; one that is not finite leaves no direction either.
    told = (size >= least.to(size.device)) & size.isfinite()
    return ~(told if told.all() else told | (maps() == 0).all(dim=1)).cpu()
