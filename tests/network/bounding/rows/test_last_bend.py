"""Slopes below the last units, chosen for each row: bounds stay true, and say more."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

from formed import affine_part, exact
from steadygaze.enclosing import turning
from steadygaze.enclosing.enclosures import UNIT
from steadygaze.enclosing.forms import Forms, numbers_of
from steadygaze.network.bounding.bounds import bounds_of
from steadygaze.network.bounding.rows import last_bend
from steadygaze.network.bounding.rows.few_units import FewUnits
from steadygaze.network.bounding.rows.lines import lines_of
from steadygaze.network.bounding.tightening import Effort
from steadygaze.network.reading.load import load_network

BOXES, COUNT = 3, 2
BENDS = {
    "relu": nn.ReLU,
    "leaky": lambda: nn.LeakyReLU(0.1),
    "falls": lambda: nn.LeakyReLU(-0.4),
    "bent twice": nn.ReLU6,
    "smooth": nn.Tanh,
}


class Beside(nn.Module):
    """Layers whose last values are added to their first ones."""

    def __init__(self, bend):
        super().__init__()
        self.first, self.bend, self.second = nn.Linear(10, 10), bend, nn.Linear(10, 10)

    def forward(self, x):
        return self.bend(x + self.second(self.bend(self.first(x))))


class Past(Beside):
    """The same, whose last units are passed by."""

    def forward(self, x):
        return x + self.second(self.bend(self.first(x)))


def bounded(name, seed=0, width=0.5, classes=3, last=None):
    """Bounds over boxes of images that are off by a little, and the forms of the images."""
    torch.manual_seed(seed)
    bend = BENDS[name]
    layers = [nn.Conv2d(1, 3, 3), bend(), nn.Flatten(), nn.Linear(12, 10), bend()]
    layers += [] if last is None else [last(bend())]
    layers += [nn.Linear(10, classes)]
    graph = load_network(nn.Sequential(*layers).double().eval(), input_shape=(1, 4, 4)).graph
    rows = 2 * torch.rand(BOXES, 1 + COUNT, 1, 4, 4, dtype=torch.float64) - 1
    rows[:, 1:] *= width
    pixels = Forms(rows, torch.full((BOXES, 1, 4, 4), 0.01 * width, dtype=torch.float64), COUNT)
    return bounds_of(graph, pixels, {graph.last}, {}, 8, effort=Effort.UNITS), pixels


def asked(bounds):
    """The rows of all gaps, and what they are at least, without slopes of their own and with them."""
    rows = bounds._rows(0)
    rows = torch.cat([rows, -rows]).expand(BOXES, -1, -1)
    known = dict(bounds.backward.last_bend)
    bounds.backward.last_bend.clear()
    plain = bounds.backward.least(rows, bounds.graph.last)
    bounds.backward.last_bend.update(known)
    return rows, plain, bounds.backward.least(rows, bounds.graph.last)


def excess(name, last=None):
    """How far what is sampled is below the bounds at most."""
    generator, worst = torch.Generator().manual_seed(1), -torch.inf
    for seed in range(3):
        bounds, pixels = bounded(name, seed, last=last)
        rows, plain, found = asked(bounds)
        assert (found >= plain - 1e-12).all()
        for _ in range(60):
            t = 2.0 * torch.randint(0, 2, (BOXES, COUNT), generator=generator).double() - 1
            away = 2 * torch.rand(pixels.error.shape, generator=generator, dtype=torch.float64) - 1
            values = bounds.graph.forward(affine_part(pixels, t, t[:, :0]) + away * pixels.error)
            worst = max(worst, float((found - (rows * values[:, None]).sum(dim=2)).max()))
    return worst


@pytest.mark.parametrize("last", [None, Beside, Past])
@pytest.mark.parametrize("name", BENDS)
def test_bounds_stay_below_what_is_sampled(name, last):
    assert excess(name, last) <= 1e-9


@pytest.mark.parametrize("last", [None, Beside])
@pytest.mark.parametrize("name", ["relu", "leaky", "falls"])
def test_rows_with_slopes_of_their_own_say_more(name, last):
    gained = 0
    for seed in range(4):
        _, plain, found = asked(bounded(name, seed, last=last)[0])
        gained += int((found > plain + 1e-3 * plain.abs()).sum())
    assert gained >= 6


def test_rows_through_few_units_take_them_too(monkeypatch):
    bounds, _ = bounded("relu", 1)
    _, _, found = asked(bounds)
    monkeypatch.setattr("steadygaze.network.bounding.rows.few_units._LITTLE", 0)
    monkeypatch.setattr("steadygaze.network.bounding.rows.few_units._WORTH", 1e9)
    came = []
    pulled = FewUnits.pulled
    monkeypatch.setattr(
        FewUnits, "pulled", lambda self, *own: came.append(made := pulled(self, *own)) or made
    )
    bounds.backward.__dict__.pop("_few", None)
    _, _, again = asked(bounds)
    assert any(made is not None for made in came)
    assert torch.allclose(found, again, rtol=1e-12, atol=1e-12)


def test_nothing_is_asked_twice_where_nothing_is_gained(monkeypatch):
    bounds, _ = bounded("relu", width=1e-6)
    _, plain, found = asked(bounds)
    assert torch.allclose(found, plain, rtol=1e-12, atol=1e-14)
    monkeypatch.setattr(last_bend, "_WORTH", 1e9)
    bounds, _ = bounded("relu")
    _, plain, found = asked(bounds)
    assert torch.allclose(found, plain, rtol=1e-12, atol=1e-14)


def chosen(worth, limit=4):
    """What a kernel makes of rows; the lines, the ranges and the slopes of the units."""
    torch.manual_seed(3)
    low, high = -torch.rand(2, 6, dtype=torch.float64), torch.rand(2, 6, dtype=torch.float64)
    layer = next(iter(bounded("leaky")[0].backward.last_bend.values())).layer
    lines = lines_of(layer, low, high)
    rows = torch.randn(2, 4, 6, dtype=torch.float64)
    rows[:, :2] = rows[:, :2].abs()
    middle = torch.stack([(low + high) / 2, (high - low) / 4, (high - low) / 4], dim=1)
    slopes = (layer.slopes.expand(2, 6), lines.below, lines.above)
    found = turning.chosen(*numbers_of((rows, *slopes, middle, torch.zeros_like(middle))), worth, limit)
    parts = numbers_of((rows, slopes[0], *lines.sides, lines.below, lines.above, lines.size))
    return rows, turning.turned(*parts, *found, UNIT, 14), (low, high), layer.slopes


def lost():
    """By how much rows before the units are above those behind, somewhere in the ranges, exactly."""
    rows, (number, made, constant, rounding), (low, high), slopes = chosen(-1.0)
    # Each product of an entry and a slope is rounded, and so was the slope.
    size = torch.maximum(low.abs(), high.abs()).numpy()
    if (rounding < 3.9 * UNIT * (abs(made) * size[:, None]).sum(axis=2)).any():
        return 1
    worst, least = -1, exact(slopes[0])[0]
    for b in range(2):
        for share in (0.0, 0.3, 0.9, 1.0):
            z = exact((low + share * (high - low))[b])
            values = [x if x > 0 else x * least for x in z]
            for t, r in enumerate(number[b]):
                own = sum(exact(torch.from_numpy(made[b, t])) * z)
                extra, taken = (exact(torch.tensor([part[b, t]]))[0] for part in (constant, rounding))
                worst = max(worst, own + extra - taken - sum(exact(rows[b, r]) * values))
    return worst


def test_rounding_is_counted():
    assert lost() <= 0
    assert chosen(-1.0)[1][0].shape == (2, 4)
    assert chosen(1e9)[1][0].shape == (2, 0)


def test_rows_that_gain_most_come_first(monkeypatch):
    (every, *_), (some, made, *_) = chosen(0.0)[1], chosen(0.0, 2)[1]
    assert some.shape == (2, 2)
    assert made.shape[1] == 2
    for own, all_of_them in zip(some, every, strict=True):
        assert len(set(own)) == 2
        assert set(own) <= set(all_of_them)
    assert chosen(0.0, 0)[1][0].shape == (2, 0)
    gained = []
    for share, few in ((1, 1), (4, 1), (10**6, 1), (10**6, 2**20)):
        monkeypatch.setattr(last_bend, "_SHARE", share)
        monkeypatch.setattr(last_bend, "_FEW", few)
        gained.append(0.0)
        for seed in range(4):
            _, plain, found = asked(bounded("relu", seed)[0])
            gained[-1] += float((found - plain).sum())
    assert gained[0] == pytest.approx(gained[3])
    assert gained[0] > gained[1] > gained[2]
    assert gained[1] > gained[0] / 4  # of all rows a fourth
    assert gained[2] == pytest.approx(0.0, abs=1e-9)


# -- planted faults


def changed(monkeypatch, old, new):
    source = inspect.getsource(turning.turned.py_func)
    assert old in source
    space = dict(vars(turning))
    exec(source.replace("@summing_kernel\n", "").replace(old, new), space)
    monkeypatch.setattr(turning, "turned", space["turned"])
    monkeypatch.setattr(last_bend, "turned", space["turned"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("min(max(slope, slopes[0, n]), slopes[1, n])", "1.5 * slopes[1, n]"),
        ("made[b, t, n] = entry * above[b, n]", "made[b, t, n] = entry * below[b, n]"),
        ("constant += entry * upper[b, 0, n]", "pass"),
        ("number[b, t] = r", "number[b, t] = 0"),
    ],
)
def test_faults_are_caught(old, new, monkeypatch):
    changed(monkeypatch, old, new)
    assert excess("relu") > 1e-6


@pytest.mark.parametrize(
    "part", ["rounding += entry * 4", "rounding += entry * lower", "rounding += entry * upper"]
)
def test_rounding_that_is_left_out_is_caught(part, monkeypatch):
    changed(monkeypatch, part, part.replace("rounding += entry *", "rounding += 0 *"))
    assert lost() > 0


def test_what_was_summed_up_of_other_rows_is_caught(monkeypatch):
    repeat = last_bend.Sums.repeat
    monkeypatch.setattr(last_bend.Sums, "repeat", lambda self, number, *own: repeat(self, 0 * number, *own))
    assert excess("relu") > 1e-6
