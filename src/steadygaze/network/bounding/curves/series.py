"""Taylor coefficients of smooth functions at known points, and bounds of them over intervals.

f(a + d) is ``sum over k <= K of c_k d^k`` with ``c_k = f^(k)(a) / k!``, but for ``d^(K + 1)`` times what
``f^(K + 1) / (K + 1)!`` is at some point between a and a + d (Lagrange). Coefficients follow from those of
lower order, as power series of exp, sigmoid and powers do from their differential equations. Beside each goes
what comes of the same sums with all terms made positive: rounding is a share of that.

Bounds over intervals: where f is at most m in size on all circles of radius r about points of an interval,
``|f^(k) / k!|`` is at most m / r^k there (Cauchy). sigmoid is at most 1 in the strip of numbers whose
imaginary part is at most pi/2, as ``exp(-z)`` has no negative real part there; and no more than
``exp(Re z)``. Derivatives of the normal distribution are Hermite functions, for which there is Cramér's
bound: ``|He_k(x)| exp(-x²/4) <= 1.0865 sqrt(k!)`` (Abramowitz and Stegun, 22.14.17).

Where two pieces meet at a point of the interval without a jump of the derivative, as those of ELU do, there
is a coefficient of second order, and none of a higher one: for f'' between 0 and 1 it is 1/4 ± 1/4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from steadygaze.network.smooth import Smooth

# What rounding may take from a coefficient, as a share of the sum of its terms made positive: of at most a
# few dozen operations, and functions that are good to a few units in the last place.
_ROUNDING = 2.0**-44
# What it may add to a bound.
_UPWARD = 1 + 2.0**-30
_CRAMER = 1.0865
_DENSITY = 1 / math.sqrt(2 * math.pi)
# A circle about any point stays in the strip of `sigmoid` where it has this radius.
_STRIP = math.pi / 2 * (1 - 2.0**-30)
# gelu-tanh is x sigmoid(u) for u = scale (x + cube x³).
_GELU_SCALE, _GELU_CUBE = 2 * math.sqrt(2 / math.pi), 0.044715

# Coefficients, largest first at index 0, and the same of magnitudes.
_Pairs = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Series:
    """Coefficients of a function at points ``(B, N)``.

    Attributes:
        numbers: c_0 to c_K. off: at least how far they are off.
        bound: at least the magnitude of ``f^(k) / k!`` on the interval around each point, given k >= 1.
    """

    numbers: list[Tensor]
    off: list[Tensor]
    bound: Callable[[int], Tensor]


@dataclass(frozen=True)
class _Interval:
    """Least and largest arguments, the least magnitude, and the largest."""

    low: Tensor
    high: Tensor

    @property
    def least(self) -> Tensor:
        return torch.maximum(self.low, -self.high).clamp_min(0.0)

    @property
    def most(self) -> Tensor:
        return torch.maximum(self.low.abs(), self.high.abs())


def series_of(layer: Smooth, x: Tensor, low: Tensor, high: Tensor, order: int) -> Series | None:
    """That of a layer at x, with low <= x <= high, up to an order; None where it is not known."""
    interval = _Interval(low, high)
    if layer.function == "power":
        made = _power(layer, x, interval, order)
    elif layer.function == "elu":
        made = _elu(x, interval, order)
    else:
        known = _KNOWN.get(layer.function)
        made = None if known is None else (known[0](x, order), known[1](interval))
    if made is None:
        return None
    pairs, bound = made
    least = 2.0**-1000
    return Series(
        [number for number, _ in pairs],
        [_ROUNDING * size + least for _, size in pairs],
        lambda k: bound(k) * _UPWARD + least,
    )


def _sigmoid(x: Tensor, order: int) -> _Pairs:
    """From s' = s (1 - s)."""
    return _logistic(x, [torch.ones_like(x)], torch.zeros_like(x), order)


def _logistic(x: Tensor, slopes: list[Tensor], share: Tensor, order: int) -> _Pairs:
    """sigmoid(u) where u is x, off by that share of rounding; from s' = s (1 - s) u', given those of u'."""
    own, other = torch.sigmoid(x), torch.sigmoid(-x)
    found, rest = [(own, own)], [(other, other)]
    products: _Pairs = []
    for k in range(order):
        products.append(_convolved(found, rest, k))
        number, size = _convolved([(slope, slope.abs()) for slope in slopes], products, k)
        found.append((number / (k + 1), size / (k + 1)))
        rest.append((-found[-1][0], found[-1][1]))
    # Of order k it is a sum of products of k + 1 numbers that are off by that share, or 1 less these.
    return [(number, size * (1 + (k + 1) * share)) for k, (number, size) in enumerate(found)]


def _convolved(a: _Pairs, b: _Pairs, k: int) -> tuple[Tensor, Tensor]:
    """The coefficient of order k of a product."""
    nothing = torch.zeros_like(b[0][0])
    orders = range(min(k + 1, len(a)))
    return (
        sum((a[j][0] * b[k - j][0] for j in orders), nothing),
        sum((a[j][1] * b[k - j][1] for j in orders), nothing),
    )


def _sigmoid_bound(x: _Interval) -> Callable[[int], Tensor]:
    most = torch.exp((_STRIP - x.least).clamp_max(0.0))
    return lambda k: most / _STRIP**k


def _curved_sigmoid(x: Tensor, order: int) -> _Pairs:
    """sigmoid(u) for the u of gelu-tanh."""
    cube = _GELU_SCALE * _GELU_CUBE
    inner = x * (_GELU_SCALE + cube * x.square())
    slopes = [_GELU_SCALE + 3 * cube * x.square(), 6 * cube * x, torch.full_like(x, 3 * cube)]
    return _logistic(inner, slopes, inner.abs(), order)


def _curved_sigmoid_bound(x: _Interval) -> Callable[[int], Tensor]:
    """On circles about x of a radius r <= 1, u moves by at most ``u' r + |u''| r² / 2 + c r³``.

    So r is taken that it moves by less than pi/2: it stays in the strip of `sigmoid`.
    """
    cube, most = _GELU_SCALE * _GELU_CUBE, x.most
    radius = _STRIP / (_GELU_SCALE + cube * (3 * most.square() + 3 * most + 1)) * (1 - 2.0**-30)
    inner = _GELU_SCALE * x.least * (1 + _GELU_CUBE * x.least.square()) * (1 - 2.0**-30)
    size = torch.exp((_STRIP - inner).clamp_max(0.0))
    return lambda k: size / radius**k


def _turned_tanh(x: Tensor, order: int) -> _Pairs:
    """tanh(softplus(x)) is 1 - 2 / (p² + 2 p + 2) for p = exp(x), or 1 - 2 q² / (1 + 2 q + 2 q²).

    q is 1 / p. Dividend and divisor are sums of powers.
    """
    below = x <= 0
    power = torch.exp(-x.abs())
    square = power.square()
    over, under = list[Tensor](), list[Tensor]()
    for k in range(order + 1):
        first, second = power / math.factorial(k), 2.0**k * square / math.factorial(k)
        sign = (-1.0) ** k
        constant = float(k == 0)
        over.append(torch.where(below, 2 * constant, sign * 2 * second))
        under.append(
            torch.where(below, second + 2 * first + 2 * constant, sign * (2 * second + 2 * first) + constant)
        )
    divisor = [(own, own.abs()) for own in under]
    quotient: _Pairs = []
    for k in range(order + 1):
        number, size = over[k], over[k].abs()
        if k:
            taken = _convolved(divisor[1:], quotient, k - 1)
            number, size = number - taken[0], size + taken[1]
        quotient.append((number / under[0], size / under[0]))
    # exp rounds what it is given, too. Of order k it is a sum of products of at most 2 k + 2 such numbers.
    share = 1 + 2 * x.abs()
    own = torch.where(below, power * (power + 2), 1 + 2 * power) / under[0]
    rest = [(-number, (2 * k + 2) * share * size) for k, (number, size) in enumerate(quotient)]
    return [(own, own * share), *rest[1:]]


def _turned_tanh_bound(x: _Interval) -> Callable[[int], Tensor]:
    """From circles of radius pi/2, on which the real part of p, and of 1 / p, is not below 0.

    There |p² + 2 p + 2| = |p + 1 + i| |p + 1 - i| is at least sqrt(2): neither factor is less than 1, and one
    of them no less than sqrt(2); in the same way it is at least |p|² / sqrt(2). So 2 / (p² + 2 p + 2) is no
    more than sqrt(2), or sqrt(8) / |p|², and 1 less that no more than |p| |p + 2| / sqrt(2).
    """
    ahead = torch.exp((x.high + _STRIP).clamp_max(2.0))
    near = torch.minimum(ahead * (2 + ahead) / math.sqrt(2), torch.full_like(ahead, math.sqrt(2)))
    far = math.sqrt(8) * torch.exp((2 * (_STRIP - x.low)).clamp_max(2.0))
    most = torch.minimum(near, far) * (1 + 2.0**-40 * (1 + x.most))
    return lambda k: most / _STRIP**k if k else torch.ones_like(most)


def _elu(x: Tensor, interval: _Interval, order: int) -> tuple[_Pairs, Callable[[int], Tensor]]:
    """exp(x) - 1 below 0, and x above: f'' lies between 0 and 1."""
    above, both = interval.low >= 0, (interval.low < 0) & (interval.high > 0)
    inner = torch.where(x > 0, 0.0, x)
    pairs = _exp(inner, order)
    pairs[0] = (torch.where(x > 0, x, torch.expm1(inner)), torch.where(x > 0, x, inner.abs() * (1 - inner)))
    pairs[1] = (torch.where(x > 0, 1.0, pairs[1][0]), pairs[1][1])
    for k in range(2, order + 1):
        off = 0.25 / _ROUNDING * (1 + 2.0**-30) if k == 2 else 0.0
        number = torch.where(both, 0.25 if k == 2 else 0.0, pairs[k][0])
        size = torch.where(both, off, pairs[k][1])
        pairs[k] = (torch.where(above, 0.0, number), torch.where(above, 0.0, size))
    below = _exp_bound(_Interval(interval.low, interval.high.clamp_max(0.0)))

    def bound(k: int) -> Tensor:
        if k == 1:
            return torch.where(interval.high > 0, 1.0, below(1))
        kinked = 0.5 if k == 2 else 0.0
        return torch.where(above, 0.0, torch.where(both, kinked, below(k)))

    return pairs, bound


def _tanh(x: Tensor, order: int) -> _Pairs:
    """2 sigmoid(2 x) - 1."""
    pairs = [
        (2.0 ** (k + 1) * own, 2.0 ** (k + 1) * size) for k, (own, size) in enumerate(_sigmoid(2 * x, order))
    ]
    return [(pairs[0][0] - 1, pairs[0][1] + 1), *pairs[1:]]


def _tanh_bound(x: _Interval) -> Callable[[int], Tensor]:
    inner = _sigmoid_bound(_Interval(2 * x.low, 2 * x.high))
    return lambda k: 2.0 ** (k + 1) * inner(k)


def _softplus(x: Tensor, order: int) -> _Pairs:
    """Its derivative is sigmoid."""
    value = torch.nn.functional.softplus(x)
    rest = [(own / (k + 1), size / (k + 1)) for k, (own, size) in enumerate(_sigmoid(x, order - 1))]
    return [(value, value), *rest]


def _softplus_bound(x: _Interval) -> Callable[[int], Tensor]:
    inner = _sigmoid_bound(x)
    return lambda k: inner(k - 1) / k if k > 1 else torch.ones_like(x.low)


def _normal(x: Tensor, order: int) -> _Pairs:
    """The share of the normal distribution below x: ``(-1)^(k - 1) He_(k - 1)(x) density(x) / k!``."""
    # Not `ndtr`, which is 1 + erf: where x is far below 0 nothing of that is left.
    share = torch.special.erfc(-x / math.sqrt(2)) / 2
    density = _DENSITY * torch.exp(-x.square() / 2)
    # exp rounds what it is given, too.
    sizes = density * (1 + x.square())
    found = [(share, share * (1 + x.square()))]
    here, before = (torch.ones_like(x), torch.ones_like(x)), (torch.zeros_like(x), torch.zeros_like(x))
    for k in range(1, order + 1):
        sign = (-1.0) ** (k - 1) / math.factorial(k)
        found.append((sign * here[0] * density, abs(sign) * here[1] * sizes))
        nxt = (x * here[0] - (k - 1) * before[0], x.abs() * here[1] + (k - 1) * before[1])
        here, before = nxt, here
    return found


def _normal_bound(x: _Interval) -> Callable[[int], Tensor]:
    most = _CRAMER * _DENSITY * torch.exp(-x.least.square() / 4)
    return lambda k: (
        most * (math.sqrt(math.factorial(k - 1)) / math.factorial(k)) if k else torch.ones_like(most)
    )


def _by_itself(
    inner: Callable[[Tensor, int], _Pairs],
) -> Callable[[Tensor, int], _Pairs]:
    """Of x times a function: x c_k + c_(k - 1)."""

    def found(x: Tensor, order: int) -> _Pairs:
        own = inner(x, order)
        first = [(x * own[0][0], x.abs() * own[0][1])]
        return first + [
            (x * own[k][0] + own[k - 1][0], x.abs() * own[k][1] + own[k - 1][1]) for k in range(1, order + 1)
        ]

    return found


def _by_itself_bound(
    inner: Callable[[_Interval], Callable[[int], Tensor]],
) -> Callable[[_Interval], Callable[[int], Tensor]]:
    def found(x: _Interval) -> Callable[[int], Tensor]:
        own = inner(x)
        return lambda k: x.most * own(k) + (own(k - 1) if k > 1 else 1.0)

    return found


def _exp(x: Tensor, order: int) -> _Pairs:
    own = torch.exp(x)
    size = own * (1 + x.abs())
    return [(own / math.factorial(k), size / math.factorial(k)) for k in range(order + 1)]


def _exp_bound(x: _Interval) -> Callable[[int], Tensor]:
    most = torch.exp(x.high) * (1 + 2.0**-40 * (1 + x.most))
    return lambda k: most / math.factorial(k)


def binomial(exponent: float, k: int) -> float:
    """The coefficient of d^k in ``(1 + d) ** exponent``."""
    return math.prod((exponent - j) / (j + 1) for j in range(k))


def _power(
    layer: Smooth, x: Tensor, interval: _Interval, order: int
) -> tuple[_Pairs, Callable[[int], Tensor]] | None:
    """Powers of numbers above 0, and whole ones of any."""
    exponent, floor = layer.numbers
    whole = math.isinf(floor)
    if not whole and bool((interval.low <= max(0.0, floor)).any()):
        return None
    pairs = []
    for k in range(order + 1):
        if whole and k > exponent:
            pairs.append((torch.zeros_like(x), torch.zeros_like(x)))
            continue
        own = binomial(exponent, k) * torch.pow(x, exponent - k)
        pairs.append((own, own.abs()))

    def bound(k: int) -> Tensor:
        if whole and k > exponent:
            return torch.zeros_like(x)
        base = interval.most if exponent >= k else interval.low
        return abs(binomial(exponent, k)) * torch.pow(base, exponent - k)

    return pairs, bound


_Known = tuple[Callable[[Tensor, int], _Pairs], Callable[[_Interval], Callable[[int], Tensor]]]
_KNOWN: Mapping[str, _Known] = {
    "sigmoid": (_sigmoid, _sigmoid_bound),
    "tanh": (_tanh, _tanh_bound),
    "softplus": (_softplus, _softplus_bound),
    "exp": (_exp, _exp_bound),
    "silu": (_by_itself(_sigmoid), _by_itself_bound(_sigmoid_bound)),
    "gelu": (_by_itself(_normal), _by_itself_bound(_normal_bound)),
    "gelu-tanh": (_by_itself(_curved_sigmoid), _by_itself_bound(_curved_sigmoid_bound)),
    "mish": (_by_itself(_turned_tanh), _by_itself_bound(_turned_tanh_bound)),
}
