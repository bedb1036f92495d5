"""From an answer to its folder: ``result.json``, ``map.png``, ``report.html``, ``witness/``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from steadygaze.answer.drawing import Drawing
from steadygaze.answer.result import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_report(
    result: Result,
    drawing: Drawing,
    folder: str | Path,
    certify: Callable[[Path], None] | None = None,
) -> Path:
    """Write the whole answer into ``folder``, which is made where it is missing, and return it.

    Everything is written beside the folder first and moved in at the end, ``result.json`` last, so that an
    interrupted run leaves an earlier answer whole. Other files in the folder are left alone. ``certify``
    writes the certificate into the folder that it is given.

    Raises SettingError where the folder cannot be written, InternalCheckError where the result breaks its
    schema.
    """
    from steadygaze.report.folder import write  # here: matplotlib and jinja2 are slow to import

    return write(result, drawing, Path(folder), certify)


def figure(result: Result, drawing: Drawing) -> Figure:
    """The map of the box as a matplotlib figure, made without matplotlib's global state."""
    from steadygaze.report.figures import figure as draw

    return draw(result, drawing)
