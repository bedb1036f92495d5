"""Rows that end at a dense layer with the errors of pixels: nothing is lost by it, and nothing left out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from steadygaze.enclosing.forms import Forms
from steadygaze.network.bounding import tightening
from steadygaze.network.bounding.bounds import bounds_of
from steadygaze.network.bounding.rows.ends import End
from steadygaze.network.bounding.tightening import Effort
from steadygaze.network.building import GraphBuilder
from steadygaze.network.graph import Graph
from steadygaze.network.joint import Multiply
from steadygaze.network.layers import Add, Dense, Reshape
from steadygaze.network.pieces import PiecewiseLinear

COUNT, BOXES, PIXELS, OFF = 2, 3, 20, 6


def network(bias):
    """Three dense layers; a large bias keeps all units on."""
    rng, builder, last = np.random.default_rng(3), GraphBuilder((PIXELS,)), 0
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    relu = PiecewiseLinear(zero, torch.stack([zero, one]), torch.zeros((2, 1), dtype=torch.float64))
    for power, (size, before) in enumerate(((12, PIXELS), (8, 12), (3, 8)), start=1):
        weight = torch.from_numpy(rng.standard_normal((size, before)))
        if last:
            last = builder.add(relu, last, name=f"bent {size}")
        last = builder.add(
            Dense(weight, torch.full((size,), bias**power).double()), last, name=f"dense {size}"
        )
    return Graph(tuple(builder.nodes))


def bounded(slight, bias=0.2):
    """Pixels of which some are off their affine parts, all others by a share of that; and what rows need."""
    rng, graph = np.random.default_rng(1), network(bias)
    rows = torch.from_numpy(rng.uniform(-0.3, 0.3, (BOXES, 1 + COUNT, PIXELS)))
    error = torch.full((BOXES, PIXELS), 0.1 * slight, dtype=torch.float64)
    error[:, :OFF] = 0.1
    pixels = Forms(rows, error, COUNT)
    return pixels, bounds_of(graph, pixels, {graph.last}, {}, 0, effort=Effort.UNITS).backward


ROWS = torch.cat([torch.eye(3), -torch.eye(3)]).double()


def least(backward):
    """Bounds ``(B, 6)`` of the logits and of their opposites."""
    return backward.least(ROWS.expand(BOXES, -1, -1), backward.graph.last)


def excess(slight):
    """How far bounds are above the least values, at most, where the network is affine: all units are on."""
    pixels, backward = bounded(slight, 200.0)
    graph, origin = backward.graph, torch.zeros((1, PIXELS), dtype=torch.float64)
    assert all((line.below == 1).all() for line in backward.lines.values())
    matrix = (graph.forward(torch.eye(PIXELS).double()) - graph.forward(origin)) @ ROWS.T
    away = (pixels.rows[:, 1:] @ matrix).abs().sum(dim=1) + pixels.error @ matrix.abs()
    return float((least(backward) - (graph.forward(pixels.centre) @ ROWS.T - away)).max())


@pytest.mark.parametrize("slight", [0.0, 1e-12])
def test_errors_cancel_as_they_do_at_the_pixels(monkeypatch, slight):
    pixels, backward = bounded(slight)
    found = least(backward)
    sign = torch.from_numpy(np.random.default_rng(2).choice([-1.0, 1.0], (400, BOXES, COUNT + PIXELS)))
    images = pixels.centre + torch.einsum("sbi,bin->sbn", sign[..., :COUNT], pixels.rows[:, 1:])
    images = images + pixels.error * sign[..., COUNT:]
    values = backward.graph.forward(images.flatten(0, 1)).unflatten(0, (400, BOXES)) @ ROWS.T
    assert (found <= values + 1e-12).all()
    assert backward.ends[1].weights.shape[1] == OFF, "of all boxes one matrix"
    monkeypatch.setattr(tightening, "_FEW_OFF", 0.0)
    assert 1 not in bounded(slight)[1].ends
    torch.testing.assert_close(found, least(bounded(slight)[1]), rtol=1e-7, atol=1e-7)


def test_errors_are_counted_once_and_no_further():
    assert -1e-6 < excess(0.0) <= 0
    assert -1e-6 < excess(1e-12) <= 0


def test_errors_that_are_left_out_are_caught(monkeypatch):
    of, left = End.of_errors, {"weights": 1.0, "rounding": 1.0}

    def less(rows, weights, errors, size, rounding):
        return of(rows, weights * left["weights"], errors, size, rounding * left["rounding"])

    monkeypatch.setattr(End, "of_errors", staticmethod(less))
    monkeypatch.setattr(tightening, "_SLIGHT", 0.6)
    assert excess(0.5) < 0  # of those that are not told apart none cancels
    left["weights"] = 0.5
    assert excess(0.0) > 1e-3
    left |= {"weights": 1.0, "rounding": 0.0}
    assert excess(0.5) > 1e-3


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("dense_first", [True, False])
def test_errors_are_not_taken_for_the_symbols_of_other_ends(sign, dense_first):
    """Of a product of two pixels, which is a form with a symbol, and a third pixel that is off."""

    def dense(*entries):
        weight = torch.zeros((len(entries), 10 if len(entries[0]) > 1 else 1), dtype=torch.float64)
        for row, own in zip(weight, entries, strict=True):
            row[: len(own)] = torch.tensor(own)
        return Dense(weight, torch.zeros(len(entries), dtype=torch.float64))

    builder = GraphBuilder((10,))

    def off():
        return builder.add(dense([0.0, 0.0, 1.0]), builder.add(Reshape((10,)), 0, name="beside"), name="off")

    first = off() if dense_first else None
    pixels = builder.add(Reshape((10,)), 0, name="pixels")
    factors = [builder.add(dense([*own]), pixels, name=f"factor {own}") for own in ((1.0, 0.0), (0.0, 1.0))]
    product = builder.add(Multiply(), *factors, name="product")
    product = builder.add(dense([sign]), product, name="signed")
    builder.add(Add(), off() if first is None else first, product, name="logits")
    graph = Graph(tuple(builder.nodes))
    rows = torch.zeros((1, 3, 10), dtype=torch.float64)
    rows[0, 1, 0] = rows[0, 2, 1] = 1.0
    error = torch.zeros((1, 10), dtype=torch.float64)
    error[0, 2] = 1.0
    backward = bounds_of(graph, Forms(rows, error, 2), {graph.last}, {}, 8, effort=Effort.UNITS).backward
    found = backward.least(torch.ones((1, 1, 1), dtype=torch.float64), graph.last)
    assert any(end.weights is not None for end in backward.ends.values())
    assert any(forms.symbols for forms in backward.grounds.values())
    images = torch.zeros((8, 10), dtype=torch.float64)
    images[:, :3] = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=3)))
    assert found <= graph.forward(images).min()
    assert found >= graph.forward(images).min() - 1e-9
