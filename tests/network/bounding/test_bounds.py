"""Networks over boxes: values forward and gradients backward against PyTorch, and against plain intervals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from branching import BRANCHING
from formed import affine_part
from intervals import interval_gradient
from oracles import gradients_of, logits_of
from sparing import sparing
from steadygaze.enclosing.angles import cosine_bounds
from steadygaze.enclosing.forms import Forms
from steadygaze.network.bounding.bounds import bounds_of
from steadygaze.network.reading.load import load_network
from variants import NETWORKS, network, picture

COUNT = 2
ROOMS = (0, 3, 40)


NAMES = [*(name for name in NETWORKS if not name.startswith("colour")), *BRANCHING]


def module_of(name):
    if name not in BRANCHING:
        return network(name)
    torch.manual_seed(len(name))
    return BRANCHING[name]().double().eval()


def pixels_around(rng, boxes, width):
    """Forms of pixels: the picture and random directions, which leave its blank background alone."""
    centre = torch.from_numpy(picture(1)).expand(boxes, -1, -1, -1)
    rows = torch.from_numpy(rng.uniform(-width, width, (boxes, 1 + COUNT, 1, 6, 6))) * (centre[:, None] > 0)
    rows[:, 0] += centre
    return Forms(rows, torch.zeros((boxes, 1, 6, 6), dtype=torch.float64), COUNT)


def images_in(rng, pixels, count):
    """Images ``(count, B, 1, 6, 6)`` of the boxes, and their coordinates."""
    t = torch.from_numpy(rng.uniform(-1, 1, (count, len(pixels.rows), COUNT)))
    t = torch.where(torch.from_numpy(rng.random(tuple(t.shape))) < 0.3, t.sign(), t)
    return torch.stack([affine_part(pixels, own, own[:, :0]) for own in t]), t


def beyond(forms, values, t):
    """How far the values lie outside: at their coordinates, symbols being free, and over the box."""
    away = (values - affine_part(forms, t, t[:, :0])).abs() - forms.strays
    low, high = forms.bounds()
    return float(torch.stack([away, low - values, values - high]).max()) - 1e-9


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", sparing([1e-3, 0.05, 0.5]))
def test_logits_and_gradients_stay_inside(name, width):
    rng, module = np.random.default_rng(int(1e4 * width)), module_of(name)
    graph = load_network(module, input_shape=(1, 6, 6)).graph
    pixels = pixels_around(rng, 4, width)
    images, ts = images_in(rng, pixels, 12)
    for room in ROOMS:
        bounds = bounds_of(graph, pixels, {graph.last}, {}, room)
        seed = torch.zeros((4, graph.classes), dtype=torch.float64)
        seed[:, 1] = 1.0
        gradients = bounds.pull_back(Forms.exact(seed, COUNT), 0)
        assert gradients.symbols <= room
        for image, t in zip(images, ts, strict=True):
            assert (
                beyond(bounds.values[graph.last], torch.from_numpy(logits_of(module, image.numpy())), t) <= 0
            )
            assert beyond(gradients, torch.from_numpy(gradients_of(module, image.numpy(), 1)), t) <= 0


@pytest.mark.parametrize("name", ["mlp", "residual", "max pool", "silu conv", *BRANCHING])
def test_every_node_stays_inside(name):
    """Values of all nodes and gradients at all of them, against plain evaluation of the graph."""
    rng = np.random.default_rng(3)
    graph = load_network(module_of(name), input_shape=(1, 6, 6)).graph
    pixels = pixels_around(rng, 3, 0.1)
    every = range(len(graph.nodes))
    bounds = bounds_of(graph, pixels, every, {}, 40)
    seed = torch.tensor([[0.5, -1.0, 0.25]], dtype=torch.float64).expand(3, -1)
    gradients = [bounds.pull_back(Forms.exact(seed, COUNT), node) for node in every]
    for image, t in zip(*images_in(rng, pixels, 12), strict=True):
        values, pieces = graph.values_at(image, every), graph.pieces_at(image)
        for node in every:
            assert beyond(bounds.values[node], values[node], t) <= 0
            assert beyond(gradients[node], graph.pull_back(seed, pieces, node), t) <= 0


def test_seeds_that_vary_stay_inside():
    rng = np.random.default_rng(4)
    graph = load_network(module_of("residual"), input_shape=(1, 6, 6)).graph
    pixels = pixels_around(rng, 3, 0.1)
    bounds = bounds_of(graph, pixels, {graph.last}, {}, 20)
    rows = torch.from_numpy(rng.standard_normal((3, 1 + COUNT + 1, 3)))
    seed = Forms(rows, torch.zeros((3, 3), dtype=torch.float64), COUNT)
    made = bounds.pull_back(seed, 0)
    for image, t in zip(*images_in(rng, pixels, 20), strict=True):
        s = torch.from_numpy(rng.choice([-1.0, 1.0], (3, 1)))
        gradient = graph.pull_back(affine_part(seed, t, s), graph.pieces_at(image))
        known = affine_part(made, t, s)
        loose = made.error + made.rows[:, 2 + COUNT :].abs().sum(dim=1)
        assert float(((gradient - known).abs() - loose).max()) <= 1e-12


def test_doubts_are_units_that_change_their_piece():
    """Every unit that samples find on two pieces is in doubt; over points there is none in doubt."""
    rng = np.random.default_rng(5)
    graph = load_network(network("mlp"), input_shape=(1, 6, 6)).graph
    pixels = pixels_around(rng, 6, 0.1)
    images, _ = images_in(rng, pixels, 200)
    pieces = graph.pieces_at(images.flatten(0, 1))
    seen = sum((own.reshape(200, 6, -1) != own[:6]).any(dim=0).sum(dim=1) for own in pieces.values())
    bounds = bounds_of(graph, pixels, {graph.last}, {}, 20)
    assert (bounds.doubts >= seen).all()
    assert (seen > 0).any()
    assert (bounds.pull >= 0).all()
    point = Forms(pixels.rows[:, :1], pixels.error, COUNT)
    assert not bounds_of(graph, point, {graph.last}, {}, 20).doubts.any()


def test_the_parameter_that_moves_units_is_to_blame():
    graph = load_network(network("mlp"), input_shape=(1, 6, 6)).graph
    pixels = pixels_around(np.random.default_rng(6), 4, 0.3)
    pixels.rows[:, 2] *= 1e-3
    bounds = bounds_of(graph, pixels, {graph.last}, {}, 20)
    assert (bounds.pull[:, 0] >= 100 * bounds.pull[:, 1]).all()
    assert (bounds.pull[:, 0] > 0).any()


def test_boxes_are_taken_with_all_that_is_known():
    graph = load_network(network("max pool"), input_shape=(1, 6, 6)).graph
    bounds = bounds_of(graph, pixels_around(np.random.default_rng(7), 5, 0.1), {0, graph.last}, {}, 20)
    seed = torch.eye(3, dtype=torch.float64)[:1]
    chosen = torch.tensor([4, 1])
    some = bounds.take(chosen).pull_back(Forms.exact(seed.expand(2, -1), COUNT), 0)
    every = bounds.pull_back(Forms.exact(seed.expand(5, -1), COUNT), 0).take(chosen)
    # Which doubts get a symbol depends on the boxes beside; what is known without symbols does not.
    torch.testing.assert_close(some.centre, every.centre)
    torch.testing.assert_close(some.rows[:, : 1 + COUNT], every.rows[:, : 1 + COUNT])
    torch.testing.assert_close(bounds.take(chosen).doubts, bounds.doubts[chosen])
    torch.testing.assert_close(bounds.take(chosen).values[0].rows, bounds.values[0].rows[chosen])


# -- how much is gained over plain intervals


def compared(name, width, room):
    """Of boxes with doubts: total width of the map's entries by intervals and by forms, and of its angle."""
    graph = load_network(module_of(name), input_shape=(1, 6, 6)).graph
    pixels = pixels_around(np.random.default_rng(0), 40, width)
    bounds = bounds_of(graph, pixels, {graph.last}, {}, room)
    bounds = bounds.take(bounds.doubts.nonzero()[:, 0])
    one = torch.eye(3, dtype=torch.float64)[:1].expand(len(bounds.doubts), -1)
    forms = bounds.pull_back(Forms.exact(one, COUNT), 0).flattened()
    low, high = interval_gradient(bounds, one)
    bottom, top = forms.bounds()
    # Both hold the same gradients: they meet everywhere.
    assert (torch.maximum(low, bottom) <= torch.minimum(high, top) + 1e-12).all()
    plain = Forms(((low + high) / 2)[:, None], (high - low) / 2, COUNT)
    target = Forms.exact(forms.centre, COUNT)
    angles = [float((b - a).mean()) for a, b in (cosine_bounds(own, target) for own in (plain, forms))]
    return float((high - low).sum()), float((top - bottom).sum()), *angles


@pytest.mark.parametrize("name", ["wide", "leaky", "residual", "max pool", "tanh"])
def test_angles_are_tighter_than_by_plain_intervals(name):
    *_, plain, forms = compared(name, 0.05, 32)
    assert forms < 0.8 * plain


def test_deep_maps_are_tighter_entry_by_entry():
    plain, forms, *_ = compared("residual", 0.2, 32)
    assert forms < plain / 1.2
    assert forms < compared("residual", 0.2, 0)[1], "symbols are what it is gained by"
