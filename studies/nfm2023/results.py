"""What is kept of the study in the repository: findings, plots, tables, the environment; no networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from steadygaze.campaign import Entry, read
from steadygaze.campaign.table import export
from steadygaze.campaign.table import rows as flat
from steadygaze.errors import SettingError
from studies.nfm2023.finding import Finding
from studies.nfm2023.findings import findings
from studies.nfm2023.plots import png
from studies.nfm2023.report import LIMITS, setup
from studies.nfm2023.rows import SHORT, rows_of
from studies.nfm2023.table import RECORDS, Table
from studies.nfm2023.tables import tables

AGAIN = "Written by `python -m studies.nfm2023 report --results FOLDER`; nothing here is written by hand."


def keep(store: Path, folder: Path) -> Path:
    """Write findings.md, environment.md, plots/, tables/ and records.parquet; returns the page of findings.

    Keys of records are shortened; records.parquet has them whole. Raises SettingError where no case is
    finished.
    """
    entries = read(store)
    rows = rows_of(entries)
    if not rows:
        raise SettingError(f"no case of {str(store)!r} is finished; run the study first")
    for part in ("plots", "tables"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for table in tables(rows):
        if table.name != RECORDS:
            _shortened(table).write(folder / "tables")
    finished = flat([entry for entry in entries if entry.record is not None])
    export([_without_places(row) for row in finished], folder / "records.parquet")
    found = findings(rows)
    for number, finding in enumerate(found, 1):
        _draw(finding, folder / "plots" / _plot(number, finding))
    page = folder / "findings.md"
    page.write_text(_findings(entries, found), encoding="utf-8")
    (folder / "environment.md").write_text(_environment(entries), encoding="utf-8")
    return page


def _without_places(row: dict[str, Any]) -> dict[str, Any]:
    """A record without the folders of the machine; what was verified is known by its name and SHA-256."""
    kept = {name: value for name, value in row.items() if name not in ("source", "image_reference")}
    return kept | {"model_file": Path(str(row["model_file"])).name}


def _shortened(table: Table) -> Table:
    def short(keys: Sequence[str]) -> tuple[str, ...]:
        return tuple(key[:SHORT] for key in keys)

    told = [{**row, RECORDS: short(row[RECORDS])} if RECORDS in row else row for row in table.rows]
    return replace(table, rows=tuple(told))


def _plot(number: int, finding: Finding) -> str:
    words = "".join(letter if letter.isalnum() else " " for letter in finding.title.lower()).split()
    return f"{number}-{'-'.join(words)}.png"


def _draw(finding: Finding, path: Path) -> None:
    figure = finding.draw()
    if figure is not None:
        path.write_bytes(png(figure))


def _findings(entries: Sequence[Entry], found: Sequence[Finding]) -> str:
    finished = sum(entry.record is not None for entry in entries)
    told = [
        "# Findings",
        f"Of {len(entries)} cases that were asked, {finished} are finished. {AGAIN} The set-up: "
        "[environment.md](environment.md). What was asked: [the study](../README.md). Every record: "
        "`records.parquet`.",
    ]
    for number, finding in enumerate(found, 1):
        behind = f"tables/{finding.table}.csv"
        told.append(f"## {number}. {finding.title[0].upper()}{finding.title[1:]}")
        told += list(finding.sentences)
        told.append(f"Computed from {len(finding.keys)} records: [{behind}]({behind})")
        if finding.draw() is not None:
            told.append(f"![{finding.title}](plots/{_plot(number, finding)})")
    told += ["## What this does not show", *(f"- {sentence}" for sentence in LIMITS)]
    return "\n\n".join(told).replace("\n\n- ", "\n- ") + "\n"


def _environment(entries: Sequence[Entry]) -> str:
    records = [entry.record for entry in entries if entry.record is not None]
    told = ["# What the study ran with", AGAIN]
    for name, lines in setup(entries, records):
        told += [f"## {name[0].upper()}{name[1:]}", "\n".join(f"- {line}" for line in lines)]
    return "\n\n".join(told) + "\n"
