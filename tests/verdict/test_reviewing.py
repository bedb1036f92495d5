"""What all checks ask of the network is evaluated in one pass, and each judges it as if it were its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from planting import posed
from steadygaze.deadline import Deadline
from steadygaze.errors import InternalCheckError
from steadygaze.network.graph import Graph
from steadygaze.network.reading.originals import TorchOriginal
from steadygaze.question.problem import Problem
from steadygaze.verdict import driver, reviewing, witness
from steadygaze.verdict import plain as plain_evaluation
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


@pytest.mark.parametrize(
    ("variant", "double", "count"),
    [(ATTENTION, False, 4), (ATTENTION, True, 1), (CLASS, False, 1)],
    ids=["attention", "attention, in double precision", "class"],
)
def test_points_are_evaluated_ahead_where_their_maps_are_tried(monkeypatch, variant, double, count):
    """Where the class is lost, the logits say so, and the map is needed of the one that is taken."""
    monkeypatch.setattr(TorchOriginal, "differentiates_in_double", double)
    tries = Tries(variant.problem, variant.map)
    thetas = tries.ahead()
    assert len(thetas) == count
    witness = find_witness(variant.problem, variant.map, tries=tries)
    np.testing.assert_array_equal(witness.theta, thetas[0])


def replayed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many points the original is asked about at once, from now on."""
    replay, asked = Problem.replay, []

    def counted(self, thetas, *more):
        asked.append(len(thetas))
        return replay(self, thetas, *more)

    monkeypatch.setattr(Problem, "replay", counted)
    return asked


def test_where_gradients_are_taken_in_double_precision_one_map_is_asked_for(monkeypatch):
    """Near to the witness is a breakpoint that single precision cannot tell from it."""
    problem, map_, asked = ATTENTION.problem, ATTENTION.map, replayed(monkeypatch)
    assert problem.network.original.differentiates_in_double
    plain = PlainEvaluation(problem, ahead=Tries(problem, map_).ahead())
    first = find_witness(problem, map_, plain=plain)
    assert not plain.steady(first.theta)
    monkeypatch.setattr(TorchOriginal, "differentiates_in_double", False)
    plain = PlainEvaluation(problem, ahead=Tries(problem, map_).ahead())
    np.testing.assert_array_equal(find_witness(problem, map_, plain=plain).theta, first.theta)
    assert asked == [1, 4]


def test_where_rounding_cannot_decide_one_map_is_asked_for(monkeypatch):
    """Else what is near to the point is asked about, too; the witness is the same.

    The breakpoint by which the cell ends is near; to a model that rounds a thousand times less it is not.
    """
    monkeypatch.setattr(plain_evaluation, "_SINGLE", 1e-9)
    monkeypatch.setattr(TorchOriginal, "differentiates_in_double", False)
    problem, map_, asked = ATTENTION.problem, ATTENTION.map, replayed(monkeypatch)
    plain = PlainEvaluation(problem, ahead=Tries(problem, map_).ahead())
    first = find_witness(problem, map_, plain=plain)
    for fault in ("steady", "rounding_of_original", "_CLEARLY"):
        with monkeypatch.context() as planted:
            if fault == "steady":
                planted.setattr(PlainEvaluation, fault, lambda *_: False)
            elif fault == "_CLEARLY":
                planted.setattr(witness, fault, 2.0)
            else:
                planted.setattr(Problem, fault, lambda _: 1e9)
            np.testing.assert_array_equal(find_witness(problem, map_, plain=plain).theta, first.theta)
    assert asked == [1, 4, 1, 4, 1, 4]


@pytest.mark.parametrize("double", [False, True], ids=["single", "double"])
@pytest.mark.parametrize("variant", [ATTENTION, WIDE], ids=["attention", "clip"])
def test_points_are_steady_where_no_unit_is_near_to_a_breakpoint(variant, double):
    """One moved onto a breakpoint is not, and nothing is said of what was not asked about ahead."""
    problem, graph = variant.problem, variant.problem.network.graph
    cells = variant.map.cells
    corners = cells.theta[:40]
    beside = corners + 1e-7 * (problem.box.mean(axis=1) - corners)
    thetas = np.concatenate([variant.draw(40), corners, beside])
    plain = PlainEvaluation(problem, ahead=thetas)
    values = plain.evaluated(thetas).values
    near = {share: np.zeros(len(thetas), bool) for share in (1e-6, 1e-10)}
    for node in graph.piecewise:
        value = values[graph.nodes[node].inputs[0]][1:].flatten(1)
        for share, found in near.items():
            found |= (value.abs() <= share * plain._learnt.sizes[node]).any(dim=1).numpy()
    asked = near[1e-10 if double else 1e-6]
    assert [plain.steady(theta, double) for theta in thetas] == (~asked).tolist()
    assert asked.any()
    assert not asked.all()
    assert (near[1e-6] & ~near[1e-10]).any(), "near in single precision alone"
    assert not plain.steady(thetas[0] + 1e-9, double)


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
