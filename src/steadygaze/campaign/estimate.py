"""How long the rest will take, from what was finished: by kind of question, whatever the image.

Cases of one model, perturbation, map and method cost alike, others may differ a thousandfold. So each kind
has a mean of its own; a kind of which nothing is finished yet counts as the mean of all.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import final

from steadygaze.question.case import Case

# The fields of a case that say how much it costs, as far as that is known before.
KIND = ("model", "perturb", "saliency", "inconsistency", "method")


@dataclass(frozen=True)
class Estimate:
    """How long the rest will take.

    Attributes:
        seconds: on the average.
        low: it takes longer than this, and
        high: less than this, in about 19 of 20 runs.
    """

    seconds: float
    low: float
    high: float


def kind_of(case: Case) -> Hashable:
    """What cases that cost alike have in common."""
    return tuple(str(getattr(case, name)) for name in KIND)


@dataclass
class _Kind:
    left: int = 0
    done: int = 0
    total: float = 0.0
    squares: float = 0.0


@final
class Estimator:
    """Counts what is left of each kind, and what those that are finished took."""

    def __init__(self) -> None:
        self._kinds: defaultdict[Hashable, _Kind] = defaultdict(_Kind)

    def plan(self, kind: Hashable) -> None:
        """One more case of the kind is to be done."""
        self._kinds[kind].left += 1

    def finish(self, kind: Hashable, seconds: float) -> None:
        """One that was to be done took so many seconds."""
        self._kinds[kind].left -= 1
        self.learn(kind, seconds)

    def learn(self, kind: Hashable, seconds: float) -> None:
        """A case of an earlier run took so many seconds."""
        known = self._kinds[kind]
        known.done += 1
        known.total += seconds
        known.squares += seconds**2

    def rest(self, workers: int) -> Estimate | None:
        """How long the rest will take with so many at work; None while nothing is finished."""
        done = sum(kind.done for kind in self._kinds.values())
        left = sum(kind.left for kind in self._kinds.values())
        if not done:
            return None
        usual = sum(kind.total for kind in self._kinds.values()) / done
        seconds = variance = 0.0
        for kind in self._kinds.values():
            mean = kind.total / kind.done if kind.done else usual
            spread = mean**2  # as much as the mean itself, where no more is known
            if kind.done > 1:
                spread = max(kind.squares - kind.total * mean, 0.0) / (kind.done - 1)
            seconds += kind.left * mean
            variance += kind.left * spread + kind.left**2 * spread / max(kind.done, 1)
        side_by_side = max(min(workers, left), 1)
        reach = 2 * math.sqrt(variance)
        least, most = max(seconds - reach, 0.0), seconds + reach
        return Estimate(seconds / side_by_side, least / side_by_side, most / side_by_side)
