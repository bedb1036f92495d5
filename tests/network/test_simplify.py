"""Activations behind the pooling that reads them: the same values and gradients, where they never fall."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.reading.load import load_network
from steadygaze.network.simplify import pooled_first
from steadygaze.network.smooth import Smooth

RISING = [nn.ReLU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.ELU, nn.Softsign]
FALLING = [nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Tanhshrink]


def pooling(act):
    torch.manual_seed(3)
    layers = [nn.Conv2d(1, 3, 3), act(), nn.MaxPool2d(3, 2, 1), nn.Flatten(), nn.LazyLinear(3)]
    module = nn.Sequential(*layers).double()
    module(torch.zeros(1, 1, 8, 8, dtype=torch.float64))
    return load_network(module, input_shape=(1, 8, 8)).graph


def logits_and_maps(graph, images):
    images = images.clone().requires_grad_(True)
    logits = graph.forward(images)
    return logits.detach(), torch.autograd.grad(logits[:, 0].sum(), images)[0]


@pytest.mark.parametrize("act", RISING)
def test_what_never_falls_goes_behind(act):
    graph = pooling(act)
    moved = pooled_first(graph, ())
    kinds = [type(node.layer) for node in moved.nodes]
    pool = kinds.index(MaxPool)
    assert kinds[pool + 1] in (PiecewiseLinear, Smooth)
    assert kinds[pool - 1] not in (PiecewiseLinear, Smooth)
    images = 3 * torch.randn(20, 1, 8, 8, dtype=torch.float64)
    for one, other in zip(logits_and_maps(graph, images), logits_and_maps(moved, images), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("act", [*FALLING, nn.ReLU6, nn.Hardtanh, nn.Hardsigmoid])
def test_what_falls_or_is_level_above_a_rise_stays(act):
    """Of values that are equal behind ReLU6 the first wins; if it was 6, its slope is 1, not that of 7."""
    graph = pooling(act)
    assert [type(node.layer) for node in pooled_first(graph, ()).nodes] == [
        type(node.layer) for node in graph.nodes
    ]


def test_what_falls_and_goes_behind_is_caught(monkeypatch):
    monkeypatch.setattr(Smooth, "rises", True)
    graph = pooling(nn.GELU)
    images = torch.randn(20, 1, 8, 8, dtype=torch.float64)
    assert not torch.allclose(graph.forward(images), pooled_first(graph, ()).forward(images), atol=1e-3)


def test_what_is_kept_stays():
    graph = pooling(nn.Sigmoid)
    (act,) = (index for index, node in enumerate(graph.nodes) if isinstance(node.layer, Smooth))
    assert isinstance(pooled_first(graph, {act}).nodes[act].layer, Smooth)
