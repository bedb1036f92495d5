"""Polytopes: the table of facets says the truth about the vertices."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from steadygaze.geometry.polytope import Polytope, box, interval, polygon, product, triangle

CORNERS = np.array([[0.0, 0.0], [2.0, 0.5], [1.0, 3.0]])
PENTAGON = np.array([[0.0, 0.0], [2.0, 0.0], [3.0, 1.0], [1.0, 3.0], [-1.0, 1.0]])
SHAPES = {
    "interval": (interval(-1, 2), 3.0),
    "triangle": (triangle(*CORNERS), 2.75),
    "pentagon": (polygon(PENTAGON), 7.0),
    "rectangle": (box(np.array([-1, 0]), np.array([2, 0.5])), 1.5),
    "box 4": (box(np.zeros(4), np.array([1, 2, 3, 4])), 24.0),
    "prism": (product(triangle(*CORNERS), interval(0, 2)), 5.5),
    "two triangles": (product(triangle(*CORNERS), triangle(*CORNERS)), 2.75**2),
}


@pytest.mark.parametrize("name", SHAPES)
def test_each_facet_is_a_face_of_the_convex_hull(name):
    shape: Polytope = SHAPES[name][0]
    k = shape.dimension
    for facet in shape.facets.T:
        on, off = shape.vertices[facet], shape.vertices[~facet]
        assert np.linalg.matrix_rank(on - on[0]) == k - 1
        _, _, axes = np.linalg.svd(on - on[0], full_matrices=True)
        heights = (off - on[0]) @ axes[-1]
        assert np.abs(heights).min() > 1e-9
        assert len(set(np.sign(heights))) == 1


@pytest.mark.parametrize("name", SHAPES)
def test_each_vertex_lies_on_as_many_facets_as_dimensions(name):
    shape = SHAPES[name][0]
    assert (shape.facets.sum(axis=1) == shape.dimension).all()
    assert len(np.unique(shape.facets, axis=0)) == len(shape.vertices)


@pytest.mark.parametrize("name", SHAPES)
def test_it_encloses_what_it_should(name):
    shape, volume = SHAPES[name]
    measured = np.ptp(shape.vertices) if shape.dimension == 1 else ConvexHull(shape.vertices).volume
    assert measured == pytest.approx(volume)


def test_no_factors_give_the_point():
    for point in (product(), box(np.zeros(0), np.zeros(0))):
        assert point.vertices.shape == (1, 0)
        assert point.facets.shape == (1, 0)


def test_a_product_keeps_the_order_of_coordinates():
    both = product(interval(0, 1), box(np.array([2, 4]), np.array([3, 5])))
    assert both.vertices.min(axis=0).tolist() == [0, 2, 4]
    assert both.vertices.max(axis=0).tolist() == [1, 3, 5]
    assert both.facets.shape == (8, 6)
