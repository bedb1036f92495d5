"""What ten times the time is likely to give, where a limit of time ended the search for the safe scale."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from steadygaze.answer.result import Failure
from steadygaze.geometry.sections import gauge
from steadygaze.question.problem import Problem
from steadygaze.search.dividing import smallest_share
from steadygaze.verdict.findings import Finding, stopped_of
from steadygaze.verdict.reading import NOTHING

_IN_VAIN = (
    "Bounds leave open even the smallest box at 0, of 2^{} of the range: units are exactly on a breakpoint "
    "there, or what rounding adds has grown beyond what is to be proven on its way through the layers. More "
    "time is not likely to give a safe scale{}."
)
_TOO_FEW = "The time did not suffice for a first {} at 0; ten times as much may."
_LOADED = "Starting and loading took {:.2g} s of the time, and {:.2g} s were left for the search. "
_TOO_LARGE = (
    "The time did not suffice for small boxes at 0: bounds leave open {}, and whether "
    "they decide smaller ones, for which ten times as much will do, cannot be told."
)
# Two numbers that differ by less are told as one.
_ALIKE = 1.5
# What is safe is as good as all that can be where a failure is as near as this.
_REACHED = 1.01


def expectation(
    problem: Problem,
    findings: Sequence[Finding],
    scale: float | None,
    failure: Failure | None,
    loading: float = 0.0,
) -> tuple[str, ...]:
    """What to expect of ten times the time, as a sentence, if any.

    Two guesses are told. The number of regions in a box goes with its extent to the power of the number of
    parameters, and so does the time that they take; and as the search went in the second half of its time, it
    may go on. Where bounds fail at 0 itself, no time will do.

    loading: seconds before the search, which a longer run does not need again.
    """
    box, stopped, first = problem.box, stopped_of(findings), 1.0
    late = stopped is not None and stopped.by == "time"
    in_vain = not scale and any(finding.standing.counts.get("boxes_given_up") for finding in findings)
    if scale is None or scale >= 1 or not (late or in_vain):
        return ()
    if failure is not None:
        first = min(1.0, float(gauge(np.array([failure.theta]), -box[:, 0], box[:, 1])[0]))
    if first <= NOTHING:
        return ()
    if in_vain:
        less = "" if problem.class_alone else ", which the class alone may have"
        return (_IN_VAIN.format(round(math.log2(smallest_share(problem))), less),)
    if not scale:
        return (_without_region(findings, loading),)
    searched = sum(finding.seconds for finding in findings)
    times = 10 + 9 * loading / searched if searched else 10.0
    by_count = scale * times ** (1 / len(box))
    low, high = sorted((by_count, scale * (pace_of(findings, times) or by_count / scale)))
    if first <= _REACHED * scale:
        return (f"More time will hardly raise the safe scale: it is at most {first:.3g}.",)
    high = min(high, first)
    if low >= first:
        return (f"Ten times the time is likely to settle the safe scale, which is at most {first:.3g}.",)
    if high <= _ALIKE * low and f"{low:.2g}" == f"{scale:.2g}":
        told = f"Ten times the time is likely to raise the safe scale little from {scale:.2g}"
        return (f"{told}; it is at most {first:.3g}.",)
    to = f"about {low:.2g}" if high <= _ALIKE * low else f"between about {low:.2g} and {high:.2g}"
    return (
        f"In ten times the time the safe scale is likely to grow from {scale:.2g} to {to}; "
        f"it is at most {first:.3g}.",
    )


def _without_region(findings: Sequence[Finding], loading: float) -> str:
    """What is said where nothing is known of 0.

    An exact engine takes the region at 0 as soon as the time for one is there. Bounds may leave open boxes of
    any size: they are told by the smallest at 0 that they did, if they came to judge any.
    """
    searched = sum(finding.seconds for finding in findings)
    began = _LOADED.format(loading, searched) if loading > searched else ""
    counts = [finding.standing.counts for finding in findings]
    told = [own["halvings_at_zero"] for own in counts if own.get("boxes") and "halvings_at_zero" in own]
    if len(told) < len(counts):
        bounds = all(finding.method == "bound" for finding in findings)
        return began + _TOO_FEW.format("box" if bounds else "region")
    return began + _TOO_LARGE.format(
        f"one of 2^-{max(told):.0f} of the range" if max(told) else "the whole box"
    )


def pace_of(findings: Sequence[Finding], times: float) -> float | None:
    """By what factor the safe scale grows in so many times the time, if it goes on as a power of the time.

    Of the search that came farthest, by what the second half of its time gave. None where nothing was
    known by then.
    """
    gone = [finding for finding in findings if finding.way]
    if not gone:
        return None
    farthest = max(gone, key=lambda finding: finding.way[-1][1])
    before = [reached for when, reached in farthest.way if when <= farthest.seconds / 2]
    if not before or before[-1] <= 0:
        return None
    return times ** math.log2(farthest.way[-1][1] / before[-1])
