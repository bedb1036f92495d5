"""Which of many things hang together, by the pairs that do."""

from __future__ import annotations

import numpy as np

from steadygaze.geometry.bits import kernel


def connected(pairs: np.ndarray, count: int) -> np.ndarray:
    """The number ``(count,)`` of the connected part that each of so many things belongs to.

    pairs: ``(k, 2)``, what hangs together. Parts are numbered from 0 in the order of their first members.
    """
    return _parts(np.ascontiguousarray(pairs, np.int64), count)


@kernel
def _parts(pairs, count):
    """By union and find, each path halved as it is walked (Tarjan and van Leeuwen, JACM 1984)."""
    parent = np.arange(count)
    for k in range(len(pairs)):
        a, b = pairs[k, 0], pairs[k, 1]
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        while parent[b] != b:
            parent[b] = parent[parent[b]]
            b = parent[b]
        parent[max(a, b)] = min(a, b)
    number = 0
    for v in range(count):  # the root of a part is its first member: what lies above has its number already
        if parent[v] == v:
            parent[v] = number
            number += 1
        else:
            parent[v] = parent[parent[v]]
    return parent
