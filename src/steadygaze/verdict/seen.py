"""What plain evaluation finds at points: values of the network, and what they come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from steadygaze.network.columns import rows_within
from steadygaze.network.graph import Graph
from steadygaze.network.pieces import PiecewiseLinear
from steadygaze.verdict.taken import TakenRows


@dataclass(frozen=True)
class Evaluated:
    """What the network makes of the unperturbed image, which comes first, and of B points.

    Attributes:
        images: ``(1 + B, C, H, W)``.
        values: ``(1 + B, *shape)`` of the nodes that are read.
        settled: ``(1 + B,)`` bool, rows in which no unit is so near to a breakpoint that rounding, in single
            precision or double, may decide on its piece; None where nobody has looked.
    """

    images: Tensor
    values: Mapping[int, Tensor]
    settled: Tensor | None = None

    def take(self, rows: slice | Tensor) -> Evaluated:
        """Some of the rows."""
        settled = None if self.settled is None else self.settled[rows]
        return Evaluated(self.images[rows], TakenRows(self.values, rows), settled)

    @property
    def unsettled(self) -> Tensor:
        """Numbers ``(k,)`` of the rows that are not settled, or not known to be."""
        if self.settled is None:
            return torch.arange(len(self.images), device="cpu")
        return (~self.settled).nonzero()[:, 0]


def settled_rows(graph: Graph, values: Mapping[int, Tensor], slacks: Mapping[int, Tensor]) -> Tensor:
    """Rows in which no unit is within its slack ``(units,)`` of a breakpoint, ``(B,)`` bool.

    Of windows none is told. values: ``(B, *shape)`` of the nodes that those that pick read.
    """
    near = torch.zeros(len(values[0]), dtype=torch.bool, device="cpu")
    for index in graph.piecewise:
        layer, source = graph.nodes[index].layer, graph.nodes[index].inputs[0]
        if not isinstance(layer, PiecewiseLinear):
            return torch.zeros_like(near)
        near |= rows_within(values[source].flatten(1), layer.breakpoints, slacks[index])
    return ~near


@dataclass(frozen=True)
class Seen:
    """What plain evaluation sees at B points.

    Attributes:
        evaluated: what it is seen from.
        kind: ``(B,)`` int8, UNDECIDED where classes tie. possible: ``(B, 3)`` bool, by kind: what the point
            may be, rounding considered.
        gap: ``(B,)`` class gap; gap_rounding: how far it may be off.
        inconsistency: ``(B,)``.
        doubtful: ``(1 + B,)`` bool, whether some unit is within rounding of a breakpoint, so that another map
            may be the right one: on the unperturbed image, and at the points.
        by_rounding: ``(noted,)`` bool, whether rounding in single precision may decide on the map there, or
            on that of the unperturbed image; see `PlainEvaluation.at`.
    """

    evaluated: Evaluated
    kind: np.ndarray
    possible: np.ndarray
    gap: np.ndarray
    gap_rounding: np.ndarray
    inconsistency: np.ndarray
    doubtful: np.ndarray
    by_rounding: np.ndarray

    @property
    def near(self) -> np.ndarray:
        """`doubtful` of the points, ``(B,)``."""
        return self.doubtful[1:]

    @property
    def clear(self) -> np.ndarray:
        """Points ``(B,)`` bool whose kind rounding leaves no doubt about."""
        return self.possible.sum(axis=1) == 1

    def margins(self, number: int) -> str:
        """The numbers that decide a point, in words."""
        near = ", a unit within rounding of a breakpoint" if self.near[number] else ""
        return (
            f"class gap {self.gap[number]:.6g} give or take {self.gap_rounding[number]:.1g}, "
            f"inconsistency {self.inconsistency[number]:.9g}{near}"
        )
