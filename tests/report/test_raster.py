"""Each pixel belongs to the polygon under its centre, against point-in-polygon tests of another library."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import Polygon, contains_xy

import answers
from steadygaze.report.raster import UNCOVERED, owners

EXTENT = (-0.3, 0.3, 0.0, 1.0)


def centres(columns: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    left, right, bottom, top = EXTENT
    x = left + (np.arange(columns) + 0.5) / columns * (right - left)
    y = bottom + (np.arange(rows) + 0.5) / rows * (top - bottom)
    return np.meshgrid(x, y)


def test_a_map_is_painted_without_holes_and_each_pixel_by_its_own_cell():
    cells = answers.polygons(side=12)
    image = owners(cells.points, cells.offsets, EXTENT, (90, 70))
    assert image.shape == (70, 90)
    assert (image != UNCOVERED).all()
    x, y = centres(90, 70)
    for m in np.unique(image):
        inside = image == m
        shape = Polygon(cells.points[cells.offsets[m] : cells.offsets[m + 1]]).buffer(1e-12)
        assert contains_xy(shape, x[inside], y[inside]).all()


@settings(max_examples=30)
@given(st.integers(3, 9), st.integers(0, 10**6), st.booleans())
def test_one_polygon_of_any_shape(corners, seed, clockwise):
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))[:: -1 if clockwise else 1]
    radius = rng.uniform(0.1, 0.6, corners)  # star-shaped, often not convex, partly outside
    points = np.stack([0.3 * radius * np.cos(angles), 0.5 + radius * np.sin(angles)], axis=1)
    image = owners(points, np.array([0, corners]), EXTENT, (40, 30))
    x, y = centres(40, 30)
    shape = Polygon(points)
    if not shape.is_valid:
        return
    clear = ~contains_xy(shape.boundary.buffer(1e-9), x, y)
    assert ((image == 0) == contains_xy(shape, x, y))[clear].all()


@pytest.mark.parametrize(
    "points", [np.zeros((0, 2)), np.array([[0.0, 0.5]] * 3), np.array([[5.0, 5], [6, 5], [5, 6]])]
)
def test_nothing_degenerate_and_nothing_outside_is_painted(points):
    image = owners(points, np.array([0, len(points)]), EXTENT, (8, 8))
    assert (image == UNCOVERED).all()
