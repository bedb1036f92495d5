"""Convex polytopes as vertices and the facets that each vertex lies on.

The facets are kept as a table because the cutting kernels recognise edges by the facets that two vertices
share; no inequality is stored, so nothing has to be solved to know the shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np


@dataclass(frozen=True, eq=False)
class Polytope:
    """A convex polytope in R^k.

    ``vertices`` (V, k) float64, each once; ``facets`` (V, F) bool, true where vertex v lies on facet f.
    With k = 0 it is the single point of R^0: one vertex, no facets.
    """

    vertices: np.ndarray
    facets: np.ndarray

    @property
    def dimension(self) -> int:
        """k, the dimension of the space that the vertices live in."""
        return self.vertices.shape[1]

    @property
    def centre(self) -> np.ndarray:
        """The mean of the vertices (k,): a point inside."""
        return self.vertices.mean(axis=0)


def interval(low: float, high: float) -> Polytope:
    """[low, high]: facet 0 at the lower end, facet 1 at the upper end."""
    return Polytope(np.array([[low], [high]], dtype=np.float64), np.eye(2, dtype=bool))


def polygon(corners: np.ndarray) -> Polytope:
    """The convex polygon with these corners (V, 2) in order round it: facet i joins corner i to the next."""
    corners = np.asarray(corners, dtype=np.float64)
    identity = np.eye(len(corners), dtype=bool)
    return Polytope(corners, identity | np.roll(identity, 1, axis=0))


def triangle(first: np.ndarray, second: np.ndarray, third: np.ndarray) -> Polytope:
    """The triangle with these three corners, each (2,)."""
    return polygon(np.stack([first, second, third]))


def box(low: np.ndarray, high: np.ndarray) -> Polytope:
    """The box between the corners ``low`` and ``high``, each (k,); facets 2i and 2i + 1 bound axis i."""
    return product(*(interval(a, b) for a, b in zip(low, high, strict=True)))


def product(*factors: Polytope) -> Polytope:
    """The Cartesian product: coordinates and facets one after the other; of no factors, the point of R^0."""
    point = Polytope(np.zeros((1, 0)), np.zeros((1, 0), dtype=bool))
    return reduce(_pair, factors, point)


def _pair(first: Polytope, second: Polytope) -> Polytope:
    i, j = np.indices((len(first.vertices), len(second.vertices))).reshape(2, -1)
    return Polytope(
        np.hstack([first.vertices[i], second.vertices[j]]), np.hstack([first.facets[i], second.facets[j]])
    )
