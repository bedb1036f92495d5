"""Lines of max pooling, and of ReLU behind it: they hold, and what nobody reads is left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from formed import affine_part
from steadygaze.enclosing.forms import Forms
from steadygaze.network.bounding import tightening
from steadygaze.network.bounding.bounds import bounds_of
from steadygaze.network.bounding.rows.bands import Band
from steadygaze.network.bounding.rows.window_lines import window_lines
from steadygaze.network.bounding.tightening import Effort, Tightening
from steadygaze.network.building import GraphBuilder
from steadygaze.network.graph import Graph
from steadygaze.network.layers import Dense
from steadygaze.network.pieces import MaxPool, PiecewiseLinear

COUNT = 2


def hinge(least):
    """ReLU, leaky where the slope below 0 is another."""
    return PiecewiseLinear(
        torch.zeros(1, dtype=torch.float64),
        torch.tensor([[least], [1.0]], dtype=torch.float64),
        torch.zeros((2, 1), dtype=torch.float64),
    )


@pytest.mark.parametrize("at", [0.25, 0.5])
def test_window_lines_hold_the_largest(at):
    rng = np.random.default_rng(2)
    windows = torch.tensor([[0, 1, 2, -1], [2, 3, 4, 5], [5, 6, -1, -1]])
    layer = MaxPool(windows, (7,), (3,))
    centre = torch.from_numpy(rng.standard_normal((6, 1, 7)))
    slopes = torch.from_numpy(rng.standard_normal((6, COUNT, 7)))
    spread = torch.tensor([1e-3, 0.1, 0.3, 1.0, 3.0, 0.0], dtype=torch.float64)[:, None, None]
    forms = Forms(
        torch.cat([centre, spread * slopes], 1), 0.01 * torch.ones((6, 7), dtype=torch.float64), COUNT
    )
    found = window_lines(layer, forms, *forms.bounds(), False, torch.full((6,), at, dtype=torch.float64))
    band = Band.of(forms).through(found, (3,))
    rows = torch.from_numpy(rng.standard_normal((6, 5, 3)))
    own, constant, rounding = found.pulled(rows.clone())
    for _ in range(40):
        t = torch.from_numpy(rng.choice([-1.0, 0.3, 1.0], (6, COUNT)))
        z = affine_part(forms, t, t[:, :0]) + torch.from_numpy(rng.choice([-0.01, 0.01], (6, 7)))
        largest = layer.forward(z)
        least = (own @ z[..., None])[..., 0] + constant - rounding
        assert ((rows @ largest[..., None])[..., 0] >= least - 1e-12).all()
        low, high = band.bounds
        assert (low <= largest + 1e-12).all()
        assert (largest <= high + 1e-12).all()


def widest(least=0.0, seeds=12, error=0.0):
    """How far samples of random small networks are beyond their bounds, at most; and how wide these are."""
    worst, width = 0.0, 0.0
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        builder = GraphBuilder((COUNT,))
        weight, bias = rng.normal(size=(12, COUNT)), rng.uniform(-3, 0.5, 12)
        last = builder.add(Dense(torch.from_numpy(weight), torch.from_numpy(bias)), 0, name="values")
        last = builder.add(MaxPool(torch.arange(12).reshape(4, 3), (12,), (4,)), last, name="maxima")
        last = builder.add(hinge(least), last, name="bent")
        weight = torch.from_numpy(rng.normal(size=(3, 4)))
        builder.add(Dense(weight, torch.zeros(3, dtype=torch.float64)), last, name="logits")
        graph = Graph(tuple(builder.nodes))
        rows = torch.cat([torch.zeros(1, 1, COUNT), torch.eye(COUNT)[None]], dim=1).double()
        pixels = Forms(rows, torch.full((1, COUNT), error, dtype=torch.float64), COUNT)
        backward = bounds_of(graph, pixels, {graph.last}, {}, 0, effort=Effort.UNITS).backward
        asked = torch.cat([torch.eye(3), -torch.eye(3)]).double()
        found = backward.least(asked[None], graph.last)[0]
        t = torch.from_numpy(rng.choice([-1.0, 1.0, 0.1, 0.6, -0.4], (400, COUNT)))
        t = t + error * torch.from_numpy(rng.choice([-1.0, 1.0], (400, COUNT)))
        values = graph.forward(t) @ asked.T
        worst, width = max(worst, float((found - values).max())), width - float(found.sum())
    return worst, width


@pytest.mark.parametrize("error", [0.0, 0.3])
@pytest.mark.parametrize("least", [0.0, 0.1])
def test_values_behind_maxima_stay_within_bounds(least, error):
    assert widest(least, error=error)[0] <= 1e-12


def test_inputs_of_windows_that_relu_never_passes_are_left_out(monkeypatch):
    found = widest()[1]
    monkeypatch.setattr(Tightening, "_is_rectified", lambda *_: False)
    assert found < 0.97 * widest()[1]


def test_inputs_that_others_than_relu_read_are_not(monkeypatch):
    monkeypatch.setattr(Tightening, "_is_rectified", lambda *_: True)
    assert widest(0.1)[0] > 1e-3


def test_what_is_left_out_says_nothing_from_below(monkeypatch):
    """A maximum of all inputs is higher than one of those that are kept, whose chord begins lower."""

    def all_inputs(layer, winner, low, high):
        least = low[:, layer.windows].amax(dim=2)
        return least, torch.ones_like(least, dtype=torch.bool)

    monkeypatch.setattr(tightening, "kept_low", all_inputs)
    assert widest()[0] > 1e-3


def test_pixels_that_are_off_choose_lines_nearer_to_the_low_end(monkeypatch):
    found = widest(error=1.0)[1]
    monkeypatch.setattr(tightening, "_LEAST", 0.5)
    assert found < 0.99 * widest(error=1.0)[1]


def test_maxima_that_nobody_reads_are_those_of_all_inputs():
    """Where they are the logits, an input below 0 counts as much as any other."""
    builder = GraphBuilder((COUNT,))
    weight = torch.tensor([[1.0, 0.0], [0.0, 0.1], [1.0, 0.0]]).double()
    last = builder.add(Dense(weight, torch.tensor([-2.0, -2.5, -2.0]).double()), 0, name="values")
    builder.add(MaxPool(torch.tensor([[0, 1], [2, -1]]), (3,), (2,)), last, name="logits")
    graph = Graph(tuple(builder.nodes))
    rows = torch.cat([torch.zeros(1, 1, COUNT), torch.eye(COUNT)[None]], dim=1).double()
    pixels = Forms(rows, torch.zeros((1, COUNT), dtype=torch.float64), COUNT)
    backward = bounds_of(graph, pixels, {graph.last}, {}, 0, effort=Effort.UNITS).backward
    gap = torch.tensor([[-1.0, 1.0]]).double()
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * COUNT)
    assert backward.least(gap[None], graph.last) <= (graph.forward(corners) @ gap.T).min()
