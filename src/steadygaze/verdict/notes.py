"""What an answer's reader should know beside the numbers: maps that rounding, or a convention, decides."""

from __future__ import annotations

import numpy as np
import torch

from steadygaze.answer.result import KINDS, Failure
from steadygaze.geometry.kinds import ATTENTION_CHANGED
from steadygaze.network.reading.noise import picked_at
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
_UNDERFLOW = (
    "The map S(x0) of the unperturbed image has no entry beyond {:.1g}, which the original computes as 0: "
    "what is said of attention holds for real numbers, and a program in its precision shows an empty map."
)
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
    that is too small for the original's precision is told first.
    """
    return (*_underflow(problem), *_by_pieces(problem, failure, by_rounding, there))


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
    places = [("the map S(x0) of the unperturbed image", np.zeros(len(problem.box)))]
    if failure is not None and failure.kind == KINDS[ATTENTION_CHANGED]:
        places.append(("the map of the nearest failure", np.array(failure.theta)))
    doubtful = by_rounding[: len(places)].copy()
    if not doubtful.any():
        return ()
    rows, graph = np.flatnonzero(doubtful), problem.network.graph
    if there is None:
        images, values = problem.images(np.array([places[row][1] for row in rows])).to(graph.device), None
    else:
        some = there.take(torch.from_numpy(rows))
        images, values = some.images, some.values
    doubtful[rows] = picked_at(graph, images, values).cpu().numpy()
    if not doubtful.any():  # which of the two it is need not be found out
        return ()
    by_rounding = np.zeros_like(doubtful)
    by_rounding[rows] = picked_at(graph, images, values, sure_biases=True).cpu().numpy()
    return tuple(
        f"{what[0].upper()}{what[1:]} {_ROUNDING if rounded else _CONVENTION}."
        for (what, _), decided, rounded in zip(places, doubtful, by_rounding, strict=True)
        if decided
    )
