"""Searches that walk from region to region: the same answers as the complete map, from fewer regions."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
import torch
from torch import nn

from landscapes import Term, edge, hole, hourglass, islands, kink, landscape, slope
from sparing import sparing
from steadygaze.geometry.kinds import CLASS_CHANGED, ROBUST, UNDECIDED
from steadygaze.network.reading.load import load_network
from steadygaze.network.saliency import Gradient
from steadygaze.perturbation import Chain, Direction
from steadygaze.question.inconsistency import Cosine
from steadygaze.question.posing import pose
from steadygaze.question.problem import Problem
from steadygaze.search.base import CellMap, Enclosed, Options
from steadygaze.search.boundary import Boundary, is_closed
from steadygaze.search.breadth_first import BreadthFirst
from steadygaze.search.nearest import Nearest
from steadygaze.verdict.reading import around_origin, failures_by_distance, safe_scale, shares_of
from variants import EVERY, FOLLOWED, Variant, searched, swept

# Where maps move, curved boundaries are closed in to this share of what they cross, batch by batch.
CURVED = 1e-4
LANDSCAPES = {
    "hole": hole((0.5, 0.1), 0.2),
    "hole on the ray": hole((0.1, 0.45), 0.15),
    "hole off all lines": hole((-0.5, 0.5), 0.2),
    "hole in space": hole((0.4, 0.1, 0.05), 0.3),
    "hole in space, off all lines": hole((-0.5, 0.5, 0.4), 0.2),
    "islands": islands(2),
    "islands in space": islands(3),
    "slope": slope(2),
    "slope in space": slope(3),
    "kink": kink(2),
    "kink in space": kink(3),
    "kink in four": kink(4),
    "edge": edge(2),
    "edge in space": edge(3),
    "line": hole((0.5,), 0.2),
    "hourglass": hourglass(2),
    "hourglass in space": hourglass(3),
}


def tolerance_of(variant: Variant) -> float:
    return CURVED if variant in FOLLOWED else 1e-9


def robust_share(map_: CellMap, problem: Problem) -> float:
    return float(map_.volume[map_.kind == ROBUST].sum()) / problem.volume


def enclosed_by(problem: Problem, **options: bool) -> tuple[Enclosed, Boundary]:
    search = searched(Boundary(problem, Options(**options)))
    found = search.enclosed()
    assert found is not None
    return found, search


@pytest.mark.parametrize("variant", sparing(EVERY))
def test_breadth_first_finds_the_whole_map(variant):
    problem, close = variant.problem, tolerance_of(variant)
    map_ = searched(BreadthFirst(problem, Options())).found()
    np.testing.assert_array_equal(np.sort(map_.pattern), np.sort(variant.map.pattern))
    assert map_.rest == 0
    assert abs(map_.volume.sum() - problem.volume) <= 1e-9 * problem.volume
    for found, wanted in zip(shares_of(map_).values(), shares_of(variant.map).values(), strict=True):
        assert found == pytest.approx(wanted, abs=close)
    mine, theirs = (around_origin(m, problem.box, problem.tolerance).origin for m in (map_, variant.map))
    assert mine.share == pytest.approx(theirs.share, abs=close)
    assert np.allclose(mine.ranges, theirs.ranges, atol=10 * close)
    assert safe_scale(map_, problem.box) == pytest.approx(safe_scale(variant.map, problem.box), abs=close)


@pytest.mark.parametrize("variant", sparing(EVERY))
def test_nearest_finds_the_nearest_failure_and_the_safe_scale(variant):
    problem, close = variant.problem, tolerance_of(variant)
    search = searched(Nearest(problem, Options()))
    map_, wanted = search.found(), next(failures_by_distance(variant.map, problem.box), None)
    found = next(failures_by_distance(map_, problem.box), None)
    assert (found is None) == (wanted is None)
    if found is not None and wanted is not None:
        assert found.distance == pytest.approx(wanted.distance, abs=10 * close)
        assert search.standing().radius <= found.distance + 1e-12
    assert safe_scale(map_, problem.box) == pytest.approx(
        safe_scale(variant.map, problem.box), abs=10 * close
    )
    assert len(map_.pattern) <= len(variant.map.pattern)


@pytest.mark.parametrize("variant", sparing([v for v in EVERY if v not in FOLLOWED]))
def test_nearest_by_euclidean_distance(variant):
    problem = variant.problem
    map_ = searched(Nearest(problem, Options(norm="l2"))).found()
    found = next(failures_by_distance(map_, problem.box, "l2"), None)
    wanted = next(failures_by_distance(variant.map, problem.box, "l2"), None)
    assert (found is None) == (wanted is None)
    assert found is None or wanted is None or found.distance == pytest.approx(wanted.distance, abs=1e-9)


@pytest.mark.parametrize("variant", sparing(EVERY))
def test_the_boundary_is_that_of_the_complete_map(variant):
    assert_that_of_the_complete_map(variant, examine=False)


@pytest.mark.parametrize("variant", sparing(EVERY, 3, first=2))
def test_so_it_is_with_the_inside(variant):
    assert_that_of_the_complete_map(variant, examine=True)


def assert_that_of_the_complete_map(variant: Variant, examine: bool) -> None:
    problem, close = variant.problem, 10 * tolerance_of(variant)
    wanted = around_origin(variant.map, problem.box, problem.tolerance).origin
    found, search = enclosed_by(problem, examine=examine)
    holes = sum(shapely.Polygon(ring).area for ring in wanted.holes or ()) / problem.volume
    assert found.share == pytest.approx(wanted.share + (0 if found.examined else holes), abs=close)
    assert np.allclose(found.ranges, wanted.ranges, atol=close)
    assert found.examined or not examine
    assert search.standing().regions <= len(variant.map.pattern)
    if wanted.outer_boundary:
        mine, theirs = shapely.Polygon(found.outline), shapely.Polygon(wanted.outer_boundary)
        assert mine.symmetric_difference(theirs).area <= close * problem.volume
    if wanted.share and variant not in FOLLOWED:
        assert is_closed(search._outer, np.ptp(problem.box, axis=1))


@pytest.mark.parametrize("name", LANDSCAPES)
def test_shapes_that_searches_must_meet(name):
    problem = LANDSCAPES[name]
    whole = swept(problem)
    wanted = around_origin(whole, problem.box, problem.tolerance).origin
    n = len(problem.box)
    hollow = 1 - robust_share(whole, problem) if "hole" in name else 0.0
    outer, _ = enclosed_by(problem)
    full, _ = enclosed_by(problem, examine=True)
    assert outer.share == pytest.approx(wanted.share + (0 if outer.examined else hollow))
    assert full.share == pytest.approx(wanted.share)
    assert full.examined
    assert np.allclose(outer.ranges, wanted.ranges)
    assert np.allclose(full.ranges, wanted.ranges)
    reached = searched(Boundary(problem, Options(), outward=True))
    assert reached.name == "bfs"
    assert reached.enclosed().share == pytest.approx(wanted.share)
    map_ = searched(BreadthFirst(problem, Options())).found()
    assert robust_share(map_, problem) == pytest.approx(robust_share(whole, problem))
    near = searched(Nearest(problem, Options())).found()
    assert safe_scale(near, problem.box) == pytest.approx(safe_scale(whole, problem.box))
    if n == 2:
        assert len(full.holes) == len(wanted.holes)
        mine, theirs = shapely.Polygon(outer.outline), shapely.Polygon(wanted.outer_boundary)
        assert mine.symmetric_difference(theirs).area <= 1e-9


@pytest.mark.parametrize("name", ["slope", "kink in space", "edge", "hole off all lines"])
def test_an_inside_that_the_way_has_filled_is_examined(name):
    """Then all of it is known, and so are the safe scale and that no hole is left; else nothing is said."""
    found, search = enclosed_by(LANDSCAPES[name])
    assert found.examined == ("hole" not in name)
    assert not found.examined or not len(search._part.untouched())
    assert found.holes == (() if found.examined and len(LANDSCAPES[name].box) == 2 else None)


def test_a_hole_on_the_ray_is_gone_round():
    """Between 0 and the outer boundary the ray meets a hole; what is followed first is that hole."""
    problem = hole((0.2, 0.2), 0.19)
    found, search = enclosed_by(problem)
    assert not found.examined
    assert found.share == pytest.approx(1.0)
    assert search._others is not None
    assert search._others.cells.count >= 4


def test_an_undecided_origin_has_no_part():
    """0 lies on the class boundary itself: nothing is robust there from all sides."""
    problem = landscape([Term((1.0, 0.0), 10.0)], -10.0 + 1e-13, [(-1.0, 1.0), (-1.0, 1.0)])
    found, _ = enclosed_by(problem)
    assert found.share == 0
    assert found.examined


def test_a_stopped_search_covers_only_what_it_has_seen():
    variant = next(v for v in EVERY if str(v) == "residual, spot")
    search = BreadthFirst(variant.problem, Options())
    for _ in range(3):
        search.step()
    map_ = search.found()
    search.close()
    assert 0 < len(map_.pattern) < len(variant.map.pattern)
    assert map_.rest > 0
    assert map_.volume.sum() + map_.rest == pytest.approx(variant.problem.volume)
    assert safe_scale(map_, variant.problem.box) <= safe_scale(variant.map, variant.problem.box) + 1e-12
    flat = (map_.kind == UNDECIDED) & (map_.volume == 0)
    assert flat.any(), "what is not known begins behind flat cells"


def test_nearest_stops_near():
    """The anytime radius grows, is never too large, and ends at the nearest failure."""
    variant = next(v for v in EVERY if str(v) == "residual, spot")
    wanted = next(failures_by_distance(variant.map, variant.problem.box)).distance
    search, radii = Nearest(variant.problem, Options()), [0.0]
    while search.pending():
        search.step()
        radii.append(search.standing().radius)
    search.close()
    assert radii == sorted(radii)
    assert radii[-1] == pytest.approx(wanted)
    assert search.standing().regions < len(variant.map.pattern)


@pytest.mark.parametrize("seed", range(4))
def test_five_parameters(seed):
    rng = np.random.default_rng(seed)
    terms = [
        Term(tuple(rng.normal(size=5)), float(rng.normal(0.3, 0.5)), float(rng.choice([-1, 1])))
        for _ in range(7)
    ]
    at_zero = sum(t.factor * max(0.0, t.bias) for t in terms)
    problem = landscape(terms, 0.4 - at_zero, [(-0.5, 0.5)] * 5)
    whole, map_ = swept(problem), searched(BreadthFirst(problem, Options())).found()
    np.testing.assert_array_equal(np.sort(map_.pattern), np.sort(whole.pattern))
    assert robust_share(map_, problem) == pytest.approx(robust_share(whole, problem))
    wanted = around_origin(whole, problem.box, problem.tolerance).origin
    assert enclosed_by(problem, examine=True)[0].share == pytest.approx(wanted.share)
    near = searched(Nearest(problem, Options())).found()
    assert safe_scale(near, problem.box) == pytest.approx(safe_scale(whole, problem.box))
    thetas = rng.uniform(-0.5, 0.5, (2000, 5))
    points = problem.at(thetas)
    share = float((points.kind == ROBUST).mean())
    assert abs(share - robust_share(whole, problem)) < 5 * np.sqrt(0.25 / 2000)
    assert (points.kind == CLASS_CHANGED).any() == (robust_share(whole, problem) < 1)


def rivals() -> Problem:
    """One window of four pixels, of which the first and the third overtake the second at the same time.

    The number of the winner then changes by 0 - 1 and by 2 - 1, which is nothing in all.
    """
    rise = np.array([[[1.0, 0.0], [1.0, 0.0]]])
    module = nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1, 2)).double()
    with torch.no_grad():
        module[2].weight[:] = torch.tensor([[1.0], [2.0]])
        module[2].bias[:] = torch.tensor([0.8, 0.0])
    return pose(
        load_network(module, input_shape=(1, 2, 2)),
        np.array([[[0.3, 0.6], [0.3, 0.0]]]),
        Chain(Direction(0.0, 1.0, array=rise)),
        label=None,
        saliency=Gradient(),
        inconsistency=Cosine(),
        threshold=2.0,
        clip=None,
    )


def test_two_inputs_of_a_window_that_overtake_the_winner_together():
    problem = rivals()
    map_ = searched(BreadthFirst(problem, Options())).found()
    np.testing.assert_array_equal(np.sort(map_.pattern), np.sort(swept(problem).pattern))
    assert map_.rest == 0
    near = searched(Nearest(problem, Options())).found()
    assert safe_scale(near, problem.box) == pytest.approx(0.5)
    assert enclosed_by(problem)[0].ranges[0, 1] == pytest.approx(0.5)
