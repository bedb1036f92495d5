"""Norms that are written out: one layer where they are norms, and read as they compute where they are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from steadygaze.network.joint import Normalise
from steadygaze.network.reading.fidelity import check_fidelity
from steadygaze.network.smooth import Smooth
from written_bodies import read

SHAPE = (3, 4, 4)


def of_channels(x):
    """As vit-pytorch has it."""
    var, mean = torch.var(x, dim=1, unbiased=False, keepdim=True), torch.mean(x, dim=1, keepdim=True)
    return (x - mean) / (var + 2**-10).sqrt() * 0.75 + 0.125


def of_channels_by_powers(x):
    """As ConvNeXt has it."""
    u = x.mean(1, keepdim=True)
    s = (x - u).pow(2).mean(1, keepdim=True)
    return (x - u) / torch.sqrt(s + 2**-10)


def of_places(x):
    away = x - x.mean((2, 3), keepdim=True)
    return away * torch.rsqrt((away * away).mean((2, 3), keepdim=True) + 2**-10)


def unbiased(x):
    return (x - x.mean((1, 2, 3), keepdim=True)) / torch.sqrt(x.var((1, 2, 3), keepdim=True) + 2**-7)


def of_rows(x):
    x = x.flatten(2)
    return (x - x.mean(-1, keepdim=True)) / torch.sqrt(3 * x.var(-1, correction=0, keepdim=True) + 2**-7)


def with_a_number_more(x):
    return (x - x.mean(1, keepdim=True)) * (torch.rsqrt(x.var(1, keepdim=True) + 2**-7) + 0.5)


def twice(x):
    return of_channels(of_places(x) + x)


def by_the_root_mean_square(x):
    """As LLaMA has it."""
    return 0.5 * (x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 2**-10))


def weighed_before(x):
    away = torch.tensor([0.5, -2.0, 1.0])[:, None, None] * (x - x.mean(1, keepdim=True))
    return away / torch.sqrt(x.var(1, keepdim=True) + 2**-10) + 0.25


BESIDE = torch.tensor([1.25, -0.5, 2.0, 1.0])


def beside_the_root(x):
    """As the Annotated Transformer has it."""
    return BESIDE * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 2**-10) + 0.125


def beside_the_root_mean_square(x):
    return x / (torch.sqrt(x.square().mean((1, 2, 3), keepdim=True)) + 2**-10)


def beside_and_below_the_root(x):
    spread = 3 * torch.sqrt(x.var(1, keepdim=True) + 2**-6)
    return 2 * ((x - x.mean(1, keepdim=True)) / (spread + 0.5))


BESIDES = {
    body.__name__: body for body in (beside_the_root, beside_the_root_mean_square, beside_and_below_the_root)
}

NORMS = {
    "of channels": (of_channels, 1), "of channels by powers": (of_channels_by_powers, 1), "twice": (twice, 2),
    "by the root mean square": (by_the_root_mean_square, 1), "weighed before": (weighed_before, 1),
    "of places": (of_places, 1), "unbiased": (unbiased, 1), "of rows": (of_rows, 1),
}  # fmt: skip


def other_axes(x):
    return (x - x.mean(1, keepdim=True)) / (x.var((2, 3), keepdim=True) + 2**-7).sqrt()


def other_axes_of_the_mean(x):
    away = x - x.mean(1, keepdim=True)
    return (x - x.mean(2, keepdim=True)) / ((away * away).mean(1, keepdim=True) + 2**-7).sqrt()


def another_value(x):
    return (x - x.mean(1, keepdim=True)) / ((2 * x).var(1, keepdim=True) + 2**-7).sqrt()


def not_squared(x):
    away = x - x.mean(1, keepdim=True)
    return away / (away.abs().mean(1, keepdim=True) + 2**-7).sqrt()


def along_other_axes(x):
    """Places are as many both ways, so that the mean of columns is taken from rows."""
    x = x[:, 0]
    return (x - x.mean(1)[:, None]) / (x.var(1, unbiased=False)[:, None] + 2**-7).sqrt()


def spread_along_other_axes(x):
    x = x[:, 0]
    return (x - x.mean(2, keepdim=True)) / (x.var(2, unbiased=False)[:, None] + 2**-7).sqrt()


def turned(x):
    return (x.mean(1, keepdim=True) - 2 * x) / (x.var(1, keepdim=True) + 2**-7).sqrt()


def by_the_variance(x):
    return (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True) + 2**-7)


EPSILONS = torch.tensor([1.0, 2.0, 4.0, 8.0]) / 128


def another_epsilon_each(x):
    return (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True) + EPSILONS).sqrt()


OTHERS = (
    other_axes, other_axes_of_the_mean, another_value, not_squared, along_other_axes, spread_along_other_axes,
    turned, with_a_number_more, by_the_variance, another_epsilon_each,
)  # fmt: skip


def count(network, kind):
    return sum(isinstance(node.layer, kind) for node in network.graph.nodes)


def check_computes(network, module):
    images = np.random.default_rng(1).uniform(0, 1, (5, *SHAPE))
    check_fidelity(network, images)
    rows = torch.from_numpy(images)
    torch.testing.assert_close(network.graph.forward(rows), module(rows), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("form", ["module", "onnx"])
@pytest.mark.parametrize("name", NORMS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_norm_is_one_layer(name, form, tmp_path):
    body, norms = NORMS[name]
    network, module = read(body, SHAPE, tmp_path, form)
    assert (count(network, Normalise), count(network, Smooth)) == (norms, 0)
    check_computes(network, module)


@pytest.mark.parametrize("form", ["module", "onnx"])
@pytest.mark.parametrize("name", BESIDES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_number_beside_the_root_is_a_norm_and_a_small_correction(name, form, tmp_path):
    network, module = read(BESIDES[name], SHAPE, tmp_path, form)
    (norm,) = [node for node in network.graph.nodes if isinstance(node.layer, Normalise)]
    assert norm.layer.centred == (name != "beside_the_root_mean_square")
    check_computes(network, module)


@pytest.mark.parametrize("form", ["module", "onnx"])
@pytest.mark.parametrize("body", OTHERS, ids=lambda body: body.__name__)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_is_no_norm_is_read_as_it_is_computed(body, form, tmp_path):
    network, module = read(body, SHAPE, tmp_path, form)
    assert not count(network, Normalise)
    check_computes(network, module)
