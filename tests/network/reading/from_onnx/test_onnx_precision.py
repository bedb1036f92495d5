"""Half precision and inputs of whole numbers, read as the network of real numbers that they stand for."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from onnx_files import SHAPE, array, imported, ints, model_of, node
from steadygaze.errors import ModelError
from steadygaze.network.reading.fidelity import check_fidelity

IMAGES = np.random.default_rng(3).uniform(0, 1, (5, *SHAPE))
WEIGHTS = {"k": array(3, 2, 3, 3), "w": array(3, 48, seed=8), "b": array(3, seed=9)}
LAYERS = [
    node("Conv", None, "k"),
    node("Relu", None),
    node("Flatten", None),
    node("Gemm", None, "w", "b", transB=1),
]


def file_of(kind, weights, before=(), after=(), batch=1, **constants):
    """The layers with weights of one type, for an input of a type."""
    model = model_of([*before, *LAYERS, *after], constants, batch=batch, opset=22)
    model.graph.initializer.extend(as_type(value, weights, name) for name, value in WEIGHTS.items())
    model.graph.input[0].type.tensor_type.elem_type = kind
    model.graph.output[0].type.tensor_type.elem_type = weights
    return model


def as_type(value, kind, name=""):
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    return numpy_helper.from_array(value.astype(dtype), name)


def expected(kind, images=IMAGES):
    real = {
        n: torch.from_numpy(numpy_helper.to_array(as_type(v, kind)).astype(float)) for n, v in WEIGHTS.items()
    }
    features = torch.nn.functional.conv2d(torch.from_numpy(images), real["k"]).clamp_min(0).flatten(1)
    return (features @ real["w"].T + real["b"]).numpy()


F32, F64, F16, B16 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16


def to(kind):
    return node("Cast", None, to=kind)


@pytest.mark.parametrize("batch", [1, "N"])
@pytest.mark.parametrize(
    ("kind", "weights", "before", "after", "half"),
    [
        (F64, F64, (), (), False),
        (F16, F16, (), (), True),
        (B16, B16, (), (), True),
        (F32, F16, (to(F16),), (to(F32),), True),
        (F16, F32, (to(F32),), (to(F16),), True),
        (F32, F32, (to(F16), to(F32)), (), True),
        (F32, F64, (to(F64),), (), False),
    ],
)
def test_every_precision_is_the_network_of_its_weights(kind, weights, before, after, half, batch, tmp_path):
    network = imported(file_of(kind, weights, before, after, batch), tmp_path)
    assert np.allclose(network.graph.forward(torch.from_numpy(IMAGES)).numpy(), expected(weights), atol=1e-12)
    assert (network.output_note is not None) == half
    assert not half or network.output_note.startswith("half precision taken as exact (")
    check_fidelity(network, IMAGES)
    gradients = network.graph.gradient_at(torch.from_numpy(IMAGES), 1)
    assert np.allclose(network.original.gradients(IMAGES, 1), gradients, atol=1e-12)


def test_a_file_is_compared_at_its_own_precision(tmp_path):
    assert imported(file_of(F16, F16), tmp_path).output_note == "half precision taken as exact (float16)"


@pytest.mark.parametrize("mean", [None, 0.25])
@pytest.mark.parametrize("moved", [False, True])
def test_whole_numbers_are_pixels_times_255_without_rounding(moved, mean, tmp_path):
    moving = [node("Transpose", None, perm=[0, 1, 3, 2]), node("Identity", None)] if moved else []
    model = file_of(
        TensorProto.UINT8, F32, [*moving, to(F32), node("Div", None, "most")], most=np.float32(255)
    )
    network = imported(model, tmp_path, mean=mean)
    images = (IMAGES.transpose(0, 1, 3, 2) if moved else IMAGES) - (mean or 0)
    assert np.allclose(
        network.graph.forward(torch.from_numpy(IMAGES)).numpy(), expected(F32, images), atol=1e-9
    )
    assert network.output_note == "whole-number pixels taken as real numbers"
    check_fidelity(network, IMAGES)
    gradients = network.graph.gradient_at(torch.from_numpy(IMAGES), 1)
    assert np.allclose(network.original.gradients(IMAGES, 1), gradients, atol=1e-12)


@pytest.mark.parametrize("layer", [node("Add", None, "c"), node("MaxPool", None, kernel_shape=[2, 2])])
def test_computing_with_whole_numbers_is_refused(layer, tmp_path):
    model = file_of(TensorProto.UINT8, F32, [layer, to(F32)], c=np.uint8([200]))
    with pytest.raises(
        ModelError, match=r"layer '(Add|MaxPool)' .* whole numbers of the input, allowed is a Cast"
    ):
        imported(model, tmp_path)


@pytest.mark.parametrize(
    "kind", [TensorProto.INT64, TensorProto.INT8, TensorProto.BOOL, TensorProto.FLOAT8E4M3FN]
)
def test_inputs_of_other_types_are_refused_by_name(kind, tmp_path):
    with pytest.raises(
        ModelError, match=f"input of type {TensorProto.DataType.Name(kind)}, allowed are FLOAT"
    ):
        imported(file_of(kind, F32, [to(F32)]), tmp_path)


def test_numbers_in_the_middle_are_not_cut(tmp_path):
    cut = [node("Mul", None, "c"), to(TensorProto.INT32), to(F32)]
    with pytest.raises(ModelError, match=r"layer 'Cast' .* its to is INT32; allowed is FLOAT"):
        imported(file_of(F32, F32, cut, c=np.float32(10)), tmp_path)


def test_shapes_of_whole_number_inputs_are_still_shapes(tmp_path):
    model = file_of(TensorProto.UINT8, F32, [to(F32), node("Reshape", None, "shape")])
    model.graph.node.insert(0, onnx.helper.make_node("Shape", ["image"], ["shape"]))
    network = imported(model, tmp_path)
    ours = network.graph.forward(torch.from_numpy(IMAGES)).numpy()
    assert np.allclose(ours, expected(F32, 255 * IMAGES), atol=1e-9)
    assert ints(1).dtype == np.int64
