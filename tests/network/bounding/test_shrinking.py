"""Bounds over small boxes are as wide as what happens there, of every kind of layer and in deep networks."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from branching import BRANCHING
from smooth_networks import MADE, made
from steadygaze.enclosing.enclosures import Enclosure
from steadygaze.enclosing.forms import Forms
from steadygaze.network.bounding.bounds import bounds_of
from steadygaze.network.bounding.forms.slack import slacks_of
from steadygaze.network.bounding.polynomials import is_deep
from steadygaze.network.bounding.small_boxes import bounds_over
from steadygaze.network.bounding.tightening import Effort
from steadygaze.network.graph import Graph
from steadygaze.network.reading.load import load_network
from steadygaze.network.regions.rounding import scales_of, tolerances_of
from variants import NETWORKS, network

EDGE = 2.0**-20
# Deep networks of attention come to it by their third derivatives.
LOOSE = {"attention": 1.1}


def module_of(name):
    if name in MADE:
        return made(name)
    if name in NETWORKS:
        return network(name)
    torch.manual_seed(len(name))
    return BRANCHING[name]().double().eval()


def widths(graph, edge, room=32):
    """Of logits and of gradients: widths of bounds, those of what is computed, and how large that is."""
    rng, shape = np.random.default_rng(3), graph.input_shape
    centre = torch.from_numpy(rng.uniform(0.1, 0.9, (1, *shape)))
    directions = edge * torch.from_numpy(rng.uniform(-1, 1, (2, *shape)))
    pixels = Forms(torch.cat([centre, directions])[None], torch.zeros((1, *shape), dtype=torch.float64), 2)
    scales = scales_of(graph, graph.values_at(centre, range(len(graph.nodes))))
    tolerances = slacks_of(graph, graph, tolerances_of(graph, scales, 1e-10))
    bounds = bounds_of(graph, pixels, {graph.last}, tolerances, room)
    seed = torch.zeros((1, graph.classes), dtype=torch.float64)
    seed[:, 1] = 1.0
    corners = torch.tensor([*product((-1.0, 0.0, 1.0), repeat=2)], dtype=torch.float64)
    images = centre + torch.einsum("bi,i...->b...", corners, directions)
    computed = (graph.forward(images), graph.gradient_at(images, 1))
    for forms, values in zip(
        (bounds.values[graph.last], bounds.pull_back(Forms.exact(seed, 2), 0)), computed, strict=True
    ):
        low, high = forms.bounds()
        spread = values.amax(dim=0) - values.amin(dim=0)
        yield (high - low)[0].sum(), spread.sum(), values.abs().sum()


@pytest.mark.parametrize("name", [*NETWORKS, *BRANCHING, *MADE])
def test_bounds_over_small_boxes_are_as_wide_as_what_happens(name):
    channels = 3 if name.startswith("colour") else 1
    graph = load_network(module_of(name), input_shape=(channels, 6, 6)).graph
    for bound, sampled, size in widths(graph, EDGE):
        assert bound <= LOOSE.get(name, 1.02) * sampled + 1e-11 * size


def deep(count=18, channels=8):
    torch.manual_seed(5)
    layers: list[nn.Module] = [nn.Conv2d(1, channels, 3, padding=1)]
    for _ in range(count):
        layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()]
    module = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3))
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return module.double().eval()


def test_rounding_does_not_drown_deep_networks():
    """Entry by entry what rounding may add grows some tenfold with each convolution."""
    graph = load_network(deep(), input_shape=(1, 8, 8)).graph
    (bound, sampled, size), (steep, bent, length) = widths(graph, 2.0**-24)
    assert bound <= sampled + 1e-4 * size
    assert steep <= bent + 1e-2 * length
    entry_by_entry = Graph(graph.nodes)
    vars(entry_by_entry)["growth"] = 1.0
    (bound, _, size), (steep, _, length) = widths(entry_by_entry, 2.0**-24)
    assert bound > 3e-4 * size
    assert steep > 2e-2 * length


def residual(blocks):
    """Residual blocks of two dense layers each, behind one norm."""
    torch.manual_seed(4)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))

        def forward(self, x):
            return x + self.inner(x)

    return nn.Sequential(
        nn.Flatten(), nn.Linear(16, 6), nn.LayerNorm(6), *(Block() for _ in range(blocks)), nn.Linear(6, 3)
    )


@pytest.mark.parametrize(("blocks", "deep"), [(10, False), (51, True)])
def test_of_very_deep_networks_slopes_of_values_are_known_to_twice_the_precision(blocks, deep):
    """Where the class alone is asked about, too: as if gradients were."""
    graph = load_network(residual(blocks).double().eval(), input_shape=(1, 4, 4)).graph
    assert is_deep(graph) == deep
    image = np.random.default_rng(6).uniform(0.1, 0.9, (1, 1, 4, 4))
    slopes, nothing = np.full((1, 1, 1, 4, 4), 2.0**-16), np.zeros((1, 1, 4, 4))
    pixels = Enclosure(image, slopes, nothing)
    widths = []
    for drifting in (False, True):
        bounds = bounds_over(
            pixels, graph, {graph.last}, {}, 32, effort=Effort.POLYNOMIALS, drifting=drifting
        )
        low, high = bounds.values[graph.last].bounds()
        widths.append((high - low).numpy())
    assert np.array_equal(*widths) == deep
