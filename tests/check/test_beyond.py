"""Questions that the checker proves nothing of are looked at in points, and called so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from check.certificates import answer_of, sealed, weights, write
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
