"""The report: findings with their figures, tables, the exact set-up, and what it does not show."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from steadygaze.campaign import Entry, Record, Status, read
from steadygaze.errors import SettingError
from studies.nfm2023.cases import CLASS_ONLY, DELTA, FULL_WIDTH
from studies.nfm2023.finding import Finding
from studies.nfm2023.findings import findings
from studies.nfm2023.plots import png
from studies.nfm2023.rows import SHORT, rows_of
from studies.nfm2023.statistics import LEAST
from studies.nfm2023.table import RECORDS, Table
from studies.nfm2023.tables import tables

TEMPLATE = Path(__file__).with_name("template.html.j2")
LONGEST = 40  # rows of a table that the page shows; the CSV has all
LIMITS = (
    "The networks are trained here; the paper's own weights are not public. Its numbers and these cannot be "
    "compared one by one.",
    "The images were chosen: the first held-out ones that every network of a data set classifies rightly. "
    "They are no random sample, and images that some network gets wrong are not spoken of.",
    "Safe ranges are cut at the box that was asked: a range that reaches its edge is a lower bound. Such "
    "images are counted as whole and drawn as triangles.",
    "Cases that a limit ended are no values. They are left out of ranges and pairs and counted beside them; "
    "in medians of cost they count as larger than all that were solved. Leaving them out favours small "
    "networks and easy images: where many are cut off, a range says little.",
    "Seconds are wall-clock time of one worker with one thread, while other workers ran beside it. They "
    "depend on the machine and on its load; regions do not.",
    "Peak memory is that of the worker process, with allocations that earlier cases may have left behind.",
    "Several images of one network are not independent; intervals and tests that pool them are guides.",
    "Fits across networks mix depth, width and kind of network, which this set of networks cannot tell apart "
    "fully; an exponent is a description of these networks, not a law.",
    "A saliency map that stays where it was is not thereby a good explanation.",
    "Verdicts are about the real-valued network, computed in float64 with the tolerances below.",
)


def write(store: Path, folder: Path) -> Path:
    """Write report.html and the CSV files of the records in the store; returns the page's path.

    Raises SettingError where no case is finished.
    """
    entries = read(store)
    rows = rows_of(entries)
    if not rows:
        raise SettingError(f"no case of {str(store)!r} is finished; run the study first")
    found = tables(rows)
    target = folder / "tables"
    target.mkdir(parents=True, exist_ok=True)
    for table in found:
        table.write(target)
    page = folder / "report.html"
    page.write_text(_page(entries, findings(rows), found), encoding="utf-8")
    return page


def _page(entries: Sequence[Entry], found: Sequence[Finding], shown: Sequence[Table]) -> str:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    records = [entry.record for entry in entries if entry.record is not None]
    ended = Counter(record.status for record in records)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        plan=entries[0].plan,
        planned=len(entries),
        finished=len(records),
        ended=", ".join(f"{ended[status]} {status.value}" for status in Status if ended[status]),
        findings=[_finding(number, one) for number, one in enumerate(found, 1)],
        tables=[_table(table) for table in shown if table.name != RECORDS],
        setup=setup(entries, records),
        limits=LIMITS,
        least=LEAST,
        digits=SHORT,
    )


def _finding(number: int, finding: Finding) -> dict[str, Any]:
    figure = finding.draw()
    picture = None if figure is None else b64encode(png(figure)).decode("ascii")
    return {
        "number": number,
        "title": finding.title[0].upper() + finding.title[1:],
        "sentences": finding.sentences,
        "figure": picture,
        "table": finding.table,
        "keys": finding.keys,
    }


def _table(table: Table) -> dict[str, Any]:
    columns = [column for column in table.columns if column != RECORDS]
    return {
        "name": table.name,
        "title": table.title,
        "note": table.note,
        "columns": columns,
        "rows": [
            {"cells": [shown(row.get(column)) for column in columns], "keys": row.get(RECORDS, ())}
            for row in table.rows[:LONGEST]
        ],
        "left": max(0, len(table.rows) - LONGEST),
    }


def shown(value: Any) -> str:
    """A cell as the page shows it; the CSV has all digits."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def setup(entries: Sequence[Entry], records: Sequence[Record]) -> list[tuple[str, list[str]]]:
    """The exact set-up: what each thing is called, and its lines."""
    answers = [record.answer for record in records if record.answer is not None]
    questions = [entry.question for entry in entries]
    tags = [entry.tags for entry in entries]

    def distinct(values: Any) -> list[str]:
        return list(dict.fromkeys(values))

    return [
        ("plan", [f"{entries[0].plan}: {len(entries)} cases, {len(records)} finished"]),
        ("perturbations at full width", distinct(
            f"{tag['perturbation']}: {' | '.join(question['perturb'])}"
            for tag, question in zip(tags, questions, strict=True) if tag["width"] == FULL_WIDTH
        )),
        ("widths of the box", distinct(f"{tag['width']:g}" for tag in tags)),
        ("thresholds", [f"{value:g}" for value in sorted({question["threshold"] for question in questions})]),
        ("class alone", [f"threshold {CLASS_ONLY:g}, the largest value that the cosine inconsistency takes"]),
        ("engines compared at", [f"threshold {DELTA:g}, width {FULL_WIDTH:g}"]),
        ("saliency, inconsistency, clip", distinct(
            f"{asked['saliency']}, {asked['inconsistency']}, {asked['clip']}" for asked in questions
        )),
        ("limits of a case", distinct(
            f"{question['time_limit']} s, {question['memory_limit']} GiB" for question in questions
        )),
        ("images", [
            f"{data}: " + ", ".join(sorted({str(tag["image"]) for tag in tags if tag["data"] == data}))
            for data in distinct(tag["data"] for tag in tags)
        ]),
        ("accuracy on held-out images (under PGD)", distinct(
            f"{tag['network']}: {tag['accuracy']:.1%} ({tag['attacked']:.1%})"
            for tag in tags if tag["accuracy"] is not None
        )),
        ("machine", distinct(
            f"{record.machine.processor}, {record.machine.cores} cores, {record.machine.system}; "
            f"{record.machine.workers} workers of {record.machine.threads} thread each" for record in records
        )),
        ("versions", distinct(
            ", ".join(f"{name} {version}" for name, version in one["versions"].items()) for one in answers
        )),
        ("tolerances", distinct(
            ", ".join(f"{name} {value:g}" for name, value in one["tolerance"].items()) for one in answers
        )),
        ("SHA-256 of the networks", distinct(
            f"{entry.tags['network']}: {entry.record.answer['model_sha256']}"
            for entry in entries if entry.record is not None and entry.record.answer is not None
        )),
        ("run", [f"{min(r.finished for r in records)} to {max(r.finished for r in records)}"]),
    ]  # fmt: skip
