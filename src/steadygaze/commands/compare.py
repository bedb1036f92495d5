"""``steadygaze compare A [B]``: one model against another, paired by image."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from steadygaze.terminal import printed

SCALES = (0.5, 1.0)


@click.command()
@click.argument("first", metavar="A", type=click.Path(path_type=Path))
@click.argument("second", metavar="[B]", required=False, type=click.Path(path_type=Path))
@click.option("--models", metavar="FIRST,SECOND", help="Two models of A.  [all of A, two by two]")
@click.option(
    "--scale", "scales", metavar="S", multiple=True, type=click.FloatRange(0, 1),
    help="At which part of the box; repeat for several.  [0.5 and 1]",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
def compare(
    first: Path, second: Path | None, models: str | None, scales: tuple[float, ...], as_json: bool
) -> None:
    """Compare two models on the images that both answered: two of one campaign A, or of campaigns A and B.

    A and B are a campaign's PLAN.toml or STORE.sqlite. Of two campaigns the models of the same name are
    compared, or the only one of each. Every number comes with its n, its interval and its test.
    """
    import json

    made = _comparisons(first, second, models, scales or SCALES)
    printed(json.dumps(made, indent=2, default=asdict) if as_json else _words(made))


def _comparisons(
    first: Path, second: Path | None, models: str | None, scales: tuple[float, ...]
) -> list[dict[str, Any]]:
    from steadygaze.aggregate import CLAIMS, compared, grouped
    from steadygaze.aggregate.matching import between, within
    from steadygaze.campaign.planfile import store_of
    from steadygaze.campaign.store import read
    from steadygaze.errors import SettingError

    one = grouped(read(store_of(first)))
    two = one if second is None else grouped(read(store_of(second)))
    named = tuple(models.split(",")) if models else ()
    if named and (len(named) != 2 or second is not None):
        raise SettingError(
            f"--models is {models!r}; it takes two names of models of A, with a comma between, and no B"
        )
    pairs = within(one, named) if second is None else between(one, two)
    return [
        {
            "first": {"campaign": str(first), **a._asdict()},
            "second": {"campaign": str(second or first), **b._asdict()},
            "claim": CLAIMS[claim],
            "scale": scale,
            "terms": a.terms(),
            "found": compared(one[a], two[b], claim, scale),
        }
        for a, b in pairs
        for claim in a.claims
        for scale in scales
    ]


def _words(made: list[dict[str, Any]]) -> str:
    from steadygaze.aggregate.written import comparison_line, reach_line

    lines, heading, claim = [], "", ""
    for one in made:
        a, b = one["first"], one["second"]
        names = [side["model"] for side in (a, b)]
        if a["campaign"] != b["campaign"]:
            names = [f"{side['model']} ({side['campaign']})" for side in (a, b)]
        told = f"{names[0]} against {names[1]}: {a['perturbation']}, {one['terms']}"
        if told != heading:
            heading, claim = told, ""
            lines += ["", told] if lines else [told]
        if one["claim"] != claim:
            claim = one["claim"]
            lines.append(f"  {reach_line(one['found'], claim)}")
        lines.append(f"  {comparison_line(one['found'], claim, one['scale'])}")
    return "\n".join(lines)
