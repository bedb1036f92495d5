"""The network stage by stage against plain evaluation: values at vertices, pieces on cells, names."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from oracles import corners_of
from steadygaze.geometry.cells import from_polytopes
from steadygaze.geometry.cutting import NO_LIMIT
from steadygaze.network.building import GraphBuilder
from steadygaze.network.layers import Dense, Reshape
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.reading.load import load_network
from steadygaze.network.regions.fronts import Form, Front
from steadygaze.network.regions.piecewise import flat_array
from steadygaze.network.regions.pushing import push_forward
from steadygaze.network.regions.rounding import scales_of
from steadygaze.network.saliency import Gradient
from steadygaze.perturbation import Chain
from steadygaze.question.inconsistency import Cosine
from steadygaze.question.posing import pose
from variants import BRIGHT, NETS, PERTURBED, SPOT, Variant, picture

CASES = [*NETS, *(variant for variant in PERTURBED if len(variant.perturbation.box) != 2)]
cases = pytest.mark.parametrize("variant", CASES, ids=str)


def walk(variant):
    """Every stage's number, the cells after it, the front and the pieces, by the stages' own steps."""
    problem = variant.problem
    stages, (piece,) = problem.stages, problem.pieces
    cells = from_polytopes((piece.polytope,))
    front, names = stages.start(piece.image.base, piece.image.directions), np.zeros(1, np.uint64)
    for number, stage in enumerate(stages.stages):
        theta = torch.from_numpy(cells.theta)
        front = stages.reach(front, number, theta)
        values = flat_array(front.at(stage.source, theta))
        crossing = stages.crossing(values, number)
        made = stages.cut(cells, values, number, crossing, NO_LIMIT)
        cells = made.cells
        front, values = stages.cross(front, number, made, values, crossing)
        sides = stages.sides(cells, values, number, crossing)
        names = names[made.parent] + sides.names
        yield number, cells, front, values, sides.pieces, names


@cases
def test_values_at_vertices_are_those_of_the_network(variant):
    problem = variant.problem
    every = set(range(len(problem.graph.nodes)))
    for number, cells, front, values, _, _ in walk(variant):
        plain = problem.graph.values_at(problem.unclipped(cells.theta), every)
        stage = problem.stages.stages[number]
        alive = front.alive.get(stage.node, slice(None))
        np.testing.assert_allclose(values, flat_array(plain[stage.source])[:, alive], atol=1e-9)
        for node, rows in front.rows.items():
            every_unit = flat_array(plain[node])
            np.testing.assert_allclose(
                flat_array(rows), every_unit[:, front.alive.get(node, slice(None))], atol=1e-9
            )
            if node in front.alive:
                np.testing.assert_array_equal(np.delete(every_unit, front.alive[node], axis=1), 0.0)
        for node, form in front.forms.items():
            at_vertices = form.at(torch.from_numpy(cells.theta))
            np.testing.assert_allclose(flat_array(at_vertices), flat_array(plain[node]), atol=1e-9)
        assert set(front.rows) | set(front.forms) == stage.live
    theta = torch.from_numpy(cells.theta)
    logits = problem.stages.reach(front, number + 1, theta).at(problem.graph.last, theta)
    np.testing.assert_allclose(logits, problem.graph.forward(problem.unclipped(cells.theta)), atol=1e-9)


@cases
def test_pieces_on_cells_are_those_of_points_in_them(variant):
    """Also where a unit vanishes all over a cell: it is then on the lower piece, as relu'(0) = 0 says."""
    problem = variant.problem
    for number, cells, _, _, pieces, names in walk(variant):
        middles = np.stack([own.mean(axis=0) for own in corners_of(cells)])
        stage = problem.stages.stages[number]
        node = problem.graph.nodes[stage.node]
        value = problem.graph.values_at(problem.unclipped(middles), (stage.source,))[stage.source]
        plain = node.layer.pieces_of(value).numpy()
        unlike = pieces != plain
        assert not unlike[~doubtful(node.layer, flat_array(value))].any()
        if isinstance(node.layer, PiecewiseLinear):
            lower = np.abs(flat_array(value) - float(node.layer.breakpoints[0])) < 1e-12
            assert not pieces[lower & vanishing(cells, problem, stage.source, node.layer)].any()
        assert len(np.unique(names)) == cells.count
        last = names
    np.testing.assert_array_equal(last, problem.stages.pattern_names_at(problem.unclipped(middles)))


def doubtful(layer, values):
    """Units so near to a kink that rounding decides, (B, units)."""
    if isinstance(layer, PiecewiseLinear):
        return (np.abs(values[..., None] - layer.breakpoints.numpy()) < 1e-9).any(axis=-1)
    windows = layer.windows.numpy()
    inputs = np.where(windows >= 0, values[:, windows], -np.inf)
    ordered = np.sort(inputs, axis=-1)
    return ordered[..., -1] - ordered[..., -2] < 1e-9


def vanishing(cells, problem, source, layer):
    """Units that stay on their first breakpoint at every vertex of a cell, (cells, units)."""
    value = problem.graph.values_at(problem.unclipped(cells.theta), (source,))[source]
    away = np.abs(flat_array(value) - float(layer.breakpoints[0])) > 1e-12
    return ~np.logical_or.reduceat(away[cells.idx], cells.ptr[:-1], axis=0)


@cases
def test_names_tell_patterns_apart(variant):
    problem, images = variant.problem, variant.problem.unclipped(variant.draw(300, seed=7))
    names = problem.stages.pattern_names_at(images)
    pieces = np.concatenate([found.numpy() for found in problem.graph.pieces_at(images).values()], axis=1)
    _, number = np.unique(pieces, axis=0, return_inverse=True)
    pairs = set(zip(names.tolist(), number.reshape(-1).tolist(), strict=True))
    assert len(pairs) == len(set(names.tolist())) == number.max() + 1
    each = np.concatenate([problem.stages.pattern_names_at(image[None]) for image in images[:20]])
    np.testing.assert_array_equal(each, names[:20])


def test_columns_have_their_own_names():
    stages = Variant("hardtanh", "spot").problem.stages
    names = np.concatenate(stages.names)
    assert len(np.unique(names)) == len(names)
    assert [len(own) for own in stages.names] == [72, 20, 16], "two breakpoints a unit, the clip's too"


@pytest.mark.parametrize("net", ["mlp", "leaky", "relu6", "max pool", "average pool", "residual"])
def test_directions_pushed_forward(net):
    """Derivatives along directions of the input, against differences inside one region."""
    problem = Variant(net, "spot", clip=None).problem
    graph, rng = problem.graph, np.random.default_rng(3)
    points = problem.unclipped(Variant(net, "spot").draw(5, seed=2))
    tangents = torch.from_numpy(rng.standard_normal((2, *graph.input_shape)))
    pieces = graph.pieces_at(points)
    for node in (graph.piecewise[0], graph.last):
        found = push_forward(graph, tangents, pieces, node, len(points))
        assert found.shape == (5, 2, *graph.nodes[node].shape)
        for k, tangent in enumerate(tangents):
            step = 1e-7 * tangent
            ahead, behind = (graph.values_at(points + sign * step, (node,))[node] for sign in (1, -1))
            np.testing.assert_allclose(found[:, k], (ahead - behind) / 2e-7, atol=1e-5)


def test_the_scale_of_rounding_is_that_of_the_terms():
    weight = torch.tensor([[3.0, -3.0], [1.0, 1.0]], dtype=torch.float64)
    builder = GraphBuilder((1, 1, 2))
    flat = builder.add(Reshape((2,)), 0, name="flat")
    graph = builder.build(builder.add(Dense(weight, torch.tensor([0.0, -2.0]).double()), flat, name="out"))
    images = torch.tensor([[[[1.0, 1.0]]], [[[0.5, -1.0]]]], dtype=torch.float64)
    # Values cancel to 0 at the first image; the terms do not. Pixels count as at least 1.

    def scales_at(images):
        return scales_of(graph, graph.values_at(images, range(len(graph.nodes))))[graph.last]

    np.testing.assert_allclose(scales_at(images), [6.0, 4.0])
    np.testing.assert_allclose(scales_at(0.1 * images), [6.0, 4.0])
    np.testing.assert_allclose(scales_at(3.0 * images), [18.0, 8.0])


def test_the_front_keeps_to_the_chosen_vertices():
    form = Form(torch.zeros(3).double(), torch.ones(2, 3).double())
    front = Front({4: torch.arange(12.0).reshape(4, 3)}, {1: form}).take(np.array([2, 0]))
    np.testing.assert_array_equal(front.rows[4], [[6, 7, 8], [0, 1, 2]])
    np.testing.assert_array_equal(front.at(1, torch.tensor([[1.0, 2.0]]).double()), [[3, 3, 3]])


def test_padding_never_wins():
    """All inputs are negative, so that a zero in the padding's place would be the largest."""
    variant = Variant("pool first", "spot")
    problem = variant.problem
    node = next(i for i, n in enumerate(problem.graph.nodes) if isinstance(n.layer, MaxPool))
    layer = problem.graph.nodes[node].layer
    assert (layer.windows < 0).any(), "the case is meant to have padding"
    for number, cells, _, _, pieces, _ in walk(variant):
        if problem.stages.stages[number].node == node:
            chosen = np.take_along_axis(layer.windows.numpy().T, pieces.astype(int), axis=0)
            assert (chosen >= 0).all()
            assert len(pieces) == cells.count


def test_rows_are_kept_for_the_units_that_are_alive_where_these_are_few():
    idle = [variant for variant in CASES if any(front.alive for _, _, front, *_ in walk(variant))]
    assert idle, "no case shows it"


class Floor(nn.Module):
    """One breakpoint, and that not at 0."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.clamp(x, min=0.25)


UNUSUAL = {
    "a breakpoint beside 0": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(36, 10), Floor(), nn.Linear(10, 8), Floor(), nn.Linear(8, 3)
    ),
    "a wide layer behind idle pictures": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 3)
    ),
}


@pytest.mark.parametrize("net", UNUSUAL)
def test_networks_of_unusual_layers(net):
    torch.manual_seed(6)
    module = UNUSUAL[net]().double()
    with torch.no_grad():
        for layer in module:
            if isinstance(layer, nn.Linear):
                layer.weight *= 2
            if isinstance(layer, nn.Conv2d):
                layer.weight *= 2
                layer.bias[:3] -= 2.0
    image = picture(1)
    problem = pose(
        load_network(module, input_shape=image.shape), image, Chain(BRIGHT | SPOT), label=None,
        saliency=Gradient(), inconsistency=Cosine(), threshold=0.3, clip=None,
    )  # fmt: skip
    box = problem.box
    thetas = box[:, 0] + np.random.default_rng(7).random((300, 2)) * (box[:, 1] - box[:, 0])
    variant = SimpleNamespace(problem=problem, draw=lambda count, seed: thetas[:count])
    test_values_at_vertices_are_those_of_the_network(variant)
    test_pieces_on_cells_are_those_of_points_in_them(variant)
    test_names_tell_patterns_apart(variant)
    *_, (_, cells, *_) = walk(variant)
    assert cells.count > 1


def test_the_widest_row_holds_all_that_a_stage_needs():
    """The stage's columns, beside what later stages still read."""
    for net in ("idle", "hardtanh", "max pool", "residual"):
        stages = Variant(net, "spot", clip=None).problem.stages
        for number, stage in enumerate(stages.stages):
            layer = stages.graph.nodes[stage.node].layer
            columns = layer.windows.numel() if isinstance(layer, MaxPool) else len(stages.names[number])
            later = sum(np.prod(stages.graph.nodes[node].shape) for node in stage.live)
            assert stages.widest_row >= columns + later
