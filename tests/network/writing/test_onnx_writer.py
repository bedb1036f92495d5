"""The exporter against the graph, in two runtimes that share nothing with it."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

import variants
from steadygaze.errors import SettingError
from steadygaze.network import pieces
from steadygaze.network.building import GraphBuilder
from steadygaze.network.families import EXPONENTIAL
from steadygaze.network.graph import Graph
from steadygaze.network.joint import MatrixProduct, Multiply, Normalise, Softmax
from steadygaze.network.layers import Concat, Dense, Pad, Permute, Reshape
from steadygaze.network.reading.load import load_network
from steadygaze.network.smooth import RULES, Smooth
from steadygaze.network.taking import Take
from steadygaze.network.transposed import TransposedConv
from steadygaze.network.writing import onnx_writer
from steadygaze.network.writing.onnx_writer import (
    Writer,
    filled_windows,
    onnx_of,
    regular_windows,
    value_names,
)

# onnxruntime has no float64 kernels for these; onnx.reference takes erf in float32.
NOT_IN_DOUBLE = {"Asinh", "Atan", "Conv", "ConvTranspose", "Erf", "Softplus"}


def graph_of(name: str) -> Graph:
    channels = 3 if name.startswith("colour") else 1
    return load_network(variants.network(name), input_shape=(channels, 6, 6)).graph


def drawn(graph: Graph, rows: int = 5) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 2, (rows, *graph.input_shape))


def in_runtime(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # onnxruntime 1.32 fails where it fuses Relu and Clip in float64.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {model.graph.input[0].name: x})[0]


def by_reference(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return ReferenceEvaluator(model).run(None, {model.graph.input[0].name: x})[0]


def check(graph: Graph, x: np.ndarray) -> None:
    """The written graph gives what the graph gives."""
    wanted = graph.forward(torch.from_numpy(x)).numpy()
    for pooling in (False, True):
        model = onnx_of(graph, Writer(pooling=pooling))
        operators = {node.op_type for node in model.graph.node}
        slack = 1e-6 if "Erf" in operators else 1e-12
        assert np.abs(by_reference(model, x) - wanted).max() <= slack
        if not operators & NOT_IN_DOUBLE:
            assert np.abs(in_runtime(model, x) - wanted).max() <= 1e-12
    single = onnx_of(graph, Writer(np.float32, batch=len(x)))
    assert np.abs(in_runtime(single, x.astype(np.float32)) - wanted).max() <= 1e-4


@pytest.mark.parametrize("name", list(variants.NETWORKS))
def test_every_network_is_written_as_it_is(name):
    graph = graph_of(name)
    check(graph, drawn(graph))


@pytest.mark.parametrize("name", ["mlp", "residual", "colour conv"])
def test_constants_are_the_graphs_own_to_the_last_bit(name):
    graph = graph_of(name)
    written = {onnx.numpy_helper.to_array(c).tobytes() for c in onnx_of(graph, Writer()).graph.initializer}
    own = [v for node in graph.nodes for v in vars(node.layer).values() if isinstance(v, torch.Tensor)]
    weights = [v for v in own if v.ndim > 1 and v.shape[-1] > 1 and v.is_floating_point()]
    assert weights
    assert {weight.numpy().tobytes() for weight in weights} <= written


def piecewise(edges, slopes, offsets) -> pieces.PiecewiseLinear:
    return pieces.PiecewiseLinear(*(torch.tensor(v, dtype=torch.float64) for v in (edges, slopes, offsets)))


def around(layer, shape=(1, 3, 4)) -> Graph:
    """One layer on pixels, then as many logits as there are numbers."""
    builder = GraphBuilder(shape)
    last = builder.add(layer, 0, name="layer")
    size = int(np.prod(builder.shape(last)))
    return builder.build(builder.add(Reshape((size,)), last, name="logits"))


UNITS = np.linspace(0.1, 0.9, 12)
LAYERS = {
    "padded and cropped": Pad(((0, 0), (1, 2), (0, 1)), 0.75),
    "cropped": Pad(((0, 0), (-1, -1), (0, -2)), 0.75),
    "cropped and padded": Pad(((0, 0), (-1, 2), (1, -1)), 0.75),
    "permuted": Permute((2, 0, 1)),
    "taken": Take(torch.tensor([3, 0, 0, 2, 1]), 2),
    "taken once": Take(torch.tensor([3, 0, 1]), 2),
    "transposed": TransposedConv(
        torch.arange(12.0).reshape(1, 2, 3, 2).double() / 8, torch.ones(2).double(), (2, 3), (1, 0), (1, 2)
    ),
    "transposed, cut": TransposedConv(
        torch.arange(6.0).reshape(1, 1, 2, 3).double() / 8,
        torch.ones(1).double(),
        (1, 2),
        (2, 3),
        (0, 1),
        (3, 1),
    ),
    "several pieces": piecewise([-0.5, 0.7], [[0.1], [1.0], [0.2]], [[-0.45], [0.0], [0.56]]),
    "a slope for each unit": piecewise([0.0], [UNITS.tolist(), [1.0] * 12], [[0.0] * 12, [0.0] * 12]),
    "two slopes for each unit": piecewise(
        [0.25], [UNITS.tolist(), (2 * UNITS).tolist()], [(0.25 * UNITS).tolist(), [0.0] * 12]
    ),
    "dense over the last axis": Dense(torch.arange(8.0).reshape(2, 4).double(), torch.ones(2).double()),
    **{name: Smooth(name) for name in (*RULES, *EXPONENTIAL)},
    "cube": Smooth("power", (3.0, -math.inf)),
    "root": Smooth("power", (0.5, 0.01)),
    "log": Smooth("log", (0.01,)),
    "norm": Normalise(0.01),
    "plain norm": Normalise(0.01, centred=False),
    "softmax": Softmax(),
    "masked softmax": Softmax(torch.tensor([True, False, True, True])),
}


@pytest.mark.parametrize("name", list(LAYERS))
def test_layers_that_the_networks_lack(name):
    graph = around(LAYERS[name])
    check(graph, drawn(graph))


@pytest.mark.parametrize("layer", [Multiply(), MatrixProduct()])
def test_products_of_two_values(layer):
    builder = GraphBuilder((1, 3, 3))
    turned = builder.add(Permute((0, 2, 1)), 0, name="turned")
    product = builder.add(layer, 0, turned, name="product")
    graph = builder.build(builder.add(Reshape((9,)), product, name="logits"))
    check(graph, drawn(graph))


def test_a_crop_is_a_negative_pad():
    graph = around(Pad(((0, 0), (-1, 0), (0, -1))))
    x = drawn(graph)
    assert np.array_equal(in_runtime(onnx_of(graph, Writer()), x), graph.forward(torch.from_numpy(x)).numpy())


def test_branches_side_by_side():
    builder = GraphBuilder((1, 2, 2))
    turned = builder.add(Permute((0, 2, 1)), 0, name="turned")
    both = builder.add(Concat(0), 0, turned, name="both")
    graph = builder.build(builder.add(Reshape((8,)), both, name="logits"))
    check(graph, drawn(graph))


def test_a_network_of_pixels_alone_is_written_too():
    check(Graph(GraphBuilder((4,)).nodes), np.random.default_rng(0).uniform(0, 1, (5, 4)))


def test_padding_of_windows_repeats_what_came_before():
    layer = pieces.MaxPool(torch.tensor([[-1, 3, -1, 1], [2, -1, -1, 0]]), (4,), (2,))
    assert filled_windows(layer).tolist() == [[3, 3, 3, 1], [2, 2, 2, 0]]


def pooled(module: nn.Module, shape=(2, 7, 9)) -> pieces.MaxPool:
    """The layer as it is read from a network that begins with it."""
    network = nn.Sequential(module, nn.Flatten(), nn.LazyLinear(2)).double()
    network(torch.zeros(1, *shape, dtype=torch.float64))
    nodes = load_network(network, input_shape=shape).graph.nodes
    return next(node.layer for node in nodes if isinstance(node.layer, pieces.MaxPool))


@pytest.mark.parametrize(
    ("module", "kernel", "strides"),
    [
        (nn.MaxPool2d(2), [2, 2], [2, 2]),
        (nn.MaxPool2d((3, 2), stride=(1, 3)), [3, 2], [1, 3]),
        (nn.MaxPool2d((7, 9)), [7, 9], [1, 1]),
    ],
)
def test_regular_windows_are_known(module, kernel, strides):
    assert regular_windows(pooled(module)) == {"kernel_shape": kernel, "strides": strides}


@pytest.mark.parametrize("module", [nn.MaxPool2d(3, padding=1), nn.MaxPool2d(2, dilation=2)])
def test_other_windows_are_gathered(module):
    assert regular_windows(pooled(module)) is None


def test_a_model_that_no_file_holds_is_refused(monkeypatch):
    monkeypatch.setattr(onnx_writer, "_MOST_BYTES", 1000)
    with pytest.raises(SettingError, match="at most 1000"):
        onnx_of(graph_of("wide"), Writer())


def test_values_keep_their_names():
    graph = graph_of("max pool")
    model = onnx_of(graph, Writer())
    made = {name for node in model.graph.node for name in node.output}
    assert set(value_names(graph)[1:]) <= made
