"""The figures of what a case costs: how cases end, engine against engine, and the drivers of cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullLocator

from steadygaze.campaign import Status
from studies.nfm2023.cases import DELTA, ENGINES, FULL_WIDTH, SETS
from studies.nfm2023.cost_tables import network_points
from studies.nfm2023.networks import NOISE, PGD
from studies.nfm2023.plots import ATTENTION, COLOURS, MARKS, blank, legend_below
from studies.nfm2023.rows import Row, costs, engines, question
from studies.nfm2023.statistics import power_law, quartiles
from studies.nfm2023.table import grouped

# Labels on a logarithmic axis are at least this factor apart.
_APART = 1.15

STATUS_COLOURS = {
    Status.SOLVED: "#3f82bb",
    Status.TIMED_OUT: "#e58b3a",
    Status.OUT_OF_MEMORY: "#a83e04",
    Status.OUT_OF_REGIONS: "#f3c892",
    Status.REFUSED: "#d9d9d9",
    Status.CRASHED: "#222222",
}


def outcomes(rows: Sequence[Row]) -> Figure | None:
    """How the cases of each engine ended, by perturbation."""
    asked = [row for row in rows if row.threshold == DELTA and row.width == FULL_WIDTH]
    if not asked:
        return None
    chart = blank(10.0, 3.2)
    panels = chart.subplots(1, len(ENGINES), sharey=True)
    for panel, engine in zip(panels, ENGINES, strict=True):
        for place, perturbation in enumerate(SETS):
            here = [row for row in asked if (row.method, row.perturbation) == (engine, perturbation)]
            start = 0
            for status, colour in STATUS_COLOURS.items():
                count = sum(row.status == status for row in here)
                panel.barh(place, count, left=start, color=colour)
                start += count
        panel.set_title(engine, fontsize=10)
        panel.set_xlabel("cases")
    panels[0].set_yticks(range(len(SETS)), list(SETS), fontsize=8)
    panels[0].invert_yaxis()
    handles = [Patch(color=colour, label=status.value) for status, colour in STATUS_COLOURS.items()]
    chart.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=8)
    return chart


def engine_pairs(rows: Sequence[Row], first: str, second: str) -> Figure | None:
    """Regions and seconds of two engines on the same cases."""
    pairs = engines(rows, first, second)
    if not pairs:
        return None
    chart = blank(9.0, 4.4)
    for panel, what in zip(chart.subplots(1, 2), ("regions", "seconds"), strict=True):
        for perturbation, mark, colour in zip(SETS, MARKS, COLOURS, strict=True):
            here = [
                p
                for p in pairs
                if p.first.perturbation == perturbation and p.first.seconds and p.second.seconds
            ]
            if here:
                panel.loglog(
                    [getattr(p.first, what) for p in here], [getattr(p.second, what) for p in here], mark,
                    color=colour, alpha=0.6, markersize=5, label=f"{perturbation} ({len(here)})",
                )  # fmt: skip
        ends = [*panel.get_xlim(), *panel.get_ylim()]
        panel.plot([min(ends), max(ends)], [min(ends), max(ends)], color="#333333", linewidth=0.8)
        panel.set(xlabel=f"{what}, {first}", ylabel=f"{what}, {second}")
        panel.legend(fontsize=7)
    return chart


def cost_against_size(rows: Sequence[Row], engine: str) -> Figure | None:
    """Median regions and seconds of each network against its units, with the fits."""
    here = costs(rows, engine)
    if not any(row.solved for row in here):
        return None
    chart = blank(10.0, 5.6)
    panels = chart.subplots(1, 2)
    for panel, what in zip(panels, ("regions", "seconds"), strict=True):
        for perturbation, mark, colour in zip(SETS, MARKS, COLOURS, strict=True):
            of_set = [row for row in here if row.perturbation == perturbation]
            _networks(panel, of_set, what, mark, colour)
            panel.plot([], [], mark, color=colour, markersize=5, label=perturbation)
        panel.set(xscale="log", yscale="log", xlabel="units", ylabel=f"median {what}")
        sizes = sorted({row.units for row in here if row.units})
        panel.set_xticks(sizes, _apart(sizes), rotation=60, fontsize=7)
        panel.xaxis.set_minor_locator(NullLocator())
        panel.grid(alpha=0.3)
    legend_below(chart, panels)
    chart.suptitle(
        f"{engine}: a mark for each network; open with an arrow: cut off, at least this; lines: fits",
        fontsize=9,
    )
    return chart


def _apart(sizes: Sequence[int]) -> list[str]:
    """Labels of ticks on a logarithmic axis; none where one would run into the last."""
    labels, last = [], 0.0
    for size in sizes:
        labels.append(str(size) if size >= _APART * last else "")
        last = size if labels[-1] else last
    return labels


def _networks(panel: Axes, rows: Sequence[Row], what: str, mark: str, colour: str) -> None:
    points = network_points(rows, what, plain=False)
    panel.plot([p.units for p in points], [p.value for p in points], mark, color=colour, ms=5, alpha=0.8)
    known = {point.network for point in points}
    for group in grouped([row for row in rows if row.network not in known], lambda row: row.network).values():
        units = next((row.units for row in group if row.units), None)
        least = max(getattr(row, what) or 0 for row in group)
        if units and least > 0:
            panel.errorbar(
                units, least, yerr=[[0], [1.2 * least]], lolims=True, fmt=mark, color=colour, mfc="none", ms=5
            )
    plain = network_points(rows, what)
    fit = power_law({"units": [p.units for p in plain]}, [p.value for p in plain])
    if fit:
        centre = [
            float(np.mean(np.log(side))) for side in zip(*((p.units, p.value) for p in plain), strict=True)
        ]
        ends = np.array([min(p.units for p in plain), max(p.units for p in plain)], float)
        line = np.exp(centre[1] + fit[0].value * (np.log(ends) - centre[0]))
        panel.plot(ends, line, color=colour, linewidth=0.9)


def cost_against_width(rows: Sequence[Row], engine: str) -> Figure | None:
    """Median regions and seconds against the width of the box, of cases that were solved at all widths."""
    here = [row for row in costs(rows, engine, None) if row.solved]
    widths = sorted({row.width for row in here})
    whole = [
        group
        for group in grouped(here, question).values()
        if len({row.width for row in group}) == len(widths)
    ]
    if len(widths) < 2 or not whole:
        return None
    chart = blank(9.0, 4.8)
    panels = chart.subplots(1, 2)
    for panel, what in zip(panels, ("regions", "seconds"), strict=True):
        for perturbation, mark, colour in zip(SETS, MARKS, COLOURS, strict=True):
            of_set = [row for group in whole for row in group if row.perturbation == perturbation]
            if of_set:
                values = [[getattr(row, what) for row in of_set if row.width == width] for width in widths]
                label = f"{perturbation} ({len(values[0])} cases)"
                medians = [float(np.median(column)) for column in values]
                panel.loglog(widths, medians, marker=mark, color=colour, label=label)
        panel.set(xlabel="width of the box (1: full)", ylabel=f"median {what}")
        panel.set_xticks(widths, [f"{width:g}" for width in widths])
        panel.xaxis.set_minor_locator(NullLocator())
        panel.grid(alpha=0.3)
    legend_below(chart, panels)
    chart.suptitle(f"{engine}: cases that were solved at every width", fontsize=9)
    return chart


def cost_of_training(rows: Sequence[Row], engine: str) -> Figure | None:
    """Regions of robustly trained networks over those of plainly trained ones, case by case."""
    found = cost_ratios(rows, engine)
    if not found:
        return None
    chart = blank(7.4, 3.6)
    panel = chart.subplots()
    for place, perturbation in enumerate(SETS):
        for kind, colour, shift in ((PGD, ATTENTION, -0.15), (NOISE, "#e58b3a", 0.15)):
            values = [
                ratio for first, second, ratio in found
                if (first.perturbation, second.training) == (perturbation, kind)
            ]  # fmt: skip
            panel.plot([place + shift] * len(values), values, "o", color=colour, alpha=0.5, markersize=4)
            middle = quartiles(values)
            if middle:
                panel.plot([place + shift - 0.12, place + shift + 0.12], [middle.median] * 2, color="black")
    panel.axhline(1, color="#333333", linewidth=0.8)
    panel.set(yscale="log", ylabel="regions, robust over plain")
    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_locator(NullLocator())
    panel.grid(axis="y", alpha=0.3)
    panel.set_xticks(range(len(SETS)), list(SETS), rotation=20, ha="right", fontsize=8)
    handles = [Patch(color=ATTENTION, label=PGD), Patch(color="#e58b3a", label=NOISE)]
    panel.legend(handles=handles, fontsize=8)
    panel.set_title(f"{engine}; bars are medians", fontsize=9)
    return chart


def cost_ratios(rows: Sequence[Row], engine: str) -> list[tuple[Row, Row, float]]:
    """Plain row, robust row, and the ratio of their regions, where both were solved."""
    solved = [row for row in costs(rows, engine) if row.solved and row.regions]
    plain = {
        (row.data, row.architecture, row.image, row.perturbation): row
        for row in solved
        if row.training == "standard"
    }
    found = []
    for row in solved:
        other = plain.get((row.data, row.architecture, row.image, row.perturbation))
        if row.training in (PGD, NOISE) and other is not None and other.regions and row.regions:
            found.append((other, row, row.regions / other.regions))
    return found
