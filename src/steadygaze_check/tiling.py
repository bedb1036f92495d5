"""That the cells cover the box once, by facets that face one another.

A cell is taken apart into simplices by pulling: from its vertex of the lowest number to a triangulation of
each facet that does not hold it, and so on down. Two cells that meet in a whole facet take it apart alike.
The facets of cells are hints of the writer: whatever they are, simplices with vertices of a cell lie in the
cell, and whether they cover the box is found out from the simplices alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from steadygaze_check.arithmetic import UNIT, UP
from steadygaze_check.folder import Certificate

_CELLS = 1 << 14
# Fillers between facets that lie on one another up to rounding may be this part of the box, all together.
_FILLER, _MOST_LEFT = 1e-7, 20000
# Vertices as near to one another as this, in widths of the box, may be taken for one.
_WELD = 1e-13


@dataclass(frozen=True, eq=False)
class Tiling:
    """How the cells lie.

    Attributes:
        covers: whether it is proven that they cover the box.
        why: a sentence: what was done, or what is missing.
        volume: ``(M,)`` lower bounds of the volumes of the cells' simplices.
        twice: upper bound of the volume that is counted more than once, if it covers.
        extra: upper bound of the volume of fillers, which are no cells.
        neighbours: ``(k, 2)`` pairs of cells that share a simplex of a facet, or in the plane a part of one.
        conforms: whether all that share a part of a facet are among them.
        simplices, outer: vertex numbers of simplices and fillers, and of facets that still face no other.
    """

    covers: bool
    why: str
    volume: np.ndarray
    twice: float
    extra: float
    neighbours: np.ndarray
    conforms: bool
    simplices: np.ndarray
    outer: np.ndarray


def tiling(certificate: Certificate) -> Tiling:
    """Whether the cells cover the box, counted once. See docs/checker.md for the proof.

    Where facets do not face one another by the numbers of their vertices, vertices that are within rounding
    of one another are taken for one, which moves simplices by no more than that.
    """
    simplices, owner = simplices_of(certificate)
    found = _tiled(certificate, simplices, owner, 0.0)
    if found.covers or not len(simplices):
        return found
    n, scaled = certificate.dimension, (certificate.vertices - certificate.box[:, 0]) / certificate.width
    first, number = np.unique(np.rint(scaled / _WELD), axis=0, return_index=True, return_inverse=True)[1:]
    moved = (n + 1) * len(simplices) * _WELD * n * certificate.volume
    welded = _tiled(certificate, first[number.reshape(-1)][simplices], owner, moved)
    return welded if welded.covers else found


def _tiled(certificate: Certificate, simplices: np.ndarray, owner: np.ndarray, moved: float) -> Tiling:
    """The same for given simplices, each of which is off by some of the volume `moved`."""
    n, points, box = certificate.dimension, certificate.vertices, certificate.box
    low, high = volumes(points[simplices])
    own = np.bincount(owner, low, minlength=len(certificate.cell_kind)) * (1 - 2.0**-40)
    inner, outer, pairs, at = _faces(simplices, owner, certificate)
    pairs = np.concatenate([pairs, _alongside(outer, at, points, box)])
    filler = _fill(outer, points, box)
    every = np.concatenate([simplices, filler])
    left = outer
    if len(filler):
        left = _faces(every, np.append(owner, np.full(len(filler), -1)), certificate)[1]
    extra = float(volumes(points[filler])[1].sum())
    twice = max(0.0, float(high.sum()) * (1 + 2.0**-40) + extra - certificate.volume * (1 - 2.0**-50))
    covers, why = False, f"{inner} inner facets of {len(simplices)} simplices cancel in pairs"
    if len(left):
        why = f"{len(left)} of {inner + len(outer)} facets face no other and are not on the box's boundary"
    elif extra > _FILLER * certificate.volume:
        why = "facets that face no other leave a gap between them"
    elif not odd_somewhere(points[every], box):
        why = "no point lies in an odd number of cells for certain"
    else:
        covers = True
        why += f", with {len(filler)} fillers of {extra / certificate.volume:.1e} of the box" if extra else ""
    conforms = n <= 2 or not len(filler)
    return Tiling(covers, why, own, twice + extra + moved, extra + moved, pairs, conforms, every, left)


# -- simplices


def simplices_of(certificate: Certificate) -> tuple[np.ndarray, np.ndarray]:
    """Simplices ``(S, n + 1)`` of vertex numbers, and the cell ``(S,)`` of each."""
    parts, owners = [], []
    for start in range(0, len(certificate.cell_kind), _CELLS):
        ptr = certificate.cell_ptr[start : start + _CELLS + 1]
        own = slice(ptr[0], ptr[-1])
        words = np.ascontiguousarray(certificate.cell_facets[own]).view(np.uint8)
        bits = np.unpackbits(words, axis=1, bitorder="little").astype(bool)
        vertex = certificate.cell_vertex[own].astype(np.int64)
        found, cell = _pulled(vertex, ptr - ptr[0], bits[:, bits.any(axis=0)], certificate.dimension)
        parts.append(found)
        owners.append(cell + start)
    return np.concatenate(parts), np.concatenate(owners)


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


def volumes(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds ``(S,)`` of the volumes of simplices ``(S, n + 1, n)``."""
    value, error = determinants(corners)
    scale = 1.0 / float(np.prod(np.arange(1, corners.shape[2] + 1)))
    low, high = np.maximum(np.abs(value) - error, 0.0), np.abs(value) + error
    return low * scale * (1 - 2.0**-48), high * scale * (1 + 2.0**-48)


def determinants(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """det of the edges from the first corner, ``(S,)``, and bounds of the errors.

    Up to four dimensions by the sum over permutations, each product with n differences and n - 1
    multiplications; above by elimination, with Hadamard's bound for what each row's error can make out.
    """
    edges = corners[:, 1:] - corners[:, :1]
    n = edges.shape[2]
    if n > 4:
        length = np.linalg.norm(edges, axis=2).prod(axis=1)
        return np.linalg.det(edges), UNIT * 64 * n**3 * 2.0**n * length
    value, size = np.zeros(len(edges)), np.zeros(len(edges))
    for order in permutations(range(n)):
        product = np.ones(len(edges))
        for row, column in enumerate(order):
            product = product * edges[:, row, column]
        swaps = sum(order[i] > order[j] for i in range(n) for j in range(i + 1, n))
        value += -product if swaps % 2 else product
        size += np.abs(product)
    return value, (2 * n + 24 + 2) * UNIT * UP * size + 1e-300


def odd_somewhere(corners: np.ndarray, box: np.ndarray) -> bool:
    """Whether a point of the box lies in an odd number of simplices ``(S, n + 1, n)``, on no boundary."""
    draw = np.random.default_rng(3)
    for _ in range(32):
        point = box[:, 0] + draw.random(len(box)) * (box[:, 1] - box[:, 0])
        near = corners[((corners.min(axis=1) <= point) & (point <= corners.max(axis=1))).all(axis=1)]
        inside, (whole, error) = np.ones(len(near), bool), determinants(near)
        # In a flat simplex, whose sign is not known, the point must not lie: it is beyond some plane.
        flat = np.abs(whole) <= error
        sure = not (flat & ~_beyond(near, point)).any()
        for k in range(near.shape[1]):
            moved = near.copy()
            moved[:, k] = point
            part, slack = determinants(moved)
            inside &= (part > 0) == (whole > 0)
            sure &= not ((np.abs(part) <= slack) & ~flat).any()
        if sure:
            return bool(inside[~flat].sum() % 2)
    return False


def _beyond(corners: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Simplices that lie on one side of one of some random planes through a point."""
    apart = np.zeros(len(corners), bool)
    size = np.ptp(corners.reshape(-1, len(point)), axis=0) if len(corners) else 1.0
    for direction in np.random.default_rng(5).normal(size=(64, len(point))) / np.maximum(size, 1e-30):
        height, most = (corners - point) @ direction, np.abs(corners - point) @ np.abs(direction)
        slack = 1e-12 * most.max(axis=1) + 1e-300
        apart |= (height.min(axis=1) > slack) | (height.max(axis=1) < -slack)
    return apart


# -- facets


def _faces(
    simplices: np.ndarray, owner: np.ndarray, certificate: Certificate
) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """How facets of simplices meet.

    Returns the number of those that cancel in pairs, those ``(k, n)`` that neither do nor lie on the boundary
    of the box, the pairs of cells that meet in one, and the cells ``(k,)`` of the second.
    """
    n, ordered = certificate.dimension, np.sort(simplices, axis=1)
    whole = (np.diff(ordered, axis=1) > 0).all(axis=1)  # of what names a vertex twice, nothing remains
    ordered, owner = ordered[whole], owner[whole]
    faces = np.concatenate([np.delete(ordered, k, axis=1) for k in range(n + 1)])
    cells, key = np.tile(owner, n + 1), faces[:, 0]
    for column in range(1, n):
        key = np.unique(key, return_inverse=True)[1] * len(certificate.vertices) + faces[:, column]
    order = np.argsort(key, kind="stable")
    begin = np.flatnonzero(np.diff(key[order], prepend=-1))
    size = np.diff(np.append(begin, len(order)))
    paired = begin[size == 2]
    pairs = np.stack([cells[order[paired]], cells[order[paired + 1]]], axis=1)
    alone = order[begin[size % 2 == 1]]
    corners = certificate.vertices[faces[alone]]
    on = (corners[:, :, :, None] == certificate.box).all(axis=1).any(axis=(1, 2))
    apart = (pairs[:, 0] != pairs[:, 1]) & (pairs >= 0).all(axis=1)
    return int((size % 2 == 0).sum()), faces[alone][~on], pairs[apart], cells[alone][~on]


def _alongside(outer: np.ndarray, cell: np.ndarray, points: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Pairs of cells in the plane that have a part of an edge in common, though not the same edge."""
    pairs = [np.zeros((0, 2), np.int64)]
    if outer.shape[1] != 2 or len(outer) > _MOST_LEFT:
        return pairs[0]
    scaled = points / (box[:, 1] - box[:, 0])
    owner = {frozenset(edge): own for edge, own in zip(outer.tolist(), cell.tolist(), strict=True)}
    for flat in _flats(set(owner), scaled):
        edges = np.array([sorted(edge) for edge in flat])
        ends = scaled[edges] - scaled[edges[0, 0]]
        along = ends @ max(ends.reshape(-1, 2), key=np.linalg.norm)
        low, high = along.min(axis=1), along.max(axis=1)
        shared = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)
        one, two = np.nonzero(shared > 1e-3 * (high - low)[:, None])
        owners = np.array([owner[edge] for edge in flat])
        pairs.append(np.stack([owners[one], owners[two]], axis=1))
    found = np.concatenate(pairs)
    return found[found[:, 0] != found[:, 1]]


Chain = set[frozenset[int]]


def _fill(outer: np.ndarray, points: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Simplices between facets that lie on one another without being the same; none where they do not close.

    Where a vertex of one cell lies within a facet or an edge of another, the facets left over lie in few
    planes. Those of one plane, closed by flat pieces along its lines (and so on down), are coned from one of
    their vertices: they cancel, and the simplices have next to no volume. That they do close the cover is
    found out afterwards, by pairing all facets again.
    """
    made: list[list[int]] = []
    if 0 < len(outer) <= _MOST_LEFT and outer.shape[1] > 1:
        scaled = points / (box[:, 1] - box[:, 0])
        parts = _flats({frozenset(row) for row in outer.tolist()}, scaled)
        chains = {(k,): part for k, part in enumerate(parts)}
        closing = _closing(chains, outer.shape[1] - 1, scaled) or {}
        for key, closed in closing.items():
            made += [sorted(simplex) for simplex in _cone(chains[key] ^ closed)]
    return np.array(made, np.int64).reshape(-1, outer.shape[1] + 1)


def _closing(chains: dict[tuple[int, ...], Chain], dimension: int, points: np.ndarray) -> dict | None:
    """Chains that make cycles of the given ones and themselves add up to nothing, if the given ones do."""
    edges = {key: _boundary(chain) for key, chain in chains.items()}
    if not any(edges.values()):
        return {key: set() for key in chains}
    if dimension == 1:
        return None
    flats = _flats(set().union(*edges.values()), points)
    parts = {(*key, h): edge & flat for key, edge in edges.items() for h, flat in enumerate(flats)}
    deeper = _closing(parts, dimension - 1, points)
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


def _flats(chain: Chain, points: np.ndarray) -> list[Chain]:
    """Simplices parted into those that hang together and lie in one flat, up to 1e-6 of the box."""
    left = sorted(chain, key=lambda simplex: -float(np.ptp(points[sorted(simplex)], axis=0).max()))
    parts: list[Chain] = []
    while left:
        corners = points[sorted(left[0])]
        start, basis = corners[0], np.linalg.qr((corners[1:] - corners[0]).T)[0]
        away = points[np.array([sorted(simplex) for simplex in left])] - start
        flat = np.linalg.norm(away - away @ basis @ basis.T, axis=2).max(axis=1) < 1e-6
        known, part = set(left[0]), {left[0]}
        fresh = part
        while fresh:
            fresh = {s for s, lies in zip(left, flat, strict=True) if lies and s not in part and known & s}
            part |= fresh
            known = known.union(*fresh)
        parts.append(part)
        left = [simplex for simplex in left if simplex not in part]
    return parts
