"""Convolutions whose kernels are mixed for each image: read as the module computes them, or refused."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from architectures.zoo import written
from oracles import gradients_of, logits_of
from steadygaze.errors import ModelError
from steadygaze.network.reading.fidelity import check_fidelity
from steadygaze.network.reading.load import load_network
from steadygaze.perturbation import Brightness
from steadygaze.verdict.driver import verify

SHAPE = (4, 6, 5)
IMAGES = np.random.default_rng(0).uniform(0.1, 0.9, (4, *SHAPE))


class Mixing(nn.Module):
    """Few numbers of the whole image say how kernels are mixed for it."""

    def __init__(self, body, experts=3, kernel=(4, 4, 3, 3)):
        super().__init__()
        torch.manual_seed(0)
        self.route = nn.Linear(4, experts)
        self.kernels = nn.Parameter(0.4 * torch.randn(experts, *kernel))
        self.shifts = nn.Parameter(torch.randn(experts, kernel[0]))
        self.always = nn.Parameter(0.4 * torch.randn(kernel))
        self.body, self.out = body, nn.LazyLinear(3)

    def forward(self, x):
        shares = self.route(x.mean((2, 3)))
        return self.out(self.body(self, x, shares).relu().flatten(1))


def batched(m, x, shares):
    """Conditional convolution: the images of a batch are groups of one."""
    weight = (shares.sigmoid() @ m.kernels.flatten(1)).reshape(-1, *m.kernels.shape[2:])
    found = functional.conv2d(x.reshape(1, -1, *x.shape[2:]), weight, padding=1, groups=x.shape[0])
    return found.reshape(x.shape[0], -1, *found.shape[2:])


def summed(m, x, shares):
    weight = (shares.softmax(-1)[0, :, None, None, None, None] * m.kernels).sum(0)
    return functional.conv2d(x, weight, (shares.softmax(-1) @ m.shifts)[0], stride=(2, 1), dilation=(1, 2))


def about_a_constant(m, x, shares):
    weight = m.always + torch.einsum("be,eoikl->boikl", shares.tanh(), m.kernels)[0]
    return functional.conv2d(x, weight, m.shifts[0], padding="same")


def in_groups(m, x, shares):
    weight = torch.einsum("be,eoikl->boikl", shares.tanh(), m.kernels)[0]
    return functional.conv2d(x, weight, padding=(1, 0), groups=2)


BODIES = {
    "batched": lambda: Mixing(batched),
    "summed": lambda: Mixing(summed),
    "one": lambda: Mixing(summed, experts=1),
    "about a constant": lambda: Mixing(about_a_constant),
    "in groups": lambda: Mixing(in_groups, kernel=(6, 2, 3, 2)),
}


def made(name):
    module = BODIES[name]().eval()
    module(torch.zeros(1, *SHAPE))
    return module


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("way", ["module", "file"])
def test_it_is_read_as_the_module_computes_it(name, way, tmp_path):
    module = made(name)
    as_file = way == "file"
    source = written(module, SHAPE, tmp_path / "network.onnx", dynamo=False) if as_file else module
    read, wide = load_network(source, input_shape=SHAPE), copy.deepcopy(module).double()
    check_fidelity(read, IMAGES)
    for image in IMAGES:
        one = torch.from_numpy(image[None])
        assert np.allclose(read.graph.forward(one), logits_of(wide, image[None]), atol=1e-6)
        slopes = gradients_of(wide, image[None], 1)
        assert np.allclose(read.graph.gradient_at(one, 1), slopes, atol=1e-5 * np.abs(slopes).max())


def test_an_answer_holds_where_it_is_sampled():
    module = made("batched")
    answer = verify(module, IMAGES[0], Brightness(-0.05, 0.05), regions_limit=300, threads=1)
    assert answer.safe_scale is not None
    assert answer.safe_scale > 0
    images = IMAGES[0] + 0.05 * answer.safe_scale * np.linspace(-1, 1, 41)[:, None, None, None]
    wide = copy.deepcopy(module).double()
    found = np.concatenate([logits_of(wide, image[None]) for image in images]).argmax(1)
    assert (found == found[20]).all()


def by_pixels(m, x, shares):
    weight = (x.flatten(1)[:, :72] ** 2).reshape(2, 4, 3, 3)
    return functional.conv2d(x, weight)


def of_rows(m, x, shares):
    return functional.conv1d(x.flatten(2), (shares @ m.kernels.flatten(1)).reshape(4, 4, 9))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            by_pixels,
            "weights are computed from the image, 72 numbers of 72 or more; allowed are constants, or",
        ),
        (of_rows, "'weight' is computed from the image; allowed is a constant tensor with 3 axes"),
    ],
)
def test_what_is_no_mixture_is_refused(body, message):
    module = Mixing(body).eval()
    module(torch.zeros(1, *SHAPE))
    with pytest.raises(ModelError, match=message):
        load_network(module, input_shape=SHAPE)
