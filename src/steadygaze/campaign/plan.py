"""A plan: the cases of a campaign, each with the tags that its report will group it by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from steadygaze.campaign.content import Digests, content_key
from steadygaze.errors import SettingError, SteadygazeError, UsageError
from steadygaze.perturbation.notation import chain_of
from steadygaze.question.case import Case
from steadygaze.verdict.budget import Limits
from steadygaze.verdict.engines import METHODS

Tag = str | int | float | bool | None


@dataclass(frozen=True)
class PlannedCase:
    """A question (model, image, perturbation, settings, method, limits) and what its campaign calls it.

    Tags are names and plain values for reports, such as ``{"network": "small", "width": 0.5}``. They are no
    part of the question: changing them asks for no new work.
    """

    case: Case
    tags: Mapping[str, Tag] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The cases of a campaign, in the order in which they are begun.

    Raises SettingError for a plan without cases, a tag that is no plain value, a perturbation or limit that
    cannot be used, or an unknown method; the sentence gives the number of the case, counted from 0.
    """

    name: str
    cases: tuple[PlannedCase, ...]

    def __post_init__(self) -> None:
        if not self.cases:
            raise SettingError(f"the plan {self.name!r} has no cases; give it at least one")
        for number, planned in enumerate(self.cases):
            try:
                _check(planned)
            except SteadygazeError as error:
                raise SettingError(f"case {number} of the plan {self.name!r}: {error}") from error

    def keyed(self) -> dict[str, PlannedCase]:
        """The cases by content key, in their order.

        Raises SettingError where a model or an image cannot be read, or where two cases ask the same: one
        record would have to stand for both.
        """
        digests, found, numbers = Digests(), dict[str, PlannedCase](), dict[str, int]()
        for number, planned in enumerate(self.cases):
            try:
                key = content_key(planned.case, digests)
            except UsageError as error:
                raise SettingError(f"case {number} of the plan {self.name!r}: {error}") from error
            if key in found:
                raise SettingError(
                    f"cases {numbers[key]} and {number} of the plan {self.name!r} ask the same of the same "
                    "model and image; each case must differ in content, not only in its tags: leave one out"
                )
            found[key], numbers[key] = planned, number
        return found


def _check(planned: PlannedCase) -> None:
    case = planned.case
    chain_of(case.perturb)
    Limits(case.time_limit, case.memory_limit, case.regions_limit)
    if case.method not in METHODS:
        raise SettingError(f"there is no method {case.method!r}; allowed: {', '.join(METHODS)}")
    for name, value in planned.tags.items():
        plain = value is None or isinstance(value, str | bool | int | float)
        if not isinstance(name, str) or not plain or (isinstance(value, float) and not math.isfinite(value)):
            raise SettingError(
                f"the tag {name!r} is {value!r}; a tag is a name with a text, a finite number, true, false "
                "or none: shorten it to one of these"
            )
