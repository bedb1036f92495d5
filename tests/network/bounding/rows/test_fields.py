"""Rows in the windows that places see: those of whole maps, and sound."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from steadygaze.enclosing.forms import Forms
from steadygaze.network.bounding.bounds import bounds_of
from steadygaze.network.bounding.rows import fields
from steadygaze.network.bounding.rows.backward import Backward
from steadygaze.network.bounding.rows.fields import fields_of
from steadygaze.network.bounding.tightening import Effort
from steadygaze.network.layers import Concat
from steadygaze.network.reading.load import load_network

COUNT = 2


class Block(nn.Module):
    """Two convolutions and a strided one past them; what is added up is read as it is."""

    def __init__(self):
        super().__init__()
        self.ahead, self.first = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.second, self.past = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(3, 4, 1, stride=2)
        self.last = nn.Conv2d(4, 2, 3, padding=1)

    def forward(self, x):
        x = torch.relu(self.ahead(x))
        return self.last(self.second(torch.tanh(self.first(x))) + self.past(x))


class Branched(nn.Module):
    """Two convolutions read the same units in windows of two sizes, and are added up."""

    def __init__(self):
        super().__init__()
        self.ahead, self.wide = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)
        self.narrow = nn.Conv2d(4, 3, 1)

    def forward(self, x):
        x = torch.relu(self.ahead(x))
        return self.wide(x) + self.narrow(x)


class Larger(nn.Module):
    """The larger of two maps, no windows of one map, is read in windows of two sizes."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(1, 4, 1)
        self.wide, self.narrow = nn.Conv2d(4, 3, 3, padding=1), nn.Conv2d(4, 3, 1)

    def forward(self, x):
        x = torch.maximum(self.one(x), self.other(x))
        return self.wide(x) + self.narrow(x)


class Beside(nn.Module):
    """Channels side by side: of units in windows of two sizes, and of a convolution that nothing bends."""

    def __init__(self):
        super().__init__()
        self.ahead, self.first = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 2, 3, padding=1)
        self.unbent, self.last = nn.Conv2d(3, 2, 3, padding=1), nn.Conv2d(7, 3, 3, padding=1)

    def forward(self, x):
        x = torch.relu(self.ahead(x))
        return self.last(torch.cat([x, torch.tanh(self.first(x)), self.unbent(x)], dim=1))


def tail():
    return [nn.LeakyReLU(), nn.Flatten(), nn.LazyLinear(3)]


NETWORKS = {
    "plain": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=2, dilation=2), *tail()
    ),
    "strided": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 4, stride=(2, 3), padding=1),
        nn.Sigmoid(),
        nn.Conv2d(4, 2, 2, padding=1),
        *tail(),
    ),
    # Nothing bends values between two of its convolutions, the first of which pads the second.
    "unbent": lambda: nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(2, 2, 3, padding=1),
        nn.BatchNorm2d(2),
        nn.Conv2d(2, 3, 3, padding=1),
        *tail(),
    ),
    # Padded maxima that overlap, over values that a convolution pads, which SiLU bends.
    "maxima": lambda: nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.SiLU(),
        nn.MaxPool2d(3, 2, padding=1),
        nn.Conv2d(3, 4, 3, padding=1),
        *tail(),
    ),
    "maxima of maxima": lambda: nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 3, 2),
        nn.Tanh(),
        nn.MaxPool2d(2, 1),
        *tail(),
    ),
    "averages": lambda: nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(3, 2, padding=1),
        nn.Conv2d(3, 4, 3, padding=1),
        nn.Sigmoid(),
        nn.AvgPool2d(2, 1),
        nn.Conv2d(4, 2, 2),
        *tail(),
    ),
    "block": lambda: nn.Sequential(Block(), *tail()),
    "branched": lambda: nn.Sequential(Branched(), *tail()),
    "beside": lambda: nn.Sequential(Beside(), *tail()),
    "larger": lambda: nn.Sequential(Larger(), *tail()),
}


def known(name, width=0.3, error=0.01):
    """The graph, pixels, what rows need on their way back, and the nodes that are asked for in windows."""
    torch.manual_seed(7)
    module = NETWORKS[name]().double().eval()
    module(torch.zeros(1, 1, 12, 12, dtype=torch.float64))
    graph = load_network(module, input_shape=(1, 12, 12)).graph
    rows = torch.from_numpy(np.random.default_rng(1).uniform(-width, width, (3, 1 + COUNT, 1, 12, 12)))
    pixels = Forms(rows, torch.full((3, 1, 12, 12), error, dtype=torch.float64), COUNT)
    backward = bounds_of(graph, pixels, {graph.last}, {}, 8, effort=Effort.UNITS).backward
    asked = (graph.nodes[index].inputs[0] for index in backward.lines)
    ends = {*backward.grounds, *backward.ends}
    return graph, pixels, backward, [index for index in asked if fields_of(graph, index, ends)]


@pytest.mark.parametrize("error", [0.0, 0.01])
@pytest.mark.parametrize("name", NETWORKS)
def test_windows_say_what_whole_maps_say(name, error):
    """With exact pixels rows end behind the first units, else at the pixels."""
    graph, _, backward, asked = known(name, error=error)
    assert asked
    assert any(index in backward.lines for index in backward.ends) == (not error)
    for start in asked:
        chosen = torch.rand((3, *graph.nodes[start].shape), generator=torch.Generator().manual_seed(1)) < 0.5
        chosen[0] = False
        found = backward.units(start, chosen.flatten(1))
        for ours, whole in zip(found, backward._units(start, chosen.flatten(1), backward.take), strict=True):
            torch.testing.assert_close(ours, whole, rtol=1e-10, atol=1e-10)


def excess(name):
    """How far values of units are outside what rows in windows say of them."""
    graph, pixels, backward, asked = known(name, 0.1)
    rng, worst = np.random.default_rng(2), -np.inf
    found = {i: backward.units(i, torch.ones_like(backward.sizes[i].flatten(1), dtype=bool)) for i in asked}
    for _ in range(40):
        t = torch.from_numpy(rng.choice([-1.0, 1.0, 0.3], (3, COUNT)))
        away = torch.from_numpy(rng.choice([-1.0, 1.0], (3, 1, 12, 12))) * pixels.error
        images = pixels.centre + torch.einsum("bi,bi...->b...", t, pixels.rows[:, 1:]) + away
        values = graph.values_at(images, asked)
        at = torch.cat([torch.ones((3, 1), dtype=torch.float64), t], dim=1)
        for index, bounds in found.items():
            low, high = (torch.einsum("bi,bin->bn", at, bound) for bound in bounds)
            own = values[index].flatten(1)
            worst = max(worst, float((low - own).max()), float((own - high).max()))
    return worst


@pytest.mark.parametrize("name", NETWORKS)
def test_values_stay_inside(name):
    assert excess(name) <= 1e-9


@pytest.mark.parametrize("name", ["unbent", "beside"])
def test_values_beyond_the_edge_that_are_not_0_are_caught(name, monkeypatch):
    assert known(name)[3]
    monkeypatch.setattr(fields.Window, "sees_beyond", lambda *_: False)
    assert excess(name) > 1e-6


def test_channels_of_another_branch_are_caught(monkeypatch):
    monkeypatch.setattr(Concat, "transpose", lambda _self, g, shapes: g.roll(1, 1).split([3, 2, 2], dim=1))
    assert excess("beside") > 1e-3


def test_windows_of_another_place_are_caught(monkeypatch):
    window = fields.Fields.window
    monkeypatch.setattr(
        fields.Fields, "window", lambda self, index, maps, chosen: window(self, index, maps, chosen.flip(0))
    )
    assert excess("strided") > 1e-6


def test_boxes_go_in_windows_where_these_are_small(monkeypatch):
    _, _, backward, asked = known("block")
    monkeypatch.setattr(Backward, "take", lambda *_: pytest.fail("whole maps"))
    for start in asked:
        backward.units(start, torch.ones((3, backward.sizes[start][0].numel()), dtype=bool))


def test_what_pixels_are_off_by_cancels_through_maxima(monkeypatch):
    """Behind the first maxima bands add it up window by window, and rows do not."""

    def width():
        torch.manual_seed(7)
        layers = [nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.Tanh(), nn.Flatten(), nn.LazyLinear(3)]
        module = nn.Sequential(*layers).double()
        module(torch.zeros(1, 1, 12, 12, dtype=torch.float64))
        graph = load_network(module, input_shape=(1, 12, 12)).graph
        rows = torch.from_numpy(np.random.default_rng(1).uniform(-0.3, 0.3, (3, 1 + COUNT, 1, 12, 12)))
        pixels = Forms(rows, torch.full((3, 1, 12, 12), 0.1, dtype=torch.float64), COUNT)
        backward = bounds_of(graph, pixels, {graph.last}, {}, 8, effort=Effort.UNITS).backward
        asked = torch.eye(3, dtype=torch.float64).expand(3, -1, -1)
        return -(backward.least(asked, graph.last) + backward.least(-asked, graph.last)).sum()

    rows = width()
    monkeypatch.setattr("steadygaze.network.bounding.tightening._FAR_OFF", 9.0)
    assert rows < 0.9995 * width()
