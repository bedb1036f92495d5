"""Polytopes clipped by hinges, nearest first: the volume and facets that Qhull finds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.spatial import HalfspaceIntersection

from oracles import hull_volume
from steadygaze.geometry.cells import from_polytopes
from steadygaze.geometry.clipping import clip, coincident, reaching_past
from steadygaze.geometry.measure import facets, volumes
from steadygaze.geometry.polytope import box


def clipped(n, points, value, slope, tolerance=1e-11):
    start = from_polytopes((box(-np.ones(n), np.ones(n)),))
    return clip(start, points, value, slope, np.full((1, value.shape[1]), tolerance))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_volumes_and_facets_are_those_of_the_half_spaces(n):
    rng = np.random.default_rng(n)
    count, hinges = 20, 40
    points = rng.uniform(-0.5, 0.5, (count, n))
    slope = rng.normal(size=(count, n, hinges))
    value = rng.exponential(0.5, (count, hinges))
    made = clipped(n, points, value, slope)
    assert made.row.tolist() == list(range(count))
    found = facets(made.cells)
    for k in range(count):
        walls = np.concatenate([np.eye(n), -np.eye(n), -slope[k].T])
        limits = np.concatenate([np.ones(2 * n), value[k] - points[k] @ slope[k]])
        if n == 1:
            ends = limits / walls[:, 0]
            wanted = ends[walls[:, 0] > 0].min() - ends[walls[:, 0] < 0].max()
            corners = 2
        else:
            cut = HalfspaceIntersection(np.hstack([walls, -limits[:, None]]), points[k])
            wanted = hull_volume(cut.intersections)
            corners = len(np.unique(cut.intersections.round(9), axis=0))
        assert volumes(made.cells)[k] == pytest.approx(wanted, rel=1e-9)
        assert np.diff(made.cells.ptr)[k] == corners
        for bit in found.bit[found.cell == k]:
            label = made.label[k, bit]
            assert label < 0 or touches(walls, limits, 2 * n + label), "a label that marks no facet"


def touches(walls: np.ndarray, limits: np.ndarray, wall: int) -> bool:
    """Whether a point that satisfies all others strictly can violate this half-space: a linear program."""
    others = np.delete(np.arange(len(limits)), wall)
    found = linprog(-walls[wall], walls[others], limits[others], bounds=(None, None))
    return bool(found.status == 0 and -found.fun > limits[wall] - 1e-9)


def test_coincident_hinges_and_hinges_that_only_touch():
    """Five copies of one hinge, one at a corner of the box, one that is 0 everywhere."""
    slope = np.array([[[1.0, 2.0, -0.5, 1.0, 1.0, -1.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0]]])
    value = np.array([[0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0]])
    value[0, 2], slope[0, 0, 2] = 0.0, 0.5
    made = clipped(2, np.zeros((1, 2)), value, slope)
    assert volumes(made.cells) == pytest.approx([2.0])
    found = facets(made.cells)
    assert len(found.bit) == 4
    mine = [k for k in range(4) if made.label[0, found.bit[k]] >= 0]
    assert len(mine) == 1
    ones = np.uint64(1) << np.arange(7, dtype=np.uint64)[None]
    for windows, several in (
        ([-1] * 7, False),
        ([-1, -1, 0, 1, 1, 1, 1], True),
        ([0, 0, 1, 1, 2, 2, 2], True),
        ([-1, -1, -1, -1, 0, 0, 0], False),
    ):
        together, rivals = coincident(
            made.cells, found.cell[mine], found.bit[mine], np.zeros((1, 2)), value, slope,
            np.full((1, 7), 1e-11), ones, np.array(windows),
        )  # fmt: skip
        assert int(together[0]) == 0b0011111, "five copies cross together; what is 0 on all of it does not"
        assert rivals.tolist() == [several], "two of one window do not both win"


def test_what_is_thinner_than_the_tolerance_is_left_out():
    slope = np.array([[[1.0, -1.0], [0.0, 0.0]], [[1.0, -1.0], [0.0, 0.0]]])
    value = np.array([[0.0, 1e-13], [0.0, 0.5]])
    made = clipped(2, np.zeros((2, 2)), value, slope)
    assert made.row.tolist() == [1]
    assert volumes(made.cells) == pytest.approx([1.0])


def test_many_facets_need_more_bits_and_more_room():
    """A polygon with 300 sides, and one in four parameters with 90 facets."""
    angle = 2 * np.pi * np.arange(300) / 300
    slope = -np.stack([np.cos(angle), np.sin(angle)])[None]
    made = clipped(2, np.zeros((1, 2)), np.full((1, 300), 0.9), slope)
    assert len(facets(made.cells).bit) == 300
    assert volumes(made.cells)[0] == pytest.approx(300 * 0.81 * np.tan(np.pi / 300))
    rng = np.random.default_rng(0)
    ball = rng.normal(size=(4, 90))
    ball /= np.linalg.norm(ball, axis=0)
    made = clipped(4, np.zeros((1, 4)), np.full((1, 90), 0.7), -ball[None])
    assert len(facets(made.cells).bit) >= 90


@pytest.mark.parametrize(
    ("value", "slope", "past"),
    [
        (1.0, -1.0, False),
        (0.99, -1.0, True),
        (1.0 - 1e-10, -1.0, False),
        (0.0, -1e-7, False),
        (0.0, 1e-3, False),
    ],
)
def test_cells_that_reach_past_a_hinge_by_more_than_a_sliver(value, slope, past):
    segment = from_polytopes((box(np.zeros(1), np.ones(1)),))
    hinge = np.array([[value]]), np.array([[[slope]]])
    level = np.full((1, 1), 1e-6)
    assert reaching_past(segment, np.zeros((1, 1)), *hinge, level).tolist() == [past]
