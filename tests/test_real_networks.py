"""Public networks on public images: known region counts, known shares, and verdicts at sampled points."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from oracles import Locator, cosine
from public_networks import NETS, Net, problem
from steadygaze.geometry.kinds import ATTENTION_CHANGED, CLASS_CHANGED, ROBUST, UNDECIDED
from steadygaze.geometry.measure import facets
from steadygaze.question.problem import Problem
from steadygaze.search.base import CellMap
from variants import swept


def assert_complete(map_: CellMap, posed: Problem) -> None:
    assert map_.volume.sum() == pytest.approx(posed.volume, rel=1e-9)
    assert len(np.unique(map_.pattern)) == len(map_.pattern)
    draws = np.random.default_rng(5).random((500, len(posed.box)))
    thetas = posed.box[:, 0] + draws * (posed.box[:, 1] - posed.box[:, 0])
    assert np.isin(posed.stages.pattern_names_at(posed.unclipped(thetas)), map_.pattern).all()


def shares(map_: CellMap) -> list[float]:
    return [float(map_.volume[map_.kind == kind].sum() / map_.volume.sum()) for kind in range(4)]


QUICK = [
    *(("W1", "256x2", number, count) for number, count in enumerate((99, 40, 99, 102, 109))),
    *(("W1", "256x4", number, count) for number, count in enumerate((207, 65, 188, 62, 150))),
    *(("W1", "256x6", number, count) for number, count in enumerate((339, 83, 417, 136, 279))),
    *(("W2", "256x2", number, count) for number, count in enumerate((1157, 298, 561, 622, 784))),
    *(("W2", "256x4", number, count) for number, count in ((1, 533), (3, 723), (4, 2040))),
    ("W2", "256x6", 1, 1666),
    *(("W3", "256x2", number, count) for number, count in enumerate((3199, 754, 1823, 1187, 1285))),
    *(("W3", "256x4", number, count) for number, count in ((1, 1235), (3, 2215))),
    ("W3", "256x6", 1, 2002),
    *(("W6", "256x2", number, count) for number, count in enumerate((1649, 312, 1307, 505, 925))),
    *(("W6", "256x4", number, count) for number, count in ((1, 505), (3, 523))),
    *(("W6", "256x6", number, count) for number, count in ((1, 796), (3, 1172))),
    ("W7", "256x2", 1, 620),
    ("W7", "256x4", 1, 3054),
    *(("W1", "cifar_base_kw", number, count) for number, count in enumerate((481, 268, 401, 282, 602))),
]
SLOW = [
    *(("W2", "256x4", number, count) for number, count in ((0, 9791), (2, 6085))),
    *(("W2", "256x6", number, count) for number, count in ((0, 49589), (2, 19290), (3, 5712), (4, 12099))),
    *(("W3", "256x4", number, count) for number, count in ((0, 13883), (2, 6425), (4, 3273))),
    *(("W3", "256x6", number, count) for number, count in ((0, 62314), (2, 21141), (3, 8287), (4, 14062))),
    *(("W6", "256x4", number, count) for number, count in ((0, 10654), (2, 7764), (4, 1910))),
    *(("W6", "256x6", number, count) for number, count in ((0, 43602), (2, 23301), (4, 10553))),
    *(("W7", "256x2", number, count) for number, count in ((0, 7343), (2, 11001))),
    *(("W7", "256x4", number, count) for number, count in ((0, 105856), (2, 133950))),
    *(
        ("W2", "cifar_base_kw", number, count)
        for number, count in enumerate((19504, 10677, 16696, 9321, 39109))
    ),
]


@pytest.mark.parametrize(
    ("box", "net", "number", "count"),
    [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)],
)
def test_as_many_regions_as_others_count(shared, box, net, number, count):
    posed = problem(shared, net, box, number, (0.0, 1.0) if box == "W3" else None)
    map_ = swept(posed)
    assert len(map_.pattern) == count
    assert_complete(map_, posed)


KNOWN_SHARES = [
    ("256x2", 0, (0.01575, 0.98425, 0.0)),
    ("256x2", 1, (0.01720, 0.87838, 0.10442)),
    ("256x4", 1, (0.30911, 0.00496, 0.68592)),
    ("256x6", 1, (0.75857, 0.0, 0.24143)),
    pytest.param("256x4", 0, (0.22787, 0.73576, 0.03637), marks=pytest.mark.slow),
    pytest.param("256x6", 0, (0.03427, 0.74079, 0.22494), marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("net", "number", "known"), KNOWN_SHARES)
def test_shares_that_others_found_to_five_places(shared, net, number, known):
    found = shares(swept(problem(shared, net, "W2", number)))
    np.testing.assert_allclose(found[:3], known, rtol=0, atol=5.1e-6)
    assert found[3] == pytest.approx(0, abs=1e-9)


# Networks without a published count: blank backgrounds, where convolution windows coincide, and other layers.
COMPLETE = [
    ("W2", "10x2", 0, None),
    ("W3", "10x2", 2, (0.0, 1.0)),
    ("W2", "leaky", 0, None),
    ("W6", "leaky", 1, None),
    ("W1", "small conv", 0, None),
    ("W1", "max pool", 0, None),
    ("W1", "resnet_2b", 0, None),
    ("shift", "10x2", 0, (0.0, 1.0)),
    pytest.param("W2", "small conv", 0, None, marks=pytest.mark.slow),
    pytest.param("small", "small conv", 1, (0.0, 1.0), marks=pytest.mark.slow),
    pytest.param("small", "max pool", 0, None, marks=pytest.mark.slow),
    pytest.param("small", "resnet_2b", 0, None, marks=pytest.mark.slow),
    pytest.param("shift", "256x2", 1, None, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("box", "net", "number", "clip"), COMPLETE)
def test_maps_are_complete_and_right_at_points(shared, box, net, number, clip):
    posed = problem(shared, net, box, number, clip)
    map_ = swept(posed)
    if not posed.perturbation.moves_map:
        assert_complete(map_, posed)
    assert map_.volume.sum() == pytest.approx(posed.volume, rel=1e-9)
    assert_right(map_, posed, shared / f"models/{NETS[net].file}.onnx", NETS[net])


def assert_right(map_: CellMap, posed: Problem, path: Path, net: Net, count: int = 60) -> None:
    """The class by onnxruntime, the attention by finite differences of it, at random points."""
    judge = Runtime(path, net)
    locator, rng, decided = Locator(map_.cells), np.random.default_rng(6), 0
    for theta in posed.box[:, 0] + rng.random((count, len(posed.box))) * (posed.box[:, 1] - posed.box[:, 0]):
        found = locator.strictly(theta)
        assert len(found) <= 1
        if not found or map_.kind[found[0]] == UNDECIDED:
            continue
        decided += 1
        logits = judge.logits(posed.images(theta[None]).numpy())[0]
        gap = logits[posed.label] - np.delete(logits, posed.label).max()
        said = map_.kind[found[0]]
        assert (gap <= 0) == (said == CLASS_CHANGED) or abs(gap) < 1e-4 * np.abs(logits).max()
    assert decided > 0.6 * count


class Runtime:
    """The network as onnxruntime runs it, in single precision."""

    def __init__(self, path: Path, net: Net) -> None:
        self._session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
        self._input, self._net = self._session.get_inputs()[0], net

    def logits(self, images: np.ndarray) -> np.ndarray:
        column = (-1, 1, 1)
        x = (images - np.reshape(self._net.mean or 0.0, column)) / np.reshape(self._net.std or 1.0, column)
        x = x.transpose(0, 2, 3, 1) if self._net.layout == "hwc" else x
        shape = [size if isinstance(size, int) else 1 for size in self._input.shape]
        rows = [row.reshape(shape).astype(np.float32) for row in x]
        return np.concatenate(
            [self._session.run(None, {self._input.name: row})[0].reshape(1, -1) for row in rows]
        )


@pytest.mark.parametrize(("net", "box"), [("256x2", "W2"), ("leaky", "W2"), ("10x2", "W3")])
def test_the_attention_by_finite_differences(shared, net, box):
    """The map's inconsistency at points of its cells, from differences of single-precision logits alone."""
    posed = problem(shared, net, box, 1, (0.0, 1.0) if box == "W3" else None)
    map_, judge = swept(posed), Runtime(shared / f"models/{NETS[net].file}.onnx", NETS[net])
    largest = np.argsort(-np.where(np.isnan(map_.inconsistency[map_.region]), 0, map_.volume))[:5]
    compared = posed.perturbation.compared(posed.image.shape).ravel()
    target = differences(judge, posed, np.zeros(len(posed.box)))
    for cell in largest:
        own = map_.cells.theta[map_.cells.idx[map_.cells.ptr[cell] : map_.cells.ptr[cell + 1]]]
        found = cosine(differences(judge, posed, own.mean(axis=0))[compared], target[compared])
        assert map_.inconsistency[map_.region[cell]] == pytest.approx(found, abs=0.02)
        assert map_.kind[cell] == (ROBUST if found <= 0.3 else ATTENTION_CHANGED) or abs(found - 0.3) < 0.02


def differences(judge: Runtime, posed: Problem, theta: np.ndarray) -> np.ndarray:
    step = 2e-3
    image = posed.images(theta[None]).numpy()
    shifts = step * np.eye(image.size).reshape(-1, *image.shape[1:])
    up, down = (judge.logits(image + sign * shifts)[:, posed.label] for sign in (1, -1))
    return (up - down) / (2 * step)


@pytest.mark.parametrize("factor", [0.01, 100.0])
@pytest.mark.parametrize(
    ("box", "net"), [("W2", "256x2"), ("W3", "256x2"), ("W1", "max pool"), ("W1", "small conv")]
)
def test_counts_are_stable_over_tolerances(shared, box, net, factor):
    posed = problem(shared, net, box, 1, (0.0, 1.0) if box == "W3" else None)
    usual = posed.tolerance
    other = replace(posed, tolerance=replace(usual, hinge=usual.hinge * factor))
    np.testing.assert_array_equal(np.sort(swept(other).pattern), np.sort(swept(posed).pattern))


@pytest.mark.parametrize(("box", "net"), [("W2", "256x4"), ("W6", "256x2"), ("W1", "max pool")])
def test_threads_and_memory_change_no_region(shared, box, net):
    posed = problem(shared, net, box, 1)
    one, two = swept(posed), swept(posed, threads=2, memory=8 << 20)
    np.testing.assert_array_equal(np.sort(one.pattern), np.sort(two.pattern))
    np.testing.assert_allclose(shares(one), shares(two), atol=1e-12)
    assert len(facets(one.cells).key) == len(facets(two.cells).key)
