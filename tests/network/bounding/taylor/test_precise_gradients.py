"""Gradients as differences from known numbers: against mpmath, layer by layer; and planted faults."""

from __future__ import annotations

from dataclasses import replace

import mpmath
import numpy as np
import pytest
import torch

from anchored_cases import COUNT, LAYERS, at, drifting, excess, graph_of, values_of
from many_digits import exactly, value_of
from steadygaze.deadline import NEVER, Deadline, Expired
from steadygaze.enclosing.double_double import Precise
from steadygaze.enclosing.forms import Forms
from steadygaze.enclosing.monomials import monomials
from steadygaze.network.bounding.anchors.anchored import Anchored
from steadygaze.network.bounding.taylor import polynomial_slopes
from steadygaze.network.bounding.taylor.polynomial_layers import followed_joint, followed_units
from steadygaze.network.bounding.taylor.polynomial_slopes import _beside, _parts, pulled_back
from steadygaze.network.joint import AbstractJoint
from steadygaze.network.layers import AbstractAffine

DEGREE = 3
# Of these derivatives are known to the precision of float64 alone, or not at all where anchors are.
ROUNDED = (
    "erf",
    "atan",
    "asinh",
    "softsign",
    "hard-swish",
    "relu",
    "three pieces",
    "max pool",
    "masked softmax",
)
every_layer = pytest.mark.parametrize("name", LAYERS)


@pytest.fixture(autouse=True)
def _many_digits():
    with mpmath.workprec(300):
        yield


def pulled(name, width, gradient=None, seed=0, precise=True):
    """Inputs of a layer over a box, a gradient behind it, and what comes of that at each input."""
    rng, (layer, shapes) = np.random.default_rng([len(name), seed]), LAYERS[name]
    m = monomials(COUNT, DEGREE)
    inputs = tuple(drifting(rng, values_of(rng, shape, width, degree=DEGREE)) for shape in shapes)
    graph, index = graph_of(layer, shapes)
    slopes = {}
    if isinstance(layer, AbstractJoint):
        slopes[index] = followed_joint(m, graph, index, inputs, (index,)).slopes
    elif not isinstance(layer, AbstractAffine):
        slopes[index] = followed_units(m, layer, inputs[0], None).slopes
    if gradient is None:
        gradient = replace(values_of(rng, graph.nodes[index].shape, width, degree=DEGREE), drift=None)
        gradient.anchor.div_(3.0)  # sums of two are not in float64, then
    sources = graph.nodes[index].inputs
    if not precise:
        gradient, slopes = _beside(gradient.whole), {node: own.plain for node, own in slopes.items()}
    parts = dict(_parts(graph, index, slopes, gradient, frozenset(sources), m.rows - 1 - COUNT))
    return layer, inputs, gradient, [parts[source] for source in sources]


def derivative(layer, given, xs, k):
    """The gradient of <given, layer> at the k-th of its inputs, in mpmath, by differences."""
    step, found = mpmath.mpf(2) ** -120, np.zeros(xs[k].shape, dtype=object)
    for place in np.ndindex(*xs[k].shape):
        beside = np.zeros(xs[k].shape, dtype=object)
        beside[place] = step
        ends = [value_of(layer, *xs[:k], xs[k] + way * beside, *xs[k + 1 :]) for way in (1, -1)]
        found[place] = (given * (ends[0] - ends[1])).sum() / (2 * step)
    return found


def beyond(name, width, seeds=2, precise=True):
    """How far gradients through a layer leave their bounds: 1 or less if they do not."""
    worst = 0.0
    for seed in range(seeds):
        layer, inputs, gradient, parts = pulled(name, width, seed=seed, precise=precise)
        rng = np.random.default_rng(seed)
        for t in ([1.0, -1.0], [0.3, 1.0]):
            xs = [at(x, t, rng.choice([-1.0, 1.0, 0.1], x.anchor.shape[1:]), DEGREE) for x in inputs]
            given = at(gradient, t, rng.choice([-1.0, 1.0, 0.1], gradient.anchor.shape[1:]), DEGREE)
            for k, part in enumerate(parts):
                worst = max(worst, excess(part, derivative(layer, given, xs, k), t, DEGREE))
    return worst


@every_layer
@pytest.mark.parametrize("power", [4, *(pytest.param(own, marks=pytest.mark.slow) for own in (12, 40)), 90])
def test_gradients_through_each_layer_stay_inside(name, power):
    assert beyond(name, 2.0**-power) <= 1


@every_layer
@pytest.mark.parametrize("power", [pytest.param(4, marks=pytest.mark.slow), 40])
def test_so_they_do_without_anchors(name, power):
    assert beyond(name, 2.0**-power, precise=False) <= 1


@pytest.mark.parametrize("name", [own for own in LAYERS if own not in ROUNDED])
def test_gradients_at_a_point_are_known_to_twice_the_precision(name):
    for seed in range(2):
        _, _, gradient, parts = pulled(name, 2.0**-100, seed=seed)
        size = float(gradient.anchor.abs().max())
        for part in parts:
            assert float(part.away.error.max()) <= 2.0**-72 * size


def known(name, width=2.0**-12):
    """A gradient known to 2^-40 of what the box makes of it."""
    _, _, gradient, _ = pulled(name, width)
    away = replace(gradient.away, error=0 * gradient.away.error, length=None)
    return Anchored(gradient.anchor, away)


@pytest.mark.parametrize("name", ["multiply", "matrix product", "softmax", "centred norm", "conv", "dense"])
def test_errors_of_gradients_are_stretched_by_no_more_than_the_layer_does(name):
    """What errors of a gradient add to those of what comes of it, over small boxes."""
    gradient = known(name)
    error = 2.0**-20 * torch.ones_like(gradient.anchor)
    loose = replace(gradient, away=gradient.away.loosened(error))
    ends = [pulled(name, 2.0**-12, own)[3] for own in (gradient, loose)]
    layer, inputs, _, _ = pulled(name, 2.0**-12)
    xs = [exactly(x.anchor[0]) for x in inputs]
    for k, (tight, wide) in enumerate(zip(*ends, strict=True)):
        grown = float((wide.away.error - tight.away.error).max())
        one = derivative(layer, exactly(torch.sign(gradient.anchor[0])), xs, k)
        assert grown >= 2.0**-20 * float(max(abs(own) for own in one.reshape(-1))) * 0.9


def seed_of(graph):
    return Forms.exact(torch.ones(1, *graph.nodes[graph.last].shape, dtype=torch.float64), COUNT)


def test_a_deadline_ends_gradients():
    graph, _ = graph_of(*LAYERS["dense"])
    with pytest.raises(Expired):
        pulled_back(graph, {}, seed_of(graph), 0, Deadline(0.0))


def test_gradients_are_those_of_the_graph():
    graph, _ = graph_of(*LAYERS["dense"])
    found = pulled_back(graph, {}, seed_of(graph), 0, NEVER)
    true = graph.pull_back(seed_of(graph).centre, {})
    assert torch.allclose(found.centre, true, rtol=1e-14)
    assert float(found.error.max()) < 1e-14


# -- planted faults: each must be seen


@pytest.mark.parametrize("name", ["gelu", "multiply", "matrix product"])
def test_rounding_that_is_forgotten_without_anchors_is_seen(monkeypatch, name):
    whole = polynomial_slopes.multiplied

    def exact(m, times, a, b, terms):
        made = whole(m, times, a, b, terms)
        return replace(made, error=0 * made.error, length=None)

    monkeypatch.setattr(polynomial_slopes, "multiplied", exact)
    assert beyond(name, 2.0**-40, precise=False) > 1


@pytest.mark.parametrize("name", ["dense", "conv", "transposed", "average", "take", "scale"])
def test_sums_of_weights_in_simple_precision_are_seen(monkeypatch, name):
    whole = polynomial_slopes.precise_transpose
    monkeypatch.setattr(
        polynomial_slopes, "precise_transpose", lambda *given: Precise.exact(whole(*given).high)
    )
    assert beyond(name, 2.0**-70, seeds=6) > 1


@pytest.mark.parametrize("name", ["multiply", "gate", "matrix product", "gelu", "centred norm", "softmax"])
def test_products_in_simple_precision_are_seen(monkeypatch, name):
    whole = polynomial_slopes.precise_along
    monkeypatch.setattr(polynomial_slopes, "precise_along", lambda *given: Precise.exact(whole(*given).high))
    assert beyond(name, 2.0**-70) > 1


@pytest.mark.parametrize("name", ["softmax", "plain norm"])
def test_errors_that_are_forgotten_are_seen(monkeypatch, name):
    monkeypatch.setattr(polynomial_slopes, "_loosened", lambda x, *_: x)
    assert beyond(name, 2.0**-12) > 1


def test_means_that_are_not_taken_are_seen(monkeypatch):
    monkeypatch.setattr(polynomial_slopes, "_levelled", lambda x: x)
    assert beyond("centred norm", 2.0**-12) > 1


@pytest.mark.parametrize("name", ["gelu", "sigmoid", "multiply", "gate", "matrix product", "softmax"])
def test_factors_that_do_not_move_are_seen(monkeypatch, name):
    whole = polynomial_slopes.differences

    def still_factor(m, times, a, b, terms):
        return whole(m, times, a, replace(b, away=Forms(0 * b.away.rows, 0 * b.away.error, COUNT)), terms)

    monkeypatch.setattr(polynomial_slopes, "differences", still_factor)
    assert beyond(name, 2.0**-12) > 1
