"""What replays is the original: an import that goes wrong after it was compared is noticed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import steadygaze as sg
from covering import check_cover
from steadygaze.deadline import Deadline
from steadygaze.errors import InternalCheckError, ModelError
from steadygaze.geometry.kinds import ATTENTION_CHANGED, ROBUST, UNDECIDED
from steadygaze.geometry.measure import centres
from steadygaze.network.graph import Graph
from steadygaze.network.layers import Dense
from steadygaze.network.reading.load import load_network
from steadygaze.network.saliencies import by_name
from steadygaze.perturbation import Brightness, Chain
from steadygaze.question import learning, points
from steadygaze.question.inconsistency import Cosine
from steadygaze.question.limits import Limits
from steadygaze.question.posing import pose
from steadygaze.question.problem import Problem
from steadygaze.search.base import CellMap
from steadygaze.verdict import checks, witness
from steadygaze.verdict.checks import audit
from steadygaze.verdict.driver import solve
from steadygaze.verdict.plain import decided_by_rounding
from steadygaze.verdict.witness import find_witness
from variants import Variant, swept

MIXED = Variant("wide", "spot")
MAPS = ("gradient", "abs-gradient", "softmax-gradient", "gradient-x-input")


def misread(problem: Problem) -> Problem:
    """The imported weights of the first layer turned round after the import was compared; logits are kept.

    What is read from the pixels is another thing than what its gradient says: only maps can tell.
    """

    class Turned(Graph):
        def pull_back(self, seed, pieces, to=0, start=None, skip_idle=False):
            pulled = super().pull_back(seed, pieces, to, start, skip_idle)
            return pulled * torch.linspace(-1, 1, pulled.shape[-1]).double() if to <= 1 else pulled

    network = replace(problem.network, graph=Turned(problem.network.graph.nodes))
    return replace(problem, network=network, graph=Turned(problem.graph.nodes))


@pytest.mark.parametrize("saliency", MAPS)
@pytest.mark.parametrize(
    "variant", [Variant("wide", "spot"), Variant("max pool", "shift, brighter")], ids=str
)
def test_maps_of_the_original_are_those_of_a_right_import(variant, saliency):
    problem = replace(replace(variant).problem, saliency=by_name(saliency, channel_sum=saliency == MAPS[0]))
    thetas = variant.draw(20)
    ours, theirs = problem.at(thetas), problem.replay(thetas)
    np.testing.assert_allclose(theirs.inconsistency, ours.inconsistency, atol=1e-9)
    assert (theirs.kind == ours.kind).all()
    np.testing.assert_allclose(theirs.maps, ours.maps, atol=1e-9)


def test_a_wrong_import_is_seen_by_points_witnesses_and_the_audit():
    wrong = misread(replace(MIXED).problem)
    right = solve(replace(MIXED).problem, threads=1)
    answer, thetas = replace(right, problem=wrong), MIXED.draw(40)
    for theta in thetas:
        assert answer.at(theta).inconsistency == pytest.approx(right.at(theta).inconsistency, abs=1e-9)
    assert (np.abs(wrong.at(thetas).inconsistency - right.problem.at(thetas).inconsistency) > 1e-3).any()
    # A map by the wrong import, all of whose names agree with it.
    map_ = right.map
    kind = wrong.at(centres(map_.cells)).kind
    assert (kind != map_.kind).any()
    false = replace(map_, kind=kind)
    with pytest.raises(InternalCheckError, match="audit"):
        audit(wrong, false, 300)
    nearest = replace(map_, kind=np.where(map_.kind == ROBUST, ATTENTION_CHANGED, ROBUST).astype(np.int8))
    assert find_witness(wrong, nearest) is None, "cells that fail by the import alone have no witness"


def test_a_failing_point_in_robust_cells_is_rounding_or_a_slip(monkeypatch):
    answer = solve(replace(MIXED).problem, threads=1)
    failing = np.array([answer.result.nearest_failure.theta])
    told = replace(answer.map, kind=np.full_like(answer.map.kind, ROBUST), failing=failing)
    monkeypatch.setattr(witness, "decided_by_rounding", lambda _, thetas: np.zeros(len(thetas), bool))
    with pytest.raises(InternalCheckError, match="called robust"):
        find_witness(answer.problem, told)
    monkeypatch.setattr(witness, "decided_by_rounding", lambda _, thetas: np.ones(len(thetas), bool))
    assert find_witness(answer.problem, told) is None


def test_the_imported_network_stands_in_where_the_original_has_no_gradients(monkeypatch):
    problem = replace(MIXED).problem

    def refuse(*_):
        raise ModelError("none")

    monkeypatch.setattr(type(problem.network.original), "gradients", refuse)
    thetas = MIXED.draw(3)
    assert torch.equal(problem.replay(thetas).maps, problem.kept(problem.maps_at(problem.images(thetas))))


def test_a_level_unit_is_the_originals_own_business():
    """One unit is 0 everywhere, but for what rounding leaves: by convention it is off."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        net[1].weight[:] = torch.tensor([[1.0, -1.0, 1.0, -1.0], [1.0, 0.0, 0.0, 0.0]])
        net[1].bias.zero_()
        net[3].weight[:] = torch.tensor([[5.0, 1.0], [0.0, 0.0]])
        net[3].bias[:] = torch.tensor([1.0, 0.0])
    answer = sg.verify(net, np.full((1, 2, 2), 0.3), sg.Brightness(-0.1, 0.1), threads=1, audit=50)
    assert answer.verdict == sg.Verdict.ROBUST
    assert answer.at([0.05]).map_by_rounding
    assert not decided_by_rounding(MIXED.problem, MIXED.draw(20)).any()


def test_rounding_on_the_unperturbed_image_decides_everywhere():
    """A unit is at its breakpoint there, and nowhere else."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        net[1].weight[:] = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
        net[1].bias[:] = torch.tensor([-0.5, 2.0])
        net[3].weight[:] = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
        net[3].bias.zero_()
    image, box = np.full((1, 2, 2), 0.5), Brightness(-0.4, 0.4)
    network = load_network(net, input_shape=image.shape)
    asked = {"label": None, "saliency": by_name("gradient"), "inconsistency": Cosine(), "threshold": 0.1}
    at_edge = pose(network, image, Chain(box), clip=None, **asked)
    beside = pose(network, image + 0.01, Chain(box), clip=None, **asked)
    thetas = np.array([[0.3], [-0.3]])
    assert decided_by_rounding(at_edge, thetas).all()
    assert not decided_by_rounding(beside, thetas).any()
    assert decided_by_rounding(beside, np.array([[0.3], [-0.01]])).tolist() == [False, True]


def test_a_changed_weight_is_seen_by_the_audit():
    problem = replace(MIXED).problem
    nodes = list(problem.network.graph.nodes)
    last = len(nodes) - 1
    assert isinstance(nodes[last].layer, Dense)
    nodes[last] = replace(nodes[last], layer=replace(nodes[last].layer, bias=nodes[last].layer.bias.flip(0)))
    graph = Graph(tuple(nodes))
    whole = Graph((*problem.graph.nodes[:-1], replace(problem.graph.nodes[-1], layer=nodes[last].layer)))
    wrong = replace(problem, network=replace(problem.network, graph=graph), graph=whole)
    answer = solve(wrong, threads=1)
    with pytest.raises(InternalCheckError, match="audit"):
        audit(wrong, answer.map, 300)


# -- the cover of a map, and the audit, on maps that say less or more than they should


def part_of(map_: CellMap, chosen: np.ndarray, **changes) -> CellMap:
    """Some cells of a map; what is left is not examined."""
    return replace(
        map_, cells=map_.cells.take(chosen)[0], kind=map_.kind[chosen], region=map_.region[chosen],
        volume=map_.volume[chosen], rest=float(map_.volume.sum() - map_.volume[chosen].sum()), **changes,
    )  # fmt: skip


def moved_away(map_: CellMap) -> CellMap:
    """The same cells elsewhere."""
    return replace(map_, cells=replace(map_.cells, theta=map_.cells.theta + 100.0))


def test_a_cover_is_right_up_to_rounding():
    problem, map_ = MIXED.problem, MIXED.map
    check_cover(problem, map_)
    for factor in (1 + 1e-7, 1 - 1e-7):
        with pytest.raises(InternalCheckError, match="gap or an overlap"):
            check_cover(problem, replace(map_, volume=map_.volume * factor))
    check_cover(problem, replace(map_, volume=map_.volume * (1 + 1e-11)))


def test_a_map_in_parts_tells_patterns_of_its_own_cells_alone():
    problem, map_ = MIXED.problem, MIXED.map
    largest = np.argsort(-map_.volume)[:5]
    some = np.union1d(largest, np.arange(0, map_.cells.count, 2))
    check_cover(problem, part_of(map_, some))
    check_cover(problem, part_of(map_, some, pattern=map_.pattern[map_.region[some]]))
    wrong = np.delete(map_.pattern, map_.region[largest])
    with pytest.raises(InternalCheckError, match="has another activation pattern"):
        check_cover(problem, part_of(map_, some, pattern=wrong))
    # Cells that bounds decided have no pattern, though others beside them have.
    by_bounds = part_of(map_, some, pattern=wrong)
    by_bounds.region[np.isin(by_bounds.region, map_.region[largest])] = -1
    check_cover(problem, by_bounds)
    undecided = replace(part_of(map_, some), kind=np.full(len(some), UNDECIDED, np.int8), pattern=wrong)
    check_cover(problem, undecided)
    # A whole map: the point lies in a cell, whatever the pattern is called.
    check_cover(problem, replace(map_, pattern=wrong))
    with pytest.raises(InternalCheckError, match="lies in no cell"):
        check_cover(problem, moved_away(replace(map_, pattern=wrong)))


def test_a_map_without_regions_must_hold_every_point():
    problem, map_ = MIXED.problem, MIXED.map
    unknown = replace(map_, region=np.full_like(map_.region, -1), pattern=np.zeros(0, np.uint64))
    check_cover(problem, unknown)
    with pytest.raises(InternalCheckError, match="lies in no cell"):
        check_cover(problem, moved_away(unknown))
    check_cover(problem, moved_away(part_of(unknown, np.arange(0, map_.cells.count, 2))))


def test_a_map_of_inner_parts_must_know_every_pattern():
    problem, map_ = MIXED.problem, MIXED.map
    inner = replace(map_, inner=True)
    check_cover(problem, inner)
    wrong = replace(inner, pattern=np.delete(map_.pattern, map_.region[np.argmax(map_.volume)]))
    with pytest.raises(InternalCheckError, match="claims to hold all"):
        check_cover(problem, wrong)
    check_cover(problem, replace(part_of(map_, np.arange(1, map_.cells.count, 2)), inner=True))


def test_an_audit_counts_what_the_map_decides():
    problem, map_ = MIXED.problem, MIXED.map
    assert audit(problem, map_, 0) == 0
    assert audit(problem, map_, 200) > 190
    order = np.argsort(-map_.volume)
    share = map_.volume[order[:10]].sum() / map_.volume.sum()
    kind = map_.kind.copy()
    kind[order[:10]] = UNDECIDED
    for less in (replace(map_, kind=kind), part_of(map_, order[10:])):
        assert audit(problem, less, 200) == pytest.approx(200 * (1 - share), abs=30)
    with pytest.raises(InternalCheckError, match="lies in no cell"):
        audit(problem, replace(part_of(map_, order[10:]), rest=0.0), 200)


def test_an_audit_looks_at_points_in_parts_and_ends_with_its_time(monkeypatch):
    problem, map_, sizes, replay = MIXED.problem, MIXED.map, [], Problem.replay
    whole = audit(problem, map_, 200)
    monkeypatch.setattr(points, "_MOST", 64)
    monkeypatch.setattr(Problem, "replay", lambda self, at: sizes.append(len(at)) or replay(self, at))
    assert audit(problem, map_, 200) == whole
    assert sizes == [64, 64, 64, 8]
    late = Deadline(ends=2.0, clock=lambda: float(len(sizes) - 4))
    assert 100 < audit(problem, map_, 10**5, late) <= 192
    assert sizes[4:] == [64, 64, 64]


def test_an_audit_leaves_a_failure_its_time():
    """One of more points than there is time for takes neither the witness nor seconds beyond the limit."""
    asked = replace(MIXED, chain="brightness", threshold=1e-4).problem
    answer = solve(asked, limits=Limits(seconds=0.5), audit_points=10**6)
    assert answer.verdict == "violated"
    assert answer.result.settings["stopped"] is None
    assert "left no time" not in answer.result.reason
    assert 0 < answer.result.settings["audited"] < 10**6


def test_an_audit_of_inner_parts_is_one_of_all_of_the_box():
    """Where everything is examined and such a map is given, all of the box is robust."""
    map_ = MIXED.map
    inner = replace(map_, inner=True)
    with pytest.raises(InternalCheckError, match="the map says robust"):
        audit(MIXED.problem, inner, 200)
    robust = replace(MIXED, threshold=2.0, chain="brightness").problem
    tiny = replace(robust, perturbation=Chain(Brightness(-1e-3, 1e-3)))
    assert audit(tiny, swept(tiny), 50) == 50
    assert audit(tiny, replace(moved_away(swept(tiny)), inner=True), 50) == 50


def test_fewer_points_are_drawn_where_volumes_tell_what_is_lost(monkeypatch):
    problem, map_, drawn = MIXED.problem, MIXED.map, []
    draw = checks._draw
    monkeypatch.setattr(
        checks, "_draw", lambda problem, count, seed: drawn.append(count) or draw(problem, count, seed)
    )
    assert len(map_.pattern) < 256
    check_cover(problem, map_)
    check_cover(problem, replace(map_, inner=True))
    check_cover(problem, part_of(map_, np.arange(map_.cells.count - 1)))
    many = np.concatenate([map_.pattern, np.arange(10_000, dtype=np.uint64)])
    check_cover(problem, replace(map_, pattern=many))
    assert drawn == [32, 64, 64, 64]


def test_a_nearly_level_unit_has_no_pattern_of_its_own_at_a_point(monkeypatch):
    """At a point it is as far off its breakpoint as counts as on it, and farther at a corner of its cell."""
    monkeypatch.setattr(learning, "apart", lambda _graph, _values, tolerances: tolerances)  # as if unseen
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)).double()
    with torch.no_grad():
        net[1].weight[:] = torch.tensor([[1.0, 2e-10 - 1.0], [1.0, 1.0]], dtype=torch.float64)
        net[1].bias[:] = 0.0
        net[3].weight[:] = torch.tensor([[1.0, 1.0], [0.5, 0.5]])
        net[3].bias[:] = 0.0
    answer = sg.verify(net.eval(), np.full((1, 1, 2), 0.3), Brightness(-0.29, 0.3), threads=1)
    problem = answer.problem
    thetas = np.linspace(-0.289, 0.299, 400)[:, None]
    names = problem.stages.pattern_names_at(problem.unclipped(thetas))
    map_ = replace(answer.map, rest=1e-3)  # as of a search that was stopped
    level = ~np.isin(names, map_.pattern)
    assert level.any()
    checks.check_patterns(problem, map_, thetas)
    # On its other piece it explains this pattern, and no other.
    with pytest.raises(InternalCheckError, match="another activation pattern"):
        checks.check_patterns(problem, replace(map_, pattern=map_.pattern + np.uint64(1)), thetas[level])
    with pytest.raises(InternalCheckError, match="another activation pattern"):
        checks.check_patterns(problem, replace(map_, pattern=map_.pattern + np.uint64(1)), thetas)
