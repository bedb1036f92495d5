"""Cells taken apart into simplices, so that cells which meet in a whole facet take it apart alike."""

from __future__ import annotations

from math import factorial

import numpy as np

# Cells are taken apart so many at a time that boxes among them have no more simplices than this.
_AT_ONCE = 1 << 17
# A map of more numbers than this, which boxes of many parameters come to, is not taken apart.
_MOST = 1 << 25


def simplices_of(
    ptr: np.ndarray, vertex: np.ndarray, mask: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Simplices ``(S, n + 1)`` of vertex numbers in rising order, and the cell ``(S,)`` of each.

    None where there would be too many. By pulling: from a cell's vertex of the lowest number to the simplices
    of each facet that does not hold it, and so on down (cf. De Loera, Rambau, Santos, Triangulations, 2010).

    Args:
        ptr: ``(M + 1,)``; the incidences of cell p are ``ptr[p]:ptr[p + 1]``.
        vertex: ``(I,)`` vertex numbers; those that were found to be one have one number.
        mask: ``(I, words)`` uint64, the facets of its cell that each vertex lies on.
    """
    parts, owners = [np.zeros((0, n + 1), np.int64)], [np.zeros(0, np.int64)]
    step, room = max(1, _AT_ONCE // factorial(n)), _MOST // (n + 1)
    for start in range(0, len(ptr) - 1, step):
        some = ptr[start : start + step + 1]
        own = slice(some[0], some[-1])
        words = np.ascontiguousarray(mask[own]).view(np.uint8)
        bits = np.unpackbits(words, axis=1, bitorder="little").astype(bool)
        numbers = vertex[own].astype(np.int64)
        found, cell = _pulled(numbers, some - some[0], bits[:, bits.any(axis=0)], n)
        parts.append(np.sort(found, axis=1))
        owners.append(cell + start)
        room -= len(cell)
        if room < 0:
            return parts[0], owners[0]
    simplices, owner = np.concatenate(parts), np.concatenate(owners)
    whole = (np.diff(simplices, axis=1) > 0).all(axis=1)  # of what names a vertex twice nothing remains
    return simplices[whole], owner[whole]


def _pulled(vertex: np.ndarray, ptr: np.ndarray, bits: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Pull a batch of cells, given for each incidence its vertex and its facets ``(I, F)`` bool.

    Faces are lists of incidences, `member` from `start` on, of the cell `owner`; each step replaces a face by
    those of its facets that do not hold its apex, known by a sum of random marks.
    """
    draw = np.random.default_rng(7).integers(1, 1 << 62, len(vertex), dtype=np.uint64)
    member, start = np.arange(len(vertex)), ptr[:-1]
    owner, apexes = np.arange(len(start)), np.zeros((len(start), 0), np.int64)
    for dimension in range(n, 1, -1):
        if not len(start):
            break
        group = np.repeat(np.arange(len(start)), np.diff(np.append(start, len(member))))
        least = np.minimum.reduceat(vertex[member], start)
        apex = np.flatnonzero(vertex[member] == least[group])
        apex = apex[np.unique(group[apex], return_index=True)[1]]
        apexes = np.concatenate([apexes, least[:, None]], axis=1)
        spot, facet = np.nonzero(bits[member] & ~bits[member[apex]][group])
        key = group[spot] * bits.shape[1] + facet
        order = np.argsort(key, kind="stable")
        spot, key = spot[order], key[order]
        begin = np.flatnonzero(np.diff(key, prepend=-1))
        size, which = np.diff(np.append(begin, len(key))), group[spot[begin]]
        mark = np.add.reduceat(draw[member[spot]], begin) if len(begin) else np.zeros(0, np.uint64)
        large = np.flatnonzero(size >= dimension)
        named = np.stack([which[large].astype(np.uint64), mark[large]])
        chosen = np.sort(large[np.unique(named, axis=1, return_index=True)[1]])
        sizes = size[chosen]
        start = np.cumsum(sizes) - sizes
        member = member[spot[np.repeat(begin[chosen] - start, sizes) + np.arange(int(sizes.sum()))]]
        owner, apexes = owner[which[chosen]], apexes[which[chosen]]
    pair = np.flatnonzero(np.diff(np.append(start, len(member))) == 2)
    ends = vertex[member[start[pair][:, None] + np.arange(2)]]
    return np.concatenate([apexes[pair], ends], axis=1).reshape(-1, n + 1), owner[pair]
