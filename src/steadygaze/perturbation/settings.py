"""What the built-in perturbations may be told: the kinds of settings, checked in one place."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from numbers import Integral, Real

import numpy as np

from steadygaze.errors import PerturbationError
from steadygaze.perturbation.records import Constant, Parameter, check_range

#: What a range may be given as: (low, high) varies, a single number is a constant.
Amount = float | tuple[float, float]


def number(where: str, value: object) -> float:
    """``value`` as a finite float; raises PerturbationError naming ``where`` ('brightness amount')."""
    if isinstance(value, Real) and not isinstance(value, bool) and isfinite(value):
        return float(value)
    raise PerturbationError(f"{where} is {value!r}; it must be a finite number")


def whole(where: str, value: object, lowest: int) -> int:
    """``value`` as an int of at least ``lowest``; raises PerturbationError naming ``where``."""
    if isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= lowest:
        return int(value)
    raise PerturbationError(f"{where} is {value!r}; it must be a whole number of at least {lowest}")


def choice(where: str, value: object, allowed: Sequence[str]) -> str:
    """``value`` if it is one of ``allowed``; raises PerturbationError naming ``where``."""
    if isinstance(value, str) and value in allowed:
        return value
    raise PerturbationError(f"{where} is {value!r}; allowed: {', '.join(allowed)}")


def channels(where: str, value: object) -> float | tuple[float, ...]:
    """One finite number for all channels, or a tuple of one for each; raises PerturbationError."""
    if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str) and len(value):
        return tuple(number(where, one) for one in value)
    return number(where, value)


def image_array(where: str, value: object) -> np.ndarray:
    """``value`` as a finite float64 array (C, H, W), (H, W) getting one channel; or PerturbationError."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or not array.size:
        raise PerturbationError(
            f"{where} is an array of shape {np.shape(array)} (or no array at all); "
            "it must be an array of numbers of the image's shape (C, H, W)"
        )
    if not np.isfinite(array).all():
        raise PerturbationError(f"{where} holds NaN or infinite values; all must be finite")
    return array


def per_channel(where: str, value: float | tuple[float, ...], count: int) -> np.ndarray:
    """``value`` as (count or 1, 1, 1); raises PerturbationError if it names another number of channels."""
    values = np.atleast_1d(np.asarray(value, dtype=np.float64))
    if len(values) not in (1, count) or (isinstance(value, tuple) and len(value) != count):
        raise PerturbationError(
            f"{where} names {len(values)} channels; the image has {count}: give a single number, or {count}"
        )
    return values[:, None, None]


def varying(
    owner: str, name: str, unit: str, low: object, high: object | None
) -> tuple[tuple[Parameter, ...], dict[str, Constant]]:
    """A range as one parameter, or a single number (``high`` None) as one constant."""
    where = f"{owner} {name}"
    if high is None:
        return (), {name: number(where, low)}
    first, last = number(where, low), number(where, high)
    check_range(where, first, last)
    return (Parameter(name, unit, first, last),), {}


def ends(where: str, amount: object) -> tuple[object, object | None]:
    """The two ends of an Amount, the second None for a single number; raises PerturbationError."""
    if isinstance(amount, Real):
        return amount, None
    if isinstance(amount, Sequence) and not isinstance(amount, str) and len(amount) == 2:
        return amount[0], amount[1]
    raise PerturbationError(f"{where} is {amount!r}; it must be a number, or a range (low, high)")
