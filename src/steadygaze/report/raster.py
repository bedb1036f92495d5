"""Which polygon lies under each pixel: the map of 10^5-10^6 cells as one image.

Vector graphics would draw each cell on its own, slowly, and leave a bright seam or a hole wherever several
cells share a pixel. Here the centre of each pixel decides: what is painted is what was proven at that point.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

UNCOVERED = -1


def owners(
    points: NDArray[np.float64],
    offsets: NDArray[np.int64],
    extent: tuple[float, float, float, float],
    size: tuple[int, int],
) -> NDArray[np.int64]:
    """The index of the polygon at each pixel's centre, ``UNCOVERED`` where there is none.

    ``points``: ``(P, 2)``; polygon m is ``points[offsets[m]:offsets[m + 1]]``, simple, not always convex.
    ``extent``: left, right, bottom, top. ``size``: columns, rows. The result is ``(rows, columns)``, lowest
    row first. Scan lines with the even-odd rule, all edges of all polygons at once.
    """
    columns, rows = size
    left, right, bottom, top = extent
    x = (points[:, 0] - left) / (right - left) * columns - 0.5  # pixel centres at whole numbers
    y = (points[:, 1] - bottom) / (top - bottom) * rows - 0.5
    owner, row, crossing = _crossings(x, y, np.asarray(offsets), rows)
    order = np.lexsort((crossing, owner * rows + row))
    enter, leave = order[0::2], order[1::2]  # even-odd: each scan line enters and leaves a polygon in turn
    first = _clipped_ceil(crossing[enter], columns)
    last = _clipped_ceil(crossing[leave], columns)
    pixels = _ranges(row[enter] * columns + first, last - first)
    image = np.full(rows * columns, UNCOVERED, np.int64)
    image[pixels] = np.repeat(owner[enter], last - first)
    return image.reshape(rows, columns)


def _crossings(
    x: NDArray[np.float64], y: NDArray[np.float64], offsets: NDArray[np.int64], rows: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Where edges cross scan lines: polygon, row and x of each crossing. An edge holds its lower end only."""
    sizes = np.diff(offsets)
    following = np.arange(1, len(x) + 1)
    following[offsets[1:][sizes > 0] - 1] = offsets[:-1][sizes > 0]
    polygon = np.repeat(np.arange(len(sizes)), sizes)
    # Always from the lower end up, so that neighbours that share an edge compute the very same crossing.
    rising = (y < y[following]) | ((y == y[following]) & (x < x[following]))
    lower, upper = np.where(rising, [np.arange(len(x)), following], [following, np.arange(len(x))])
    first = _clipped_ceil(y[lower], rows)
    count = _clipped_ceil(y[upper], rows) - first
    edge = np.repeat(np.arange(len(x)), count)
    row = _ranges(first, count)
    low, high = lower[edge], upper[edge]
    crossing = x[low] + (row - y[low]) / (y[high] - y[low]) * (x[high] - x[low])
    return polygon[edge], row, crossing


def _clipped_ceil(values: NDArray[np.float64], limit: int) -> NDArray[np.int64]:
    return np.clip(np.ceil(values), 0, limit).astype(np.int64)


def _ranges(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """``[s, s + 1, ..., s + c - 1]`` of each start and count, one after the other."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(starts - (ends - counts), counts)
