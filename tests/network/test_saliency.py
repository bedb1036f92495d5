from __future__ import annotations

import pytest
import torch
from torch import nn

from steadygaze.errors import SettingError
from steadygaze.network.load import load_network
from steadygaze.network.saliency import (
    SALIENCIES,
    AbsGradient,
    GradCam,
    Gradient,
    GradientTimesInput,
    SoftmaxGradient,
    by_name,
)


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


def gradient_by_autograd(score, images):
    x = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(score(x).sum(), x)
    return gradient


RULES = {
    Gradient(): lambda g, x: g,
    Gradient(channel_sum=True): lambda g, x: g.sum(1),
    AbsGradient(): lambda g, x: g.abs(),
    AbsGradient(channel_sum=True): lambda g, x: g.abs().sum(1),
    GradientTimesInput(): lambda g, x: g * x,
    GradientTimesInput(channel_sum=True): lambda g, x: (g * x).sum(1),
}


@pytest.mark.parametrize("saliency", RULES, ids=str)
def test_gradient_maps_equal_autograd(saliency, module, graph, images):
    gradient = gradient_by_autograd(lambda x: module(x)[:, 1], images)
    expected = RULES[saliency](gradient, images)
    maps = saliency.maps(graph, images, 1)
    assert torch.allclose(maps, expected, atol=1e-12)
    assert maps.shape[1:] == saliency.map_shape(graph)
    if not saliency.times_pixels:
        assert torch.equal(saliency.from_gradient(gradient), expected.flatten(1))


@pytest.mark.parametrize("label", [0, 1, 2])
def test_softmax_gradient_is_the_gradient_of_the_probability_without_its_factor(label, module, graph, images):
    gradient = gradient_by_autograd(lambda x: module(x).softmax(1)[:, label], images)
    factor = module(images).softmax(1)[:, label].detach()
    maps = SoftmaxGradient().maps(graph, images, label)
    assert maps.abs().max() > 1e-3
    assert torch.allclose(maps * factor[:, None, None, None], gradient, atol=1e-12)
    summed = SoftmaxGradient(channel_sum=True).maps(graph, images, label)
    assert torch.allclose(summed, maps.sum(1), atol=1e-14)


def test_softmax_gradient_has_a_direction_where_the_probability_is_rounded_to_one():
    logits = torch.tensor([[60.0, 1.0, 0.0], [0.0, 60.0, 0.0]], dtype=torch.float64)
    seed = SoftmaxGradient().seed(logits, 0)
    assert torch.allclose(seed.sum(1), torch.zeros(2, dtype=torch.float64), atol=1e-15)
    assert (seed[:, 0] > 0).all()
    rival = -seed[0, 1:] / seed[0, 0]
    assert torch.allclose(rival, logits[0, 1:].softmax(0), rtol=1e-12)


@pytest.mark.parametrize("name", SALIENCIES)
def test_maps_of_smooth_networks_equal_autograd(name, images):
    """On a network of SiLU and sigmoid units: Grad-CAM looks after the SiLU."""
    torch.manual_seed(1)
    convolution, head = nn.Conv2d(3, 4, 3), nn.Sequential(nn.Flatten(), nn.Linear(144, 6), nn.Sigmoid())
    module = nn.Sequential(convolution, nn.SiLU(), *head, nn.Linear(6, 3)).double()
    graph = load_network(module, input_shape=(3, 8, 8)).graph
    gradient = gradient_by_autograd(lambda x: module(x)[:, 1], images)
    if name == "grad-cam":
        features = module[:2](images).detach()
        weights = gradient_by_autograd(lambda x: module[2:](x)[:, 1], features).mean((2, 3), keepdim=True)
        expected = (weights * features).sum(1).relu()
    elif name == "softmax-gradient":
        chances = module(images).softmax(1).detach()
        expected = gradient_by_autograd(lambda x: module(x).softmax(1)[:, 1], images)
        expected /= chances[:, 1, None, None, None]
    else:
        expected = RULES[by_name(name)](gradient, images)
    assert torch.allclose(by_name(name).maps(graph, images, 1), expected, atol=1e-12)
    assert expected.abs().max() > 1e-4


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
    assert by_name("softmax-gradient", channel_sum=True) == SoftmaxGradient(channel_sum=True)


def test_by_name_refuses_what_does_not_exist():
    with pytest.raises(
        SettingError,
        match="'gradcam', allowed are gradient, abs-gradient, gradient-x-input, softmax-gradient, grad-cam",
    ):
        by_name("gradcam")
    with pytest.raises(SettingError, match="leave the channel sum out"):
        by_name("grad-cam", channel_sum=True)
