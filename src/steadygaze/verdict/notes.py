"""What an answer's reader should know beside the numbers: maps that rounding, or a convention, decides."""

from __future__ import annotations

import numpy as np
import torch

from steadygaze.answer.result import KINDS, Failure
from steadygaze.geometry.kinds import ATTENTION_CHANGED
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.reading.noise import between_at, picked_at
from steadygaze.network.saliency import AbstractGradientSaliency
from steadygaze.question.points import maps_of_original
from steadygaze.question.problem import Problem
from steadygaze.verdict.seen import Evaluated

_ROUNDING = (
    "is decided by rounding: some units lie on a breakpoint within single precision, so that the network "
    "itself, run elsewhere, may take the slope on the other side and show another map; here that of the "
    "piece below counts"
)
_CONVENTION = (
    "follows a convention: some pooling windows hold equal numbers, as they do over a blank background, and "
    "of these the first counts, as in PyTorch's max pooling; another choice would give another map"
)
_BETWEEN = (
    "follows a convention: an absolute value is taken of exactly 0, or the largest or smallest of equal "
    "numbers, where the slope of the piece below, or the first of the numbers, counts; the original has a "
    "slope in between, and shows another map"
)
_UNDERFLOW = (
    "The map S(x0) of the unperturbed image has no entry beyond {:.1g}, which the original computes as 0: "
    "what is said of attention holds for real numbers, and a program in its precision shows an empty map."
)
# Maps that differ by less than this share of the largest entry are the same but for single precision.
_SAME = 1e-2
# A map beyond this is none that single precision loses, and the original need not be asked.
_LEAST = 1e-6


def notes_of(
    problem: Problem, failure: Failure | None, by_rounding: np.ndarray, there: Evaluated | None = None
) -> tuple[str, ...]:
    """A sentence for the map of the unperturbed image, and one for that of the nearest failure, where on the
    pieces of some units beside a breakpoint another map would be right.

    by_rounding ``(1 + k,)`` says where rounding in single precision may decide on the map: on the unperturbed
    image, and at the failure, if there is one; there what the network makes of them, if that is at hand.
    Units that sum zeros are exactly 0 in every runtime, and say nothing; windows in which a bias meets itself
    tie in every runtime, too, and which input counts there is told as the convention that it is. A map
    that is too small for the original's precision is told first. Where PyTorch has a slope in between those
    of two pieces, or shares one between equal numbers, its own map is none that the convention gives.
    """
    told = _by_pieces(problem, failure, by_rounding, there)
    return (*_underflow(problem), *(told or _in_between(problem, failure)))


def _underflow(problem: Problem) -> tuple[str, ...]:
    """The sentence for a map of the unperturbed image that the original's arithmetic does not show."""
    largest = float(problem.target.abs().amax()) if problem.target.numel() else 0.0
    if not 0 < largest < _LEAST or problem.replay(np.zeros((1, len(problem.box)))).maps.any():
        return ()
    return (_UNDERFLOW.format(largest),)


def _by_pieces(
    problem: Problem, failure: Failure | None, by_rounding: np.ndarray, there: Evaluated | None
) -> tuple[str, ...]:
    """`notes_of`, but for the first sentence."""
    places = _places(problem, failure)
    rows, graph = np.flatnonzero(by_rounding[: len(places)]), problem.network.graph
    if not len(rows):
        return ()
    if there is None:
        images, values = problem.images(np.array([places[row][1] for row in rows])).to(graph.device), None
    else:
        some = there.take(torch.from_numpy(rows))
        images, values = some.images, some.values
    picked, rounded = picked_at(graph, images, values)
    return tuple(
        f"{places[row][0][0].upper()}{places[row][0][1:]} {_ROUNDING if by_rounding else _CONVENTION}."
        for row, decided, by_rounding in zip(rows, picked.tolist(), rounded.tolist(), strict=True)
        if decided
    )


def _in_between(problem: Problem, failure: Failure | None) -> tuple[str, ...]:
    """A sentence for each of the maps that the original's slopes between two pieces would make another."""
    network, saliency = problem.network, problem.saliency
    layers = (network.graph.nodes[index].layer for index in network.graph.piecewise)
    shared = any(isinstance(layer, PiecewiseLinear | MaxPool) and layer.shared for layer in layers)
    if not (shared and isinstance(saliency, AbstractGradientSaliency)):
        return ()
    told, nowhere = list[str](), torch.zeros(1, dtype=torch.bool)
    for what, theta in _places(problem, failure):
        images = problem.images(theta[None])
        if not between_at(network.graph, images.to(network.graph.device))[0]:
            continue
        logits = torch.from_numpy(np.asarray(network.original.logits(images.numpy()), np.float64))
        asked = (images, logits, problem.label, problem.by_network, nowhere)
        original = maps_of_original(network, saliency, *asked)
        if original is None:
            continue
        own, other = problem.kept(problem.maps_at(images)), problem.kept(original)
        if (own - other).abs().amax() > _SAME * own.abs().amax():
            told.append(f"{what[0].upper()}{what[1:]} {_BETWEEN}.")
    return tuple(told)


def _places(problem: Problem, failure: Failure | None) -> list[tuple[str, np.ndarray]]:
    """The theta whose maps are told of, and what they are called."""
    places = [("the map S(x0) of the unperturbed image", np.zeros(len(problem.box)))]
    if failure is not None and failure.kind == KINDS[ATTENTION_CHANGED]:
        places.append(("the map of the nearest failure", np.array(failure.theta)))
    return places
