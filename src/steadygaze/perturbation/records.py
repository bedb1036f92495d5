"""The records that perturbations, their settings and chains exchange."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Literal

import numpy as np

from steadygaze.errors import PerturbationError
from steadygaze.geometry.polytope import Polytope, box

# Widths are multiplied, squared and divided by; double precision ends at some 1e-308.
_NARROWEST = 1e-100

#: A constant of a perturbation as reports and specifications show it.
Constant = float | int | bool | str | tuple[float, ...]


#: The kinds of settings that a specification can name.
Kind = Literal["amount", "range", "number", "whole", "flag", "word", "channels", "array"]


@dataclass(frozen=True)
class Setting:
    """One setting of a built-in perturbation, as a specification names it.

    An ``amount`` is handed to the constructor as ``low, high`` in front, the rest by keyword. ``words`` are
    what a word may be; an array may be one of them, or a file.
    """

    name: str
    kind: Kind
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Parameter:
    """A varying amount.

    Attributes:
        name: one word.
        unit: in words, `""` where it is a pure number.
        low: least amount, at most 0.
        high: largest amount, at least 0 and above `low`.

    Raises:
        PerturbationError: if the range is not finite, reversed or empty, or does not contain 0.
    """

    name: str
    unit: str
    low: float
    high: float

    def __post_init__(self) -> None:
        check_range(self.name, self.low, self.high)


@dataclass(frozen=True, eq=False)
class AffineImage:
    """An image (or map) affine in theta: ``base`` (*shape,) + sum_i theta_i ``directions`` (n, *shape)[i]."""

    base: np.ndarray
    directions: np.ndarray

    def at(self, thetas: np.ndarray) -> np.ndarray:
        """The images (B, *shape) at ``thetas`` (B, n)."""
        return self.base + np.tensordot(thetas, self.directions, axes=1)


@dataclass(frozen=True, eq=False)
class AffinePiece:
    """A polytope in the parameters of the whole chain, and the image, which is affine on it."""

    polytope: Polytope
    image: AffineImage


def check_range(where: str, low: float, high: float) -> None:
    """Raise PerturbationError, naming ``where``, unless low < high are finite and enclose 0."""
    if not (isfinite(low) and isfinite(high)):
        raise PerturbationError(f"the range of {where} is {low}..{high}; both ends must be finite numbers")
    if low == high:
        raise PerturbationError(
            f"the range of {where} is {low}..{high}, a single point; "
            f"give the single number {low} to keep it constant"
        )
    if low > high:
        raise PerturbationError(
            f"the range of {where} is {low}..{high}, which is reversed; write {high}..{low}"
        )
    if not _NARROWEST <= high - low <= 1 / _NARROWEST:
        raise PerturbationError(
            f"the range of {where} is {low}..{high}, whose width cannot be computed with; it must be at "
            f"least {_NARROWEST:g} and at most {1 / _NARROWEST:g}: give another unit, or a single number"
        )
    if not low <= 0 <= high:
        raise PerturbationError(
            f"the range of {where} is {low}..{high}, which leaves out 0, where nothing "
            "is changed; widen the range so that it contains 0"
        )


def box_of(parameters: tuple[Parameter, ...]) -> Polytope:
    """The box of these parameters, in their order."""
    return box(np.array([p.low for p in parameters]), np.array([p.high for p in parameters]))
