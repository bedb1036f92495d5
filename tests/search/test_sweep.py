"""The sweep's map of every kind of small problem: no gaps, no overlaps, right at every point, and stable."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from oracles import corners_of, gradients_of, hull_volume, logits_of
from steadygaze.geometry.kinds import ATTENTION_CHANGED, CLASS_CHANGED, ROBUST, UNDECIDED
from steadygaze.geometry.measure import facets
from steadygaze.search import sweep as sweep_module
from steadygaze.search.base import CellMap, Options
from steadygaze.search.sweep import Sweep
from variants import EVERY, FEW, SHAPES, VARIANTS, Variant, mismatches, swept, with_tolerance

every = pytest.mark.parametrize("variant", EVERY, ids=str)
constant_maps = pytest.mark.parametrize("variant", VARIANTS, ids=str)
few = pytest.mark.parametrize("variant", FEW, ids=str)


def summary(map_: CellMap) -> list[tuple[int, int, float]]:
    """Kind, region's name and volume of all cells, whatever their order."""
    names = np.append(map_.pattern, np.uint64(0))[map_.region]
    rows = zip(map_.kind.tolist(), names.tolist(), map_.volume.tolist(), strict=True)
    return sorted(rows, key=lambda row: (row[0], row[1], round(row[2], 12)))


def assert_same(one: CellMap, other: CellMap) -> None:
    first, second = summary(one), summary(other)
    assert [row[:2] for row in first] == [row[:2] for row in second]
    np.testing.assert_allclose([row[2] for row in first], [row[2] for row in second], rtol=1e-9, atol=1e-12)


@every
def test_cells_tile_the_box(variant):
    map_, box = variant.map, variant.perturbation.box
    assert map_.volume.sum() == pytest.approx(np.prod(box[:, 1] - box[:, 0]), rel=1e-9)
    assert (map_.volume > 0).all()
    some = np.arange(0, map_.cells.count, 1 + map_.cells.count // 300)
    cells = map_.cells.take(some)[0]
    slack = 1e-9 * (box[:, 1] - box[:, 0])
    assert (cells.theta >= box[:, 0] - slack).all()
    assert (cells.theta <= box[:, 1] + slack).all()
    hulls = [hull_volume(own) for own in corners_of(cells)]
    np.testing.assert_allclose(map_.volume[some], hulls, rtol=1e-6, atol=1e-11 * map_.volume.sum())


@constant_maps
def test_robust_cells_end_where_robustness_does(variant):
    """A facet that only one robust cell has lies on the wall of the box, or what fails begins there."""
    map_, box = variant.map, variant.perturbation.box
    cells, _ = map_.cells.take(np.flatnonzero(map_.kind == ROBUST))
    found, where = facets(cells), corners_of(cells)
    _, number, counts = np.unique(found.key, return_inverse=True, return_counts=True)
    assert set(counts) <= {1, 2}
    beyond = []
    for k in np.flatnonzero(counts[number] == 1):
        cell, bit = found.cell[k], int(found.bit[k])
        span = slice(cells.ptr[cell], cells.ptr[cell + 1])
        carries = (cells.mask[span, bit // 64] >> np.uint64(bit % 64)) & np.uint64(1) > 0
        own, middle = where[cell], where[cell][carries].mean(axis=0)
        beyond.append(middle + 1e-7 * (middle - own.mean(axis=0)))
    outside = np.array([((theta < box[:, 0]) | (theta > box[:, 1])).any() for theta in beyond], bool)
    inside = np.array(beyond).reshape(-1, len(box))[~outside]
    if len(inside):
        assert (variant.sampled(inside).kind != ROBUST).all()


@constant_maps
def test_no_pattern_occurs_twice(variant):
    assert len(np.unique(variant.map.pattern)) == len(variant.map.pattern)


@every
def test_sampled_patterns_are_known(variant):
    problem, thetas = variant.problem, variant.draw(2000, seed=3)
    names = problem.stages.pattern_names_at(problem.unclipped(thetas))
    assert np.isin(names, variant.map.pattern).all()


@every
def test_the_map_says_what_the_network_does(variant):
    map_ = variant.map
    wrong, decided = mismatches(variant, map_, variant.draw(150, seed=4))
    assert not wrong
    undecided = map_.volume[map_.kind == UNDECIDED].sum() / map_.volume.sum()
    assert decided >= 150 * (1 - undecided) - 10


@constant_maps
def test_regions_are_affine_and_their_maps_constant(variant):
    map_, module = variant.map, variant.module
    some = np.arange(0, map_.cells.count, 1 + map_.cells.count // 200)
    cells = map_.cells.take(some)[0]
    corners = corners_of(cells)
    at_corners = [logits_of(module, variant.images(own)) for own in corners]
    weights = [np.random.default_rng(p).dirichlet(np.ones(len(own))) for p, own in enumerate(corners)]
    points = np.stack([w @ own for w, own in zip(weights, corners, strict=True)])
    expected = np.stack([w @ values for w, values in zip(weights, at_corners, strict=True)])
    np.testing.assert_allclose(logits_of(module, variant.images(points)), expected, rtol=1e-9, atol=1e-9)
    plain = variant.sampled(points)
    told = map_.inconsistency[map_.region[some]]
    wide = ~np.isnan(told) & (map_.volume[some] > 1e-9 * map_.volume.sum())
    np.testing.assert_allclose(told[wide], plain.inconsistency[wide], atol=1e-9)


@constant_maps
def test_cells_of_one_region_lie_in_it(variant):
    map_ = variant.map
    middles = np.stack([own.mean(axis=0) for own in corners_of(map_.cells)])
    wide = map_.volume > 1e-9 * map_.volume.sum()
    names = variant.problem.stages.pattern_names_at(variant.problem.unclipped(middles[wide]))
    np.testing.assert_array_equal(names, map_.pattern[map_.region[wide]])
    assert set(map_.region) == set(range(len(map_.pattern)))


@every
def test_kinds_are_right_at_the_corners_of_cells(variant):
    """Of robust cells no corner fails, of class-changed ones none keeps the class, up to rounding."""
    map_ = variant.map
    some = np.flatnonzero(map_.kind == ROBUST)[:200]
    for own in corners_of(map_.cells.take(some)[0]) if len(some) else ():
        assert (variant.sampled(own).gap >= -1e-8).all()
    some = np.flatnonzero(map_.kind == CLASS_CHANGED)[:200]
    for own in corners_of(map_.cells.take(some)[0]) if len(some) else ():
        assert (variant.sampled(own).gap <= 1e-8).all()


@few
def test_threads_change_nothing_at_all(variant):
    one, two = swept(variant.problem, threads=1, memory=1), swept(variant.problem, threads=2, memory=1)
    for name in ("kind", "region", "volume", "inconsistency", "pattern"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    np.testing.assert_array_equal(one.cells.theta, two.cells.theta)
    np.testing.assert_array_equal(one.cells.names, two.cells.names)


@pytest.mark.parametrize(
    "variant",
    [*FEW[:-1], Variant("max pool", "three", clip=None), Variant("mlp", "four", clip=None)],
    ids=str,
)
@pytest.mark.parametrize("memory", [1, 4 << 20])
def test_the_memory_budget_changes_no_cell(variant, memory):
    assert_same(swept(variant.problem, threads=2, memory=memory), variant.map)


@few
def test_which_batch_comes_next_changes_nothing_at_all(variant, monkeypatch):
    """Of this little memory none is for batches that wait: those that have come farthest come first."""
    farthest_first = swept(variant.problem, memory=1)
    monkeypatch.setattr(sweep_module, "_WAITING", 1e-30)
    last_first = swept(variant.problem, memory=1)
    for name in ("kind", "region", "volume", "inconsistency", "pattern"):
        np.testing.assert_array_equal(getattr(farthest_first, name), getattr(last_first, name))
    np.testing.assert_array_equal(farthest_first.cells.theta, last_first.cells.theta)


def test_memory_of_waiting_batches_is_given_back():
    search = Sweep(Variant("max pool", "three", clip=None).problem, Options(memory=1 << 20))
    most = 0
    while search.pending():
        search.step()
        assert search._held == sum(batch.bytes for batch in search._waiting)
        most = max(most, search._held)
    search.close()
    assert most > 0
    assert search._held == 0


def test_tiny_budgets_break_cutting_off(monkeypatch):
    broken = []
    whole = Sweep._later
    monkeypatch.setattr(Sweep, "_later", lambda self, *rest: broken.append(1) or whole(self, *rest))
    variant = Variant("max pool", "three", clip=None)
    assert_same(swept(variant.problem, memory=1), variant.map)
    assert broken, "the case is too small to show anything"


@constant_maps
@pytest.mark.parametrize("factor", [pytest.param(0.01, marks=pytest.mark.slow), 100.0])
def test_tolerances_do_not_matter(variant, factor):
    other = with_tolerance(variant, factor).map
    assert len(other.pattern) == len(variant.map.pattern)
    np.testing.assert_array_equal(np.sort(other.pattern), np.sort(variant.map.pattern))
    for kind in (ROBUST, CLASS_CHANGED, ATTENTION_CHANGED, UNDECIDED):
        share, usual = (m.volume[m.kind == kind].sum() / m.volume.sum() for m in (other, variant.map))
        assert share == pytest.approx(usual, abs=1e-8)


def test_the_variants_hold_all_kinds_in_good_measure():
    kinds = [set(variant.map.kind.tolist()) for variant in EVERY if variant not in SHAPES]
    assert sum({ROBUST, CLASS_CHANGED, ATTENTION_CHANGED} <= found for found in kinds) >= 12
    assert sum(len(found) >= 2 for found in kinds) >= len(kinds) - 4
    assert sum(len(variant.map.pattern) for variant in EVERY) > 5000


def test_a_stopped_sweep_still_covers_the_box():
    problem = Variant("residual", "spot").problem
    search = Sweep(problem, Options(memory=1, threads=2))
    for _ in range(12):
        search.step()
    search.close()
    standing, map_ = search.standing(), search.found()
    assert 0 < standing.finished < 1
    assert map_.volume.sum() == pytest.approx(problem.volume, rel=1e-9)
    undecided = map_.volume[map_.kind == UNDECIDED].sum() / problem.volume
    assert undecided == pytest.approx(1 - standing.finished, abs=1e-9)
    assert ((map_.region < 0) == (map_.kind == UNDECIDED)).all()
    assert standing.robust == pytest.approx(
        map_.volume[map_.kind == ROBUST].sum() / problem.volume, abs=1e-12
    )


def test_the_standing_counts_what_is_found():
    variant = Variant("max pool", "spot")
    search = Sweep(variant.problem, Options(memory=1, threads=1))
    shares = []
    while search.pending():
        search.step()
        shares.append(search.standing().finished)
    search.close()
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
    assert search.standing().regions == len(search.found().pattern) == len(variant.map.pattern)
    assert search.standing().bytes > 0


def test_the_network_handed_in_is_not_changed():
    variant = Variant("average pool", "contrast")
    before = {name: value.clone() for name, value in variant.module.state_dict().items()}
    image = variant.image.copy()
    assert swept(replace(variant).problem).cells.count
    assert all(torch.equal(value, before[name]) for name, value in variant.module.state_dict().items())
    np.testing.assert_array_equal(image, variant.image)


def test_gradients_of_the_oracle_are_those_of_finite_differences():
    # The judge is judged too: autograd of a module against differences, away from hinges.
    variant = Variant("max pool", "spot")
    image = variant.images(variant.draw(1, seed=9))
    gradient = gradients_of(variant.module, image, 1)[0]
    steps = 1e-6 * np.eye(36).reshape(36, 1, 6, 6)
    up, down = (logits_of(variant.module, image + sign * steps)[:, 1] for sign in (1, -1))
    np.testing.assert_allclose(gradient.ravel(), (up - down) / 2e-6, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_batch_that_nothing_is_beside_is_worked_on_where_it_is(monkeypatch, threads):
    advance, seen = Sweep._advance, []

    def noted(self, batch):
        seen.append((len(self._running), threading.current_thread() is threading.main_thread()))
        return advance(self, batch)

    monkeypatch.setattr(Sweep, "_advance", noted)
    swept(Variant("mlp", "spot", clip=None).problem, threads=threads)
    assert seen == [(0, True)]
    monkeypatch.setattr(sweep_module, "_CELLS", 8)
    seen.clear()
    swept(Variant("mlp", "spot", clip=None).problem, threads=threads)
    assert seen[0] == (0, True)
    assert all(here for _, here in seen) == (threads == 1)
