"""What replays is the original: an import that goes wrong after it was compared is noticed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import steadygaze as sg
from steadygaze.errors import InternalCheckError, ModelError
from steadygaze.geometry.kinds import ATTENTION_CHANGED, ROBUST
from steadygaze.geometry.measure import centres
from steadygaze.network.graph import Graph
from steadygaze.network.layers import Dense
from steadygaze.network.saliency import by_name
from steadygaze.question.problem import Problem
from steadygaze.verdict.checks import audit
from steadygaze.verdict.driver import solve
from steadygaze.verdict.plain import decided_by_rounding
from steadygaze.verdict.witness import find_witness
from variants import Variant

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
    images = problem.images(thetas)
    np.testing.assert_allclose(problem.replayed_maps(images), problem.maps_at(images), atol=1e-9)


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


def test_the_imported_network_stands_in_where_the_original_has_no_gradients(monkeypatch):
    problem = replace(MIXED).problem

    def refuse(*_):
        raise ModelError("none")

    monkeypatch.setattr(type(problem.network.original), "gradients", refuse)
    images = problem.images(MIXED.draw(3))
    assert torch.equal(problem.replayed_maps(images), problem.maps_at(images))


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
