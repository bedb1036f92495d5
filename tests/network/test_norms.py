"""Upper bounds of how much longer an affine layer makes a vector, against singular values of its matrix."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from steadygaze.deadline import Deadline, Expired
from steadygaze.enclosing.forms import Forms
from steadygaze.network import norms
from steadygaze.network.bounding.bounds import bounds_of
from steadygaze.network.layers import Add, AveragePool, Concat, Conv, Dense, Pad, Permute, Reshape, ScaleShift
from steadygaze.network.norms import norm_of
from steadygaze.network.reading.load import load_network
from steadygaze.network.taking import Take
from steadygaze.network.transposed import TransposedConv


def drawn(*shape):
    torch.manual_seed(sum(shape))
    return torch.randn(*shape, dtype=torch.float64)


# A layer, the shapes of its inputs, and by what factor its bound may be too large.
LAYERS = {
    "dense": (Dense(drawn(7, 11), drawn(7)), [(11,)], 1.03),
    "dense over tokens": (Dense(drawn(9, 5), drawn(9)), [(4, 5)], 1.03),
    "dense of one": (Dense(drawn(1, 6), drawn(1)), [(6,)], 1.001),
    "nothing": (Dense(torch.zeros(3, 4, dtype=torch.float64), drawn(3)), [(4,)], 1.0),
    "convolution": (Conv(drawn(6, 3, 3, 3), drawn(6), padding=(1, 1)), [(3, 7, 8)], 1.1),
    "convolution of one": (Conv(drawn(6, 3, 1, 1), drawn(6)), [(3, 5, 5)], 1.03),
    "with steps": (Conv(drawn(6, 4, 3, 3), drawn(6), (2, 2), (1, 1)), [(4, 9, 8)], 1.6),
    "in groups": (Conv(drawn(6, 2, 3, 2), drawn(6), (1, 1), (1, 0), (2, 1), 2), [(4, 9, 8)], 1.1),
    "one by one": (Conv(drawn(6, 1, 3, 3), drawn(6), (1, 1), (1, 1), (1, 1), 6), [(6, 9, 8)], 1.1),
    "larger than its map": (Conv(drawn(3, 2, 5, 5), drawn(3), padding=(2, 2)), [(2, 2, 3)], 3.0),
    "transposed": (
        TransposedConv(drawn(4, 3, 3, 3), drawn(6), (2, 2), (1, 1), (1, 1), groups=2),
        [(4, 5, 5)],
        1.6,
    ),
    "scaled": (ScaleShift(drawn(3, 1, 1), drawn(3, 1, 1)), [(3, 4, 4)], 1.0),
    "averages": (AveragePool(drawn(2, 8).abs(), drawn(3, 6).abs()), [(3, 8, 6)], 1.03),
    "sum": (Add(), [(3, 4), (3, 4)], 1.001),
    "side by side": (Concat(0), [(3, 4), (2, 4)], 1.0),
    "taken": (Take(torch.tensor([0, 1, 1, 2, 1]), 0), [(3, 4)], 1.001),
    "padded": (Pad(((1, 0), (0, 2))), [(2, 3, 3)], 1.0),
    "moved": (Permute((1, 0)), [(3, 4)], 1.0),
    "reshaped": (Reshape((12,)), [(3, 4)], 1.0),
}


def true_norm(layer, shapes):
    columns = []
    for place, shape in enumerate(shapes):
        units = torch.eye(math.prod(shape), dtype=torch.float64).reshape(-1, *shape)
        inputs = [torch.zeros(len(units), *other, dtype=torch.float64) for other in shapes]
        inputs[place] = units
        columns.append(layer.linear(*inputs).flatten(1))
    return float(torch.linalg.matrix_norm(torch.cat(columns), 2))


@pytest.mark.parametrize("name", LAYERS)
def test_no_less_than_the_largest_singular_value_and_little_more(name):
    layer, shapes, looseness = LAYERS[name]
    true, found = true_norm(layer, shapes), norm_of(layer, tuple(shapes))
    assert true * (1 - 1e-12) <= found <= true * looseness + 1e-12


@pytest.mark.parametrize("power", [-600, 500])
@pytest.mark.parametrize("limit", [2**33, 0])
@pytest.mark.parametrize(
    "name", [name for name, (layer, *_) in LAYERS.items() if hasattr(layer, "weight") and name != "nothing"]
)
def test_bounds_scale_as_weights_do(monkeypatch, name, limit, power):
    """Those of which squares are 0 or none at all in float64, too."""
    monkeypatch.setattr(norms, "_TOO_MUCH", limit)
    layer, shapes, _ = LAYERS[name]
    scaled = replace(layer, weight=layer.weight * 2.0**power)
    found, own = norm_of(scaled, tuple(shapes)), norm_of(layer, tuple(shapes))
    assert own * (1 - 1e-12) <= found * 2.0**-power <= own * (1 + 1e-12) + 1e-12


@pytest.mark.parametrize("limits", [(0, 2**40), (0, 0)], ids=["in float32", "by windows alone"])
@pytest.mark.parametrize("name", [name for name, (layer, *_) in LAYERS.items() if isinstance(layer, Conv)])
def test_large_convolutions(monkeypatch, name, limits):
    monkeypatch.setattr(norms, "_MUCH", limits[0])
    monkeypatch.setattr(norms, "_TOO_MUCH", limits[1])
    monkeypatch.setattr(norms, "_FREQUENCIES", ())
    layer, shapes, looseness = LAYERS[name]
    true, found = true_norm(layer, shapes), norm_of(layer, tuple(shapes))
    assert true <= found <= true * looseness * (4 if limits[1] == 0 else 1.01)


@pytest.mark.parametrize("each", [16, 8, 3])
@pytest.mark.parametrize(
    ("kernel", "dilation", "extents"),
    [
        ((3, 3), (1, 1), (40, 50)),
        ((4, 1), (1, 1), (60, 6)),
        ((3, 2), (2, 3), (70, 40)),
        ((1, 7), (1, 1), (2, 99)),
    ],
)
def test_a_few_frequencies_tell_what_lies_between_them(monkeypatch, each, kernel, dilation, extents):
    layer = Conv(drawn(3, 2, *kernel), drawn(3), dilation=dilation)
    exact = norm_of(layer, ((2, *extents),))
    monkeypatch.setattr(norms, "_MUCH", 0)
    monkeypatch.setattr(norms, "_TOO_MUCH", 2**40)
    monkeypatch.setattr(norms, "_FREQUENCIES", (each,))
    loosest = math.cos(math.pi / each) ** -2
    # What the torus has is at most the largest at any frequency.
    assert exact / 1.08 <= norm_of(layer, ((2, *extents),)) <= exact * loosest * 1.02


def test_large_kernels_are_bounded_with_little_work(monkeypatch):
    sizes = []
    spectral = norms.spectral_norm
    monkeypatch.setattr(
        norms, "spectral_norm", lambda *a, **k: sizes.append(a[0].numel()) or spectral(*a, **k)
    )
    layer = Conv(drawn(64, 64, 3, 3), drawn(64), padding=(1, 1))
    norm_of(layer, ((64, 32, 32),))
    assert sizes[0] <= 16 * 9 * 64**2, "all frequencies of the torus were looked at"


@pytest.mark.parametrize("name", ["dense", "dense over tokens", "nothing"])
def test_large_matrices(monkeypatch, name):
    monkeypatch.setattr(norms, "_TOO_MUCH", 0)
    layer, shapes, looseness = LAYERS[name]
    true, found = true_norm(layer, shapes), norm_of(layer, tuple(shapes))
    assert true <= found <= true * looseness * 2


def test_a_layer_that_is_not_known_by_its_sums():
    layer, shapes, _ = LAYERS["dense"]
    assert norm_of(layer, tuple(shapes)) <= norms.norm_by_sums(layer, tuple(shapes))


def test_a_norm_is_worked_out_when_its_node_is_reached(monkeypatch):
    """Not those of all nodes at once: of a large network that takes seconds, and no deadline is asked."""
    asked, made = iter(range(100)), []
    own = norms.norm_of
    monkeypatch.setattr("steadygaze.network.graph.norm_of", lambda *given: (made.append(1), own(*given))[1])
    monkeypatch.setattr("steadygaze.network.graph.GROWTH", 0.0)
    torch.manual_seed(1)
    net = torch.nn.Sequential(*[part for _ in range(6) for part in (torch.nn.Linear(5, 5), torch.nn.ReLU())])
    graph = load_network(net.eval(), input_shape=(1, 1, 5)).graph
    pixels = Forms.exact(torch.zeros(1, 1, 1, 5, dtype=torch.float64), 1)
    deadline = Deadline(ends=4.0, clock=lambda: float(next(asked)))
    with pytest.raises(Expired):
        bounds_of(graph, pixels, {graph.last}, {}, 8, deadline=deadline)
    assert 0 < len(made) <= 5


def large(name):
    """Matrices of which Cholesky factors are sought."""
    first, second = drawn(300, 420), drawn(420, 300)
    spread = torch.diag(2.0 ** -torch.arange(300.0, dtype=torch.float64))
    return {
        "random": first,
        "tall": second,
        "spread": spread @ first,
        "of rank one": torch.full((300, 420), 1 / 3, dtype=torch.float64),
        "many": torch.stack([drawn(300, 310), 0.5 * drawn(300, 310), 0 * drawn(300, 310)]),
        "complex": torch.complex(first, drawn(421, 421)[:300, :420]).expand(2, -1, -1),
        "complex and tall": torch.complex(second, drawn(421, 421)[:420, :300]),
        "even": torch.linalg.qr(drawn(300, 301)[:, :300])[0],
        "nothing": torch.zeros(300, 300, dtype=torch.float64),
    }[name]


LARGE = ("random", "tall", "spread", "of rank one", "many", "complex", "complex and tall", "even")


def bound_and_true(name):
    matrices = large(name)
    found = norms._factored(matrices)
    return found, float(np.linalg.svd(matrices.numpy(), compute_uv=False).max())


@pytest.mark.parametrize("single", [2048, 0])
@pytest.mark.parametrize("name", LARGE)
def test_factored_bounds_are_no_less_than_the_largest_singular_value(monkeypatch, name, single):
    """In float32 and in float64, by NumPy's singular values."""
    monkeypatch.setattr(norms, "_NARROW", single)
    found, true = bound_and_true(name)
    assert true <= found <= 1.13 * true


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("power", [-600, 500])
def test_large_matrices_are_factored_whatever_their_scale(monkeypatch, name, power):
    asked = []
    whole = norms._factored
    monkeypatch.setattr(norms, "_factored", lambda own: asked.append(own) or whole(own))
    found = norms.spectral_norm(large(name) * 2.0**power) * 2.0**-power
    true = bound_and_true(name)[1]
    assert asked
    assert true <= found <= 1.13 * true


def test_where_no_factor_is_found_powers_are_taken(monkeypatch):
    monkeypatch.setattr(norms, "_FIRST", 0.01)
    found, true = bound_and_true("random")
    assert found is None
    assert true <= norms.spectral_norm(large("random")) <= 1.03 * true
    assert norms.spectral_norm(large("nothing")) <= 1e-6


@pytest.mark.parametrize("name", LARGE)
def test_a_factor_that_nobody_checks_is_seen(monkeypatch, name):
    whole = torch.linalg.cholesky_ex
    monkeypatch.setattr(norms, "_FIRST", 0.7)
    monkeypatch.setattr(
        torch.linalg,
        "cholesky_ex",
        lambda own: (whole(own)[0].nan_to_num(), torch.zeros(1, dtype=torch.int32)),
    )
    found, true = bound_and_true(name)
    assert found < true


def test_rounding_of_factors_is_counted(monkeypatch):
    """Where c is hardly above the largest eigenvalue, and the same is rounded off in all sums."""
    monkeypatch.setattr(norms, "_FIRST", 1 - 2.0**-20)
    monkeypatch.setattr(norms, "_NEXT", 1 + 2.0**-21)
    monkeypatch.setattr(norms, "_TRIES", 60)
    found, true = bound_and_true("of rank one")
    assert true <= found
    monkeypatch.setattr(norms, "_UNITS", (0.0, 0.0))
    monkeypatch.setattr(norms, "_UPWARD", 1.0)
    found, true = bound_and_true("of rank one")
    assert found < true
