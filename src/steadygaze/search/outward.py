"""Regions of many parameters, kept as half-spaces: outwards from 0, or all of them.

Vertices serve up to seven parameters; with more a region has too many, and a volume takes longer still. What
a frontier needs are the distances of facets and a point inside each, and what a verdict needs are the nearest
points of what fails: one linear program each (`geometry.halfspaces`). Most hinges of a region are never
asked about: each has a cheap lower bound of its distance, and its programs are solved when its turn comes.

What lies inside the regions is told by one simplex for each part: the map covers next to nothing of the box,
and says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from steadygaze.errors import InternalCheckError
from steadygaze.geometry.cells import Cells
from steadygaze.geometry.growing import Growing, NameIndex
from steadygaze.geometry.half_widths import inward
from steadygaze.geometry.halfspaces import (
    Halfspaces,
    balls,
    boxes,
    euclidean_points,
    gauge_points,
    least,
    simplex_volumes,
    simplices,
)
from steadygaze.geometry.kinds import CLASS_CHANGED, ROBUST, UNDECIDED
from steadygaze.geometry.sections import gauge
from steadygaze.network.regions.onesided import Activation, hinge_weights, regions_from
from steadygaze.question.distances import distances_on
from steadygaze.question.problem import Problem
from steadygaze.search.base import AbstractSearch, CellMap, Enclosed, Options, Standing, joined
from steadygaze.search.judging import by_distance
from steadygaze.search.regions import TOUCH, form_of

# The first steps take few facets, for the nearest failure is often near; each step twice as many.
_FIRST_BATCH, _BATCH = 4, 32
# Distances closer than this are equal.
_SAME = 1e-12
# So many hinges for each parameter are looked at first.
_NEAREST_HINGES = 6
# Regions thinner than this, in widths of the box, are slivers; hinges that differ by less coincide.
_THIN = _EQUAL = 1e-11
# What is known of a row: nothing more to do, a lower bound of its distance, or its distance and a point.
_CLOSED, _BOUNDED, _MEASURED = range(3)


@dataclass(frozen=True)
class _Part:
    """A part of a region: its number among the new ones, what it is, and its half-spaces."""

    region: int
    kind: int
    shape: Halfspaces


class Outward(AbstractSearch):
    """The nearest failure, radius and safe scale of many parameters; or all regions, by linear programs.

    Refuses, through `Problem.pieces`, chains that are not piecewise affine; `engines` refuses maps that move.

    Args:
        everything: go on to the last region of the box, in the order in which they are found.
    """

    def __init__(self, problem: Problem, options: Options, everything: bool = False) -> None:
        self.name, self.claim = ("bfs", "whole box") if everything else ("nearest", "radius")
        self._problem, self._everything, self._norm = problem, everything, options.norm
        self._deadline = options.deadline
        box, n = problem.box, len(problem.box)
        self._widths = np.ptp(box, axis=1)
        self._box = box / self._widths[:, None]
        self._faces = Halfspaces(
            np.concatenate([np.eye(n), -np.eye(n)]), np.concatenate([self._box[:, 1], -self._box[:, 0]])
        )
        (piece,) = problem.pieces
        self._form = form_of(problem, piece.image)
        self._tolerance = hinge_weights(problem.stages)[1]
        # The two gauges (see `Nearest`), in widths of the box: half-widths, and the box's own shape.
        self._gauges = ((np.full(n, 0.5), np.full(n, 0.5)), (-self._box[:, 0], self._box[:, 1]))
        self._keys, self._number = NameIndex(), Growing((), np.int64)
        self._packed: list[np.ndarray] = []
        self._start, self._corners = Growing((), np.int64), Growing((n, 2), np.float64)
        self._start.append(np.zeros(1, np.int64))
        self._region, self._state = Growing((), np.int64), Growing((), np.int8)
        self._normal, self._offset = Growing((n,), np.float64), Growing((), np.float64)
        self._distance, self._centre = Growing((2,), np.float64), Growing((n,), np.float64)
        self._maps: list[CellMap] = []
        self._failure, self._block, self._scale, self._within = np.inf, np.inf, np.inf, np.inf
        self._blind = False
        self._size = _FIRST_BATCH
        self._standing = Standing(0.0, 0.0, 0, 0, radius=0.0)

    def pending(self) -> bool:
        """Whether something nearer than what is known, or anything, may still be found."""
        return not len(self._keys.names.rows) or bool(len(self._wanted()))

    def step(self) -> None:
        """Measure the nearest facets of which only a bound is known, and cross the others of them."""
        if not len(self._keys.names.rows):
            box = self._problem.box
            self._enter(np.zeros((1, len(box))), inward(box)[None])
        else:
            chosen = self._wanted()[: self._size]
            known = self._state.rows[chosen] == _MEASURED
            if not known.all():
                self._measure(chosen[~known])
            if known.any():
                self._cross(chosen[known])
            self._size = min(2 * self._size, _BATCH)
        open_ = self._state.rows != _CLOSED
        ahead = float(self._distance.rows[open_, 0].min(initial=np.inf))
        self._standing = replace(
            self._standing,
            finished=sum(float(m.volume.sum()) for m in self._maps) / self._problem.volume,
            regions=self._count,
            bytes=self._bytes,
            counts={"hinges_kept_per_region": len(self._region.rows) / max(1, self._count)},
            radius=None if self._everything else min(ahead, self._block, self._failure),
        )

    def standing(self) -> Standing:
        """How far the search has come."""
        return self._standing

    def found(self) -> CellMap:
        """A simplex for each part of the regions found; they cover the box only if all of it is robust."""
        open_ = self._state.rows != _CLOSED
        whole, within = self._problem.volume, float(self._distance.rows[open_, 1].min(initial=self._within))
        within = within if self._maps else 0.0
        known = joined(self._maps) if self._maps else _nothing(len(self._box))
        if self._maps and not open_.any() and not self._blind and (known.kind == ROBUST).all():
            share = np.full(len(known.kind), whole / len(known.kind))
            return replace(known, volume=share, within=within, inner=True)
        return replace(known, rest=whole - float(known.volume.sum()), within=within, inner=True)

    def enclosed(self) -> Enclosed | None:
        """Nothing that the map does not tell."""
        return None

    def close(self) -> None:
        """There are no threads."""

    # -- the frontier

    @property
    def _count(self) -> int:
        return len(self._corners.rows)

    @property
    def _bytes(self) -> int:
        arrays = (
            self._number, self._start, self._corners, self._region, self._state, self._normal, self._offset,
            self._distance, self._centre,
        )  # fmt: skip
        return sum(a.bytes for a in arrays) + self._keys.bytes + sum(m.bytes for m in self._maps)

    def _wanted(self) -> np.ndarray:
        """Rows to look at, the nearest first; all open ones where everything is asked for."""
        open_ = np.flatnonzero(self._state.rows != _CLOSED)
        if self._everything:
            return open_
        near, scale = self._distance.rows[open_].T
        before = (near < self._failure - _SAME) | (scale < min(self._scale, 1.0) - _SAME)
        return open_[before][np.argsort(near[before], kind="stable")]

    def _shape(self, region: int) -> Halfspaces:
        own = slice(self._start.rows[region], self._start.rows[region + 1])
        return Halfspaces(self._normal.rows[own], self._offset.rows[own])

    def _measure(self, rows: np.ndarray) -> None:
        """See which rows are facets, find a point inside each of these, and how far it is from 0."""
        region = self._region.rows[rows]
        local = rows - self._start.rows[region]
        shapes = [self._shape(r) for r in region]
        centre, radius = balls(shapes, local, self._deadline)
        self._state.rows[rows] = np.where(radius > TOUCH, _MEASURED, _CLOSED)
        real = np.flatnonzero(radius > TOUCH)
        self._centre.rows[rows[real]] = centre[real]
        if not self._everything and len(real):
            facets = [shapes[k].on(local[k]) for k in real]
            for which in range(2):
                far = self._nearest(facets, which)[0]
                self._distance.rows[rows[real], which] = np.maximum(
                    far, self._distance.rows[rows[real], which]
                )

    def _nearest(self, shapes: list[Halfspaces], which: int) -> tuple[np.ndarray, np.ndarray]:
        """Distances from 0 and points at them: which is 0 for half-widths, 1 for the box's own shape."""
        if not which and self._norm == "l2":
            return euclidean_points(shapes, self._gauges[0][0], self._deadline)
        return gauge_points(shapes, *self._gauges[which], self._deadline)

    def _cross(self, rows: np.ndarray) -> None:
        toward = self._normal.rows[rows] * self._widths
        behind = self._enter(self._centre.rows[rows] * self._widths, toward)
        self._state.rows[rows] = _CLOSED
        blind = (behind < 0) | (behind == self._region.rows[rows])
        if blind.any():  # slivers, and what rounding hides: nothing is known from there on
            near, scale = self._distance.rows[rows[blind]].min(axis=0)
            self._block, self._scale = min(self._block, float(near)), min(self._scale, float(scale))
            self._within, self._blind = min(self._within, float(scale)), True
        for row, region in zip(rows[behind >= 0], behind[behind >= 0], strict=True):
            own = np.arange(int(self._start.rows[region]), int(self._start.rows[region + 1]))
            turned = np.abs(self._normal.rows[own] + self._normal.rows[row]).max(axis=1)
            level = np.abs(self._offset.rows[own] + self._offset.rows[row])
            self._state.rows[own[np.maximum(turned, level) <= TOUCH]] = _CLOSED

    # -- finding more

    def _enter(self, points: np.ndarray, toward: np.ndarray) -> np.ndarray:
        """Numbers of the regions that begin at the points in the directions; -1 for slivers."""
        act = regions_from(self._problem.stages, self._form, points, toward, self._widths)
        row = self._keys.find(act.names)
        _, firsts = np.unique(act.names, return_index=True)
        new = firsts[row[firsts] < 0]
        if len(new):
            self._work_out(act.take(new))
        row = self._keys.find(act.names)
        if any((self._packed[k] != packed).any() for k, packed in zip(row, act.packed, strict=True)):
            raise InternalCheckError(
                "two activation patterns share a 64-bit name: the answer is withheld; please report this case"
            )
        return self._number.rows[row]

    def _work_out(self, act: Activation) -> None:
        shapes, corners = self._shapes(act)
        middle, radius = balls(shapes, deadline=self._deadline)
        solid = np.flatnonzero(radius > _THIN)
        number = np.full(act.count, -1)
        number[solid] = self._count + np.arange(len(solid))
        shapes, corners = [shapes[k] for k in solid], corners[solid]
        if len(solid):  # judged before they are entered: a deadline must not leave them known and unjudged
            own = act.take(solid) if len(solid) < act.count else act
            self._maps.append(self._judged(own, shapes, corners, middle[solid], radius[solid]))
        self._keys.append(act.names)
        self._packed.extend(act.packed)
        self._number.append(number)
        for region, shape in zip(number[solid], shapes, strict=True):
            self._start.append(self._start.rows[-1:] + len(shape.offset))
            self._region.append(np.full(len(shape.offset), region))
            self._normal.append(shape.normal)
            self._offset.append(shape.offset)
            self._centre.append(np.zeros(shape.normal.shape))
            faces = len(self._faces.offset)
            state = np.where(np.arange(len(shape.offset)) < faces, _CLOSED, _BOUNDED)
            self._state.append(state)
            self._distance.append(self._bounds(shape, corners[region - number[solid[0]]]))
        if len(solid):
            self._corners.append(corners)

    def _shapes(self, act: Activation) -> tuple[list[Halfspaces], np.ndarray]:
        """Each region's half-spaces, the box's first, and its bounding box ``(B, n, 2)``.

        The hinges nearest to the region's point are tried first; those that cannot reach the bounding box of
        what they leave are left out.
        """
        slope = act.hinges.slope * self._widths[:, None]
        size = np.linalg.norm(slope, axis=1)
        moves = size > 0
        size[~moves] = 1.0
        normal = -slope / size[:, None]
        away = np.where(moves, np.maximum(act.hinges.value, 0.0) / size, np.inf)
        own = self._tolerance if act.tolerance is None else act.tolerance
        slack, at = own / size, act.points / self._widths
        offset = away + np.einsum("bn,bnh->bh", at, normal)
        corners = np.repeat(self._box[None], act.count, axis=0)
        chosen = [np.zeros(0, np.int64)] * act.count
        left, room = np.arange(act.count), _NEAREST_HINGES * len(self._box)
        while len(left):
            grown = []
            for k in left:
                low, high = (normal[k] * corners[k][:, [side]] for side in (0, 1))
                most = np.maximum(low, high).sum(axis=0)
                more = np.setdiff1d(np.flatnonzero(most > offset[k] + slack[k]), chosen[k])
                # Those that made the box touch it, at least.
                chosen[k] = chosen[k][most[chosen[k]] >= offset[k, chosen[k]] - TOUCH]
                if len(more):
                    more = more[np.argsort(away[k, more], kind="stable")[:room]]
                    chosen[k] = np.concatenate([chosen[k], more])
                    grown.append(k)
            left, room = np.array(grown, np.int64), 2 * room
            corners[left] = (
                boxes([self._cut(normal[k], offset[k], chosen[k]) for k in left], self._deadline)
                if grown
                else 0.0
            )
        return [
            self._cut(normal[k], offset[k], _distinct(normal[k], offset[k], c)) for k, c in enumerate(chosen)
        ], corners

    def _cut(self, normal: np.ndarray, offset: np.ndarray, chosen: np.ndarray) -> Halfspaces:
        return self._faces.within(normal[:, chosen].T, offset[chosen])

    def _bounds(self, shape: Halfspaces, corners: np.ndarray) -> np.ndarray:
        """Lower bounds ``(rows, 2)`` on distances of the rows' faces: of the box about them, of planes."""
        point = np.clip(0.0, corners[:, 0], corners[:, 1])
        out = np.empty((len(shape.offset), 2))
        for which, (below, above) in enumerate(self._gauges):
            up = np.maximum(shape.normal * above, -shape.normal * below).sum(axis=1)
            down = np.maximum(-shape.normal * above, shape.normal * below).sum(axis=1)
            level = np.where(
                shape.offset >= 0,
                shape.offset / np.maximum(up, 1e-300),
                -shape.offset / np.maximum(down, 1e-300),
            )
            out[:, which] = np.maximum(level, gauge(point, below, above))
        if self._norm == "l2":
            level = np.abs(shape.offset) / np.linalg.norm(shape.normal * 0.5, axis=1)
            out[:, 0] = np.maximum(level, np.linalg.norm(point / 0.5))
        return out

    # -- judging

    def _judged(
        self,
        act: Activation,
        shapes: list[Halfspaces],
        corners: np.ndarray,
        middle: np.ndarray,
        radius: np.ndarray,
    ) -> CellMap:
        """A simplex for each part of the regions, and more where a part is the nearest so far."""
        problem, device = self._problem, self._problem.graph.device
        pieces = {node: torch.from_numpy(p).to(device) for node, p in act.pieces.items()}
        inconsistency, doubtful = distances_on(problem, pieces, act.count)
        parts = self._parts(act, shapes, corners, by_distance(inconsistency, doubtful, problem))
        at = np.array([part.region for part in parts])
        middles, radii = middle[at], radius[at]
        cut = np.flatnonzero([part.shape is not shapes[part.region] for part in parts])
        if len(cut):
            middles[cut], radii[cut] = balls([parts[k].shape for k in cut], deadline=self._deadline)
        thin = np.array([part.kind in (CLASS_CHANGED, UNDECIDED) for part in parts])
        kept = np.flatnonzero((radii > _THIN) | thin)
        owner, tips = self._tips([parts[k] for k in kept], corners)
        owner, tips = kept[owner], tips * self._widths
        cells = simplices(middles[owner], np.maximum(radii[owner], 0.0), tips / self._widths)
        cells = replace(cells, theta=cells.theta * self._widths)
        return CellMap(
            cells=cells,
            kind=np.array([parts[k].kind for k in owner], np.int8),
            region=at[owner],
            volume=simplex_volumes(cells),
            inconsistency=inconsistency,
            pattern=act.names,
            conforming=False,
        )

    def _parts(
        self, act: Activation, shapes: list[Halfspaces], corners: np.ndarray, verdict: np.ndarray
    ) -> list[_Part]:
        """The parts of each region: one for each class that wins somewhere or ties, and what is left."""
        problem = self._problem
        tolerance = problem.gap_tolerance
        level = problem.gaps(torch.from_numpy(act.logits.value)).numpy()
        slope = problem.gaps(torch.from_numpy(act.logits.slope).flatten(0, 1)).numpy()
        slope = slope.reshape(*act.logits.slope.shape[:2], -1) * self._widths[:, None]
        level = level - np.einsum("bn,bnk->bk", act.points / self._widths, slope)
        ends = slope[..., None] * corners[:, :, None]
        low, high = level + ends.min(axis=3).sum(axis=1), level + ends.max(axis=3).sum(axis=1)
        region, other = np.nonzero(low <= tolerance)
        slopes = slope[region, :, other]
        points = np.zeros(slopes.shape)
        if len(region):
            points = least([shapes[r] for r in region], slopes, self._deadline)
        gap = level[region, other] + np.einsum("kn,kn->k", slopes, points)
        lost, tied = gap < -tolerance[other], np.abs(gap) <= tolerance[other]
        parts = []
        for r, shape in enumerate(shapes):
            mine, kind = np.flatnonzero(lost & (region == r)), int(verdict[r])
            if (high[r] <= tolerance).any() and not len(mine):  # nothing tells two classes apart
                kind = UNDECIDED
            if kind == ROBUST:  # on a face of it two classes tie, though nothing behind it may be lost
                for k in np.flatnonzero(tied & (region == r)):
                    size = np.linalg.norm(slopes[k])
                    offset = (2 * tolerance[other[k]] - level[r, other[k]]) / size
                    face = shape.within(slopes[[k]] / size, np.array([offset]))
                    parts.append(_Part(r, UNDECIDED, face))
            if not len(mine):
                parts.append(_Part(r, kind, shape))
                continue
            size = np.linalg.norm(slopes[mine], axis=1)
            normal, offset = slopes[mine] / size[:, None], -level[r, other[mine]] / size
            parts += [
                _Part(r, CLASS_CHANGED, shape.within(normal[[k]], offset[[k]])) for k in range(len(mine))
            ]
            parts.append(_Part(r, kind, shape.within(-normal, -offset)))
        return parts

    def _tips(self, parts: list[_Part], corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Parts and points of them, nan for any; the nearest points of those that may be nearest to 0."""
        owner, tips = [np.arange(len(parts))], [np.full((len(parts), len(self._box)), np.nan)]
        point = np.clip(0.0, corners[..., 0], corners[..., 1])
        for which, gauges in enumerate(self._gauges):
            bound = gauge(point, *gauges)
            if not which and self._norm == "l2":
                bound = np.linalg.norm(point / 0.5, axis=1)
            known = self._scale if which else max(self._failure, min(self._block, self._failure))
            some = [k for k, part in enumerate(parts) if part.kind != ROBUST and bound[part.region] < known]
            if not some:
                continue
            far, found = self._nearest([parts[k].shape for k in some], which)
            failing = np.array([parts[k].kind != UNDECIDED for k in some])
            if which:
                self._scale = min(self._scale, float(far.min()))
            else:
                self._failure = min(self._failure, float(far[failing].min(initial=np.inf)))
                self._block = min(self._block, float(far[~failing].min(initial=np.inf)))
            owner.append(np.array(some))
            tips.append(found)
        return np.concatenate(owner), np.concatenate(tips)


def _nothing(n: int) -> CellMap:
    """A map without cells."""
    none = np.zeros(0, np.int64)
    cells = Cells(
        np.zeros((0, n)), np.zeros(0, np.uint64), np.zeros(1, np.int64), none, np.zeros((0, 1), np.uint64)
    )
    return CellMap(cells, np.zeros(0, np.int8), none, np.zeros(0), np.zeros(0), np.zeros(0, np.uint64))


def _distinct(normal: np.ndarray, offset: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Of hinges that coincide only the first."""
    from scipy.spatial import KDTree  # here: slow to import, and only this search needs it

    rows = np.concatenate([normal[:, chosen], offset[None, chosen]]).T
    pairs = KDTree(rows).query_pairs(_EQUAL, p=np.inf, output_type="ndarray")
    return np.delete(chosen, np.unique(pairs[:, 1]))
