"""Sums and products of float64, and exactly what rounding took from them: of arrays or of tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:  # what needs no bounds must not wait for PyTorch
    from torch import Tensor

Numbers = TypeVar("Numbers", np.ndarray, "Tensor")

# Splits a number into halves of 26 bits: see Dekker.
_SPLIT = 2.0**27 + 1


def two_sum(a: Numbers, b: Numbers) -> tuple[Numbers, Numbers]:
    """Their sum, rounded, and what rounding took from it (Knuth, The Art of Computer Programming, 4.2.2)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def two_product(a: Numbers, b: Numbers) -> tuple[Numbers, Numbers]:
    """Their product, rounded, and what rounding took from it: exactly, where nothing over- or underflows.

    Dekker, A floating-point technique for extending the available precision, Numerische Mathematik 18, 1971.
    """
    product = a * b
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    rest = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    return product, rest


def _halves(a: Numbers) -> tuple[Numbers, Numbers]:
    scaled = _SPLIT * a
    high = scaled - (scaled - a)
    return high, a - high
