"""Rows through products of two computed values: true whatever planes they choose, and closer than forms."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from torch import nn

from formed import coordinates, some_forms
from smooth_networks import SqueezeExcitation
from steadygaze.enclosing import planes
from steadygaze.enclosing.forms import Forms
from steadygaze.network.bounding.bounds import bounds_of
from steadygaze.network.bounding.rows import product_lines
from steadygaze.network.bounding.rows.bands import Band
from steadygaze.network.bounding.rows.product_lines import ProductLines
from steadygaze.network.bounding.tightening import Effort
from steadygaze.network.reading.load import load_network

COUNT, SHAPE = 2, (3, 2, 2)
# Shapes of second factors: one for each entry, or for all of a channel.
GATES = {"each": SHAPE, "channels": (3, 1, 1)}


class Gated(nn.Module):
    """Two layers of products, the second of which reads the first one's."""

    def __init__(self, first=torch.tanh, second=torch.sigmoid):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(16, 8), nn.Linear(16, 8), nn.Linear(6, 3)
        self.c, self.d, self.first, self.second = nn.Linear(8, 6), nn.Linear(8, 6), first, second

    def forward(self, x):
        x = x.flatten(1)
        x = self.first(self.a(x)) * self.second(self.b(x))
        return self.out(self.first(self.c(x)) * self.second(self.d(x)))


class Squared(nn.Module):
    """What is multiplied by itself, by pixels, and by what a maximum leaves."""

    def __init__(self):
        super().__init__()
        self.conv, self.out = nn.Conv2d(1, 4, 1), nn.Linear(4, 3)

    def forward(self, x):
        y = torch.relu(self.conv(x))
        y = functional.max_pool2d(y * y, 2) * functional.avg_pool2d(x, 2)
        return self.out((y * torch.amax(y, (2, 3), keepdim=True)).mean((2, 3)))


class Excited(nn.Module):
    """Channels weighed by gates between convolutions, and what goes past them."""

    def __init__(self):
        super().__init__()
        self.conv, self.more, self.gate = nn.Conv2d(1, 4, 2), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 4)
        self.out = nn.Linear(36, 3)

    def forward(self, x):
        y = torch.relu(self.conv(x))
        y = y + y * torch.sigmoid(self.gate(y.mean((2, 3))))[:, :, None, None]
        return self.out(torch.relu(self.more(y)).flatten(1))


NETWORKS = {
    "tanh and sigmoid": Gated,
    "gated linear": lambda: Gated(lambda x: x),
    "gated relu": lambda: Gated(torch.relu),
    "squares": Squared,
    "gates of channels": Excited,
}


def bounded(name, seed=0, width=0.3, error=0.02, effort=Effort.UNITS):
    """Bounds over boxes of images that are off by a little, and the forms of the images."""
    torch.manual_seed(seed)
    graph = load_network(NETWORKS[name]().double().eval(), input_shape=(1, 4, 4)).graph
    rows = 2 * torch.rand(4, 1 + COUNT, 1, 4, 4, dtype=torch.float64) - 1
    rows[:, 1:] *= width
    pixels = Forms(rows, torch.full((4, 1, 4, 4), error * width, dtype=torch.float64), COUNT)
    return bounds_of(graph, pixels, {graph.last}, {}, 8, effort=effort), pixels


def below_and_above(bounds):
    rows = bounds._rows(0)
    rows = torch.cat([rows, -rows]).expand(len(bounds.pull), -1, -1)
    return rows, bounds.backward.least(rows, bounds.graph.last)


def image_within(rng, pixels):
    """Images ``(B, C, H, W)`` that the forms allow."""
    t = coordinates(rng, len(pixels.error), COUNT)
    away = torch.from_numpy(rng.choice([-1.0, 1.0], tuple(pixels.error.shape)))
    return pixels.centre + (t[:, :, None, None, None] * pixels.rows[:, 1:]).sum(dim=1) + away * pixels.error


def excess(name, effort=Effort.UNITS, seeds=4, images=100, width=0.3):
    """How far what is sampled is below what rows say, at most."""
    worst, rng = -np.inf, np.random.default_rng(5)
    for seed in range(seeds):
        bounds, pixels = bounded(name, seed, width, effort=effort)
        rows, found = below_and_above(bounds)
        for _ in range(images):
            values = bounds.graph.forward(image_within(rng, pixels))
            worst = max(worst, float((found - (rows * values[:, None]).sum(dim=2)).max()))
    return worst


@pytest.mark.parametrize("width", [1e-6, 0.3, 3.0])
@pytest.mark.parametrize("effort", [Effort.GAPS, Effort.UNITS])
@pytest.mark.parametrize("name", NETWORKS)
def test_no_gap_is_below_what_rows_say(name, effort, width):
    assert excess(name, effort, width=width) <= 1e-12


def factors(seed, gate):
    """Forms of both factors with symbols in common, and what is known of them."""
    rng = np.random.default_rng(seed)
    first = some_forms(rng, count=COUNT, symbols=3, shape=SHAPE)
    second = some_forms(rng, count=COUNT, symbols=2, shape=GATES[gate])
    bands = (Band.of(first), Band.of(second))
    return first, second, ProductLines.of((first, second), bands, (first.bounds(), second.bounds()))


def violated(gate, kind=torch.float64, seeds=12):
    """How far rows for products are below what they should be at most, at sampled factors."""
    worst = -np.inf
    for seed in range(seeds):
        first, second, lines = factors(seed, gate)
        rng, share = np.random.default_rng(100 + seed), 0.1 if seed % 2 else 0.8
        rows = torch.from_numpy(rng.standard_normal((3, 7, 12)) * (rng.random((3, 7, 12)) < share)).to(kind)
        own, constant, rounding = lines.to(kind).pulled(rows)
        assert own.dtype == kind
        for _ in range(80):
            t = torch.from_numpy(rng.choice([-1.0, 0.0, 1.0], (3, 5)) * rng.choice([1.0, 0.7], (3, 5)))
            values = [
                forms.centre
                + torch.einsum("bk,bk...->b...", t[:, : forms.rows.shape[1] - 1], forms.rows[:, 1:])
                + forms.error * torch.from_numpy(rng.choice([-1.0, 1.0], tuple(forms.error.shape)))
                for forms in (first, second)
            ]
            products = (values[0] * values[1]).flatten(1)
            inputs = torch.cat([value.flatten(1) for value in values], dim=1)
            made = (rows.double() * products[:, None]).sum(dim=2)
            worst = max(
                worst, float(((own.double() * inputs[:, None]).sum(dim=2) + constant - rounding - made).max())
            )
            assert lines.taken(rows[:, 0], inputs).allclose(products)
    return worst


@pytest.mark.parametrize("kind", [torch.float64, torch.float32])
@pytest.mark.parametrize("gate", GATES)
def test_planes_are_below_and_above_products(gate, kind):
    assert violated(gate, kind) <= 1e-12


@pytest.mark.parametrize(
    ("own", "right", "wrong"),
    [
        (product_lines._beside, "reach - alike.abs().sum(dim=1)", "reach - 2 * alike.abs().sum(dim=1)"),
        (product_lines._beside, "-most - outward", "-most / 2 + outward"),
        (product_lines._planes, "(least, low, -low * least)", "(least, low, -low * most)"),
        (product_lines._planes, "(most, low, -low * most)", "(most, high, -low * most)"),
        (product_lines._planes, "over - c * d", "under - c * d"),
    ],
)
def test_planted_faults_of_planes_are_seen(monkeypatch, own, right, wrong):
    text = inspect.getsource(own)
    assert right in text
    scope = vars(product_lines).copy()
    exec(text.replace(right, wrong), scope)
    monkeypatch.setattr(product_lines, own.__name__, scope[own.__name__])
    assert max(violated(gate) for gate in GATES) > 1e-3


def test_a_mean_that_weighs_more_than_one_is_seen(monkeypatch):
    text = inspect.getsource(planes.rows_before_products.py_func)
    right = "(1 - share) * own[k, n] + share * wanted[k, n]"
    assert right in text
    scope = {name: getattr(own, "py_func", own) for name, own in vars(planes).items()}
    exec(text.replace("@summing_kernel", "").replace(right, "own[k, n] + share * wanted[k, n]"), scope)
    monkeypatch.setattr(product_lines, "rows_before_products", scope["rows_before_products"])
    assert violated("channels", seeds=2) > 1e-3


def test_rounding_counts_the_sizes(monkeypatch):
    first, second, lines = factors(3, "each")
    rows = torch.ones((1, 1, 12), dtype=torch.float64)
    _, _, rounding = lines.pulled(rows)
    largest = (first.most * second.most).flatten(1).sum(dim=1)
    assert (rounding[:, 0] >= 2.0**-53 * largest).all()


def test_rows_of_nothing_ask_nothing_of_unbounded_factors():
    *_, lines = factors(0, "each")
    unbounded = lines.planes.clone()
    unbounded[..., 3] = torch.inf
    lines = ProductLines(unbounded, lines.sizes, lines.reaches, lines.first, lines.second, lines.gate)
    rows = torch.ones((1, 1, 12), dtype=torch.float64)
    rows[..., 3] = 0.0
    assert all(own.isfinite().all() for own in lines.pulled(rows))


def test_lines_of_some_boxes_are_those_boxes_own():
    *_, lines = factors(1, "channels")
    rows = torch.randn((3, 2, 12), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = lines.pulled(rows)
    chosen = torch.tensor([2, 0])
    for some, every in zip(lines.take(chosen).pulled(rows[chosen]), whole, strict=True):
        assert some.allclose(every[chosen], atol=1e-15)


@pytest.mark.parametrize("name", ["tanh and sigmoid", "gates of channels"])
def test_rows_that_choose_are_narrower_than_planes_in_the_middle(name, monkeypatch):
    _, chosen = below_and_above(bounded(name, error=0.0, width=1.0)[0])
    monkeypatch.setattr(product_lines, "_planes", lambda *parts: _middles(_kept(*parts)))
    _, middle = below_and_above(bounded(name, error=0.0, width=1.0)[0])
    assert float(chosen.sum()) > float(middle.sum()) + 0.01


_kept = product_lines._planes


def _middles(planes_):
    return planes_[:, :, :1].contiguous()


@pytest.mark.parametrize("name", ["tanh and sigmoid", "gated linear", "gates of channels"])
def test_gaps_are_narrower_than_those_of_forms(name):
    spans = []
    for effort in (Effort.FORMS, Effort.GAPS, Effort.UNITS):
        bounds, _ = bounded(name, error=0.0, width=0.5, effort=effort)
        low, high = bounds.enclosed_gaps(0).bounds()
        if effort is not Effort.FORMS:
            below, above = below_and_above(bounds)[1].chunk(2, dim=1)
            low, high = torch.fmax(low, below), torch.fmin(high, -above)
        spans.append(float((high - low).sum()))
    assert spans[2] <= 1.001 * spans[1] < 0.95 * spans[0]


def test_slopes_are_turned_before_products():
    bounds, pixels = bounded("gates of channels", width=0.5)
    number, wanted = torch.arange(4), torch.full((4,), torch.inf).double()
    found = bounds.steepened_gaps(0, number, torch.zeros_like(number), wanted)
    rows = bounds._rows(0)[:1].expand(4, -1, -1)
    assert (found >= bounds.backward.least(rows, bounds.graph.last)[:, 0] - 1e-9).all()
    rng = np.random.default_rng(9)
    for _ in range(200):
        values = bounds.graph.forward(image_within(rng, pixels))
        assert (found <= (rows[:, 0] * values).sum(dim=1) + 1e-12).all()


def test_a_network_of_gates_is_read_as_products():
    graph = load_network(SqueezeExcitation().eval(), input_shape=(1, 6, 6)).graph
    pixels = Forms(
        torch.full((1, 2, 1, 6, 6), 0.1, dtype=torch.float64), torch.zeros((1, 1, 6, 6)).double(), 1
    )
    backward = bounds_of(graph, pixels, {graph.last}, {}, 8, effort=Effort.GAPS).backward
    assert any(isinstance(lines, ProductLines) for lines in backward.lines.values())


@pytest.mark.parametrize(("name", "through"), [("gates of channels", False), ("tanh and sigmoid", True)])
def test_rows_for_units_end_at_products_of_maps(monkeypatch, name, through):
    asked, pulled = [], ProductLines.pulled
    monkeypatch.setattr(ProductLines, "pulled", lambda self, rows: asked.append(rows) or pulled(self, rows))
    bounds, _ = bounded(name, width=0.5)
    assert bool(asked) is through
    below_and_above(bounds)
    assert asked
