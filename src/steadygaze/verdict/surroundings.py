"""What a question changes in its process while it is asked, and puts back.

What Ctrl-C does, who is told when kernels are compiled, and whether PyTorch keeps a record for gradients.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numba.core.event as numba_events
import torch

from steadygaze.deadline import NEVER, Deadline
from steadygaze.geometry.ahead import compiled_beside
from steadygaze.perturbation import BUILT_IN
from steadygaze.perturbation.chain import Chain
from steadygaze.verdict.budget import Progress


@contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Ctrl-C is heeded where the time is asked, which leaves the search whole; a second one at once.

    What the second one breaks off is no longer whole, and what is broken off may let it pass or make another
    error of it: no answer comes of it, whatever happens.
    """
    asked = broken_off = False

    def note(number: int, frame: object) -> None:
        nonlocal asked, broken_off
        if asked:
            broken_off = True
            raise KeyboardInterrupt
        asked = True

    if threading.current_thread() is not threading.main_thread():  # only it is told of signals
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: asked
    except Exception as error:
        if broken_off:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.default_int_handler)
    if broken_off:
        raise KeyboardInterrupt


def unrecorded(chain: Chain) -> torch.inference_mode:
    """No record is kept for gradients, which saves 4 % of the time of a small answer.

    It is where a perturbation is of the user's own, whose code may ask for gradients.
    """
    return torch.inference_mode(all(type(link) in BUILT_IN for link in chain.links))


@contextmanager
def announced(tell: Callable[[Progress], None], kernels: str, deadline: Deadline) -> Iterator[Compiling]:
    """Say so when kernels are compiled, which happens once on a machine: the code is kept on disk.

    deadline: of the search; for what is yielded, time stands still meanwhile.
    """
    compiling = Compiling(tell, deadline)
    with (
        compiled_beside(kernels, compiling.deadline) as begin,
        numba_events.install_listener("numba:compile", compiling),
    ):
        compiling.begin = begin
        yield compiling


@contextmanager
def uncounted(late: Deadline, deadline: Deadline) -> Iterator[tuple[Compiling, Deadline, Deadline]]:
    """Hears how long kernels are compiled meanwhile; and the deadlines, by a clock that stands still then."""
    compiling = Compiling(lambda _: None, NEVER)
    with numba_events.install_listener("numba:compile", compiling):
        yield compiling, compiling.outside(late), compiling.outside(deadline)


class Compiling(numba_events.Listener):
    """Hears of kernels that are compiled: tells of it, has others compiled beside, and stops the clock.

    What is compiled once on a machine is no part of a question: a first one with a short limit would have no
    answer otherwise, and the same one an answer when it is asked again.

    Attributes:
        deadline: the given one, by a clock that stands still while something is compiled here.
        begin: starts the second process.
    """

    def __init__(self, tell: Callable[[Progress], None], deadline: Deadline) -> None:
        self._tell, self._clock = tell, deadline.clock
        self._depth, self._since, self._over = 0, 0.0, 0.0
        self.begin: Callable[[], None] = lambda: None
        self.deadline = self.outside(deadline)

    def outside(self, deadline: Deadline) -> Deadline:
        """The same by a clock that stands still while something is compiled here."""
        return replace(deadline, clock=lambda: deadline.clock() - self.seconds)

    @property
    def seconds(self) -> float:
        """How long something was compiled, up to now."""
        return self._over + (self._clock() - self._since if self._depth else 0.0)

    def on_start(self, event: numba_events.Event) -> None:
        # numba compiles under one lock: what begins meanwhile is needed by what has begun.
        if not self._depth:
            self._since = self._clock()
        self._depth += 1
        self._tell(Progress(0.0, 0, 0.0, "compiling"))
        self.begin()

    def on_end(self, event: numba_events.Event) -> None:
        if self._depth == 1:
            self._over, self._depth = self.seconds, 0
        else:
            self._depth -= 1
