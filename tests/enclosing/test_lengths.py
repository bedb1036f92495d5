"""The length of all errors of forms together: what is said of it holds, entry by entry and as a whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from formed import affine_part, some_forms
from steadygaze.enclosing.forms import Forms, together
from steadygaze.network.bounding.bounds import affine
from steadygaze.network.bounding.forms.beside import gathered
from steadygaze.network.bounding.forms.joint import relax_joint
from steadygaze.network.bounding.forms.relaxing import relax
from steadygaze.network.joint import MatrixProduct, Multiply, Normalise, Softmax
from steadygaze.network.layers import Add, Concat
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.smooth import Smooth

BOXES, SIDE = 3, 6
torch.manual_seed(0)
TURN = torch.linalg.qr(torch.randn(SIDE * SIDE, SIDE * SIDE, dtype=torch.float64)).Q
FACTOR = torch.randn(BOXES, SIDE, SIDE, dtype=torch.float64)
NOTHING = torch.zeros(2, 1, dtype=torch.float64)
RELU = PiecewiseLinear(NOTHING[0], torch.tensor([[0.0], [1.0]], dtype=torch.float64), NOTHING)
PLACES = torch.tensor([0, 0, 0, 7, 7, 35]).expand(BOXES, -1)
POOL = MaxPool(torch.arange(36).reshape(9, 4), (SIDE, SIDE), (9,))


def turned(x, matrix):
    return (x.flatten(1) @ matrix.T).reshape(-1, SIDE, SIDE)


def linear(x, norm=1.0):
    """A rotation: |W| would make errors several times as large."""
    return x.linear(lambda v: turned(v, TURN), lambda v: turned(v, TURN.abs()), SIDE * SIDE, norm=norm)


def joint(layer):
    return (lambda *xs: relax_joint(layer, xs[: layer.arity], 0, 0)[0]), layer.forward


# What is made of two forms, and of two values.
OPERATIONS = {
    "turned": (lambda x, y: linear(x), lambda x, y: turned(x, TURN)),
    "turned twice": (lambda x, y: linear(linear(x)), lambda x, y: turned(turned(x, TURN), TURN)),
    "sum": (lambda x, y: x + y, lambda x, y: x + y),
    "sum with another": (
        lambda x, y: linear(x + Forms(y.rows, y.error, 2)), lambda x, y: turned(x + y, TURN)),
    "difference": (lambda x, y: x + -y, lambda x, y: x - y),
    "scaled": (lambda x, y: x.scaled(FACTOR), lambda x, y: x * FACTOR),
    "raised": (lambda x, y: x.raised(FACTOR), lambda x, y: x + FACTOR),
    "taken": (lambda x, y: x.take(torch.tensor([1, 1, 0])), lambda x, y: x[[1, 1, 0]]),
    "gathered": (
        lambda x, y: gathered(x.flattened(), PLACES), lambda x, y: x.flatten(1).gather(1, PLACES)),
    "added by a layer": (lambda x, y: affine(Add(), x, y, norm=2**0.5), lambda x, y: x + y),
    "set side by side": (
        lambda x, y: affine(Concat(0), x, y, norm=1.0), lambda x, y: torch.cat([x, y], dim=1)),
    "rectified": (lambda x, y: relax(RELU, x, None, 0, 0).values, lambda x, y: x.clamp_min(0.0)),
    "bent": (lambda x, y: relax(Smooth("tanh"), x, None, 0, 0).values, lambda x, y: x.tanh()),
    "pooled": (lambda x, y: relax(POOL, x, None, 0, 0).values, lambda x, y: POOL.forward(x)),
    "multiplied": joint(Multiply()),
    "matrices": joint(MatrixProduct()),
    "softmax": joint(Softmax()),
    "centred norm": joint(Normalise(1e-3)),
    "plain norm": joint(Normalise(1e-3, centred=False)),
}  # fmt: skip


def with_length(rng, spread):
    """Forms whose errors are shorter together than each of them may be."""
    forms = some_forms(rng, boxes=BOXES, symbols=0, shape=(SIDE, SIDE), spread=spread, error=spread)
    error = spread * (0.1 + torch.from_numpy(rng.random(tuple(forms.error.shape))))
    return Forms(forms.rows, error, forms.count, length=error.flatten(1).amax(dim=1) / 2)


def errors_of(rng, forms):
    """Errors that are as long as they may be: of one entry alone, or of all."""
    away = torch.from_numpy(rng.standard_normal(tuple(forms.error.shape)))
    away[0] *= away[0].abs() == away[0].abs().max()
    away = torch.maximum(torch.minimum(away, forms.error), -forms.error)
    length = torch.linalg.vector_norm(away.flatten(1), dim=1)
    return away * (forms.length / length).clamp_max(1.0)[:, None, None]


def excess(name):
    """How far errors of what is made exceed what is said of them; 0 or less where they do not."""
    rng, worst = np.random.default_rng(1), -np.inf
    enclosed, plain = OPERATIONS[name]
    for spread in (1e-9, 1e-3, 0.5):
        x, y = with_length(rng, spread), with_length(rng, spread)
        made = enclosed(x, y)
        for _ in range(20):
            t, s = torch.from_numpy(rng.uniform(-1, 1, (BOXES, 2))), torch.zeros((BOXES, 0)).double()
            values = plain(*(affine_part(f, t, s) + errors_of(rng, f) for f in (x, y)))
            own = t[[1, 1, 0]] if name == "taken" else t
            away = values - affine_part(made, own, s)
            each = away.abs() - made.error
            whole = torch.linalg.vector_norm(away.flatten(1), dim=1) - made.errors
            worst = max(worst, float(each.max()) - 1e-13, float(whole.max()) - 1e-12)
    return worst


@pytest.mark.parametrize("name", OPERATIONS)
def test_errors_stay_within(name):
    assert excess(name) <= 0


def test_a_length_is_kept_through_turns():
    """Entry by entry errors grow five-fold with each turn; their length does not."""
    x = with_length(np.random.default_rng(2), 1e-3)
    made = x
    for _ in range(10):
        made = linear(made)
    assert float((made.errors / x.errors).max()) < 1 + 1e-8
    assert bool((made.error <= made.errors[:, None, None]).all())


def test_the_length_of_forms_side_by_side():
    x = with_length(np.random.default_rng(3), 1.0)
    own = together([x, x])
    assert own is not None
    torch.testing.assert_close(own, x.errors * 2**0.5)
    assert together([Forms(x.rows, x.error, x.count)] * 2) is None


FAULTS = {
    "a norm that is too small": ("turned", Forms, "linear", lambda kept: (
        lambda self, *rest, norm=None, **named: kept(self, *rest, norm=norm and norm / 2, **named))),
    "a length that outlives its errors": ("sum", Forms, "__add__", lambda kept: (
        lambda self, other: Forms(kept(self, other).rows, kept(self, other).error, 2, length=self.length))),
    "a length that is not scaled": ("scaled", Forms, "scaled", lambda kept: (
        lambda self, by: Forms(kept(self, by).rows, kept(self, by).error, 2, length=self.length))),
    "a stretch that is too small": ("multiplied", Multiply, "stretch", lambda kept: (
        lambda self, known: kept(self, known) / 4)),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_noticed(monkeypatch, fault):
    name, owner, method, planted = FAULTS[fault]
    monkeypatch.setattr(owner, method, planted(getattr(owner, method)))
    if name == "multiplied":
        monkeypatch.setitem(OPERATIONS, name, joint(Multiply()))
        monkeypatch.setattr(
            "steadygaze.network.bounding.forms.joint.UNITS", (Multiply().product, Multiply().stretch)
        )
    assert excess(name) > 0
