"""The searches by their names, and what may be asked of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from steadygaze.deadline import Deadline
from steadygaze.errors import SettingError
from steadygaze.geometry.half_widths import half_widths
from steadygaze.question.case import METHODS, NORMS
from steadygaze.question.problem import Problem
from steadygaze.search.base import AbstractSearch, Options
from steadygaze.search.boundary import Boundary
from steadygaze.search.boxes import DEAR, SLOW
from steadygaze.search.branch_and_bound import BranchAndBound
from steadygaze.search.breadth_first import BreadthFirst
from steadygaze.search.course import Course
from steadygaze.search.nearest import Nearest
from steadygaze.search.outward import Outward
from steadygaze.search.sweep import Sweep

# With more parameters regions have too many vertices, and are kept as half-spaces (docs/searches.md has the
# figures).
MOST_CORNERED = 7


def _bfs(problem: Problem, options: Options) -> AbstractSearch:
    if options.reachable:
        return Boundary(problem, options, outward=True)
    if len(problem.box) > MOST_CORNERED:
        return Outward(problem, options, everything=True)
    return BreadthFirst(problem, options)


def _nearest(problem: Problem, options: Options) -> AbstractSearch:
    if len(problem.box) > MOST_CORNERED:
        return Outward(problem, options)
    return Nearest(problem, options)


# From so many parameters on, auto lets bounds prune for the exact engines.
_MANY = 3
# Under a limit of time this share of what the map leaves goes outwards then, and the rest to bounds.
_OUTWARDS = 0.6
# With two, and a network whose regions take long, bounds have all but that part of the time that going
# outwards through this share of the box would take: a box of theirs holds thousands of regions.
_NOT_EVEN, _LITTLE = 1 / 32, 0.15
# Products of the network that a thread makes in a second, at best.
_RATE = 1e10

_SEARCHES: Mapping[str, Callable[[Problem, Options], AbstractSearch]] = {
    "sweep": Sweep,
    "bfs": _bfs,
    "gbs": Boundary,
    "nearest": _nearest,
    "bound": BranchAndBound,
}


def search_by_name(name: str, problem: Problem, options: Options) -> AbstractSearch:
    """The search, ready to be stepped."""
    return _SEARCHES[name](problem, options)


def searches_for(problem: Problem, deadline: Deadline, threads: int) -> tuple[tuple[str, float], ...]:
    """The searches that `auto` makes in turn, each with its share of what time and regions are left.

    How long the complete map takes is learnt from one pass at 0, before any of the time is spent. Where that
    is too much, the time goes outwards from 0 instead; where regions take long it goes there first even if
    the map may fit, and to nothing else before that is done: an unfinished map knows less around 0 than a
    shorter search there, and bounds of such a network take seconds a box.

    With more time no less may be known around 0 than with less. So what goes outwards never has less of a
    longer time: the map, which goes before it where it fits, has what is left beyond the time that it needs,
    and no more than half.

    Raises Expired where the deadline passes before that pass is done.
    """
    # Bounds pay where there are many regions to a box: with three and more parameters.
    many, left = len(problem.box) >= _MANY, deadline.left
    if left == math.inf:
        return (("sweep", 0.5), *((("bound", 0.5),) if many else ()), ("nearest", 0.5), ("gbs", 1.0))
    course = Course(problem, half_widths(problem.box), "linf", deadline)
    pace = _RATE * threads / course.region_effort
    needed = course.regions_within(course.farthest) / pace
    if len(problem.box) == 2 and DEAR < problem.graph.effort <= SLOW:
        within = course.regions_within(_NOT_EVEN * course.farthest) / pace
        bounded = (1 - _LITTLE) * min(within, left) / left if left else 0.0
        if needed >= left:
            return (("nearest", 1 - bounded), ("bound", 1.0), ("gbs", 1.0))
        whole = min(1 - needed / left, 0.5)
        return (("sweep", whole), ("bound", bounded / (1 - whole)), ("nearest", 1.0), ("gbs", 1.0))
    if course.slow:
        whole = (("sweep", 0.5 if many else 1.0),) if needed <= left else ()
        return (("nearest", 1.0), *whole, *((("bound", 0.5),) if many else ()), ("gbs", 1.0))
    if needed >= left:
        bounds = (("nearest", _OUTWARDS), ("bound", 0.5)) if many else (("nearest", 1.0),)
        return (*bounds, ("gbs", 1.0))
    bounds = (("bound", 1 - _OUTWARDS),) if many else ()
    return (("sweep", min(1 - needed / left, 0.5)), *bounds, ("nearest", 1.0), ("gbs", 1.0))


def check_method(method: str, options: Options) -> None:
    """Raise SettingError for a method that there is not, or an option that it does not take."""
    if options.undecided is not None and not 0 <= options.undecided < 1:
        raise SettingError(
            f"the undecided share is {options.undecided}; it must be at least 0 and below 1, such as 0.01"
        )
    if method not in METHODS:
        raise SettingError(f"there is no method {method!r}; allowed: {', '.join(METHODS)}")
    if options.norm not in NORMS:
        raise SettingError(f"the norm is {options.norm!r}; allowed: {', '.join(NORMS)}")
    for asked, name, takers in (
        (options.examine, "prove-interior", ("gbs", "auto")),
        (options.reachable, "reachable", ("bfs",)),
        (options.norm != "linf", "norm l2", ("nearest", "auto")),
        (options.undecided is not None, "undecided", ("bound", "auto")),
        (not options.handover, "no-handover", ("bound", "auto")),
    ):
        if asked and method not in takers:
            raise SettingError(
                f"{name} is for the method {' or '.join(takers)}, and the method is {method}; "
                f"leave it out or choose --method {takers[0]}"
            )


def check_certificate(method: str, parameters: int) -> None:
    """Raise SettingError, before any work, where a method will have no cells for a certificate to hold."""
    if parameters > MOST_CORNERED and method != "bound":
        raise SettingError(
            f"there are {parameters} parameters, and a certificate holds cells with corners, which {method} "
            f"has for at most {MOST_CORNERED}; fix some of the parameters, use --method bound, or leave the "
            "certificate out"
        )


def auto_bounds(problem: Problem) -> bool:
    """Whether no exact engine can take the question, so that `auto` takes bounds alone."""
    return not problem.is_exact or (len(problem.box) > MOST_CORNERED and problem.follows_maps)


def check_parameters(method: str, problem: Problem, options: Options) -> None:
    """Raise SettingError for a method that cannot take so many parameters."""
    n = len(problem.box)
    if n <= MOST_CORNERED or method == "bound" or (method == "auto" and auto_bounds(problem)):
        return
    if problem.follows_maps:
        raise SettingError(
            f"there are {n} parameters, and maps that move are judged on the corners of regions, which are "
            f"too many for more than {MOST_CORNERED}; fix some of the parameters, or use --method bound"
        )
    if method in ("sweep", "gbs") or options.reachable:
        asked = f"{method} with reachable" if options.reachable else method
        raise SettingError(
            f"there are {n} parameters, and {asked} takes at most {MOST_CORNERED}, for it works on the "
            "corners of regions, which double with each; fix some of the parameters, or use --method nearest "
            "for the nearest failure, the radius and the safe scale"
        )
