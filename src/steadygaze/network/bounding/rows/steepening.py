"""Slopes of the lines below units, turned for one row at a time until its bound is as high as it gets.

Where a unit has one bend, at 0, upwards, as ReLU has, every line through the bend with a slope between its
two slopes is below it. `lines` takes the one that is closest in the middle of the unit's range; which one
makes the bound of a row highest depends on the row (Xu et al., Fast and Complete, ICLR 2021: alpha-CROWN).

A row's bound is the least value of an affine function, at some point t of the box. There it is what the row
makes of the network's values at t if every unit that is in doubt takes the line that the row took on its way
back. Its derivative with respect to the slope of a line below is hence the row's entry behind the unit times
that value before it: one evaluation forward for all slopes. Whatever slopes come of it, the bound is computed
as that of any others, its rounding counted.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from steadygaze.network.bounding.rows.backward import Backward
from steadygaze.network.bounding.rows.ends import least_of
from steadygaze.network.bounding.rows.lines import Lines
from steadygaze.network.layers import AbstractAffine
from steadygaze.network.pieces import PiecewiseLinear

# How far slopes go in each step, as a share of what lies between both of a unit's, where the derivative is at
# least the mean; less in proportion below that.
_STEPS = (1.0, 0.5, 0.3, 0.2)


def steepened(backward: Backward, rows: Tensor, start: int, wanted: Tensor) -> Tensor:
    """Lower bounds ``(B,)`` of ``<row, output of node start>``, one row ``(B, M)`` for each box.

    The slopes of each box are sought until its bound is above what is wanted ``(B,)``, or for all steps.
    """
    best = rows.new_full((len(rows),), -torch.inf)
    if backward.others:  # none of them is turned
        best = backward.least(rows[:, None], start)[:, 0]
    backward = backward.grounded_alone()
    left = torch.arange(len(rows), device=rows.device)
    turning = {index: ends for index in backward.lines if (ends := _ends(backward, index)) is not None}
    for step in (*_STEPS, 0.0):
        entries: dict[int, Tensor] = {}
        below = backward.below(rows[:, None], start, entries=entries)[..., 0]
        found = least_of(below)
        best[left] = torch.fmax(best[left], found)
        going = best[left] <= wanted[left]
        if not step or not turning or not going.any():
            break
        inputs = _inputs(backward, entries, -below[:, 1:].sign(), start)
        lines = dict(backward.lines)
        for index, (least, most) in turning.items():
            own = lines[index]
            if index in entries and isinstance(own, Lines):
                derivative = entries[index][:, 0].clamp_min(0.0) * inputs[index]
                lines[index] = _turned(own, derivative, least, most, step)
        backward = replace(backward, lines=lines)
        if not going.all():
            backward, rows, left = backward.take(going), rows[going], left[going]
    return best


def _ends(backward: Backward, index: int) -> tuple[Tensor, Tensor] | None:
    """Both slopes ``(N,)`` of the units of a node that bend upwards at 0; None if it has none of them."""
    layer = backward.graph.nodes[index].layer
    if not isinstance(layer, PiecewiseLinear) or layer.breakpoints.tolist() != [0.0] or layer.offsets.any():
        return None
    least, most = layer.slopes
    return None if (least >= most).all() else (least, most)


def _inputs(backward: Backward, entries: dict[int, Tensor], t: Tensor, start: int) -> dict[int, Tensor]:
    """``(B, N)`` before each node that is not affine, at points t ``(B, n)``; inputs are side by side.

    Units are the lines that a row with these entries ``(B, 1, M)`` behind each node takes.
    """
    values: dict[int, Tensor] = {}
    found: dict[int, Tensor] = {}
    for index in sorted(backward.behind(start)):
        node = backward.graph.nodes[index]
        if index in backward.grounds:
            forms = backward.grounds[index].flattened()
            moved = (t[:, None] @ forms.rows[:, 1 : 1 + forms.count])[:, 0]
            values[index] = (forms.centre + moved).reshape(-1, *node.shape)
        elif isinstance(node.layer, AbstractAffine):
            values[index] = node.layer.forward(*(values[source] for source in node.inputs))
        else:
            found[index] = torch.cat([values[source].flatten(1) for source in node.inputs], dim=1)
            taken = backward.lines[index].taken(entries[index][:, 0], found[index])
            values[index] = taken.reshape(-1, *node.shape)
    return found


def _turned(lines: Lines, derivative: Tensor, least: Tensor, most: Tensor, step: float) -> Lines:
    """With other slopes below, a step along the bound's derivatives ``(B, N)`` by those of all lines."""
    # The line above a unit in doubt is its chord.
    torn = (least < lines.above) & (lines.above < most)
    along = torch.where(torn, derivative, 0.0)
    typical = along.abs().sum(dim=1, keepdim=True) / (along != 0).sum(dim=1, keepdim=True).clamp_min(1)
    move = step * (most - least) * (along / typical.clamp_min(torch.finfo(along.dtype).tiny)).clamp(-1.0, 1.0)
    below = torch.where(along != 0, torch.clamp(lines.below + move, least, most), lines.below)
    return replace(lines, below=below, below_offset=torch.where(along != 0, 0.0, lines.below_offset))
