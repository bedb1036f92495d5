"""Values over boxes as polynomials: against mpmath, layer by layer and in networks; and planted faults."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import mpmath
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from anchored_cases import (
    COUNT,
    LAYERS,
    at,
    deep,
    drifting,
    excess,
    graph_of,
    pixels_of,
    still,
    values_of,
)
from many_digits import exactly, logits_of, value_of
from smooth_networks import MADE, made
from steadygaze.enclosing.double_double import Precise
from steadygaze.enclosing.forms import Forms
from steadygaze.enclosing.monomials import monomials
from steadygaze.network.bounding import polynomials
from steadygaze.network.bounding.anchors import anchored, anchored_layers
from steadygaze.network.bounding.anchors.anchored import Anchored, anchored_affine
from steadygaze.network.bounding.anchors.anchored_layers import bent_apart
from steadygaze.network.bounding.forms.slack import Slack
from steadygaze.network.bounding.polynomials import polynomial_bounds
from steadygaze.network.bounding.small_boxes import bounds_about
from steadygaze.network.bounding.taylor import polynomial, polynomial_layers, polynomial_slopes
from steadygaze.network.bounding.taylor.polynomial import FEW_DOUBTS
from steadygaze.network.bounding.taylor.polynomial_layers import Bends, followed_joint, followed_units
from steadygaze.network.joint import AbstractJoint
from steadygaze.network.layers import AbstractAffine
from steadygaze.network.reading.load import load_network

every_layer = pytest.mark.parametrize("name", LAYERS)
SERIES = (
    *("sigmoid", "tanh", "silu", "gelu", "gelu-tanh", "mish", "softplus", "exp", "square"),
    *("softmax", "centred norm"),
)


@pytest.fixture(autouse=True)
def _many_digits():
    with mpmath.workprec(300):
        yield


def followed(layer, inputs, degree):
    m, shapes = monomials(COUNT, degree), [values.away.shape for values in inputs]
    if isinstance(layer, AbstractAffine):
        return anchored_affine(layer, *inputs, norm=None)
    if isinstance(layer, AbstractJoint):
        graph, index = graph_of(layer, shapes)
        return followed_joint(m, graph, index, inputs, (index,)).values
    return followed_units(m, layer, inputs[0], None, used=inputs[0].away.symbols).values


def plain(x, degree):
    """The same values without errors, and of their polynomials a share of what is linear."""
    rows = x.away.rows.clone()
    rows[:, 0], rows[:, 1 + COUNT : monomials(COUNT, degree).rows] = 0.0, 0.0
    rows[:, 1 : 1 + COUNT] *= 0.1
    return replace(x, away=Forms(rows, 0 * x.away.error, COUNT))


def of_layer(name, width, degree, share=2.0**-20, symbols=0, least=False):
    """How far values of one layer leave their bounds: 1 or less if they do not. Without a share: no drift.

    symbols: how many there are beside the polynomials, which all inputs share. least: whether inputs have
    only these and a little of the coordinates, so that bounds owe their width to what these do.
    """
    rng = np.random.default_rng([len(name), int(-np.log2(width)), degree])
    layer, shapes = LAYERS[name]
    worst = 0.0
    for _ in range(2):
        inputs = tuple(values_of(rng, shape, width, degree=degree, symbols=symbols) for shape in shapes)
        if least:
            inputs = tuple(plain(x, degree) for x in inputs)
        inputs = tuple(still(x) if share is None else drifting(rng, x, share) for x in inputs)
        values = followed(layer, inputs, degree)
        for _ in range(6):
            t, own = rng.choice([-1.0, 1.0, 0.3], COUNT), rng.choice([-1.0, 1.0, 0.4], symbols)
            xs = [at(x, t, rng.choice([-1.0, 1.0, 0.1], x.away.shape), degree, own) for x in inputs]
            worst = max(worst, excess(values, value_of(layer, *xs), t, degree, own))
    return worst


@every_layer
@pytest.mark.parametrize(
    ("power", "degree", "share"),
    [
        *((3, 2, 2.0**-20), (14, 5, 2.0**-20), (3, 5, None)),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                *((3, 5, 2.0**-20), (14, 2, 2.0**-20), (3, 2, None), (14, 2, None), (14, 5, None)),
                *((power, degree, 2.0**-20) for power in (7, 40) for degree in (2, 5)),
            )
        ),
    ],
)
def test_values_of_each_layer_stay_inside(name, power, degree, share):
    assert of_layer(name, 2.0**-power, degree, share) <= 1


@every_layer
@pytest.mark.parametrize(("power", "degree"), [(5, 4), pytest.param(16, 2, marks=pytest.mark.slow)])
def test_symbols_beside_polynomials_are_followed(name, power, degree):
    """As units in doubt have them: two that all inputs of a layer share."""
    for least in (False, True):
        assert of_layer(name, 2.0**-power, degree, symbols=2, least=least) <= 1


FACTORED = ("sigmoid", "square", "multiply", "gate", "matrix product", "softmax", "centred norm")


def of_slopes(name, width=2.0**-7, degree=4):
    """How far a gradient through one layer, whose inputs have symbols, leaves its bounds."""
    rng, (layer, shapes) = np.random.default_rng(len(name)), LAYERS[name]
    m, step, worst = monomials(COUNT, degree), mpmath.mpf(2) ** -120, 0.0
    inputs = (values_of(rng, shape, width, degree=degree, symbols=2) for shape in shapes)
    inputs = tuple(still(plain(x, degree)) for x in inputs)
    if isinstance(layer, AbstractJoint):
        graph, index = graph_of(layer, shapes)
        done = followed_joint(m, graph, index, inputs, (index,))
    else:
        done = followed_units(m, layer, inputs[0], None)
    given = torch.from_numpy(rng.standard_normal(done.values.anchor.shape))
    gradient = Anchored(given, Forms.exact(torch.zeros_like(given), COUNT))
    pulled = [own.whole for own in done.slopes.pulled(gradient, 0)]
    for t in ([1.0, -1.0], [0.3, 1.0]):
        own = rng.choice([-1.0, 1.0], 2)
        xs = [at(x, t, 0 * x.anchor[0], degree, own) for x in inputs]
        for k, forms in enumerate(pulled):
            place = tuple(rng.integers(0, size) for size in shapes[k])
            beside = np.zeros(shapes[k], dtype=object)
            beside[place] = step
            ends = [value_of(layer, *xs[:k], xs[k] + way * beside, *xs[k + 1 :]) for way in (1, -1)]
            slope = (exactly(given[0]) * (ends[0] - ends[1])).sum() / (2 * step)
            factors = [mpmath.fprod(mpmath.mpf(t[one]) for one in row) for row in m.factors]
            rows = exactly(forms.rows[(0, slice(None), *place)])
            middle = sum(factor * row for factor, row in zip(factors, rows, strict=False))
            worst = max(worst, float(abs(slope - middle) / mpmath.mpf(float(forms.error[(0, *place)]))))
    return worst


@pytest.mark.parametrize("name", FACTORED)
def test_gradients_through_layers_whose_inputs_have_symbols_stay_inside(name):
    assert of_slopes(name) <= 1


@pytest.mark.parametrize("name", [*SERIES, "relu", "dense", "matrix product", "gate", "plain norm"])
def test_what_symbols_leave_shrinks_faster_than_they_do(name):
    """Where only symbols move values, errors are of second order."""
    layer, shapes = LAYERS[name]
    rng, width, m = np.random.default_rng(9), 2.0**-16, monomials(COUNT, 3)
    inputs = tuple(values_of(rng, shape, width, error=0.0, degree=3, symbols=2) for shape in shapes)
    for x in inputs:
        x.anchor.add_(0.1)
        x.away.rows[:, : m.rows] = 0.0
    away = followed(layer, tuple(still(x) for x in inputs), 3).away
    assert float(away.error.max()) <= 2.0**-10 * float(away.rows[:, m.rows :].abs().sum(dim=1).max())


@pytest.mark.parametrize("name", SERIES)
@pytest.mark.parametrize("degree", [2, 4])
def test_what_is_off_shrinks_with_a_power_of_the_box(name, degree):
    layer, shapes = LAYERS[name]
    errors = []
    for width in (2.0**-6, 2.0**-8):
        rng, m = np.random.default_rng(3), monomials(COUNT, degree)
        inputs = tuple(values_of(rng, shape, 1.0, error=0.0, degree=degree) for shape in shapes)
        for x in inputs:  # a row of degree d shrinks with the d-th power
            scale = torch.tensor([width ** len(own) for own in m.factors], dtype=torch.float64)
            scale[0] = 0.0
            x.away.rows.mul_(scale.reshape(-1, *(1,) * (x.away.rows.ndim - 2)))
        inputs = tuple(drifting(rng, x) for x in inputs)
        errors.append(float(followed(layer, inputs, degree).away.error.max()))
    assert errors[1] <= errors[0] * 4.0 ** -(degree + 0.5) + 1e-13 * 2.0**-8


@pytest.mark.parametrize(
    "name", [*SERIES, "dense", "conv", "scale", "average", "add", "matrix product", "gate"]
)
def test_what_rounding_takes_shrinks_with_the_square_of_the_box(name):
    """The drift is computed to twice the precision: what float64 takes is of second order."""
    layer, shapes = LAYERS[name]
    for width in (2.0**-16, 2.0**-24):
        rng = np.random.default_rng(4)
        inputs = tuple(drifting(rng, values_of(rng, shape, width), 0.0) for shape in shapes)
        assert float(followed(layer, inputs, 5).away.error.max()) <= 1e-12 * width**2 + 1e-28


@pytest.mark.parametrize(("groups", "followed"), [(1, True), (2, True), (3, False)])
def test_pixels_that_bend_alike_are_found_while_they_are_few(groups, followed):
    """With two coordinates two variables more can be followed."""
    layers = nn.Sequential(nn.Hardtanh(0, 1), nn.Flatten(), nn.Linear(8, 2)).double()
    graph = load_network(layers, input_shape=(1, 2, 4)).graph
    own = torch.arange(8).reshape(1, 1, 2, 4) % groups
    rows = torch.zeros((1, 1 + COUNT, 1, 2, 4), dtype=torch.float64)
    rows[:, 1] = 0.1 * (1 + own)
    anchor, nothing = torch.ones((1, 1, 2, 4), dtype=torch.float64), torch.zeros_like(rows[:, 0])
    pixels = still(Anchored(anchor, Forms(rows, nothing, COUNT)))
    clip, bends = polynomials._bends_of(graph, pixels, 0, {})
    assert clip is not None
    assert graph.nodes[clip].inputs == (0,)
    assert (bends.alike is not None) == followed
    if followed:
        assert (bends.alike == own.flatten()).all()


@pytest.mark.parametrize("error", [0.0, 0.05, 0.2])
def test_roots_of_values_with_errors_stay_inside(error):
    """The errors of the values go through the root as it is steep."""
    m = monomials(1, 6)
    rows = torch.zeros((1, m.rows, 1), dtype=torch.float64)
    rows[0, 1] = 0.3
    u = Forms(rows, torch.full((1, 1), error, dtype=torch.float64), 1)
    root = polynomial_layers._root(m, u, torch.zeros_like(u.error))
    for t, off in product((-1.0, -0.5, 0.0, 1.0), (-1.0, 0.0, 1.0)):
        powers = torch.tensor([t**k for k in range(m.rows)], dtype=torch.float64)
        own = 0.3 * t + off * error
        away = (1 + own) ** -0.5 - 1 + own / 2 - float(powers @ root.rows[0, :, 0])
        assert abs(away) <= float(root.error) + 1e-15


def near_edges(rng, width, count=400):
    """Values about the breakpoint 0 of which rounding decides whether they cross it."""
    sizes = width * 2.0 ** rng.uniform(-60, 4, (4, 1, count)) * rng.choice([-1, 0, 1], (4, 1, count))
    anchor, centre, *drift = (torch.from_numpy(own) for own in sizes)
    anchor = torch.where(
        torch.from_numpy(rng.random((1, count)) < 0.5), drift[0].abs() + drift[1].abs(), anchor
    )
    rows = torch.zeros((1, 1 + COUNT, count), dtype=torch.float64)
    rows[:, 0] = centre * 2.0**-50
    away = Forms(rows, torch.zeros_like(anchor), COUNT)
    return Anchored(anchor, away, torch.stack(drift, dim=1))


@pytest.mark.parametrize("name", ["relu", "three pieces"])
def test_units_stay_inside_whose_boxes_end_at_a_breakpoint(name):
    rng, layer = np.random.default_rng(5), LAYERS[name][0]
    for width in (1.0, 2.0**-20):
        inputs = near_edges(rng, width)
        values = followed(layer, (inputs,), 2)
        for t in ([1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [0.0, 0.0]):
            x = at(inputs, t, np.zeros(inputs.away.shape))
            assert excess(values, value_of(layer, x), t, 2) <= 1


def test_a_box_that_ends_at_a_breakpoint_does_not_cross_it():
    """As that of a pixel which is 0 and becomes brighter: nothing is left to doubt."""
    edge = torch.tensor([[0.1, 1.0, 2.0**-40]], dtype=torch.float64)
    inputs = Anchored(edge, Forms(torch.zeros((1, 2, 3)).double(), torch.zeros_like(edge), 1), edge[:, None])
    layer = LAYERS["relu"][0]
    assert (bent_apart(layer, inputs, Slack.within(torch.zeros(()).double()))[2] <= 1e-30).all()
    beyond = replace(inputs, drift=inputs.drift * (1 + 2.0**-20))
    assert (bent_apart(layer, beyond, Slack.within(torch.zeros(()).double()))[2] > 2.0**-23 * edge).all()


def of_bends(share=0.0, drifts=True):
    """Units of two bends: deviations as symbols, what units are beside their lines, and errors."""
    rng, layer = np.random.default_rng(7), LAYERS["three pieces"][0]
    drift = torch.tensor([[[0.03, -0.02, 0.01], [-0.01, 0.04, 0.0]]], dtype=torch.float64)
    anchor = torch.tensor([[0.01, 0.25, 2.0]], dtype=torch.float64)
    alike = torch.tensor([0, 1, 0, 2, 1, 0])
    drift, anchor = functional.pad(drift, (0, 0, 0, 2))[..., alike], anchor[:, alike]
    rows = torch.zeros((1, monomials(COUNT + 2, 3).rows, 6), dtype=torch.float64)
    errors = share * torch.from_numpy(rng.uniform(0, 1, anchor.shape))
    if not drifts:
        rows[:, 1 : 1 + COUNT], drift = drift[:, :COUNT], drift[:, :0]
    inputs = Anchored(anchor, Forms(rows, errors, COUNT), drift)
    apart = bent_apart(layer, inputs.flattened(), Slack.within(torch.zeros(()).double()))
    bends = Bends(apart, torch.where(alike < 2, alike, -1)[None])
    made = followed_units(monomials(COUNT + 2, 3), layer, inputs, None, bends).values
    symbols, left = made.drift[0, COUNT:] if drifts else made.away.rows[0, 1 + COUNT : 3 + COUNT], []
    known = drift[0] if drifts else rows[0, 1:]
    for t in rng.uniform(-1, 1, (60, COUNT)):
        x = exactly(anchor[0]) + sum(float(own) * exactly(row) for own, row in zip(t, known, strict=False))
        true = value_of(layer, x + exactly(rng.uniform(-1, 1, 6)) * exactly(errors[0]))
        plain = replace(
            made, drift=made.drift[:, :COUNT], away=replace(made.away, rows=made.away.rows[:, :3])
        )
        left.append(true - at(plain, t, np.zeros(6)))
    beside = made.away.rows[0, monomials(COUNT + 2, 3).rows :].abs().sum(dim=0)
    return symbols, np.array(left, float), made.away.error[0] + beside


@pytest.mark.parametrize("share", [0.0, 1e-3])
@pytest.mark.parametrize("drifts", [True, False])
def test_units_that_bend_alike_share_a_symbol(share, drifts):
    symbols, left, errors = of_bends(share, drifts)
    assert (symbols[0] > 0).tolist() == [True, False, True, False, False, True]
    assert (symbols[1] > 0).tolist() == [False, True, False, False, True, False]
    for row, own in zip(symbols, ([0, 2, 5], [1, 4]), strict=True):
        shares = left[:, own] / row[own].numpy()
        doubt = (errors[own] / row[own]).numpy() + 1e-12
        assert (np.abs(shares) <= 1 + doubt).all()
        assert (np.abs(shares - shares[:, :1]) <= doubt + doubt[0]).all()
        assert share or np.abs(shares).max() > 0.5
    assert (np.abs(left[:, 3]) <= errors[3].item() + (1e-30 if drifts else 1e-16)).all()


def violation(module, half, degree, points=3, drifts=True, room=FEW_DOUBTS):
    """How far logits and gradients of a network leave their bounds over a box: 1 or less if they do not."""
    rng = np.random.default_rng(int(-np.log2(half)))
    graph = load_network(module, input_shape=(1, 6, 6)).graph
    pixels = drifting(rng, pixels_of(rng, half)) if drifts else pixels_of(rng, half)
    bounds = polynomial_bounds(graph, pixels, {graph.last}, {}, degree, room=room)
    seed = Forms.exact(graph.seed(1, 1), COUNT)
    gradients = [replace(bounds, precise=own).pull_back(seed, 0).flattened() for own in (True, False)]
    worst, step = 0.0, mpmath.mpf(2) ** -120
    m = monomials(COUNT, degree)
    logits_known = bounds.values[graph.last]

    def beyond(forms, place, true, t):
        factors = [mpmath.fprod(mpmath.mpf(float(t[k])) for k in own) for own in m.factors]
        rows = exactly(forms.rows[0, :, place])
        middle = sum(factor * row for factor, row in zip(factors, rows, strict=False))
        doubt = float(forms.rows[0, m.rows :, place].abs().sum()) * (1 + 2.0**-40)
        return abs(true - middle) / max(float(min(forms.error[0, place], forms.errors[0])) + doubt, 1e-300)

    for _ in range(points):
        t = rng.choice([-1.0, 1.0, 0.4], COUNT)
        x = at(pixels, t, np.zeros((1, 6, 6)))
        logits = logits_of(graph, x)
        worst = max(worst, *(beyond(logits_known, k, own, t) for k, own in enumerate(logits)))
        for place in rng.integers(0, 36, 2):
            unit = np.zeros(36, dtype=object)
            unit[place] = step
            unit = unit.reshape(1, 6, 6)
            slope = (logits_of(graph, x + unit)[1] - logits_of(graph, x - unit)[1]) / (2 * step)
            worst = max(worst, *(beyond(own, place, slope, t) for own in gradients))
    return float(worst)


@pytest.mark.parametrize("name", ["deep", *MADE])
@pytest.mark.parametrize(("power", "degree"), [(4, 4), pytest.param(9, 2, marks=pytest.mark.slow), (34, 2)])
@pytest.mark.parametrize("drifts", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_logits_and_gradients_stay_inside(name, power, degree, drifts):
    module = deep() if name == "deep" else made(name)
    assert violation(module, 2.0**-power, degree, drifts=drifts) <= 1


@pytest.mark.parametrize(("power", "degree"), [(8, 3), pytest.param(6, 2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["deep", "squeeze and excitation"])
def test_they_do_where_all_units_in_doubt_have_symbols(name, power, degree):
    module = deep(4) if name == "deep" else made(name)
    assert violation(module, 2.0**-power, degree, room=1000) <= 1


@pytest.mark.parametrize("name", ["attention", "norm"])
def test_bounds_are_narrower_than_those_of_differences(name):
    """Of gradients, over boxes where what is of second order matters."""
    chosen = next(own for own in MADE if name in own.lower())
    graph = load_network(made(chosen), input_shape=(1, 6, 6)).graph
    pixels = pixels_of(np.random.default_rng(5), 2.0**-6)
    seed = Forms.exact(graph.seed(1, 1), COUNT)
    ours = polynomial_bounds(
        graph, drifting(np.random.default_rng(1), pixels), {graph.last}, {}, 4
    ).pull_back(seed, 0)
    others = bounds_about(graph, pixels, {graph.last}, {}, 32).pull_back(seed, 0)
    assert ours.errors[0] < 0.1 * others.without_symbols().errors[0]


# -- planted faults: each must be seen


@pytest.mark.parametrize("name", ["multiply", "matrix product"])
def test_terms_of_too_high_a_degree_that_are_not_counted_are_seen(monkeypatch, name):
    whole = polynomial.left_out
    monkeypatch.setattr(polynomial, "left_out", lambda *given: 0 * whole(*given))
    assert of_layer(name, 2.0**-3, 2) > 1


@pytest.mark.parametrize("name", ["gelu", "sigmoid", "exp"])
def test_a_remainder_that_is_left_out_is_seen(monkeypatch, name):
    whole = polynomial_layers.series_of

    def bare(*given):
        found = whole(*given)
        return found and replace(found, bound=lambda k: found.bound(k) * (k < 3))

    monkeypatch.setattr(polynomial_layers, "series_of", bare)
    monkeypatch.setattr(polynomial, "composed", lambda m, n, o, i: (m.composed(n, i.rows)[0], 0 * i.error))
    monkeypatch.setattr(polynomial_layers, "composed", polynomial.composed)
    assert of_layer(name, 2.0**-1, 2) > 1


def test_a_norm_that_keeps_its_scale_is_seen(monkeypatch):
    whole = polynomial_layers._root
    monkeypatch.setattr(
        polynomial_layers, "_root", lambda m, u, floor: whole(m, u, floor).scaled(0 * u.error)
    )
    assert of_layer("centred norm", 2.0**-7, 2, share=0.0) > 1


def test_a_softmax_that_is_not_divided_is_seen(monkeypatch):
    whole = polynomial_layers._reciprocal
    monkeypatch.setattr(polynomial_layers, "_reciprocal", lambda m, s: whole(m, s).scaled(0 * s.error))
    assert of_layer("softmax", 2.0**-2, 2, share=0.0) > 1


@pytest.mark.parametrize("name", ["gelu", "silu", "tanh", "softplus", "gelu-tanh", "mish", "elu"])
def test_a_slope_to_simple_precision_is_seen(monkeypatch, name):
    whole = polynomial_layers.precise_slope

    def simple(*given):
        return Precise.exact(whole(*given).high)

    assert of_layer(name, 2.0**-40, 2, share=0.0) <= 1
    monkeypatch.setattr(polynomial_layers, "precise_slope", simple)
    assert of_layer(name, 2.0**-40, 2, share=0.0) > 1


@pytest.mark.parametrize("name", ["matrix product", "softmax", "dense", "centred norm"])
def test_a_drift_that_loses_its_rounding_is_seen(monkeypatch, name):
    whole = anchored.moved

    def simple(centre, away, drift=None):
        return whole(centre, away, drift and Precise.exact(drift.high))

    for module in (polynomial_layers, anchored):
        monkeypatch.setattr(module, "moved", simple)
    assert of_layer(name, 2.0**-40, 2, share=0.0) > 1


def test_a_middle_on_the_other_side_of_a_breakpoint_is_seen(monkeypatch):
    whole = anchored_layers._past

    def simple(x, edge, below):
        return whole(replace(x, away=replace(x.away, rows=0 * x.away.rows)), edge, below)

    monkeypatch.setattr(anchored_layers, "_past", simple)
    with pytest.raises(AssertionError):
        test_units_stay_inside_whose_boxes_end_at_a_breakpoint("relu")


def test_errors_that_do_not_go_through_units_are_seen(monkeypatch):
    whole = polynomial_layers._steepest
    monkeypatch.setattr(polynomial_layers, "_steepest", lambda *given: 0 * whole(*given))
    assert of_layer("gelu", 2.0**-14, 2) > 1


def test_derivatives_that_do_not_move_are_seen(monkeypatch):
    whole = polynomial_slopes.Slopes.pulled

    def still(self, gradient, used):
        away = replace(self.factor.away, rows=0 * self.factor.away.rows)
        return whole(replace(self, factor=replace(self.factor, away=away)), gradient, used)

    monkeypatch.setattr(polynomial_slopes.Slopes, "pulled", still)
    chosen = next(own for own in MADE if "attention" in own.lower())
    assert violation(made(chosen), 2.0**-9, 2) > 1


@pytest.mark.parametrize("name", ["multiply", "matrix product", "square", "centred norm", "softmax"])
def test_what_symbols_do_beside_their_rows_is_seen_when_left_out(monkeypatch, name):
    def nothing(m, forms):
        return torch.zeros_like(forms.error)

    monkeypatch.setattr(polynomial, "strays", nothing)
    monkeypatch.setattr(polynomial_layers, "strays", nothing)
    assert of_layer(name, 2.0**-7, 4, symbols=2, least=True) > 1


def test_gradients_whose_factors_lose_what_symbols_do_are_seen(monkeypatch):
    def nothing(m, forms):
        return replace(forms, rows=forms.rows[:, : m.rows])

    for module in (polynomial_layers, polynomial_slopes):
        monkeypatch.setattr(module, "without_strays", nothing)
    assert min(of_slopes(name) for name in FACTORED) > 1


def test_units_in_doubt_that_have_no_symbol_are_seen(monkeypatch):
    monkeypatch.setattr(Forms, "widened", lambda forms, *_, **__: forms)
    assert violation(deep(4), 2.0**-8, 3) > 1
