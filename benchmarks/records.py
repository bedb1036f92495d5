"""What is ordered and what comes back: records that go through JSON, between processes and into a file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.workloads import WHOLE, Case


@dataclass(frozen=True)
class Order:
    """What to measure and how.

    method: the search; repeat: timed answers; threads: of the search; memory: limit in GiB; device: where.
    """

    case: Case
    method: str = "sweep"
    repeat: int = 3
    threads: int = 2
    memory: float = 2.0
    device: str = "cpu"


@dataclass(frozen=True)
class Floor:
    """Seconds of neural arithmetic; `benchmarks.floor` says of which.

    Attributes:
        forward: of all rows. backward: of one gradient for each region.
        needed: as backward, for the regions that are robust by class somewhere.
        rows: how many rows begin before the first stage and at each stage: those of the vertices that arise
            there (before the first: the corners of the box), or those of regions.
        rates: seconds for each row: of the forward from each stage to the next, as `rows`, and of
            the backward, last.
    """

    forward: float
    backward: float
    needed: float
    rows: tuple[int, ...]
    rates: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """The floor."""
        return self.forward + self.backward


@dataclass(frozen=True)
class Measurement:
    """What was measured.

    Attributes:
        case: the question. method: the search.
        dimension: number of parameters. regions: activation regions visited. cells: parts of them on the map.
        held: regions that are robust by class somewhere.
        verdict, shares: of the answer (shares: robust, class changed, attention changed, undecided).
        stopped: the limit that ended the search, None if it came to its end.
        enclosed: share of the box of the robust part around 0. safe_scale: of the answer. Each None where the
            answer does not tell it.
        seconds: median over the repeats. search: the same of the search alone. all_seconds: each repeat.
        processor: median processor time over all threads; steadier than the clock on a shared machine.
        warm_up: seconds of the first small answer in the process, compilation included where nothing is
            in the cache.
        load: seconds of importing the network and posing the problem, comparison with the original
            included.
        peak: most bytes of memory above what the process held before its first answer to this question.
        timing: seconds by phase, as the first of the timed answers gives them.
        floor: the neural arithmetic.
    """

    case: Case
    method: str
    dimension: int
    regions: int
    cells: int
    held: int
    verdict: str
    shares: tuple[float, ...]
    stopped: str | None
    enclosed: float | None
    safe_scale: float | None
    seconds: float
    search: float
    all_seconds: tuple[float, ...]
    processor: float
    warm_up: float
    load: float
    peak: int
    timing: dict[str, float]
    floor: Floor

    @property
    def rows(self) -> int:
        """Rows that go forward: the distinct vertices of a sweep; in other searches n + 1 for each region."""
        return sum(self.floor.rows)

    @property
    def judged(self) -> float:
        """Share of the box that is not undecided."""
        return 1.0 - self.shares[-1]

    @property
    def ratio(self) -> float:
        """Seconds over the floor."""
        return self.seconds / self.floor.seconds

    @property
    def needed_ratio(self) -> float:
        """Seconds over a floor with only the gradients that the verdict needs."""
        return self.seconds / (self.floor.forward + self.floor.needed)

    @property
    def holding(self) -> float:
        """Seconds of holding the answer against plain evaluation, within `seconds`."""
        return self.timing.get("held against the network", 0.0)

    @property
    def as_expected(self) -> bool:
        """Whether the number of regions in the box is the known one, or none is known or counted."""
        return self.method not in WHOLE or self.case.expected in (None, self.regions)


@dataclass(frozen=True)
class Failed:
    """A case that gave no measurement, and the last thing that its process said."""

    case: Case
    method: str
    reason: str


_DERIVED = ("rows", "judged", "ratio", "needed_ratio", "as_expected")


def to_json(outcome: Order | Measurement | Failed) -> dict[str, Any]:
    """The record as JSON takes it; a measurement with what follows from it, for readers of the file."""
    made = asdict(outcome)
    if isinstance(outcome, Measurement):
        made["floor"]["seconds"] = outcome.floor.seconds
        made.update({name: getattr(outcome, name) for name in _DERIVED})
    return made


def measurement_from(record: dict[str, Any]) -> Measurement:
    """The measurement that `to_json` wrote."""
    floor = {key: value for key, value in record["floor"].items() if key != "seconds"}
    own = {key: value for key, value in record.items() if key not in ("case", "floor", *_DERIVED)}
    return Measurement(case=Case(**record["case"]), floor=Floor(**floor), **own)
