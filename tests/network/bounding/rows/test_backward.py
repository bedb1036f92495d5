"""Linear bounds carried backward: sound against evaluation and fractions, no wider than plain CROWN."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from branching import BRANCHING
from formed import affine_part, exact
from steadygaze.enclosing.forms import Forms
from steadygaze.network.bounding import tightening
from steadygaze.network.bounding.bounds import bounds_of
from steadygaze.network.bounding.rows import backward as backward_module
from steadygaze.network.bounding.rows import lines
from steadygaze.network.bounding.rows.backward import Backward
from steadygaze.network.bounding.rows.lines import Lines, lines_of
from steadygaze.network.bounding.tightening import Effort, Tightening
from steadygaze.network.building import GraphBuilder
from steadygaze.network.layers import Dense
from steadygaze.network.pieces import PiecewiseLinear
from steadygaze.network.reading.load import load_network
from steadygaze.network.saliency import NoMap
from steadygaze.network.smooth import RULES, Smooth
from steadygaze.network.taking import Take
from steadygaze.perturbation import Chain, Direction
from steadygaze.question.inconsistency import Cosine
from steadygaze.question.posing import pose
from variants import NETWORKS, network, picture

COUNT = 2
MORE = tuple(effort for effort in Effort if effort.value > Effort.FORMS.value)
NAMES = [*(name for name in NETWORKS if not name.startswith("colour")), *BRANCHING]
RELU = PiecewiseLinear(
    torch.zeros(1, dtype=torch.float64),
    torch.tensor([[0.0], [1.0]], dtype=torch.float64),
    torch.zeros((2, 1), dtype=torch.float64),
)


def graph_of(name):
    if name in NETWORKS:
        return load_network(network(name), input_shape=(1, 6, 6)).graph
    torch.manual_seed(len(name))
    return load_network(BRANCHING[name]().double().eval(), input_shape=(1, 6, 6)).graph


def pixels_around(rng, boxes, width, error=0.0):
    centre = torch.from_numpy(picture(1)).expand(boxes, -1, -1, -1)
    rows = torch.from_numpy(rng.uniform(-width, width, (boxes, 1 + COUNT, 1, 6, 6)))
    rows[:, 0] += centre
    return Forms(rows, torch.full((boxes, 1, 6, 6), error, dtype=torch.float64), COUNT)


def images_in(rng, pixels, count):
    """Images ``(count, B, 1, 6, 6)`` that the forms allow."""
    t = torch.from_numpy(rng.uniform(-1, 1, (count, len(pixels.rows), COUNT)))
    t = torch.where(torch.from_numpy(rng.random(tuple(t.shape))) < 0.4, t.sign(), t)
    away = torch.from_numpy(rng.choice([-1.0, 1.0], (count, *pixels.error.shape)))
    return torch.stack([affine_part(pixels, own, own[:, :0]) for own in t]) + away * pixels.error


def gaps_of(logits):
    """Logit 1 less each of the others."""
    others = [k for k in range(logits.shape[-1]) if k != 1]
    return logits[..., 1:2] - logits[..., others]


def excess(graph, pixels, images, effort):
    """How far gaps are outside their bounds at most, and values outside the largest magnitudes known."""
    bounds = bounds_of(graph, pixels, {graph.last}, {}, 8, effort=effort)
    low, high = bounds.gaps(1)
    worst = -np.inf
    for image in images:
        values = graph.values_at(image, range(len(graph.nodes)))
        gaps = gaps_of(values[graph.last])
        worst = max(worst, float((low - gaps).max()), float((gaps - high).max()))
        for index, size in bounds.backward.sizes.items():
            worst = max(worst, float((values[index].abs() - size).max()))
    return worst


@pytest.mark.parametrize("effort", [Effort.GAPS, Effort.UNITS])
@pytest.mark.parametrize("name", NAMES)
def test_gaps_and_values_stay_inside(name, effort):
    graph = graph_of(name)
    for width, error in ((1e-3, 0.0), (0.05, 0.01), (0.5, 0.0)):
        rng = np.random.default_rng(int(1e4 * width))
        pixels = pixels_around(rng, 3, width, error)
        assert excess(graph, pixels, images_in(rng, pixels, 12), effort) <= 1e-9


@pytest.mark.parametrize("name", ["mlp", "residual", "max pool", "silu conv"])
def test_more_effort_is_never_wider_where_it_was_open(name):
    graph, rng = graph_of(name), np.random.default_rng(4)
    pixels = pixels_around(rng, 4, 0.1)
    spans = []
    for effort in (Effort.FORMS, *MORE):
        low, high = bounds_of(graph, pixels, {graph.last}, {}, 8, effort=effort).gaps(1)
        spans.append(float((high - low).sum()))
    assert spans[1] <= spans[0]
    assert spans[2] <= 1.001 * spans[1]


def test_gaps_that_forms_have_settled_have_no_rows(monkeypatch):
    graph, rng = graph_of("mlp"), np.random.default_rng(4)
    bounds = bounds_of(graph, pixels_around(rng, 4, 0.05), {graph.last}, {}, 8, effort=Effort.UNITS)
    formed, every = bounds.enclosed_gaps(1).bounds(), bounds.gaps(1)
    # Of some gaps the nearest end is farther from 0 than that in all boxes.
    nearest = torch.maximum(formed[0], -formed[1]).amin(dim=0)
    settled = nearest.sort().values[:2].mean()
    asked, least = [], Backward.least
    monkeypatch.setattr(
        Backward, "least", lambda self, rows, start: asked.append(rows) or least(self, rows, start)
    )
    some = bounds.gaps(1, settled)
    left = nearest <= settled
    assert left.any()
    assert not left.all()
    assert asked[0].shape[1] == int(left.sum())
    for own, known, forms in zip(some, every, formed, strict=True):
        assert own[:, ~left].equal(forms[:, ~left])
        torch.testing.assert_close(own[:, left], known[:, left], rtol=1e-12, atol=1e-12)
    asked.clear()
    for own, forms in zip(bounds.gaps(1, nearest - 1e-9), formed, strict=True):
        assert own.equal(forms)
    assert not asked


@pytest.mark.parametrize("name", ["residual", "max pool", "silu conv"])
def test_rows_and_their_opposites_go_together_as_they_go_alone(name):
    graph, rng = graph_of(name), np.random.default_rng(3)
    backward = bounds_of(graph, pixels_around(rng, 2, 0.2), {graph.last}, {}, 8, effort=Effort.UNITS).backward
    for start in {graph.last, *(graph.nodes[index].inputs[0] for index in backward.lines)}:
        rows = torch.from_numpy(rng.standard_normal((2, 5, backward.sizes[start].flatten(1).shape[1])))
        alone = backward.below(torch.cat([rows, -rows], dim=1), start)
        torch.testing.assert_close(backward.below(rows, start, both=True), alone, rtol=1e-12, atol=1e-12)


# -- against plain CROWN


def crown(weights, biases, pixels):
    """Lower bounds of all logits of one box by plain CROWN: every unit of every layer, back to the box."""
    rows, error = pixels.rows[0].flatten(1), pixels.error[0].flatten()
    relaxations = []
    for depth in range(len(weights)):
        found = []
        for sign in (1.0, -1.0):
            row, constant = sign * weights[depth], sign * biases[depth]
            for layer in reversed(range(depth)):
                below, above, shift = relaxations[layer]
                constant = constant + row.clamp_max(0.0) @ shift
                row = row.clamp_min(0.0) * below + row.clamp_max(0.0) * above
                constant = constant + row @ biases[layer]
                row = row @ weights[layer]
            form = row @ rows.T
            found.append(form[:, 0] + constant - form[:, 1:].abs().sum(1) - row.abs() @ error)
        low, high = found[0], -found[1]
        torn = (low < 0) & (high > 0)
        on = (low >= 0).double()
        above = torch.where(torn, high / (high - low), on)
        below = torch.where(torn, (high > -low).double(), on)
        relaxations.append((below, above, torch.where(torn, -low * above, 0.0)))
    return low


def deep_network(generator, sizes, gain):
    """A graph of dense layers with ReLU between them, and their weights and biases."""
    builder, weights, biases = GraphBuilder((1, 6, 6)), [], []
    flat = load_network(nn.Flatten(), input_shape=(1, 6, 6)).graph.nodes[-1].layer
    index = builder.add(flat, 0, name="flat")
    for inner, outer in pairwise(sizes):
        weights.append(
            gain * torch.randn(outer, inner, generator=generator, dtype=torch.float64) / inner**0.5
        )
        biases.append(0.1 * torch.randn(outer, generator=generator, dtype=torch.float64))
        index = builder.add(Dense(weights[-1], biases[-1]), index, name="dense")
        if outer != sizes[-1]:
            index = builder.add(RELU, index, name="relu")
    return builder.build(index), weights, biases


@pytest.mark.parametrize("width", [0.02, 0.1, 0.4])
def test_no_wider_than_crown(width):
    rng, generator = np.random.default_rng(5), torch.Generator().manual_seed(3)
    graph, weights, biases = deep_network(generator, (36, 12, 12, 12, 12, 4), 1.0)
    pixels = pixels_around(rng, 1, width)
    known = bounds_of(graph, pixels, {graph.last}, {}, 8, effort=Effort.UNITS)
    ours = known.backward.least(torch.eye(4, dtype=torch.float64)[None], graph.last)
    plain = crown(weights, biases, pixels)
    # Tighter ranges of units may change which slope is the better one, for better or worse.
    assert ours.sum() >= plain.sum() - 0.01 * plain.abs().sum()


@pytest.mark.parametrize("width", [0.02, 0.1, 0.4])
def test_no_single_gap_is_wider_than_crown_because_its_range_was_known_better(width):
    rng, generator = np.random.default_rng(5), torch.Generator().manual_seed(3)
    both = torch.cat([torch.eye(4), -torch.eye(4)]).double()[None]
    for _ in range(12):
        graph, weights, biases = deep_network(generator, (36, 20, 20, 20, 20, 20, 4), 1.3)
        pixels = pixels_around(rng, 1, width)
        known = bounds_of(graph, pixels, {graph.last}, {}, 8, effort=Effort.UNITS)
        ours = known.backward.least(both, graph.last)[0]
        turned = crown([*weights[:-1], -weights[-1]], [*biases[:-1], -biases[-1]], pixels)
        plain = crown(weights, biases, pixels) + turned
        # Units are not asked for where that would bring less than a fiftieth.
        assert (ours[:4] + ours[4:] >= plain * (1 + 2e-3)).all()


def test_rows_with_other_slopes_make_no_bound_wider(monkeypatch):
    rng, generator = np.random.default_rng(5), torch.Generator().manual_seed(3)
    narrower = 0
    monkeypatch.setattr(tightening, "_FEW", 0)  # where there are few rows, they always go back twice,
    monkeypatch.setattr(Tightening, "_asked_of_both", lambda *_: None)  # one after the other or together
    for _ in range(12):
        graph, _, _ = deep_network(generator, (36, 20, 20, 20, 20, 20, 4), 1.3)
        pixels = pixels_around(rng, 3, 0.1)
        images, spans = images_in(rng, pixels, 12), []
        for share in (0.0, 1.0):
            monkeypatch.setattr(tightening, "_FEW_ASKED", share)
            assert excess(graph, pixels, images, Effort.UNITS) <= 1e-9
            low, high = bounds_of(graph, pixels, {graph.last}, {}, 8, effort=Effort.UNITS).gaps(1)
            spans.append(high - low)
        assert (spans[1] <= spans[0] * (1 + 1e-9)).all()
        narrower += int((spans[1] < 0.99 * spans[0]).any())
    assert narrower


# -- lines


def layers():
    steps = torch.tensor([-0.5, 0.7], dtype=torch.float64)
    bent = torch.tensor([[0.2], [1.0], [-0.3]], dtype=torch.float64)
    heights = torch.tensor([[0.0], [0.4], [1.31]], dtype=torch.float64)
    leaky, turned = ([[0.1], [1.0]], [[-1.0], [0.3]])
    hinges = [
        PiecewiseLinear(RELU.breakpoints, torch.tensor(own).double(), RELU.offsets) for own in (leaky, turned)
    ]
    return [RELU, *hinges, PiecewiseLinear(steps, bent, heights), *(Smooth(name) for name in RULES)]


@pytest.mark.parametrize("number", range(len(layers())))
def test_lines_hold_the_function(number):
    rng, layer = np.random.default_rng(number), layers()[number]
    low = torch.from_numpy(rng.uniform(-3, 2, (2, 60)))
    high = low + torch.from_numpy(rng.choice([0.0, 1e-9, 0.1, 2.0, 5.0], (2, 60)))
    low[:, :4], high[:, :4] = -high[:, :4].abs(), 0.0
    found = lines_of(layer, low, high)
    for share in np.linspace(0, 1, 41):
        z = torch.minimum(low + share * (high - low), high)
        value = layer.forward(z)
        assert (found.below * z + found.below_offset <= value + 1e-14).all()
        assert (value <= found.above * z + found.above_offset + 1e-14).all()


def test_the_chord_of_relu_is_above_it_without_rounding():
    rng = np.random.default_rng(1)
    low, high = (torch.from_numpy(rng.uniform(*ends, (1, 200))) for ends in ((-3, -1e-3), (1e-3, 3)))
    found = lines_of(RELU, low, high)
    above, offset, low, high = (exact(part)[0] for part in (found.above, found.above_offset, low, high))
    assert (above * low + offset >= 0).all()
    assert (above * high + offset >= high).all()


@pytest.mark.parametrize("slopes", [(0.1, 1.0), (-1.0, 1.0), (-3.7, -0.3), (0.3, 0.30000001)])
def test_lines_of_a_bend_hold_it_without_rounding(slopes):
    rng, (least, most) = np.random.default_rng(1), slopes
    layer = PiecewiseLinear(RELU.breakpoints, torch.tensor(slopes).double()[:, None], RELU.offsets)
    assert layer.is_hinge
    low, high = (torch.from_numpy(rng.uniform(*ends, (1, 200))) for ends in ((-3, -1e-3), (1e-3, 3)))
    found = lines_of(layer, low, high)
    parts = (found.below, found.below_offset, found.above, found.above_offset, low, high)
    below, under, above, over, low, high = (exact(part)[0] for part in parts)
    least, most = (Fraction(float(slope)) for slope in layer.slopes[:, 0])
    for end, slope in ((low, least), (high, most)):
        assert (above * end + over >= slope * end).all()
        assert (below * end + under <= slope * end).all()
    assert (under <= 0).all()
    assert (over >= 0).all()
    # No line with the slope of another piece, or of the chord, is higher in the middle.
    middle = (low + high) / 2
    assert (below * middle == np.maximum(least * middle, most * middle)).all()


# -- rounding


@pytest.mark.parametrize("narrow", [False, True])
def test_rounding_is_counted(narrow):
    """Without any unit in doubt a bound is the least value of an affine function, rounded down."""
    rng = np.random.default_rng(7)
    builder = GraphBuilder((9,))
    scale = torch.from_numpy(10.0 ** rng.integers(-6, 6, (8, 9)))
    first = Dense(
        torch.from_numpy(rng.standard_normal((8, 9))) * scale, torch.from_numpy(rng.standard_normal(8))
    )
    index = builder.add(first, 0, name="first")
    second = Dense(torch.from_numpy(rng.standard_normal((3, 8))), torch.from_numpy(rng.standard_normal(3)))
    graph = builder.build(builder.add(second, index, name="second"))
    forms = Forms(
        torch.from_numpy(rng.standard_normal((4, 1 + COUNT, 9))), torch.zeros((4, 9)).double(), COUNT
    )
    backward = Backward(graph)
    backward.grounds[0] = forms
    backward.sizes[0] = forms.centre.abs() + forms.reach
    backward.sizes[1] = first.absolute.forward(backward.sizes[0])
    backward.sizes[2] = second.absolute.forward(backward.sizes[1])
    rows = torch.from_numpy(rng.standard_normal((4, 6, 3)))
    if narrow:
        rows = rows.to(torch.float32)
        found = backward.narrowed(2).least(rows, 2)
        rows = rows.to(torch.float64)
    else:
        found = backward.least(rows, 2)
    weights = [exact(layer.weight) for layer in (second, first)]
    biases = [exact(layer.bias) for layer in (second, first)]
    for box in range(4):
        moved = exact(rows[box]).dot(weights[0])
        constant = exact(rows[box]).dot(biases[0]) + moved.dot(biases[1])
        values = moved.dot(weights[1]).dot(exact(forms.rows[box]).T)
        least = values[:, 0] + constant - np.abs(values[:, 1:]).sum(axis=1)
        size = np.abs(values).sum(axis=1)
        for own, true, whole in zip(found[box].tolist(), least, size, strict=True):
            assert Fraction(own) <= true
            assert true - Fraction(own) <= Fraction(10.0**6 if narrow else 10.0**-3) + whole


def test_indices_keep_their_kind():
    taken = Take(torch.tensor([2, 0]), 0).to(torch.float32)
    assert taken.forward(torch.tensor([[1.0, 2.0, 3.0]])).tolist() == [[3.0, 1.0]]


# -- planted faults


def worst_excess():
    graph, rng = graph_of("residual"), np.random.default_rng(2)
    pixels = pixels_around(rng, 4, 0.3)
    return max(excess(graph, pixels, images_in(rng, pixels, 60), effort) for effort in MORE)


def test_lines_taken_for_one_another_are_caught(monkeypatch):
    assert worst_excess() <= 1e-9
    pulled = Lines.pulled

    def swapped(self, rows):
        return pulled(Lines(self.above, self.above_offset, self.below, self.below_offset, self.size), rows)

    monkeypatch.setattr(Lines, "pulled", swapped)
    assert worst_excess() > 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_few_units_are_told_what_many_are(name):
    graph = graph_of(name)
    pixels = pixels_around(np.random.default_rng(3), 4, 0.05)
    backward = bounds_of(graph, pixels, {graph.last}, {}, 8, effort=Effort.UNITS).backward
    generator = torch.Generator().manual_seed(1)
    for index in backward.lines:
        (start,) = graph.nodes[index].inputs
        chosen = torch.rand(backward.sizes[start].flatten(1).shape, generator=generator) < 0.5
        chosen[1] = False
        few = backward._few_units(start, chosen)
        for ours, other in zip(few, backward._units(start, chosen, backward.take), strict=True):
            torch.testing.assert_close(ours, other, rtol=1e-10, atol=1e-10)


def test_boxes_taken_for_one_another_are_caught(monkeypatch):
    # Whole maps: what is taken for windows is in `test_fields`.
    monkeypatch.setattr(backward_module, "fields_of", lambda *_: None)
    # One box at a time: what is known of all is taken as it is.
    monkeypatch.setattr(backward_module, "_BLOCK_BYTES", 1)
    monkeypatch.setattr(backward_module, "_FEW_UNITS", 0)
    take = Backward.take
    monkeypatch.setattr(Backward, "take", lambda self, chosen: take(self, (chosen + 1) % 4))
    graph, rng = graph_of("residual"), np.random.default_rng(2)
    pixels = pixels_around(rng, 4, 0.05)
    pixels.rows[1:, 1:] *= torch.tensor([1.0, 4.0, 16.0], dtype=torch.float64)[:, None, None, None, None]
    assert excess(graph, pixels, images_in(rng, pixels, 60), Effort.UNITS) > 1e-6


def test_an_offset_left_out_is_caught(monkeypatch):
    of_relu = lines._of_relu

    def without(low, high):
        found = of_relu(low, high)
        return replace(found, above_offset=torch.zeros_like(found.above_offset))

    monkeypatch.setattr(lines, "_of_relu", without)
    assert worst_excess() > 1e-6


@pytest.mark.parametrize("seed", [1, 3, 4, 5])
def test_weights_that_single_precision_loses_are_not_lost(seed, monkeypatch):
    """1e20, 1e-46 and 1e26 make logits of an ordinary size; 1e-46 is 0 in float32."""
    monkeypatch.setattr(tightening, "_HEAVY", 0)  # rows of larger networks are in float32
    generator = torch.Generator().manual_seed(seed)
    sizes, scales = (4, 8, 8, 8, 8, 2), (1e20, 1e-46, 1e26, 1.0, 1.0)
    parts = [nn.Flatten()]
    for (inner, outer), scale in zip(pairwise(sizes), scales, strict=True):
        layer = nn.Linear(inner, outer).double()
        with torch.no_grad():
            layer.weight.copy_(scale * torch.randn(outer, inner, generator=generator, dtype=torch.float64))
            layer.bias.zero_()
        parts += [layer, nn.ReLU()]
    module = nn.Sequential(*parts[:-1])
    rng = np.random.default_rng(seed)
    image = rng.random((1, 2, 2))
    chain = Chain(*(Direction(-0.6, 0.6, array=rng.standard_normal((1, 2, 2))) for _ in range(2)))
    network = load_network(module, input_shape=(1, 2, 2))
    problem = pose(
        network, image, chain, label=None, saliency=NoMap(), inconsistency=Cosine(), threshold=2.0, clip=None
    )
    bounds = problem.bounds(problem.box[None], 32, Effort.UNITS)
    low, high = (own.numpy()[0] for own in bounds.gaps(problem.label))
    thetas = rng.uniform(-0.6, 0.6, (4000, 2))
    gaps = problem.gaps(network.graph.forward(problem.images(thetas))).numpy()
    assert (low <= gaps + 1e-9).all()
    assert (gaps <= high + 1e-9).all()
