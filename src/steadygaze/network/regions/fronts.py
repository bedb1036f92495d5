"""What is known of a batch of cells on its way through the stages of a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Form:
    """Values affine in theta: ``constant`` (*shape) + sum_i theta_i ``directions`` (n, *shape)[i]."""

    constant: Tensor
    directions: Tensor

    def at(self, theta: Tensor) -> Tensor:
        """Values ``(V, *shape)`` at theta ``(V, n)``."""
        flat = torch.addmm(self.constant.reshape(1, -1), theta, self.directions.flatten(1))
        return flat.reshape(len(theta), *self.constant.shape)


@dataclass(frozen=True)
class Stage:
    """One piecewise node.

    Attributes:
        node: its index in the graph; source: the node it reads.
        ready: affine nodes to evaluate before it, in order.
        live: nodes that something after this stage still reads.
    """

    node: int
    source: int
    ready: tuple[int, ...]
    live: frozenset[int]


@dataclass(frozen=True)
class Front:
    """Values of the live nodes at the vertices of a batch of cells: rows ``(V, *shape)``, or forms in theta.

    Attributes:
        rows, forms: by node.
        reached: the stage that everything has been evaluated for, -1 if the next one still has to be reached.
        alive: for nodes whose rows are given for some units alone, ``(V, k)``, the numbers of these; the
            others are 0 at all vertices. Only dense layers read such nodes.
    """

    rows: Mapping[int, Tensor]
    forms: Mapping[int, Form]
    reached: int = -1
    alive: Mapping[int, Tensor] = field(default_factory=dict)

    def take(self, vertices: np.ndarray) -> Front:
        """The front at some of the vertices."""
        index = torch.from_numpy(vertices)
        return replace(self, rows={node: value[index] for node, value in self.rows.items()})

    def at(self, node: int, theta: Tensor) -> Tensor:
        """Values of a node at all vertices, ``(V, *shape)``."""
        return self.rows[node] if node in self.rows else self.forms[node].at(theta)


@dataclass(frozen=True)
class Crossing:
    """How the columns (hinges or windows) of one stage lie to a batch of cells as a whole.

    Attributes:
        cutting: ``(k,)`` columns that may cut some cell.
        active: ``(k,)`` columns whose side, or winner, has to be found cell by cell: those that may cut,
            hinges that are positive somewhere and vanish elsewhere, never negative, and all that are above 0
            within their tolerance alone, or windows whose winner some input is ahead of within it.
        sides: ``(columns,)`` uint8 for the others: the side, or the winner, that they keep on all cells.
        alive: ``(k,)`` the units that are above 0 somewhere, where they are few and nothing depends on the
            others; None where it does, or they are many.
    """

    cutting: np.ndarray
    active: np.ndarray
    sides: np.ndarray
    alive: np.ndarray | None = None


@dataclass(frozen=True)
class Sides:
    """On which side of the columns of one stage cells lie.

    Attributes:
        columns: uint8 ``(cells, columns)`` the side of each hinge, or the winner of each window.
        pieces: uint8 ``(cells, units)``. names: ``(cells,)`` uint64, of this stage's part of the pattern;
            those of all stages add up.
        loose: ``(cells,)`` bool, whether some tolerance is all that keeps a cell from another side, or from
            being cut (see `geometry.sides.above`).
    """

    columns: np.ndarray
    pieces: np.ndarray
    names: np.ndarray
    loose: np.ndarray
