"""What is read off a map, against fine grids of plain evaluations and against linear programs."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import count, pairwise

import numpy as np
import pytest
import shapely
from scipy.optimize import linprog

from oracles import connected_to, corners_of
from steadygaze.answer.result import Failure
from steadygaze.deadline import Deadline
from steadygaze.geometry.cells import from_polytopes
from steadygaze.geometry.kinds import ATTENTION_CHANGED, CLASS_CHANGED, ROBUST, UNDECIDED
from steadygaze.geometry.polytope import interval
from steadygaze.search.base import CellMap
from steadygaze.tolerance import Tolerance
from steadygaze.verdict.reading import (
    around_origin,
    cells_at,
    failures_by_distance,
    safe_ranges,
    safe_scale,
    scales_of,
    shares_of,
)
from variants import EVERY, Variant

SIZE = 60


def of_dimension(*wanted):
    return [variant for variant in EVERY if len(variant.perturbation.box) in wanted]


every = pytest.mark.parametrize("variant", EVERY, ids=str)
plane = pytest.mark.parametrize("variant", of_dimension(2), ids=str)


def around(variant):
    return around_origin(variant.map, variant.perturbation.box, variant.tolerance)


@every
def test_shares_are_those_of_samples(variant):
    shares = shares_of(variant.map)
    found = [shares.robust, shares.class_changed, shares.attention_changed]
    kinds = variant.sampled(variant.draw(400, seed=11)).kind
    sampled = [float((kinds == kind).mean()) for kind in range(3)]
    assert sum(found) + shares.undecided == pytest.approx(1.0, abs=1e-12)
    # Four standard deviations of the draw, and what is undecided.
    np.testing.assert_allclose(sampled, found, atol=4 * 0.5 / np.sqrt(400) + shares.undecided)


@every
def test_ranges_along_the_axes_end_where_robustness_does(variant):
    box, n = variant.perturbation.box, len(variant.perturbation.box)
    if not len(around(variant).cells):  # 0 itself is not robust from all sides
        assert all(min(-low, high) <= 1e-12 for low, high in safe_ranges(variant.map, box))
        return
    for axis, (low, high) in enumerate(safe_ranges(variant.map, box)):
        assert box[axis, 0] <= low <= 0 <= high <= box[axis, 1]
        inside = np.zeros((40, n))
        inside[:, axis] = low + (high - low) * (np.arange(40) + 0.5) / 40
        if high - low > 1e-6:
            assert (variant.sampled(inside).kind == ROBUST).all()
        step = 1e-4 * (box[axis, 1] - box[axis, 0])
        for end, edge, sign in ((low, box[axis, 0], -1), (high, box[axis, 1], 1)):
            if sign * (edge - end) > 2 * step and not has_undecided(variant):
                assert not all_robust_beyond(variant, axis, end, sign * step)


def all_robust_beyond(variant, axis, end, step):
    """Whether every one of many points just beyond the end of a range, and beside it, is robust."""
    n = len(variant.perturbation.box)
    points = np.zeros((200, n))
    spread = np.random.default_rng(1).uniform(-1, 1, points.shape) * abs(step) * 1e-3
    points[:, axis] = end + step * np.linspace(1e-6, 1, 200)
    box = variant.perturbation.box
    widths = (box[:, 1] - box[:, 0]) / (box[axis, 1] - box[axis, 0])
    points += np.where(np.arange(n) == axis, 0, spread * widths)
    return (variant.sampled(np.clip(points, box[:, 0], box[:, 1])).kind == ROBUST).all()


@every
def test_the_safe_scale_is_the_largest(variant):
    box, scale = variant.perturbation.box, safe_scale(variant.map, variant.perturbation.box)
    assert 0 <= scale <= 1
    if scale > 1e-6:
        inside = variant.draw(300, seed=12) * scale * (1 - 1e-9)
        assert (variant.sampled(inside).kind == ROBUST).all()
    blocked = variant.map.cells.take(np.flatnonzero(variant.map.kind != ROBUST))[0]
    if not blocked.count:
        assert scale == 1
        return
    assert scale == pytest.approx(min(1.0, reach_of(blocked, box)), abs=1e-8)


def reach_of(cells, box):
    """The smallest s with one of the cells in reach of s times the box, by linear programs."""
    corners = corners_of(cells)
    least = np.array([gauge(own, box).min() for own in corners])
    low, high = (np.array([f(own, axis=0) for own in corners]) for f in (np.min, np.max))
    reach = gauge(np.where(low > 0, low, np.where(high < 0, high, 0.0)), box)
    return min(nearest(corners[p], box) for p in np.flatnonzero(reach <= least.min()))


@every
def test_class_and_attention_have_scales_of_their_own(variant):
    box, map_ = variant.perturbation.box, variant.map
    safe = safe_scale(map_, box)
    scales = scales_of(map_, box, safe, None)

    def exact(*kinds):
        cells = map_.cells.take(np.flatnonzero(np.isin(map_.kind, kinds)))[0]
        return reach_of(cells, box) if cells.count else np.inf

    of_class, of_either = exact(CLASS_CHANGED), exact(CLASS_CHANGED, ATTENTION_CHANGED)
    expected = min(1.0, exact(CLASS_CHANGED, UNDECIDED)), of_class, safe, of_either
    found = (scales.class_holds, scales.class_fails, scales.attention_holds, scales.attention_fails)
    for one, other in zip(found, expected, strict=True):
        assert (np.inf if one is None else one) == pytest.approx(other, abs=1e-8)
    if scales.class_holds > 1e-6:
        inside = variant.draw(300, seed=13) * scales.class_holds * (1 - 1e-9)
        assert not (variant.sampled(inside).kind == CLASS_CHANGED).any()


def test_scales_of_what_was_not_examined_are_bounds():
    variant = next(one for one in EVERY if (one.map.kind == ATTENTION_CHANGED).any())
    box, safe = variant.perturbation.box, safe_scale(variant.map, variant.perturbation.box)
    partly = replace(variant.map, rest=1e-3)
    assert scales_of(partly, box, safe, None).class_holds == safe
    assert scales_of(partly, box, None, None).class_holds is None
    theta = tuple(box[:, 1] * 1e-3)
    failure = Failure(theta, "class-changed", 1e-3, -1.0, None, 1)
    scales = scales_of(variant.map, box, 0.0, failure)
    assert scales.class_fails == scales.attention_fails == pytest.approx(1e-3)


def gauge(points, box):
    """The smallest s with each point in s times the box."""
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(points > 0, points / box[:, 1], np.where(points < 0, points / box[:, 0], 0.0))
    return parts.max(axis=1)


def nearest(points, box):
    """The same for the hull of the points: a linear program over its weights."""
    m, n = points.shape
    rows = np.vstack([np.column_stack([points.T, -box[:, 1]]), np.column_stack([-points.T, box[:, 0]])])
    found = linprog(
        np.append(np.zeros(m), 1.0),
        A_ub=rows,
        b_ub=np.zeros(2 * n),
        A_eq=np.append(np.ones(m), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0, None)] * (m + 1),
        method="highs",
    )
    return found.fun if found.status == 0 else np.inf


@every
def test_failures_come_nearest_first(variant):
    box = variant.perturbation.box
    half = (box[:, 1] - box[:, 0]) / 2
    found = [failure for failure, _ in zip(failures_by_distance(variant.map, box), range(5), strict=False)]
    distances = [failure.distance for failure in found]
    assert distances == sorted(distances)
    assert len({failure.cell for failure in found}) == len(found)
    for failure in found:
        assert np.abs(failure.point / half).max() == pytest.approx(failure.distance, abs=1e-12)
        assert failure.cell in cells_at(variant.map, failure.point, variant.tolerance)
    if found:
        nearer = variant.draw(300, seed=13) / half
        nearer = nearer[np.abs(nearer).max(axis=1) < distances[0] - 1e-6] * half
        assert not len(nearer) or (variant.sampled(nearer).kind == ROBUST).all() or has_undecided(variant)


def has_undecided(variant):
    return bool((variant.map.kind == 3).any())


@every
def test_points_are_found_in_their_cells(variant):
    map_ = variant.map
    some = np.flatnonzero(map_.volume > 1e-7 * map_.volume.sum())[:60]
    for cell, own in zip(some, corners_of(map_.cells.take(some)[0]), strict=True):
        inside = cells_at(map_, own.mean(axis=0), variant.tolerance)
        assert cell in inside
        assert set(cells_at(map_, own[0], variant.tolerance)) >= {cell}


@plane
def test_the_part_around_the_origin_against_a_grid(variant):
    """Pixels of a fine grid, filled from 0 over robust pixels, cover the same share of the box."""
    found, box = around(variant), variant.perturbation.box
    centres, kinds, start = grid(variant)
    if kinds[start] != ROBUST or not len(found.cells):
        assert found.origin.share < 0.05
        return
    part = connected_to(kinds == ROBUST, start)
    # A way that is narrower than a pixel may be missed by the grid, never the other way round.
    border = boundary_share(kinds == ROBUST)
    assert part.mean() <= found.origin.share + border
    outline = shapely.Polygon(found.origin.outer_boundary, found.origin.holes)
    assert outline.is_valid
    area = np.prod(box[:, 1] - box[:, 0])
    assert outline.area / area == pytest.approx(found.origin.share, abs=1e-6)
    inside = shapely.contains_xy(outline, *centres.reshape(-1, 2).T).reshape(SIZE, SIZE)
    assert (kinds[inside] != ROBUST).mean() <= border
    assert (part & ~inside).mean() <= border


def grid(variant):
    """Centres of the pixels of the box, their kinds, and the pixel nearest to 0."""
    box = variant.perturbation.box
    axes = [low + (high - low) * (np.arange(SIZE) + 0.5) / SIZE for low, high in box]
    centres = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    kinds = variant.sampled(centres.reshape(-1, 2)).kind.reshape(SIZE, SIZE)
    return centres, kinds, tuple(int(np.abs(axis).argmin()) for axis in axes)


def boundary_share(mask):
    """Share of the pixels that have a neighbour of the other kind, and some more."""
    edges = (mask[1:] != mask[:-1]).sum() + (mask[:, 1:] != mask[:, :-1]).sum()
    return (edges + 4) / mask.size


@every
def test_the_part_around_the_origin_is_robust_and_holds_it(variant):
    found = around(variant)
    assert (variant.map.kind[found.cells] == ROBUST).all()
    shares = shares_of(variant.map)
    assert found.origin.share <= shares.robust + 1e-12
    assert found.origin.share == pytest.approx(
        variant.map.volume[found.cells].sum() / variant.map.volume.sum()
    )
    origin = cells_at(variant.map, np.zeros(len(variant.perturbation.box)), variant.tolerance)
    assert len(origin)
    robust_there = (variant.map.kind[origin] == ROBUST).all()
    assert set(origin) <= set(found.cells) if robust_there else not len(found.cells)


@plane
def test_what_time_does_not_reach_of_the_part_around_the_origin_is_not_told(variant):
    """However often the clock is asked before it ends: what is told is what all the time would tell."""
    loose, whole = replace(variant.map, conforming=False), None
    for asks in (*range(40), math.inf):
        ends = Deadline(ends=asks + 0.5, clock=count(1).__next__)
        found = around_origin(loose, variant.perturbation.box, variant.tolerance, ends).origin
        whole = whole or around_origin(loose, variant.perturbation.box, variant.tolerance).origin
        if found is None or found == whole:
            continue
        assert found.ranges == whole.ranges
        assert found.outer_boundary is found.holes is None
        assert found.share in (None, whole.share)
    assert found == whole


@pytest.mark.parametrize("variant", of_dimension(1), ids=str)
def test_on_a_line_the_part_around_the_origin_is_the_safe_range(variant):
    found, box = around(variant), variant.perturbation.box
    ((low, high),) = found.origin.ranges
    assert found.origin.share == pytest.approx((high - low) / (box[0, 1] - box[0, 0]), abs=1e-9)


def test_enough_of_it_is_not_trivial():
    shares = [around(variant).origin.share for variant in EVERY]
    assert sum(0.01 < share < 0.99 for share in shares) > len(EVERY) / 2


@pytest.mark.parametrize("clip", [None, (0.0, 1.0)])
def test_a_box_that_is_robust_all_over(clip):
    variant = Variant("dead layer", "spot", clip=clip, threshold=2.0)
    if set(variant.map.kind) != {ROBUST}:
        pytest.fail("the case is meant to be robust")
    found, box = around(variant), variant.perturbation.box
    assert found.origin.share == pytest.approx(1.0)
    assert found.origin.ranges == tuple((low, high) for low, high in box)
    outline = shapely.Polygon(found.origin.outer_boundary)
    assert outline.symmetric_difference(shapely.box(*box[:, 0], *box[:, 1])).area == pytest.approx(
        0, abs=1e-12
    )
    assert found.origin.holes == ()
    assert safe_scale(variant.map, box) == 1.0
    assert list(failures_by_distance(variant.map, box)) == []


def line(*kinds_and_ends):
    """A map of [-1, 1] from (kind, upper end) of each cell in order."""
    ends = [-1.0, *(end for _, end in kinds_and_ends)]
    cells = from_polytopes(tuple(interval(a, b) for a, b in pairwise(ends)))
    count = cells.count
    return CellMap(
        cells=cells,
        kind=np.array([kind for kind, _ in kinds_and_ends], np.int8),
        region=np.arange(count),
        volume=np.diff(ends),
        inconsistency=np.zeros(count),
        pattern=np.arange(count, dtype=np.uint64),
    )


@pytest.mark.parametrize(
    ("map_", "low", "high", "scale"),
    [
        (line((1, -0.5), (0, 0.25), (2, 1.0)), -0.5, 0.25, 0.25),
        (line((2, -0.5), (0, -0.1), (0, 0.7), (0, 1.0)), -0.5, 1.0, 0.5),
        (line((0, -0.2), (2, 0.3), (0, 1.0)), 0.0, 0.0, 0.0),
        (line((0, -0.2), (0, 0.0), (3, 0.3), (0, 1.0)), 0.0, 0.0, 0.0),
        (line((0, 0.4), (1, 0.6), (0, 1.0)), -1.0, 0.4, 0.4),
        (line((0, -0.9), (0, 1.0)), -1.0, 1.0, 1.0),
    ],
    ids=range(6),
)
def test_maps_whose_ranges_are_plain_to_see(map_, low, high, scale):
    box = np.array([[-1.0, 1.0]])
    assert safe_ranges(map_, box) == ((low, high),)
    assert safe_scale(map_, box) == scale
    assert around_origin(map_, box, Tolerance()).origin.share == pytest.approx((high - low) / 2)


def test_no_range_is_safe_where_rounding_alone_keeps_a_failure_off_the_origin():
    box = np.array([[-1.0, 1.0]])
    map_ = line((0, 3e-17), (2, 0.3), (0, 1.0))
    assert around_origin(map_, box, Tolerance()).origin.ranges == ((0.0, 0.0),)
