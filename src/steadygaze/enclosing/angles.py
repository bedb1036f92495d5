"""Bounds of the angle between two vectors that are known as affine forms over boxes.

Let S = s + δ and E = e + ε with centres s, e, and c the cosine of the angle between these. With the products
divided by |s| |e|, x = <s, δ> / |s|², d = |δ| / |s|, and y, f the same of ε,

    <S, E> = c + <δ, e> + <s, ε> + <δ, ε>,
    (1 + x) (1 + y) <= |S| |E| <= (1 + x + d²/2) (1 + y + f²/2),

below by projection onto the centres (where x, y >= -1), above as sqrt(1 + 2 x + d²) <= 1 + x + d²/2. So
<S, E> - c |S| |E| has no constant term, its linear term is that of δ across s and of ε across e, coordinate
by coordinate (what moves both vectors the same way cancels), and what remains is of second order. Dividing by
|S| |E| >= (1 - max|x|) (1 - max|y|) bounds the cosine's distance from c.

Sizes are bounded one by one there, which loses the more the farther the vectors may turn. Where it is asked
whether the cosine is at least some k >= 0 everywhere, for any m > 0

    <S, E> - k |S| |E| >= <S, E> - k (m |S|² + |E|² / m) / 2 =: F,

as a geometric mean is at most the arithmetic one. F is a quadratic in coordinates, symbols and errors: its
constant term less the magnitudes of all others is a bound f of it. Where f > 0 the cosine is at least
k + f / max |S| |E|, else k + f / min |S| |E|. With S = s + δ, δ across s, and E = s, that shows k as long as
|δ|² <= |s|² (1 - k²) / k², for the best m, and the bound above as long as |δ|² <= 2 |s|² (1 - k): for k = 0.7
these are 1.04 and 0.6.

Symbols that are -1 or 1 are tried both ways, the largest of them in all combinations: each combination has a
centre of its own, in which symbols that are products of them take part, and the rest is bounded around it.
All of this is computed from the products of the rows.

Rounding. A product of two rows of P entries is off by at most (P + 1) u times the product of their lengths.
A centre is a sum of rows, whose lengths add up to `gross`: its products are off by a few (P + 1) u gross²,
which matters where the sum cancels. So everything is widened by 64 (P + 32) u (gross / |s|)², far above the
few dozen operations that follow; and where that is not small, nothing is claimed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from steadygaze.enclosing.enclosures import UNIT
from steadygaze.enclosing.forms import SIGN, Forms

# So many two-valued symbols are tried in all combinations.
_COMBINED = 6
# A centre that cancels to less than this share of its terms counts as one that may vanish.
_CANCELLED = 1e-4
# What m is tried, in ratios of the sizes of the centres; k in place of the first one, if that is more, as a
# vector that turns by as much as is asked, and no more, is |s| / k long.
_RATIOS = (0.55, 0.75, 1.0, 1.3)


@dataclass(frozen=True)
class _Side:
    """One of the two vectors, for each combination: all ``(B, V)`` but the last two, ``(B, V, k)``.

    size: of the centre. along: largest |x| (see the module). away: d. error: size of the error. own, other:
    products of what is left of the rows with its own centre and with the other's; 0 for rows of combinations.
    """

    size: Tensor
    along: Tensor
    away: Tensor
    error: Tensor
    own: Tensor
    other: Tensor


def cosine_bounds(first: Forms, second: Forms, near: float | None = None) -> tuple[Tensor, Tensor]:
    """Least and largest cosine ``(B,)`` of the angle between vectors ``(B, P)``.

    They are -1 and 1 where a vector may vanish, or turn by more than a right angle from its centre. The
    symbols of the second are taken for errors.
    near: the cosine at which the least one is to be tight, as it is asked for; None for no such.
    """
    first, second = _near_one(first).with_symbols(0), _near_one(second.without_symbols()).with_symbols(0)
    within, between = first.rows @ first.rows.mT, first.rows @ second.rows.mT
    beside = second.rows @ second.rows.mT
    weights = _combinations(first, within)
    left = (weights[:, :1] == 0).to(within.dtype)
    left[..., 0] = 0.0
    s = _side(within, weights, left, between[:, :, :1], first.errors)
    whole = torch.zeros_like(beside[:, :1])
    whole[..., 0] = 1.0
    others = torch.ones_like(whole)
    others[..., 0] = 0.0
    e = _side(beside, whole, others, between.mT @ weights.mT, second.errors)
    product = (weights @ between[:, :, :1])[..., 0]
    c = (product / (s.size * e.size)).clamp(-1.0, 1.0)
    gross = within.diagonal(dim1=1, dim2=2).sqrt()
    gross = gross[:, :1] + (gross[:, None, 1:] * weights[..., 1:].abs()).sum(dim=2)
    # The size of a vector that vanishes is `_tiny`; what it is divided by must not be as small.
    share = s.size / gross.clamp_min(UNIT)
    rounding = 64 * (first.rows.shape[2] + 32) * UNIT / share.square().clamp_min(_CANCELLED**2)
    lower, upper = _around(c, s, e, first.count, rounding)
    certain = (s.along < 1) & (e.along < 1) & (share > _CANCELLED) & (e.size > UNIT)
    low = torch.where(certain, c - lower * (1 + rounding) - rounding, -1.0)
    high = torch.where(certain, c + upper * (1 + rounding) + rounding, 1.0)
    if near is not None:
        terms = gross + (within.diagonal(dim1=1, dim2=2).clamp_min(0.0).sqrt()[:, None] * left).sum(dim=2)
        rest = _Rest.of(s, e, left.mT * left * within, left.mT * between, beside, terms)
        found = _least_near(max(near, 0.0), c, s, e, rest, sum(first.rows.shape[1:]))
        low = torch.where((share > _CANCELLED) & (e.size > UNIT), torch.fmax(low, found), low)
    return low.amin(dim=1).clamp(-1.0, 1.0), high.amax(dim=1).clamp(-1.0, 1.0)


def _near_one(forms: Forms) -> Forms:
    """The forms of each box times a power of 2, with which products of rows neither over- nor underflow."""
    largest = torch.maximum(forms.rows.abs().amax(dim=(1, 2)), forms.error.amax(dim=1))
    exponent = torch.frexp(largest).exponent.clamp(-1000, 1000)
    scale = torch.exp2(-exponent.to(forms.rows.dtype))
    length = None if forms.length is None else forms.length * scale
    return replace(
        forms, rows=forms.rows * scale[:, None, None], error=forms.error * scale[:, None], length=length
    )


def _around(c: Tensor, s: _Side, e: _Side, count: int, rounding: Tensor) -> tuple[Tensor, Tensor]:
    """How far the cosine may be below and above that of the centres, ``(B, V)``; rounding: of c."""
    sizes = s.size * e.size
    # Where c is nearly 1 or -1, what rounding does to it moves the sine by much more.
    sine = (1 - c.square() + rounding).clamp_min(0.0).sqrt()
    own = s.other / sizes[..., None] - c[..., None] * s.own / s.size.square()[..., None]
    others = e.other / sizes[..., None] - c[..., None] * e.own / e.size.square()[..., None]
    shared = min(own.shape[2], others.shape[2], 1 + count)
    linear = (own[..., :shared] + others[..., :shared]).abs().sum(dim=2)
    linear = linear + own[..., shared:].abs().sum(dim=2) + others[..., shared:].abs().sum(dim=2)
    linear = linear + sine * (s.error / s.size + e.error / e.size)
    product = s.away * e.away
    first, second = s.away.square() / 2, e.away.square() / 2
    above = first + second + (s.along + first) * (e.along + second)
    below = s.along * e.along
    least = (1 - s.along) * (1 - e.along)
    # Where the cosine is negative, what the sizes may do is the other way round.
    weight = c.abs()
    lower = linear + product + weight * torch.where(c >= 0, above, below)
    upper = linear + product + weight * torch.where(c >= 0, below, above)
    return lower / least, upper / least


@dataclass(frozen=True)
class _Rest:
    """What is not in the centres, as shares of their sizes: all ``(B, V)`` but the first three.

    shared, other, joint ``(B, V, n, n)``: products of what coordinates do to the first vector, to the second,
    and of the first with the second. alone, beside: magnitudes of the first's other products, and of its
    others with the second's, added up. turned, moved: how long the first and the second may be. sizes: of all
    rows and errors of both.
    """

    shared: Tensor
    other: Tensor
    joint: Tensor
    alone: Tensor
    beside: Tensor
    turned: Tensor
    moved: Tensor
    sizes: Tensor

    @staticmethod
    def of(s: _Side, e: _Side, within: Tensor, between: Tensor, beside: Tensor, terms: Tensor) -> _Rest:
        """From products of the rows, those of centres being 0; terms: sizes of the first's."""
        n = beside.shape[2] - 1
        own, both, other = s.size.square(), s.size * e.size, e.size.square()
        first, second = _magnitude(within)[:, None] / own, _magnitude(beside[:, 1:, 1:])[:, None] / other
        shared, joint = within[:, 1 : 1 + n, 1 : 1 + n], between[:, 1 : 1 + n, 1:]
        sizes = terms / s.size + s.error / s.size + e.error / e.size
        sizes = sizes + beside.diagonal(dim1=1, dim2=2).clamp_min(0.0).sqrt().sum(dim=1)[:, None] / e.size
        return _Rest(
            shared[:, None] / own[..., None, None],
            beside[:, None, 1:, 1:] / other[..., None, None],
            (joint + joint.mT)[:, None] / (2 * both[..., None, None]),
            (_magnitude(within) - _magnitude(shared)).clamp_min(0.0)[:, None] / own,
            _magnitude(between[:, 1 + n :, 1:])[:, None] / both,
            first.sqrt(),
            second.sqrt(),
            sizes,
        )


def _least_near(k: float, c: Tensor, s: _Side, e: _Side, rest: _Rest, terms: int) -> Tensor:
    """Least cosines ``(B, V)`` by the quadratic F of the module, the best of several m.

    terms: the number of terms of a product, and of products.
    """
    first, second = s.error / s.size, e.error / e.size
    rounding = 64 * (terms + 32) * UNIT * rest.sizes.square()
    own, others = s.own / s.size.square()[..., None], e.own / e.size.square()[..., None]
    both = (s.size * e.size)[..., None]
    best = torch.full_like(c, -torch.inf)
    for m in (max(k, _RATIOS[0]), *_RATIOS[1:]):
        linear = s.other / both - k * m * own
        linear[..., : others.shape[2]] += e.other / both - k / m * others
        products = (k / 2 * (m * rest.shared + rest.other / m) - rest.joint).abs().sum(dim=(2, 3))
        products = products + k / 2 * m * rest.alone + rest.beside
        # How long E - k m S and S - k E / m may be: what errors of S and of E are multiplied by.
        along = (1 - 2 * k * m * c + (k * m) ** 2 + rounding).clamp_min(0.0).sqrt()
        along = along + rest.moved + k * m * rest.turned
        across = (1 - 2 * k / m * c + (k / m) ** 2 + rounding).clamp_min(0.0).sqrt()
        across = across + rest.turned + k / m * rest.moved
        errors = first * along + second * across + first * second
        errors = errors + k / 2 * (m * first.square() + second.square() / m)
        f = c - k / 2 * (m + 1 / m) - linear.abs().sum(dim=2) - products - errors - rounding
        best = torch.fmax(best, f)
    most = (1 + rest.turned + first) * (1 + rest.moved + second) + rounding
    least = (1 - s.along).clamp_min(0.0) * (1 - e.along).clamp_min(0.0) - rounding
    found = torch.where(best > 0, best / most, best / least.clamp_min(0.0))
    return k + found - 16 * UNIT * (1 + found.abs())


def _magnitude(products: Tensor) -> Tensor:
    """``(B,)`` magnitudes of ``(B, j, k)`` added up: what they are at most, times numbers in [-1, 1]."""
    return products.abs().sum(dim=(1, 2))


def _combinations(forms: Forms, within: Tensor) -> Tensor:
    """What each combination of the largest two-valued symbols makes of the rows: weights ``(B, V, rows)``."""
    boxes, rows = within.shape[:2]
    weights = within.new_zeros((boxes, 1, rows))
    weights[..., 0] = 1.0
    if forms.origin is None:
        return weights
    start = 1 + forms.count
    origin = forms.origin[:, : rows - start]
    sign = (origin == SIGN).all(dim=2)
    lengths = within.diagonal(dim1=1, dim2=2)[:, start : start + sign.shape[1]] * sign
    count = min(_COMBINED, int((lengths > 0).sum(dim=1).max()))
    if not count:
        return weights
    chosen = lengths.topk(count, dim=1)
    signs = torch.cartesian_prod(*[weights.new_tensor([-1.0, 1.0])] * count).reshape(-1, count)
    weights = weights.repeat(1, len(signs), 1)
    index = (start + chosen.indices)[:, None].expand(-1, len(signs), -1)
    # Where a box has fewer of them, what is chosen instead keeps its place among what is left.
    real = (chosen.values > 0)[:, None]
    weights = weights.scatter_add(2, index, torch.where(real, signs, 0.0))
    product = (origin >= 0).all(dim=2)
    for symbol in product.any(dim=0).nonzero()[:, 0].tolist():
        parents = start + origin[:, symbol].clamp_min(0)
        both = weights.gather(2, parents[:, None].expand(-1, len(signs), -1)).prod(dim=2)
        weights[:, :, start + symbol] += both * product[:, symbol, None]
    return weights


def _side(within: Tensor, weights: Tensor, left: Tensor, other: Tensor, errors: Tensor) -> _Side:
    """See `_Side`; within: products of the rows, weights ``(B, V, rows)`` of the centres, left of the rest.

    other ``(B, rows, V or 1)``: products of the rows with the other vector's centres. errors: their length.
    """
    own = weights @ within
    size = (own * weights).sum(dim=2).clamp_min(0.0).sqrt()
    scale = size.clamp_min(_tiny(size))
    length = errors[:, None]
    # |sum_k u_k v_k|² is at most the sum of all |<v_j, v_k>|.
    away = (left @ within.abs() @ left.mT)[..., 0].sqrt() + length
    along = (own.abs() * left).sum(dim=2) / scale + length
    return _Side(scale, along / scale, away / scale, length, own * left, other.mT * left)


def _tiny(like: Tensor) -> float:
    return torch.finfo(like.dtype).tiny
