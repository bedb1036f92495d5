"""Values over small boxes as differences from anchors: against mpmath, layer by layer and in networks."""

from __future__ import annotations

from dataclasses import replace

import mpmath
import numpy as np
import pytest
import torch

from anchored_cases import COUNT, LAYERS, at, deep, excess, graph_of, pixels_of, values_of
from many_digits import exactly, logits_of, value_of
from smooth_networks import MADE, made
from steadygaze.enclosing.enclosures import Enclosure
from steadygaze.enclosing.forms import Forms
from steadygaze.network.bounding.anchors import anchored, anchored_layers
from steadygaze.network.bounding.anchors.anchored import Anchored, anchored_affine
from steadygaze.network.bounding.anchors.anchored_layers import anchored_joint, anchored_units
from steadygaze.network.bounding.anchors.centres import precise_value
from steadygaze.network.bounding.bounds import bounds_of
from steadygaze.network.bounding.small_boxes import bounds_about
from steadygaze.network.joint import AbstractJoint, MatrixProduct
from steadygaze.network.layers import AbstractAffine, Conv
from steadygaze.network.pieces import MaxPool
from steadygaze.network.reading.load import load_network
from steadygaze.network.smooth import Smooth

every_layer = pytest.mark.parametrize("name", LAYERS)


@pytest.fixture(autouse=True)
def _many_digits():
    with mpmath.workprec(300):
        yield


def moved(layer, inputs, room):
    shapes = [values.away.shape for values in inputs]
    if isinstance(layer, AbstractAffine):
        return anchored_affine(layer, *inputs, norm=None), None
    if isinstance(layer, AbstractJoint):
        graph, index = graph_of(layer, shapes)
        done = anchored_joint(graph, index, inputs, room, 0, (index,))
    else:
        done = anchored_units(layer, inputs[0], None, room, 0)
    return done.values, done.slopes


def of_layer(name, width, rooms=(0, 12)):
    """How far values of one layer leave their bounds: 1 or less if they do not."""
    rng = np.random.default_rng([len(name), int(-np.log2(width))])
    layer, shapes = LAYERS[name]
    worst = 0.0
    for _ in range(3):
        inputs = tuple(values_of(rng, shape, width) for shape in shapes)
        for room in rooms:
            values, _ = moved(layer, inputs, room)
            for _ in range(4):
                t = rng.choice([-1.0, 1.0, 0.3], COUNT)
                xs = [at(x, t, rng.choice([-1.0, 1.0, 0.1], x.away.shape)) for x in inputs]
                worst = max(worst, excess(values, value_of(layer, *xs), t))
    return worst


@every_layer
@pytest.mark.parametrize("power", [1, 12, 40, 70])
def test_values_of_each_layer_stay_inside(name, power):
    assert of_layer(name, 2.0**-power) <= 1


@every_layer
def test_what_is_off_shrinks_with_the_square_of_the_box(name):
    """Also where rounding of values would be larger by far."""
    layer, shapes = LAYERS[name]
    if name in ("erf", "atan", "asinh"):
        pytest.skip("known to the precision of float64")
    errors = []
    for width in (2.0**-30, 2.0**-38):
        rng = np.random.default_rng(3)
        inputs = tuple(values_of(rng, shape, width, error=0.0) for shape in shapes)
        inputs = tuple(replace(x, anchor=x.anchor + 0.013) for x in inputs)
        errors.append(float(moved(layer, inputs, 0)[0].away.error.max()))
    assert errors[0] <= 1e3 * 2.0**-60
    assert errors[1] <= errors[0] / 2**15 + 2e-14 * 2.0**-38


@every_layer
def test_centres_are_known_to_twice_the_precision(name):
    rng = np.random.default_rng(len(name))
    layer, shapes = LAYERS[name]
    for size in (1.0, 1e-6, 30.0):
        xs = [size * torch.from_numpy(rng.uniform(-1, 1, (1, *shape))) for shape in shapes]
        found = precise_value(layer, *xs)
        true = value_of(layer, *(exactly(x[0]) for x in xs))
        off = abs(exactly(found.high[0]) + exactly(found.low[0]) - true)
        assert all(own <= error for own, error in zip(off.flat, exactly(found.error[0]).flat, strict=True))
        if name not in ("erf", "atan", "asinh"):
            assert (found.error <= 2.0**-80 * (1 + found.high.abs()) * max(1.0, size) ** 2).all()


def test_a_convolution_that_makes_many_values_of_few_is_off_by_these_few():
    """As the first layer of a transformer is: 12 products each, and 3,072 on the way back."""
    rng = np.random.default_rng(0)
    weight, x = (torch.from_numpy(rng.uniform(-1, 1, own)) for own in ((768, 3, 2, 2), (1, 3, 2, 2)))
    layer = Conv(weight, torch.zeros(768, dtype=torch.float64), stride=(2, 2))
    found = precise_value(layer, x)
    off = abs(exactly(found.high[0]) + exactly(found.low[0]) - value_of(layer, exactly(x[0])))
    assert all(own <= error for own, error in zip(off.flat, exactly(found.error[0]).flat, strict=True))
    assert (found.error <= 2.0**-100).all()


@pytest.mark.parametrize("numbers", [(3.0, -np.inf), (-1.0, 0.0), (0.5, 0.0), (-0.5, 1e-3), (1.5, 0.0)])
def test_powers_and_logarithms_are_known_where_they_exist(numbers):
    x = torch.tensor([[0.5, 3.0, 1e-2, 7.0]], dtype=torch.float64)
    for layer in (Smooth("power", numbers), Smooth("log", (max(0.0, numbers[1]),))):
        found = precise_value(layer, x)
        off = abs(exactly(found.high) + exactly(found.low) - value_of(layer, exactly(x)))
        assert all(own <= error for own, error in zip(off.flat, exactly(found.error).flat, strict=True))


@pytest.mark.parametrize("size", [1e-3, 30.0])
def test_slopes_join_what_is_beside_them_up_to_their_rounding(size):
    rng = np.random.default_rng(5)
    slopes, rest = size * rng.uniform(-1, 1, (1, 2, 6)), 1e-12 * rng.uniform(-1, 1, (1, 3, 6))
    pixels = Enclosure(rng.uniform(0, 1, (1, 6)), slopes, np.full((1, 6), 1e-3))
    error = 1e-20 * rng.uniform(0, 1, (1, 6))
    found = Anchored.of(replace(pixels, rest=rest, rest_error=error), torch.device("cpu"))
    joined = exactly(slopes[0]) + exactly(rest[0, 1:])
    off = abs(exactly(found.away.rows[0, 1:]) - joined).sum(axis=0)
    allowed = exactly(found.away.error[0]) - exactly(error[0])
    assert (off > 0).any()
    assert all(own <= most for own, most in zip(off, allowed, strict=True))
    # One rounding of each, and no more.
    assert (found.away.error.numpy() <= error + 2.0**-52 * np.abs(slopes).sum(axis=1)).all()


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_every_input_of_a_window_may_come_to_win(order):
    anchor = torch.tensor([[0.5, 0.4]], dtype=torch.float64)[:, order]
    rows = torch.zeros((1, 1 + COUNT, 2), dtype=torch.float64)
    rows[0, 1, order.index(0)] = -0.3
    x = Anchored(anchor, Forms(rows, torch.zeros((1, 2), dtype=torch.float64), COUNT))
    layer = MaxPool(torch.tensor([[0, 1]]), (2,), (1,))
    values, _ = moved(layer, (x,), 0)
    for t in (-1.0, 0.0, 0.5, 1.0):
        place = np.array([t, 0.0])
        xs = [at(x, place, np.zeros(x.away.shape))]
        assert excess(values, value_of(layer, *xs), place) <= 1


def test_errors_of_probabilities_are_mixed_to_errors_of_no_less_length():
    rng = np.random.default_rng(2)
    p = torch.softmax(torch.from_numpy(rng.standard_normal((1, 3, 4))), dim=-1)
    mixed = torch.from_numpy(rng.standard_normal((1, 4, 5)))
    errors = torch.full((1, 3, 4), 1e-3, dtype=torch.float64)
    whole = Forms.exact(mixed, COUNT)
    known = Anchored(p, Forms(torch.zeros((1, 1 + COUNT, 3, 4), dtype=torch.float64), errors, COUNT))
    level = Forms.exact(mixed - mixed.mean(dim=1, keepdim=True), COUNT)
    most, length = anchored_layers.mixed_errors(MatrixProduct(), known, whole, level)
    for _ in range(20):
        # Errors of probabilities, as these, sum to nothing.
        off = torch.from_numpy(rng.uniform(-1, 1, p.shape))
        off = off - off.mean(dim=-1, keepdim=True)
        off = off * (1e-3 / off.abs().max())
        moves = off @ mixed
        assert (moves.abs() <= most).all()
        assert float(torch.linalg.vector_norm(moves)) <= float(length)


# -- whole networks


def violation(module, half, points=3):
    """How far logits and gradients of a network leave their bounds over a box: 1 or less if they do not."""
    rng = np.random.default_rng(int(-np.log2(half)))
    graph = load_network(module, input_shape=(1, 6, 6)).graph
    pixels = pixels_of(rng, half)
    bounds = bounds_about(graph, pixels, {graph.last}, {}, 20)
    gradients = bounds.pull_back(Forms.exact(graph.seed(1, 1), COUNT), 0)
    low, high = (exactly(end[0]) for end in bounds.values[graph.last].bounds())
    worst, step = 0.0, mpmath.mpf(2) ** -120
    for _ in range(points):
        t = rng.choice([-1.0, 1.0, 0.4], COUNT)
        x = at(pixels, t, np.zeros((1, 6, 6)))
        logits = logits_of(graph, x)
        reach = (high - low) / 2
        worst = max(worst, max(abs(logits - (low + high) / 2) / reach))
        for place in rng.integers(0, 36, 2):
            unit = np.zeros(36, dtype=object)
            unit[place] = step
            unit = unit.reshape(1, 6, 6)
            slope = (logits_of(graph, x + unit)[1] - logits_of(graph, x - unit)[1]) / (2 * step)
            least, most = (float(end[0].flatten()[place]) for end in gradients.bounds())
            worst = max(worst, abs(slope - (least + most) / 2) / max((most - least) / 2, 1e-300))
    return float(worst), bounds, gradients


@pytest.mark.parametrize("name", ["deep", *MADE])
@pytest.mark.parametrize("power", [12, 34])
def test_logits_and_gradients_stay_inside(name, power):
    module = deep() if name == "deep" else made(name)
    assert violation(module, 2.0**-power)[0] <= 1


@pytest.mark.parametrize("name", MADE)
def test_bounds_are_hardly_wider_than_those_of_forms(name):
    """Of logits and of gradients, over boxes where rounding matters little as yet."""
    graph = load_network(made(name), input_shape=(1, 6, 6)).graph
    for half in (2.0**-18, 2.0**-22):
        pixels = pixels_of(np.random.default_rng(5), half)
        seed = Forms.exact(graph.seed(1, 1), COUNT)
        both = [
            bounds_about(graph, pixels, {graph.last}, {}, 32),
            bounds_of(graph, pixels.whole, {graph.last}, {}, 32),
        ]
        ours, others = ((found.values[graph.last], found.pull_back(seed, 0)) for found in both)
        for own, other in zip(ours, others, strict=True):
            assert own.reach.sum() <= 1.05 * other.reach.sum()


def test_small_boxes_of_deep_networks_are_not_drowned():
    graph = load_network(deep(24), input_shape=(1, 6, 6)).graph
    pixels = pixels_of(np.random.default_rng(5), 2.0**-40)
    ours = bounds_about(graph, pixels, {graph.last}, {}, 20).values[graph.last]
    others = bounds_of(graph, pixels.whole, {graph.last}, {}, 20).values[graph.last]
    assert (ours.error < 1e-12).all()
    assert (others.strays > 1e-4).all()
    assert ours.error.max() < 1e-6 * others.strays.min()


# -- planted faults: each must be seen


def test_centres_in_single_precision_are_seen(monkeypatch):
    for module in (anchored, anchored_layers):
        monkeypatch.setattr(
            module, "precise_value", lambda *given: replace(precise_value(*given), low=0 * given[1])
        )
    with pytest.raises((AssertionError, RuntimeError)):
        assert of_layer("dense", 2.0**-40) <= 1


def test_a_bend_that_is_left_out_is_seen(monkeypatch):
    whole = anchored_layers.derivative_relaxed
    monkeypatch.setattr(
        anchored_layers, "derivative_relaxed", lambda *given: (0.8 * whole(*given)[0], *whole(*given)[1:])
    )
    assert max(of_layer(name, 2.0**-12) for name in ("gelu", "sigmoid", "exp")) > 1


def test_a_product_of_differences_that_is_left_out_is_seen(monkeypatch):
    whole = anchored_layers.multiplied

    def linear(times, a, b, terms):
        made, deviation = whole(times, a, b, terms)
        return made, 0.5 * deviation

    monkeypatch.setattr(anchored_layers, "multiplied", linear)
    assert of_layer("multiply", 2.0**-12, rooms=(0,)) > 1


def test_a_norm_that_keeps_its_scale_is_seen(monkeypatch):
    whole = anchored_layers.multiplied

    def still(times, a, b, terms):
        made, deviation = whole(times, a, b, terms)
        return (
            (made.scaled(0 * made.error), deviation) if times is anchored_layers.ADDED else (made, deviation)
        )

    monkeypatch.setattr(anchored_layers, "multiplied", still)
    assert of_layer("centred norm", 2.0**-12) > 1


def test_a_softmax_of_its_middle_alone_is_seen(monkeypatch):
    def pointed(logits, kept):
        p = torch.softmax(logits.centre, dim=-1)
        return p, p

    monkeypatch.setattr(anchored_layers, "softmax_range", pointed)
    assert of_layer("softmax", 2.0**-4) > 1


def test_breakpoints_that_are_left_out_are_seen(monkeypatch):
    flat = replace(LAYERS["relu"][0])
    vars(flat)["marks"] = ()
    monkeypatch.setitem(LAYERS, "relu", (flat, [(2, 6)]))
    assert of_layer("relu", 2.0**-1) > 1
