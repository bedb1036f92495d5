"""Many cases: a plan of them, processes that answer it, and a file that keeps every answer.

    plan = read_plan("plan.toml")  # or Plan("mine", (PlannedCase(make_case({...}), {"net": "small"}), ...))
    summary = run(plan, "records.sqlite", workers=2)
    entries = read("records.sqlite")

The public list; names are loaded when they are first used. See docs/campaigns.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steadygaze.campaign.content import content_key
    from steadygaze.campaign.crew import AbstractCrew, Margins, Reply, Task
    from steadygaze.campaign.estimate import Estimate
    from steadygaze.campaign.frame import frame
    from steadygaze.campaign.plan import Plan, PlannedCase
    from steadygaze.campaign.planfile import plan_of, read_plan, store_of
    from steadygaze.campaign.pool import PoolCrew
    from steadygaze.campaign.record import Machine, Record, Status
    from steadygaze.campaign.running import RunProgress, Summary, run
    from steadygaze.campaign.store import Entry, RunState, read, read_document, read_state
    from steadygaze.question.case import Case, make_case

_HOMES = {
    "steadygaze.campaign.content": ("content_key",),
    "steadygaze.campaign.crew": ("AbstractCrew", "Margins", "Reply", "Task"),
    "steadygaze.campaign.estimate": ("Estimate",),
    "steadygaze.campaign.frame": ("frame",),
    "steadygaze.campaign.plan": ("Plan", "PlannedCase"),
    "steadygaze.campaign.planfile": ("plan_of", "read_plan", "store_of"),
    "steadygaze.campaign.pool": ("PoolCrew",),
    "steadygaze.campaign.record": ("Machine", "Record", "Status"),
    "steadygaze.campaign.running": ("RunProgress", "Summary", "run"),
    "steadygaze.campaign.store": ("Entry", "RunState", "read", "read_document", "read_state"),
    "steadygaze.question.case": ("Case", "make_case"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AbstractCrew",
    "Case",
    "Entry",
    "Estimate",
    "Machine",
    "Margins",
    "Plan",
    "PlannedCase",
    "PoolCrew",
    "Record",
    "Reply",
    "RunProgress",
    "RunState",
    "Status",
    "Summary",
    "Task",
    "content_key",
    "frame",
    "make_case",
    "plan_of",
    "read",
    "read_document",
    "read_plan",
    "read_state",
    "run",
    "store_of",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"steadygaze.campaign has no {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
