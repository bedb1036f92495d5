"""Changes that move the content: the expected map moves the same way."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil, floor
from typing import final

import numpy as np

from steadygaze.errors import PerturbationError
from steadygaze.geometry.enclosures import Enclosure
from steadygaze.geometry.polytope import Polytope, box, interval, polygon
from steadygaze.perturbation.affine import AbstractPiecewiseAffinePerturbation
from steadygaze.perturbation.records import Constant, Parameter, Setting
from steadygaze.perturbation.resampling import boxes_of, read, touched
from steadygaze.perturbation.settings import Amount, channels, choice, ends, number, per_channel, varying

# Knots nearer than this (in pixels) are one: 0.1 * 3 and 0.3 make no piece between them.
_SAME = 1e-13


@final
class Translate(AbstractPiecewiseAffinePerturbation):
    """The content moved ``dx`` pixels to the right and ``dy`` down; what is uncovered takes ``fill``.

    ``dx`` and ``dy`` are ranges (low, high) or single numbers; ``fill`` is one number or one per channel.
    Between whole pixels the image is interpolated on the two triangles of the unit cell of the fractions
    (u, v) of (dx, dy), split along u = v: weights 1 - max(u, v), max(u - v, 0), max(v - u, 0) and min(u, v)
    of the images moved by whole pixels. Along one axis alone that is linear interpolation. With
    ``interpolation='bilinear'`` it is linear along each axis in turn, and not piecewise affine.

    Raises PerturbationError for a range that is reversed or leaves out 0, and for NaN.
    """

    name = "translate"
    moves_map = True
    interpolations = ("triangles", "bilinear")
    settings = (
        Setting("dx", "range"),
        Setting("dy", "range"),
        Setting("fill", "channels"),
        Setting("interpolation", "word", interpolations),
    )

    def __init__(
        self,
        dx: Amount = 0.0,
        dy: Amount = 0.0,
        fill: float | tuple[float, ...] = 0.0,
        interpolation: str = "triangles",
    ) -> None:
        parameters: tuple[Parameter, ...] = ()
        constants: dict[str, Constant] = {}
        for name, amount in (("dx", dx), ("dy", dy)):
            own, constant = varying(self.name, name, "pixels", *ends(f"translate {name}", amount))
            parameters += own
            constants |= constant
        self.fill = channels("translate fill", fill)
        self.parameters = parameters
        word = choice("translate interpolation", interpolation, self.interpolations)
        self.has_pieces = word == "triangles"
        self.constants = {**constants, "fill": self.fill}
        if not self.has_pieces:
            self.constants["interpolation"] = word

    def check(self, shape: tuple[int, int, int]) -> None:
        """Raise PerturbationError if the content leaves the image wholly, or ``fill`` does not fit."""
        for name, size in (("dx", shape[2]), ("dy", shape[1])):
            low, high = self._range(name)
            if low < -size or high > size:
                raise PerturbationError(
                    f"translate {name} reaches {low:g}..{high:g} pixels; the image has {size} that way, and "
                    f"at most {-size}..{size} is allowed, where nothing of it is left"
                )
        per_channel("translate fill", self.fill, shape[0])

    def apply(self, images: np.ndarray, thetas: np.ndarray) -> np.ndarray:
        """The images (B, C, H, W) moved by ``thetas`` (B, k), point by point."""
        return self._changed(images, thetas, per_channel("translate fill", self.fill, images.shape[1]))

    def expect(self, maps: np.ndarray, thetas: np.ndarray) -> np.ndarray:
        """The maps (B, ..., H, W) moved the same way, 0 where uncovered."""
        return self._changed(maps, thetas, np.zeros(()))

    def enclose(self, images: Enclosure, amounts: Enclosure) -> Enclosure:
        """The images read at enclosed places, across triangles: see ``geometry.resampling``."""
        fill = per_channel("translate fill", self.fill, images.shape[0])
        return self._read(images, amounts, np.broadcast_to(fill[:, 0, 0], images.shape[:1]))

    def enclose_expected(self, maps: Enclosure, amounts: Enclosure) -> Enclosure:
        """The maps read at the same places, 0 where uncovered."""
        layers = maps.as_layers()
        return self._read(layers, amounts, np.zeros(layers.shape[0])).reshaped(*maps.shape)

    def pieces(self) -> tuple[Polytope, ...]:
        """Intervals between the knots of one varying shift, clipped triangles of two, a point of none."""
        if len(self.parameters) == 2:
            return tuple(_clipped_triangles(self.parameters[0], self.parameters[1]))
        if not self.parameters:
            return (box(np.zeros(0), np.zeros(0)),)
        (varying_one,) = self.parameters
        constant = self._range("dy" if varying_one.name == "dx" else "dx")[0]
        knots = _knots(varying_one, sorted({0.0, constant - floor(constant)}))
        return tuple(interval(a, b) for a, b in pairwise(knots))

    def affine_parts(self, images: np.ndarray, piece: Polytope) -> tuple[np.ndarray, np.ndarray]:
        """The triangle's interpolation between three images moved by whole pixels."""
        return self._parts(images, piece, per_channel("translate fill", self.fill, images.shape[1]))

    def expected_parts(self, maps: np.ndarray, piece: Polytope) -> tuple[np.ndarray, np.ndarray]:
        """The same for the maps, 0 where uncovered."""
        return self._parts(maps, piece, np.zeros(()))

    def carry(self, mask: np.ndarray) -> np.ndarray:
        """Every pixel that takes a share of a pixel of ``mask`` somewhere in the ranges."""
        if not self.has_pieces:
            return touched(mask, *self._places(boxes_of(self.parameters), mask.shape))
        # A corner's weight is affine on a piece: if it is ever above 0, then at a vertex of the piece.
        shifts = self._shifts(np.vstack([piece.vertices for piece in self.pieces()]))
        carried = np.zeros_like(mask)
        for weight, offset in _weights(shifts):
            for right, down in np.unique(offset[weight > 0], axis=0):
                carried |= _shifted(mask, int(right), int(down), np.zeros((), dtype=bool))
        return carried

    def describe(self) -> str:
        """In plain words."""
        across, along = (_in_words(*self._range(name)) for name in ("dx", "dy"))
        read = "" if self.has_pieces else ", read bilinearly"
        return f"content moved {across} pixels to the right and {along} down{read}"

    def _changed(self, values: np.ndarray, thetas: np.ndarray, fill: np.ndarray) -> np.ndarray:
        shifts = self._shifts(thetas)
        if self.has_pieces:
            return _moved(values, shifts, fill)
        height, width = values.shape[-2:]
        across = np.arange(width) - shifts[:, 0, None, None]
        down = np.arange(height)[:, None] - shifts[:, 1, None, None]
        u, v = np.broadcast_arrays(across, down)
        return read(values, u, v, fill)

    def _read(self, values: Enclosure, amounts: Enclosure, fill: np.ndarray) -> Enclosure:
        from steadygaze.geometry.resampling import resampled  # numba, where it is needed

        u, v = self._places(amounts, values.shape)
        return resampled(values, u, v, fill, triangles=self.has_pieces)

    def _places(self, amounts: Enclosure, shape: tuple[int, ...]) -> tuple[Enclosure, Enclosure]:
        """Where every pixel comes from, (B, H, W)."""
        rows, columns = np.indices(shape[-2:], dtype=np.float64)
        places, varied = [], iter(range(amounts.shape[0]))
        for name, at in (("dx", columns), ("dy", rows)):
            own = Enclosure.exact(np.broadcast_to(at, (len(amounts.centre), *at.shape)), amounts.count)
            constant = name in self.constants
            places.append(own - (self._range(name)[0] if constant else amounts[next(varied)].reshaped(1, 1)))
        return places[0], places[1]

    def _range(self, name: str) -> tuple[float, float]:
        for parameter in self.parameters:
            if parameter.name == name:
                return parameter.low, parameter.high
        constant = number(name, self.constants[name])
        return constant, constant

    def _shifts(self, thetas: np.ndarray) -> np.ndarray:
        """(dx, dy) for each theta, (B, 2)."""
        shifts = np.empty((len(thetas), 2))
        for column, name in enumerate(("dx", "dy")):
            own = [index for index, parameter in enumerate(self.parameters) if parameter.name == name]
            shifts[:, column] = thetas[:, own[0]] if own else self._range(name)[0]
        return shifts

    def _parts(self, images: np.ndarray, piece: Polytope, fill: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        (shift,) = self._shifts(piece.centre[None])
        right, down = floor(shift[0]), floor(shift[1])
        corner = _shifted(images, right, down, fill)
        opposite = _shifted(images, right + 1, down + 1, fill)
        if shift[0] - right >= shift[1] - down:
            middle = _shifted(images, right + 1, down, fill)
            gradients = middle - corner, opposite - middle
        else:
            middle = _shifted(images, right, down + 1, fill)
            gradients = opposite - middle, middle - corner
        # From the corner outwards, so that a pixel equal in all three images is not touched by rounding.
        constants, slopes = corner, []
        for name, gradient, origin in zip(("dx", "dy"), gradients, (right, down), strict=True):
            if name in self.constants:
                constants = constants + (self._range(name)[0] - origin) * gradient
            else:
                constants = constants - origin * gradient
                slopes.append(gradient)
        stacked = np.stack(slopes, axis=1) if slopes else np.zeros((len(images), 0, *images.shape[1:]))
        return constants, stacked


def _in_words(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _shifted(images: np.ndarray, right: int, down: int, fill: np.ndarray) -> np.ndarray:
    """The images (..., H, W) moved by whole pixels."""
    moved = np.empty_like(images)
    moved[...] = fill
    height, width = images.shape[-2:]
    if abs(right) < width and abs(down) < height:
        to_rows, from_rows = _overlap(height, down)
        to_columns, from_columns = _overlap(width, right)
        moved[..., to_rows, to_columns] = images[..., from_rows, from_columns]
    return moved


def _overlap(size: int, shift: int) -> tuple[slice, slice]:
    """Where the pixels that stay inside go to, and where they come from."""
    start, stop = max(shift, 0), size + min(shift, 0)
    return slice(start, stop), slice(start - shift, stop - shift)


def _weights(shifts: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """For the four corners of the cells: weight (B,) and whole-pixel offset (B, 2), right and down."""
    base = np.floor(shifts)
    u, v = (shifts - base).T
    corners = (
        (1 - np.maximum(u, v), (0, 0)),
        (np.maximum(u - v, 0), (1, 0)),
        (np.maximum(v - u, 0), (0, 1)),
        (np.minimum(u, v), (1, 1)),
    )
    return [(weight, (base + corner).astype(int)) for weight, corner in corners]


def _moved(images: np.ndarray, shifts: np.ndarray, fill: np.ndarray) -> np.ndarray:
    """The images (B, ..., H, W) moved by ``shifts`` (B, 2), gathered pixel by pixel."""
    batch, height, width = len(images), *images.shape[-2:]
    # One pixel of fill all round: whatever comes from outside is read from there.
    padded = np.empty((*images.shape[:-2], height + 2, width + 2))
    padded[...] = fill
    padded[..., 1:-1, 1:-1] = images
    ones = (1,) * (images.ndim - 3)
    moved = np.zeros(images.shape)
    for weight, offset in _weights(shifts):
        rows = np.clip(np.arange(height) - offset[:, 1:] + 1, 0, height + 1)
        columns = np.clip(np.arange(width) - offset[:, :1] + 1, 0, width + 1)
        taken = np.take_along_axis(padded, rows.reshape(batch, *ones, height, 1), axis=-2)
        taken = np.take_along_axis(taken, columns.reshape(batch, *ones, 1, width), axis=-1)
        moved += weight.reshape(batch, *ones, 1, 1) * taken
    return moved


def _knots(parameter: Parameter, fractions: Sequence[float]) -> list[float]:
    """The ends of the range, and between them the numbers with one of these fractional parts."""
    whole = range(floor(parameter.low) - 1, ceil(parameter.high) + 1)
    between = sorted(number + fraction for number in whole for fraction in fractions)
    knots = [parameter.low]
    for knot in between:
        if knots[-1] + _SAME < knot < parameter.high - _SAME:
            knots.append(knot)
    return [*knots, parameter.high]


def _clipped_triangles(across: Parameter, along: Parameter) -> list[Polytope]:
    """The triangles of the unit cells that meet the box, clipped by it."""
    columns, rows = _knots(across, (0.0,)), _knots(along, (0.0,))
    pieces = []
    for x0, x1 in pairwise(columns):
        for y0, y1 in pairwise(rows):
            # The cell's box lies between two whole numbers each way; only its diagonal is left to cut along.
            cell = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
            middle = (floor((x0 + x1) / 2), floor((y0 + y1) / 2))
            pieces += [polygon(np.array(part)) for part in _split(cell, middle) if len(part) >= 3]
    return pieces


def _split(cell: np.ndarray, origin: tuple[int, int]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The two parts of a rectangle (4, 2), corners in order, on either side of the cell's diagonal."""
    side = (cell[:, 0] - origin[0]) - (cell[:, 1] - origin[1])
    side[np.abs(side) <= _SAME] = 0.0
    below, above = [], []
    for index, (corner, value) in enumerate(zip(cell, side, strict=True)):
        if value >= 0:
            below.append(corner)
        if value <= 0:
            above.append(corner)
        following = (index + 1) % 4
        if value * side[following] < 0:
            crossing = _on_diagonal(corner, cell[following], origin)
            below.append(crossing)
            above.append(crossing)
    return below, above


def _on_diagonal(one: np.ndarray, other: np.ndarray, origin: tuple[int, int]) -> np.ndarray:
    """Where an axis-parallel edge crosses the diagonal: the shared coordinate decides the other."""
    if one[0] == other[0]:
        return np.array([one[0], origin[1] + (one[0] - origin[0])])
    return np.array([origin[0] + (one[1] - origin[1]), one[1]])
