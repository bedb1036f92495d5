"""A table of the report. Each row names the records that it was computed from."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from studies.nfm2023.statistics import quartiles

RECORDS = "records"


@dataclass(frozen=True)
class Table:
    """Rows by column; the column ``records`` holds the keys that a row was computed from."""

    name: str
    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[dict[str, Any], ...] = field(default=())

    def write(self, folder: Path) -> Path:
        """As CSV; keys are set apart by spaces, what is not known is left empty."""
        path = folder / f"{self.name}.csv"
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(self.columns)
            writer.writerows([[_cell(row.get(column)) for column in self.columns] for row in self.rows])
        return path


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return " ".join(value) if isinstance(value, tuple) else value


def grouped(rows: Iterable[Any], by: Callable[[Any], Any]) -> dict[Any, list[Any]]:
    """The rows by what ``by`` says of them, in their order."""
    found: dict[Any, list[Any]] = {}
    for row in rows:
        found.setdefault(by(row), []).append(row)
    return found


def median(values: Sequence[float]) -> float | None:
    """The median, None without any."""
    found = quartiles(values)
    return found and found.median


def finite(value: float) -> float | None:
    """The value, None where it is cut off."""
    return value if isfinite(value) else None
