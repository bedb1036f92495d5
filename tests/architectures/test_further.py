"""Networks as readers of tutorials bring them: modules in brief, and every form that they can take."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from architectures import further
from architectures.zoo import quiet
from oracles import gradients_of, logits_of
from steadygaze.network.reading.fidelity import check_fidelity
from steadygaze.network.reading.load import load_network
from steadygaze.perturbation import Brightness
from steadygaze.verdict.driver import verify

SHAPE = (3, 8, 8)
IMAGES = np.random.default_rng(3).uniform(0.1, 0.9, (3, *SHAPE))


@dataclass(frozen=True)
class Known:
    """Whether it is piecewise linear, and which files of it PyTorch writes and we read."""

    make: type[nn.Module]
    piecewise: bool = False
    first: int = 11
    newer: bool = True
    end: str = ""


NETWORKS = {
    one.make.__name__: one
    for one in (
        Known(further.PreActivation, True),
        Known(further.PaddedShortcut, True),
        Known(further.RepVGG, True),
        Known(further.Maxout, True),
        Known(further.UNet, True),
        Known(further.Normalising, True),
        Known(further.Attentive),
        Known(further.NormaliserFree),
        Known(further.CosineHead),
        # The newer exporter goes through its lists by a graph of their own.
        Known(further.Patchified, newer=False, end="softmax"),
        # Einstein's sums are in operator sets from 12 on.
        Known(further.Einsummed, first=13),
        Known(further.LinearAttention, first=13),
        Known(further.Causal),
        Known(further.WrittenOut),
        Known(further.Recurrent),
        # Places that are computed are in operator sets from 20 on.
        Known(further.SpatialTransformer, first=20),
        Known(further.Annotated),
    )
}
NEWER = [name for name, one in NETWORKS.items() if one.newer]


@cache
def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    module = NETWORKS[name].make().eval()
    generator = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            part.running_mean.copy_(0.2 * torch.rand(part.running_mean.shape, generator=generator) - 0.1)
    return module


def assert_read(name: str, source: object) -> None:
    """It has the values and the gradients of the module in double precision, and its kind."""
    read, module = load_network(source, input_shape=SHAPE), copy.deepcopy(network(name)).double()
    check_fidelity(read, IMAGES)
    wanted, found = logits_of(module, IMAGES), read.graph.forward(torch.from_numpy(IMAGES))
    if NETWORKS[name].end:
        assert (read.output_note or "").lower().startswith("final softmax removed")
        found = found.softmax(1)
    else:
        slopes = gradients_of(module, IMAGES, 1)
        ours = read.graph.gradient_at(torch.from_numpy(IMAGES), 1).numpy()
        assert np.allclose(ours, slopes, rtol=0, atol=1e-4 * np.abs(slopes).max())
    assert np.allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    assert read.graph.piecewise_linear == NETWORKS[name].piecewise


@pytest.mark.parametrize("name", NETWORKS)
def test_a_module_is_read(name):
    assert_read(name, network(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("open_batch", [False, True])
def test_a_program_is_read(name, open_batch, tmp_path):
    if open_batch and name == "Patchified":
        pytest.skip("it takes as many images as it was traced with")
    sizes = ({0: torch.export.Dim("batch")},) if open_batch else None
    with quiet():
        example = torch.zeros(2 if open_batch else 1, *SHAPE)
        program = torch.export.export(copy.deepcopy(network(name)), (example,), dynamic_shapes=sizes)
        torch.export.save(program, tmp_path / "network.pt2")
    assert_read(name, tmp_path / "network.pt2")


def written(name, path, opset, dynamo):
    with quiet():
        torch.onnx.export(
            copy.deepcopy(network(name)), (torch.zeros(1, *SHAPE),), str(path), opset_version=opset,
            dynamo=dynamo, external_data=False,
        )  # fmt: skip
    return path


@pytest.mark.parametrize(
    ("name", "opset"),
    [
        ("NormaliserFree", 17),
        ("CosineHead", 11),
        ("Normalising", 13),
        ("Recurrent", 17),
        ("SpatialTransformer", 20),
        ("Annotated", 17),
    ],
)
def test_a_file_is_read_in_brief(name, opset, tmp_path):
    assert_read(name, written(name, tmp_path / "network.onnx", opset, False))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("opset", [11, 13, 17, 20])
def test_a_file_of_the_older_exporter_is_read(name, opset, tmp_path):
    opset = max(opset, NETWORKS[name].first)
    assert_read(name, written(name, tmp_path / "network.onnx", opset, False))


@pytest.mark.slow
@pytest.mark.parametrize("name", NEWER)
@pytest.mark.parametrize("opset", [18, None])
def test_a_file_of_the_newer_exporter_is_read(name, opset, tmp_path):
    assert_read(name, written(name, tmp_path / "network.onnx", opset, True))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_an_answer_holds_where_it_is_sampled(name):
    far = 0.05 if NETWORKS[name].piecewise else 0.002
    answer = verify(network(name), IMAGES[0], Brightness(-far, far), regions_limit=300, threads=1)
    assert sum(answer.shares.values()) == pytest.approx(1)
    thetas = np.linspace(-1, 1, 101) * far * (answer.safe_scale or 0.0)
    images = np.clip(IMAGES[0] + thetas[:, None, None, None], 0, 1)
    found = logits_of(copy.deepcopy(network(name)).double(), images).argmax(1)
    assert (found == found[50]).all()
