"""The evaluator of ONNX files, with gradients, against onnxruntime, differences and the imported graph."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from onnx_files import OPERATORS, SHAPE, array, imported, ints, model_of, node, with_head
from steadygaze.errors import ModelError
from steadygaze.network.reading.from_onnx import constants as onnx_constants
from steadygaze.network.reading.from_onnx import operators as onnx_operators
from steadygaze.network.reading.load import load_network
from steadygaze.network.reading.onnx_gradients import operators as onnx_autograd
from steadygaze.network.reading.onnx_gradients.evaluator import OnnxEvaluator

IMAGES = np.random.default_rng(3).uniform(0, 1, (6, *SHAPE))


def test_it_takes_every_operator_that_the_reader_takes():
    reader = {*onnx_operators.OPERATORS, *onnx_constants.FOLDS, "Constant", "Shape"}
    assert reader <= set(onnx_autograd.RULES)


@pytest.mark.parametrize("batch", [1, "N"])
@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_agrees_with_onnxruntime_and_with_differences(name, batch, tmp_path):
    nodes, constants, width, opset = OPERATORS[name]
    model = with_head(nodes, constants, width, opset=opset, batch=batch)
    network = imported(model, tmp_path)
    evaluator = OnnxEvaluator(model, "logits")
    ours = np.concatenate([evaluator.logits(image[None], 1) for image in IMAGES])
    theirs = network.original.logits(IMAGES)
    assert np.abs(ours - theirs).max() <= 2e-6 * max(np.abs(theirs).max(), 1e-3)
    gradients = network.original.gradients(IMAGES, 1)
    assert gradients.shape == IMAGES.shape
    assert gradients.dtype == np.float64
    # Steps so small that hardly any crosses a kink.
    step = 1e-7 * np.random.default_rng(4).choice([-1, 1], IMAGES.shape)
    ahead, behind = (
        evaluator.logits(image[None], 1)[0, 1] for image in (IMAGES[0] + step[0], IMAGES[0] - step[0])
    )
    assert (gradients[0] * step[0]).sum() * 2 == pytest.approx(ahead - behind, rel=1e-5, abs=1e-14)
    graph = network.graph.gradient_at(torch.from_numpy(IMAGES), 1).numpy()
    assert np.allclose(gradients, graph, rtol=1e-9, atol=1e-12 * np.abs(graph).max())


def test_it_undoes_normalisation_and_layout(tmp_path):
    model = with_head(
        [node("Conv", None, "k"), node("Relu", None)], {"k": array(3, 6, 2, 2)}, 15, shape=(6, 6, 2)
    )
    network = imported(model, tmp_path, layout="hwc", mean=(0.3, 0.4), std=(0.2, 0.5))
    graph = network.graph.gradient_at(torch.from_numpy(IMAGES), 2).numpy()
    assert np.allclose(network.original.gradients(IMAGES, 2), graph, rtol=1e-9)


@pytest.mark.parametrize("made_inside", [False, True])
def test_the_callers_inference_mode_does_not_matter(made_inside):
    model = with_head([node("Relu", None), node("Mul", None, "k")], {"k": array(*SHAPE)}, 72)
    evaluator = OnnxEvaluator(model, "logits")
    alone = evaluator.gradient(IMAGES[:1], 1, 2)
    with torch.inference_mode():
        used = OnnxEvaluator(model, "logits") if made_inside else evaluator
        assert np.array_equal(used.gradient(IMAGES[:1], 1, 2), alone)
    assert np.array_equal(used.gradient(IMAGES[:1], 1, 2), alone)


@pytest.mark.parametrize("declared", [(), (1,), ("N",)])
def test_images_go_in_as_the_file_declares_its_batch(declared, tmp_path):
    dense = [node("Reshape", None, "s"), node("Gemm", None, "w", "b", transB=1)]
    constants = {"s": ints(-1, 72), "w": array(3, 72), "b": array(3, seed=1)}
    model = model_of([node("Tanh", None), *dense], constants, batch="N")
    sizes = [onnx.helper.make_tensor_value_info("image", 1, [*declared, *SHAPE])]
    model.graph.input[0].CopyFrom(sizes[0])
    network = imported(model, tmp_path)
    graph = network.graph.gradient_at(torch.from_numpy(IMAGES), 2).numpy()
    assert np.allclose(network.original.gradients(IMAGES, 2), graph, rtol=1e-9)


@pytest.mark.parametrize(("shape", "runs"), [((-1, 72), 1), ((1, 72), 6), ((72,), 6)])
def test_a_file_of_one_image_is_asked_for_many_gradients_at_once_where_nothing_inside_forbids_it(
    shape, runs, tmp_path, monkeypatch
):
    weights = {"s": ints(*shape), "w": array(72, 3)} | ({"one": ints(1, 3)} if len(shape) == 1 else {})
    ending = [node("Reshape", None, "one")] if len(shape) == 1 else []
    nodes = [node("Tanh", None), node("Reshape", None, "s"), node("MatMul", None, "w"), *ending]
    network = imported(model_of(nodes, weights, batch=1), tmp_path)
    gradient, asked = OnnxEvaluator.gradient, []
    monkeypatch.setattr(
        OnnxEvaluator, "gradient", lambda self, *args: asked.append(args[1]) or gradient(self, *args)
    )
    graph = network.graph.gradient_at(torch.from_numpy(IMAGES), 2).numpy()
    assert np.allclose(network.original.gradients(IMAGES, 2), graph, rtol=1e-9)
    assert len(asked) == runs


def gradients_of(nodes, constants, image, folder):
    model = with_head(nodes, constants, image.size)
    return imported(model, folder).original.gradients(image[None], 0)[0]


def test_a_rectifier_at_0_has_derivative_0_and_the_first_of_equal_inputs_wins(tmp_path):
    flat = np.full(SHAPE, 0.5)
    weights = array(3, 72, seed=8)[0].reshape(SHAPE)
    at_zero = gradients_of(
        [node("Sub", None, "half"), node("Relu", None)], {"half": np.float32(0.5)}, flat, tmp_path
    )
    assert not at_zero.any()
    limits = {"low": np.float32(0.5), "high": np.float32(0.5 + 2**-20)}
    assert not gradients_of([node("Clip", None, "low", "high")], limits, flat, tmp_path).any()
    limits = {"low": np.float32(0), "high": np.float32(0.5)}
    below = gradients_of([node("Clip", None, "low", "high")], limits, flat, tmp_path)
    assert np.array_equal(below, weights)
    pool = node("MaxPool", None, kernel_shape=[2, 2], strides=[1, 1], auto_pad="SAME_UPPER")
    assert np.allclose(gradients_of([pool], {}, flat, tmp_path), weights)


def test_an_operator_that_it_does_not_know_is_refused_by_name():
    with pytest.raises(ModelError, match="gradients of 'Det'"):
        OnnxEvaluator(with_head([node("Det", None)], {}, 72), "logits")


def test_a_public_network_agrees_with_the_imported_graph(shared):
    network = load_network(
        shared / "models" / "cifar_base_kw.onnx",
        input_shape=(3, 32, 32),
        mean=(0.485, 0.456, 0.406),
        std=(0.225, 0.225, 0.225),
    )
    images = np.random.default_rng(0).uniform(0, 1, (40, 3, 32, 32))
    graph = network.graph.gradient_at(torch.from_numpy(images), 4).numpy()
    assert np.allclose(network.original.gradients(images, 4), graph, rtol=1e-7, atol=1e-10)
