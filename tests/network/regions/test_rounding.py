"""Whether terms are unlike: what constant terms settle, sums of all terms would, too. And who ties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import steadygaze as sg
from graphs import relu
from sparing import sparing
from steadygaze.network.building import GraphBuilder
from steadygaze.network.layers import AbstractAffine, Conv, Dense
from steadygaze.network.pieces import MaxPool
from steadygaze.network.regions.rounding import scales_of, tolerances_of, uneven
from steadygaze.question.problem import Problem
from unlike import drawn
from variants import NETWORKS, network, picture


def noted(problem: Problem):
    """The graph with its clip, values of its nodes at some images, and the scales there."""
    graph, (low, high) = problem.graph, problem.box.T
    thetas = low + np.linspace(0, 1, 5)[:, None] * (high - low)
    values = graph.values_at(problem.unclipped(thetas), range(len(graph.nodes)))
    return graph, values, scales_of(graph, values)


def seen(module: nn.Module, image: np.ndarray, clip: tuple[float, float] | None):
    spec = "brightness(amount=-0.2..0.2)"
    return noted(sg.verify(module, image, spec, clip=clip, claim="class", regions_limit=1).problem)


def by_all_terms(graph, values, scales) -> bool:
    """`uneven` by the terms of every node, summed one by one from the values before it."""
    sizes: dict[int, Tensor] = {}
    for index, node in enumerate(graph.nodes):
        if isinstance(node.layer, AbstractAffine):
            sizes[index] = node.layer.magnitude(*(sizes[source] for source in node.inputs))
        else:
            size = values[index].abs()
            sizes[index] = torch.cat([size.amin(dim=0, keepdim=True), size[:8]])
        if index in scales:
            flat, least = sizes[index].flatten(1), scales[index]
            if ((flat[0] > 0) & (flat[0] < 1e-9 * least)).any():
                return True
            if ((flat[1:] > 0) & (flat[1:] < 1e-7 * least)).any():
                return True
    return False


@pytest.mark.parametrize("clip", [None, (0.0, 1.0)], ids=["no clip", "clip"])
@pytest.mark.parametrize("name", sparing(sorted(NETWORKS)))
def test_constant_terms_settle_only_what_is_so(name, clip):
    image = picture(3 if name.startswith("colour") else 1)
    given = seen(network(name), image, clip)
    assert uneven(*given) == by_all_terms(*given)


def test_terms_that_are_unlike_are_still_seen():
    unlike = 0
    for seed in range(24):
        try:
            given = noted(drawn(seed).asked("sweep").problem)
        except sg.SettingError:  # a few have no map to follow
            continue
        unlike += uneven(*given)
        assert uneven(*given) == by_all_terms(*given)
    assert 0 < unlike < 24


def test_a_residual_network_is_settled_without_a_convolution(monkeypatch):
    """Sums of two branches have the constant terms of both, and so nothing is summed."""
    graph, values, scales = seen(network("residual"), picture(1), (0.0, 1.0))
    made = list[Conv]()
    own = Conv.forward
    monkeypatch.setattr(Conv, "forward", lambda layer, *xs: (made.append(layer), own(layer, *xs))[1])
    assert not uneven(graph, values, scales)
    assert not made


@pytest.mark.parametrize("slope", [0.0, 0.25])
def test_windows_tie_by_what_the_terms_of_their_activation_leave(slope):
    """Not by what passes it: of terms of 5 that cancel to 1e-9 rounding leaves as much as of 5."""
    builder = GraphBuilder((3,))
    weight = torch.tensor([[5.0, -5.0, 0.0], [5.0, -5.0, 1.0], [2.0, 0.0, 0.0]]).double()
    summed = builder.add(Dense(weight, torch.zeros(3).double()), 0, name="summed")
    bent = builder.add(relu(slope), summed, name="bent")
    windows = torch.tensor([[0, 1], [2, -1]])
    graph = builder.build(builder.add(MaxPool(windows, (3,), (2,)), bent, name="pooled"))
    x = torch.tensor([[1.0, 1.0, 1e-9]]).double()
    found = tolerances_of(graph, scales_of(graph, graph.values_at(x, range(4))), 1e-11)
    assert found[bent].tolist() == pytest.approx([1e-10, 1.1e-10, 2e-11])  # pixels count as 1 at least
    assert found[bent + 1].tolist() == pytest.approx([1.1e-10, 2e-11])
