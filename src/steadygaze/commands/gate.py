"""``steadygaze gate plan.toml``: run a campaign and hold it against the rules that its plan states.

Exit codes: 0 every rule is kept, 10 a rule is broken, 20 a rule is open (what is not settled could keep or
break it), 130 interrupted; 2 and 1 as everywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from steadygaze.commands.crews import crew_of, crew_options
from steadygaze.terminal import printed

EXIT_CODES = {"kept": 0, "broken": 10, "open": 20}
INTERRUPTED = 130


@click.command()
@click.argument("plan", metavar="PLAN.toml", type=click.Path(path_type=Path))
@click.option("--no-run", is_flag=True, help="Judge what the store holds, and run nothing.")
@crew_options
@click.option("--junit", metavar="FILE", type=click.Path(path_type=Path), help="Write JUnit XML.")
@click.option(
    "--summary", metavar="FILE", type=click.Path(path_type=Path),
    help="Append a paragraph of Markdown, such as to $GITHUB_STEP_SUMMARY.",
)  # fmt: skip
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
def gate(
    plan: Path,
    no_run: bool,
    workers: int | None,
    cluster: str | None,
    junit: Path | None,
    summary: Path | None,
    quiet: bool,
) -> int:
    """Hold a campaign against the rules under [gate] in its plan; what is missing is run first.

    \b
    [gate]
    rules = ["attention_robust_accuracy(0.5) >= 0.8", "crashed_rate == 0"]

    A rule is kept only if it is proven: what is not settled counts against it.
    """
    from steadygaze.aggregate import grouped, judged
    from steadygaze.aggregate.rules import check_asked, overall
    from steadygaze.aggregate.written import gate_junit, gate_lines, gate_markdown
    from steadygaze.campaign.planfile import read_plan, store_of
    from steadygaze.campaign.store import read
    from steadygaze.question.case import CLASS

    planned, store = read_plan(plan), store_of(plan)
    rules = _rules(planned.document or {}, plan)
    check_asked(rules, all(one.case.claim == CLASS for one in planned.cases))
    if not no_run and _run(planned, store, crew_of(workers, cluster), quiet):
        return INTERRUPTED
    findings = judged(rules, grouped(read(store)))
    if junit is not None:
        _write(junit, gate_junit(findings, planned.name), "w")
    if summary is not None:
        _write(summary, gate_markdown(findings, planned.name), "a")
    standing = overall(findings)
    printed("\n".join([*gate_lines(findings), f"{planned.name}: {standing.value}"]))
    return EXIT_CODES[standing.value]


def _rules(document: Any, plan: Path) -> tuple[Any, ...]:
    """The rules of a plan. Raises SettingError where it states none, or one that cannot be read."""
    from steadygaze.aggregate import parsed
    from steadygaze.errors import SettingError

    table = document.get("gate")
    rules = table.get("rules") if isinstance(table, dict) else None
    if not isinstance(rules, list) or not rules or not all(isinstance(rule, str) for rule in rules):
        raise SettingError(
            f"{plan} states no rules; give it a table [gate] with a list of texts, such as "
            'rules = ["attention_robust_accuracy(0.5) >= 0.8"]'
        )
    unknown = sorted(set(table) - {"rules"})
    if unknown:
        raise SettingError(f"{plan}: the table gate has the key {unknown[0]!r}; allowed: rules")
    return tuple(parsed(rule) for rule in rules)


def _run(planned: Any, store: Path, crew: Any, quiet: bool) -> bool:
    """Whether the run was interrupted."""
    from steadygaze.campaign.running import run
    from steadygaze.commands.campaign_words import watching

    with watching(quiet) as progress:
        return run(planned, store, crew=crew, progress=progress).interrupted


def _write(path: Path, text: str, mode: str) -> None:
    from steadygaze.errors import SettingError

    try:
        with path.open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise SettingError(
            f"{str(path)!r} cannot be written ({error.strerror or error}); choose another file"
        ) from error
