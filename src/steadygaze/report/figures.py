"""The map of the box as a figure: an axis, a plane, or the slices through 0.

Only matplotlib's objects are used, never its global state, so that drawing is safe inside any program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath

import matplotlib.patheffects as effects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Polygon, Rectangle
from numpy.typing import NDArray

from steadygaze.answer.drawing import CURVES, KINDS, Drawing, Interval1D, Polygons
from steadygaze.answer.result import Axis, Point, Result
from steadygaze.answer.words import given, number, percent, toward_zero
from steadygaze.geometry.kinds import UNDECIDED
from steadygaze.report import palette
from steadygaze.report.palette import Scale
from steadygaze.report.raster import UNCOVERED, owners

PIXELS = 1200  # of a map's image along each side; about twice what is shown, so that edges come out smooth
CASING = [effects.withStroke(linewidth=4.0, foreground="white")]
CURVE = "#173f5f"
LARGEST_GLYPH = 0x24F  # the font has glyphs for these; a missing one would only make a warning

# Of six parameters there are fifteen pairs; of more parameters only so many of the pairs are drawn.
_MOST_PANELS = 15


def figure(result: Result, drawing: Drawing) -> Figure:
    """The map that ``result`` speaks of, drawn with the cells of ``drawing``."""
    axes = result.problem.axes()
    if len(axes) == 1:
        chart = _axis_figure(result, drawing.intervals, axes[0])
    elif len(axes) == 2:
        chart = _map_figure(result, drawing, axes, [(0, 1)], (8.4, 7.2))
    else:
        pairs = [(i, j) for i in range(len(axes)) for j in range(i + 1, len(axes))][:_MOST_PANELS]
        rows = -(-len(pairs) // 3)
        chart = _map_figure(result, drawing, axes, pairs, (12.6, 4.2 * rows + 1.4))
    FigureCanvasAgg(chart)
    return chart


def draw_plane(
    panel: Axes, result: Result, cells: Polygons, at: Point | None = None, legend: bool = True
) -> None:
    """The map of two parameters, or the slice ``cells`` through the point ``at`` (by default 0), on axes."""
    axes, (i, j) = result.problem.axes(), cells.axes
    _prepare(panel, axes[i], axes[j])
    _paint(panel, _image(cells, axes[i], axes[j], _scale(result, [cells])), axes[i], axes[j])
    marks = _annotate(panel, result, axes, cells.axes, at)
    if legend:
        _explain(panel, [*_kind_handles(result), *marks])


def draw_axis(
    panel: Axes, result: Result, cells: Interval1D, value: str, legend: bool = True, ink: str = "black"
) -> None:
    """The curve of one parameter on axes: ``value`` is one of `CURVES`.

    ``ink`` is the colour of the lines at 0 and at the nearest failure.
    """
    (axis,) = result.problem.axes()
    panel.set_xlim(axis.low, axis.high)
    panel.set_xlabel(_label(axis)).set_parse_math(False)
    drift = value == CURVES[0]
    panel.set_ylabel(f"inconsistency ({result.problem.inconsistency})" if drift else value)
    curve = cells.inconsistency if drift else cells.class_gap
    panel.plot(*_broken_line(cells.edges, curve), color=palette.FLAT[0], lw=1.6)
    marks = [_draw_threshold(panel, result)] if drift else []
    if not drift:
        panel.axhline(0, color="#888888", ls="--", lw=1.3)
    marks += _annotate_axis(panel, result, ink)
    if legend:
        _explain(panel, marks)


def _explain(panel: Axes, handles: Sequence[Line2D | Patch]) -> None:
    """A legend below the axes, which leaves the map free."""
    panel.legend(
        handles=list(handles), loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=8,
        frameon=False,
    )  # fmt: skip


def _title(chart: Figure, result: Result) -> None:
    problem = result.problem
    source = PurePath(problem.image.source).name if problem.image.source else "the image"
    text = (
        f"{_shown(PurePath(problem.model.path).name)} on {_shown(source)} (class {problem.image.label}): "
        + (
            "the class alone"
            if problem.class_alone
            else f"{problem.saliency}, {problem.inconsistency} ≤ {given(problem.threshold)}"
        )
    )
    chart.suptitle(text, fontsize=11).set_parse_math(False)


def _shown(name: str) -> str:
    """A user's name as the font can show it, and not longer than a title bears."""
    plain = "".join(c if c.isprintable() and ord(c) <= LARGEST_GLYPH else "?" for c in name)
    return plain if len(plain) <= 40 else f"{plain[:37]}..."


def _label(axis: Axis) -> str:
    return f"{axis.name} [{axis.unit}]" if axis.unit else axis.name


def _kind_handles(result: Result) -> list[Patch]:
    """The kinds with their shares of the box; what is open, the last, is striped, as on the map."""
    handles = [
        Patch(facecolor=palette.FLAT[kind], label=f"{KINDS[kind]}  {percent(share)}")
        for kind, share in result.shares_asked()
    ]
    handles[-1].set(facecolor="#fce8f2", edgecolor=palette.FLAT[UNDECIDED], hatch="\\\\\\\\", linewidth=0)
    return handles


def _map_figure(
    result: Result,
    drawing: Drawing,
    axes: tuple[Axis, ...],
    pairs: list[tuple[int, int]],
    size: tuple[float, float],
) -> Figure:
    chart = Figure(figsize=size, layout="constrained")
    columns = min(len(pairs), 3)
    panels = np.atleast_1d(chart.subplots(-(-len(pairs) // columns), columns)).ravel().tolist()
    for spare in panels[len(pairs) :]:
        spare.remove()
    panels = panels[: len(pairs)]
    scale = _scale(result, drawing.polygons)
    cells = {tuple(part.axes): part for part in drawing.polygons}
    marks: list[Line2D | Patch] = []
    for panel, pair in zip(panels, pairs, strict=True):
        across, up = axes[pair[0]], axes[pair[1]]
        _prepare(panel, across, up)
        if pair in cells:
            _paint(panel, _image(cells[pair], across, up, scale), across, up)
        marks = _annotate(panel, result, axes, pair)
    if drawing.polygons and not result.problem.class_alone:
        _colour_bar(chart, panels, result, scale)
    chart.legend(
        handles=[*_kind_handles(result), *marks],
        loc="outside lower center",
        ncols=3 if len(pairs) == 1 else 4,
        fontsize=9,
    )
    _title(chart, result)
    return chart


def _prepare(panel: Axes, across: Axis, up: Axis) -> None:
    panel.set_xlim(across.low, across.high)
    panel.set_ylim(up.low, up.high)
    panel.set_xlabel(_label(across)).set_parse_math(False)
    panel.set_ylabel(_label(up)).set_parse_math(False)


def _paint(panel: Axes, image: NDArray[np.uint8], across: Axis, up: Axis) -> None:
    extent = (across.low, across.high, up.low, up.high)
    panel.imshow(image, extent=extent, origin="lower", aspect="auto", zorder=0)


def _scale(result: Result, polygons: Sequence[Polygons]) -> Scale:
    known = [part.inconsistency[np.isfinite(part.inconsistency)] for part in polygons]
    largest = max((float(values.max()) for values in known if len(values)), default=0.0)
    return Scale(1.0 if result.problem.class_alone else result.problem.threshold, largest)


def _image(
    cells: Polygons, across: Axis, up: Axis, scale: Scale, pixels: int | None = None
) -> NDArray[np.uint8]:
    """The map's pixels, ``(pixels, pixels, 3)``, lowest row first."""
    extent, side = (across.low, across.high, up.low, up.high), pixels or PIXELS
    owner = owners(cells.points, cells.offsets, extent, (side, side))
    colours = palette.cell_colours(cells.kind, cells.inconsistency, scale)
    image = np.concatenate([colours, np.zeros((1, 3), np.uint8)])[owner]
    kind = np.concatenate([cells.kind, [UNDECIDED]])[owner]  # UNCOVERED is -1, the entry appended last
    return palette.striped(image, (kind == UNDECIDED) | (owner == UNCOVERED))


def _annotate(
    panel: Axes, result: Result, axes: tuple[Axis, ...], pair: tuple[int, int], at: Point | None = None
) -> list[Line2D | Patch]:
    """Draws what was found on top of the cells; returns what the legend must explain.

    What lies at 0 is left out where the slice goes through a point ``at`` that is elsewhere.
    """
    rest = {i: at[i] if at else 0.0 for i in range(len(axes)) if i not in pair}
    through_zero = not any(rest.values())
    marks: list[Line2D | Patch] = []
    if len(axes) == 2:
        marks += _draw_boundary(panel, result)
    elif through_zero and result.origin is not None and np.any(result.origin.ranges):
        marks += _draw_ranges(panel, result, pair)
    scale = result.safe_scale or 0.0
    if all(scale * axes[i].low <= value <= scale * axes[i].high for i, value in rest.items()):
        marks += _draw_safe_box(panel, result, axes[pair[0]], axes[pair[1]])
    if through_zero:
        marks += panel.plot(
            0, 0, "P", color="black", markeredgecolor="white", markersize=11, clip_on=False, zorder=7,
            ls="none", label="θ = 0, the image itself",
        )  # fmt: skip
    return marks + _draw_failure(panel, result, pair, rest)


def _draw_boundary(panel: Axes, result: Result) -> list[Patch]:
    origin = result.origin
    if origin is None or origin.outer_boundary is None:
        return []
    share = f"  {percent(origin.share)}" if origin.share is not None else ""
    told = f"safe part around θ = 0{share}"
    if origin.interior == "not examined":
        told = f"outer boundary around θ = 0{share}\n(interior not examined)"
    rim = Polygon(
        np.array(origin.outer_boundary), closed=True, fill=False, lw=2.2, ec="black", zorder=4, clip_on=False,
        joinstyle="round", path_effects=CASING, label=told,
    )  # fmt: skip
    panel.add_patch(rim)
    holes = [
        Polygon(
            np.array(hole),
            closed=True,
            fill=False,
            lw=1.5,
            ls="--",
            ec="black",
            zorder=4,
            label="holes in it",
        )
        for hole in origin.holes or ()
    ]
    for hole in holes:
        panel.add_patch(hole)
    return [rim, *holes[:1]]


def _draw_ranges(panel: Axes, result: Result, pair: tuple[int, int]) -> list[Line2D]:
    """In a slice: the safe range of each of its two parameters, the others at 0."""
    assert result.origin is not None
    across, up = (result.origin.ranges[axis] for axis in pair)
    style = {
        "color": "black",
        "lw": 2.2,
        "zorder": 4,
        "path_effects": CASING,
        "solid_capstyle": "butt",
        "clip_on": False,
    }
    lines = panel.plot(across, (0, 0), label="safe range, the others at 0", **style)
    panel.plot((0, 0), up, **style)
    return lines


def _draw_safe_box(panel: Axes, result: Result, across: Axis, up: Axis) -> list[Patch]:
    scale = result.safe_scale
    if scale is None or not 0 < scale < 1:
        return []
    box = Rectangle(
        (scale * across.low, scale * up.low), scale * (across.high - across.low), scale * (up.high - up.low),
        fill=False, ec="black", lw=1.4, ls=":", zorder=5, clip_on=False, path_effects=CASING,
        label=f"box × {toward_zero(scale)}: all robust",
    )  # fmt: skip
    panel.add_patch(box)
    return [box]


def _draw_failure(
    panel: Axes, result: Result, pair: tuple[int, int], rest: Mapping[int, float]
) -> list[Line2D]:
    failure = result.nearest_failure
    if failure is None:
        return []
    elsewhere = any(failure.theta[axis] != value for axis, value in rest.items())
    return panel.plot(
        failure.theta[pair[0]], failure.theta[pair[1]], "D", markersize=8, zorder=8, clip_on=False, ls="none",
        color="none" if elsewhere else "#ffe34d", markeredgecolor="black", markeredgewidth=1.4,
        label=result.failure_name() + ("" if len(failure.theta) == 2 else " (hollow: beside the slice)"),
    )  # fmt: skip


def _colour_bar(chart: Figure, panels: list[Axes], result: Result, scale: Scale) -> None:
    """Blue up to the threshold, orange beyond; each ramp has half of the bar, whatever it spans."""
    bar = chart.colorbar(ScalarMappable(), ax=panels, shrink=0.8, aspect=28, pad=0.02).ax
    bar.clear()
    bar.imshow(palette.ramp_colours(scale)[:, None], extent=(0, 1, 0, 1), origin="lower", aspect="auto")
    values = [0.0, scale.threshold / 2, scale.threshold]
    if scale.top > scale.threshold:
        values += [(scale.threshold + scale.top) / 2, scale.top]
    names = [number(v, 3) if v != scale.threshold else f"δ = {given(v)}" for v in values]
    bar.set_xticks([])
    bar.set_yticks(np.linspace(0, 1, len(values)), names)
    bar.yaxis.tick_right()
    bar.yaxis.set_label_position("right")
    bar.set_ylabel(f"inconsistency ({result.problem.inconsistency})")


def _axis_figure(result: Result, cells: Interval1D | None, axis: Axis) -> Figure:
    chart = Figure(figsize=(9.0, 6.0), layout="constrained")
    alone = result.problem.class_alone
    *above, gap, strip = chart.subplots(
        2 if alone else 3, 1, sharex=True, height_ratios=(10, 0.6) if alone else (6, 4, 0.6)
    )
    for drift in above:
        drift.set_ylabel(f"inconsistency ({result.problem.inconsistency})")
    gap.set_ylabel("class gap")
    strip.set_yticks([])
    strip.set_xlabel(_label(axis)).set_parse_math(False)
    strip.set_xlim(axis.low, axis.high)
    if cells is not None:
        for drift in above:
            drift.plot(*_broken_line(cells.edges, cells.inconsistency), color=CURVE, lw=1.6)
        gap.plot(*_broken_line(cells.edges, cells.class_gap), color=CURVE, lw=1.6)
        _draw_strip(strip, cells)
    limits = [_draw_threshold(drift, result) for drift in above]
    gap.axhline(0, color="#555555", ls="--", lw=1.3)
    marks: list[Line2D | Patch] = [*limits]
    for panel in (*above, gap):
        marks = [*limits, *_annotate_axis(panel, result)]
    chart.legend(handles=[*_kind_handles(result), *marks], loc="outside lower center", ncols=4, fontsize=9)
    _title(chart, result)
    return chart


def _draw_threshold(panel: Axes, result: Result) -> Line2D:
    threshold = result.problem.threshold
    panel.set_ylim(bottom=0)
    return panel.axhline(threshold, color="#a83e04", ls="--", lw=1.3, label=f"δ = {given(threshold)}")


def _annotate_axis(panel: Axes, result: Result, ink: str = "black") -> list[Line2D | Patch]:
    marks: list[Line2D | Patch] = [panel.axvline(0, color=ink, lw=1.2, label="θ = 0, the image itself")]
    if result.origin is not None:
        low, high = result.origin.ranges[0]
        safe = panel.axvspan(low, high, facecolor=palette.FLAT[0], alpha=0.18, zorder=0, label="safe range")
        for end in (low, high):
            panel.axvline(end, color=palette.FLAT[0], lw=1.6)
        marks.append(safe)
    if result.nearest_failure is not None:
        at = result.nearest_failure.theta[0]
        marks.append(panel.axvline(at, color=ink, ls=":", lw=1.6, label=result.failure_name()))
    return marks


def _broken_line(
    edges: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One line for all cells, in order, with a gap wherever the value jumps from one cell to the next."""
    order = np.argsort(edges[:, 0], kind="stable")
    pause = np.full((len(order), 1), np.nan)
    x = np.concatenate([edges[order], pause], axis=1).ravel()
    y = np.concatenate([values[order], pause], axis=1).ravel()
    joined = np.zeros(len(order), bool)
    joined[:-1] = (edges[order[:-1], 1] == edges[order[1:], 0]) & (
        values[order[:-1], 1] == values[order[1:], 0]
    )
    keep = np.ones((len(order), 3), bool)
    keep[joined, 2] = False
    return x[keep.ravel()], y[keep.ravel()]


def _draw_strip(panel: Axes, cells: Interval1D) -> None:
    """The kinds along the axis, neighbours of one kind merged."""
    order = np.argsort(cells.edges[:, 0], kind="stable")
    edges, kind = cells.edges[order], cells.kind[order]
    starts = np.flatnonzero(np.diff(kind, prepend=-1) != 0)
    ends = np.append(starts[1:], len(kind)) - 1
    spans = np.stack([edges[starts, 0], edges[ends, 1] - edges[starts, 0]], axis=1)
    for code, colour in enumerate(palette.FLAT):
        panel.broken_barh(spans[kind[starts] == code].tolist(), (0, 1), color=colour, lw=0)
    panel.set_ylim(0, 1)
