"""Many cases: a plan of them, a pool of processes that answers it, and a file that keeps every answer.

    plan = Plan("my campaign", (PlannedCase(make_case({...}), {"network": "small"}), ...))
    summary = run(plan, Path("records.sqlite"), workers=2)
    entries = read(Path("records.sqlite"))

See docs/study.md.
"""

from __future__ import annotations

from steadygaze.question.case import Case, make_case
from steadygaze.study.content import content_key
from steadygaze.study.crew import Margins
from steadygaze.study.plan import Plan, PlannedCase
from steadygaze.study.record import Machine, Record, Status
from steadygaze.study.run import RunProgress, Summary, run
from steadygaze.study.store import Entry, read

__all__ = [
    "Case",
    "Entry",
    "Machine",
    "Margins",
    "Plan",
    "PlannedCase",
    "Record",
    "RunProgress",
    "Status",
    "Summary",
    "content_key",
    "make_case",
    "read",
    "run",
]
