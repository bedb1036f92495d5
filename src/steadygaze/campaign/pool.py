"""The processes of this machine: each is handed one case at a time, watched, and ended where it overruns.

Written with multiprocessing itself: the pools of the standard library, joblib and pebble neither know a limit
of memory nor tell which of their processes works on which case.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import connection as connections
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import final

import psutil

from steadygaze.campaign.crew import GIB, READY, AbstractCrew, Margins, Reply, Task
from steadygaze.campaign.record import Status, this_machine
from steadygaze.errors import SettingError, SteadygazeError
from steadygaze.question.case import Case

SOON = 0.5  # seconds: a worker whose cases take no longer is handed the next one before it asks
POLL = 0.1  # seconds between two looks at the memory of the workers
LONGEST_START = 300.0  # seconds until a worker must be ready: imports, and compiling on a new machine
MOST_UNBORN = 3  # workers in a row that may die before they have a case, killed by somebody perhaps


def serve(connection: connections.Connection, methods: tuple[str, ...], workers: int) -> None:
    """Answer tasks from the connection until it closes. The process starts here."""
    from steadygaze.campaign import worker  # here: torch takes seconds, and only these processes need it

    worker.serve(connection, methods, workers)


@final
class PoolCrew(AbstractCrew):
    """Worker processes on this machine, each with one thread to compute with.

    They import the script that makes them work: it does so under ``if __name__ == "__main__":``.
    """

    def __init__(self, workers: int | None = None, margins: Margins | None = None) -> None:
        """A crew of this machine.

        Args:
            workers: processes side by side, by default one for each core.
            margins: how far a worker may overrun a case's limits before it is ended.

        Raises:
            SettingError: if the number of workers is not at least 1.
        """
        self._workers = _checked(workers)
        self._margins = margins or Margins()

    @property
    def workers(self) -> int:
        """Processes side by side."""
        return self._workers

    def work(
        self, tasks: Sequence[Task], watch: Callable[[Sequence[Task]], None]
    ) -> Generator[tuple[Task, Reply], None, None]:
        """See `AbstractCrew`. Raises SteadygazeError where no worker process can be started."""
        waiting = deque(tasks)
        methods = tuple(sorted({task.case.method for task in tasks}))
        crew = [Worker(methods, self._workers) for _ in range(min(self._workers, len(tasks)))]
        unborn = 0
        try:
            while waiting or any(worker.tasks for worker in crew):
                awaited = [worker for worker in crew if worker.tasks or not worker.ready]
                connections.wait([worker.connection for worker in awaited], POLL)
                for worker in awaited:
                    task, reply = worker.task, worker.look(self._margins)
                    if worker.dead:
                        unborn = 0 if task else unborn + 1
                        if unborn > MOST_UNBORN:
                            raise SteadygazeError(worker.unborn())
                        crew.remove(worker)
                        waiting.extendleft(reversed(worker.tasks))
                        crew += [Worker(methods, self._workers)] if waiting else []
                    while waiting and worker.wants(len(waiting)):
                        worker.give(waiting.popleft())  # before its last answer is kept: nobody waits
                    if reply is not None and task is not None:
                        yield task, reply
                watch([worker.task for worker in crew if worker.task is not None])
        finally:
            for worker in crew:
                worker.end()


@final
class Worker:
    """One process. It dies with this object's ``end``, or by itself; then another takes its place."""

    def __init__(self, methods: tuple[str, ...], workers: int) -> None:
        with _quiet_start() as context:
            self.connection, theirs = context.Pipe()
            arguments = (theirs, methods, workers)
            self.process: BaseProcess = context.Process(target=serve, args=arguments, daemon=True)  # pyright: ignore[reportAttributeAccessIssue]
            try:
                self.process.start()
            except BaseException:  # Ctrl-C: what is born without a reader ends by itself
                self.connection.close()
                raise
            finally:
                theirs.close()
        self.ready, self.dead, self._workers, self._highest = False, False, workers, 0
        self.tasks: deque[Task] = deque()  # the one at work, and perhaps the next
        self._usual = math.inf  # seconds of the last case
        self._began = self._looked = time.monotonic()

    @property
    def task(self) -> Task | None:
        """The task at work."""
        return self.tasks[0] if self.tasks else None

    def wants(self, waiting: int) -> bool:
        """Whether to hand it one of so many tasks: it has none, or only one that will end in a moment."""
        soon = self._usual < SOON and waiting > self._workers
        return self.ready and not self.dead and len(self.tasks) < (2 if soon else 1)

    def give(self, task: Task) -> None:
        """Hand the worker a task that it wants."""
        if not self.tasks:
            self._highest, self._began = 0, time.monotonic()
        self.tasks.append(task)
        with suppress(OSError):  # it died meanwhile: `look` finds out
            self.connection.send(task)

    def look(self, margins: Margins) -> Reply | None:
        """The reply to the task given, where there is one by now; the worker may be ``dead`` afterwards.

        Raises SteadygazeError where the process does not become ready.
        """
        with suppress(EOFError, OSError):
            if self.connection.poll():
                return self._received(self.connection.recv())
        if not self.process.is_alive():
            return self._died()
        if self.tasks:
            return self._overrun(self.tasks[0].case, margins)
        if not self.ready and time.monotonic() - self._began > LONGEST_START:
            raise SteadygazeError(
                f"a worker process was not ready after {LONGEST_START:g} s; see whether the machine is "
                "overloaded, and give fewer workers"
            )
        return None

    def unborn(self) -> str:
        """What is to be said of a worker that died before it had a case."""
        return (
            f"a worker process {self._how()} before it had a case; call run under "
            '`if __name__ == "__main__":`, and see what the process wrote'
        )

    def end(self) -> None:
        """End the process at once."""
        self.dead = True
        self.process.kill()
        self.process.join()
        self.connection.close()

    def _received(self, message: Reply | str) -> Reply | None:
        if isinstance(message, Reply):
            self.tasks.popleft()
            self._usual, self._highest, self._began = message.seconds, 0, time.monotonic()
            return message
        self.ready = message == READY
        return None

    def _how(self) -> str:
        code = self.process.exitcode or 0
        return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"

    def _died(self) -> Reply | None:
        self.end()
        return self._ended(Status.CRASHED, f"the worker process {self._how()}") if self.tasks else None

    def _overrun(self, case: Case, margins: Margins) -> Reply | None:
        now = time.monotonic()
        if now - self._looked < POLL:
            return None
        seconds, self._looked = now - self._began, now
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
        self.tasks.popleft()
        memory = {"peak": self._highest} if self._highest else {}
        seconds = time.monotonic() - self._began
        return Reply(status, sentence, seconds, memory, this_machine(self._workers), None)


@contextmanager
def _quiet_start() -> Iterator[BaseContext]:
    """A process started in here computes with one thread, and leaves Ctrl-C to the one that started it.

    On Linux it is forked from a process that has imported everything and done nothing else, so that one that
    crashed is soon replaced. That process ignores Ctrl-C, and so do those that are forked from it; here it
    counts while that one imports, which takes seconds. Elsewhere forking is not safe, and each imports for
    itself.
    """
    forked = sys.platform == "linux"
    context = multiprocessing.get_context("forkserver" if forked else "spawn")
    context.set_forkserver_preload(["steadygaze.campaign.worker"])
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        if forked:
            from multiprocessing import forkserver  # here: there is none on Windows

            with _interrupts_ignored():
                forkserver.ensure_running()
            yield context
        else:
            with _interrupts_ignored():
                yield context
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ctrl-C does nothing in here, nor in a process that is started in here."""
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if in_main else None
    try:
        yield
    finally:
        if handler is not None:
            signal.signal(signal.SIGINT, handler)


def _checked(workers: int | None) -> int:
    if workers is None:
        return os.cpu_count() or 1
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise SettingError(f"the number of workers is {workers!r}; it must be a whole number of at least 1")
    return workers
