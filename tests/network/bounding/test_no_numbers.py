"""Ranges that are infinite, or no numbers at all: nothing may be bounded as if they were known."""

from __future__ import annotations

import math
from functools import cache, partial

import pytest
import torch
from torch import nn

from steadygaze.enclosing.forms import Forms
from steadygaze.network.bounding.anchors import anchored_layers
from steadygaze.network.bounding.anchors.anchored import Anchored
from steadygaze.network.bounding.bounds import bounds_of
from steadygaze.network.bounding.forms import relaxing
from steadygaze.network.bounding.polynomials import polynomial_bounds
from steadygaze.network.bounding.small_boxes import bounds_about
from steadygaze.network.bounding.tightening import Effort
from steadygaze.network.reading.load import load_network
from steadygaze.question.inconsistency import by_name

ACTIVATIONS = {
    "relu": nn.ReLU,
    "leaky": lambda: nn.LeakyReLU(0.1),
    "hardtanh": nn.Hardtanh,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
    "elu": nn.ELU,
}
# What is wrong with one pixel: of its form the row, the error being the last, and what stands there.
FAULTS = {
    f"{name} {value}": (row, value)
    for row, name in enumerate(("centre", "slope", "error"))
    for value in (math.inf, math.nan, 1e307)
}
PIXEL, CLASSES = 5, 3


@cache
def network_of(kind, name):
    """A module and its graph."""
    module = module_of(kind, name)
    return module, load_network(module, input_shape=(1, 4, 4)).graph


def module_of(kind, name):
    torch.manual_seed(3)
    act = ACTIVATIONS[name]
    if kind == "normed":
        parts = [nn.Flatten(), nn.Linear(16, 8), nn.LayerNorm(8), act(), nn.Linear(8, 8)]
        return nn.Sequential(*parts, nn.Softmax(1), act(), nn.Linear(8, CLASSES)).double().eval()
    if kind == "dense":
        parts = [nn.Flatten(), nn.Linear(16, 8), act(), nn.Linear(8, 8), act(), nn.Linear(8, 8), act()]
        return nn.Sequential(*parts, nn.Linear(8, CLASSES)).double().eval()
    parts = [nn.Conv2d(1, 3, 2), act(), nn.MaxPool2d(2, 1), nn.Conv2d(3, 4, 2), act(), nn.Flatten()]
    return nn.Sequential(*parts, nn.Linear(4, CLASSES)).double().eval()


def pixels_with(fault):
    """Forms of one box, and images ``(S, 1, 4, 4)`` in it: the pixel may be anything."""
    row, value = FAULTS[fault]
    generator = torch.Generator().manual_seed(1)
    rows = torch.rand(1, 3, 16, generator=generator, dtype=torch.float64)
    rows[:, 1:] = (rows[:, 1:] - 0.5) * 0.1
    t = 2 * torch.rand(300, 2, generator=generator, dtype=torch.float64) - 1
    images = rows[0, 0] + t @ rows[0, 1:]
    scales = 10.0 ** torch.randint(-2, 8, (300,), generator=generator)
    images[:, PIXEL] = torch.randn(300, generator=generator, dtype=torch.float64) * scales
    error = torch.zeros(1, 16, dtype=torch.float64)
    (error if row == 2 else rows[:, row])[0, PIXEL] = value
    if fault == "centre 1e+307":
        images[:, PIXEL] = value
    forms = Forms(rows.reshape(1, 3, 1, 4, 4), error.reshape(1, 1, 4, 4), 2)
    return forms, images.reshape(-1, 1, 4, 4)


def is_contradicted(low, high, values):
    """Whether bounds exclude a value; those that are no numbers exclude none."""
    slack = 1e-9 * (1 + values.abs())
    finite = values.isfinite()
    return bool((finite & ((low - slack > values) | (high + slack < values))).any())


def about_anchors(forms, is_drifting, in_anchor):
    """The same pixels as anchors and what is beside them; constants stand in one or the other."""
    rows, drift = forms.rows.clone(), None
    anchor = rows[:, 0].clone() if in_anchor else torch.zeros_like(rows[:, 0])
    if in_anchor:
        rows[:, 0] = 0.0
    if is_drifting:
        drift = rows[:, 1:].clone()
        rows[:, 1:] = 0.0
    return Anchored(anchor, Forms(rows, forms.error, forms.count), drift)


def bounded(graph, forms, way):
    """The network over the box: by forms with an effort, or by differences from anchors."""
    if isinstance(way, Effort) and way is not Effort.POLYNOMIALS:
        return [bounds_of(graph, forms, {graph.last}, {}, 8, effort=way)]
    found = []
    for in_anchor in (False, True):
        if way is Effort.POLYNOMIALS:
            for drifting in (False, True):
                pixels = about_anchors(forms, drifting, in_anchor)
                found.append(polynomial_bounds(graph, pixels, {graph.last}, {}, 3))
        else:
            pixels = about_anchors(forms, False, in_anchor)
            found.append(bounds_about(graph, pixels, {graph.last}, {}, 8))
    return found


def wrong(kind, name, fault, way):
    """What of values, rows, turned rows and gradients is bounded too narrowly."""
    module, graph = network_of(kind, name)
    forms, images = pixels_with(fault)
    images.requires_grad_(True)
    logits = module(images)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), images)
    gaps = (logits[:, [0]] - logits[:, 1:]).detach()
    all_wrong = set()
    for known in bounded(graph, forms, way):
        all_wrong |= wrong_of(known, gaps, gradient.detach())
    return all_wrong


def wrong_of(known, gaps, gradient):
    """The same of these bounds, given class gaps and gradients at points."""
    graph = known.graph
    found = {"values": is_contradicted(*known.gaps(0), gaps)}
    if known.backward is not None:
        rows = known._rows(0)
        both = known.backward.least(torch.cat([rows, -rows])[None], graph.last)
        found["rows"] = is_contradicted(both, torch.full_like(both, torch.inf), torch.cat([gaps, -gaps], 1))
        wanted = torch.full((CLASSES - 1,), torch.inf, dtype=torch.float64)
        turned = known.steepened_gaps(0, torch.zeros(2, dtype=torch.int64), torch.arange(2), wanted)
        found["turned"] = is_contradicted(turned, wanted, gaps)
    seed = Forms.exact(torch.eye(CLASSES, dtype=torch.float64)[:1], 2)
    found["gradients"] = is_contradicted(*known.pull_back(seed, 0).bounds(), gradient)
    return {what for what, is_so in found.items() if is_so}


# Of units that bend, or curve, in the same way some are quick enough for every day.
of_slower = partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize("effort", [Effort.FORMS, Effort.GAPS, Effort.UNITS])
@pytest.mark.parametrize(
    "name", ["relu", "hardtanh", "gelu", "elu", *map(of_slower, ("leaky", "tanh", "softplus"))]
)
@pytest.mark.parametrize("kind", ["dense", "pooled"])
def test_nothing_is_bounded_by_what_is_not_known(kind, name, effort):
    for fault in FAULTS:
        assert not wrong(kind, name, fault, effort), fault


@pytest.mark.parametrize("way", [Effort.POLYNOMIALS, "differences"], ids=str)
@pytest.mark.parametrize("name", ["hardtanh", "gelu", *map(of_slower, ("relu", "elu"))])
@pytest.mark.parametrize("kind", ["dense", "pooled", "normed"])
def test_nothing_is_said_of_differences_from_what_is_not_known(kind, name, way):
    for fault in FAULTS:
        assert not wrong(kind, name, fault, way), fault


@pytest.mark.parametrize("way", [Effort.FORMS, Effort.POLYNOMIALS, "differences"], ids=str)
def test_units_that_keep_a_piece_because_nothing_is_known_are_caught(monkeypatch, way):
    for room in (relaxing, anchored_layers):
        monkeypatch.setattr(room, "or_all_numbers", lambda *ends: ends)
    found = (wrong("dense", "hardtanh", fault, way) for fault in FAULTS)
    assert any("gradients" in own for own in found)


@pytest.mark.parametrize("name", ["cosine", "l2", "l1", "linf", "top-k"])
@pytest.mark.parametrize("fault", FAULTS)
def test_no_inconsistency_is_known_of_maps_that_are_not(name, fault):
    forms, images = pixels_with(fault)
    metric = by_name(name)
    expected = torch.rand(1, 16, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    low, high = metric.bounds(forms.flattened(), Forms.exact(expected, 2))
    # A map's length does not matter to any of them; squares of 1e307 are infinite.
    maps = images.flatten(1) / images.flatten(1).abs().amax(dim=1, keepdim=True)
    values = metric.between(maps, expected.expand(len(images), -1))
    assert not is_contradicted(low, high, values)
