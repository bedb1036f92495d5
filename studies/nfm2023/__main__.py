"""``python -m studies.nfm2023 run [--quick]`` and ``... report``; the only file here that prints."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from steadygaze.campaign import RunProgress, Status, run
from steadygaze.errors import SteadygazeError
from studies.nfm2023.cases import FULL, QUICK, plan_of, subject_of
from studies.nfm2023.data import DataSet, load_cifar, load_idx
from studies.nfm2023.networks import FOUND, QUICKLY_FOUND, QUICKLY_TRAINED, TRAINED
from studies.nfm2023.training import trained

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = REPOSITORY.parent / "shared"
OUT = Path("nfm2023-out")
SECONDS_BETWEEN_LINES = 15


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def commands() -> None:
    """The study of the NFM 2023 paper: see studies/nfm2023/README.md."""


def _folder(name: str, default: Path, text: str) -> Any:
    return click.option(name, type=click.Path(path_type=Path), default=default, help=f"{text}  [{default}]")


_out = _folder("--out", OUT, "The folder of networks, records and report.")


@commands.command("run")
@click.option("--quick", is_flag=True, help="A small form, in minutes.")
@click.option(
    "--images", type=click.IntRange(min=1), default=None, help="Images of each network.  [10; quick: 2]"
)
@_out
@_folder("--mnist", SHARED / "data/mnist", "IDX files of MNIST.")
@_folder("--fashion", SHARED / "data/fashion-mnist", "IDX files of Fashion-MNIST.")
@_folder("--cifar", SHARED / "data/cifar10/cifar10_test_exact.npz", "CIFAR-10 test images, npz.")
@_folder("--models", SHARED / "models", "The public networks.")
@click.option("--workers", type=int, default=None, help="Processes side by side.  [all cores]")
@click.option(
    "--retry", type=click.Choice([status.value for status in Status]), multiple=True,
    help="Do cases again that ended so; repeat for several.",
)  # fmt: skip
def run_study(
    quick: bool,
    images: int | None,
    out: Path,
    mnist: Path,
    fashion: Path,
    cifar: Path,
    models: Path,
    workers: int | None,
    retry: tuple[str, ...],
) -> None:
    """Train what is not trained yet, verify what is not verified yet."""
    form = QUICK if quick else FULL
    form = replace(form, images=images or form.images)
    sets: dict[str, DataSet] = {
        "MNIST": load_idx("MNIST", mnist.resolve()),
        "Fashion-MNIST": load_idx("Fashion-MNIST", fashion.resolve()),
    }
    for data in sets.values():
        click.echo(f"{data.name}: {data.note}")
    wanted, found = (QUICKLY_TRAINED, QUICKLY_FOUND) if quick else (TRAINED, FOUND)
    there = [public for public in found if (models / public.file).is_file()]
    for public in found:
        if public not in there:
            click.echo(f"left out: {public.name}, for there is no {models / public.file}")
    if any(public.data == "CIFAR-10" for public in there):
        sets["CIFAR-10"] = load_cifar(cifar.resolve())
    networks = trained(wanted, sets, (out / "networks").resolve(), workers or 2, click.echo)
    subjects = [subject_of(one, models.resolve()) for one in [*networks.values(), *there]]
    plan = plan_of(subjects, sets, form)
    click.echo(f"{len(plan.cases)} cases of {len(subjects)} networks")
    with _shown() as progress:
        summary = run(
            plan,
            out / "records.sqlite",
            workers=workers,
            retry={Status(name) for name in retry},
            progress=progress,
        )
    click.echo(summary.sentence())
    click.echo(f"Records: {out / 'records.sqlite'}. Next: python -m studies.nfm2023 report --out {out}")


@commands.command("report")
@_out
@click.option(
    "--results", type=click.Path(path_type=Path), help="Write there, too, what is kept in the repository."
)
def report_study(out: Path, results: Path | None) -> None:
    """Write report.html and the tables from the records."""
    from studies.nfm2023.report import write

    click.echo(f"Report: {write(out / 'records.sqlite', out)}")
    if results is not None:
        from studies.nfm2023.results import keep

        click.echo(f"Findings: {keep(out / 'records.sqlite', results)}")


@contextmanager
def _shown() -> Iterator[Any]:
    """On a terminal a bar; elsewhere a line now and then."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def show(now: RunProgress) -> None:
            bar.update(task, total=now.total, completed=now.finished, description=_told(now))

        yield show


def _lines() -> Any:
    last = time.monotonic()

    def show(now: RunProgress) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            click.echo(f"{now.finished} of {now.total}; {_told(now)}", err=True)

    return show


def _told(now: RunProgress) -> str:
    told = ", ".join(f"{count} {status.value}" for status, count in sorted(now.ended.items()))
    return told or "starting"


def main() -> None:
    """Carry out one command line; what cannot be used is one line on standard error, exit code 2."""
    try:
        commands.main(prog_name="python -m studies.nfm2023", standalone_mode=False)
    except SteadygazeError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)


if __name__ == "__main__":
    main()
