"""Products of two computed values and softmax, over boxes of parameters: forward and backward.

With a = c + α + e and b = d + β + f, where c and d are known, α and β are linear in the coordinates and
symbols, and e and f are errors, ``a b = c d + c β + d α + (c f + d e) + (α + e)(β + f)``. The last product is
at most the product of the reaches; but of ``α_i t_i · β_i t_i`` it is known, as 0 <= t_i² <= 1, that it lies
between 0 and α_i β_i, so that half of that is known and half a deviation. Where the range of the product, as
that of two intervals, is narrower, it is taken.

Softmax p is known by its mean-value form: p(z) lies in ``p(c) + J (z - c)`` for the derivatives
``J = diag(p) - p pᵀ`` over all of the box, where p is within its own range.

The values of a norm are made of these and of ``1 / sqrt``; that none of n normalised numbers is above sqrt(n)
is known besides.

Backward, all of the true gradient g is multiplied by the other factor b: g b for forms of g with symbols of
their own and what is known of b by the coordinates alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from steadygaze.enclosing.enclosures import UNIT
from steadygaze.enclosing.forms import Forms, all_of, lengths_of
from steadygaze.network.bounding.curves.enclosing import relaxed
from steadygaze.network.bounding.forms.last_axis import (
    levelled,
    mean,
    others,
    root_of,
    share_of,
    summed,
    terms_of,
    total,
)
from steadygaze.network.joint import AbstractJoint, AbstractProduct, Multiply, Normalise, Softmax
from steadygaze.network.smooth import Smooth

# What rounding in a handful of operations may add, as a share.
_ROUNDING = 2.0**-40
# Rounding of a softmax by more than this share is not followed.
_COARSE = 2.0**-10


# A product that is linear in both factors, and how much longer, ``(B,)``, a known one can make the other.
Times: TypeAlias = tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor], Tensor]]
UNITS: Times = (Multiply().product, Multiply().stretch)


def stretch_along(known: Tensor) -> Tensor:
    """The largest length along the last axis, ``(B,)``, rounded up."""
    lengths = torch.linalg.vector_norm(known, dim=-1)
    return lengths.reshape(len(known), -1).amax(dim=1) * (1 + _ROUNDING)


# The same along the last axis: sums of products, and numbers times one for all of them. Both make a vector as
# much longer as the known factor is long.
ADDED: Times = (lambda a, b: total(a * b), stretch_along)
SPREAD: Times = (lambda a, b: a * b, stretch_along)


@dataclass(frozen=True, eq=False)
class Factors:
    """Both factors of a product over boxes, by the coordinates alone.

    Attributes:
        layer: the product. factors: forms ``(B, *shape)`` without symbols.
        doubts: ``(B,)`` number of outputs that are not known but for rounding.
    """

    layer: AbstractProduct
    factors: tuple[Forms, Forms]
    doubts: Tensor

    def take(self, chosen: Tensor) -> Factors:
        """Those of some boxes."""
        first, second = (forms.take(chosen) for forms in self.factors)
        return replace(self, factors=(first, second), doubts=self.doubts[chosen])

    def pulled(self, gradient: Forms, room: int, used: int) -> tuple[Forms, ...]:
        """The gradients at both factors, given the one at the product; room, used: see `Forms.widened`."""
        layer, (a, b) = self.layer, self.factors
        terms = layer.terms(a.shape, b.shape)
        half = used + max(0, room - used) // 2
        first = _followed((layer.first, layer.stretch), gradient, b, terms, half, used)
        times = (lambda g, own: layer.second(own, g), layer.stretch)
        second = _followed(times, gradient, a, terms, room, max(used, first.symbols))
        return first, second


@dataclass(frozen=True, eq=False)
class Shares:
    """Probabilities of a softmax over boxes: forms ``(B, *shape)`` without symbols, and doubts ``(B,)``."""

    shares: Forms
    doubts: Tensor

    def take(self, chosen: Tensor) -> Shares:
        """Those of some boxes."""
        return Shares(self.shares.take(chosen), self.doubts[chosen])

    def pulled(self, gradient: Forms, room: int, used: int) -> tuple[Forms, ...]:
        """The gradient at the arguments, ``J g = p (g - <p, g>)``, given the one at the probabilities.

        Adding one number to all of g changes nothing: it is first brought near to 0, for narrower bounds.
        What errors e of g come to is ``J e`` (see `eigenvalue`).
        """
        size = gradient.shape[-1]
        half = used + max(0, room - used) // 2
        level, p = levelled(gradient.without_errors()), self.shares
        along = _followed(ADDED, level, p, terms_of(size), half, used)

        def repeated(x: Tensor) -> Tensor:
            return x.expand(*x.shape[:-1], size)

        spread = along.linear(repeated, repeated, 1, norm=root_of(size))
        made = _followed(UNITS, level + -spread, p, 1, room, max(used, along.symbols))
        most, share = p.most, 1 + share_of(gradient.error)
        error = most * (gradient.error + summed(most * gradient.error)) * share
        return (made.loosened(error, gradient.errors * eigenvalue(most)),)


@dataclass(frozen=True, eq=False)
class Scales:
    """A norm over boxes: its values y ``(B, *shape)`` and its scales r, without symbols; doubts ``(B,)``."""

    layer: Normalise
    values: Forms
    scales: Forms
    doubts: Tensor

    def take(self, chosen: Tensor) -> Scales:
        """Those of some boxes."""
        values, scales = self.values.take(chosen), self.scales.take(chosen)
        return replace(self, values=values, scales=scales, doubts=self.doubts[chosen])

    def pulled(self, gradient: Forms, room: int, used: int) -> tuple[Forms, ...]:
        """The gradient at the arguments, given the one at the values.

        It is ``J g = r (g - mean(g) - y mean(y g))``. What errors e of g come to is J e, and no eigenvalue of
        J is above r.
        """
        size, y, r = gradient.shape[-1], self.values, self.scales
        steps = [used + max(0, room - used) * share // 3 for share in (1, 2)]
        known = gradient.without_errors()
        along = _followed(ADDED, known, y, terms_of(size), steps[0], used)
        along = along.scaled(along.error.new_full((), 1 / size).expand(along.shape))
        used = max(used, along.symbols)
        along = _followed(SPREAD, along, y, 1, steps[1], used)
        used = max(used, along.symbols)
        level = levelled(known) if self.layer.centred else known
        made = _followed(SPREAD, level + -along, r, 1, room, used)
        return (made.loosened(*contracted(self.layer, gradient, y.most, r.most)),)


def contracted(layer: Normalise, forms: Forms, y: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """What ``r (e - mean(e) - y mean(y e))`` makes of errors e, entry by entry and their length.

    y ``(B, *shape)`` and r ``(B, *groups, 1)`` are the largest magnitudes of values and scales.
    """
    e, share = forms.error, 1 + share_of(forms.error)
    entries = e + y * mean(y * e) + (mean(e) if layer.centred else 0.0)
    most = r.flatten(1).amax(dim=1)
    return (
        torch.minimum(entries, errors_along(forms)) * r * share,
        forms.errors * most * (1 + _ROUNDING),
    )


def errors_along(forms: Forms) -> Tensor:
    """At least the lengths of errors along the last axis, ``(B, *shape)`` but 1 there."""
    own = torch.linalg.vector_norm(forms.error, dim=-1, keepdim=True) * (1 + share_of(forms.error))
    return torch.minimum(own, all_of(forms.errors).reshape(-1, *(1,) * (own.ndim - 1)))


def relax_joint(
    layer: AbstractJoint, inputs: tuple[Forms, ...], room: int, used: int
) -> tuple[Forms, Factors | Shares | Scales, Tensor]:
    """Values ``(B, *shape)``, what the gradient needs, and deviations ``(B, N)`` that became symbols.

    room and used: see `Forms.widened`.
    """
    if isinstance(layer, Normalise):
        values, scales, deviation = _normalised(layer, inputs[0], room, used)
        known = values.without_symbols()
        return values, Scales(layer, known, scales, doubts_of(deviation)), deviation.flatten(1)
    if isinstance(layer, AbstractProduct):
        first, second = inputs
        times = (layer.product, layer.stretch)
        values, deviation = multiplied(times, first, second, layer.terms(first.shape, second.shape))
        if isinstance(layer, Multiply):
            values, deviation = _within(values, deviation, *_range_of_product(first, second, layer.limit))
        known = (first.without_symbols(), second.without_symbols())
        values = values.widened(deviation, room, used)
        return values, Factors(layer, known, doubts_of(deviation)), deviation.flatten(1)
    assert isinstance(layer, Softmax), "the table of joint layers has products, norms and softmax"
    values, deviation = _softmax(layer, inputs[0])
    values = values.widened(deviation, room, used)
    return values, Shares(values.without_symbols(), doubts_of(deviation)), deviation.flatten(1)


def multiplied(times: Times, first: Forms, second: Forms, terms: int) -> tuple[Forms, Tensor]:
    """The product of first and second, as forms and a deviation ``(B, *shape)`` beside them.

    Symbols of one number are the same in both. terms: the most products that are summed for one value.
    """
    product, stretch = times
    a, b = first.with_symbols(0), second.with_symbols(0)
    c, d, most = a.centre, b.centre, (a.size, b.most)
    longer = stretch(c) + stretch(a.spread), stretch(d) + stretch(b.reach)
    alpha, beta = a.rows[:, 1:], b.rows[:, 1:]
    moved = [product(alpha, d[:, None]), product(c[:, None], beta)]
    moved.sort(key=lambda rows: rows.shape[1])
    linear = moved[1].clone()
    linear[:, : moved[0].shape[1]] += moved[0]
    both = min(alpha.shape[1], beta.shape[1])
    squares = product(alpha[:, :both], beta[:, :both]).sum(dim=1) / 2
    known = product(alpha[:, :both].abs(), beta[:, :both].abs()).sum(dim=1) / 2
    rows = torch.cat([(product(c, d) + squares)[:, None], linear], dim=1)
    # Of a b = (a0 + e) (b0 + f) = a0 b0 + a0 f + e b only the first product is followed further.
    error = product(most[0], b.error) + product(a.error, most[1])
    share = 2 * (terms + rows.shape[1] + 8) * UNIT
    deviation = product(a.spread, b.spread) * (1 + share) - known * (1 - share)
    rounding = share * product(a.size, b.size)
    origin = first.origin if first.symbols >= second.symbols else second.origin
    lengths = longer[0] * b.errors + longer[1] * a.errors + lengths_of(rounding)
    made = Forms(rows, error * (1 + share) + rounding, a.count, origin, lengths * (1 + share))
    return made, deviation.clamp_min(0.0) * (1 + share)


def _followed(
    times: Times,
    gradient: Forms,
    factor: Forms,
    terms: int,
    room: int,
    used: int,
) -> Forms:
    """A gradient times what is known of a factor by the coordinates alone.

    The errors of the gradient are multiplied by all of the factor, those of the factor by what else is known
    of the gradient.
    """
    product, stretch = times
    most, factors = gradient.size, factor.most
    made, deviation = multiplied(times, gradient.without_errors(), factor.without_errors(), terms)
    share = 2 * (terms + gradient.rows.shape[1] + 8) * UNIT
    longer = stretch(factor.centre) + stretch(factor.reach)
    length = lengths_of(deviation) + (stretch(gradient.centre) + stretch(gradient.spread)) * factor.errors
    deviation = (deviation + product(most, factor.error)) * (1 + share)
    made = made.loosened(
        product(gradient.error, factors) * (1 + share), longer * gradient.errors * (1 + share)
    )
    return replace(made, origin=gradient.origin).widened(deviation, room, used, length * (1 + share))


def _range_of_product(first: Forms, second: Forms, limit: float) -> tuple[Tensor, Tensor]:
    """Least and largest products, rounded outwards."""
    (a, b), (c, d) = first.bounds(), second.bounds()
    corners = torch.stack([a * c, a * d, b * c, b * d])
    low, high = corners.amin(dim=0), corners.amax(dim=0)
    outward = 2 * UNIT * torch.maximum(low.abs(), high.abs())
    return (low - outward).clamp_min(-limit), (high + outward).clamp_max(limit)


def _within(forms: Forms, deviation: Tensor, low: Tensor, high: Tensor) -> tuple[Forms, Tensor]:
    """The forms, but the range itself where that is narrower than what of them nothing is known about.

    Errors are given up for ranges where these are shorter all together, too.
    """
    half = (high - low) / 2
    flat = half < forms.error + deviation
    longer = lengths_of(half.masked_fill(~flat, 0.0)) > forms.errors + lengths_of(deviation)
    flat &= ~longer.reshape(-1, *(1,) * (flat.ndim - 1)) | (half < deviation)
    rows = torch.where(flat[:, None], 0.0, forms.rows)
    rows[:, 0] = torch.where(flat, (low + high) / 2, rows[:, 0])
    error = torch.where(flat, 0.0, forms.error)
    half = (high - low) / 2 + 4 * UNIT * torch.maximum(low.abs(), high.abs())
    return replace(forms, rows=rows, error=error), torch.where(flat, half, deviation)


def _normalised(layer: Normalise, x: Forms, room: int, used: int) -> tuple[Forms, Forms, Tensor]:
    """Values, scales without symbols, and the deviation of the values; room, used: see `Forms.widened`.

    With x = x0 + e, where nothing of x0 is an error, y(x) is y(x0) and J e for a J as at the gradient, at a
    place in between. No deviation is shorter there than that of x0 less the length of e: this bounds r.
    """
    size = x.shape[-1]
    values, scales, deviation = _normalised_known(layer, x.without_errors(), room, used)
    low, high = scales_within(layer, x, *scales.bounds())
    away = levelled(x) if layer.centred else x
    limit = size**0.5 * (1 + _ROUNDING)
    y = (away.most * high * (1 + _ROUNDING)).clamp_max(limit)
    values = values.loosened(*contracted(layer, x, y, high))
    spread = Forms(((low + high) / 2)[:, None], (high - low) / 2 * (1 + _ROUNDING) + 4 * UNIT * high, x.count)
    values, deviation = _within(values, deviation, *_range_of_product(away, spread, limit))
    # dr/dx is -r² y / n, whose length is r² / sqrt(n) at most.
    moved = high.square() * errors_along(x) / size**0.5 * (1 + _ROUNDING)
    scales, rest = _within(scales.loosened(moved), torch.zeros_like(low), low, high)
    used = max(used, values.symbols)
    return values.widened(deviation, room, used), scales.loosened(rest), deviation


def scales_within(layer: Normalise, x: Forms, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Least and largest scales of x, where those without errors are between low and high."""
    least, most = (
        (end.clamp_min(1e-150).pow(-2) * (1 + sign * _ROUNDING) - layer.epsilon).clamp_min(0.0).sqrt()
        for end, sign in ((high, -1), (low, 1))
    )
    moved = errors_along(x) / x.shape[-1] ** 0.5 * (1 + _ROUNDING)
    least = (least * (1 - _ROUNDING) - moved).clamp_min(0.0)
    most = most * (1 + _ROUNDING) + moved
    ends = (torch.rsqrt(end.square() + layer.epsilon) for end in (most, least))
    return next(ends) * (1 - _ROUNDING), next(ends) * (1 + _ROUNDING)


def _normalised_known(layer: Normalise, x: Forms, room: int, used: int) -> tuple[Forms, Forms, Tensor]:
    """As `_normalised`, for forms without errors."""
    size = x.shape[-1]
    away = levelled(x) if layer.centred else x
    squares, deviation = multiplied(UNITS, away, away, 1)
    low, high = away.bounds()
    most = torch.maximum(low.abs(), high.abs()).square() * (1 + _ROUNDING)
    squares, deviation = _within(squares, deviation, torch.zeros_like(most), most)
    squares = squares.loosened(deviation * (1 + _ROUNDING))
    epsilon = x.error.new_full((1, *x.shape[:-1], 1), layer.epsilon)
    average = squares.linear(mean, mean, terms_of(size) + 1, epsilon, norm=size**-0.5 * (1 + _ROUNDING))
    low, high = average.bounds()
    slope, offset, error = relaxed(Smooth("power", (-0.5, layer.epsilon)), low, high)
    scales = average.scaled(slope).raised(offset).widened(error, used + max(0, room - used) // 2, used)
    values, deviation = multiplied(SPREAD, away, scales, 1)
    least, greatest = (end.clamp(0.0, layer.epsilon**-0.5 * (1 + _ROUNDING)) for end in scales.bounds())
    known = _within(scales.without_symbols(), torch.zeros_like(least), least, greatest)
    return values, known[0].loosened(known[1] * (1 + _ROUNDING)), deviation


def _softmax(layer: Softmax, logits: Forms) -> tuple[Forms, Tensor]:
    if layer.kept is not None:  # what does not count is known to be 0, and its probability, too
        hidden = ~layer.kept
        rows, error = logits.rows.masked_fill(hidden, 0.0), logits.error.masked_fill(hidden, 0.0)
        logits = replace(logits, rows=rows, error=error)
    p, reach = layer.forward(logits.centre), logits.reach
    low, high = softmax_range(logits, layer.kept)
    moved = jacobian_times(p[:, None], logits.rows[:, 1:])
    away = torch.maximum(high - p, p - low).clamp_min(0.0)
    # q_j q_k - p_j p_k = (q_j - p_j) q_k + p_j (q_k - p_k), and on the diagonal (q - p) (1 - p - q).
    beside = away * others(high * reach) + p * others(away * reach)
    deviation = beside + away * ((1 - p - p).abs() + away).clamp_max(1.0) * reach
    own = p * (1 - p) * logits.error + p * others(p * logits.error)
    size, span = (x.amax(dim=-1, keepdim=True) for x in (logits.size, reach))
    rounding = share_of(p) * (1 + size) * (1 + span)
    lengths = (logits.errors * eigenvalue(high) + lengths_of(rounding)) * (1 + _ROUNDING)
    rows, own = torch.cat([p[:, None], moved], dim=1), own * (1 + _ROUNDING)
    forms = Forms(rows, own, logits.count, logits.origin, lengths)
    return _within(forms, deviation * (1 + _ROUNDING) + rounding, low, high)


def eigenvalue(most: Tensor) -> Tensor:
    """At least all eigenvalues of ``diag(p) - p pᵀ``, ``(B,)``, for probabilities of at most ``(B, *shape)``.

    None is above 1/2, nor above the largest of ``diag(p)``.
    """
    return most.flatten(1).amax(dim=1).clamp_max(0.5) * (1 + _ROUNDING)


def jacobian_times(p: Tensor, x: Tensor) -> Tensor:
    """``(diag(p) - p pᵀ) x``."""
    return p * (x - summed(p * x))


def softmax_range(logits: Forms, kept: Tensor | None) -> tuple[Tensor, Tensor]:
    """Least and largest probabilities, p_j = e_j / (e_j + sum over k != j of e_k), rounded outwards."""
    low, high = logits.bounds()
    outward = share_of(low) * (1 + torch.maximum(low.abs(), high.abs()).amax(dim=-1, keepdim=True))
    if kept is not None:
        low, high = (end.masked_fill(~kept, -torch.inf) for end in (low, high))
    top = high.amax(dim=-1, keepdim=True)
    least, most = torch.exp(low - top), torch.exp(high - top)
    tiny = torch.finfo(low.dtype).tiny
    fewer = (summed(least) * (1 - share_of(low)) - least).clamp_min(0.0)
    least = least / (least + others(most) + tiny) * (1 - outward) - tiny
    most = (most + tiny) / (most + tiny + fewer) * (1 + outward)
    # Beyond that, rounding of the arguments may multiply what comes out.
    most = torch.where(outward < _COARSE, most.clamp_max(1.0), 1.0)
    return least.clamp_min(0.0), most if kept is None else most.masked_fill(~kept, 0.0)


def doubts_of(deviation: Tensor) -> Tensor:
    return (deviation.flatten(1) > 0).sum(dim=1)
