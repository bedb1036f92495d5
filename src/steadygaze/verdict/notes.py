"""What an answer's reader should know beside the numbers: maps that rounding, or a convention, decides."""

from __future__ import annotations

import numpy as np
import torch

from steadygaze.answer.result import KINDS, Failure
from steadygaze.geometry.kinds import ATTENTION_CHANGED
from steadygaze.network.reading.noise import picked_at
from steadygaze.question.problem import Problem
from steadygaze.verdict.plain import Evaluated

_WHY = (
    "units lie on a breakpoint within single precision, where the original's own rounding, or its "
    "convention, may choose another slope and so another map; here the piece below counts"
)


def notes_of(
    problem: Problem, failure: Failure | None, by_rounding: np.ndarray, there: Evaluated | None = None
) -> tuple[str, ...]:
    """A sentence for the map of the unperturbed image, and one for that of the nearest failure, where on the
    pieces of some units beside a breakpoint another map would be right.

    by_rounding ``(1 + k,)`` says where rounding in single precision may decide on the map: on the unperturbed
    image, and at the failure, if there is one; there what the network makes of them, if that is at hand.
    Units that sum zeros are exactly 0 in every runtime, and say nothing.
    """
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
    return tuple(
        f"{what[0].upper()}{what[1:]} is decided by rounding: {_WHY}."
        for (what, _), decided in zip(places, doubtful, strict=True)
        if decided
    )
