"""Polytopes kept as half-spaces, and what linear programs (HiGHS) say of them.

With many parameters a polytope has too many vertices: a cube of ten dimensions has a thousand. What remains
cheap is one program for each question. Programs are solved side by side, as blocks of one, for setting one up
costs more than solving it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from steadygaze.deadline import NEVER, Deadline
from steadygaze.errors import InternalCheckError
from steadygaze.geometry.cells import Cells, names_of_points
from steadygaze.geometry.least_norm import least_norms

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# So many rows at most are solved side by side: more cost more each.
_ROWS = 4000
#: HiGHS may leave rows violated by this much.
EXACT = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
# Planes that meet at a smaller angle than this count as meeting at it, so that parallel ones have a program.
_TILT = 1e-6


@dataclass(frozen=True)
class Halfspaces:
    """The polytope ``normal x <= offset``.

    Attributes:
        normal: ``(m, n)``, rows of length 1. offset: ``(m,)``.
    """

    normal: np.ndarray
    offset: np.ndarray

    def on(self, row: int) -> Halfspaces:
        """The same with one row twice, the second time turned: what of the polytope lies on its plane."""
        return Halfspaces(
            np.concatenate([self.normal, -self.normal[[row]]]),
            np.concatenate([self.offset, -self.offset[[row]]]),
        )

    def within(self, normal: np.ndarray, offset: np.ndarray) -> Halfspaces:
        """What of the polytope lies in further half-spaces ``(k, n)``, ``(k,)``."""
        return Halfspaces(
            np.concatenate([self.normal, normal]),
            np.concatenate([self.offset, offset]),
        )


def boxes(polytopes: Sequence[Halfspaces], deadline: Deadline = NEVER) -> np.ndarray:
    """Bounding boxes ``(k, n, 2)``.

    Raises Expired where the deadline passes on the way; so do the others here that take one.
    """
    if not polytopes:
        return np.zeros((0, 0, 2))
    n = polytopes[0].normal.shape[1]
    costs = np.concatenate([np.eye(n), -np.eye(n)])
    programs = [_Program(cost, p.normal, p.offset) for p in polytopes for cost in costs]
    found = _solved(programs, deadline).reshape(len(polytopes), 2, n, n)
    low, high = (np.einsum("kii->ki", found[:, side]) for side in (0, 1))
    return np.stack([low, high], axis=2)


def least(polytopes: Sequence[Halfspaces], slopes: np.ndarray, deadline: Deadline = NEVER) -> np.ndarray:
    """The point ``(k, n)`` of each polytope at which its ``slope . x`` is least; slopes ``(k, n)``."""
    programs = [_Program(s, p.normal, p.offset) for p, s in zip(polytopes, slopes, strict=True)]
    return _solved(programs, deadline)


def balls(
    polytopes: Sequence[Halfspaces], flat: np.ndarray | None = None, deadline: Deadline = NEVER
) -> tuple[np.ndarray, np.ndarray]:
    """Middle ``(k, n)`` and radius ``(k,)`` of a largest ball; the radius is below 0 where there is none.

    flat: ``(k,)`` the row that is to hold as an equation: then balls lie in its plane. Where the radius is
    above 0, the row is a facet, and the middle lies inside it.
    """
    programs = []
    for k, p in enumerate(polytopes):
        count, n = p.normal.shape
        walls, cost = np.concatenate([p.normal, np.ones((count, 1))], axis=1), np.append(np.zeros(n), -1.0)
        own = _Program(cost, walls, p.offset)
        if flat is not None:
            rest = np.delete(np.arange(count), flat[k])
            plane = np.append(p.normal[flat[k]], 0.0)[None]
            along = p.normal[rest] @ p.normal[flat[k]]
            walls[rest, -1] = np.sqrt(np.maximum(1.0 - along**2, _TILT**2))
            own = _Program(cost, walls[rest], p.offset[rest], plane, p.offset[[flat[k]]])
        programs.append(own)
    found = _solved(programs, deadline)
    middle = found[:, :-1]
    if flat is not None and polytopes:  # onto the plane, to the last bit
        normal = np.stack([p.normal[f] for p, f in zip(polytopes, flat, strict=True)])
        level = np.array([p.offset[f] for p, f in zip(polytopes, flat, strict=True)])
        middle = middle + (level - np.einsum("kn,kn->k", normal, middle))[:, None] * normal
    return middle, found[:, -1]


def gauge_points(
    polytopes: Sequence[Halfspaces], below: np.ndarray, above: np.ndarray, deadline: Deadline = NEVER
) -> tuple[np.ndarray, np.ndarray]:
    """Distance ``(k,)`` from 0 and the nearest point ``(k, n)``; the gauge is that of `sections.nearest`."""
    programs = []
    sides = [(i, s) for i in range(len(below)) for s in (above[i], -below[i]) if s]
    gauge = np.zeros((len(sides), len(below) + 1))
    for row, (i, s) in enumerate(sides):
        gauge[row, i], gauge[row, -1] = 1 / s, -1.0
    for p in polytopes:
        walls = np.concatenate([np.pad(p.normal, ((0, 0), (0, 1))), gauge])
        offset = np.concatenate([p.offset, np.zeros(len(gauge))])
        programs.append(_Program(np.append(np.zeros(len(below)), 1.0), walls, offset))
    found = _solved(programs, deadline)
    return np.maximum(found[:, -1], 0.0), found[:, :-1]


def euclidean_points(
    polytopes: Sequence[Halfspaces], lengths: np.ndarray, deadline: Deadline = NEVER
) -> tuple[np.ndarray, np.ndarray]:
    """Euclidean distance ``(k,)`` from 0, `lengths` (n,) counting as 1, and the nearest point ``(k, n)``."""
    programs = [_Program(np.zeros(len(lengths)), p.normal, p.offset) for p in polytopes]
    start = _solved(programs, deadline)

    def lowest(some: np.ndarray, directions: np.ndarray) -> np.ndarray:
        size = np.linalg.norm(directions, axis=1, keepdims=True)
        ways = directions / np.where(size > 0, size, 1.0)
        return least([polytopes[k] for k in some], ways / lengths, deadline) / lengths

    points, distance = least_norms(start / lengths, lowest)
    return distance, points * lengths


def simplices(middles: np.ndarray, radii: np.ndarray, tips: np.ndarray) -> Cells:
    """Simplices in polytopes: corners on balls ``(k, n)``, ``(k,)`` in them, one moved to a tip ``(k, n)``.

    Where the tip is nan, no corner is moved. The corner moved is the one that looks most towards the tip,
    so that the simplex does not become flat.
    """
    count, n = middles.shape
    unit = _regular(n)
    corners = middles[:, None] + radii[:, None, None] * unit
    moved = np.flatnonzero(np.isfinite(tips).all(axis=1))
    which = ((tips[moved] - middles[moved]) @ unit.T).argmax(axis=1)
    corners[moved, which] = tips[moved]
    theta = corners.reshape(-1, n)
    every = np.uint64((1 << (n + 1)) - 1)
    mask = np.tile(every ^ (np.uint64(1) << np.arange(n + 1, dtype=np.uint64)), count)
    return Cells(
        theta + 0.0,
        names_of_points(theta + 0.0),
        np.arange(count + 1) * (n + 1),
        np.arange(len(theta)),
        mask[:, None],
    )


def simplex_volumes(cells: Cells) -> np.ndarray:
    """Volumes ``(cells,)`` of simplices."""
    n = cells.dimension
    corners = cells.theta[cells.idx].reshape(-1, n + 1, n)
    sides = corners[:, 1:] - corners[:, :1]
    return np.abs(np.linalg.det(sides)) / np.prod(np.arange(1.0, n + 1))


def _regular(n: int) -> np.ndarray:
    """Corners ``(n + 1, n)`` of a regular simplex about 0, at distance 1."""
    raw = np.concatenate([np.eye(n), np.full((1, n), (1 - np.sqrt(n + 1)) / n)])
    raw -= raw.mean(axis=0)
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


@dataclass(frozen=True)
class _Program:
    """Least ``cost x`` with ``walls x <= offset`` and, where there is a plane, ``plane x == level``."""

    cost: np.ndarray
    walls: np.ndarray
    offset: np.ndarray
    plane: np.ndarray | None = None
    level: np.ndarray | None = None


def _solved(programs: Sequence[_Program], deadline: Deadline) -> np.ndarray:
    """Where each program's cost is least, ``(k, variables)``; all have equally many variables."""
    found, first, rows = [], 0, 0
    for k, program in enumerate(programs):
        rows += len(program.walls)
        if rows > _ROWS or k == len(programs) - 1:
            deadline.ask()
            found.append(_side_by_side(programs[first : k + 1]))
            first, rows = k + 1, 0
    return np.concatenate(found) if found else np.zeros((0, 0))


def _side_by_side(programs: Sequence[_Program]) -> np.ndarray:
    from scipy.optimize import linprog  # here: slow to import, and few answers need it

    width = len(programs[0].cost)
    planes = [p.plane for p in programs if p.plane is not None]
    levels = [p.level for p in programs if p.level is not None]
    found = linprog(
        np.concatenate([p.cost for p in programs]),
        A_ub=_blocks([p.walls for p in programs]),
        b_ub=np.concatenate([p.offset for p in programs]),
        A_eq=_blocks(planes) if planes else None,
        b_eq=np.concatenate(levels) if planes else None,
        bounds=(None, None),
        method="highs",
        options=EXACT,
    )
    if found.x is not None and found.status == 0:
        return found.x.reshape(len(programs), width)
    if len(programs) > 1:  # one by one they are easier
        return np.concatenate([_side_by_side([program]) for program in programs])
    raise InternalCheckError(
        f"a linear program failed ({found.message}): the answer is withheld; please report this case"
    )


def _blocks(parts: Sequence[np.ndarray]) -> csr_array:
    """Matrices of equal width as the blocks of a diagonal one."""
    from scipy.sparse import csr_array

    width = parts[0].shape[1]
    rows = np.array([len(part) for part in parts])
    column = np.arange(width) + np.repeat(np.arange(len(parts)) * width, rows)[:, None]
    return csr_array(
        (
            np.concatenate([part.reshape(-1) for part in parts]),
            column.reshape(-1),
            np.arange(rows.sum() + 1) * width,
        ),
        shape=(int(rows.sum()), width * len(parts)),
    )
