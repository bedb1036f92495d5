"""Many cases: a plan of them, a pool of processes that answers it, and a file that keeps every answer.

    plan = Plan("my campaign", (PlannedCase(make_case({...}), {"network": "small"}), ...))
    summary = run(plan, Path("records.sqlite"), workers=2)
    entries = read(Path("records.sqlite"))

See docs/campaigns.md.
"""

from __future__ import annotations

from steadygaze.campaign.content import content_key
from steadygaze.campaign.crew import AbstractCrew, Margins, Reply, Task
from steadygaze.campaign.plan import Plan, PlannedCase
from steadygaze.campaign.pool import PoolCrew
from steadygaze.campaign.record import Machine, Record, Status
from steadygaze.campaign.run import RunProgress, Summary, run
from steadygaze.campaign.store import Entry, read
from steadygaze.question.case import Case, make_case

__all__ = [
    "AbstractCrew",
    "Case",
    "Entry",
    "Machine",
    "Margins",
    "Plan",
    "PlannedCase",
    "PoolCrew",
    "Record",
    "Reply",
    "RunProgress",
    "Status",
    "Summary",
    "Task",
    "content_key",
    "make_case",
    "read",
    "run",
]
