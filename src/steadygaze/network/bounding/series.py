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
    own = torch.sigmoid(x)
    found = [(own, own)]
    for k in range(order):
        square = sum((found[j][0] * found[k - j][0] for j in range(k + 1)), torch.zeros_like(own))
        size = sum((found[j][1] * found[k - j][1] for j in range(k + 1)), torch.zeros_like(own))
        found.append(((found[k][0] - square) / (k + 1), (found[k][1] + size) / (k + 1)))
    return found


def _sigmoid_bound(x: _Interval) -> Callable[[int], Tensor]:
    most = torch.exp((_STRIP - x.least).clamp_max(0.0))
    return lambda k: most / _STRIP**k


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
}
