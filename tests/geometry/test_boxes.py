"""Boxes that hold points, against looking at every box."""

from __future__ import annotations

import numpy as np
import pytest

from steadygaze.geometry.boxes import BoxTree


def boxes(n, count, seed):
    """Boxes of very different sizes, some without extent, some all over the place."""
    rng = np.random.default_rng(seed)
    middle, size = rng.random((count, n)), rng.random((count, n)) ** 6
    size[rng.random((count, n)) < 0.1] = 0.0
    return middle - size / 2, middle + size / 2


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("count", [1, 8, 9, 500])
def test_all_boxes_of_other_groups_that_hold_a_point_are_found(n, count):
    low, high = boxes(n, count, 0)
    rng = np.random.default_rng(1)
    points = np.concatenate([rng.random((60, n)), low[:20], high[:20]])  # borders are included
    group, own = rng.integers(0, 3, count), rng.integers(0, 3, len(points))
    tree = BoxTree(low, high)
    tree.grouped(group)
    holds = ((low <= points[:, None]) & (points[:, None] <= high)).all(axis=2) & (group != own[:, None])
    found = np.zeros((len(points), count), int)
    np.add.at(found, tree.holding(points, own), 1)
    assert np.array_equal(found, holds)
    assert np.array_equal(tree.count(points, own), holds.sum(axis=1))


def test_groups_can_change():
    low, high = boxes(3, 200, 2)
    tree, points = BoxTree(low, high), (low + high) / 2
    tree.grouped(np.arange(200))
    assert tree.count(points, np.full(200, 200)).min() >= 1
    tree.grouped(np.zeros(200, int))
    assert not tree.count(points, np.zeros(200, int)).any()
