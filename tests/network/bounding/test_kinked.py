"""Bounds by polynomials beside kinks that pixels share: against samples, and beside those by forms."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from steadygaze.enclosing.enclosures import Enclosure
from steadygaze.enclosing.forms import Forms
from steadygaze.enclosing.monomials import monomials
from steadygaze.network.bounding import polynomials, small_boxes
from steadygaze.network.bounding.polynomials import kinked_bounds
from steadygaze.network.bounding.taylor import polynomial, polynomial_layers
from steadygaze.network.bounding.tightening import Effort
from steadygaze.network.reading.load import load_network
from steadygaze.network.saliency import NoMap
from steadygaze.perturbation.notation import chain_of
from steadygaze.question.inconsistency import Cosine
from steadygaze.question.posing import pose

CHAINS = {
    "turn and zoom": "affine(degrees=-5..5, scale=-0.05..0.05)",
    "turn and shift": "affine(degrees=0..5, dx=-0.5..0.5, dy=-0.5..0.2, fill=0.3)",
    "all of four": "affine(degrees=-5..5, scale=-0.05..0.05) | exposure(amount=-0.1..0.1)"
    " | patch(opacity=0..0.2, top=1, left=1, size=2)",
}


class Crossed(nn.Module):
    """Tokens mixed channel by channel, and channels token by token."""

    def __init__(self, channels, layers=2):
        super().__init__()
        self.patches = nn.Conv2d(channels, 8, 2, 2)
        self.norms = nn.ModuleList(nn.LayerNorm(8) for _ in range(2 * layers))
        self.mixing = nn.ModuleList(
            nn.Sequential(nn.Linear(size, 12), nn.GELU(), nn.Linear(12, size)) for size in (9, 8) * layers
        )
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.patches(x).flatten(2).mT
        for number, (norm, mixed) in enumerate(zip(self.norms, self.mixing, strict=True)):
            x = x + (mixed(norm(x)) if number % 2 else mixed(norm(x).mT).mT)
        return self.head(x.mean(1))


class Attentive(nn.Module):
    """A layer of attention over patches of two by two pixels."""

    def __init__(self, channels):
        super().__init__()
        self.patches = nn.Conv2d(channels, 8, 2, 2)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, "gelu", batch_first=True, norm_first=True)
        self.head = nn.Sequential(nn.LayerNorm(8), nn.Flatten(), nn.Linear(72, 3))

    def forward(self, x):
        return self.head(self.layer(self.patches(x).flatten(2).mT))


def grouped(channels):
    inner = [nn.Conv2d(4, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU()]
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(), *inner,
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3),
    )  # fmt: skip


class Multiplied(nn.Module):
    """A product of values that are affine in the pixels."""

    def __init__(self, channels):
        super().__init__()
        self.first, self.second = (nn.Linear(36 * channels, 6) for _ in range(2))
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = x.flatten(1)
        return self.head(self.first(x) * self.second(x))


def bent(channels):
    return nn.Sequential(nn.Flatten(), nn.Linear(36 * channels, 6), nn.GELU(), nn.Linear(6, 3))


DEEP = {"crossed": Crossed, "attention": Attentive, "groups": grouped}
KINDS = {**DEEP, "products": Multiplied, "units": bent}


def module(kind, channels):
    torch.manual_seed(5)
    return KINDS[kind](channels).double().eval()


@cache
def network(kind, channels):
    return load_network(module(kind, channels), input_shape=(channels, 6, 6))


@cache
def posed(kind, chain, channels=3):
    image = np.random.default_rng(channels).uniform(0.0, 1.0, (channels, 6, 6))
    image[:, 2:4, 4:] = 1.0  # at an end of the clip
    return pose(
        network(kind, channels), image, chain_of(CHAINS[chain]), label=None, threshold=0.3, clip=(0.0, 1.0),
        saliency=NoMap(), inconsistency=Cosine(),
    )  # fmt: skip


def sampled(problem, box, rng, count=200):
    """Corners and edges of a box, 0, and random points."""
    draws = rng.random((count, len(box)))
    draws[: count // 2] = np.where(
        rng.random((count // 2, len(box))) < 0.6, np.rint(draws[: count // 2]), 0.5
    )
    thetas = box[:, 0] + draws * np.ptp(box, axis=1)
    thetas[0] = 0.0
    return problem.gaps(problem.network.graph.forward(problem.images(thetas)))


def excess(kind, chain, halvings, shared, channels=3):
    """How far samples are outside of bounds, at most; and how wide these are."""
    problem, rng = posed(kind, chain, channels), np.random.default_rng(halvings)
    box = 0.5**halvings * problem.box
    bounds = problem.bounds(box[None], 32, Effort.PIXELS, shared=shared)
    assert bounds.followed is not None
    low, high = bounds.gaps(problem.label)
    gaps = sampled(problem, box, rng)
    return float(torch.maximum(low - gaps, gaps - high).max()), float((high - low).max())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("kind", DEEP)
def test_samples_stay_inside(kind, chain, channels):
    for halvings, shared in ((2, 9), (5, 128), (11, 9), (24, 128)):
        outside, width = excess(kind, chain, halvings, shared, channels)
        assert outside <= 1e-12
    assert 0 < width < 1e-4


@pytest.mark.parametrize("kind", ["crossed", "attention"])
def test_they_are_narrower_than_forms(kind, monkeypatch):
    _, ours = excess(kind, "turn and zoom", 7, 128)
    problem = posed(kind, "turn and zoom")
    monkeypatch.setattr(small_boxes, "MOST_BESIDE_KINKS", 0)
    bounds = problem.bounds(0.5**7 * problem.box[None], 32, Effort.PIXELS, shared=128)
    assert bounds.followed is None
    low, high = bounds.gaps(problem.label)
    assert ours < 0.6 * float((high - low).max())


def values_of(forms, coordinates):
    return forms.rows[0, 0] + torch.tensordot(coordinates, forms.rows[0, 1:], dims=1)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_products_of_coordinates_are_monomials(count):
    """At any point they are worth the same, whichever of the products there are; not in others' places."""
    rng, kinks, m = np.random.default_rng(count), 4, monomials(count, 3, 4)
    pairs = tuple((j, k) for j in range(count) for k in range(j, count) if (j, k) != (0, 2))
    rows = torch.from_numpy(rng.normal(size=(1, 1 + count + len(pairs) + kinks, 5)))
    forms = Forms(rows, torch.zeros(1, 5, dtype=torch.float64), count + len(pairs) + kinks)
    made, wrong = (polynomials._of_products(m, forms, own) for own in (pairs, pairs[::-1]))
    assert made.count == count
    assert made.rows.shape == (1, m.rows + kinks, 5)
    for _ in range(20):
        t, g = torch.from_numpy(rng.uniform(-1, 1, count)), torch.from_numpy(rng.uniform(-1, 1, kinks))
        products = [2 * t[j] ** 2 - 1 if j == k else t[j] * t[k] for j, k in pairs]
        true = values_of(forms, torch.cat([t, torch.tensor(products, dtype=torch.float64), g]))
        powers = torch.stack([t[list(own)].prod() for own in m.factors[1:]])
        off, other = ((true - values_of(own, torch.cat([powers, g]))).abs() for own in (made, wrong))
        assert (off <= made.error[0]).all()
        assert count == 1 or (other > 1e-6).all()
    assert (made.error < 1e-13).all()


def beyond(kind, size, kinks=2, moves=1.0):
    """How far networks are outside of bounds at any coordinates, each kink by itself at one of its ends."""
    problem, rng = posed(kind, "turn and zoom", 1), np.random.default_rng(3)
    graph, tolerances, _ = problem.bounded
    products = problem.perturbation.products
    count = 2 + len(products) + kinks
    slopes = rng.normal(size=(1, count, *problem.image.shape)) * size
    slopes[:, 2 : 2 + len(products)] *= size
    slopes[:, : 2 + len(products)] *= moves
    centre = 0.3 + 0.4 * rng.random((1, *problem.image.shape))
    pixels = Enclosure(centre, slopes, np.zeros_like(centre))
    bounds = kinked_bounds(graph, pixels, {graph.last}, tolerances, products, kinks)
    low, high = bounds.gaps(problem.label)
    t, g = rng.uniform(-1, 1, (400, 2)), rng.choice([-1.0, 1.0], (400, kinks))
    t[::2] = np.sign(t[::2])
    of_products = [2 * t[:, j] ** 2 - 1 if j == k else t[:, j] * t[:, k] for j, k in products]
    coordinates = np.concatenate([t, np.stack(of_products, axis=1), g], axis=1)
    images = torch.from_numpy(centre + np.tensordot(coordinates, slopes[0], axes=1))
    gaps = problem.gaps(graph.forward(images))
    return float(torch.maximum(low - gaps, gaps - high).max())


@pytest.mark.parametrize("size", [2.0**-6, 2.0**-9, 2.0**-20])
@pytest.mark.parametrize("kind", KINDS)
def test_networks_stay_inside_whatever_kinks_are(kind, size):
    assert beyond(kind, size) <= 1e-12


def test_planted_faults_are_seen(monkeypatch):
    """What is left out where kinks are multiplied, or where functions bend, if nothing but kinks moves."""

    def nothing(m, forms):
        return 0 * forms.error

    for where, kind in ((polynomial, "products"), (polynomial_layers, "units")):
        with monkeypatch.context() as patched:
            patched.setattr(where, "strays", nothing)
            assert beyond(kind, 2.0**-9, moves=0.0) > 1e-6
        assert beyond(kind, 2.0**-9, moves=0.0) <= 1e-12


def test_parameters_have_what_coordinates_are_to_blame_for():
    problem = posed("groups", "turn and zoom")
    bounds = problem.bounds(0.5**4 * problem.box[None], 32, Effort.PIXELS, shared=9)
    assert bounds.pull.shape == (1, 2)
    assert (bounds.pull > 0).all()


def test_beside_more_parameters_forms_are_followed():
    problem = posed("crossed", "turn and zoom")
    known = problem.bounded
    amounts = Enclosure.of_boxes(0.5**9 * problem.box[None], problem.perturbation.products, kinks=9)
    pixels = problem.perturbation.enclose(problem.image, amounts)
    found = kinked_bounds(*known[:1], pixels, {problem.graph.last}, known[1], amounts.products, 9)
    assert found.values[problem.graph.last].count == 2
