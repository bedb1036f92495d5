"""The robust part that contains 0, grown cell by cell through gates between robust cells.

The facets of its cells are settled only when somebody asks: one is a gate if the cell behind it is robust
too, and else a piece of the boundary. A boundary is followed by settling the facets that touch it, so only
the regions that touch it are ever found.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from steadygaze.geometry.cells import Cells, concatenate, faces
from steadygaze.geometry.connection import Lookup, loose_parts
from steadygaze.geometry.cutting import cut
from steadygaze.geometry.growing import Growing
from steadygaze.geometry.joining import connected
from steadygaze.geometry.kinds import ROBUST
from steadygaze.geometry.measure import Facets, centres, facets
from steadygaze.geometry.planes import planes_of_facets
from steadygaze.geometry.sections import bounds
from steadygaze.geometry.store import WHOLE
from steadygaze.geometry.welding import ROUNDING, Weld
from steadygaze.search.base import CellMap
from steadygaze.search.regions import NOTHING, OUTSIDE, UNKNOWN, WELD, Regions

# What a facet is: not settled, a gate, cut up into parts that stand for it, or a piece of the boundary where
# the class changes inside a region, towards a region that is not robust, towards what nobody could examine,
# or on the box's own face.
OPEN, GATE, PARTED, CLASS_BOUNDARY, NEIGHBOUR, UNEXAMINED, FACE = range(7)
_NONE = -1


@dataclass(frozen=True)
class Pieces:
    """Pieces of a boundary.

    Attributes:
        cells: flat polytopes. bit: ``(k,)`` the label that all vertices of each carry.
        kind: ``(k,)`` CLASS_BOUNDARY, NEIGHBOUR, UNEXAMINED or FACE.
        normal: ``(k, n)`` outward, of length 1 in widths of the box. offset: ``(k,)`` (see `Planes`).
        points: welded number of each vertex, incidence by incidence as ``cells.ptr`` tells them; theta:
            ``(numbers, n)`` their places.
        region: ``(k,)`` the region of the robust cell that each bounds.
    """

    cells: Cells
    bit: np.ndarray
    kind: np.ndarray
    normal: np.ndarray
    offset: np.ndarray
    points: np.ndarray
    theta: np.ndarray
    region: np.ndarray

    def take(self, chosen: np.ndarray) -> Pieces:
        """Some of the pieces, by a mask."""
        rows = np.flatnonzero(chosen)
        at = np.repeat(chosen, np.diff(self.cells.ptr))
        return Pieces(
            self.cells.take(rows)[0], self.bit[rows], self.kind[rows], self.normal[rows], self.offset[rows],
            self.points[at], self.theta, self.region[rows],
        )  # fmt: skip


class RobustPart:
    """Robust cells and their facets, as arrays that grow; a facet's vertices are welded.

    Attributes:
        number: of each robust cell, its number in `Regions.map`. region: its region.
    """

    def __init__(self, regions: Regions) -> None:
        self.regions = regions
        self.weld = Weld(regions.widths, WELD)
        self._absorbed = self._passed = 0
        self._number, self._region = Growing((), np.int64), Growing((), np.int64)
        self._member = Growing((), np.bool_)
        self._cell, self._wall = Growing((), np.int64), Growing((), np.int64)
        self._bit, self._state = Growing((), np.int64), Growing((), np.int8)
        self._first, self._point = Growing((), np.int64), Growing((), np.int64)
        self._first.append(np.zeros(1, np.int64))
        self._flat: list[Cells] = []
        self._first_flat: list[int] = []
        self._solid: list[Cells] = []
        self._active = np.zeros(64, bool)
        # Facets that were met from the other side: in parts, so that a corner of a part may lie inside them.
        self._met: dict[int, bool] = {}
        self._of_region: dict[int, list[int]] = {}
        self._first_of_cell: list[int] = []
        self._facets_of_cell: list[int] = []
        n = len(regions.widths)
        self._normal, self._offset = Growing((n,), np.float64), Growing((), np.float64)
        self._extent = Growing((2, n), np.float64)
        self._sole: list[np.ndarray] = []

    @property
    def members(self) -> np.ndarray:
        """Robust cells known to hang together with 0."""
        return np.flatnonzero(self._member.rows)

    @property
    def number(self) -> np.ndarray:
        """``(robust cells,)`` their numbers in `Regions.map`."""
        return self._number.rows

    @property
    def bytes(self) -> int:
        """Memory held besides the regions."""
        return sum(c.theta.nbytes + c.idx.nbytes + c.mask.nbytes for c in (*self._flat, *self._solid))

    def absorb(self) -> None:
        """Take in the robust cells of regions that were found since the last time."""
        maps = self.regions.maps
        for k in range(self._absorbed, len(maps)):
            map_, base = maps[k], self.regions.first_of_map[k]
            chosen = np.flatnonzero(map_.kind == ROBUST)
            cells, _ = map_.cells.take(chosen)
            first = len(self._number.rows)
            self._number.append(self._passed + chosen)
            self._region.append(base + map_.region[chosen])
            self._member.append(np.zeros(len(chosen), bool))
            self._solid.append(cells)
            sole = np.full(len(map_.pattern), _NONE)
            sole[map_.region[chosen]] = first + np.arange(len(chosen))
            self._sole.append(sole)
            found = facets(cells)
            flat = faces(cells, found.cell, found.bit)
            wall = self._walls(flat, base + map_.region[chosen][found.cell])
            wall[_before_failing(map_, chosen, found)] = _NONE
            if self.regions.problem.follows_maps:
                self._place(cells, found, flat, first)
            self._enter(first + found.cell, found.bit, wall, flat, OPEN)
            self._passed += map_.cells.count
        self._absorbed = len(maps)

    def of_regions(self, regions: np.ndarray) -> np.ndarray:
        """The robust cells of the given regions."""
        return np.flatnonzero(np.isin(self._region.rows, regions))

    def join(self, cells: np.ndarray) -> None:
        """Make robust cells members."""
        self._member.rows[cells] = True

    def touched(self) -> np.ndarray:
        """Open facets of members that touch a piece of the boundary which is known."""
        open_ = self.untouched()
        starts, sizes = self._first.rows[open_], np.diff(self._first.rows)[open_]
        owner = np.repeat(np.arange(len(open_)), sizes)
        at = np.arange(len(owner)) + np.repeat(starts - np.cumsum(sizes) + sizes, sizes)
        lit = np.zeros(len(open_), bool)
        lit[owner[self._active[self._point.rows[at]]]] = True
        return open_[lit | np.isin(open_, list(self._met))]

    def untouched(self) -> np.ndarray:
        """All open facets of members."""
        return np.flatnonzero((self._state.rows == OPEN) & self._member.rows[self._cell.rows])

    def facets_of(self, cells: np.ndarray) -> np.ndarray:
        """The facets of the given robust cells that are still open."""
        return np.flatnonzero((self._state.rows == OPEN) & np.isin(self._cell.rows, cells))

    def solid(self, cells: np.ndarray) -> Cells:
        """The given robust cells as polytopes."""
        starts = np.cumsum([0] + [part.count for part in self._solid])
        block = np.searchsorted(starts, cells, side="right") - 1
        order = np.argsort(block, kind="stable")
        parts = [
            self._solid[k].take(cells[order[block[order] == k]] - starts[k])[0] for k in np.unique(block)
        ]
        place = np.empty(len(cells), np.int64)
        place[order] = np.arange(len(cells))
        return concatenate(parts).take(place)[0]

    def linked(self, cells: np.ndarray) -> np.ndarray:
        """Number ``(cells,)`` of the part of the given robust cells that each hangs together with."""
        if self.regions.problem.follows_maps:
            walls = self._failing(np.unique(self._region.rows[cells]))
            return loose_parts(self.solid(cells), walls, self.regions.deadline).part
        facet = np.flatnonzero(np.isin(self._cell.rows, cells) & (self._wall.rows != _NONE))
        behind = self.regions.neighbour[self._wall.rows[facet]]
        other = np.where(behind >= 0, self._sole_cell(behind), _NONE)
        both = np.isin(other, cells)
        row = np.empty(len(self._number.rows), np.int64)
        row[cells] = np.arange(len(cells))
        pairs = np.stack([row[self._cell.rows[facet[both]]], row[other[both]]], axis=1)
        return connected(pairs, len(cells))

    def settle(self, facet: np.ndarray) -> None:
        """Find out what the given open facets of members are; what is behind gates joins."""
        wall = self._wall.rows[facet]
        self.regions.cross(wall[wall != _NONE])
        self.absorb()
        if self.regions.problem.follows_maps:
            for f in facet:
                self.regions.deadline.ask()
                if self._state.rows[f] == OPEN:
                    self._settle_parts(int(f))
            return
        behind = np.where(wall == _NONE, OUTSIDE, self.regions.neighbour[wall])
        beyond = np.where(behind >= 0, self._sole_cell(behind), _NONE)
        gate = beyond != _NONE
        state = np.select(
            [gate, wall == _NONE, behind == OUTSIDE, behind >= 0],
            [GATE, CLASS_BOUNDARY, FACE, NEIGHBOUR],
            UNEXAMINED,
        )
        self._state.rows[facet] = state
        self._member.rows[beyond[gate]] = True
        self._light(facet[~gate])

    def pieces(self) -> Pieces:
        """All known pieces of the boundary of the members."""
        state = self._state.rows
        chosen = np.flatnonzero((state >= CLASS_BOUNDARY) & self._member.rows[self._cell.rows])
        flat, _ = concatenate(self._flat).take(chosen)
        owner = self._cell.rows[chosen]
        normal, offset = self._planes(owner, self._bit.rows[chosen])
        starts, sizes = self._first.rows[chosen], np.diff(self._first.rows)[chosen]
        at = np.arange(sizes.sum()) + np.repeat(starts - np.cumsum(sizes) + sizes, sizes)
        return Pieces(
            cells=flat,
            bit=self._bit.rows[chosen],
            kind=state[chosen],
            normal=normal,
            offset=offset,
            points=self._point.rows[at],
            theta=self.weld.points,
            region=self._region.rows[owner],
        )

    def _failing(self, regions: np.ndarray) -> Cells:
        """What of these regions is not robust, and more than a face."""
        first, found = np.array(self.regions.first_of_map), []
        block = np.searchsorted(first, regions, side="right") - 1
        for k in np.unique(block):
            map_, own = self.regions.maps[k], regions[block == k] - first[k]
            failing = (map_.kind != ROBUST) & (map_.volume > 0) & np.isin(map_.region, own)
            found.append(map_.cells.take(np.flatnonzero(failing))[0])
        return concatenate(found)

    # -- fixed maps: a region has at most one robust cell, and cells meet facet to facet

    def _sole_cell(self, regions: np.ndarray) -> np.ndarray:
        """The robust cell of each region, or none."""
        return np.where(regions >= 0, np.concatenate(self._sole)[np.maximum(regions, 0)], _NONE)

    # -- maps that move: a region has many robust cells, and they meet in parts of facets

    def _settle_parts(self, f: int) -> None:
        """Part a facet into what lies on robust cells behind it and what does not."""
        cell, wall = int(self._cell.rows[f]), int(self._wall.rows[f])
        behind = int(self.regions.neighbour[wall]) if wall != _NONE else int(self._region.rows[cell])
        kind = CLASS_BOUNDARY if wall == _NONE else FACE if behind == OUTSIDE else NEIGHBOUR
        if behind in (UNKNOWN, NOTHING):
            kind = UNEXAMINED
        rest, whole = self._flat_of(f), True
        for other in self._facing_it(f, behind):
            rest, met = self._common(rest, other)
            if met.count and self._walled(met, other, {int(self._region.rows[cell]), behind}):
                rest = concatenate([rest, met])
            elif met.count:
                whole = False
                self._member.rows[self._cell.rows[other]] = True
                self._met[other] = True
                self._append_parts(f, met, GATE)
        if whole:
            self._state.rows[f] = kind
            self._light(np.array([f]))
            return
        self._state.rows[f] = PARTED
        if rest.count:
            first = len(self._state.rows)
            self._append_parts(f, rest, kind)
            self._light(np.arange(first, len(self._state.rows)))

    def _facing_it(self, f: int, region: int) -> list[int]:
        """Facets of robust cells of a region that lie in the same plane, from the other side."""
        own = np.array(self._of_region.get(region, ()), np.int64)
        low, high = self._extent.rows[own, 0], self._extent.rows[own, 1]
        against = self._normal.rows[own] @ self._normal.rows[f] < -0.5
        level = np.abs(self._offset.rows[own] + self._offset.rows[f]) <= WELD
        near = ((low <= self._extent.rows[f, 1] + WELD) & (self._extent.rows[f, 0] <= high + WELD)).all(
            axis=1
        )
        return own[against & level & near].tolist()

    def _common(self, flat: Cells, other: int) -> tuple[Cells, Cells]:
        """What of flat cells lies outside a facet in their plane, and what on it."""
        if not flat.count:
            return flat, flat
        cell = self._cell.rows[other]
        sides = self._first_of_cell[cell] + np.arange(self._facets_of_cell[cell])
        sides = sides[sides != other]
        slack = self._offset.rows[sides] - (flat.theta / self.regions.widths) @ self._normal.rows[sides].T
        made = cut(
            flat, np.ascontiguousarray(slack), np.full(len(sides), 1e-11), sides.astype(np.uint64),
            stop_below=True,
        )  # fmt: skip
        thick = self._thick(made.cells)
        # Planes of two facets may have the same offset and lie otherwise.
        away = np.abs(self._beyond(made.cells, other)) > WELD
        far = np.logical_or.reduceat(away[made.cells.idx], made.cells.ptr[:-1])
        outside = np.flatnonzero(((made.stop != WHOLE) | far) & thick)
        inside = np.flatnonzero((made.stop == WHOLE) & ~far & thick)
        return made.cells.take(outside)[0], made.cells.take(inside)[0]

    def _beyond(self, flat: Cells, facet: int) -> np.ndarray:
        """How far vertices ``(k,)`` of flat cells lie outside a facet, in widths of the box."""
        return (flat.theta / self.regions.widths) @ self._normal.rows[facet] - self._offset.rows[facet]

    def _walled(self, flat: Cells, other: int, regions: set[int]) -> bool:
        """Whether something that is not robust lies between flat cells and a facet that faces them."""
        if self._beyond(flat, other)[flat.idx].max() <= ROUNDING:
            return False
        walls = self._failing(np.array(sorted(regions)))
        if not walls.count:
            return False
        met = Lookup(walls, self.regions.widths).met(centres(flat), self.regions.deadline)
        return bool(met.any())

    def _thick(self, cells: Cells) -> np.ndarray:
        """Flat cells that are more than slivers: whose vertices are enough distinct points."""
        points = self.weld.numbers(cells.theta[cells.idx])
        owner = np.repeat(np.arange(cells.count), np.diff(cells.ptr))
        pairs = np.unique(np.stack([owner, points], axis=1), axis=0) if len(points) else np.zeros((0, 2), int)
        return np.bincount(pairs[:, 0], minlength=cells.count) >= cells.dimension

    def _append_parts(self, f: int, parts: Cells, state: int) -> None:
        count = parts.count
        for of in (self._normal, self._offset, self._extent):
            of.append(np.repeat(of.rows[[f]], count, axis=0))
        self._enter(
            np.full(count, self._cell.rows[f]), np.full(count, self._bit.rows[f]),
            np.full(count, self._wall.rows[f]), parts, state,
        )  # fmt: skip

    def _place(self, cells: Cells, found: Facets, flat: Cells, first: int) -> None:
        """Note where facets lie, so that those that face one another are found."""
        planes = planes_of_facets(cells, found.cell, found.bit, self.regions.widths)
        row = len(self._state.rows)
        self._normal.append(planes.normal)
        self._offset.append(planes.offset)
        self._extent.append(np.stack(bounds(flat), axis=1) / self.regions.widths)
        counts = np.bincount(found.cell, minlength=cells.count)
        self._first_of_cell += (row + np.cumsum(counts) - counts).tolist()
        self._facets_of_cell += counts.tolist()
        for f, region in enumerate(self._region.rows[first + found.cell].tolist()):
            self._of_region.setdefault(region, []).append(row + f)

    # -- storage

    def _enter(self, cell: np.ndarray, bit: np.ndarray, wall: np.ndarray, flat: Cells, state: int) -> None:
        self._first_flat.append(len(self._cell.rows))
        self._cell.append(cell)
        self._bit.append(bit)
        self._wall.append(wall)
        self._state.append(np.full(len(cell), state, np.int8))
        self._flat.append(flat)
        self._first.append(self._first.rows[-1] + flat.ptr[1:])
        self._point.append(self.weld.numbers(flat.theta[flat.idx]))
        if self.weld.count > len(self._active):
            lit = np.zeros(2 * self.weld.count, bool)
            lit[: len(self._active)] = self._active
            self._active = lit

    def _light(self, facet: np.ndarray) -> None:
        """Mark the vertices of pieces of the boundary."""
        for f in facet:
            self._active[self._point.rows[self._first.rows[f] : self._first.rows[f + 1]]] = True

    def _flat_of(self, f: int) -> Cells:
        block = bisect_right(self._first_flat, f) - 1
        return self._flat[block].take(np.array([f - self._first_flat[block]]))[0]

    def _planes(self, cells: np.ndarray, bit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Normals and offsets of the planes of facets of the given robust cells (see `Planes`)."""
        starts = np.cumsum([0] + [part.count for part in self._solid])
        block = np.searchsorted(starts, cells, side="right") - 1
        normal, offset = np.empty((len(cells), len(self.regions.widths))), np.empty(len(cells))
        for k in np.unique(block):
            mine = np.flatnonzero(block == k)
            planes = planes_of_facets(self._solid[k], cells[mine] - starts[k], bit[mine], self.regions.widths)
            normal[mine], offset[mine] = planes.normal, planes.offset
        return normal, offset

    def _walls(self, flat: Cells, region: np.ndarray) -> np.ndarray:
        """The facet of its region that each facet of a cell lies on, or none."""
        every, owner = self.regions.facets_of(region)
        sizes = np.diff(flat.ptr)[owner]
        pair = np.repeat(np.arange(len(every)), sizes)
        at = np.arange(len(pair)) + np.repeat(flat.ptr[owner] - np.cumsum(sizes) + sizes, sizes)
        away = np.abs(self.regions.slack(every[pair], flat.theta[flat.idx[at]]))
        farthest = np.zeros(len(every))
        np.maximum.at(farthest, pair, away)
        order = np.lexsort((farthest, owner))
        best = order[np.flatnonzero(np.diff(owner[order], prepend=-1))]
        return np.where(farthest[best] <= WELD, every[best], _NONE)


def _before_failing(map_: CellMap, chosen: np.ndarray, found: Facets) -> np.ndarray:
    """Which of the facets of the chosen robust cells ``(k,)`` part them from what fails in the same region.

    However near to the border of the region they lie.
    """
    mixed = np.isin(map_.region, map_.region[chosen])
    failing = np.flatnonzero((map_.kind != ROBUST) & (map_.volume > 0) & mixed)
    return np.isin(found.key, facets(map_.cells.take(failing)[0]).key)
