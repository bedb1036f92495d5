"""From an answer to its folder, a figure, or a cell of a notebook."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from steadygaze.answer.drawing import Drawing, Interval1D, Polygons
from steadygaze.answer.result import Point, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def write_report(
    result: Result,
    drawing: Drawing,
    folder: str | Path,
    certify: Callable[[Path], None] | None = None,
    picture: bool = False,
) -> Path:
    """Write the whole answer into ``folder``, which is made where it is missing, and return it.

    Everything is written beside the folder first and moved in at the end, ``result.json`` last, so that an
    interrupted run leaves an earlier answer whole. Other files in the folder are left alone. ``certify``
    writes the certificate into the folder that it is given. ``picture``: write ``map.png`` too, and
    put it into the page.

    Raises SettingError where the folder cannot be written, InternalCheckError where the result breaks its
    schema.
    """
    from steadygaze.report.folder import write  # here: jinja2 is slow to import

    return write(result, drawing, Path(folder), certify, picture)


def figure(result: Result, drawing: Drawing) -> Figure:
    """The map of the box as a matplotlib figure, made without matplotlib's global state."""
    from steadygaze.report.figures import figure as draw

    return draw(result, drawing)


def cell(result: Result, drawing: Drawing) -> str:
    """The answer as HTML for a cell of a notebook."""
    from steadygaze.report.notebook import cell as shown

    return shown(result, drawing)


def plot_axis(panel: Axes | None, result: Result, cells: Interval1D, value: str, legend: bool) -> Axes:
    """The curve of one parameter on the axes given, or on those of a new figure of pyplot; returns them."""
    from steadygaze.report.figures import draw_axis

    panel = panel or _new_axes()
    draw_axis(panel, result, cells, value, legend)
    return panel


def plot_plane(panel: Axes | None, result: Result, cells: Polygons, at: Point | None, legend: bool) -> Axes:
    """The map of two parameters, or a slice through ``at``, in the same way."""
    from steadygaze.report.figures import draw_plane

    panel = panel or _new_axes()
    draw_plane(panel, result, cells, at, legend)
    return panel


def _new_axes() -> Axes:
    """Axes of a figure that pyplot knows, so that notebooks and `pyplot.show` show it."""
    from matplotlib import pyplot as plt

    return plt.subplots(layout="constrained")[1]
