"""Walls of failing cells thinner than what corners of different regions may be off part what is robust."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import steadygaze
from steadygaze.perturbation import Chain, Direction, Translate

IMAGE = np.array([[[0.5, 0.5, 0.25, 0.75]]])
FIRST, SECOND = (np.eye(4)[k].reshape(IMAGE.shape) for k in range(2))
WALL = 0.25


def walled(thickness: float, tilt: float = 0.0) -> nn.Module:
    """The class gap is |x - where| less half the thickness, x the first pixel and some of the second.

    A third unit, which is always active and counts for next to nothing, keeps maps from vanishing.
    """
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).double()
    along = torch.tensor([1.0, tilt, 0.0, 0.0])
    with torch.no_grad():
        net[1].weight[:] = torch.stack([along, -along, torch.tensor([0.0, 0.0, 1e-3, 0.0])])
        at = IMAGE[0, 0, 0] + tilt * IMAGE[0, 0, 1] + WALL
        net[1].bias[:] = torch.tensor([-at, at, 5.0])
        net[3].weight[:] = torch.tensor([[1.0, 1.0, 1e-7], [0.0, 0.0, 1e-7]])
        net[3].bias[:] = torch.tensor([-thickness / 2, 0.0])
    return net


CHAINS = {
    "one parameter": (Chain(Direction(-0.25, 0.75, array=FIRST)), 0.0, 0.5, 0.75),
    "two": (
        Chain(Direction(-0.25, 0.75, array=FIRST), Direction(-0.25, 0.25, array=SECOND)), 0.25, 0.5, 0.8125
    ),
    "a moving map": (
        Chain(Translate(dx=(-0.5, 0.25)), Direction(-0.25, 0.75, array=FIRST)), 0.0, 0.5 + 1 / 48, 0.75
    ),
}  # fmt: skip


@pytest.mark.parametrize("method", ["bfs", "gbs", "sweep"])
@pytest.mark.parametrize("thickness", [1e-8, 2e-10])
@pytest.mark.parametrize("chain", CHAINS)
def test_the_robust_part_ends_at_a_thin_wall(chain, thickness, method):
    made, tilt, share, whole = CHAINS[chain]
    result = steadygaze.verify(
        walled(thickness, tilt), IMAGE, made, threshold=1.0, saliency="abs-gradient", method=method, threads=1
    ).result
    assert result.verdict.value == "violated"
    assert result.origin.share == pytest.approx(share - thickness / 2, abs=1e-12)
    end = WALL - thickness / 2
    assert result.origin.ranges[int("moving" in chain)][1] == pytest.approx(end, abs=1e-12)
    assert result.safe_scale == pytest.approx(end / whole, abs=1e-12)
