"""What curves along one parameter go through: plain evaluation where cells end, as often as it is worth."""

from __future__ import annotations

import numpy as np

from steadygaze.question.problem import Problem

# So many products may be made for a curve (see `Graph.effort`), and at once; but so many points are looked at
# in any case. Of large networks with many cells they are some of the ends; between them curves are straight.
_PRODUCTS, _AT_ONCE, _LEAST = 10**10, 2 * 10**9, 5
# Passes that a point takes whose map is asked for, too.
_PASSES = 3


def along(problem: Problem, edges: np.ndarray, varies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Class gap and inconsistency ``(M, 2)`` at both ends ``(M, 2)`` of cells along the parameter.

    varies ``(M,)`` tells where the inconsistency is asked for; if nowhere, all of it is nan.
    """
    places = np.unique(edges)
    asked = bool(varies.any())
    effort = problem.graph.effort * (_PASSES if asked else 1)
    most = max(_LEAST, _PRODUCTS // effort)
    if len(places) > most:
        places = places[np.linspace(0, len(places) - 1, most).round().astype(int)]
    size = int(np.clip(_AT_ONCE // effort, 1, len(places)))
    blocks = [places[first : first + size, None] for first in range(0, len(places), size)]
    if asked:
        points = [problem.at(block) for block in blocks]
        gap = np.concatenate([point.gap for point in points])
        drift = np.concatenate([point.inconsistency for point in points])
    else:
        gap = np.concatenate([problem.gaps_at(block) for block in blocks])
        drift = np.full(len(places), np.nan)
    return np.interp(edges, places, gap), np.interp(edges, places, drift)
