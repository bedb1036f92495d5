"""Judge activation regions: the class exactly on parts of each, the attention by the map of each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from steadygaze.deadline import NEVER, Deadline
from steadygaze.geometry.cells import Cells, concatenate, separated
from steadygaze.geometry.cones import Cones, joined_cones
from steadygaze.geometry.cutting import cut
from steadygaze.geometry.kinds import ATTENTION_CHANGED, CLASS_CHANGED, ROBUST, UNDECIDED
from steadygaze.geometry.measure import centres, volumes
from steadygaze.geometry.sides import above
from steadygaze.geometry.store import Cut, interpolate
from steadygaze.network.reading.noise import DOUBLE, noise_at
from steadygaze.question.conditions import affine_cones, affine_maps_on, cones_on, rectified_cones
from steadygaze.question.distances import distances_on
from steadygaze.question.problem import Problem
from steadygaze.search.base import CellMap
from steadygaze.search.following import follow

# Gradients of this many regions are taken at once: few enough for the caches, enough for the matrix products.
# Of large networks fewer: those that so many products take (see `Graph.effort`); the time is asked between.
_BATCH, _LEAST_BATCH, _EFFORT = 1024, 8, 5 * 10**9

# Of a cell whose gap falls below 0 by less than this share of what it rises above, no more than that is lost.
_SLIVER = 1e-9

PiecesOf = Callable[[np.ndarray], dict[int, Tensor]]


def judge(
    problem: Problem,
    piece: int,
    cells: Cells,
    logits: Tensor,
    patterns: np.ndarray,
    pieces_of: PiecesOf,
    deadline: Deadline = NEVER,
) -> CellMap:
    """The map of a batch of activation regions.

    Args:
        piece: number of the affine piece of the perturbation that the regions lie in.
        cells: the regions.
        logits: ``(vertices, K)``.
        patterns: ``(regions,)`` their names.
        pieces_of: gives the pieces of the network's units on the regions of the given numbers.
        deadline: when to give up.

    Raises Expired where the deadline passes on the way.
    """
    gaps = problem.gaps(logits).cpu().numpy()
    made = cut(cells, gaps, problem.gap_tolerance, problem.gap_names, stop_below=True, deadline=deadline)
    kind = np.where(made.stop < 0, ROBUST, CLASS_CHANGED).astype(np.int8)
    tight = bool((np.abs(gaps) <= problem.gap_tolerance).any())
    grown = _grown(gaps, made)
    kind[_level(made.cells, grown, problem.gap_tolerance, kind)] = UNDECIDED
    kind[_sunk(problem, made.cells, grown, kind)] = UNDECIDED
    held = np.flatnonzero(np.bincount(made.parent[kind == ROBUST]))
    inconsistency = np.full(cells.count, np.nan)
    map_ = CellMap(
        cells=made.cells,
        kind=kind,
        region=made.parent,
        volume=volumes(made.cells, deadline),
        inconsistency=inconsistency,
        pattern=patterns,
        ties=_ties(made, grown, problem.gap_tolerance, kind) if tight else None,
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
    kind[robust] = verdict[made.parent[robust]]
    return map_


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
    active = above(made.cells, _grown(values, made), tolerance).astype(bool)
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


def _sunk(problem: Problem, cells: Cells, gaps: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Cells that count as robust although a class is lost in more than a sliver of them.

    A gap within the tolerance counts as 0, and that is a share of the largest terms that it ever has: where
    units of large weights are off, all that is left of a gap may be within it, and yet below 0 by more than
    rounding leaves of the terms that there are.
    """
    low = np.minimum.reduceat(gaps[cells.idx], cells.ptr[:-1], axis=0)
    chosen = np.flatnonzero((low < 0).any(axis=1) & (kind == ROBUST))
    sunk = np.zeros(cells.count, bool)
    if not len(chosen):
        return sunk
    own, kept = cells.take(chosen)
    high = np.maximum.reduceat(gaps[kept][own.idx], own.ptr[:-1], axis=0)
    asked = -low[chosen] > _SLIVER * high
    if not asked.any():  # mostly
        return sunk
    graph = problem.network.graph
    noise = noise_at(graph, problem.images(own.theta).to(graph.device))[graph.last].flatten(1).cpu().numpy()
    noise = np.delete(noise, problem.label, axis=1) + noise[:, [problem.label]]
    lost = (-gaps[kept] > DOUBLE * noise)[own.idx]
    sunk[chosen] = (np.logical_or.reduceat(lost, own.ptr[:-1], axis=0) & asked).any(axis=1)
    return sunk


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
