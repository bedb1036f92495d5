"""Bounds of the angle between two vectors that are known as affine forms over boxes.

Let S = s + δ and E = e + ε with centres s, e, and c the cosine of the angle between these. With the products
divided by |s| |e|, x = <s, δ> / |s|², d = |δ| / |s|, and y, f the same of ε,

    <S, E> = c + <δ, e> + <s, ε> + <δ, ε>,
    (1 + x) (1 + y) <= |S| |E| <= (1 + x + d²/2) (1 + y + f²/2),

below by projection onto the centres (where x, y >= -1), above as sqrt(1 + 2 x + d²) <= 1 + x + d²/2. So
<S, E> - c |S| |E| has no constant term, its linear term is that of δ across s and of ε across e, coordinate
by coordinate (what moves both vectors the same way cancels), and what remains is of second order. Dividing by
|S| |E| >= (1 - max|x|) (1 - max|y|) bounds the cosine's distance from c.

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


def cosine_bounds(first: Forms, second: Forms) -> tuple[Tensor, Tensor]:
    """Least and largest cosine ``(B,)`` of the angle between vectors ``(B, P)``.

    They are -1 and 1 where a vector may vanish, or turn by more than a right angle from its centre. The
    symbols of the second are taken for errors.
    """
    first, second = _near_one(first), _near_one(second.without_symbols())
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
