"""Whether what an operator becomes is exact: said where its rule stands in the tables of the readers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

AnyRule: TypeAlias = Callable[[Any], Any]


class Sort(Enum):
    """How the layers that an operator becomes are verified."""

    EXACT = "exact"
    MIXED = "exact, but of several values computed from the image by bounds"
    STEPS = "exact, where what is made of them does not jump"
    BOUNDS = "by bounds"


@dataclass(frozen=True)
class Marked:
    """A rule whose layers are not piecewise linear, or not always."""

    rule: AnyRule
    sort: Sort

    def __call__(self, call: Any) -> Any:
        """What the rule makes of a call."""
        return self.rule(call)


def by_bounds(rule: AnyRule) -> Marked:
    """The rule of an operator that is smooth."""
    return Marked(rule, Sort.BOUNDS)


def mixed(rule: AnyRule) -> Marked:
    """The rule of an operator that is affine with constants, and smooth where computed values meet."""
    return Marked(rule, Sort.MIXED)


def by_steps(rule: AnyRule) -> Marked:
    """The rule of an operator that compares or chooses, which is a layer once it does not jump."""
    return Marked(rule, Sort.STEPS)


def sort_of(rule: AnyRule) -> Sort:
    """How the layers of a rule are verified."""
    return rule.sort if isinstance(rule, Marked) else Sort.EXACT
