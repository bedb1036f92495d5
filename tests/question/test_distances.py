"""The region that the unperturbed image lies in has its map, and is not asked for another one."""

from __future__ import annotations

import numpy as np
import pytest

import steadygaze as sg
from steadygaze.question import distances
from steadygaze.question.distances import distances_on
from variants import network, picture


def problem_of(name, threshold=0.1, clip=(0.0, 1.0)):
    image = picture(3 if name.startswith("colour") else 1)
    spec = "brightness(amount=-0.3..0.3)"
    return sg.verify(
        network(name), image, spec, threshold=threshold, clip=clip, regions_limit=1, threads=1
    ).problem


@pytest.mark.parametrize("clip", [None, (0.0, 1.0)], ids=["no clip", "clip"])
@pytest.mark.parametrize("threshold", [0.1, 0.0], ids=["some", "none"])
@pytest.mark.parametrize("name", ["max pool", "residual", "leaky", "two classes"])
def test_it_says_of_every_region_what_a_pass_back_says(name, threshold, clip, monkeypatch):
    problem = problem_of(name, threshold, clip)
    thetas = np.linspace(-0.3, 0.3, 41)[:, None]
    images = problem.unclipped(thetas)
    regions = [problem.graph.pieces_at(image[None], problem.known.tolerances) for image in images]
    found = [distances_on(problem, pieces, 1) for pieces in regions]
    unmoved = [distances._is_unmoved(problem, pieces) for pieces in regions]
    assert unmoved[20]
    assert not all(unmoved)
    monkeypatch.setattr(distances, "_is_unmoved", lambda *_: False)
    for pieces, (distance, ruled) in zip(regions, found, strict=True):
        plain, plainly_ruled = distances_on(problem, pieces, 1)
        assert distance == pytest.approx(plain, abs=1e-12)
        assert ruled == plainly_ruled


def test_no_pass_goes_back_for_it(monkeypatch):
    problem = problem_of("mlp")
    pieces = problem.graph.pieces_at(problem.unclipped(np.zeros((1, 1))), problem.known.tolerances)
    monkeypatch.setattr(type(problem.graph), "pull_back", lambda *_, **__: pytest.fail("a pass back"))
    distance, ruled = distances_on(problem, pieces, 1)
    assert distance == 0.0
    assert not ruled


def test_another_piece_of_one_unit_is_another_region():
    problem = problem_of("mlp")
    pieces = problem.graph.pieces_at(problem.unclipped(np.zeros((1, 1))), problem.known.tolerances)
    for node, own in pieces.items():
        changed = own.clone()
        changed[0, 0] += 1
        behind = node > problem.pixels
        assert distances._is_unmoved(problem, {**pieces, node: changed}) == (not behind)
