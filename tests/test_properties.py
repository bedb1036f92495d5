"""What must hold for every small network: symmetries change nothing, some changes go one way only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from steadygaze.errors import SettingError
from steadygaze.geometry.kinds import ATTENTION_CHANGED, CLASS_CHANGED, ROBUST
from steadygaze.network.building import GraphBuilder
from steadygaze.network.layers import Dense, Reshape
from steadygaze.network.pieces import PiecewiseLinear
from steadygaze.network.reading.load import Network
from steadygaze.network.reading.originals import AbstractOriginal
from steadygaze.network.saliency import Gradient
from steadygaze.perturbation import Chain, Direction
from steadygaze.question.inconsistency import Cosine
from steadygaze.question.posing import pose
from steadygaze.question.problem import Problem
from steadygaze.search.base import CellMap, Options
from steadygaze.search.sweep import Sweep
from steadygaze.verdict.reading import around_origin, safe_scale, shares_of
from variants import swept

PIXELS = 6


@dataclass(frozen=True)
class Net:
    """Weights and biases of a ReLU network on an image of 2 x 3 pixels."""

    layers: tuple[tuple[np.ndarray, np.ndarray], ...]

    def network(self) -> Network:
        """As the package imports it, without the importer."""
        zero, one = torch.zeros((1, 1)).double(), torch.ones((1, 1)).double()
        relu = PiecewiseLinear(torch.zeros(1).double(), torch.cat([zero, one]), torch.cat([zero, zero]))
        builder = GraphBuilder((1, 2, 3))
        at = builder.add(Reshape((PIXELS,)), 0, name="flat")
        modules: list[nn.Module] = [nn.Flatten()]
        for number, (weight, bias) in enumerate(self.layers):
            if number:
                at = builder.add(relu, at, name=f"relu {number}")
                modules.append(nn.ReLU())
            at = builder.add(Dense(torch.tensor(weight), torch.tensor(bias)), at, name=f"dense {number}")
            linear = nn.Linear(weight.shape[1], len(weight)).double()
            linear.weight.data, linear.bias.data = torch.tensor(weight), torch.tensor(bias)
            modules.append(linear)
        return Network(builder.build(at), Plain(nn.Sequential(*modules)), "test", None, None)


class Plain(AbstractOriginal):
    """The original, run by PyTorch in double precision."""

    differentiates_in_double = True

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def logits(self, images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self.module(torch.tensor(images)).numpy()

    def gradient(self, images: np.ndarray, label: int) -> np.ndarray:
        x = torch.tensor(images, requires_grad=True)
        with torch.enable_grad():
            return torch.autograd.grad(self.module(x)[:, label].sum(), x)[0].numpy()


@st.composite
def questions(draw, parameters=(1, 2, 3)):
    """A network, an image, directions, a box, a threshold."""
    n = draw(st.sampled_from(parameters))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = (PIXELS, draw(st.integers(3, 7)), draw(st.integers(2, 5)), 3)
    layers = tuple(
        (rng.standard_normal((out, into)), 0.5 * rng.standard_normal(out)) for into, out in pairwise(sizes)
    )
    image = rng.uniform(0.1, 0.9, (1, 2, 3))
    directions = rng.standard_normal((n, 1, 2, 3))
    box = np.stack([-rng.uniform(0.1, 1.0, n), rng.uniform(0.1, 1.0, n)], axis=1)
    return Question(Net(layers), image, directions, box, draw(st.sampled_from([0.05, 0.2, 0.5])))


@dataclass(frozen=True)
class Question:
    """All that a problem is made of."""

    net: Net
    image: np.ndarray
    directions: np.ndarray
    box: np.ndarray
    threshold: float

    def problem(self) -> Problem:
        """Posed; examples that have no attention to follow are passed over."""
        pairs = zip(self.box, self.directions, strict=True)
        chain = Chain(*(Direction(low, high, array=array) for (low, high), array in pairs))
        try:
            return pose(
                self.net.network(),
                self.image,
                chain,
                label=None,
                saliency=Gradient(),
                inconsistency=Cosine(),
                threshold=self.threshold,
                clip=None,
            )
        except SettingError:
            assume(False)
            raise

    def map(self) -> CellMap:
        """Swept."""
        return swept(self.problem())


def shares(map_: CellMap) -> np.ndarray:
    return np.array([map_.volume[map_.kind == kind].sum() for kind in range(4)]) / map_.volume.sum()


def volumes(map_: CellMap) -> np.ndarray:
    return np.sort(np.bincount(map_.region, map_.volume, minlength=len(map_.pattern)))


@given(questions())
def test_volumes_add_up_and_patterns_differ(question):
    map_ = question.map()
    whole = np.prod(question.box[:, 1] - question.box[:, 0])
    assert abs(map_.volume.sum() - whole) <= 1e-12 * whole
    assert len(np.unique(map_.pattern)) == len(map_.pattern)
    assert (map_.volume > 0).all()


@given(questions(), st.integers(0, 2**32 - 1))
def test_the_order_of_units_does_not_matter(question, seed):
    rng = np.random.default_rng(seed)
    layers = [list(layer) for layer in question.net.layers]
    for k in range(len(layers) - 1):
        order = rng.permutation(len(layers[k][1]))
        layers[k] = [layers[k][0][order], layers[k][1][order]]
        layers[k + 1] = [layers[k + 1][0][:, order], layers[k + 1][1]]
    assert_same(question, replace(question, net=Net(tuple(map(tuple, layers)))))


@given(questions(), st.floats(0.01, 100.0), st.floats(0.01, 100.0))
def test_scaling_a_layer_and_unscaling_the_next_changes_nothing(question, first, second):
    (a, b, c) = question.net.layers
    scaled = (
        (a[0] * first, a[1] * first),
        (b[0] / first * second, b[1] * second),
        (c[0] / second, c[1]),
    )
    assert_same(question, replace(question, net=Net(scaled)))


@given(questions(), st.integers(0, 5))
def test_a_unit_that_stands_twice_changes_nothing(question, unit):
    a, b, c = question.net.layers
    unit %= len(a[1])
    doubled = (np.vstack([a[0], a[0][unit]]), np.append(a[1], a[1][unit]))
    halved = np.column_stack([b[0], b[0][:, unit] / 2])
    halved[:, unit] /= 2
    assert_same(question, replace(question, net=Net((doubled, (halved, b[1]), c))))


@given(questions(), st.floats(0.1, 10.0))
def test_the_unit_of_a_parameter_does_not_matter(question, factor):
    other = replace(question, box=question.box / factor, directions=question.directions * factor)
    assert_same(question, other)


@given(questions(parameters=(2, 3)))
def test_the_order_of_parameters_does_not_matter(question):
    assert_same(question, replace(question, box=question.box[::-1], directions=question.directions[::-1]))


def assert_same(one: Question, other: Question) -> None:
    first, second = one.map(), other.map()
    assert len(first.pattern) == len(second.pattern)
    parts = volumes(first) / first.volume.sum(), volumes(second) / second.volume.sum()
    np.testing.assert_allclose(*parts, atol=1e-9)
    np.testing.assert_allclose(shares(first), shares(second), atol=1e-9)
    scales = [safe_scale(found, question.box) for found, question in ((first, one), (second, other))]
    np.testing.assert_allclose(*scales, atol=1e-9)
    origins = [
        around_origin(found, question.box, question.problem().tolerance).origin.share
        for found, question in ((first, one), (second, other))
    ]
    np.testing.assert_allclose(*origins, atol=1e-9)


@given(questions(), st.floats(0.2, 0.95))
def test_a_smaller_box_holds_no_more(question, factor):
    whole, part = question.map(), replace(question, box=question.box * factor).map()
    assert len(part.pattern) <= len(whole.pattern)
    for kind in (ROBUST, CLASS_CHANGED, ATTENTION_CHANGED):
        inner, outer = (found.volume[found.kind == kind].sum() for found in (part, whole))
        assert inner <= outer + 1e-9 * whole.volume.sum()
    scales = safe_scale(whole, question.box), safe_scale(part, question.box * factor)
    assert abs(min(1.0, scales[0] / factor) - scales[1]) < 1e-9


@given(questions(), st.floats(0.0, 1.0))
def test_a_higher_threshold_holds_more_robust(question, more):
    low, high = question.map(), replace(question, threshold=question.threshold + more).map()
    np.testing.assert_array_equal(np.sort(low.pattern), np.sort(high.pattern))
    before, after = shares(low), shares(high)
    assert after[ROBUST] >= before[ROBUST] - 1e-12
    assert after[ATTENTION_CHANGED] <= before[ATTENTION_CHANGED] + 1e-12
    assert abs(after[CLASS_CHANGED] - before[CLASS_CHANGED]) < 1e-12
    assert safe_scale(high, question.box) >= safe_scale(low, question.box) - 1e-12


@given(questions(parameters=(2, 3)))
def test_leaving_a_parameter_out_gives_a_section(question):
    """Where the first parameter hardly varies the map is that of the others alone."""
    narrow = question.box.copy()
    narrow[0] = -1e-7, 1e-7
    thin = replace(question, box=narrow).map()
    alone = replace(question, box=question.box[1:], directions=question.directions[1:]).map()
    np.testing.assert_allclose(shares(thin), shares(alone), atol=1e-4)


@given(questions())
def test_shares_add_up_to_one(question):
    found = shares_of(question.map())
    assert abs(found.robust + found.class_changed + found.attention_changed + found.undecided - 1) < 1e-12


@given(questions(), st.integers(1, 4))
def test_every_stop_leaves_a_whole_map(question, steps):
    search = Sweep(question.problem(), Options(memory=1, threads=1))
    for _ in range(steps):
        if search.pending():
            search.step()
    search.close()
    whole = np.prod(question.box[:, 1] - question.box[:, 0])
    assert abs(search.found().volume.sum() - whole) <= 1e-12 * whole
