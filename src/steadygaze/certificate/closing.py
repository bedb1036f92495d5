"""Faces of simplices that no other simplex has, though next to nothing lies between: what closes such gaps.

Where a vertex of one cell lies within a facet of another, or several computed the same place each in its own
way, simplices do not meet face to face. Simplices of next to no volume between them make up for it.
"""

from __future__ import annotations

import numpy as np

from steadygaze.geometry.joining import connected

# In widths of the box: places as near as this are one; a vertex as near as this to an edge lies on it.
_SAME, _ON = 1e-15, 1e-13
# Faces that lie in one flat are off it by no more than this.
_FLAT = 1e-6
# With more faces left over than this, in three dimensions and more, the search for flats takes too long.
_MOST = 4000

Chain = set[frozenset[int]]


def open_faces(simplices: np.ndarray, scaled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Faces ``(k, n)`` that an odd number of simplices have, not on the boundary; and the number of one.

    scaled: ``(V, n)`` vertices in the unit box; rows of simplices rise.
    """
    count, corners = simplices.shape
    faces = np.concatenate([np.delete(simplices, k, axis=1) for k in range(corners)])
    order = np.lexsort(faces.T)
    ordered = faces[order]
    begin = np.flatnonzero(np.append(True, (ordered[1:] != ordered[:-1]).any(axis=1)))
    alone = order[begin[np.diff(np.append(begin, len(faces))) % 2 == 1]]
    places = scaled[faces[alone]]
    on = ((places == 0) | (places == 1)) & (places == places[:, :1])
    inside = alone[~on.all(axis=1).any(axis=1)]
    return faces[inside], inside % max(count, 1)


def same_places(used: np.ndarray, scaled: np.ndarray) -> np.ndarray:
    """The number ``(V,)`` that each vertex has once those of the used ones in the same place are one."""
    number = np.arange(len(scaled))
    if not len(used):
        return number
    from scipy.spatial import KDTree  # here: slow to import, and only certificates need it

    pairs = KDTree(scaled[used]).query_pairs(_SAME, output_type="ndarray")
    label = connected(pairs, len(used))
    first = np.full(len(used), len(scaled))
    np.minimum.at(first, label, used)
    number[used] = first[label]
    return number


def fans(edges: np.ndarray, scaled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """In the plane, flat triangles ``(k, 3)`` between edges and the vertices of others that lie on them.

    Returns the number ``(k,)`` of the edge of each, too.
    """
    used = np.unique(edges)
    ranks = [used[np.argsort(scaled[used, axis])] for axis in range(2)]
    values = [scaled[rank, axis] for axis, rank in enumerate(ranks)]
    ends = scaled[edges]
    spans = [
        np.stack([np.searchsorted(value, ends[:, :, axis].min(axis=1) - _ON),
                  np.searchsorted(value, ends[:, :, axis].max(axis=1) + _ON)], axis=1)
        for axis, value in enumerate(values)
    ]  # fmt: skip
    made, owners = [np.zeros((0, 3), np.int64)], [np.zeros(0, np.int64)]
    for k, (start, stop) in enumerate(edges):
        axis = int(spans[0][k, 1] - spans[0][k, 0] > spans[1][k, 1] - spans[1][k, 0])
        some = ranks[axis][slice(*spans[axis][k])]
        along, away = scaled[stop] - scaled[start], scaled[some] - scaled[start]
        size = along @ along
        share = away @ along / size
        height = np.abs(away[:, 0] * along[1] - away[:, 1] * along[0])
        on = (height <= _ON * np.sqrt(size)) & (share > 0) & (share < 1) & (some != start) & (some != stop)
        if on.any():
            between = some[on][np.argsort(share[on], kind="stable")]
            path = np.append(between, stop)
            made.append(np.stack([np.full(len(between), start), path[:-1], path[1:]], axis=1))
            owners.append(np.full(len(between), k))
    return np.sort(np.concatenate(made), axis=1), np.concatenate(owners)


def closing(faces: np.ndarray, scaled: np.ndarray) -> np.ndarray:
    """Simplices ``(k, n + 1)`` between faces ``(., n)`` that lie on one another; none if they do not close.

    The faces of one flat, closed by flat pieces along the lines where flats meet (and so on down), are coned
    from one of their vertices. Whoever uses the simplices has to see whether they do close the gaps.
    """
    n = faces.shape[1]
    made: list[list[int]] = []
    if 0 < len(faces) <= _MOST and n > 1:
        parts = _flats({frozenset(row) for row in faces.tolist()}, scaled)
        chains = {(k,): part for k, part in enumerate(parts)}
        for key, closed in (_closed(chains, n - 1, scaled) or {}).items():
            made += [sorted(simplex) for simplex in _cone(chains[key] ^ closed)]
    return np.array(made, np.int64).reshape(-1, n + 1)


def _closed(chains: dict[tuple[int, ...], Chain], dimension: int, scaled: np.ndarray) -> dict | None:
    """Chains that make cycles of the given ones and themselves add up to nothing, if the given ones do."""
    edges = {key: _boundary(chain) for key, chain in chains.items()}
    if not any(edges.values()):
        return {key: set() for key in chains}
    if dimension == 1:
        return None
    flats = _flats(set().union(*edges.values()), scaled)
    parts = {(*key, h): edge & flat for key, edge in edges.items() for h, flat in enumerate(flats)}
    deeper = _closed(parts, dimension - 1, scaled)
    if deeper is None:
        return None
    apexes = [min(min(simplex) for simplex in flat) for flat in flats]
    made: dict[tuple[int, ...], Chain] = {key: set() for key in chains}
    for key, part in parts.items():
        made[key[:-1]] ^= _cone(part ^ deeper[key], apexes[key[-1]])
    return made


def _boundary(chain: Chain) -> Chain:
    out: Chain = set()
    for simplex in chain:
        out ^= {simplex - {corner} for corner in simplex}
    return out


def _cone(chain: Chain, apex: int | None = None) -> Chain:
    apex = min((min(simplex) for simplex in chain), default=0) if apex is None else apex
    out: Chain = set()
    for simplex in chain:
        out ^= {simplex | {apex}} if apex not in simplex else set()
    return out


def _flats(chain: Chain, scaled: np.ndarray) -> list[Chain]:
    """Simplices parted into those that hang together and lie in one flat."""
    left = sorted(chain, key=lambda simplex: -float(np.ptp(scaled[sorted(simplex)], axis=0).max()))
    parts: list[Chain] = []
    while left:
        corners = scaled[sorted(left[0])]
        start, basis = corners[0], np.linalg.qr((corners[1:] - corners[0]).T)[0]
        away = scaled[np.array([sorted(simplex) for simplex in left])] - start
        flat = np.linalg.norm(away - away @ basis @ basis.T, axis=2).max(axis=1) < _FLAT
        known, part = set(left[0]), {left[0]}
        fresh = part
        while fresh:
            fresh = {s for s, lies in zip(left, flat, strict=True) if lies and s not in part and known & s}
            part |= fresh
            known = known.union(*fresh)
        parts.append(part)
        left = [simplex for simplex in left if simplex not in part]
    return parts
