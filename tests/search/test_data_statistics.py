"""Networks as EfficientNet, batch norms with the statistics of data: blocks decide small boxes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from steadygaze.geometry.kinds import ROBUST, UNDECIDED
from steadygaze.network.bounding.blocks import BlockNorms
from steadygaze.network.reading.load import load_network
from steadygaze.network.saliency import Gradient
from steadygaze.perturbation.notation import chain_of
from steadygaze.question.inconsistency import Cosine
from steadygaze.question.posing import pose
from steadygaze.search.experience import Experience
from steadygaze.search.judged_boxes import judge_boxes

IMAGE = np.random.default_rng(0).uniform(0.2, 0.8, (1, 6, 6))
SMALL = np.array([[[0.0, 0.05 * 2.0**-20]]])


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.less, self.more = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1)

    def forward(self, x):
        return x * self.more(nn.functional.silu(self.less(x.mean((2, 3), keepdim=True)))).sigmoid()


class Inverted(nn.Module):
    """A residual block that is wide in the middle, where each channel is convolved by itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 4 * channels
        first = [nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.SiLU()]
        each = [nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.SiLU()]
        last = [Gate(wide), nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels)]
        self.own = nn.Sequential(*first, *each, *last)

    def forward(self, x):
        return x + self.own(x)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    first = [nn.Conv2d(1, 8, 3, padding=1, stride=2, bias=False), nn.BatchNorm2d(8), nn.SiLU()]
    inner = [Inverted(8) for _ in range(20)]
    module = nn.Sequential(*first, *inner, nn.Flatten(), nn.Linear(72, 4))
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        module.train()(torch.rand(64, 1, 6, 6))
    return load_network(module.eval(), input_shape=(1, 6, 6))


def posed(network):
    line = chain_of("brightness(amount=-0.05..0.05)")
    return pose(
        network, IMAGE, line, label=None, threshold=0.3, clip=(0.0, 1.0),
        saliency=Gradient(), inconsistency=Cosine(),
    )  # fmt: skip


def test_class_and_attention_are_certified_over_a_small_box(network):
    problem = posed(network)
    assert judge_boxes(problem, SMALL, 32, Experience()).kind == [ROBUST]
    points = problem.replay(np.linspace(*SMALL[0, 0], 20)[:, None])
    assert (points.gap > 0).all()
    assert (points.inconsistency <= 0.3).all()


def test_they_are_not_by_the_norms_of_layers(monkeypatch, network):
    """What the test before rests on: their product is beyond what twice the precision leaves."""
    monkeypatch.setattr(BlockNorms, "ending", {})
    problem = posed(network)
    assert judge_boxes(problem, SMALL, 32, Experience()).kind == [UNDECIDED]
