"""What an answer's reader should know beside the numbers: maps that rounding, or a convention, decides."""

from __future__ import annotations

import numpy as np

from steadygaze.answer.result import KINDS, Failure
from steadygaze.geometry.kinds import ATTENTION_CHANGED
from steadygaze.network.reading.noise import picked_at
from steadygaze.question.problem import Problem
from steadygaze.verdict.plain import decided_by_rounding

_WHY = (
    "units lie on a breakpoint within single precision, where the original's own rounding, or its "
    "convention, may choose another slope and so another map; here the piece below counts"
)


def notes_of(problem: Problem, failure: Failure | None) -> tuple[str, ...]:
    """A sentence for the map of the unperturbed image, and one for that of the nearest failure, where on the
    pieces of some units beside a breakpoint another map would be right.

    Units that sum zeros are exactly 0 in every runtime, and say nothing.
    """
    places = [("the map S(x0) of the unperturbed image", np.zeros(len(problem.box)))]
    if failure is not None and failure.kind == KINDS[ATTENTION_CHANGED]:
        places.append(("the map of the nearest failure", np.array(failure.theta)))
    thetas = np.array([theta for _, theta in places])
    doubtful = decided_by_rounding(problem, thetas)
    if not doubtful.any():
        return ()
    graph = problem.network.graph
    doubtful &= picked_at(graph, problem.images(thetas).to(graph.device)).cpu().numpy()
    return tuple(
        f"{what[0].upper()}{what[1:]} is decided by rounding: {_WHY}."
        for (what, _), decided in zip(places, doubtful, strict=True)
        if decided
    )
