"""Smooth functions of enclosed numbers: a chord, and how far the function is from it.

On [low, high] f(x) - λ x, λ the slope of the chord, is evaluated at the ends of equal steps h. Between two of
them a function with m <= f'' <= M lies above the lower of its two values less max(M, 0) h²/8, and below the
higher one plus max(-m, 0) h²/8 (the error of linear interpolation). The chord's own distance from f is about
f'' w²/8 for an interval of width w: of second order, and the steps add little to it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from steadygaze.geometry.enclosures import UNIT, Enclosure

# How many steps, and so values, an interval is looked at by.
_STEPS = 16
# Up to how many units of roundoff exp, log, cos, sin and powers may be off, as a share of their value; the
# usual libraries promise 8.
_FUNCTION = 32
# Intervals narrower than this share of their place have no chord that rounding leaves standing.
_NARROW = 1e-12

_Function = Callable[[np.ndarray], np.ndarray]


def smooth(
    x: Enclosure,
    function: _Function,
    curvature: tuple[np.ndarray | float, np.ndarray | float],
    rounding: np.ndarray | float = 0.0,
    ends: tuple[np.ndarray, np.ndarray] | None = None,
) -> Enclosure:
    """``function`` of ``x``: rows (B, *shape) that it may broadcast to a larger shape.

    Args:
        function: of arrays (steps, B, *shape).
        curvature: bounds of its second derivative over ``ends``, arrays that broadcast to its values.
        rounding: how far it may be off its true value, beside a few roundings of that.
        ends: where ``x`` lies, if more is known than its bounds say.
    """
    low, high = x.bounds() if ends is None else ends
    shares = np.linspace(0, 1, _STEPS + 1).reshape(-1, *(1,) * low.ndim)
    knots = np.minimum(low + shares * (high - low), high)
    knots[-1] = high
    values = function(knots)
    step = (knots[1:] - knots[:-1]).max(axis=0) * (1 + 4 * UNIT)
    above, below = (np.maximum(bound, 0.0) * step**2 / 8 for bound in (-curvature[0], curvature[1]))
    away = knots - x.centre
    wide = high - low > _NARROW * (1 + np.abs(low) + np.abs(high))
    slope = np.where(wide, (values[-1] - values[0]) / np.where(wide, high - low, 1.0), 0.0)
    deviation = values - slope * away
    middle, error = _range(deviation, above, below)
    flat_middle, flat_error = _range(values, above, below)
    # For functions that turn round in the interval a chord may be worse than none.
    flat = flat_error < error
    slope, middle, error = (
        np.where(flat, *pair) for pair in ((0.0, slope), (flat_middle, middle), (flat_error, error))
    )
    size = np.abs(values).max(axis=0) + np.abs(slope) * np.abs(away).max(axis=0)
    off = error + _FUNCTION * UNIT * size + rounding
    turned = Enclosure(np.zeros_like(middle), x.slopes * slope[:, None], x.error * np.abs(slope))
    return (turned + middle).widened(off)


def cosine(x: Enclosure) -> Enclosure:
    """The cosine of angles in degrees."""
    return _wave(x, np.cos)


def sine(x: Enclosure) -> Enclosure:
    """The sine of angles in degrees."""
    return _wave(x, np.sin)


def reciprocal(x: Enclosure) -> Enclosure:
    """1 / x for x above 0."""
    low, high = x.bounds()
    return smooth(x, np.reciprocal, (2 / high**3, 2 / low**3))


def exponential(x: Enclosure) -> Enclosure:
    """e to the power of x."""
    low, high = x.bounds()
    # An argument rounded by u |x| moves the value by that share of itself.
    return smooth(x, np.exp, (np.exp(low), np.exp(high) * (1 + _FUNCTION * UNIT)))


def logarithm(x: Enclosure) -> Enclosure:
    """The natural logarithm of x above 0."""
    low, high = x.bounds()
    return smooth(x, np.log, (-(1 + _FUNCTION * UNIT) / low**2, -1 / (2 * high**2)))


def _wave(x: Enclosure, function: _Function) -> Enclosure:
    # Turned into radians with a rounding or two, each moving the value by at most as much.
    rounding = 4 * UNIT * np.deg2rad(x.magnitude())
    most = np.deg2rad(1.0) ** 2 * (1 + 8 * UNIT)
    return smooth(x, lambda degrees: function(np.deg2rad(degrees)), (-most, most), rounding)


def _range(values: np.ndarray, above: np.ndarray, below: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Middle and half-width of where values lie that were met at the ends of steps."""
    least, most = values.min(axis=0) - below, values.max(axis=0) + above
    return least + (most - least) / 2, (most - least) / 2
