"""Einstein's sums of several computed values, from PyTorch and ONNX, against einsum itself and autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from onnx_files import SHAPE, array, imported, model_of, node
from oracles import gradients_of, logits_of
from steadygaze.errors import ModelError
from steadygaze.network.reading.fidelity import check_fidelity
from steadygaze.network.reading.load import load_network

IMAGES = np.random.default_rng(0).uniform(-1, 1, (3, 1, 6, 4))
CONSTANTS = (array(2, 5, seed=3), array(3, 2, 4, seed=4))


class Summed(nn.Module):
    """Einstein's sum of two dense layers' values in two shapes, ``(1, 3, 2)`` and ``(1, 5, 2)``, and more."""

    def __init__(self, equation: str, parts: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.equation, self.parts = equation, parts
        self.first, self.second = nn.Linear(24, 6), nn.Linear(24, 10)
        for name, constant in zip("uv", CONSTANTS, strict=True):
            self.register_buffer(name, torch.from_numpy(constant))
        self.head = nn.LazyLinear(3)
        self(torch.zeros(1, 1, 6, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.flatten(1)
        values = {"x": self.first(rows).reshape(-1, 3, 2), "y": self.second(rows).reshape(-1, 5, 2)}
        given = [values.get(part, getattr(self, part, None)) for part in self.parts]
        return self.head(torch.einsum(self.equation, given).reshape(len(x), -1))


CASES = {
    "matrices": ("bik,bjk->bij", "xy"),
    "matrices the other way": ("bik,bjk->bji", "xy"),
    "queries and keys by heads": ("bqh,bkh->bhqk", "xy"),
    "nothing is summed up": ("bik,bjk->bijk", "xy"),
    "all is summed up": ("bik,bik->b", "xx"),
    "one with itself, row by row": ("bik,bik->bi", "xx"),
    "pooled by weights": ("bik,bij->bkj", "xx"),
    "letters that only one has": ("bik,bjl->bil", "xy"),
    "an outer product": ("bik,bjl->bijkl", "xy"),
    "three": ("bik,bjk,bil->bjl", "xyx"),
    "a constant between": ("bik,kj,bjm->bim", "xuy"),
    "a constant of three letters": ("bik,ikl,bjk->bjl", "xvy"),
    "dots": ("...k,...k->...", "xx"),
    "dots and letters": ("...ik,...jk", "xy"),
}


@pytest.mark.parametrize("name", CASES)
def test_values_that_meet_are_multiplied(name):
    module = Summed(*CASES[name]).eval()
    network = load_network(module, input_shape=(1, 6, 4))
    check_fidelity(network, IMAGES)
    double, images = module.double(), torch.from_numpy(IMAGES)
    assert np.allclose(network.graph.forward(images), logits_of(double, IMAGES), atol=1e-9)
    for label in range(3):
        slopes = gradients_of(double, IMAGES, label)
        assert np.allclose(network.graph.gradient_at(images, label), slopes, atol=1e-9)


def test_values_that_meet_are_multiplied_in_files(tmp_path):
    nodes = [
        node("Tanh", "image"),
        node("Einsum", "v0", "image", "w", equation="bchw,bcvw,cd->bdhv"),
        node("Flatten", None),
        node("MatMul", None, "m"),
    ]
    network = imported(model_of(nodes, {"w": array(2, 3), "m": array(108, 3)}), tmp_path)
    images = np.random.default_rng(1).uniform(0, 1, (3, *SHAPE))
    assert check_fidelity(network, images).logits < 1e-5
    assert not network.graph.piecewise_linear


def test_a_diagonal_is_refused():
    with pytest.raises(ModelError, match=r"'bii,bij->bj' takes a diagonal of a computed value"):
        load_network(Diagonal().eval(), input_shape=(1, 3, 3))


class Diagonal(nn.Module):
    """The diagonal of each image times its columns."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bii,bij->bj", x[:, 0], x[:, 0])
