from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from formed import affine_part, coordinates
from steadygaze.enclosing.forms import Forms
from steadygaze.errors import SettingError
from steadygaze.network.bounding.bounds import bounds_of
from steadygaze.network.reading.load import load_network
from steadygaze.network.saliencies import SALIENCIES, by_name
from steadygaze.network.saliency import (
    AbsGradient,
    GradCam,
    Gradient,
    GradientTimesInput,
    SoftmaxGradient,
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


@pytest.mark.parametrize("name", [name for name in SALIENCIES if name != "integrated-gradients"])
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
        match="'gradcam', allowed are gradient, abs-gradient, gradient-x-input, softmax-gradient, integ",
    ):
        by_name("gradcam")
    with pytest.raises(SettingError, match="leave the channel sum out"):
        by_name("grad-cam", channel_sum=True)


# -- over boxes

ENCLOSED = [*RULES, SoftmaxGradient(), SoftmaxGradient(channel_sum=True), GradCam()]


@pytest.fixture(scope="module")
def graphs(module, graph):
    """A network of pieces, one of them scaled so that softmax saturates, and a smooth one."""
    torch.manual_seed(2)
    head = (nn.Flatten(), nn.Linear(144, 6), nn.Tanh(), nn.Linear(6, 3))
    smooth = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), *head).double()
    loud = nn.Sequential(*module[:-1], nn.Linear(24, 3)).double()
    with torch.no_grad():
        loud[-1].weight.copy_(200 * module[-1].weight)
    return {"pieces": graph} | {
        name: load_network(own, input_shape=(3, 8, 8)).graph
        for name, own in (("loud", loud), ("smooth", smooth))
    }


@pytest.mark.parametrize("kind", ["pieces", "loud", "smooth"])
@pytest.mark.parametrize("saliency", ENCLOSED, ids=lambda s: f"{s.name}{' summed' if s.channel_sum else ''}")
def test_enclosed_maps_hold_the_maps(saliency, kind, graphs, images):
    """At the coordinates where they are, whatever symbols are; and within bounds over the box."""
    graph, rng = graphs[kind], np.random.default_rng(3)
    for width in (1e-4, 0.02, 0.3):
        rows = torch.from_numpy(rng.uniform(-width, width, (5, 3, 3, 8, 8)))
        rows[:, 0] = images
        error = torch.from_numpy(rng.choice([0.0, 0.01 * width], (5, 3, 8, 8)))
        pixels = Forms(rows, error, 2)
        for room in (0, 24):
            bounds = bounds_of(graph, pixels, {*saliency.reads(graph, 0)}, {}, room)
            enclosed = saliency.enclosed(bounds, 0, 0)
            assert enclosed.shape == saliency.map_shape(graph)
            low, high = enclosed.bounds()
            for _ in range(6):
                t = coordinates(rng, 5, 2)
                shares = torch.from_numpy(rng.choice([-1.0, 1.0], tuple(error.shape)))
                maps = saliency.maps(graph, affine_part(pixels, t, t[:, :0]) + shares * error, 0)
                slack = 1e-12 * (1 + maps.abs().max())
                assert ((maps - affine_part(enclosed, t, t[:, :0])).abs() <= enclosed.strays + slack).all()
                assert ((maps >= low - slack) & (maps <= high + slack)).all()


@pytest.mark.parametrize("saliency", ENCLOSED, ids=lambda s: f"{s.name}{' summed' if s.channel_sum else ''}")
def test_enclosed_maps_close_in(saliency, graphs, images):
    """Of a smooth network, what is not affine in the box shrinks fourfold when the box is halved."""
    rng, lost = np.random.default_rng(4), []
    slopes = torch.from_numpy(rng.uniform(-1, 1, (5, 2, 3, 8, 8)))
    for width in (2e-3, 1e-3):
        pixels = Forms(torch.cat([images[:, None], width * slopes], dim=1), torch.zeros_like(images), 2)
        bounds = bounds_of(graphs["smooth"], pixels, {*saliency.reads(graphs["smooth"], 0)}, {}, 0)
        lost.append(saliency.enclosed(bounds, 0, 0).strays.flatten(1).sort(dim=1).values)
    # Less those few entries at which a magnitude bends.
    coarse, fine = (float(own[:, : max(1, int(0.9 * own.shape[1]))].sum()) for own in lost)
    assert fine < coarse / 3.5


@pytest.mark.parametrize("gap", [0.0, 5.0, 40.0, 800.0])
def test_enclosed_seeds_hold_softmax(gap):
    """However saturated: probabilities and their complements, which add up to 0."""
    rng, saliency = np.random.default_rng(5), SoftmaxGradient()
    for reach in (1e-6, 0.1, 3.0, 50.0):
        rows = torch.from_numpy(rng.uniform(-reach, reach, (20, 3, 4)))
        rows[:, 0] += torch.tensor([gap, 0.0, 0.5, -gap])
        error = torch.from_numpy(rng.choice([0.0, reach], (20, 4)))
        logits = Forms(rows, error, 2)
        seed = saliency.enclosed_seed(logits, 0)
        for _ in range(20):
            t = coordinates(rng, 20, 2)
            shares = torch.from_numpy(rng.choice([-1.0, 1.0], (20, 4)))
            plain = saliency.seed(affine_part(logits, t, t[:, :0]) + shares * error, 0)
            assert ((plain - affine_part(seed, t, t[:, :0])).abs() <= seed.strays + 1e-15).all()
