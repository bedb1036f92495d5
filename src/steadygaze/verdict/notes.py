"""What an answer's reader should know beside the numbers: maps that rounding, or a convention, decides."""

from __future__ import annotations

import numpy as np

from steadygaze.answer.result import KINDS, Failure
from steadygaze.geometry.kinds import ATTENTION_CHANGED
from steadygaze.network.reading.noise import picked_at
from steadygaze.question.problem import Problem

_WHY = (
    "units lie on a breakpoint within single precision, where the original's own rounding, or its "
    "convention, may choose another slope and so another map; here the piece below counts"
)


def notes_of(problem: Problem, failure: Failure | None, by_rounding: np.ndarray) -> tuple[str, ...]:
    """A sentence for the map of the unperturbed image, and one for that of the nearest failure, where on the
    pieces of some units beside a breakpoint another map would be right.

    by_rounding ``(1 + k,)`` says where rounding in single precision may decide on the map: on the unperturbed
    image, and at the failure, if there is one. Units that sum zeros are exactly 0 in every runtime, and say
    nothing.
    """
    places = [("the map S(x0) of the unperturbed image", np.zeros(len(problem.box)))]
    if failure is not None and failure.kind == KINDS[ATTENTION_CHANGED]:
        places.append(("the map of the nearest failure", np.array(failure.theta)))
    doubtful = by_rounding[: len(places)].copy()
    if not doubtful.any():
        return ()
    graph, thetas = problem.network.graph, np.array([theta for _, theta in places])
    doubtful &= picked_at(graph, problem.images(thetas).to(graph.device)).cpu().numpy()
    return tuple(
        f"{what[0].upper()}{what[1:]} is decided by rounding: {_WHY}."
        for (what, _), decided in zip(places, doubtful, strict=True)
        if decided
    )
