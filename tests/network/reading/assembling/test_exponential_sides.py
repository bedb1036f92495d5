"""Exponential linear units written out, as courses have them: read as what they are, or refused."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from architectures.zoo import written
from oracles import gradients_of, logits_of
from steadygaze.errors import ModelError
from steadygaze.network.reading.fidelity import check_fidelity
from steadygaze.network.reading.load import load_network

SHAPE = (2, 3, 4)
IMAGES = np.random.default_rng(0).uniform(0, 1, (6, *SHAPE))

UNITS = {
    "plain": lambda x: torch.where(x > 0, x, torch.exp(x) - 1),
    "from below": lambda x: torch.where(x <= 0, x.exp() - 1, x),
    "as PyTorch has it": lambda x: torch.where(x > 0, x, x.expm1()),
    "with alpha": lambda x: torch.where(x >= 0, x, 0.3 * (x.exp() - 1.0)),
    "scaled": lambda x: 1.05 * torch.where(x < 0, 1.67 * x.exp() - 1.67, x),
    "steep": lambda x: torch.where(x > 0, 0.5 * x, 2.0 * ((3.0 * x).exp() - 1)),
    "clamped before": lambda x: torch.where(x > 0, x, torch.exp(x.clamp(max=0.0)) - 1),
    "lifted": lambda x: torch.where(x > 0, x + 1.0, torch.exp(x)),
    "flipped": lambda x: torch.where(-2.0 * x < 0, x, torch.exp(x) - 1),
    "in steps": lambda x: torch.where(2.0 * x > 0, 2.0 * x, (2.0 * x).exp() - 1),
}


class Written(nn.Module):
    """One hidden layer, of such units."""

    def __init__(self, unit):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.unit = nn.Linear(24, 9), nn.Linear(9, 3), unit

    def forward(self, x):
        return self.second(self.unit(3 * self.first(x.flatten(1))))


@pytest.mark.parametrize(
    ("name", "way"),
    # The older exporter has no expm1.
    [(name, way) for name in UNITS for way in ("module", "file") if (name[:2], way) != ("as", "file")],
)
def test_it_is_read_as_the_module_computes_it(name, way, tmp_path):
    module = Written(UNITS[name]).eval()
    as_file = way == "file"
    source = written(module, SHAPE, tmp_path / "network.onnx", dynamo=False) if as_file else module
    read, wide = load_network(source, input_shape=SHAPE), copy.deepcopy(module).double()
    check_fidelity(read, IMAGES)
    x = torch.from_numpy(IMAGES)
    hidden = wide.first(x.flatten(1))
    assert hidden.min() < 0 < hidden.max()
    assert np.allclose(read.graph.forward(x), logits_of(wide, IMAGES), atol=1e-6)
    assert np.allclose(read.graph.gradient_at(x, 1), gradients_of(wide, IMAGES, 1), atol=1e-6)


@pytest.mark.parametrize(
    "unit",
    [
        lambda x: torch.where(x > 0, x, torch.exp(x) - 0.9),
        lambda x: torch.where(x > 0.1, x, torch.exp(x) - 1),
        lambda x: torch.where(x > 0, torch.exp(x) - 1, x),
        lambda x: torch.where(x > 0, x, torch.exp(-x) - 1),
        lambda x: torch.where(x > 0, x, torch.exp(x - 1) - 1),
        lambda x: torch.where(x > 0, 0.0 * x, torch.exp(x) - 1),
        lambda x: torch.where(x > 0, x.clamp(max=0.5), torch.exp(x) - 1),
        lambda x: torch.where(x > 0, x, torch.exp(x) * torch.linspace(0.5, 1, 9) - 1),
    ],
    ids=["gap", "place", "other side", "falling", "shifted", "flat", "bent above", "by unit"],
)
def test_what_is_none_is_refused(unit):
    with pytest.raises(ModelError, match="one is chosen by another"):
        load_network(Written(unit), input_shape=SHAPE)
