"""Shares of images as functions of the scale s of the box, with what is not settled stated beside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from steadygaze.aggregate.outcomes import ATTENTION, CLASS, UNKNOWN, Outcomes

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Rate:
    """So many of n images for certain, and so many more of which it is not known.

    Attributes:
        n: images that the number is about. certain: of which it is proven. unsettled: of which neither it
            nor its contrary is.
    """

    n: int
    certain: int
    unsettled: int

    @property
    def low(self) -> float:
        """The share that is certain; 0 of nothing."""
        return self.certain / self.n if self.n else 0.0

    @property
    def high(self) -> float:
        """The share, if all that is not settled counted in favour; 1 of nothing."""
        return (self.certain + self.unsettled) / self.n if self.n else 1.0

    def interval(self) -> tuple[float, float]:
        """A 95 % interval for other images of the same kind: Clopper and Pearson's, from `low` and `high`.

        The lower end takes what is not settled as contrary, the upper one as in favour.
        """
        if not self.n:
            return 0.0, 1.0
        ends = (
            stats.binomtest(k, self.n).proportion_ci(CONFIDENCE, "exact")
            for k in (self.certain, self.certain + self.unsettled)
        )
        (low, _), (_, high) = ends
        return float(low), float(high)


def robust(outcomes: Outcomes, claim: int, scale: float, accuracy: bool = False) -> Rate:
    """How many images keep the class (CLASS), or class and attention (ATTENTION), in all of s·Θ.

    accuracy: of the images whose true class is known, those count that keep the *true* class; an image that
    the model has wrong at θ = 0 counts as contrary. Otherwise the predicted class is what is kept.
    """
    if not accuracy:
        return _rate(*_sides(outcomes, claim, scale))
    known = outcomes.chosen(outcomes.label != UNKNOWN)
    certain, contrary = _sides(known, claim, scale)
    wrong = known.answered & ~known.correct
    return _rate(certain & ~wrong, contrary | wrong)


def other_reason(outcomes: Outcomes, scale: float) -> Rate:
    """How many images keep their class in all of s·Θ, and lose their attention somewhere in it."""
    keeps, loses = _sides(outcomes, CLASS, scale)
    steady, moved = _sides(outcomes, ATTENTION, scale)
    return _rate(keeps & moved, loses | steady)


def accurate(outcomes: Outcomes) -> Rate:
    """How many images of known class the model has right as they are."""
    known = outcomes.chosen(outcomes.label != UNKNOWN)
    return _rate(known.correct, known.answered & ~known.correct)


def steps(outcomes: Outcomes, most: int = 201) -> np.ndarray:
    """Scales in [0, 1] at which some rate changes, with 0 and 1; of very many, `most` spread evenly."""
    ends = np.concatenate([outcomes.holds.ravel(), outcomes.fails.ravel(), [0.0, 1.0]])
    inside = np.unique(ends[(ends >= 0) & (ends <= 1)])
    return inside if len(inside) <= most else np.linspace(0.0, 1.0, most)


def _sides(outcomes: Outcomes, claim: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Flags ``(n,)``: certified at this scale, and failing at it."""
    certain = outcomes.holds[claim] >= scale
    return certain, ~certain & (outcomes.fails[claim] <= scale)


def _rate(certain: np.ndarray, contrary: np.ndarray) -> Rate:
    n, yes = len(certain), int(certain.sum())
    return Rate(n, yes, n - yes - int(contrary.sum()))
