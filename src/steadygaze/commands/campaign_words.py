"""What ``steadygaze campaign`` says: progress while it runs, and what came of it."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steadygaze.campaign.standing import counted, named
from steadygaze.terminal import is_watched, unheard

if TYPE_CHECKING:
    from steadygaze.campaign.plan import Plan
    from steadygaze.campaign.running import RunProgress, Summary

SECONDS_BETWEEN_LINES = 10
SHOWN_AT_WORK = 4
SHOWN_REASONS = 5

Watch = Callable[["RunProgress"], None]


@contextmanager
def watching(quiet: bool) -> Iterator[Watch | None]:
    """On a terminal a bar; elsewhere a line now and then; in continuous integration nothing."""
    if quiet or (os.environ.get("CI") and not is_watched()):
        yield None
    elif is_watched():
        with _bar() as progress:
            yield progress
    else:
        yield _lines()


@contextmanager
def _bar() -> Iterator[Watch]:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn
    from rich.text import Text

    bar = Progress(BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    task = bar.add_task("cases", total=None)
    with Live(console=Console(stderr=True), transient=True, refresh_per_second=4) as live:

        def show(now: RunProgress) -> None:
            bar.update(task, total=now.total, completed=now.finished)
            work = [Text(f"  at work: {named(one.tags)}") for one in now.at_work[:SHOWN_AT_WORK]]
            live.update(Group(bar, Text(f"  {now.sentence()}"), *work))

        yield show


def _lines() -> Watch:
    last = time.monotonic()

    def show(now: RunProgress) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            with unheard():
                click.echo(f"{now.finished} of {now.total} cases; {now.sentence()}", err=True)

    return show


def summarised(plan: Plan, summary: Summary, store: Path, file: Path, page: Path | None) -> str:
    """What a run did, what is known now, and what can be done next."""
    from steadygaze.campaign.store import read

    lines = [f"{plan.name}: {summary.sentence()}", f"Answers: {counted(summary.verdicts)}."]
    more = len(plan.cases) - summary.total
    lines += [f"{more} further cases ask the same as others and share their records."] if more else []
    unsolved = Counter(
        f"{entry.record.status.value}: {entry.record.sentence}"
        for entry in read(store)
        if entry.record is not None and entry.record.answer is None
    )
    lines += [f"{count} {words}" for words, count in unsolved.most_common(SHOWN_REASONS)]
    if len(unsolved) > SHOWN_REASONS:
        others = len(unsolved) - SHOWN_REASONS
        lines.append(f"and {others} other reasons: steadygaze campaign list {file} --where verdict=")
    lines.append(f"Records: {store}.")
    lines += [f"Report: {page}."] if page is not None else []
    if summary.interrupted:
        lines.append(f"To go on: steadygaze campaign {file}")
    else:
        lines.append(f"Next: steadygaze campaign list {file}, or export {file} --out cases.csv")
    return "\n".join(lines)


def listed(table: Sequence[Mapping[str, Any]], limit: int | None) -> str:
    """Rows as lines: what was asked, and what came of it."""
    from steadygaze.answer.asked import CLASS_ALONE
    from steadygaze.answer.words import number

    lines = [f"{len(table)} cases"]
    for row in table[:limit]:
        asked = [row.get(name) for name in ("model", "image", "perturbation")]
        alone = row["must_hold"] == CLASS_ALONE
        asked += ["the class alone"] if alone else [row.get(name) for name in ("threshold", "saliency")]
        known = [str(one) for one in asked if one is not None]
        came = row["verdict"] or row["status"] or "not finished"
        scale = "" if row["safe_scale"] is None else f", safe scale {number(row['safe_scale'], 3)}"
        seconds = "" if row["seconds"] is None else f", {number(row['seconds'], 3)} s"
        why = "" if row["verdict"] or not row["sentence"] else f": {row['sentence']}"
        lines.append(f"{'  '.join(known)}  {came}{scale}{seconds}{why}")
    if limit is not None and len(table) > limit:
        lines.append(f"... and {len(table) - limit} more")
    return "\n".join(lines)
