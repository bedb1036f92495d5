"""The length of all errors together: of layers of several values, of gradients, of maps, in deep networks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from formed import affine_part
from steadygaze.enclosing.angles import cosine_bounds
from steadygaze.enclosing.forms import Forms
from steadygaze.network.bounding.bounds import affine, bounds_of
from steadygaze.network.bounding.forms import derivatives, joint
from steadygaze.network.bounding.forms.joint import relax_joint
from steadygaze.network.bounding.forms.relaxing import relax
from steadygaze.network.graph import Graph
from steadygaze.network.joint import MatrixProduct, Multiply, Normalise, Softmax
from steadygaze.network.layers import Add
from steadygaze.network.reading.load import load_network
from steadygaze.network.smooth import Smooth
from steadygaze.network.taking import Take

COUNT, BOXES = 2, 4
LAYERS = {
    "multiply": (Multiply(), [(3, 4), (3, 4)]),
    "gate": (Multiply(axes=(-2, -1)), [(3, 4, 5), (3, 1, 1)]),
    "matrix product": (MatrixProduct(), [(2, 3, 4), (2, 4, 5)]),
    "softmax": (Softmax(), [(2, 3, 4)]),
    "centred norm": (Normalise(1e-3), [(3, 40)]),
    "plain norm": (Normalise(1e-5, centred=False), [(3, 40)]),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


def long_forms(rng, shape, width, length):
    """Forms of which no error is above a length that is also that of all together."""
    rows = torch.from_numpy(rng.uniform(-1, 1, (BOXES, 1 + COUNT, *shape)))
    rows[:, 1:] *= width
    return Forms(
        rows,
        torch.full((BOXES, *shape), length, dtype=torch.float64),
        COUNT,
        length=torch.full((BOXES,), length, dtype=torch.float64),
    )


def drawn(rng, forms, t, sparse):
    """Numbers that forms allow: errors of their length, in all entries or in one."""
    away = rng.normal(size=tuple(forms.error.shape))
    if sparse:
        flat = np.zeros((BOXES, away[0].size))
        flat[range(BOXES), rng.integers(0, away[0].size, BOXES)] = rng.choice([-1.0, 1.0], BOXES)
        away = flat.reshape(away.shape)
    away /= np.linalg.norm(away.reshape(BOXES, -1), axis=1).reshape(-1, *(1,) * (away.ndim - 1))
    spread = forms.errors.reshape(-1, *(1,) * (away.ndim - 1))
    return affine_part(forms, t, t[:, :0]) + torch.from_numpy(away) * spread * (1 - 2.0**-20)


def excess(forms, values, t):
    """How far values lie beyond the length of the errors, and beyond those of their entries."""
    away = values - affine_part(forms, t, t[:, :0])
    beyond = torch.linalg.vector_norm(away.flatten(1), dim=1) - forms.errors
    return max(float(beyond.max()), float((away.abs() - forms.error).max()))


def of_layer(name, length=1e-3):
    """How far values and gradients of a layer leave what is said of the length of their errors."""
    rng = np.random.default_rng(len(name))
    layer, shapes = LAYERS[name]
    inputs = tuple(long_forms(rng, shape, 1e-6, length) for shape in shapes)
    gradient = long_forms(rng, layer.output_shape(*shapes), 1e-6, length)
    values, slopes, _ = relax_joint(layer, inputs, 0, 0)
    pulled = slopes.pulled(gradient, 0, 0)
    worst = -np.inf
    for number in range(40):
        t = torch.from_numpy(rng.uniform(-1, 1, (BOXES, COUNT)))
        xs = [drawn(rng, x, t, number % 2).requires_grad_() for x in inputs]
        g = drawn(rng, gradient, t, number % 3 == 1)
        y = layer.forward(*xs)
        worst = max(worst, excess(values, y.detach(), t))
        for form, part in zip(pulled, torch.autograd.grad(y, xs, g), strict=True):
            worst = max(worst, excess(form, part, t))
    return worst, values, pulled


@every_layer
def test_errors_are_no_longer_than_said(name):
    assert of_layer(name)[0] <= 0


def of_units(function, length=1e-4):
    """As `of_layer`, for smooth units; and the length of the gradient's errors."""
    rng = np.random.default_rng(4)
    layer, forms = Smooth(function), long_forms(rng, (200,), 1e-6, length)
    gradient = long_forms(rng, (200,), 1e-6, 1e-9)
    relaxed = relax(layer, forms, None, 0, 0)
    pulled = relaxed.slopes.take(torch.arange(BOXES)).pulled(gradient, 0, 0)
    worst = -np.inf
    for number in range(40):
        t = torch.from_numpy(rng.uniform(-1, 1, (BOXES, COUNT)))
        x = drawn(rng, forms, t, number % 2).requires_grad_()
        g = drawn(rng, gradient, t, number % 3 == 1)
        y = layer.forward(x)
        worst = max(worst, excess(relaxed.values, y.detach(), t))
        worst = max(worst, excess(pulled, torch.autograd.grad(y, x, g)[0], t))
    return worst, pulled


@pytest.mark.parametrize("function", ["silu", "gelu", "sigmoid", "tanh"])
def test_smooth_units_are_off_by_no_more_than_said_together(function):
    worst, pulled = of_units(function)
    assert worst <= 0
    # One by one 200 units would be off by some ten times as much.
    assert (pulled.errors < 2e-4).all()


@pytest.mark.parametrize(
    ("name", "values", "gradients"),
    [("centred norm", 2.5, 2.5), ("plain norm", 2.5, 2.5), ("softmax", 0.51, 0.6), ("gate", 6.0, 6.0)],
)
def test_lengths_grow_by_what_the_layer_can_stretch(name, values, gradients):
    """Entry by entry a norm of 40 numbers would stretch errors by some six times as much."""
    length = 1e-9
    _, forms, pulled = of_layer(name, length)
    assert (forms.errors <= values * length).all()
    gradient = pulled[0]
    assert (gradient.errors <= gradients * length * (2 if name == "gate" else 4)).all()


def test_a_sum_is_no_longer_than_its_parts():
    rng = np.random.default_rng(0)
    first, second = long_forms(rng, (5,), 0.1, 1e-3), long_forms(rng, (5,), 0.1, 1e-9)
    total = affine(Add(), first, second, norm=2**0.5)
    assert (total.errors <= 1.0001e-3).all()
    t = torch.zeros((BOXES, COUNT), dtype=torch.float64)
    for sparse in (False, True):
        assert excess(total, drawn(rng, first, t, sparse) + drawn(rng, second, t, sparse), t) <= 0


def test_symbols_taken_for_errors_add_to_their_length():
    rows = torch.zeros((1, 3, 2), dtype=torch.float64)
    rows[0, 1, 0], rows[0, 2, 1] = 3.0, 4.0
    forms = Forms(
        rows, torch.full((1, 2), 1e-3, dtype=torch.float64), 0, length=torch.tensor([1e-3]).double()
    )
    assert 5.0 <= float(forms.without_symbols().errors) <= 5.0021


@pytest.mark.parametrize("sparse", [False, True])
def test_a_product_of_maps_is_no_longer_than_said(sparse):
    rng = np.random.default_rng(1)
    first, second = long_forms(rng, (30,), 1e-6, 1e-3), long_forms(rng, (30,), 1e-3, 1e-4)
    made = first.times(Forms(second.rows, second.error / 10, COUNT))
    for _ in range(20):
        t = torch.from_numpy(rng.uniform(-1, 1, (BOXES, COUNT)))
        other = affine_part(second, t, t[:, :0]) + second.error / 10 * torch.from_numpy(
            rng.choice([-1.0, 1.0], (BOXES, 30))
        )
        assert excess(made, drawn(rng, first, t, sparse) * other, t) <= 0
    assert (made.errors < 2e-3).all()


def test_angles_follow_the_length_of_errors():
    rng = np.random.default_rng(2)
    first, second = long_forms(rng, (50,), 1e-6, 1e-2), Forms.exact(torch.ones(BOXES, 50).double(), COUNT)
    low, high = cosine_bounds(first, second)
    for number in range(40):
        t = torch.from_numpy(rng.uniform(-1, 1, (BOXES, COUNT)))
        own = drawn(rng, first, t, number % 2)
        cosine = torch.nn.functional.cosine_similarity(own, second.centre, dim=1)
        assert ((low <= cosine) & (cosine <= high)).all()
    loose = cosine_bounds(Forms(first.rows, first.error, COUNT), second)
    assert (high - low < (loose[1] - loose[0]) / 4).all()


class Gated(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.move = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.GroupNorm(2, channels)
        self.weigh = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.norm(self.move(x)))
        gate = torch.sigmoid(self.weigh(y.mean(dim=(2, 3))))
        return x + y * gate[:, :, None, None]


def deep(count=8, channels=4):
    torch.manual_seed(7)
    blocks = [Gated(channels) for _ in range(count)]
    start, end = nn.Conv2d(1, channels, 3, padding=1), nn.Linear(channels, 3)
    return nn.Sequential(start, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), end).double().eval()


def measured(graph, edge=2.0**-24):
    """Widths of logits and gradients over a small box, of an image and its brightness."""
    torch.manual_seed(1)
    image = torch.rand((1, 1, 8, 8), dtype=torch.float64)
    rows = torch.stack([image, torch.full_like(image, edge)], dim=1)
    pixels = Forms(rows, torch.zeros_like(image), 1)
    bounds = bounds_of(graph, pixels, {graph.last}, {}, 16)
    gradient = bounds.pull_back(Forms.exact(graph.seed(1, 1), 1), 0)
    for t in (-1.0, 0.3, 1.0):
        at = image + t * edge
        known = torch.tensor([[t]], dtype=torch.float64)
        for forms, value in (
            (bounds.values[graph.last], graph.forward(at)),
            (gradient, graph.gradient_at(at, 1)),
        ):
            away = value - affine_part(forms, known, known[:, :0])
            assert (away.abs() <= forms.strays + 1e-12).all()
    return [float(forms.reach.max()) for forms in (bounds.values[graph.last], gradient)]


def test_gates_and_norms_do_not_drown_deep_networks():
    """Entry by entry rounding grows with each norm, and with each gate, beyond what is computed."""
    graph = load_network(deep(), input_shape=(1, 8, 8)).graph
    assert not any(isinstance(node.layer, Take) for node in graph.nodes)
    value, slope = measured(graph)
    assert value <= 1e-5
    assert slope <= 1e-2
    entry_by_entry = Graph(graph.nodes)
    vars(entry_by_entry)["growth"] = 1.0
    assert measured(entry_by_entry)[1] > 3 * slope


# -- planted faults: each must be seen


def test_a_norm_that_stretches_less_is_seen(monkeypatch):
    whole = joint.contracted
    monkeypatch.setattr(joint, "contracted", lambda *given: (whole(*given)[0], whole(*given)[1] / 4))
    assert of_layer("centred norm")[0] > 0
    assert of_layer("plain norm")[0] > 0


def test_a_norm_whose_entries_move_less_is_seen(monkeypatch):
    whole = joint.contracted
    monkeypatch.setattr(joint, "contracted", lambda *given: (whole(*given)[0] / 4, whole(*given)[1]))
    assert of_layer("centred norm")[0] > 0


def test_scales_that_errors_do_not_move_are_seen(monkeypatch):
    monkeypatch.setattr(joint, "scales_within", lambda layer, x, low, high: (low, high))
    monkeypatch.setattr(joint, "errors_along", lambda forms: 0 * forms.error[..., :1])
    assert of_layer("plain norm", 0.3)[0] > 0


def test_products_that_stretch_less_are_seen(monkeypatch):
    for kind, name in ((Multiply, "gate"), (Multiply, "multiply"), (MatrixProduct, "matrix product")):
        whole = kind.stretch
        with monkeypatch.context() as patch:
            patch.setattr(kind, "stretch", lambda self, known, whole=whole: whole(self, known) / 8)
            patch.setattr(joint, "UNITS", (Multiply().product, Multiply().stretch))
            assert of_layer(name)[0] > 0


def test_a_softmax_that_stretches_less_is_seen(monkeypatch):
    whole = joint.eigenvalue
    monkeypatch.setattr(joint, "eigenvalue", lambda most: whole(most) / 8)
    assert of_layer("softmax")[0] > 0


def test_smooth_units_that_are_off_by_less_are_seen(monkeypatch):
    whole = derivatives.smooth_derivative

    def shorter(*given):
        found = whole(*given)
        return replace(found, length=found.length / 16)

    monkeypatch.setattr(derivatives, "smooth_derivative", shorter)
    assert of_units("gelu")[0] > 0


def test_matrices_stretch_by_their_largest_singular_value():
    torch.manual_seed(0)
    for shape in ((3, 5, 2, 7), (3, 1, 40, 16), (3, 2, 1, 4)):
        matrices = torch.randn(shape, dtype=torch.float64)
        largest = torch.linalg.svdvals(matrices).flatten(1).amax(dim=1)
        found = MatrixProduct().stretch(matrices)
        assert (largest <= found).all()
        assert (found <= min(shape[2:]) ** 0.125 * largest * 1.0001).all()
    alone = torch.zeros((1, 8, 8), dtype=torch.float64)
    alone[0, 0, 3] = 2.0
    assert 2.0 <= float(MatrixProduct().stretch(alone)) <= 2.0001
    assert float(MatrixProduct().stretch(0 * alone)) < 1e-100
