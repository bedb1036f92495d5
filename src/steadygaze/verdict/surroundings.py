"""What a question changes in its process while it is asked, and puts back.

The number of torch's threads, what Ctrl-C does, and who is told when kernels are compiled.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numba.core.event as numba_events
import torch

from steadygaze.deadline import Deadline
from steadygaze.geometry.ahead import compiled_beside
from steadygaze.verdict.budget import Progress


class _Lone:
    """Has torch use one thread for each operation while any question is asked, from whichever thread.

    The search's own threads share the cores; torch must not start more inside each of them. What else is
    evaluated, in loading and checking, is small: where another process has one of the cores, threads that
    meet after each operation take ten to forty times as long as one alone.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asking, self._before = 0, 1

    def __enter__(self) -> None:
        with self._lock:
            if not self._asking:
                self._before = torch.get_num_threads()
            self._asking += 1
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._asking -= 1
            if not self._asking:
                torch.set_num_threads(self._before)

    @property
    def usual(self) -> int:
        """How many threads torch has where nothing is asked."""
        with self._lock:
            return self._before if self._asking else torch.get_num_threads()


# The number of torch's threads is the process's, and so is who has changed it.
LONE = _Lone()


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
    with compiled_beside(kernels, deadline) as begin:

        class Listener(numba_events.Listener):
            def on_start(self, event: numba_events.Event) -> None:
                tell(Progress(0.0, 0, 0.0, "compiling"))
                begin()

            def on_end(self, event: numba_events.Event) -> None:
                pass

        with numba_events.install_listener("numba:compile", Listener()):
            yield
