"""Every answer is held against the network: planted faults are caught by this check alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import steadygaze as sg
from landscapes import hole, slope
from planting import gaps_with, posed
from steadygaze.answer.result import Failure, Origin, Radius
from steadygaze.errors import InternalCheckError
from steadygaze.geometry.kinds import ATTENTION_CHANGED, CLASS_CHANGED, ROBUST, UNDECIDED
from steadygaze.geometry.measure import centres
from steadygaze.network.graph import Graph
from steadygaze.network.layers import Dense
from steadygaze.network.pieces import PiecewiseLinear
from steadygaze.network.regions.piecewise import Stages
from steadygaze.question import learning
from steadygaze.question.problem import Problem
from steadygaze.search import branch_and_bound, judging, sweep
from steadygaze.search.base import CellMap, Options
from steadygaze.search.branch_and_bound import BranchAndBound
from steadygaze.search.sweep import Sweep
from steadygaze.verdict import driver, held, reviewing
from steadygaze.verdict.driver import solve
from steadygaze.verdict.held import Claims, Held, budget_of, hold
from steadygaze.verdict.plain import PlainEvaluation
from steadygaze.verdict.seen import Seen
from variants import EVERY, INEXACT, Variant, searched, swept

MIXED = Variant("mlp", "spot", clip=None)
POOLED = Variant("max pool", "spot", clip=None)
MOVED = Variant("mlp", "shift, brighter")
WIDE = Variant("wide", "spot")
NOTHING = Claims(None, None, None, None)
LONG = 10.0


def assert_caught(variant: Variant, map_: CellMap) -> None:
    with pytest.raises(InternalCheckError, match=r"theta = .* is .* \(class gap"):
        hold(replace(variant).problem, [map_], NOTHING, LONG)


@pytest.mark.parametrize("variant", [*EVERY[::4], *INEXACT[::3]], ids=str)
def test_plain_evaluation_sees_what_the_module_says(variant):
    thetas = variant.draw(60)
    seen, wanted = PlainEvaluation(variant.problem).at(thetas), variant.sampled(thetas)
    np.testing.assert_allclose(seen.gap, wanted.gap, atol=1e-9)
    np.testing.assert_allclose(seen.inconsistency, wanted.inconsistency, atol=1e-7)
    assert (seen.kind == wanted.kind)[seen.clear].all()
    # Without biases all units behind blank pixels change at once, and with them the map.
    assert seen.clear.mean() > (0.5 if variant.net == "no bias" else 0.8) or variant.threshold == 0


@pytest.mark.parametrize("variant", EVERY[::5], ids=str)
def test_a_right_map_is_held(variant):
    found = hold(variant.problem, [variant.map], NOTHING, LONG)
    assert found.agreeing >= min(50, 4 * variant.map.cells.count)
    assert found.close <= found.agreeing


# -- faults planted into searches, caught without any other check


@pytest.mark.parametrize(
    "change",
    [
        torch.neg,
        lambda gaps: gaps + 0.3,
        lambda gaps: gaps.index_fill(1, gaps.amin(dim=0).argmin(keepdim=True), 1.0),
    ],
    ids=["a wrong sign", "an optimistic boundary", "a class skipped"],
)
def test_wrong_class_gaps(monkeypatch, change):
    gaps_with(monkeypatch, change)
    assert_caught(MIXED, swept(posed(MIXED)))


def test_an_optimistic_threshold(monkeypatch):
    by_distance = judging.by_distance
    monkeypatch.setattr(
        judging,
        "by_distance",
        lambda *given: np.where(by_distance(*given) == ATTENTION_CHANGED, ROBUST, by_distance(*given)),
    )
    assert_caught(POOLED, swept(posed(POOLED)))


def test_units_on_the_wrong_side(monkeypatch):
    pieces_of = Sweep._pieces

    def flipped(self, *given):
        pieces = pieces_of(self, *given)
        return {**pieces, max(pieces): 1 - pieces[max(pieces)]}

    monkeypatch.setattr(Sweep, "_pieces", flipped)
    assert_caught(WIDE, swept(posed(WIDE)))


def test_gradients_of_other_cells(monkeypatch):
    pieces_of = Sweep._pieces
    monkeypatch.setattr(
        Sweep,
        "_pieces",
        lambda self, *given: {k: v.roll(1, dims=0) for k, v in pieces_of(self, *given).items()},
    )
    assert_caught(WIDE, swept(posed(WIDE)))


@pytest.mark.parametrize("variant", [MIXED, POOLED], ids=str)
def test_hinges_that_are_missed(monkeypatch, variant):
    monkeypatch.setattr(learning, "apart", lambda _graph, _values, tolerances: tolerances)
    monkeypatch.setattr(sweep, "astray", lambda *given: np.zeros(given[3].count, bool))
    blunt = replace(variant, tolerance=replace(variant.tolerance, hinge=0.05))
    assert_caught(variant, swept(blunt.problem))


def test_an_expected_map_that_moves_the_wrong_way(monkeypatch):
    whole = Problem.expected_pieces.func
    monkeypatch.setattr(
        Problem,
        "expected_pieces",
        property(lambda self: tuple(replace(form, directions=-form.directions) for form in whole(self))),
    )
    assert_caught(MOVED, swept(posed(MOVED)))


@pytest.mark.parametrize("method", ["sweep", "nearest"])
def test_columns_dropped_for_want_of_a_reader(monkeypatch, method):
    """Nothing reads the last layer further: all() over no readers once dropped what is never above 0 there.

    Of four logits two are left, and the second of them is taken for the label's, which was the first.
    """

    def careless(self):
        nodes, readers = self.graph.nodes, self.graph.readers
        return frozenset(
            number
            for number, stage in enumerate(self.stages)
            if all(isinstance(nodes[reader].layer, Dense) for reader in readers[stage.node])
            and isinstance(nodes[stage.node].layer, PiecewiseLinear)
            and len(nodes[stage.node].shape) == 1
        )

    monkeypatch.setattr(Stages, "_feeding_dense", property(careless))
    monkeypatch.setattr(reviewing, "check_patterns", lambda *_: None)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.ReLU()).double()
    with torch.no_grad():
        net[1].weight[:] = torch.tensor([[0.0] * 4, [1.0, 0, 1, 0], [0, 3.0, 0, 0], [0.0] * 4]).double()
        net[1].bias[:] = torch.tensor([-5.0, 1.0, 0.0, -5.0])
    with pytest.raises(InternalCheckError, match="the cell around it is called"):
        sg.verify(
            net, np.full((1, 2, 2), 0.5), sg.Brightness(-0.3, 0.7), method=method, threshold=1.9, clip=None
        )


# -- faults in branch and bound


@pytest.mark.parametrize("variant", [Variant("wide", "spot", clip=None), Variant("mlp", "turn")], ids=str)
def test_boxes_judged_by_their_middles(monkeypatch, variant):
    judge = branch_and_bound.judge_boxes

    def judged(problem, boxes, room, *more):
        return replace(judge(problem, boxes, room, *more), kind=problem.at(boxes.mean(axis=2)).kind)

    monkeypatch.setattr(branch_and_bound, "judge_boxes", judged)
    found = searched(BranchAndBound(posed(variant), Options(handover=False, undecided=0.05))).found()
    assert (found.kind != UNDECIDED).all()
    assert_caught(variant, found)


# -- every engine asks


@pytest.mark.parametrize("method", ["sweep", "bfs", "gbs", "nearest", "bound", "auto"])
def test_no_engine_answers_without(monkeypatch, method):
    """A cell with a wrong name, whichever engine called it so."""
    found = driver._found

    def renamed(*given):
        finding = found(*given)
        kind = np.where(finding.map.kind == CLASS_CHANGED, ROBUST, finding.map.kind)
        return replace(finding, map=replace(finding.map, kind=kind))

    monkeypatch.setattr(reviewing, "check_patterns", lambda *_: None)
    monkeypatch.setattr(driver, "_found", renamed)
    monkeypatch.setattr(driver, "budget_of", lambda _: LONG)
    with pytest.raises(InternalCheckError, match=r"class-changed|called robust"):
        solve(hole((0.5, 0.3), 0.2), method=method, threads=1)


def test_it_is_counted_and_timed():
    answer = solve(posed(MIXED), threads=1)
    assert answer.result.settings["held_points"] > 0
    assert answer.result.settings["held_points_too_close"] >= 0
    assert answer.result.timing["held against the network"] > 0
    assert budget_of(1.0) == 0.05
    assert budget_of(0.01) == 1e-3


class Paced:
    """A clock that only plain evaluation moves, as if the network were large: so much for a block, and so
    much for each of its points.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, block: float, point: float) -> None:
        self.now, self.sizes = 0.0, []
        self._block, self._point, self._at = block, point, PlainEvaluation.at
        monkeypatch.setattr(held, "time", self)
        monkeypatch.setattr(PlainEvaluation, "at", lambda *given: self.at(*given))
        monkeypatch.setattr(held, "_at_first", lambda _: 5)

    def perf_counter(self) -> float:
        return self.now

    def at(self, plain: PlainEvaluation, thetas: np.ndarray, noted: int = 0) -> Seen:
        self.now += self._block + self._point * len(thetas)
        self.sizes.append(len(thetas))
        return self._at(plain, thetas, noted)


@pytest.mark.parametrize(
    ("block", "point", "seconds"),
    [(1e-3, 6e-5, 3e-3), (1e-3, 6e-5, 0.02), (0.0, 2e-3, 0.15), (5e-3, 1e-3, 0.1), (2e-3, 1e-5, 1.0)],
)
def test_it_keeps_to_its_seconds(monkeypatch, block, point, seconds):
    """Whatever blocks and points cost, what is begun is finished in time, and the time is used."""
    clock = Paced(monkeypatch, block, point)
    found = hold(WIDE.problem, [WIDE.map], NOTHING, seconds)
    assert found.agreeing + found.close == sum(clock.sizes)
    assert len(clock.sizes) > 1
    assert found.seconds <= seconds
    assert found.seconds > seconds / 2 or sum(clock.sizes) > 300


def test_some_points_are_looked_at_however_little_time_there_is(monkeypatch):
    clock = Paced(monkeypatch, 1.0, 1.0)
    found = hold(WIDE.problem, [WIDE.map], NOTHING, 1e-6)
    assert isinstance(found, Held)
    assert len(clock.sizes) == 1
    assert clock.sizes[0] >= 4


def test_nothing_is_learnt_of_the_network_where_the_time_is_over_and_nothing_is_said(monkeypatch):
    said, nothing = WIDE.map, replace(WIDE.map, kind=np.full_like(WIDE.map.kind, UNDECIDED))
    learnt = list[PlainEvaluation]()
    monkeypatch.setattr(
        held, "PlainEvaluation", lambda *a, **k: (learnt.append(PlainEvaluation(*a, **k)), learnt[-1])[1]
    )
    found = hold(WIDE.problem, [nothing], NOTHING, LONG, late=True)
    assert (found.agreeing, found.close, learnt) == (0, 0, [])
    assert not found.by_rounding.any()
    assert hold(WIDE.problem, [said], NOTHING, 1e-6, late=True).agreeing > 0, "what is said is held"
    assert hold(WIDE.problem, [nothing], Claims(0.01, None, None, None), 1e-6, late=True).agreeing > 0
    wrong = replace(said, kind=np.full_like(said.kind, CLASS_CHANGED))
    with pytest.raises(InternalCheckError, match="withheld"):
        hold(WIDE.problem, [wrong], NOTHING, LONG, late=True)


# -- what is read off the map


@pytest.mark.parametrize(
    "claims",
    [
        Claims(0.5, None, None, None),
        Claims(None, Origin(0.9, ((-1.0, 0.9), (-1.0, 1.0)), None, None, "examined"), None, None),
        Claims(None, None, Radius("linf", 0.6), None),
        Claims(None, None, Radius("l2", 0.75), None),
        Claims(None, None, None, Failure((0.1, 0.1), "class-changed", 0.1, -0.1, None, 1)),
        Claims(None, None, None, Failure((0.5, 0.0), "attention-changed", 0.1, -0.1, None, 1)),
    ],
    ids=["scale", "range", "radius", "Euclidean radius", "failure", "kind of failure"],
)
def test_claims_beyond_what_is_true(claims):
    """Robust but for a diamond round (0.5, 0) of radius 0.2: the nearest failure is at (0.3, 0)."""
    problem = hole((0.5, 0.0), 0.2)
    right = Claims(
        0.28, Origin(0.9, ((-1.0, 0.28), (-1.0, 1.0)), None, None, "examined"), Radius("linf", 0.28), None
    )
    assert hold(problem, [], right, LONG).agreeing > 0
    with pytest.raises(InternalCheckError, match="is said to be"):
        hold(problem, [], claims, LONG)


def test_a_point_in_no_cell_of_a_map_that_covers():
    map_ = MIXED.map
    cells = replace(map_.cells, theta=map_.cells.theta + 100.0)
    with pytest.raises(InternalCheckError, match="no cell"):
        hold(
            MIXED.problem,
            [replace(map_, cells=cells, kind=np.full_like(map_.kind, UNDECIDED))],
            NOTHING,
            LONG,
        )


@pytest.mark.parametrize("part", ["scale", "ranges", "radius", "Euclidean radius"])
def test_claims_a_little_beyond_what_is_true(part):
    """Robust where theta_1 + theta_2 > -0.4: the last bit of what is claimed is where failures begin."""

    def claimed(excess: float) -> Claims:
        reach = 1.0 + excess
        ranges = ((-0.4 * reach, 1.0), (-0.4 * reach, 1.0))
        return {
            "scale": Claims(0.2 * reach, None, None, None),
            "ranges": Claims(None, Origin(0.9, ranges, None, None, "examined"), None, None),
            "radius": Claims(None, None, Radius("linf", 0.2 * reach), None),
            "Euclidean radius": Claims(None, None, Radius("l2", 0.4 / np.sqrt(2) * reach), None),
        }[part]

    problem = slope(2)
    assert hold(problem, [], claimed(0.0), LONG).agreeing > 0
    with pytest.raises(InternalCheckError, match="is said to be"):
        hold(problem, [], claimed(1e-2), LONG)


def test_a_euclidean_ball_is_looked_at_in_all_directions_and_not_beyond():
    """The nearest point of the diamond is about (0.29, 0.29), on the way along the diagonal."""
    problem = hole((0.4, 0.4), 0.2)
    ball = Radius("l2", 0.28 * np.sqrt(2))
    assert hold(problem, [], Claims(None, None, ball, None), LONG).agreeing > 90


def test_a_map_of_many_cells_with_few_of_a_kind():
    """More cells than are all looked at; one of them alone is of its kind, and has the wrong name."""
    every = np.tile(np.flatnonzero(WIDE.map.kind == ROBUST), 4)
    map_ = replace(
        WIDE.map, cells=WIDE.map.cells.take(every)[0], kind=WIDE.map.kind[every],
        region=WIDE.map.region[every], volume=WIDE.map.volume[every], rest=0.1,
    )  # fmt: skip
    assert map_.cells.count > 96
    assert hold(WIDE.problem, [map_], NOTHING, LONG).agreeing > 100
    kind = map_.kind.copy()
    kind[len(kind) // 2] = ATTENTION_CHANGED
    with pytest.raises(InternalCheckError, match="attention-changed"):
        hold(WIDE.problem, [replace(map_, kind=kind)], NOTHING, LONG)


def test_a_map_of_a_part_of_the_box_says_nothing_of_the_rest():
    map_ = swept(WIDE.problem)
    some = np.arange(0, map_.cells.count, 2)
    part = replace(
        map_, cells=map_.cells.take(some)[0], kind=map_.kind[some], region=map_.region[some],
        volume=map_.volume[some], rest=float(map_.volume[1::2].sum()),
    )  # fmt: skip
    assert hold(WIDE.problem, [part], NOTHING, LONG).agreeing > 0


def test_an_undecided_map_says_nothing():
    map_ = WIDE.map
    found = hold(WIDE.problem, [replace(map_, kind=np.full_like(map_.kind, UNDECIDED))], NOTHING, LONG)
    assert found.agreeing == found.close == 0


# -- the plain evaluation's doubts


def test_padding_is_no_rival():
    """Windows at the image's edge have fewer inputs, not more that tie."""
    variant = Variant("pool first", "spot", clip=None)
    thetas = variant.draw(200)
    seen = PlainEvaluation(variant.problem).at(thetas)
    assert seen.near.mean() < 0.1


def test_what_counts_as_rounding_grows_with_what_searches_take_for_nothing():
    variant = Variant("mlp", "spot")
    blunt = replace(variant, tolerance=replace(variant.tolerance, hinge=1e-3))
    usual, wide = (PlainEvaluation(each.problem).at(variant.draw(200)) for each in (variant, blunt))
    np.testing.assert_allclose(wide.gap_rounding, 1e8 * usual.gap_rounding, err_msg="ten times the hinge")
    assert wide.clear.sum() < usual.clear.sum()
    np.testing.assert_array_equal(wide.kind, usual.kind)


@pytest.mark.parametrize(
    ("beside", "possible"), [(0.0, [True, True]), (1e-5, [True, False]), (-1e-5, [False, True])]
)
def test_a_threshold_that_a_region_meets_exactly_leaves_both_kinds_open(beside, possible):
    """robust is at most the threshold; rounding may put the same number on either side of it."""
    map_ = WIDE.map
    some = np.flatnonzero((map_.kind == ATTENTION_CHANGED) & (map_.volume > 1e-4))[0]
    problem = replace(WIDE, threshold=float(map_.inconsistency[map_.region[some]]) + beside).problem
    seen = PlainEvaluation(problem).at(centres(map_.cells.take(np.array([some]))[0]))
    assert seen.possible[0, [ROBUST, ATTENTION_CHANGED]].tolist() == possible


@pytest.mark.parametrize("variant", INEXACT, ids=str)
def test_plain_evaluation_begins_from_one_map(variant):
    """The unperturbed image's, whatever the saliency is made of."""
    still = variant.sampled(np.zeros((1, len(variant.perturbation.box))))
    seen = PlainEvaluation(variant.problem).at(np.zeros((2, len(variant.perturbation.box))))
    np.testing.assert_allclose(seen.inconsistency, still.inconsistency[0], atol=1e-7)


@pytest.mark.parametrize("variant", EVERY[::9], ids=str)
def test_what_is_asked_ahead_is_seen_as_ever(variant):
    thetas = variant.draw(20)
    ahead, plain = PlainEvaluation(variant.problem, ahead=thetas), PlainEvaluation(variant.problem)
    for seen, wanted in ((ahead.at(thetas), plain.at(thetas)), (ahead.at(thetas[3:]), plain.at(thetas[3:]))):
        np.testing.assert_allclose(seen.gap, wanted.gap, atol=1e-12)
        np.testing.assert_allclose(seen.inconsistency, wanted.inconsistency, atol=1e-12)
        np.testing.assert_allclose(seen.gap_rounding, wanted.gap_rounding)
        np.testing.assert_array_equal(seen.kind, wanted.kind)


@pytest.mark.parametrize("variant", EVERY[::6], ids=str)
def test_what_single_precision_decides_is_told_with_the_rest(variant):
    """Alone it takes maps of its own."""
    plain = PlainEvaluation(variant.problem)
    for thetas in (variant.draw(20), np.zeros((1, len(variant.perturbation.box)))):
        rows = 1 + len(thetas)
        seen = plain.at(thetas, noted=rows)
        alone = plain.in_single.decided_by_rounding(seen.evaluated)
        np.testing.assert_array_equal(seen.by_rounding, alone)
        np.testing.assert_array_equal(plain.at(thetas, noted=rows // 2).by_rounding, alone[: rows // 2])


def test_a_small_answer_is_held_in_one_pass(monkeypatch):
    passes, values_at = [], Graph.values_at
    problem, map_ = WIDE.problem, WIDE.map
    monkeypatch.setattr(
        Graph,
        "values_at",
        lambda self, *given, **how: passes.append(len(given[0])) or values_at(self, *given, **how),
    )
    found = hold(problem, [map_], NOTHING, 1e-6)
    assert found.agreeing + found.close == 64
    assert len(passes) == 1, "what is learnt, and the points"


def test_single_precision_compares_the_entries_that_double_compares():
    """And knows nothing of its rounding."""
    plain = PlainEvaluation(MOVED.problem)
    plain.at(MOVED.draw(2))
    single = plain.in_single
    assert single._kept is plain._kept
    assert (single._gap_rounding > 100 * plain._gap_rounding).all()
    assert not any(level.any() for level in single._level.values())
