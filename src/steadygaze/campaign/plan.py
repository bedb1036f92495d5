"""A plan: the cases of a campaign, each with the tags that its report will group it by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from steadygaze.campaign.content import Digests, content_key
from steadygaze.campaign.crew import KEEP
from steadygaze.errors import SettingError, SteadygazeError, UsageError
from steadygaze.perturbation.notation import chain_of
from steadygaze.question.case import METHODS, Case
from steadygaze.question.lengths import NOMINAL, in_pixels
from steadygaze.question.limits import Limits

Tag = str | int | float | bool | None


@dataclass(frozen=True)
class PlannedCase:
    """A question (model, image, perturbation, settings, method, limits) and what its campaign calls it.

    Attributes:
        case: the question.
        tags: names and plain values for reports, such as `{"network": "small", "width": 0.5}`; no part of
            the question: changing them asks for no new work.
        keep: of which answers the folder is kept beside the store: `"none"`, `"failing"` (all that is not
            robust) or `"all"`.
    """

    case: Case
    tags: Mapping[str, Tag] = field(default_factory=dict)
    keep: str = "none"


@dataclass(frozen=True)
class Plan:
    """The cases of a campaign, in the order in which they are begun.

    Attributes:
        name: what it is called.
        cases: in the order in which they are begun.
        document: the plan as it was written down, for those who read the store; empty where it was not.

    Raises:
        SettingError: for a plan without cases, a tag that is no plain value, a perturbation, size or limit
            that cannot be used, or an unknown method; the sentence gives the number of the case, counted
            from 0.
    """

    name: str
    cases: tuple[PlannedCase, ...]
    document: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.cases:
            raise SettingError(f"the plan {self.name!r} has no cases; give it at least one")
        seen = set[tuple[str, ...]]()
        for number, planned in enumerate(self.cases):
            try:
                _check(planned, seen)
            except SteadygazeError as error:
                raise SettingError(f"case {number} of the plan {self.name!r}: {error}") from error

    def keys(self) -> list[str]:
        """The content keys of the cases, in their order; cases that ask the same have the same.

        Raises SettingError where a model or an array of a perturbation cannot be read. An image that cannot
        is found out by its case.
        """
        digests, keys = Digests(), list[str]()
        for number, planned in enumerate(self.cases):
            try:
                keys.append(content_key(planned.case, digests))
            except UsageError as error:
                raise SettingError(f"case {number} of the plan {self.name!r}: {error}") from error
        return keys


def _check(planned: PlannedCase, seen: set[tuple[str, ...]]) -> None:
    """``seen``: the chains that were read already."""
    case = planned.case
    if case.perturb not in seen:
        chain_of(in_pixels(case.perturb, NOMINAL))
        seen.add(case.perturb)
    case.framing()
    Limits(case.time_limit, case.memory_limit, case.regions_limit)
    if case.method not in METHODS:
        raise SettingError(f"there is no method {case.method!r}; allowed: {', '.join(METHODS)}")
    if planned.keep not in KEEP:
        raise SettingError(f"keep is {planned.keep!r}; allowed: {', '.join(KEEP)}")
    for name, value in planned.tags.items():
        plain = value is None or isinstance(value, str | bool | int | float)
        if not isinstance(name, str) or not plain or (isinstance(value, float) and not math.isfinite(value)):
            raise SettingError(
                f"the tag {name!r} is {value!r}; a tag is a name with a text, a finite number, true, false "
                "or none: shorten it to one of these"
            )
