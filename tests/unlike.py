"""Tiny networks whose weights are of very unlike size, and what is so of them, in fractions.

The oracle takes the box apart into the linear pieces of the network without any rounding: segments of one
parameter, polygons of two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import nn

import steadygaze as sg

Point = tuple[Fraction, ...]
#: A constant and one coefficient for each parameter.
Affine = tuple[Fraction, tuple[Fraction, ...]]
#: Of a dense layer its weight and bias; the slope below 0 of a rectifier; None for the maximum of pairs.
Layer = tuple[np.ndarray, np.ndarray] | float | None

_NONE = Fraction(0)
# How far weights of a layer are spread, in powers of ten, and by what some are larger beside that.
_STYLES = ((8, 1.0), (0, 1e11), (0, 1e8), (4, 1e8), (0, 1e13))


@dataclass(frozen=True)
class Unlike:
    """One question: layers, image ``(2,)``, directions ``(n, 2)``, box ``(n, 2)``, and what is asked."""

    layers: tuple[Layer, ...]
    image: np.ndarray
    directions: np.ndarray
    box: np.ndarray
    class_alone: bool
    threshold: float

    @property
    def module(self) -> nn.Module:
        """The network in PyTorch."""
        pools = None in self.layers
        made: list[nn.Module] = [nn.Flatten(2) if pools else nn.Flatten()]
        for layer in self.layers:
            if layer is None:
                made.append(nn.MaxPool1d(2))
            elif isinstance(layer, float):
                made.append(nn.LeakyReLU(layer) if layer else nn.ReLU())
            else:
                weight, bias = layer
                dense = nn.Linear(weight.shape[1], len(weight)).double()
                with torch.no_grad():
                    dense.weight.copy_(torch.from_numpy(weight))
                    dense.bias.copy_(torch.from_numpy(bias))
                made.append(dense)
        return nn.Sequential(*made, *([nn.Flatten()] if pools else []))

    def asked(self, method: str) -> sg.Answer:
        """The answer of a search."""
        steps = [
            sg.Direction(float(low), float(high), array=each.reshape(1, 1, 2))
            for each, (low, high) in zip(self.directions, self.box, strict=True)
        ]
        chain = steps[0] if len(steps) == 1 else steps[0] | steps[1]
        claim = {"claim": "class"} if self.class_alone else {"threshold": self.threshold}
        image = self.image.reshape(1, 1, 2)
        return sg.verify(self.module, image, chain, method=method, threads=1, clip=None, **claim)


def drawn(seed: int) -> Unlike:
    """A network of one or two layers of up to four units; kinks and ties lie in the box."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 3))
    spread, large = _STYLES[int(rng.integers(len(_STYLES)))]
    kind = int(rng.integers(4))  # rectifiers twice, leaky ones, maxima of pairs
    width = int(rng.integers(2, 5)) if kind < 3 else 2 * int(rng.integers(1, 3))
    after: Layer = None if kind == 3 else float(rng.choice([0.1, 0.01])) if kind == 2 else 0.0
    box = np.array([[-rng.choice([0.5, 0.25, 0.0]), rng.choice([0.5, 1.0])] for _ in range(n)])
    image = rng.uniform(0.2, 0.8, 2)
    directions = np.eye(2) if n == 2 else rng.choice([1.0, -1.0, 0.5], (1, 2))
    layers: list[Layer] = []

    def weights(*shape: int) -> np.ndarray:
        return rng.normal(size=shape) * 10.0 ** np.round(rng.uniform(-spread, spread, shape))

    def somewhere() -> np.ndarray:
        theta = box[:, 0] + rng.random(n) * (box[:, 1] - box[:, 0])
        return _floats(layers, image + theta @ directions)

    for depth in range(int(rng.integers(1, 3))):
        weight = weights(width, 2 if not layers else len(somewhere()))
        for row in weight:
            if rng.random() < (0.6 if depth else 0.3):
                row[rng.integers(len(row))] *= large
        bias = np.array([-(row @ somewhere()) for row in weight])
        bias += rng.normal(size=width) * (rng.random(width) < 0.4) * 10.0 ** rng.uniform(-6, 0, width)
        layers += [(weight, bias), after]
    inner = len(somewhere())
    weight = weights(int(rng.integers(2, 4)), inner)
    if rng.random() < 0.7:
        weight[rng.integers(len(weight)), rng.integers(inner)] *= large
    bias = -(weight @ somewhere()) + rng.normal(size=len(weight)) * 10.0 ** rng.uniform(-6, 1)
    layers.append((weight, bias))
    return Unlike(
        tuple(layers), image, directions, box, bool(rng.random() < 0.5), float(rng.choice([0.05, 0.1, 0.5]))
    )


def _floats(layers: Sequence[Layer], x: np.ndarray) -> np.ndarray:
    for layer in layers:
        if layer is None:
            x = x.reshape(-1, 2).max(axis=1)
        elif isinstance(layer, float):
            x = np.where(x > 0, x, layer * x)
        else:
            x = layer[0] @ x + layer[1]
    return x


# -- in fractions


@dataclass(frozen=True)
class Truth:
    """Exact shares, and the largest multiple of the box in which nothing fails."""

    robust: float
    class_changed: float
    attention_changed: float
    scale: float


@dataclass(frozen=True)
class _Piece:
    """Corners of a segment or polygon in order; what the network comes to there, and its gradients."""

    corners: tuple[Point, ...]
    values: tuple[Affine, ...]
    gradients: tuple[Point, ...]


def truth(asked: Unlike, label: int) -> Truth:
    """What is so; at 0 no unit may lie on a breakpoint."""
    box = [[Fraction(float(end)) for end in ends] for ends in asked.box]
    (low, high), n = box[0], len(box)
    corners = (
        ((low,), (high,))
        if n == 1
        else tuple((box[0][i], box[1][j]) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1)))
    )
    image = [Fraction(float(x)) for x in asked.image]
    ways = [[Fraction(float(x)) for x in way] for way in asked.directions]
    values = tuple((image[i], tuple(way[i] for way in ways)) for i in range(2))
    whole = _Piece(corners, values, ((Fraction(1), _NONE), (_NONE, Fraction(1))))
    here = _Piece(((_NONE,) * n,) * 2, values, whole.gradients)
    (at_zero,) = list(_through(here, asked.layers, settle=True))
    expected = at_zero.gradients[label]
    share, failing = [_NONE] * 3, []
    for piece in _through(whole, asked.layers):
        left: tuple[Point, ...] | None = piece.corners
        for other in range(len(piece.values)):
            if other != label and left is not None:
                left, lost = _parted(left, _sum(piece.values[label], piece.values[other], Fraction(-1)))
                if lost is not None:
                    share[1] += _volume(lost)
                    failing.append(lost)
        if left is None:
            continue
        keeps = asked.class_alone or _keeps(piece.gradients[label], expected, Fraction(asked.threshold))
        share[0 if keeps else 2] += _volume(left)
        failing += [] if keeps else [left]
    scale = min([_nearest(each, box) for each in failing], default=Fraction(1))
    robust, lost, moved = (float(each / _volume(corners)) for each in share)
    return Truth(robust, lost, moved, float(min(scale, Fraction(1))))


def _through(piece: _Piece, layers: Sequence[Layer], settle: bool = False) -> Iterator[_Piece]:
    """The pieces behind some layers; with `settle` the one corner is not parted, and lies below."""
    if not layers:
        yield piece
        return
    layer, rest = layers[0], layers[1:]
    if isinstance(layer, tuple):
        values, gradients = [], []
        for row, constant in zip(*layer, strict=True):
            value: Affine = (Fraction(float(constant)), (_NONE,) * len(piece.corners[0]))
            gradient = (_NONE, _NONE)
            for weight, own, slope in zip(row, piece.values, piece.gradients, strict=True):
                value = _sum(value, own, Fraction(float(weight)))
                gradient = tuple(
                    a + Fraction(float(weight)) * b for a, b in zip(gradient, slope, strict=True)
                )
            values.append(value)
            gradients.append(gradient)
        yield from _through(_Piece(piece.corners, tuple(values), tuple(gradients)), rest, settle)
        return
    done: list[tuple[tuple[Point, ...], tuple[Affine, ...], tuple[Point, ...]]] = [(piece.corners, (), ())]
    for one, two, first, second in _choices(piece, layer):
        grown = []
        for corners, values, gradients in done:
            sides = (
                _settled(corners, _sum(one, two, Fraction(-1)))
                if settle
                else _parted(corners, _sum(one, two, Fraction(-1)))
            )
            for side, value, gradient in zip(sides, (one, two), (first, second), strict=True):
                if side is not None:
                    grown.append((side, (*values, value), (*gradients, gradient)))
        done = grown
    for corners, values, gradients in done:
        yield from _through(_Piece(corners, values, gradients), rest, settle)


def _choices(piece: _Piece, layer: float | None) -> Iterator[tuple[Affine, Affine, Point, Point]]:
    """What each unit is where it is large, and else: the larger of the two."""
    values, gradients = piece.values, piece.gradients
    if layer is None:
        yield from zip(values[::2], values[1::2], gradients[::2], gradients[1::2], strict=True)
        return
    slope = Fraction(layer)
    for value, gradient in zip(values, gradients, strict=True):
        low: Affine = (slope * value[0], tuple(slope * x for x in value[1]))
        yield value, low, gradient, tuple(slope * x for x in gradient)


def _sum(one: Affine, other: Affine, times: Fraction) -> Affine:
    return one[0] + times * other[0], tuple(a + times * b for a, b in zip(one[1], other[1], strict=True))


def _settled(corners: tuple[Point, ...], height: Affine) -> tuple[tuple[Point, ...] | None, ...]:
    return (corners, None) if height[0] > 0 else (None, corners)


def _parted(
    corners: tuple[Point, ...], height: Affine
) -> tuple[tuple[Point, ...] | None, tuple[Point, ...] | None]:
    """The parts above and below; all is below where the height is 0."""
    at = [height[0] + sum(a * x for a, x in zip(height[1], point, strict=True)) for point in corners]
    if all(z <= 0 for z in at):
        return None, corners
    if all(z >= 0 for z in at):
        return corners, None
    above, below = [], []
    for k in range(len(corners)):
        here, there, z, beyond = corners[k], corners[k - 1], at[k], at[k - 1]
        if z * beyond < 0:
            share = z / (z - beyond)
            met = tuple(a + share * (b - a) for a, b in zip(here, there, strict=True))
            above.append(met)
            below.append(met)
        above += [here] if z >= 0 else []
        below += [here] if z <= 0 else []
    # Both ends of a segment see the one place where it is met.
    return tuple(dict.fromkeys(above)), tuple(dict.fromkeys(below))


def _volume(corners: tuple[Point, ...]) -> Fraction:
    if len(corners[0]) == 1:
        return max(corners)[0] - min(corners)[0]
    turns = (corners[k - 1][0] * p[1] - corners[k - 1][1] * p[0] for k, p in enumerate(corners))
    return abs(sum(turns, _NONE)) / 2


def _keeps(s: Point, e: Point, threshold: Fraction) -> bool:
    """Whether 1 - cos is at most the threshold, which is below 1; a map of 0 is 2 away."""
    sizes = sum(x * x for x in s) * sum(x * x for x in e)
    product = sum(x * y for x, y in zip(s, e, strict=True))
    return bool(sizes) and product >= 0 and product**2 >= (1 - threshold) ** 2 * sizes


def _nearest(corners: tuple[Point, ...], box: list[list[Fraction]]) -> Fraction:
    """The least multiple of the box that meets the segment or polygon."""
    n, parts = len(box), [corners]
    kinks: list[Affine] = [(_NONE, tuple(Fraction(int(i == j)) for j in range(n))) for i in range(n)]
    if n == 2:
        kinks += [(_NONE, (1 / a, -1 / b)) for a in box[0] for b in box[1] if a and b]
    for kink in kinks:
        parts = [side for part in parts for side in _parted(part, kink) if side is not None]
    reached = []
    for point in (point for part in parts for point in part):
        shares = [
            x / end if end else Fraction(10**9)
            for x, ends in zip(point, box, strict=True)
            if x
            for end in [ends[x > 0]]
        ]
        reached.append(max(shares, default=_NONE))
    return min(reached)
