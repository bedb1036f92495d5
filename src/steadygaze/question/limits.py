"""When a run is to stop with what it knows by then."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from steadygaze.deadline import NEVER, Deadline, Expired
from steadygaze.errors import SettingError

# Reading and checking may go on after the time limit for this share of it, and for so many seconds.
_ALLOWANCE, _LEAST_ALLOWANCE = 0.1, 1.0
# However long starting and loading took, the search has this share of the limit, but no more seconds than so
# many: an answer that nothing was searched for is of no use, and the allowance bears it.
_SHARE_OF_SEARCH, _LEAST_SEARCH = 0.25, 0.5
# Of a network of which an image takes fewer products (see `Graph.effort`), a question is posed in no time.
_QUICK = 10**8


def is_number(value: object) -> bool:
    """Whether it is a number of Python, NumPy or torch; a truth value or text is none."""
    if isinstance(value, bool | str | bytes):
        return False
    try:
        float(value)  # pyright: ignore[reportArgumentType] (that is the question)
    except (TypeError, ValueError, RuntimeError):
        return False
    return True


@dataclass(frozen=True)
class Limits:
    """When to stop with what is known.

    Attributes:
        seconds: of the whole call, loading included; None for no limit.
        memory: of the search, in GiB.
        regions: activation regions to visit; None for no limit.
        spent: of the seconds, those that were over before the call, such as with starting the program.

    Raises:
        SettingError: if a limit is not above 0.
    """

    seconds: float | None = None
    memory: float = 2.0
    regions: int | None = None
    spent: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (
            ("time limit", self.seconds),
            ("memory limit", self.memory),
            ("regions limit", self.regions),
        ):
            if value is not None and not (is_number(value) and 0 < value < math.inf):
                raise SettingError(
                    f"the {name} is {value!r}; it must be a number above 0, or left out for no limit"
                )

    def deadline(self, loading: float, effort: int = 0) -> Deadline:
        """The end of the search, where loading took so many seconds until now.

        Of a large network nothing is found in the least time that others have in any case. effort: of its
        graph (see `Graph.effort`), where that is known.
        """
        if self.seconds is None:
            return Deadline.after(None)
        least = 0.0 if effort >= _QUICK else min(_SHARE_OF_SEARCH * self.seconds, _LEAST_SEARCH)
        left = max(self.seconds - self.spent - loading, least)
        return replace(Deadline.after(left), whole=self.seconds)

    def late(self, effort: int, began: float) -> Deadline:
        """When it is too late to go on reading a network, and posing a question.

        effort: of the network (see `Graph.effort`). began: when the call did, by `time.perf_counter`.

        Only of networks that take long: of others all is checked in no time, and a search can begin.
        """
        if self.seconds is None or effort < _QUICK:
            return NEVER
        over = self.spent + time.perf_counter() - began
        return Deadline.after(self.seconds + self.allowance / 2, over)

    def left_for_more(self, timing: Mapping[str, float]) -> float | None:
        """Seconds for what is asked beside such an answer: what is left, half the allowance at least.

        timing: as in the result. None without a limit of time.
        """
        if self.seconds is None:
            return None
        over = timing["total"] + timing.get("before the call", 0.0) - timing.get("compiling", 0.0)
        return max(self.seconds - over, self.allowance / 2)

    @property
    def allowance(self) -> float:
        """Seconds after the time limit in which the answer is to be read off what was found, and checked."""
        return max(_LEAST_ALLOWANCE, _ALLOWANCE * (self.seconds or 0.0))


@contextmanager
def in_time(limits: Limits) -> Generator[None]:
    """Says in a sentence that posing a question took longer than the limit of time: raises SettingError."""
    try:
        yield
    except Expired:
        raise SettingError(
            f"the time limit is {limits.seconds:g} s, and reading this network and comparing it with the "
            "original takes longer, so that nothing could be asked of it; give several times as long, or a "
            "machine that has less else to do"
        ) from None
