"""Units that are 0 on whole regions, and windows that tie there: rounding must not choose their piece.

Right values are by hand: where kernels sum to 0, brightness changes no pre-activation, and the map is the
same for every theta.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import steadygaze as sg

ENGINES = ("sweep", "bfs", "gbs", "nearest", "bound", "auto")
SOBEL = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
LAPLACE = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])
KERNELS = torch.stack([SOBEL, SOBEL.T, -SOBEL, -SOBEL.T, LAPLACE, -LAPLACE])[:, None]

every = pytest.mark.parametrize("method", ENGINES)


def edges(activation: nn.Module, *behind: nn.Module) -> nn.Module:
    """Edge detectors, then a head of three classes."""
    torch.manual_seed(0)
    conv = nn.Conv2d(1, len(KERNELS), 3, bias=False)
    body = nn.Sequential(conv, activation, *behind, nn.Flatten())
    width = body(torch.zeros(1, 1, 8, 8)).shape[1]
    head = nn.Linear(width, 3)
    with torch.no_grad():
        conv.weight.copy_(KERNELS)
        head.weight.normal_()
        head.bias.zero_()
    return nn.Sequential(*body, head)


def spotted(grey: float) -> np.ndarray:
    """A flat background with a bright spot."""
    image = np.full((1, 8, 8), grey)
    image[0, 2:4, 3:5] = 0.8
    return image


def verified(module: nn.Module, image: np.ndarray, chain, method: str, **options):
    return sg.verify(module, image, chain, method=method, threads=1, threshold=0.1, **options)


@every
@pytest.mark.parametrize("grey", [0.1, 0.3])
def test_brightness_changes_nothing_that_edge_detectors_see(method, grey):
    answer = verified(edges(nn.ReLU()).double(), spotted(grey), sg.Brightness(-0.05, 0.05), method, clip=None)
    assert answer.verdict.value == "robust"
    assert answer.shares.robust == pytest.approx(1)
    assert answer.at([0.01]).inconsistency == pytest.approx(0, abs=1e-12)


@every
@pytest.mark.parametrize(
    "layers",
    [
        (nn.ReLU(), nn.MaxPool2d(2)),
        (nn.LeakyReLU(0.2),),
        (nn.Hardtanh(0.0, 1.0),),
        (nn.MaxPool2d(2), nn.ReLU()),
    ],
    ids=["pool of ties", "leaky", "at the end of a clip", "pool first"],
)
def test_behind_other_activations(method, layers):
    answer = verified(edges(*layers).double(), spotted(0.3), sg.Brightness(-0.05, 0.05), method, clip=None)
    assert answer.verdict.value == "robust"
    assert answer.at([-0.03]).inconsistency == pytest.approx(0, abs=1e-12)


@every
def test_a_constant_image_blended_with_its_own_blur_is_the_same_image(method):
    torch.manual_seed(1)
    module = nn.Sequential(
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)
    ).double()
    answer = verified(module, np.full((1, 8, 8), 0.3), sg.Blend(0, 1, target="blur"), method)
    assert answer.verdict.value == "robust"
    assert answer.at([0.7]).inconsistency == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("method", ["sweep", "bound"])
def test_in_single_precision_the_noise_of_the_original_raises_no_alarm(method):
    answer = verified(edges(nn.ReLU()), spotted(0.3), sg.Brightness(-0.05, 0.05), method, clip=None)
    assert answer.verdict.value == "robust"


def test_a_dead_channel_is_as_if_it_were_not_there():
    with_dead, without = (edges(nn.ReLU()).double() for _ in range(2))
    with torch.no_grad():
        without[0].weight[4:] = 0.0
        with_dead[0].weight[4:] = torch.stack([SOBEL + SOBEL.T - SOBEL - SOBEL.T, 0 * LAPLACE])[:, None]
    chain = sg.Patch(0, 1, top=1, left=1, size=2)
    one, other = (verified(module, spotted(0.3), chain, "sweep") for module in (with_dead, without))
    assert vars(one.shares) == pytest.approx(vars(other.shares), abs=1e-12)
