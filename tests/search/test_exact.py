"""The sweep in float64 against the same arrangement in fractions, and against all activation patterns."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from oracles import ExactNet, exact, exact_regions, patterns
from steadygaze.geometry.kinds import ATTENTION_CHANGED, CLASS_CHANGED, ROBUST, UNDECIDED
from steadygaze.network.reading.load import load_network
from steadygaze.network.saliency import Gradient
from steadygaze.perturbation import Chain, Direction
from steadygaze.question.inconsistency import Cosine
from steadygaze.question.posing import pose
from steadygaze.question.problem import Problem
from variants import swept

KINDS = (ROBUST, CLASS_CHANGED, ATTENTION_CHANGED, UNDECIDED)
# (parameters, hidden layers, seed); weights are whole numbers over 4, so that hinges often meet in a vertex,
# coincide, or vanish all over a region.
CASES = [
    (n, hidden, seed) for n, hidden in ((1, (6, 4)), (2, (5, 4)), (2, (8,)), (3, (4, 3))) for seed in range(5)
]
# Units of whole networks that are copies, multiples, or zero.
SPOILT = [(1, (6, 4), 100), (2, (6, 4), 101), (3, (5, 3), 102)]


class Dyadic:
    """A random small network, image and chain in numbers that float64 holds exactly."""

    def __init__(self, n: int, hidden: tuple[int, ...], seed: int) -> None:
        rng = np.random.default_rng(seed)
        sizes = (4, *hidden, 3)
        self.layers = [
            (rng.integers(-4, 5, (out, into)) / 4, rng.integers(-4, 5, out) / 8)
            for into, out in pairwise(sizes)
        ]
        if seed >= 100:
            weight, bias = self.layers[0]
            weight[1], bias[1] = weight[0], bias[0]
            weight[2], bias[2] = -weight[0] / 2, -bias[0] / 2
            weight[3], bias[3] = 0, 0
        self.image = rng.integers(2, 7, 4) / 8
        self.directions = rng.integers(-4, 5, (n, 4)) / 2
        self.box = np.stack([-rng.integers(1, 5, n) / 4, rng.integers(1, 5, n) / 4], axis=1)

    def module(self) -> nn.Module:
        layers: list[nn.Module] = [nn.Flatten()]
        for weight, bias in self.layers:
            linear = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
            with torch.no_grad():
                linear.weight[:], linear.bias[:] = torch.from_numpy(weight), torch.from_numpy(bias)
            layers += [linear, nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    def problem(self) -> Problem:
        chain = Chain(
            *(
                Direction(low, high, array=direction.reshape(1, 2, 2))
                for (low, high), direction in zip(self.box, self.directions, strict=True)
            )
        )
        return pose(
            load_network(self.module(), input_shape=(1, 2, 2)),
            self.image.reshape(1, 2, 2),
            chain,
            label=None,
            saliency=Gradient(),
            inconsistency=Cosine(),
            threshold=0.25,
            clip=None,
        )

    def all_layers_active(self) -> bool:
        """Whether there is a gradient at the image at all."""
        x = self.image
        for weight, bias in self.layers[:-1]:
            x = np.maximum(weight @ x + bias, 0)
        return bool(x.any())


def dyadic(n: int, hidden: tuple[int, ...], seed: int) -> Dyadic:
    """The first such network from the seed on whose gradient at the image is not zero."""
    for attempt in range(50):
        case = Dyadic(n, hidden, seed + 1000 * attempt)
        if case.all_layers_active() and gradient_of(case).any():
            return case
    raise AssertionError("no seed gives a gradient")


def gradient_of(case: Dyadic) -> np.ndarray:
    x = torch.tensor(case.image.reshape(1, 1, 2, 2), requires_grad=True)
    logits = case.module()(x)[0]
    logits[int(logits.argmax())].backward()
    return x.grad.numpy()


@pytest.mark.parametrize(("n", "hidden", "seed"), [*CASES, *SPOILT], ids=str)
def test_regions_volumes_and_shares_are_exact(n, hidden, seed):
    case = dyadic(n, hidden, seed)
    problem = case.problem()
    map_ = swept(problem)
    net = ExactNet(tuple((exact(weight), exact(bias)) for weight, bias in case.layers))
    regions = exact_regions(
        net, exact(case.image), exact(case.directions), exact(case.box), problem.label, Fraction(1, 4)
    )
    whole = np.prod(case.box[:, 1] - case.box[:, 0])
    assert sum(region.volume for region in regions) == Fraction(whole)
    assert len(map_.pattern) == len(regions)
    found = np.sort(np.bincount(map_.region, map_.volume, minlength=len(regions)))
    np.testing.assert_allclose(
        found, np.sort([float(region.volume) for region in regions]), atol=1e-12 * whole
    )
    kept = [Fraction(0)] * 3
    for region in regions:
        # Where classes or threshold are met exactly, no answer is the right answer.
        kept[0 if region.level else region.attention] += region.kept
    found = [map_.volume[map_.kind == kind].sum() for kind in KINDS]
    right = [kept[1], whole - sum(kept), kept[-1], kept[0]]
    np.testing.assert_allclose(found, np.array(right, float), rtol=0, atol=1e-12 * whole)


@pytest.mark.parametrize(("n", "hidden", "seed"), [*CASES[::2], *SPOILT], ids=str)
def test_the_regions_are_those_of_all_patterns(n, hidden, seed):
    case = dyadic(n, hidden, seed)
    map_ = swept(case.problem())
    assert len(map_.pattern) == len(patterns(case.layers, case.image, case.directions, case.box))


@pytest.mark.parametrize("seed", range(3))
def test_four_parameters_against_all_patterns(seed):
    case = dyadic(4, (5, 3), seed)
    map_ = swept(case.problem())
    assert len(map_.pattern) == len(patterns(case.layers, case.image, case.directions, case.box))
    assert map_.volume.sum() == pytest.approx(np.prod(case.box[:, 1] - case.box[:, 0]), rel=1e-12)


def test_the_oracles_agree_with_each_other():
    for n, hidden, seed in CASES[::6]:
        case = dyadic(n, hidden, seed)
        net = ExactNet(tuple((exact(weight), exact(bias)) for weight, bias in case.layers))
        regions = exact_regions(
            net, exact(case.image), exact(case.directions), exact(case.box), 0, Fraction(1, 4)
        )
        assert {r.pattern for r in regions} == patterns(case.layers, case.image, case.directions, case.box)
