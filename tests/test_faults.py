"""Planted faults: each is caught by the driver's checks, by its audit, or by a battery of the variants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from covering import check_cover
from planting import gaps_with, posed
from steadygaze.answer.result import Verdict
from steadygaze.errors import InternalCheckError
from steadygaze.geometry.cells import concatenate
from steadygaze.geometry.kinds import ATTENTION_CHANGED, CLASS_CHANGED, ROBUST
from steadygaze.geometry.measure import facets, volumes
from steadygaze.network.regions.piecewise import Stages
from steadygaze.question import learning
from steadygaze.question.problem import Problem
from steadygaze.search import following, judging, sweep
from steadygaze.search.base import CellMap
from steadygaze.search.sweep import Sweep
from steadygaze.verdict.checks import audit
from steadygaze.verdict.driver import solve
from steadygaze.verdict.reading import failures_by_distance
from steadygaze.verdict.witness import find_witness
from variants import Variant, mismatches, swept

MIXED = Variant("mlp", "spot", clip=None)
POOLED = Variant("max pool", "spot", clip=None)
MOVED = Variant("mlp", "shift, brighter")
AUDITED = 300


def assert_withheld(variant: Variant, audited: int = 0) -> None:
    with pytest.raises(InternalCheckError):
        solve(posed(variant), audit_points=audited, threads=1)


@pytest.mark.parametrize("variant", [MIXED, POOLED, MOVED], ids=str)
def test_without_a_fault_nothing_is_withheld(variant):
    answer = solve(posed(variant), audit_points=AUDITED, threads=1)
    assert answer.verdict is Verdict.VIOLATED
    assert answer.result.settings["audited"] > 0.9 * AUDITED
    assert not mismatches(variant, answer.map, variant.draw(AUDITED))[0]


# -- faults that the cover check alone must catch


def wrap(monkeypatch, owner, name: str, change: Callable) -> None:
    """Let `change` have the original's result, and return what takes its place."""
    whole = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args, **kwargs: change(whole(*args, **kwargs)))


def without_one(made):
    """A cut that has lost its last part."""
    if made.cells.count < 2:
        return made
    kept = np.arange(made.cells.count - 1)
    cells = replace(made.cells, ptr=made.cells.ptr[:-1], idx=made.cells.idx[: made.cells.ptr[-2]])
    cells = replace(cells, mask=made.cells.mask[: made.cells.ptr[-2]])
    return replace(made, cells=cells, parent=made.parent[kept], stop=made.stop[kept])


@pytest.mark.parametrize("variant", [MIXED, POOLED, MOVED], ids=str)
def test_a_lost_part(monkeypatch, variant):
    wrap(monkeypatch, Stages, "cut", without_one)
    assert_withheld(variant)


def test_a_lost_part_beyond_the_class_boundary(monkeypatch):
    wrap(monkeypatch, judging, "cut", without_one)
    assert_withheld(MIXED)


def without_any(spoilt):
    none = np.zeros(0, np.int64)
    return replace(spoilt, cells=spoilt.cells.take(none)[0], cone=spoilt.cone[none])


def test_a_lost_part_beyond_a_curved_boundary(monkeypatch):
    wrap(monkeypatch, following, "_cut", lambda made: (made[0], without_any(made[1]), made[2]))
    wrap(monkeypatch, following, "cut", without_one)
    assert_withheld(MOVED)


def test_a_cell_whose_cut_has_lost_a_part_along_a_curved_boundary_is_undecided(monkeypatch):
    whole = solve(posed(MOVED), threads=1).shares
    wrap(monkeypatch, following, "cut", without_one)
    spoilt = solve(posed(MOVED), threads=1).shares
    assert spoilt.undecided > whole.undecided
    for kind in ("robust", "class_changed", "attention_changed"):
        assert getattr(spoilt, kind) <= getattr(whole, kind) + whole.undecided


@pytest.mark.parametrize("variant", [MIXED, POOLED], ids=str)
def test_a_lost_batch(monkeypatch, variant):
    monkeypatch.setattr(sweep, "_CELLS", 8)
    lost = []

    def taking(self, outcome):
        if outcome.map is not None and not lost:
            lost.append(outcome)
            return
        whole(self, outcome)

    whole = Sweep._take_in
    monkeypatch.setattr(Sweep, "_take_in", taking)
    assert_withheld(variant)
    assert lost


def test_a_batch_that_is_handed_out_twice(monkeypatch):
    monkeypatch.setattr(sweep, "_CELLS", 8)
    wrap(monkeypatch, Sweep, "_parted", lambda parts: (*parts, parts[0]) if len(parts) > 1 else parts)
    assert_withheld(MIXED)


def test_a_lost_piece_of_the_perturbation(monkeypatch):
    wrap(monkeypatch, sweep, "from_polytopes", lambda cells: cells.take(np.arange(cells.count - 1))[0])
    assert_withheld(MOVED)


@pytest.mark.parametrize("factor", [1 + 1e-7, 1 - 1e-7, np.nan])
def test_wrong_volumes(monkeypatch, factor):
    wrap(monkeypatch, judging, "volumes", lambda found: found * factor)
    assert_withheld(MIXED)


def test_a_lost_label():
    map_ = swept(posed(MIXED))
    found = facets(map_.cells)
    largest = int(map_.volume.argmax())
    bit = int(found.bit[found.cell == largest][0])
    mask = map_.cells.mask.copy()
    span = slice(map_.cells.ptr[largest], map_.cells.ptr[largest + 1])
    mask[span, bit // 64] &= ~(np.uint64(1) << np.uint64(bit % 64))
    cells = replace(map_.cells, mask=mask)
    with pytest.raises(InternalCheckError, match="cover"):
        check_cover(MIXED.problem, replace(map_, cells=cells, volume=volumes(cells)))
    assert len(facets(cells).key) < len(found.key), "and the battery of facets finds a lone one"


def test_a_cell_in_the_place_of_another():
    """Volumes add up, but a point falls into no cell."""
    map_ = swept(posed(MIXED))
    first, last = map_.cells.take(np.array([0]))[0], int(map_.volume.argmax())
    others = np.delete(np.arange(map_.cells.count), last)
    scale = (map_.volume[last] / map_.volume[0]) ** 0.5
    blown = replace(first, theta=(first.theta - first.theta.mean(axis=0)) * scale - 50)
    false = replace(
        map_,
        cells=concatenate([map_.cells.take(others)[0], blown]),
        kind=np.append(map_.kind[others], map_.kind[last]),
        region=np.append(map_.region[others], 0),
        volume=np.append(map_.volume[others], map_.volume[last]),
        pattern=np.delete(map_.pattern, map_.region[last]),
    )
    with pytest.raises(InternalCheckError, match="no cell"):
        check_cover(MIXED.problem, false)


# -- faults that leave the cover whole: the audit and the batteries must catch them


def assert_found_out(variant: Variant) -> None:
    """The audit withholds the answer, and the battery of points finds it wrong."""
    map_ = swept(posed(variant))
    assert mismatches(variant, map_, variant.draw(AUDITED))[0]
    with pytest.raises(InternalCheckError, match="audit"):
        audit(variant.problem, map_, AUDITED)


def test_a_wrong_sign_of_the_class_gap(monkeypatch):
    gaps_with(monkeypatch, torch.neg)
    assert_found_out(MIXED)


@pytest.mark.parametrize("variant", [MIXED, POOLED], ids=str)
def test_a_class_that_is_skipped(monkeypatch, variant):
    plain = variant.sampled(variant.draw(AUDITED))
    assert (plain.kind == CLASS_CHANGED).any()
    lowest = variant.problem.gaps(
        variant.problem.graph.forward(variant.problem.unclipped(variant.draw(AUDITED)))
    )
    rival = int((lowest < 0).sum(dim=0).argmax())
    gaps_with(monkeypatch, lambda gaps: gaps.index_fill(1, torch.tensor([rival]), 1.0))
    assert_found_out(variant)


def test_an_optimistic_class_boundary(monkeypatch):
    gaps_with(monkeypatch, lambda gaps: gaps + 0.3)
    assert_found_out(MIXED)


def test_an_optimistic_threshold(monkeypatch):
    wrap(monkeypatch, judging, "by_distance", lambda kind: np.where(kind == ATTENTION_CHANGED, ROBUST, kind))
    assert_found_out(POOLED)


@pytest.mark.parametrize("variant", [Variant("wide", "spot"), POOLED], ids=str)
def test_a_gradient_with_units_on_the_wrong_side(monkeypatch, variant):
    def flipped(pieces):
        last = max(node for node in pieces if isinstance_of_relu(variant, node))
        return {**pieces, last: 1 - pieces[last]}

    wrap(monkeypatch, Sweep, "_pieces", flipped)
    assert_found_out(variant)


def isinstance_of_relu(variant: Variant, node: int) -> bool:
    layer = variant.problem.graph.nodes[node].layer
    return hasattr(layer, "breakpoints") and len(layer.breakpoints) == 1


def test_a_gradient_at_the_wrong_cells(monkeypatch):
    def shifted(pieces):
        return {node: found.roll(1, dims=0) for node, found in pieces.items()}

    wrap(monkeypatch, Sweep, "_pieces", shifted)
    assert_found_out(Variant("wide", "spot"))


@pytest.mark.parametrize("variant", [MIXED, POOLED], ids=str)
def test_an_optimistic_tolerance_of_hinges(monkeypatch, variant):
    """Hinges are missed: patterns are lost, and the maps of the cells with them."""
    monkeypatch.setattr(learning, "apart", lambda _graph, _values, tolerances: tolerances)
    monkeypatch.setattr(sweep, "astray", lambda *given: np.zeros(given[3].count, bool))
    blunt = replace(variant, tolerance=replace(variant.tolerance, hinge=0.05))
    map_ = swept(blunt.problem)
    names = variant.problem.stages.pattern_names_at(variant.problem.unclipped(variant.draw(2000)))
    assert not np.isin(names, map_.pattern).all()
    assert len(map_.pattern) < len(swept(posed(variant)).pattern)
    with pytest.raises(InternalCheckError):
        audit(variant.problem, map_, 3000)


def test_an_expected_map_that_moves_the_wrong_way(monkeypatch):
    whole = Problem.expected_pieces.func

    def mirrored(self):
        return tuple(replace(form, directions=-form.directions) for form in whole(self))

    monkeypatch.setattr(Problem, "expected_pieces", property(mirrored))
    assert_found_out(MOVED)


# -- witnesses


def test_a_failure_that_does_not_replay_is_no_violation():
    """The map says that all is lost; the original model says otherwise, and is believed."""
    robust = Variant("dead layer", "spot", threshold=2.0)
    problem, map_ = robust.problem, swept(robust.problem)
    assert set(map_.kind) == {ROBUST}
    false = replace(map_, kind=np.full(map_.cells.count, CLASS_CHANGED, np.int8))
    assert find_witness(problem, false) is None


def test_a_witness_fails_by_more_than_rounding(monkeypatch):
    """On a cell's border the model fails in one batch and holds in the next: the witness lies behind that."""
    problem, map_ = Variant("wide", "spot").problem, Variant("wide", "spot").map
    replay, plain = Problem.replay, find_witness(problem, map_)

    def noisy(self, thetas):
        found = replay(self, thetas)
        kind = found.kind.copy()
        kind[[1, 3]] = ROBUST
        return replace(found, kind=kind)

    monkeypatch.setattr(Problem, "replay", noisy)
    deeper, first = find_witness(problem, map_), next(failures_by_distance(map_, problem.box)).point
    assert np.abs(plain.theta - first).max() < np.abs(deeper.theta - first).max() < 1e-3
    assert deeper.failure.distance == plain.failure.distance


def test_where_the_class_is_lost_one_map_is_asked_for_and_by_more_than_rounding(monkeypatch):
    problem, map_ = MIXED.problem, MIXED.map
    lost, replay, asked, tried = Problem.lost, Problem.replay, [], []
    monkeypatch.setattr(Problem, "lost", lambda self, thetas: tried.append(len(thetas)) or lost(self, thetas))
    plain = find_witness(problem, map_)
    assert plain.failure.kind == "class-changed"
    assert tried == [4], "where all of these fail, so does what lies between"

    def noisy(self, thetas):
        return lost(self, thetas) & ~np.isin(np.arange(len(thetas)), [1, 3])

    def counted(self, thetas):
        asked.append(len(thetas))
        return replay(self, thetas)

    monkeypatch.setattr(Problem, "lost", noisy)
    monkeypatch.setattr(Problem, "replay", counted)
    deeper, first = find_witness(problem, map_), next(failures_by_distance(map_, problem.box)).point
    assert asked == [1]
    assert np.abs(plain.theta - first).max() < np.abs(deeper.theta - first).max() < 1e-2
    assert deeper.failure.distance == plain.failure.distance


def test_a_claim_of_robustness_is_found_out():
    problem, map_ = MIXED.problem, swept(MIXED.problem)
    false = replace(map_, kind=np.full(map_.cells.count, ROBUST, np.int8))
    check_cover(problem, false)
    with pytest.raises(InternalCheckError, match="audit"):
        audit(problem, false, AUDITED)


def test_an_empty_map_is_no_answer():
    map_ = swept(posed(MIXED))
    none = np.zeros(0, np.int64)
    empty = CellMap(
        map_.cells.take(none)[0], map_.kind[:0], none, map_.volume[:0], map_.inconsistency, map_.pattern
    )
    with pytest.raises(InternalCheckError, match="cover"):
        check_cover(MIXED.problem, empty)
