"""Maps and rows made larger or smaller by weights along each axis, on top of the `Assembler`.

How much each entry counts is a matrix ``(new, old)`` for each axis, which costs about what a convolution
does, and not a matrix of whole maps. Where each row picks one entry, positions are taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor

from steadygaze.network.building import check_size
from steadygaze.network.layers import AveragePool
from steadygaze.network.reading.assembling.assembly import Assembler, Value
from steadygaze.network.reading.assembling.rearranging import taken
from steadygaze.network.reading.assembling.sampling import sampled


def resized(asm: Assembler, x: Value, matrices: Sequence[Tensor]) -> Value:
    """The last axes of the file's shape, as many as there are matrices ``(new, old)``, times these."""
    rank = len(asm.shape(x))
    axes = list(range(rank - len(matrices), rank))
    if all(_picks(matrix) for matrix in matrices):
        for axis, matrix in zip(axes, matrices, strict=True):
            x = taken(asm, x, axis, matrix.argmax(dim=1).numpy())
        return x
    if all(bool((matrix >= 0).all()) for matrix in matrices) and len(axes) in (1, 2) and rank > 2:
        return _weighed(asm, x, matrices)
    for axis, matrix in zip(axes, matrices, strict=True):
        order = [*(place for place in range(rank) if place != axis), axis]
        back = sorted(range(rank), key=order.__getitem__)
        x = asm.permute(asm.dense(asm.permute(x, order), matrix.numpy(), None), back)
    return x


def resampled(
    asm: Assembler, x: Value, grid: Tensor | Value, mode: str, padding: str, corners: bool
) -> Value:
    """A map ``(1, C, H, W)`` at the places of a grid ``(1, h, w, 2)``, as PyTorch's grid_sample.

    Weights of a constant grid are what it makes of each place alone.
    """
    if isinstance(grid, Value):
        return sampled(asm, x, grid, mode, padding, corners)
    channels, height, width = asm.map_shape(x)
    if grid.ndim != 4 or grid.shape[0] != 1 or grid.shape[3] != 2:
        raise asm.refuse(f"its grid has shape {tuple(grid.shape)}", "allowed is (1, height, width, 2)")
    rows, columns = grid.shape[1:3]
    check_size((rows * columns, height * width), f"the weights of {asm.where}")

    def made(precision: torch.dtype) -> Tensor:
        alone = torch.eye(height * width, dtype=precision).reshape(1, -1, height, width)
        found = functional.grid_sample(alone, grid.to(precision), mode, padding, corners)
        return found.reshape(height * width, -1).T.double()

    wide = made(torch.float64)
    if not torch.allclose(wide, made(torch.float32), atol=1e-3):
        raise asm.refuse(
            "which place is the nearest hangs on how it is rounded",
            "allowed are grids where float32 and float64 agree; move it by a little",
        )
    flat = asm.dense(asm.reshape(x, (1, channels, height * width)), wide.numpy(), None)
    return asm.reshape(flat, (1, channels, rows, columns))


def _weighed(asm: Assembler, x: Value, matrices: Sequence[Tensor]) -> Value:
    shape = asm.shape(x)
    if len(matrices) == 2:
        return asm.append(AveragePool(*matrices), x)
    flat = asm.reshape(x, (*shape[:-1], 1, shape[-1]))
    made = asm.append(AveragePool(torch.ones((1, 1), dtype=torch.float64), matrices[0]), flat)
    return asm.reshape(made, (*shape[:-1], -1))


def _picks(matrix: Tensor) -> bool:
    """Whether each row is 1 once, and 0 elsewhere."""
    return bool((matrix.amax(dim=1) == 1).all() and (matrix != 0).sum(dim=1).eq(1).all())
