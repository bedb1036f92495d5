"""Operators outside the table: read by what PyTorch makes of them, or refused under their own names."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.export import ExportedProgram

from oracles import gradients_of, logits_of
from steadygaze.errors import ModelError
from steadygaze.network.reading.load import load_network

SHAPE = (2, 8, 8)
IMAGES = np.random.default_rng(0).uniform(0, 1, (3, *SHAPE))


class Between(nn.Module):
    """A step between a convolution and a dense layer."""

    def __init__(self, step) -> None:
        super().__init__()
        self.first, self.step, self.head = nn.Conv2d(2, 4, 3, padding=1), step, nn.LazyLinear(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.step(functional.relu(self.first(x))).flatten(1))


def between(step) -> nn.Module:
    torch.manual_seed(0)
    module = Between(step).eval()
    module(torch.zeros(1, *SHAPE))
    return module


STEPS = {
    "pixel-shuffle": lambda y: functional.pixel_shuffle(y, 2),
    "pixel-unshuffle": lambda y: functional.pixel_unshuffle(y, 2),
    "channel-shuffle": lambda y: functional.channel_shuffle(y, 2),
    "swapaxes": lambda y: y.swapaxes(1, 2).movedim(1, 3),
    "hstack": lambda y: torch.hstack([y, y]),
    "stack": lambda y: torch.stack([y, 2 * y], 2),
    "narrow": lambda y: y.narrow(1, 1, 2),
    "einsum": lambda y: torch.einsum("abcd->adcb", y),
    "unbind": lambda y: sum(y.unbind(1)),
    "token": lambda y: y.flatten(2).transpose(1, 2)[:, 0],
    "hardsigmoid": functional.hardsigmoid,
    "addcmul": lambda y: torch.addcmul(y, torch.full((4, 1, 1), 0.5), y),
    "max-pool-1d": lambda y: functional.max_pool1d(y.flatten(2), 2),
    "average-pool-1d": lambda y: functional.avg_pool1d(y.flatten(2), 2),
    "tensor-split": lambda y: y.tensor_split(2, 1)[0],
    "ravel": lambda y: y.ravel()[None],
    "view-as": lambda y: y.reshape(1, -1).view_as(torch.ones(1, 256)),
}


@pytest.mark.parametrize("step", STEPS)
def test_what_pytorch_makes_of_it_is_read(step):
    module = between(STEPS[step])
    graph = load_network(module, input_shape=SHAPE).graph
    double = copy.deepcopy(module).double()
    tensors = torch.from_numpy(IMAGES)
    assert np.allclose(graph.forward(tensors), logits_of_each(double), atol=1e-9)
    slopes = np.concatenate([gradients_of(double, image[None], 1) for image in IMAGES])
    assert np.allclose(graph.gradient_at(tensors, 1), slopes, atol=1e-9)


def each_alone(y: Tensor) -> Tensor:
    """Heads side by side for each image of a batch, as loops over them have it: matrices, rows, a number."""
    rows = torch.hstack([y[0, 0], 2 * y[0, 1]])
    return torch.hstack([rows.flatten(), y[0, 2, 0], y[0, 3].sum(), torch.ones(2)])[None]


def test_what_is_put_side_by_side_is_not_traced_again(monkeypatch):
    """A transformer that goes through images, heads and patches by loops takes seconds to be traced."""

    def traced_again(*_):
        raise AssertionError("the program was traced again")

    module = between(each_alone)
    monkeypatch.setattr(ExportedProgram, "run_decompositions", traced_again)
    graph = load_network(module, input_shape=SHAPE).graph
    tensors = torch.from_numpy(IMAGES)
    double = copy.deepcopy(module).double()
    assert np.allclose(graph.forward(tensors), logits_of_each(double), atol=1e-9)


class Steps(nn.Module):
    """A convolution, whose rows a recurrent layer goes through, and its logits beside what led to them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(2, 2, 3), nn.Linear(5, 3)
        self.rows = nn.LSTM(12, 5, batch_first=True)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        states, _ = self.rows(functional.relu(self.stem(x)).transpose(1, 2).flatten(2))
        return {"states": states, "logits": self.head(states[:, -1])}


@pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")
def test_steps_of_open_programs_are_taken_apart_for_one_image_and_once(monkeypatch, tmp_path):
    """With open sizes each step takes four times as long, and another round found nothing more."""
    torch.manual_seed(0)
    module, sizes = Steps().eval(), list[object]()
    open_batch = {"dynamic_shapes": ({0: torch.export.Dim("batch")},)}
    program = torch.export.export(module, (torch.zeros(2, *SHAPE),), **open_batch)
    torch.export.save(program, tmp_path / "steps.pt2")
    apart = ExportedProgram.run_decompositions

    def noted(self, *given):
        image = next(node for node in self.graph.nodes if node.name == "x")
        sizes.append(tuple(image.meta["val"].shape))
        return apart(self, *given)

    monkeypatch.setattr(ExportedProgram, "run_decompositions", noted)
    graph = load_network(tmp_path / "steps.pt2", input_shape=SHAPE).graph
    assert sizes == [(1, *SHAPE)]
    double = copy.deepcopy(module).double()
    with torch.no_grad():
        wanted = double(torch.from_numpy(IMAGES))["logits"].numpy()
    assert np.allclose(graph.forward(torch.from_numpy(IMAGES)), wanted, atol=1e-9)


def logits_of_each(module: nn.Module) -> np.ndarray:
    return np.concatenate([logits_of(module, image[None]) for image in IMAGES])


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda y: functional.pixel_shuffle(y.sinc(), 2), r"layer 'sinc' \(node 'sinc'\)"),
    ],
    ids=["beside"],
)
def test_what_is_refused_bears_the_name_that_the_user_knows(step, message):
    with pytest.raises(ModelError, match=message):
        load_network(between(step), input_shape=SHAPE)
