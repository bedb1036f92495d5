"""Rules for a campaign, such as ``attention_robust_accuracy(0.5) >= 0.8``, and what becomes of them.

A rule is kept only if it is *proven*: what is not settled counts against it. It is broken if it would be even
if all that is not settled turned out well. Between the two it is open.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from steadygaze.aggregate.outcomes import ATTENTION, CLASS, Group, Outcomes
from steadygaze.aggregate.rates import Rate, accurate, other_reason, robust
from steadygaze.answer.words import percent
from steadygaze.campaign.record import Status
from steadygaze.errors import SettingError, meant

_FORM = re.compile(
    r"\s*(?P<name>\w+)\s*(?:\(\s*(?P<scale>[^()\s]*)\s*\))?\s*(?P<sign><=|>=|==|<|>)\s*(?P<limit>[^\s%]+)\s*(?P<percent>%?)\s*"
)
_SIGNS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
    "==": operator.eq,
}
# The measures of a group at a scale s. Those of `_COUNTED` take no scale.
_SCALED: Mapping[str, Callable[[Outcomes, float], Rate]] = {
    "class_robust_accuracy": lambda o, s: robust(o, CLASS, s, accuracy=True),
    "attention_robust_accuracy": lambda o, s: robust(o, ATTENTION, s, accuracy=True),
    "class_robust_rate": lambda o, s: robust(o, CLASS, s),
    "attention_robust_rate": lambda o, s: robust(o, ATTENTION, s),
    "other_reason_rate": other_reason,
    "class_undecided_rate": lambda o, s: _settled(robust(o, CLASS, s)),
    "attention_undecided_rate": lambda o, s: _settled(robust(o, ATTENTION, s)),
}
_OF_ATTENTION = frozenset(name for name in _SCALED if not name.startswith("class_"))
_COUNTED: Mapping[str, Callable[[Outcomes], Rate]] = {
    "accuracy": accurate,
    "answered_rate": lambda o: Rate(len(o), int(o.answered.sum()), 0),
    "crashed_rate": lambda o: Rate(len(o), o.status.count(Status.CRASHED), 0),
}
MEASURES = (*_SCALED, *_COUNTED)


class Standing(StrEnum):
    """What became of a rule."""

    KEPT = "kept"
    BROKEN = "broken"
    OPEN = "open"


@dataclass(frozen=True)
class Rule:
    """``name(scale) sign limit``; scale is None for measures that take none."""

    text: str
    name: str
    scale: float | None
    sign: str
    limit: float

    @property
    def of_attention(self) -> bool:
        """Whether it is about attention, and says nothing of cases that were asked about the class alone."""
        return self.name in _OF_ATTENTION

    def measured(self, outcomes: Outcomes) -> Rate:
        """The rate that the rule is about."""
        return (
            _COUNTED[self.name](outcomes) if self.scale is None else _SCALED[self.name](outcomes, self.scale)
        )

    def standing(self, rate: Rate) -> Standing:
        """Kept where it holds whatever the unsettled part turns out to be; broken where it cannot hold."""
        holds = [_SIGNS[self.sign](value, self.limit) for value in (rate.low, rate.high)]
        if all(holds) and (self.sign != "==" or rate.low == rate.high):
            return Standing.KEPT
        within = self.sign == "==" and rate.low <= self.limit <= rate.high
        return Standing.OPEN if any(holds) or within else Standing.BROKEN


@dataclass(frozen=True)
class Finding:
    """A rule in one group. A group about no images keeps no rule: it is open."""

    rule: Rule
    group: Group
    rate: Rate
    standing: Standing

    def sentence(self) -> str:
        """What was measured, of how many images, and how many of those are not settled."""
        rate = self.rate
        if not rate.n:
            return "it is about no image: the true classes are not known, or no case was planned"
        found = f"{percent(rate.low)} ({rate.certain} of {rate.n} images)"
        if rate.unsettled:
            found += f", at most {percent(rate.high)} with the {rate.unsettled} that are not settled"
        return found


def parsed(text: str) -> Rule:
    """The rule that a text says. Raises SettingError, with what is allowed."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise SettingError(
            f"the rule {text!r} cannot be read; write it as attention_robust_accuracy(0.5) >= 0.8, with one "
            f"of {', '.join(_SIGNS)}"
        )
    name, scale = match["name"], match["scale"]
    if name not in MEASURES:
        raise SettingError(f"there is no measure {name!r}{meant(name, MEASURES)}")
    if (name in _SCALED) != (scale is not None):
        wanted = f"needs the scale of the box, {name}(0.5)" if name in _SCALED else "takes no scale"
        raise SettingError(f"the rule {text!r}: {name} {wanted}")
    limit = _number(match["limit"], text) / (100.0 if match["percent"] else 1.0)
    if not 0.0 <= limit <= 1.0:
        raise SettingError(f"the rule {text!r} has the limit {match['limit']}; a rate lies between 0 and 1")
    if scale is None:
        return Rule(text.strip(), name, None, match["sign"], limit)
    at = _number(scale, text)
    if not 0.0 <= at <= 1.0:
        raise SettingError(f"the rule {text!r} asks at the scale {scale}; allowed is 0 to 1, the whole box")
    return Rule(text.strip(), name, at, match["sign"], limit)


def judged(rules: tuple[Rule, ...], groups: Mapping[Group, Outcomes]) -> list[Finding]:
    """Every rule in every group that it is about: one about attention, in those that asked about it.

    Raises SettingError for a rule that is about none of several groups.
    """
    found = []
    for rule in rules:
        own = {g: o for g, o in groups.items() if not rule.of_attention or ATTENTION in o.claims}
        if groups and not own:
            check_asked((rule,), class_alone=True)
        for group, outcomes in own.items():
            rate = rule.measured(outcomes)
            found.append(Finding(rule, group, rate, rule.standing(rate) if rate.n else Standing.OPEN))
    return found


def check_asked(rules: Sequence[Rule], class_alone: bool) -> None:
    """Raise SettingError for a rule about attention where all cases ask about the class alone."""
    for rule in rules:
        if class_alone and rule.of_attention:
            allowed = [name for name in MEASURES if name not in _OF_ATTENTION]
            raise SettingError(
                f"the rule {rule.text!r} is about attention, and all cases ask about the class alone; "
                f"allowed: {', '.join(allowed)}, or a plan with the claim attention"
            )


def overall(findings: Sequence[Finding]) -> Standing:
    """Broken if one is; else open if one is; kept only if all are."""
    standings = {finding.standing for finding in findings}
    for worst in (Standing.BROKEN, Standing.OPEN):
        if worst in standings:
            return worst
    return Standing.KEPT


def _settled(rate: Rate) -> Rate:
    return Rate(rate.n, rate.unsettled, 0)


def _number(given: str, text: str) -> float:
    try:
        value = float(given)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise SettingError(f"the rule {text!r} has {given!r} where a number must stand")
    return value
