from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from graphs import rand, relu, residual_graph
from steadygaze.errors import ModelError
from steadygaze.network.building import GraphBuilder
from steadygaze.network.convolutions import Convolution, convolutions
from steadygaze.network.graph import Graph
from steadygaze.network.layers import Add, Conv, Dense, Reshape, ScaleShift
from steadygaze.network.pieces import MaxPool
from steadygaze.network.simplify import simplified
from steadygaze.network.smooth import RULES, Smooth


@pytest.mark.parametrize("seed", [0, 100, 200])
def test_gradients_equal_autograd_through_the_forward_pass(seed):
    graph = residual_graph(seed)
    x = rand(9, 2, 8, 8, seed=seed + 50).requires_grad_()
    for label in range(graph.classes):
        (expected,) = torch.autograd.grad(graph.forward(x)[:, label].sum(), x)
        assert torch.allclose(graph.gradient_at(x.detach(), label), expected, atol=1e-13)


@pytest.mark.parametrize("name", ["first", "act", "pool", "inner act", "joined", "flat", "hidden"])
def test_gradients_at_any_node_are_those_of_the_rest_of_the_network(name):
    graph = residual_graph()
    node = next(i for i, n in enumerate(graph.nodes) if n.name == name)
    x = rand(5, 2, 8, 8)
    value = graph.values_at(x, (node,))[node].requires_grad_()
    values = graph.values_at(x, range(node)) | {node: value}
    for index in range(node + 1, len(graph.nodes)):
        values[index] = graph.nodes[index].layer.forward(*(values[i] for i in graph.nodes[index].inputs))
    seed = rand(5, 5, seed=7)
    (expected,) = torch.autograd.grad((values[graph.last] * seed).sum(), value)
    assert torch.allclose(graph.pull_back(seed, graph.pieces_at(x), to=node), expected, atol=1e-13)


def test_in_its_region_the_network_is_affine_with_the_pulled_back_gradient():
    graph = residual_graph()
    x = rand(1, 2, 8, 8)
    pieces = graph.pieces_at(x)
    step = 1e-6 * rand(1, 2, 8, 8, seed=3)
    assert all(torch.equal(p, graph.pieces_at(x + step)[i]) for i, p in pieces.items())
    change = (graph.forward(x + step) - graph.forward(x))[0]
    for label in range(5):
        predicted = (graph.pull_back(graph.seed(label, 1), pieces) * step).sum()
        assert abs(change[label] - predicted) < 1e-13


def test_rows_do_not_depend_on_the_blocks_they_are_computed_in():
    graph = residual_graph()
    x = rand(5000, 2, 8, 8)
    logits, pieces = graph.logits_and_pieces(x)
    gradients = graph.gradient_at(x, 1)
    alone = graph.logits_and_pieces(x[4321:4322])
    assert torch.allclose(logits[4321:4322], alone[0], atol=1e-13)
    assert all(torch.equal(pieces[i][4321:4322], alone[1][i]) for i in graph.piecewise)
    assert torch.allclose(gradients[4321:4322], graph.gradient_at(x[4321:4322], 1), atol=1e-13)


def test_units_that_are_idle_on_all_rows_may_be_left_out():
    b = GraphBuilder((1, 1, 6))
    flat = b.add(Reshape((6,)), 0, name="flat")
    # The first 40 of 64 units are 0 everywhere, and some of the next layer's are.
    bias = torch.cat([torch.full((40,), -1e3), torch.zeros(24)]).double()
    first = b.add(relu(), b.add(Dense(rand(64, 6, seed=1), bias), flat, name="first"), name="act")
    second = b.add(Dense(rand(48, 64, seed=2), torch.linspace(-40, 1, 48).double()), first, name="second")
    graph = b.build(b.add(Dense(rand(3, 48, seed=3), rand(3)), b.add(relu(), second, name="on"), name="out"))
    x, every = rand(7, 1, 1, 6, seed=4), range(len(graph.nodes))
    values, skipped = graph.values_at(x, every), graph.values_at(x, every, skip_idle=True)
    assert not (values[first] != 0).any(dim=0)[:40].any()
    assert all(torch.allclose(values[node], skipped[node], rtol=1e-13, atol=1e-13) for node in every)
    seed, pieces = graph.seed(1, len(x)), graph.pieces_at(x)
    back = graph.pull_back(seed, pieces, skip_idle=True)
    assert torch.allclose(graph.pull_back(seed, pieces), back, rtol=1e-13, atol=1e-13)


def test_batches_of_none_have_the_right_shapes():
    graph = residual_graph()
    x = rand(0, 2, 8, 8)
    assert graph.forward(x).shape == (0, 5)
    assert graph.gradient_at(x, 0).shape == (0, 2, 8, 8)


def test_what_the_graph_says_about_itself():
    graph = residual_graph()
    names = [node.name for node in graph.nodes]
    assert [names[i] for i in graph.piecewise] == ["act", "pool", "inner act", "hidden act"]
    assert (graph.units, graph.windows) == (4 * 64 + 4 * 16 + 20, 64)
    assert graph.parameters == (4 * 2 * 9 + 4) + (4 * 4 * 9 + 4) + (128 * 20 + 20) + (20 * 5 + 5)
    assert names[convolutions(graph)[0].node] == "inner act"
    assert graph.input_shape == (2, 8, 8)
    assert graph.classes == 5
    assert graph.to("cpu").forward(rand(2, 2, 8, 8)).equal(graph.forward(rand(2, 2, 8, 8)))


def smooth_graph(function) -> Graph:
    """Smooth units after a convolution, around a residual block, before the logits; ReLU and max-pool too."""
    b = GraphBuilder((2, 6, 6))
    first = b.add(Conv(4 * rand(3, 2, 3, 3), rand(3)), 0, name="first")
    act = b.add(Smooth(function), first, name="act")
    inner = b.add(relu(), b.add(Conv(rand(3, 3, 1, 1), rand(3)), act, name="inner"), name="inner act")
    total = b.add(Add(), inner, act, name="total")
    place = torch.arange(3 * 16).reshape(3, 2, 2, 2, 2).permute(0, 1, 3, 2, 4).reshape(-1, 4)
    pool = b.add(MaxPool(place, (3, 4, 4), (3, 2, 2)), total, name="pool")
    flat = b.add(Reshape((12,)), pool, name="flat")
    hidden = b.add(Smooth(function), b.add(Dense(rand(7, 12), rand(7)), flat, name="hidden"), name="bent")
    return b.build(b.add(Dense(rand(4, 7), rand(4)), hidden, name="logits"))


@pytest.mark.parametrize("function", RULES)
def test_gradients_of_smooth_networks_equal_autograd_through_the_forward_pass(function):
    graph = smooth_graph(function)
    x = rand(8000, 2, 6, 6, seed=5).requires_grad_()  # more than one block
    for label in (0, 3):
        (expected,) = torch.autograd.grad(graph.forward(x)[:, label].sum(), x)
        assert torch.allclose(graph.gradient_at(x.detach(), label), expected, atol=1e-12)


def test_what_a_smooth_graph_says_about_itself():
    graph = smooth_graph("gelu")
    names = [node.name for node in graph.nodes]
    assert [names[i] for i in graph.smooth] == ["act", "bent"]
    assert [names[i] for i in graph.piecewise] == ["inner act", "pool"]
    assert not graph.piecewise_linear
    assert residual_graph().piecewise_linear
    assert graph.units == 48 + 48 + 7
    x = rand(5, 2, 6, 6)
    pieces = graph.pieces_at(x)
    (act, _), (inner, pool) = graph.smooth, graph.piecewise
    value = graph.values_at(x, (graph.nodes[act].inputs[0],)).popitem()[1].requires_grad_()
    (slope,) = torch.autograd.grad(torch.nn.functional.gelu(value).sum(), value)
    assert pieces[act].dtype == torch.float64
    assert torch.allclose(pieces[act], slope.flatten(1), atol=1e-14)
    assert pieces[inner].dtype == pieces[pool].dtype == torch.uint8


def test_growth_is_that_of_weights_and_slopes_from_the_worst_start():
    b, source = GraphBuilder((4,)), 0
    for index, size in enumerate((3.0, 16.0, 16.0)):
        weight = torch.full((4, 4), size / 4, dtype=torch.float64)
        source = b.add(Dense(weight, rand(4)), source, name=f"dense {index}")
        source = b.add(Smooth("sigmoid"), source, name=f"act {index}") if index < 2 else source
    # A quarter for each sigmoid: 16 alone, then by 16 / 4, then by 3 / 4.
    assert b.build(source).growth == 64.0


@pytest.mark.parametrize("graph", [residual_graph(), *map(smooth_graph, RULES)])
def test_no_gradient_is_larger_than_the_growth(graph):
    x = 3 * rand(20, *graph.input_shape, seed=5)
    assert max(graph.gradient_at(x, label).abs().max() for label in range(4)) <= graph.growth < math.inf


def test_grad_cam_looks_after_a_smooth_activation():
    b = GraphBuilder((1, 4, 4))
    conv = b.add(Conv(rand(1, 1, 3, 3), rand(1)), 0, name="conv")
    act = b.add(Smooth("silu"), conv, name="act")
    flat = b.add(Reshape((4,)), act, name="flat")
    graph = b.build(b.add(Dense(rand(2, 4), rand(2)), flat, name="logits"))
    assert convolutions(graph)[0] == Convolution("conv", act)


def test_grad_cam_looks_before_an_addition():
    b = GraphBuilder((1, 4, 4))
    conv = b.add(Conv(rand(1, 1, 3, 3), rand(1), padding=(1, 1)), 0, name="conv")
    total = b.add(Add(), conv, 0, name="total")
    act = b.add(relu(), total, name="act")
    flat = b.add(Reshape((16,)), act, name="flat")
    graph = b.build(b.add(Dense(rand(2, 16), rand(2)), flat, name="logits"))
    assert convolutions(graph)[0] == Convolution("conv", conv)


def test_nodes_without_influence_are_dropped():
    b = GraphBuilder((1, 2, 2))
    b.add(relu(), 0, name="idle")
    flat = b.add(Reshape((4,)), 0, name="flat")
    graph = b.build(b.add(Dense(rand(2, 4), rand(2)), flat, name="logits"))
    assert [node.name for node in graph.nodes] == ["pixels", "flat", "logits"]


@pytest.mark.parametrize("shape", [(2**14, 2**14, 8), (3, 0, 4)])
def test_sizes_are_refused_before_memory_is_taken(shape):
    b = GraphBuilder((1, 2, 2))
    with pytest.raises(ModelError, match="allowed are sizes of at least 1"):
        b.add(Reshape(shape), 0, name="huge")


def simplified_pair(build):
    b = GraphBuilder((2, 6, 6))
    graph = b.build(build(b))
    return graph, simplified(graph)


def assert_same_function(graph, smaller):
    x = rand(7, *graph.input_shape, seed=9)
    assert torch.allclose(graph.forward(x), smaller.forward(x), atol=1e-12)
    assert torch.allclose(graph.gradient_at(x, 1), smaller.gradient_at(x, 1), atol=1e-12)


def head(b, source):
    size = torch.Size(b.shape(source)).numel()
    flat = b.add(Reshape((size,)), source, name="flat")
    return b.add(Dense(rand(3, size, seed=4), rand(3, seed=5)), flat, name="logits")


@pytest.mark.parametrize("shift", [0.0, 0.4])
@pytest.mark.parametrize("padding", [(0, 0), (1, 1)])
def test_normalisation_folds_into_a_convolution_unless_padding_forbids(shift, padding):
    def build(b):
        scaled = b.add(ScaleShift(rand(2, 1, 1) + 1, rand(2, 1, 1) * shift), 0, name="norm")
        conv = b.add(Conv(rand(4, 2, 3, 3), rand(4), padding=padding), scaled, name="conv")
        return head(b, b.add(relu(), conv, name="act"))

    graph, smaller = simplified_pair(build)
    assert_same_function(graph, smaller)
    folds = shift == 0 or padding == (0, 0)
    assert any(isinstance(node.layer, ScaleShift) for node in smaller.nodes) is not folds


@pytest.mark.parametrize("groups", [1, 2])
def test_scales_fold_on_both_sides_of_a_grouped_convolution(groups):
    def build(b):
        scaled = b.add(ScaleShift(rand(2, 1, 1), rand(2, 1, 1)), 0, name="norm")
        conv = b.add(Conv(rand(4, 2 // groups, 3, 3), rand(4), groups=groups), scaled, name="conv")
        normed = b.add(ScaleShift(rand(4, 1, 1), rand(1)), conv, name="bn")
        return head(b, b.add(relu(), normed, name="act"))

    graph, smaller = simplified_pair(build)
    assert_same_function(graph, smaller)
    assert [type(n.layer).__name__ for n in smaller.nodes] == [
        "Input",
        "Conv",
        "PiecewiseLinear",
        "Reshape",
        "Dense",
    ]


@pytest.mark.parametrize("bias", [0.0, 1.0])
@pytest.mark.parametrize("padding", [(0, 0), (1, 1)])
def test_a_pointwise_convolution_folds_into_the_next(bias, padding):
    def build(b):
        point = b.add(Conv(rand(3, 2, 1, 1), rand(3) * bias), 0, name="point")
        return head(b, b.add(Conv(rand(4, 3, 3, 3), rand(4), padding=padding), point, name="conv"))

    graph, smaller = simplified_pair(build)
    assert_same_function(graph, smaller)
    convolutions = sum(isinstance(node.layer, Conv) for node in smaller.nodes)
    assert convolutions == (1 if bias == 0 or padding == (0, 0) else 2)


def test_dense_chains_with_scales_become_one_layer():
    def build(b):
        flat = b.add(Reshape((72,)), 0, name="flat")
        scaled = b.add(ScaleShift(rand(72), rand(1)), flat, name="scale")
        wide = b.add(Dense(rand(80, 72), rand(80)), scaled, name="wide")
        again = b.add(ScaleShift(rand(80), rand(80)), wide, name="again")
        return b.add(Dense(rand(3, 80), rand(3)), again, name="logits")

    graph, smaller = simplified_pair(build)
    assert_same_function(graph, smaller)
    assert [node.name for node in smaller.nodes][0::2] == ["pixels", smaller.nodes[-1].name]
    assert len(smaller.nodes) == 3


def test_a_narrow_middle_is_kept():
    def build(b):
        flat = b.add(Reshape((72,)), 0, name="flat")
        narrow = b.add(Dense(rand(2, 72), rand(2)), flat, name="narrow")
        return b.add(Dense(rand(50, 2), rand(50)), narrow, name="logits")

    graph, smaller = simplified_pair(build)
    assert_same_function(graph, smaller)
    assert smaller.parameters == graph.parameters


def test_a_layer_that_others_read_is_not_folded_away():
    def build(b):
        scaled = b.add(ScaleShift(rand(2, 1, 1), rand(2, 1, 1)), 0, name="norm")
        conv = b.add(Conv(rand(2, 2, 1, 1), rand(2)), scaled, name="conv")
        return head(b, b.add(Add(), conv, scaled, name="total"))

    graph, smaller = simplified_pair(build)
    assert_same_function(graph, smaller)
    assert sum(isinstance(node.layer, ScaleShift) for node in smaller.nodes) == 1


def test_shape_changes_vanish_but_the_function_stays():
    from steadygaze.network.layers import Permute

    def build(b):
        there = b.add(Permute((1, 2, 0)), 0, name="there")
        back = b.add(Permute((2, 0, 1)), there, name="back")
        conv = b.add(Conv(rand(3, 2, 3, 3), rand(3)), back, name="conv")
        last = b.add(Permute((1, 2, 0)), conv, name="last")
        deep = b.add(Reshape((8, 6)), last, name="deep")
        return head(b, deep)

    graph, smaller = simplified_pair(build)
    assert_same_function(graph, smaller)
    assert [type(n.layer).__name__ for n in smaller.nodes] == ["Input", "Conv", "Reshape", "Dense"]


def test_simplifying_leaves_random_residual_networks_as_they_are():
    graph = residual_graph(300)
    assert_same_function(graph, simplified(graph))
    assert dataclasses.asdict(graph.nodes[1]).keys() == {"layer", "inputs", "shape", "name"}
