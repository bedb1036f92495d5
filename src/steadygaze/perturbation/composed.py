"""Turning, zooming, shearing and shifting at once, with one reading of the image."""

from __future__ import annotations

from typing import final

import numpy as np

from steadygaze.enclosing.curves import cosine, reciprocal, sine
from steadygaze.enclosing.enclosures import Enclosure
from steadygaze.errors import PerturbationError
from steadygaze.perturbation.records import Constant, Parameter, Setting
from steadygaze.perturbation.resampling import AbstractResampling, EnclosedRow, Row
from steadygaze.perturbation.settings import Amount, channels, ends, varying

_UNITS = {"degrees": "degrees", "scale": "", "shear": "", "dx": "pixels", "dy": "pixels"}


@final
class Affine(AbstractResampling):
    """The content sheared, zoomed and turned about the centre, then moved: one map, one bilinear reading.

    A chain of shear, scale, rotate and translate reads the image at each link and blurs it each time; here it
    is read once, as torchvision's and kornia's random affine do. Content at (x, y), counted from the centre
    to the right and down, goes to ``R S H (x, y) + (dx, dy)``: H shears along the rows, S zooms, R turns
    counter-clockwise. The angles of those two count clockwise, and their shear is an angle whose tangent is
    -``shear``; order and centre are the same. With one amount alone it is shear, scale, rotate, or translate
    read bilinearly. Not affine in its amounts: for bounds.

    Args:
        degrees: the turn: a range `(low, high)` that contains 0, or a constant.
        scale: the zoom is 1 + this, a pure number above -1, likewise.
        shear: pixels to the right for each pixel down, likewise.
        dx: pixels to the right, likewise.
        dy: pixels down, likewise.
        fill: what is uncovered, one number or one for each channel.

    Raises:
        PerturbationError: if a range is reversed, empty, not finite or leaves out 0, or `scale` reaches down
            to -1.
    """

    name = "affine"
    amounts = tuple(_UNITS)
    settings = (*(Setting(name, "range") for name in _UNITS), Setting("fill", "channels"))

    def __init__(
        self,
        degrees: Amount = 0.0,
        scale: Amount = 0.0,
        shear: Amount = 0.0,
        dx: Amount = 0.0,
        dy: Amount = 0.0,
        *,
        fill: float | tuple[float, ...] = 0.0,
    ) -> None:
        parameters: tuple[Parameter, ...] = ()
        constants: dict[str, Constant] = {}
        for (name, unit), amount in zip(_UNITS.items(), (degrees, scale, shear, dx, dy), strict=True):
            own, constant = varying(self.name, name, unit, *ends(f"affine {name}", amount))
            parameters += own
            constants |= constant
        self.fill = channels("affine fill", fill)
        self.parameters = parameters
        self.constants = {**constants, "fill": self.fill}
        least = self.range_of("scale")[0]
        if least <= -1:
            raise PerturbationError(
                f"affine scale reaches {least:g}; it must be above -1, where nothing of the content is left"
            )

    def sources(self, amounts: np.ndarray) -> tuple[Row, Row]:
        """Moved back, turned back, zoomed back, sheared back."""
        degrees, scale, shear, dx, dy = amounts
        angle, factor = np.deg2rad(degrees), 1 / (1 + scale)
        cos, sin = factor * np.cos(angle), factor * np.sin(angle)
        a, b = cos - shear * sin, -(sin + shear * cos)
        return (a, b, -(a * dx + b * dy)), (sin, cos, -(sin * dx + cos * dy))

    def enclosed_sources(self, amounts: Enclosure) -> tuple[EnclosedRow, EnclosedRow]:
        """The same."""
        degrees, scale, shear, dx, dy = (amounts[k] for k in range(len(self.amounts)))
        factor = reciprocal(scale + 1.0)
        cos, sin = factor * cosine(degrees), factor * sine(degrees)
        a, b = cos - shear * sin, -(sin + shear * cos)
        return (a, b, -(a * dx + b * dy)), (sin, cos, -(sin * dx + cos * dy))

    def describe(self) -> str:
        """In plain words."""
        return (
            f"content sheared by {self.in_words('shear')}, zoomed by {self.in_words('scale')} and turned "
            f"{self.in_words('degrees')} degrees counter-clockwise about the centre, then moved "
            f"{self.in_words('dx')} pixels to the right and {self.in_words('dy')} down"
        )
