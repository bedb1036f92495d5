"""A finding: sentences computed from the records, with the figure that shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from matplotlib.figure import Figure

from studies.nfm2023.rows import Pair
from studies.nfm2023.statistics import LEAST


@dataclass(frozen=True)
class Finding:
    """A heading, what was found in sentences, what draws the figure that shows it, the table behind it.

    keys: of the records that the sentences were computed from.
    """

    title: str
    sentences: tuple[str, ...]
    draw: Callable[[], Figure | None]
    table: str
    keys: tuple[str, ...]


def concluded(
    title: str,
    table: str,
    keys: Iterable[str],
    n: int,
    sentences: Callable[[], list[str]],
    draw: Callable[[], Figure | None],
    what: str = "comparisons",
) -> Finding:
    """The finding, or that the records are too few: n of ``what`` there are."""
    known = tuple(dict.fromkeys(keys))
    if n < LEAST:
        few = f"Too few records for a finding: {n} {what}, where at least {LEAST} are asked for."
        return Finding(title, (few,), draw, table, known)
    return Finding(title, tuple(sentences()), draw, table, known)


def keys_of(pairs: Iterable[Pair]) -> list[str]:
    """Of the records of all pairs."""
    return [key for pair in pairs for key in pair.keys]
