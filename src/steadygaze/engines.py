"""The searches by their names, and what may be asked of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from steadygaze.errors import SettingError
from steadygaze.problem import Problem
from steadygaze.search.base import AbstractSearch, Options
from steadygaze.search.boundary import Boundary
from steadygaze.search.branch_and_bound import BranchAndBound
from steadygaze.search.breadth_first import BreadthFirst
from steadygaze.search.nearest import Nearest
from steadygaze.search.sweep import Sweep

METHODS = ("auto", "sweep", "bfs", "gbs", "nearest", "bound")
NORMS = ("linf", "l2")


def _bfs(problem: Problem, options: Options) -> AbstractSearch:
    if options.reachable:
        return Boundary(problem, options, outward=True)
    return BreadthFirst(problem, options)


_SEARCHES: Mapping[str, Callable[[Problem, Options], AbstractSearch]] = {
    "sweep": Sweep,
    "bfs": _bfs,
    "gbs": Boundary,
    "nearest": Nearest,
    "bound": BranchAndBound,
}


def search_by_name(name: str, problem: Problem, options: Options) -> AbstractSearch:
    """The search, ready to be stepped."""
    return _SEARCHES[name](problem, options)


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
