"""Rows through maxima in the windows that places see: nothing is lost that is not counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from formed import exact
from steadygaze.network.bounding.rows.grids import Grid
from steadygaze.network.bounding.rows.local_maxima import LocalMaxima

GRIDS = {
    "apart": Grid((2, 2), ((0, 0), (0, 1), (1, 0), (1, 1))),
    "overlapping": Grid((1, 2), ((-1, 0), (0, 0), (1, 0), (-1, 1), (0, 1), (1, 1))),
}
BOXES, CHANNELS, HIGH, WIDE = 2, 2, 3, 2


def maxima(grid, kind=torch.float64):
    """Weights of which neither products nor sums are exact."""
    generator = torch.Generator().manual_seed(5)
    extents = [
        step * (size - 1) + span for step, size, span in zip(grid.step, (HIGH, WIDE), grid.span, strict=True)
    ]
    below, above = (
        torch.rand(BOXES, len(grid.places), CHANNELS, HIGH, WIDE, generator=generator, dtype=torch.float64)
        for _ in range(2)
    )
    offset = torch.rand(BOXES, CHANNELS * HIGH * WIDE, generator=generator, dtype=torch.float64)
    size = 10 * torch.rand(BOXES, CHANNELS, *extents, generator=generator, dtype=torch.float64)
    return LocalMaxima(below, above, offset, size, grid).to(kind)


def lost(lines, kind):
    """The largest of what rows lose, exactly, over what is counted for it."""
    rows = torch.randn(BOXES, 4, CHANNELS * HIGH * WIDE, generator=torch.Generator().manual_seed(1)).to(kind)
    own, constant, rounding = lines.pulled(rows)
    grid, worst = lines.grid, 0.0
    places = np.arange(lines.size[0].numel()).reshape(lines.size.shape[1:])
    (top, left), (down, across) = grid.first, grid.step
    for box in range(BOXES):
        weights = {sign: exact(part[box].double()) for sign, part in ((1, lines.below), (-1, lines.above))}
        offset, size = exact(lines.offset[box].double()), exact(lines.size[box].double().flatten())
        for row in range(4):
            wanted, added = 0 * size, 0
            for number, (channel, y, x) in enumerate(np.ndindex(CHANNELS, HIGH, WIDE)):
                (entry,) = exact(rows[box, row, number : number + 1].double())
                for place, (to_row, to_column) in enumerate(grid.places):
                    at = places[channel, down * y + to_row - top, across * x + to_column - left]
                    wanted[at] += entry * weights[1 if entry >= 0 else -1][place, channel, y, x]
                added += entry * offset[number] * (entry < 0)
            off = np.abs(wanted - exact(own[box, row].double())).dot(size)
            (given,) = exact(constant[box, row : row + 1])
            worst = max(worst, float((off + abs(added - given)) / exact(rounding[box, row : row + 1])[0]))
    return worst


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_rounding_is_counted(grid, kind):
    assert 0 < lost(maxima(grid, kind), kind) <= 1


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_what_is_not_counted_is_caught(kind):
    lines = maxima(GRIDS["overlapping"], kind)
    assert lost(lines, kind) <= 1
    vars(lines)["_sides"] = tuple(side * torch.tensor([[[1.0], [1e-3]]], dtype=kind) for side in lines._sides)
    assert lost(lines, kind) > 1


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_rows_are_what_lines_say(grid):
    lines = maxima(grid)
    rows = torch.randn(BOXES, 3, CHANNELS * HIGH * WIDE, dtype=torch.float64)
    inputs = torch.randn(BOXES, lines.size[0].numel(), dtype=torch.float64)
    own, constant, _ = lines.pulled(rows)
    for row in range(3):
        values = lines.taken(rows[:, row], inputs)
        wanted = (rows[:, row] * values).sum(dim=1)
        torch.testing.assert_close((own[:, row] * inputs).sum(dim=1) + constant[:, row], wanted)


def test_some_boxes_and_one_set_of_rows_for_all():
    lines = maxima(GRIDS["apart"])
    rows = torch.randn(1, 3, CHANNELS * HIGH * WIDE, dtype=torch.float64)
    whole, part = lines.pulled(rows), lines.take(torch.tensor([1])).pulled(rows)
    for one, other in zip(whole, part, strict=True):
        assert one[1:].equal(other)
    swapped = replace(lines, below=lines.above)
    assert not swapped.pulled(rows)[0].equal(whole[0])
