"""Branches of ONNX files: taken where the condition is known on reading, refused where the image decides."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from architectures.zoo import quiet
from onnx_files import SHAPE, array, imported, ints, model_of, node
from steadygaze.errors import ModelError
from steadygaze.network.reading.fidelity import check_fidelity
from steadygaze.network.reading.load import load_network

IMAGES = np.random.default_rng(2).uniform(0, 1, (3, *SHAPE))


def branching(condition, inner=False):
    """An `If` behind a rectifier: both branches read it, one with a constant of its own."""
    flat = helper.make_node("Flatten", ["v0"], ["flat"])
    scaled = helper.make_node("Mul", ["flat", "two"], ["scaled"])
    other = helper.make_node("Neg", ["v0"], ["negative"])
    nodes = [flat, scaled]
    if inner:
        again = helper.make_node("If", ["no"], ["again"], **branches([other], "negative", [scaled], "scaled"))
        nodes = [flat, again]
    made = branches(
        nodes, "again" if inner else "scaled", [helper.make_node("Flatten", ["v0"], ["same"])], "same"
    )
    model = model_of(
        [node("Relu", "image"), *condition, node("Identity", "v0"), node("MatMul", "chosen", "w")],
        {"w": array(72, 3), "w0": ints(4), "no": np.array(False)},
    )
    place = len(condition) + 1
    model.graph.node.insert(place, helper.make_node("If", [f"v{place - 1}"], ["chosen"], name="If_0", **made))
    return model


def branches(then, then_name, otherwise, other_name):
    two = numpy_helper.from_array(np.float32(2), "two")
    out = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in (then_name, other_name)]
    return {
        "then_branch": helper.make_graph(then, "then", [], [out[0]], [two]),
        "else_branch": helper.make_graph(otherwise, "else", [], [out[1]], []),
    }


RANK = [node("Shape", "v0"), node("Size", None), node("Equal", None, "w0")]


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("axes", [4, 3])
def test_what_is_known_decides(axes, inner, tmp_path):
    model = branching(RANK, inner)
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(ints(axes), "w0"))
    network = imported(model, tmp_path)
    found = check_fidelity(network, IMAGES)
    assert found.logits < 1e-6
    gradients = network.original.gradients(IMAGES, 1)
    assert np.allclose(gradients, network.graph.gradient_at(torch.from_numpy(IMAGES), 1))


def test_what_the_image_decides_is_refused(tmp_path):
    condition = [node("ReduceMax", "v0", keepdims=0), node("Greater", None, "half")]
    model = branching(condition)
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.5), "half"))
    with pytest.raises(ModelError, match=r"'If' .*by what is computed from the image.*clamp"):
        imported(model, tmp_path)


@pytest.mark.parametrize("dynamo", [False, True])
def test_response_normalisation_is_read_as_exporters_write_it(dynamo, tmp_path):
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.ReLU(), nn.LocalResponseNorm(5, 0.1, 0.75, 2), nn.Flatten(), nn.Linear(96, 3)
    ).eval()
    path = str(tmp_path / "network.onnx")
    with quiet():
        torch.onnx.export(module, (torch.zeros(1, *SHAPE),), path, dynamo=dynamo, external_data=False)
    if not dynamo:
        assert "If" in {one.op_type for one in onnx.load(path).graph.node}
    assert check_fidelity(load_network(path, input_shape=SHAPE), IMAGES).logits < 1e-5
