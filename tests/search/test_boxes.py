"""Boxes of parameters: how they are judged, halved and written down."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from oracles import Locator, corners_of, hull_volume
from steadygaze.geometry.kinds import ATTENTION_CHANGED, CLASS_CHANGED, ROBUST, UNDECIDED
from steadygaze.geometry.measure import facets, volumes
from steadygaze.network.reading.load import load_network
from steadygaze.network.saliency import NoMap
from steadygaze.perturbation.notation import chain_of
from steadygaze.question.inconsistency import Cosine
from steadygaze.question.posing import pose
from steadygaze.search.boxes import (
    bends_at_zero,
    cells_of,
    gauges_of,
    halved,
    map_of,
    parted_at_zero,
    shells,
    volumes_of,
)
from steadygaze.search.judged_boxes import judge_boxes
from variants import EVERY, INEXACT, Variant

ROOM = 32
SMOOTH = [Variant("mlp", "turn"), Variant("max pool", "zoom, brighter"), Variant("tanh", "product")]


def random_boxes(box, rng, count):
    """Boxes of all sizes within `box` (n, 2); some without width along an axis, some with 0 on a face."""
    extent = box[:, 1] - box[:, 0]
    width = extent * 10.0 ** rng.uniform(-5, 0, (count, len(box)))
    width = np.where(rng.random(width.shape) < 0.05, 0.0, width)
    low = box[:, 0] + rng.random(width.shape) * (extent - width)
    low = np.where(rng.random(width.shape) < 0.1, np.clip(0.0, box[:, 0], box[:, 1] - width), low)
    return np.stack([low, np.minimum(low + width, box[:, 1])], axis=2)


# -- judging


@pytest.mark.parametrize("variant", [*EVERY, *INEXACT, *SMOOTH], ids=str)
def test_judgements_never_contradict_samples(variant):
    """Inside boxes, where no hinge of a blank background runs along a face."""
    rng = np.random.default_rng(1)
    boxes = random_boxes(variant.perturbation.box, rng, 60)
    boxes = boxes[(boxes[..., 1] > boxes[..., 0]).all(axis=1)]
    judged = judge_boxes(variant.problem, boxes, ROOM)
    decided = np.flatnonzero(judged.kind != UNDECIDED)
    assert len(decided) > 3
    share = rng.uniform(1e-3, 1 - 1e-3, (len(decided), 12, boxes.shape[1]))
    points = boxes[decided, None, :, 0] + share * np.ptp(boxes[decided], axis=2)[:, None]
    plain = variant.sampled(points.reshape(-1, boxes.shape[1]))
    kind = plain.kind.reshape(len(decided), -1)
    assert (kind == judged.kind[decided, None]).all()
    assert ((judged.pull >= 0) & (judged.pull <= 1)).all()
    np.testing.assert_allclose(judged.pull.sum(axis=1), 1.0)


@pytest.mark.parametrize("variant", EVERY, ids=str)
def test_judgements_never_contradict_the_sweep(variant):
    """Every vertex of a cell of another kind stays outside of a box that is judged."""
    boxes = random_boxes(variant.perturbation.box, np.random.default_rng(2), 150)
    boxes = boxes[(boxes[..., 1] > boxes[..., 0]).all(axis=1)]
    kind = judge_boxes(variant.problem, boxes, ROOM).kind
    map_, locator = variant.map, Locator(variant.map.cells)
    middles = boxes.mean(axis=2)
    for box, found, middle in zip(boxes, kind, middles, strict=True):
        if found == UNDECIDED:
            continue
        for cell in locator.strictly(middle):
            assert map_.kind[cell] in (found, UNDECIDED)
        corners = map_.cells.theta
        inner = box + np.ptp(box, axis=1)[:, None] * np.array([1e-6, -1e-6])
        within = np.flatnonzero(((corners > inner[:, 0]) & (corners < inner[:, 1])).all(axis=1))
        cells = np.repeat(np.arange(map_.cells.count), np.diff(map_.cells.ptr))[
            np.isin(map_.cells.idx, within)
        ]
        assert set(map_.kind[cells]) <= {found, UNDECIDED}


def test_each_kind_is_told():
    variant = Variant("max pool", "shift, brighter", clip=None, threshold=0.5)
    boxes = variant.draw(200)[:, :, None] + np.array([-1e-5, 1e-5])
    kind = judge_boxes(variant.problem, boxes, ROOM).kind
    assert set(kind) >= {ROBUST, CLASS_CHANGED, ATTENTION_CHANGED}
    assert (kind != UNDECIDED).mean() > 0.95


def test_a_box_across_a_boundary_stays_open():
    for variant in (
        Variant("max pool", "spot"),
        Variant("gelu", "turn", threshold=0.05),
        Variant("mlp", "turn"),
    ):
        kinds = set(variant.sampled(variant.draw(400)).kind)
        assert len(kinds) > 1
        assert judge_boxes(variant.problem, variant.perturbation.box[None], ROOM).kind.tolist() == [UNDECIDED]


@pytest.mark.parametrize(
    ("least", "most", "kind"),
    [
        (-9.0, -2.0, ROBUST), (-9.0, -0.5, UNDECIDED), (0.0, 0.0, UNDECIDED), (-0.5, 5.0, UNDECIDED),
        (0.5, 5.0, UNDECIDED), (2.0, 5.0, ATTENTION_CHANGED),
    ],
)  # fmt: skip
def test_an_inconsistency_within_its_margin_of_the_threshold_stays_open(monkeypatch, least, most, kind):
    variant = Variant("mlp", "spot")
    margin = variant.tolerance.margin
    ends = (np.full(1, variant.threshold + end * margin) for end in (least, most))
    monkeypatch.setattr(type(variant.problem), "enclosed_inconsistency", lambda *_, found=tuple(ends): found)
    around_zero = 1e-9 * np.array([[[-1.0, 1.0], [0.0, 1.0]]])
    assert judge_boxes(variant.problem, around_zero, ROOM).kind.tolist() == [kind]


# -- arithmetic of boxes


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 5))
def test_halves_make_up_the_whole(seed, n):
    rng = np.random.default_rng(seed)
    boxes = random_boxes(np.stack([-rng.random(n) - 0.1, rng.random(n) + 0.1], axis=1), rng, 6)
    axis = rng.integers(0, n, 6)
    halves = halved(boxes, axis, np.zeros(n, bool))
    assert halves.shape == (12, n, 2)
    lower, upper = halves[:6], halves[6:]
    rows = np.arange(6)
    np.testing.assert_array_equal(lower[rows, axis, 1], upper[rows, axis, 0])
    np.testing.assert_array_equal(np.minimum(lower, upper)[..., 0], boxes[..., 0])
    np.testing.assert_array_equal(np.maximum(lower, upper)[..., 1], boxes[..., 1])
    np.testing.assert_allclose(volumes_of(lower), volumes_of(boxes) / 2)
    np.testing.assert_allclose(volumes_of(lower) + volumes_of(upper), volumes_of(boxes), rtol=1e-14)
    others = np.arange(n) != axis[:, None]
    np.testing.assert_array_equal(lower[others], boxes[others])


@pytest.mark.parametrize(
    ("low", "high", "cut"),
    [(-1.5, 1.5, 0.0), (0.0, 1.5, 1.0), (0.0, 1.0, 0.5), (1.0, 1.5, 1.25), (0.9, 2.3, 2.0), (0.2, 0.8, 0.5)],
)
def test_boxes_that_cross_whole_numbers_are_cut_there_where_that_is_wanted(low, high, cut):
    boxes = np.array([[[low, high], [low, high]]])
    for axis in (0, 1):
        lower, upper = halved(boxes, np.array([axis]), np.array([True, False]))
        assert lower[axis, 1] == upper[axis, 0] == (cut if axis == 0 else (low + high) / 2)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 4))
def test_gauges_are_the_least_scales_that_meet_a_box(seed, n):
    rng = np.random.default_rng(seed)
    whole = np.stack([-rng.random(n), rng.random(n) + 0.01], axis=1)
    whole[rng.integers(n), 0] = 0.0  # a parameter that has only one side
    boxes = random_boxes(whole, rng, 20)
    gauge = gauges_of(boxes, whole)
    assert ((gauge >= 0) & (gauge <= 1 + 1e-12)).all()
    for box, s in zip(boxes, gauge, strict=True):
        larger, smaller = (whole * s * (1 + share) for share in (1e-9, -1e-9))
        assert ((box[:, 0] <= larger[:, 1] + 1e-15) & (box[:, 1] >= larger[:, 0] - 1e-15)).all()
        if s > 0:
            assert ((box[:, 0] > smaller[:, 1]) | (box[:, 1] < smaller[:, 0])).any()
        else:
            assert ((box[:, 0] <= 0) & (box[:, 1] >= 0)).all()


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_boxes_are_cells(n):
    rng = np.random.default_rng(n)
    whole = np.stack([-rng.random(n), rng.random(n)], axis=1)
    boxes = halved(whole[None], np.array([n - 1]), np.zeros(n, bool))
    cells = cells_of(boxes)
    np.testing.assert_allclose(volumes(cells), volumes_of(boxes), rtol=1e-12)
    np.testing.assert_allclose([hull_volume(own) for own in corners_of(cells)], volumes_of(boxes), rtol=1e-9)
    found = facets(cells)
    assert len(found.key) == 2 * 2 * n
    assert len(np.unique(found.key)) == 4 * n - 1, "one facet is of both"
    for own, box in zip(corners_of(cells), boxes, strict=True):
        np.testing.assert_array_equal(own.min(axis=0), box[:, 0])
        np.testing.assert_array_equal(own.max(axis=0), box[:, 1])
        assert len(np.unique(own, axis=0)) == 2**n


def test_the_map_of_boxes_claims_nothing_more():
    boxes = halved(np.array([[[-1.0, 1.0], [0.0, 2.0]]]), np.array([0]), np.zeros(2, bool))
    map_ = map_of(boxes, np.array([ROBUST, UNDECIDED], np.int8))
    assert map_.kind.tolist() == [ROBUST, UNDECIDED]
    assert map_.region.tolist() == [-1, -1]
    assert map_.volume.tolist() == [2.0, 2.0]
    assert not map_.conforming
    assert map_.rest == 0.0


@pytest.mark.parametrize(
    "box", [[[-2.0, 1.0]], [[0.0, 3.0]], [[-1.0, 2.0], [0.0, 0.5]], [[-1.0, 1.0], [-3.0, 1.0], [-0.5, 0.0]]]
)
def test_shells_about_0_make_up_the_box(box):
    box = np.array(box)
    parts = shells(box, 5)
    assert (parts[0] == box / 32).all()
    assert volumes_of(parts).sum() == pytest.approx(volumes_of(box[None])[0])
    assert (volumes_of(parts) > 0).all()
    assert (parts[:, :, 0] >= box[:, 0]).all()
    assert (parts[:, :, 1] <= box[:, 1]).all()
    gauge = gauges_of(parts, box)
    assert gauge[0] == 0
    assert (np.diff(gauge) >= 0).all()
    rng = np.random.default_rng(0)
    thetas = box[:, 0] + rng.random((200, len(box))) * np.ptp(box, axis=1)
    inside = (parts[:, None, :, 0] <= thetas) & (thetas <= parts[:, None, :, 1])
    assert (inside.all(axis=2).sum(axis=0) == 1).all()


def test_boxes_cut_at_0_make_up_the_box():
    box = np.array([[-0.2, 0.6], [0.0, 1.0], [-3.0, 0.5]])
    parts = parted_at_zero(box)
    assert len(parts) == 4
    assert volumes_of(parts).sum() == pytest.approx(volumes_of(box[None])[0])
    assert ((parts[..., 0] >= 0) | (parts[..., 1] <= 0)).all()
    assert not gauges_of(parts, box).any()


@pytest.mark.parametrize(("weights", "bends"), [((1.0, -1.0), False), ((2.0, -1.0), True)])
def test_units_that_stay_on_a_breakpoint_do_not_bend_there(weights, bends):
    """As those behind channels that are off everywhere: nothing is gained by a cut at 0."""
    first, last = nn.Linear(2, 1, bias=False), nn.Linear(1, 2)
    with torch.no_grad():
        first.weight[:], last.bias[:] = torch.tensor([weights]), torch.tensor([1.0, 0.0])
    image = np.array([[[0.25, 0.25 * weights[0]]]])
    problem = pose(
        load_network(nn.Sequential(nn.Flatten(), first, nn.ReLU(), last).double(), input_shape=(1, 1, 2)),
        image, chain_of("brightness(amount=-0.05..0.05)"), label=None, threshold=0.3, clip=(0.0, 1.0),
        saliency=NoMap(), inconsistency=Cosine(),
    )  # fmt: skip
    assert bends_at_zero(problem) is bends
