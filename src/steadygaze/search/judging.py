"""Judge activation regions: the class exactly on parts of each, the attention by the map of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from steadygaze.deadline import NEVER, Deadline
from steadygaze.geometry.cells import Cells, concatenate, separated
from steadygaze.geometry.cones import Cones, joined_cones
from steadygaze.geometry.cutting import cut
from steadygaze.geometry.kinds import ATTENTION_CHANGED, CLASS_CHANGED, ROBUST, UNDECIDED
from steadygaze.geometry.measure import centres, volumes
from steadygaze.geometry.sides import above, loose_parts
from steadygaze.geometry.store import Cut, interpolate
from steadygaze.question.conditions import affine_cones, affine_maps_on, cones_on, rectified_cones
from steadygaze.question.distances import distances_on
from steadygaze.question.problem import Problem
from steadygaze.search.base import CellMap
from steadygaze.search.following import follow
from steadygaze.search.telling_apart import local_at

# Gradients of this many regions are taken at once: few enough for the caches, enough for the matrix products.
# Of large networks fewer: those that so many products take (see `Graph.effort`); the time is asked between.
_BATCH, _LEAST_BATCH, _EFFORT = 1024, 8, 5 * 10**9

# A gap that reaches so many times what rounding leaves of it somewhere on a cell has no strip about 0.
_NO_STRIP = 1e9
# Sets names of the inner borders of such strips apart from those of the outer ones.
_INNER = np.uint64(1 << 40)

PiecesOf = Callable[[np.ndarray], dict[int, Tensor]]


def judge(
    problem: Problem,
    piece: int,
    cells: Cells,
    logits: Tensor,
    patterns: np.ndarray,
    pieces_of: PiecesOf,
    deadline: Deadline = NEVER,
    doubtful: np.ndarray | None = None,
) -> CellMap:
    """The map of a batch of activation regions.

    Args:
        piece: number of the affine piece of the perturbation that the regions lie in.
        cells: the regions.
        logits: ``(vertices, K)``.
        patterns: ``(regions,)`` their names.
        pieces_of: gives the pieces of the network's units on the regions of the given numbers.
        deadline: when to give up.
        doubtful: ``(regions,)`` bool, where rounding decides on the pieces: these are undecided.

    Raises Expired where the deadline passes on the way.
    """
    judged = _by_class(problem, piece, cells, logits, pieces_of, deadline)
    kind, region = judged.kind, judged.region
    if doubtful is not None:
        kind[doubtful[region]] = UNDECIDED
    held = np.flatnonzero(np.bincount(region[kind == ROBUST]))
    inconsistency = np.full(cells.count, np.nan)
    map_ = CellMap(
        cells=judged.cells,
        kind=kind,
        region=region,
        volume=volumes(judged.cells, deadline),
        inconsistency=inconsistency,
        pattern=patterns,
        ties=judged.ties,
        conforming=judged.conforming,
    )
    if problem.class_alone:
        inconsistency[held] = 0.0
        return map_
    if problem.follows_maps:
        return _followed(problem, piece, map_, held, pieces_of, deadline)
    verdict = np.full(cells.count, ROBUST, np.int8)
    for batch in _batches(problem, held):
        deadline.ask()
        distance, doubtful = distances_on(problem, pieces_of(batch), len(batch))
        inconsistency[batch] = distance
        verdict[batch] = by_distance(distance, doubtful, problem)
    robust = kind == ROBUST
    kind[robust] = verdict[region[robust]]
    return map_


@dataclass(frozen=True)
class _ByClass:
    """Cells judged by class alone: ROBUST is where it holds. `region` is the one that each is a part of.

    The others are as in `CellMap`.
    """

    cells: Cells
    kind: np.ndarray
    region: np.ndarray
    ties: Cells | None
    conforming: bool


def _by_class(
    problem: Problem, piece: int, cells: Cells, logits: Tensor, pieces_of: PiecesOf, deadline: Deadline
) -> _ByClass:
    if problem.stages.uneven:
        return _cut_again(problem, piece, cells, np.arange(cells.count), pieces_of, deadline)
    gaps, tolerance = problem.gaps(logits).cpu().numpy(), problem.gap_tolerance
    made = cut(cells, gaps, tolerance, problem.gap_names, stop_below=True, deadline=deadline)
    tight, grown = bool((np.abs(gaps) <= tolerance).any()), _grown(gaps, made)
    kind = _kinds(made, grown, tolerance)
    loose = loose_parts(made.cells, grown, tolerance, made.stop)
    if not loose.any():  # mostly
        ties = _ties(made, grown, tolerance, kind) if tight else None
        return _ByClass(made.cells, kind, made.parent, ties, conforming=True)
    # All of such a region is cut again: its parts are known as neighbours by the vertices that they share.
    chosen = np.unique(made.parent[loose])
    whole = np.isin(made.parent, chosen)
    kind[whole], others = UNDECIDED, np.flatnonzero(~whole)
    again = _cut_again(problem, piece, cells.take(chosen)[0], chosen, pieces_of, deadline)
    ties = [each for each in (_ties(made, grown, tolerance, kind), again.ties) if each is not None]
    return _ByClass(
        concatenate([made.cells.take(others)[0], again.cells]),
        np.concatenate([kind[others], again.kind]),
        np.concatenate([made.parent[others], again.region]),
        concatenate(ties) if ties else None,
        conforming=False,
    )


def _cut_again(
    problem: Problem,
    piece: int,
    cells: Cells,
    region: np.ndarray,
    pieces_of: PiecesOf,
    deadline: Deadline,
) -> _ByClass:
    """Cells, parts of the given regions ``(cells,)``, cut where classes tie by what rounding leaves on each.

    A gap within its tolerance counts as 0, and that is a share of the largest terms that it ever has: where
    units of large weights are off, all that is left of a gap may be within it, and yet below 0 by more than
    rounding leaves of the terms that there are.
    """
    own, owner = separated(cells), np.repeat(np.arange(cells.count), np.diff(cells.ptr))
    asked, row = np.unique(region, return_inverse=True)
    rows = torch.from_numpy(row[owner])
    pieces = {node: every[rows] for node, every in pieces_of(asked).items()}
    local = local_at(problem, piece, own.theta, pieces, problem.graph.last)
    gaps, noise = problem.gaps(local.value).cpu().numpy(), local.noise.cpu().numpy()
    noise = np.delete(noise, problem.label, axis=1) + noise[:, [problem.label]]
    slack = np.minimum(np.maximum.reduceat(noise, cells.ptr[:-1], axis=0), problem.gap_tolerance)
    scaled = gaps / np.where(slack > 0, slack, 1.0)[owner]
    # Where all of a gap is little beside rounding, that decides in a strip about 0 which is no sliver.
    strip = np.maximum.reduceat(np.abs(scaled), cells.ptr[:-1], axis=0) < _NO_STRIP
    values = np.concatenate([scaled + strip[owner], scaled - strip[owner]], axis=1)
    names, within = (
        np.concatenate([problem.gap_names, problem.gap_names + _INNER]),
        np.full(values.shape[1], 0.5),
    )
    made = cut(own, values, within, names, stop_below=True, deadline=deadline)
    count = gaps.shape[1]
    made, inner = (
        replace(made, stop=np.where(made.stop < 0, made.stop, made.stop % count)),
        made.stop >= count,
    )
    grown = _grown(values, made)[:, count:]
    kind = _kinds(made, grown, within[count:])
    kind[inner] = UNDECIDED
    ties = _ties(made, grown, within[count:], kind)
    return _ByClass(made.cells, kind, region[made.parent], ties, conforming=False)


def _kinds(made: Cut, gaps: np.ndarray, tolerance: np.ndarray) -> np.ndarray:
    """Kinds int8 of the parts by class, undecided where nothing tells two classes apart."""
    kind = np.where(made.stop < 0, ROBUST, CLASS_CHANGED).astype(np.int8)
    kind[_level(made.cells, gaps, tolerance, kind)] = UNDECIDED
    return kind


def _batches(problem: Problem, held: np.ndarray) -> list[np.ndarray]:
    """The numbers of regions, as many together as gradients are taken of at once."""
    size = min(max(_EFFORT // problem.graph.effort, _LEAST_BATCH), _BATCH)
    return [held[first : first + size] for first in range(0, len(held), size)]


def _followed(
    problem: Problem,
    piece: int,
    map_: CellMap,
    held: np.ndarray,
    pieces_of: PiecesOf,
    deadline: Deadline,
) -> CellMap:
    """The map with the cells judged on which the inconsistency varies."""
    chosen = np.flatnonzero(map_.kind == ROBUST)
    batches = _batches(problem, held)
    if not batches:
        return map_
    cells, region = map_.cells.take(chosen)[0], map_.region[chosen]
    if not problem.rectifies_maps:
        cones, row = [], np.searchsorted(held, region)
        first = np.unique(row, return_index=True)[1]
        for batch in batches:
            deadline.ask()
            pieces = pieces_of(batch)
            if problem.saliency.affine:
                middle = centres(cells.take(first[np.searchsorted(held, batch)])[0])
                cones.append(affine_cones(problem, affine_maps_on(problem, piece, pieces, middle), middle))
            else:
                cones.append(cones_on(problem, piece, pieces, len(batch)))
        return follow(problem, map_, cells, row, region, joined_cones(cones), deadline)
    parts, cones, regions = [], [], []
    for batch in batches:
        own = np.flatnonzero((region >= batch[0]) & (region <= batch[-1]))
        part, cone, parent = _rectified(
            problem, piece, cells.take(own)[0], region[own], batch, pieces_of(batch), deadline
        )
        parts.append(part)
        cones.append(cone)
        regions.append(region[own][parent])
    whole = joined_cones(cones)
    return follow(
        problem, map_, concatenate(parts), np.arange(whole.count), np.concatenate(regions), whole, deadline
    )


def _rectified(
    problem: Problem,
    piece: int,
    cells: Cells,
    region: np.ndarray,
    batch: np.ndarray,
    pieces: dict[int, Tensor],
    deadline: Deadline,
) -> tuple[Cells, Cones, np.ndarray]:
    """Cut cells where entries of the map change sign; returns parts, conditions, and the cell of each."""
    deadline.ask()
    middle = centres(cells)[np.flatnonzero(np.diff(region, prepend=-1))]
    form = affine_maps_on(problem, piece, pieces, middle)
    rows = np.searchsorted(batch, region)
    apart = separated(cells)
    owner = rows[np.repeat(np.arange(cells.count), np.diff(cells.ptr))]
    values = form.base[owner] + np.einsum("in,inp->ip", apart.theta, form.directions[owner])
    tolerance = np.full(values.shape[1], problem.tolerance.hinge * max(1.0, float(np.abs(values).max())))
    made = cut(apart, values, tolerance, np.arange(values.shape[1], dtype=np.uint64), deadline=deadline)
    active = above(made.cells, _grown(values, made), tolerance, tolerance)[0].astype(bool)
    return made.cells, rectified_cones(problem, form, middle, rows[made.parent], active), made.parent


def by_distance(distance: np.ndarray, doubtful: np.ndarray, problem: Problem) -> np.ndarray:
    """Kinds int8 of class-robust cells from their inconsistency; undecided where rounding may decide."""
    kind = np.where(distance > problem.threshold, ATTENTION_CHANGED, ROBUST).astype(np.int8)
    close = ~(np.abs(distance - problem.threshold) > problem.tolerance.margin)
    kind[close | doubtful] = UNDECIDED
    return kind


def _grown(values: np.ndarray, made: Cut) -> np.ndarray:
    return interpolate(values, made.above, made.below, made.weight)


def _level(cells: Cells, gaps: np.ndarray, tolerance: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Cells that count as robust although some class gap vanishes all over them.

    Nothing tells the two classes apart there.
    """
    flat = (np.abs(gaps) <= tolerance).astype(np.int8)
    if not flat.any():
        return np.zeros(cells.count, bool)
    everywhere = np.minimum.reduceat(flat[cells.idx], cells.ptr[:-1], axis=0).any(axis=1)
    return everywhere & (kind == ROBUST)


def _ties(made: Cut, gaps: np.ndarray, tolerance: np.ndarray, kind: np.ndarray) -> Cells | None:
    """See `CellMap.ties`: the gap is affine on a cell and nowhere below 0, so that it vanishes on a face.

    Along a face by which the region was cut, the part behind it is class-changed, which says more.
    """
    cells, kept = made.cells.take(np.flatnonzero(kind == ROBUST))
    owner = np.repeat(np.arange(cells.count), np.diff(cells.ptr))
    region = made.parent[kind == ROBUST]
    found = []
    for other in range(gaps.shape[1]):
        behind = np.isin(region, made.parent[made.stop == other])
        on = (np.abs(gaps[kept, other]) <= tolerance[other])[cells.idx] & ~behind[owner]
        sizes = np.bincount(owner[on], minlength=cells.count)
        ptr = np.concatenate([[0], np.cumsum(sizes[sizes > 0])])
        found.append(Cells(cells.theta, cells.names, ptr, cells.idx[on], cells.mask[on]))
    every = concatenate(found)
    return every.take(np.arange(every.count))[0] if every.count else None
