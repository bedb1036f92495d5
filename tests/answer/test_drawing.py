"""Arrays that do not fit together are refused before anything is drawn."""

from __future__ import annotations

import numpy as np
import pytest

from steadygaze.answer.drawing import Interval1D, Polygons
from steadygaze.errors import InternalCheckError


def test_cells_of_an_axis_fit_together():
    pairs = np.zeros((3, 2))
    Interval1D(pairs, np.zeros(3, np.int8), pairs, pairs)
    with pytest.raises(InternalCheckError, match=r"\(3, 2\)"):
        Interval1D(pairs, np.zeros(3, np.int8), pairs[:2], pairs)


@pytest.mark.parametrize(
    ("offsets", "words"), [([0, 3], "3 offsets"), ([0, 3, 7], "do not span"), ([1, 3, 6], "do not span")]
)
def test_polygons_fit_together(offsets, words):
    with pytest.raises(InternalCheckError, match=words):
        Polygons((0, 1), np.zeros((6, 2)), np.array(offsets), np.zeros(2, np.int8), np.zeros(2))
