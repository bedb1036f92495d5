"""Where rows that are 0 but for one entry have it."""

from __future__ import annotations

import numpy as np

from steadygaze.geometry.bits import kernel


@kernel
def single_places(rows):
    """Places ``(R,)`` of the entries of rows ``(R, N)`` that are not 0, if there is one at most; else -1.

    It is 0 where there is none. A row is left at its second entry: most rows of many entries are at once.
    """
    places = np.zeros(len(rows), np.int64)
    for r in range(len(rows)):
        found = 0
        for n in range(rows.shape[1]):
            if rows[r, n] != 0:
                found += 1
                if found > 1:
                    places[r] = -1
                    break
                places[r] = n
    return places
