"""What searches found, read and checked: first by geometry alone, then by the network.

What is going to be asked of the network is known by then: the points at which patterns must be known, those
where the original is tried for a witness, and the first at which the answer is held against plain evaluation.
Of a small network one pass takes them all, which then reads its weights once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steadygaze.answer.result import Radius
from steadygaze.deadline import Deadline
from steadygaze.question.problem import Problem
from steadygaze.verdict.checks import audit, check_patterns, check_volume, drawn_for_patterns
from steadygaze.verdict.findings import (
    Finding,
    around_of,
    ended_inward,
    nearest_witness,
    radius_of,
    scale_of,
    widened,
)
from steadygaze.verdict.held import Claims, Prepared, prepared
from steadygaze.verdict.reading import Around
from steadygaze.verdict.witness import Tries, Witness

# Up to so many products for one image (see `Graph.effort`) the points of all checks are evaluated together:
# of larger networks that gains little, takes memory, and leaves less of a limit of time to the witness.
_TOGETHER = 4 * 10**6
# An audit may take this share of the time that is left once all is read: the answer is held against the
# network after it.
_AUDITED = 0.8


@dataclass(frozen=True)
class Review:
    """What an answer tells.

    Attributes:
        around, scale, radius: the robust part around 0, the safe scale, how far from 0 all is robust.
        witness: the nearest failure that replays.
        audited: how many points of the audit the map decides.
        ahead: what the answer is going to be held against, if it is prepared.
    """

    around: Around
    scale: float | None
    radius: Radius | None
    witness: Witness | None
    audited: int
    ahead: Prepared | None


def reviewed(
    problem: Problem, findings: Sequence[Finding], norm: str, audit_points: int, late: Deadline
) -> Review:
    """Read what was found, and check it.

    Args:
        problem: the question.
        findings: of the searches; the first is what the answer's map is.
        norm: how distance is measured, "linf" or "l2".
        audit_points: to compare with the original.
        late: when to end; what is not read by then is not told.

    Raises InternalCheckError if a check fails.
    """
    maps = [finding.map for finding in findings]
    for map_ in maps:
        check_volume(problem, map_)
    scale = scale_of(findings, problem.box, late)
    around = ended_inward(around_of(problem, findings, late), problem.box)
    radius = radius_of(findings, problem.box, norm, scale)
    if not maps[0].inner:
        around = widened(around, scale, radius, problem.box)
    tries = [Tries(problem, map_, norm, late) for map_ in maps]
    drawn = [drawn_for_patterns(problem, map_) for map_ in maps]
    ahead = None
    if problem.graph.effort <= _TOGETHER:
        failing = np.concatenate([one.ahead() for one in tries])
        claims = Claims(scale, around.origin, radius, None)
        ahead = prepared(problem, maps, claims, failing, np.concatenate(drawn))
    plain = None if ahead is None else ahead.plain
    for map_, thetas in zip(maps, drawn, strict=True):
        check_patterns(problem, map_, thetas, late, plain)
    witness = nearest_witness(problem, findings, norm, late, tries, plain)
    audited = audit(problem, maps[0], audit_points, late.part(_AUDITED))
    return Review(around, scale, radius, witness, audited, ahead)
