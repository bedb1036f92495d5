"""A tree over boxes that finds those that hold a point, in any number of dimensions."""

from __future__ import annotations

import numpy as np

from steadygaze.geometry.bits import kernel

# Boxes, or nodes of the level below, in a node.
_FAN = 8
# The group of a node whose boxes are of several groups.
_MANY = -1


class BoxTree:
    """Boxes in the order of the Z-curve of their middles, eight to a node, eight nodes to the next.

    Args:
        low, high: ``(boxes, n)``, at least one box.
    """

    def __init__(self, low: np.ndarray, high: np.ndarray) -> None:
        self._order = np.argsort(_along_curve((low + high) / 2), kind="stable")
        levels = [(low[self._order], high[self._order])]
        while len(levels[-1][0]) > 1:
            below, above = levels[-1]
            starts = np.arange(0, len(below), _FAN)
            levels.append((np.minimum.reduceat(below, starts), np.maximum.reduceat(above, starts)))
        self._first = np.cumsum([0] + [len(below) for below, _ in levels])
        self._low = np.concatenate([below for below, _ in levels])
        self._high = np.concatenate([above for _, above in levels])
        self._group = np.full(self._first[-1], _MANY)

    def grouped(self, group: np.ndarray) -> None:
        """Give each box its group ``(boxes,)``, at least 0: a point is not told of boxes of its own group."""
        level = group[self._order]
        for first, last in zip(self._first[:-1], self._first[1:], strict=True):
            self._group[first:last] = level
            starts = np.arange(0, len(level), _FAN)
            least, most = np.minimum.reduceat(level, starts), np.maximum.reduceat(level, starts)
            level = np.where(least == most, least, _MANY)

    def count(self, points: np.ndarray, group: np.ndarray) -> np.ndarray:
        """How many boxes of other groups than its own hold each point; arguments as for `holding`."""
        counts = np.zeros(len(points), np.int64)
        _search(points, group, self._low, self._high, self._group, self._first, counts, counts[:0])
        return counts

    def holding(self, points: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of a point ``(k, n)`` and a box that holds it, borders included, of another group than its.

        Returns the numbers of the points and of the boxes. group: ``(k,)``.
        """
        counts = self.count(points, group)
        found = np.empty(counts.sum(), np.int64)
        _search(points, group, self._low, self._high, self._group, self._first, counts, found)
        return np.repeat(np.arange(len(points)), counts), self._order[found]


def _along_curve(middles: np.ndarray) -> np.ndarray:
    """Place of each point on the Z-curve, uint64: the bits of its coordinates, shuffled."""
    n = middles.shape[1]
    low, extent = middles.min(axis=0), np.ptp(middles, axis=0)
    each = min(64 // n, 21)
    steps = ((middles - low) / np.where(extent > 0, extent, 1.0) * (2**each - 1)).astype(np.uint64)
    out = np.zeros(len(middles), np.uint64)
    for bit in range(each):
        for axis in range(n):
            out |= ((steps[:, axis] >> np.uint64(bit)) & np.uint64(1)) << np.uint64(bit * n + axis)
    return out


@kernel
def _search(points, group, low, high, of, first, counts, found):
    """Count the boxes that hold each point or, where there is room for them, note which they are."""
    n, top, out = points.shape[1], len(first) - 2, 0
    level, place = np.empty(8 * (top + 1) + 1, np.int64), np.empty(8 * (top + 1) + 1, np.int64)
    for k in range(len(points)):
        level[0], place[0], size, count = top, 0, 1, 0
        while size > 0:
            size -= 1
            at, node = level[size], place[size]
            row = first[at] + node
            holds = of[row] != group[k]
            for i in range(n):
                holds &= low[row, i] <= points[k, i] <= high[row, i]
            if not holds:
                continue
            if at == 0:
                if len(found) > 0:
                    found[out] = node
                    out += 1
                count += 1
                continue
            for child in range(8 * node, min(8 * node + 8, first[at] - first[at - 1])):
                level[size], place[size] = at - 1, child
                size += 1
        counts[k] = count
