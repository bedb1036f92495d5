"""The records of the study as flat rows: what tables, plots and findings are computed from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steadygaze.campaign import Entry, Status
from studies.nfm2023.cases import CLASS_ONLY, DELTA, ENGINES, FULL_WIDTH

SHORT = 12  # hexadecimal digits of a key that are shown: enough to tell a million records apart
SCALE = "safe scale"
CUT_OFF = (Status.TIMED_OUT, Status.OUT_OF_MEMORY, Status.OUT_OF_REGIONS)


@dataclass(frozen=True)
class Axis:
    """One parameter: asked from low to high, safe from safe_low to safe_high with the others at 0."""

    name: str
    low: float
    high: float
    safe_low: float
    safe_high: float

    @property
    def share(self) -> float:
        """Of the asked range, how much is safe."""
        return (self.safe_high - self.safe_low) / (self.high - self.low)


@dataclass(frozen=True)
class Row:
    """One finished case. What was not told is None.

    seconds: of searching and checking, without loading. memory: bytes beyond those before the case. hinges
    and facets: means over the regions. measures: how far it is safe, by name, shares in [0, 1].
    """

    key: str
    network: str
    data: str
    training: str
    architecture: str
    family: str
    perturbation: str
    width: float
    image: str
    method: str
    threshold: float
    status: Status
    sentence: str
    verdict: str | None = None
    seconds: float | None = None
    wall: float | None = None
    phases: Mapping[str, float] | None = None
    memory: int | None = None
    regions: int | None = None
    around: int | None = None
    units: int | None = None
    layers: int | None = None
    dimension: int | None = None
    hinges: float | None = None
    facets: float | None = None
    axes: tuple[Axis, ...] = ()
    safe_scale: float | None = None
    robust_share: float | None = None
    origin_share: float | None = None
    interior: str | None = None
    nearest: float | None = None
    nearest_kind: str | None = None

    @property
    def solved(self) -> bool:
        """Whether the engine came to its end; only then are its numbers values and not bounds."""
        return self.status == Status.SOLVED

    @property
    def cut_off(self) -> bool:
        """Whether a limit ended it: its cost is at least what was spent."""
        return self.status in CUT_OFF

    @property
    def short(self) -> str:
        """The key, shortened."""
        return self.key[:SHORT]

    def measures(self) -> dict[str, float]:
        """How far it is safe: of one perturbation along each parameter, of several by the safe scale.

        Ranges along axes are walked from 0, so that no hole on the way is missed even where the interior of
        the outer boundary was not examined.
        """
        if not self.solved:
            return {}
        if "," not in self.perturbation:
            return {axis.name: axis.share for axis in self.axes}
        return {} if self.safe_scale is None else {SCALE: self.safe_scale}


def rows_of(entries: Iterable[Entry]) -> list[Row]:
    """The finished cases of the store, in the plan's order."""
    return [_row(entry) for entry in entries if entry.record is not None]


def _row(entry: Entry) -> Row:
    record, tags = entry.record, entry.tags
    assert record is not None
    common: dict[str, Any] = {
        name: tags[name]
        for name in (
            "network", "data", "training", "architecture", "family", "perturbation", "width", "image"
        )
    }  # fmt: skip
    common |= {
        "key": entry.key,
        "method": entry.question["method"],
        "threshold": entry.question["threshold"],
        "status": record.status,
        "sentence": record.sentence,
        "wall": record.seconds,
    }
    if record.answer is None:
        return Row(**common)
    return Row(**common, **_answered(record.answer, record.memory))


def _answered(answer: Mapping[str, Any], memory: Mapping[str, int]) -> dict[str, Any]:
    timing, regions, failure = answer["timing"], answer["regions"], answer["nearest_failure"]
    total, load = timing.get("total"), timing.get("load") or 0.0
    return {
        "verdict": answer["verdict"],
        "seconds": None if total is None else total - load,
        "phases": {name: value for name, value in timing.items() if isinstance(value, int | float)},
        "memory": memory["peak"] - memory["before"] if "before" in memory and "peak" in memory else None,
        "regions": regions.get("visited"),
        "around": regions.get("around_origin"),
        "units": answer["units"],
        "layers": answer["layers"],
        "dimension": len(answer["axes"]),
        "hinges": regions.get("hinges_per_region"),
        "facets": regions.get("facets_per_region"),
        "axes": _axes(answer),
        "safe_scale": answer["safe_scale"],
        "robust_share": answer["shares"]["robust"],
        "origin_share": answer["origin_share"],
        "interior": answer["interior"],
        "nearest": failure and failure["distance"],
        "nearest_kind": failure and failure["kind"],
    }


def _axes(answer: Mapping[str, Any]) -> tuple[Axis, ...]:
    if answer["ranges"] is None:
        return ()
    return tuple(
        Axis(axis["name"], axis["low"], axis["high"], low, high)
        for axis, (low, high) in zip(answer["axes"], answer["ranges"], strict=True)
    )


@dataclass(frozen=True)
class Reach:
    """How far one question is safe, by the first engine of the list that solved it."""

    row: Row
    name: str
    value: float


def question(row: Row) -> tuple[str, str, str]:
    """What is asked, whatever engine and threshold: network, image and perturbation."""
    return (row.network, row.image, row.perturbation)


def reaches(rows: Sequence[Row], threshold: float) -> dict[tuple[str, str, str, str], Reach]:
    """By network, image, perturbation and measure, of the boxes of full width."""
    found: dict[tuple[str, str, str, str], Reach] = {}
    asked = [row for row in rows if row.threshold == threshold and row.width == FULL_WIDTH]
    for engine in ENGINES:
        for row in asked:
            for name, value in (row.measures() if row.method == engine else {}).items():
                found.setdefault((*question(row), name), Reach(row, name, value))
    return found


@dataclass(frozen=True)
class Pair:
    """The same question with two outcomes, and the measure they are compared by."""

    name: str
    first: Row
    second: Row
    first_value: float
    second_value: float

    @property
    def keys(self) -> tuple[str, str]:
        """Of both records."""
        return (self.first.short, self.second.short)


def class_and_attention(rows: Sequence[Row], threshold: float = DELTA) -> list[Pair]:
    """How far the class holds, and how far the attention does, where both are known."""
    classes, attentions = reaches(rows, CLASS_ONLY), reaches(rows, threshold)
    return [
        Pair(place[3], classes[place].row, reach.row, classes[place].value, reach.value)
        for place, reach in attentions.items()
        if place in classes
    ]


def trainings(rows: Sequence[Row], training: str, threshold: float) -> list[Pair]:
    """The same architecture trained plainly and robustly, on the same image and perturbation."""
    found = reaches(rows, threshold)
    plain = {
        (reach.row.data, reach.row.architecture, *place[1:]): reach
        for place, reach in found.items()
        if reach.row.training == "standard"
    }
    return [
        Pair(place[3], plain[same].row, reach.row, plain[same].value, reach.value)
        for place, reach in found.items()
        if reach.row.training == training
        and (same := (reach.row.data, reach.row.architecture, *place[1:])) in plain
    ]


def engines(rows: Sequence[Row], first: str, second: str) -> list[Pair]:
    """The same case by two engines that both solved it; the values are the regions visited."""
    other = {
        (*question(row), row.width, row.threshold): row
        for row in rows
        if row.method == first and row.solved and row.regions
    }
    return [
        Pair("regions", one, row, one.regions, row.regions)
        for row in rows
        if row.method == second and row.solved and row.regions
        for one in [other.get((*question(row), row.width, row.threshold))]
        if one is not None and one.regions is not None
    ]


def costs(rows: Sequence[Row], method: str, width: float | None = FULL_WIDTH) -> list[Row]:
    """The cases by which costs are measured: one threshold, one engine; those cut off are among them."""
    return [
        row
        for row in rows
        if row.method == method
        and row.threshold == DELTA
        and (width is None or row.width == width)
        and (row.cut_off or (row.solved and row.regions is not None and row.seconds is not None))
    ]
