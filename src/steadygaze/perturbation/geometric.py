"""Changes that move the content: the expected map moves the same way."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from itertools import pairwise
from math import ceil, floor
from typing import Self, final

import numpy as np

from steadygaze.enclosing.enclosures import Enclosure, Pairs
from steadygaze.errors import PerturbationError
from steadygaze.geometry.polytope import Polytope, box, interval, polygon
from steadygaze.perturbation.affine import AbstractPiecewiseAffinePerturbation
from steadygaze.perturbation.placing import Placement, moved_by
from steadygaze.perturbation.reaching import TOUCHING
from steadygaze.perturbation.records import Constant, Parameter, Setting
from steadygaze.perturbation.resampling import mixed, read, read_maps_over, read_over
from steadygaze.perturbation.settings import Amount, channels, choice, ends, number, per_channel, varying

# Knots nearer than this (in pixels) are one: 0.1 * 3 and 0.3 make no piece between them.
_SAME = 1e-13


@final
class Translate(AbstractPiecewiseAffinePerturbation):
    """The content moved right and down; what is uncovered is filled.

    Between whole pixels the image is interpolated on the two triangles of the unit cell of the fractions
    (u, v) of (dx, dy), split along u = v: weights 1 - max(u, v), max(u - v, 0), max(v - u, 0) and min(u, v)
    of the images moved by whole pixels. Along one axis alone that is linear interpolation. With
    `interpolation="bilinear"` it is linear along each axis in turn, and not piecewise affine: for bounds.

    Args:
        dx: pixels to the right: a range `(low, high)` that contains 0, or a constant.
        dy: pixels down, likewise.
        fill: what is uncovered, one number or one for each channel.
        interpolation: `"triangles"` or `"bilinear"`.

    Raises:
        PerturbationError: if a range is reversed, empty, not finite or leaves out 0; and, when the chain
            meets the image, if the content leaves it wholly or `fill` has another number of channels.
    """

    name = "translate"
    moves_map = True
    interpolations = ("triangles", "bilinear")
    _back = np.eye(2)
    _above: bool | None = None
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

    def stays_within(self, low: float, high: float) -> bool:
        """Whether what is filled in lies between the limits, as all that is interpolated does."""
        return bool(low <= np.min(self.fill) and np.max(self.fill) <= high)

    def apply(self, images: np.ndarray, thetas: np.ndarray) -> np.ndarray:
        """The images (B, C, H, W) moved by ``thetas`` (B, k), point by point."""
        fill = per_channel("translate fill", self.fill, images.shape[1])
        return self._moved_by(images, self._shifts(thetas), fill)

    def expect(self, maps: np.ndarray, thetas: np.ndarray) -> np.ndarray:
        """The maps (B, ..., H, W) moved by what varies, 0 where uncovered."""
        return self._moved_by(maps, self._map_shifts(thetas), np.zeros(()))

    @property
    def products(self) -> Pairs:
        """Read bilinearly, pixels follow the product of both shifts."""
        return ((0, 1),) if len(self.parameters) == 2 and not self.has_pieces else ()

    @property
    def bends(self) -> tuple[bool, ...]:
        """Where places cross from one pixel to the next, which all do at once."""
        return (True,) * len(self.parameters)

    @property
    def bends_diagonally(self) -> bool:
        """Whether all pixels bend where the fractions of both shifts are equal, too: read on triangles."""
        return len(self.parameters) == 2 and self.has_pieces

    def on_side(self, above: bool) -> Self:
        """The same, enclosed on one side of the diagonals alone; boxes of amounts lie in one cell each.

        above: where the fraction of the shift down is the larger one.
        """
        sided = copy(self)
        sided._above = above
        return sided

    def enclose(self, images: Enclosure, amounts: Enclosure) -> Enclosure:
        """The images read at enclosed places, across triangles: see ``enclosing.resampling``."""
        fill = per_channel("translate fill", self.fill, images.shape[0])
        if self._above is not None:
            return _on_triangle(images, amounts, self._above, fill)
        fill = np.broadcast_to(fill[:, 0, 0], images.shape[:1])
        moving = amounts.moving
        own = amounts.along(moving)
        shifts = [
            self._range(name)[0] if number is None else own[number] for name, number in self._owners().items()
        ]
        places = _places(shifts, own, images.shape)
        return read_over(images, *places, fill, moving, triangles=self.has_pieces, products=amounts.products)

    def enclose_expected(self, maps: Enclosure, amounts: Enclosure) -> Enclosure:
        """The maps moved by what varies, 0 where uncovered."""
        if self._above is not None and (self._back == np.eye(2)).all():
            return _on_triangle(maps, amounts, self._above, np.zeros(()))
        moving = amounts.moving
        own = amounts.along(moving)
        nothing = Enclosure.exact(np.zeros(len(own.centre)), own.count)
        right, down = (nothing if number is None else own[number] for number in self._owners().values())
        shifts = [mixed(row, right, down) for row in self._back]
        places = _places(shifts, own, maps.shape)
        return read_maps_over(maps, *places, moving, triangles=self.has_pieces, products=amounts.products)

    def at_zero(self) -> Placement:
        """Read from the left and from above by the constant shifts."""
        right, down = self._shifts(np.zeros((1, len(self.parameters))))[0]
        return moved_by(-right, -down)

    def placed(self, later: Placement) -> Self:
        """For maps seen through ``later``."""
        placed = copy(self)
        placed._back = np.linalg.inv(later.matrix)
        return placed

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
        fill = per_channel("translate fill", self.fill, images.shape[1])
        return self._parts(images, self._shifts(piece.centre[None])[0], fill)

    def expected_parts(self, maps: np.ndarray, piece: Polytope) -> tuple[np.ndarray, np.ndarray]:
        """The same for the maps by what varies, 0 where uncovered: entries are pixels of the image."""
        return self._parts(maps, self._varying_shifts(piece.centre[None])[0], np.zeros(()))

    def carry(self, mask: np.ndarray) -> np.ndarray:
        """Every pixel that takes a share of a pixel of ``mask`` somewhere in the ranges."""
        offsets = self._whole_offsets() if self.has_pieces else self._bilinear_offsets()
        carried = np.zeros_like(mask)
        for right, down in offsets:
            carried |= _shifted(mask, right, down, np.zeros((), dtype=bool))
        return carried

    def describe(self) -> str:
        """In plain words."""
        across, along = (_in_words(*self._range(name)) for name in ("dx", "dy"))
        read = "" if self.has_pieces else ", read bilinearly"
        return f"content moved {across} pixels to the right and {along} down{read}"

    def _whole_offsets(self) -> set[tuple[int, int]]:
        """By how many whole pixels, right and down, shares of a pixel are moved somewhere in the ranges."""
        # A corner's weight is affine on a piece: if it is ever above 0, then at a vertex of the piece.
        shifts = self._shifts(np.vstack([piece.vertices for piece in self.pieces()]))
        return {
            (int(right), int(down))
            for weight, offset in _weights(shifts)
            for right, down in offset[weight > TOUCHING]
        }

    def _bilinear_offsets(self) -> set[tuple[int, int]]:
        """The same for bilinear reading: along each axis less than one pixel from some shift."""
        across, along = (
            range(floor(low - 1 + TOUCHING) + 1, ceil(high + 1 - TOUCHING))
            for low, high in (self._range("dx"), self._range("dy"))
        )
        return {(right, down) for right in across for down in along}

    def _moved_by(self, values: np.ndarray, shifts: np.ndarray, fill: np.ndarray) -> np.ndarray:
        if self.has_pieces:
            return _moved(values, shifts, fill)
        height, width = values.shape[-2:]
        across = np.arange(width) - shifts[:, 0, None, None]
        down = np.arange(height)[:, None] - shifts[:, 1, None, None]
        u, v = np.broadcast_arrays(across, down)
        return read(values, u, v, fill)

    def _range(self, name: str) -> tuple[float, float]:
        for parameter in self.parameters:
            if parameter.name == name:
                return parameter.low, parameter.high
        constant = number(name, self.constants[name])
        return constant, constant

    def _owners(self) -> dict[str, int | None]:
        """For both shifts, which of the own parameters it is; None where it is constant."""
        names = [parameter.name for parameter in self.parameters]
        return {name: names.index(name) if name in names else None for name in ("dx", "dy")}

    def _shifts(self, thetas: np.ndarray) -> np.ndarray:
        """(dx, dy) for each theta, (B, 2)."""
        constants = [self._range(name)[0] * (own is None) for name, own in self._owners().items()]
        return self._varying_shifts(thetas) + constants

    def _varying_shifts(self, thetas: np.ndarray) -> np.ndarray:
        """The same without constants."""
        shifts = np.zeros((len(thetas), 2))
        for column, own in enumerate(self._owners().values()):
            if own is not None:
                shifts[:, column] = thetas[:, own]
        return shifts

    def _map_shifts(self, thetas: np.ndarray) -> np.ndarray:
        """By how many of its entries the map is moved for each theta, (B, 2)."""
        return self._varying_shifts(thetas) @ self._back.T

    def _parts(
        self, images: np.ndarray, shift: np.ndarray, fill: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Constants and slopes round a shift (2,) inside the piece."""
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
        for own, at, gradient, origin in zip(
            self._owners().values(), shift, gradients, (right, down), strict=True
        ):
            if own is None:
                constants = constants + (at - origin) * gradient
            else:
                constants = constants - origin * gradient
                slopes.append(gradient)
        stacked = np.stack(slopes, axis=1) if slopes else np.zeros((len(images), 0, *images.shape[1:]))
        return constants, stacked


def _places(
    shifts: Sequence[Enclosure | float], amounts: Enclosure, shape: tuple[int, ...]
) -> tuple[Enclosure, Enclosure]:
    """Where every pixel comes from that is moved by the two shifts, (B, H, W)."""
    rows, columns = np.indices(shape[-2:], dtype=np.float64)
    nowhere = Enclosure.exact(np.zeros((len(amounts.centre), *rows.shape)), amounts.count)
    across, down = (
        nowhere + at - (shift.reshaped(1, 1) if isinstance(shift, Enclosure) else shift)
        for at, shift in zip((columns, rows), shifts, strict=True)
    )
    return across, down


def _on_triangle(values: Enclosure, amounts: Enclosure, above: bool, fill: np.ndarray) -> Enclosure:
    """Images or maps (B, ..., H, W) moved by amounts (B, 2) of one cell each, on one side of its diagonal.

    There they are affine in the amounts. Beyond the diagonal, where amounts reach, too, that says nothing.
    """
    cells = np.floor(amounts.centre).astype(np.int64)
    parts, order = [], []
    for right, down in np.unique(cells, axis=0).tolist():
        own = np.flatnonzero((cells == (right, down)).all(axis=1))
        some, moved = values.take(own), amounts.take(own)
        first, second = (1, 0) if above else (0, 1)
        corner, opposite = _placed_at(some, right, down, fill), _placed_at(some, right + 1, down + 1, fill)
        middle = _placed_at(some, right + second, down + first, fill)
        ways = [moved[k].reshaped(*(1,) * len(values.shape)) - (right, down)[k] for k in (first, second)]
        order.append(own)
        parts.append(corner + ways[0] * (middle - corner) + ways[1] * (opposite - middle))
    return Enclosure.joined(parts).take(np.argsort(np.concatenate(order)))


def _placed_at(values: Enclosure, right: int, down: int, fill: np.ndarray) -> Enclosure:
    """Enclosed images or maps moved by whole pixels."""
    nothing = np.zeros(())
    moved = Enclosure(
        _shifted(values.centre, right, down, fill),
        _shifted(values.slopes, right, down, nothing),
        _shifted(values.error, right, down, nothing),
    )
    if values.rest is None or values.rest_error is None:
        return moved
    rest, error = (_shifted(own, right, down, nothing) for own in (values.rest, values.rest_error))
    return replace(moved, rest=rest, rest_error=error)


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
