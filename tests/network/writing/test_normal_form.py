"""The normal form against the graph: values in other runtimes, derivatives in the checker's arithmetic."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import variants
from network.writing.test_onnx_writer import (
    LAYERS,
    NOT_IN_DOUBLE,
    around,
    by_reference,
    drawn,
    graph_of,
    in_runtime,
    piecewise,
)
from steadygaze.network.building import GraphBuilder
from steadygaze.network.graph import Graph
from steadygaze.network.joint import AbstractJoint
from steadygaze.network.layers import AveragePool, Concat, Permute, Reshape, ScaleShift
from steadygaze.network.pieces import MaxPool
from steadygaze.network.reading.load import load_network
from steadygaze.network.smooth import Smooth
from steadygaze.network.writing.normal_form import normal_form
from steadygaze.network.writing.onnx_writer import value_names
from steadygaze_check.network import Network
from steadygaze_check.points import exact_point
from steadygaze_check.values import gradients

OPERATORS = {"Gemm", "Conv", "Add", "Mul", "Relu", "ReduceMax", "Gather", "Pad", "Reshape"}
TIED = [
    "leaky",
    "relu6",
    "no bias",
    "max pool",
    "pool first",
    "average pool",
    "residual",
    "pooled pixels",
    "side by side",
]
EXACT = [name for name in variants.NETWORKS if name not in variants.SMOOTH]


def check(graph: Graph, x: np.ndarray, exact: bool = True) -> onnx.ModelProto:
    """The normal form gives what the graph gives, its derivatives included."""
    model = normal_form(graph)
    operators = {node.op_type for node in model.graph.node}
    wanted = graph.forward(torch.from_numpy(x)).numpy()
    slack = 1e-6 if "Erf" in operators else 1e-12
    assert np.abs(by_reference(model, x) - wanted).max() <= slack
    if not operators & NOT_IN_DOUBLE:
        assert np.abs(in_runtime(model, x) - wanted).max() <= 1e-12
    if exact:
        assert operators <= OPERATORS
        check_derivatives(graph, model, x, wanted)
    return model


def check_derivatives(graph: Graph, model: onnx.ModelProto, x: np.ndarray, wanted: np.ndarray) -> None:
    network = Network(model.SerializeToString(), graph.input_shape, graph.classes, None)
    for image, logits in zip(x, wanted, strict=True):
        asked = SimpleNamespace(piece_base=image[None], piece_directions=np.zeros((1, 0, *image.shape)))
        found, pattern = exact_point(network, asked, 0, np.zeros(0))
        assert np.abs(np.array([float(each) for each in found]) - logits).max() <= 1e-12
        for label in range(min(3, graph.classes)):
            gradient, error = gradients(network, label, pattern, 1)
            own = graph.gradient_at(torch.from_numpy(image[None]), label).numpy()
            assert np.linalg.norm(gradient - own.reshape(1, -1)) <= error[0] + 1e-12
            assert error[0] <= 1e-9


@pytest.mark.parametrize("name", list(variants.NETWORKS))
def test_every_network_keeps_its_values_and_derivatives(name):
    graph = graph_of(name)
    check(graph, drawn(graph, 3), exact=name in EXACT)


def rounded(module: nn.Module) -> nn.Module:
    """With weights of few bits, so that sums are exact in any order and ties are ties in every runtime."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_((parameter * 8).round() / 8)
    return module


@pytest.mark.parametrize("name", TIED)
def test_ties_and_breakpoints_have_the_derivative_of_the_graph(name):
    torch.manual_seed(1)
    shape = (3 if name.startswith("colour") else 1, 6, 6)
    module = variants.NETWORKS[name]().double().eval()
    module(torch.zeros(1, *shape, dtype=torch.float64))
    graph = load_network(rounded(module), input_shape=shape).graph
    draw = np.random.default_rng(0)
    blank = np.round(variants.picture(shape[0]) * 4) / 4
    x = np.stack(
        [np.zeros(shape), blank, draw.integers(-1, 2, shape) / 1.0, draw.integers(0, 2, shape) / 2.0]
    )
    check(graph, x)


@pytest.mark.parametrize("name", list(LAYERS))
def test_layers_that_the_networks_lack(name):
    """Smooth layers, and pieces that do not meet exactly, keep the operators that compute them."""
    graph = around(LAYERS[name])
    refused = ("several pieces", "two slopes for each unit")
    smooth = isinstance(LAYERS[name], Smooth | AbstractJoint)
    check(graph, drawn(graph), exact=not smooth and name not in refused)


def matrix(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(2).normal(size=shape))


FURTHER = {
    "pieces that meet": piecewise([-0.5, 0.75], [[0.5], [1.0], [0.25]], [[-0.25], [0.0], [0.5625]]),
    "a constant": piecewise([0.5], [[0.0], [0.0]], [[2.0], [2.0]]),
    "scaled by channels": ScaleShift(matrix(1, 1, 1), matrix(3, 1)),
    "scaled by one number": ScaleShift(torch.tensor(2.0).double(), torch.zeros(1, 1, 3, 4).double()),
    "averaged": AveragePool(matrix(2, 3), matrix(3, 4)),
    "windows that overlap, with padding": MaxPool(
        torch.tensor([[-1, 3, -1, 1], [1, -1, 3, 0], [3, 3, 1, 2]]), (1, 3, 4), (1, 1, 3)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(FURTHER))
def test_layers_of_every_form(name):
    graph = around(FURTHER[name])
    check(graph, np.concatenate([drawn(graph), np.zeros((1, 1, 3, 4)), np.full((1, 1, 3, 4), 0.5)]))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_branches_side_by_side(axis):
    builder = GraphBuilder((2, 2, 2))
    turned = builder.add(Permute((2, 1, 0)), 0, name="turned")
    both = builder.add(Concat(axis), 0, turned, 0, name="both")
    graph = builder.build(builder.add(Reshape((24,)), both, name="logits"))
    check(graph, drawn(graph))


def test_a_network_of_pixels_alone_is_written_too():
    graph = Graph(GraphBuilder((4,)).nodes)
    assert by_reference(normal_form(graph), np.ones((1, 4))).tolist() == [[1.0] * 4]


def test_rectified_windows_are_the_largest_of_0_and_the_window():
    """So that the order of numbers below 0 need not be known; a pooling that is asked for stays."""
    graph = graph_of("max pool")
    pool = next(k for k, node in enumerate(graph.nodes) if isinstance(node.layer, MaxPool))
    plain, kept = normal_form(graph), normal_form(graph, keep={pool, *graph.nodes[pool].inputs})
    assert "Relu" not in {node.op_type for node in plain.graph.node}
    assert "Relu" in {node.op_type for node in kept.graph.node}
    assert value_names(graph)[pool] in {name for node in kept.graph.node for name in node.output}


def test_constants_are_the_graphs_own_to_the_last_bit():
    graph = graph_of("colour conv")
    written = {onnx.numpy_helper.to_array(c).tobytes() for c in normal_form(graph).graph.initializer}
    own = [v for node in graph.nodes for v in vars(node.layer).values() if isinstance(v, torch.Tensor)]
    weights = [v.numpy().tobytes() for v in own if v.ndim > 1 and v.shape[-1] > 1 and v.is_floating_point()]
    assert set(weights) <= written
