"""Exact numbers, and bounds of how far computed ones may be off.

A double is a whole number times a power of two, and so are sums and products of them: arrays of Python's
whole numbers (NumPy's object type) with one exponent each take part in the same products as doubles do.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import numpy as np

UNIT = 2.0**-53
_LONGEST = 1 << 17
UP = 1.0 + 2.0**-36  # enlarges bounds where they are computed, for the rounding of that computation
SMALL = 1e-140  # norms below this are not trusted to have been computed from squares
TINY = 1e-280  # what products below the smallest normal double may be off, a whole row of them together


def gamma(terms: int) -> float:
    """Bound of the relative error of a sum of so many products, in any order, with a few operations more."""
    return (terms + 8) * UNIT * UP


def norms(rows: np.ndarray) -> np.ndarray:
    """At least the Euclidean norm of each row; squares below the smallest double are not lost."""
    found = np.sqrt(np.einsum("rn,rn->r", rows, rows)) * UP
    if (found < SMALL).any():
        most = np.abs(rows).max(axis=1, initial=0.0) * np.sqrt(rows.shape[1]) * UP
        found = np.where(found < SMALL, most, found)
    return found


class Dyadic(NamedTuple):
    """``whole * 2**exponent``, entry by entry, never rounded."""

    whole: np.ndarray
    exponent: int

    @staticmethod
    def of(values: np.ndarray) -> Dyadic:
        """Doubles, exactly."""
        fraction, power = np.frexp(np.asarray(values, np.float64))
        mantissa = (fraction * 2.0**53).astype(np.int64)
        used = mantissa != 0
        trailing = np.frexp(np.where(used, mantissa & -mantissa, 1).astype(np.float64))[1] - 1
        start = power - 53 + trailing
        exponent = int(start[used].min()) if used.any() else 0
        shift = np.where(used, start - exponent, 0).astype(object)
        return Dyadic((mantissa >> trailing).astype(object) * np.left_shift(1, shift), exponent)

    def plus(self, other: Dyadic) -> Dyadic:
        """The sum, entry by entry."""
        exponent = min(self.exponent, other.exponent)
        if exponent < -_LONGEST:
            raise OverflowError(f"exact numbers of more than {_LONGEST} binary places are not computed with")
        one, two = (each.whole * (1 << each.exponent - exponent) for each in (self, other))
        return Dyadic(one + two, exponent)

    def fractions(self) -> list[Fraction]:
        """The entries, one after another."""
        scale = Fraction(2) ** self.exponent
        return [int(each) * scale for each in self.whole.ravel()]

    def rounded(self) -> np.ndarray:
        """The nearest doubles; each is within one half unit in the last place."""
        return np.array([float(each) for each in self.fractions()]).reshape(self.whole.shape)
