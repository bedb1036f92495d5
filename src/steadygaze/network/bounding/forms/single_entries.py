"""Affine layers on rows that are 0 but for one entry: what they make of one is a part of their weights.

A new symbol is such a row, and most rows of forms are symbols. The product with all weights is then hardly
anything but zeros: behind the first units of two convolutions (9,608 units in all, 32 symbols) it took an
eighth of the time of all bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from steadygaze.enclosing.single_places import single_places
from steadygaze.network.layers import AbstractAffine, Conv, Dense, Shape

# Where rows have fewer entries in all, or fewer are such, telling them apart takes as long as it saves.
_FEW, _FEW_ROWS = 2**16, 8


def linear_of(layer: AbstractAffine, rows: Tensor) -> Tensor:
    """``layer.linear(rows)`` of rows ``(R, *shape)``."""
    told = _told(layer, rows)
    if told is None:
        return layer.linear(rows)
    shape = tuple(rows.shape[1:])
    out = rows.new_empty((len(rows), *layer.output_shape(shape)))
    out.index_copy_(0, told.others, layer.linear(rows.index_select(0, told.others)))
    if isinstance(layer, Dense):
        out.index_copy_(0, told.single, layer.weight[:, told.place].mT * told.amount)
    else:
        assert isinstance(layer, Conv), "of others none is told apart"
        _stamp(layer, told, shape, out)
    return out


def transpose_of(layer: AbstractAffine, rows: Tensor, shapes: tuple[Shape, ...]) -> tuple[Tensor, ...]:
    """``layer.transpose(rows, shapes)`` of rows ``(R, *shape)``."""
    told = _told(layer, rows)
    if told is None:
        return layer.transpose(rows, shapes)
    out = rows.new_empty((len(rows), *shapes[0]))
    out.index_copy_(0, told.others, *layer.transpose(rows.index_select(0, told.others), shapes))
    if isinstance(layer, Dense):
        out.index_copy_(0, told.single, layer.weight[told.place] * told.amount)
    else:
        assert isinstance(layer, Conv), "of others none is told apart"
        _stamp_back(layer, told, tuple(rows.shape[1:]), out)
    return (out,)


@dataclass(frozen=True)
class _Told:
    """Rows told apart: numbers of those of one entry ``(k,)``, its place ``(k,)`` and amount ``(k, 1)``, and
    those of the other rows.
    """

    single: Tensor
    place: Tensor
    amount: Tensor
    others: Tensor


def _told(layer: AbstractAffine, rows: Tensor) -> _Told | None:
    """Which rows have one entry at most; None where it does not matter."""
    if rows.numel() < _FEW or not _is_known(layer, rows):
        return None
    flat = rows.flatten(1)
    places = _places(flat)
    single = (places >= 0).nonzero()[:, 0]
    if len(single) < _FEW_ROWS:
        return None
    place = places[single]
    return _Told(single, place, flat[single, place][:, None], (places < 0).nonzero()[:, 0])


def _places(flat: Tensor) -> Tensor:
    """As `single_places`, of rows ``(R, N)`` on any device."""
    if flat.is_cpu and flat.is_contiguous():
        return torch.from_numpy(single_places(flat.numpy()))
    entries = flat != 0
    return torch.where(entries.sum(dim=1) <= 1, entries.to(torch.uint8).argmax(dim=1), -1)


def _is_known(layer: AbstractAffine, rows: Tensor) -> bool:
    return (isinstance(layer, Conv) and layer.groups == 1) or (isinstance(layer, Dense) and rows.ndim == 2)


def _stamp(layer: Conv, told: _Told, shape: Shape, out: Tensor) -> None:
    """Write what the convolution makes of maps of one entry each, of that shape, into their rows of out."""
    channel, row, column = _unravelled(told.place, shape)
    out.index_fill_(0, told.single, 0.0)
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
        stamps = layer.weight[:, channel[some], y, x].mT * told.amount[some]
        out[told.single[some], :, rows[some], columns[some]] = stamps


def _stamp_back(layer: Conv, told: _Told, made: Shape, out: Tensor) -> None:
    """Write what comes of gradients of one entry each, at outputs of that shape, into their rows of out."""
    channel, row, column = _unravelled(told.place, made)
    out.index_fill_(0, told.single, 0.0)
    shape = out.shape[1:]
    for y, x in _taps(layer):
        rows, columns = (
            at * stride - pad + tap * dilation
            for at, stride, pad, tap, dilation in zip(
                (row, column), layer.stride, layer.padding, (y, x), layer.dilation, strict=True
            )
        )
        fits = (rows >= 0) & (columns >= 0) & (rows < shape[1]) & (columns < shape[2])
        some = fits.nonzero()[:, 0]
        stamps = layer.weight[channel[some], :, y, x] * told.amount[some]
        out[told.single[some], :, rows[some], columns[some]] = stamps


def _taps(layer: Conv) -> product[tuple[int, int]]:
    return product(range(layer.weight.shape[2]), range(layer.weight.shape[3]))


def _unravelled(place: Tensor, shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
    """Channels, rows and columns of positions in flattened maps."""
    _, high, wide = shape
    return place // (high * wide), place // wide % high, place % wide
