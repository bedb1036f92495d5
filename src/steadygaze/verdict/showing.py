"""How far a run has come, shown: in a notebook, on a terminal, or to whoever was named."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from steadygaze.answer.words import number, percent
from steadygaze.errors import SettingError

COMPILING = "compiling"  # the name of that phase
AUTO = "auto"

# A notebook's page is written anew at most so often, in seconds.
_PAUSE = 0.1

# Takes the driver's record of `Progress`, or another that has a fraction and says itself in a sentence.
Tell = Callable[[Any], None]


def check_progress(progress: Tell | str | None) -> None:
    """Raises SettingError for what can neither be called nor is a known word."""
    if progress is not None and progress != AUTO and not callable(progress):
        raise SettingError(
            f"progress is {progress!r}; it must be a function of one argument, {AUTO!r} for a bar in a "
            "notebook or on a terminal, or None"
        )


@contextmanager
def shown(progress: Tell | str | None) -> Iterator[Tell]:
    """Whom to tell of progress; with ``"auto"`` a bar where someone may watch, which goes at the end."""
    check_progress(progress)
    if callable(progress):
        yield progress
    elif progress == AUTO and in_notebook():
        with _cell() as tell:
            yield tell
    elif progress == AUTO and sys.stderr.isatty():
        with terminal_bar() as tell:
            yield tell
    else:
        yield lambda now: None


def in_notebook() -> bool:
    """Whether code runs in a notebook's kernel, which shows HTML."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and hasattr(shell, "kernel")


def sentence(now: Any) -> str:
    """What is going on, in words."""
    if hasattr(now, "sentence"):
        return now.sentence()
    if now.phase == COMPILING:
        return "compiling, only once on this machine"
    reached = "" if now.radius is None else f", robust within {number(now.radius, 3)} half-widths"
    return f"{now.phase}: {now.regions} regions, {percent(now.robust_share)} robust{reached}"


@contextmanager
def terminal_bar() -> Iterator[Tell]:
    """A bar on standard error."""
    from rich.console import Console  # here: it is slow to import
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("loading", total=1.0)
        yield lambda now: bar.update(task, completed=now.fraction, description=sentence(now))


@contextmanager
def _cell() -> Iterator[Tell]:
    """A bar in the output of a cell; plain HTML, for rich would ask for widgets."""
    from IPython.core.display import HTML  # here: in a notebook it is there already
    from IPython.core.display_functions import DisplayHandle

    handle = DisplayHandle()
    handle.display(HTML(""))
    last = -_PAUSE

    def show(now: Any) -> None:
        nonlocal last
        if time.monotonic() - last >= _PAUSE:
            last = time.monotonic()
            told = html.escape(sentence(now))
            handle.update(
                HTML(f'<progress max="1" value="{now.fraction:.4f}"></progress> <small>{told}</small>')
            )

    try:
        yield show
    finally:
        handle.update(HTML(""))
