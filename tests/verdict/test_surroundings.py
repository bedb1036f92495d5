"""Whatever the caller has switched: the answer is the same, and the switches stay where they were."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

import steadygaze as sg
from steadygaze.perturbation import AbstractPerturbation, Parameter

PERTURBATION = "brightness(amount=-0.4..0.4)"


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 3))


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(before)


@contextmanager
def default_device(device):
    torch.set_default_device(device)
    try:
        yield
        assert torch.get_default_device() == torch.device(device)
    finally:
        torch.set_default_device(None)


AROUND = {
    "no-grad": torch.no_grad,
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "double": lambda: default_dtype(torch.float64),
    "half": lambda: default_dtype(torch.float16),
    "meta": lambda: default_device("meta"),
}


@pytest.mark.parametrize("method", ["sweep", "bound"])
@pytest.mark.parametrize("name", AROUND)
def test_the_callers_switches_do_not_matter(name, method):
    module = small().train()
    image = np.random.default_rng(3).uniform(0.2, 0.8, (1, 6, 6))
    alone = sg.verify(module, image, PERTURBATION, method=method)
    with AROUND[name]():
        modes = (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"))
        random = torch.get_rng_state()
        found = sg.verify(module, image, PERTURBATION, method=method)
        assert found.at([0.1]) == alone.at([0.1])
        assert torch.equal(torch.get_rng_state(), random)
        assert modes == (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"),
        )
    assert found.result.shares == alone.result.shares
    assert found.result.origin == alone.result.origin
    assert module.training
    assert all(p.requires_grad and p.grad is None for p in module.parameters())


class Steepened(AbstractPerturbation):
    """x + sin(a) x² whose slopes come from PyTorch's gradients: that of sin falls with |a|."""

    name = "steepened"
    parameters = (Parameter("a", "", 0.0, 0.2),)

    def apply(self, images, thetas):
        return images + np.sin(thetas)[:, :, None, None] * images**2

    def slope_bounds(self, image, lows, highs):
        at = torch.tensor(np.stack([highs, lows]), requires_grad=True)
        (slopes,) = torch.autograd.grad(torch.sin(at).sum(), at)
        low, high = (image**2 * own[:, :, None, None, None] for own in slopes.numpy())
        return low, high


@pytest.mark.parametrize("threads", [1, 2])
def test_code_of_the_users_own_may_ask_for_gradients(threads):
    """In whatever thread it runs, no mode of ours is on there."""
    image = np.random.default_rng(3).uniform(0.2, 0.8, (1, 6, 6))
    answer = sg.verify(small(), image, Steepened(), method="bound", threads=threads)
    assert answer.result.safe_scale == 1.0
    beside = sg.verify(small(), image, Steepened() | sg.Brightness(0, 0.01), method="bound", threads=threads)
    assert beside.result.safe_scale > 0
