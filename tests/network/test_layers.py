from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as functional

from steadygaze.errors import ModelError
from steadygaze.network import layers
from steadygaze.network.reading.assembling.assembly import Assembler, PoolGeometry
from steadygaze.network.taking import Take
from steadygaze.network.transposed import TransposedConv


def rand(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.5


AFFINE = {
    "dense": (layers.Dense(rand(5, 7), rand(5, seed=1)), [(7,)]),
    "dense-last-axis": (layers.Dense(rand(5, 7), rand(5, seed=1)), [(3, 7)]),
    "conv": (layers.Conv(rand(4, 3, 3, 2), rand(4), (2, 1), (1, 0)), [(3, 7, 6)]),
    "conv-groups": (layers.Conv(rand(4, 2, 3, 3), rand(4), (1, 1), (2, 2), (2, 1), 2), [(4, 7, 6)]),
    "scale-shift": (layers.ScaleShift(rand(3, 1, 1), rand(1, 4, 1)), [(3, 4, 5)]),
    "average": (layers.AveragePool(rand(2, 4).abs(), rand(3, 5).abs()), [(2, 4, 5)]),
    "transposed": (TransposedConv(rand(3, 4, 3, 2), rand(4), (2, 3), (1, 0), (1, 2)), [(3, 5, 4)]),
    "transposed-groups": (
        TransposedConv(rand(4, 2, 2, 3), rand(4), (1, 2), (2, 1), (2, 1), (3, 2), 2),
        [(4, 5, 6)],
    ),
    "take": (Take(torch.tensor([3, 0, 0, 2, 3, 3]), 1), [(2, 4, 3)]),
    "reshape": (layers.Reshape((6, 2)), [(3, 4)]),
    "permute": (layers.Permute((2, 0, 1)), [(3, 4, 5)]),
    "pad": (layers.Pad(((0, 0), (1, 2), (-1, 3)), 0.7), [(3, 4, 5)]),
    "add": (layers.Add(), [(3, 4), (3, 4)]),
    "concat": (layers.Concat(1), [(3, 2), (3, 4), (3, 1)]),
}


@pytest.fixture(params=AFFINE, ids=list(AFFINE))
def affine(request):
    layer, shapes = AFFINE[request.param]
    return layer, shapes, [rand(6, *shape, seed=10 + i) for i, shape in enumerate(shapes)]


def test_affine_output_has_the_declared_shape(affine):
    layer, shapes, xs = affine
    assert layer.forward(*xs).shape[1:] == layer.output_shape(*shapes)


def test_linear_part_is_what_remains_of_a_difference(affine):
    layer, _, xs = affine
    ys = [x.roll(1, 0) * 1.5 for x in xs]
    difference = layer.forward(*xs) - layer.forward(*ys)
    assert torch.allclose(difference, layer.linear(*(x - y for x, y in zip(xs, ys, strict=True))), atol=1e-13)


def test_transpose_is_the_adjoint_of_the_linear_part(affine):
    layer, shapes, xs = affine
    y = layer.linear(*xs)
    g = rand(*y.shape, seed=3)
    back = layer.transpose(g, tuple(shapes))
    assert [part.shape for part in back] == [x.shape for x in xs]
    inner = sum((x * part).flatten(1).sum(1) for x, part in zip(xs, back, strict=True))
    assert torch.allclose((y * g).flatten(1).sum(1), inner, atol=1e-12)


def test_magnitude_is_the_sum_of_absolute_terms(affine):
    layer, _, xs = affine
    magnitude = layer.magnitude(*xs)
    assert (magnitude >= layer.forward(*xs).abs() - 1e-14).all()
    positive = layer.magnitude(*(x.abs() for x in xs))
    assert torch.equal(magnitude, positive)


def test_no_value_is_a_sum_of_more_products_than_the_layer_says(affine):
    layer, shapes, _ = affine
    if isinstance(layer, layers.AveragePool):
        pytest.skip("it sums up along one axis, and then the sums along the other")
    sizes = [math.prod(shape) for shape in shapes]
    each = torch.eye(sum(sizes), dtype=torch.float64).split(sizes, dim=1)
    read = layer.linear(*(x.reshape(-1, *shape) for x, shape in zip(each, shapes, strict=True))) != 0
    assert read.sum(dim=0).max() <= layer.terms_forward <= layer.terms


def test_few_values_make_many_with_few_products_each():
    assert layers.Dense(rand(40, 3), rand(40)).terms_forward == 3
    conv = layers.Conv(rand(40, 3, 2, 2), rand(40))
    assert (conv.terms_forward, conv.terms) == (12, 160)


def test_magnitude_of_a_dense_layer_adds_without_cancelling():
    layer = layers.Dense(torch.tensor([[1.0, -1.0]]).double(), torch.tensor([-3.0]).double())
    assert layer.magnitude(torch.tensor([[2.0, 2.0]]).double()).item() == 7.0


def test_convolution_in_blocks_equals_convolution_at_once():
    layer = layers.Conv(rand(8, 4, 5, 5), rand(8), (1, 1), (2, 2))
    x = rand(70, 4, 24, 24)
    assert torch.allclose(layer.forward(x), functional.conv2d(x, layer.weight, layer.bias, 1, 2), atol=1e-13)
    assert torch.allclose(layer.linear(x), functional.conv2d(x, layer.weight, None, 1, 2), atol=1e-13)


def test_layers_take_batches_of_none():
    layer = layers.Conv(rand(8, 4, 5, 5), rand(8))
    x = rand(0, 4, 9, 9)
    assert layer.forward(x).shape == (0, 8, 5, 5)
    assert layer.transpose(rand(0, 8, 5, 5), ((4, 9, 9),))[0].shape == (0, 4, 9, 9)


def assembled(shape, operation):
    assembler = Assembler(shape)
    return assembler.build(operation(assembler, assembler.pixels)).nodes[1].layer


@pytest.mark.parametrize("size", [(9, 8), (10, 7), (5, 6)])
@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("ceil", [False, True])
def test_pools_equal_torch(size, kernel, stride, padding, ceil):
    x = rand(4, 3, *size)
    frame = ((padding, padding), (padding, padding))
    geometry = PoolGeometry((kernel, kernel), (stride, stride), frame, ceil=ceil)
    largest = assembled((3, *size), lambda a, v: a.max_pool(v, geometry))
    assert torch.equal(largest.forward(x), functional.max_pool2d(x, kernel, stride, padding, 1, ceil))
    for counted in (False, True):
        mean = assembled((3, *size), lambda a, v, c=counted: a.average_pool(v, geometry, c))
        expected = functional.avg_pool2d(x, kernel, stride, padding, ceil, counted)
        assert torch.allclose(mean.forward(x), expected, atol=1e-14)


@pytest.mark.parametrize("count", [(1, 1), (2, 3), (4, 4), (7, 5)])
def test_adaptive_average_equals_torch(count):
    x = rand(4, 3, 7, 10)
    layer = assembled((3, 7, 10), lambda a, v: a.adaptive_average(v, count))
    assert torch.allclose(layer.forward(x), functional.adaptive_avg_pool2d(x, count), atol=1e-14)


def test_max_pool_sends_gradients_to_the_winners():
    layer = assembled((3, 9, 8), lambda a, v: a.max_pool(v, PoolGeometry((3, 2), (2, 1), ((1, 1), (0, 0)))))
    x = rand(4, 3, 9, 8).requires_grad_()
    y = functional.max_pool2d(x, (3, 2), (2, 1), (1, 0))
    g = rand(*y.shape)
    (expected,) = torch.autograd.grad((y * g).sum(), x)
    pieces = layer.pieces_of(x.detach())
    assert pieces.dtype == torch.uint8
    assert torch.allclose(layer.transpose(g, pieces), expected, atol=1e-14)
    assert torch.equal(x.detach().flatten(1).gather(1, layer.winners(pieces)), y.detach().flatten(1))


def test_max_pool_gives_ties_to_the_first():
    layer = assembled((1, 4, 4), lambda a, v: a.max_pool(v, PoolGeometry((2, 2), (2, 2))))
    assert layer.pieces_of(torch.ones(1, 1, 4, 4).double()).tolist() == [[0, 0, 0, 0]]


def test_max_pool_windows_of_padding_only_are_refused():
    with pytest.raises(ModelError, match="covers padding only"):
        assembled((1, 4, 4), lambda a, v: a.max_pool(v, PoolGeometry((1, 1), (1, 1), ((1, 0), (0, 0)))))


ACTIVATIONS = {
    "relu": (lambda a, v: a.leaky_relu(v, 0.0), functional.relu),
    "leaky": (lambda a, v: a.leaky_relu(v, 0.1), lambda x: functional.leaky_relu(x, 0.1)),
    "prelu": (
        lambda a, v: a.leaky_relu(v, rand(3, 1, 1).numpy()),
        lambda x: functional.prelu(x, rand(3)),
    ),
    "relu6": (lambda a, v: a.clip(v, 0.0, 0.25), lambda x: x.clamp(0.0, 0.25)),
    "hardtanh": (lambda a, v: a.clip(v, -0.2, 0.3), lambda x: functional.hardtanh(x, -0.2, 0.3)),
    "floor": (lambda a, v: a.clip(v, -0.2, None), lambda x: x.clamp_min(-0.2)),
    "ceiling": (lambda a, v: a.clip(v, None, 0.1), lambda x: x.clamp_max(0.1)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_equal_torch_in_value_slope_and_piece(name):
    rule, reference = ACTIVATIONS[name]
    layer = assembled((3, 4, 5), rule)
    x = rand(6, 3, 4, 5).requires_grad_()
    y = reference(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    x = x.detach()
    pieces = layer.pieces_of(x)
    assert pieces.dtype == torch.uint8
    assert torch.allclose(layer.forward(x), y.detach(), atol=1e-15)
    assert torch.allclose(layer.slopes_of(pieces), slope.flatten(1), atol=1e-15)
    offsets = layer.offsets.expand(-1, pieces.shape[1]).gather(0, pieces.long())
    rebuilt = layer.slopes_of(pieces) * x.flatten(1) + offsets
    assert torch.allclose(rebuilt, y.detach().flatten(1), atol=1e-15)


def test_a_point_on_a_breakpoint_belongs_to_the_piece_below():
    relu = assembled((1, 1, 3), lambda a, v: a.leaky_relu(v, 0.0))
    x = torch.tensor([[[[-0.0, 0.0, 1e-300]]]], dtype=torch.float64)
    assert relu.pieces_of(x).tolist() == [[0, 0, 1]]
    six = assembled((1, 1, 2), lambda a, v: a.clip(v, 0.0, 6.0))
    assert six.pieces_of(torch.tensor([[[[0.0, 6.0]]]]).double()).tolist() == [[0, 1]]
