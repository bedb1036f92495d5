"""Networks that are made for pixels from 0 to 255 are told of, and those for pixels in [0, 1] are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper, save
from torch import nn

from steadygaze.network.reading.load import load_network
from steadygaze.perturbation import Brightness
from steadygaze.verdict.driver import verify

SHAPE = (3, 8, 8)


class Divided(nn.Module):
    """A network that scales its input itself, as Keras's Rescaling does; BGR, as Caffe's models take it."""

    def __init__(self, divisor: float, shift: float = 0.0) -> None:
        super().__init__()
        self.divisor, self.shift = divisor, shift
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body((x[:, [2, 1, 0]] / self.divisor) - self.shift)


def plain(*first: nn.Module) -> nn.Module:
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(192, 5))


def statistics(mean: float, variance: float) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(3)
    norm.running_mean, norm.running_var = torch.full((3,), mean), torch.full((3,), variance)
    return norm


def told(module: nn.Module, **wanted) -> str:
    return load_network(module.eval(), input_shape=SHAPE, **wanted).output_note or ""


@pytest.mark.parametrize(
    "module", [Divided(255.0), Divided(127.5, 1.0), Divided(58.0, 2.1), plain(statistics(120.0, 4000.0))]
)
def test_a_network_for_pixels_to_255_is_told_of(module):
    assert "pixels from 0 to 255 are expected" in told(module)
    assert "--std 1/255" in told(module)
    assert not told(module, std=1 / 255)


@pytest.mark.parametrize(
    "module",
    [
        plain(),
        Divided(1.0, 0.5),
        Divided(0.229, 2.1),
        plain(nn.Identity(), statistics(0.4, 0.04)),
        plain(nn.Conv2d(3, 3, 1)),
    ],
)
@pytest.mark.parametrize("wanted", [{}, {"mean": 0.5, "std": 0.25}, {"mean": 0.4914, "std": 1 / 255}])
def test_a_network_for_pixels_to_1_is_not(module, wanted):
    assert not told(module, **wanted)


def test_normalisation_that_counts_to_255_is_told_of():
    assert "--mean 0.485" in told(plain(), mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
    assert "--std 0.229" in told(plain(), mean=0.5, std=(58.395, 57.12, 57.375))
    assert "no pixel's" in told(plain(), mean=127.5)


def test_a_file_is_told_of_unless_it_takes_whole_numbers(tmp_path):
    weights = [
        numpy_helper.from_array(np.float32(255.0), "most"),
        numpy_helper.from_array(np.full((192, 3), 0.01, np.float32), "w"),
    ]
    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["real", "most"], ["scaled"]),
        helper.make_node("Flatten", ["scaled"], ["row"]),
        helper.make_node("MatMul", ["row", "w"], ["logits"]),
    ]
    for kind, expected in ((TensorProto.FLOAT, True), (TensorProto.UINT8, False)):
        graph = helper.make_graph(
            nodes,
            "scaled",
            [helper.make_tensor_value_info("image", kind, [1, *SHAPE])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])],
            weights,
        )
        sets = [helper.make_opsetid("", 13)]
        save(helper.make_model(graph, opset_imports=sets, ir_version=8), tmp_path / "net.onnx")
        note = load_network(tmp_path / "net.onnx", input_shape=SHAPE).output_note or ""
        assert ("--std 1/255" in note) is expected


def test_the_answer_tells_where_to_look():
    """Of a wrong answer to an image with a label, and of amounts that count to 255."""
    torch.manual_seed(0)
    image = np.random.default_rng(0).uniform(0, 1, SHAPE)
    answer = verify(Divided(255.0).eval(), image, Brightness(-30, 30), threads=1)
    assert "--std 1/255" in answer.result.problem.model_sentences()[0]
    assert "divide it by 255" in answer.result.problem.image_sentences()[0]
    narrow = verify(plain().eval(), image, Brightness(-1, 1), threads=1)
    assert not narrow.result.problem.image_sentences()
