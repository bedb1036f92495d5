"""What is kept of a case: how it ended, what it answered, what it cost."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from steadygaze.errors import UsageError


class Status(StrEnum):
    """How a case ended. Of what was cut off, the partial answer is kept where there is one."""

    SOLVED = "solved"
    TIMED_OUT = "timed out"
    OUT_OF_MEMORY = "out of memory"
    OUT_OF_REGIONS = "out of regions"
    REFUSED = "refused"
    CRASHED = "crashed"


@dataclass(frozen=True)
class Machine:
    """Where a case ran.

    Attributes:
        system: the operating system.
        processor: its name.
        cores: how many it has.
        workers: processes side by side.
        threads: of one worker.
    """

    system: str
    processor: str
    cores: int
    workers: int
    threads: int


@cache
def this_machine(workers: int) -> Machine:
    """The machine that this process runs on."""
    return Machine(f"{platform.system()} {platform.machine()}", _processor(), os.cpu_count() or 1, workers, 1)


def _processor() -> str:
    """The processor's own name; the standard library knows it on some systems only."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or "unknown"


@dataclass(frozen=True)
class Record:
    """A finished case.

    Attributes:
        status: how it ended.
        sentence: why, in words.
        seconds: wall-clock time in the worker, loading included; until its end where it was ended.
        memory: bytes resident in the worker, ``{"before": ..., "peak": ...}``; empty where nobody could look.
        machine: where it ran.
        finished: when, UTC, ISO 8601.
        answer: the answer in short, None where there is none; its keys:
            [Campaigns](../campaigns.md#the-records).
    """

    status: Status
    sentence: str
    seconds: float
    memory: Mapping[str, int]
    machine: Machine
    finished: str
    answer: Mapping[str, Any] | None

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return vars(self) | {"status": self.status.value, "machine": vars(self.machine)}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Record:
        """Back from ``to_dict``. Raises UsageError for what is no record."""
        try:
            return cls(
                **{
                    **document,
                    "status": Status(document["status"]),
                    "machine": Machine(**document["machine"]),
                }
            )
        except (TypeError, KeyError, ValueError) as error:
            raise UsageError(
                f"this is not a record of a campaign ({error}); it must be one that this version wrote: "
                "run the case again"
            ) from error
