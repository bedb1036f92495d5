"""How far a campaign has come, as its store tells it: for those who look on."""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from steadygaze.campaign.estimate import KIND, Estimate, Estimator
from steadygaze.campaign.store import Entry, RunState, read, read_state

VERDICTS = ("robust", "violated", "unknown", "no answer")
_UNSAID = ("label", "source")  # of tags, where a case is named in short
SILENT = 30.0  # seconds without a word after which a driver on another machine is taken for dead


@dataclass(frozen=True)
class Standing:
    """How far a campaign has come.

    Attributes:
        store: its file. name: of the plan. total: its cases. finished: of these, with a record.
        statuses, verdicts: how many of each.
        run: what its latest run says of itself. alive: whether that is still at work.
        done, seconds: cases that the run has finished, and in how long.
        rest: how long the rest will take; None where nobody knows.
    """

    store: str
    name: str
    total: int
    finished: int
    statuses: Mapping[str, int]
    verdicts: Mapping[str, int]
    run: RunState | None
    alive: bool
    done: int
    seconds: float
    rest: Estimate | None

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    def words(self) -> str:
        """The same in a few lines."""
        share = f"{100 * self.finished / self.total:.0f} %" if self.total else "there are none"
        lines = [f"{self.name}: {self.finished} of {self.total} cases finished ({share})"]
        if self.finished:
            ended = [f"{count} {name}" for name, count in sorted(self.statuses.items())]
            lines.append(f"ended: {', '.join(ended)}")
            lines.append(f"answers: {counted(self.verdicts)}")
        lines += self._of_the_run()
        return "\n".join(lines)

    def _of_the_run(self) -> list[str]:
        if self.run is None:
            return ["no run has begun"]
        began = datetime.fromtimestamp(self.run.began).strftime("%Y-%m-%d %H:%M:%S")
        who = f"process {self.run.process} on {self.run.host}, {self.run.workers} workers, since {began}"
        if self.alive:
            lines = [f"at work: {who}", *(f"    {named(tags)}" for tags in self.run.at_work)]
            lines += [paced(self.done, self.seconds)] if self.done else []
            if self.rest is not None:
                low, high = lasting(self.rest.low), lasting(self.rest.high)
                lines.append(f"about {lasting(self.rest.seconds)} left ({low} to {high})")
            return lines
        if self.run.ended == "finished":
            return []
        how = "was interrupted" if self.run.ended else f"was killed: {who}, but it is gone"
        return [f"the run {how}; run the same again to go on"]


def standing_of(store: str | Path, now: float | None = None) -> Standing:
    """How far the campaign of a store has come; now: seconds since 1970. Raises SettingError as `read`."""
    now = time.time() if now is None else now
    entries, state = read(store), read_state(store)
    records = [entry.record for entry in entries if entry.record is not None]
    alive = state is not None and _is_alive(state, now)
    done, seconds = 0, 0.0
    if state is not None:
        done = sum(_seconds_of(record.finished) >= state.began for record in records)
        seconds = (now if alive else state.beat) - state.began
    return Standing(
        store=str(store),
        name=entries[0].plan if entries else "an empty store",
        total=len(entries),
        finished=len(records),
        statuses=dict(Counter(record.status.value for record in records)),
        verdicts=dict(Counter((record.answer or {}).get("verdict", VERDICTS[-1]) for record in records)),
        run=state,
        alive=alive,
        done=done,
        seconds=seconds,
        rest=_rest(entries, state.workers) if state is not None else None,
    )


def _is_alive(state: RunState, now: float) -> bool:
    if state.ended is not None:
        return False
    return psutil.pid_exists(state.process) if state.host == platform.node() else now - state.beat < SILENT


def _seconds_of(finished: str) -> float:
    return datetime.fromisoformat(finished).astimezone(UTC).timestamp()


def _rest(entries: list[Entry], workers: int) -> Estimate | None:
    estimator, seen = Estimator(), set[str]()
    for entry in entries:
        if entry.key in seen:
            continue
        seen.add(entry.key)
        kind = tuple(str(entry.question[name]) for name in KIND)
        if entry.record is None:
            estimator.plan(kind)
        else:
            estimator.learn(kind, entry.record.seconds)
    return estimator.rest(workers)


def counted(verdicts: Mapping[str, int]) -> str:
    """How many of each, the usual ones first."""
    shown = [name for name in VERDICTS if name in VERDICTS[:3] or verdicts.get(name)]
    return ", ".join(f"{verdicts.get(name, 0)} {name}" for name in shown)


def named(tags: Mapping[str, Any]) -> str:
    """A case by what its plan calls it."""
    said = {name: value for name, value in tags.items() if value is not None and name not in _UNSAID}
    return ", ".join(f"{name} {value}" for name, value in said.items())


def paced(done: int, seconds: float) -> str:
    """So many cases in so many seconds, as a rate that can be imagined."""
    rate = done / max(seconds, 1e-9)
    for unit, length in (("second", 1.0), ("minute", 60.0), ("hour", 3600.0)):
        if rate * length >= 1 or unit == "hour":
            return f"{rate * length:.3g} cases a {unit}"
    raise AssertionError("an hour is the last unit")


def lasting(seconds: float) -> str:
    """A time as one says it: 40 s, 12 min, 3 h 20 min, 2 d 4 h."""
    whole = round(seconds)
    if whole < 90:
        return f"{whole} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"
