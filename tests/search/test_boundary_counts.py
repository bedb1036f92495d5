"""gbs visits regions as the boundary has them, not as the inside: public networks, and the map beside."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from public_networks import problem
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
