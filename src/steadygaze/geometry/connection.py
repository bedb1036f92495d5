"""Which cells hang together through facets, and the outline of a set of plane cells."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise, product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from steadygaze.deadline import NEVER, Deadline
from steadygaze.geometry.bits import U, kernel
from steadygaze.geometry.boxes import BoxTree
from steadygaze.geometry.cells import Cells, faces
from steadygaze.geometry.joining import connected
from steadygaze.geometry.measure import Facets, cone_volumes, facet_centres, facets, volumes
from steadygaze.geometry.outside import clearly_outside
from steadygaze.geometry.sections import bounds, plane_section
from steadygaze.geometry.welding import ROUNDING

if TYPE_CHECKING:
    import shapely

# Cells that do not meet facet to facet touch within this share of the box: their corners were computed in
# different ways.
_TOUCH = 1e-8
# Facets whose probes are looked up at once, and pairs of a probe and a cell that may hold it.
_FACETS_AT_ONCE, _PAIRS_AT_ONCE = 4096, 100_000


def components(cells: Cells, found: Facets | None = None) -> np.ndarray:
    """Number of the connected part that each cell belongs to, ``(cells,)``.

    Cells connect through facets, not corners. found: the cells' facets, if they are at hand.
    """
    return connected(shared_facets(facets(cells) if found is None else found), cells.count)


_Probing = Callable[[Cells, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


class LooseParts(NamedTuple):
    """Parts of cells that need not meet facet to facet.

    Attributes:
        part: number of the part that each cell belongs to, ``(cells,)``.
        doubtful: pairs ``(k, 2)`` of cells not joined because something lies where they touch, though
            that may be beside them rather than between.
    """

    part: np.ndarray
    doubtful: np.ndarray


def loose_components(cells: Cells, deadline: Deadline = NEVER) -> np.ndarray:
    """The parts of `loose_parts` where nothing is known to lie between cells."""
    return loose_parts(cells, None, deadline).part


def loose_parts(cells: Cells, walls: Cells | None, deadline: Deadline = NEVER) -> LooseParts:
    """As `components`, for cells that need not meet facet to facet.

    A facet that no other cell has too is probed at points: where one lies inside a facet of another cell, and
    on no other facet of it, the two cells meet in more than a corner, unless one of the `walls` lies there:
    that may be thinner than what rounding is allowed. With one or two parameters the points meet every
    neighbour; with more a part may come out too small, never too large.

    Args:
        cells: those to join. walls: those that they must not be joined across, None for none.
        deadline: raises Expired where it passes on the way.
    """
    found = facets(cells, deadline)
    _, first, counts = np.unique(found.key, return_index=True, return_counts=True)
    lone = first[counts == 1]
    low, high = bounds(cells)
    widths = np.ptp(cells.theta, axis=0)
    tree = BoxTree(low - _TOUCH * widths, high + _TOUCH * widths)
    # In the plane all sides are cut by all corners at once; in space most cells meet at middles of facets.
    between, corners = None, cells.theta
    if walls is not None and walls.count:
        between, corners = Lookup(walls, widths), np.concatenate([cells.theta, walls.theta])
    twins = _twins(found)
    doubtful = [np.zeros((0, 2), np.int64)]
    if between is not None and len(twins):
        # Names are those of points nearby, and a wall may be thinner than what that means.
        held = np.zeros(len(twins), bool)
        for side in twins.T:
            held |= between.met(facet_centres(cells, found.cell[side], found.bit[side]), deadline)
        doubtful, twins = [found.cell[twins[held]]], twins[~held]
    part = connected(found.cell[twins], cells.count)
    pieces = partial(_between_corners, corners)
    ways: dict[int, tuple[_Probing, ...]] = {1: (_middles,), 2: (pieces,)}
    kinds = ways.get(cells.dimension, (_middles, _halves))
    step = _FACETS_AT_ONCE if cells.dimension > 2 else max(1, len(lone))
    for probes, at in product(kinds, range(0, len(lone), step)):
        deadline.ask()
        some = lone[at : at + step]
        points, source = probes(cells, found.cell[some], found.bit[some])
        part, doubts = _met(
            cells, found, tree, between, points, found.cell[some[source]], part, widths, deadline
        )
        doubtful.append(doubts)
    return LooseParts(part, np.concatenate(doubtful))


class Lookup:
    """Cells, to be asked whether points lie on them."""

    def __init__(self, cells: Cells, widths: np.ndarray) -> None:
        self._cells, self._widths = cells, widths
        low, high = bounds(cells)
        self._tree = BoxTree(low - _TOUCH * widths, high + _TOUCH * widths)

    def met(self, points: np.ndarray, deadline: Deadline) -> np.ndarray:
        """Whether each point ``(k, n)`` lies on one of them."""
        cells, out = self._cells, np.zeros(len(points), bool)
        probe, wall = self._tree.holding(points, np.zeros(len(points), np.int64))
        near = ~clearly_outside(cells, wall, points[probe], self._widths)
        probe, wall = probe[near], wall[near]
        once, row = np.unique(wall, return_inverse=True)
        size = volumes(cells.take(once)[0], deadline)[row]
        allowed = _TOUCH * size + ROUNDING * np.prod(self._widths)
        out[probe[cone_volumes(cells, wall, points[probe], deadline=deadline) <= size + allowed]] = True
        return out


def _met(
    cells: Cells,
    found: Facets,
    tree: BoxTree,
    between: Lookup | None,
    points: np.ndarray,
    own: np.ndarray,
    part: np.ndarray,
    widths: np.ndarray,
    deadline: Deadline,
) -> LooseParts:
    """The parts ``(cells,)`` once cells are joined with those that the points ``(k, n)`` of `own` meet."""
    doubtful = [np.zeros((0, 2), np.int64)]
    tree.grouped(part)
    counts = tree.count(points, part[own])
    points, own, pairs = points[counts > 0], own[counts > 0], np.cumsum(counts[counts > 0])
    # So few points at once that the pairs fit into little memory; those of later points are fewer by then.
    edges = np.searchsorted(pairs, np.arange(0, counts.sum(), _PAIRS_AT_ONCE), side="right")
    for first, last in pairwise(np.unique([*edges, len(points)])):
        probe, other = tree.holding(points[first:last], part[own[first:last]])
        probe += first
        near = ~clearly_outside(cells, other, points[probe], widths)
        probe, other = probe[near], other[near]
        touch = _inside_one_facet(cells, found, other, points[probe], widths, _TOUCH, deadline)
        if between is not None and touch.any():
            held = np.flatnonzero(touch)
            held = held[between.met(points[probe[held]], deadline)]
            touch[held] = False
            here = points[probe[held]]
            held = held[_inside_one_facet(cells, found, other[held], here, widths, ROUNDING, deadline)]
            doubtful.append(np.stack([own[probe[held]], other[held]], axis=1))
        if touch.any():
            joined = np.stack([part[own[probe[touch]]], part[other[touch]]], axis=1)
            part = connected(joined, int(part.max()) + 1)[part]
            tree.grouped(part)
    return LooseParts(part, np.concatenate(doubtful))


def _inside_one_facet(
    cells: Cells,
    found: Facets,
    chosen: np.ndarray,
    points: np.ndarray,
    widths: np.ndarray,
    slack: float,
    deadline: Deadline,
) -> np.ndarray:
    """Whether each point ``(k, n)`` lies in its chosen cell and on one of its facets alone, up to `slack`."""
    once, row = np.unique(chosen, return_inverse=True)
    size = volumes(cells.take(once)[0], deadline)[row]
    allowed = slack * size + slack**2 * np.prod(widths)
    inside = np.flatnonzero(cone_volumes(cells, chosen, points, deadline=deadline) <= size + allowed)
    start = np.searchsorted(found.cell, np.arange(cells.count + 1))  # facets come cell by cell
    pair = np.repeat(inside, np.diff(start)[chosen[inside]])
    facet = start[chosen][pair] + np.arange(len(pair)) - np.searchsorted(pair, pair)
    cones = cone_volumes(cells, chosen[pair], points[pair], found.bit[facet], deadline)
    met = np.bincount(pair[cones <= allowed[pair]], minlength=len(chosen))
    return met == 1


def _middles(cells: Cells, cell: np.ndarray, bit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points in the middle of the given facets, ``(k, n)``, and the facet of each."""
    return facet_centres(cells, cell, bit), np.arange(len(cell))


def _halves(cells: Cells, cell: np.ndarray, bit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points half-way from the middle of each given facet to its vertices."""
    flat = faces(cells, cell, bit)
    owner = np.repeat(np.arange(len(cell)), np.diff(flat.ptr))
    return (facet_centres(cells, cell, bit)[owner] + flat.theta[flat.idx]) / 2, owner


def _between_corners(
    corners: np.ndarray, cells: Cells, cell: np.ndarray, bit: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Middles of the pieces into which corners ``(k, 2)`` cut the given sides of plane cells."""
    import shapely  # here and below: slow to import, and only answers in the plane need it

    widths = np.ptp(cells.theta, axis=0)
    ends_at, own = corners / widths, cells.theta / widths
    ends = _ends(cells.theta, cells.ptr, cells.idx, cells.mask, cell, bit)
    first, along = own[ends[:, 0]], own[ends[:, 1]] - own[ends[:, 0]]
    side, corner = shapely.STRtree(np.asarray(shapely.points(ends_at))).query(
        shapely.linestrings(own[ends]), predicate="dwithin", distance=_TOUCH
    )
    length = (along**2).sum(axis=1)
    real = length[side] > 0  # sides of slivers may have no length
    side, corner = side[real], corner[real]
    place = ((ends_at[corner] - first[side]) * along[side]).sum(axis=1) / length[side]
    order = np.lexsort((place, side))
    side, place = side[order], place[order].clip(0.0, 1.0)
    step = (side[1:] == side[:-1]) & (np.diff(place) > _TOUCH)
    middle, source = (place[1:] + place[:-1])[step] / 2, side[:-1][step]
    return (first[source] + middle[:, None] * along[source]) * widths, source


def shared_facets(found: Facets) -> np.ndarray:
    """Pairs of cells that share a facet, ``(pairs, 2)``."""
    return found.cell[_twins(found)]


def _twins(found: Facets) -> np.ndarray:
    """Pairs of rows of the facets that are one, ``(pairs, 2)``."""
    order = np.argsort(found.key, kind="stable")
    key = found.key[order]
    twin = np.flatnonzero(key[1:] == key[:-1])
    return np.stack([order[twin], order[twin + 1]], axis=1)


def outline(cells: Cells, found: Facets | None = None) -> shapely.Geometry:
    """The union of plane cells that meet edge to edge, from the edges that only one of them has.

    Returns a (multi)polygon with holes. Vertices of the same name are one point, wherever rounding put them.
    found: the facets, if they are at hand; where they are those of some of the cells, these are united.
    """
    import shapely

    found = facets(cells) if found is None else found
    _, first, counts = np.unique(found.key, return_index=True, return_counts=True)
    lone = first[counts == 1]
    ends = _ends(cells.theta, cells.ptr, cells.idx, cells.mask, found.cell[lone], found.bit[lone])
    _, one_of, number = np.unique(cells.names[ends], return_index=True, return_inverse=True)
    points = cells.theta[ends.reshape(-1)[one_of]]
    lines = np.asarray(shapely.linestrings(points[number.reshape(ends.shape)]))
    return shapely.build_area(shapely.GeometryCollection(lines))


def loose_outline(cells: Cells, deadline: Deadline = NEVER) -> shapely.Geometry:
    """As `outline`, for plane cells that need not meet edge to edge. Raises Expired at the deadline.

    Edges that two cells have vanish, the others divide the plane, and of its parts those count that a cell
    lies on. Rounding moves a corner off the slanting edge that it lies on, and leaves a crack; cracks are
    closed, by moving the border out and back again.
    """
    import shapely

    widths = np.ptp(cells.theta, axis=0)
    lines = np.asarray(shapely.linestrings(_odd_edges(cells, widths) * _TOUCH))
    deadline.ask()
    noded = shapely.get_parts(shapely.union_all(lines, grid_size=_TOUCH))
    parts = shapely.get_parts(shapely.polygonize(noded))
    within = shapely.get_coordinates(shapely.point_on_surface(parts))
    area = shapely.union_all(parts[Lookup(cells, widths).met(within * widths, deadline)])
    for way in (2 * _TOUCH, -2 * _TOUCH):
        area = shapely.buffer(area, way, join_style="mitre", mitre_limit=10.0)
    return shapely.transform(area, lambda points: points * widths)


def _odd_edges(cells: Cells, widths: np.ndarray) -> np.ndarray:
    """Ends of the edges that an odd number of plane cells have, in steps of a grid, ``(k, 2, 2)``.

    The steps are `_TOUCH` of the widths.
    """
    section = plane_section(cells, (0, 1), widths)
    corners = np.rint(section.corners / widths / _TOUCH).astype(np.int64)
    following = np.arange(1, len(corners) + 1)
    following[section.ptr[1:] - 1] = section.ptr[:-1]
    edges = np.stack([corners, corners[following]], axis=1)
    swapped = (edges[:, 0, 0] > edges[:, 1, 0]) | (
        (edges[:, 0, 0] == edges[:, 1, 0]) & (edges[:, 0, 1] > edges[:, 1, 1])
    )
    edges[swapped] = edges[swapped, ::-1]
    once, counts = np.unique(edges.reshape(-1, 4), axis=0, return_counts=True)
    return once[counts % 2 == 1].reshape(-1, 2, 2)


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
