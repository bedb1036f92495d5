"""Activation regions found one from another across facets, each once: what traversals walk on.

A region is found from a point of its boundary and the direction into it (`network.onesided`); its polytope
is the box clipped by its nearest hinges (`geometry.clipping`); it is judged at once. Regions, their facets
and their patterns are kept in arrays that grow: per region its pattern (a bit for each unit), 25 bytes, its
judged cells, and per facet 8 (2 n + 4) bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch

from steadygaze.errors import InternalCheckError
from steadygaze.geometry.bits import mixed
from steadygaze.geometry.cells import Cells, from_polytopes
from steadygaze.geometry.clipping import clip, coincident, reaching_past
from steadygaze.geometry.growing import Growing, NameIndex
from steadygaze.geometry.kinds import ROBUST
from steadygaze.geometry.measure import facet_centres, facets
from steadygaze.geometry.planes import Planes, planes_of_facets
from steadygaze.geometry.welding import welded_names
from steadygaze.network.regions.fronts import Form
from steadygaze.network.regions.onesided import Activation, hinge_weights, hinge_windows, regions_from
from steadygaze.network.regions.piecewise import FAINT, FAINT_OF_OWN
from steadygaze.perturbation.records import AffineImage
from steadygaze.question.problem import Problem
from steadygaze.search.base import CellMap, Options, Standing, advanced, joined, threads_of, unexamined
from steadygaze.search.edges import edge_of
from steadygaze.search.judging import judge
from steadygaze.search.telling_apart import astray_anywhere

#: What `Regions.neighbour` says of a facet besides the number of the region behind it.
UNKNOWN, OUTSIDE, NOTHING = -1, -2, -3
# Stands for the name behind a facet that cannot be foretold; no region has it.
_UNTOLD = np.uint64((1 << 64) - 1)
# Regions are worked out in batches of at most this many; of fewer where judging one takes long, because
# curved boundaries inside it are closed in, so that a limit of time is kept.
_BATCH, _SLOW_BATCH = 512, 16
# So few are worked out by one thread: handing them to two takes longer.
_ALONE = 32
# Two points this close, in widths of the box, count as one: vertices that were found in different ways differ
# by less, and facets smaller than this hide no region that matters.
TOUCH = 1e-9
# Vertices of neighbouring regions this close are one.
WELD = 1e-8


@dataclass(frozen=True)
class _Found:
    """New regions of one batch that turned out to have an inside, with their facets and their judged map."""

    rows: np.ndarray
    cell: np.ndarray
    centre: np.ndarray
    planes: Planes
    beyond: np.ndarray
    outer: np.ndarray
    map: CellMap
    tested: int


class Regions:
    """All regions found so far.

    Facets are rows; those of region r are ``start[r]:start[r + 1]``.
    """

    def __init__(self, problem: Problem, options: Options) -> None:
        self.problem = problem
        n = len(problem.box)
        self.widths = np.ptp(problem.box, axis=1)
        self.maps: list[CellMap] = []
        self.first_of_map: list[int] = [0]
        self.work = {"forms": 0.0, "clip": 0.0, "judge": 0.0}
        self.tested = self._counted = self._map_bytes = 0
        self._keys = NameIndex()
        self._number = Growing((), np.int64)
        self._packed: list[np.ndarray] = []
        self._piece, self._start = Growing((), np.int64), Growing((), np.int64)
        self._start.append(np.zeros(1, np.int64))
        self._region, self._neighbour = Growing((), np.int64), Growing((), np.int64)
        self._centre, self._normal = Growing((n,), np.float64), Growing((n,), np.float64)
        self._offset, self._beyond = Growing((), np.float64), Growing((), np.uint64)
        self._weights, self._tolerance = hinge_weights(problem.stages)
        self._windows = hinge_windows(problem.stages)
        self._pieces = [from_polytopes((piece.polytope,)) for piece in problem.pieces]
        self._faces = [planes_of_facets(cells, *_every_facet(cells), self.widths) for cells in self._pieces]
        self._forms = [form_of(problem, piece.image) for piece in problem.pieces]
        row = 8 * (n + 2) * max(1, len(self._weights)) * 4
        most = _SLOW_BATCH if problem.follows_maps else _BATCH
        self._rows = int(np.clip(options.memory // (8 * options.threads * row), 1, most))
        self._threads, self.deadline = options.threads, options.deadline
        self._pool = threads_of(options, "regions")

    # -- what is known

    @property
    def count(self) -> int:
        """Number of regions with an inside."""
        return len(self._piece.rows)

    @property
    def start(self) -> np.ndarray:
        """``(regions + 1,)`` the first facet of each region."""
        return self._start.rows

    @property
    def region(self) -> np.ndarray:
        """``(facets,)`` the region that each facet belongs to."""
        return self._region.rows

    @property
    def neighbour(self) -> np.ndarray:
        """``(facets,)`` the region behind each facet, or UNKNOWN, OUTSIDE (the box), NOTHING (a sliver)."""
        return self._neighbour.rows

    @property
    def centre(self) -> np.ndarray:
        """``(facets, n)`` a point inside each facet."""
        return self._centre.rows

    @property
    def batch(self) -> int:
        """How many regions are worth finding at once."""
        return self._rows * self._threads

    @property
    def bytes(self) -> int:
        """Memory that regions, facets, patterns and maps take."""
        arrays = (
            self._number, self._piece, self._start, self._region, self._neighbour, self._centre,
            self._normal, self._offset, self._beyond,
        )  # fmt: skip
        held = sum(array.bytes for array in arrays) + self._keys.bytes
        return held + self._map_bytes

    def standing(self, was: Standing) -> Standing:
        """How far the search that walks on these regions has come since it stood there."""
        new = self.maps[self._counted :]
        self._counted = len(self.maps)
        each = max(1, self.count)
        counts = {
            "facets_per_region": len(self.region) / each,
            "hinges_tested_per_region": self.tested / each,
        }
        now = {"regions": self.count, "bytes": self.bytes, "work": dict(self.work), "counts": counts}
        return advanced(was, new, self.problem.volume, **now)

    def slack(self, facet: np.ndarray, points: np.ndarray) -> np.ndarray:
        """How far points ``(k, n)`` lie on the inner side of facets ``(k,)``, in widths of the box."""
        inward = np.einsum("kn,kn->k", self._normal.rows[facet], points / self.widths)
        return self._offset.rows[facet] - inward

    def facets_of(self, regions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All facets of the given regions, and for each the place of its region among the given ones."""
        first, last = self.start[regions], self.start[regions + 1]
        owner = np.repeat(np.arange(len(regions)), last - first)
        return np.arange(len(owner)) + (first - np.concatenate([[0], np.cumsum(last - first)[:-1]]))[
            owner
        ], owner

    def map(self) -> CellMap:
        """All judged cells; what nobody has looked at begins behind flat ones, which are undecided."""
        if not self.maps:
            return unexamined(from_polytopes(tuple(piece.polytope for piece in self.problem.pieces)))
        known = joined(self.maps)
        open_ = np.flatnonzero(np.isin(self.neighbour, (UNKNOWN, NOTHING)))
        edge = edge_of(known, open_, self.region[open_], self.slack, WELD)
        missing = self.problem.volume - float(known.volume.sum())
        small = missing <= self.problem.tolerance.cover * self.problem.volume
        if not small and not len(open_):
            raise InternalCheckError(
                f"every facet was crossed, and {missing / self.problem.volume:.3g} of the box lies in no "
                "region: the answer is withheld; please report this case"
            )
        # Behind a facet of a region too small for cells, too, something may lie.
        unknown = bool((self.neighbour == UNKNOWN).any())
        small &= not edge.cells.count and not unknown
        map_ = joined([known, edge])
        return replace(
            map_,
            cells=replace(map_.cells, names=welded_names(map_.cells, self.widths, WELD, map_.kind != ROBUST)),
            conforming=False,
            rest=0.0 if small else max(missing, np.finfo(float).tiny if unknown else 0.0),
        )

    # -- finding more

    def around(self, point: np.ndarray, toward: np.ndarray) -> int:
        """The region that begins at a point ``(n,)`` of the box in a direction; -1 for a sliver."""
        piece = self._piece_at(point[None], toward[None], np.array([-1]))
        return int(self._enter(piece, point[None], toward[None])[0])

    def cross(self, facet: np.ndarray) -> None:
        """Find what lies behind the given facets; `neighbour` tells it afterwards."""
        facet = np.unique(facet[self.neighbour[facet] == UNKNOWN])
        facet = facet[~self._known_behind(facet)]
        for first in range(0, len(facet), self.batch):
            some = facet[first : first + self.batch]
            toward = self._normal.rows[some] * self.widths
            own = self._piece.rows[self.region[some]]
            piece = np.where(self._outer(some), self._piece_at(self.centre[some], toward, own), own)
            behind = self._enter(piece, self.centre[some], toward)
            behind[behind == self.region[some]] = -1  # rounding hides what is there
            self._neighbour.rows[some] = np.where(behind < 0, NOTHING, behind)
            self._meet(some[behind >= 0], behind[behind >= 0])

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def _outer(self, facet: np.ndarray) -> np.ndarray:
        return self._beyond.rows[facet] == 0

    def _known_behind(self, facet: np.ndarray) -> np.ndarray:
        """Settle facets behind which a known region lies: its name is foretold, and it touches the facet."""
        row = self._keys.find(self._beyond.rows[facet])
        number = np.where(row >= 0, self._number.rows[row] if len(self._number.rows) else -1, -1)
        known = np.flatnonzero(number >= 0)
        touches = self._holds(number[known], self.centre[facet[known]])
        known = known[touches]
        self._neighbour.rows[facet[known]] = number[known]
        self._meet(facet[known], number[known])
        settled = np.zeros(len(facet), bool)
        settled[known] = True
        return settled

    def _holds(self, regions: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Whether each point lies in its region, borders included."""
        every, owner = self.facets_of(regions)
        out = np.ones(len(regions), bool)
        out[owner[self.slack(every, points[owner]) < -TOUCH]] = False
        return out

    def _meet(self, facet: np.ndarray, behind: np.ndarray) -> None:
        """Tell the regions behind facets that these have been crossed, so that nobody crosses them back."""
        every, owner = self.facets_of(behind)
        away = np.abs(self.slack(every, self.centre[facet][owner]))
        order = np.lexsort((away, owner))
        first = order[np.flatnonzero(np.diff(owner[order], prepend=-1))]
        back = first[away[first] <= TOUCH]
        unknown = self.neighbour[every[back]] == UNKNOWN
        self._neighbour.rows[every[back[unknown]]] = self.region[facet[owner[back[unknown]]]]

    def _piece_at(self, points: np.ndarray, toward: np.ndarray, but: np.ndarray) -> np.ndarray:
        """The affine piece of the perturbation that begins at each point in its direction, -1 for none."""
        found = np.full(len(points), -1)
        unit, way = points / self.widths, toward / self.widths
        for number, planes in enumerate(self._faces):
            slack = planes.offset - unit @ planes.normal.T
            rate = way @ planes.normal.T
            inside = ((slack > TOUCH) | ((slack >= -TOUCH) & (rate < 0))).all(axis=1)
            found[inside & (but != number) & (found < 0)] = number
        return found

    def _enter(self, piece: np.ndarray, points: np.ndarray, toward: np.ndarray) -> np.ndarray:
        """Numbers of the regions that begin at the points; new ones are worked out. -1 for slivers."""
        out = np.full(len(points), -1)
        for number in np.unique(piece[piece >= 0]):
            rows = np.flatnonzero(piece == number)
            parts = self._chunks(rows)
            form = self._forms[number]
            self.deadline.ask()
            began = time.perf_counter()
            acts = self._each(
                lambda part, form=form: regions_from(
                    self.problem.stages, form, points[part], toward[part], self.widths
                ),
                parts,
            )
            self.work["forms"] += time.perf_counter() - began
            out[rows] = self._looked_up(int(number), acts)
        return out

    def _chunks(self, rows: np.ndarray) -> list[np.ndarray]:
        size = max(1, min(self._rows, max(_ALONE, -(-len(rows) // self._threads))))
        return [rows[first : first + size] for first in range(0, len(rows), size)]

    def _each(self, do: Callable, parts: Iterable) -> list:
        parts = list(parts)
        return [do(parts[0])] if len(parts) == 1 else list(self._pool.map(do, parts))

    def _looked_up(self, piece: int, acts: Sequence[Activation]) -> np.ndarray:
        """The numbers of the regions, in order; those not met before are worked out and entered."""
        keys = np.concatenate([act.names for act in acts]) ^ _salt(piece)
        row = self._keys.find(keys)
        _, firsts = np.unique(keys, return_index=True)
        new = np.zeros(len(keys), bool)
        new[firsts[row[firsts] < 0]] = True
        edges = np.cumsum([0] + [act.count for act in acts])
        fresh = [
            act.take(np.flatnonzero(new[first:last]))
            for act, (first, last) in zip(acts, pairwise(edges), strict=True)
            if new[first:last].any()
        ]
        found = self._each(lambda act: self._worked_out(piece, act), fresh) if fresh else []
        for act, each in zip(fresh, found, strict=True):
            self._register(piece, act, each)
        row = self._keys.find(keys)
        self._compare(row, np.concatenate([act.packed for act in acts]))
        return self._number.rows[row]

    def _compare(self, row: np.ndarray, packed: np.ndarray) -> None:
        """The names stand for the patterns: see that they do."""
        starts = np.cumsum([0] + [len(p) for p in self._packed])
        block = np.searchsorted(starts, row, side="right") - 1
        for k in np.unique(block):
            mine = block == k
            if (self._packed[k][row[mine] - starts[k]] != packed[mine]).any():
                raise InternalCheckError(
                    "two activation patterns share a 64-bit name: the answer is withheld; please report "
                    "this case"
                )

    def _worked_out(self, piece: int, act: Activation) -> _Found:
        began = time.perf_counter()
        made = clip(
            self._pieces[piece], act.points, act.hinges.value, act.hinges.slope, self._slack(act),
            self.deadline,
        )  # fmt: skip
        own = act.take(made.row) if len(made.row) < act.count else act
        found = facets(made.cells, self.deadline)
        label = made.label[found.cell, found.bit]
        planes = self._planes(piece, own, found.cell, label)
        weights = own.turns.astype(np.int64).astype(np.uint64) * self._weights
        across, rivals = coincident(
            made.cells, found.cell, found.bit, own.points, own.hinges.value, own.hinges.slope,
            self._slack(own), weights, self._windows, self.deadline,
        )  # fmt: skip
        beyond = (own.names[found.cell] + across) ^ _salt(piece)
        beyond[rivals] = _UNTOLD
        beyond[label < 0] = 0
        centre = facet_centres(made.cells, found.cell, found.bit)
        clipped = time.perf_counter()
        level = FAINT * self._slack(own) if own.tolerance is None else FAINT_OF_OWN * own.tolerance
        past = reaching_past(made.cells, own.points, own.hinges.value, own.hinges.slope, level)
        map_ = self._judged(piece, own, made.cells, past)
        self.work["clip"] += clipped - began
        self.work["judge"] += time.perf_counter() - clipped
        outer = (label < 0) & self._on_box(made.cells, found.cell, found.bit)
        return _Found(made.row, found.cell, centre, planes, beyond, outer, map_, int(made.tested.sum()))

    def _slack(self, act: Activation) -> np.ndarray:
        """The tolerances of hinges, ``(1, H)``, or where regions have their own ``(B, H)``."""
        return self._tolerance[None] if act.tolerance is None else act.tolerance

    def _planes(self, piece: int, act: Activation, cell: np.ndarray, label: np.ndarray) -> Planes:
        """The planes that facets lie on, outward normals in widths of the box."""
        normal, offset = np.empty((len(cell), len(self.widths))), np.empty(len(cell))
        hinge = np.flatnonzero(label >= 0)
        row, column = cell[hinge], label[hinge]
        slope = act.hinges.slope[row, :, column] * self.widths
        steep = np.linalg.norm(slope, axis=1)
        normal[hinge] = -slope / steep[:, None]
        at = np.einsum("kn,kn->k", normal[hinge], act.points[row] / self.widths)
        offset[hinge] = act.hinges.value[row, column] / steep + at
        face, faces = np.flatnonzero(label < 0), self._faces[piece]
        place = np.searchsorted(faces.bit, -2 - label[face])
        normal[face], offset[face] = faces.normal[place], faces.offset[place]
        return Planes(label, normal, offset)

    def _on_box(self, cells: Cells, cell: np.ndarray, bit: np.ndarray) -> np.ndarray:
        """Whether facets lie on the box's own faces."""
        centre, box = facet_centres(cells, cell, bit), self.problem.box
        return (
            (np.abs(centre - box[:, 0]) <= 1e-12 * self.widths)
            | (np.abs(centre - box[:, 1]) <= 1e-12 * self.widths)
        ).any(axis=1)

    def _judged(self, piece: int, act: Activation, cells: Cells, past: np.ndarray) -> CellMap:
        """The map of regions; those that reach past a hinge, ``(regions,)`` bool, are looked at again."""
        owner = np.repeat(np.arange(cells.count), np.diff(cells.ptr))
        away = cells.theta - act.points[owner]  # the regions share no vertices
        logits = act.logits.value[owner] + np.einsum("vn,vnk->vk", away, act.logits.slope[owner])
        device = self.problem.graph.device

        def pieces_of(rows: np.ndarray) -> dict[int, torch.Tensor]:
            return {node: torch.from_numpy(p[rows]).to(device) for node, p in act.pieces.items()}

        doubtful = None
        if past.any():  # mostly not
            chosen, doubtful = np.flatnonzero(past), past.copy()
            some = cells.take(chosen)[0]
            doubtful[chosen] = astray_anywhere(self.problem, piece, some, pieces_of(chosen))
        rows = torch.from_numpy(logits).to(device)
        return judge(self.problem, piece, cells, rows, act.names, pieces_of, self.deadline, doubtful)

    def _register(self, piece: int, act: Activation, found: _Found) -> None:
        first, count = self.count, len(found.rows)
        number = np.full(act.count, -1)
        number[found.rows] = first + np.arange(count)
        self._keys.append(act.names ^ _salt(piece))
        self._number.append(number)
        self._packed.append(act.packed)
        self._piece.append(np.full(count, piece))
        sizes = np.bincount(found.cell, minlength=count)
        self._start.append(self.start[-1] + np.cumsum(sizes))
        self._region.append(first + found.cell)
        self._neighbour.append(np.where(found.outer, OUTSIDE, UNKNOWN))
        self._centre.append(found.centre)
        self._normal.append(found.planes.normal)
        self._offset.append(found.planes.offset)
        self._beyond.append(found.beyond)
        self.tested += found.tested
        self._map_bytes += act.packed.nbytes
        if count:
            self.maps.append(found.map)
            self._map_bytes += found.map.bytes
            self.first_of_map.append(first + count)


def _salt(piece: int) -> np.uint64:
    """Sets names of equal patterns on different pieces of the perturbation apart, and all of them from 0."""
    return mixed(np.full(1, piece + 1, np.uint64))[0]


def _every_facet(cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    found = facets(cells)
    return found.cell, found.bit


def form_of(problem: Problem, image: AffineImage) -> Form:
    """The perturbed image as the network's graph takes it."""
    device = problem.graph.device
    return Form(
        torch.from_numpy(image.base).to(device),
        torch.from_numpy(np.ascontiguousarray(image.directions)).to(device),
    )
