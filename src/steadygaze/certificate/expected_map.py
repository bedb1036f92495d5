"""The expected map as a sparse linear function of the map of the unperturbed image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from steadygaze.errors import SettingError
from steadygaze.perturbation.chain import Chain
from steadygaze.perturbation.records import AffineImage

# Bytes that the forms of one block of unit maps may take.
_BLOCK_BYTES = 1 << 26
# The sparse function and the chain sum the same few products, in another order perhaps.
_ROUNDING = 1e-12


class Moves(NamedTuple):
    """Entries of the function: on `piece`, map entry `out` has `weight` times entry `source`, times theta.

    Attributes:
        piece, term, out, source: ``(E,)`` int32. term is 0 for the constant part, j for the part that is
            multiplied by parameter j, counted from 1. out and source count entries of the flattened map.
        weight: ``(E,)`` float64.
    """

    piece: np.ndarray
    term: np.ndarray
    out: np.ndarray
    source: np.ndarray
    weight: np.ndarray


def moves_of(chain: Chain, map0: np.ndarray) -> Moves:
    """What the chain does to maps of the shape of `map0`, ``(C, H, W)`` or ``(H, W)``, as one function.

    It is read off the chain's own pieces, handed maps with one entry of 1 as if they were channels: each
    channel of a map is moved alike, and by itself.
    Raises SettingError for a perturbation of which that is not true.
    """
    *leading, height, width = map0.shape
    size, channels = height * width, int(np.prod(leading))
    parts = [_of_channel(chain, first, units) for first, units in _unit_maps(chain, height, width)]
    one = Moves(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    step = np.repeat(np.arange(channels, dtype=np.int32) * size, len(one.out))
    moves = Moves(
        np.tile(one.piece, channels),
        np.tile(one.term, channels),
        np.tile(one.out, channels) + step,
        np.tile(one.source, channels) + step,
        np.tile(one.weight, channels),
    )
    _check(chain.expected_pieces(map0), moves, map0)
    order = np.lexsort((moves.source, moves.out, moves.term, moves.piece))
    return Moves(*(column[order] for column in moves))


def applied(moves: Moves, map0: np.ndarray, piece: int, term: int) -> np.ndarray:
    """One part of the expected map on one piece, in the shape of `map0`."""
    chosen = (moves.piece == piece) & (moves.term == term)
    products = moves.weight[chosen] * map0.reshape(-1)[moves.source[chosen]]
    return np.bincount(moves.out[chosen], products, minlength=map0.size).reshape(map0.shape)


def _unit_maps(chain: Chain, height: int, width: int) -> Iterator[tuple[int, np.ndarray]]:
    """The number of the first, and ``(k, H, W)`` maps with one entry of 1 each, block by block."""
    size = height * width
    pieces = len(chain.expected_pieces(np.zeros((1, height, width))))
    rows = max(1, _BLOCK_BYTES // (8 * size * (1 + len(chain.parameters)) * pieces))
    for first in range(0, size, rows):
        yield first, np.eye(min(rows, size - first), size, first).reshape(-1, height, width)


def _of_channel(chain: Chain, first: int, units: np.ndarray) -> Moves:
    """The entries that come from the map entries that the unit maps ``(k, H, W)`` stand for."""
    columns: list[tuple[np.ndarray, ...]] = []
    for number, form in enumerate(chain.expected_pieces(units)):
        for term, part in enumerate((form.base, *form.directions)):
            flat = part.reshape(len(units), -1)
            source, out = np.nonzero(flat)
            places = (np.full(len(out), number), np.full(len(out), term), out, source + first)
            columns.append((*(place.astype(np.int32) for place in places), flat[source, out]))
    return Moves(*(np.concatenate(column) for column in zip(*columns, strict=True)))


def _check(wanted: tuple[AffineImage, ...], moves: Moves, map0: np.ndarray) -> None:
    slack = _ROUNDING * float(np.abs(map0).max(initial=0.0))
    for number, form in enumerate(wanted):
        for term, part in enumerate((form.base, *form.directions)):
            if not np.allclose(applied(moves, map0, number, term), part, rtol=0, atol=slack):
                raise SettingError(
                    "the expected map is not moved channel by channel by a linear function, which a "
                    "certificate needs; leave the certificate out, or change expected_parts() of the "
                    "perturbation"
                )
