"""Maps whose terms cancel, against exact fractions: rounding must not choose the side of the threshold."""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

import steadygaze as sg

LARGE = 1e9


def cancelling(seed, late):
    """Weights of 4 units by 4 pixels: two that nearly cancel, one that is always on, and one that is on from
    brightness 0.5 on; late: so are the two that cancel."""
    rng = np.random.default_rng(seed)
    first, scales = rng.uniform(0.1, 1.0, 4), LARGE * rng.uniform(1.0, 2.0, 2)
    second = scales[0] * first / scales[1]  # but for rounding, which is all that is left of them
    more = rng.uniform(0.2, 1.0, 4) * np.array([1, -1, 1, 1])
    weight = np.stack([first, second, rng.uniform(-1, 1, 4), more])
    bias = np.array([10.0, 10.0, 10.0, -more.sum() / 2])
    if late:
        bias[:2] = -weight[:2].sum(axis=1) / 2
    return weight, bias, np.array([scales[0], -scales[1], 1.0, 1.0])


def network(weight, bias, out):
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).double().eval()
    with torch.no_grad():
        module[1].weight.copy_(torch.from_numpy(weight))
        module[1].bias.copy_(torch.from_numpy(bias))
        module[3].weight.copy_(torch.from_numpy(np.stack([out, np.zeros(4)])))
        module[3].bias.copy_(torch.tensor([1e12, 0.0]))
    return module


def true_map(weight, out, units):
    return [sum(Fraction(out[unit]) * Fraction(weight[unit, pixel]) for unit in units) for pixel in range(4)]


def decimal(number):
    return Decimal(number.numerator) / Decimal(number.denominator)


def true_distance(measure, actual, expected):
    """To fifty digits."""
    with localcontext() as context:
        context.prec = 50
        sides = [[decimal(entry) for entry in side] for side in (actual, expected)]
        lengths = [sum(entry * entry for entry in side).sqrt() for side in sides]
        if measure == "cosine":
            return float(1 - sum(s * e for s, e in zip(*sides, strict=True)) / (lengths[0] * lengths[1]))
        if measure == "l1":
            lengths = [sum(abs(entry) for entry in side) for side in sides]
        if measure == "linf":
            lengths = [max(abs(entry) for entry in side) for side in sides]
        off = [abs(s / lengths[0] - e / lengths[1]) for s, e in zip(*sides, strict=True)]
        whole = {"l1": sum(off), "linf": max(off), "l2": sum(entry * entry for entry in off).sqrt()}
        return float(whole[measure])


def asked(module, threshold, measure, method, perturbation="brightness(amount=0..1)"):
    return sg.verify(
        module, np.zeros((1, 1, 4)), perturbation, inconsistency=measure, threshold=threshold, method=method,
        time_limit=20,
    )  # fmt: skip


CASES = [
    *(
        ("cosine", method, late)
        for method in ("sweep", "bfs", "gbs", "nearest", "bound")
        for late in (False, True)
    ),
    *((measure, method, False) for measure in ("l1", "l2", "linf") for method in ("sweep", "bound")),
]


@pytest.mark.parametrize(("measure", "method", "late"), CASES)
def test_rounding_does_not_choose_the_side_of_the_threshold(measure, method, late):
    on = [2] if late else [0, 1, 2]
    apart = 0
    for seed in range(4):
        weight, bias, out = cancelling(seed, late)
        module = network(weight, bias, out)
        distance = true_distance(measure, true_map(weight, out, [0, 1, 2, 3]), true_map(weight, out, on))
        first = asked(module, 0.5, measure, "sweep")
        seen, known = first.at([0.9]).inconsistency, first.problem.network
        apart += abs(seen - distance) > 2e-9
        threshold = (seen + distance) / 2
        answer = asked(known, threshold, measure, method)
        if distance > threshold:
            assert answer.shares.robust <= 0.5 + 1e-6, (seed, answer)
            assert (answer.safe_scale or 0.0) <= 0.5 + 1e-6
        else:
            assert answer.verdict != "violated", (seed, answer)
            assert answer.shares.attention_changed <= 1e-6
        # Where the threshold is farther off than that, nothing is left open.
        clear = asked(known, distance * 1.001, measure, method)
        assert clear.verdict == "robust", (seed, clear)
    assert apart >= 2  # else nothing cancels, and nothing was asked
