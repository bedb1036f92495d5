from __future__ import annotations

import pytest
import torch
from torch import nn

from steadygaze.errors import SettingError
from steadygaze.network.load import load_network
from steadygaze.network.saliency import SALIENCIES, AbsGradient, GradCam, Gradient, by_name


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24, 3),
    ).double()


@pytest.fixture(scope="module")
def graph(module):
    return load_network(module, input_shape=(3, 8, 8)).graph


@pytest.fixture
def images():
    return torch.rand((5, 3, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def gradient_by_autograd(module, images):
    x = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(module(x)[:, 1].sum(), x)
    return gradient


RULES = {
    Gradient(): lambda g: g,
    Gradient(channel_sum=True): lambda g: g.sum(1),
    AbsGradient(): lambda g: g.abs(),
    AbsGradient(channel_sum=True): lambda g: g.abs().sum(1),
}


@pytest.mark.parametrize("saliency", RULES, ids=str)
def test_gradient_maps_equal_autograd(saliency, module, graph, images):
    gradient = gradient_by_autograd(module, images)
    expected = RULES[saliency](gradient)
    maps = saliency.maps(graph, images, 1)
    assert torch.allclose(maps, expected, atol=1e-12)
    assert maps.shape[1:] == saliency.map_shape(graph)
    assert torch.equal(saliency.from_gradient(gradient), expected.flatten(1))


def test_grad_cam_equals_its_definition(module, graph, images):
    features = module[:5](images).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(module[5:](features)[:, 1].sum(), features)
    weights = gradient.mean((2, 3), keepdim=True)
    expected = (weights * features).sum(1).relu().detach()
    maps = GradCam().maps(graph, images, 1)
    assert expected.abs().max() > 0
    assert torch.allclose(maps, expected, atol=1e-12)
    assert GradCam().map_shape(graph) == (2, 2)


def test_grad_cam_needs_a_convolution():
    graph = load_network(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), input_shape=(3, 2, 2)).graph
    with pytest.raises(SettingError, match="needs a convolution and the network has none"):
        GradCam().map_shape(graph)


@pytest.mark.parametrize("name", SALIENCIES)
def test_by_name_finds_every_saliency(name):
    assert by_name(name).name == name


def test_by_name_passes_the_channel_sum_on():
    assert by_name("gradient", channel_sum=True) == Gradient(channel_sum=True)
    assert by_name("abs-gradient", channel_sum=True) == AbsGradient(channel_sum=True)


def test_by_name_refuses_what_does_not_exist():
    with pytest.raises(
        SettingError, match="saliency is 'gradcam', allowed are gradient, abs-gradient, grad-cam"
    ):
        by_name("gradcam")
    with pytest.raises(SettingError, match="leave the channel sum out"):
        by_name("grad-cam", channel_sum=True)
