"""What rows in float32 lose on their way, held against exact fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from formed import exact
from steadygaze.enclosing.forms import Forms
from steadygaze.network.bounding import tightening
from steadygaze.network.bounding.bounds import bounds_of
from steadygaze.network.bounding.rows import ends
from steadygaze.network.bounding.rows.backward import Backward
from steadygaze.network.bounding.rows.lines import Lines
from steadygaze.network.bounding.rows.window_lines import WindowLines
from steadygaze.network.bounding.tightening import Effort
from steadygaze.network.building import GraphBuilder
from steadygaze.network.layers import Dense
from steadygaze.network.pieces import MaxPool
from steadygaze.network.reading.load import load_network


def farthest_above(shape, seeds=range(6), plain=False):
    """By how much rows in float32 through a layer ``(outputs, inputs)`` are above the least values, exactly.

    As a share of what they are sums of; below 0 where none is. plain: with weights of 1 and no biases.
    """
    worst = -1.0
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        weight, bias = (
            torch.rand(*own, generator=generator, dtype=torch.float64) for own in (shape, shape[:1])
        )
        if plain:
            weight, bias = torch.ones_like(weight), torch.zeros_like(bias)
        builder = GraphBuilder(shape[1:])
        graph = builder.build(builder.add(Dense(weight, bias), 0, name="dense"))
        rows = torch.rand(2, 3, shape[1], generator=generator, dtype=torch.float64)
        forms = Forms(rows, torch.zeros(2, shape[1], dtype=torch.float64), 2)
        backward = Backward(graph, grounds={0: forms}, sizes={0: forms.most})
        backward.sizes[1] = graph.nodes[1].layer.absolute.forward(forms.most)
        asked = torch.rand(2, 8, shape[0], generator=generator, dtype=torch.float64).to(torch.float32)
        found = backward.narrowed(1).least(asked, 1)
        for box in range(2):
            values = exact(asked[box].double()).dot(exact(weight)).dot(exact(rows[box]).T)
            constant = exact(asked[box].double()).dot(exact(bias))
            least = values[:, 0] + constant - np.abs(values[:, 1:]).sum(axis=1)
            whole = np.abs(values).sum(axis=1) + constant
            over = [
                float((Fraction(own) - true) / all_of_it)
                for own, true, all_of_it in zip(found[box].tolist(), least, whole, strict=True)
            ]
            worst = max(worst, *over)
    return worst


@pytest.mark.parametrize("shape", [(3, 200), (200, 3), (1, 1)])
def test_each_step_counts_its_own_sums(shape):
    # No more is counted than for the products of each sum, of which the end has none in float32.
    assert -(shape[0] + 20) * 2.0**-23 < farthest_above(shape) <= 0


def test_rounding_of_a_step_that_is_left_out_is_caught(monkeypatch):
    rounding = Backward._rounding
    monkeypatch.setattr(Backward, "_rounding", lambda *own: 2.0**-30 * rounding(*own))
    assert farthest_above((200, 3), range(20)) > 0


def test_rounding_of_coefficients_at_the_end_that_is_left_out_is_caught(monkeypatch):
    # A step of one product with 1 is exact.
    monkeypatch.setattr(Backward, "_rounding", lambda own, index, kind: (0 * own.scale(index)).to(kind))
    assert farthest_above((1, 1), range(20), plain=True) <= 0
    monkeypatch.setattr(ends, "_singled", lambda own, _sign, kind: own.to(kind))
    assert farthest_above((1, 1), range(20), plain=True) > 0


@pytest.mark.parametrize("entry", [1.0, 1e-30, 1e-38, 1e-41, 1e-44])
def test_lines_count_what_float32_loses_beneath_its_least_numbers(entry):
    numbers = torch.linspace(0.11, 0.93, 16, dtype=torch.float64)[None]
    size = torch.full_like(numbers, 1e3)
    lines = Lines(numbers, torch.zeros_like(numbers), numbers, torch.zeros_like(numbers), size)
    narrow = lines.to(torch.float32)
    for sign in (1.0, -1.0):
        rows = (sign * entry * torch.linspace(1, 3, 16, dtype=torch.float64)).to(torch.float32)[None, None]
        own, _, rounding = narrow.pulled(rows)
        true = exact(rows[0, 0].double()) * exact(numbers[0])
        off = sum(abs(exact(own[0, 0].double()) - true)) * 1000
        assert off <= Fraction(float(rounding[0, 0]))


@pytest.mark.parametrize("entry", [1.0, 1e-30, 1e-38, 1e-41, 1e-44])
def test_lines_of_windows_count_what_float32_loses_beneath_its_least_numbers(entry):
    weights = torch.tensor([[[0.37, 0.29, 0.34]]], dtype=torch.float64)
    nothing, size = torch.zeros((1, 1), dtype=torch.float64), torch.full((1, 3), 1e3, dtype=torch.float64)
    one = torch.tensor([0])
    layer = MaxPool(torch.tensor([[0, 1, 2]]), (3,), (1,))
    narrow = WindowLines(layer, one[None], one, weights, nothing, size).to(torch.float32)
    # A row below 0 takes the sum that is above.
    rows = torch.full((1, 1, 1), -entry, dtype=torch.float32)
    own, _, rounding = narrow.pulled(rows)
    true = exact(rows[0, 0].double())[0] * exact(weights[0, 0])
    off = sum(abs(exact(own[0, 0].double()) - true)) * 1000
    assert off > 0 or entry == 1e-44
    assert off <= Fraction(float(rounding[0, 0]))


def residual():
    """A residual network, and boxes over which bands are far wider than what rows say."""
    torch.manual_seed(2)
    parts = [
        nn.Conv2d(1, 6, 3, 2, 1),
        nn.ReLU(),
        *(Residual(6) for _ in range(6)),
        nn.Flatten(),
        nn.Linear(96, 3),
    ]
    graph = load_network(nn.Sequential(*parts).double(), input_shape=(1, 8, 8)).graph
    rng = np.random.default_rng(4)
    rows = torch.from_numpy(rng.uniform(-1, 1, (2, 3, 1, 8, 8)))
    rows[:, 1:] *= 0.1
    return graph, Forms(rows, torch.zeros(2, 1, 8, 8, dtype=torch.float64), 2)


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.one, self.two = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return torch.relu(x + self.two(torch.relu(self.one(x))))


def test_few_rows_are_in_float64_however_wide_bands_are(monkeypatch):
    graph, pixels = residual()
    asked, widths, narrowed = [], [], Backward.narrowed

    def counted(own, start):
        asked.append(start)
        return narrowed(own, start)

    monkeypatch.setattr(Backward, "narrowed", counted)
    for heavy in (tightening._HEAVY, 0):
        monkeypatch.setattr(tightening, "_HEAVY", heavy)
        low, high = bounds_of(graph, pixels, {graph.last}, {}, 8, effort=Effort.UNITS).gaps(1)
        widths.append(high - low)
        assert bool(asked) == (not heavy)
    assert (widths[0] < widths[1] * (1 - 1e-5)).all()
    share = torch.rand(500, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    for box in range(2):
        logits = graph.forward(
            pixels.rows[box, 0] + torch.einsum("pn,nchw->pchw", share, pixels.rows[box, 1:])
        )
        gaps = logits[:, [1]] - logits[:, [0, 2]]
        assert (low[box] <= gaps).all()
        assert (gaps <= high[box]).all()
