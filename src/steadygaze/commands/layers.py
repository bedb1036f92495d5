"""``steadygaze layers``: which layers are read, and how each is verified."""

from __future__ import annotations

import textwrap

import click

from steadygaze.terminal import printed

_WIDTH = 110


@click.command()
def layers() -> None:
    """List the layers that are read: exact, by bounds, or refused, by their names in ONNX and PyTorch.

    Exact layers are piecewise linear: every search takes them. Networks with a layer that is there by bounds
    are for `--method bound`, which auto chooses by itself.
    """
    from steadygaze.network.reading.listing import lines

    printed("\n".join(textwrap.fill(line, _WIDTH, subsequent_indent="    ") for line in lines()))
