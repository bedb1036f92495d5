"""Cells that lie on one another along a part of a facet, where their simplices have no face in common."""

from __future__ import annotations

import numpy as np

# In widths of the box: so near to a face a point lies on it; so high at least is a simplex above its face.
_ON, _HIGH = 1e-12, 1e-9
# Least coordinate, as a share of the face, of a point well inside of it; and least ratio of a face's extents.
_INSIDE, _SOLID = 1e-3, 1e-5
_AT_ONCE = 1 << 18
# With more faces than this it would take too long.
_MOST = 20_000


def touching(faces: np.ndarray, apex: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Pairs of owners ``(T, 2)`` of which a face of the one lies on a face of the other, from the other side.

    Shown by a point well inside both faces: within rounding, the two have all points around it in common. It
    is sought at the middle of each face and half-way to its corners, so that some pairs are missed.

    Args:
        faces: ``(L, n, n)`` corners in widths of the box. apex: ``(L, n)`` the simplex's other corner.
        owner: ``(L,)``.
    """
    if not 0 < len(faces) <= _MOST or faces.shape[2] == 1:
        return np.zeros((0, 2), int)
    edges = faces[:, 1:] - faces[:, :1]
    _, sizes, axes = np.linalg.svd(edges)
    normal = axes[:, -1] * np.sign(np.einsum("ln,ln->l", axes[:, -1], apex - faces[:, 0]))[:, None]
    high = np.einsum("ln,ln->l", normal, apex - faces[:, 0])
    fine = (sizes[:, -1] > _SOLID * sizes[:, 0]) & (high > _HIGH)
    faces, owner, normal, edges = faces[fine], owner[fine], normal[fine], edges[fine]
    middle = faces.mean(axis=1, keepdims=True)
    points = np.concatenate([middle, (middle + faces) / 2], axis=1)
    inverse, offset = np.linalg.pinv(edges), np.einsum("ln,ln->l", normal, middle[:, 0])
    low, top, found = faces.min(axis=1) - _ON, faces.max(axis=1) + _ON, [np.zeros((0, 2), int)]
    step = max(1, _AT_ONCE // max(1, len(faces)))
    for start in range(0, len(faces), step):
        some = np.arange(start, min(start + step, len(faces)))
        near = ((low[some, None] <= top) & (low <= top[some, None])).all(axis=2)
        near &= (owner[some, None] != owner) & (normal[some] @ normal.T < 0)
        one, two = np.nonzero(near & (np.abs(offset[some, None] + offset) <= 1e-6))
        one = some[one]
        away = points[one] - faces[two, 0][:, None]
        level = np.abs(np.einsum("kpn,kn->kp", away, normal[two])) <= _ON
        share = np.einsum("kpn,kne->kpe", away, inverse[two])
        inside = (share.min(axis=2) >= _INSIDE) & (share.sum(axis=2) <= 1 - _INSIDE)
        met = (level & inside).any(axis=1)
        found.append(np.stack([owner[one[met]], owner[two[met]]], axis=1))
    return np.unique(np.concatenate(found), axis=0)
