"""Modules that return several tensors: which of them holds the logits, and what is said where it is open."""

from __future__ import annotations

import dataclasses
import warnings
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import steadygaze as sg
from steadygaze.errors import ModelError, SettingError
from steadygaze.network.reading.fidelity import check_fidelity
from steadygaze.network.reading.load import load_network

SHAPE = (1, 4, 4)
IMAGES = np.random.default_rng(0).uniform(0, 1, (4, *SHAPE))


class ModelOutput(OrderedDict):
    """As transformers has it: a mapping whose entries are attributes, some of them None."""


@dataclasses.dataclass
class Record:
    """A record with the logits in it."""

    loss: Tensor | None
    logits: Tensor
    hidden: tuple[Tensor, ...]


Pair = namedtuple("Pair", "features logits")


class Returning(nn.Module):
    """A module of two layers that returns what `make` makes of its features and its logits."""

    def __init__(self, make) -> None:
        super().__init__()
        self.features, self.head, self.make = nn.Linear(16, 6), nn.Linear(6, 3), make

    def forward(self, x: Tensor):
        features = torch.relu(self.features(x.flatten(1)))
        return self.make(features, self.head(features))


def returning(make) -> Returning:
    torch.manual_seed(0)
    return Returning(make).eval()


def logits_of(network) -> np.ndarray:
    check_fidelity(network, IMAGES)
    return network.graph.forward(torch.from_numpy(IMAGES)).numpy()


EXPECTED = logits_of(load_network(returning(lambda f, z: z), input_shape=SHAPE))

OPEN = {
    "tuple": (lambda f, z: (f, z), "1"),
    "list": (lambda f, z: [z, f], 0),
    "dict": (lambda f, z: {"embedding": f, "out": z}, "out"),
    "nested": (lambda f, z: {"a": {"x": f}, "b": [f, {"score": z}]}, "b.1.score"),
    "last-name": (lambda f, z: {"a": {"x": f}, "b": [f, {"score": z}]}, "score"),
    "number-of-names": (lambda f, z: {"embedding": f, "out": z}, "1"),
    "one-alone": (lambda f, z: z, 0),
}
NAMED = {
    "dict": lambda f, z: {"features": f, "logits": z},
    "named-tuple": Pair,
    "record": lambda f, z: Record(None, z, (f, f)),
    "model-output": lambda f, z: ModelOutput(loss=None, logits=z, hidden_states=(f,)),
    "nested": lambda f, z: {"head": {"logits": z}, "aux": (f,)},
    "twice-the-same": lambda f, z: (z, {"scores": z}),
}


@pytest.mark.parametrize("name", OPEN)
def test_the_output_that_is_asked_for_is_taken(name):
    make, asked = OPEN[name]
    network = load_network(returning(make), input_shape=SHAPE, output=asked)
    assert np.array_equal(logits_of(network), EXPECTED)
    assert network.output == str(asked)


@pytest.mark.parametrize("name", NAMED)
def test_the_output_named_logits_is_taken_by_itself(name):
    network = load_network(returning(NAMED[name]), input_shape=SHAPE)
    assert np.array_equal(logits_of(network), EXPECTED)


MADE = {
    "softmax": lambda f, z: (z, z.softmax(1)),
    "softmax-first": lambda f, z: (z.softmax(1), z),
    "class": lambda f, z: {"scores": z, "predicted": z.argmax(1)},
    "all": lambda f, z: [z.argmax(1, keepdim=True), {"logarithm": z.log_softmax(1)}, z, z.sigmoid()],
}
NOT_MADE = {
    "features": lambda f, z: (z, f),
    "another-softmax": lambda f, z: (z, (2 * z).softmax(1)),
    "another-class": lambda f, z: (f, z.argmin(1)),
    "the-same": lambda f, z: (z, z.clone()),
    "largest": lambda f, z: tuple(z.softmax(1).topk(2)),
}


@pytest.mark.parametrize("file", [False, True])
@pytest.mark.parametrize("name", MADE)
def test_the_output_that_the_others_are_made_of_is_taken(name, file, tmp_path):
    source = returning(MADE[name])
    if file:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.export.save(torch.export.export(source, (torch.zeros(1, *SHAPE),)), tmp_path / "net.pt2")
        source = tmp_path / "net.pt2"
    network = load_network(source, input_shape=SHAPE)
    assert np.allclose(logits_of(network), EXPECTED, atol=1e-6)
    assert "which the others are made of" in (network.output_note or "")


@pytest.mark.parametrize("name", NOT_MADE)
def test_outputs_that_are_no_more_than_near_are_left_open(name):
    with pytest.raises(ModelError, match="the module returns 2 tensors"):
        load_network(returning(NOT_MADE[name]), input_shape=SHAPE)


def test_the_answer_says_which_output_it_is_about():
    module = returning(lambda f, z: {"features": f, "logits": z})
    answer = sg.verify(module, IMAGES[0], sg.Brightness(0, 0.01), threads=1)
    assert answer.result.problem.model.note == "output 'logits' of 'features', 'logits'"
    named = sg.verify(module, IMAGES[0], sg.Brightness(0, 0.01), threads=1, output=1)
    assert named.result.problem.output == "1"


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("asked", ["1", "out"])
def test_a_program_keeps_its_outputs(asked, softmax, tmp_path):
    shape = {"1": lambda f, z: (f, z), "out": lambda f, z: {"embedding": f, "out": z}}[asked]
    module = returning(lambda f, z: shape(f, z.softmax(1) if softmax else z))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(module, (torch.zeros(1, *SHAPE),)), tmp_path / "net.pt2")
    network = load_network(tmp_path / "net.pt2", input_shape=SHAPE, output=asked)
    assert np.allclose(logits_of(network), EXPECTED, atol=1e-6)
    with pytest.raises(ModelError, match="the module returns 2 tensors"):
        load_network(tmp_path / "net.pt2", input_shape=SHAPE)


def test_what_is_left_open_is_refused_with_a_list_of_all():
    module = returning(lambda f, z: {"embedding": f, "head": (z, z + 1)})
    listed = r"3 tensors \('embedding' of shape \(1, 6\), 'head.0' of shape \(1, 3\), 'head.1' of shape"
    with pytest.raises(ModelError, match=rf"returns {listed}.*--output NAME"):
        load_network(module, input_shape=SHAPE)
    for asked in ("scores", "3", "head"):
        with pytest.raises(SettingError, match=rf"the output is '{asked}', but the module returns {listed}"):
            load_network(module, input_shape=SHAPE, output=asked)


@pytest.mark.parametrize("asked", ["", True, 1.5])
def test_an_output_that_is_no_name_is_refused(asked):
    with pytest.raises(SettingError, match="allowed is the name of what holds the logits, or its number"):
        load_network(returning(lambda f, z: z), input_shape=SHAPE, output=asked)


class Guess(nn.Module):
    """The class itself, of logits, behind noise where it is asked for."""

    def __init__(self, noisy: bool) -> None:
        super().__init__()
        self.noisy, self.linear = noisy, nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.noisy:
            return self.linear((x + 0.01 * torch.randn_like(x)).flatten(1))
        return self.linear(x.flatten(1)).argmax(1)


@pytest.mark.parametrize(
    ("noisy", "told"), [(False, "returns int64, the class itself .* return these"), (True, "random numbers")]
)
def test_the_class_itself_and_noise_are_refused_with_what_to_do(noisy, told):
    with pytest.raises(ModelError, match=told):
        load_network(Guess(noisy).eval(), input_shape=(1, 2, 2))
