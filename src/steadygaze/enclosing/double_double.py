"""Numbers to twice the precision of float64: unevaluated sums of two, and a bound of what is left.

What rounding takes from a sum or a product of two numbers in float64 is in float64, too (`error_free`).
Numbers that carry it along have some 106 bits (Hida, Li and Bailey, Algorithms for quad-double precision
floating point arithmetic, 2001). Each operation here also says how far its result may be off.

Sums of products are made of parts so short that each product, and each sum of them in whatever order, is
exact in float64 (Ozaki, Ogita, Oishi and Rump, Error-free transformations of matrix multiplication,
Numerical Algorithms 59, 2012): matrix products and convolutions of any kind do. Of what is left behind some
parts products are rounded, which takes little of what is so much smaller.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from steadygaze.enclosing import double_kernels
from steadygaze.enclosing.double_kernels import LEAST
from steadygaze.enclosing.enclosures import UNIT
from steadygaze.enclosing.error_free import two_product, two_sum

_BITS = 53
#: Parts that products are made of: with 20 bits each what is rounded is 2^-60 of the largest products.
PARTS = 3
# Numbers beyond this power of two are not cut into parts: multiples of it would overflow.
_MOST_POWER = 1000


@dataclass(frozen=True, eq=False)
class Precise:
    """Numbers ``high + low``, plus or minus an error >= 0; tensors of float64, of one shape.

    high is the sum of both rounded to float64. Values that overflow have an infinite error, or none at all.
    """

    high: Tensor
    low: Tensor
    error: Tensor

    @staticmethod
    def exact(values: Tensor) -> Precise:
        """Numbers in float64 that are known."""
        nothing = torch.zeros_like(values)
        return Precise(values, nothing, nothing)

    @staticmethod
    def of(number: Fraction | int | float) -> tuple[float, float]:
        """A number as two in float64, off by 2^-106 of it at most."""
        number = Fraction(number)
        high = float(number)
        return high, float(number - Fraction(high))

    @staticmethod
    def rounded(values: Tensor, error: Tensor) -> Precise:
        """Numbers in float64 that are off by so much."""
        return Precise(values, torch.zeros_like(values), error)

    def shaped(self, function: Callable[[Tensor], Tensor]) -> Precise:
        """What a function that only moves numbers, or repeats them, makes of them."""
        return Precise(function(self.high), function(self.low), function(self.error))

    def loosened(self, error: Tensor) -> Precise:
        """With so much more error."""
        return replace(self, error=(self.error + error) * (1 + 4 * UNIT))

    @property
    def most(self) -> Tensor:
        """At least the largest magnitudes."""
        return (self.high.abs() + self.low.abs() + self.error) * (1 + 4 * UNIT)

    def __neg__(self) -> Precise:
        return Precise(-self.high, -self.low, self.error)

    def __add__(self, other: Precise | float) -> Precise:
        if not isinstance(other, Precise):
            other = Precise.exact(torch.full_like(self.high, other))
        if double_kernels.suit(self.high):
            return self._both(double_kernels.added, other)
        total, rest = two_sum(self.high, other.high)
        lows = self.low + other.low
        size = self.low.abs() + other.low.abs() + rest.abs()
        return _made(total, lows + rest, self.error + other.error, 2 * size)

    def __sub__(self, other: Precise) -> Precise:
        return self + -other

    def __mul__(self, other: Precise) -> Precise:
        if double_kernels.suit(self.high):
            return self._both(double_kernels.multiplied, other)
        product, rest = two_product(self.high, other.high)
        first, second = self.high * other.low, self.low * other.high
        size = first.abs() + second.abs() + rest.abs()
        error = self.most * other.error + other.most * self.error + (self.low * other.low).abs() + LEAST
        return _made(product, rest + (first + second), error, 4 * size)

    def _both(self, made: Callable[..., np.ndarray], other: Precise) -> Precise:
        """What a kernel makes of these numbers and others."""
        shape = self.high.shape
        assert other.high.shape == shape, "numbers are of one shape"
        own = made(*(_flat(x) for x in (*self._parts, *other._parts)))
        return Precise(*(part.reshape(shape) for part in torch.from_numpy(own)))

    def times(self, number: tuple[float, float]) -> Precise:
        """Times a number that is the sum of two, as `of` gives them."""
        high, low = (torch.full_like(self.high, part) for part in number)
        return self * Precise(high, low, UNIT * UNIT * high.abs())

    def scaled(self, power: int) -> Precise:
        """Times a power of two, where nothing over- or underflows."""
        factor = 2.0**power
        return Precise(self.high * factor, self.low * factor, self.error * factor)

    def square(self) -> Precise:
        """Times itself."""
        return self * self

    def series(self, numbers: Tensor) -> Precise:
        """``sum over k of numbers[k] x^k``, given high, low and error of numbers.

        numbers: ``(K, 3, *shape)``, or ``(K, 3, 1)``: the same for all.
        """
        if double_kernels.suit(self.high):
            own = double_kernels.series(*(_flat(x) for x in self._parts), numbers.flatten(2).numpy())
            return Precise(*(part.reshape(self.high.shape) for part in torch.from_numpy(own)))
        total, *others = (
            Precise(*(part.expand_as(self.high) for part in own)) for own in numbers.flip(0).to(self.high)
        )
        for own in others:
            total = total * self + own
        return total

    def reciprocal(self) -> Precise:
        """1 divided by them: with q = 1 / high and r = 1 - x q that is q (1 + r + r² + ...)."""
        return self._corrected(self.high.reciprocal(), lambda q: self * q, (1.0, 1.0))

    def rsqrt(self) -> Precise:
        """1 divided by their root: with q that of high and r = 1 - x q² it is q (1 + r/2 + 3 r²/8 + ...)."""
        return self._corrected(self.high.rsqrt(), lambda q: self * q * q, (0.5, 0.375))

    def _corrected(
        self, guess: Tensor, one: Callable[[Precise], Precise], series: tuple[float, float]
    ) -> Precise:
        left = -one(Precise.exact(guess)) + 1.0
        r, most = left.high, left.most
        part = r * (series[0] + series[1] * r)
        # The following terms of both series are no larger than those before; r is hardly more than rounding.
        rest = (left.low.abs() + left.error) * 2 + 2 * most**3 + 8 * UNIT * part.abs()
        error = torch.where(most < 2.0**-20, rest * guess.abs() + LEAST, torch.inf)
        nothing = torch.zeros_like(error)
        return _made(guess, guess * part, nothing, nothing).loosened(error)

    def total(self, axis: int) -> Precise:
        """The sum along an axis, which keeps one entry: of sums of halves."""
        if double_kernels.suit(self.high):
            return self._summed(axis % self.high.ndim)
        own = self
        while own.high.shape[axis] > 1:
            size = own.high.shape[axis]
            half = size // 2
            first, second = (own.narrowed(axis, start, half) for start in (0, half))
            summed = first + second
            if size % 2:
                last = own.narrowed(axis, size - 1, 1)
                summed = Precise(
                    *(torch.cat([a, b], dim=axis) for a, b in zip(summed._parts, last._parts, strict=True))
                )
            own = summed
        return own

    def _summed(self, axis: int) -> Precise:
        shape = self.high.shape
        sizes = (math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))
        own = double_kernels.totals(*(_flat(x).reshape(sizes) for x in self._parts))
        made = (*shape[:axis], 1, *shape[axis + 1 :])
        return Precise(*(part.reshape(made) for part in torch.from_numpy(own)))

    def narrowed(self, axis: int, start: int, length: int) -> Precise:
        """So many entries along an axis."""
        return self.shaped(lambda x: x.narrow(axis, start, length))

    @property
    def _parts(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.high, self.low, self.error


def _flat(x: Tensor) -> np.ndarray:
    return x.detach().contiguous().reshape(-1).numpy()


def _made(high: Tensor, low: Tensor, error: Tensor, size: Tensor) -> Precise:
    """high + low, where low is off by a rounding of numbers of this size."""
    total, rest = two_sum(high, low)
    return Precise(total, rest, (error + 2 * UNIT * size) * (1 + 16 * UNIT))


def precise_products(
    product: Callable[[Tensor, Tensor], Tensor],
    a: Tensor,
    b: Tensor,
    terms: int,
    shared: bool,
    parts: int = PARTS,
) -> Precise:
    """A product that is linear in both factors, of known numbers: sums of at most so many products.

    Args:
        product: takes a and parts of b, ``(R, *shape)``, and gives ``(R, *other)``.
        a: weights, shared by all rows of b; or, where `shared` is False, as many rows as b has.
        b: ``(B, *shape)``.
        terms: the most products that are summed for one value.
        shared: see `a`.
        parts: of each factor; with fewer it takes less time, and more is rounded.
    """
    if not b.numel():
        return Precise.exact(product(a, b))
    bits = (_BITS - math.ceil(math.log2(max(2, terms)))) // 2
    (*first, a_rest), a_size = _cut(a[None] if shared else a, bits, parts)
    (*second, b_rest), b_size = _cut(b, bits, parts)
    # a b = sum over i of a_i (b_1 + ... + b_(parts + 1 - i) + what is left of b behind these), and a_rest b.
    left = [b]
    for part in second:
        left.append(left[-1] if part is None else left[-1] - part)
    if b_rest is None:
        left = [own if any(part is not None for part in second[k:]) else None for k, own in enumerate(left)]
    rows, found = len(b), list[Tensor]()
    for number, part in enumerate((*first, a_rest)):
        if part is None:
            continue
        taken = [own for own in (*second[: parts - number], left[parts - number]) if own is not None]
        if taken:
            weights = part[0] if shared else part.repeat(len(taken), *(1,) * (part.ndim - 1))
            found += product(weights, torch.cat(taken)).split(rows)
    if not found:
        return Precise.exact(product(a, b))
    total = _total_of(found)
    # What is rounded are parts + 1 sums of products, each of which is below 2^-(bits parts) of the largest.
    share = (parts + 1) * terms * (terms + 4) * UNIT * 2.0 ** (-bits * parts)
    rounded = share * a_size * b_size
    spread = rounded.reshape(-1, *(1,) * (total.high.ndim - 1)).expand_as(total.high)
    return total.loosened(spread + LEAST)


def _total_of(found: list[Tensor]) -> Precise:
    """The sum of known numbers, the last ones first: they are the smallest."""
    shape = found[0].shape
    if double_kernels.suit(found[0]):
        own = double_kernels.summed(torch.stack(found[::-1]).flatten(1).numpy())
        return Precise(*(part.reshape(shape) for part in torch.from_numpy(own)))
    total = Precise.exact(found[-1])
    for own in found[-2::-1]:
        total = total + Precise.exact(own)
    return total


def _cut(numbers: Tensor, bits: int, count: int) -> tuple[list[Tensor | None], Tensor]:
    """Parts of so many bits, largest first, and what is left; powers of two above each row.

    Those that are 0 throughout are None. Of a row with numbers beyond 2^1000 nothing is known: that power is
    infinite.

    The parts of a row are multiples of powers of two, each 2^bits times less than the one before.
    """
    size = numbers.abs().flatten(1).amax(dim=1)
    exponent = torch.frexp(size).exponent.clamp(-900, _MOST_POWER)
    scales = torch.ldexp(torch.ones_like(size), exponent)
    # Parts of larger numbers would have more bits, and their products would not be exact.
    scales = torch.where(size <= 2.0**_MOST_POWER, scales, torch.inf)
    powers = exponent[:, None] - bits * torch.arange(1, count + 1, device=size.device)
    units = torch.ldexp(torch.ones_like(powers, dtype=torch.float64), powers)
    if double_kernels.suit(numbers):
        made, seen = double_kernels.cut(_flat(numbers).reshape(len(numbers), -1), units.numpy())
        made = torch.from_numpy(made).reshape(count + 1, *numbers.shape)
        return [part if some else None for part, some in zip(made, seen, strict=True)], scales
    parts, left = list[Tensor](), numbers
    for number in range(count):
        unit = units[:, number].reshape(-1, *(1,) * (numbers.ndim - 1))
        part = torch.round(left / unit) * unit
        left = left - part
        parts.append(part)
    return [part if bool(part.any()) else None for part in (*parts, left)], scales
