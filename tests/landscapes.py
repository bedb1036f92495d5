"""Small networks whose class gap is a function of theta that one can draw: shapes that searches must meet.

The image has one pixel for each parameter, a direction moves each pixel by its parameter, and the gap is a
sum of terms relu(w . theta + b), scaled, plus a constant. The threshold is such that only the class matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from steadygaze.network.reading.load import load_network
from steadygaze.network.saliency import Gradient
from steadygaze.perturbation import Chain, Direction
from steadygaze.question.inconsistency import Cosine
from steadygaze.question.posing import pose
from steadygaze.question.problem import Problem

MIDDLE = 0.5  # the value of every pixel of the image


@dataclass(frozen=True)
class Term:
    """``factor * max(0, weight . theta + bias)``."""

    weight: tuple[float, ...]
    bias: float
    factor: float = 1.0


def diamond(centre: Sequence[float], height: float = 1.0) -> list[Term]:
    """``height * |theta - centre|_1``."""
    terms = []
    for axis, place in enumerate(centre):
        for sign in (1.0, -1.0):
            weight = [0.0] * len(centre)
            weight[axis] = sign
            terms.append(Term(tuple(weight), -sign * place, height))
    return terms


def landscape(terms: Sequence[Term], constant: float, box: Sequence[tuple[float, float]]) -> Problem:
    """The problem whose class gap is the sum of the terms and the constant; it must be above 0 at 0."""
    n = len(box)
    first, last = nn.Linear(n, len(terms), dtype=torch.float64), nn.Linear(len(terms), 2, dtype=torch.float64)
    with torch.no_grad():
        for k, term in enumerate(terms):
            first.weight[k] = torch.tensor(term.weight)
            first.bias[k] = term.bias - MIDDLE * sum(term.weight)
            last.weight[0, k], last.weight[1, k] = term.factor, 0.0
        last.bias[0], last.bias[1] = constant, 0.0
    chain = Chain(
        *(
            Direction(low, high, array=np.eye(n)[axis].reshape(1, 1, n))
            for axis, (low, high) in enumerate(box)
        )
    )
    module = nn.Sequential(nn.Flatten(), first, nn.ReLU(), last)
    return pose(
        load_network(module, input_shape=(1, 1, n)),
        np.full((1, 1, n), MIDDLE),
        chain,
        label=None,
        saliency=Gradient(),
        inconsistency=Cosine(),
        threshold=2.0,
        clip=None,
    )


def hole(centre: Sequence[float], radius: float, half: float = 1.0) -> Problem:
    """Robust but for a diamond round the centre; tilted, so that no map is just the opposite of another."""
    slant = tuple(0.05 * (axis + 1) for axis in range(len(centre)))
    tilt = Term(slant, 1.0 - float(np.dot(slant, centre)))
    return landscape([*diamond(centre), tilt], -radius - 1.0, [(-half, half)] * len(centre))


def islands(n: int) -> Problem:
    """Robust where theta_1 is below 0.3, and again above 0.7."""
    terms = [Term((1.0,) + (0.0,) * (n - 1), -0.5), Term((-1.0,) + (0.0,) * (n - 1), 0.5)]
    return landscape(terms, -0.2, [(-1.0, 1.0)] * n)


def slope(n: int, bias: float = 0.4) -> Problem:
    """One region, partly robust: theta_1 + ... + theta_n > -bias. No hinge meets the box."""
    return landscape([Term((1.0,) * n, bias + 10.0)], -10.0, [(-1.0, 1.0)] * n)


def kink(n: int) -> Problem:
    """0 is a corner of all regions: the gap is 0.5 - |theta|_1, tilted a little; all hinges meet in 0."""
    tilt = Term((0.05,) * n, 1.0)
    return landscape([*diamond((0.0,) * n, -1.0), tilt], -0.5, [(-1.0, 1.0)] * n)


def edge(n: int) -> Problem:
    """0 is a corner of the box, and the robust part touches the far faces."""
    return landscape(diamond((0.8,) * n), -0.35 * n, [(0.0, 1.0)] * n)


def hourglass(n: int) -> Problem:
    """Two robust cones along the first axis that touch in one point of it: |theta_1 - 0.5| > |theta_2| + ...

    All numbers are sums of powers of two, so that the tips meet exactly.
    """
    tip = (0.5,) + (0.0,) * (n - 1)
    slant = tuple(2.0 ** -(axis + 4) for axis in range(n))
    tilt = Term(slant, 1.0 - float(np.dot(slant, tip)))
    terms = [Term(term.weight, term.bias, 1.0 if term.weight[0] else -1.0) for term in diamond(tip)]
    return landscape([*terms, tilt], -1.0, [(-1.0, 1.0)] * n)
