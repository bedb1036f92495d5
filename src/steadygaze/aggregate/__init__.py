"""What many answers say together: shares that keep class and attention, and one model against another.

    from steadygaze.aggregate import grouped, summary_of
    groups = grouped(read(Path("plan.sqlite")))        # outcomes by model, perturbation, threshold, saliency

Every number comes with how many images it is about, and how many of them are not settled. See
docs/campaigns.md.
"""

from __future__ import annotations

from steadygaze.aggregate.outcomes import ATTENTION, CLAIMS, CLASS, Group, Outcomes, grouped
from steadygaze.aggregate.pairs import Comparison, compared
from steadygaze.aggregate.rates import Rate, other_reason, robust, steps
from steadygaze.aggregate.rules import Finding, Rule, judged, parsed
from steadygaze.aggregate.summary import summary_of

__all__ = [
    "ATTENTION",
    "CLAIMS",
    "CLASS",
    "Comparison",
    "Finding",
    "Group",
    "Outcomes",
    "Rate",
    "Rule",
    "compared",
    "grouped",
    "judged",
    "other_reason",
    "parsed",
    "robust",
    "steps",
    "summary_of",
]
