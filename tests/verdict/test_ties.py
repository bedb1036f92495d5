"""Where classes tie nothing is robust and nothing fails: one meaning in every engine, replay and check."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import steadygaze as sg
from steadygaze.answer.result import Origin, Verdict
from steadygaze.geometry.cells import Cells
from steadygaze.geometry.kinds import UNDECIDED
from steadygaze.search.boxes import cells_of
from steadygaze.search.falsifying import Falsifier
from steadygaze.verdict.reading import Around, ends_around_zero
from steadygaze.verdict.touching import drawn_in
from steadygaze.verdict.witness import find_witness

IMAGE = np.full((1, 1, 2), 0.5)
# Both pixels by up to 0.4 either way; the first alone.
FIRST, SECOND = (sg.Direction(-0.4, 0.4, array=row.reshape(1, 1, 2)) for row in np.eye(2))
CHAINS = {1: FIRST, 2: FIRST | SECOND}
ENGINES = ["sweep", "bfs", "gbs", "nearest", "bound", "auto"]
PLANE = [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]


def network(weight, bias, last, last_bias=(0.0, 0.0), rectified=False) -> nn.Module:
    """Two classes of two pixels, by one layer of ReLU; with another one behind the logits if asked."""
    layers = [nn.Flatten(), nn.Linear(2, len(weight)), nn.ReLU(), nn.Linear(len(weight), 2)]
    made = nn.Sequential(*layers, *([nn.ReLU()] if rectified else [])).double()
    with torch.no_grad():
        for layer, values in ((made[1], (weight, bias)), (made[3], (last, last_bias))):
            layer.weight.copy_(torch.tensor(values[0]))
            layer.bias.copy_(torch.tensor(values[1]))
    return made


# The gap is the distance from a place; or it is 0 from a place on, the ReLU in front of it being dead.
TOUCHING = network([[1.0, 0.0], [-1.0, 0.0]], [-0.75, 0.75], [[1.0, 1.0], [0.0, 0.0]])
TOUCHING_AT_0 = network([[1.0, 0.0], [-1.0, 0.0]], [-0.5, 0.5], [[1.0, 1.0], [0.0, 0.0]])
AT_A_POINT = network(PLANE, [-0.75, 0.75, -0.5, 0.5], [[1.0] * 4, [0.0] * 4])
AT_0 = network(PLANE, [-0.5, 0.5, -0.5, 0.5], [[1.0] * 4, [0.0] * 4])
DEAD_BEYOND = network([[-1.0, 0.0]], [0.625], [[1.0], [0.0]])
DEAD = network([[-1.0, 0.0]], [-3.0], [[1.0], [0.0]])
BOTH_CUT_OFF = network([[-1.0, 0.0]], [0.9], [[1.0], [0.5]], (-0.2, -0.3), rectified=True)
# The share that is robust as cells tell it, the safe scale, R0's share, and the range of the first amount.
WANTED = {
    "touching": (TOUCHING, 1.0, 0.625, None, (-0.4, 0.25)),
    "touching at 0": (TOUCHING_AT_0, 1.0, 0.0, 0.0, (0.0, 0.0)),
    "touching at a point": (AT_A_POINT, 1.0, 0.625, 1.0, (-0.4, 0.25)),
    "touching at 0 alone": (AT_0, 1.0, 0.0, 0.0, (0.0, 0.0)),
    "dead beyond": (DEAD_BEYOND, 0.65625, 0.3125, 0.65625, (-0.4, 0.125)),
    "dead": (DEAD, 0.0, 0.0, 0.0, (0.0, 0.0)),
    "both cut off": (BOTH_CUT_OFF, 0.75, 0.5, 0.75, (-0.4, 0.2)),
}


@pytest.mark.parametrize("method", ENGINES)
@pytest.mark.parametrize("name", WANTED)
def test_every_engine_ends_what_is_robust_at_ties(name, method):
    model, robust, scale, share, ends = WANTED[name]
    asked = {"prove_interior": True} if method == "gbs" else {}
    answer = sg.verify(model, IMAGE, CHAINS[2], method=method, claim="class", threads=1, **asked)
    result = answer.result
    assert (result.verdict, result.nearest_failure) == (Verdict.UNKNOWN, None)
    assert result.shares.class_changed == 0
    assert result.shares.robust == pytest.approx(robust, abs=1e-6)
    assert result.safe_scale == pytest.approx(scale, abs=1e-6)
    assert result.safe_scale <= scale
    assert result.origin.share == (None if share is None else pytest.approx(share, abs=1e-6))
    assert result.origin.ranges[0] == pytest.approx(ends, abs=1e-6)
    assert result.origin.ranges[1] == ((0.0, 0.0) if scale == 0 else (-0.4, 0.4))
    if method == "nearest":
        assert result.radius.value == pytest.approx(scale, abs=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["touching", "touching at 0"])
def test_many_parameters_know_ties_too(name, norm):
    more = [sg.Direction(-0.01, 0.01, array=np.array([[[0.0, 1.0]]])) for _ in range(6)]
    chain = CHAINS[2] | more[0] | more[1] | more[2] | more[3] | more[4] | more[5]
    model, _, scale, _, _ = WANTED[name]
    asked = {"method": "nearest", "norm": norm, "claim": "class", "threads": 1}
    result = sg.verify(model, IMAGE, chain, **asked).result
    assert (result.verdict, result.nearest_failure) == (Verdict.UNKNOWN, None)
    assert result.safe_scale == pytest.approx(scale, abs=1e-9)
    assert result.radius.value == pytest.approx(scale, abs=1e-9)


def test_a_class_that_is_lost_behind_a_tie_is_told():
    """A tie is not the end: what fails farther out is found, and replays by a margin."""
    model = network([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]], [-0.75, 0.75, -0.8], [[1.0, 1.0, -4.0], [0.0] * 3])
    for method in ENGINES:
        result = sg.verify(model, IMAGE, FIRST, method=method, claim="class", threads=1).result
        assert result.verdict == Verdict.VIOLATED, method
        assert result.nearest_failure.class_gap < 0
        assert result.nearest_failure.distance == pytest.approx(1 / 1.2, abs=0.1)
        assert result.safe_scale is None or result.safe_scale <= 0.625


def test_points_at_which_classes_tie_are_undecided():
    answer = sg.verify(DEAD_BEYOND, IMAGE, FIRST, claim="class", threads=1)
    assert [answer.at([x]).kind for x in (0.1, 0.125, 0.3)] == ["robust", "undecided", "undecided"]
    points = answer.problem.at(np.array([[0.1], [0.3]]))
    assert points.kind.tolist() == [0, UNDECIDED]
    assert not points.failing.any()
    assert not answer.problem.lost(np.array([[0.3]])).any()


def test_one_tie_in_a_border_of_the_class_parts_nothing():
    """The class boundary runs along a side of one region, and from its corner on through the next."""
    weight, bias = [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], [-0.625, -0.625, -0.75]
    model = network(weight, bias, [[-1.0] * 3, [0.0] * 3], (0.125, 0.0))
    answer = sg.verify(model, IMAGE, CHAINS[2], claim="class", method="sweep", threads=1)
    whole = answer.result
    assert whole.origin.share == pytest.approx(whole.shares.robust)
    assert whole.origin.outer_boundary
    assert np.diff(answer.map.ties.ptr).tolist() == [2]  # the side, and not the border through the next


def test_a_tie_is_no_failure_to_keep_and_no_witness():
    answer = sg.verify(DEAD_BEYOND, IMAGE, FIRST, claim="class", threads=1)
    falsifier = Falsifier(answer.problem)
    falsifier.search()
    assert falsifier.least_gauge == np.inf
    told = replace(answer.map, failing=np.array([[0.3], [0.1]]))
    assert find_witness(answer.problem, told) is None


def walls(*boxes: tuple[tuple[float, float], tuple[float, float]]) -> Cells:
    return cells_of(np.array(boxes, float))


BOX = np.array([[-1.0, 1.0], [-1.0, 1.0]])


def known() -> Around:
    return Around(np.arange(3), Origin(0.9, ((-1.0, 1.0), (-1.0, 1.0)), None, (), "examined"))


def test_a_tie_beside_the_axes_takes_nothing_off_the_ranges():
    found = drawn_in(known(), walls(((0.5, 0.5), (0.5, 0.6))), BOX)
    assert found.origin == known().origin
    assert found.cells.tolist() == [0, 1, 2]


def test_a_wall_that_both_sides_tell_leaves_the_share_open():
    wall = ((0.5, 0.5), (-1.0, 1.0))
    found = drawn_in(known(), walls(wall, wall), BOX).origin
    assert (found.share, found.complete, found.ranges[0]) == (None, False, (-1.0, 0.5))
    # One that a single side tells ends there; two that follow one another are no two sides.
    assert drawn_in(known(), walls(wall), BOX).origin.share == 0.9
    apart = (((0.5, 0.5), (-1.0, 0.1)), ((0.5, 0.5), (0.1, 1.0)))
    assert drawn_in(known(), walls(*apart), BOX).origin.share == 0.9


@pytest.mark.parametrize("offset", [0.0, 1e-17, -1e-17])
def test_a_tie_at_0_leaves_nothing(offset):
    found = drawn_in(known(), walls(((offset, offset), (-0.1, 0.1))), BOX)
    assert found.origin.ranges == ((0.0, 0.0), (0.0, 0.0))
    assert (found.origin.share, found.origin.complete, len(found.cells)) == (0.0, False, 0)


def test_an_end_within_rounding_of_0_is_0():
    """A blocked cell at 0 whose corner rounding has moved."""
    assert ends_around_zero(np.array([[2.8e-17, 0.3], [-0.5, -2.4e-15]]), -1.0, 1.0) == (0.0, 0.0)
    assert ends_around_zero(np.array([[1e-9, 0.3]]), -1.0, 1.0) == (-1.0, 1e-9)


@pytest.mark.parametrize("method", ["sweep", "bfs", "gbs", "nearest", "bound"])
def test_an_expected_map_that_leaves_the_image_just_at_the_end_of_a_range(method):
    """All attention is on the left column: moved by a whole pixel there is none to compare with."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 2)).double()
    with torch.no_grad():
        net[1].weight[:] = torch.tensor([[1.0, 0.0, 0.0, 2.0, 0.0, 0.0], [0.0] * 6])
        net[1].bias[:] = torch.tensor([1.0, 0.0])
    image = np.full((1, 2, 3), 0.5)
    answer = sg.verify(net, image, sg.Translate(dx=(-1.0, 0.0)), method=method, threads=1)
    assert answer.at([-1.0]).kind == "attention-changed"
    assert answer.verdict == "unknown"
    assert 1 - 1e-9 < answer.safe_scale < 1
    assert -1 < answer.result.origin.ranges[0][0] < -1 + 1e-9
    allowed = sg.verify(net, image, sg.Translate(dx=(-1.0, 0.0)), method=method, threshold=2.0, threads=1)
    assert allowed.verdict == "robust"
    assert allowed.safe_scale == 1


def test_a_tie_in_the_border_of_the_box_is_not_in_the_safe_part():
    net = nn.Sequential(nn.Flatten(), nn.Linear(1, 2)).double()
    with torch.no_grad():
        net[1].weight[:], net[1].bias[:] = torch.tensor([[-1.0], [0.0]]), torch.tensor([0.75, 0.0])
    answer = sg.verify(net, np.full((1, 1, 1), 0.5), sg.Brightness(0.0, 0.25), method="sweep", threads=1)
    assert answer.verdict == "unknown"
    assert 1 - 1e-9 < answer.safe_scale < 1
    assert answer.result.origin.ranges[0][1] < 0.25
