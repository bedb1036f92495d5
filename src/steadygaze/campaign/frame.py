"""A campaign as a data frame of pandas, which is imported where one is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from steadygaze.campaign.store import Entry, read
from steadygaze.campaign.table import COLUMNS, rows
from steadygaze.errors import SettingError

if TYPE_CHECKING:
    from pandas import DataFrame

# Columns that hold missing values beside whole numbers, truth values and times.
_TYPES = {
    "label": "Int64",
    "predicted": "Int64",
    "failure_predicted": "Int64",
    "regions": "Int64",
    "units": "Int64",
    "memory_peak": "Int64",
    "correct": "boolean",
}


def frame(source: str | Path | Iterable[Entry]) -> DataFrame:
    """A campaign's results as a frame: one row for each case, in the plan's order.

    Args:
        source: the store of a campaign, also while it runs, or entries that `read` gave.

    Returns:
        The columns of `steadygaze campaign export`, and after them tags of one's own. What is not known is
        missing; `finished` is a time in UTC.

    Raises:
        SettingError: if pandas is not installed, or the store cannot be read.
    """
    try:
        import pandas as pd  # here: optional, and slow to import
    except ImportError:
        raise SettingError(
            "a frame needs pandas, which is not installed; install it, or the extra steadygaze[notebook], "
            "or use steadygaze.campaign.read"
        ) from None
    entries = read(source) if isinstance(source, str | Path) else source
    table = pd.DataFrame.from_records(rows(entries))
    if table.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    table = table.astype(_TYPES)
    table["finished"] = pd.to_datetime(table["finished"], utc=True)
    return table
