"""What searches found, and what it amounts to: verdict, robust part, safe scale, nearest failure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from steadygaze.answer.result import Failure, Origin, Radius, Verdict
from steadygaze.deadline import NEVER, Deadline, Expired
from steadygaze.geometry.cells import Cells, concatenate
from steadygaze.geometry.half_widths import distances, half_widths
from steadygaze.geometry.kinds import ATTENTION_CHANGED, CLASS_CHANGED, ROBUST, UNDECIDED
from steadygaze.geometry.sections import by_euclidean, by_gauge
from steadygaze.question.problem import Problem
from steadygaze.search.base import CellMap, Enclosed, Standing
from steadygaze.verdict.plain import PlainEvaluation
from steadygaze.verdict.reading import Around, around_origin, cells_at, safe_ranges, safe_scale
from steadygaze.verdict.touching import drawn_in
from steadygaze.verdict.witness import Tries, Witness, find_witness

# What is told to be robust ends this share of the box nearer to 0 than where the map was seen to end, which
# rounding leaves some 1e-15 of the box off: at the end told, the network is robust in plain evaluation, too.
_INWARD = 2.0**-40


@dataclass(frozen=True)
class Stopped:
    """What ended a search early: "time", "memory", "regions" or "interrupt", and the same in words."""

    by: str
    words: str


@dataclass(frozen=True)
class Finding:
    """What one search leaves behind.

    Attributes:
        method, claim: of the search. map: the judged cells. enclosed: the robust part around 0, if the search
            knows it otherwise than from the map.
        stopped: what ended it early, None if it came to its end.
        way: seconds since it began, and how far from 0 all was known to be robust by then, whenever that
            rose.
        seconds: that it took. turn: how many searches had ended before it began.
    """

    method: str
    claim: str
    map: CellMap
    enclosed: Enclosed | None
    standing: Standing
    stopped: Stopped | None
    way: tuple[tuple[float, float], ...] = ()
    seconds: float = 0.0
    turn: int = 0

    @property
    def failing(self) -> bool:
        """Whether some cell fails."""
        return bool(((self.map.kind == CLASS_CHANGED) | (self.map.kind == ATTENTION_CHANGED)).any())

    @property
    def complete(self) -> bool:
        """Whether every part of the box is decided, so that nothing is left that a limit could have ended."""
        return self.map.rest == 0 and not (self.map.kind == UNDECIDED).any()

    @property
    def whole(self) -> bool:
        """Whether the whole box is judged, and robust."""
        return self.complete and bool((self.map.kind == ROBUST).all()) and self.map.ties is None


_WHOLE_BY_REGIONS = "every activation region in the box keeps {}, and the regions cover the box"
_WHOLE = {"bound": "bounds prove that the network keeps {} everywhere in boxes that cover the whole box"}


def last_of(findings: Sequence[Finding]) -> Finding:
    """That of the search that ran last, with all that was left of the limits, wherever it stands."""
    return max(findings, key=lambda finding: finding.turn)


def stopped_of(findings: Sequence[Finding]) -> Stopped | None:
    """What ended the run early; None where a search came to its end after all, or decided the whole box."""
    return None if any(finding.complete for finding in findings) else last_of(findings).stopped


def claim_of(findings: Sequence[Finding]) -> str:
    """What the answer speaks of: the claim of its search; of several, of the last that left nothing to do."""
    ended = [finding for finding in findings if finding.stopped is None or finding.complete]
    return last_of(ended).claim if ended else findings[0].claim


def scale_of(findings: Sequence[Finding], box: np.ndarray, deadline: Deadline = NEVER) -> float | None:
    """The largest safe scale that one of the findings proves; None where no inside was examined.

    Small maps are read first: what they know is told whatever time the others take.
    """
    known = [
        (safe_scale(finding.map, box, deadline), finding.map.ties is None)
        for finding in sorted(findings, key=_size)
        if finding.complete
        or finding.claim != "outer boundary"
        or (finding.enclosed is not None and finding.enclosed.examined)
    ]
    # Ties may lie in the border of the box itself, and everything around be robust.
    ends = (scale if scale >= 1 and free else max(scale - _INWARD, 0.0) for scale, free in known)
    return max(ends, default=None)


def radius_of(
    findings: Sequence[Finding], box: np.ndarray, norm: str, scale: float | None = None
) -> Radius | None:
    """How far from 0 all is robust, where a search went by distance; at most to the farthest corner.

    Ties end it, too. It is at least what the safe ``scale`` tells, which may be of another search.
    """
    corner, half = np.abs(box).max(axis=1), half_widths(box)
    values = [f.standing.radius for f in findings if f.standing.radius is not None]
    if not values:
        return None
    farthest = float(distances(corner[None], half, norm)[0])
    ends = [max(*values, _within(scale or 0.0, box, half, farthest)), farthest]
    if (ties := ties_of(findings)) is not None:
        far = by_euclidean(ties, half) if norm == "l2" else by_gauge(ties, half, half)
        ends.append(next(far).distance)
    whole = ties is None and min(ends) >= farthest
    return Radius(norm, farthest if whole else max(min(ends) - _INWARD, 0.0))


def _within(scale: float, box: np.ndarray, half: np.ndarray, farthest: float) -> float:
    """How far from 0, by either norm, all of the box lies in it shrunk to ``scale``."""
    if scale >= 1:
        return farthest
    ends = np.abs(box) / half[:, None]
    return float(scale * ends[ends > 0].min())


def ties_of(findings: Sequence[Finding]) -> Cells | None:
    """Where classes tie on robust cells of any finding; None for nowhere."""
    known = [finding.map.ties for finding in findings if finding.map.ties is not None]
    return concatenate(known) if known else None


def around_of(problem: Problem, findings: Sequence[Finding], deadline: Deadline = NEVER) -> Around:
    """The robust part around 0: as its boundary tells it, else as the first map does; without ties.

    Its ranges are as wide as those that any of the maps proves.
    """
    also = sorted((f for f in findings[1:] if f.claim != "outer boundary" and not f.map.inner), key=_size)
    ranges = [_ranges_of(problem, finding.map, deadline)[1] for finding in also]
    around, ties = _around_of(problem, findings, deadline), ties_of(findings)
    for more in filter(None, ranges):
        around = _with_ranges(around, more)
    return around if ties is None else drawn_in(around, ties, problem.box, deadline)


def _size(finding: Finding) -> int:
    return finding.map.cells.count


def _ranges_of(
    problem: Problem, map_: CellMap, deadline: Deadline
) -> tuple[np.ndarray, tuple[tuple[float, float], ...]]:
    """The numbers of the cells at 0, and the safe ranges that the map proves; none where 0 is not robust."""
    try:
        here = cells_at(map_, np.zeros(len(problem.box)), problem.tolerance, deadline)
        begins = bool((map_.kind[here] == ROBUST).all()) and len(here) > 0
        return here, safe_ranges(map_, problem.box, deadline) if begins else ()
    except Expired:
        return np.zeros(0, np.int64), ()


def _around_of(problem: Problem, findings: Sequence[Finding], deadline: Deadline) -> Around:
    first = findings[0]
    told = next((finding for finding in findings if finding.enclosed is not None), None)
    if first.map.inner:
        return Around(np.zeros(0, np.int64), None)
    if told is None:
        if first.map.rest == 0 or first.claim == "whole box":
            return around_origin(first.map, problem.box, problem.tolerance, deadline)
        here, ranges = _ranges_of(problem, first.map, deadline)
        known = Origin(None, ranges, None, None, "not examined", complete=False) if np.any(ranges) else None
        return Around(here[first.map.kind[here] == ROBUST], known)
    enclosed = told.enclosed
    assert enclosed is not None
    cells = enclosed.cells
    if told is not first:
        cells = around_origin(first.map, problem.box, problem.tolerance, deadline).cells
    origin = Origin(
        share=1.0 if first.whole else min(max(enclosed.share, 0.0), 1.0),
        ranges=tuple((float(low), float(high)) for low, high in enclosed.ranges),
        outer_boundary=enclosed.outline or None,
        holes=enclosed.holes,
        interior="examined" if enclosed.examined else "not examined",
        complete=enclosed.boundary is None or "unexamined" not in enclosed.boundary.kind,
    )
    return Around(cells, origin, enclosed.boundary)


def widened(around: Around, scale: float | None, radius: Radius | None, box: np.ndarray) -> Around:
    """With ranges at least as wide as scale and radius know to be safe, whichever search they are of.

    They are given, too, where the time was over before they were read off a map.
    """
    half, reach = half_widths(box), radius.value if radius is not None else 0.0
    safe = np.stack(
        [
            np.minimum((scale or 0.0) * box[:, 0], np.maximum(-reach * half, box[:, 0])),
            np.maximum((scale or 0.0) * box[:, 1], np.minimum(reach * half, box[:, 1])),
        ],
        axis=1,
    )
    return _with_ranges(around, safe.tolist()) if safe.any() else around


def _with_ranges(around: Around, safe: Sequence[Sequence[float]]) -> Around:
    """With ranges at least as wide as these, which are proven safe."""
    origin = around.origin or Origin(None, ((0.0, 0.0),) * len(safe), None, None, "not examined", False)
    ranges = tuple(
        (min(low, first) + 0.0, max(high, last))
        for (low, high), (first, last) in zip(origin.ranges, safe, strict=True)
    )
    if around.origin is not None and ranges == origin.ranges:
        return around
    return replace(around, origin=replace(origin, ranges=ranges))


def ended_inward(around: Around, box: np.ndarray) -> Around:
    """With ranges whose ends inside the box are drawn in by rounding."""
    if around.origin is None:
        return around
    ranges = tuple(
        (
            low if low <= first else min(low + _INWARD * (last - first), 0.0),
            high if high >= last else max(high - _INWARD * (last - first), 0.0),
        )
        for (low, high), (first, last) in zip(around.origin.ranges, box.tolist(), strict=True)
    )
    if ranges == around.origin.ranges:
        return around
    return replace(around, origin=replace(around.origin, ranges=ranges))


def nearest_witness(
    problem: Problem,
    findings: Sequence[Finding],
    norm: str,
    deadline: Deadline,
    tries: Sequence[Tries],
    plain: PlainEvaluation | None,
) -> Witness | None:
    """The nearest failure that replays, of all findings; the others as for `find_witness`, tries of each."""
    found = [
        find_witness(problem, finding.map, norm, deadline, own, plain)
        for finding, own in zip(findings, tries, strict=True)
    ]
    return min((w for w in found if w is not None), key=lambda w: w.failure.distance, default=None)


def verdict_of(problem: Problem, findings: Sequence[Finding], failure: Failure | None) -> tuple[Verdict, str]:
    """The verdict over the box, and why, in one sentence."""
    last, stopped = last_of(findings), stopped_of(findings)
    if failure is not None:
        return (
            Verdict.VIOLATED,
            f"a failing point was found and replays in the original model{_left(problem, findings)}",
        )
    if any(finding.failing for finding in findings):
        return (
            Verdict.UNKNOWN,
            "the map has failing cells, but in none of them does the original model fail in its own "
            "precision",
        )
    whole = next((finding for finding in findings if finding.whole), None)
    if whole is not None:
        kept = "the class" if problem.class_alone else "the class and the attention"
        return Verdict.ROBUST, _WHOLE.get(whole.method, _WHOLE_BY_REGIONS).format(kept)
    if stopped:
        return Verdict.UNKNOWN, f"no failing point was found before {stopped.words} ended the run"
    if last.enclosed is not None and not last.enclosed.examined:
        return (
            Verdict.UNKNOWN,
            "no failing point was found on the outer boundary of the robust part around 0, but its interior "
            "was not examined (prove-interior examines it)",
        )
    if last.method == "bound":
        return (Verdict.UNKNOWN, "bounds leave some boxes undecided, and no failing point was found in them")
    if (last.map.kind != ROBUST).any():
        return (
            Verdict.UNKNOWN,
            "some cells lie within the numerical tolerance of the threshold or of the class boundary",
        )
    return (
        Verdict.UNKNOWN,
        "no cell fails, but at a point the class gap, or a map, vanishes within the numerical tolerance",
    )


def _left(problem: Problem, findings: Sequence[Finding]) -> str:
    """What the searches left undecided, as the end of a sentence."""
    if any(finding.complete for finding in findings):
        return ""
    finding = last_of(findings)
    if finding.stopped:
        return f"; the run was ended by {finding.stopped.words}, the rest of the box is undecided"
    if not finding.map.rest:
        return _open(problem, finding)
    if finding.claim == "radius":
        return "; what lies farther from 0 was not examined"
    inside = finding.enclosed is None or not finding.enclosed.examined
    return f"; only the {'outer boundary of the ' if inside else ''}robust part around 0 was examined"


def _open(problem: Problem, finding: Finding) -> str:
    """Why a search that came to its end left cells undecided, as the end of a sentence, if it is a share."""
    share = float(finding.map.volume[finding.map.kind == UNDECIDED].sum()) / problem.volume
    if share < problem.tolerance.remainder:
        return ""
    if finding.method == "bound":
        return f"; bounds leave {share:.2%} of the box undecided"
    return (
        f"; {share:.2%} of the box is undecided, where a class gap, the inconsistency or a map lies within "
        "the numerical tolerance"
    )
