"""An answer as a cell of a notebook shows it: the verdict, the shares, the map and the witness, side by side.

Text has the colour of its surroundings and pictures no background, so that it reads on light and dark pages
alike; styles stand with the elements, for notebooks take style sheets out.
"""

from __future__ import annotations

import io
from base64 import b64encode
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from steadygaze.answer.drawing import CURVES, KINDS, Drawing, Exhibit, Interval1D, Polygons
from steadygaze.answer.result import Result, Verdict
from steadygaze.answer.words import given, number, percent
from steadygaze.report.exhibits import pictures
from steadygaze.report.figures import draw_axis, draw_plane
from steadygaze.report.palette import FLAT

SIGNS = {Verdict.ROBUST: ("✓", FLAT[0]), Verdict.VIOLATED: ("✗", FLAT[2]), Verdict.UNKNOWN: ("?", FLAT[3])}
INCHES, DOTS_PER_INCH = 2.6, 130  # a map of some 340 pixels, shown at two thirds of that
INK = "#888888"  # seen on light and on dark
MOST_MAPS = 3  # of more parameters there are more pairs; `answer.plot` shows any


def cell(result: Result, drawing: Drawing) -> str:
    """The HTML of the cell: names that come from files are escaped, nothing is loaded from anywhere."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = files("steadygaze.report").joinpath("notebook.html.j2").read_text(encoding="utf-8")
    sign, tone = SIGNS[result.verdict]
    shares = [
        (KINDS[kind], percent(share), 100 * (share or 0.0), FLAT[kind])
        for kind, share in result.shares_asked()
    ]
    return environment.from_string(source).render(
        result=result,
        sign=sign,
        tone=tone,
        shares=shares,
        maps=_maps(result, drawing),
        exhibits=[_exhibit(exhibit) for exhibit in drawing.exhibits],
        sentences=[
            *result.part_sentences(),
            *result.range_sentences(),
            result.safe_scale_sentence(),
            result.failure_sentence(),
        ],
        work=f"{number(result.regions.get('visited'), 12)} {result.unit_of_work()} by {result.method} in "
        f"{number(result.timing.get('total'), 3)} s",
    )


def _maps(result: Result, drawing: Drawing) -> list[tuple[str, list[str]]]:
    """The picture of each map and what its axes are: the axis, the plane, or the first slices through 0."""
    axes = result.problem.axes()
    told = [f"{axis.name} {given(axis.low)} … {given(axis.high)}" for axis in axes]
    if drawing.intervals is not None:
        curve = CURVES[result.problem.class_alone]
        up = "↑ class gap; dashed: 0" if result.problem.class_alone else "↑ inconsistency; dashed: δ"
        return [(_curve(result, drawing.intervals, curve), [f"→ {told[0]}", up])]
    return [
        (_plane(result, part), [f"→ {told[part.axes[0]]}", f"↑ {told[part.axes[1]]}"])
        for part in drawing.polygons[:MOST_MAPS]
    ]


def _curve(result: Result, cells: Interval1D, curve: str) -> str:
    panel = _bare(1.6)
    draw_axis(panel, result, cells, curve, legend=False, ink=INK)
    panel.set_axis_off()
    return _picture(panel)


def _plane(result: Result, cells: Polygons) -> str:
    panel = _bare(1.0)
    draw_plane(panel, result, cells, legend=False)
    panel.set_axis_off()
    return _picture(panel)


def _bare(stretch: float) -> Axes:
    """Axes that fill a figure of their own, so many times as wide as high."""
    chart = Figure(figsize=(INCHES * stretch, INCHES), dpi=DOTS_PER_INCH)
    FigureCanvasAgg(chart)
    return chart.add_axes((0.03, 0.03, 0.94, 0.94))


def _picture(panel: Axes) -> str:
    stream = io.BytesIO()
    panel.get_figure(root=True).savefig(stream, format="png", transparent=True)  # pyright: ignore
    return _data_uri(stream.getvalue())


def _exhibit(exhibit: Exhibit) -> dict[str, Any]:
    shown, drift = pictures(exhibit, side=1), f", inconsistency {number(exhibit.inconsistency, 3)}"
    return {
        "title": exhibit.title,
        "told": f"class {exhibit.predicted}" + ("" if shown.saliency is None else drift),
        "pictures": [
            (name, _data_uri(png))
            for name, png in (("image", shown.image), ("map", shown.saliency))
            if png is not None
        ],
    }


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{b64encode(png).decode('ascii')}"
