"""What is handed in beside the network, in the types that people have it in: labels and images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import steadygaze as sg
from steadygaze.network.graph import Graph
from steadygaze.question.points import corners_of
from steadygaze.verdict import driver

SHAPE = (1, 6, 6)
PERTURBATION = "brightness(amount=-0.05..0.05)"


def image():
    return np.random.default_rng(3).uniform(0.2, 0.8, SHAPE)


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


class Overwriting(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = small()

    def forward(self, x):
        return self.inner(x.mul_(0.5))


@pytest.mark.parametrize(
    "label", [np.int64(0), np.uint8(0), torch.tensor(0), torch.tensor([0]), np.array(0), 0]
)
def test_labels_are_taken_as_people_have_them(label):
    module = small()
    predicted = int(module(torch.from_numpy(image()).float()[None]).argmax())
    answer = sg.verify(module, image(), PERTURBATION, label=label + predicted)
    assert answer.result.problem.image.label == predicted
    assert type(answer.result.problem.image.label) is int


@pytest.mark.parametrize("label", [1.0, "1", torch.tensor(1.0), torch.tensor([1, 2]), True, [1]])
def test_other_labels_are_refused(label):
    with pytest.raises(sg.SettingError, match=r"the label is .*whole number"):
        sg.verify(small(), image(), PERTURBATION, label=label)


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x.requires_grad_(),
        lambda x: x[None].to(memory_format=torch.channels_last)[0],
        lambda x: x.float(),
        lambda x: (x * 2 - x).requires_grad_().sum(0, keepdim=True),
    ],
)
def test_images_are_taken_as_people_have_them(convert):
    module = Overwriting()
    pixels = convert(torch.from_numpy(image()))
    before = pixels.detach().clone()
    answer = sg.verify(module, pixels, PERTURBATION)
    assert answer.result.shares == sg.verify(module, before.double().numpy(), PERTURBATION).result.shares
    assert torch.equal(pixels.detach(), before)


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16])
def test_images_of_half_precision_are_taken_as_the_numbers_they_are(dtype):
    pixels = torch.from_numpy(image()).to(dtype)
    module = small()
    found = sg.verify(module, pixels, PERTURBATION).result
    assert found.shares == sg.verify(module, pixels.double().numpy(), PERTURBATION).result.shares


@pytest.mark.parametrize(
    "pixels",
    [
        torch.zeros(SHAPE, device="meta"),
        torch.zeros(SHAPE).to_sparse(),
        torch.zeros(SHAPE, dtype=torch.complex64),
    ],
)
def test_images_that_hold_no_plain_numbers_are_refused(pixels):
    with pytest.raises(sg.ImageError):
        sg.verify(small(), pixels, PERTURBATION)


def three_times_the_same(*shares):
    """Three equal channels, of which class 0 adds up such shares: nothing, where these sum to 0."""
    module = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 36, 3)).double().eval()
    torch.manual_seed(4)
    with torch.no_grad():
        module[0].weight.fill_(1.0)
        module[0].bias.fill_(0.5)
        module[3].weight.zero_()
        module[3].weight[0] = torch.outer(
            torch.tensor(shares, dtype=torch.float64), torch.rand(36).double()
        ).flatten()
        module[3].bias[:] = torch.tensor([1.0, 0.0, 0.0])
    return module


@pytest.mark.parametrize(
    "saliency",
    ["gradient", "abs-gradient", "grad-cam", "gradient-x-input", "softmax-gradient", "integrated-gradients"],
)
def test_a_map_that_is_nothing_but_rounding_is_no_map(saliency):
    module = three_times_the_same(0.1, 0.2, -0.3)
    pixels = torch.from_numpy(image())[None].requires_grad_()
    (gradient,) = torch.autograd.grad(module(pixels)[0, 0], pixels)
    assert 0 < gradient.abs().max() < 1e-15
    with pytest.raises(sg.SettingError, match=f"{saliency} map .* no attention to follow"):
        sg.verify(module, image(), PERTURBATION, saliency=saliency)


def test_a_map_may_be_small():
    answer = sg.verify(three_times_the_same(1e-14, 2e-14, -2e-14), image(), PERTURBATION)
    assert answer.verdict.value == "robust"


def test_the_map_of_a_deep_network_is_one():
    """Absolute terms multiply by an order of magnitude with each layer, and rounding does not."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(14):
        layers += [nn.Conv2d(24 if layers else 1, 24, 3, padding=1), nn.ReLU()]
    for layer in layers[::2]:
        nn.init.kaiming_normal_(layer.weight)
    module = nn.Sequential(*layers, nn.Flatten(), nn.Linear(24 * 36, 3)).double().eval()
    answer = sg.verify(module, image(), sg.Brightness(-1e-4, 1e-4), regions_limit=1, method="bfs")
    assert not answer.problem.follows_nothing


def tied(first, second, raised):
    """Pixel 1 has the largest gradient, pixels 2 and 3 these two; one of them gains 0.05 where the image is
    brighter by half."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 2)).double().eval()
    weight = torch.from_numpy(np.array([[0.0, 3.0, first, second], [0.3, 0.0, 0.0, 0.0]]))
    weight[1, raised] = 0.05
    with torch.no_grad():
        module[1].weight.copy_(weight)
        module[1].bias.copy_(torch.tensor([10.0, -0.175]))
        module[3].weight.copy_(torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
        module[3].bias.copy_(torch.tensor([50.0, 0.0]))
    return module


@pytest.mark.parametrize("method", ["sweep", "bound"])
def test_a_tie_at_the_last_of_the_largest_entries_is_no_order(method):
    def asked(first, second, raised, k):
        module, blank = tied(first, second, raised), np.zeros((1, 1, 4))
        return sg.verify(
            module,
            blank,
            "brightness(amount=0..1)",
            inconsistency=f"top-k({k})",
            threshold=0.3,
            method=method,
        ).verdict

    close = 0.1 + 0.2 + 0.3  # a last place above 0.6
    for raised in (2, 3):
        for first, second in ((0.6, close), (close, 0.6)):
            with pytest.raises(sg.SettingError, match=r"rounding alone tells the k-th.*larger k"):
                asked(first, second, raised, 2)
            assert asked(first, second, raised, 1) == "robust"
    # Equal ones are told apart: the lower index comes first.
    assert asked(0.6, 0.6, 2, 2) != "violated"
    assert asked(0.6, 0.6, 3, 2) == "violated"


@pytest.mark.parametrize("clip", [None, (0.0, 1.0)])
def test_a_network_at_hand_is_evaluated_once_before_a_search(monkeypatch, clip):
    """What rounding is learnt from, and what is held against the original, are values of one pass."""
    passes, evaluate = [], Graph._evaluate

    def counted(self, x, *more):
        passes.append(len(x))
        return evaluate(self, x, *more)

    monkeypatch.setattr(driver, "solve", lambda problem, **_: problem)
    network = sg.verify(small(), image(), PERTURBATION, clip=clip).network
    monkeypatch.setattr(Graph, "_evaluate", counted)
    problem = sg.verify(network, image() / 2, PERTURBATION, clip=clip)
    _ = problem.target, problem.gap_tolerance, problem.stages
    assert passes == [1 + 16 + 2]
    again = sg.verify(network, image() / 2, PERTURBATION, clip=clip)
    values = replace(again).values_at_probes(16)
    images = again.images(np.concatenate([np.zeros((1, 1)), again.probes]))
    for node, plain in network.graph.values_at(images, range(len(network.graph.nodes))).items():
        np.testing.assert_allclose(values[node], plain, rtol=1e-12, atol=1e-12)
    assert again.values_at_probes(17) is None, "there are sixteen"


@pytest.mark.parametrize("clip", [None, (0.0, 1.0)])
def test_an_original_that_says_otherwise_at_an_image_is_noticed_every_time(monkeypatch, clip):
    """The network was compared before, at other images; its values are those of the pass that learns."""
    network = sg.verify(small(), image(), PERTURBATION, clip=clip).problem.network
    sane = network.original.logits
    monkeypatch.setattr(network.original, "logits", lambda asked: sane(asked) + (asked.max() < 0.5))
    sg.verify(network, image(), PERTURBATION, clip=clip)
    with pytest.raises(sg.FidelityError, match="logits"):
        sg.verify(network, image() / 2, PERTURBATION, clip=clip)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        *(({"threshold": value}, "the threshold is .*must be a number") for value in ("0.3", None, [0.3])),
        *(({"time_limit": value}, "the time limit is .*must be a number") for value in ("3", [3], True)),
        ({"memory_limit": "2GB"}, "the memory limit is '2GB'; it must be a number"),
        *(
            ({"clip": value}, "the clip is .*must be two numbers")
            for value in (0, (0,), "none", (0, "1"), [])
        ),
        *(
            ({"mean": value}, "mean is .*allowed is one finite number")
            for value in ("x", {}, [None], "0.1,0.2")
        ),
        ({"std": "x"}, "std is 'x', allowed is one finite number"),
    ],
    ids=str,
)
def test_settings_of_another_type_are_refused(changed, words):
    with pytest.raises(sg.SettingError, match=words):
        sg.verify(small(), image(), PERTURBATION, **changed)


@pytest.mark.parametrize("value", [np.float32(0.5), torch.tensor(0.5), np.array(0.5)])
def test_numbers_are_taken_as_people_have_them(value):
    answer = sg.verify(small(), image(), PERTURBATION, threshold=value, time_limit=value * 100)
    assert answer.result.problem.threshold == 0.5


@pytest.mark.parametrize(
    "given", [None, 3, sg.Brightness, sg.Brightness(-0.1, 0.1).apply, [sg.Brightness], [3]]
)
def test_what_is_no_perturbation_is_refused(given):
    with pytest.raises(sg.PerturbationError, match=r"must be .*steadygaze\.Brightness\(-0\.3, 0\.3\)"):
        sg.verify(small(), image(), given)


@pytest.mark.parametrize(("power", "volume"), [(-40, "-397"), (40, "+403")])
def test_boxes_whose_volume_is_no_number_are_refused(power, volume):
    """Each of the ranges can be computed with, and shares of their box cannot."""
    arrays = np.random.default_rng(0).standard_normal((10, 1, 2, 2))
    ends = (-(10.0**power), 10.0**power)
    chain = sg.Chain(*(sg.Direction(*ends, array=own) for own in arrays))
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(
        sg.errors.PerturbationError, match=f"volume of about 1e.{volume[1:]}, which cannot be"
    ):
        sg.verify(module, np.full((1, 2, 2), 0.5), chain, method="bound", clip=None)


def test_boxes_of_too_many_corners_are_refused():
    arrays = np.random.default_rng(0).standard_normal((17, 1, 2, 2))
    chain = sg.Chain(*(sg.Direction(-0.1, 0.1, array=own) for own in arrays))
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(sg.errors.PerturbationError, match="has 17 parameters, allowed are up to 16"):
        sg.verify(module, np.full((1, 2, 2), 0.5), chain)
    few = sg.verify(module, np.full((1, 2, 2), 0.5), sg.Chain(*chain.links[:16]), time_limit=20)
    assert few.safe_scale


@pytest.mark.parametrize("n", [1, 2, 6, 7, 16])
def test_corners_of_a_box_have_either_end_of_each_parameter(n):
    box = np.random.default_rng(n).standard_normal((n, 2))
    corners = corners_of(box)
    assert len(corners) == min(2**n, 64)
    assert (corners[0] == box[:, 0]).all()
    assert (corners[-1] == box[:, 1]).all()
    for axis, ends in enumerate(box):
        assert set(corners[:, axis]) == set(ends)
