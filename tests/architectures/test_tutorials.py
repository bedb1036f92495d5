"""Networks of public tutorials, brought as their readers have them: training, normalised, exported."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from architectures.tutorials import Cifar, Fashion, Mnist, what_is_nn
from architectures.zoo import quiet
from oracles import logits_of
from steadygaze.network.reading.fidelity import check_fidelity
from steadygaze.network.reading.load import load_network
from steadygaze.perturbation import Brightness
from steadygaze.verdict.driver import verify

# Shape, what their pipelines do to pixels, and the layout.
TUTORIALS = {
    "cifar": (Cifar, (3, 32, 32), {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}),
    "mnist": (Mnist, (1, 28, 28), {"mean": 0.1307, "std": 0.3081}),
    "fashion": (Fashion, (1, 28, 28), {}),
    "what-is-nn": (what_is_nn, (1, 28, 28), {"layout": "flat"}),
}


def brought(name: str):
    make, shape, wanted = TUTORIALS[name]
    torch.manual_seed(0)
    return make().train(), np.random.default_rng(4).uniform(0, 1, (3, *shape)), wanted


def fed(images: np.ndarray, wanted) -> np.ndarray:
    images = (images - np.reshape(wanted.get("mean", 0.0), (-1, 1, 1))) / np.reshape(
        wanted.get("std", 1.0), (-1, 1, 1)
    )
    return images.reshape(len(images), -1) if wanted.get("layout") == "flat" else images


@pytest.mark.parametrize("name", TUTORIALS)
@pytest.mark.parametrize("way", ["module", "older"])
def test_a_network_of_a_tutorial_is_read(name, way, tmp_path):
    module, images, wanted = brought(name)
    source = module
    if way == "older":
        source = tmp_path / "network.onnx"
        with quiet():
            example = torch.from_numpy(fed(images[:1], wanted)).float()
            torch.onnx.export(copy.deepcopy(module).eval(), (example,), str(source), dynamo=False)
    network = load_network(source, input_shape=images.shape[1:], **wanted)
    check_fidelity(network, images)
    expected = logits_of(copy.deepcopy(module).double().eval(), fed(images, wanted))
    found = network.graph.forward(torch.from_numpy(images)).numpy()
    if name == "mnist":  # a log-softmax is taken off
        found = torch.from_numpy(found).log_softmax(1).numpy()
    assert np.allclose(found, expected, atol=1e-5)
    assert module.training


@pytest.mark.parametrize("name", TUTORIALS)
def test_a_network_of_a_tutorial_has_an_answer(name):
    module, images, wanted = brought(name)
    answer = verify(module, images[0], Brightness(-0.01, 0.01), regions_limit=300, **wanted)
    assert answer.safe_scale is None or 0 <= answer.safe_scale <= 1
    assert sum(answer.shares.values()) == pytest.approx(1)
    assert "training mode" in (answer.result.problem.model.note or "")
