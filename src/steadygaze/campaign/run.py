"""Running a plan: what is not in the store yet is done, and every finished case is kept at once."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from steadygaze.campaign.crew import Margins, work
from steadygaze.campaign.plan import Plan, PlannedCase
from steadygaze.campaign.record import Machine, Record, Status, this_machine
from steadygaze.campaign.store import Writer, writing
from steadygaze.campaign.worker import Reply
from steadygaze.errors import SettingError


@dataclass(frozen=True)
class RunProgress:
    """How far a run has come.

    Attributes:
        total: cases of the plan. before: of these, finished by earlier runs. ended: by this one, by status.
        at_work: the cases that are being verified now.
    """

    total: int
    before: int
    ended: Mapping[Status, int]
    at_work: tuple[PlannedCase, ...] = ()

    @property
    def finished(self) -> int:
        """Cases of the plan that have a record."""
        return self.before + sum(self.ended.values())


@dataclass(frozen=True)
class Summary:
    """What a run did. Attributes as of `RunProgress`; interrupted: it was stopped by Ctrl-C."""

    total: int
    before: int
    ended: Mapping[Status, int] = field(default_factory=dict)
    seconds: float = 0.0
    interrupted: bool = False

    def sentence(self) -> str:
        """What was done, in words."""
        done = sum(self.ended.values())
        if not done and not self.interrupted:
            return f"All {self.total} cases were finished before; no work was done."
        told = ", ".join(f"{count} {status.value}" for status, count in sorted(self.ended.items()))
        left = self.total - self.before - done
        parts = [f"{done} cases in {self.seconds:.0f} s" + (f" ({told})" if told else "")]
        parts += [f"{self.before} were finished before"] if self.before else []
        parts += [f"interrupted with {left} left; run the same again to go on"] if self.interrupted else []
        return f"{'; '.join(parts)}."


def run(
    plan: Plan,
    store: str | Path,
    *,
    workers: int | None = None,
    margins: Margins | None = None,
    retry: Collection[Status] = (),
    progress: Callable[[RunProgress], None] | None = None,
) -> Summary:
    """Do what the plan asks and the store does not hold yet.

    A case that is refused, crashes, hangs or eats memory is a record like any other and never a stop. Ctrl-C
    ends the run; what was finished is kept, and running the same plan again goes on from there.

    Arguments:
        store: the file of the records, made where it is missing. workers: processes side by side, by default
            one for each core. margins: how far a worker may overrun a case's limits before it is ended.
        retry: cases that ended so are done again, such as ``{Status.CRASHED}`` after a repair.
        progress: called a few times a second.

    The processes are started by ``spawn``: a script calls this under ``if __name__ == "__main__":``.

    Raises:
        SettingError: a model or an image of the plan cannot be read, two cases are the same, the store is
            being written by another process or cannot be written.
        SteadygazeError: no worker process can be started.
    """
    workers = _checked(workers)
    began = time.monotonic()
    ended: Counter[Status] = Counter()
    interrupted = False
    keyed = plan.keyed()
    with writing(Path(store)) as writer:
        writer.begin(plan, keyed)
        kept = {key for key, status in writer.statuses(keyed.keys()).items() if status not in retry}
        jobs = [key for key in keyed if key not in kept]

        def tell(at_work: Collection[str]) -> None:
            if progress is not None:
                now = tuple(keyed[key] for key in at_work)
                progress(RunProgress(len(keyed), len(kept), dict(ended), now))

        try:
            if jobs:
                _work_off(jobs, keyed, writer, workers, margins or Margins(), ended, tell)
        except KeyboardInterrupt:
            interrupted = True
        tell(())
    return Summary(len(keyed), len(kept), dict(ended), time.monotonic() - began, interrupted)


def _work_off(
    jobs: list[str],
    keyed: Mapping[str, PlannedCase],
    writer: Writer,
    workers: int,
    margins: Margins,
    ended: Counter[Status],
    tell: Callable[[Collection[str]], None],
) -> None:
    methods = tuple(sorted({keyed[key].case.method for key in jobs}))
    machine = this_machine(workers)
    replies = work(jobs, lambda key: keyed[key].case, methods, workers, margins, tell)
    with closing(replies):  # Ctrl-C lands here: the processes end before the store is closed
        for key, reply in replies:
            writer.settle(key, keyed[key], _recorded(reply, machine))
            ended[reply.status] += 1


def _recorded(reply: Reply, machine: Machine) -> Record:
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    return Record(reply.status, reply.sentence, reply.seconds, reply.memory, machine, finished, reply.answer)


def _checked(workers: int | None) -> int:
    if workers is None:
        return os.cpu_count() or 1
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise SettingError(f"the number of workers is {workers!r}; it must be a whole number of at least 1")
    return workers
