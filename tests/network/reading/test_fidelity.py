"""Planted faults: an import that is wrong in any layer must not pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from steadygaze.errors import FidelityError
from steadygaze.network.graph import Graph
from steadygaze.network.layers import Conv, Dense
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.reading.fidelity import check_fidelity
from steadygaze.network.reading.load import load_network
from steadygaze.network.reading.originals import AbstractOriginal


class WithoutGradient(AbstractOriginal):
    """The same original in a runtime that has no gradients."""

    def __init__(self, original):
        self.preparation = original.preparation
        self._original = original

    def logits(self, images):
        return self._original.logits(images)

    def gradient(self, images, label):
        return None


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 8),
        nn.LeakyReLU(),
        nn.Linear(8, 3),
    )
    return load_network(module, input_shape=(1, 8, 8))


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(0, 1, (9, 1, 8, 8))


def with_layer(network, index, layer):
    nodes = list(network.graph.nodes)
    nodes[index] = replace(nodes[index], layer=layer)
    return replace(network, graph=Graph(tuple(nodes)))


def test_a_right_import_passes_by_either_way(network, images):
    found = check_fidelity(network, images)
    assert found.gradient_by == "autograd"
    assert found.logits < 1e-6
    assert found.gradient < 1e-5
    blind = replace(network, original=WithoutGradient(network.original))
    assert check_fidelity(blind, images).gradient_by == "finite differences"


@pytest.mark.parametrize("layer", [nn.Hardtanh(), nn.ReLU6()], ids=["hard tanh", "relu6"])
def test_units_exactly_at_the_end_of_a_clip_pass(layer):
    """PyTorch has no slope there, where others go on; some image of a few greys meets it exactly."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False), layer, nn.Linear(2, 2)).double()
    with torch.no_grad():
        module[1].weight[:] = torch.tensor([[2.0, 0.0, 0.0, 0.0], [12.0, 0.0, 0.0, 0.0]])
    images = np.concatenate(
        [np.full((1, 1, 2, 2), 0.5), np.random.default_rng(0).uniform(0, 1, (3, 1, 2, 2))]
    )
    check_fidelity(load_network(module, input_shape=(1, 2, 2)), images)
    check_fidelity(load_network(module, input_shape=(1, 2, 2)), images[:1])


def test_a_wrong_value_anywhere_is_found(network, images):
    planted = 0
    for index, node in enumerate(network.graph.nodes):
        if isinstance(node.layer, Conv | Dense):
            wrong = [
                replace(node.layer, weight=node.layer.weight.flip(-1)),
                replace(node.layer, bias=node.layer.bias + 0.01),
            ]
        elif isinstance(node.layer, PiecewiseLinear):
            wrong = [replace(node.layer, slopes=torch.tensor([[0.02], [1.0]]).double())]
        else:
            continue
        for layer in wrong:
            planted += 1
            with pytest.raises(FidelityError, match="the logits of the imported network Sequential differ"):
                check_fidelity(with_layer(network, index, layer), images)
    assert planted == 8


class Crooked(Graph):
    """Right values, wrong gradients."""

    def pull_back(self, seed, pieces, to=0):
        return super().pull_back(seed, pieces, to).flip(-1)


@pytest.mark.parametrize("autograd", [True, False])
def test_a_wrong_gradient_is_found(network, images, autograd):
    original = network.original if autograd else WithoutGradient(network.original)
    crooked = replace(network, graph=Crooked(network.graph.nodes), original=original)
    with pytest.raises(FidelityError, match="the gradient of the imported network Sequential differs"):
        check_fidelity(crooked, images)


def test_a_gradient_that_takes_the_wrong_winner_is_found(network, images):
    class Misrouted(Graph):
        def logits_and_pieces(self, x, tolerances=None):
            logits, pieces = super().logits_and_pieces(x, tolerances)
            pools = [i for i, node in enumerate(self.nodes) if isinstance(node.layer, MaxPool)]
            return logits, {i: 3 - p if i in pools else p for i, p in pieces.items()}

    misrouted = replace(network, graph=Misrouted(network.graph.nodes))
    with pytest.raises(FidelityError, match="the gradient"):
        check_fidelity(misrouted, images)


@pytest.mark.parametrize("autograd", [True, False])
def test_a_wrong_derivative_of_smooth_units_is_found(images, autograd):
    class Steeper(Graph):
        def logits_and_pieces(self, x, tolerances=None):
            logits, pieces = super().logits_and_pieces(x, tolerances)
            return logits, {i: 1.1 * p if i in self.smooth else p for i, p in pieces.items()}

    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Sigmoid(), nn.Linear(8, 3))
    network = load_network(module, input_shape=(1, 8, 8))
    original = network.original if autograd else WithoutGradient(network.original)
    network = replace(network, original=original)
    assert check_fidelity(network, images).gradient < 1e-3
    with pytest.raises(FidelityError, match="the gradient"):
        check_fidelity(replace(network, graph=Steeper(network.graph.nodes)), images)


def test_units_on_their_kink_do_not_raise_alarms():
    """Blank images put every unit without a bias exactly on its kink."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)
    )
    network = load_network(module, input_shape=(1, 8, 8))
    images = np.zeros((5, 1, 8, 8))
    images[1:, 0, 2, 2] = 0.5
    check_fidelity(network, images)
    check_fidelity(replace(network, original=WithoutGradient(network.original)), images)


def test_another_number_of_classes_is_found(network, images):
    other = load_network(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), input_shape=(1, 8, 8))
    with pytest.raises(FidelityError, match="allowed are equal shapes"):
        check_fidelity(replace(network, original=other.original), images)
