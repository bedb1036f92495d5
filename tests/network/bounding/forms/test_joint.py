"""Products, norms and softmax over boxes: against PyTorch on samples, layer by layer and in networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from formed import affine_part
from smooth_networks import MADE, made
from steadygaze.enclosing.forms import Forms
from steadygaze.network.bounding.bounds import bounds_of
from steadygaze.network.bounding.forms import joint
from steadygaze.network.bounding.forms.joint import relax_joint
from steadygaze.network.joint import MatrixProduct, Multiply, Normalise, Softmax
from steadygaze.network.reading.load import load_network

COUNT = 2
LAYERS = {
    "multiply": (Multiply(), [(3, 4), (3, 4)]),
    "limited": (Multiply(1.5), [(3, 4), (3, 4)]),
    "gate": (Multiply(axes=(-2, -1)), [(3, 2, 4), (3, 1, 1)]),
    "matrix product": (MatrixProduct(), [(2, 3, 4), (2, 4, 5)]),
    "softmax": (Softmax(), [(2, 3, 4)]),
    "masked softmax": (
        Softmax(torch.tensor([[True] * 4, [False, True, True, False], [True] + [False] * 3])),
        [(2, 3, 4)],
    ),
    "softmax of one": (Softmax(), [(3, 1)]),
    "centred norm": (Normalise(1e-3), [(3, 5)]),
    "plain norm": (Normalise(1e-5, centred=False), [(3, 5)]),
}
every_layer = pytest.mark.parametrize("name", LAYERS)
every_width = pytest.mark.parametrize("width", [0.0, 1e-9, 1e-3, 0.3, 50.0])


def forms_of(rng, shape, width, symbols=2):
    """Random forms over 5 boxes, the last of them about 0, with symbols and errors."""
    rows = torch.from_numpy(rng.uniform(-1, 1, (5, 1 + COUNT + symbols, *shape)))
    rows[:, 1:] *= width
    rows[4, 0] = 0.0
    return Forms(rows, width * torch.from_numpy(rng.uniform(0, 0.2, (5, *shape))), COUNT)


def drawn(rng, forms, t, s):
    """Numbers that the forms allow for these coordinates and symbols."""
    e = torch.from_numpy(rng.choice([-1.0, 0.3, 1.0], tuple(forms.error.shape)))
    return affine_part(forms, t, s) + e * forms.error


def beyond(forms, values, t):
    """How far values lie outside: at their coordinates, symbols being free, and over the box."""
    away = (values - affine_part(forms, t, t[:, :0])).abs() - forms.strays
    low, high = forms.bounds()
    return float((torch.stack([away, low - values, values - high]) - 1e-12 * (1 + values.abs())).max())


def of_layer(name, width):
    """How far values and gradients of one layer leave their bounds; 0 or less if they do not."""
    rng = np.random.default_rng(int(10 * width) + len(name))
    layer, shapes = LAYERS[name]
    inputs = tuple(forms_of(rng, shape, width) for shape in shapes)
    if name == "limited":
        inputs = tuple(x.scaled(torch.full(x.shape, 1.2 / (1 + 8 * width))) for x in inputs)
    gradient = forms_of(rng, layer.output_shape(*shapes), 0.3, symbols=1)
    worst = -np.inf
    for room in (0, 40):
        values, slopes, _ = relax_joint(layer, inputs, room, 2)
        pulled = slopes.take(torch.arange(5)).pulled(gradient, room, 1)
        for _ in range(12):
            t = torch.from_numpy(rng.uniform(-1, 1, (5, COUNT)))
            t = torch.where(torch.rand(5, COUNT) < 0.4, t.sign(), t)
            s, own = (torch.from_numpy(rng.choice([-1.0, 0.2, 1.0], (5, k))) for k in (2, 1))
            xs = [drawn(rng, x, t, s).requires_grad_() for x in inputs]
            g = drawn(rng, gradient, t, own)
            y = layer.forward(*xs)
            worst = max(worst, beyond(values, y.detach(), t))
            for form, part in zip(pulled, torch.autograd.grad(y, xs, g), strict=True):
                worst = max(worst, beyond(form, part, t))
    return worst


@every_width
@every_layer
def test_values_and_gradients_of_each_layer_stay_inside(name, width):
    assert of_layer(name, width) <= 0


@every_layer
def test_gradients_at_points_are_those_of_autograd(name):
    layer, shapes = LAYERS[name]
    torch.manual_seed(3)
    xs = [torch.randn(6, *shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    y = layer.forward(*xs)
    assert y.shape == (6, *layer.output_shape(*shapes))
    g = torch.randn_like(y)
    found = layer.transpose(g, layer.state(*xs).detach(), tuple(shapes))
    for part, true in zip(found, torch.autograd.grad(y, xs, g), strict=True):
        torch.testing.assert_close(part, true, rtol=1e-12, atol=1e-12)


@every_layer
def test_errors_shrink_with_the_square_of_the_width(name):
    layer, shapes = LAYERS[name]
    sizes = []
    for width in (1e-3, 1e-4):
        rng = np.random.default_rng(1)
        inputs = []
        for shape in shapes:
            forms = forms_of(rng, shape, width, symbols=0)
            inputs.append(Forms(forms.rows[:4], torch.zeros_like(forms.error[:4]), COUNT))
        values, slopes, _ = relax_joint(layer, tuple(inputs), 0, 0)
        gradient = Forms.exact(torch.from_numpy(rng.uniform(-1, 1, (4, *values.shape))), COUNT)
        sizes.append([values.strays.max(), *(part.strays.max() for part in slopes.pulled(gradient, 0, 0))])
    for wide, narrow in zip(*sizes, strict=True):
        assert narrow <= wide / 60 + 1e-12


def test_a_square_does_not_reach_below_zero_by_more_than_its_middle():
    """x times itself over [-1, 1] is known to lie in [-1/2 + 1/2 ± 1/2], not in [-1, 1]."""
    x = Forms(
        torch.tensor([[[0.0], [1.0]]], dtype=torch.float64), torch.zeros((1, 1), dtype=torch.float64), 1
    )
    made, deviation = joint.multiplied(joint.UNITS, x, x, 1)
    assert float(made.centre) == 0.5
    assert float(made.reach + deviation) == pytest.approx(0.5)


def test_wide_norms_and_softmax_keep_to_what_they_cannot_leave():
    rng = np.random.default_rng(2)
    x = forms_of(rng, (3, 5), 1e3)
    for layer, least, most in ((Normalise(1e-5), -(5**0.5), 5**0.5), (Softmax(), 0.0, 1.0)):
        low, high = relax_joint(layer, (x,), 20, 2)[0].bounds()
        assert low.min() >= least - 1e-9
        assert high.max() <= most + 1e-9


def test_values_that_overflow_prove_nothing():
    x = Forms(torch.full((1, 2, 3), 1e200, dtype=torch.float64), torch.zeros((1, 3), dtype=torch.float64), 1)
    for layer in (Multiply(), Normalise(1e-5)):
        low, high = relax_joint(layer, (x,) * layer.arity, 0, 0)[0].bounds()
        assert not ((low > 0) | (high < 0)).any() or isinstance(layer, Normalise)


# -- whole networks


def pixels_around(rng, boxes, width):
    rows = torch.from_numpy(rng.uniform(-width, width, (boxes, 1 + COUNT, 1, 6, 6)))
    rows[:, 0] = torch.from_numpy(rng.uniform(0, 1, (boxes, 1, 6, 6)))
    return Forms(rows, torch.zeros((boxes, 1, 6, 6), dtype=torch.float64), COUNT)


def violation(name, width, rooms=(0, 40), samples=6):
    """How far logits and gradients of sampled images leave their bounds; below 0 if they do not."""
    rng, module = np.random.default_rng(int(1e4 * width)), made(name)
    graph = load_network(module, input_shape=(1, 6, 6)).graph
    pixels = pixels_around(rng, 4, width)
    worst = -np.inf
    for room in rooms:
        bounds = bounds_of(graph, pixels, {graph.last}, {}, room)
        gradients = bounds.pull_back(Forms.exact(graph.seed(1, 4), COUNT), 0)
        assert gradients.symbols <= room
        for _ in range(samples):
            t = torch.from_numpy(rng.uniform(-1, 1, (4, COUNT)))
            t = torch.where(torch.rand(4, COUNT) < 0.3, t.sign(), t)
            image = affine_part(pixels, t, t[:, :0]).requires_grad_()
            logits = module(image)
            own = torch.autograd.grad(logits[:, 1].sum(), image)[0]
            found = [beyond(bounds.values[graph.last], logits.detach(), t), beyond(gradients, own, t)]
            worst = max(worst, *found)
    return worst


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("width", [1e-3, 0.05, 0.4])
def test_logits_and_gradients_stay_inside(name, width):
    assert violation(name, width) <= 1e-9


@pytest.mark.parametrize("name", MADE)
def test_bounds_over_small_boxes_are_close(name):
    """Over boxes of width 0.0001 the bounds are hardly wider than what corners find."""
    rng, module = np.random.default_rng(9), made(name)
    factor = 4.0 if name == "attention" else 1.3  # two norms, a softmax and a GELU in turn
    graph = load_network(module, input_shape=(1, 6, 6)).graph
    pixels = pixels_around(rng, 4, 1e-4)
    bounds = bounds_of(graph, pixels, {graph.last}, {}, 40)
    gradients = bounds.pull_back(Forms.exact(graph.seed(1, 4), COUNT), 0)
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * COUNT)
    images = torch.stack([affine_part(pixels, t.expand(4, -1), t.new_zeros((4, 0))) for t in corners])
    values = graph.forward(images.flatten(0, 1)).reshape(len(corners), 4, -1)
    maps = graph.gradient_at(images.flatten(0, 1), 1).reshape(len(corners), 4, 1, 6, 6)
    for forms, seen in ((bounds.values[graph.last], values), (gradients, maps)):
        low, high = forms.bounds()
        assert (high - low).sum() <= factor * (seen.amax(0) - seen.amin(0)).sum()


@pytest.mark.parametrize("likely", [0.3, 0.5, 0.7])
def test_a_probability_whose_own_argument_moves_alone_stays_inside(likely):
    """Then all that it bends by is owed to how far it moves itself."""
    rows = torch.zeros((1, 2, 3), dtype=torch.float64)
    rows[0, 0, 0] = np.log(2 * likely / (1 - likely))
    rows[0, 1, 0] = 2.0
    logits = Forms(rows, torch.zeros((1, 3), dtype=torch.float64), 1)
    values, _, _ = relax_joint(Softmax(), (logits,), 0, 0)
    for own in np.linspace(-1, 1, 41):
        t = torch.tensor([[own]], dtype=torch.float64)
        assert beyond(values, torch.softmax(affine_part(logits, t, t[:, :0]), dim=-1), t) <= 0


@pytest.mark.parametrize("name", MADE)
def test_the_graph_computes_what_the_module_does(name):
    module = made(name)
    graph = load_network(module, input_shape=(1, 6, 6)).graph
    image = torch.rand((5, 1, 6, 6), dtype=torch.float64, requires_grad=True)
    logits = module(image)
    torch.testing.assert_close(graph.forward(image.detach()), logits.detach(), rtol=1e-9, atol=1e-9)
    own = torch.autograd.grad(logits[:, 2].sum(), image)[0]
    torch.testing.assert_close(graph.gradient_at(image.detach(), 2), own, rtol=1e-8, atol=1e-8)


# -- planted faults: each must be seen


def test_a_product_without_its_quadratic_part_is_seen(monkeypatch):
    whole = joint.multiplied
    monkeypatch.setattr(joint, "multiplied", lambda *given: (whole(*given)[0], 0 * whole(*given)[1]))
    assert violation("gated units", 0.4, (40,)) > 0
    assert of_layer("matrix product", 0.3) > 0


def test_a_softmax_of_its_middle_alone_is_seen(monkeypatch):
    def pointed(logits, kept):
        p = torch.softmax(logits.centre, dim=-1)
        return p, p

    monkeypatch.setattr(joint, "softmax_range", pointed)
    assert of_layer("softmax", 0.3) > 0


def test_a_norm_whose_scale_stays_is_seen(monkeypatch):
    monkeypatch.setattr(
        joint, "relaxed", lambda layer, low, high: (0 * low, ((low + high) / 2) ** -0.5, 0 * low)
    )
    assert violation("layer norm", 0.4, (40,)) > 0


def test_a_gradient_without_the_doubt_of_its_factor_is_seen(monkeypatch):
    whole = joint._followed

    def pointed(product, gradient, factor, terms, room, used):
        rows = torch.zeros_like(factor.rows)
        rows[:, 0] = factor.centre
        known = Forms(rows, torch.zeros_like(factor.error), factor.count)
        return whole(product, gradient, known, terms, room, used)

    monkeypatch.setattr(joint, "_followed", pointed)
    for name in ("gated units", "layer norm"):
        assert violation(name, 0.1, (40,)) > 0
    for name in ("matrix product", "softmax", "plain norm"):
        assert of_layer(name, 0.3) > 0
