"""The atlas of an answer: cells lie where those of the map do, and stops tell what the network says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pointed import answer
from steadygaze.answer.atlas import HalfSpaces, Stretches
from steadygaze.geometry.measure import centres
from steadygaze.verdict import surveying


def inside(spaces: HalfSpaces, u: np.ndarray) -> list[int]:
    """The polytopes that hold one place."""
    found = []
    for cell in range(len(spaces.ptr) - 1):
        facet = spaces.facet[spaces.ptr[cell] : spaces.ptr[cell + 1]]
        slack = spaces.offset[np.abs(facet) - 1] - spaces.normal[np.abs(facet) - 1] @ u
        if (np.sign(facet) * slack >= -1e-9).all():
            found.append(cell)
    return found


def test_half_spaces_hold_the_middles_of_their_own_cells_alone():
    own = answer("space")
    ground = own._atlas().ground
    assert isinstance(ground, HalfSpaces)
    box = own.problem.box
    middles = (centres(own.map.cells) - box[:, 0]) / (box[:, 1] - box[:, 0])
    for cell in range(0, own.map.cells.count, 7):
        assert inside(ground, middles[cell]) == [cell]
        assert (ground.low[cell] <= middles[cell]).all()
        assert (middles[cell] <= ground.high[cell]).all()
    # A plane that many facets lie on is kept once.
    assert len(ground.normal) < len(ground.facet) / 2


def test_stretches_cover_the_axis():
    ground = answer("line")._atlas().ground
    assert isinstance(ground, Stretches)
    ends = ground.ends[np.argsort(ground.ends[:, 0])]
    assert ends[0, 0] == 0
    assert ends[-1, 1] == 1
    assert np.allclose(ends[1:, 0], ends[:-1, 1])


@pytest.mark.parametrize("case", ["plane", "space"])
def test_stops_are_the_exhibits_and_then_one_of_each_region(case):
    own = answer(case)
    stops, exhibits = own._atlas().stops, own.drawing().exhibits
    assert np.allclose(stops.theta[: len(exhibits)], [exhibit.theta for exhibit in exhibits])
    assert (stops.region[: len(exhibits)] == -1).all()
    rest = stops.region[len(exhibits) :]
    assert len(np.unique(rest)) == len(rest)
    assert len(rest) == len(own.map.pattern)


def test_logits_are_affine_from_the_stop_over_its_region():
    own = answer("moved")
    atlas = own._atlas()
    assert atlas.same_scores
    stops, cells = atlas.stops, own.map.cells
    graph = own.problem.graph
    checked = 0
    for stop in np.flatnonzero(stops.region >= 0)[::17]:
        (mine, *_) = np.flatnonzero((own.map.region == stops.region[stop]) & (own.map.volume > 0))
        corners = cells.theta[cells.idx[cells.ptr[mine] : cells.ptr[mine + 1]]]
        told = stops.logits[stop] + (corners - stops.theta[stop]) @ stops.slopes[stop]
        assert np.allclose(told, graph.forward(own.problem.unclipped(corners)).numpy(), atol=1e-7)
        checked += 1
    assert checked > 10


def test_looking_ends_in_time_and_tells_the_first_ones(monkeypatch):
    whole = answer("space")._atlas().stops
    monkeypatch.setattr(surveying, "_SECONDS", 0.0)
    some = answer("space")._atlas().stops
    assert 0 < len(some.theta) < len(whole.theta)
    assert (some.theta == whole.theta[: len(some.theta)]).all()


def test_where_no_region_is_known_a_grid_is_looked_at_coarse_points_first():
    own = answer("boxes")
    stops = own._atlas().stops
    assert (stops.region == -1).all()
    first = stops.theta[len(own.drawing().exhibits) :][:4]
    box = own.problem.box
    assert {tuple(theta) for theta in first.tolist()} == {
        (x, y) for x in box[0].tolist() for y in box[1].tolist()
    }


def test_an_answer_by_distance_alone_has_one_cell():
    own = answer("many")
    atlas, scale = own._atlas(), own.result.safe_scale
    assert isinstance(atlas.ground, HalfSpaces)
    assert len(atlas.cells.kind) == 1
    low, high = own.problem.box.T
    for share, expected in ((0.99 * scale, [0]), (min(1.0, 1.01 * scale), [] if scale < 1 else [0])):
        assert inside(atlas.ground, (share * high - low) / (high - low)) == expected


def test_a_class_has_the_name_that_the_data_set_gives_it():
    own = answer("plane")
    assert own._atlas().classes == tuple("0123456789")
    asked = own.result.problem
    image = replace(asked.image, dataset_label=3, dataset_class="three <b>")
    named = replace(own, result=replace(own.result, problem=replace(asked, image=image)))
    assert named._atlas().classes == (*"012", "three <b>", *"456789")


def test_of_a_large_network_points_are_looked_at_one_by_one_as_long_as_there_is_time(monkeypatch):
    """The exhibits in any case."""
    own, looked = answer("plane"), []
    look = surveying._Survey._look

    def noted(self, theta, *more):
        looked.append(len(theta))
        return look(self, theta, *more)

    monkeypatch.setattr(surveying._Survey, "_look", noted)
    monkeypatch.setattr(surveying, "_SECONDS", -1.0)
    monkeypatch.setitem(vars(own.problem.graph), "effort", 10**10)
    stops = own._atlas().stops
    assert looked == [1] * len(own.drawing().exhibits)
    assert len(stops.theta) == len(looked) > 1
