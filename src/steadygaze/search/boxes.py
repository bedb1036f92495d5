"""Boxes of parameters as arrays: how they are judged by bounds, halved, and written down as cells."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch

from steadygaze.geometry.cells import Cells, names_of_points
from steadygaze.geometry.kinds import ATTENTION_CHANGED, CLASS_CHANGED, ROBUST, UNDECIDED
from steadygaze.geometry.sections import gauge
from steadygaze.question.problem import Problem
from steadygaze.search.base import CellMap


@dataclass(frozen=True)
class Judged:
    """What bounds say of B boxes.

    Attributes:
        kind: ``(B,)`` int8, UNDECIDED where they leave it open.
        doubts: ``(B,)`` units that may be on several pieces.
        pull: ``(B, n)`` what part of the doubt each parameter is to blame for, 0 to 1.
    """

    kind: np.ndarray
    doubts: np.ndarray
    pull: np.ndarray


def judge_boxes(problem: Problem, boxes: np.ndarray, room: int, backward: bool = False) -> Judged:
    """Judge boxes ``(B, n, 2)`` by bounds; room and backward are those of `bounds_of`.

    A box is robust if all class gaps are above 0 and the inconsistency is at most the threshold, each by more
    than its tolerance, everywhere in it; class-changed if one gap is below 0 everywhere; attention-changed if
    the class holds and the inconsistency is above the threshold everywhere.
    """
    bounds = problem.bounds(boxes, room, backward)
    low, high = (bound.cpu().numpy() for bound in bounds.gaps(problem.label))
    kind = np.full(len(boxes), UNDECIDED, np.int8)
    kind[(high < -problem.gap_tolerance).any(axis=1)] = CLASS_CHANGED
    held = np.flatnonzero((low > problem.gap_tolerance).all(axis=1))
    if len(held):
        least, most = problem.enclosed_inconsistency(boxes[held], bounds.take(torch.from_numpy(held)))
        margin = problem.tolerance.margin
        kind[held[most <= problem.threshold - margin]] = ROBUST
        kind[held[least > problem.threshold + margin]] = ATTENTION_CHANGED
    pull = bounds.pull.cpu().numpy()
    total = pull.sum(axis=1, keepdims=True)
    share = np.divide(pull, total, out=np.full_like(pull, 1 / pull.shape[1]), where=total > 0)
    return Judged(kind, bounds.doubts.cpu().numpy(), share)


def halved(boxes: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Both halves of each box, ``(2 B, n, 2)``, along its axis: the lower ones first."""
    rows = np.arange(len(boxes))
    middle = boxes[rows, axis].mean(axis=1)
    lower, upper = boxes.copy(), boxes.copy()
    lower[rows, axis, 1], upper[rows, axis, 0] = middle, middle
    return np.concatenate([lower, upper])


def volumes_of(boxes: np.ndarray) -> np.ndarray:
    """``(B,)``."""
    return np.prod(boxes[..., 1] - boxes[..., 0], axis=1)


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
