"""The table of measurements, as it is printed."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from benchmarks.records import Measurement

COLUMNS = (
    "net",
    "image",
    "n",
    "regions",
    "expected",
    "vertices",
    "seconds",
    "search",
    "memory",
    "floor",
    "ratio",
    "needed",
    "regions/s",
    "SyReNN",
)
LEGEND = (
    "seconds: the whole answer, the median of the repeats; search: of that the map with its saliency; "
    "memory: highest above what the process held before; floor: the unavoidable neural arithmetic at the "
    "rates measured beside it; ratio: seconds over the floor; needed: the same with only those gradients in "
    "the floor that the verdict needs; SyReNN: quoted, not measured here: float32, regions only, no saliency "
    "and no verdict, on a similar machine."
)


def table(workload: str, rows: Sequence[Measurement]) -> Table:
    """One workload's measurements side by side."""
    made = Table(title=workload, title_justify="left", header_style="bold", box=SIMPLE_HEAD)
    for column in COLUMNS:
        made.add_column(column, justify="left" if column == "net" else "right", no_wrap=True)
    for row in rows:
        made.add_row(*cells(row))
    return made


def cells(row: Measurement) -> tuple[Text, ...]:
    """One measurement, a text for each of `COLUMNS`."""
    wrong = "" if row.as_expected else "bold red"
    expected = "–" if row.case.expected is None else f"{row.case.expected:,}"
    quoted = "" if row.case.quoted is None else f"{row.case.quoted:.2f} s"
    return (
        Text(row.case.net),
        Text(str(row.case.image)),
        Text(str(row.dimension)),
        Text(f"{row.regions:,}", style=wrong),
        Text(expected if row.as_expected else f"{expected} !", style=wrong),
        Text(f"{row.vertices:,}"),
        Text(seconds(row.seconds)),
        Text(seconds(row.search)),
        Text(f"{row.peak / 2**20:.0f} MiB"),
        Text(seconds(row.floor.seconds)),
        Text(f"{row.ratio:.2f}"),
        Text(f"{row.needed_ratio:.2f}"),
        Text(f"{row.regions / row.seconds:,.0f}"),
        Text(quoted, style="dim"),
    )


def seconds(spent: float) -> str:
    """A time to three digits, in seconds or milliseconds."""
    return f"{spent:.3g} s" if spent >= 1 else f"{1000 * spent:.3g} ms"
