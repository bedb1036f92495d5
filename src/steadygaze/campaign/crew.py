"""The worker processes: each is handed one case at a time, watched, and ended where it overruns.

Written with multiprocessing itself: the pools of the standard library, joblib and pebble neither know a limit
of memory nor tell which of their processes works on which case.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection as connections
from multiprocessing.context import SpawnProcess
from typing import TypeVar, final

import psutil

from steadygaze.campaign.record import Status
from steadygaze.campaign.worker import READY, Reply, serve
from steadygaze.errors import SettingError, SteadygazeError
from steadygaze.question.case import Case

POLL = 0.1  # seconds between two looks at the memory of the workers
LONGEST_START = 300.0  # seconds until a worker must be ready: imports, and compiling on a new machine
GIB = 2**30

Job = TypeVar("Job")


@dataclass(frozen=True)
class Margins:
    """How far a worker may overrun the limits of its case before it is ended.

    The package keeps a case's own limits as well as it can, and then checks and reads what was found; only
    what does not come back from that is ended by force.

    Attributes:
        factor: of the time limit; seconds: and so many more. gib: beyond the memory limit.
    """

    factor: float = 1.5
    seconds: float = 20.0
    gib: float = 1.0

    def __post_init__(self) -> None:
        if not (self.factor >= 1 and self.seconds >= 0 and self.gib >= 0):
            raise SettingError(
                f"the margins are {self.factor} times, {self.seconds} s and {self.gib} GiB; the factor must "
                "be at least 1 and the others at least 0"
            )

    def deadline(self, case: Case) -> float:
        """Seconds after which the worker of this case is ended."""
        return float("inf") if case.time_limit is None else self.factor * case.time_limit + self.seconds

    def ceiling(self, case: Case) -> float:
        """Bytes above which it is."""
        return (case.memory_limit + self.gib) * GIB


@final
class Worker:
    """One process. It dies with this object's ``end``, or by itself; then another takes its place."""

    def __init__(self, methods: tuple[str, ...]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=serve, args=(theirs, methods), daemon=True)
        with _quiet_start():
            self.process.start()
        theirs.close()
        self.ready, self.case, self._highest = False, None, 0
        self._began = time.monotonic()

    def give(self, case: Case) -> None:
        """Hand the worker a case; only to a ready one."""
        self.case, self._highest, self._began = case, 0, time.monotonic()
        with suppress(OSError):  # it died meanwhile: `look` finds out
            self.connection.send(case)

    def look(self, margins: Margins) -> Reply | None:
        """The reply to the case given, where there is one by now; the worker may be dead afterwards.

        Raises SteadygazeError where the process cannot be made ready.
        """
        with suppress(EOFError, OSError):
            if self.connection.poll():
                return self._received(self.connection.recv())
        if not self.process.is_alive():
            return self._died()
        if self.case is None:
            if not self.ready and time.monotonic() - self._began > LONGEST_START:
                raise SteadygazeError(
                    f"a worker process was not ready after {LONGEST_START:g} s; see whether the machine is "
                    "overloaded, and give fewer workers"
                )
            return None
        return self._overrun(self.case, margins)

    def end(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.join()
        self.connection.close()

    def _received(self, message: Reply | str) -> Reply | None:
        if isinstance(message, Reply):
            self.case = None
            return message
        self.ready = message == READY
        return None

    def _died(self) -> Reply:
        code = self.process.exitcode or 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        if self.case is None:
            raise SteadygazeError(
                f"a worker process {how} before it had a case; call run under "
                '`if __name__ == "__main__":`, and see what the process wrote'
            )
        return self._ended(Status.CRASHED, f"the worker process {how}")

    def _overrun(self, case: Case, margins: Margins) -> Reply | None:
        seconds = time.monotonic() - self._began
        with suppress(psutil.Error):
            self._highest = max(self._highest, psutil.Process(self.process.pid).memory_info().rss)
        if self._highest > margins.ceiling(case):
            self.end()
            return self._ended(
                Status.OUT_OF_MEMORY,
                f"the worker process was ended at {self._highest / GIB:.2f} GiB, beyond the memory limit of "
                f"{case.memory_limit:g} GiB and its margin",
            )
        if seconds > margins.deadline(case):
            self.end()
            return self._ended(
                Status.TIMED_OUT,
                f"the worker process was ended after {seconds:.1f} s, beyond the time limit of "
                f"{case.time_limit:g} s and its margin",
            )
        return None

    def _ended(self, status: Status, sentence: str) -> Reply:
        memory = {"peak": self._highest} if self._highest else {}
        return Reply(status, sentence, time.monotonic() - self._began, memory, None)


def work(
    jobs: Sequence[Job],
    case_of: Callable[[Job], Case],
    methods: tuple[str, ...],
    workers: int,
    margins: Margins,
    watch: Callable[[list[Job]], None],
) -> Generator[tuple[Job, Reply], None, None]:
    """Every job with its reply, in the order in which they end.

    ``watch`` is called a few times a second with the jobs at work. Closing the iterator ends all processes.
    """
    waiting, busy = deque(jobs), dict[int, Job]()
    crew = [Worker(methods) for _ in range(min(workers, len(jobs)))]
    try:
        while waiting or busy:
            awaited = [place for place, worker in enumerate(crew) if place in busy or not worker.ready]
            connections.wait([crew[place].connection for place in awaited], POLL)
            for place in awaited:
                reply = crew[place].look(margins)
                if reply is None:
                    continue
                yield busy.pop(place), reply
                if not crew[place].process.is_alive() and waiting:
                    crew[place].end()
                    crew[place] = Worker(methods)
            for place, worker in enumerate(crew):
                if waiting and worker.ready and place not in busy:
                    busy[place] = waiting.popleft()
                    worker.give(case_of(busy[place]))
            watch(list(busy.values()))
    finally:
        for worker in crew:
            worker.end()


@contextmanager
def _quiet_start() -> Iterator[None]:
    """A process started in here computes with one thread, and leaves Ctrl-C to the one that started it."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if in_main else None
    try:
        yield
    finally:
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
