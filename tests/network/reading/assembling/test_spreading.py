"""Variances written as the mean of squares less the square of the mean, from modules and from files."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from steadygaze.errors import ModelError
from steadygaze.network.reading.fidelity import check_fidelity
from written_bodies import read

SHAPE = (2, 4, 6)


def normalised(axes, keep=True):
    def body(x):
        mean, square = x.mean(axes, keepdim=keep), (x * x).mean(axes, keepdim=keep)
        spread = torch.sqrt(square - mean**2 + 1e-3)
        return (x - mean) / spread if keep else torch.cat([mean, spread], 1)

    return body


BODIES = {
    "layer norm": normalised((1, 2, 3)),
    "instance norm": normalised((2, 3)),
    "statistics": normalised((2, 3), keep=False),
    "of a row": lambda x: normalised(-1)(x.flatten(1)),
    "of rectified": lambda x: normalised((1,))(x.relu()),
    "by var": lambda x: (
        ((x**2).mean((2, 3), keepdim=True) - x.mean((2, 3), keepdim=True).pow(2)).clamp_min(0).sqrt()
    ),
}
# What is no variance: other axes, another value, the other way round, another power, a sum.
OTHERS = {
    "axes": lambda x: (x * x).mean((2, 3), keepdim=True) - x.mean((1, 2), keepdim=True) ** 2,
    "value": lambda x: (x * x).mean((2, 3)) - (x + 0.25).mean((2, 3)) ** 2,
    "turned": lambda x: x.mean((2, 3)) ** 2 - (x * x).mean((2, 3)),
    "power": lambda x: (x**3).mean((2, 3)) - x.mean((2, 3)) ** 2,
    "mean alone": lambda x: (x * x).mean((2, 3)) - x.mean((2, 3)),
    "mean of mean": lambda x: (x.mean(3) ** 2).mean(2) - x.mean((2, 3)) ** 2,
    "shapes": lambda x: (x * x).mean(2) - (x.mean(2) ** 2)[:, :1],
}


@pytest.mark.parametrize("form", ["module", "onnx"])
@pytest.mark.parametrize("name", {**BODIES, **OTHERS})
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_it_is_read_as_it_is_computed(name, form, tmp_path):
    network, module = read({**BODIES, **OTHERS}[name], SHAPE, tmp_path, form)
    images = np.random.default_rng(1).uniform(0, 1, (5, *SHAPE))
    check_fidelity(network, images)
    rows = torch.from_numpy(images)
    torch.testing.assert_close(network.graph.forward(rows), module(rows), rtol=1e-9, atol=1e-9)
    # In real numbers a flat image has no variance, and no rounding of squares is left of it.
    if name == "by var":
        flat = torch.full((1, *SHAPE), 1e6, dtype=torch.float64)
        level = module.out(torch.zeros(1, 2, dtype=torch.float64))
        torch.testing.assert_close(network.graph.forward(flat), level, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["axes", "value", "turned", "mean alone"])
def test_what_is_no_variance_may_be_below_0(name, tmp_path):
    with pytest.raises(ModelError, match="may be below 0"):
        read(lambda x: (OTHERS[name](x) + 1e-3).sqrt(), SHAPE, tmp_path, "module")
