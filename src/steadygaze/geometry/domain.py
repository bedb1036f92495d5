"""A polytope as what its points satisfy: bounds of each coordinate, and half-spaces with slanted borders."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from steadygaze.geometry.cells import from_polytopes
from steadygaze.geometry.measure import facets
from steadygaze.geometry.planes import planes_of_facets
from steadygaze.geometry.polytope import Polytope

# Entries of a plane's normal that are no more than rounding.
_NOTHING = 1e-12


@dataclass(frozen=True)
class Domain:
    """Where theta may lie: ``low <= theta <= high`` and ``normals @ theta <= offsets``.

    Attributes:
        low, high: ``(n,)``. normals: ``(k, n)``. offsets: ``(k,)``.
    """

    low: np.ndarray
    high: np.ndarray
    normals: np.ndarray
    offsets: np.ndarray


def domain_of(polytope: Polytope) -> Domain:
    """The domain that a polytope is; the planes of facets along an axis are its bounds already."""
    cells = from_polytopes((polytope,))
    found = facets(cells)
    widths = np.ptp(polytope.vertices, axis=0)
    planes = planes_of_facets(cells, found.cell, found.bit, widths)
    slanted = (np.abs(planes.normal) > _NOTHING).sum(axis=1) > 1
    return Domain(
        polytope.vertices.min(axis=0),
        polytope.vertices.max(axis=0),
        planes.normal[slanted] / widths,
        planes.offset[slanted],
    )
