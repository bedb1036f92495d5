"""The planes that facets lie on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from steadygaze.geometry.cells import Cells, faces
from steadygaze.geometry.measure import centres


class Planes(NamedTuple):
    """Half-spaces ``normal . (theta / widths) <= offset``.

    Attributes:
        bit: ``(k,)`` the facet's label. normal: ``(k, n)`` outward, of length 1. offset: ``(k,)``.
    """

    bit: np.ndarray
    normal: np.ndarray
    offset: np.ndarray


def planes_of_facets(cells: Cells, cell: np.ndarray, bit: np.ndarray, widths: np.ndarray) -> Planes:
    """The planes of the given facets, fitted to their vertices, in the order given."""
    flat = faces(cells, cell, bit)
    corners, sizes = flat.theta[flat.idx] / widths, np.diff(flat.ptr)
    normal, middle = np.empty((len(cell), cells.dimension)), np.empty((len(cell), cells.dimension))
    for size in np.unique(sizes):
        rows = np.flatnonzero(sizes == size)
        points = corners[flat.ptr[rows][:, None] + np.arange(size)]
        middle[rows] = points.mean(axis=1)
        normal[rows] = np.linalg.svd(points - middle[rows][:, None], full_matrices=False)[2][:, -1]
    inside = centres(cells)[cell] / widths
    inward = np.einsum("kn,kn->k", normal, inside - middle) > 0
    normal[inward] *= -1
    return Planes(np.asarray(bit), normal, np.einsum("kn,kn->k", normal, middle))
