"""Who answers the cases: what a crew is handed, what it hands back, and what it must keep to.

The processes of this machine are one crew (`pool`); whoever schedules cases elsewhere writes another.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from steadygaze.campaign.freight import Freight
from steadygaze.campaign.record import Machine, Status
from steadygaze.errors import SettingError
from steadygaze.question.case import Case

GIB = 2**30
READY = "ready"  # what a worker process says when it may be given tasks
KEEP = ("none", "failing", "all")  # "failing": all that is not robust


@dataclass(frozen=True)
class Task:
    """A case to be answered.

    Attributes:
        key: its content key.
        case: the question.
        keep: of which answers the folder is wanted too, as files of the reply: one of `KEEP`.
        freight: image, perturbations and model, where the one who answers cannot read them for itself.
    """

    key: str
    case: Case
    keep: str = "none"
    freight: Freight | None = None


def is_kept(keep: str, verdict: str | None) -> bool:
    """Whether the folder of an answer with this verdict is wanted; None is no answer."""
    return verdict is not None and (keep == "all" or (keep == "failing" and verdict != "robust"))


@dataclass(frozen=True)
class Reply:
    """How a case ended, as the one saw it who answered it.

    Attributes:
        status: as in `Record`.
        sentence: as in `Record`.
        seconds: as in `Record`.
        memory: as in `Record`.
        machine: as in `Record`.
        answer: as in `Record`.
        files: the folder of the answer, contents by relative path, where the task asked for it.
    """

    status: Status
    sentence: str
    seconds: float
    memory: Mapping[str, int]
    machine: Machine
    answer: Mapping[str, Any] | None
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Margins:
    """How far a worker may overrun the limits of its case before it is ended.

    The package keeps a case's own limits as well as it can, and then checks and reads what was found; only
    what does not come back from that is ended by force.

    Attributes:
        factor: of the time limit, at which a case is late.
        seconds: and so many more before it is ended.
        gib: beyond the memory limit.
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


class AbstractCrew(ABC):
    """Answers tasks side by side.

    Whatever a case does (it is refused, crashes its process, hangs, eats memory, loses its machine) is its
    reply; a crew raises SteadygazeError only where it cannot work at all.
    """

    @property
    @abstractmethod
    def workers(self) -> int:
        """How many cases are answered at the same time, as far as that is known."""

    @abstractmethod
    def work(
        self, tasks: Sequence[Task], watch: Callable[[Sequence[Task]], None]
    ) -> Generator[tuple[Task, Reply], None, None]:
        """Every task with its reply, once, in the order in which they end; they are begun in the order given.

        ``watch`` is called a few times a second with the tasks at work. Closing the generator, as Ctrl-C
        does, ends all work at once.
        """
