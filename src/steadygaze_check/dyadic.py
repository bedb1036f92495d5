"""Exact arithmetic: a double is a whole number times a power of two, and so are sums and products of them.

Arrays of Python's whole numbers (NumPy's object type) with one exponent for each array take part in the same
products as arrays of doubles do; nothing is ever rounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import final

import numpy as np


@final
@dataclass(frozen=True, eq=False)
class Dyadic:
    """``whole * 2**exponent``, entry by entry."""

    whole: np.ndarray
    exponent: int

    @staticmethod
    def of(values: np.ndarray) -> Dyadic:
        """Doubles, exactly."""
        fraction, power = np.frexp(np.asarray(values, np.float64))
        mantissa = (fraction * 2.0**53).astype(np.int64)
        lowest = np.where(mantissa == 0, 1, mantissa & -mantissa)
        trailing = np.frexp(lowest.astype(np.float64))[1] - 1
        used = mantissa != 0
        start = power - 53 + trailing
        exponent = int(start[used].min()) if used.any() else 0
        whole = (mantissa >> trailing).astype(object)
        shift = np.where(used, start - exponent, 0)
        return Dyadic(whole * np.left_shift(1, shift.astype(object)), exponent)

    def at(self, exponent: int) -> np.ndarray:
        """The whole numbers that go with a smaller exponent."""
        return self.whole if exponent == self.exponent else self.whole * (1 << (self.exponent - exponent))

    def __add__(self, other: Dyadic) -> Dyadic:
        exponent = min(self.exponent, other.exponent)
        return Dyadic(self.at(exponent) + other.at(exponent), exponent)

    def __mul__(self, other: Dyadic) -> Dyadic:
        return Dyadic(self.whole * other.whole, self.exponent + other.exponent)

    def rounded(self) -> np.ndarray:
        """The nearest doubles; each is within one half unit in the last place."""
        scale = Fraction(2) ** self.exponent
        flat = [float(int(w) * scale) if w else 0.0 for w in self.whole.ravel()]
        return np.array(flat, np.float64).reshape(self.whole.shape)

    def fraction(self, *index: int) -> Fraction:
        """One entry as a fraction."""
        return Fraction(int(self.whole[index])) * Fraction(2) ** self.exponent
