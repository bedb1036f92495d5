"""Heads of products, angles and stretched scales: read by every way, and what is proven holds at samples."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from architectures import heads
from architectures.zoo import quiet
from oracles import gradients_of, logits_of
from steadygaze.network.reading.fidelity import check_fidelity
from steadygaze.network.reading.load import load_network
from steadygaze.perturbation import Brightness
from steadygaze.verdict.driver import verify

SHAPE = (3, 8, 8)
IMAGES = np.random.default_rng(7).uniform(0.2, 0.8, (40, *SHAPE))
HEADS = {
    one.__name__: one
    for one in (
        heads.NoisyOr,
        heads.Margin,
        heads.Chebyshev,
        heads.Stretched,
        heads.Hyperbolic,
        heads.Tangent,
    )
}
# The older exporter knows no inverse hyperbolic functions.
WAYS = [(name, way) for name in HEADS for way in ("module", "program", "older", "newer")]
WAYS = [one for one in WAYS if one not in (("Stretched", "older"), ("Hyperbolic", "older"))]


def network(name: str) -> torch.nn.Module:
    torch.manual_seed(1)
    return HEADS[name]().eval()


def source(name: str, way: str, folder) -> object:
    module = network(name)
    if way == "module":
        return module
    path = folder / ("network.pt2" if way == "program" else "network.onnx")
    with quiet():
        if way == "program":
            torch.export.save(torch.export.export(module, (torch.zeros(1, *SHAPE),)), path)
        else:
            torch.onnx.export(module, (torch.zeros(1, *SHAPE),), str(path), dynamo=way == "newer")
    return path


@pytest.mark.parametrize(("name", "way"), WAYS)
def test_a_head_is_read(name, way, tmp_path):
    read, module = load_network(source(name, way, tmp_path), input_shape=SHAPE), network(name).double()
    check_fidelity(read, IMAGES[:3])
    wanted, slopes = logits_of(module, IMAGES), gradients_of(module, IMAGES, 1)
    assert np.allclose(read.graph.forward(torch.from_numpy(IMAGES)), wanted, rtol=0, atol=1e-5)
    ours = read.graph.gradient_at(torch.from_numpy(IMAGES), 1).numpy()
    assert np.allclose(ours, slopes, rtol=0, atol=1e-4 * np.abs(slopes).max())


@pytest.mark.parametrize("name", HEADS)
def test_an_answer_holds_where_it_is_sampled(name):
    answer = verify(network(name), IMAGES[0], Brightness(-0.05, 0.05), threads=1, time_limit=20)
    assert (answer.safe_scale or 0.0) > 0
    thetas = np.linspace(-1, 1, 201) * 0.05 * answer.safe_scale
    images = np.clip(IMAGES[0] + thetas[:, None, None, None], 0, 1)
    module = copy.deepcopy(network(name)).double()
    found = logits_of(module, images).argmax(1)
    assert (found == found[100]).all()
    maps = gradients_of(module, images, int(found[100])).reshape(201, -1)
    maps /= np.linalg.norm(maps, axis=1, keepdims=True)
    assert (1 - maps @ maps[100]).max() <= 0.3 + 1e-9
