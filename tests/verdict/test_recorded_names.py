"""What the answer says of the question: names of all kinds, and the output that was asked for."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import onnx
import pytest
from jsonschema import validate
from onnx import TensorProto, helper
from PIL import Image

from onnx_files import array, model_of, node
from steadygaze import cli
from steadygaze.answer.result import schema
from steadygaze.question.digits import builtin_model, digit
from steadygaze.report import figures, still

CHANGE = ("--perturb", "brightness(amount=-0.01..0.01)", "--quiet", "--method", "sweep")


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(figures, "PIXELS", 50)
    monkeypatch.setattr(still, "DOTS_PER_INCH", 30)


def answered(place):
    document = json.loads((place / "result.json").read_text())
    validate(document, schema())
    return document["problem"]


def test_names_that_are_no_text_are_written(tmp_path):
    image, model, out = (os.fsdecode(name) for name in (b"caf\xe9.png", b"mod\xe8le.onnx", b"r\xe9sultat"))
    Image.fromarray((digit(7)[0][0] * 255).round().astype(np.uint8)).save(image)
    shutil.copy(builtin_model("digits-mlp"), model)
    assert cli.run(["verify", model, "--image", image, *CHANGE, "--out", out]) in (0, 10)
    problem = answered(tmp_path / out)
    assert (problem["image"]["source"], problem["model"]["path"]) == ("caf\\xe9.png", "mod\\xe8le.onnx")
    assert "caf\\xe9.png" in (tmp_path / out / "report.html").read_text()


def test_the_output_that_was_asked_for_is_part_of_the_question(tmp_path):
    nodes = [node("Flatten", None), node("Gemm", None, "w"), node("Softmax", None)]
    model = model_of(nodes, {"w": array(64, 3)}, shape=(1, 8, 8), outputs=("chances",))
    model.graph.output.append(helper.make_tensor_value_info("v0", TensorProto.FLOAT, None))
    onnx.save(model, "net.onnx")
    asked = ["verify", "net.onnx", "--image", "digits:7", *CHANGE]
    assert cli.run(asked) == 2
    assert cli.run([*asked, "--output", "nothing"]) == 2
    for output in ("chances", "v1"):
        assert cli.run([*asked, "--output", output, "--out", output]) == 0
        problem = answered(tmp_path / output)
        assert problem["output"] == output
        softmax = "final Softmax removed: verified at the logits"
        assert problem["model"]["note"] == (softmax if output == "chances" else None)
