"""Maps read at places that are computed from the image, as in spatial transformers, by the `Assembler`.

What bilinear interpolation reads at a place is the sum of all pixels, each times a tent of its distance along
each axis: ``max(0, 1 - |place - pixel|)``. Tents have pieces, and tents times pixels are products of computed
values (Jaderberg et al., Spatial Transformer Networks, NeurIPS 2015, equation 5).
"""

from __future__ import annotations

import numpy as np
import torch

from steadygaze.network.building import check_size
from steadygaze.network.pieces import PiecewiseLinear
from steadygaze.network.reading.assembling import collapsing, joining
from steadygaze.network.reading.assembling.assembly import Assembler, Value

# Edges, slopes and offsets of the tent.
_TENT = ([-1.0, 0.0, 1.0], [0.0, 1.0, -1.0, 0.0], [0.0, 1.0, 1.0, 0.0])


def sampled(asm: Assembler, x: Value, grid: Value, mode: str, padding: str, corners: bool) -> Value:
    """A map ``(1, C, H, W)`` at the places of a computed grid ``(1, h, w, 2)``, as PyTorch's grid_sample.

    A grid's numbers are from -1 to 1, along W first.
    """
    channels, *sizes = asm.map_shape(x)
    shape = asm.shape(grid)
    if mode != "bilinear" or padding not in ("zeros", "border"):
        raise asm.refuse(
            f"where it looks is computed from the image, its mode is {mode} and its padding {padding}",
            "allowed are bilinear and zeros or border: nearest jumps, and the others bend; use these",
        )
    if len(shape) != 4 or shape[0] != 1 or shape[3] != 2:
        raise asm.refuse(f"its grid has shape {shape}", "allowed is (1, height, width, 2)")
    rows, columns = shape[1:3]
    check_size((rows * columns, channels * max(sizes)), f"what {asm.where} reads")
    places = asm.reshape(grid, (1, rows * columns, 2))
    down, across = (
        _weights(asm, asm.crop(places, 2, axis, axis + 1), size, padding, corners)
        for axis, size in ((1, sizes[0]), (0, sizes[1]))
    )
    pixels = asm.reshape(asm.permute(x, (0, 3, 1, 2)), (1, sizes[1], channels * sizes[0]))
    lines = joining.matrix_product(asm, across, pixels)
    lines = asm.reshape(lines, (1, rows * columns, channels, sizes[0]))
    gates = asm.reshape(down, (1, rows * columns, 1, sizes[0]))
    found = collapsing.total(asm, joining.multiplied(asm, lines, gates), [3], keep=False)
    return asm.reshape(asm.permute(found, (0, 2, 1)), (1, channels, rows, columns))


def affine_grid(asm: Assembler, matrices: Value, rows: int, columns: int, corners: bool) -> Value:
    """The grid ``(1, rows, columns, 2)`` of an affine map ``(1, 2, 3)``, as PyTorch's affine_grid."""
    if asm.shape(matrices) != (1, 2, 3):
        raise asm.refuse(f"its map has shape {asm.shape(matrices)}", "allowed is (1, 2, 3)")
    plain = torch.eye(2, 3, dtype=torch.float64)[None]
    places = torch.nn.functional.affine_grid(plain, [1, 1, rows, columns], corners).reshape(-1, 2)
    whole = np.concatenate([places.numpy(), np.ones((rows * columns, 1))], axis=1)
    made = asm.matmul_left(whole, asm.permute(matrices, (0, 2, 1)))
    return asm.reshape(made, (1, rows, columns, 2))


def _weights(asm: Assembler, places: Value, size: int, padding: str, corners: bool) -> Value:
    """How much each pixel of an axis counts, ``(1, N, size)``, at places ``(1, N, 1)`` from -1 to 1."""
    span = size - 1 if corners else size
    at = asm.scale_shift(places, span / 2, (size - 1) / 2)
    if padding == "border":
        at = asm.clip(at, 0.0, size - 1.0) if size > 1 else asm.scale_shift(at, 0.0, 0.0)
    away = asm.scale_shift(at, 1.0, -np.arange(float(size)))
    edges, slopes, offsets = (torch.tensor(numbers, dtype=torch.float64) for numbers in _TENT)
    return asm.append(PiecewiseLinear(edges, slopes[:, None], offsets[:, None]), away)
