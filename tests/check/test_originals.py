"""The original that is handed to the checker beside a certificate: its logits, wherever the file has them."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

import steadygaze as sg
from check.certificates import answer_of, sealed, write
from steadygaze_check.command import main


@pytest.fixture(scope="module")
def honest(tmp_path_factory) -> Path:
    return write(answer_of("dense", 1), tmp_path_factory.mktemp("honest") / "certificate")


def asked(
    certificate: Path, place: Path, nodes: list[tuple[str, list[str], str]], outputs: list[str]
) -> Path:
    """The certificate's network with further nodes and other outputs, as the original."""
    model = onnx.load(certificate / "network.onnx")
    names = {"image": model.graph.input[0].name, "logits": model.graph.output[0].name}
    for kind, taken, made in nodes:
        model.graph.node.append(helper.make_node(kind, [names.get(each, each) for each in taken], [made]))
    model.graph.initializer.append(helper.make_tensor("none", TensorProto.DOUBLE, [], [float("nan")]))
    model.graph.initializer.append(helper.make_tensor("little", TensorProto.DOUBLE, [], [0.1]))
    model.graph.ClearField("output")
    model.graph.output.extend(
        helper.make_tensor_value_info(names.get(each, each), TensorProto.DOUBLE, None) for each in outputs
    )
    onnx.save(model, place)
    return place


SOFT = ("Softmax", ["logits"], "soft")
FORMS = {
    "as it is": ([], ["logits"], None, 0),
    "softmax": ([SOFT], ["soft"], None, 0),
    "log-softmax": ([("LogSoftmax", ["logits"], "soft")], ["soft"], None, 0),
    "the logarithm of a softmax": ([SOFT, ("Log", ["soft"], "logarithm")], ["logarithm"], None, 0),
    "a copy of a softmax": ([SOFT, ("Identity", ["soft"], "copy")], ["copy"], None, 0),
    "behind another output": ([("Neg", ["image"], "other")], ["other", "logits"], None, 0),
    "inside": ([("Neg", ["logits"], "other")], ["other"], "logits", 0),
    "inside, not said": ([("Neg", ["logits"], "other")], ["other"], None, 10),
    "off": ([("Add", ["logits", "little"], "other")], ["other"], None, 10),
    "no numbers": ([("Add", ["logits", "none"], "other")], ["other"], None, 10),
    "no logits": ([("Neg", ["image"], "other")], ["other"], None, 20),
}


@pytest.mark.parametrize("form", FORMS)
def test_logits_are_found_where_the_original_has_them(honest, tmp_path, capsys, form):
    nodes, outputs, wanted, code = FORMS[form]
    original = asked(honest, tmp_path / "original.onnx", nodes, outputs)
    document = json.loads((honest / "certificate.json").read_text())
    if wanted is not None:
        wanted = onnx.load(honest / "network.onnx").graph.output[0].name
    sha256 = hashlib.sha256(original.read_bytes()).hexdigest()
    document["model"] |= {"sha256": sha256, "output": wanted}
    assert main([str(sealed(honest, document)), "--model", str(original)]) == code
    assert ("same SHA-256; logits" in capsys.readouterr().out) == (code == 0)


class BothClasses(torch.nn.Module):
    """Of the logit of the second of two classes the probabilities of both, stacked or joined."""

    def __init__(self, stacked: bool) -> None:
        super().__init__()
        self.stacked = stacked

    def forward(self, z):
        p = z.sigmoid()
        return torch.stack([1 - p[:, 0], p[:, 0]], dim=1) if self.stacked else torch.cat([1 - p, p], dim=1)


ENDS = {
    "sigmoid": (1, torch.nn.Sigmoid()),
    "log-softmax": (3, torch.nn.LogSoftmax(1)),
    "joined": (1, BothClasses(stacked=False)),
    "stacked": (1, BothClasses(stacked=True)),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_classifier_that_tells_probabilities_is_its_own_original(tmp_path, capsys, end):
    """One logit is read as two, a softmax is left out; both were told to be another network."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 4), torch.nn.ReLU())
    model.extend([torch.nn.Linear(4, ENDS[end][0]), ENDS[end][1]])
    with warnings.catch_warnings(action="ignore"):  # it is the older exporter of two
        torch.onnx.export(model, (torch.zeros(1, 1, 4, 4),), tmp_path / "net.onnx", dynamo=False)
    image = np.random.default_rng(0).random((4, 4))
    answer = sg.verify(tmp_path / "net.onnx", image, sg.Brightness(-0.1, 0.1), method="sweep")
    answer.save(tmp_path / "answer", certificate=True)
    assert main([str(tmp_path / "answer" / "certificate"), "--model", str(tmp_path / "net.onnx")]) == 0
    assert "same SHA-256; logits" in capsys.readouterr().out


JOINED = ("Concat", ["rest", "p"], "end")
DISHONEST = {
    "as it is": (1.0, [JOINED], 0),
    "the other way round": (1.0, [("Concat", ["p", "rest"], "end")], 10),
    "of another number than 1": (0.9, [JOINED], 10),
    "turned round": (1.0, [("Concat", ["rest", "p"], "both"), ("Gather", ["both", "turned"], "end")], 10),
    "p twice": (1.0, [("Concat", ["p", "p"], "end")], 10),
    "three": (1.0, [("Concat", ["rest", "p", "p"], "end")], 20),
}


@pytest.mark.parametrize("name", DISHONEST)
def test_an_original_that_makes_other_classes_of_the_logit_is_told_apart(tmp_path, name):
    whole, nodes, code = DISHONEST[name]
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 4), torch.nn.ReLU())
    model.extend([torch.nn.Linear(4, 1), torch.nn.Sigmoid()])
    with warnings.catch_warnings(action="ignore"):  # it is the older exporter of two
        torch.onnx.export(
            model, (torch.zeros(1, 1, 4, 4),), tmp_path / "net.onnx", dynamo=False, output_names=["p"]
        )
    image = np.random.default_rng(0).random((4, 4))
    answer = sg.verify(tmp_path / "net.onnx", image, sg.Brightness(-0.1, 0.1), method="sweep")
    answer.save(tmp_path / "answer", certificate=True)
    original = onnx.load(tmp_path / "net.onnx")
    original.graph.initializer.append(helper.make_tensor("whole", TensorProto.FLOAT, [1], [whole]))
    original.graph.initializer.append(helper.make_tensor("turned", TensorProto.INT64, [2], [1, 0]))
    for kind, taken, made in [("Sub", ["whole", "p"], "rest"), *nodes]:
        options = {} if kind == "Sub" else {"axis": 1}
        original.graph.node.append(helper.make_node(kind, taken, [made], **options))
    original.graph.ClearField("output")
    original.graph.output.append(helper.make_tensor_value_info("end", TensorProto.FLOAT, None))
    onnx.save(original, tmp_path / "original.onnx")
    document = json.loads((tmp_path / "answer" / "certificate" / "certificate.json").read_text())
    sha256 = hashlib.sha256((tmp_path / "original.onnx").read_bytes()).hexdigest()
    document["model"] |= {"sha256": sha256, "output": None}
    own = sealed(tmp_path / "answer" / "certificate", document)
    assert main([str(own), "--model", str(tmp_path / "original.onnx")]) == code
