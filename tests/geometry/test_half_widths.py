"""Distances from 0 in half-widths, by hand."""

from __future__ import annotations

import numpy as np

from steadygaze.geometry.half_widths import distances, half_widths


def test_distances_by_hand():
    half = half_widths(np.array([[-1.0, 3.0], [0.0, 1.0]]))
    np.testing.assert_array_equal(half, [2.0, 0.5])
    thetas = np.array([[-1.0, 0.25], [3.0, 1.0]])
    np.testing.assert_allclose(distances(thetas, half, "linf"), [0.5, 2.0])
    np.testing.assert_allclose(distances(thetas, half, "l2"), [np.sqrt(0.5), 2.5])
