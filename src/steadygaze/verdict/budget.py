"""How far a run has come, and when it is to stop."""

from __future__ import annotations

from dataclasses import dataclass

from steadygaze.errors import SettingError
from steadygaze.search.base import Standing
from steadygaze.verdict.findings import Stopped

# The map may take this share of the memory limit; joining and reading it takes up to three times as much.
_MAP_SHARE = 1 / 4


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        fraction: share of the box that is judged. robust_share: share judged robust. regions: visited so far.
        phase: "compiling", "searching" or "checking".
        radius: distance from 0, in half-widths, within which all is robust, where the search goes by it.
    """

    fraction: float
    regions: int
    robust_share: float
    phase: str
    radius: float | None = None


@dataclass(frozen=True)
class Limits:
    """When to stop with what is known: seconds, GiB, activation regions (None: no limit)."""

    seconds: float | None = None
    memory: float = 2.0
    regions: int | None = None

    def __post_init__(self) -> None:
        for name, value in (
            ("time limit", self.seconds),
            ("memory limit", self.memory),
            ("regions limit", self.regions),
        ):
            if value is not None and not value > 0:
                raise SettingError(f"the {name} is {value}; it must be above 0, or left out for no limit")

    def exceeded(self, seconds: float, now: Standing) -> Stopped | None:
        """Which limit a search has run into."""
        if self.seconds is not None and seconds > self.seconds:
            return Stopped("time", f"the time limit of {self.seconds:g} s")
        if now.bytes > self.memory * 2**30 * _MAP_SHARE:
            return Stopped("memory", f"the memory limit of {self.memory:g} GiB")
        if self.regions is not None and now.regions >= self.regions:
            return Stopped("regions", f"the limit of {self.regions} regions")
        return None

    def part(self, share: float) -> Limits:
        """A share of the time and of the regions."""
        return Limits(
            None if self.seconds is None else self.seconds * share,
            self.memory,
            None if self.regions is None else max(1, int(self.regions * share)),
        )

    def less(self, seconds: float, regions: int) -> Limits:
        """What is left of the time and of the regions: at least a little, so that a search can begin."""
        return Limits(
            None if self.seconds is None else max(self.seconds - seconds, 1e-3),
            self.memory,
            None if self.regions is None else max(self.regions - regions, 1),
        )
