"""Where what a traversal has not examined begins: behind flat cells."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from steadygaze.geometry.cells import Cells
from steadygaze.geometry.kinds import ROBUST
from steadygaze.search.base import CellMap, unexamined


def edge_of(
    known: CellMap,
    facet: np.ndarray,
    region: np.ndarray,
    slack: Callable[[np.ndarray, np.ndarray], np.ndarray],
    close: float,
) -> CellMap:
    """The facets of robust cells that lie on the given facets of regions, as flat cells, undecided.

    Args:
        known: the judged cells.
        facet: ``(k,)`` facets that nobody has crossed. region: ``(k,)`` the region of each.
        slack: how far points ``(m, n)`` lie on the inner side of facets ``(m,)``, in widths of the box.
        close: vertices that are no farther away lie on a facet.
    """
    order = np.argsort(known.region, kind="stable")
    first = np.searchsorted(known.region[order], region)
    last = np.searchsorted(known.region[order], region, side="right")
    wall = np.repeat(facet, last - first)
    cell = order[
        np.arange(len(wall)) + np.repeat(first - np.cumsum(last - first) + (last - first), last - first)
    ]
    robust = known.kind[cell] == ROBUST
    cell, wall = cell[robust], wall[robust]
    some, _ = known.cells.take(cell)
    owner = np.repeat(np.arange(len(cell)), np.diff(some.ptr))
    on = np.abs(slack(wall[owner], some.theta[some.idx])) <= close
    sizes = np.bincount(owner[on], minlength=len(cell))
    flat = sizes >= known.cells.dimension
    on &= flat[owner]
    ptr = np.concatenate([[0], np.cumsum(sizes[flat])])
    cells = Cells(some.theta, some.names, ptr, some.idx[on], some.mask[on])
    return unexamined(cells.take(np.arange(cells.count))[0], flat=True)
