"""Files of other kinds: each is refused with what it is and how to get from it to one that is read."""

from __future__ import annotations

import io
import pickle
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from steadygaze.errors import ModelError
from steadygaze.network.reading.load import load_network

SHAPE = (1, 3, 3)


def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(9, 4), nn.ReLU(), nn.Linear(4, 2)).eval()


def scripted() -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is on its way out
        return torch.jit.trace(module(), torch.zeros(1, *SHAPE))


def script(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(scripted(), path)


def exported(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        buffer = io.BytesIO()
        torch.export.save(torch.export.export(module(), (torch.zeros(1, *SHAPE),)), buffer)
    path.write_bytes(buffer.getvalue())


WRITTEN = {
    "script": (script, "net.pt", r"TorchScript.*'module:callable'.*torch.onnx.export\(torch.jit.load"),
    "weights": (lambda p: torch.save(module().state_dict(), p), "net.pth", "a state_dict.*load_state_dict"),
    "checkpoint": (
        lambda p: torch.save({"model": module().state_dict(), "epoch": 3, "loss": [0.1]}, p),
        "net.ckpt",
        "a state_dict",
    ),
    "archive": (
        lambda p: torch.save({"state_dict": module().state_dict()}, p),
        "best.pth.tar",
        "a state_dict",
    ),
    "code": (lambda p: p.write_text("net = 1"), "net.py", "is Python code.*without .py"),
    "folder": (
        lambda p: (p.mkdir(), (p / "config.json").write_text("{}")),
        "vit-base",
        "a folder with a saved model.*from_pretrained",
    ),
    "old-weights": (
        lambda p: torch.save(module().state_dict(), p, _use_new_zipfile_serialization=False),
        "net.pt",
        "a state_dict",
    ),
    "module": (lambda p: torch.save(module(), p), "net.pt", "a pickled module.*weights_only=False"),
    "old-module": (
        lambda p: torch.save(module(), p, _use_new_zipfile_serialization=False),
        "net.pt",
        "a pickled module",
    ),
    "pickle": (lambda p: p.write_bytes(pickle.dumps(module())), "net.pkl", "a pickled module"),
    "program": (exported, "net.pt", r"an exported program: call it NAME\.pt2"),
    "damaged": (lambda p: p.write_bytes(b"PK\x03\x04 nothing"), "net.pt", "no file of PyTorch's"),
    "safetensors": (lambda p: p.write_bytes(b""), "net.safetensors", "weights without layers"),
    "keras": (lambda p: p.write_bytes(b""), "net.keras", "a Keras file: write it as ONNX, with tf2onnx"),
    "estimator": (lambda p: p.write_bytes(b""), "net.joblib", "skl2onnx .* zipmap=False"),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_it_is_and_what_to_do_is_said(name, tmp_path):
    write, called, message = WRITTEN[name]
    path = tmp_path / called
    write(path)
    with pytest.raises(ModelError, match=message):
        load_network(str(path), input_shape=SHAPE)


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path):
    with pytest.raises(ModelError, match="is not a file: check the path"):
        load_network(tmp_path / "net.pt", input_shape=SHAPE)


def test_nothing_in_a_pickle_is_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("the pickle was run",))

    (tmp_path / "net.pkl").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ModelError, match="reading it runs what is in it"):
        load_network(tmp_path / "net.pkl", input_shape=SHAPE)


def test_a_compiled_module_is_refused_with_a_way_that_works(tmp_path):
    with pytest.raises(ModelError, match=r"compiled by torch.jit.*torch.onnx.export\(module, \(image,\)"):
        load_network(scripted(), input_shape=SHAPE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = tmp_path / "net.onnx"
        torch.onnx.export(scripted(), (torch.zeros(1, *SHAPE),), str(path), dynamo=False)
    image = np.random.default_rng(0).uniform(0, 1, (1, *SHAPE))
    graph = load_network(path, input_shape=SHAPE).graph
    expected = module()(torch.from_numpy(image).float()).detach()
    assert torch.allclose(graph.forward(torch.from_numpy(image)).float(), expected, atol=1e-6)
