"""What a result is made of: verdict, shares, the robust part around 0, failure and radius."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from steadygaze.answer.drawing import KINDS
from steadygaze.errors import InternalCheckError, UsageError

SHARE_TOLERANCE = 1e-9  # what summing 10^6 volumes in float64 may leave, with room to spare

Point = tuple[float, ...]
Polygon = tuple[tuple[float, float], ...]


class Verdict(StrEnum):
    """Three values, and no truth value: `if answer.verdict` would read unknown as robust.

    Attributes:
        ROBUST: `"robust"`: class and attention hold in the whole box.
        VIOLATED: `"violated"`: somewhere they do not, and a witness replays.
        UNKNOWN: `"unknown"`: a limit was reached, or what is left is within rounding of a border.
    """

    ROBUST = "robust"
    VIOLATED = "violated"
    UNKNOWN = "unknown"

    def __bool__(self) -> bool:
        raise UsageError(
            "a verdict has three values: compare it with Verdict.ROBUST, Verdict.VIOLATED or Verdict.UNKNOWN"
        )


@dataclass(frozen=True)
class Shares:
    """Shares of the volume of the box, in [0, 1]; None where the engine does not know.

    Attributes:
        robust: class and attention hold.
        class_changed: another class is predicted.
        attention_changed: the class holds, the saliency map is too far from the expected one.
        undecided: not settled: within rounding of a border, left open by bounds, or not reached.

    Raises:
        InternalCheckError: if they do not sum to 1 where all four are known.
    """

    robust: float | None
    class_changed: float | None
    attention_changed: float | None
    undecided: float | None

    def __post_init__(self) -> None:
        known = [share for share in self.values() if share is not None]
        total, complete = math.fsum(known), len(known) == len(KINDS)
        if not all(0 <= share <= 1 + SHARE_TOLERANCE for share in known):
            raise InternalCheckError(
                f"shares must lie in [0, 1], got {self.values()}: the answer is withheld"
            )
        if total > 1 + SHARE_TOLERANCE or (complete and total < 1 - SHARE_TOLERANCE):
            raise InternalCheckError(
                f"shares must sum to 1, got {total!r} from {self.values()}: the answer is withheld"
            )

    def values(self) -> tuple[float | None, ...]:
        """In the order of ``KINDS``."""
        return (self.robust, self.class_changed, self.attention_changed, self.undecided)

    @property
    def failing(self) -> float | None:
        """Share of the box where class or attention is proven to change."""
        known = [share for share in (self.class_changed, self.attention_changed) if share is not None]
        return math.fsum(known) if known else None


@dataclass(frozen=True)
class Origin:
    """R₀, the connected robust part that contains θ = 0.

    Attributes:
        share: of the box; None where the engine does not know.
        ranges: the safe range of each parameter with the others at 0.
        outer_boundary: the polygon around it, for two parameters.
        holes: polygons in it that are not robust, for two parameters.
        interior: `"examined"` or `"not examined"`.
        complete: whether nothing undecided may belong to it; otherwise share and ranges are what is known
            of it at least.
    """

    share: float | None
    ranges: tuple[tuple[float, float], ...]
    outer_boundary: Polygon | None
    holes: tuple[Polygon, ...] | None
    interior: str
    complete: bool = True


@dataclass(frozen=True)
class Failure:
    """Where robustness is lost, replayed in the original model.

    Attributes:
        theta: the point, inside the nearest failing cell.
        kind: `"class-changed"` or `"attention-changed"`.
        distance: of that cell from 0, in half-widths of the box: failures come as near as that.
        class_gap: f_c minus the largest of the other logits there.
        inconsistency: of the saliency map there; None where the class alone was asked about.
        predicted: the class there.
        theta_distance: of the point, equal to `distance` to the digits shown, unless the original, in its
            own precision, does not fail so near to the border.
        margin: by how much it fails: in logits, or how far the inconsistency is above the threshold.
    """

    theta: Point
    kind: str
    distance: float
    class_gap: float
    inconsistency: float | None
    predicted: int
    theta_distance: float | None = None
    margin: float | None = None


@dataclass(frozen=True)
class Radius:
    """Everything in the box that is nearer to θ = 0 than this is robust.

    Attributes:
        norm: `"linf"` or `"l2"`.
        value: the distance, in half-widths of the box.
    """

    norm: str
    value: float


@dataclass(frozen=True)
class Measure:
    """What a measure of likeness came to at the points; a sample, and no bound on anything.

    Attributes:
        name: `"Pearson"`, `"Spearman"` or `"SSIM"`.
        points: at which it has a value.
        least: the smallest value; None, as the others, where it has none.
        median: of the values.
        largest: of the values.
        theta: where the smallest was.
    """

    name: str
    points: int
    least: float | None
    median: float | None
    largest: float | None
    theta: Point | None


@dataclass(frozen=True)
class Measured:
    """Likeness of the map with the expected one, at random points of the box where the class holds.

    Attributes:
        drawn: points that were drawn.
        held: of these, so many at which the class holds.
        seed: of the draws.
        measures: what each measure came to.
    """

    drawn: int
    held: int
    seed: int
    measures: tuple[Measure, ...]
