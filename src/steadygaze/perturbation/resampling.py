"""Changes that turn, zoom or shear the content, read between pixels by bilinear interpolation.

Pixel (x, y) of the changed image, counted from the centre of the image to the right and down, is the old
image at the place that the change moves to (x, y): A (x, y) + b, with A and b smooth in the amounts.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from copy import copy
from itertools import combinations_with_replacement
from math import prod
from typing import Any, Self, final

import numpy as np

from steadygaze.enclosing.curves import cosine, reciprocal, sine
from steadygaze.enclosing.enclosures import Enclosure, Pairs
from steadygaze.errors import PerturbationError
from steadygaze.perturbation.chain import AbstractPerturbation
from steadygaze.perturbation.placing import IN_PLACE, Placement
from steadygaze.perturbation.reaching import Places, reached
from steadygaze.perturbation.records import Constant, Parameter, Setting
from steadygaze.perturbation.settings import Amount, channels, ends, number, per_channel, varying

#: One row of (A, b): the factors of x and y, and the shift.
Row = tuple[np.ndarray | float, np.ndarray | float, np.ndarray | float]
#: The same of which only enclosures are known.
EnclosedRow = tuple[Enclosure | float, Enclosure | float, Enclosure | float]


class AbstractResampling(AbstractPerturbation):
    """The image read at places that are affine in the pixel, and smooth in the amounts.

    A final class gives ``sources``, the definition in its own words, and ``enclosed_sources``, and sets
    ``parameters``, ``constants`` and ``fill``; ``amounts`` names its amounts in order.
    """

    moves_map = True
    fill: float | tuple[float, ...]
    amounts: tuple[str, ...]
    #: Amounts that, where the others are fixed, move places along the rows alone, and in proportion.
    along_rows: tuple[str, ...] = ()
    _later: Placement = IN_PLACE

    @abstractmethod
    def sources(self, amounts: np.ndarray) -> tuple[Row, ...]:
        """Column and row of the old image for the amounts (k, B), varying or not: see ``Row``."""

    @abstractmethod
    def enclosed_sources(self, amounts: Enclosure) -> tuple[EnclosedRow, ...]:
        """The same for amounts (B, k) of which only enclosures are known, each entry being (B,)."""

    def check(self, shape: tuple[int, int, int]) -> None:
        """Raise PerturbationError if ``fill`` does not fit the channels."""
        per_channel(f"{self.name} fill", self.fill, shape[0])

    def stays_within(self, low: float, high: float) -> bool:
        """Whether what is filled in lies between the limits, as all that is interpolated does."""
        return bool(low <= np.min(self.fill) and np.max(self.fill) <= high)

    def apply(self, images: np.ndarray, thetas: np.ndarray) -> np.ndarray:
        """The images (B, C, H, W) read at the places for ``thetas`` (B, k)."""
        fill = per_channel(f"{self.name} fill", self.fill, images.shape[1])
        return read(images, *self._sources(thetas, images.shape), fill)

    def expect(self, maps: np.ndarray, thetas: np.ndarray) -> np.ndarray:
        """The maps (B, ..., H, W) read where their entries came from, 0 outside."""
        x, y, middle = centred(maps.shape)
        rows = [[_upright(part) for part in row] for row in self.sources(self._given(thetas))]
        right, down = self._moved(rows, x, y)
        return read(maps, x + right + middle[0], y + down + middle[1], np.zeros(()))

    @property
    def products(self) -> Pairs:
        """All: both coordinates of places move with every amount."""
        return tuple(combinations_with_replacement(range(len(self.parameters)), 2))

    def enclose(self, images: Enclosure, amounts: Enclosure) -> Enclosure:
        """The images read at enclosed places: see ``enclosing.resampling``."""
        fill = per_channel(f"{self.name} fill", self.fill, images.shape[0])
        moving = amounts.moving
        own = amounts.along(moving)
        places = self._placed(self.enclosed_sources(self._every(own)), images.shape, own)
        fill = np.broadcast_to(fill[:, 0, 0], images.shape[:1])
        known = {"products": amounts.products, "kinks": amounts.kinks}
        return read_over(images, *places, fill, moving, triangles=False, **known)

    def enclose_expected(self, maps: Enclosure, amounts: Enclosure) -> Enclosure:
        """The maps read at enclosed places, 0 outside."""
        x, y, middle = centred(maps.shape)
        moving = amounts.moving
        every = self._every(amounts.along(moving))
        rows = [[spread_out(part) for part in row] for row in self.enclosed_sources(every)]
        right, down = self._moved(rows, x, y)
        places = right + x + middle[0], down + y + middle[1]
        return read_maps_over(maps, *places, moving, triangles=False, products=amounts.products)

    def at_zero(self) -> Placement:
        """Read at the places for the constant amounts."""
        (a, b, p), (c, d, q) = (
            [float(np.ravel(part)[0]) for part in row]
            for row in self.sources(self._given(np.zeros((1, len(self.parameters)))))
        )
        return Placement(np.array([[a, b], [c, d]]), np.array([p, q]))

    def placed(self, later: Placement) -> Self:
        """For maps seen through ``later``."""
        placed = copy(self)
        placed._later = later
        return placed

    def carry(self, mask: np.ndarray) -> np.ndarray:
        """Every pixel that takes a share of a pixel of ``mask`` somewhere in the ranges."""
        x, y, middle = centred(mask.shape)
        x, y = x.ravel(), y.ravel()

        def places(pixels: np.ndarray, boxes: np.ndarray) -> Places:
            across, down = self.led(x[pixels], y[pixels], boxes)
            return across + middle[0], down + middle[1]

        ranges = np.array([(p.low, p.high) for p in self.parameters]).reshape(-1, 2)
        halve = [index for index, p in enumerate(self.parameters) if p.name not in self.along_rows]
        return reached(mask, ranges, halve, places)

    def led(self, x: np.ndarray, y: np.ndarray, boxes: np.ndarray) -> Places:
        """The columns and rows that pixels x, y (N,) are read at over ``boxes`` (N, k, 2) of amounts.

        All are counted from the centre.
        """
        rows = self.enclosed_sources(self._every(Enclosure.of_boxes(boxes)))
        nowhere = Enclosure.exact(np.zeros(len(x)), boxes.shape[1])
        across, down = (nowhere + place for place in self._led(rows, x, y))
        return across, down

    def range_of(self, name: str) -> tuple[float, float]:
        """Least and largest amount of this name; equal where it is constant."""
        for parameter in self.parameters:
            if parameter.name == name:
                return parameter.low, parameter.high
        constant = number(f"{self.name} {name}", self.constants[name])
        return constant, constant

    def in_words(self, name: str) -> str:
        """'-2 to 2', or the constant."""
        low, high = self.range_of(name)
        return f"{low:g}" if low == high else f"{low:g} to {high:g}"

    def _sources(self, thetas: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Column and row (B, H, W) of the old image for every pixel."""
        x, y, middle = centred(shape)
        rows = [[_upright(part) for part in row] for row in self.sources(self._given(thetas))]
        across, down = self._led(rows, x, y)
        return across + middle[0], down + middle[1]

    def _given(self, thetas: np.ndarray) -> np.ndarray:
        """All amounts in order (k, B), the constant ones too."""
        amounts = np.empty((len(self.amounts), len(thetas)))
        varied = iter(thetas.T)
        for k, name in enumerate(self.amounts):
            amounts[k] = self.range_of(name)[0] if name in self.constants else next(varied)
        return amounts

    def _moved(self, rows: Sequence[Sequence[Any]], x: np.ndarray, y: np.ndarray) -> tuple[Any, Any]:
        """How far to the right and down of itself each entry at x, y (H, W) came from: see ``placing``.

        ``rows`` are those of ``sources`` or ``enclosed_sources``, (B, 1, 1); arrays or enclosures (B, H, W).
        """
        constant = self.at_zero()
        right, down = self._strayed(rows, constant, *self._later.at(x, y))
        back = np.linalg.inv(constant.matrix @ self._later.matrix)
        return mixed(back[0], right, down), mixed(back[1], right, down)

    def _led(self, rows: Sequence[Sequence[Any]], x: np.ndarray, y: np.ndarray) -> tuple[Any, Any]:
        """Column and row, counted from the centre, that ``rows`` lead pixels x, y to."""
        across, down = (a * x + b * y + c for a, b, c in rows)
        return across, down

    def _strayed(
        self, rows: Sequence[Sequence[Any]], constant: Placement, x: np.ndarray, y: np.ndarray
    ) -> tuple[Any, Any]:
        """How far that is from where ``constant``, all amounts at 0, leads them."""
        right, down = (
            (a - own[0]) * x + (b - own[1]) * y + (c - shift)
            for (a, b, c), own, shift in zip(rows, constant.matrix, constant.shift, strict=True)
        )
        return right, down

    def _placed(
        self, rows: Sequence[EnclosedRow], shape: tuple[int, ...], amounts: Enclosure
    ) -> tuple[Enclosure, Enclosure]:
        """Column and row (B, H, W), counted from the first pixel, that ``rows`` lead every pixel to."""
        from steadygaze.enclosing.resampling import places_of  # numba, where it is needed

        boxes, count = amounts.slopes.shape[:2]

        def known(own: Enclosure | float) -> Enclosure:
            """A constant is the same over all boxes."""
            return own if isinstance(own, Enclosure) else Enclosure.exact(np.full(boxes, own), count)

        return places_of([[known(own) for own in row] for row in rows], *shape[-2:])

    def _every(self, amounts: Enclosure) -> Enclosure:
        """All amounts in order, the constant ones too."""
        rows, count = len(amounts.centre), amounts.count
        every = Enclosure(
            np.zeros((rows, len(self.amounts))),
            np.zeros((rows, count, len(self.amounts))),
            np.zeros((rows, len(self.amounts))),
        )
        varied = iter(range(amounts.shape[0]))
        for k, name in enumerate(self.amounts):
            if name in self.constants:
                every.centre[:, k] = self.range_of(name)[0]
            else:
                own = next(varied)
                every.centre[:, k] = amounts.centre[:, own]
                every.slopes[:, :, k], every.error[:, k] = amounts.slopes[:, :, own], amounts.error[:, own]
        return every


def read(values: np.ndarray, u: np.ndarray, v: np.ndarray, fill: np.ndarray) -> np.ndarray:
    """The images or maps (B, ..., H, W) at columns and rows ``u``, ``v`` (B, H, W), bilinear between pixels.

    ``fill``, which broadcasts to them, outside; it comes in within one pixel of the border.
    """
    # Batches of one and the same image are read from that one.
    rows = values[:1] if values.strides[0] == 0 else values
    height, width = values.shape[-2:]
    # One pixel of fill all round: whatever lies beyond is read from there.
    image = np.empty((*rows.shape[:-2], height + 2, width + 2))
    image[...] = fill
    image[..., 1:-1, 1:-1] = rows
    layers = prod(values.shape[1:-2])
    image = image.reshape(len(rows), layers, (height + 2) * (width + 2))
    u, v = np.clip(u, -1, width) + 1, np.clip(v, -1, height) + 1
    column, row = np.minimum(u.astype(int), width), np.minimum(v.astype(int), height)
    fu, fv = (u - column)[:, None], (v - row)[:, None]
    corner = row * (width + 2) + column
    batch = np.arange(len(rows))[:, None, None, None]
    layer = np.arange(layers)[:, None, None]

    def at(right: int, down: int) -> np.ndarray:
        return image[batch, layer, (corner + (down * (width + 2) + right))[:, None]]

    top, bottom = at(0, 0), at(0, 1)
    top = top + fu * (at(1, 0) - top)
    bottom = bottom + fu * (at(1, 1) - bottom)
    return (top + fv * (bottom - top)).reshape(values.shape)


def read_over(
    values: Enclosure,
    u: Enclosure,
    v: Enclosure,
    fill: np.ndarray,
    moving: np.ndarray,
    *,
    triangles: bool,
    products: Pairs = (),
    kinks: int = 0,
) -> Enclosure:
    """Images (B, C, H, W) read at enclosed places (B, H, W), ``fill`` (C,) outside.

    ``moving`` are the numbers of the coordinates that places depend on, ``products`` those of the amounts
    that move them, and so many ``kinks`` the last coordinates, free for what pixels share.
    """
    from steadygaze.enclosing.resampling import resampled  # numba, where it is needed

    return resampled(values, u, v, fill, moving, triangles=triangles, products=products, kinks=kinks)


def read_maps_over(
    maps: Enclosure,
    u: Enclosure,
    v: Enclosure,
    moving: np.ndarray,
    *,
    triangles: bool,
    products: Pairs = (),
) -> Enclosure:
    """Maps (B, ..., H, W) read at enclosed places (B, H, W), 0 outside."""
    layers = maps.as_layers()
    fill = np.zeros(layers.shape[0])
    read = read_over(layers, u, v, fill, moving, triangles=triangles, products=products)
    return read.reshaped(*maps.shape)


def mixed(weights: np.ndarray, right: Any, down: Any) -> Any:
    """``weights`` (2,), not both 0, times two arrays or enclosures, added up."""
    terms = [weight * part for weight, part in zip(weights, (right, down), strict=True) if weight != 0]
    return terms[0] if len(terms) == 1 else terms[0] + terms[1]


@final
class Rotate(AbstractResampling):
    """The content turned counter-clockwise about the centre of the image. Not affine: for bounds.

    The image is read bilinearly between its pixels.

    Args:
        low: least amount, in degrees, at most 0; without `high` a constant amount, which does not vary.
        high: largest amount, at least 0.
        fill: what is uncovered, one number or one for each channel.

    Raises:
        PerturbationError: if the range is reversed, empty, not finite or leaves out 0.
    """

    name = "rotate"
    amounts = ("degrees",)
    settings = (Setting("degrees", "amount"), Setting("fill", "channels"))

    def __init__(
        self, low: float, high: float | None = None, *, fill: float | tuple[float, ...] = 0.0
    ) -> None:
        self.parameters, amount = varying(self.name, "degrees", "degrees", low, high)
        self.fill = channels("rotate fill", fill)
        self.constants = {**amount, "fill": self.fill}

    def sources(self, amounts: np.ndarray) -> tuple[Row, Row]:
        """Turned back: rows run down, so that counter-clockwise is from right to up, to smaller rows."""
        angle = np.deg2rad(amounts[0])
        cos, sin = np.cos(angle), np.sin(angle)
        return (cos, -sin, 0.0), (sin, cos, 0.0)

    def enclosed_sources(self, amounts: Enclosure) -> tuple[EnclosedRow, EnclosedRow]:
        """The same."""
        cos, sin = cosine(amounts[0]), sine(amounts[0])
        return (cos, -sin, 0.0), (sin, cos, 0.0)

    def describe(self) -> str:
        """In plain words."""
        return f"content turned {self.in_words('degrees')} degrees counter-clockwise"


@final
class Scale(AbstractResampling):
    """The content zoomed by 1 + amount about the centre of the image. Not affine: for bounds.

    The image is read bilinearly between its pixels.

    Args:
        low: least amount, a pure number above -1, at most 0; without `high` a constant amount, which does
            not vary.
        high: largest amount, at least 0.
        fill: what is uncovered, one number or one for each channel.

    Raises:
        PerturbationError: if the range is reversed, empty, not finite or leaves out 0, or reaches down to
            -1.
    """

    name = "scale"
    amounts = ("amount",)
    settings = (Setting("amount", "amount"), Setting("fill", "channels"))

    def __init__(
        self, low: float, high: float | None = None, *, fill: float | tuple[float, ...] = 0.0
    ) -> None:
        self.parameters, amount = varying(self.name, "amount", "", low, high)
        self.fill = channels("scale fill", fill)
        self.constants = {**amount, "fill": self.fill}
        least = self.range_of("amount")[0]
        if least <= -1:
            raise PerturbationError(
                f"scale amount reaches {least:g}; it must be above -1, where nothing of the content is left"
            )

    def sources(self, amounts: np.ndarray) -> tuple[Row, Row]:
        """Nearer to the centre by the factor."""
        factor = 1 / (1 + amounts[0])
        return (factor, 0.0, 0.0), (0.0, factor, 0.0)

    def enclosed_sources(self, amounts: Enclosure) -> tuple[EnclosedRow, EnclosedRow]:
        """The same."""
        factor = reciprocal(amounts[0] + 1.0)
        return (factor, 0.0, 0.0), (0.0, factor, 0.0)

    def describe(self) -> str:
        """In plain words."""
        return f"content zoomed by {self.in_words('amount')} about the centre"


@final
class Shear(AbstractResampling):
    """The content sheared about the centre: x + ``x`` y first, then y + ``y`` x; areas stay what they are.

    The image is read bilinearly between its pixels. Not affine: for bounds.

    Args:
        x: pixels to the right for each pixel down: a range `(low, high)` that contains 0, or a constant.
        y: pixels down for each pixel to the right, likewise.
        fill: what is uncovered, one number or one for each channel.

    Raises:
        PerturbationError: if a range is reversed, empty, not finite or leaves out 0.
    """

    name = "shear"
    amounts = ("x", "y")
    along_rows = ("x",)
    settings = (Setting("x", "range"), Setting("y", "range"), Setting("fill", "channels"))

    def __init__(self, x: Amount = 0.0, y: Amount = 0.0, *, fill: float | tuple[float, ...] = 0.0) -> None:
        parameters: tuple[Parameter, ...] = ()
        constants: dict[str, Constant] = {}
        for name, amount in (("x", x), ("y", y)):
            own, constant = varying(self.name, name, "", *ends(f"shear {name}", amount))
            parameters += own
            constants |= constant
        self.fill = channels("shear fill", fill)
        self.parameters = parameters
        self.constants = {**constants, "fill": self.fill}

    def sources(self, amounts: np.ndarray) -> tuple[Row, Row]:
        """Undone in turn: first y - b x, then x - a times that."""
        a, b = amounts
        return (1 + a * b, -a, 0.0), (-b, 1.0, 0.0)

    def enclosed_sources(self, amounts: Enclosure) -> tuple[EnclosedRow, EnclosedRow]:
        """The same."""
        a, b = amounts[0], amounts[1]
        return (a * b + 1.0, -a, 0.0), (-b, 1.0, 0.0)

    def describe(self) -> str:
        """In plain words."""
        return f"content sheared by {self.in_words('x')} along x and {self.in_words('y')} along y"


def centred(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Columns and rows (H, W) counted from the centre, and the centre."""
    height, width = shape[-2:]
    middle = (width - 1) / 2, (height - 1) / 2
    y, x = np.meshgrid(np.arange(height) - middle[1], np.arange(width) - middle[0], indexing="ij")
    return x, y, middle


def _upright(factor: np.ndarray | float) -> np.ndarray:
    return np.reshape(factor, (-1, 1, 1))


def spread_out(factor: Enclosure | float) -> Enclosure | float:
    return factor.reshaped(1, 1) if isinstance(factor, Enclosure) else factor
