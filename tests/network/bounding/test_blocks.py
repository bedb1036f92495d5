"""Errors through blocks of layers: norms against singular values, bounds against samples; planted faults."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from steadygaze.deadline import NEVER, Deadline, Expired
from steadygaze.enclosing.forms import Forms
from steadygaze.network import graph as graphs
from steadygaze.network.bounding import block_growth, blocks
from steadygaze.network.bounding.anchors.anchored import Anchored
from steadygaze.network.bounding.blocks import BlockNorms, blocks_of, normalised_at
from steadygaze.network.bounding.crossed_blocks import crossing_of
from steadygaze.network.bounding.polynomials import polynomial_bounds
from steadygaze.network.joint import Normalise
from steadygaze.network.norms import spectral_norm
from steadygaze.network.reading.load import load_network

SHAPE, CLASSES = (2, 4, 4), 6


class Gate(nn.Module):
    """Squeeze and excitation, by what comes first."""

    def __init__(self, channels: int, ends: type[nn.Module]) -> None:
        super().__init__()
        self.less, self.more, self.end = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1), ends()

    def forward(self, x):
        return x * self.end(self.more(nn.functional.silu(self.less(x.mean((2, 3), keepdim=True)))))


class Inverted(nn.Module):
    """Wide in the middle, where each channel is convolved by itself; with what is between its ends added."""

    def __init__(self, channels: int, unit: type[nn.Module], ends: type[nn.Module], groups: bool) -> None:
        super().__init__()
        wide = 3 * channels
        own = [nn.Conv2d(channels, wide, 1), unit(), nn.Conv2d(wide, wide, 3, padding=1, groups=wide)]
        own += [nn.GroupNorm(2, wide)] if groups else []
        self.own = nn.Sequential(*own, unit(), Gate(wide, ends), nn.Conv2d(wide, channels, 1))

    def forward(self, x):
        return x + self.own(x)


class Perceptron(nn.Module):
    """What a transformer does to each token alone."""

    def __init__(self, width: int, unit: type[nn.Module]) -> None:
        super().__init__()
        self.own = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), unit(), nn.Linear(2 * width, width)
        )

    def forward(self, x):
        return x + self.own(x)


class OfTokens(nn.Module):
    """Tokens of two by two pixels, their mean at the end."""

    def __init__(self, unit: type[nn.Module], blocks: int) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(2, 6, 2, 2), nn.Linear(6, CLASSES)
        self.inner = nn.Sequential(*(Perceptron(6, unit) for _ in range(blocks + 1)))

    def forward(self, x):
        return self.last(self.inner(self.first(x).flatten(2).mT).mean(1))


class Mixed(nn.Module):
    """Tokens of two by two pixels, that are mixed channel by channel after norms of each."""

    def __init__(self, unit: type[nn.Module], blocks: int, bent: bool = False, tokens: int = 4) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(2, 6, 2, 2), nn.Linear(6, CLASSES)
        self.norms = nn.ModuleList(nn.LayerNorm(6) for _ in range(blocks + 1))
        self.inner = nn.ModuleList(
            nn.Sequential(nn.Linear(tokens, 9), unit(), nn.Linear(9, tokens), *([unit()] if bent else []))
            for _ in range(blocks + 1)
        )
        for norm in self.norms:
            nn.init.uniform_(norm.weight, 0.5, 1.5)

    def forward(self, x):
        x = self.first(x).flatten(2).mT
        for norm, own in zip(self.norms, self.inner, strict=True):
            x = x + own(norm(x).mT).mT
        return self.last(x.mean(1))


def module(unit=nn.SiLU, ends=nn.Sigmoid, groups=False, blocks=2, tokens=False, mixed=False, bent=False):
    torch.manual_seed(0)
    if mixed:
        return Mixed(unit, blocks, bent).eval()
    if tokens:
        return OfTokens(unit, blocks).eval()
    inner = [Inverted(4, unit, ends, groups) for _ in range(blocks)]
    head = [nn.Flatten(), nn.Linear(64, CLASSES)]
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), unit(), *inner, *head).eval()


KINDS = {
    "silu": {},
    "group norms": {"groups": True},
    "hard": {"unit": nn.Hardswish, "ends": nn.Hardsigmoid},
    "rectifiers": {"unit": nn.ReLU},
    "tokens": {"unit": nn.GELU, "tokens": True},
    "mixed": {"unit": nn.GELU, "mixed": True},
    "mixed, units last": {"unit": nn.GELU, "mixed": True, "bent": True},
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def _followed_always(monkeypatch):
    """As in deep networks: lengths of errors are followed, and whatever they come to matters."""
    monkeypatch.setattr(graphs, "GROWTH", 0.0)
    monkeypatch.setattr(block_growth, "_NOTICED", 0.0)
    monkeypatch.setattr(blocks, "_LITTLE", 0.0)


@cache
def read(kind, blocks=2):
    return load_network(module(**KINDS[kind], blocks=blocks), input_shape=SHAPE).graph


def image():
    return torch.from_numpy(np.random.default_rng(1).uniform(0.2, 0.8, (1, *SHAPE)))


def between(graph, block):
    """The function from the values of a block's first node to those of its last."""

    def function(x):
        values = {block.first: x[None]}
        for index in range(block.first + 1, block.last + 1):
            node = graph.nodes[index]
            values[index] = node.layer.forward(*(values[source] for source in node.inputs))
        return values[block.last][0]

    return function


def largest(graph, block, x):
    """The largest singular value of its Jacobian where the pixels are x."""
    first = graph.values_at(x, (block.first,))[block.first][0]
    made = torch.autograd.functional.jacobian(between(graph, block), first)
    matrix = made.reshape(-1, first.numel())
    return float(torch.linalg.matrix_norm(matrix, 2))


def norms_excess(kind):
    """By what factor true norms of blocks at the point exceed theirs, and these the true ones, at most."""
    graph, x = read(kind), image()
    norms = BlockNorms(graph, 0, x)
    found = [(norms.norm(block), largest(graph, block, x)) for block in norms.ending.values()]
    assert len(found) >= 2
    return max(true / own for own, true in found), max(own / true for own, true in found)


@every_kind
def test_norms_are_those_of_jacobians(kind):
    below, above = norms_excess(kind)
    assert below <= 1
    # Of blocks that are mixed channel by channel it is 1 and the norm of what is added.
    assert above < (1.6 if kind.startswith("mixed") else 1.15)


def test_a_block_ends_where_all_values_pass_and_are_fewest():
    graph = read("silu")
    ends = [(graph.nodes[block.first].shape, graph.nodes[block.last].shape) for block in blocks_of(graph, 0)]
    assert ends == [(SHAPE, (4, 4, 4)), ((4, 4, 4), (CLASSES,))]


def pixels(x, spread, error):
    """Brightness by so much, and whatever else moves all pixels together by no more than the error."""
    rows = torch.zeros((1, 2, *SHAPE), dtype=torch.float64)
    rows[:, 1] = spread
    length = torch.tensor([error], dtype=torch.float64)
    return Anchored(x, Forms(rows, length.expand(1, *SHAPE), 1, length=length))


def bounded(graph, x, spread, error, degree, norms):
    nodes = (0, graph.last)
    return polynomial_bounds(graph, pixels(x, spread, error), nodes, {}, degree, norms=norms, asks=True)


def samples(graph, x, spread, error):
    """Brightness t, and pixels: those that are moved worst, and others."""
    rng = np.random.default_rng(2)
    made = torch.autograd.functional.jacobian(lambda own: graph.forward(own[None])[0], x[0])
    worst = torch.linalg.svd(made.reshape(CLASSES, -1))[2]
    for t in (-1.0, 0.2, 1.0):
        ways = [*(sign * row.reshape(SHAPE) for row in worst[:2] for sign in (1, -1))]
        ways += [torch.from_numpy(rng.choice([-1.0, 1.0], SHAPE)) for _ in range(4)]
        for way in ways:
            yield t, x + t * spread + error * way / torch.linalg.vector_norm(way)


def value_at(forms, t, m):
    """What rows say at t, without errors."""
    powers = t ** torch.arange(m, dtype=torch.float64)
    return (forms.rows[0, :m].flatten(1) * powers[:, None]).sum(dim=0)


def off(kind, spread, error, degree=3, blocks=2, backward=False):
    """How far values, or the gradient, are beside their polynomials as a share of what bounds say.

    The largest of any entry, and of all together; and the bound of the latter by blocks over that without.
    """
    graph, x, worst = read(kind, blocks), image(), 0.0
    plain = bounded(graph, x, spread, error, degree, None)
    own = bounded(graph, x, spread, error, degree, BlockNorms(graph, 0, x))
    if backward:
        seed = Forms.exact(graph.seed(0, 1), 1)
        known, without = (each.pull_back(seed, 0) for each in (own, plain))
    else:
        known, without = (each.values[graph.last] for each in (own, plain))
    strays = known.rows[:, 2 + degree - 1 :].abs().sum(dim=1)[0].flatten()
    for t, point in samples(graph, x, spread, error):
        true = graph.gradient_at(point, 0) if backward else graph.forward(point)
        away = (true.flatten() - value_at(known, t, degree + 1)).abs()
        together = float(torch.linalg.vector_norm((away - strays).clamp_min(0.0)) / known.errors[0])
        worst = max(worst, float((away / (known.error[0].flatten() + strays)).max()), together)
    return worst, float(known.errors[0] / without.errors[0])


@every_kind
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize(
    ("spread", "error", "degree"), [(2.0**-8, 2.0**-12, 2), (2.0**-5, 0.0, 1), (2.0**-30, 2.0**-20, 2)]
)
def test_samples_stay_inside(kind, backward, spread, error, degree):
    worst, _ = off(kind, spread, error, degree, backward=backward)
    assert worst <= 1 + 1e-9


def test_what_each_token_goes_through_alone_has_a_matrix_for_each():
    """And a norm that is the largest of theirs; where tokens are mixed there is one for all of them."""
    graph, x = read("tokens"), image()
    norms = BlockNorms(graph, 0, x)
    found = [norms._jacobian(block, NEVER).shape for block in norms.ending.values()]
    assert found == [(1, 24, 32), (4, 6, 6), (1, 6, 24)]
    each = blocks._cost(graph, norms.ending[13])
    assert each == 6 * (4 * 2 * 72) + 4 * 6**3


def test_what_mixes_channels_apart_after_a_norm_has_a_matrix_for_each_channel():
    """And such a block begins where tokens are, whatever makes them."""
    graph, x = read("mixed"), image()
    norms = BlockNorms(graph, 0, x)
    crossed = [
        (block, own) for block in norms.ending.values() if (own := crossing_of(graph, block.last)) is not None
    ]
    assert len(crossed) >= 2
    for block, crossing in crossed:
        assert crossing.first == block.first
        assert graph.nodes[block.first].shape == (4, 6)
        assert isinstance(graph.nodes[crossing.norm].layer, Normalise)
        # Four rows through two layers of 4 and 9, for each of 6 channels, and squares of matrices of 4.
        assert blocks._cost(graph, block) == pytest.approx(4 * 6 * 72 + 6 * 4**3, rel=0.3)
    for kind in KINDS:
        graph = read(kind)
        others = [crossing_of(graph, block.last) for block in blocks_of(graph, 0)]
        assert any(own is not None for own in others) == kind.startswith("mixed")


def test_such_a_matrix_is_made_part_by_part_and_not_too_large(monkeypatch):
    """All rows at once are as many times the widest layer as there are tokens."""
    torch.manual_seed(0)
    graph = load_network(Mixed(nn.GELU, 2, tokens=36).eval(), input_shape=(2, 12, 12)).graph
    x = torch.from_numpy(np.random.default_rng(1).uniform(0.2, 0.8, (1, 2, 12, 12)))
    block = next(own for own in blocks_of(graph, 0) if crossing_of(graph, own.last) is not None)
    whole = BlockNorms(graph, 0, x).norm(block)
    rows, pulled = list[int](), BlockNorms._pulled

    def noted(self, block, seed, deadline):
        rows.append(len(seed))
        return pulled(self, block, seed, deadline)

    monkeypatch.setattr(BlockNorms, "_pulled", noted)
    monkeypatch.setattr(blocks, "_BYTES", 0)
    assert BlockNorms(graph, 0, x).norm(block) == pytest.approx(whole, rel=1e-12)
    assert rows == [16, 16, 4]
    monkeypatch.setattr(blocks, "_MOST", 6 * 36**2)
    assert block in blocks_of(graph, 0)
    monkeypatch.setattr(blocks, "_MOST", 6 * 36**2 - 1)
    assert block not in blocks_of(graph, 0)


def test_what_takes_next_to_no_time_is_asked_for_always(monkeypatch):
    graph, x, nothing = read("silu"), image(), torch.zeros(1)
    (block, *_) = blocks_of(graph, 0)
    assert not BlockNorms(graph, 0, x).helps(block, nothing, 1.0, ahead=True)
    monkeypatch.setattr(blocks, "_LITTLE", 10**6)
    assert BlockNorms(graph, 0, x).helps(block, nothing, 1.0, ahead=True)


def test_what_values_are_off_by_counts_for_gradients_too():
    graph, x, length = read("silu"), image(), torch.tensor([1.0])
    (block, *_) = blocks_of(graph, 0)
    limit, behind = BlockNorms(graph, 0, x)._growth_ahead[block.first], 0.0
    for maps, helps in ((False, 1.0), (True, BlockNorms(graph, 0, x)._growth_behind[graph.last])):
        norms, behind = BlockNorms(graph, 0, x, maps), helps
        assert norms.helps(block, length, 0.9 * limit * helps, ahead=True)
        assert not norms.helps(block, length, 1.1 * limit * helps, ahead=True)
    assert behind > 2


def test_gradients_ask_for_norms_once_they_go_back_to_twice_the_precision(monkeypatch):
    graph, x = read("silu"), image()
    norms = BlockNorms(graph, 0, x)
    monkeypatch.setattr(block_growth, "_NOTICED", 1e99)
    found = bounded(graph, x, 2.0**-30, 2.0**-30, 2, norms)
    monkeypatch.setattr(block_growth, "_NOTICED", 0.0)
    for precise in (False, True):
        replace(found, precise=precise).pull_back(Forms.exact(graph.seed(0, 1), 1), 0)
        assert all(norms.knows(block) == precise for block in norms.ending.values())


@pytest.mark.parametrize("kind", ["silu", "group norms", "hard", "tokens", "mixed"])
def test_errors_grow_less_than_through_layers(kind):
    assert off(kind, 2.0**-30, 2.0**-30)[1] < 0.5


def test_jacobians_anywhere_in_boxes_are_no_longer(monkeypatch):
    assert over_boxes(monkeypatch) <= 1


def over_boxes(monkeypatch):
    """By what factor norms somewhere in a box exceed what they are said to be there, at most."""
    worst, own = 0.0, block_growth._norm_of
    for kind, spread in product(KINDS, (2.0**-5, -(2.0**-5))):
        graph, x, found = read(kind), image(), {}

        def noted(norms, block, growth, deadline, found=found):
            found[block] = own(norms, block, growth, deadline)
            return found[block]

        with monkeypatch.context() as patched:
            patched.setattr(block_growth, "_norm_of", noted)
            # Only what the Jacobian at the point and the box say, not the product of the layers' norms.
            patched.setattr(torch, "fmin", lambda a, b: b)
            bounded(graph, x + spread, spread, 0.0, 4, BlockNorms(graph, 0, x))
        assert found
        for block, norm in found.items():
            for t in (-1.0, 0.5, 1.0):
                worst = max(worst, largest(graph, block, x + spread + t * spread) / float(norm[0]))
    return worst


def test_planted_faults_are_seen(monkeypatch):
    """Each would call less an error than may be one."""
    norm, left = BlockNorms.norm, Forms.left

    def halved(self, block, deadline=None):
        return norm(self, block) / 2

    def forgetful(self, norm, before):
        own = torch.stack([self.errors[0], torch.zeros_like(self.errors[0])])
        return left(Forms(self.rows, self.error, self.count, self.origin, own), norm, before)

    def unmoved(x, known):
        return 0 * x.whole.most

    def of_the_last_token(rows):
        return spectral_norm(rows[-1:])

    def nothing(rows):
        return 0.0

    def of_ones(*given):
        values, scales = normalised_at(*given)
        return values, torch.ones_like(scales)

    cases = [
        (BlockNorms, "norm", halved, lambda: off("silu", 2.0**-30, 2.0**-20, 2, 0)[0]),
        (BlockNorms, "norm", halved, lambda: norms_excess("silu")[0]),
        (BlockNorms, "norm", halved, lambda: norms_excess("tokens")[0]),
        (BlockNorms, "norm", halved, lambda: off("tokens", 2.0**-30, 2.0**-20, 2, 2)[0]),
        (blocks, "spectral_norm", of_the_last_token, lambda: norms_excess("tokens")[0]),
        (blocks, "spectral_norm", nothing, lambda: norms_excess("mixed")[0]),
        (blocks, "normalised_at", of_ones, lambda: norms_excess("mixed")[0]),
        (Forms, "left", forgetful, lambda: off("silu", 2.0**-5, 0.0, 1)[0]),
        (Forms, "left", forgetful, lambda: off("silu", 2.0**-5, 0.0, 1, backward=True)[0]),
        (block_growth, "_off", unmoved, lambda: over_boxes(monkeypatch)),
        (Forms, "undivided", lambda forms: forms, lambda: off("silu", 2.0**-30, 2.0**-6, 2, 2, True)[0]),
    ]
    for where, name, made, seen in cases:
        with monkeypatch.context() as patched:
            patched.setattr(where, name, made)
            assert seen() > 1
        assert seen() <= 1 + 1e-9


def test_norms_are_worked_out_where_there_is_time_for_them():
    graph, x = read("silu"), image()
    norms = BlockNorms(graph, 0, x)
    (block, *_) = norms.ending.values()
    late = Deadline.after(-1.0)
    assert not norms.affords(block, late)
    with pytest.raises(Expired):
        norms.norm(block, late)
    assert not norms.knows(block)
    assert norms.affords(block, Deadline.after(1.0))


def test_they_are_not_asked_for_over_boxes_that_are_not_small():
    graph, x = read("silu"), image()
    norms = BlockNorms(graph, 0, x)
    polynomial_bounds(graph, pixels(x, 0.01, 0.0), (graph.last,), {}, 3, norms=norms)
    assert not any(norms.knows(block) for block in norms.ending.values())


def test_channels_convolved_by_themselves_are_pulled_as_others(monkeypatch):
    graph, x = read("silu"), image()
    blocks_found = blocks_of(graph, 0)
    apart = [BlockNorms(graph, 0, x).norm(block) for block in blocks_found]
    monkeypatch.setattr(blocks, "_FEW_PLACES", 0)
    assert [BlockNorms(graph, 0, x).norm(block) for block in blocks_found] == pytest.approx(apart, rel=1e-12)
