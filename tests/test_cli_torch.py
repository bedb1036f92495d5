"""PyTorch networks through the whole program: verified, or one sentence and exit code 2."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch

from steadygaze import cli

NETS = """
import torch
from torch import nn


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


class Net(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.inner, self.body = small(), body
        self.eval()

    def forward(self, x):
        return self.body(self.inner, x)


def branch(inner, x):
    return inner(x) if x.sum() > 18 else -inner(x)


plain = small
named = lambda: Net(lambda inner, x: {"hidden": x, "logits": inner(x)})
listed = lambda: Net(lambda inner, x: [inner(x)])
probabilities = lambda: Net(lambda inner, x: inner(x).softmax(1).view(-1, 3).clone())
overwriting = lambda: Net(lambda inner, x: inner(x.mul_(0.5)))
training = lambda: small().train()
branching = lambda: Net(branch)
several = lambda: Net(lambda inner, x: (x, inner(x)))
integers = lambda: Net(lambda inner, x: inner((255 * x).int().float() / 255))
clipped = lambda: Net(lambda inner, x: inner(x.flatten(1).clamp(max=torch.linspace(0.1, 0.9, 36))))
half = lambda: small().half()
meta = lambda: small().to("meta")
lazy = lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(3))
failing = lambda: 1 / 0
nothing = lambda: None
shaped = lambda: nn.Conv2d(1, 2, 3)
"""
WAYS = ("--image", "image.npy", "--perturb", "brightness(amount=-0.05..0.05)", "--out", "out")


@pytest.fixture(autouse=True)
def _workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CI", "1")
    (tmp_path / "nets_as_people_have_them.py").write_text(NETS)
    np.save(tmp_path / "image.npy", np.random.default_rng(3).uniform(0.2, 0.8, (1, 6, 6)))


def handed_in(name, as_file):
    """The network by its import path, or exported."""
    path = f"nets_as_people_have_them:{name}"
    if not as_file:
        return path
    namespace = {}
    exec(NETS, namespace)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(namespace[name](), (torch.zeros(1, 1, 6, 6),), strict=False)
        torch.export.save(program, f"{name}.pt2")
    return f"{name}.pt2"


@pytest.mark.parametrize("as_file", [False, True])
@pytest.mark.parametrize("name", ["named", "listed", "probabilities", "overwriting", "training", "clipped"])
def test_networks_are_verified(name, as_file, tmp_path, capsys):
    if name == "training" and as_file:
        name = "plain"
    assert cli.run(("verify", handed_in(name, as_file), *WAYS)) in (0, 10)
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    expected = {"probabilities": "final softmax removed", "training": "verified in evaluation mode"}
    assert expected.get(name, "") in str(record["problem"]["model"])
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "as_file", "words"),
    [
        ("branching", False, "same steps for every image"),
        *(("several", as_file, "2 tensors") for as_file in (False, True)),
        *(("integers", as_file, "int32") for as_file in (False, True)),
        *(("shaped", as_file, "one number per class") for as_file in (False, True)),
        *(("meta", False, "load the weights"), ("lazy", False, "run it on one")),
        *(("failing", False, "cannot be called"), ("nothing", False, "gives NoneType")),
    ],
)
def test_others_are_refused_in_a_sentence(name, as_file, words, capsys):
    assert cli.run(("verify", handed_in(name, as_file), *WAYS)) == 2
    said = capsys.readouterr().err.strip()
    assert words in said
    assert "\n" not in said
