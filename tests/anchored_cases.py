"""Layers, values over boxes and networks that tests of differences from anchors and of polynomials share."""

from __future__ import annotations

from dataclasses import replace

import mpmath
import numpy as np
import torch
from torch import nn

from many_digits import FUNCTIONS, exactly
from steadygaze.enclosing.forms import Forms
from steadygaze.enclosing.monomials import monomials
from steadygaze.network.bounding.anchors.anchored import Anchored
from steadygaze.network.building import GraphBuilder
from steadygaze.network.joint import MatrixProduct, Multiply, Normalise, Softmax
from steadygaze.network.layers import (
    Add,
    AveragePool,
    Concat,
    Conv,
    Dense,
    Pad,
    Permute,
    Reshape,
    ScaleShift,
)
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.smooth import Smooth
from steadygaze.network.taking import Take
from steadygaze.network.transposed import TransposedConv

COUNT = 2
RNG = np.random.default_rng(11)


def drawn_weights(*shape):
    return torch.from_numpy(RNG.standard_normal(shape))


def relu_like(*slopes):
    columns = torch.tensor(slopes, dtype=torch.float64)[:, None]
    edges = torch.tensor([0.0, 0.25][: len(slopes) - 1], dtype=torch.float64)
    jumps = (columns[1:, 0] - columns[:-1, 0]) * edges
    offsets = torch.cat([torch.zeros(1, dtype=torch.float64), -jumps.cumsum(0)])[:, None]
    return PiecewiseLinear(edges, columns, offsets)


WINDOWS = torch.tensor([[0, 1, 3], [2, 5, 4], [6, 7, -1]])
LAYERS = {
    "dense": (Dense(drawn_weights(4, 6), drawn_weights(4)), [(2, 6)]),
    "conv": (Conv(drawn_weights(4, 1, 2, 2), drawn_weights(4), padding=(1, 1), groups=2), [(2, 3, 3)]),
    "transposed": (TransposedConv(drawn_weights(2, 3, 2, 2), drawn_weights(3), (2, 2)), [(2, 2, 3)]),
    "scale": (ScaleShift(drawn_weights(2, 1), drawn_weights(1, 3)), [(2, 3)]),
    "average": (AveragePool(drawn_weights(1, 3).abs() / 3, drawn_weights(2, 3).abs() / 3), [(2, 3, 3)]),
    "add": (Add(), [(2, 3), (2, 3)]),
    "concat": (Concat(0), [(2, 3), (1, 3)]),
    "pad": (Pad(((1, 0), (0, 1)), 0.3), [(2, 3)]),
    "permute": (Permute((1, 0)), [(2, 3)]),
    "reshape": (Reshape((6,)), [(2, 3)]),
    "take": (Take(torch.tensor([1, 1, 0]), 0), [(2, 3)]),
    "relu": (relu_like(0.0, 1.0), [(2, 6)]),
    "three pieces": (relu_like(0.1, 1.3, -0.4), [(2, 6)]),
    "max pool": (MaxPool(WINDOWS, (2, 4), (3,)), [(2, 4)]),
    "multiply": (Multiply(), [(3, 4), (3, 4)]),
    "gate": (Multiply(axes=(-2, -1)), [(2, 2, 3), (2, 1, 1)]),
    "matrix product": (MatrixProduct(), [(2, 3, 4), (2, 4, 2)]),
    "softmax": (Softmax(), [(2, 5)]),
    "masked softmax": (Softmax(torch.tensor([[True] * 4, [False, True, True, False]])), [(2, 4)]),
    "centred norm": (Normalise(1e-3), [(3, 5)]),
    "plain norm": (Normalise(1e-5, centred=False), [(3, 5)]),
    "square": (Smooth("power", (2.0, -np.inf)), [(6,)]),
    **{name: (Smooth(name), [(6,)]) for name in FUNCTIONS},
}


def graph_of(layer, shapes):
    """The layer alone, each input being a part of the pixels; and the number of its node."""
    sizes = [int(np.prod(shape)) for shape in shapes]
    builder = GraphBuilder((1, 1, sum(sizes)))
    flat = builder.add(Reshape((sum(sizes),)), 0, name="flat")
    ends, inputs = np.cumsum([0, *sizes]), []
    for start, shape in zip(ends, shapes, strict=False):
        index = torch.arange(start, start + int(np.prod(shape)))
        inputs.append(builder.add(Reshape(shape), builder.add(Take(index, 0), flat, name="part"), name="in"))
    last = builder.add(layer, *inputs, name="layer")
    return builder.build(last), last


def values_of(rng, shape, width, error=0.1, degree=1, symbols=0):
    """Values over a box: some anchors are at breakpoints, or where windows tie.

    Of higher degrees than 1 their rows are of all products of coordinates; and of so many symbols.
    """
    anchor = torch.from_numpy(rng.uniform(-1, 1, (1, *shape)))
    anchor = torch.where(torch.from_numpy(rng.random((1, *shape)) < 0.25), 0.25 * anchor.sign(), anchor)
    anchor = torch.where(torch.from_numpy(rng.random((1, *shape)) < 0.2), 0.0, anchor)
    rows = width * torch.from_numpy(rng.uniform(-1, 1, (1, monomials(COUNT, degree).rows + symbols, *shape)))
    errors = error * width * torch.from_numpy(rng.uniform(0, 1, (1, *shape)))
    return Anchored(anchor, Forms(rows, errors, COUNT))


def drifting(rng, values, share=2.0**-20):
    """The values, of whose coefficients of coordinates most is drift; with a share of 0 nothing is beside."""
    rows, coordinates = values.away.rows.clone(), slice(1, 1 + COUNT)
    drift = values.away.rows[:, coordinates]
    rows[:, coordinates] = share * drift * torch.from_numpy(rng.uniform(-1, 1, drift.shape))
    away = replace(values.away, rows=rows) if share else Forms(0 * rows, 0 * values.away.error, COUNT)
    return Anchored(values.anchor, away, drift)


def still(values):
    """The values, of whose coefficients none is drift."""
    return replace(values, drift=values.away.rows[:, :0])


def at(values, t, shares, degree=1, symbols=()):
    """What values are at coordinates ``(n,)``, errors being so far out, and symbols there, in mpmath."""
    away, points = values.away, exactly(np.array(t))
    factors = [mpmath.fprod(points[own] for own in row) for row in monomials(COUNT, degree).factors]
    factors += list(exactly(np.array(symbols)))
    linear = sum(factor * exactly(row) for factor, row in zip(factors, away.rows[0], strict=False))
    if values.drift is not None and values.drift.shape[1]:
        linear += sum(point * exactly(row) for point, row in zip(points, values.drift[0], strict=True))
    return exactly(values.anchor[0]) + linear + exactly(shares) * exactly(away.error[0])


def excess(values, true, t, degree=1, symbols=()):
    """By how much of it true values are beyond their errors, entry by entry and all together; below 1.

    symbols: those that are known; others are errors.
    """
    away = values.away
    count = monomials(COUNT, degree).rows + len(symbols)
    rows = replace(away, rows=away.rows[:, :count])
    left = true - at(replace(values, away=rows), t, 0 * values.anchor[0], degree, symbols)
    entries = exactly(away.error[0]) + exactly(away.rows[0, count:].abs().sum(dim=0) * (1 + 2.0**-40))
    worst = max(
        float(abs(own) / error) if error else float(own != 0) * 1e9
        for own, error in zip(left.reshape(-1), entries.reshape(-1), strict=True)
    )
    if away.rows.shape[1] > count:
        return worst
    length = mpmath.sqrt(sum(own * own for own in left.reshape(-1)))
    return max(worst, float(length / mpmath.mpf(float(away.errors[0]))))


def deep(count=12, width=24, unit=nn.ReLU, seed=2):
    """Layer norms, units and dense layers: what rounding adds to forms grows from each to the next."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(36, width)]
    for _ in range(count):
        layers += [nn.LayerNorm(width), unit(), nn.Linear(width, width)]
    return nn.Sequential(*layers, nn.Linear(width, 3)).double().eval()


def pixels_of(rng, half):
    anchor = torch.from_numpy(rng.uniform(0.1, 0.9, (1, 1, 6, 6)))
    rows = half * torch.from_numpy(rng.uniform(-1, 1, (1, 1 + COUNT, 1, 6, 6)))
    rows[:, 0] *= 2.0**-40
    return Anchored(anchor, Forms(rows, torch.zeros_like(anchor), COUNT))
