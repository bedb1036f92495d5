"""Shares of images as functions of the scale s of the box, with what is not settled stated beside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv

from steadygaze.aggregate.outcomes import ATTENTION, CLASS, UNKNOWN, Outcomes
from steadygaze.errors import UsageError

CONFIDENCE = 0.95
MOST_STEPS = 201


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
        tail, k, most = (1 - CONFIDENCE) / 2, self.certain, self.certain + self.unsettled
        low = float(betaincinv(k, self.n - k + 1, tail)) if k else 0.0
        return low, float(betaincinv(most + 1, self.n - most, 1 - tail)) if most < self.n else 1.0


def robust(outcomes: Outcomes, claim: int, scale: float, accuracy: bool = False) -> Rate:
    """How many images keep the class (CLASS), or class and attention (ATTENTION), in all of s·Θ.

    Raises UsageError where attention is meant and the class alone was asked about.

    accuracy: of the images whose true class is known, those count that keep the *true* class; an image that
    the model has wrong at θ = 0 counts as contrary. Otherwise the predicted class is what is kept.
    """
    if not accuracy:
        return _rate(*_sides(outcomes, claim, scale))
    known = labelled(outcomes)
    certain, contrary = _sides(known, claim, scale)
    wrong = known.answered & ~known.correct
    return _rate(certain & ~wrong, contrary | wrong)


def other_reason(outcomes: Outcomes, scale: float) -> Rate:
    """How many images keep their class in all of s·Θ, and lose their attention somewhere in it.

    Raises UsageError where the class alone was asked about.
    """
    keeps, loses = _sides(outcomes, CLASS, scale)
    steady, moved = _sides(outcomes, ATTENTION, scale)
    return _rate(keeps & moved, loses | steady)


def accurate(outcomes: Outcomes) -> Rate:
    """How many images of known class the model has right as they are."""
    known = labelled(outcomes)
    return _rate(known.correct, known.answered & ~known.correct)


def labelled(outcomes: Outcomes) -> Outcomes:
    """Those whose true class is known."""
    told = outcomes.label != UNKNOWN
    return outcomes if told.all() else outcomes.chosen(told)


def steps(outcomes: Outcomes, most: int = MOST_STEPS) -> np.ndarray:
    """Scales in [0, 1] at which some rate changes, with 0 and 1; of very many, `most` spread evenly."""
    ends = np.concatenate([outcomes.holds.ravel(), outcomes.fails.ravel(), [0.0, 1.0]])
    inside = np.unique(ends[(ends >= 0) & (ends <= 1)])
    return inside if len(inside) < most else np.linspace(0.0, 1.0, most)


def between(low: Rate, middle: Rate, high: Rate, every: bool) -> Rate:
    """The rate at the scales between two neighbouring steps, these left out.

    Between two of `every` step it is what it is in the middle. Of steps spread evenly, what is certain at
    the upper one is certain before, what is contrary at the lower one stays so, and the rest is not settled.
    """
    if every:
        return middle
    contrary = low.n - low.certain - low.unsettled
    return Rate(low.n, high.certain, low.n - high.certain - min(contrary, low.n - high.certain))


def _sides(outcomes: Outcomes, claim: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Flags ``(n,)``: certified at this scale, and failing at it. Raises UsageError if it was not asked."""
    if claim not in outcomes.claims:
        raise UsageError(
            "these cases were asked about the class alone, so that nothing is known of their attention; "
            "measure the class, or ask with the claim attention"
        )
    certain = outcomes.holds[claim] >= scale
    return certain, ~certain & (outcomes.fails[claim] <= scale)


def _rate(certain: np.ndarray, contrary: np.ndarray) -> Rate:
    n, yes = len(certain), int(certain.sum())
    return Rate(n, yes, n - yes - int(contrary.sum()))
