"""Running a plan: what is not in the store yet is done, and every finished case is kept at once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from steadygaze.campaign.crew import AbstractCrew, Margins, Reply, Task
from steadygaze.campaign.plan import Plan, PlannedCase
from steadygaze.campaign.pool import PoolCrew
from steadygaze.campaign.record import Record, Status
from steadygaze.campaign.store import Writer, writing


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
    crew: AbstractCrew | None = None,
    retry: Collection[Status] = (),
    progress: Callable[[RunProgress], None] | None = None,
) -> Summary:
    """Do what the plan asks and the store does not hold yet.

    A case that is refused, crashes, hangs or eats memory is a record like any other and never a stop. Ctrl-C
    ends the run; what was finished is kept, and running the same plan again goes on from there.

    Arguments:
        store: the file of the records, made where it is missing. workers: processes side by side, by default
            one for each core. margins: how far a worker may overrun a case's limits before it is ended.
        crew: who answers the cases instead of such processes; workers and margins are then its own.
        retry: cases that ended so are done again, such as ``{Status.CRASHED}`` after a repair.
        progress: called a few times a second.

    The processes are started by ``spawn``: a script calls this under ``if __name__ == "__main__":``.

    Raises:
        SettingError: a model or an image of the plan cannot be read, two cases are the same, the store is
            being written by another process or cannot be written.
        SteadygazeError: no worker process can be started.
    """
    crew = crew or PoolCrew(workers, margins)
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
                _work_off(jobs, keyed, writer, crew, ended, tell)
        except KeyboardInterrupt:
            interrupted = True
        tell(())
    return Summary(len(keyed), len(kept), dict(ended), time.monotonic() - began, interrupted)


def _work_off(
    jobs: list[str],
    keyed: Mapping[str, PlannedCase],
    writer: Writer,
    crew: AbstractCrew,
    ended: Counter[Status],
    tell: Callable[[Collection[str]], None],
) -> None:
    tasks = [Task(key, keyed[key].case) for key in jobs]
    replies = crew.work(tasks, lambda at_work: tell([task.key for task in at_work]))
    with closing(replies):  # Ctrl-C lands here: the processes end before the store is closed
        for task, reply in replies:
            writer.settle(task.key, keyed[task.key], _recorded(reply))
            ended[reply.status] += 1


def _recorded(reply: Reply) -> Record:
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    told = (reply.status, reply.sentence, reply.seconds, reply.memory, reply.machine)
    return Record(*told, finished, reply.answer)
