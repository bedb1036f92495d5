"""``steadygaze campaign``: run a plan, look on, list and export what is known, name the presets.

Exit codes: 0 every case has a record, whatever it says; 130 interrupted, with what was finished kept; 2 and 1
as everywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

import click

from steadygaze.commands.crews import crew_of, crew_options
from steadygaze.errors import meant
from steadygaze.terminal import printed, unheard

INTERRUPTED = 130
RETRIED = ("crashed", "timed-out", "out-of-memory", "out-of-regions", "refused", "solved")


@final
class _RunByDefault(click.Group):
    """A group whose command ``run`` may be left unsaid: ``campaign plan.toml``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the word in where it is missing. Raises UsageError for what is neither a command nor a plan."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            if not args[0].startswith("-") and not args[0].lower().endswith(".toml"):
                raise click.UsageError(
                    f"{args[0]!r} is neither a plan, whose name ends in .toml, nor a command"
                    f"{meant(args[0], self.commands)}"
                )
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_RunByDefault)
def campaign() -> None:
    """Verify many images of one or several models, as a plan says: `steadygaze campaign plan.toml`.

    Run the same again to go on after any interruption; what is finished is not done again.
    """


def _page(store: Path) -> Path | None:
    """The page of a finished run, beside the store; that it cannot be written is no failure of the run."""
    from steadygaze.errors import SettingError
    from steadygaze.overview import page_of, write_overview

    try:
        return write_overview(store, page_of(store))
    except SettingError as error:
        with unheard():
            click.echo(f"note: {error}", err=True)
        return None


def _target(command: Any) -> Any:
    return click.argument("target", metavar="PLAN.toml|STORE.sqlite", type=click.Path(path_type=Path))(
        command
    )


def _debug(command: Any) -> Any:
    return click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")(command)


_where = click.option(
    "--where", metavar="COLUMN=VALUE", multiple=True,
    help="Only such rows; != for others; repeat for several.  Such as verdict=violated.",
)  # fmt: skip


@campaign.command()
@click.argument("plan", metavar="PLAN.toml", type=click.Path(path_type=Path))
@click.option(
    "--store", metavar="FILE", type=click.Path(path_type=Path), help="The file of the records.  [PLAN.sqlite]"
)
@crew_options
@click.option(
    "--retry", metavar="STATUS", type=click.Choice(RETRIED), multiple=True,
    help=f"Do cases again that ended so: {', '.join(RETRIED)}; repeat for several.",
)  # fmt: skip
@click.option("--no-report", is_flag=True, help="Write no page of it at the end.")
@click.option("--quiet", is_flag=True, help="No progress.")
@_debug
def run(
    plan: Path,
    store: Path | None,
    workers: int | None,
    cluster: str | None,
    retry: tuple[str, ...],
    no_report: bool,
    quiet: bool,
) -> int:
    """Do what the plan asks and the store does not hold yet, and write a page about it beside the store."""
    from steadygaze.campaign import read_plan, run, store_of
    from steadygaze.campaign.record import Status
    from steadygaze.commands.campaign_words import summarised, watching

    planned, path = read_plan(plan), store or store_of(plan)
    crew = crew_of(workers, cluster)
    with watching(quiet) as progress:
        summary = run(
            planned,
            path,
            crew=crew,
            retry={Status(name.replace("-", " ")) for name in retry},
            progress=progress,
        )
    page = None if no_report or summary.interrupted else _page(path)
    printed(summarised(planned, summary, path, plan, page), path)
    return INTERRUPTED if summary.interrupted else 0


@campaign.command()
@_target
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@_debug
def status(target: Path, as_json: bool) -> None:
    """How far a campaign has come; also from another terminal while it runs."""
    import json

    from steadygaze.campaign.planfile import store_of
    from steadygaze.campaign.standing import standing_of

    standing = standing_of(store_of(target))
    printed(json.dumps(standing.to_dict(), indent=2) if as_json else standing.words())


@campaign.command("list")
@_target
@_where
@click.option("--limit", metavar="N", type=click.IntRange(min=1), default=None, help="The first ones only.")
@_debug
def list_cases(target: Path, where: tuple[str, ...], limit: int | None) -> None:
    """List the cases, a line for each."""
    from steadygaze.campaign.planfile import store_of
    from steadygaze.campaign.store import read
    from steadygaze.campaign.table import chosen, rows, unmet
    from steadygaze.commands.campaign_words import listed

    table = rows(read(store_of(target)))
    printed("\n".join([listed(chosen(table, where), limit), *unmet(table, where)]))


@campaign.command()
@_target
@click.option(
    "--out", metavar="FILE", type=click.Path(path_type=Path),
    help="Ends in .parquet (needs pyarrow) or .csv.",
)  # fmt: skip
@_where
@_debug
def export(target: Path, out: Path | None, where: tuple[str, ...]) -> None:
    """Write the cases as a table: a row for each, whether finished or not."""
    from steadygaze.campaign.planfile import store_of
    from steadygaze.campaign.store import read
    from steadygaze.campaign.table import chosen, export, rows, unmet
    from steadygaze.errors import SettingError

    if out is None:
        raise SettingError("no file for the table is given: name one with --out, such as --out cases.csv")
    table = rows(read(store_of(target)))
    found = chosen(table, where)
    export(found, out)
    printed("\n".join([f"{len(found)} rows written to {out}.", *unmet(table, where)]), out)


@campaign.command()
@_target
@click.option(
    "--out", metavar="FILE.html", type=click.Path(path_type=Path), help="The file.  [STORE.report.html]"
)
@_debug
def report(target: Path, out: Path | None) -> None:
    """Write all that is known as one page: curves, ranges, worst images, models compared, all cases.

    It opens from disk and needs no network; while a campaign runs it tells what is known by then.
    """
    from steadygaze.answer.words import size
    from steadygaze.campaign.planfile import store_of
    from steadygaze.overview import page_of, write_overview

    store = store_of(target)
    page = write_overview(store, out or page_of(store))
    printed(f"The report: {page} ({size(page.stat().st_size)})", page)


@campaign.command()
@click.argument("name", required=False)
@_debug
def presets(name: str | None) -> None:
    """Perturbations of the package, by name: what each stands for, and what it is."""
    from steadygaze.question.preset import preset, presets

    shown = presets().values() if name is None else [preset(name)]
    printed(
        "\n\n".join(
            "\n".join([one.name, f"    {one.stands_for}", *(f"    {text}" for text in one.perturb)])
            for one in shown
        )
    )
