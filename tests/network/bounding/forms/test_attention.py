"""Attention over boxes: keys and values less their means, against samples; and what that is worth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from formed import affine_part
from graphs import rand
from steadygaze.enclosing.forms import Forms
from steadygaze.network.bounding import bounds
from steadygaze.network.bounding.bounds import bounds_of
from steadygaze.network.bounding.forms import attention
from steadygaze.network.bounding.forms.joint import relax_joint
from steadygaze.network.building import GraphBuilder
from steadygaze.network.graph import Graph
from steadygaze.network.joint import MatrixProduct, Softmax
from steadygaze.network.layers import Add, Dense, Permute, Reshape, ScaleShift
from steadygaze.network.reading.load import load_network

BOXES, COUNT, PLACES, SIZE = 3, 2, 4, 3


def attending(more: str = "") -> Graph:
    """One attention over places that are much alike, and logits made of it.

    more: what else is made of the logits of its softmax ("arguments") or of its probabilities ("shares"); or
    that arguments are not scaled alike ("uneven").
    """
    b = GraphBuilder((1, PLACES, SIZE))
    queries, keys, values = (
        b.add(ScaleShift(1 + rand(SIZE, seed=seed), 20 * rand(SIZE, seed=seed + 1)), 0, name=f"{seed}")
        for seed in (0, 2, 4)
    )
    turned = b.add(Permute((0, 2, 1)), keys, name="turned")
    product = b.add(MatrixProduct(), queries, turned, name="product")
    scale = 0.4 + (rand(PLACES, seed=6) if more == "uneven" else rand(1, seed=6))
    scaled = b.add(ScaleShift(scale, rand(PLACES, PLACES, seed=7)), product, name="scaled")
    shares = b.add(Softmax(), scaled, name="shares")
    mixed = b.add(MatrixProduct(), shares, values, name="mixed")
    flat = b.add(Reshape((PLACES * SIZE,)), mixed, name="flat")
    last = b.add(Dense(rand(3, PLACES * SIZE, seed=8), rand(3, seed=9)), flat, name="last")
    if more in ("arguments", "shares"):
        other = b.add(Reshape((PLACES**2,)), product if more == "arguments" else shares, name="other")
        own = b.add(Dense(rand(3, PLACES**2, seed=10), rand(3, seed=11)), other, name="own")
        last = b.add(Add(), last, own, name="sum")
    return b.build(last)


def pixels_around(rng, width, error):
    rows = torch.from_numpy(rng.uniform(-width, width, (BOXES, 1 + COUNT, 1, PLACES, SIZE)))
    rows[:, 0] = torch.from_numpy(rng.uniform(0, 1, (BOXES, 1, PLACES, SIZE)))
    return Forms(rows, torch.full((BOXES, 1, PLACES, SIZE), error, dtype=torch.float64), COUNT)


def excess(graph, width, error, asked=()):
    """How far values and gradients leave their bounds, entry by entry or in length."""
    rng = np.random.default_rng(3)
    pixels = pixels_around(rng, width, error)
    pixels = Forms(pixels.rows, pixels.error, COUNT, length=pixels.errors)
    worst = -np.inf
    for room in (0, 20):
        found = bounds_of(graph, pixels, {graph.last, *asked}, {}, room)
        gradient = found.pull_back(Forms.exact(graph.seed(1, BOXES), COUNT), 0)
        for number in range(12):
            t = torch.from_numpy(rng.uniform(-1, 1, (BOXES, COUNT)))
            away = torch.from_numpy(rng.choice([-1.0, 1.0], tuple(pixels.error.shape)))
            image = affine_part(pixels, t, t[:, :0]) + away * pixels.error * (number % 3) / 2
            values = graph.values_at(image, {graph.last, *asked})
            told = [(found.values[index], values[index]) for index in values]
            for forms, own in [*told, (gradient, graph.gradient_at(image, 1))]:
                off = (own - affine_part(forms, t, t[:, :0])).abs()
                worst = max(worst, float((off - forms.strays).max()))
                if not forms.symbols:
                    length = torch.linalg.vector_norm(off.flatten(1), dim=1)
                    worst = max(worst, float((length - forms.errors).max()))
    return worst


@pytest.mark.parametrize("more", ["", "arguments", "shares", "uneven"])
@pytest.mark.parametrize(
    ("width", "error"), [(0.0, 0.0), (1e-9, 1e-12), (1e-3, 1e-3), (0.1, 0.0), (0.0, 0.1)]
)
def test_values_and_gradients_stay_inside(more, width, error):
    assert excess(attending(more), width, error) <= 1e-12


def test_what_is_asked_for_is_told_as_it_is():
    """Arguments of the softmax less something in each row are not what somebody asks for."""
    graph = attending()
    asked = [k for k, node in enumerate(graph.nodes) if node.name in ("product", "scaled", "shares", "mixed")]
    assert excess(graph, 1e-3, 1e-4, asked) <= 1e-12
    pixels = pixels_around(np.random.default_rng(3), 1e-3, 0.0)
    found = bounds_of(graph, pixels, {graph.last, *asked}, {}, 0)
    for index in asked:
        forms = found.pull_back(Forms.exact(graph.seed(1, BOXES), COUNT), index)
        pieces = graph.pieces_at(pixels.centre)
        own = graph.pull_back(graph.seed(1, BOXES), pieces, index)
        assert ((own - forms.centre).abs() <= forms.reach + 1e-12).all()


def spreads(graph):
    """Half the widths of logits, and of the gradient, where pixels are off by 1e-9 and nothing else moves."""
    pixels = pixels_around(np.random.default_rng(3), 0.0, 1e-9)
    pixels = Forms(pixels.rows, pixels.error, COUNT, length=pixels.errors)
    found = bounds_of(graph, pixels, {graph.last}, {}, 0)
    gradient = found.pull_back(Forms.exact(graph.seed(1, BOXES), COUNT), 0)
    return float(found.values[graph.last].errors.max()), float(gradient.errors.max())


def test_what_places_have_in_common_stretches_no_errors(monkeypatch):
    graph = attending()
    centred = spreads(graph)
    monkeypatch.setattr(
        bounds, "relax_joint_node", lambda graph, index, inputs, room, used, asked: relax_joint(
            graph.nodes[index].layer, inputs, room, used
        )
    )  # fmt: skip
    plain = spreads(graph)
    assert plain[0] > 3 * centred[0]
    assert plain[1] > 1.5 * centred[1]


class Transformer(nn.Module):
    """Two layers on sixteen patches, as PyTorch initialises them: its places are much alike."""

    def __init__(self, size: int = 32) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, size, 4, 4)
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(4))
        self.mixes = nn.ModuleList(nn.Linear(size, 3 * size) for _ in range(2))
        self.outs = nn.ModuleList(nn.Linear(size, size) for _ in range(2))
        self.wide = nn.ModuleList(nn.Linear(size, 4 * size) for _ in range(2))
        self.narrow = nn.ModuleList(nn.Linear(4 * size, size) for _ in range(2))
        self.head = nn.Linear(size, 4)

    def forward(self, x):
        t = self.patch(x).flatten(2).transpose(1, 2)
        for k in range(2):
            mixed = self.mixes[k](self.norms[2 * k](t)).reshape(len(x), 16, 3, 4, -1).permute(2, 0, 3, 1, 4)
            own = functional.scaled_dot_product_attention(*mixed.unbind(0)).transpose(1, 2)
            t = t + self.outs[k](own.reshape(t.shape))
            t = t + self.narrow[k](functional.gelu(self.wide[k](self.norms[2 * k + 1](t))))
        return self.head(t.mean(1))


def test_the_map_of_a_transformer_is_known_over_a_small_box():
    """Forward and back errors would grow beyond it, each layer making them several times longer."""
    torch.manual_seed(0)
    graph = load_network(Transformer().double().eval(), input_shape=(1, 16, 16)).graph
    rows = torch.rand((1, 2, 1, 16, 16), dtype=torch.float64)
    rows[:, 1] = 2.0**-16
    pixels = Forms(rows, torch.zeros((1, 1, 16, 16), dtype=torch.float64), 1)
    found = bounds_of(graph, pixels, {graph.last}, {}, 32)
    gradient = found.pull_back(Forms.exact(graph.seed(1, 1), 1), 0)
    assert float(gradient.reach.norm()) < 0.3 * float(gradient.centre.norm())


# -- planted faults: each must be seen


def test_probabilities_said_to_sum_to_1_are_seen(monkeypatch):
    monkeypatch.setattr(attention, "_missing", lambda p: 0 * p.centre[..., 0])
    assert excess(attending(), 0.1, 0.0) > 0


@pytest.mark.parametrize("more", ["arguments", "uneven"])
def test_arguments_that_others_read_less_their_mean_are_seen(more, monkeypatch):
    monkeypatch.setattr(attention, "only_softmax_reads", lambda graph, index, asked: True)
    assert excess(attending(more), 1e-3, 0.0) > 0


def test_values_whose_errors_are_stretched_less_are_seen(monkeypatch):
    less = torch.full((), 1e-3, dtype=torch.float64)
    monkeypatch.setattr(attention, "levelled", lambda forms: forms.scaled(less.expand(forms.shape)))
    assert excess(attending(), 0.0, 0.1) > 0
