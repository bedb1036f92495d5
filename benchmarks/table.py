"""The table of measurements, as it is printed."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from benchmarks.records import Measurement
from benchmarks.workloads import WHOLE

COLUMNS = (
    "net",
    "image",
    "n",
    "regions",
    "expected",
    "vertices",
    "seconds",
    "search",
    "held",
    "memory",
    "floor",
    "ratio",
    "needed",
    "regions/s",
    "SyReNN",
    "of it",
)
TRAVERSED = (
    "net",
    "image",
    "n",
    "method",
    "regions",
    "of all",
    "seconds",
    "sweep",
    "search",
    "held",
    "memory",
    "floor",
    "ratio",
    "needed",
    "regions/s",
    "answer",
)
LEGEND = (
    "seconds: the whole answer, the median of the repeats; search: of that the map with its saliency; "
    "held: of that the check of points against plain evaluation (the first ones, and at most 5 % of "
    "search, or 1 ms, beyond); memory: highest above what the process held before; floor: the unavoidable "
    "neural arithmetic at the rates measured beside it; ratio: seconds over the floor; needed: the same "
    "with only those gradients in the floor that the verdict needs; of all: share of the regions of the "
    "whole box; sweep: the seconds of its sweep (>: which a limit ended); SyReNN: quoted, not measured "
    "here: float32, regions only, no saliency and no verdict, on two threads of a similar machine; of it: "
    "seconds of the whole answer over that."
)


def table(workload: str, sweeps: Sequence[Measurement]) -> Table:
    """The sweeps of one workload."""
    made = _empty(workload, COLUMNS)
    for row in sweeps:
        made.add_row(*cells(row))
    return made


def side_by_side(workload: str, rows: Sequence[Measurement]) -> Table:
    """The other searches of one workload, beside the sweeps among the rows."""
    made = _empty(f"{workload}, region by region", TRAVERSED)
    for row in rows:
        if row.method != "sweep":
            made.add_row(*traversed(row, [one for one in rows if one.case == row.case]))
    return made


def _empty(title: str, columns: Sequence[str]) -> Table:
    made = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD)
    for column in columns:
        left = column in ("net", "method", "answer")
        made.add_column(column, justify="left" if left else "right", no_wrap=True)
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
        Text(f"{row.rows:,}"),
        Text(seconds(row.seconds)),
        Text(seconds(row.search)),
        Text(seconds(row.holding)),
        Text(f"{row.peak / 2**20:.0f} MiB"),
        Text(seconds(row.floor.seconds)),
        Text(f"{row.ratio:.2f}"),
        Text(f"{row.needed_ratio:.2f}"),
        Text(f"{row.regions / row.seconds:,.0f}"),
        Text(quoted, style="dim"),
        Text("" if row.case.quoted is None else f"{row.seconds / row.case.quoted:.2f}"),
    )


def traversed(row: Measurement, beside: Sequence[Measurement]) -> tuple[Text, ...]:
    """One measurement, a text for each of `TRAVERSED`.

    beside: those of the same case; the sweep among them is what this one is held against.
    """
    whole = [one.regions for one in beside if one.method in WHOLE and not one.stopped]
    regions = next(iter(whole), row.case.expected)
    wrong = "" if row.as_expected else "bold red"
    sweeps = (one for one in beside if one.method == "sweep")
    return (
        Text(row.case.net),
        Text(str(row.case.image)),
        Text(str(row.dimension)),
        Text(row.method),
        Text(f"{row.regions:,}" if row.as_expected else f"{row.regions:,} !", style=wrong),
        Text(f"{row.regions / regions:.2%}" if regions else "–"),
        Text(seconds(row.seconds)),
        Text(next((">" * bool(one.stopped) + seconds(one.seconds) for one in sweeps), "–"), style="dim"),
        Text(seconds(row.search)),
        Text(seconds(row.holding)),
        Text(f"{row.peak / 2**20:.0f} MiB"),
        Text(seconds(row.floor.seconds)),
        Text(f"{row.ratio:.2f}"),
        Text(f"{row.needed_ratio:.2f}"),
        Text(f"{row.regions / row.seconds:,.0f}"),
        Text(_answer(row)),
    )


def _answer(row: Measurement) -> str:
    """What the search is taken for: the safe scale, or the share of the box that a boundary encloses."""
    if row.stopped:
        return "stopped"
    if row.safe_scale is not None:
        return f"scale {row.safe_scale:.4f}"
    return "not closed" if row.enclosed is None else f"encloses {row.enclosed:.2%}"


def seconds(spent: float) -> str:
    """A time to three digits, in seconds or milliseconds."""
    return f"{spent:.3g} s" if spent >= 1 else f"{1000 * spent:.3g} ms"
