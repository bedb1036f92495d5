"""gbs visits regions as the boundary has them, not as the inside: public networks, and the map beside."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
import torch
from torch import nn

from public_networks import problem
from steadygaze import Direction, verify
from steadygaze.geometry.kinds import ROBUST
from steadygaze.search.base import Options
from steadygaze.search.boundary import Boundary
from steadygaze.verdict.reading import around_origin
from variants import searched, swept

# Questions whose R0 holds so many regions, and the share of them that gbs may visit at most.
MANY, FIFTH = 5000, 1 / 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("box", "net", "number"),
    [
        ("W2", "small conv", 0),
        ("W2", "small conv", 3),
        ("W2", "max pool", 1),
        ("W2", "cifar_base_kw", 4),
        ("small", "resnet_2b", 0),
        ("W7", "256x4", 2),
    ],
)
def test_at_most_a_fifth_of_the_regions(shared, box, net, number):
    posed = problem(shared, net, box, number)
    whole = swept(posed, threads=2)
    wanted = around_origin(whole, posed.box, posed.tolerance)
    inside = len(np.unique(whole.region[wanted.cells]))
    assert (whole.kind[wanted.cells] == ROBUST).all()
    search = searched(Boundary(posed, Options()))
    found, visited = search.enclosed(), search.standing().regions
    assert found is not None
    assert wanted.origin is not None
    assert np.allclose(found.ranges, wanted.origin.ranges, atol=1e-8)
    hollow = sum(shapely.Polygon(ring).area for ring in wanted.origin.holes or ()) / posed.volume
    if len(posed.box) == 2:
        mine, theirs = shapely.Polygon(found.outline), shapely.Polygon(wanted.origin.outer_boundary)
        assert mine.symmetric_difference(theirs).area <= 1e-8 * posed.volume
        assert found.share == pytest.approx(wanted.origin.share + hollow, abs=1e-8)
    assert found.share >= wanted.origin.share - 1e-8
    assert inside >= MANY
    # In the plane also of what bfs visits within R0; in four dimensions most of R0 touches its boundary.
    assert visited <= FIFTH * (inside if len(posed.box) == 2 else len(whole.pattern))


def test_a_box_as_narrow_as_rounding_has_an_answer_without_an_outline_at_worst():
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 1)
    ).double()
    weights = (
        [[1.0, 2.0], [2.0, 0.0]],
        [[-4.0, 4.0], [0.0, 2.0], [0.0, -2.0], [4.0, -2.0], [-4.0, -4.0]],
        [[-1.0, 1.0, -1.0, 1.0, 2.0]],
    )
    biases = ([-1.0, -1.0], [2.0, 0.0, -1.0, 0.0, -1.0], [0.0])
    with torch.no_grad():
        for layer, weight, bias in zip(net[1::2], weights, biases, strict=True):
            layer.weight[:], layer.bias[:] = torch.tensor(weight), torch.tensor(bias)
    narrow = Direction(-1e-9, 1e-9, array=np.array([[[1.0, 0.0]]]))
    chain = narrow | Direction(0.0, 0.5, array=np.array([[[-1.0, -2.0]]]))
    image = np.array([[[0.5625, 0.375]]])
    answer = verify(net, image, chain, saliency="abs-gradient", method="gbs", threads=1)
    assert answer.verdict == "violated"
    assert answer.shares.robust == pytest.approx(0.125)
    assert not answer.result.origin.outer_boundary
