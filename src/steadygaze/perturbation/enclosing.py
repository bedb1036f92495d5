"""Enclosures of perturbations that only bound their derivatives or their values."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from steadygaze.enclosing.enclosures import UNIT, Enclosure
from steadygaze.errors import PerturbationError
from steadygaze.perturbation.records import Parameter

# How many roundings of its largest pixel a perturbation of one's own may be off by, in what it computes.
_ROUNDINGS = 256


class Bounded(Protocol):
    """A perturbation as far as it is asked here; see ``AbstractPerturbation``."""

    name: str
    parameters: tuple[Parameter, ...]

    def apply(self, images: np.ndarray, thetas: np.ndarray) -> np.ndarray: ...

    def slope_bounds(
        self, image: np.ndarray, lows: np.ndarray, highs: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]: ...

    def interval(
        self, image: np.ndarray, lows: np.ndarray, highs: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]: ...


def by_slopes(perturbation: Bounded, images: Enclosure, amounts: Enclosure) -> Enclosure:
    """The mean-value form: x(middle) + sum_j D_j (theta_j - middle_j), D_j between the slope bounds.

    ``images`` are exact and the same in every row. Raises PerturbationError where the bounds are none.
    """
    middles, image = amounts.centre, images.centre[0]
    found = perturbation.slope_bounds(image, *_ranges(perturbation, amounts))
    slopes = _between(perturbation.name, "slope_bounds", found, (*middles.shape, *image.shape), amounts.count)
    values = perturbation.apply(np.broadcast_to(image, (len(middles), *image.shape)), middles)
    enclosed = _rounded(Enclosure.exact(values, amounts.count))
    for j in range(middles.shape[1]):
        enclosed = enclosed + slopes[j] * (amounts[j] - middles[:, j]).reshaped(1, 1, 1)
    return enclosed


def by_range(perturbation: Bounded, images: Enclosure, amounts: Enclosure) -> Enclosure:
    """Between the least and the largest values; ``images`` and errors as for ``by_slopes``."""
    image = images.centre[0]
    found = perturbation.interval(image, *_ranges(perturbation, amounts))
    return _rounded(
        _between(perturbation.name, "interval", found, (len(amounts.centre), *image.shape), amounts.count)
    )


def _ranges(perturbation: Bounded, amounts: Enclosure) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest amounts (B, k), which rounding does not lead out of the ranges."""
    first = np.array([parameter.low for parameter in perturbation.parameters])
    last = np.array([parameter.high for parameter in perturbation.parameters])
    low, high = amounts.bounds()
    return np.clip(low, first, last), np.clip(high, first, last)


def _rounded(values: Enclosure) -> Enclosure:
    largest = values.magnitude().max(axis=(1, 2, 3), keepdims=True)
    return values.widened(_ROUNDINGS * UNIT * largest)


def _between(
    name: str, method: str, found: tuple[np.ndarray, np.ndarray], shape: tuple[int, ...], count: int
) -> Enclosure:
    low, high = (np.asarray(values, dtype=np.float64) for values in found)
    if low.shape != shape or high.shape != shape:
        raise PerturbationError(
            f"{name}.{method} returned arrays of shapes {low.shape} and {high.shape}; both must be {shape}"
        )
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low <= high).all()):
        raise PerturbationError(
            f"{name}.{method} returned bounds that are not finite or reversed; low must be at most high"
        )
    return Enclosure.between(low, high, count)
