"""A campaign as one page that opens from disk: what came of it, with a table of its cases.

    from steadygaze.overview import write_overview
    write_overview(Path("plan.sqlite"), Path("plan.report.html"))

Every number of the page is one of `steadygaze.aggregate.summary_of` or of the records. See docs/campaigns.md.
"""

from __future__ import annotations

from steadygaze.overview.writing import overview_of, page_of, write_overview

__all__ = ["overview_of", "page_of", "write_overview"]
