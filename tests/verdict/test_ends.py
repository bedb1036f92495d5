"""The ends that are told lie inside: there the network is robust as PyTorch computes it, too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from steadygaze import verify
from steadygaze.answer.result import Origin
from steadygaze.perturbation import Brightness
from steadygaze.verdict.findings import ended_inward
from steadygaze.verdict.reading import Around


def network(seed: int) -> nn.Module:
    """A small network whose map jumps where a unit changes its side."""
    torch.manual_seed(seed)
    first, last = (nn.Linear(*sizes, dtype=torch.float64) for sizes in ((60, 8), (8, 3)))
    module = nn.Sequential(nn.Flatten(), first, nn.ReLU(), last, nn.ReLU())
    with torch.no_grad():
        for each in module.parameters():
            each *= 2
    return module


def looked_at(module: nn.Module, image: np.ndarray, label: int) -> tuple[int, np.ndarray]:
    """The class, and the gradient of the label's logit, by PyTorch."""
    pixels = torch.tensor(image[None]).requires_grad_()
    logits = module(pixels)
    gradient = torch.autograd.grad(logits[0, label], pixels)[0]
    return int(logits.argmax()), gradient.numpy().ravel()


@pytest.mark.parametrize("method", ["bound", "sweep", "nearest"])
def test_the_network_is_robust_at_the_ends_of_ranges_and_of_the_safe_box(method):
    looked = 0
    for seed in (4, 10, 12, 21, 43, 57):
        image = np.random.default_rng(seed).random((3, 5, 4))
        module = network(seed)
        answer = verify(module, image, Brightness(-0.3, 0.3), method=method, clip=None, threshold=0.05)
        label = answer.problem.label
        _, first = looked_at(module, image, label)
        scale = answer.safe_scale or 0.0
        ends = [*answer.result.origin.ranges[0], -0.3 * scale, 0.3 * scale]
        assert ends[0] > -0.3 or ends[1] < 0.3
        for end in ends:
            predicted, found = looked_at(module, image + end, label)
            cosine = found @ first / np.linalg.norm(found) / np.linalg.norm(first)
            assert predicted == label
            assert 1 - cosine <= 0.05 + 1e-12
            looked += 0 < abs(end) < 0.3
    assert looked >= 6


def test_what_reaches_no_farther_than_rounding_reaches_nowhere():
    box = np.array([[-2.0, 2.0], [0.0, 1.0]])
    tiny = Origin(None, ((-3e-16, 2e-13), (0.0, 1.0)), None, None, "not examined")
    assert ended_inward(Around(np.zeros(0, int), tiny), box).origin.ranges == ((0.0, 0.0), (0.0, 1.0))
    some = Origin(0.5, ((-2.0, 1.0), (0.0, 0.25)), None, None, "examined")
    (low, high), (_, end) = ended_inward(Around(np.zeros(0, int), some), box).origin.ranges
    assert (low, 1 - 1e-11 < high < 1, 0.25 - 1e-11 < end < 0.25) == (-2.0, True, True)
