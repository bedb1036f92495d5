"""Rows for the units that matter alone: they are those of all units, and nothing that matters is left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from steadygaze.enclosing.forms import Forms
from steadygaze.enclosing.unrolled import unrolled
from steadygaze.network.bounding.bounds import bounds_of
from steadygaze.network.bounding.rows import few_units
from steadygaze.network.bounding.rows.few_units import Few, mirrored, whole
from steadygaze.network.bounding.rows.lines import Lines
from steadygaze.network.bounding.tightening import Effort
from steadygaze.network.building import GraphBuilder
from steadygaze.network.graph import Graph
from steadygaze.network.layers import Add, Conv, Dense, Reshape
from steadygaze.network.pieces import PiecewiseLinear

COUNT, BOXES = 2, 3


def relu():
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    return PiecewiseLinear(zero, torch.stack([zero, one]), torch.zeros((2, 1), dtype=torch.float64))


def normal(rng, *shape, scale=1.0):
    return torch.from_numpy(scale * rng.standard_normal(shape))


def network(skip=False):
    """Two convolutions and two dense layers, most of whose units are off."""
    rng, builder = np.random.default_rng(3), GraphBuilder((1, 12, 12))
    low = torch.full((6,), -1.0, dtype=torch.float64)
    last = builder.add(Conv(normal(rng, 6, 1, 3, 3), 1.5 * low, (2, 1), (1, 0)), 0, name="first")
    bent = last = builder.add(relu(), last, name="bent")
    weight = normal(rng, 6, 6, 3, 3, scale=0.4)
    last = builder.add(Conv(weight, low, (1, 1), (1, 1)), last, name="second")
    if skip:
        last = builder.add(Add(), last, bent, name="sum")
    last = builder.add(relu(), last, name="bent again")
    last = builder.add(Reshape((360,)), last, name="flat")
    bias = torch.full((30,), -0.2, dtype=torch.float64)
    last = builder.add(Dense(normal(rng, 30, 360, scale=0.2), bias), last, name="dense")
    last = builder.add(relu(), last, name="bent once more")
    builder.add(Dense(normal(rng, 4, 30), torch.zeros(4, dtype=torch.float64)), last, name="logits")
    return Graph(tuple(builder.nodes))


def bounded(graph, error):
    rng = np.random.default_rng(1)
    rows = torch.from_numpy(rng.uniform(-0.3, 0.3, (BOXES, 1 + COUNT, 1, 12, 12)))
    pixels = Forms(rows, torch.full((BOXES, 1, 12, 12), error, dtype=torch.float64), COUNT)
    return pixels, bounds_of(graph, pixels, {graph.last}, {}, 0, effort=Effort.UNITS).backward


def least(graph, error=0.02):
    _, backward = bounded(graph, error)
    rows = torch.cat([torch.eye(4), -torch.eye(4)]).double()
    return backward.least(rows.expand(BOXES, -1, -1), graph.last)


@pytest.fixture
def always(monkeypatch):
    """Units are told apart wherever that may be, and which layers it was done for is returned."""
    monkeypatch.setattr(few_units, "_LITTLE", 0)
    monkeypatch.setattr(few_units, "_WORTH", np.inf)
    kinds, of = list[str](), few_units.PartOfWeights.of

    def seen(layer, *others):
        kinds.append(type(layer).__name__)
        return of(layer, *others)

    monkeypatch.setattr(few_units.PartOfWeights, "of", staticmethod(seen))
    return kinds


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("error", [0.0, 0.02])
def test_rows_for_few_units_are_those_for_all(monkeypatch, always, skip, error):
    graph = network(skip)
    few = least(graph, error)
    assert few.abs().min() > 0.01
    # Where pixels are affine rows end behind the first units.
    assert set(always) == ({"Dense", "Conv"} if error else {"Dense"})
    monkeypatch.setattr(few_units, "_LITTLE", np.inf)
    torch.testing.assert_close(few, least(graph, error), rtol=1e-11, atol=1e-11)


def excess(graph):
    """How far samples are below their bounds, at most."""
    pixels, backward = bounded(graph, 0.02)
    rows = torch.cat([torch.eye(4), -torch.eye(4)]).double()
    found = backward.least(rows.expand(BOXES, -1, -1), graph.last)
    rng, worst = np.random.default_rng(2), -np.inf
    for _ in range(200):
        t = torch.from_numpy(rng.choice([-1.0, 1.0, 0.2], (BOXES, COUNT)))
        images = pixels.centre + torch.einsum("bi,bi...->b...", t, pixels.rows[:, 1:])
        images = images + pixels.error * torch.from_numpy(rng.choice([-1.0, 1.0], pixels.error.shape))
        worst = max(worst, float((found - graph.forward(images) @ rows.T).max()))
    return worst


def test_samples_stay_above_bounds(always):
    assert excess(network()) <= 1e-12
    assert always


def test_units_that_are_left_out_though_they_matter_are_caught(monkeypatch, always):
    alive = Lines.alive.func
    monkeypatch.setattr(Lines, "alive", property(lambda lines: alive(lines)[::2]))
    assert excess(network()) > 1e-3
    assert always


def test_parts_of_weights_are_picked_once_for_the_same_units(always):
    graph = network()
    _, backward = bounded(graph, 0.02)
    rows = torch.cat([torch.eye(4), -torch.eye(4)]).double().expand(BOXES, -1, -1)
    whole = backward.below(rows, graph.last)
    picked = len(always)
    assert picked
    again = backward.take(torch.arange(BOXES)).below(rows, graph.last)
    torch.testing.assert_close(again, whole, rtol=0, atol=0)
    assert len(always) == picked
    for number in range(BOXES):
        own = backward.take(torch.tensor([number])).below(rows[:1], graph.last)
        torch.testing.assert_close(own, whole[[number]], rtol=1e-11, atol=1e-11)
    # Of few inputs a part that leads from many more is not taken.
    part = next(iter(backward._parts.values()))
    assert part.serves(part.places, part.wanted[: len(part.wanted) * 3 // 4])
    assert not part.serves(part.places, part.wanted[: len(part.wanted) // 4])


def test_a_part_without_what_matters_is_not_taken(monkeypatch, always):
    graph = network()
    _, backward = bounded(graph, 0.02)
    rows = torch.cat([torch.eye(4), -torch.eye(4)]).double().expand(BOXES, -1, -1)
    whole = backward.least(rows, graph.last)
    alive = Lines.alive.func
    monkeypatch.setattr(Lines, "alive", property(lambda lines: alive(lines)[::2]))
    backward.take(torch.tensor([0])).least(rows[:1], graph.last)
    monkeypatch.setattr(Lines, "alive", property(alive))
    torch.testing.assert_close(backward.least(rows, graph.last), whole, rtol=1e-11, atol=1e-11)
    assert always


def test_what_rounding_adds_is_not_less():
    """Rows of few units are as far off as those of all: sums have fewer terms, and the same share is lost."""
    graph = network()
    _, backward = bounded(graph, 0.0)
    sums = few_units.Sums()
    rows = normal(np.random.default_rng(0), BOXES, 5, 30)
    index = next(k for k, node in enumerate(graph.nodes) if node.name == "dense")
    assert backward._few.pulled(index, rows, sums) is None  # too little to pay
    many = rows.repeat(1, 400, 1)
    found = backward._few.pulled(index, many, sums)
    assert found is not None
    assert (
        sums._errors[0]
        .ge(torch.linalg.vector_norm(many, dim=2) * backward._rounding(index, many.dtype))
        .all()
    )


@pytest.mark.parametrize(
    ("stride", "padding", "dilation"), [((1, 1), (0, 0), (1, 1)), ((2, 1), (1, 2), (1, 2))]
)
def test_a_convolution_is_its_matrix(stride, padding, dilation):
    rng = np.random.default_rng(5)
    layer = Conv(normal(rng, 3, 2, 3, 2), torch.zeros(3).double(), stride, padding, dilation)
    shape = (2, 7, 6)
    made = layer.output_shape(shape)
    places, wanted = np.arange(1, int(np.prod(made)), 2), np.arange(0, int(np.prod(shape)), 3)
    column = np.full(int(np.prod(shape)), -1)
    column[wanted] = np.arange(len(wanted))
    numbers = np.array([*shape, *made[1:], *stride, *padding, *dilation])
    found = unrolled(layer.weight.numpy(), places, column, len(wanted), numbers)
    eye = torch.eye(int(np.prod(shape))).double().reshape(-1, *shape)
    matrix = layer.linear(eye).flatten(1).mT.numpy()
    np.testing.assert_array_equal(found, matrix[places][:, wanted])


def test_opposites_and_whole_rows_of_few_units():
    few = Few(torch.ones(1, 2, 2).double(), torch.tensor([3, 1]), 5)
    both = whole(mirrored(replace(few, rows=few.rows * torch.tensor([1.0, 2.0]))))
    assert both.tolist() == [[[0, 2, 0, 1, 0]] * 2 + [[0, -2, 0, -1, 0]] * 2]
