"""Affine layers on rows that are 0 but for one entry: what they make of one is a part of their weights.

A new symbol is such a row, and most rows of forms are symbols. The product with all weights is then hardly
anything but zeros: behind the first units of two convolutions (9,608 units in all, 32 symbols) it took an
eighth of the time of all bounds.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from steadygaze.network.layers import AbstractAffine, Conv, Dense, Shape

# Where rows have fewer entries in all, or fewer are such, telling them apart takes as long as it saves.
_FEW, _FEW_ROWS = 2**16, 8


def linear_of(layer: AbstractAffine, rows: Tensor) -> Tensor:
    """``layer.linear(rows)`` of rows ``(R, *shape)``."""
    single = _single(layer, rows)
    if single is None:
        return layer.linear(rows)
    own = rows[single]
    place = own.flatten(1).abs().argmax(dim=1)
    amount = own.flatten(1).gather(1, place[:, None])
    if isinstance(layer, Dense):
        made = layer.weight[:, place].mT * amount
    else:
        assert isinstance(layer, Conv), "of others none is told apart"
        made = _stamped(layer, place, amount, tuple(rows.shape[1:]))
    return _joined(single, made, layer.linear(rows[~single]))


def transpose_of(layer: AbstractAffine, rows: Tensor, shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
    """``layer.transpose(rows, shapes)`` of rows ``(R, *shape)``."""
    single = _single(layer, rows)
    if single is None:
        return layer.transpose(rows, shapes)
    own = rows[single]
    place = own.flatten(1).abs().argmax(dim=1)
    amount = own.flatten(1).gather(1, place[:, None])
    if isinstance(layer, Dense):
        made = layer.weight[place] * amount
    else:
        assert isinstance(layer, Conv), "of others none is told apart"
        made = _stamped_back(layer, place, amount, tuple(rows.shape[1:]), shapes[0])
    (others,) = layer.transpose(rows[~single], shapes)
    return (_joined(single, made, others),)


def _single(layer: AbstractAffine, rows: Tensor) -> Tensor | None:
    """Which rows ``(R,)`` have one entry at most; None where it does not matter."""
    if rows.numel() < _FEW or not _is_known(layer, rows):
        return None
    single = torch.count_nonzero(rows.flatten(1), dim=1) <= 1
    return single if single.sum() >= _FEW_ROWS else None


def _is_known(layer: AbstractAffine, rows: Tensor) -> bool:
    return (isinstance(layer, Conv) and layer.groups == 1) or (isinstance(layer, Dense) and rows.ndim == 2)


def _joined(single: Tensor, made: Tensor, others: Tensor) -> Tensor:
    out = made.new_empty((len(single), *made.shape[1:]))
    out[single], out[~single] = made, others
    return out


def _stamped(layer: Conv, place: Tensor, amount: Tensor, shape: Shape) -> Tensor:
    """What the convolution makes of maps of one entry each: positions ``(P,)`` and amounts ``(P, 1)``."""
    channel, row, column = _unravelled(place, shape)
    out = amount.new_zeros((len(place), *layer.output_shape(shape)))
    for y, x in _taps(layer):
        rows, columns = (
            at + pad - tap * dilation
            for at, pad, tap, dilation in zip(
                (row, column), layer.padding, (y, x), layer.dilation, strict=True
            )
        )
        (down, across), (high, wide) = layer.stride, out.shape[2:]
        fits = (rows % down == 0) & (columns % across == 0) & (rows >= 0) & (columns >= 0)
        rows, columns = rows // down, columns // across
        some = (fits & (rows < high) & (columns < wide)).nonzero()[:, 0]
        out[some, :, rows[some], columns[some]] = layer.weight[:, channel[some], y, x].mT * amount[some]
    return out


def _stamped_back(layer: Conv, place: Tensor, amount: Tensor, made: Shape, shape: Shape) -> Tensor:
    """What comes of gradients of one entry each at outputs of a shape, at inputs of a shape."""
    channel, row, column = _unravelled(place, made)
    out = amount.new_zeros((len(place), *shape))
    for y, x in _taps(layer):
        rows, columns = (
            at * stride - pad + tap * dilation
            for at, stride, pad, tap, dilation in zip(
                (row, column), layer.stride, layer.padding, (y, x), layer.dilation, strict=True
            )
        )
        fits = (rows >= 0) & (columns >= 0) & (rows < shape[1]) & (columns < shape[2])
        some = fits.nonzero()[:, 0]
        out[some, :, rows[some], columns[some]] = layer.weight[channel[some], :, y, x] * amount[some]
    return out


def _taps(layer: Conv) -> product[tuple[int, int]]:
    return product(range(layer.weight.shape[2]), range(layer.weight.shape[3]))


def _unravelled(place: Tensor, shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
    """Channels, rows and columns of positions in flattened maps."""
    _, high, wide = shape
    return place // (high * wide), place // wide % high, place % wide
