from __future__ import annotations

import hashlib
import re
import textwrap

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from steadygaze.errors import ModelError, SettingError
from steadygaze.network.reading.load import load_network


def flat_file(path, declared, weight_shape=(3, 12)):
    """A dense layer after a flattening, for an input declared as given."""
    weight = np.random.default_rng(0).normal(size=weight_shape).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["image", "shape"], ["flat"], name="flat"),
            helper.make_node("MatMul", ["flat", "weight"], ["logits"], name="dense"),
        ],
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, declared)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(np.array([-1, 12], np.int64), "shape"),
            numpy_helper.from_array(weight.T.copy(), "weight"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return weight.astype(np.float64)


@pytest.mark.parametrize(
    ("declared", "layout"),
    [
        ([1, 3, 2, 2], "chw"),
        (["N", 3, 2, 2], "chw"),
        (["N", None, None, None], "chw"),
        ([3, 2, 2], "chw"),
        ([1, 2, 2, 3], "hwc"),
        (["N", 2, 2, 3], "hwc"),
        ([1, 12], "flat"),
        (["N", 12], "flat"),
        ([1, 12, 1], "flat"),
        (["N", 1, 12, 1], "flat"),
        ([12], "flat"),
        ([1, 3, 2, 2], "flat"),
    ],
)
def test_declared_shapes_that_fit_the_layout(declared, layout, tmp_path):
    path = tmp_path / "net.onnx"
    weight = flat_file(path, declared)
    network = load_network(path, input_shape=(3, 2, 2), layout=layout, mean=0.3, std=(0.5, 0.6, 0.7))
    images = np.random.default_rng(1).uniform(0, 1, (5, 3, 2, 2))
    x = (images - 0.3) / np.array([0.5, 0.6, 0.7])[:, None, None]
    fed = x.transpose(0, 2, 3, 1) if layout == "hwc" else x
    expected = fed.reshape(5, 12) @ weight.T
    assert np.allclose(network.graph.forward(torch.from_numpy(images)).numpy(), expected, atol=1e-12)
    assert np.allclose(network.original.logits(images), expected, atol=1e-5)
    assert network.graph.nodes[0].shape == (3, 2, 2)


@pytest.mark.parametrize(
    ("declared", "shape", "layout"),
    [
        (["N", 3, 2, 2], (3, 2, 2), "chw"),
        (["N", None, None, None], (3, 2, 2), "chw"),
        (["N", 2, 2, 3], (3, 2, 2), "hwc"),
        ([None, None, None, 3], (3, 2, 2), "hwc"),
        ([2, 2, 3], (3, 2, 2), "hwc"),
        ([1, 12], (1, 4, 3), "flat"),
        (["N", 12], (1, 4, 3), "flat"),
        (["N", 4, 3], (1, 4, 3), "chw"),
        (["N", 4, 3, 1], (1, 4, 3), "hwc"),
        (["N", 12, 1, 1], (1, 4, 3), "flat"),
    ],
)
def test_the_layout_is_that_of_the_declared_input(declared, shape, layout, tmp_path):
    flat_file(tmp_path / "net.onnx", declared)
    network = load_network(tmp_path / "net.onnx", input_shape=shape)
    asked = load_network(tmp_path / "net.onnx", input_shape=shape, layout=layout)
    assert network.original.preparation == asked.original.preparation
    assert network.original.preparation.layout == layout
    assert network.sha256_as_read == asked.sha256_as_read
    assert (f"in layout {layout}" in (network.output_note or "")) == (layout != "chw")
    assert asked.output_note is None


def test_colours_are_flattened_only_when_asked_for(tmp_path):
    """Channel after channel or pixel after pixel: what is declared does not tell."""
    flat_file(tmp_path / "net.onnx", ["N", 12])
    with pytest.raises(ModelError, match="use layout flat if it takes one channel after the other"):
        load_network(tmp_path / "net.onnx", input_shape=(3, 2, 2))
    flat = load_network(tmp_path / "net.onnx", input_shape=(3, 2, 2), layout="flat")
    assert flat.original.preparation.layout == "flat"


def test_a_module_declares_no_input_and_gets_images_as_pytorch_has_them():
    network = load_network(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), input_shape=(3, 2, 2))
    assert network.original.preparation.layout == "chw"


@pytest.mark.parametrize(
    ("declared", "layout", "way_out"),
    [
        ([1, 12], "chw", "use layout flat"),
        ([1, 2, 2, 3], "chw", "use layout hwc"),
        ([1, 3, 2, 2], "hwc", "use layout chw or flat"),
        ([1, 1, 4, 4], "chw", "use an image of 1 channel, .* and of its size, 4x4"),
        ([1, 1, 4, 4], "auto", "use an image of 1 channel, .* and of its size, 4x4"),
        (["N", 5, 5, 1], "auto", "use an image of 1 channel, .* and of its size, 5x5$"),
        (["N", 2, 2, 1], "auto", "use an image of 1 channel, as the network has$"),
        (["N", 5, 7, 3], "auto", "resize it with --resize 5x7$"),
        ([8, 2, 2, 3], "auto", r"takes 8 images at once \(8x2x2x3\), .* with a batch of 1"),
        ([8, 3, 2, 2], "chw", r"takes 8 images at once \(8x3x2x2\), .* with a batch of 1"),
        ([8, 3, 4, 4], "chw", "export the network with a batch of 1"),
    ],
)
def test_declared_shapes_that_do_not_fit_say_what_to_do(declared, layout, way_out, tmp_path):
    flat_file(tmp_path / "net.onnx", declared)
    with pytest.raises(ModelError, match=way_out) as caught:
        load_network(tmp_path / "net.onnx", input_shape=(3, 2, 2), layout=layout)
    assert "got images of shape (3, 2, 2)" in str(caught.value)
    assert "\n" not in str(caught.value)


def rows_file(path, declared, end=None):
    """Rows of 64 numbers, as many as the input holds, each taken to 10 logits; `end` reshapes them."""
    nodes = [
        helper.make_node("Reshape", ["image", "rows"], ["flat"], name="rows"),
        helper.make_node("MatMul", ["flat", "weight"], ["logits" if end is None else "each"], name="dense"),
    ]
    constants = {
        "rows": np.array([-1, 64]),
        "weight": np.ones((64, 10), np.float32),
        "end": np.array(end or [1]),
    }
    if end is not None:
        nodes.append(helper.make_node("Reshape", ["each", "end"], ["logits"], name="end"))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, declared)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


OPEN = [
    ["N", "C", "H", "W"],
    ["N", 1, "H", "W"],
    ["N", 64],
    ["N", "M"],
    [None, None],
    ["M"],
    ["N", 8, 8],
    [4, 64],
]


@pytest.mark.parametrize("end", [None, [1, -1], [-1]])
@pytest.mark.parametrize("declared", [*OPEN, ["N", 1, 8, 8], [4, 1, 8, 8]])
@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 8, 8)])
@pytest.mark.parametrize("layout", ["auto", "chw", "hwc", "flat"])
def test_one_image_never_passes_as_several(layout, shape, declared, end, tmp_path):
    rows_file(tmp_path / "net.onnx", declared, end)
    with pytest.raises(ModelError) as caught:
        load_network(tmp_path / "net.onnx", input_shape=shape, layout=layout)
    hints = re.findall(r"use layout (\w+)(?: or (\w+))?", str(caught.value))
    for other in filter(None, hints[0] if hints else ()):
        with pytest.raises(ModelError, match="size that the network was made for"):
            load_network(tmp_path / "net.onnx", input_shape=shape, layout=other)


@pytest.mark.parametrize("declared", OPEN[:-1])
def test_an_image_of_the_networks_own_size_is_one(declared, tmp_path):
    rows_file(tmp_path / "net.onnx", declared)
    layout = "flat" if len(declared) < 3 else "chw"
    network = load_network(tmp_path / "net.onnx", input_shape=(1, 8, 8), layout=layout)
    images = np.random.default_rng(0).uniform(0, 1, (3, 1, 8, 8))
    assert network.graph.classes == 10
    assert np.allclose(
        network.original.logits(images), images.sum((1, 2, 3))[:, None].repeat(10, 1), atol=1e-4
    )


def test_pixels_are_never_put_where_they_do_not_belong(tmp_path):
    for declared in ([1, 2, 2, 3], [1, 4, 3], [1, 6, 2], [1, 3, 4], [1, 12]):
        flat_file(tmp_path / "net.onnx", declared)
        if declared in ([1, 6, 2], [1, 3, 4], [1, 12]):
            load_network(tmp_path / "net.onnx", input_shape=(3, 2, 2), layout="flat")
        else:
            with pytest.raises(ModelError, match="got images of shape"):
                load_network(tmp_path / "net.onnx", input_shape=(3, 2, 2), layout="flat")


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (["N", 3, "S", "S"], "'S' would be both 2 and 4"),
        (["N", "N", 2, 4], "'N' would be both 1 and 3"),
        ([0, 3, 2, 4], "an axis of 0 entries"),
        ([1, 3, 0, 4], "an axis of 0 entries"),
    ],
)
def test_sizes_that_contradict_each_other_are_refused(declared, message, tmp_path):
    flat_file(tmp_path / "net.onnx", declared)
    with pytest.raises(ModelError, match=message):
        load_network(tmp_path / "net.onnx", input_shape=(3, 2, 4))


def test_an_output_of_another_shape_than_declared_is_refused(tmp_path):
    flat_file(tmp_path / "net.onnx", [1, 12])
    model = onnx.load(tmp_path / "net.onnx")
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 10]))
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(ModelError, match=r"has shape \(1, 3\) \(declared as \(1, 10\)\)"):
        load_network(tmp_path / "net.onnx", input_shape=(3, 2, 2), layout="flat")


def test_the_file_is_identified_by_its_digest(tmp_path):
    path = tmp_path / "net.onnx"
    flat_file(path, [1, 12])
    network = load_network(str(path), input_shape=(3, 2, 2), layout="flat")
    assert network.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert network.path == str(path)
    assert network.output_note is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.onnx", None, "which is not a file"),
        ("absent.pt2", None, "which is not a file"),
        ("broken.onnx", b"not a model at all", "cannot be read as an ONNX model"),
        ("empty.onnx", b"", "holds no layers"),
        ("broken.pt2", b"not a model at all", "cannot be read as a .pt2 file"),
        ("weights.pth", b"", "a function that returns the module"),
        ("model.tflite", b"", "write the network that it was made from as ONNX"),
        ("model.txt", b"", "allowed are a PyTorch module"),
    ],
)
def test_files_that_are_no_networks_are_refused(name, content, message, tmp_path):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        load_network(path, input_shape=(3, 2, 2))
    assert name in str(caught.value)


def test_other_objects_are_refused():
    with pytest.raises(ModelError, match="the network is a dict"):
        load_network({}, input_shape=(3, 2, 2))


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    source = """
        from torch import nn
        class Net(nn.Sequential):
            def __init__(self, width=4):
                super().__init__(nn.Flatten(), nn.Linear(12, width), nn.ReLU(), nn.Linear(width, 3))
        class Zoo:
            small = staticmethod(lambda: Net(2))
        ready = Net()
        def broken():
            raise OSError("weights not found")
        def number():
            return 3
        def unloaded():
            ready.load_state_dict({f"module.{name}": one for name, one in Net().state_dict().items()})
        def unlike():
            ready.load_state_dict(nn.Linear(2, 2).state_dict())

        def weights():
            return ready.state_dict()

        def trained():
            return ready, 0.98
    """
    (tmp_path / "my_own_network.py").write_text(textwrap.dedent(source))
    monkeypatch.chdir(tmp_path)
    return "my_own_network"


@pytest.mark.parametrize(("attribute", "units"), [("Net", 4), ("Zoo.small", 2), ("ready", 4)])
def test_import_paths_are_imported_and_called(user_module, attribute, units):
    network = load_network(f"{user_module}:{attribute}", input_shape=(3, 2, 2))
    assert network.graph.units == units
    assert network.path == f"{user_module}:{attribute}"


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("missing", "cannot be imported .* check both names"),
        ("broken", "cannot be called .* takes nothing .* mend what it does when it is called"),
        ("unloaded", r"cannot be called .*; the weights were saved within DataParallel: .*removeprefix"),
        ("unlike", r"Missing key\(s\) .*; load the weights into the module that they were trained in"),
        ("broken", "OSError: weights not found"),
        ("number", "gives int, allowed is a torch.nn.Module; return one"),
        ("weights", "gives OrderedDict, allowed .* return the network they belong to, with load_state_dict"),
        ("trained", "gives tuple, allowed .* return the module alone"),
    ],
)
def test_import_paths_that_make_no_module_are_refused(user_module, attribute, message):
    with pytest.raises(ModelError, match=message):
        load_network(f"{user_module}:{attribute}", input_shape=(3, 2, 2))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import a_package_that_nobody_has", "install 'a_package_that_nobody_has'"),
        ("1 / 0", "ZeroDivisionError.* mend what it does when it is imported"),
        ("raise SystemExit(2)", r"SystemExit: 2\), .* below if __name__ == '__main__'"),
        ("def net():\n    raise SystemExit(0)", r"cannot be called \(SystemExit: 0\), .* one that does not"),
        ("def net():\n    import beside\n    return beside.NET", None),
        ("def net(classes):\n    return classes", "cannot be called .*classes.* all that it needs"),
    ],
)
def test_what_an_import_lacks_is_told(source, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = f"made_{abs(hash(source))}"
    (tmp_path / f"{name}.py").write_text(source)
    (tmp_path / "beside.py").write_text(
        "from torch import nn\nNET = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))"
    )
    if message is None:  # what a callable imports from the same folder is found, too
        assert load_network(f"{name}:net", input_shape=(3, 2, 2)).graph.units == 0
    else:
        with pytest.raises(ModelError, match=message):
            load_network(f"{name}:net", input_shape=(3, 2, 2))


@pytest.mark.parametrize("path", ["my_own_network.py", "models/my_own_network.py", "./my_own_network"])
def test_a_path_in_place_of_a_module_is_refused_with_what_to_write(path):
    with pytest.raises(
        ModelError, match=r"write 'my_own_network:Net', in the folder that holds my_own_network\.py"
    ):
        load_network(f"{path}:Net", input_shape=(3, 2, 2))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"layout": "nchw"}, "layout is 'nchw', allowed are auto, chw, hwc, flat"),
        ({"mean": (0.1, 0.2)}, "one for each of the 3 channels"),
        ({"mean": float("nan")}, "allowed is one finite number"),
        ({"std": 0.0}, "allowed are numbers above 0"),
        ({"std": (0.2, -0.1, 0.2)}, "allowed are numbers above 0"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(setting, message):
    with pytest.raises(SettingError, match=message):
        load_network(nn.Flatten(), input_shape=(3, 2, 2), **setting)


def test_an_image_too_large_is_refused_before_anything_runs():
    with pytest.raises(ModelError, match="the image has shape"):
        load_network(nn.Flatten(), input_shape=(3, 2**16, 2**16))


def test_tracing_failures_are_one_sentence_and_print_nothing(capfd):
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense = nn.Linear(12, 3)

        def forward(self, x):
            return self.dense(x.flatten(1)) if x.sum() > 0 else self.dense(-x.flatten(1))

    with pytest.raises(ModelError, match="Branching cannot be traced") as caught:
        load_network(Branching(), input_shape=(3, 2, 2))
    assert "\n" not in str(caught.value)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
