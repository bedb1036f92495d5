"""When a run has to come to its end: a record that is handed down to whatever may take long, and asked there.

A step that finds no time left raises `Expired`, and leaves what it had in hand as it was before: undecided.
Only the driver, and what reads a map, catches it; nobody takes it for a sign that something holds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace


class Expired(Exception):
    """The time is over. Never leaves the package: what was in hand counts as not examined."""


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Deadline:
    """The end of a run.

    Attributes:
        ends: when, by the clock; infinite for never.
        clock: tells the time, in seconds.
        halted: tells whether the user has asked for the end (Ctrl-C).
        whole: seconds that the run may take in all, where that is known; else infinite.
    """

    ends: float = math.inf
    clock: Callable[[], float] = time.perf_counter
    halted: Callable[[], bool] = _never
    whole: float = math.inf

    @classmethod
    def after(cls, seconds: float | None, spent: float = 0.0) -> Deadline:
        """So many seconds from now, of which some are spent already; None for never."""
        return cls() if seconds is None else cls(ends=time.perf_counter() + seconds - spent)

    @property
    def left(self) -> float:
        """Seconds that are left, 0 at least."""
        return max(self.ends - self.clock(), 0.0)

    @property
    def planned(self) -> float:
        """Seconds to plan with: half of the whole while that is left, and then what is left.

        What is worth its time is decided by these, so that a run which ends within half of its limit finds
        the same each time, however fast the machine is just then.
        """
        return min(self.left, self.whole / 2)

    def passed(self) -> bool:
        """Whether it is time to stop."""
        return self.halted() or (self.ends < math.inf and self.clock() > self.ends)

    def ask(self) -> None:
        """Raise Expired where it is time to stop."""
        if self.passed():
            raise Expired("the time is over: what is in hand is left as it was, undecided")

    def part(self, share: float) -> Deadline:
        """A share of what is left."""
        if self.ends == math.inf:
            return self
        return replace(self, ends=self.clock() + share * self.left, whole=share * self.whole)

    def later(self, seconds: float) -> Deadline:
        """So many seconds later."""
        return self if self.ends == math.inf else replace(self, ends=self.ends + seconds)


#: For what may take as long as it does.
NEVER = Deadline()
