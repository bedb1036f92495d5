"""Sections of cells through the origin, and the points of cells that are nearest to it: exact, by cutting.

Each question is piecewise linear in theta; once the few cells that matter are cut along its kinks, the answer
is found at vertices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import combinations, product

import numpy as np

from steadygaze.deadline import NEVER, Deadline, Expired
from steadygaze.errors import InternalCheckError
from steadygaze.geometry.bits import kernel
from steadygaze.geometry.cells import Cells
from steadygaze.geometry.cutting import cut
from steadygaze.geometry.halfspaces import EXACT
from steadygaze.geometry.least_norm import least_norms

# Coordinates are compared after scaling by the box; rounding leaves some 1e-16 of it.
_ZERO = 1e-12
# With more parameters than this, distances are found by linear programs.
_MOST_CUT = 3
# The distances of so many cells are found at once, those first that may be nearest: few at first, then more.
_FIRST, _AT_ONCE = 8, 128
# Bounds on distances are means over at most this many axes: there are too many sets of more.
_MOST_AXES = 3


@dataclass(frozen=True)
class Nearest:
    """The point ``(n,)`` nearest to 0 among those of some cells, with its distance and its cell's number."""

    distance: float
    point: np.ndarray
    cell: int


def nearest(cells: Cells, below: np.ndarray, above: np.ndarray, deadline: Deadline = NEVER) -> Nearest | None:
    """The point nearest to 0, or None without cells.

    Distance is the gauge max_i max(theta_i / above_i, -theta_i / below_i).

    Args:
        below, above: ``(n,)`` lengths that count as 1 in the negative and in the positive direction (0: there
            is nothing that way).
        deadline: when to give up.

    Raises Expired where the deadline passes on the way; so do the others here that take one.
    """
    return next(by_gauge(cells, below, above, deadline=deadline), None)


def nearest_or_less(
    cells: Cells, below: np.ndarray, above: np.ndarray, deadline: Deadline = NEVER
) -> float | None:
    """The distance of `nearest`, or, where the deadline passes on the way, a lower bound of it."""
    try:
        found = nearest(cells, below, above, deadline)
    except Expired:
        return float(gauge(_nearest_of_boxes(cells), below, above).min())
    return None if found is None else found.distance


def by_gauge(
    cells: Cells,
    below: np.ndarray,
    above: np.ndarray,
    within: float = np.inf,
    deadline: Deadline = NEVER,
) -> Iterator[Nearest]:
    """As `by_distance`, by the gauge of `nearest`."""
    bound = least_distances(cells, below, above, deadline)
    return by_distance(cells, bound, lambda some: distances(some, below, above, deadline), within, deadline)


def by_euclidean(
    cells: Cells, lengths: np.ndarray, within: float = np.inf, deadline: Deadline = NEVER
) -> Iterator[Nearest]:
    """As `by_distance`, by the Euclidean distance; `lengths` as in `euclidean`."""
    bound = least_euclidean(cells, lengths)
    return by_distance(cells, bound, lambda some: euclidean(some, lengths), within, deadline)


def by_distance(
    cells: Cells,
    bound: np.ndarray,
    exact: Callable[[Cells], tuple[np.ndarray, np.ndarray]],
    within: float = np.inf,
    deadline: Deadline = NEVER,
) -> Iterator[Nearest]:
    """The nearest point to 0 of each cell, nearest cell first; worked out only as far as is asked for.

    Args:
        bound: ``(cells,)`` lower bounds of their distances.
        exact: gives distances ``(some,)`` and nearest points ``(some, n)`` of some of the cells.
        within: cells whose bounds are not below this are left out.
    """
    order, at, size = np.argsort(bound, kind="stable"), 0, _FIRST
    order = order[bound[order] < within]
    heap: list[tuple[float, int, np.ndarray]] = []
    while heap or at < len(order):
        if at < len(order) and not (heap and heap[0][0] < bound[order[at]]):
            deadline.ask()
            some = order[at : at + size]
            distance, points = exact(cells.take(some)[0])
            for entry in zip(distance.tolist(), some.tolist(), points, strict=True):
                heappush(heap, entry)
            at, size = at + size, min(2 * size, _AT_ONCE)
            continue
        far, cell, point = heappop(heap)
        yield Nearest(far, point, cell)


def least_distances(
    cells: Cells, below: np.ndarray, above: np.ndarray, deadline: Deadline = NEVER
) -> np.ndarray:
    """Lower bounds ``(cells,)`` on the distance from 0, gauge as in `nearest`.

    One is the distance of a cell's bounding box. Others see nearest points off the axes: the gauge is the
    largest of several linear functions of theta, so that a mean of some is at most that, and on a cell a mean
    is least at a vertex. Means are over one side each of two or three axes.
    """
    found = gauge(_nearest_of_boxes(cells), below, above)
    for size in range(2, min(cells.dimension, _MOST_AXES) + 1 if cells.count else 0):
        for axes in combinations(range(cells.dimension), size):
            deadline.ask()
            for lengths in product(*((above[i], -below[i]) for i in axes)):
                if all(lengths):
                    mean = (cells.theta[:, axes] @ (1 / np.array(lengths))[:, None]) / size
                    found = np.maximum(found, _spans(mean, cells.ptr, cells.idx)[0][:, 0])
    return found


def least_euclidean(cells: Cells, lengths: np.ndarray) -> np.ndarray:
    """The same for the Euclidean distance; `lengths` as in `euclidean`."""
    return np.linalg.norm(_nearest_of_boxes(cells) / lengths, axis=1)


def _nearest_of_boxes(cells: Cells) -> np.ndarray:
    """The point of each cell's bounding box that is nearest to 0, ``(cells, n)``."""
    low, high = bounds(cells)
    return np.clip(0.0, low, high)


def gauge(theta: np.ndarray, below: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Distance of points ``(..., n)`` from 0, the largest over the axes; see `nearest`."""
    theta, below, above = map(np.ascontiguousarray, (theta, below, above))
    return _gauge(theta.reshape(-1, len(below)), below, above).reshape(theta.shape[:-1])


@kernel
def _gauge(theta, below, above):
    out = np.zeros(len(theta))
    for v in range(len(theta)):
        for i in range(theta.shape[1]):
            z = theta[v, i]
            far = z / above[i] if z > 0 else (-z / below[i] if z < 0 else 0.0)
            out[v] = far if far > out[v] else out[v]
    return out


def axis_intervals(cells: Cells, axis: int, widths: np.ndarray, deadline: Deadline = NEVER) -> np.ndarray:
    """Where the cells meet the axis: intervals ``(k, 2)``, the other parameters being 0."""
    if cells.dimension == 1 and cells.count:  # a cell is its bounding box
        return np.concatenate(bounds(cells), axis=1)
    others = np.array([i for i in range(cells.dimension) if i != axis], np.int64)
    parts, _ = _through_zero(cells, others, widths, deadline)
    on = np.all(np.abs(parts.theta[:, others]) <= _ZERO * widths[others], axis=1)[parts.idx]
    along = parts.theta[parts.idx, axis]
    if not parts.count:
        return np.zeros((0, 2))
    low = np.minimum.reduceat(np.where(on, along, np.inf), parts.ptr[:-1])
    high = np.maximum.reduceat(np.where(on, along, -np.inf), parts.ptr[:-1])
    met = low <= high
    return np.stack([low[met], high[met]], axis=1)


def line_intervals(cells: Cells, direction: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Where each cell meets the line through 0: ``(cells, 2)`` multiples of the direction ``(n,)``.

    An interval whose low end is above its high end is empty.
    """
    along = direction / widths
    across = np.linalg.svd(along[None])[2][1:]  # directions across it: the first one is along it
    size = along @ along
    low, high = bounds(cells) if cells.count else (np.zeros((0, cells.dimension)),) * 2
    middle, half = (low + high) / 2 / widths, (high - low) / 2 / widths
    meets = (np.abs(middle @ across.T) <= half @ np.abs(across.T) + _ZERO).all(axis=1)
    chosen = np.flatnonzero(meets)
    some, _ = cells.take(chosen)
    made = cut(some, *_hinges((some.theta / widths) @ across.T))
    near = np.abs((made.cells.theta / widths) @ across.T) <= _ZERO
    on = np.all(near, axis=1)[made.cells.idx]
    t = (made.cells.theta / widths) @ along / size
    out = np.full((cells.count, 2), (np.inf, -np.inf))
    owner = chosen[made.parent][np.repeat(np.arange(made.cells.count), np.diff(made.cells.ptr))]
    np.minimum.at(out[:, 0], owner[on], t[made.cells.idx[on]])
    np.maximum.at(out[:, 1], owner[on], t[made.cells.idx[on]])
    return out


def distances(
    cells: Cells, below: np.ndarray, above: np.ndarray, deadline: Deadline = NEVER
) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each cell, which may be flat, from 0, and its nearest point; gauge as in `nearest`.

    Returns ``(cells,)`` and ``(cells, n)``.
    """
    if cells.dimension == 1:  # a cell is its bounding box
        points = _nearest_of_boxes(cells)
        return gauge(points, below, above), points
    if cells.dimension > _MOST_CUT:
        return _by_programs(cells, below, above)
    made = cut(cells, *_hinges(_kinks(cells.theta, below, above)), deadline=deadline)
    far = gauge(made.cells.theta, below, above)[made.cells.idx]
    owner = np.repeat(made.parent, np.diff(made.cells.ptr))
    order = np.lexsort((far, owner))
    first = order[np.searchsorted(owner[order], np.arange(cells.count))]
    return far[first], made.cells.theta[made.cells.idx[first]]


def _by_programs(cells: Cells, below: np.ndarray, above: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`distances` by linear programming, for cutting along all kinks grows exponentially with n.

    One program holds all cells side by side, so that setting it up is paid for once.
    """
    from scipy.optimize import linprog  # here: slow to import, and few answers need it
    from scipy.sparse import csr_array

    count, corners = cells.count, cells.theta[cells.idx]
    owner = np.repeat(np.arange(count), np.diff(cells.ptr))
    shares = np.arange(len(corners))
    # Where there is nothing one way, the corners lie on the other side, within rounding.
    ways = [corners[:, i] / s for i in range(cells.dimension) for s in (above[i], -below[i]) if s]
    every = np.arange(len(ways) * count)
    walls = csr_array(
        (
            np.concatenate([*ways, -np.ones(len(every))]),
            (
                np.concatenate([*(w * count + owner for w in range(len(ways))), every]),
                np.concatenate([*(shares for _ in ways), len(shares) + every % max(count, 1)]),
            ),
        ),
        shape=(len(every), len(shares) + count),
    )
    found = linprog(
        np.concatenate([np.zeros(len(shares)), np.ones(count)]),
        A_ub=walls,
        b_ub=np.zeros(len(every)),
        A_eq=csr_array((np.ones(len(shares)), (owner, shares)), shape=(count, len(shares) + count)),
        b_eq=np.ones(count),
        method="highs",
        options=EXACT,
    )
    if found.x is None:
        raise InternalCheckError(f"a linear program for distances failed ({found.message}): please report")
    share = np.maximum(found.x[: len(shares)], 0.0)
    sums = np.add.reduceat(share, cells.ptr[:-1])
    points = np.add.reduceat(share[:, None] * corners, cells.ptr[:-1]) / sums[:, None]
    # A program stops within its tolerance, above the least distance. Weights of the walls, whatever they are,
    # bound it from below: no point is nearer than the least of their mean over the corners.
    weights = np.maximum(-found.ineqlin.marginals.reshape(len(ways), count), 0.0)
    total = weights.sum(axis=0)
    weights = np.divide(weights, total, out=np.full_like(weights, 1 / len(ways)), where=total > 0)
    means = sum(weight[owner] * way for weight, way in zip(weights, ways, strict=True))
    least = np.minimum.reduceat(means, cells.ptr[:-1])
    return np.clip(least, 0.0, gauge(points, below, above)), points


def euclidean(cells: Cells, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Euclidean distance ``(cells,)`` of each cell from 0 and its nearest point ``(cells, n)``.

    Lengths ``(n,)`` count as 1.
    """
    corners, first = cells.theta[cells.idx] / lengths, cells.ptr[:-1]
    sizes = np.diff(cells.ptr)

    def lowest(some: np.ndarray, directions: np.ndarray) -> np.ndarray:
        owner = np.repeat(np.arange(len(some)), sizes[some])
        at = np.arange(len(owner)) + np.repeat(
            first[some] - np.cumsum(sizes[some]) + sizes[some], sizes[some]
        )
        height = np.einsum("mn,mn->m", corners[at], directions[owner])
        order = np.lexsort((height, owner))
        return corners[at[order[np.searchsorted(owner[order], np.arange(len(some)))]]]

    points, distance = least_norms(corners[first], lowest)
    return distance, points * lengths


@dataclass(frozen=True)
class Section:
    """Convex polygons in a plane.

    Attributes:
        corners: ``(corners, 2)``, in order round each polygon.
        ptr: ``(polygons + 1,)``; the corners of polygon p are ``ptr[p]:ptr[p + 1]``.
        cell: ``(polygons,)`` number of the cell that each is a section of.
    """

    corners: np.ndarray
    ptr: np.ndarray
    cell: np.ndarray


def plane_section(
    cells: Cells, axes: tuple[int, int], widths: np.ndarray, through: np.ndarray | None = None
) -> Section:
    """Where the cells meet the plane of two parameters through 0, or through the point given ``(n,)``.

    A polygon between two cells is given for both.
    """
    if through is not None:
        moved = through.copy()
        moved[list(axes)] = 0.0
        cells = replace(cells, theta=cells.theta - moved)
    others = np.array([i for i in range(cells.dimension) if i not in axes], np.int64)
    parts, parent = _through_zero(cells, others, widths)
    on = (np.abs(parts.theta[:, others]) <= _ZERO * widths[others]).all(axis=1)
    chosen = np.array(axes, np.int64)
    points = np.ascontiguousarray(parts.theta[:, chosen] / widths[chosen])
    corners, ptr = _polygons(points, on, parts.ptr, parts.idx)
    sizes = np.diff(ptr)
    drawn = np.flatnonzero(sizes > 0)
    drawn = drawn[np.unique(parent[drawn], return_index=True)[1]]  # all parts of a cell show the same section
    keep = np.isin(np.repeat(np.arange(len(sizes)), sizes), drawn)
    return Section(
        corners[keep] * widths[chosen], np.concatenate([[0], np.cumsum(sizes[drawn])]), parent[drawn]
    )


@kernel
def _polygons(points, on, ptr, idx):
    """Corners of the polygon that the chosen vertices of each cell span, in order; none without an area."""
    corners = np.empty((len(idx), 2))
    ends = np.zeros(len(ptr), np.int64)
    angle = np.empty(len(idx))
    for p in range(len(ptr) - 1):
        first = ends[p]
        count, x, y = 0, 0.0, 0.0
        for t in range(ptr[p], ptr[p + 1]):
            if on[idx[t]]:
                x += points[idx[t], 0]
                y += points[idx[t], 1]
                count += 1
        size = 0
        for t in range(ptr[p], ptr[p + 1]):
            if on[idx[t]]:
                u, v = points[idx[t], 0], points[idx[t], 1]
                turn = np.arctan2(v - y / count, u - x / count)
                k = first + size
                while k > first and angle[k - 1] > turn:
                    angle[k], corners[k, 0], corners[k, 1] = (
                        angle[k - 1],
                        corners[k - 1, 0],
                        corners[k - 1, 1],
                    )
                    k -= 1
                angle[k], corners[k, 0], corners[k, 1] = turn, u, v
                size += 1
        area = 0.0
        for k in range(size):
            a, b = first + k, first + (k + 1) % size
            area += corners[a, 0] * corners[b, 1] - corners[b, 0] * corners[a, 1]
        ends[p + 1] = first + size if size > 2 and area > _ZERO * _ZERO else first
    return corners[: ends[-1]].copy(), ends


def bounds(cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    """The bounding box of each cell: low and high ``(cells, n)``."""
    return _spans(cells.theta, cells.ptr, cells.idx)


@kernel
def _spans(values, ptr, idx):
    """Least and greatest of values ``(vertices, k)`` over the vertices of each cell, both ``(cells, k)``."""
    low, high = np.empty((len(ptr) - 1, values.shape[1])), np.empty((len(ptr) - 1, values.shape[1]))
    for p in range(len(low)):
        for i in range(values.shape[1]):
            low[p, i] = high[p, i] = values[idx[ptr[p]], i]
        for t in range(ptr[p] + 1, ptr[p + 1]):
            for i in range(values.shape[1]):
                z = values[idx[t], i]
                low[p, i] = z if z < low[p, i] else low[p, i]
                high[p, i] = z if z > high[p, i] else high[p, i]
    return low, high


def _through_zero(
    cells: Cells, axes: np.ndarray, widths: np.ndarray, deadline: Deadline = NEVER
) -> tuple[Cells, np.ndarray]:
    """The cells that meet theta_axes = 0, cut there; and the cell that each part comes from."""
    low, high = bounds(cells) if cells.count else (np.zeros((0, cells.dimension)),) * 2
    slack = _ZERO * widths[axes]
    meets = (low[:, axes] <= slack).all(axis=1) & (high[:, axes] >= -slack).all(axis=1)
    chosen = np.flatnonzero(meets)
    some, _ = cells.take(chosen)
    if not ((low[chosen][:, axes] < -slack) & (high[chosen][:, axes] > slack)).any():
        return some, chosen  # 0 is on the border of them all, as where it is on that of the box
    made = cut(some, *_hinges(some.theta[:, axes] / widths[axes]), deadline=deadline)
    return made.cells, chosen[made.parent]


def _kinks(theta: np.ndarray, below: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Values ``(vertices, kinks)`` of the hinges along which the gauge bends."""
    axes = range(theta.shape[1])
    sides = [[s for s in (above[i], -below[i]) if s] for i in axes]
    columns = [theta[:, i] / max(above[i], below[i]) for i in axes if len(sides[i]) == 2]
    for i, j in combinations(axes, 2):
        columns += [theta[:, i] / s - theta[:, j] / t for s in sides[i] for t in sides[j]]
    return np.stack(columns, axis=1) if columns else np.zeros((len(theta), 0))


def _hinges(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    count = values.shape[1]
    return np.ascontiguousarray(values), np.full(count, _ZERO), np.arange(count, dtype=np.uint64)
