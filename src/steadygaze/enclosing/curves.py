"""Smooth functions of enclosed numbers: a chord, and how far the function is from it.

Over [low, high], of width w, the function less λ x, λ being the slope of the chord, stays within about
|f''| w²/8 of a constant: of second order. Where it turns round in the interval a constant alone may be
better, and then is what is used.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from steadygaze.enclosing.enclosures import UNIT, Enclosure

# How many steps an interval is cut into where a function is neither convex nor concave.
_STEPS = 16
# Up to how many units of roundoff exp, log, cos, sin and powers may be off, as a share of their value; the
# usual libraries promise 8.
_FUNCTION = 32
# Intervals narrower than this share of their place have no chord that rounding leaves standing.
_NARROW = 1e-12

_Function = Callable[[np.ndarray], np.ndarray]
_Range = tuple[np.ndarray, np.ndarray]


def smooth(
    x: Enclosure,
    function: _Function,
    curvature: Callable[[np.ndarray, np.ndarray], _Range],
    limits: tuple[float, float],
    rounding: np.ndarray | float = 0.0,
    ends: _Range | None = None,
) -> Enclosure:
    """``function`` of ``x``, whose rows (B, *shape) it may broadcast to a larger shape.

    Evaluated at the ends of equal steps h. Between two of them a function with m <= f'' <= M lies above the
    lower of its two values less max(M, 0) h²/8, and below the higher one plus max(-m, 0) h²/8: the error of
    linear interpolation.

    Args:
        function: of arrays (steps + 1, B, *shape).
        curvature: m and M from one end of each step to the next, both (steps, B, *shape).
        limits: what no value of the function is below and above.
        rounding: how far its values may be off the true ones, beside a few roundings of those.
        ends: where ``x`` lies, if more is known than its bounds say.
    """
    low, high = x.bounds() if ends is None else ends
    shares = np.linspace(0, 1, _STEPS + 1).reshape(-1, *(1,) * low.ndim)
    knots = np.minimum(low + shares * (high - low), high)
    knots[-1] = high
    values = function(knots)
    eighth = ((knots[1:] - knots[:-1]) * (1 + 4 * UNIT)) ** 2 / 8
    least, most = curvature(knots[:-1], knots[1:])
    above, below = np.maximum(-least, 0.0) * eighth, np.maximum(most, 0.0) * eighth
    slope, away = _chord(low, high, values[0], values[-1]), knots - x.centre

    def between(at: np.ndarray) -> _Range:
        lower, upper = np.minimum(at[1:], at[:-1]) - below, np.maximum(at[1:], at[:-1]) + above
        return lower.min(axis=0), upper.max(axis=0)

    lowest, highest = between(values)
    return _made(
        x,
        slope,
        between(values - slope * away),
        (np.maximum(lowest, limits[0]), np.minimum(highest, limits[1])),
        _FUNCTION * UNIT * (np.abs(values).max(axis=0) + np.abs(slope * away).max(axis=0)) + rounding,
    )


def convex(x: Enclosure, function: _Function, derivative: _Function, ends: _Range | None = None) -> Enclosure:
    """A convex function of ``x`` that rises, or falls, all the way; else as for ``smooth``.

    Less its chord it is largest at both ends. It lies above its tangent in the middle, which is as steep as
    the chord up to the second order, so that this costs an error of the third.
    """
    low, high = x.bounds() if ends is None else ends
    middle = np.minimum(low + (high - low) / 2, high)
    values = [function(at) for at in (low, middle, high)]
    slope, away = _chord(low, high, values[0], values[2]), [at - x.centre for at in (low, middle, high)]
    first, centre, last = (value - slope * d for value, d in zip(values, away, strict=True))
    tangent = derivative(middle)
    # Half the width, rounded up, on either side of the middle.
    sag = np.abs(tangent - slope) * (high - low) / 2 * (1 + 8 * UNIT)
    size = np.maximum(np.abs(values[0]), np.abs(values[2])) + np.abs(slope) * np.abs(away[0])
    size = size + np.abs(slope) * np.abs(away[2]) + np.abs(tangent) * (high - low)
    return _made(
        x,
        slope,
        (np.minimum(centre - sag, np.minimum(first, last)), np.maximum(first, last)),
        (np.minimum(values[0], values[2]), np.maximum(values[0], values[2])),
        _FUNCTION * UNIT * size,
    )


def cosine(x: Enclosure) -> Enclosure:
    """The cosine of angles in degrees."""
    return _wave(x, is_sine=False)


def sine(x: Enclosure) -> Enclosure:
    """The sine of angles in degrees."""
    return _wave(x, is_sine=True)


def reciprocal(x: Enclosure, least: float = 0.0) -> Enclosure:
    """1 / x for x above 0; ``least`` is what is known of it beside its bounds."""
    low, high = (np.maximum(end, least) for end in x.bounds())
    return convex(x, np.reciprocal, lambda at: -1 / at**2, (low, high))


def exponential(x: Enclosure) -> Enclosure:
    """e to the power of x."""
    return convex(x, np.exp, np.exp)


def logarithm(x: Enclosure) -> Enclosure:
    """The natural logarithm of x above 0."""
    return -convex(x, lambda at: -np.log(at), lambda at: -1 / at)


def _wave(x: Enclosure, is_sine: bool) -> Enclosure:
    from steadygaze.enclosing.affine_kernels import waved  # numba, where it is needed

    return x.like(waved(*x.parts, is_sine, _STEPS, _FUNCTION, _NARROW, UNIT, x.upward))


def _chord(low: np.ndarray, high: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    wide = high - low > _NARROW * (1 + np.abs(low) + np.abs(high))
    return np.where(wide, (last - first) / np.where(wide, high - low, 1.0), 0.0)


def _made(x: Enclosure, slope: np.ndarray, tilted: _Range, level: _Range, rounding: np.ndarray) -> Enclosure:
    """slope (x - centre) plus a number in ``tilted``, or a number in ``level``, what is less uncertain."""
    flat = level[1] - level[0] < tilted[1] - tilted[0]
    slope = np.where(flat, 0.0, slope)
    low, high = (np.where(flat, *pair) for pair in zip(level, tilted, strict=True))
    turned = Enclosure(np.zeros_like(low), x.slopes * slope[:, None], x.error * np.abs(slope))
    return (turned + (low + (high - low) / 2)).widened((high - low) / 2 + rounding)
