"""Ranges of units by ranges alone, beside those of forms, bands and rows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from steadygaze.enclosing.forms import Forms
from steadygaze.network.bounding import tightening
from steadygaze.network.bounding.bounds import bounds_of
from steadygaze.network.bounding.rows.bands import moved
from steadygaze.network.bounding.tightening import Effort
from steadygaze.network.layers import AbstractAffine
from steadygaze.network.reading.load import load_network

COUNT = 2


def graph_of(activation, shift=0.5):
    """A network; its units are mostly on one piece where biases are large."""
    torch.manual_seed(5)
    sizes = (9, 16, 16, 16, 4)
    parts = [nn.Flatten()]
    for inner, outer in pairwise(sizes):
        layer = nn.Linear(inner, outer).double()
        with torch.no_grad():
            layer.bias.sub_(shift)
        parts += [layer, activation()]
    return load_network(nn.Sequential(*parts[:-1]), input_shape=(1, 3, 3)).graph


def pixels_around(rng, boxes, width):
    rows = torch.from_numpy(rng.uniform(-width, width, (boxes, 1 + COUNT, 1, 3, 3)))
    return Forms(rows, torch.zeros((boxes, 1, 3, 3), dtype=torch.float64), COUNT)


def interval(graph, pixels):
    """Largest magnitudes ``(B, M)`` of each node by plain intervals; activations here never fall."""
    ends = {0: pixels.bounds()}
    for index, node in enumerate(graph.nodes[1:], start=1):
        low, high = ends[node.inputs[0]]
        if isinstance(node.layer, AbstractAffine):
            middle = node.layer.forward((low + high) / 2)
            reach = node.layer.absolute.linear((high - low) / 2)
            ends[index] = middle - reach, middle + reach
        else:
            ends[index] = node.layer.forward(low), node.layer.forward(high)
    return {index: torch.maximum(low.abs(), high.abs()) for index, (low, high) in ends.items()}


@pytest.mark.parametrize("activation", [nn.ReLU, nn.LeakyReLU, nn.Sigmoid])
@pytest.mark.parametrize("effort", [Effort.GAPS, Effort.UNITS])
def test_no_range_is_wider_than_that_of_plain_intervals(activation, effort):
    graph, rng = graph_of(activation), np.random.default_rng(1)
    pixels = pixels_around(rng, 3, 2.0)
    sizes = bounds_of(graph, pixels, {graph.last}, {}, 8, effort=effort).backward.sizes
    for index, plain in interval(graph, pixels).items():
        assert (sizes[index] <= plain * (1 + 1e-9) + 1e-9).all()


def excess(graph, pixels, effort=Effort.GAPS):
    """How far values are beyond the largest magnitudes that are known of them."""
    rng, worst = np.random.default_rng(2), -np.inf
    sizes = bounds_of(graph, pixels, {graph.last}, {}, 8, effort=effort).backward.sizes
    for _ in range(60):
        t = torch.from_numpy(rng.choice([-1.0, 1.0, 0.3], (len(pixels.rows), COUNT, 1, 1, 1)))
        values = graph.values_at(pixels.centre + (t * pixels.rows[:, 1:]).sum(dim=1), range(len(graph.nodes)))
        worst = max(worst, *(float((values[index].abs() - size).max()) for index, size in sizes.items()))
    return worst


@pytest.mark.parametrize("activation", [nn.ReLU, nn.LeakyReLU, nn.Sigmoid])
def test_values_stay_inside(activation):
    pixels = pixels_around(np.random.default_rng(1), 3, 2.0)
    assert max(excess(graph_of(activation), pixels, effort) for effort in Effort if effort.value > 0) <= 1e-9


def test_ranges_that_leave_out_half_of_their_reach_are_caught(monkeypatch):
    def halved(layer, bands, ranges):
        band, (low, high) = moved(layer, bands, ranges)
        return band, (low * 0.75 + high * 0.25, low * 0.25 + high * 0.75)

    monkeypatch.setattr(tightening, "moved", halved)
    assert excess(graph_of(nn.ReLU), pixels_around(np.random.default_rng(1), 3, 2.0)) > 1e-6


def widths(graph, pixels):
    """Widths ``(B, K)`` of the logits' bounds by rows, with rows for units."""
    backward = bounds_of(graph, pixels, {graph.last}, {}, 8, effort=Effort.UNITS).backward
    assert backward is not None
    rows = torch.cat([torch.eye(4), -torch.eye(4)]).double()[None].expand(len(pixels.error), -1, -1)
    return -backward.least(rows, graph.last).unflatten(1, (2, 4)).sum(dim=1)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.LeakyReLU])
def test_errors_of_pixels_cancel_nearly_as_coordinates_do(activation):
    """A pixel that is off by an error is the same as one with a coordinate of its own."""
    graph, rng = graph_of(activation, 0.0), np.random.default_rng(1)
    known = pixels_around(rng, 3, 0.5)
    error = torch.from_numpy(rng.uniform(0.5, 1.0, known.error.shape))
    own = torch.diag_embed(error.flatten(1)).unflatten(2, known.error.shape[1:])
    pixels = Forms(known.rows, error, COUNT), Forms(torch.cat([known.rows, own], dim=1), 0 * error, COUNT + 9)
    width, wanted = (widths(graph, each) for each in pixels)
    # Without rows for the second layer of units it is a third wider.
    assert (width <= 1.1 * wanted).all()


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Sigmoid])
def test_large_layers_have_no_symbols_beside_rows_for_units(activation, monkeypatch):
    """Their values stay within what rows say without, and what other layers have stays."""
    graph, rng = graph_of(activation, 0.0), np.random.default_rng(1)
    pixels = pixels_around(rng, 3, 0.5)

    def symbols(effort):
        return bounds_of(graph, pixels, {graph.last}, {}, 8, effort=effort).values[graph.last].symbols

    assert symbols(Effort.UNITS)
    monkeypatch.setattr(tightening, "_LARGE", 15)
    monkeypatch.setattr(tightening, "_HANDFUL", 16)
    assert symbols(Effort.UNITS)
    monkeypatch.setattr(tightening, "_HANDFUL", 0)
    assert symbols(Effort.UNITS) == 0
    assert symbols(Effort.FORMS)
    assert symbols(Effort.GAPS)
    assert excess(graph, pixels, Effort.UNITS) <= 1e-9
