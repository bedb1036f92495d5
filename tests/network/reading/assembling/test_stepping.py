"""Comparisons and what is made of them: read where it does not jump, refused with why where it does."""

from __future__ import annotations

import copy
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from architectures.zoo import written
from onnx_files import SHAPE as FILE_SHAPE
from onnx_files import array, imported, model_of, node
from oracles import gradients_of, logits_of
from steadygaze.errors import ModelError
from steadygaze.network.pieces import PiecewiseLinear
from steadygaze.network.reading.assembling.steps import NotAffineError, Steps, selected, truths
from steadygaze.network.reading.fidelity import check_fidelity
from steadygaze.network.reading.load import load_network

SHAPE = (2, 3, 5)
SLOPES = torch.tensor([0.5, -0.25])[:, None, None]


def larger(a, b):
    return torch.where(a > b, a, b)


def smaller(a, b):
    return torch.where(a >= b, b, a)


def bent(x):
    return torch.where(x > 0.5, 3 * x - 1.5, torch.where(x > 0, zero(x), x.clamp_min(-0.5)))


def zero(x):
    return torch.zeros_like(x)


# All are continuous, and piecewise linear in x.
BODIES = {
    "leaky": lambda x: torch.where(x > 0, x, 0.1 * x),
    "leaky from above": lambda x: torch.where(x <= 0, 0.1 * x, x),
    "slopes by channel": lambda x: torch.where(x >= 0, x, SLOPES * x),
    "rectified": lambda x: torch.where(x > 0, x, zero(x)),
    "off the axis": lambda x: torch.where(x > 0.5, 2 * x - 0.5, x),
    "masked": lambda x: x.masked_fill(x < 0, 0.0),
    "times its mask": lambda x: x * (x > 0),
    "times its mask as numbers": lambda x: (x > 0).float() * x + (x <= 0).float() * (-0.5 * x),
    "shrunk by signs": lambda x: torch.where(x.abs() > 0.25, x - 0.25 * torch.sign(x), zero(x)),
    "absolute": lambda x: torch.sign(x) * x,
    "between": lambda x: torch.where((x > -0.25) & (x < 0.5), x, torch.where(x >= 0.5, 0.5, -0.25)),
    "outside": lambda x: torch.where(~((x > -0.5) & (x < 0.5)), x.abs() - 0.5, zero(x)),
    "three bends": bent,
    "of a clamped value": lambda x: torch.where(x.relu() > 0.5, x.relu(), 0.5 + zero(x)),
    "larger of two": lambda x: larger(x[:, :1], x[:, 1:]),
    "smaller of two": lambda x: smaller(x[:, :1], x[:, 1:]),
    "itself at 0": lambda x: torch.where(x == 0, zero(x), x),
    "filled at 0": lambda x: x.masked_fill(x == 0, 0.0),
    "twice itself at 0": lambda x: torch.where(x != 0, x, 2 * x),
    "times where it is not 0": lambda x: x * (x != 0),
    "rectified from 0 on": lambda x: torch.where(x >= 0, x, zero(x)),
    "enlarged by a mask": lambda x: torch.where(torch.ones(3, 1) > 0, x[:, :, :1], 1.0),
    "enlarged by what is not chosen": lambda x: torch.where(torch.tensor([True]), x[:, :, :1], zero(x)),
    "enlarged by both": lambda x: torch.where(torch.arange(3)[:, None] < 2, x[:, :, :1], 1.0),
    "where constants say": lambda x: torch.where(torch.arange(5) < 2, x, 0.5 * x + 1),
}  # fmt: skip


class Body(nn.Module):
    """A function of a convolution of the image, ended by a dense layer."""

    def __init__(self, body):
        super().__init__()
        self.first, self.body, self.last = nn.Conv2d(2, 2, 3, padding=1), body, nn.LazyLinear(3)

    def forward(self, x):
        return self.last(self.body(2 * self.first(x)).flatten(1))


def network(body):
    torch.manual_seed(2)
    module = Body(body).eval()
    module(torch.zeros(1, *SHAPE))
    return module


IMAGES = np.random.default_rng(0).uniform(0, 1, (6, *SHAPE))


def assert_read(module, source):
    imported = load_network(source, input_shape=SHAPE)
    check_fidelity(imported, IMAGES[:2])
    double, images = copy.deepcopy(module).double(), torch.from_numpy(IMAGES)
    assert np.allclose(imported.graph.forward(images), logits_of(double, IMAGES), atol=1e-6)
    for label in range(2):
        slopes = gradients_of(double, IMAGES, label)
        assert np.allclose(imported.graph.gradient_at(images, label), slopes, atol=1e-6)
    assert imported.graph.piecewise_linear
    return imported


@pytest.mark.parametrize("name", BODIES)
def test_what_comes_together_again_is_read_from_a_module(name):
    assert_read(network(BODIES[name]), network(BODIES[name]))


@pytest.mark.parametrize("name", BODIES)
def test_what_comes_together_again_is_read_from_the_older_exporter(name, tmp_path):
    module = network(BODIES[name])
    assert_read(module, written(module, SHAPE, tmp_path / "net.onnx", dynamo=False, opset_version=13))


@pytest.mark.slow
@pytest.mark.parametrize("name", BODIES)
def test_what_comes_together_again_is_read_from_programs_and_the_newer_exporter(name, tmp_path):
    module = network(BODIES[name])
    torch.export.save(torch.export.export(module, (torch.zeros(1, *SHAPE),)), tmp_path / "net.pt2")
    assert_read(module, tmp_path / "net.pt2")
    assert_read(module, written(module, SHAPE, tmp_path / "net.onnx", dynamo=True, external_data=False))


AT_ZERO = ["itself at 0", "filled at 0", "twice itself at 0", "times where it is not 0"]
AT_ZERO += ["rectified from 0 on", "leaky", "absolute"]


@pytest.mark.parametrize("name", AT_ZERO)
def test_units_that_are_exactly_0_are_no_witnesses(name):
    """Blank images, without a bias: all units are 0, where the model's own rules say what its slope is."""
    module = network(BODIES[name])
    torch.nn.init.zeros_(module.first.bias)
    images = np.zeros((3, *SHAPE))
    images[1:, :, 1, :2] = IMAGES[1:3, :, 1, :2]
    check_fidelity(load_network(module, input_shape=SHAPE), images)
    check_fidelity(load_network(module, input_shape=SHAPE), images[:1])


def test_a_rectifier_written_out_is_one():
    imported = load_network(network(BODIES["times its mask"]), input_shape=SHAPE)
    (layer,) = (n.layer for n in imported.graph.nodes if isinstance(n.layer, PiecewiseLinear))
    assert layer.is_relu


REFUSED = {
    "hardshrink": (lambda x: functional.hardshrink(x, 0.25), "from -0.25 to 0 .* -0.25.*no linear bound"),
    "a step": (lambda x: (x > 0.25).float() + zero(x), "from 0 to 1 where what it is computed from is 0.25"),
    "signs": (torch.sign, "layer 'sign'.* jumps from -1 to 0 .* is 0, and layer 'flatten'.*clamp for a step"),
    "whole numbers": (torch.floor, "layer 'floor'.*it jumps: around a jump no linear bound holds"),
    "sides that do not meet": (lambda x: torch.where(x > 1, x, 0.5 * x), "jumps from 0.5 to 1 .* is 1,"),
    "constants that do not quite meet": (
        lambda x: torch.where(x > 0.1, 3 * x, zero(x) + 0.3), "miss .* by .*e-17 .*the very same numbers"
    ),
    "constants of two precisions": (
        lambda x: torch.where(x > 0.1, x, torch.tensor(0.1)), "miss each other by 1.5e-09 where .* is 0.1, "
    ),
    "a jump by channel": (lambda x: torch.where(x > 0, x + SLOPES.relu(), x), "it jumps from 0 to 0.5"),
    "limits by channel": (lambda x: torch.where(x > SLOPES, x, SLOPES + zero(x)), "other units .* other num"),
    "another value": (lambda x: torch.where(x > 0, x.flip(1), x), "no functions of one value.*maximum"),
    "a square": (lambda x: torch.where(x > 0, x * x, zero(x)), "no functions of one value"),
    "a product of both": (lambda x: torch.sign(x) * x * (x > 0) * torch.sign(x - 1) * x, "jumps|both depend"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_jumps_is_refused_with_why(name):
    body, message = REFUSED[name]
    with pytest.raises(ModelError, match=message):
        load_network(
            network(lambda x: body(x) + 0 * x if name == "truth as logits" else body(x)), input_shape=SHAPE
        )


@pytest.mark.parametrize("name", ["hardshrink", "a step", "signs", "whole numbers"])
def test_what_jumps_is_refused_from_files_too(name, tmp_path):
    module = network(REFUSED[name][0])
    with pytest.raises(ModelError, match="no linear bound holds"):
        load_network(
            written(module, SHAPE, tmp_path / "net.onnx", dynamo=False, opset_version=13), input_shape=SHAPE
        )


def at(steps: Steps, z: Fraction) -> float:
    """By the definition: the line of the part that holds z."""
    return float(
        steps.refined(sorted({*steps.places, z})).lines[2 * sorted({*steps.places, z}).index(z) + 1](z)[0]
    )


def test_functions_of_functions_are_what_their_parts_are():
    clip = Steps.joined([-1.0, 2.0], [(0.0, -1.0), (1.0, 0.0), (0.0, 2.0)])
    above = Steps().compared("above")
    made = selected(truths([above, clip.compared("at least")], "and"), clip * Steps.constant(2.0), Steps())
    inner = Steps.joined([0.5], [(-1.0, 1.0), (1.0, 0.0)])
    for z in (Fraction(n, 4) for n in range(-16, 17)):
        x = float(z)
        plain = 2 * min(max(x, -1.0), 2.0) if x > 0 else x
        assert at(made, z) == plain
        y = 1 - x if x <= 0.5 else x
        assert at(made.inside(inner), z) == (2 * min(max(y, -1.0), 2.0) if y > 0 else y)
        assert at(made.signs(), z) == np.sign(plain)
        assert at(truths([above, clip.compared("other")], "xor"), z) == float(
            (x > 0) != (min(max(x, -1), 2) != 0)
        )
    assert made.jump() is None
    assert above.jump() == (0, 0, 1)
    with pytest.raises(NotAffineError, match="both depend"):
        _ = Steps() * Steps()
    with pytest.raises(NotAffineError, match="not finite"):
        Steps.constant(float("inf"))


def test_a_soft_plus_that_is_its_argument_far_out_is_one(tmp_path):
    """As PyTorch's newer exporter writes it."""
    nodes = [
        node("Softplus", "image"),
        node("Greater", "image", "far"),
        node("Where", None, "image", "v0"),
        node("Flatten", None),
        node("MatMul", None, "w"),
    ]
    for edge, fits in ((20.0, True), (19.0, False)):
        model = model_of(nodes, {"far": np.float32(edge), "w": array(72, 3)}, opset=18)
        if fits:
            network = imported(model, tmp_path)
            assert (
                check_fidelity(network, np.random.default_rng(0).uniform(0, 1, (3, *FILE_SHAPE))).logits
                < 1e-5
            )
        else:
            with pytest.raises(ModelError, match="joins values of which one is chosen by another"):
                imported(model, tmp_path)
