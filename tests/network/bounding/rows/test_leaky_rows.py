"""Rows through leaky ReLU: no wider than CROWN, whose lines follow from its own rows alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from steadygaze.enclosing.forms import Forms
from steadygaze.network.bounding import tightening
from steadygaze.network.bounding.bounds import bounds_of
from steadygaze.network.bounding.rows.ends import least_of
from steadygaze.network.bounding.rows.lines import Lines, piecewise_lines
from steadygaze.network.bounding.tightening import Effort
from steadygaze.network.building import GraphBuilder
from steadygaze.network.layers import Dense
from steadygaze.network.pieces import PiecewiseLinear
from steadygaze.network.reading.load import load_network

SLOPE, COUNT, CLASSES = 0.1, 2, 4
BOTH = torch.cat([torch.eye(CLASSES), -torch.eye(CLASSES)]).double()[None]
LEAKY = PiecewiseLinear(
    torch.zeros(1, dtype=torch.float64),
    torch.tensor([[SLOPE], [1.0]], dtype=torch.float64),
    torch.zeros((2, 1), dtype=torch.float64),
)


def crown(weights, biases, pixels):
    """Lower bounds of all rows of BOTH over one box: every unit of every layer, back to the pixels."""
    rows, error = pixels.rows[0].flatten(1), pixels.error[0].flatten()
    relaxations = []
    for depth, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        own = torch.cat([torch.eye(len(weight)), -torch.eye(len(weight))]).double()
        row, constant = own @ weight, own @ bias
        for layer in reversed(range(depth)):
            below, above, shift = relaxations[layer]
            constant = constant + row.clamp_max(0.0) @ shift
            row = row.clamp_min(0.0) * below + row.clamp_max(0.0) * above
            constant, row = constant + row @ biases[layer], row @ weights[layer]
        form = row @ rows.T
        least = form[:, 0] + constant - form[:, 1:].abs().sum(1) - row.abs() @ error
        low, high = least[: len(weight)], -least[len(weight) :]
        torn = (low < 0) & (high > 0)
        on = torch.where(low >= 0, 1.0, SLOPE)
        chord = torch.where(torn, (high - SLOPE * low) / (high - low), on)
        below = torch.where(torn, torch.where(chord > 0.5, 1.0, SLOPE), on)
        relaxations.append((below, chord, torch.where(torn, high * (1 - chord), 0.0)))
    return least


def networks(count, gain=1.4):
    """Deep networks of few units, their weights and biases, and forms of pixels of one box each."""
    generator, rng = torch.Generator().manual_seed(4), np.random.default_rng(4)
    for number in range(count):
        sizes, builder, weights, biases = (16, *(12,) * 5, CLASSES), GraphBuilder((1, 4, 4)), [], []
        flat = load_network(nn.Flatten(), input_shape=(1, 4, 4)).graph.nodes[-1].layer
        index = builder.add(flat, 0, name="flat")
        for inner, outer in pairwise(sizes):
            weight = torch.randn(outer, inner, generator=generator, dtype=torch.float64)
            weights.append(gain * weight / inner**0.5)
            biases.append(0.1 * torch.randn(outer, generator=generator, dtype=torch.float64))
            index = builder.add(Dense(weights[-1], biases[-1]), index, name="dense")
            if outer != CLASSES:
                index = builder.add(LEAKY, index, name="leaky")
        rows = torch.from_numpy(rng.random((1, 1 + COUNT, 1, 4, 4)))
        rows[:, 1:] = (rows[:, 1:] - 0.5) * (0.05, 0.2, 0.8)[number % 3]
        error = torch.full((1, 1, 4, 4), 0.01 * (number % 2), dtype=torch.float64)
        yield builder.build(index), weights, biases, Forms(rows, error, COUNT)


def widest(count=36):
    """The largest width of a bound over that of CROWN."""
    found = []
    for graph, weights, biases, pixels in networks(count):
        known = bounds_of(graph, pixels, {graph.last}, {}, 8, effort=Effort.UNITS)
        ours = known.backward.least(BOTH, graph.last)[0]
        theirs = crown(weights, biases, pixels)
        spans = [(-own[:CLASSES] - own[CLASSES:]) for own in (ours, theirs)]
        found.append(float((spans[0] / spans[1]).max()))
    return max(found)


def test_no_bound_is_wider_than_crown(monkeypatch):
    monkeypatch.setattr(tightening, "_LOOSE", 0.0)  # each unit in doubt is asked for
    assert widest() <= 1 + 1e-6


def test_lines_of_what_is_known_alone_are_wider(monkeypatch):
    monkeypatch.setattr(tightening, "is_leaky", lambda _: False)
    assert widest() > 1.02


def test_second_rows_are_worth_it(monkeypatch):
    def widths():
        for graph, _, _, pixels in networks(36):
            low, high = bounds_of(graph, pixels, {graph.last}, {}, 8, effort=Effort.UNITS).gaps(0)
            yield float((high - low).sum())

    twice = np.array(list(widths()))
    monkeypatch.setattr(tightening.Tightening, "_asked_of_both", lambda *_: None)
    monkeypatch.setattr(tightening.Tightening, "_turned", lambda _self, _at, _asked, low, high: (low, high))
    once = np.array(list(widths()))
    assert (twice <= once * (1 + 1e-9)).all()
    assert (twice < 0.99 * once).any()


def off():
    """How far both kinds of rows, asked for together, are from each asked for alone: over three boxes."""
    worst = 0.0
    for graph, _, _, pixels in networks(2):
        rows = pixels.rows.repeat(3, 1, 1, 1, 1)
        rows[:, 1:] *= torch.tensor([1.0, 3.0, 0.5], dtype=torch.float64)[:, None, None, None, None]
        three = Forms(rows, pixels.error.repeat(3, 1, 1, 1), COUNT)
        known = bounds_of(graph, three, {graph.last}, {}, 8, effort=Effort.UNITS).backward
        assert known.others
        for index in known.lines:
            (start,) = graph.nodes[index].inputs
            chosen = torch.rand((3, 12), generator=torch.Generator().manual_seed(index)) < 0.7
            both = known.with_others(start).units(start, torch.cat([chosen, chosen]))
            apart = zip(known.units(start, chosen), known.otherwise().units(start, chosen), strict=True)
            for found, own in zip(both, (torch.cat(parts) for parts in apart), strict=True):
                assert found.isfinite().equal(own.isfinite())
                worst = max(worst, float((found - own).nan_to_num(0.0).abs().max()))
    return worst


def test_rows_with_both_lines_go_together_as_they_go_alone():
    assert off() <= 1e-12


def test_lines_of_another_box_are_caught(monkeypatch):
    joined = Lines.joined
    monkeypatch.setattr(Lines, "joined", lambda *own: joined(*own).mapped(lambda part: part.roll(1, 0)))
    assert off() > 1e-3


def beneath(turned):
    """How far what is found over boxes of which some have other lines is beneath both kinds of rows."""
    worst, gained = 0.0, False
    for graph, _, _, pixels in networks(12):
        rows = pixels.rows.repeat(3, 1, 1, 1, 1)
        rows[:, 1:] *= torch.tensor([1.0, 1.2, 0.5], dtype=torch.float64)[:, None, None, None, None]
        three = Forms(rows, pixels.error.repeat(3, 1, 1, 1), COUNT)
        known = bounds_of(graph, three, {graph.last}, {}, 8, effort=Effort.UNITS).backward
        known.last_bend.clear()  # else some rows say more
        # The other lines of the boxes that are not to be turned are the first ones.
        own = torch.tensor([box in turned for box in range(3)])[:, None]
        for index, other in known.others.items():
            pairs = zip(other._parts, known.lines[index]._parts, strict=True)
            known.others[index] = Lines(*(torch.where(own, new, old) for new, old in pairs))
        # Rows that are the same for all boxes, and rows of each.
        scale = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)[:, None, None]
        for asked in (BOTH, BOTH * scale):
            both = [least_of(own.below(asked, graph.last)) for own in (known, known.otherwise())]
            found = known.least(asked, graph.last)
            worst = max(worst, float((torch.fmax(*both) - found).abs().max()))
            gained |= bool((both[1] > both[0] + 1e-6).any())
    assert gained == bool(turned)
    return worst


@pytest.mark.parametrize("turned", [(), (1,), (0, 1), (0, 1, 2)])
def test_only_boxes_that_have_other_lines_are_asked_again(turned):
    assert beneath(turned) <= 1e-12


def test_boxes_that_are_not_asked_again_are_caught(monkeypatch):
    monkeypatch.setattr(Lines, "differs", lambda own, _other: torch.zeros(len(own.size), dtype=bool))
    assert beneath((1,)) > 1e-9


def test_values_stay_within_the_bounds():
    for graph, _, _, pixels in networks(12):
        known = bounds_of(graph, pixels, {graph.last}, {}, 8, effort=Effort.UNITS)
        least = known.backward.least(BOTH, graph.last)[0]
        generator = torch.Generator().manual_seed(1)
        t, e = (2 * torch.rand(800, n, generator=generator, dtype=torch.float64) - 1 for n in (COUNT, 16))
        t[:200], e[200:400] = t[:200].sign(), e[200:400].sign()
        images = pixels.rows[0, 0] + torch.einsum("sn,nchw->schw", t, pixels.rows[0, 1:])
        images = images + pixels.error[0] * e.reshape(-1, 1, 4, 4)
        assert (graph.forward(images) @ BOTH[0].T >= least).all()


@pytest.mark.parametrize("wider", [1.0, 1.5, 4.0])
def test_both_lines_hold_the_function_over_what_is_known(wider):
    generator = torch.Generator().manual_seed(2)
    low = -torch.rand(1, 400, generator=generator, dtype=torch.float64)
    high = torch.rand(1, 400, generator=generator, dtype=torch.float64)
    for lines in piecewise_lines(LEAKY, (low, high), (wider * low, wider * wider * high)):
        if lines is None:
            continue
        for share in torch.linspace(0, 1, 41, dtype=torch.float64):
            z = low + share * (high - low)
            values = torch.where(z > 0, z, SLOPE * z)
            assert (lines.below * z + lines.below_offset <= values + 1e-15).all()
            assert (lines.above * z + lines.above_offset >= values - 1e-15).all()
