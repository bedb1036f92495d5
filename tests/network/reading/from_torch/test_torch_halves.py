"""Modules and programs of half precision: the network of real numbers with their weights, and told."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

import steadygaze as sg
from oracles import gradients_of, logits_of
from steadygaze.errors import FidelityError
from steadygaze.network.reading.fidelity import check_fidelity
from steadygaze.network.reading.load import load_network

SHAPE = (1, 6, 6)
IMAGES = np.random.default_rng(0).uniform(0, 1, (4, *SHAPE))
HALVES = pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])


class Net(nn.Module):
    """A small convolutional network; `before` and `after` stand around its layers."""

    def __init__(self, before=lambda x: x, after=lambda y: y) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(16, 3)
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> Tensor:
        y = functional.max_pool2d(torch.relu(self.norm(self.conv(self.before(x)))), 2)
        return self.after(self.head(y.flatten(1)))


def net(precision: torch.dtype, **around) -> nn.Module:
    torch.manual_seed(0)
    return Net(**around).eval().to(precision)


def assert_real(network, module: nn.Module, precision: torch.dtype) -> None:
    """Logits and gradients are those of the weights in double precision."""
    double = copy.deepcopy(module).double()
    images = torch.from_numpy(IMAGES)
    found = check_fidelity(network, IMAGES)
    assert found.logits < 1e-6
    assert np.allclose(network.graph.forward(images), logits_of(double, IMAGES), atol=1e-9)
    assert np.allclose(network.graph.gradient_at(images, 1), gradients_of(double, IMAGES, 1), atol=1e-9)
    name = str(precision).removeprefix("torch.")
    assert f"half precision taken as exact ({name})" in (network.output_note or "")


@HALVES
def test_a_module_is_read_as_its_weights_say(precision):
    module = net(precision)
    assert_real(load_network(module, input_shape=SHAPE), module, precision)
    assert module.conv.weight.dtype == precision


@HALVES
def test_a_program_is_read_as_its_weights_say(precision, tmp_path):
    module = net(precision)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = torch.zeros(1, *SHAPE, dtype=precision)
        torch.export.save(torch.export.export(module, (example,)), tmp_path / "net.pt2")
    assert_real(load_network(tmp_path / "net.pt2", input_shape=SHAPE), module, precision)


def test_conversions_around_the_layers_are_rounding_too():
    around = {"before": lambda x: x.half(), "after": lambda y: y.float()}
    plain = net(torch.float16)
    assert_real(load_network(net(torch.float16, **around), input_shape=SHAPE), plain, torch.float16)


def test_a_softmax_behind_it_is_taken_off():
    network = load_network(net(torch.float16, after=lambda y: y.softmax(1)), input_shape=SHAPE)
    assert_real(network, net(torch.float16), torch.float16)
    assert (network.output_note or "").startswith("final softmax removed")


def test_a_part_of_half_precision_is_enough():
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(36, 8), nn.Linear(8, 3).half()

        def forward(self, x: Tensor) -> Tensor:
            return self.second(torch.relu(self.first(x.flatten(1))).half()).float()

    mixed = Mixed().eval()
    double = nn.Sequential(nn.Flatten(), mixed.first, nn.ReLU(), mixed.second)
    assert_real(load_network(mixed, input_shape=SHAPE), double, torch.float16)


def test_numbers_that_leave_the_range_are_noticed():
    module = net(torch.float16)
    with torch.no_grad():
        module.conv.weight.fill_(3e4)
        module.norm.running_var.fill_(6e4)
    with pytest.raises(
        (FidelityError, sg.ModelError), match=r"NaN or infinite|in float16 gives other logits"
    ):
        load_network(module, input_shape=SHAPE)


def test_the_answer_says_so():
    answer = sg.verify(net(torch.bfloat16), IMAGES[0], sg.Brightness(-0.01, 0.01), threads=1)
    assert answer.result.problem.model.note == "half precision taken as exact (bfloat16)"
