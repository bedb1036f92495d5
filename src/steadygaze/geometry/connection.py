"""Which cells hang together through facets, and the outline of a set of plane cells."""

from __future__ import annotations

import numpy as np
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from steadygaze.geometry.bits import U, kernel
from steadygaze.geometry.cells import Cells
from steadygaze.geometry.measure import Facets, cone_volumes, facet_centres, facets, volumes
from steadygaze.geometry.sections import bounds, plane_section

# Cells that do not meet facet to facet touch within this share of the box: their corners were computed in
# different ways.
_TOUCH = 1e-8


def components(cells: Cells, found: Facets | None = None) -> np.ndarray:
    """Number of the connected part that each cell belongs to, ``(cells,)``.

    Cells connect through facets, not corners. found: the cells' facets, if they are at hand.
    """
    return _connected(shared_facets(facets(cells) if found is None else found), cells.count)


def loose_components(cells: Cells) -> np.ndarray:
    """As `components`, for cells that need not meet facet to facet.

    A facet that no other cell has too is probed at points: where one lies inside a facet of another cell, and
        on
    no other facet of it, the two cells meet in more than a corner. With one or two parameters the points meet
    every neighbour; with more a part may come out too small, never too large.
    """
    found = facets(cells)
    shared = shared_facets(found)
    _, first, counts = np.unique(found.key, return_index=True, return_counts=True)
    lone = first[counts == 1]
    points, source = _probes(cells, found.cell[lone], found.bit[lone])
    low, high = bounds(cells)
    slack = _TOUCH * np.ptp(cells.theta, axis=0)
    probe, other = _plane_tree(low - slack, high + slack).query(shapely.points(_in_plane(points)))
    near = (found.cell[lone[source[probe]]] != other) & (
        (low[other] - slack <= points[probe]) & (points[probe] <= high[other] + slack)
    ).all(axis=1)
    probe, other = probe[near], other[near]
    touch = _inside_one_facet(cells, found, other, points[probe])
    touching = np.stack([found.cell[lone[source[probe[touch]]]], other[touch]], axis=1)
    return _connected(np.concatenate([shared, touching]), cells.count)


def _inside_one_facet(cells: Cells, found: Facets, chosen: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Whether each point ``(k, n)`` lies in its chosen cell, and on exactly one of its facets."""
    size = volumes(cells)
    allowed = _TOUCH * size + _TOUCH**2 * np.prod(np.ptp(cells.theta, axis=0))
    inside = cone_volumes(cells, chosen, points) <= size[chosen] + allowed[chosen]
    start = np.searchsorted(found.cell, np.arange(cells.count + 1))  # facets come cell by cell
    pair = np.repeat(np.arange(len(chosen)), np.diff(start)[chosen])
    facet = start[chosen][pair] + np.arange(len(pair)) - np.searchsorted(pair, pair)
    cones = cone_volumes(cells, chosen[pair], points[pair], found.bit[facet])
    met = np.bincount(pair[cones <= allowed[chosen[pair]]], minlength=len(chosen))
    return inside & (met == 1)


def _probes(cells: Cells, cell: np.ndarray, bit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points inside the given facets, ``(k, n)``, and the facet of each."""
    every = np.arange(len(cell))
    if cells.dimension == 2:
        return _between_corners(cells, cell, bit)
    middles = facet_centres(cells, cell, bit)
    if cells.dimension == 1:
        return middles, every
    sizes = np.diff(cells.ptr)[cell]
    owner = np.repeat(every, sizes)
    at = cells.ptr[cell][owner] + np.arange(len(owner)) - np.searchsorted(owner, owner)
    on = (cells.mask[at, bit[owner] // 64] >> (bit[owner] % 64).astype(np.uint64)) & U(1) > 0
    halves = (middles[owner[on]] + cells.theta[cells.idx[at[on]]]) / 2
    return np.concatenate([middles, halves]), np.concatenate([every, owner[on]])


def _between_corners(cells: Cells, cell: np.ndarray, bit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Middles of the pieces into which the corners of other cells cut the given sides of plane cells."""
    widths = np.ptp(cells.theta, axis=0)
    corners = cells.theta / widths
    ends = _ends(cells.theta, cells.ptr, cells.idx, cells.mask, cell, bit)
    first, along = corners[ends[:, 0]], corners[ends[:, 1]] - corners[ends[:, 0]]
    side, corner = shapely.STRtree(shapely.points(corners)).query(
        shapely.linestrings(corners[ends]), predicate="dwithin", distance=_TOUCH
    )
    length = (along**2).sum(axis=1)
    real = length[side] > 0  # sides of slivers may have no length
    side, corner = side[real], corner[real]
    place = ((corners[corner] - first[side]) * along[side]).sum(axis=1) / length[side]
    order = np.lexsort((place, side))
    side, place = side[order], place[order].clip(0.0, 1.0)
    step = (side[1:] == side[:-1]) & (np.diff(place) > _TOUCH)
    middle, source = (place[1:] + place[:-1])[step] / 2, side[:-1][step]
    return (first[source] + middle[:, None] * along[source]) * widths, source


def _in_plane(points: np.ndarray) -> np.ndarray:
    """The first two coordinates, ``(k, 2)``; the second is 0 where there is only one."""
    return np.hstack([points, np.zeros((len(points), 1))])[:, :2]


def _plane_tree(low: np.ndarray, high: np.ndarray) -> shapely.STRtree:
    """A search tree over the first two coordinates of boxes."""
    return shapely.STRtree(shapely.box(*_in_plane(low).T, *_in_plane(high).T))


def _connected(pairs: np.ndarray, count: int) -> np.ndarray:
    links = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return connected_components(links, directed=False)[1]


def shared_facets(found: Facets) -> np.ndarray:
    """Pairs of cells that share a facet, ``(pairs, 2)``."""
    order = np.argsort(found.key, kind="stable")
    key = found.key[order]
    twin = np.flatnonzero(key[1:] == key[:-1])
    return np.stack([found.cell[order[twin]], found.cell[order[twin + 1]]], axis=1)


def outline(cells: Cells, found: Facets | None = None) -> shapely.Geometry:
    """The union of plane cells that meet edge to edge, from the edges that only one of them has.

    Returns a (multi)polygon with holes. Vertices of the same name are one point, wherever rounding put them.
    found: the facets, if they are at hand; where they are those of some of the cells, these are united.
    """
    found = facets(cells) if found is None else found
    _, first, counts = np.unique(found.key, return_index=True, return_counts=True)
    lone = first[counts == 1]
    ends = _ends(cells.theta, cells.ptr, cells.idx, cells.mask, found.cell[lone], found.bit[lone])
    _, one_of, number = np.unique(cells.names[ends], return_index=True, return_inverse=True)
    points = cells.theta[ends.reshape(-1)[one_of]]
    lines = np.asarray(shapely.linestrings(points[number.reshape(ends.shape)]))
    return shapely.build_area(shapely.GeometryCollection(lines))


def loose_outline(cells: Cells) -> shapely.Geometry:
    """As `outline`, for plane cells that need not meet edge to edge."""
    widths = np.ptp(cells.theta, axis=0)
    section = plane_section(cells, (0, 1), widths)
    owner = np.repeat(np.arange(len(section.ptr) - 1), np.diff(section.ptr))
    unit = section.corners / widths
    closed = np.concatenate([unit, unit[section.ptr[:-1]]])
    owner = np.concatenate([owner, np.arange(len(section.ptr) - 1)])
    order = np.argsort(owner, kind="stable")
    rings = shapely.linearrings(closed[order], indices=owner[order])
    return shapely.transform(
        shapely.union_all(shapely.polygons(rings), grid_size=_TOUCH), lambda points: points * widths
    )


@kernel
def _ends(theta, ptr, idx, mask, cell, bit):
    """The two ends of edges of plane cells: the farthest apart, should more vertices carry the label."""
    out = np.empty((len(cell), 2), np.int64)
    for k in range(len(cell)):
        far = -1.0
        for t in range(ptr[cell[k]], ptr[cell[k] + 1]):
            for u in range(ptr[cell[k]], t):
                if (
                    (mask[t, bit[k] // 64] >> U(bit[k] % 64))
                    & (mask[u, bit[k] // 64] >> U(bit[k] % 64))
                    & U(1)
                ):
                    a, b = idx[t], idx[u]
                    apart = abs(theta[a, 0] - theta[b, 0]) + abs(theta[a, 1] - theta[b, 1])
                    if apart > far:
                        far = apart
                        out[k, 0], out[k, 1] = a, b
    return out
