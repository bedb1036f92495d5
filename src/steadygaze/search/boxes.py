"""Boxes of parameters as arrays: how they are halved and cut about 0, and written down as cells."""

from __future__ import annotations

from itertools import product

import numpy as np

from steadygaze.geometry.cells import Cells, names_of_points
from steadygaze.geometry.sections import gauge
from steadygaze.network.pieces import PiecewiseLinear
from steadygaze.question.problem import Problem
from steadygaze.search.base import CellMap

#: Of networks of more effort (see `Graph.effort`) a box, or a region, takes seconds.
SLOW = 2 * 10**7
#: Of networks of more effort the regions of a box, where exact engines take them apart, take longer than more
#: than forms does for it.
DEAR = 3 * 10**6
#: Of networks of less effort a box takes milliseconds, most of which many at once share.
CHEAP = 3 * 10**5
# This share of the box is a little beside 0.
_BESIDE = 2.0**-16


def halved(boxes: np.ndarray, axis: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Both halves of each box, ``(2 B, n, 2)``, along its axis: the lower ones first.

    Along axes that are ``whole`` ``(n,)`` they are cut at the whole number nearest to their middle instead,
    if there is one inside.
    """
    rows = np.arange(len(boxes))
    middle = boxes[rows, axis].mean(axis=1)
    near = np.rint(middle)
    inside = whole[axis] & (boxes[rows, axis, 0] < near) & (near < boxes[rows, axis, 1])
    middle = np.where(inside, near, middle)
    lower, upper = boxes.copy(), boxes.copy()
    lower[rows, axis, 1], upper[rows, axis, 0] = middle, middle
    return np.concatenate([lower, upper])


def shells(box: np.ndarray, halvings: int) -> np.ndarray:
    """A box ``(n, 2)`` that holds 0, cut into one about 0 and what lies around it: ``(parts, n, 2)``.

    The one about 0, which comes first, is as many times half as large as halvings are asked for; each of the
    larger ones, from the inside on, is what it adds to the one before, by parts along each axis.
    """
    parts = [box[None] * 0.5**halvings]
    for power in range(halvings, 0, -1):
        parts.append(framed(box * 0.5 ** (power - 1), 0.5)[1:])
    return np.concatenate(parts)


def framed(box: np.ndarray, share: float) -> np.ndarray:
    """That share of a box ``(n, 2)`` that holds 0, about 0, and what lies around it: ``(parts, n, 2)``."""
    inner, left = box * share, box.copy()
    parts = [inner]
    for axis in range(len(box)):
        for side in (0, 1):
            part = left.copy()
            part[axis] = sorted((inner[axis, side], left[axis, side]))
            if part[axis, 0] < part[axis, 1]:
                parts.append(part)
        left[axis] = inner[axis]
    return np.array(parts)


def parted_at_zero(box: np.ndarray, axes: np.ndarray | bool = True) -> np.ndarray:
    """A box ``(n, 2)`` cut at 0 along those of its axes ``(n,)`` that have 0 inside: ``(parts, n, 2)``."""
    inside = (box[:, 0] < 0) & (box[:, 1] > 0) & axes
    ends = [
        [(low, 0.0), (0.0, high)] if cut else [(low, high)]
        for (low, high), cut in zip(box, inside, strict=True)
    ]
    return np.array(list(product(*ends)))


def axes_bent_at_zero(problem: Problem, images: bool = True) -> np.ndarray:
    """``(n,)`` bool: along which axes a box is cut at 0: all where units bend, else those images bend along.

    images: as of `bends_at_zero`.
    """
    units, own = bends_at_zero(problem, images, moved=False), np.array(problem.perturbation.bends, bool)
    return np.full(len(own), units) | (own & images)


def bends_at_zero(problem: Problem, images: bool = True, moved: bool = True) -> bool:
    """Whether a unit is exactly on a breakpoint at 0, or, if images count, those bend there, or are clipped.

    As units over a blank background are: no box with 0 inside is small enough to keep them on one piece.
    Units that are as much on it a little beside 0, as those that nothing comes to, do not bend. moved:
    whether what moves content counts, which bends all pixels.
    """
    if images and moved and any(problem.perturbation.bends):
        return True
    graph = problem.graph
    nodes = [node for node in graph.nodes if images or node.inputs != (0,)]
    bent = [(node.inputs[0], node.layer) for node in nodes if isinstance(node.layer, PiecewiseLinear)]
    thetas = np.concatenate([np.zeros((1, len(problem.box))), _BESIDE * problem.box.T])
    values = graph.values_at(problem.unclipped(thetas), [source for source, _ in bent])
    for source, layer in bent:
        level = (values[source].flatten(1)[..., None] == layer.breakpoints).any(dim=2)
        if bool((level[0] & ~level[1:].all(dim=0)).any()):
            return True
    return False


def volumes_of(boxes: np.ndarray) -> np.ndarray:
    """``(B,)``."""
    return np.prod(boxes[..., 1] - boxes[..., 0], axis=1)


def shares_of(boxes: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """``(..., n)`` the edges of boxes ``(..., n, 2)``, as shares of those of the whole box ``(n, 2)``."""
    return (boxes[..., 1] - boxes[..., 0]) / np.ptp(whole, axis=1)


def gauges_of(boxes: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """The least s such that s times the whole box ``(n, 2)`` meets each box, ``(B,)``; 0 if 0 is inside."""
    return gauge(np.clip(0.0, boxes[..., 0], boxes[..., 1]), -whole[:, 0], whole[:, 1])


def cells_of(boxes: np.ndarray) -> Cells:
    """The boxes as cells: facets 2 i and 2 i + 1 bound axis i from below and from above."""
    count, n = boxes.shape[:2]
    ends = np.array(list(product((0, 1), repeat=n)))
    corners = (
        np.where(ends, boxes[:, None, :, 1], boxes[:, None, :, 0]).reshape(-1, n) + 0.0
    )  # + 0.0 turns -0.0 into 0.0
    mask = (np.uint64(1) << (2 * np.arange(n) + ends).astype(np.uint64)).sum(axis=1, dtype=np.uint64)
    size = len(ends)
    return Cells(
        theta=corners,
        names=names_of_points(corners),
        ptr=np.arange(count + 1) * size,
        idx=np.arange(count * size),
        mask=np.tile(mask, count)[:, None],
    )


def map_of(boxes: np.ndarray, kind: np.ndarray) -> CellMap:
    """Judged boxes as a map; its cells need not meet facet to facet, and their regions are not known."""
    return CellMap(
        cells=cells_of(boxes),
        kind=kind,
        region=np.full(len(boxes), -1),
        volume=volumes_of(boxes),
        inconsistency=np.zeros(0),
        pattern=np.zeros(0, np.uint64),
        conforming=False,
    )
