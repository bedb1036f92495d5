"""What a question changes in its process while it is asked, and puts back.

What Ctrl-C does, and who is told when kernels are compiled.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numba.core.event as numba_events

from steadygaze.deadline import Deadline
from steadygaze.geometry.ahead import compiled_beside
from steadygaze.verdict.budget import Progress


@contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Ctrl-C is heeded where the time is asked, which leaves the search whole; a second one at once."""
    asked = False

    def note(number: int, frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    if threading.current_thread() is not threading.main_thread():  # only it is told of signals
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.default_int_handler)


@contextmanager
def announced(tell: Callable[[Progress], None], kernels: str, deadline: Deadline) -> Iterator[None]:
    """Say so when kernels are compiled, which happens once on a machine: the code is kept on disk."""
    with (
        compiled_beside(kernels, deadline) as begin,
        numba_events.install_listener("numba:compile", _Listener(tell, begin)),
    ):
        yield


class _Listener(numba_events.Listener):
    """Hears of kernels that are compiled: tells of it, and has others compiled beside."""

    def __init__(self, tell: Callable[[Progress], None], begin: Callable[[], None]) -> None:
        self._tell, self._begin = tell, begin

    def on_start(self, event: numba_events.Event) -> None:
        self._tell(Progress(0.0, 0, 0.0, "compiling"))
        self._begin()

    def on_end(self, event: numba_events.Event) -> None:
        pass
