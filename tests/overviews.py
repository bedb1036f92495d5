"""Entries of a campaign that its page is tested with."""

from __future__ import annotations

from recorded import entry
from steadygaze.campaign import Status

HOSTILE = "</script><img src=x onerror=\"document.title='taken'\">'&\u2028"


def campaign(model="one", count=12):
    """Entries of two models: some fail, some are open, one has no answer."""
    made = []
    for name, less in ((model, 0.0), ("two", 0.1)):
        for k in range(count):
            holds = round(min(1.0, max(0.05, k / (count - 2) - less)), 3)
            scales = (1.0, None, holds, None if holds == 1.0 else min(1.0, holds + (0.1 if k % 3 else 0.0)))
            made.append(
                entry(f"image {k}", None if k == 3 else scales, model=name, label=k % 3, predicted=k % 3,
                      ranges=[[-0.1 * holds, 0.05]], status=Status.CRASHED if k == 3 else Status.SOLVED)
            )  # fmt: skip
    return made
