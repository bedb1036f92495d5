"""The answer as plain records, in and out of JSON (``steadygaze/result/1``); no networks, no torch.

The keys of ``result.json`` are the names of the fields below. ``result.schema.json`` beside this file is the
published schema; every file is validated against it on writing and on reading. What a schema cannot say, that
shares sum to one or that ``robust`` leaves no room for a failure, the constructors check.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from importlib.resources import files
from pathlib import PurePath
from typing import Any

import numpy as np

from steadygaze.answer.asked import Axis, ImageInfo, ModelInfo, ParameterInfo, PerturbationInfo, ProblemInfo
from steadygaze.answer.drawing import KINDS, Drawing, Exhibit, Interval1D, Polygons
from steadygaze.answer.parts import (
    SHARE_TOLERANCE,
    Failure,
    Measure,
    Measured,
    Origin,
    Point,
    Radius,
    Shares,
    Verdict,
)
from steadygaze.answer.words import apart, given, interval, number, percent, toward_zero
from steadygaze.errors import InternalCheckError, UsageError

__all__ = [
    "KINDS",
    "SCHEMA",
    "Axis",
    "Drawing",
    "Exhibit",
    "Failure",
    "ImageInfo",
    "Interval1D",
    "ModelInfo",
    "Origin",
    "ParameterInfo",
    "PerturbationInfo",
    "Point",
    "Polygons",
    "ProblemInfo",
    "Radius",
    "Result",
    "Shares",
    "Verdict",
    "schema",
]

SCHEMA = "steadygaze/result/1"
# A point is inside what is said to be robust if it is nearer to 0 than its border by more than rounding.
_INSIDE = 1 - 1e-9


@dataclass(frozen=True)
class Result:
    """The whole answer as plain records: what `result.json` holds.

    Attributes:
        problem: all that the answer depends on.
        method: the engines that found it, joined by ` + `.
        claim: what it speaks of: `"whole box"`, `"outer boundary"` or `"radius"`.
        verdict: over the whole box.
        reason: of the verdict, one sentence.
        shares: of the box, by kind.
        origin: the robust part around 0; None where the engine does not ask for it.
        safe_scale: largest s in [0, 1] with s times the box wholly robust; None where it is not known.
        nearest_failure: where robustness is lost first, or None.
        regions: counts of what was visited.
        timing: seconds, by what they were spent on.
        versions: of what computed it.
        tolerance: the margins used.
        settings: limits and devices asked for, and why the search stopped.
        radius: with nearest, alone or among others, how far from 0 all is robust; else None.
        notes: sentences on maps that rounding has decided.
        measured: other measures at random points, where they were asked for: no claim.

    Raises:
        InternalCheckError: if the verdict contradicts the rest: no slip may turn into robust.
    """

    problem: ProblemInfo
    method: str
    claim: str
    verdict: Verdict
    reason: str
    shares: Shares
    origin: Origin | None
    safe_scale: float | None
    nearest_failure: Failure | None
    regions: Mapping[str, Any]
    timing: Mapping[str, Any]
    versions: Mapping[str, Any]
    tolerance: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    radius: Radius | None = None
    notes: tuple[str, ...] = ()
    measured: Measured | None = None

    def __post_init__(self) -> None:
        if self.verdict == Verdict.ROBUST:
            self._check_nothing_fails()
        if self.verdict == Verdict.VIOLATED and self.nearest_failure is None:
            raise InternalCheckError(
                "a violation counts only with a witness, and there is none: the answer is withheld"
            )
        self._check_nothing_fails_within()
        n = len(self.problem.axes())
        for name, size in (
            ("origin.ranges", self.origin and len(self.origin.ranges)),
            ("theta", self._failure_size()),
        ):
            if size is not None and size != n:
                raise InternalCheckError(
                    f"{name} has {size} entries where there are {n} parameters: the answer is withheld"
                )

    def _check_ranges(self) -> None:
        """The box holds 0, and what is said to be safe of each parameter holds 0 and lies in the box."""
        axes = self.problem.axes()
        safe = [(axis.low, axis.high) for axis in axes] if self.origin is None else self.origin.ranges
        for axis, (low, high) in zip(axes, safe, strict=True):
            margin = (axis.high - axis.low) * (1 - _INSIDE)
            if not (axis.low - margin <= low <= 0 <= high <= axis.high + margin):
                raise InternalCheckError(
                    f"{axis.name} is said to be safe from {low!r} to {high!r}, asked was {axis.low!r} to "
                    f"{axis.high!r}: the answer is withheld"
                )

    def _check_nothing_fails(self) -> None:
        unsafe = math.fsum(share for share in self.shares.values()[1:] if share is not None)
        if unsafe > SHARE_TOLERANCE or self.nearest_failure is not None:
            raise InternalCheckError(
                f"the verdict is robust, yet {unsafe!r} of the box is not and the nearest failure is "
                f"{self.nearest_failure}: the answer is withheld"
            )

    def _check_nothing_fails_within(self) -> None:
        """Nothing fails in the part of the box that is said to be robust."""
        failure, scale = self.nearest_failure, self.safe_scale
        axes = self.problem.axes()
        if failure is None or len(failure.theta) != len(axes):
            return
        if scale:
            inside = all(
                axis.low * scale * _INSIDE <= value <= axis.high * scale * _INSIDE
                for axis, value in zip(axes, failure.theta, strict=True)
            )
            if inside:
                raise InternalCheckError(
                    f"the safe scale is {scale!r}, yet theta = {list(failure.theta)} fails: the answer is "
                    f"withheld"
                )
        reached = failure.distance if failure.theta_distance is None else failure.theta_distance
        if self.radius is not None and reached < self.radius.value * _INSIDE:
            raise InternalCheckError(
                f"the radius is {self.radius.value!r}, yet theta = {list(failure.theta)} fails at "
                f"{reached!r}: the answer is withheld"
            )

    def _failure_size(self) -> int | None:
        return None if self.nearest_failure is None else len(self.nearest_failure.theta)

    def shares_asked(self) -> tuple[tuple[int, float | None], ...]:
        """The numbers of the kinds that there may be, each with its share: of the class alone all but one."""
        asked = (0, 1, 3) if self.problem.class_alone else range(len(KINDS))
        return tuple((kind, self.shares.values()[kind]) for kind in asked)

    def unit_of_work(self) -> str:
        """What `regions.visited` counts, in words."""
        single = self.regions.get("visited") == 1
        one, many = ("box", "boxes and regions") if self.method == "bound" else ("region", "regions")
        return one if single else many

    def headline(self) -> str:
        """The verdict in one sentence; the terminal and the report both say exactly this."""
        label, shares = self.problem.image.label, self.shares
        if self.verdict == Verdict.ROBUST:
            if self.problem.class_alone:
                return f"Robust: everywhere in the box the answer stays class {label} (the class alone)."
            return (
                f"Robust: everywhere in the box the answer stays class {label}, and the attention stays "
                f"within {given(self.problem.threshold)} of where it should be."
            )
        robust = "robust in class" if self.problem.class_alone else "robust"
        parts = [
            text
            for share, text in (
                (shares.class_changed, f"the class changes in {percent(shares.class_changed)} of the box"),
                (
                    shares.attention_changed,
                    f"only the attention changes in {percent(shares.attention_changed)}",
                ),
                (shares.robust, f"{percent(shares.robust)} is proven {robust}"),
                (shares.undecided, f"{percent(shares.undecided)} is undecided"),
            )
            if share
        ]
        told = "; ".join(parts) or (
            "a failing point was found" if self.nearest_failure else "nothing was proven"
        )
        return f"{self.verdict.value.capitalize()}: {told}."

    def why(self) -> str:
        """The reason as a sentence of its own."""
        return f"{self.reason[0].upper()}{self.reason[1:].rstrip('.')}."

    def safe_scale_sentence(self) -> str:
        """How far the box must shrink to be wholly robust."""
        if self.safe_scale is None:
            return "How far the box must shrink to be wholly robust was not determined."
        if self.safe_scale == 0:
            return "However far the box is shrunk about 0, it is not proven wholly robust."
        if self.safe_scale == 1:
            return "The whole box is robust: it need not shrink."
        return f"Shrunk about 0 to {toward_zero(self.safe_scale)} of its size, the box is wholly robust."

    def part_sentences(self) -> tuple[str, ...]:
        """What is known of the robust part around 0, and how far from 0 all is robust."""
        told = []
        origin = self.origin
        if origin is not None and origin.share is not None:
            least = "" if origin.complete else "at least "
            told.append(
                f"The connected robust part around 0 fills {least}{percent(origin.share)} of the box."
                if origin.interior == "examined"
                else f"The outer boundary of the robust part around 0 encloses {least}"
                f"{percent(origin.share)} of the box; its interior was not examined."
            )
        if self.radius is not None:
            norm = {"linf": "L-infinity", "l2": "Euclidean"}[self.radius.norm]
            told.append(
                f"All that is nearer to 0 than {toward_zero(self.radius.value)} half-widths of the box "
                f"({norm} distance) is robust."
            )
        return tuple(told)

    def range_sentences(self) -> tuple[str, ...]:
        """The safe range of each parameter, the others at 0."""
        if self.origin is None:
            return ()
        others = ", the others at 0" if len(self.origin.ranges) > 1 else ""
        return tuple(
            f"{axis.name}: no safe range was proven{others} (asked: {given(axis.low)} to {given(axis.high)})."
            if low == high
            else f"{axis.name} may go from {interval(low, high)}{others} "
            f"(asked: {given(axis.low)} to {given(axis.high)})."
            for axis, (low, high) in zip(self.problem.axes(), self.origin.ranges, strict=True)
        )

    def failure_sentence(self) -> str:
        """Where robustness is lost first, and how."""
        failure = self.nearest_failure
        if failure is None:
            return "No failing point is known."
        where = ", ".join(
            f"{a.name} = {number(v, 6)}" for a, v in zip(self.problem.axes(), failure.theta, strict=True)
        )
        gap = f"class gap {number(failure.class_gap)}"
        first = self.failure_name().capitalize()
        if failure.kind == "class-changed":
            drift = failure.inconsistency
            drift = "" if drift is None else f", inconsistency {number(drift)}"
            return f"{first}: at {where} the class becomes {failure.predicted} ({gap}{drift})."
        limit = self.problem.threshold
        drift = (
            ""
            if failure.inconsistency is None
            else f"inconsistency {apart(failure.inconsistency, limit)} > {given(limit)}, "
        )
        return (
            f"{first}: at {where} the class stays {failure.predicted}, "
            f"but the attention moves ({drift}{gap})."
        )

    def failure_name(self) -> str:
        """The nearest failure, or the nearest known one where something undecided may hide another."""
        failure, radius = self.nearest_failure, self.radius
        reached = failure and radius is not None and failure.distance <= radius.value * (1 + 1e-9) + 1e-11
        return "nearest failure" if reached or not self.shares.undecided else "nearest known failure"

    def to_dict(self) -> dict[str, Any]:
        """The answer as JSON would hold it.

        Raises:
            InternalCheckError: if it would break the published schema.
        """
        document = {"schema": SCHEMA, **_plain(self, "result")}
        broken = _schema_error(document)
        if broken:
            raise InternalCheckError(f"the result does not follow {SCHEMA} {broken}: the answer is withheld")
        return document

    def to_json(self) -> str:
        """The text of ``result.json``."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Result:
        """Back from `to_dict`.

        Raises:
            UsageError: if the document breaks the schema or contradicts itself.
        """
        broken = _schema_error(document)
        if broken:
            raise UsageError(f"this is not a result of the form {SCHEMA}: {broken}")
        try:
            _plain(document, "result")
            result = _build(document)
            result._check_ranges()
            return result
        except InternalCheckError as error:
            raise UsageError(f"this result contradicts itself: {error}") from error

    @classmethod
    def from_json(cls, text: str) -> Result:
        """Back from `to_json`.

        Raises:
            UsageError: if the text is no JSON, breaks the schema or contradicts itself.
        """
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"this is not JSON, so not a result of steadygaze: {error}") from error
        return cls.from_dict(document)


def schema() -> dict[str, Any]:
    """The published schema of ``result.json``."""
    return json.loads(files("steadygaze.answer").joinpath("result.schema.json").read_text(encoding="utf-8"))


def _schema_error(document: Mapping[str, Any]) -> str | None:
    from jsonschema import Draft202012Validator  # here: it is slow to import and not needed to ask for help
    from jsonschema.exceptions import best_match

    error = best_match(Draft202012Validator(schema()).iter_errors(document))
    return None if error is None else f"at {error.json_path}: {error.message}"


def _plain(value: object, where: str) -> Any:
    """Records, numpy scalars and arrays as what JSON knows; refuses what JSON has no number for."""
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name), f"{where}.{f.name}") for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(part, f"{where}.{key}") for key, part in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist(), where)
    if isinstance(value, Enum | PurePath):
        return str(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(part, f"{where}[{i}]") for i, part in enumerate(value)]
    if isinstance(value, float | int) and not abs(value) <= sys.float_info.max:
        told = value if isinstance(value, float) else "beyond double precision"
        raise InternalCheckError(f"{where} is {told}, which is no answer: the answer is withheld")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise InternalCheckError(
        f"{where} is a {type(value).__name__}, which result.json cannot hold: the answer is withheld"
    )


def _frozen(value: Any) -> Any:
    return tuple(_frozen(part) for part in value) if isinstance(value, list) else value


def _build(document: Mapping[str, Any]) -> Result:
    rest = {key: _frozen(value) for key, value in document.items() if key != "schema"}
    origin, failure, radius = rest["origin"], rest["nearest_failure"], rest.get("radius")
    measured = rest.get("measured")
    return Result(
        **rest
        | {
            "problem": _build_problem(rest["problem"]),
            "verdict": Verdict(rest["verdict"]),
            "shares": Shares(**rest["shares"]),
            "origin": origin and Origin(**{key: _frozen(value) for key, value in origin.items()}),
            "radius": radius and Radius(**radius),
            "measured": measured and _build_measured(measured),
            "nearest_failure": failure and Failure(**failure | {"theta": _frozen(failure["theta"])}),
        }
    )


def _build_measured(measured: Mapping[str, Any]) -> Measured:
    found = (Measure(**{key: _frozen(value) for key, value in each.items()}) for each in measured["measures"])
    return Measured(**{**measured, "measures": tuple(found)})


def _build_problem(problem: Mapping[str, Any]) -> ProblemInfo:
    links = tuple(
        PerturbationInfo(
            link["name"],
            link["constants"],
            tuple(ParameterInfo(p["name"], p["unit"], _frozen(p["range"])) for p in link["parameters"]),
            link.get("arrays", {}),
            link.get("type"),
        )
        for link in problem["perturbation"]
    )
    image = ImageInfo(**{key: _frozen(value) for key, value in problem["image"].items()})
    return ProblemInfo(
        **{key: _frozen(value) for key, value in problem.items()}
        | {"model": ModelInfo(**problem["model"]), "image": image, "perturbation": links}
    )
