"""Objects that are handed in where a module should be: what they are, and what to do, in one sentence."""

from __future__ import annotations

import functools
from collections import OrderedDict

import onnx
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from steadygaze.errors import ModelError
from steadygaze.network.reading.load import load_network

NET = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))


class Session:
    """As another package has it."""


class Learner:
    """As skorch's, fastai's and transformers' keep a module, among others."""

    def __init__(self, name: str, *others: str) -> None:
        for other in others:
            setattr(self, other, nn.MSELoss())
        setattr(self, name, NET)


Session.__module__ = "onnxruntime.capi"
GIVEN = {
    "state_dict": (NET.state_dict(), "OrderedDict, which holds weights without layers .* load_state_dict"),
    "checkpoint": ({"epoch": 1, "net": NET.state_dict()}, "a checkpoint, with weights .* entry 'net'"),
    "module-in-a-dict": ({"epoch": 1, "net": NET}, "hand in its entry 'net'"),
    "empty": (OrderedDict(), "allowed are a PyTorch module"),
    "file": (onnx.ModelProto(), r"onnx.save\(model, 'net.onnx'\)"),
    "session": (Session(), "path of the .onnx file"),
    "estimator": (LogisticRegression(), "an estimator: write it as ONNX, with skl2onnx"),
    "learner": (Learner("module_", "criterion_"), r"Learner, which holds a module: hand in its .module_"),
    "trainer": (Learner("model", "loss"), r"hand in its .model"),
    "wrapper": (Learner("inner"), r"hand in its .inner"),
    "of-several": (Learner("inner", "other"), "allowed are a PyTorch module"),
    "class": (nn.Flatten, r"hand in one of them, Flatten\(...\)"),
    "other-class": (Session, "allowed are a PyTorch module"),
    "list": ([NET, NET], r"torch.nn.Sequential\(\*modules\)"),
    "method": (NET.forward, "a method of a module: hand in the module"),
    "function": (lambda x: NET(x), "a function: hand in a torch.nn.Module"),
    "partial": (functools.partial(NET), "a function: hand in a torch.nn.Module"),
}


@pytest.mark.parametrize("name", GIVEN)
def test_what_it_is_and_what_to_do_is_said(name):
    given, message = GIVEN[name]
    with pytest.raises(ModelError, match=message):
        load_network(given, input_shape=(1, 2, 2))


def test_a_program_is_handed_in_as_its_module():
    program = torch.export.export(NET, (torch.zeros(1, 1, 2, 2),))
    with pytest.raises(ModelError, match=r"hand in program.module\(\)"):
        load_network(program, input_shape=(1, 2, 2))
    assert load_network(program.module(), input_shape=(1, 2, 2)).graph.classes == 3
