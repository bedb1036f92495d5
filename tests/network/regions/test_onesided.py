"""Regions found from a point and a direction: hinges, pieces, logits and names, on both sides of a facet."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from steadygaze.network.reading.load import load_network
from steadygaze.network.regions.fronts import Form
from steadygaze.network.regions.local import Uneven
from steadygaze.network.regions.onesided import hinge_weights, hinge_windows, regions_from
from steadygaze.network.regions.piecewise import Stages
from variants import NETS, PERTURBED, SHAPES, Variant

CASES = [*NETS, *SHAPES, PERTURBED[15], PERTURBED[-1]]
cases = pytest.mark.parametrize("variant", CASES, ids=str)


def begun(variant, points, directions):
    """The regions that begin at points of the box, and the image's form."""
    (piece,) = variant.problem.pieces
    form = variant.problem.stages.start(piece.image.base, piece.image.directions).forms[0]
    return regions_from(variant.problem.stages, form, points, directions)


def paths(variant, count=40):
    """Random points, and directions of which no two are alike."""
    widths = np.ptp(variant.perturbation.box, axis=1)
    return variant.draw(count, seed=3), np.random.default_rng(4).standard_normal(
        (count, len(widths))
    ) * widths


def first_crossings(act, directions):
    """How far it is to the first hinge of each region, and to the next one, and which is the first."""
    rate = np.einsum("bn,bnh->bh", directions, act.hinges.slope)
    with np.errstate(divide="ignore", invalid="ignore"):
        far = np.where(rate < -1e-9, act.hinges.value / -rate, np.inf)
    order = np.argsort(far, axis=1)
    rows = np.arange(len(far))
    return far[rows, order[:, 0]], far[rows, order[:, 1]], order[:, 0]


@cases
def test_regions_are_those_of_points_a_little_ahead(variant):
    problem, (points, directions) = variant.problem, paths(variant)
    act = begun(variant, points, directions)
    images = problem.unclipped(points)
    np.testing.assert_array_equal(act.names, problem.stages.pattern_names_at(images))
    for node, pieces in problem.graph.pieces_at(images).items():
        np.testing.assert_array_equal(act.pieces[node], pieces)
    assert (act.hinges.value >= -1e-9).all()
    assert len(np.unique(act.packed, axis=0)) == len(np.unique(act.names))
    logits = problem.graph.forward(images).numpy()
    np.testing.assert_allclose(act.logits.value, logits, atol=1e-9)


@cases
def test_hinges_and_logits_are_affine_up_to_the_first_hinge(variant):
    problem, (points, directions) = variant.problem, paths(variant)
    act = begun(variant, points, directions)
    first, _, _ = first_crossings(act, directions)
    step = 0.5 * np.minimum(first, 1.0)[:, None] * directions
    ahead = begun(variant, points + step, directions)
    np.testing.assert_array_equal(ahead.names, act.names)
    np.testing.assert_allclose(
        ahead.hinges.value, act.hinges.value + np.einsum("bn,bnh->bh", step, act.hinges.slope), atol=1e-9
    )
    logits = problem.graph.forward(problem.unclipped(points + step)).numpy()
    moved = act.logits.value + np.einsum("bn,bnk->bk", step, act.logits.slope)
    np.testing.assert_allclose(moved, logits, atol=1e-9)


@cases
def test_the_region_across_a_hinge_has_the_name_that_its_turn_tells(variant):
    stages, (points, directions) = variant.problem.stages, paths(variant)
    act = begun(variant, points, directions)
    weights, tolerances = hinge_weights(stages)
    assert len(weights) == len(tolerances) == act.turns.shape[1] == len(hinge_windows(stages))
    first, second, hinge = first_crossings(act, directions)
    alone = np.flatnonzero(np.isfinite(first) & (second - first > 1e-6))
    act, hinge, directions = act.take(alone), hinge[alone], directions[alone]
    at = act.points + first[alone, None] * directions
    turn = act.turns[np.arange(len(alone)), hinge].astype(np.int64).astype(np.uint64)
    across = begun(variant, at, directions)
    # A unit that goes on may win a window at once whose inputs were all 0.
    level = (np.abs(act.hinges.value) < 1e-9) & (np.abs(act.hinges.slope) < 1e-9).all(axis=1)
    tied = (level & (act.turns != 0) & (hinge_windows(stages) >= 0)).any(axis=1)
    assert ((across.names == act.names + turn * weights[hinge]) | tied).all()
    np.testing.assert_array_equal(begun(variant, at, -directions).names, act.names)
    assert not len(alone) or (across.names != act.names).all()
    windows = hinge_windows(stages)
    assert set(windows[windows >= 0]) == set(range(windows.max() + 1))


def test_most_networks_are_crossed():
    """The property above is not empty."""
    crossed = 0
    for variant in CASES:
        points, directions = paths(variant)
        first, second, _ = first_crossings(begun(variant, points, directions), directions)
        crossed += (np.isfinite(first) & (second - first > 1e-6)).any()
    assert crossed > len(CASES) // 2


@cases
def test_some_of_the_regions_are_told_as_all_are(variant):
    points, directions = paths(variant, 6)
    act, rows = begun(variant, points, directions), np.array([4, 1])
    few, again = act.take(rows), begun(variant, points[rows], directions[rows])
    assert few.count == 2
    for one, other in (
        (few.points, again.points), (few.names, again.names), (few.packed, again.packed),
        (few.turns, again.turns), (few.hinges.value, again.hinges.value),
        (few.hinges.slope, again.hinges.slope), (few.logits.value, again.logits.value),
        (few.logits.slope, again.logits.slope),
    ):  # fmt: skip
        np.testing.assert_allclose(one, other, atol=1e-12)
    for node, pieces in few.pieces.items():
        np.testing.assert_array_equal(pieces, again.pieces[node])


def test_a_path_from_a_hinge_begins_on_the_side_that_it_enters():
    """A unit vanishes at the point; the sign of its derivative tells whether it is on ahead."""
    variant = CASES[0]
    points, directions = paths(variant)
    act = begun(variant, points, directions)
    first, second, _ = first_crossings(act, directions)
    k = int(np.argmin(first))
    at = (points[k] + first[k] * directions[k])[None]
    assert second[k] > first[k]
    for toward in (np.array([[1.0, 0.3]]), np.array([[-1.0, -0.3]])):
        there = variant.problem.unclipped(at + 1e-7 * toward)
        names = variant.problem.stages.pattern_names_at(there)
        np.testing.assert_array_equal(begun(variant, at, toward).names, names)


def test_a_network_that_is_affine_is_one_region_without_hinges():
    variant = Variant("no hidden layer", "brightness", clip=None)
    points, directions = variant.draw(3), np.ones((3, 1))
    act = begun(variant, points, directions)
    assert act.hinges.value.shape == (3, 0)
    assert act.hinges.slope.shape == (3, 1, 0)
    assert act.packed.shape == act.turns.shape == (3, 0)
    assert not act.names.any()
    assert len(hinge_windows(variant.problem.stages)) == 0
    logits = variant.problem.graph.forward(variant.problem.unclipped(points))
    np.testing.assert_allclose(act.logits.value, logits, atol=1e-12)


def test_hinges_know_their_window():
    stages = Variant("pool first", "spot").problem.stages
    windows = hinge_windows(stages)
    expected, count = [], 0
    for number, names in enumerate(stages.names):
        if number in stages.inputs:
            inputs = stages.inputs[number].shape[1]
            expected += [count + k for k in range(len(names)) for _ in range(inputs)]
            count += len(names)
        else:
            expected += [-1] * len(names)
    assert count
    assert windows.tolist() == expected


def test_tolerances_of_regions_hold_all_over_the_box():
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1, 3, bias=False), torch.nn.ReLU())
    graph = load_network(module.double(), input_shape=(1, 1, 1)).graph
    (unit,) = graph.piecewise
    stages = Stages(graph, Uneven(graph, {unit: torch.full((3,), 1e-3, dtype=torch.float64)}))
    form = Form(torch.zeros((1, 1, 1), dtype=torch.float64), torch.ones((1, 1, 1, 1), dtype=torch.float64))
    act = regions_from(stages, form, np.zeros((1, 1)), np.ones((1, 1)), np.full(1, 10.0))
    terms = 10 * np.abs(act.hinges.slope[0, 0])
    assert (act.tolerance[0] >= 1e-14 * terms).all(), "at the point itself all terms are 0"
    assert (act.tolerance[0] <= 1e-10 * terms).all()
