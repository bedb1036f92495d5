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
from steadygaze.geometry.sides import SLIVER
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.regions.local import Local, of_image, on_pieces, slack_of
from steadygaze.network.regions.piecewise import FAINT_OF_OWN, flat_array
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


def astray(
    problem: Problem,
    piece: int,
    number: int,
    cells: Cells,
    pieces: Mapping[int, Tensor],
    sides: np.ndarray,
) -> np.ndarray:
    """Which cells ``(cells,)`` reach past a hinge of stage `number`, to where they are said not to be.

    That is by more than a sliver of them, and by more than what rounding mostly leaves of the terms there.

    Args:
        problem: the question. piece: of the perturbation that the cells lie in.
        number: of the stage, by whose hinges they are cut.
        cells: some cells.
        pieces: ``(cells, units)`` of the nodes before the stage that pick.
        sides: uint8 ``(cells, columns)``, those that they are said to be on.
    """
    stages, starts = problem.stages, cells.ptr[:-1]
    owner = np.repeat(np.arange(cells.count), np.diff(cells.ptr))
    rows = torch.from_numpy(owner)
    of_cells = {node: own[rows] for node, own in pieces.items()}
    values, slack = hinges_on(problem, piece, number, cells.theta[cells.idx], of_cells)
    slack = np.maximum.reduceat(slack, starts, axis=0)
    if number in stages.inputs:
        own, winners = values[:, stages.inputs[number]], sides[owner][..., None]
        ahead, slack = np.take_along_axis(own, winners, axis=2) - own, slack[..., None]
    else:
        columns = stages.columns(values, number, np.arange(slack.shape[1]))
        ahead = np.where(sides[owner], columns, -columns)
    low, high = (part.reduceat(ahead, starts, axis=0) for part in (np.minimum, np.maximum))
    past = (-low > SLIVER * high) & (-low > FAINT_OF_OWN * slack)
    return np.any(past.reshape(cells.count, -1), axis=1)


def astray_anywhere(problem: Problem, piece: int, cells: Cells, pieces: Mapping[int, Tensor]) -> np.ndarray:
    """`astray` by the hinges of any stage; pieces are those of all nodes that pick."""
    found = np.zeros(cells.count, bool)
    for number, stage in enumerate(problem.stages.stages):
        sides = problem.stages.sides_of_pieces(pieces[stage.node].cpu().numpy(), number)
        found |= astray(problem, piece, number, cells, pieces, sides)
    return found
