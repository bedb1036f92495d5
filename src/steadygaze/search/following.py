"""Judge regions on which the inconsistency varies: one map, actual or expected, is affine in theta there.

With one map fixed and the other affine, the condition inconsistency <= threshold is h(theta) >= 0 for
h(theta) = a + b theta - kappa |s| |e(theta)|: a second-order cone, and h is concave where kappa >= 0. So a
cell is wholly robust if it is so at its vertices, and wholly not if a tangent plane t of h, which lies above
h, is negative at all of them. In between the cell is cut where t = 0, beyond which it is not robust; where
t = max (t - h) over its vertices, before which it is robust, for t - h is convex; and in two. What is left
open is slivers along the boundary, whose volume falls by a factor of four a round. Where kappa < 0 the roles
are exchanged. What is left below the stated remainder is undecided.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from steadygaze.deadline import NEVER, Deadline
from steadygaze.geometry.cells import Cells, concatenate, separated
from steadygaze.geometry.cones import Cones
from steadygaze.geometry.cutting import cut
from steadygaze.geometry.kinds import ATTENTION_CHANGED, ROBUST, UNDECIDED
from steadygaze.geometry.measure import centres, volumes
from steadygaze.geometry.sections import bounds
from steadygaze.question.problem import Problem
from steadygaze.search.base import CellMap

_ROUNDS = 40
# Rounds end early when this many cells are open: the boundary is then finer than any picture shows.
_OPEN_CELLS = 100_000
# A side of the condition counts where it is this many times as high on a cell as rounding may move it, for
# else that may decide on more of it than a sliver.
_TOLD = 1e9
# Parts may miss so much of their cell, and beside that so much of all cells, by rounding.
_MISSED, _NOISE = 1e-9, 1e-15


@dataclass(frozen=True)
class _Open:
    """Cells that are not judged yet, and the row of `Cones` that each belongs to."""

    cells: Cells
    cone: np.ndarray


def follow(
    problem: Problem,
    map_: CellMap,
    open_cells: Cells,
    cone: np.ndarray,
    region: np.ndarray,
    cones: Cones,
    deadline: Deadline = NEVER,
) -> CellMap:
    """The map with its class-robust cells replaced by judged parts of them.

    Args:
        map_: judged by class; its robust cells are left out and `open_cells` take their place.
        open_cells: the class-robust cells, cut until the maps are affine on each.
        cone: ``(open,)`` row of `cones` for each. region: ``(open,)`` the region that each is a part of.
        cones: the conditions.
        deadline: when to leave what is still open undecided.
    """
    rest = np.flatnonzero(map_.kind != ROBUST)
    kept, _ = map_.cells.take(rest)
    batches, kinds, regions = [kept], [map_.kind[rest]], [map_.region[rest]]
    volume = [map_.volume[rest]]
    region_of = np.full(cones.count, -1)
    region_of[cone] = region
    ties = [] if map_.ties is None else [map_.ties]
    for cells, kind, rows in _judged(problem, _Open(open_cells, cone), cones, deadline):
        batches.append(cells)
        kinds.append(kind)
        regions.append(region_of[rows])
        volume.append(volumes(cells))
        ties += _vanishing(cells, kind, rows, cones)
    inconsistency = map_.inconsistency.copy()
    inconsistency[region] = cones.inconsistency(cone, centres(open_cells))
    return replace(
        map_,
        cells=concatenate(batches),
        kind=np.concatenate(kinds),
        region=np.concatenate(regions),
        volume=np.concatenate(volume),
        inconsistency=inconsistency,
        ties=concatenate(ties) if ties else None,
        conforming=False,
    )


def _vanishing(cells: Cells, kind: np.ndarray, rows: np.ndarray, cones: Cones) -> list[Cells]:
    """The faces of robust cells all over which the affine map is zero: there it is not where it should be."""
    chosen = np.flatnonzero(kind == ROBUST)
    held, _ = cells.take(chosen)
    owner = np.repeat(np.arange(held.count), np.diff(held.ptr))
    on = cones.vanishing(rows[chosen][owner], held.theta[held.idx])
    if not on.any():
        return []
    sizes = np.bincount(owner[on], minlength=held.count)
    ptr = np.concatenate([[0], np.cumsum(sizes[sizes > 0])])
    faces = Cells(held.theta, held.names, ptr, held.idx[on], held.mask[on])
    return [faces.take(np.arange(faces.count))[0]]


def _judged(
    problem: Problem, rest: _Open, cones: Cones, deadline: Deadline
) -> Iterator[tuple[Cells, np.ndarray, np.ndarray]]:
    """Yields (cells, kinds, rows of `cones`) until everything is judged or the remainder is small."""
    # The number of slivers that resolve a boundary of dimension n - 1 grows like remainder^(-(n - 1) / 2).
    allowed = problem.tolerance.remainder ** min(1.0, 2 / rest.cells.dimension) * volumes(rest.cells).sum()
    for number in range(_ROUNDS + 1):
        kind, mixed = _decided(rest, cones)
        done = np.flatnonzero(~mixed)
        yield rest.cells.take(done)[0], kind[done], rest.cone[done]
        rest = _some(rest, np.flatnonzero(mixed))
        if not rest.cells.count:
            return
        fine = number == _ROUNDS or rest.cells.count > _OPEN_CELLS or deadline.passed()
        if fine or volumes(rest.cells).sum() <= allowed:
            yield rest.cells, np.full(rest.cells.count, UNDECIDED, np.int8), rest.cone
            return
        done, spoilt, rest = _cut(rest, cones)
        outer = ATTENTION_CHANGED if cones.concave else ROBUST
        yield done.cells, np.full(done.cells.count, outer, np.int8), done.cone
        yield spoilt.cells, np.full(spoilt.cells.count, UNDECIDED, np.int8), spoilt.cone


def _some(rest: _Open, chosen: np.ndarray) -> _Open:
    return _Open(rest.cells.take(chosen)[0], rest.cone[chosen])


def _decided(rest: _Open, cones: Cones) -> tuple[np.ndarray, np.ndarray]:
    """Kind of each cell, and where it is mixed."""
    cells, owner = rest.cells, np.repeat(np.arange(rest.cells.count), np.diff(rest.cells.ptr))
    start = cells.ptr[:-1]
    theta = cells.theta[cells.idx]
    value, slack, doubt = cones.values(rest.cone[owner], theta)
    level, slope = cones.tangents(rest.cone, centres(cells))
    above = level[owner] + np.einsum("in,in->i", slope[owner], theta)
    flat = np.logical_and.reduceat(np.abs(value) <= slack, start)
    inside = np.logical_and.reduceat(value >= -slack, start) & ~flat & _told(value, doubt, start)
    outside = (
        np.logical_and.reduceat(above <= slack, start)
        & np.logical_or.reduceat(above < -slack, start)
        & _told(-above, doubt, start)
        & ~inside
    )
    inner, outer = (ROBUST, ATTENTION_CHANGED) if cones.concave else (ATTENTION_CHANGED, ROBUST)
    kind = np.select([inside, outside], [inner, outer], UNDECIDED).astype(np.int8)
    kind[cones.undecided[rest.cone]] = UNDECIDED
    zero = cones.zero[rest.cone]
    kind[zero] = ATTENTION_CHANGED
    mixed = ~(inside | outside | flat | zero | cones.undecided[rest.cone])
    return kind, mixed


def _told(height: np.ndarray, doubt: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Where cells, whose vertices begin at `start`, are all on one side, or so high there that all but a
    sliver of each is: ``(cells,)``, given heights of the vertices and how far these are in doubt."""
    most = np.maximum.reduceat(doubt, start)
    return (np.minimum.reduceat(height - doubt, start) > 0) | (
        np.maximum.reduceat(height, start) >= _TOLD * most
    )


def _cut(rest: _Open, cones: Cones) -> tuple[_Open, _Open, _Open]:
    """Cut every cell along a tangent and in two.

    Returns what lies beyond the tangents; cells whose parts do not add up to them, and which are left whole:
    some of their corners lie so close together that rounding tells on which side of a tangent each is; and
    what is still open.
    """
    cells, cone = separated(rest.cells), rest.cone
    owner = np.repeat(np.arange(cells.count), np.diff(cells.ptr))
    level, slope = cones.tangents(cone, _touching(cells, cone, cones, owner))
    tangent = level[owner] + np.einsum("in,in->i", slope[owner], cells.theta)
    bend = np.maximum.reduceat(tangent - cones.heights(cone[owner], cells.theta), cells.ptr[:-1])[owner]
    values = np.stack([tangent, tangent - bend, _halving(cells, owner)], axis=1)
    scale = np.maximum.reduceat(np.abs(values), cells.ptr[:-1])[owner]
    values /= np.where(scale > 0, scale, 1.0)
    made = cut(cells, values, np.full(3, 1e-12), np.arange(3, dtype=np.uint64))
    parent, whole = made.parent, volumes(rest.cells)
    missed = np.abs(np.bincount(parent, volumes(made.cells), len(whole)) - whole)
    spoilt = missed > _MISSED * whole + _NOISE * whole.sum()
    owner = np.repeat(np.arange(made.cells.count), np.diff(made.cells.ptr))
    height = level[parent][owner] + np.einsum(
        "in,in->i", slope[parent][owner], made.cells.theta[made.cells.idx]
    )
    start = made.cells.ptr[:-1]
    highest, lowest = np.maximum.reduceat(height, start), np.minimum.reduceat(height, start)
    doubt = cones.doubt(cone[parent][owner], made.cells.theta[made.cells.idx])
    beyond = (highest <= 1e-9 * np.maximum(-lowest, 0.0)) & _told(-height, doubt, start)
    parts = _Open(made.cells, cone[parent])
    far, near = (np.flatnonzero(side & ~spoilt[parent]) for side in (beyond, ~beyond))
    return _some(parts, far), _some(rest, np.flatnonzero(spoilt)), _some(parts, near)


def _touching(cells: Cells, cone: np.ndarray, cones: Cones, owner: np.ndarray) -> np.ndarray:
    """A point of each cell for the tangent: on the boundary between its highest and lowest vertex, if any."""
    value = cones.heights(cone[owner], cells.theta)
    order = np.lexsort((value, owner))
    low, high = cells.theta[order[cells.ptr[:-1]]], cells.theta[order[cells.ptr[1:] - 1]]
    crossed = (value[order[cells.ptr[:-1]]] < 0) & (value[order[cells.ptr[1:] - 1]] > 0)
    for _ in range(60):  # bisection to the last bit, all cells at once
        middle = (low + high) / 2
        negative = (cones.heights(cone, middle) < 0)[:, None]
        low, high = np.where(negative, middle, low), np.where(negative, high, middle)
    return np.where(crossed[:, None], high, centres(cells))


def _halving(cells: Cells, owner: np.ndarray) -> np.ndarray:
    """Values at the vertices of the hinge that halves each cell across its longest side."""
    low, high = bounds(cells)
    extent = (high - low) / np.ptp(cells.theta, axis=0).clip(min=1e-300)
    axis = extent.argmax(axis=1)
    rows = np.arange(cells.count)
    middle = (low[rows, axis] + high[rows, axis]) / 2
    return cells.theta[np.arange(len(owner)), axis[owner]] - middle[owner]
