"""Elementary functions of numbers to twice the precision of float64; what they are off by is counted."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import lru_cache

import torch
from torch import Tensor

from steadygaze.enclosing.double_double import Precise
from steadygaze.enclosing.enclosures import UNIT

# Arguments of exp are divided by 2^_HALVINGS, and its series ends with that power.
_HALVINGS, _POWERS = 3, 16
# From here on exp counts as 0, off by _VANISHING, or is not known; in between nothing underflows.
_LOWEST, _HIGHEST, _VANISHING = -300.0, 700.0, 2.0**-400
# The normal distribution is known at multiples of 1/16 up to 12, beyond which it is 0 or 1 but for 2e-33.
_STEP, _END, _BEYOND = 16, 12, 2.0**-108
# Powers in its series around them: those from _PLAIN on are computed in float64.
_AROUND, _PLAIN = 20, 9
# Of 1 less a share at the last place 33 digits are 0.
_DIGITS = 110


def exponential(x: Precise) -> Precise:
    """e to the power x: of x / 8 less a multiple of log 2 by its series, and squared thrice."""
    inside = (x.high > _LOWEST) & (x.high < _HIGHEST)
    near = torch.where(inside, x.high, 0.0)
    power = torch.round(near / math.log(2))
    log2 = Precise(*(torch.full_like(near, part) for part in (*_log_of_two(), 2.0**-105)))
    rest = (Precise(near, torch.where(inside, x.low, 0.0), x.error) - Precise.exact(power) * log2).scaled(
        -_HALVINGS
    )
    total = rest.series(_of_exponential())
    # |rest| is at most log(2) / 16, or a little more: what follows is less than 1.1 rest^17 / 17!.
    after = 1.1 * rest.most ** (_POWERS + 1) / math.factorial(_POWERS + 1)
    total = total.loosened(after)
    for _ in range(_HALVINGS):
        total = total.square()
    factor = torch.exp2(power)
    made = total.shaped(lambda own: own * factor)
    vanishes = (x.high <= _LOWEST) & (x.error < 1)
    return Precise(
        torch.where(inside, made.high, 0.0),
        torch.where(inside, made.low, 0.0),
        _known(inside & (rest.most < 0.05), made.error, vanishes, _VANISHING),
    )


def logarithm(x: Precise) -> Precise:
    """The natural logarithm of numbers above 0: a guess y, and log(1 + s) for s = x exp(-y) - 1."""
    guess = torch.log(x.high)
    s = x * exponential(Precise.exact(-guess)) + -1.0
    series = s - s.square().scaled(-1)
    # s is hardly more than rounding, and the rest of its series less than its third power.
    rest = torch.where(s.most < 2.0**-20, s.most**3, torch.inf)
    return (Precise.exact(guess) + series).loosened(rest)


def normal_share(x: Precise) -> Precise:
    """The distribution function of the normal distribution, by its series around multiples of 1/16."""
    # What is not a number is neither.
    inside, outside = x.high.abs() < _END, x.high.abs() >= _END
    place = torch.round(torch.where(inside, x.high, 0.0) * _STEP)
    away = Precise(torch.where(inside, x.high, 0.0), torch.where(inside, x.low, 0.0), x.error)
    away = away + Precise.exact(torch.where(inside, -place / _STEP, 0.0))
    index = (place + _END * _STEP).long()
    table = _around_places().to(x.high.device)
    plain = torch.zeros_like(place)
    size = torch.zeros_like(place)
    for k in range(_AROUND, _PLAIN - 1, -1):
        own = table[k, 0][index]
        plain, size = own + away.high * plain, own.abs() + away.most * size
    # What the low parts are, and roundings of products and of sums.
    total = Precise.rounded(plain, (4 * _AROUND * UNIT) * size + 40 * away.low.abs())
    known = table[:_PLAIN, :, index]
    known = torch.cat([known, UNIT * UNIT * known[:, :1].abs()], dim=1)
    total = away.series(torch.cat([known, torch.stack([total.high, total.low, total.error])[None]]))
    # Derivatives of order k are less than sqrt(k!) / 2: what follows is less than twice its first term.
    after = 2.0 * away.most ** (_AROUND + 1) / math.sqrt(math.factorial(_AROUND + 1))
    total = total.loosened(after)
    return Precise(
        torch.where(inside, total.high, (x.high > 0).to(x.high.dtype)),
        torch.where(inside, total.low, 0.0),
        _known(inside & (away.most < 0.04), total.error, outside & (x.error < 2.0**-20), _BEYOND),
    )


def normal_density(x: Precise) -> Precise:
    """The density of the normal distribution."""
    return exponential(-x.square().scaled(-1)).times(_highest_density())


def _known(within: Tensor, error: Tensor, beyond: Tensor, rest: float) -> Tensor:
    """The error where numbers are within what is computed, `rest` beyond it, and infinite elsewhere."""
    return torch.where(within, error, torch.full_like(error, torch.inf).masked_fill(beyond, rest))


@lru_cache(maxsize=1)
def _log_of_two() -> tuple[float, float]:
    with localcontext() as context:
        context.prec = _DIGITS
        return Precise.of(Fraction(Decimal(2).ln()))


@lru_cache(maxsize=1)
def _of_exponential() -> Tensor:
    """Coefficients of its series, ``(powers, 3, 1)``: both parts, and what they are off by."""
    parts = [Precise.of(Fraction(1, math.factorial(k))) for k in range(_POWERS + 1)]
    rows = [[(high,), (low,), (UNIT * UNIT * high,)] for high, low in parts]
    return torch.tensor(rows, dtype=torch.float64)


@lru_cache(maxsize=1)
def _highest_density() -> tuple[float, float]:
    with localcontext() as context:
        context.prec = _DIGITS
        return Precise.of(Fraction(1 / (2 * _pi()).sqrt()))


@lru_cache(maxsize=1)
def _around_places() -> Tensor:
    """Coefficients of the series of the normal distribution around its places, ``(powers, 2, places)``."""
    with localcontext() as context:
        context.prec = _DIGITS
        above = [_around(Fraction(number, _STEP)) for number in range(_END * _STEP + 1)]
        # Below 0 the function is 1 less that above.
        below = [[1 - own[0], *((-1) ** k * x for k, x in enumerate(own[1:]))] for own in above[:0:-1]]
        columns = [[Precise.of(Fraction(number)) for number in own] for own in (*below, *above)]
    return torch.tensor(columns, dtype=torch.float64).permute(1, 2, 0).contiguous()


def _around(place: Fraction) -> list[Decimal]:
    """Those around one place >= 0."""
    with localcontext() as context:
        context.prec = _DIGITS
        x = Decimal(place.numerator) / Decimal(place.denominator)
        density = (-x * x / 2).exp() / (2 * _pi()).sqrt()
        # 1/2 + density (x + x³/3 + x⁵/(3 5) + ...), whose terms are all of one sign.
        term = total = x
        k = 1
        while term > Decimal(10) ** -_DIGITS:
            k += 2
            term = term * x * x / k
            total += term
        share = Decimal(1) / 2 + density * total
        found, factorial = [share], Decimal(1)
        # The (k + 1)th derivative is density times (-1)^k He_k(x), with He_(k+1) = x He_k - k He_(k-1).
        before, now = Decimal(0), Decimal(1)
        for k in range(_AROUND):
            factorial *= k + 1
            found.append((-1) ** k * now * density / factorial)
            before, now = now, x * now - k * before
        return found


@lru_cache(maxsize=1)
def _pi() -> Decimal:
    """By Machin's formula."""

    def arctangent_of_one_by(n: int) -> Decimal:
        total, term, k = Decimal(0), Decimal(1) / n, 1
        while abs(term) > Decimal(10) ** -_DIGITS:
            total += term / k
            term, k = -term / (n * n), k + 2
        return total

    return 4 * (4 * arctangent_of_one_by(5) - arctangent_of_one_by(239))
