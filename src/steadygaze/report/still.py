"""The map as a picture that stays as it is: a file of its own, or for pages that nobody can point into."""

from __future__ import annotations

import io

from steadygaze.answer.drawing import Drawing
from steadygaze.answer.result import Result

DOTS_PER_INCH = 130


def map_png(result: Result, drawing: Drawing) -> bytes:
    """The map as the bytes of a PNG file."""
    from steadygaze.report.figures import figure  # here: matplotlib is slow to import

    stream = io.BytesIO()
    figure(result, drawing).savefig(stream, format="png", dpi=DOTS_PER_INCH)
    return stream.getvalue()
