"""The figures of the report, drawn from the same rows as its tables."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from studies.nfm2023.cases import CLASS_ONLY, DELTA, SETS
from studies.nfm2023.networks import NOISE, PGD
from studies.nfm2023.range_tables import cut_off_questions
from studies.nfm2023.rows import Pair, Row, class_and_attention, reaches, trainings

CLASS, ATTENTION, LOST = "#8a8a8a", "#3f82bb", "#a83e04"
MARKS = ("o", "s", "^", "D", "v", "P")
COLOURS = ("#24629a", "#e58b3a", "#4f9d69", "#a83e04", "#7a5ea8", "#555555")
DOTS_PER_INCH = 110


def blank(width: float, height: float) -> Figure:
    """A figure of that many inches, free of matplotlib's global state."""
    chart = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(chart)
    return chart


def png(chart: Figure) -> bytes:
    """The figure as the bytes of a PNG file."""
    stream = io.BytesIO()
    chart.savefig(stream, format="png", dpi=DOTS_PER_INCH)
    return stream.getvalue()


def legend_below(chart: Figure, panels: Sequence[Axes]) -> None:
    """One legend for all panels, where it hides nothing."""
    told = [panel.get_legend_handles_labels() for panel in panels]
    handles = {label: handle for pair in told for handle, label in zip(*pair, strict=True)}
    if handles:
        chart.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=3, fontsize=8)


def safe_ranges(rows: Sequence[Row]) -> Figure | None:
    """Box plots: how far the class holds and how far the attention does, by network and perturbation."""
    classes, attentions = reaches(rows, CLASS_ONLY), reaches(rows, DELTA)
    lost = {
        threshold: cut_off_questions(rows, threshold, {place[:3] for place in found})
        for threshold, found in ((CLASS_ONLY, classes), (DELTA, attentions))
    }
    measured = {(place[2], place[3]) for place in (*classes, *attentions)}
    only_lost = {place[1] for here in lost.values() for place in here} - {place[0] for place in measured}
    panels = sorted(
        measured | {(perturbation, "no case was settled") for perturbation in only_lost},
        key=lambda panel: (list(SETS).index(panel[0]), panel[1]),
    )
    if not panels:
        return None
    networks = list(dict.fromkeys(row.network for row in rows))
    chart = blank(max(7.5, 1.2 + 0.62 * len(networks)), 2.0 * len(panels) + 1.2)
    axes = np.atleast_1d(chart.subplots(len(panels), 1, sharex=True))
    for panel, (perturbation, name) in zip(axes, panels, strict=True):
        for found, threshold, colour, shift in (
            (classes, CLASS_ONLY, CLASS, -0.19),
            (attentions, DELTA, ATTENTION, 0.19),
        ):
            for place, network in enumerate(networks):
                values = [
                    reach.value
                    for where, reach in found.items()
                    if (where[0], where[2], where[3]) == (network, perturbation, name)
                ]
                _box(panel, values, place + shift, colour)
                count = len(lost[threshold].get((network, perturbation), ()))
                if count:
                    panel.text(place + shift, 0.0, f"+{count}", color=LOST, fontsize=7, ha="center")
        panel.set_title(f"{perturbation}: {name}", fontsize=9, loc="left")
        panel.set(ylim=(-0.04, 1.1), ylabel="safe share")
        panel.grid(axis="y", alpha=0.3)
    axes[-1].set_xticks(range(len(networks)), networks, rotation=40, ha="right", fontsize=8)
    handles = [
        Patch(color=CLASS, alpha=0.6, label="class holds"),
        Patch(color=ATTENTION, alpha=0.6, label=f"attention holds too (threshold {DELTA:g})"),
        Line2D([], [], marker="o", color="#333333", linestyle="", markersize=3, label="one image"),
        Line2D(
            [], [], marker="^", color="#333333", linestyle="", markersize=5, label="whole range: at least"
        ),
        Line2D([], [], marker="$+n$", color=LOST, linestyle="", markersize=12, label="n images cut off"),
    ]
    chart.legend(handles=handles, loc="outside upper center", ncols=3, fontsize=8)
    return chart


def _box(panel: Axes, values: Sequence[float], place: float, colour: str) -> None:
    """A box where there are quartiles to speak of, and every value as a mark."""
    if len(values) >= 4:
        shown: Any = panel.boxplot(
            [list(values)],
            positions=[place],
            widths=0.3,
            patch_artist=True,
            showfliers=False,
            manage_ticks=False,
        )
        for box in shown["boxes"]:
            box.set(facecolor=colour, alpha=0.6)
        for line in shown["medians"]:
            line.set(color="black")
    elif values:
        panel.plot([place - 0.15, place + 0.15], [float(np.median(values))] * 2, color=colour, linewidth=2.5)
    spread = np.linspace(-0.08, 0.08, len(values)) if len(values) > 1 else np.zeros(len(values))
    for value, offset in zip(values, spread, strict=True):
        mark = "^" if value >= 1 else "o"
        panel.plot(
            place + offset, value, mark, color="#333333", markersize=4 if mark == "^" else 2.5, alpha=0.7
        )


def class_against_attention(rows: Sequence[Row]) -> Figure | None:
    """Every image: how far the class holds, and how far the attention."""
    pairs = class_and_attention(rows)
    return _scatter(pairs, "class holds: safe share", "attention holds: safe share") if pairs else None


def _scatter(pairs: Sequence[Pair], across: str, up: str) -> Figure:
    chart = blank(5.6, 5.2)
    panel = chart.subplots()
    for perturbation, mark, colour in zip(SETS, MARKS, COLOURS, strict=True):
        here = [pair for pair in pairs if pair.first.perturbation == perturbation]
        if here:
            panel.plot(
                [p.first_value for p in here], [p.second_value for p in here], mark, color=colour, alpha=0.6,
                markersize=5, label=f"{perturbation} ({len(here)})",
            )  # fmt: skip
    panel.plot([0, 1], [0, 1], color="#333333", linewidth=0.8)
    panel.set(xlabel=across, ylabel=up, xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    panel.legend(fontsize=7)
    return chart


def thresholds(rows: Sequence[Row]) -> Figure | None:
    """The median safe share against the threshold, over the questions that all thresholds settle."""
    asked = sorted({row.threshold for row in rows})
    found = [reaches(rows, threshold) for threshold in asked]
    common = set(found[0]).intersection(*found[1:]) if found else set()
    if not common or len(asked) < 2:
        return None
    chart = blank(6.4, 4.0)
    panel = chart.subplots()
    for perturbation, mark, colour in zip(SETS, MARKS, COLOURS, strict=True):
        places = [place for place in common if place[2] == perturbation]
        if places:
            medians = [float(np.median([one[place].value for place in places])) for one in found]
            panel.plot(
                range(len(asked)), medians, marker=mark, color=colour, label=f"{perturbation} ({len(places)})"
            )
    labels = [f"{threshold:g}" if threshold < CLASS_ONLY else "class only" for threshold in asked]
    panel.set_xticks(range(len(asked)), labels)
    panel.set(xlabel="threshold of the inconsistency", ylabel="median safe share", ylim=(-0.03, 1.05))
    panel.grid(alpha=0.3)
    panel.legend(fontsize=7)
    return chart


def robust_training(rows: Sequence[Row]) -> Figure | None:
    """Plain against robust training: how far the class holds, and how far the attention."""
    kinds = [
        kind for kind in (PGD, NOISE) if trainings(rows, kind, DELTA) or trainings(rows, kind, CLASS_ONLY)
    ]
    if not kinds:
        return None
    chart = blank(9.0, 4.3 * len(kinds))
    panels = chart.subplots(len(kinds), 2, squeeze=False)
    for line, kind in zip(panels, kinds, strict=True):
        for panel, (what, threshold) in zip(line, (("class", CLASS_ONLY), ("attention", DELTA)), strict=True):
            pairs = trainings(rows, kind, threshold)
            for perturbation, mark, colour in zip(SETS, MARKS, COLOURS, strict=True):
                here = [pair for pair in pairs if pair.first.perturbation == perturbation]
                if here:
                    panel.plot(
                        [p.first_value for p in here], [p.second_value for p in here], mark, color=colour,
                        alpha=0.6, markersize=5, label=f"{perturbation} ({len(here)})",
                    )  # fmt: skip
            panel.plot([0, 1], [0, 1], color="#333333", linewidth=0.8)
            panel.set_title(f"how far the {what} holds", fontsize=10)
            panel.set(xlabel="trained plainly: safe share", ylabel=f"trained by {kind}: safe share")
            if pairs:
                panel.legend(fontsize=7)
    return chart
