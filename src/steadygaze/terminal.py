"""Saying things on a terminal, or to whoever reads instead of one, and what it comes to where nobody does."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import click

from steadygaze.errors import SettingError


def unheard() -> AbstractContextManager[None]:
    """Around what is said on standard error: that nobody can read it changes nothing else."""
    return suppress(OSError, ValueError)


def printed(text: str, written: Path | None = None) -> None:
    """Print what was asked for. An answer that is written is not lost where its reader has gone.

    Raises SettingError where it cannot be printed otherwise, as on a full disk.
    """
    try:
        click.echo(text)
    except OSError as error:
        silence()
        kept = "" if written is None else f"; it is in {str(written)!r}"
        if written is not None and error.errno == errno.EPIPE:
            with unheard():
                click.echo(f"the answer was not printed, as its reader has gone{kept}", err=True)
            return
        raise SettingError(
            f"what was asked for could not be printed ({error.strerror or error}){kept}; send it elsewhere"
        ) from error


def silence() -> None:
    """Let what standard output still holds go nowhere, so that leaving the program does not fail on it."""
    with unheard():
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def is_watched() -> bool:
    """Whether somebody looks at standard error: a terminal."""
    return sys.stderr.isatty()
