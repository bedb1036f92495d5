"""By what factor rows may grow on their way back: through products, too, where their factors are bounded."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from smooth_networks import SqueezeExcitation
from steadygaze.network.reading.load import load_network


class Gated(nn.Module):
    """A product of two computed values, with layers before and after it."""

    def __init__(self, first, second, behind=nn.Identity):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(16, 6), nn.Linear(16, 6), nn.Linear(6, 3)
        self.first, self.second, self.behind = first(), second(), behind()

    def forward(self, x):
        x = x.flatten(1)
        return self.out(self.behind(self.first(self.a(x)) * self.second(self.b(x))))


BOUNDED = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu6": nn.ReLU6,
    "hard sigmoid": nn.Hardsigmoid,
    "behind a layer": lambda: nn.Sequential(nn.Tanh(), nn.Linear(6, 6), nn.ReLU()),
}
UNBOUNDED = {"none": nn.Identity, "relu": nn.ReLU, "silu": nn.SiLU, "softplus": nn.Softplus}


def graph_of(*layers):
    torch.manual_seed(3)
    return load_network(Gated(*layers).double().eval(), input_shape=(1, 4, 4)).graph


@pytest.mark.parametrize("name", BOUNDED)
def test_gradients_of_products_of_bounded_factors_are_no_steeper(name):
    graph = graph_of(BOUNDED[name], nn.Sigmoid, nn.Tanh)
    assert graph.growth < 1e3
    assert not graph.drowns
    torch.manual_seed(4)
    images = (20 * torch.randn(2000, 1, 4, 4, dtype=torch.float64)).requires_grad_()
    for own in graph.forward(images).sum(dim=0):
        (slope,) = torch.autograd.grad(own, images, retain_graph=True)
        assert float(slope.abs().max()) <= graph.growth


@pytest.mark.parametrize("name", UNBOUNDED)
def test_nothing_is_known_where_a_factor_is_not_bounded(name):
    assert math.isinf(graph_of(UNBOUNDED[name], nn.Sigmoid).growth)


def test_a_gate_grows_by_all_that_it_weighs():
    assert math.isinf(load_network(SqueezeExcitation().eval(), input_shape=(1, 6, 6)).graph.growth)


def test_a_product_grows_by_the_larger_of_both_factors():
    torch.manual_seed(0)
    model = Gated(nn.Tanh, lambda: nn.Hardtanh(-50.0, 50.0)).double().eval()
    with torch.no_grad():
        model.out.weight.fill_(1.0)
        model.a.weight.fill_(0.25)
        model.b.weight.fill_(0.25)
    # 3 of the last layer, 50 and 1 of the factors, slopes of at most 1, 6 · 0.25 of the first layers.
    growth = load_network(model, input_shape=(1, 4, 4)).graph.growth
    assert 3 * 50 * 6 * 0.25 <= growth <= 3 * 51 * 6 * 0.25 * (1 + 1e-5)
