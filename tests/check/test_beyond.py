"""Questions that the checker proves nothing of are looked at in points, and called so."""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import nn

import steadygaze
from check.certificates import answer_of, network, sealed, weights, write
from steadygaze_check import command
from steadygaze_check.command import main


@pytest.fixture
def certificate(tmp_path) -> Path:
    return write(answer_of("dense", 2), tmp_path / "certificate")


def test_what_is_beyond_it_is_checked_at_points_and_not_certified(certificate, capsys):
    document = json.loads((certificate / "certificate.json").read_text())
    document["question"]["inconsistency"] = {"name": "top-k", "k": 3}
    assert main([str(sealed(certificate, document))]) == 20
    out = capsys.readouterr().out
    assert "points, not certified" in out
    assert " certified  kinds" not in out.replace("not certified  kinds", "")


def test_an_operator_that_it_does_not_know_is_left_to_the_reference(certificate, capsys):
    document = json.loads((certificate / "certificate.json").read_text())
    model = weights(certificate)
    last = model.graph.node[-1]
    model.graph.node.append(helper.make_node("Sigmoid", [last.output[0]], ["end"]))
    model.graph.output[0].name = "end"
    onnx.save(model, certificate / "network.onnx")
    assert main([str(sealed(certificate, document))]) == 20
    out = capsys.readouterr().out
    assert "operator Sigmoid" in out
    assert "points, not certified" in out


class _Normed(nn.Module):
    """Attention between norms, on 9 patches, with a smooth activation: division, roots, exponentials."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.norm, self.act = nn.Conv2d(1, 4, 2, 2), nn.LayerNorm(4), activation
        self.heads, self.out = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.patches(x).flatten(2).transpose(1, 2))
        return self.out(self.act(x + self.heads(x, x, x)[0]).mean(1))


@pytest.mark.parametrize("activation", [nn.GELU("tanh"), nn.Softsign()], ids=str)
def test_a_smooth_network_of_today_is_looked_at_in_points(activation, tmp_path, capsys):
    image = np.random.default_rng(0).random((1, 6, 6))
    answer = steadygaze.verify(
        _Normed(activation), image, "brightness(amount=-0.01..0.01)", claim="class", time_limit=2
    )
    answer.save(tmp_path / "answer", certificate=True)
    assert main([str(tmp_path / "answer" / "certificate")]) == 20
    assert "points, not certified" in capsys.readouterr().out


def test_ranges_of_which_it_does_not_count_its_rounding_are_looked_at_in_points(tmp_path, capsys):
    image = np.random.default_rng(0).random((1, 6, 6))
    chain = "brightness(amount=-1e-13..1e-13) | contrast(amount=-0.1..0.1)"
    answer = steadygaze.verify(network("dense"), image, chain, method="bound", claim="class")
    assert (answer.map.kind != 3).any()
    answer.save(tmp_path / "answer", certificate=True)
    assert main([str(tmp_path / "answer" / "certificate")]) == 20
    out = capsys.readouterr().out
    assert "points, not certified: ranges are from 2e-13 to 0.2 wide" in out
    assert " certified  kinds" not in out.replace("not certified  kinds", "")


def test_every_operator_that_is_written_may_be_looked_at():
    written = set()
    for name in ("onnx_writer", "normal_form"):
        source = Path(steadygaze.__file__).parent / "network" / "writing" / f"{name}.py"
        calls = [each for each in ast.walk(ast.parse(source.read_text())) if isinstance(each, ast.Call)]
        added = [call.args[0] for call in calls if getattr(call.func, "attr", "") == "add"]
        written |= {first.value for first in added if isinstance(first, ast.Constant)}
    assert len(written) > 30
    # Transposed convolutions are convolutions in a certificate, averages too.
    assert written - {"ConvTranspose"} <= {*command._RUNNABLE.split()}


def test_a_wrong_class_at_a_point_is_refuted(certificate, capsys):
    document = json.loads((certificate / "certificate.json").read_text())
    document["question"]["inconsistency"] = {"name": "top-k", "k": 3}
    kind = np.load(certificate / "cell_kind.npy")
    np.save(certificate / "cell_kind.npy", np.where(kind == 1, 0, 1).astype(np.int8))
    assert main([str(sealed(certificate, document))]) == 10
    assert "θ" in capsys.readouterr().out


def test_another_original_is_refuted(certificate, tmp_path, capsys):
    document = json.loads((certificate / "certificate.json").read_text())
    other = shutil.copy(certificate / "network.onnx", tmp_path / "original.onnx")
    document["model"] = {"path": "original.onnx", "sha256": "0" * 64}
    assert main([str(sealed(certificate, document)), "--model", str(other)]) == 10
    document["model"]["sha256"] = document["files"]["network.onnx"]["sha256"]
    assert main([str(sealed(certificate, document)), "--model", str(other)]) == 0
    capsys.readouterr()


def test_a_network_that_would_take_all_memory_or_time_is_refused(certificate, monkeypatch, capsys):
    monkeypatch.setattr(command, "_POINTS", 2)
    document = json.loads((certificate / "certificate.json").read_text())
    model = weights(certificate)
    last = model.graph.node[-1].output[0]
    for k in range(2500):
        model.graph.node.append(helper.make_node("Relu", [last if k == 0 else f"deep{k - 1}"], [f"deep{k}"]))
    model.graph.output[0].name = "deep2499"
    onnx.save(model, certificate / "network.onnx")
    assert main([str(sealed(certificate, document))]) == 20
    assert "more operators than are allowed" in capsys.readouterr().out
    loop = helper.make_node("Loop", ["deep0"], ["end"], body=helper.make_graph([], "body", [], []))
    model.graph.node.append(loop)
    onnx.save(model, certificate / "network.onnx")
    assert main([str(sealed(certificate, document))]) == 2
    assert "cannot be looked at" in capsys.readouterr().err.replace("not one that can", "cannot")
