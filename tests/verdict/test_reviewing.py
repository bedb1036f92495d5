"""What all checks ask of the network is evaluated in one pass, and each judges it as if it were its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from planting import posed
from steadygaze.deadline import Deadline
from steadygaze.errors import InternalCheckError
from steadygaze.network.graph import Graph
from steadygaze.question.problem import Problem
from steadygaze.verdict import driver, reviewing
from steadygaze.verdict.checks import check_patterns
from steadygaze.verdict.driver import solve
from steadygaze.verdict.plain import PlainEvaluation
from steadygaze.verdict.witness import Tries, find_witness
from variants import EVERY, Variant

WIDE = Variant("wide", "spot")
ATTENTION, CLASS = Variant("mlp", "spot", clip=None, threshold=0.02), Variant("mlp", "spot", clip=None)


@pytest.mark.parametrize("variant", EVERY[::9], ids=str)
def test_patterns_are_those_of_a_pass_of_their_own(variant):
    """The clip's hinges among them, which plain evaluation knows nothing of."""
    problem, map_ = variant.problem, variant.map
    thetas = variant.draw(40)
    plain = PlainEvaluation(problem, ahead=np.concatenate([variant.draw(3)[:2] * 0.5, thetas]))
    unknown = replace(map_, pattern=np.zeros(1, np.uint64), region=np.zeros_like(map_.region), inner=True)
    known = replace(unknown, pattern=problem.stages.pattern_names_at(problem.unclipped(thetas)))
    check_patterns(problem, known, thetas, plain=plain)
    with pytest.raises(InternalCheckError, match="claims to hold all"):
        check_patterns(problem, unknown, thetas, plain=plain)


def passes(monkeypatch: pytest.MonkeyPatch, graph: Graph) -> list[int]:
    """The rows of each pass forward through a network, from now on."""
    found, evaluate = [], Graph._evaluate

    def counted(self, x, *more):
        if self is graph:
            found.append(len(x))
        return evaluate(self, x, *more)

    monkeypatch.setattr(Graph, "_evaluate", counted)
    return found


@pytest.mark.parametrize("variant", [ATTENTION, CLASS, WIDE], ids=["attention", "class", "clip"])
def test_a_small_answer_is_checked_in_one_pass(monkeypatch, variant):
    problem = variant.problem
    solve(problem, threads=1)
    found = passes(monkeypatch, problem.network.graph)
    answer = solve(problem, threads=1)
    assert len(found) == 1, "patterns, what is learnt, the points held, and where the original is tried"
    assert found[0] > 64
    assert answer.result.settings["held_points"] >= 64


@pytest.mark.parametrize(("variant", "count"), [(ATTENTION, 4), (CLASS, 1)], ids=["attention", "class"])
def test_points_are_evaluated_ahead_where_their_maps_are_tried(variant, count):
    """Where the class is lost, the logits say so, and the map is needed of the one that is taken."""
    tries = Tries(variant.problem, variant.map)
    thetas = tries.ahead()
    assert len(thetas) == count
    witness = find_witness(variant.problem, variant.map, tries=tries)
    np.testing.assert_array_equal(witness.theta, thetas[0])


@pytest.mark.parametrize("variant", [ATTENTION, CLASS], ids=["attention", "class"])
def test_a_larger_network_is_checked_in_passes_of_their_own(monkeypatch, variant):
    """What is told is the same."""
    problem = variant.problem
    together = solve(problem, threads=1).result
    monkeypatch.setattr(reviewing, "_TOGETHER", 0)
    found = passes(monkeypatch, problem.network.graph)
    apart = solve(problem, threads=1).result
    assert len(found) == 3, "patterns, level units at the witness, points"
    assert apart.nearest_failure.theta == together.nearest_failure.theta
    assert (apart.verdict, apart.safe_scale, apart.origin) == (
        together.verdict,
        together.safe_scale,
        together.origin,
    )
    assert apart.settings["held_points"] >= 64


@pytest.mark.parametrize("together", [0, 10**9])
def test_cells_moved_away_from_their_patterns_are_no_answer(monkeypatch, together):
    found = driver._found

    def moved(*given):
        finding = found(*given)
        cells = replace(finding.map.cells, theta=finding.map.cells.theta + 100.0)
        return replace(
            finding, map=replace(finding.map, cells=cells, pattern=finding.map.pattern + np.uint64(1))
        )

    monkeypatch.setattr(reviewing, "_TOGETHER", together)
    monkeypatch.setattr(driver, "_found", moved)
    with pytest.raises(InternalCheckError, match="lies in no cell"):
        solve(posed(WIDE), method="sweep", threads=1)


def test_a_volume_is_checked_before_anything_is_read(monkeypatch):
    found = driver._found

    def swollen(*given):
        finding = found(*given)
        return replace(finding, map=replace(finding.map, volume=finding.map.volume * 1.01))

    monkeypatch.setattr(driver, "_found", swollen)
    monkeypatch.setattr(reviewing, "around_of", lambda *_: pytest.fail("read before it was checked"))
    with pytest.raises(InternalCheckError, match="gap or an overlap"):
        solve(posed(WIDE), method="sweep", threads=1)


def test_a_failing_cell_that_time_did_not_find_is_not_taken_for_none():
    """What is asked ahead has run out of time: some failure is told, as ever then."""
    problem, map_ = WIDE.problem, WIDE.map
    passed = Deadline(ends=0.0, clock=lambda: 1.0)
    tries = Tries(problem, map_, deadline=passed)
    assert len(tries.ahead()) == 0
    late = find_witness(problem, map_, deadline=passed, tries=tries)
    assert late is not None
    assert late.failure == find_witness(problem, map_, deadline=passed).failure


def test_level_units_are_told_by_values_at_hand(monkeypatch):
    """Where units are level the imported network's map counts, whoever evaluated it."""
    variant = Variant("dead layer", "spot")
    problem: Problem = variant.problem
    thetas = variant.draw(5)
    plain = PlainEvaluation(problem, ahead=thetas)
    alone, known = problem.replay(thetas), problem.replay(thetas, plain.known(thetas))
    np.testing.assert_array_equal(known.kind, alone.kind)
    np.testing.assert_array_equal(known.inconsistency, alone.inconsistency)
    assert plain.known(variant.draw(6)[5:] + 1e-9) is None
    np.testing.assert_array_equal(plain.known(thetas[[3, 1]])[0], plain.known(thetas)[0][[3, 1]])
