"""Layers of constants alone in ONNX files: norms of weights, masks, what exporters leave unfolded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from onnx_files import OPERATORS, SHAPE, array, imported, ints, model_of, node, with_head
from steadygaze.errors import ModelError
from steadygaze.network.reading.fidelity import check_fidelity

IMAGES = np.random.default_rng(7).uniform(0, 1, (4, *SHAPE))


def of_a_constant(model):
    """The file with a constant for its image, and its logits added to those of a dense layer of the image."""
    weights = [("image of its own", array(1, *SHAPE, seed=4) + 0.5), ("w_image", array(72, 3, seed=5))]
    for made in model.graph.node:
        for place, name in enumerate(made.input):
            made.input[place] = "image of its own" if name == "image" else name
        if made.output[0] == "logits":
            made.output[0] = "constant"
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights)
    model.graph.node.extend(
        [
            helper.make_node("Flatten", ["image"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w_image"], ["own"]),
            helper.make_node("Add", ["own", "constant"], ["logits"]),
        ]
    )
    return model


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_is_known_where_it_is_of_constants(name, tmp_path):
    nodes, constants, width, opset = OPERATORS[name]
    network = imported(of_a_constant(with_head(nodes, constants, width, opset=opset)), tmp_path)
    assert network.graph.piecewise_linear
    assert check_fidelity(network, IMAGES).logits < 1e-5


@pytest.mark.parametrize("opset", [13, 21])
def test_quantised_weights_are_the_numbers_that_they_stand_for(opset, tmp_path):
    draw, scale = np.random.default_rng(2), np.float32([0.5, 0.003, 2.0])
    levels, zero = draw.integers(-128, 128, (3, 2, 3, 3)).astype(np.int8), np.int8([3, 0, -128])
    bias = draw.integers(-300, 300, 3).astype(np.int32)
    kernel = (levels.astype(float) - zero.astype(float)[:, None, None, None]) * scale[:, None, None, None]
    nodes = [
        helper.make_node("DequantizeLinear", ["levels", "scale", "zero"], ["kernel"], axis=0),
        helper.make_node("DequantizeLinear", ["counts", "scale"], ["bias"], axis=0),
        node("Conv", "image", "kernel", "bias"),
        node("Relu", None),
    ]
    weights = {"levels": levels, "scale": scale, "zero": zero, "counts": bias}
    seen = torch.conv2d(*(torch.from_numpy(each) for each in (IMAGES, kernel, bias * scale.astype(float))))
    dense = torch.from_numpy(array(3, 48, seed=8)).double(), torch.from_numpy(array(3, seed=9)).double()
    exact = torch.nn.functional.linear(seen.relu().flatten(1), *dense)
    model = with_head(nodes[2:], weights, 48, opset=opset)
    for place, made in enumerate(nodes[:2]):
        model.graph.node.insert(place, made)
    network = imported(model, tmp_path)
    assert network.graph.piecewise_linear
    assert torch.allclose(network.graph.forward(torch.from_numpy(IMAGES)), exact, rtol=1e-13, atol=1e-13)
    assert check_fidelity(network, IMAGES).logits < 1e-5


def test_values_that_are_quantised_are_refused_with_what_to_do(tmp_path):
    weights = {"scale": np.float32(0.1), "zero": np.uint8(3)}
    nodes = [
        node("QuantizeLinear", "image", "scale", "zero"),
        node("DequantizeLinear", None, "scale", "zero"),
    ]
    with pytest.raises(ModelError, match=r"levels, which jump: .* quantise its weights alone"):
        imported(with_head(nodes, weights, 72, opset=13), tmp_path)


def test_weights_are_standardised_as_onnxruntime_does(tmp_path):
    nodes = [
        node("ReduceMean", "k", axes=[1, 2, 3]),
        node("Sub", "k", None),
        node("Mul", None, None),
        node("ReduceMean", None, axes=[1, 2, 3]),
        node("Add", None, "tiny"),
        node("Sqrt", None),
        node("Reciprocal", None),
        node("Mul", "v1", None),
        node("Conv", "image", None),
        node("Relu", None),
    ]
    model = with_head(nodes, {"k": array(3, 2, 3, 3), "tiny": np.float32(1e-4)}, 48)
    network = imported(model, tmp_path)
    assert network.graph.piecewise_linear
    assert check_fidelity(network, IMAGES).logits < 1e-5


@pytest.mark.parametrize("training", [0, 1])
def test_weights_are_standardised_by_a_batch_norm_as_onnxruntime_does(training, tmp_path):
    """As PyTorch writes the convolutions of NFNet: in training statistics are those of the weights."""
    nodes = [
        node("BatchNormalization", "k", "g", "zero", "zero", "one", epsilon=1e-3, training_mode=training),
        node("Reshape", None, "shape"),
        node("Conv", "image", None),
        node("Relu", None),
    ]
    constants = {"k": array(1, 3, 18), "g": array(3), "zero": np.zeros(3, np.float32)}
    constants |= {"one": np.full(3, 0.3, np.float32), "shape": ints(3, 2, 3, 3)}
    model = with_head(nodes, constants, 48, opset=15)
    if training:
        model.graph.node[0].output.extend(["further mean", "further variance"])
    network = imported(model, tmp_path)
    assert network.graph.piecewise_linear
    assert check_fidelity(network, IMAGES).logits < 1e-5
    ours = network.graph.forward(torch.from_numpy(IMAGES)).numpy()
    assert np.allclose(ours, network.original.logits(IMAGES), atol=1e-5)


@pytest.mark.parametrize("operator", ["IsInf", "IsNaN"])
def test_infinite_constants_are_told_from_others(operator, tmp_path):
    holes = np.float32([np.inf, -np.inf, 1.0, 0.0, np.nan, 3.0])
    nodes = [
        node(operator, "holes"),
        node("Cast", None, to=TensorProto.FLOAT),
        node("Add", "image", None),
        node("Flatten", None),
        node("MatMul", None, "w"),
    ]
    network = imported(model_of(nodes, {"holes": holes, "w": array(72, 3)}, opset=20), tmp_path)
    ours = network.graph.forward(torch.from_numpy(IMAGES)).numpy()
    assert np.allclose(ours, network.original.logits(IMAGES), atol=1e-5)


def test_constants_that_do_not_fit_are_refused(tmp_path):
    nodes = [
        node("Conv", "w", "k"),
        node("Add", "image", None),
        node("Flatten", None),
        node("MatMul", None, "m"),
    ]
    constants = {"w": array(1, 5, 6, 6), "k": array(2, 2, 1, 1), "m": array(72, 3)}
    with pytest.raises(ModelError, match=r"layer 'Conv' .*its constants do not fit"):
        imported(model_of(nodes, constants), tmp_path)


def test_a_word_that_is_not_known_is_refused_of_constants_too(tmp_path):
    nodes = [
        node("Pad", "w", "p", mode="reflect"),
        node("ReduceL2", None, axes=[1, 2, 3], keepdims=2),
        node("Add", "image", None),
        node("Flatten", None),
        node("MatMul", None, "m"),
    ]
    constants = {"w": array(1, 2, 6, 6), "p": ints(0, 0, 1, 1, 0, 0, 1, 1), "m": array(72, 3)}
    with pytest.raises(ModelError, match=r"layer 'ReduceL2' .*its keepdims is 2"):
        imported(model_of(nodes, constants), tmp_path)
