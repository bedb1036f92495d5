"""Regions on which the inconsistency varies: cells along curved boundaries are right up to their corners."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from oracles import corners_of
from steadygaze.kinds import ATTENTION_CHANGED, ROBUST, UNDECIDED
from variants import FOLLOWED

followed = pytest.mark.parametrize("variant", FOLLOWED, ids=str)


def points_of(map_, kind, count=400):
    """Just inside each corner, and the middle, of the smallest cells of a kind that rounding spares."""
    some = np.flatnonzero((map_.kind == kind) & (map_.volume > 1e-10 * map_.volume.sum()))
    some = some[np.argsort(map_.volume[some])][:count]
    if not len(some):
        return np.zeros((0, map_.cells.dimension))
    corners = corners_of(map_.cells.take(some)[0])
    return np.concatenate([own + w * (own.mean(axis=0) - own) for own in corners for w in (1e-4, 1.0)])


@followed
def test_robust_cells_are_robust_up_to_their_corners(variant):
    points = points_of(variant.map, ROBUST)
    assert (variant.sampled(points).inconsistency <= variant.threshold + 1e-7).all()


@followed
def test_cells_whose_attention_changed_are_so_up_to_their_corners(variant):
    points = points_of(variant.map, ATTENTION_CHANGED)
    plain = variant.sampled(points)
    assert (plain.inconsistency >= variant.threshold - 1e-7).all()
    assert (plain.gap >= -1e-8).all()


@followed
def test_little_is_left_undecided(variant):
    map_ = variant.map
    undecided = map_.volume[map_.kind == UNDECIDED].sum()
    assert undecided <= 1.01 * variant.tolerance.remainder * map_.volume.sum()


def test_a_smaller_remainder_leaves_less_undecided():
    variant = FOLLOWED[3]
    coarse, fine = (
        replace(variant, tolerance=replace(variant.tolerance, remainder=remainder)).map
        for remainder in (1e-2, 1e-4)
    )
    left = [m.volume[m.kind == UNDECIDED].sum() / m.volume.sum() for m in (coarse, fine)]
    assert left[1] < left[0] <= 1e-2
    for kind in (ROBUST, ATTENTION_CHANGED):
        one, other = (m.volume[m.kind == kind].sum() / m.volume.sum() for m in (coarse, fine))
        assert one <= other + left[1]
        assert other <= one + left[0]
