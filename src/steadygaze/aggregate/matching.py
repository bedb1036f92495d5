"""Which groups are compared with which: those that were asked the same, of two campaigns or of two models."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from steadygaze.aggregate.outcomes import Group, Outcomes
from steadygaze.errors import SettingError

Groups = Mapping[Group, Outcomes]


def within(groups: Groups, models: tuple[str, ...] = ()) -> list[tuple[Group, Group]]:
    """Every two models of one campaign, or the two that are named, on each question that both were asked.

    Raises SettingError where there is only one model, or a name is none of them.
    """
    known = tuple(dict.fromkeys(group.model for group in groups))
    for name in models:
        if name not in known:
            raise SettingError(f"there is no model {name!r} in the campaign; allowed: {', '.join(known)}")
    if len(known) < 2:
        raise SettingError(
            f"the campaign has one model, {', '.join(known)}; name a second campaign to compare it with"
        )
    chosen = models or known
    return [
        (first, second)
        for one, two in combinations(chosen, 2)
        for first in groups
        for second in groups
        if (first.model, second.model) == (one, two) and first.question == second.question
    ]


def between(first: Groups, second: Groups) -> list[tuple[Group, Group]]:
    """The same model of two campaigns, on each question of both; if each has one model, these two.

    Raises SettingError where nothing in one was asked in the other.
    """
    models = [{group.model for group in groups} for groups in (first, second)]
    alone = all(len(names) == 1 for names in models)
    found = [
        (one, two)
        for one in first
        for two in second
        if one.question == two.question and (alone or one.model == two.model)
    ]
    if not found:
        raise SettingError(
            "the two campaigns have no question in common: the same claim, perturbations, threshold and "
            f"saliency, asked of the same model ({', '.join(sorted(models[0]))}; "
            f"{', '.join(sorted(models[1]))}) or of one model each"
        )
    return found
