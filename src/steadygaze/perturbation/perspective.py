"""A flat picture seen aslant: turned in space, and looked at by a camera."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np

from steadygaze.enclosing.curves import cosine, reciprocal, sine
from steadygaze.enclosing.enclosures import Enclosure
from steadygaze.errors import PerturbationError
from steadygaze.perturbation.placing import IN_PLACE, Placement
from steadygaze.perturbation.records import Constant, Parameter, Setting
from steadygaze.perturbation.resampling import AbstractResampling, EnclosedRow, Row, centred, spread_out
from steadygaze.perturbation.settings import Amount, channels, ends, number, varying

# What places are divided by is this at least: below it the sight runs along the picture, almost past it.
_LEAST = 0.1


@final
class Perspective(AbstractResampling):
    """The picture turned in space about its centre, seen by a camera in front of it: a homography.

    It is tilted by ``pitch`` about its horizontal axis, which takes its upper edge away, and then turned by
    ``yaw`` about the upright one, which takes its right edge away. The camera looks at the centre from
    ``distance`` pixels before it, and shows an untilted picture as large as it is. With c, s the cosines and
    sines of yaw y and pitch p, pixel (u, v), counted from the centre to the right and down, is read at

        (c_p u - s_y s_p v, c_y v) / (c_y c_p + (s_p v - s_y c_p u) / distance)

    bilinearly. Not affine in its amounts: for bounds.

    Args:
        yaw: degrees: a range `(low, high)` that contains 0, or 0.
        pitch: degrees, likewise.
        distance: of the camera, in pixels; in a specification also in percent of the image's shorter edge.
        fill: what is uncovered, one number or one for each channel.

    Raises:
        PerturbationError: if a range is reversed, empty, not finite or leaves out 0, if a constant is not 0,
            or if `distance` is not above 0.
    """

    name = "perspective"
    amounts = ("yaw", "pitch")
    settings = (
        Setting("yaw", "range"),
        Setting("pitch", "range"),
        Setting("distance", "number"),
        Setting("fill", "channels"),
    )

    def __init__(
        self,
        yaw: Amount = 0.0,
        pitch: Amount = 0.0,
        *,
        distance: float,
        fill: float | tuple[float, ...] = 0.0,
    ) -> None:
        parameters: tuple[Parameter, ...] = ()
        constants: dict[str, Constant] = {}
        for name, amount in (("yaw", yaw), ("pitch", pitch)):
            own, constant = varying(self.name, name, "degrees", *ends(f"perspective {name}", amount))
            parameters += own
            constants |= constant
            if constant.get(name):
                raise PerturbationError(
                    f"perspective {name} is {constant[name]}; it must be a range that contains 0, or 0: of a "
                    "picture that is aslant from the start there is no expected map"
                )
        self._distance = number("perspective distance", distance)
        if self._distance <= 0:
            raise PerturbationError(
                f"perspective distance is {self._distance:g} pixels; it must be above 0, such as the image's "
                "width"
            )
        self.fill = channels("perspective fill", fill)
        self.parameters = parameters
        self.constants = {**constants, "distance": self._distance, "fill": self.fill}

    def check(self, shape: tuple[int, int, int]) -> None:
        """Raise PerturbationError if ``fill`` does not fit, or the camera sees past the picture's plane."""
        super().check(shape)
        self._check_sight((shape[2] - 1) / 2, (shape[1] - 1) / 2)

    def sources(self, amounts: np.ndarray) -> tuple[Row, ...]:
        """Along the sight back to the picture; both are to be divided by the third."""
        yaw, pitch = np.deg2rad(amounts)
        (c_y, s_y), (c_p, s_p) = ((np.cos(angle), np.sin(angle)) for angle in (yaw, pitch))
        near = 1 / self._distance
        return (c_p, -s_y * s_p, 0.0), (0.0, c_y, 0.0), (-s_y * c_p * near, s_p * near, c_y * c_p)

    def enclosed_sources(self, amounts: Enclosure) -> tuple[EnclosedRow, ...]:
        """The same."""
        (c_y, s_y), (c_p, s_p) = ((cosine(amounts[k]), sine(amounts[k])) for k in range(2))
        near = 1 / self._distance
        return (c_p, -(s_y * s_p), 0.0), (0.0, c_y, 0.0), (s_y * c_p * -near, s_p * near, c_y * c_p)

    def at_zero(self) -> Placement:
        """In place: constant amounts are 0."""
        return IN_PLACE

    def describe(self) -> str:
        """In plain words."""
        return (
            f"picture tilted by {self.in_words('pitch')} degrees and turned by {self.in_words('yaw')} in "
            f"space, seen from {self._distance:g} pixels before it"
        )

    def _placed(
        self, rows: Sequence[EnclosedRow], shape: tuple[int, ...], amounts: Enclosure
    ) -> tuple[Enclosure, Enclosure]:
        x, y, middle = centred(shape)
        led = self._led([[spread_out(part) for part in row] for row in rows], x, y)
        return led[0] + middle[0], led[1] + middle[1]

    def _led(self, rows: Sequence[Sequence[Any]], x: np.ndarray, y: np.ndarray) -> tuple[Any, Any]:
        right, down = self._strayed(rows, IN_PLACE, x, y)
        return right + x, down + y

    def _strayed(
        self, rows: Sequence[Sequence[Any]], constant: Placement, x: np.ndarray, y: np.ndarray
    ) -> tuple[Any, Any]:
        """(N - p D) / D for a pixel p that is led to N / D: what is divided is small."""
        del constant
        self._check_sight(float(np.abs(x).max(initial=0)), float(np.abs(y).max(initial=0)))
        across, down, divisor = (a * x + b * y + c for a, b, c in rows)
        share = reciprocal(divisor, least=_LEAST / 2) if isinstance(divisor, Enclosure) else 1 / divisor
        return (across - divisor * x) * share, (down - divisor * y) * share

    def _check_sight(self, x: float, y: float) -> None:
        """Raise PerturbationError if for a pixel so far from the centre the divisor may fall too low."""
        yaw, pitch = (max(map(abs, self.range_of(name))) for name in self.amounts)
        (c_y, s_y), (c_p, s_p) = (
            (np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(min(angle, 90)))) for angle in (yaw, pitch)
        )
        if max(yaw, pitch) >= 90 or c_y * c_p - (s_y * x + s_p * y) / self._distance < _LEAST:
            raise PerturbationError(
                f"perspective turns by up to {yaw:g} degrees and tilts by up to {pitch:g}, so that a camera "
                f"{self._distance:g} pixels away sees past the picture; give smaller ranges, or a larger "
                "distance"
            )
