"""Running a plan: what is not in the store yet is done, and every finished case is kept at once."""

from __future__ import annotations

import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import final

from steadygaze.campaign.crew import AbstractCrew, Margins, Reply, Task, is_kept
from steadygaze.campaign.estimate import Estimate, Estimator, kind_of
from steadygaze.campaign.plan import Plan, PlannedCase
from steadygaze.campaign.pool import PoolCrew
from steadygaze.campaign.record import Record, Status
from steadygaze.campaign.standing import counted, lasting, paced
from steadygaze.campaign.store import Ending, RunState, Writer, folder_of, writing
from steadygaze.verdict.showing import shown

BEAT = 2.0  # seconds between two words of the driver to those who look on
NO_ANSWER = "no answer"  # what counts by verdict call a case without one


@dataclass(frozen=True)
class RunProgress:
    """How far a run has come.

    Attributes:
        total: different questions of the plan.
        before: of these, finished by earlier runs.
        ended: by this one, by status.
        verdicts: the answers of both, by verdict.
        at_work: the cases that are being verified now.
        seconds: since this run began.
        rest: how long the rest will take, None while nobody knows.
    """

    total: int
    before: int
    ended: Mapping[Status, int]
    verdicts: Mapping[str, int] = field(default_factory=dict)
    at_work: tuple[PlannedCase, ...] = ()
    seconds: float = 0.0
    rest: Estimate | None = None

    @property
    def finished(self) -> int:
        """Cases of the plan that have a record."""
        return self.before + sum(self.ended.values())

    @property
    def fraction(self) -> float:
        """Their share of all, in [0, 1]."""
        return self.finished / self.total

    def sentence(self) -> str:
        """Verdicts, pace and what is left, in one line."""
        done = sum(self.ended.values())
        if not done:
            before = f" ({self.before} finished before)" if self.before else ""
            return f"starting the worker processes{before}"
        parts = [counted(self.verdicts), paced(done, self.seconds)]
        if self.rest is not None and self.finished < self.total:
            low, high = lasting(self.rest.low), lasting(self.rest.high)
            parts.append(f"about {lasting(self.rest.seconds)} left ({low} to {high})")
        return "; ".join(parts)


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes:
        total: as in `RunProgress`.
        before: as in `RunProgress`.
        ended: as in `RunProgress`.
        seconds: as in `RunProgress`.
        interrupted: whether Ctrl-C stopped it.
        verdicts: as in `RunProgress`.
    """

    total: int
    before: int
    ended: Mapping[Status, int] = field(default_factory=dict)
    seconds: float = 0.0
    interrupted: bool = False
    verdicts: Mapping[str, int] = field(default_factory=dict)

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
    progress: Callable[[RunProgress], None] | str | None = None,
) -> Summary:
    """Do what the plan asks and the store does not hold yet.

    A case that is refused, crashes, hangs or eats memory is a record like any other and never a stop. Ctrl-C
    ends the run; what was finished is kept, and running the same plan again goes on from there. The
    processes import the script that calls this: it does so under `if __name__ == "__main__":`.

    Args:
        plan: the cases.
        store: the file of the records, made where it is missing.
        workers: processes side by side, by default one for each core.
        margins: how far a worker may overrun a case's limits before it is ended.
        crew: who answers the cases instead of such processes; workers and margins are then its own.
        retry: cases that ended so are done again, such as `{Status.CRASHED}` after a repair.
        progress: a function that is called with `RunProgress` a few times a second; `"auto"` for a bar in a
            notebook or on a terminal.

    Returns:
        What was done.

    Raises:
        SettingError: a model of the plan cannot be read, the store is being written by another process, or
            cannot be written (a full disk): what was finished before is kept.
        SteadygazeError: no worker process can be started.
    """
    crew = crew or PoolCrew(workers, margins)
    path = Path(store)
    with shown(progress) as tell, writing(path) as writer:
        keys = plan.keys()
        writer.begin(plan, keys)
        course = _Course(plan, keys, writer, path, retry, crew, tell)
        interrupted = False
        try:
            course.run()
        except KeyboardInterrupt:
            interrupted = True
        return course.finish(interrupted)


@final
class _Course:
    """One run: what is to be done, what is done, and who is told."""

    def __init__(
        self,
        plan: Plan,
        keys: Sequence[str],
        writer: Writer,
        path: Path,
        retry: Collection[Status],
        crew: AbstractCrew,
        progress: Callable[[RunProgress], None],
    ) -> None:
        self._planned = dict(zip(reversed(keys), reversed(plan.cases), strict=True))
        self._writer, self._crew, self._progress = writer, crew, progress
        endings = writer.endings(self._planned.keys())
        kept = {key: end for key, end in endings.items() if not self._again(key, end, path, retry)}
        self._jobs = [key for key in dict.fromkeys(keys) if key not in kept]
        self._before, self._ended = len(kept), Counter[Status]()
        self._verdicts = Counter(end.verdict or NO_ANSWER for end in kept.values())
        self._estimator = Estimator()
        for key, end in kept.items():
            self._estimator.learn(kind_of(self._planned[key].case), end.seconds)
        for key in self._jobs:
            self._estimator.plan(kind_of(self._planned[key].case))
        self._began, self._told = time.monotonic(), 0.0
        self._state = RunState(os.getpid(), platform.node(), crew.workers, time.time(), time.time())

    def _again(self, key: str, end: Ending, path: Path, retry: Collection[Status]) -> bool:
        """Whether a case with a record is done once more: asked for, or for its folder, which is missing."""
        wanted = is_kept(self._planned[key].keep, end.verdict) and not folder_of(path, key).is_dir()
        return end.status in retry or wanted

    def run(self) -> None:
        """Do all that is to be done."""
        if not self._jobs:
            return
        tasks = [Task(key, self._planned[key].case, self._planned[key].keep) for key in self._jobs]
        self._tell(())
        with closing(self._crew.work(tasks, self._tell)) as replies:  # Ctrl-C lands here: all work ends first
            for task, reply in replies:
                self._settle(task, reply)

    def _settle(self, task: Task, reply: Reply) -> None:
        finished = datetime.now(UTC).isoformat(timespec="milliseconds")
        told = (reply.status, reply.sentence, reply.seconds, reply.memory, reply.machine)
        record = Record(*told, finished, reply.answer)
        self._writer.settle(task.key, self._planned[task.key], record, reply.files)
        self._ended[reply.status] += 1
        self._verdicts[(reply.answer or {}).get("verdict") or NO_ANSWER] += 1
        self._estimator.finish(kind_of(task.case), reply.seconds)

    def _tell(self, at_work: Sequence[Task]) -> None:
        """Those who wait, each time; those who look on from elsewhere, now and then."""
        here = tuple(self._planned[task.key] for task in at_work)
        now = time.monotonic()
        self._writer.keep()
        if now - self._told > BEAT:
            self._told = now
            tags = tuple(dict(planned.tags) for planned in here)
            self._writer.tell(replace(self._state, beat=time.time(), at_work=tags))
        self._progress(
            RunProgress(
                len(self._planned),
                self._before,
                dict(self._ended),
                dict(self._verdicts),
                here,
                now - self._began,
                self._estimator.rest(self._crew.workers),
            )
        )

    def finish(self, interrupted: bool) -> Summary:
        """Tell how it ended."""
        if self._jobs:
            how = "interrupted" if interrupted else "finished"
            self._writer.tell(replace(self._state, beat=time.time(), ended=how))
        self._told = time.monotonic()
        self._tell(())
        seconds = time.monotonic() - self._began
        return Summary(
            len(self._planned), self._before, dict(self._ended), seconds, interrupted, dict(self._verdicts)
        )
