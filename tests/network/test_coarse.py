"""Estimates in single precision are those in double precision, but for their last digits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from steadygaze.network import coarse, layers
from steadygaze.network.layers import AbstractAffine
from steadygaze.network.reading.load import load_network
from steadygaze.network.reading.noise import noise_at
from steadygaze.network.regions.rounding import (
    most_terms_of_maps,
    scales_of,
    terms_of_gradients,
    uneven,
)
from steadygaze.network.saliency import Gradient


def alike(own: torch.Tensor, plain: torch.Tensor) -> bool:
    """To five digits, however small they are."""
    return torch.allclose(own, plain, rtol=1e-5, atol=0.0)


def graph_of(scale: float = 1.0):
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, stride=2, bias=False),
        nn.LeakyReLU(0.1),
        nn.Flatten(),
        nn.Linear(32, 5),
    ).double()
    with torch.no_grad():
        list(net.parameters())[2].mul_(scale)
    return load_network(net.eval(), input_shape=(1, 10, 10)).graph


@pytest.fixture
def small_ones_too(monkeypatch):
    monkeypatch.setattr(layers, "_MANY_WEIGHTS", 1)


def images(count: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random((count, 1, 10, 10)))


def estimates(graph) -> list[torch.Tensor]:
    x = images()
    values = graph.values_at(x, range(len(graph.nodes)))
    terms = terms_of_gradients(graph, graph.seed(2, len(x)), graph.pieces_of(values))
    return [
        *scales_of(graph, values).values(),
        *noise_at(graph, x, values).values(),
        terms,
        most_terms_of_maps(Gradient(), graph, x, 2),
    ]


@pytest.mark.usefixtures("small_ones_too")
@pytest.mark.parametrize("scale", [1.0, 1e12, 1e-12])
def test_estimates_have_their_first_digits(monkeypatch, scale):
    graph = graph_of(scale)
    followed = [n.layer for n in graph.nodes if isinstance(n.layer, AbstractAffine) and n.layer.coarse]
    assert followed
    found = estimates(graph)
    monkeypatch.setattr(layers, "_MANY_WEIGHTS", 10**9)
    for own, plain in zip(found, estimates(graph_of(scale)), strict=True):
        assert own.dtype == torch.float64
        assert alike(own, plain)


@pytest.mark.usefixtures("small_ones_too")
@pytest.mark.parametrize("scale", [1e-30, 1e30, 1e100])
def test_weights_that_leave_single_precision_are_followed_in_double(monkeypatch, scale):
    graph = graph_of(scale)
    (layer,) = (n.layer for n in graph.nodes if isinstance(n.layer, AbstractAffine) and n.shape == (8, 2, 2))
    assert layer.coarse is None
    found = estimates(graph)
    assert all(own.isfinite().all() for own in found)
    monkeypatch.setattr(layers, "_MANY_WEIGHTS", 10**9)
    for own, plain in zip(found, estimates(graph_of(scale)), strict=True):
        assert alike(own, plain)


@pytest.mark.usefixtures("small_ones_too")
@pytest.mark.parametrize("size", [1e-40, 1e-300, 1e40])
def test_values_that_leave_single_precision_are_followed_in_double(size):
    layer = next(n.layer for n in graph_of().nodes if isinstance(n.layer, AbstractAffine) and n.layer.coarse)
    x = images() * size
    assert torch.equal(coarse.magnitude(layer, x), layer.magnitude(x))
    back = torch.full((1, 6, 10, 10), size, dtype=torch.float64)
    shapes = ((1, 10, 10),)
    (own,), (plain,) = coarse.magnitude_back(layer, back, shapes), layer.absolute.transpose(back, shapes)
    assert alike(own, plain)
    assert own.any()


@pytest.mark.usefixtures("small_ones_too")
def test_nothing_is_lost_of_what_is_not_a_number():
    layer = next(n.layer for n in graph_of().nodes if isinstance(n.layer, AbstractAffine) and n.layer.coarse)
    x = images()
    x[0, 0, 0, 0] = torch.nan
    assert coarse.magnitude(layer, x).isnan().any()


@pytest.mark.usefixtures("small_ones_too")
def test_terms_that_are_unlike_are_seen_in_single_precision_as_in_double(monkeypatch):
    """A unit that sums little beside what it may sum: by so much that single precision tells it."""
    x, net = images(), nn.Sequential(nn.Flatten(), nn.Linear(100, 4, bias=False), nn.ReLU(), nn.Linear(4, 3))
    torch.manual_seed(0)
    x[1] *= 1e-9
    told = []
    for many in (1, 10**9):
        monkeypatch.setattr(layers, "_MANY_WEIGHTS", many)
        graph = load_network(net.double().eval(), input_shape=(1, 10, 10)).graph
        values = graph.values_at(x, range(len(graph.nodes)))
        told.append(uneven(graph, values, scales_of(graph, values)))
    assert told == [True, True]
