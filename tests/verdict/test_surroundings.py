"""Whatever the caller has switched: the answer is the same, and the switches stay where they were."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

import steadygaze as sg

PERTURBATION = "brightness(amount=-0.4..0.4)"


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 3))


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    yield
    assert torch.get_default_dtype() == dtype
    torch.set_default_dtype(before)


@contextmanager
def default_device(device):
    torch.set_default_device(device)
    yield
    assert torch.get_default_device() == torch.device(device)
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
