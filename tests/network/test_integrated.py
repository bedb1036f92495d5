"""Integrated gradients against autograd along the path, and against what they must add up to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import steadygaze as sg
from steadygaze.cli import run
from steadygaze.errors import NotPiecewiseAffine, SettingError
from steadygaze.network import integrated, paths
from steadygaze.network.paths import cuts
from steadygaze.network.reading.load import load_network
from steadygaze.network.saliencies import by_name
from steadygaze.question.images import Framing, load_image
from steadygaze.question.images.channels import as_many_channels
from steadygaze.question.inconsistency import by_name as inconsistency
from steadygaze.question.posing import pose

NAME = "integrated-gradients"
CHAIN = sg.Brightness(-0.2, 0.2) | sg.Patch(0, 1, top=1, left=1, size=2)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(36, 12), nn.Linear(12, 12), nn.Linear(12, 3)

    def forward(self, x):
        hidden = self.first(x.flatten(1))
        return self.last(hidden + self.second(hidden.relu()))


NETS = {
    "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.ReLU(), nn.Linear(16, 3)),
    "no hidden layer": lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 3)),
    "a rectifier last": lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 3), nn.ReLU()),
    "clipped": lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.ReLU6(), nn.Linear(16, 2)),
    "pooled": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.LeakyReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)
    ),
    "residual": Residual,
    "smooth": lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.Tanh(), nn.Linear(16, 3)),
}


def module_of(net):
    torch.manual_seed(3)
    return NETS[net]().double()


@pytest.fixture(params=NETS)
def net(request):
    return request.param


@pytest.fixture
def images():
    return torch.from_numpy(np.random.default_rng(0).uniform(0.1, 1, (3, 1, 6, 6)))


def by_autograd(module, image, start, label, steps=4000):
    """The integral as the mean at many middles."""
    share = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    points = (start + share[:, None, None, None] * (image - start)).requires_grad_()
    (found,) = torch.autograd.grad(module(points)[:, label].sum(), points)
    return (image - start) * found.mean(dim=0)


@pytest.mark.parametrize("baseline", ["black", "mean", "given"])
def test_maps_are_the_integral_and_add_up(net, images, baseline):
    module = module_of(net)
    graph = load_network(module, input_shape=(1, 6, 6)).graph
    given = np.random.default_rng(9).uniform(0, 1, (1, 6, 6))
    chosen = by_name(NAME, baseline=given if baseline == "given" else baseline)
    saliency = chosen.settled(graph, images[0].numpy())
    start = {
        "black": torch.zeros(1, 6, 6), "mean": images[0].mean().expand(1, 6, 6),
        "given": torch.from_numpy(given),
    }[baseline].double()  # fmt: skip
    maps = saliency.maps(graph, images, 1)
    size = maps.abs().amax()
    for image, own in zip(images, maps, strict=True):
        assert (own - by_autograd(module, image, start, 1)).abs().amax() <= 2e-3 * size
    with torch.no_grad():
        moved = module(images)[:, 1] - module(start[None])[:, 1]
    assert torch.allclose(maps.sum((1, 2, 3)), moved, atol=1e-9)  # completeness: section 3 of the paper
    summed = replace(saliency, channel_sum=True)
    assert torch.equal(summed.maps(graph, images, 1), maps.sum(1))


def _mixed(name, times):
    """Smooth units before, behind and beside others, for images of 6 x 6; weights are scaled."""
    torch.manual_seed(1)
    flat, conv = nn.Flatten(), nn.Conv2d(1, 3, 3, padding=1)
    layers = {
        "rectifiers before a sigmoid": [
            conv,
            nn.ReLU(),
            flat,
            nn.Linear(108, 8),
            nn.Sigmoid(),
            nn.Linear(8, 3),
        ],
        "rectifiers behind GELU": [
            *(flat, nn.Linear(36, 20), nn.GELU(), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 10), nn.Tanh()),
            *(nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 3)),
        ],
        "windows of curves": [conv, nn.Tanh(), nn.MaxPool2d(3, 2, 1), flat, nn.Linear(27, 3)],
        "a norm": [flat, nn.Linear(36, 12), nn.LayerNorm(12), nn.ReLU(), nn.Linear(12, 3)],
        "SELU": [flat, nn.Linear(36, 20), nn.SELU(), nn.Linear(20, 3)],
        "ELU": [flat, nn.Linear(36, 20), nn.ELU(0.7), nn.Linear(20, 3)],
    }[name]
    module = nn.Sequential(*layers).double().eval()
    with torch.no_grad():
        for weights in module.parameters():
            weights.mul_(times)
    return module


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize(
    "name",
    ["rectifiers before a sigmoid", "rectifiers behind GELU", "windows of curves", "a norm", "SELU", "ELU"],
)
def test_the_gradient_may_jump_on_a_curved_path(name, times, images):
    """Gauss's rule over jumps is off by 1e-5 of the map, which stands for the expected one in every claim."""
    module = _mixed(name, times)
    graph = load_network(module, input_shape=(1, 6, 6)).graph
    maps = by_name(NAME).settled(graph, images[0].numpy()).maps(graph, images, 1)
    with torch.no_grad():
        moved = module(images)[:, 1] - module(torch.zeros(1, 1, 6, 6, dtype=torch.float64))[:, 1]
    assert ((maps.sum((1, 2, 3)) - moved).abs() <= 1e-10 * maps.abs().sum((1, 2, 3))).all()
    sampled = by_autograd(module, images[0], torch.zeros(1, 6, 6), 1)
    assert (maps[0] - sampled).abs().amax() <= 2e-3 * sampled.abs().amax()


def test_cuts_are_where_the_gradient_changes(images):
    module = module_of("pooled")
    graph = load_network(module, input_shape=(1, 6, 6)).graph
    start, end = torch.zeros(1, 6, 6, dtype=torch.float64), images[0]
    found = cuts(graph, start, end)
    assert found[0] == 0
    assert found[-1] == 1
    assert len(found) > 10
    inner = torch.cat([found[:-1] + 1e-3 * found.diff(), found[1:] - 1e-3 * found.diff()])
    gradients = graph.gradient_at(start + inner[:, None, None, None] * (end - start), 1)
    left, right = gradients[: len(found) - 1], gradients[len(found) - 1 :]
    assert torch.allclose(left, right, atol=1e-12)
    assert ((left[1:] - right[:-1]).abs().amax((1, 2, 3)) > 1e-9).any()


def test_a_long_segment_is_cut_block_by_block(images, monkeypatch):
    graph = load_network(module_of("mlp"), input_shape=(1, 6, 6)).graph
    start = torch.zeros(1, 6, 6, dtype=torch.float64)
    whole = cuts(graph, start, images[0])
    monkeypatch.setattr(paths, "_NUMBERS", 40)
    assert torch.equal(cuts(graph, start, images[0]), whole)


def problem_of(net, **settings):
    image = np.random.default_rng(0).uniform(0.1, 1, (1, 6, 6))
    return pose(
        load_network(module_of(net), input_shape=(1, 6, 6)), image, CHAIN, label=None,
        saliency=by_name(NAME, **settings), inconsistency=inconsistency("cosine"), threshold=0.3,
        clip=(0.0, 1.0),
    )  # fmt: skip


@pytest.mark.parametrize("width", [1.0, 0.1, 1e-3])
def test_bounds_hold_at_samples(net, width):
    problem = problem_of(net)
    box, rng = problem.box, np.random.default_rng(1)
    span = (box[:, 1] - box[:, 0]) * width
    low = box[:, 0] + rng.random((3, 2)) * (box[:, 1] - box[:, 0] - span)
    boxes = np.stack([low, low + span], axis=2)
    least, most = problem.enclosed_inconsistency(boxes, problem.bounds(boxes, 16))
    for box, below, above in zip(boxes, least, most, strict=True):
        thetas = box[:, 0] + rng.random((12, 2)).round(1) * (box[:, 1] - box[:, 0])
        drift = problem.at(thetas).inconsistency
        assert (below <= drift + 1e-9).all()
        assert (drift <= above + 1e-9).all()


def test_bounds_close_in_on_the_value(net):
    problem = problem_of(net)
    boxes = np.array([[[0.05, 0.05 + 1e-5], [0.3, 0.3 + 1e-5]]])
    least, most = problem.enclosed_inconsistency(boxes, problem.bounds(boxes, 32))
    assert most[0] - least[0] < 0.15


def test_a_path_that_is_cut_too_coarsely_bounds_less_closely(monkeypatch):
    problem = problem_of("mlp")
    boxes = np.array([[[0.05, 0.05 + 1e-5], [0.3, 0.3 + 1e-5]]])
    fine = np.subtract(*problem.enclosed_inconsistency(boxes, problem.bounds(boxes, 32)))
    monkeypatch.setattr(integrated, "_MOST", 4)
    coarse = np.subtract(*problem.enclosed_inconsistency(boxes, problem.bounds(boxes, 32)))
    assert abs(coarse[0]) > 2 * abs(fine[0])


def test_an_answer_is_given_by_bounds_and_says_from_where(images):
    answer = sg.verify(
        module_of("mlp"), images[0].numpy(), CHAIN, saliency=NAME, baseline="mean", threshold=0.5,
        time_limit=30, undecided=0.5,
    )  # fmt: skip
    assert answer.result.method == "bound"
    assert answer.result.problem.baseline == "mean"
    assert "from a baseline that is mean" in answer.result.problem.question()
    plain = answer.problem.at(np.zeros((1, 2)))
    assert plain.inconsistency[0] == 0


def test_exact_engines_and_misplaced_baselines_are_refused(images):
    module, image = module_of("mlp"), images[0].numpy()
    with pytest.raises(NotPiecewiseAffine, match="integrated-gradients maps vary"):
        sg.verify(module, image, CHAIN, saliency=NAME, method="sweep")
    with pytest.raises(SettingError, match="a baseline belongs to integrated-gradients"):
        sg.verify(module, image, CHAIN, baseline="mean")
    with pytest.raises(SettingError, match=r"shape \(1, 5, 5\); it must be an image"):
        sg.verify(module, image, CHAIN, saliency=NAME, baseline=np.zeros((5, 5)))
    with pytest.raises(SettingError, match="allowed are black, mean, or an image"):
        by_name(NAME, baseline="white")


def test_a_baseline_that_is_a_picture_is_read_as_the_image_is(tmp_path, monkeypatch):
    """Resized and made grey with the image, from the command line, too; and the answer says which it is."""
    monkeypatch.chdir(tmp_path)
    colours = np.random.default_rng(0).integers(0, 255, (2, 16, 16, 3), np.uint8)
    for name, pixels in zip(("image.png", "dark.png"), colours // np.array([[[[1]]], [[[4]]]]), strict=True):
        Image.fromarray(pixels.astype(np.uint8)).save(name)
    settings = {"saliency": NAME, "method": "bound", "resize": 8, "baseline": "dark.png"}
    answer = sg.verify("digits-mlp", "image.png", sg.Brightness(0, 1e-4), **settings)
    told = answer.result.problem
    grey = as_many_channels(load_image("dark.png", Framing(resize=(8,))), load_image("digits:0"))
    assert np.array_equal(answer.problem.saliency.start.numpy(), grey.image)
    assert (told.baseline.split(":")[0], told.baseline_source) == ("given", "dark.png")
    assert "from the baseline dark.png (SHA-256 " in told.basis()
    options = ["--perturb", "brightness(amount=0..0.0001)", "--quiet", "--out", "out"]
    options += [f"--{name}={value}" for name, value in settings.items()]
    assert run(["verify", "digits-mlp", "--image", "image.png", *options]) in (0, 10, 20)
    written = sg.Result.from_json((tmp_path / "out" / "result.json").read_text())
    assert (written.problem.baseline, written.problem.baseline_source) == (told.baseline, "dark.png")
    assert "from the baseline dark.png" in (tmp_path / "out" / "report.html").read_text()
