"""Where the sizes of terms are learnt."""

from __future__ import annotations

import numpy as np
import pytest

from steadygaze.verdict.terms import places_to_learn

RANGE = np.array([[0.0, 0.3]])
PLANE = np.array([[-0.2, 0.3], [0.0, 1.0]])


@pytest.mark.parametrize(("box", "effort", "count"), [(RANGE, 1, 5), (PLANE, 1, 8), (RANGE, 10**10, 2)])
def test_places_are_the_ends_of_the_box_and_some_inside_none_of_them_twice(box, effort, count):
    places = places_to_learn(box, effort)
    assert len(np.unique(places, axis=0)) == len(places)
    assert len(places) <= count
    assert not places[-1].any(), "the unperturbed image is the last"
    assert {tuple(corner) for corner in box.T} <= {tuple(place) for place in places}
    assert ((box[:, 0] <= places) & (places <= box[:, 1])).all()
