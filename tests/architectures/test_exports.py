"""Files as other tools export them: Keras through tf2onnx, scikit-learn through skl2onnx, built by hand."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as functional
from onnx import TensorProto, helper, numpy_helper

from oracles import gradients_of, logits_of
from steadygaze.errors import ModelError
from steadygaze.network.reading.fidelity import check_fidelity
from steadygaze.network.reading.load import load_network
from steadygaze.perturbation import Brightness
from steadygaze.verdict.driver import verify

DIGITS = (1, 12, 12)
IMAGES = np.random.default_rng(1).uniform(0, 1, (4, *DIGITS))


def array(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(np.float32)


def saved(path, nodes, weights, shape, outputs, opset=13):
    """A file of nodes (operator, inputs, outputs, attributes) for one input of open batch."""
    made = [
        helper.make_node(
            operator, inputs, outs, name=f"model/{operator}_{place}",
            domain="ai.onnx.ml" if operator in ESTIMATORS else "", **attributes,
        )
        for place, (operator, inputs, outs, attributes) in enumerate(nodes)
    ]  # fmt: skip
    graph = helper.make_graph(
        made,
        "tf2onnx",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["unk__12", *shape])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    sets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=sets, ir_version=8), path)
    return path


ESTIMATORS = ("ZipMap", "ArrayFeatureExtractor", "Scaler", "LinearClassifier", "TreeEnsembleClassifier")
KERAS = {
    "scale": np.float32(2.0),
    "k1": array(3, 1, 3, 3),
    "b1": array(3, seed=1),
    "gamma": array(1, 3, 1, 1, seed=2) + 1,
    "beta": array(1, 3, 1, 1, seed=3),
    "k2": array(4, 3, 3, 3, seed=4),
    "b2": array(4, seed=5),
    "row": np.array([-1, 36], np.int64),
    "w": array(36, 5, seed=6),
    "b": array(5, seed=7),
}


def keras(path, pooled=False):
    """A convolutional network as Keras has it: rescaling, NHWC, a batch norm, 'same' padding, a softmax."""
    same = {"pads": [0, 0, 1, 1], "strides": [2, 2], "kernel_shape": [3, 3], "dilations": [1, 1], "group": 1}
    valid = {"kernel_shape": [3, 3], "strides": [1, 1], "dilations": [1, 1], "group": 1}
    head = [
        ("Transpose", ["x6"], ["x7"], {"perm": [0, 2, 3, 1]}),
        ("Reshape", ["x7", "row"], ["x8"], {}),
    ]
    if pooled:  # GlobalAveragePooling2D
        head = [
            ("GlobalAveragePool", ["x6"], ["x7"], {}),
            ("Squeeze", ["x7", "axes"], ["x8"], {}),
        ]
    nodes = [
        ("Mul", ["input", "scale"], ["x0"], {}),
        ("Transpose", ["x0"], ["x1"], {"perm": [0, 3, 1, 2]}),
        ("Conv", ["x1", "k1", "b1"], ["x2"], same),
        ("Relu", ["x2"], ["x3"], {}),
        ("Mul", ["x3", "gamma"], ["x3a"], {}),
        ("Add", ["x3a", "beta"], ["x4"], {}),
        ("Conv", ["x4", "k2", "b2"], ["x5"], valid),
        ("Relu", ["x5"], ["x5a"], {}),
        ("MaxPool", ["x5a"], ["x6"], {"kernel_shape": [2, 2], "strides": [1, 1], "auto_pad": "VALID"}),
        *head,
        ("MatMul", ["x8", "w"], ["x9"], {}),
        ("Add", ["x9", "b"], ["x10"], {}),
        ("Softmax", ["x10"], ["dense_1"], {"axis": -1}),
    ]
    weights = dict(KERAS)
    if pooled:
        weights |= {"axes": np.array([2, 3], np.int64), "w": array(4, 5, seed=6)}
    return saved(path, nodes, weights, (12, 12, 1), ["dense_1"])


class Keras(torch.nn.Module):
    """The same in PyTorch's functions, in double precision."""

    def __init__(self, pooled: bool) -> None:
        super().__init__()
        self.pooled = pooled

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        k = {name: torch.from_numpy(np.asarray(value)).double() for name, value in KERAS.items()}
        x = functional.relu(
            functional.conv2d(functional.pad(2 * x, (0, 1, 0, 1)), k["k1"], k["b1"], stride=2)
        )
        x = functional.relu(functional.conv2d(x * k["gamma"] + k["beta"], k["k2"], k["b2"]))
        x = functional.max_pool2d(x, 2, stride=1)
        if self.pooled:
            return x.mean((2, 3)) @ torch.from_numpy(array(4, 5, seed=6)).double() + k["b"]
        return x.permute(0, 2, 3, 1).flatten(1) @ k["w"] + k["b"]


@pytest.mark.parametrize("pooled", [False, True])
def test_a_keras_network_is_read_with_its_layout(pooled, tmp_path):
    network = load_network(keras(tmp_path / "keras.onnx", pooled), input_shape=DIGITS, layout="hwc")
    module = Keras(pooled)
    check_fidelity(network, IMAGES)
    images = torch.from_numpy(IMAGES)
    assert np.allclose(network.graph.forward(images), logits_of(module, IMAGES), atol=1e-6)
    assert np.allclose(network.graph.gradient_at(images, 2), gradients_of(module, IMAGES, 2), atol=1e-6)
    assert network.output_note == "final Softmax removed: verified at the logits"


def test_a_keras_network_has_an_answer(tmp_path):
    path = keras(tmp_path / "keras.onnx")
    answer = verify(path, IMAGES[0], Brightness(-0.05, 0.05), layout="hwc", threads=1)
    assert sum(answer.shares.values()) == pytest.approx(1)
    assert answer.shares.undecided == 0


def test_a_limit_that_is_far_away_loses_no_digits(tmp_path):
    """Keras's UnitNormalization: the reciprocal of a length, which 1e12 limits where all is 0."""
    nodes = [
        ("MatMul", ["input", "w"], ["x0"], {}),
        ("Relu", ["x0"], ["x1"], {}),
        ("Mul", ["x1", "x1"], ["x2"], {}),
        ("ReduceSum", ["x2", "axes"], ["x3"], {"keepdims": 1}),
        ("Sqrt", ["x3"], ["x4"], {}),
        ("Reciprocal", ["x4"], ["x5"], {}),
        ("Min", ["x5", "most"], ["x6"], {}),
        ("Max", ["x6", "least"], ["x7"], {}),
        ("Mul", ["x1", "x7"], ["unit"], {}),
    ]
    weights = {
        "w": array(9, 6),
        "axes": np.array([1], np.int64),
        "most": np.float32(1e12),
        "least": np.float32(-np.inf),
    }
    network = load_network(
        saved(tmp_path / "unit.onnx", nodes, weights, (9,), ["unit"]), input_shape=(1, 3, 3), layout="flat"
    )
    assert check_fidelity(network, SQUARES).logits < 1e-5
    found = network.graph.forward(torch.from_numpy(SQUARES))
    assert np.allclose((found**2).sum(1), 1.0, rtol=0, atol=1e-9)


def test_a_layout_that_does_not_fit_is_refused_with_the_one_that_does(tmp_path):
    with pytest.raises(ModelError, match="use layout hwc"):
        load_network(keras(tmp_path / "keras.onnx"), input_shape=DIGITS, layout="chw")


ESTIMATOR = {
    "w1": array(9, 6),
    "b1": array(6, seed=1),
    "w2": array(6, 3, seed=2),
    "b2": array(3, seed=3),
    "names": np.array([3, 5, 8], np.int64),
    "flat": np.array([-1], np.int64),
}
LAYERS = [
    ("Cast", ["input"], ["x"], {"to": TensorProto.FLOAT}),
    ("MatMul", ["x", "w1"], ["mul1"], {}),
    ("Add", ["mul1", "b1"], ["add1"], {}),
    ("Relu", ["add1"], ["next"], {}),
    ("MatMul", ["next", "w2"], ["mul2"], {}),
    ("Add", ["mul2", "b2"], ["add2"], {}),
    ("Softmax", ["add2"], ["probabilities"], {}),
]
NAMING = [
    ("ArgMax", ["probabilities"], ["best"], {"axis": 1}),
    ("ArrayFeatureExtractor", ["names", "best"], ["named"], {}),
    ("Cast", ["named"], ["real"], {"to": TensorProto.FLOAT}),
    ("Reshape", ["real", "flat"], ["shaped"], {}),
    ("Cast", ["shaped"], ["label"], {"to": TensorProto.INT64}),
]
ZIPPED = ("ZipMap", ["probabilities"], ["output_probability"], {"classlabels_int64s": [3, 5, 8]})
SQUARES = np.random.default_rng(2).uniform(0, 1, (4, 1, 3, 3))


def estimator(path, zipped: bool, outputs: tuple[str, ...]):
    """A perceptron as scikit-learn has it: the label by its name, and probabilities, zipped or not."""
    nodes = [*LAYERS, *NAMING, *([ZIPPED] if zipped else [])]
    return saved(path, nodes, ESTIMATOR, (9,), outputs)


@pytest.mark.parametrize("outputs", [("label", "probabilities"), ("probabilities",)])
def test_an_estimator_is_read_without_its_label(outputs, tmp_path):
    path = estimator(tmp_path / "sk.onnx", False, outputs)
    network = load_network(path, input_shape=(1, 3, 3), layout="flat")
    check_fidelity(network, SQUARES)
    w = {name: value.astype(float) for name, value in ESTIMATOR.items()}
    hidden = np.maximum(SQUARES.reshape(4, 9) @ w["w1"] + w["b1"], 0)
    assert np.allclose(network.graph.forward(torch.from_numpy(SQUARES)), hidden @ w["w2"] + w["b2"])


def test_a_label_alone_is_refused_with_where_to_cut(tmp_path):
    path = estimator(tmp_path / "sk.onnx", False, ("label",))
    with pytest.raises(ModelError, match=r"'label' is the class itself, .*--output probabilities"):
        load_network(path, input_shape=(1, 3, 3), layout="flat")
    assert load_network(path, input_shape=(1, 3, 3), layout="flat", output="probabilities").graph.classes == 3


def test_an_estimator_that_is_no_network_is_refused_with_what_to_do(tmp_path):
    nodes = [("ArrayFeatureExtractor", ["input", "names"], ["scores"], {})]
    path = saved(tmp_path / "sk.onnx", nodes, {"names": np.array([0, 2], np.int64)}, (9,), ("scores",))
    with pytest.raises(ModelError, match=r"ArrayFeatureExtractor' .* belongs to estimators.*--output"):
        load_network(path, input_shape=(1, 3, 3), layout="flat")


@pytest.mark.parametrize("outputs", [("label", "output_probability"), ("output_probability",)])
def test_probabilities_by_name_are_read_without_their_names(outputs, tmp_path):
    path = estimator(tmp_path / "sk.onnx", True, outputs)
    network = load_network(path, input_shape=(1, 3, 3), layout="flat")
    assert network.graph.classes == 3
    check_fidelity(network, SQUARES)


def test_features_are_scaled_and_two_probabilities_read_as_one_logit(tmp_path):
    """A pipeline of a scaler and a perceptron of two classes, whose second probability is a sigmoid."""
    nodes = [
        ("Scaler", ["input"], ["x"], {"offset": [0.1 * n for n in range(9)], "scale": [2.0] * 9}),
        ("MatMul", ["x", "w"], ["z"], {}),
        ("Sigmoid", ["z"], ["second"], {}),
        ("Sub", ["one", "second"], ["first"], {}),
        ("Concat", ["first", "second"], ["both"], {"axis": 1}),
        ("ZipMap", ["both"], ["probability"], {"classlabels_int64s": [0, 1]}),
    ]
    weights = {"w": array(9, 1), "one": np.float32(1)}
    path = saved(tmp_path / "sk.onnx", nodes, weights, (9,), ("probability",))
    network = load_network(path, input_shape=(1, 3, 3), layout="flat")
    check_fidelity(network, SQUARES)
    ours = network.graph.gradient_at(torch.from_numpy(SQUARES), 1)
    assert np.allclose(ours, network.original.gradients(SQUARES, 1), atol=1e-6)
    z = (SQUARES.reshape(4, 9) - 0.1 * np.arange(9)) * 2 @ weights["w"].astype(float)
    second = 1 / (1 + np.exp(-z))
    found = network.graph.forward(torch.from_numpy(SQUARES))
    assert np.allclose(found, np.hstack([0 * z, z]), atol=1e-6)
    assert np.allclose(found.softmax(1), np.hstack([1 - second, second]), atol=1e-6)


WAYS = {
    "LinearClassifier": (["label", "scores"], "a torch.nn.Linear with the estimator's coef_ and intercept_"),
    "TreeEnsembleClassifier": (["label", "scores"], "trees are constant between jumps"),
    "Erfc": (["scores"], "no operator of ONNX, .* the exporter left it as it was"),
    "Scan": (["scores"], "unroll=True"),
    "SequenceMap": (["scores"], "put the values together with torch.stack or cat"),
    "QuantizeLinear": (["scores"], "export the network before it was quantised"),
}


@pytest.mark.parametrize("operator", WAYS)
def test_what_is_no_layer_is_refused_with_what_to_do(operator, tmp_path):
    outputs, message = WAYS[operator]
    path = saved(tmp_path / "net.onnx", [(operator, ["input"], outputs, {})], {}, (9,), outputs)
    with pytest.raises(ModelError, match=rf"{operator}' .* is not supported; .*{message}"):
        load_network(path, input_shape=(1, 3, 3), layout="flat")


def test_what_onnxruntime_has_optimised_is_refused_with_the_way_back(tmp_path):
    path = saved(tmp_path / "net.onnx", [("FusedGemm", ["input"], ["scores"], {})], {}, (9,), ["scores"])
    model = onnx.load(path)
    model.graph.node[0].domain = "com.microsoft"
    onnx.save(model, path)
    with pytest.raises(ModelError, match=r"com.microsoft.FusedGemm' .* the file that was optimised, .*BASIC"):
        load_network(path, input_shape=(1, 3, 3), layout="flat")


def test_an_old_file_is_refused_with_how_to_convert_it(tmp_path):
    nodes = [("Relu", ["input"], ["scores"], {})]
    path = saved(tmp_path / "net.onnx", nodes, {}, (9,), ["scores"], opset=3)
    with pytest.raises(ModelError, match=r"operator set 3; .*onnx\.version_converter"):
        load_network(path, input_shape=(1, 3, 3), layout="flat")
