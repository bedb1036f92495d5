"""How close to a breakpoint counts as on it, from what rounding leaves: by the formula, all rows at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.reading import noise
from steadygaze.network.reading.load import load_network
from steadygaze.network.reading.noise import DOUBLE, apart, gaps_of, noise_at


def small_network(pooled):
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.ReLU()]
    layers += [nn.MaxPool2d(2)] * pooled + [nn.Flatten(), nn.Linear(16 if pooled else 64, 6), nn.ReLU()]
    return load_network(nn.Sequential(*layers, nn.Linear(6, 3)).eval(), input_shape=(1, 6, 6)).graph


def by_formula(graph, values, tolerances, original):
    every, found = noise_at(graph, values[0], values), dict(tolerances)
    for index, slack in tolerances.items():
        layer, source = graph.nodes[index].layer, graph.nodes[index].inputs[0]
        rows = [original] if isinstance(layer, MaxPool) else list(range(len(values[0])))
        least = torch.full_like(slack, torch.inf)
        for row in rows:
            gaps = torch.stack(gaps_of(layer, values[source][row : row + 1].flatten(1)))[:, 0]
            own = every[source][row].flatten()
            if isinstance(layer, MaxPool):
                own = own[layer.windows.clamp_min(0)].masked_fill(layer.windows < 0, 0.0).amax(dim=1)
            told = (gaps <= slack) & (gaps > 1e-3 * slack) & (gaps > DOUBLE * own)
            least = torch.minimum(least, gaps.masked_fill(~told, torch.inf).amin(dim=0))
        found[index] = torch.minimum(slack, (least / 8).maximum(1e-3 * slack))
    return found


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("width", [0.001, 0.02, 0.3])
def test_tolerances_are_those_of_the_formula(pooled, width, monkeypatch):
    graph = small_network(pooled)
    images = torch.from_numpy(np.random.default_rng(3).uniform(0, 1, (5, 1, 6, 6)))
    values = graph.values_at(images, range(len(graph.nodes)))
    tolerances = {
        index: torch.full((values[graph.nodes[index].inputs[0] if not pool else index][0].numel(),), width)
        for index in graph.piecewise
        for pool in [isinstance(graph.nodes[index].layer, MaxPool)]
    }
    tolerances = {index: own.double() for index, own in tolerances.items()}
    assert all(isinstance(graph.nodes[i].layer, PiecewiseLinear | MaxPool) for i in tolerances)
    wanted, rows = by_formula(graph, values, tolerances, 2), list[int]()

    def counted(own, x, *rest):
        rows.append(len(x))
        return noise_at(own, x, *rest)

    monkeypatch.setattr(noise, "noise_at", counted)
    found = apart(graph, values, tolerances, original=2)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[index], wanted[index]) for index in wanted)
    changed = any((found[index] < tolerances[index]).any() for index in found)
    assert changed or width < 0.01


def test_noise_is_worked_out_for_the_images_that_need_it_alone(monkeypatch):
    graph, rows = small_network(False), list[int]()
    images = torch.from_numpy(np.random.default_rng(3).uniform(0, 1, (5, 1, 6, 6)))
    values = graph.values_at(images, range(len(graph.nodes)))
    first = graph.piecewise[0]
    sums = values[graph.nodes[first].inputs[0]].flatten(1).abs()
    nearest = sums.amin(dim=0)
    alone = torch.where(sums.argmin(dim=0) == 3, nearest * 1.001, 0.0)

    def counted(own, x, *rest):
        rows.append(len(x))
        return noise_at(own, x, *rest)

    monkeypatch.setattr(noise, "noise_at", counted)
    assert (apart(graph, values, {first: alone})[first] < alone).any()
    assert rows == [1]
