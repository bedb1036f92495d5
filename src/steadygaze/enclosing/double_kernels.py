"""Compiled: sums and products of numbers to twice the precision, and polynomials in polynomials.

They do what the tensor operations of `double_double` and `monomials` do, in one pass over the numbers.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from steadygaze.enclosing.enclosures import UNIT
from steadygaze.geometry.bits import kernel, part

# What products lose below the least normal numbers, and a few sums of them.
LEAST = 2.0**-1000
# Splits a number into halves of 26 bits.
_SPLIT = 2.0**27 + 1
# Numbers that are taken through a polynomial at once: as many as stay in the cache.
_BLOCK = 64
# The same of numbers that are cut into parts, which takes nothing else.
_LONG_BLOCK = 512


def suit(x: Tensor) -> bool:
    """Whether kernels can take such numbers: not on a GPU."""
    return x.device.type == "cpu"


@part
def _two_sum(a, b):
    total = a + b
    own = total - a
    return total, (a - (total - own)) + (b - own)


@part
def _two_product(a, b):
    product = a * b
    scaled = _SPLIT * a
    a_high = scaled - (scaled - a)
    a_low = a - a_high
    scaled = _SPLIT * b
    b_high = scaled - (scaled - b)
    b_low = b - b_high
    rest = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    return product, rest


@part
def _made(high, low, error, size):
    total, rest = _two_sum(high, low)
    return total, rest, (error + 2 * UNIT * size) * (1 + 16 * UNIT)


@part
def _sum_of(a_high, a_low, a_error, b_high, b_low, b_error):
    total, rest = _two_sum(a_high, b_high)
    size = 2 * (abs(a_low) + abs(b_low) + abs(rest))
    return _made(total, (a_low + b_low) + rest, a_error + b_error, size)


@part
def _product_of(a_high, a_low, a_error, b_high, b_low, b_error):
    product, rest = _two_product(a_high, b_high)
    first, second = a_high * b_low, a_low * b_high
    size = abs(first) + abs(second) + abs(rest)
    a_most = (abs(a_high) + abs(a_low) + a_error) * (1 + 4 * UNIT)
    b_most = (abs(b_high) + abs(b_low) + b_error) * (1 + 4 * UNIT)
    error = a_most * b_error + b_most * a_error + abs(a_low * b_low) + LEAST
    return _made(product, rest + (first + second), error, 4 * size)


@kernel
def added(a_high, a_low, a_error, b_high, b_low, b_error):
    """Sums ``(3, N)`` of numbers ``(N,)``: both parts and the error."""
    count = len(a_high)
    out = np.empty((3, count))
    for i in range(count):
        high, low, error = _sum_of(a_high[i], a_low[i], a_error[i], b_high[i], b_low[i], b_error[i])
        out[0, i], out[1, i], out[2, i] = high, low, error
    return out


@kernel
def multiplied(a_high, a_low, a_error, b_high, b_low, b_error):
    """Products, as `added`."""
    count = len(a_high)
    out = np.empty((3, count))
    for i in range(count):
        high, low, error = _product_of(a_high[i], a_low[i], a_error[i], b_high[i], b_low[i], b_error[i])
        out[0, i], out[1, i], out[2, i] = high, low, error
    return out


@kernel
def series(x_high, x_low, x_error, numbers):
    """``sum over k of numbers[k] x^k``, ``(3, N)``; numbers ``(K, 3, N)``, or ``(K, 3, 1)`` for all."""
    count, orders = len(x_high), len(numbers)
    out = np.empty((3, count))
    for i in range(count):
        own = i if numbers.shape[2] > 1 else 0
        high, low, error = (
            numbers[orders - 1, 0, own],
            numbers[orders - 1, 1, own],
            numbers[orders - 1, 2, own],
        )
        for k in range(orders - 2, -1, -1):
            high, low, error = _product_of(high, low, error, x_high[i], x_low[i], x_error[i])
            high, low, error = _sum_of(
                high, low, error, numbers[k, 0, own], numbers[k, 1, own], numbers[k, 2, own]
            )
        out[0, i], out[1, i], out[2, i] = high, low, error
    return out


@kernel
def summed(parts):
    """The sum ``(3, N)`` of known numbers ``(P, N)``."""
    terms, count = parts.shape
    out = np.zeros((3, count))
    for start in range(0, count, _BLOCK):
        end = min(count, start + _BLOCK)
        for term in range(terms):
            for i in range(start, end):
                high, low, error = _sum_of(out[0, i], out[1, i], out[2, i], parts[term, i], 0.0, 0.0)
                out[0, i], out[1, i], out[2, i] = high, low, error
    return out


@kernel
def totals(high, low, error):
    """Sums ``(3, A, C)`` along the middle axis of numbers ``(A, K, C)``."""
    outer, terms, inner = high.shape
    out = np.zeros((3, outer, inner))
    for a in range(outer):
        for k in range(terms):
            for c in range(inner):
                one, two, three = _sum_of(
                    out[0, a, c], out[1, a, c], out[2, a, c], high[a, k, c], low[a, k, c], error[a, k, c]
                )
                out[0, a, c], out[1, a, c], out[2, a, c] = one, two, three
    return out


@kernel
def cut(numbers, units):
    """Parts of rows ``(R, N)``, multiples of units ``(R, count)``, and behind them what is left.

    Returns ``(count + 1, R, N)``, and which of these are not 0 throughout. Units are powers of two that
    have an inverse.
    """
    rows, size = numbers.shape
    count = units.shape[1]
    out = np.empty((count + 1, rows, size))
    seen = np.zeros(count + 1, np.bool_)
    for row in range(rows):
        left = out[count, row]
        for start in range(0, size, _LONG_BLOCK):
            end, hits = min(size, start + _LONG_BLOCK), 0
            for i in range(start, end):
                left[i] = numbers[row, i]
            for k in range(count):
                unit, part, found = units[row, k], out[k, row], 0
                inverse = 1 / unit
                for i in range(start, end):
                    own = np.rint(left[i] * inverse) * unit
                    left[i] -= own
                    part[i] = own
                    found |= own != 0
                seen[k] |= found != 0
            for i in range(start, end):
                hits |= left[i] != 0
            seen[count] |= hits != 0
    return out, seen


@kernel
def composed(numbers, inner, places, ends, lengths):
    """``sum over k >= 1 of numbers[k - 1] inner^k``, see `Monomials.composed`.

    numbers ``(K, B, N)``, inner ``(B, R, N)``; places ``(rows, rows)`` where products of two rows stand; ends
    and lengths: of the monomials. Returns rows ``(B, rows, N)`` and ``(2, B, N)``, of all terms and lost.
    """
    orders, boxes, count = numbers.shape
    given, highest = inner.shape[1], len(ends) - 1
    found = np.zeros((boxes, ends[highest], count))
    beside = np.empty((2, boxes, count))
    here, there = np.empty((ends[highest], _BLOCK)), np.empty((ends[highest], _BLOCK))
    sizes, tails = np.empty((highest + 2, _BLOCK)), np.empty((highest + 2, _BLOCK))
    kept, grown = np.empty((highest + 1, _BLOCK)), np.empty((highest + 1, _BLOCK))
    whole, lost = np.empty(_BLOCK), np.empty(_BLOCK)
    for box in range(boxes):
        for start in range(0, count, _BLOCK):
            width = min(count, start + _BLOCK) - start
            sizes[:], tails[:] = 0.0, 0.0
            for row in range(given):
                for i in range(width):
                    sizes[lengths[row], i] += abs(inner[box, row, start + i])
            for degree in range(highest, -1, -1):
                for i in range(width):
                    tails[degree, i] = tails[degree + 1, i] + sizes[degree, i]
            kept[:], here[:] = 0.0, 0.0
            for i in range(width):
                own = numbers[orders - 1, box, start + i]
                here[0, i], kept[0, i], whole[i], lost[i] = own, abs(own), abs(own), 0.0
            reached = 0  # the degree of what there is
            for left in range(orders - 1, -1, -1):
                degree = min(highest, max(0, highest - left))
                for i in range(width):
                    lost[i] *= tails[0, i]
                    whole[i] *= tails[0, i]
                for own in range(reached + 1):
                    first = max(0, degree - own + 1)
                    for i in range(width):
                        lost[i] += kept[own, i] * tails[first, i]
                grown[: degree + 1], there[: ends[degree]] = 0.0, 0.0
                for own in range(min(reached, degree) + 1):
                    for other in range(degree - own + 1):
                        for i in range(width):
                            grown[own + other, i] += kept[own, i] * sizes[other, i]
                for row in range(min(ends[reached], ends[degree])):
                    for other in range(min(given, ends[degree - lengths[row]])):
                        place = places[row, other]
                        for i in range(width):
                            there[place, i] += here[row, i] * inner[box, other, start + i]
                here, there, kept, grown = there, here, grown, kept
                reached = degree
                if left:
                    for i in range(width):
                        own = numbers[left - 1, box, start + i]
                        here[0, i] += own
                        kept[0, i] += abs(own)
                        whole[i] += abs(own)
            for row in range(ends[reached]):
                for i in range(width):
                    found[box, row, start + i] = here[row, i]
            for i in range(width):
                beside[0, box, start + i], beside[1, box, start + i] = whole[i], lost[i]
    return found, beside
