"""Binary classifiers of one logit: two classes, by whatever way they come, for images of either class."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from onnx_files import array, imported, model_of, node
from oracles import gradients_of, logits_of
from steadygaze.network.reading.fidelity import check_fidelity
from steadygaze.network.reading.load import Network, load_network
from steadygaze.network.saliency import Gradient
from steadygaze.perturbation import Brightness, Chain
from steadygaze.question.inconsistency import Cosine
from steadygaze.question.posing import pose
from steadygaze.verdict.driver import solve, verify

SHAPE = (1, 4, 4)
IMAGES = np.random.default_rng(2).uniform(0, 1, (6, *SHAPE))


def body() -> nn.Module:
    torch.manual_seed(3)
    hidden = nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU()
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(8, 1)).eval()


class Squeezed(nn.Module):
    """One number for each image, without an axis of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body = body()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x).squeeze(1)


class Both(nn.Module):
    """The probabilities of both classes, as estimators of two classes give them."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.body, self.how = body(), how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        p = torch.sigmoid(self.body(x))
        match self.how:
            case "joined":
                return torch.cat([1 - p, p], dim=1)
            case "stacked":
                return torch.stack((1 - p[:, 0], p[:, 0]), dim=-1)
            case "squeezed":
                p = p.squeeze(1)
                return torch.stack([1.0 - p, p], dim=1)
            case "the other way round":
                return torch.cat([p, 1 - p], dim=1)
            case "of 2":
                return torch.cat([2 - p, p], dim=1)
            case _:  # of another number than the other class has
                return torch.cat([1 - p, torch.sigmoid(2 * self.body(x))], dim=1)


def saved(module: nn.Module, folder: Path, kind: str) -> Path:
    path = folder / f"net.{kind}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "pt2":
            dims = ({0: torch.export.Dim("batch")},)
            torch.export.save(
                torch.export.export(module, (torch.zeros(2, *SHAPE),), dynamic_shapes=dims), path
            )
        else:
            torch.onnx.export(module, (torch.zeros(1, *SHAPE),), str(path), opset_version=17, dynamo=False)
    return path


def assert_two_classes(network: Network) -> None:
    z = logits_of(copy.deepcopy(body()).double(), IMAGES)
    slopes = gradients_of(copy.deepcopy(body()).double(), IMAGES, 0)
    images = torch.from_numpy(IMAGES)
    check_fidelity(network, IMAGES)
    for label, signs in ((1, (0, 1)), (0, (-1, 0))):
        facing = network.facing(label)
        assert np.allclose(facing.graph.forward(images), z * signs, atol=1e-6)
        assert np.allclose(facing.original.logits(IMAGES), z * signs, atol=1e-5)
        for k in range(2):
            assert np.allclose(facing.graph.gradient_at(images, k), signs[k] * slopes, atol=1e-6)
            assert np.allclose(facing.original.gradients(IMAGES, k), signs[k] * slopes, atol=1e-5)
        pair = "(0, z)" if label else "(-z, 0)"
        assert f"one logit z read as two classes with the logits {pair}" in (facing.output_note or "")


@pytest.mark.parametrize("kind", ["module", "pt2", "onnx"])
@pytest.mark.parametrize("tail", ["none", "sigmoid", "squeezed"])
def test_one_logit_is_read_as_two_classes(kind, tail, tmp_path):
    module = Squeezed().eval() if tail == "squeezed" else body()
    module = nn.Sequential(module, nn.Sigmoid()).eval() if tail == "sigmoid" else module
    source = module if kind == "module" else saved(module, tmp_path, kind)
    network = load_network(source, input_shape=SHAPE)
    assert_two_classes(network)
    removed = "final sigmoid removed" in (network.output_note or "").lower()
    assert removed == (tail == "sigmoid")


@pytest.mark.parametrize("kind", ["module", "pt2", "onnx"])
@pytest.mark.parametrize("how", ["joined", "stacked", "squeezed"])
def test_the_probabilities_of_both_classes_are_read_as_one_logit(kind, how, tmp_path):
    module = Both(how).eval()
    network = load_network(module if kind == "module" else saved(module, tmp_path, kind), input_shape=SHAPE)
    assert_two_classes(network)
    assert "final sigmoid removed" in (network.output_note or "").lower()


@pytest.mark.parametrize("kind", ["module", "pt2", "onnx"])
@pytest.mark.parametrize("how", ["the other way round", "of 2", "of another number"])
def test_what_only_looks_like_the_probabilities_of_both_classes_stays(kind, how, tmp_path):
    module = Both(how).eval()
    network = load_network(module if kind == "module" else saved(module, tmp_path, kind), input_shape=SHAPE)
    assert network.output_note is None
    wanted = logits_of(copy.deepcopy(module).double(), IMAGES)
    assert np.allclose(network.graph.forward(torch.from_numpy(IMAGES)), wanted, atol=1e-6)


def test_an_estimator_of_two_classes_is_exact(tmp_path):
    """As skl2onnx writes `MLPClassifier`."""
    nodes = [
        node("Flatten", None),
        node("Gemm", None, "w"),
        node("Sigmoid", None),
        node("Sub", "one", "v2"),
        node("Concat", "v3", "v2", axis=1),
    ]
    model = model_of(nodes, {"w": array(16, 1), "one": np.ones(1, np.float32)}, shape=SHAPE)
    network = imported(model, tmp_path, input_shape=SHAPE)
    assert "final Sigmoid removed" in (network.output_note or "")
    assert not network.graph.smooth


@pytest.mark.parametrize(
    "behind",
    [
        [node("Sub", "one", "v2"), node("Gather", "v3", "twice", axis=1), node("Concat", "v4", "v2", axis=1)],
        [node("Sub", "one", "v2"), node("Gather", "v2", "twice", axis=1), node("Concat", "v3", "v4", axis=1)],
        [node("Gather", "v2", "twice", axis=1), node("Sub", "one", "v3"), node("Concat", "v4", "v2", axis=1)],
    ],
    ids=["1 - p", "p", "p before 1 - p"],
)
def test_probabilities_that_are_repeated_are_classes_of_their_own(behind, tmp_path):
    nodes = [node("Flatten", None), node("Gemm", None, "w"), node("Sigmoid", None), *behind]
    kept = {"w": array(16, 1), "one": np.ones(1, np.float32), "twice": np.zeros(2, np.int64)}
    network = imported(model_of(nodes, kept, shape=SHAPE), tmp_path, input_shape=SHAPE)
    assert network.output_note is None
    assert network.graph.forward(torch.from_numpy(IMAGES)).shape[1] == 3


def test_sigmoids_of_several_classes_stay(tmp_path):
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.Sigmoid()).eval()
    for source in (module, saved(module, tmp_path, "pt2"), saved(module, tmp_path, "onnx")):
        network = load_network(source, input_shape=SHAPE)
        assert network.output_note is None
        wanted = logits_of(copy.deepcopy(module).double(), IMAGES)
        assert np.allclose(network.graph.forward(torch.from_numpy(IMAGES)), wanted, atol=1e-6)


def test_a_sigmoid_behind_a_cast_is_taken_off(tmp_path):
    nodes = [node("Flatten", None), node("Gemm", None, "w"), node("Sigmoid", None), node("Cast", None, to=1)]
    model = model_of(nodes, {"w": array(16, 1)}, shape=SHAPE)
    assert "final Sigmoid removed" in (imported(model, tmp_path, input_shape=SHAPE).output_note or "")
    assert onnx.load(tmp_path / "net.onnx").graph.output[0].name == "logits"


@pytest.mark.parametrize("sign", [1, -1])
def test_images_of_either_class_have_an_answer_whose_witness_replays(sign):
    module = nn.Sequential(body(), nn.Sigmoid()).eval()
    with torch.no_grad():
        last = module[0][-1]
        z = float(module[0](torch.from_numpy(IMAGES[:1]).float()))
        last.bias += sign * 0.005 - z
    answer = verify(module, IMAGES[0], Brightness(-0.4, 0.4), threshold=0.6)
    assert answer.result.problem.image.label == (sign > 0)
    failure = answer.result.nearest_failure
    assert failure is not None
    at = answer.at(failure.theta)
    assert at.kind == failure.kind
    shown = torch.from_numpy(np.clip(IMAGES[:1] + failure.theta[0], 0, 1)).float()
    with torch.no_grad():
        assert float(module[0](shown)) * sign == pytest.approx(at.class_gap, abs=1e-5)


def test_the_map_of_either_class_is_that_of_the_logit():
    for facing in (0, 1):
        module = body()
        with torch.no_grad():
            module[-1].bias += (2 * facing - 1) * 5.0
        problem = pose(
            load_network(module, input_shape=SHAPE), IMAGES[0], Chain(Brightness(-0.01, 0.01)), label=None,
            saliency=Gradient(), inconsistency=Cosine(), threshold=0.3, clip=(0.0, 1.0),
        )  # fmt: skip
        assert problem.label == facing
        slope = gradients_of(copy.deepcopy(module).double(), IMAGES[:1], 0)[0]
        assert np.allclose(problem.map0, (2 * facing - 1) * slope, atol=1e-9)
        assert solve(problem, threads=1).result.problem.model.note
