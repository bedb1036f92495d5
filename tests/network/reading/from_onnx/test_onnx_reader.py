"""Every operator against onnxruntime, in small files made here."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from onnx_files import OPERATORS, SHAPE, C, array, imported, ints, model_of, node, with_head
from steadygaze.errors import ModelError
from steadygaze.network.joint import Multiply
from steadygaze.network.reading.fidelity import check_fidelity
from steadygaze.network.reading.load import load_network


def assert_agrees(model, folder, **options):
    network = imported(model, folder, **options)
    images = np.random.default_rng(3).uniform(0, 1, (12, *network.graph.input_shape))
    theirs = network.original.logits(images)
    ours = network.graph.forward(torch.from_numpy(images)).numpy()
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 2e-6 * max(np.abs(theirs).max(), 1e-3)
    assert np.abs(theirs).max() > 0
    check_fidelity(network, images)
    return network


@pytest.mark.parametrize("batch", [1, "N"])
@pytest.mark.parametrize("name", OPERATORS)
def test_operator_agrees_with_onnxruntime(name, batch, tmp_path):
    nodes, constants, width, opset = OPERATORS[name]
    assert_agrees(with_head(nodes, constants, width, opset=opset, batch=batch), tmp_path)


S = {"root": np.float32(np.sqrt(2)), "one": np.float32(1), "half": np.float32(0.5), "k": array(3, 2, 3, 3)}
CONV = node("Conv", None, "k")

# Activations written as products: nodes (the convolution is v0), constants, and the function they are.
WRITTEN_OUT = {
    "silu": ([CONV, node("Sigmoid", None), node("Mul", "v0", None)], S, "silu"),
    "silu-left": ([CONV, node("Sigmoid", None), node("Mul", None, "v0")], S, "silu"),
    "silu-steep": (
        [CONV, node("Mul", None, "steep"), node("Sigmoid", None), node("Mul", "v0", None)],
        {**S, "steep": np.float32(1.702)},
        "silu",
    ),
    "silu-scaled": (
        [CONV, node("Mul", None, "half"), node("Sigmoid", None), node("Neg", None), node("Mul", "v1", None)],
        S,
        "silu",
    ),
    "gelu": (
        [
            CONV,
            node("Div", None, "root"),
            node("Erf", None),
            node("Add", None, "one"),
            node("Mul", "v0", None),
            node("Mul", None, "half"),
        ],
        S,
        "gelu",
    ),
    "gelu-half-first": (
        [
            CONV,
            node("Div", None, "root"),
            node("Erf", None),
            node("Add", "one", None),
            node("Mul", "v0", "half"),
            node("Mul", None, "v3"),
        ],
        S,
        "gelu",
    ),
    "gelu-half-on-the-gate": (
        [
            CONV,
            node("Div", None, "root"),
            node("Erf", None),
            node("Add", None, "one"),
            node("Mul", None, "half"),
            node("Mul", "v0", None),
        ],
        S,
        "gelu",
    ),
}


def functions_of(network):
    return [network.graph.nodes[index].layer.function for index in network.graph.smooth]


@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_an_activation_written_as_a_product_is_one_layer(name, tmp_path):
    nodes, constants, function = WRITTEN_OUT[name]
    # Weights twice as large: more of the curve.
    model = with_head(nodes, {**constants, "k": 2 * constants["k"]}, 48)
    assert functions_of(assert_agrees(model, tmp_path)) == [function]


@pytest.mark.parametrize("opset", [13, 20])
@pytest.mark.parametrize("name", ["sigmoid", "tanh", "gelu", "silu", "softplus"])
def test_what_pytorch_exports_is_read_as_the_module_is(name, opset, tmp_path):
    activations = {
        "sigmoid": nn.Sigmoid(),
        "tanh": nn.Tanh(),
        "gelu": nn.GELU(),
        "silu": nn.SiLU(),
        "softplus": nn.Softplus(),
    }
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(2, 3, 3), activations[name], nn.Flatten(), nn.Linear(48, 3)).eval()
    path = tmp_path / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this exporter is old, but needs no other package
        torch.onnx.export(module, torch.zeros(1, *SHAPE), path, opset_version=opset, dynamo=False)
    network, direct = load_network(path, input_shape=SHAPE), load_network(module, input_shape=SHAPE)
    assert functions_of(network) == functions_of(direct) == [name]
    x = torch.rand(5, *SHAPE, dtype=torch.float64)
    assert torch.allclose(network.graph.forward(x), direct.graph.forward(x), atol=1e-7)
    check_fidelity(network, x.numpy())


@pytest.mark.parametrize(
    "nodes",
    [
        [CONV, node("Tanh", None), node("Mul", "v0", None)],
        [CONV, node("Sigmoid", None), node("Add", None, "one"), node("Mul", "v0", None)],
        [CONV, node("Erf", None), node("Add", None, "half"), node("Mul", "v0", None)],
        [CONV, node("Add", None, "one"), node("Sigmoid", "v0"), node("Mul", "v1", None)],
        [CONV, node("Add", None, "one"), node("Sigmoid", None), node("Mul", "v0", None)],
        [CONV, node("Neg", None), node("Relu", "v0"), node("Sigmoid", None), node("Mul", "v1", None)],
    ],
    ids=["tanh", "gate-shifted", "no-distribution", "factor-shifted", "argument-shifted", "another-factor"],
)
def test_other_products_are_read_as_products(nodes, tmp_path):
    network = assert_agrees(with_head(nodes, S, 48), tmp_path)
    assert any(isinstance(one.layer, Multiply) for one in network.graph.nodes)


@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("opset", [9, 13])
def test_a_final_softmax_is_taken_off_and_reported(operator, opset, tmp_path):
    plain = assert_agrees(with_head([node("Relu", None)], {}, 72, opset=opset), tmp_path)
    body = [node("Relu", None), node("Flatten", None), node("Gemm", None, "w_out", "b_out", transB=1)]
    weights = {"w_out": array(3, 72, seed=8), "b_out": array(3, seed=9)}
    network = assert_agrees(model_of([*body, node(operator, None, axis=1)], weights, opset=opset), tmp_path)
    assert plain.output_note is None
    assert network.output_note == f"final {operator} removed: verified at the logits"
    x = torch.rand(4, *SHAPE, dtype=torch.float64)
    assert torch.equal(plain.graph.forward(x), network.graph.forward(x))


REFUSED = {
    "rounded up": (
        [node("Ceil", None)],
        {},
        r"layer 'Ceil' \(node 'Ceil_0'\) is not supported for values computed .* `steadygaze layers`",
    ),
    "divide-by-any": ([node("Div", None, None)], {}, "divides by a computed value that may be below 0"),
    "root-of-any": ([CONV, node("Sqrt", None)], {"k": array(3, 2, 3, 3), "b": array(3)}, "to the power 0.5"),
    "max-with-mode": (
        [node("Pad", None, "p", mode="mirror")],
        {"p": ints(0, 0, 1, 1, 0, 0, 1, 1)},
        "mode is 'mirror'",
    ),
    "cast-int": (
        [node("Cast", None, to=7)],
        {},
        "its to is INT64; allowed is FLOAT and DOUBLE .*: whole numbers jump",
    ),
    "enlarging": ([node("Add", None, "c")], {"c": array(3, 2, 6, 6)}, "other than the batch"),
    "divide-by-zero": ([node("Div", None, "c")], {"c": np.float32(0)}, "divides by 0"),
    "wrong-reshape": ([node("Reshape", None, "s")], {"s": ints(1, 71)}, "is reshaped to"),
    "nan-weights": (
        [node("Conv", None, "k")],
        {"k": np.full((3, 2, 3, 3), np.nan, np.float32)},
        "54 of 54 weights are NaN",
    ),
    "bad-weight": ([node("Conv", None, "k")], {"k": array(3, 5, 3, 3)}, "does not fit a value of shape"),
    "kernel-too-big": (
        [node("Conv", None, "k")],
        {"k": array(3, 2, 9, 9)},
        "allowed are sizes of at least 1",
    ),
    "huge-constant": (
        [node("ConstantOfShape", "s"), node("Add", "image", None)],
        {"s": ints(2**20, 2**20)},
        "has shape",
    ),
    "unknown-input": ([node("Add", None, "nothing")], {}, "reads 'nothing'"),
}


def test_a_spatial_transformer_that_takes_the_nearest_pixels_is_refused(tmp_path):
    nodes = [node("Reshape", "image", "g"), node("GridSample", "image", None, mode="nearest")]
    with pytest.raises(ModelError, match=r"where it looks is computed .* mode is nearest .* nearest jumps"):
        imported(with_head(nodes, {"g": ints(1, 6, 6, 2)}, 72, opset=16), tmp_path)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_outside_the_table_is_refused_by_name(name, tmp_path):
    nodes, constants, message = REFUSED[name]
    with pytest.raises(ModelError, match=message):
        imported(with_head(nodes, constants, 72), tmp_path)


def test_operators_of_other_domains_are_refused(tmp_path):
    model = with_head([node("Relu", None, domain="ai.custom")], {}, 72)
    with pytest.raises(ModelError, match=r"layer 'ai\.custom\.Relu'"):
        imported(model, tmp_path)


def test_external_weights_are_read_from_the_models_folder(tmp_path):
    model = with_head([node("Conv", None, "k", "b")], C, 48)
    path = tmp_path / "net.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (tmp_path / "weights.bin").stat().st_size > 0
    split = load_network(path, input_shape=SHAPE)
    whole = imported(with_head([node("Conv", None, "k", "b")], C, 48), tmp_path)
    x = torch.rand(4, *SHAPE, dtype=torch.float64)
    assert torch.equal(split.graph.forward(x), whole.graph.forward(x))
    assert np.allclose(split.original.logits(x.numpy()), whole.original.logits(x.numpy()))


def stored(folder):
    """A file with external data as a store of models keeps it: every name a link into one folder."""
    blobs, names = folder / "blobs", folder / "snapshots" / "first"
    blobs.mkdir(parents=True)
    names.mkdir(parents=True)
    model = with_head([node("Conv", None, "k", "b")], C, 48)
    onnx.save(model, names / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    for name in ("net.onnx", "net.data"):
        (names / name).rename(blobs / name[::-1])
        (names / name).symlink_to(f"../../blobs/{name[::-1]}")
    return names / "net.onnx"


def test_external_weights_are_read_through_the_links_of_a_store(tmp_path):
    path = stored(tmp_path)
    whole = imported(with_head([node("Conv", None, "k", "b")], C, 48), tmp_path)
    x = torch.rand(4, *SHAPE, dtype=torch.float64)
    expected = whole.graph.forward(x)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.symlink_to(path.parent)
    (tmp_path / "plain").mkdir()
    onnx.save(
        with_head([node("Conv", None, "k", "b")], C, 48),
        tmp_path / "plain" / "n.onnx",
        save_as_external_data=True,
        location="w",
        size_threshold=0,
    )
    (tmp_path / "link.onnx").symlink_to("plain/n.onnx")
    for one in (path, elsewhere / "net.onnx", tmp_path / "plain" / "n.onnx", tmp_path / "link.onnx"):
        assert torch.equal(load_network(one, input_shape=SHAPE).graph.forward(x), expected)


@pytest.mark.parametrize("target", ["outside.bin", "gone.bin"])
def test_links_that_lead_out_of_the_store_are_refused(target, tmp_path):
    path = stored(tmp_path / "store")
    (tmp_path / "outside.bin").write_bytes((path.parent / "net.data").read_bytes())
    (path.parent / "net.data").unlink()
    (path.parent / "net.data").symlink_to(tmp_path / target)
    with pytest.raises(ModelError, match="allowed is a file in the model's own folder"):
        load_network(path, input_shape=SHAPE)


@pytest.mark.parametrize("location", ["../outside.bin", "missing.bin", "/etc/hostname"])
def test_external_weights_elsewhere_are_refused(location, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "outside.bin").write_bytes(bytes(216))
    model = with_head([node("Conv", None, "k", "b")], C, 48)
    tensor = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, location, offset=0, length=216)
    tensor.ClearField("raw_data")
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="allowed is a file in the model's own folder"):
        load_network(folder / "net.onnx", input_shape=SHAPE)


def test_external_weights_that_are_too_short_are_refused(tmp_path):
    (tmp_path / "short.bin").write_bytes(bytes(100))
    model = with_head([node("Conv", None, "k", "b")], C, 48)
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "short.bin", offset=0)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="promises 216 bytes"):
        load_network(tmp_path / "net.onnx", input_shape=SHAPE)


def test_a_constant_that_lies_about_its_shape_is_refused(tmp_path):
    model = with_head([node("Conv", None, "k", "b")], C, 48)
    model.graph.initializer[0].dims[0] = 2**40
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="k has shape"):
        load_network(tmp_path / "net.onnx", input_shape=SHAPE)


def test_functions_of_the_file_are_written_out(tmp_path):
    """A layer of two operators, used twice, with a number that each use gives it."""
    body = [
        onnx.helper.make_node("LeakyRelu", ["given"], ["bent"]),
        onnx.helper.make_node("Add", ["bent", "given"], ["made"]),
    ]
    body[0].attribute.append(
        onnx.AttributeProto(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope")
    )
    opset = onnx.helper.make_opsetid("", 17)
    function = onnx.helper.make_function("own", "Bent", ["given"], ["made"], body, [opset], ["slope"])
    nodes = [CONV, node("Bent", None, slope=0.5), node("Bent", None, slope=-0.25)]
    model = with_head(nodes, C, 48, opset=17)
    for one in model.graph.node[1:3]:
        one.domain = "own"
    model.opset_import.append(onnx.helper.make_opsetid("own", 1))
    model.functions.append(function)
    assert_agrees(model, tmp_path)
