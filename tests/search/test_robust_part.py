"""What hangs together where a region has several robust cells, as where expected maps move."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from steadygaze.deadline import NEVER
from steadygaze.geometry.cells import concatenate, from_polytopes
from steadygaze.geometry.kinds import ATTENTION_CHANGED, ROBUST
from steadygaze.geometry.measure import volumes
from steadygaze.geometry.polytope import Polytope
from steadygaze.search.base import CellMap
from steadygaze.search.regions import OUTSIDE
from steadygaze.search.robust_part import RobustPart


def polygon(*corners: tuple[float, float]) -> Polytope:
    """Corners in order; every side is a facet."""
    count = len(corners)
    sides = np.eye(count, dtype=bool) | np.eye(count, k=1, dtype=bool)
    sides[-1, 0] = True
    return Polytope(np.array(corners), sides.T)


def part_of(*cells: tuple[int, Polytope]) -> RobustPart:
    """Of cells of one region, which is [-1, 1] x [-1, 1]; the first of them is known to belong to it."""
    kind, polytopes = zip(*cells, strict=True)
    all_ = concatenate([from_polytopes((each,)) for each in polytopes])
    map_ = CellMap(
        all_, np.array(kind, np.int8), np.zeros(len(kind), np.int64), volumes(all_), np.zeros(1),
        np.zeros(1, np.uint64), conforming=False,
    )  # fmt: skip
    normal = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    part = RobustPart(
        SimpleNamespace(
            problem=SimpleNamespace(follows_maps=True), widths=np.ones(2), maps=[map_], first_of_map=[0],
            deadline=NEVER, neighbour=np.full(4, OUTSIDE), cross=lambda _: None,
            facets_of=lambda regions: (
                np.tile(np.arange(4), len(regions)), np.repeat(np.arange(len(regions)), 4)
            ),
            slack=lambda facet, points: 1 - np.einsum("kn,kn->k", normal[facet], points),
        )
    )  # fmt: skip
    part.absorb()
    part.join(np.array([0]))
    return part


def rectangle(left: float, right: float, low: float = -1.0, high: float = 1.0) -> Polytope:
    return polygon((left, low), (right, low), (right, high), (left, high))


WALL = 0.4 + 3e-9
BETWEEN = {
    "nothing": ([], 0.4, 1),
    "nothing, but rounding": ([], 0.4 + 1e-15, 1),
    "nothing, but corners are off": ([], WALL, 1),
    "a wall in two parts": ([rectangle(0.4, WALL, -1.0, 0.1), rectangle(0.4, WALL, 0.1, 1.0)], WALL, 2),
}


@pytest.mark.parametrize("what", BETWEEN)
def test_robust_cells_are_not_joined_through_a_thin_wall(what):
    walls, begins, count = BETWEEN[what]
    part = part_of(
        (ROBUST, rectangle(-1.0, 0.4)), (ROBUST, rectangle(begins, 1.0)),
        *((ATTENTION_CHANGED, wall) for wall in walls),
    )  # fmt: skip
    assert len(set(part.linked(np.array([0, 1])))) == count
    part.settle(part.untouched())
    assert len(part.members) == 3 - count


def test_planes_at_the_same_distance_from_0_need_not_be_one():
    """Two robust cells meet in a corner of the wedge between them."""
    cosine = sine = np.sqrt(0.5)
    top = 0.2 * (1 - cosine) / sine
    part = part_of(
        (ROBUST, rectangle(-1.0, 0.2, high=top)),
        (ROBUST, polygon((0.2, top), (0.5, (0.2 - cosine * 0.5) / sine), (0.5, top))),
    )
    part.settle(part.untouched())
    assert part.members.tolist() == [0]
