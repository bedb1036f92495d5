"""Cells that a tolerance alone keeps from another side of a hinge: whether they are on it.

Tolerances are shares of the largest terms in the box. On one cell terms may be far smaller, and then rounding
is, too: what a unit comes to there, on the pieces that the units before it have on the cell, is held against
what rounding leaves of its terms there. Where that tells, the cell is cut alone, by tolerances of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from steadygaze.geometry.cells import Cells
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.regions.local import Local, of_image, on_pieces, slack_of
from steadygaze.network.regions.piecewise import flat_array
from steadygaze.question.problem import Problem


def local_at(
    problem: Problem, piece: int, theta: np.ndarray, pieces: Mapping[int, Tensor], node: int
) -> Local:
    """A node of the graph at theta ``(B, n)`` on a piece of the perturbation, given the pieces of units."""
    image, device = problem.pieces[piece].image, problem.graph.device
    base, directions = (
        torch.from_numpy(np.ascontiguousarray(part)).to(device) for part in (image.base, image.directions)
    )
    at = of_image(base, directions, torch.from_numpy(np.ascontiguousarray(theta)).to(device))
    return on_pieces(problem.graph, at, pieces, node)


def hinges_on(
    problem: Problem, piece: int, number: int, theta: np.ndarray, pieces: Mapping[int, Tensor]
) -> tuple[np.ndarray, np.ndarray]:
    """What stage `number` reads at theta ``(B, n)`` on such pieces ``(B, units)``, and how much is rounding.

    The latter for each column (hinge or window), ``(B, columns)``, and no more than its tolerance.
    """
    stages = problem.stages
    stage, graph = stages.stages[number], problem.graph
    layer, source = graph.nodes[stage.node].layer, local_at(problem, piece, theta, pieces, stage.source)
    assert isinstance(layer, PiecewiseLinear | MaxPool)
    slack = slack_of(layer, source).cpu().numpy()
    slack = np.tile(slack, len(stages.tolerances[number]) // slack.shape[1])
    return flat_array(source.value), np.minimum(slack, stages.tolerances[number])


def misplaced(
    problem: Problem,
    piece: int,
    number: int,
    cells: Cells,
    pieces: Mapping[int, Tensor],
    sides: np.ndarray,
) -> np.ndarray:
    """Which cells ``(cells,)`` reach to another side of a hinge of stage `number` than is said.

    Args:
        problem: the question. piece: of the perturbation that the cells lie in.
        number: of the stage, by whose hinges they are cut.
        cells: some cells.
        pieces: ``(cells, units)`` of the nodes before the stage that pick.
        sides: uint8 ``(cells, columns)``, those that are to be looked at.
    """
    stages = problem.stages
    owner = np.repeat(np.arange(cells.count), np.diff(cells.ptr))
    of_cells = {node: own[torch.from_numpy(owner)] for node, own in pieces.items()}
    values, slack = hinges_on(problem, piece, number, cells.theta[cells.idx], of_cells)
    slack = np.maximum.reduceat(slack, cells.ptr[:-1], axis=0)
    if number in stages.inputs:
        return _surpassed(values[:, stages.inputs[number]], slack, cells.ptr, sides)
    columns = stages.columns(values, number, np.arange(slack.shape[1]))
    low, high = (part.reduceat(columns, cells.ptr[:-1], axis=0) for part in (np.minimum, np.maximum))
    reaches = high > slack
    return ((reaches != sides) | (reaches & (low < -slack))).any(axis=1)


def _surpassed(values: np.ndarray, slack: np.ndarray, ptr: np.ndarray, winners: np.ndarray) -> np.ndarray:
    """In which cells an input leads the winner, which is not the first that nothing leads: ``(cells,)``.

    values ``(incidences, windows, span)``; slack ``(cells, windows)``.
    """
    found = np.zeros(len(ptr) - 1, bool)
    for cell in range(len(found)):
        own = values[ptr[cell] : ptr[cell + 1]]
        led = (own.max(axis=2, keepdims=True) - own).max(axis=0) > slack[cell][:, None]
        found[cell] = (led.all(axis=1) | (led.argmin(axis=1) != winners[cell])).any()
    return found
