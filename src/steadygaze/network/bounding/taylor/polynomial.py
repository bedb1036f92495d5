"""Values over boxes as polynomials in the coordinates, plus or minus an error: Taylor models.

A value is what is known at the middle of the box, its anchor, and a difference from that: a polynomial in the
coordinates t up to some degree, and an error for all that is not followed (Makino and Berz, Taylor models and
other validated functional inclusion methods, International Journal of Pure and Applied Mathematics 4, 2003).
What cancels between layers up to that degree is seen to, as through a norm or a softmax; what is left shrinks
with so high a power of the box that it matters little how it is multiplied by the norms of all layers behind.

A layer f is expanded at the anchor. What errors e of its input come to is as for forms: no more than the
largest derivative over the box times e.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from steadygaze.enclosing.double_double import Precise, precise_products
from steadygaze.enclosing.enclosures import UNIT
from steadygaze.enclosing.forms import Forms, lengths_of
from steadygaze.enclosing.monomials import Monomials
from steadygaze.network.bounding.anchors.anchored import Anchored
from steadygaze.network.bounding.anchors.centres import PARTS_OF_DRIFT
from steadygaze.network.bounding.forms.joint import Times

# What rounding in a handful of operations may add, as a share.
ROUNDING = 2.0**-40
#: So many units in doubt have a symbol of their own where there is no room for all of them: those that matter
#: most.
FEW_DOUBTS = 32


def multiplied(m: Monomials, times: Times, a: Forms, b: Forms, terms: int) -> Forms:
    """The product of two polynomials with errors; terms: the most products that are summed for one value.

    Of symbols beside the monomials, what the other's centre makes of them is followed; both have the same.
    """
    product, stretch = times
    share = 2 * (terms + m.rows + 8) * UNIT
    rows = m.product(product, a.rows, b.rows)
    beside = left_out(m, times, a.rows, b.rows) + share * product(a.size, b.size)
    first, second = a.rows[:, m.rows :], b.rows[:, m.rows :]
    if first.shape[1]:
        rows = summed_rows(rows, functional.pad(product(first, _for_each(b.centre, first)), _behind(m, rows)))
        beside = beside + product(strays(m, a), b.spread)
    if second.shape[1]:
        known = _for_each(a.centre, second)
        rows = summed_rows(rows, functional.pad(product(known, second), _behind(m, rows)))
        beside = beside + product(a.spread, strays(m, b))
    error = product(a.size, b.error) + product(a.error, b.most) + beside
    a_longer, b_longer = stretch(a.centre) + stretch(a.spread), stretch(b.centre) + stretch(b.reach)
    lengths = a_longer * b.errors + b_longer * a.errors + lengths_of(beside)
    return Forms(rows, error * (1 + share), a.count, length=lengths * (1 + share))


def summed_rows(a: Tensor, b: Tensor) -> Tensor:
    """The sum of rows ``(B, k, *shape)``, of which either may have more."""
    longer, shorter = (a, b) if a.shape[1] >= b.shape[1] else (b, a)
    found = longer.clone()
    found[:, : shorter.shape[1]] += shorter
    return found


def most_rows_of(m: Monomials) -> int:
    """How many rows forms have where few units in doubt have symbols: monomials, kinks, and these."""
    return m.rows + m.beside + FEW_DOUBTS


def with_doubts(m: Monomials, forms: Forms, deviation: Tensor, used: int, room: int) -> Forms:
    """With symbols, behind monomials and those in use, for deviations ``(B, *shape)``.

    For all of them, if that leaves no more than `room` beside the monomials: layers behind multiply what has
    none by their norms, however little it is. Else for the largest, as long as there are few.
    """
    monomials = m.rows + m.beside - 1 - forms.count
    used = max(used, monomials)
    count = int((deviation > 0).flatten(1).sum(dim=1).max()) if deviation.numel() else 0
    if used + count <= monomials + room:
        return forms.widened(deviation, used + count, used, share=0.0)
    return forms.widened(deviation, monomials + FEW_DOUBTS, used)


def strays(m: Monomials, forms: Forms) -> Tensor:
    """How far symbols beside the monomials reach, ``(B, *shape)``."""
    return forms.rows[:, m.rows :].abs().sum(dim=1) * (1 + ROUNDING)


def without_strays(m: Monomials, forms: Forms) -> Forms:
    """What symbols beside the monomials do as an error."""
    if forms.rows.shape[1] <= m.rows:
        return forms
    return replace(forms, rows=forms.rows[:, : m.rows]).loosened(strays(m, forms))


def _for_each(known: Tensor, rows: Tensor) -> Tensor:
    """Numbers ``(B, *shape)`` for each of some rows ``(B, k, *other)``."""
    return known[:, None].expand(-1, rows.shape[1], *known.shape[1:])


def _behind(m: Monomials, rows: Tensor) -> tuple[int, ...]:
    """Where rows of symbols stand beside these: behind the monomials."""
    return (0, 0) * (rows.ndim - 2) + (m.rows, 0)


def left_out(m: Monomials, times: Times, a: Tensor, b: Tensor) -> Tensor:
    """At least the magnitudes of all terms of a product that are of too high a degree."""
    sizes, others = m.graded(a), m.graded(b)
    tails = others.flip(1).cumsum(dim=1)  # first the highest degree, then the two highest, and so on
    return times[0](sizes[:, 1:], tails[:, :-1]).sum(dim=1) * (1 + ROUNDING)


def differences(m: Monomials, times: Times, a: Anchored, b: Anchored, terms: int) -> Forms:
    """By how much a product differs from that of the anchors, and of each with the other's drift.

    With changes D and E from anchors a and b, of which d and e are beside the drift: ``a e + d b + D E``.
    """
    product, stretch = times
    share = 2 * (terms + m.rows + 16) * UNIT
    known, other, first, second = a.anchor, b.anchor, a.change, b.change
    rows = m.product(product, first.rows, second.rows)
    for part in (product(known[:, None], b.away.rows), product(a.away.rows, other[:, None])):
        rows = summed_rows(rows, part)
    size, most = known.abs(), other.abs()
    beside = left_out(m, times, first.rows, second.rows)
    if max(first.rows.shape[1], second.rows.shape[1]) > m.rows:
        beside = beside + product(strays(m, first), second.size) + product(first.size, strays(m, second))
    rounded = product(first.size, second.size) + product(size, b.away.size) + product(a.away.size, most)
    beside = beside + share * rounded
    error = product(size, b.away.error) + product(a.away.error, most)
    error = error + product(first.size, second.error) + product(first.error, second.most) + beside
    lengths = stretch(known) * b.away.errors + stretch(other) * a.away.errors
    lengths = lengths + stretch(first.size) * second.errors + stretch(second.most) * first.errors
    lengths = lengths + lengths_of(beside)
    return Forms(rows, error * (1 + share), first.count, length=lengths * (1 + share))


def drifting_product(
    product: Callable[[Tensor, Tensor], Tensor], a: Anchored, b: Anchored, terms: int
) -> Precise:
    """The drift of a product: of each factor's with the other's anchor, ``(B, n, *shape)``."""
    first, second = drift_of(a), drift_of(b)
    count = first.shape[1]
    if not count:
        return Precise.exact(product(a.anchor, b.anchor)[:, None][:, :0])

    def made(first: Tensor, second: Tensor) -> Precise:
        one, two = (own.flatten(0, 1) for own in (first, second))
        one = precise_products(product, one, two, terms, shared=False, parts=PARTS_OF_DRIFT)
        return one.shaped(lambda own: own.unflatten(0, first.shape[:2]))

    return made(first, _for_each(b.anchor, first)) + made(_for_each(a.anchor, second), second)


def drift_of(x: Anchored) -> Tensor:
    """The drift ``(B, n, *shape)`` of values that are followed as polynomials; n is 0 where there is none."""
    assert x.drift is not None
    return x.drift


def with_drift(beside: Forms, drift: Precise) -> Forms:
    """What is beside a drift ``(B, n, *shape)``, and that."""
    rows = beside.rows.clone()
    moving = rows[:, 1 : 1 + drift.high.shape[1]]
    moving += drift.high
    rounding = (off_of(drift) + UNIT * moving.abs()).sum(dim=1) * (1 + ROUNDING)
    return replace(beside, rows=rows).loosened(rounding)


def off_of(x: Precise) -> Tensor:
    """At least how far numbers are from their first parts."""
    return (x.low.abs() + x.error) * (1 + ROUNDING)


def repeated(x: Precise, drift: Precise) -> Precise:
    """The same numbers for all coordinates of a drift ``(B, n, *shape)``, and along its last axis."""
    return x.shaped(lambda own: own[:, None].expand_as(drift.high))


def composed(m: Monomials, numbers: list[Tensor], off: list[Tensor], inner: Forms) -> tuple[Tensor, Tensor]:
    """``sum over k >= 1 of c_k inner^k`` for c_k = numbers[k - 1] ± off[k - 1]: rows, and the error.

    Of inner, only the polynomial counts; errors of its own are not looked at, nor symbols beside it.
    """
    rows, whole, left = m.composed(numbers, inner.rows[:, : m.rows])
    size = inner.size * (1 + ROUNDING)
    doubt = torch.zeros_like(size)
    for own in reversed(off):
        doubt = (doubt + own) * size
    rounding = 16 * (len(numbers) + 2) * (m.rows + 4) * UNIT * whole
    return rows, (left + doubt + rounding) * (1 + ROUNDING)
