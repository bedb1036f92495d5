"""Changes that turn, zoom or shear the content, read between pixels by bilinear interpolation.

Pixel (x, y) of the changed image, counted from the centre of the image to the right and down, is the old
image at the place that the change moves to (x, y): A (x, y) + b, with A and b smooth in the amounts.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import final

import numpy as np

from steadygaze.errors import PerturbationError
from steadygaze.geometry.curves import cosine, reciprocal, sine
from steadygaze.geometry.enclosures import Enclosure
from steadygaze.perturbation.chain import AbstractPerturbation
from steadygaze.perturbation.records import Constant, Parameter, Setting
from steadygaze.perturbation.settings import Amount, channels, ends, number, per_channel, varying

# Into how many boxes the ranges are cut to see where a pixel may get to.
_CUTS = 256

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

    @abstractmethod
    def sources(self, amounts: np.ndarray) -> tuple[Row, Row]:
        """Column and row of the old image for the amounts (k, B), varying or not: see ``Row``."""

    @abstractmethod
    def enclosed_sources(self, amounts: Enclosure) -> tuple[EnclosedRow, EnclosedRow]:
        """The same for amounts (B, k) of which only enclosures are known, each entry being (B,)."""

    def check(self, shape: tuple[int, int, int]) -> None:
        """Raise PerturbationError if ``fill`` does not fit the channels."""
        per_channel(f"{self.name} fill", self.fill, shape[0])

    def apply(self, images: np.ndarray, thetas: np.ndarray) -> np.ndarray:
        """The images (B, C, H, W) read at the places for ``thetas`` (B, k)."""
        fill = per_channel(f"{self.name} fill", self.fill, images.shape[1])
        return read(images, *self._sources(thetas, images.shape), fill)

    def expect(self, maps: np.ndarray, thetas: np.ndarray) -> np.ndarray:
        """The maps (B, ..., H, W) read at the same places, 0 outside."""
        return read(maps, *self._sources(thetas, maps.shape), np.zeros(()))

    def enclose(self, images: Enclosure, amounts: Enclosure) -> Enclosure:
        """The images read at enclosed places: see ``geometry.resampling``."""
        fill = per_channel(f"{self.name} fill", self.fill, images.shape[0])
        return self._read(images, amounts, np.broadcast_to(fill[:, 0, 0], images.shape[:1]))

    def enclose_expected(self, maps: Enclosure, amounts: Enclosure) -> Enclosure:
        """The maps read at the same places, 0 outside."""
        layers = maps.as_layers()
        return self._read(layers, amounts, np.zeros(layers.shape[0])).reshaped(*maps.shape)

    def carry(self, mask: np.ndarray) -> np.ndarray:
        """Every pixel that may take a share of a pixel of ``mask`` somewhere in the ranges."""
        return touched(mask, *self._enclosed_sources(boxes_of(self.parameters), mask.shape))

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

    def _read(self, values: Enclosure, amounts: Enclosure, fill: np.ndarray) -> Enclosure:
        from steadygaze.geometry.resampling import resampled  # numba, where it is needed

        u, v = self._enclosed_sources(amounts, values.shape)
        return resampled(values, u, v, fill, triangles=False)

    def _sources(self, thetas: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Column and row (B, H, W) of the old image for every pixel."""
        x, y, middle = _centred(shape)
        amounts = np.empty((len(self.amounts), len(thetas)))
        varied = iter(thetas.T)
        for k, name in enumerate(self.amounts):
            amounts[k] = self.range_of(name)[0] if name in self.constants else next(varied)
        across, down = (_upright(a) * x + _upright(b) * y + _upright(c) for a, b, c in self.sources(amounts))
        return across + middle[0], down + middle[1]

    def _enclosed_sources(self, amounts: Enclosure, shape: tuple[int, ...]) -> tuple[Enclosure, Enclosure]:
        x, y, middle = _centred(shape)
        rows, count = len(amounts.centre), amounts.count
        nowhere = Enclosure.exact(np.zeros((rows, *x.shape)), count)
        every = self._every(amounts)
        across, down = (
            nowhere + _spread(a) * x + _spread(b) * y + _spread(c) for a, b, c in self.enclosed_sources(every)
        )
        return across + middle[0], down + middle[1]

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
    image = image.reshape(len(rows), -1, (height + 2) * (width + 2))
    u, v = np.clip(u, -1, width) + 1, np.clip(v, -1, height) + 1
    column, row = np.minimum(u.astype(int), width), np.minimum(v.astype(int), height)
    fu, fv = (u - column)[:, None], (v - row)[:, None]
    corner = row * (width + 2) + column
    batch = np.arange(len(rows))[:, None, None, None]
    layer = np.arange(image.shape[1])[:, None, None]

    def at(right: int, down: int) -> np.ndarray:
        return image[batch, layer, (corner + (down * (width + 2) + right))[:, None]]

    top, bottom = at(0, 0), at(0, 1)
    top = top + fu * (at(1, 0) - top)
    bottom = bottom + fu * (at(1, 1) - bottom)
    return (top + fv * (bottom - top)).reshape(values.shape)


def boxes_of(parameters: tuple[Parameter, ...]) -> Enclosure:
    """The ranges of one or two parameters, cut into equal boxes (B, k); a point of none."""
    if not parameters:
        return Enclosure.of_boxes(np.zeros((1, 0, 2)))
    parts = round(_CUTS ** (1 / len(parameters)))
    knots = [np.linspace(p.low, p.high, parts + 1) for p in parameters]
    grids = np.meshgrid(*[np.arange(parts)] * len(parameters), indexing="ij")
    low, high = (
        np.stack([own[grid.ravel() + after] for own, grid in zip(knots, grids, strict=True)], axis=1)
        for after in (0, 1)
    )
    return Enclosure.of_boxes(np.stack([low, high], axis=2))


def touched(mask: np.ndarray, u: Enclosure, v: Enclosure) -> np.ndarray:
    """The pixels (H, W) that, read bilinearly at some of the places (B, H, W), take a share of ``mask``."""
    from steadygaze.geometry.resampling import extremes, framed  # numba, where it is needed

    image = framed(mask[None, None].astype(np.float64), np.zeros(1))
    return np.any(extremes(image, u, v, triangles=False)[1] > 0, axis=(0, 1))


@final
class Rotate(AbstractResampling):
    """The content turned by ``degrees`` counter-clockwise about the centre of the image."""

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
    """The content zoomed by 1 + ``amount`` about the centre of the image; above -1."""

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

    ``x`` and ``y`` are ranges (low, high) or single numbers, in pixels to the right for each pixel down, and
    in pixels down for each pixel to the right.
    """

    name = "shear"
    amounts = ("x", "y")
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


def _centred(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Columns and rows (H, W) counted from the centre, and the centre."""
    height, width = shape[-2:]
    middle = (width - 1) / 2, (height - 1) / 2
    y, x = np.meshgrid(np.arange(height) - middle[1], np.arange(width) - middle[0], indexing="ij")
    return x, y, middle


def _upright(factor: np.ndarray | float) -> np.ndarray:
    return np.reshape(factor, (-1, 1, 1))


def _spread(factor: Enclosure | float) -> Enclosure | float:
    return factor.reshaped(1, 1) if isinstance(factor, Enclosure) else factor
