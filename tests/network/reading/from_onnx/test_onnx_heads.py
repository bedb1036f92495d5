"""Which value holds the logits: softmaxes taken off, one of several outputs chosen, labels refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from onnx_files import SHAPE, array, imported, ints, model_of, node
from steadygaze.errors import ModelError, SettingError
from steadygaze.network.joint import Softmax
from steadygaze.network.reading.fidelity import check_fidelity

IMAGES = np.random.default_rng(3).uniform(0, 1, (5, *SHAPE))
DENSE = [node("Relu", None), node("Flatten", None), node("Gemm", None, "w", "b", transB=1)]
WEIGHTS = {"w": array(3, 72, seed=8), "b": array(3, seed=9)}
LAST = len(DENSE) - 1


def ending(*nodes, outputs=("logits",), opset=13, **constants):
    """The dense layers, whose logits are v2, and nodes behind them."""
    return model_of([*DENSE, *nodes], {**WEIGHTS, **constants}, opset=opset, outputs=outputs)


def logits_of(network):
    return network.graph.forward(torch.from_numpy(IMAGES)).numpy()


EXPECTED = (np.maximum(IMAGES, 0).reshape(5, 72) @ WEIGHTS["w"].astype(float).T) + WEIGHTS["b"].astype(float)
SOFT = node("Softmax", None, axis=1)

TAILS = {
    "nothing": [],
    "identity": [node("Identity", None)],
    "cast": [node("Cast", None, to=TensorProto.DOUBLE)],
    "half": [node("Cast", None, to=TensorProto.FLOAT16)],
    "reshape": [node("Reshape", None, "s")],
    "squeeze": [node("Squeeze", None)],
    "flatten": [node("Flatten", None)],
    "unsqueeze": [node("Unsqueeze", None, "z"), node("Identity", None)],
    "log": [node("Log", None)],
    "all": [node("Cast", None, to=11), node("Squeeze", None), node("Log", None), node("Reshape", None, "s")],
}


@pytest.mark.parametrize("tail", TAILS)
def test_a_softmax_and_what_only_reshapes_it_are_taken_off(tail, tmp_path):
    network = imported(ending(SOFT, *TAILS[tail], s=ints(-1), z=ints(0)), tmp_path)
    assert np.allclose(logits_of(network), EXPECTED, atol=1e-12)
    assert network.output_note.startswith("final Softmax removed: verified at the logits")
    check_fidelity(network, IMAGES)


@pytest.mark.parametrize(
    "nodes",
    [
        [SOFT, node("Cast", None, to=TensorProto.INT64)],
        [node("LogSoftmax", None), node("Log", None)],
        [SOFT, node("Log", None), node("Log", None)],
    ],
    ids=["whole numbers", "log of logs", "log twice"],
)
def test_anything_else_behind_a_softmax_is_refused_by_name(nodes, tmp_path):
    with pytest.raises(
        ModelError, match=r"layer 'LogSoftmax' .* is not supported|layer 'Log' .*logarithm|its to is INT64"
    ):
        imported(ending(*nodes), tmp_path)


@pytest.mark.parametrize("nodes", [[node("Mul", None, "c")], [SOFT]], ids=["scaled", "twice"])
def test_a_softmax_that_is_not_the_last_is_a_layer(nodes, tmp_path):
    network = imported(ending(SOFT, *nodes, c=array(1, 3)), tmp_path)
    assert any(isinstance(one.layer, Softmax) for one in network.graph.nodes)
    check_fidelity(network, IMAGES)


@pytest.mark.parametrize(
    ("axis", "opset", "fits"), [(0, 11, True), (0, 13, False), (2, 13, False), (-1, 13, True)]
)
def test_a_softmax_over_other_axes_than_the_classes_is_refused(axis, opset, fits, tmp_path):
    model = ending(node("Softmax", None, axis=axis), opset=opset)
    if fits:
        assert np.allclose(logits_of(imported(model, tmp_path)), EXPECTED, atol=1e-12)
    else:
        with pytest.raises(ModelError, match="allowed is one over all classes"):
            imported(model, tmp_path)


@pytest.mark.parametrize(
    ("outputs", "asked", "note"),
    [
        (("v2", "logits"), None, None),
        (("logits", "v2"), None, None),
        (("logits", "v2"), "logits", "final Softmax"),
        (("logits", "v2"), "v2", None),
        (("v2", "label"), None, None),
        (("label", "logits"), None, "final Softmax"),
        (("v1", "v2"), "v2", None),
        (("v1",), "v2", None),
    ],
)
def test_of_several_outputs_the_logits_are_taken(outputs, asked, note, tmp_path):
    # The softmax is called "logits", on purpose: what it reads are the logits.
    model = ending(SOFT)
    model.graph.node.append(helper.make_node("ArgMax", ["v2"], ["label"], axis=1))
    del model.graph.output[:]
    kinds = {"label": TensorProto.INT64}
    model.graph.output.extend(
        helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), None) for name in outputs
    )
    network = imported(model, tmp_path, output=asked)
    assert np.allclose(logits_of(network), EXPECTED, atol=1e-12)
    assert (network.output_note or "").startswith(note or "")
    assert (network.output_note is None) == (note is None)
    check_fidelity(network, IMAGES)


def test_the_output_named_logits_is_taken_of_several_that_differ(tmp_path):
    model = ending(node("Relu", "v0"), outputs=("features",))
    model.graph.node[LAST].output[0] = "Logits"
    model.graph.output.append(helper.make_tensor_value_info("Logits", TensorProto.FLOAT, None))
    assert np.allclose(logits_of(imported(model, tmp_path)), EXPECTED, atol=1e-12)


def test_several_outputs_that_leave_it_open_are_refused(tmp_path):
    model = ending(node("Relu", None), outputs=("first", "v2"))
    with pytest.raises(ModelError, match=r"2 outputs \['first', 'v2'\], allowed is one.*name it"):
        imported(model, tmp_path)
    with pytest.raises(SettingError, match=r"the output is 'last', which .* \(first, v2\)"):
        imported(model, tmp_path, output="last")


def test_a_file_in_circles_is_refused(tmp_path):
    model = ending(node("Identity", "logits"))
    with pytest.raises(ModelError, match="reads 'logits', which nothing before it makes"):
        imported(model, tmp_path)


def test_labels_are_refused_with_the_name_of_the_logits(tmp_path):
    model = ending(node("ArgMax", None, axis=1))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    with pytest.raises(ModelError, match=r"the class itself, made by 'ArgMax', .* --output v2"):
        imported(model, tmp_path)
    assert np.allclose(logits_of(imported(model, tmp_path, output="v2")), EXPECTED, atol=1e-12)


def test_an_output_may_be_named_by_its_number(tmp_path):
    model = ending(node("Identity", "v2"))
    model.graph.output.insert(0, onnx.helper.make_tensor_value_info("v1", onnx.TensorProto.FLOAT, None))
    assert np.allclose(logits_of(imported(model, tmp_path, output=1)), EXPECTED, atol=1e-12)
    with pytest.raises(SettingError, match=r"allowed are its outputs \(.*\), by name or by number from 0 on"):
        imported(model, tmp_path, output="2")


def test_layers_that_the_logits_do_not_rest_on_are_not_read(tmp_path):
    model = ending(node("Identity", "v2"))
    model.graph.node.insert(0, onnx.helper.make_node("Sinh", ["image"], ["unused"]))
    assert np.allclose(logits_of(imported(model, tmp_path)), EXPECTED, atol=1e-12)
