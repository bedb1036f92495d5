"""What layers that are not affine make of values that are known as polynomials (see `polynomial`)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from steadygaze.geometry.double_double import Precise
from steadygaze.geometry.enclosures import UNIT
from steadygaze.geometry.forms import Forms, lengths_of
from steadygaze.geometry.monomials import Monomials
from steadygaze.network.bounding.anchored import (
    Anchored,
    bent_apart,
    curved_apart,
    mixed_errors,
    moved,
    pooled_anchors,
    unhidden,
)
from steadygaze.network.bounding.attention import only_softmax_reads, turned
from steadygaze.network.bounding.centres import levelled_values, normalised_parts, precise_value
from steadygaze.network.bounding.enclosing import derivative_relaxed
from steadygaze.network.bounding.joint import (
    ADDED,
    SPREAD,
    contracted,
    eigenvalue,
    errors_along,
    scales_within,
    softmax_range,
)
from steadygaze.network.bounding.last_axis import levelled, others, root_of, terms_of, total
from steadygaze.network.bounding.polynomial import ROUNDING, composed, differences, multiplied
from steadygaze.network.bounding.polynomial_slopes import (
    NormSlopes,
    PolynomialSlopes,
    ProductSlopes,
    Slopes,
    SoftmaxSlopes,
    Winners,
)
from steadygaze.network.bounding.relaxing import Choice, Derivative
from steadygaze.network.bounding.series import Series, binomial, series_of
from steadygaze.network.graph import Graph
from steadygaze.network.joint import (
    AbstractProduct,
    MatrixProduct,
    Normalise,
    Softmax,
)
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.smooth import Smooth


@dataclass(frozen=True, eq=False)
class Followed:
    """What a layer makes of polynomials.

    Attributes:
        values: of its output. slopes: what its gradient needs. rest: ``(B, N)`` what is not followed.
    """

    values: Anchored
    slopes: PolynomialSlopes
    rest: Tensor


def followed_units(
    m: Monomials, layer: PiecewiseLinear | MaxPool | Smooth, x: Anchored, tolerance: Tensor | None
) -> Followed:
    """The layer over boxes; tolerance: see `relax`."""
    tolerance = x.anchor.new_zeros(()) if tolerance is None else tolerance
    if isinstance(layer, MaxPool):
        done = pooled_anchors(layer, x, tolerance, 0, x.away.symbols)
        assert isinstance(done.slopes, Choice), "of a pool"
        return Followed(done.values, Winners(done.slopes), done.deviation)
    flat = x.flattened()
    if isinstance(layer, Smooth):
        low, high = flat.hull.bounds()
        series = series_of(layer, flat.anchor, low, high, m.degree + 1)
        if series is not None:
            return _expanded(m, layer, x, series)
    piecewise = isinstance(layer, PiecewiseLinear)
    parts = bent_apart(layer, flat, tolerance) if piecewise else curved_apart(layer, flat)
    slope, middle, deviation, derivative = parts
    away = flat.away.scaled(slope)
    rows = away.rows.clone()
    rows[:, 0] += middle
    rest = (deviation + UNIT * rows[:, 0].abs()) * (1 + ROUNDING)
    away = replace(away, rows=rows).loosened(rest).reshaped(*x.away.shape)
    values = moved(precise_value(layer, x.anchor), away)
    return Followed(values, Slopes(m, _as_forms(derivative, x.away.count)), rest)


def _as_forms(derivative: Derivative, count: int) -> Forms:
    """Derivatives ``(B, N)`` as forms."""
    rows = derivative.centre[:, None]
    if derivative.slopes is not None:
        rows = torch.cat([rows, derivative.slopes], dim=1)
    error = derivative.radius * (1 + ROUNDING)
    if derivative.two is not None:  # centre and radius of two slopes are themselves rounded
        rounded = 2 * UNIT * (derivative.centre.abs() + derivative.radius)
        error = torch.where(derivative.radius > 0, error + rounded, error)
    return Forms(rows, error, count, length=derivative.length)


def _expanded(m: Monomials, layer: Smooth, x: Anchored, series: Series) -> Followed:
    """Units of a function of which the series is known."""
    flat, highest = x.flattened(), m.degree + 1
    away, size = flat.away, flat.away.size * (1 + ROUNDING)
    beyond = size**highest * (1 + ROUNDING)
    rows, rest = composed(m, series.numbers[1:highest], series.off[1:highest], away)
    rest = (rest + series.bound(highest) * beyond) * (1 + ROUNDING)
    steepest = _steepest(layer, flat, series)
    values = Forms(rows, rest, away.count, length=lengths_of(rest))
    values = values.loosened(
        steepest * away.error * (1 + ROUNDING), steepest.amax(dim=1) * away.errors * (1 + ROUNDING)
    )
    made = moved(precise_value(layer, x.anchor), values.reshaped(*x.away.shape))
    numbers = [(k + 1) * series.numbers[k + 1] for k in range(1, highest)]
    off = [(k + 1) * series.off[k + 1] for k in range(1, highest)]
    rows, left = composed(m, numbers, off, away)
    rows[:, 0] += series.numbers[1]
    left = left + (highest + 1) * series.bound(highest + 1) * beyond
    left = left + series.off[1] + UNIT * rows[:, 0].abs()
    bend = 2 * series.bound(2)
    left = left * (1 + ROUNDING)
    slopes = Forms(rows, left, away.count, length=lengths_of(left)).loosened(
        bend * away.error * (1 + ROUNDING), bend.amax(dim=1) * away.errors * (1 + ROUNDING)
    )
    return Followed(made, Slopes(m, slopes), rest)


def _steepest(layer: Smooth, x: Anchored, series: Series) -> Tensor:
    """At least the largest derivative over the box, ``(B, N)``."""
    low, high = x.hull.bounds()
    bend, offset, error = derivative_relaxed(layer, low, high)
    ends = torch.maximum((bend * low + offset).abs(), (bend * high + offset).abs())
    return torch.fmin(series.bound(1), (ends + error) * (1 + ROUNDING))


# -- layers of several values


def followed_joint(
    m: Monomials, graph: Graph, index: int, inputs: tuple[Anchored, ...], asked: Collection[int]
) -> Followed:
    """A layer of several values; asked: see `relax_joint_node`."""
    layer = graph.nodes[index].layer
    if isinstance(layer, Normalise):
        return _normalised(m, layer, inputs[0])
    if isinstance(layer, Softmax):
        return _softmax(m, layer, inputs[0])
    assert isinstance(layer, AbstractProduct), "the table of joint layers has products, norms and softmax"
    first, second = inputs
    if isinstance(layer, MatrixProduct):
        source = graph.nodes[index].inputs[0]
        if isinstance(graph.nodes[source].layer, Softmax):
            return _mixed(m, layer, first, second, asked=source in asked)
        if only_softmax_reads(graph, index, asked):
            second = moved(levelled_values(second.anchor), levelled(second.away))
    away = differences(m, (layer.product, layer.stretch), first, second, _terms(layer, first, second))
    values = moved(precise_value(layer, first.anchor, second.anchor), away)
    return Followed(values, ProductSlopes(m, layer, (first.whole, second.whole)), away.error.flatten(1))


def _terms(layer: AbstractProduct, a: Anchored, b: Anchored) -> int:
    return layer.terms(a.away.shape, b.away.shape)


def _mixed(m: Monomials, layer: MatrixProduct, p: Anchored, v: Anchored, asked: bool) -> Followed:
    """Values mixed by probabilities, see `attention`: of their errors e it is known what they sum to."""
    known = replace(p, away=p.away.without_errors())
    away = differences(m, (layer.product, layer.stretch), known, v, _terms(layer, p, v))
    whole = v.whole
    level = turned(levelled(turned(whole)))
    away = away.loosened(*mixed_errors(layer, p, whole, level))
    values = moved(precise_value(layer, p.anchor, v.anchor), away)
    slopes = ProductSlopes(m, layer, (p.whole, whole if asked else level))
    return Followed(values, slopes, away.error.flatten(1))


def _softmax(m: Monomials, layer: Softmax, x: Anchored) -> Followed:
    """With P at the anchor and differences d less their mean by P: ``P exp(d) / sum(P exp(d))``."""
    x = unhidden(layer, x)
    anchor, away = x.anchor, x.away
    centre = precise_value(layer, anchor)
    p, off = centre.high, (centre.low.abs() + centre.error) * (1 + ROUNDING)
    high = softmax_range(x.hull, layer.kept)[1]
    # Softmax does not change where one number is added; which one need not be known exactly.
    rows = away.rows - total(p[:, None] * away.rows)
    rounding = 4 * UNIT * (away.size + total(p * away.size))
    known = Forms(rows, torch.zeros_like(away.error), away.count)
    numbers = _exponential(m, p)
    rows, rest = composed(m, numbers, [4 * UNIT * own for own in numbers], known)
    size = known.size * (1 + ROUNDING)
    rest = rest + size ** (m.degree + 1) * torch.exp(size) * (2 * numbers[-1]) / (m.degree + 1)
    grown = Forms(rows, rest * (1 + ROUNDING), away.count)
    added = multiplied(m, ADDED, grown, Forms.exact(p, away.count), terms_of(p.shape[-1]))
    added = added.loosened(total(off * grown.most) * (1 + ROUNDING))
    share = _reciprocal(m, added)
    made = multiplied(m, SPREAD, _raised(grown, 1.0), share, 1) + grown
    made = made.scaled(p).loosened(off * made.most * (1 + ROUNDING))
    # Errors of the arguments, and what rounding did to them.
    error = away.error + rounding
    own = high * (error + others(high * error)) * (1 + ROUNDING)
    lengths = (away.errors + lengths_of(rounding)) * eigenvalue(high) * (1 + ROUNDING)
    made = made.loosened(own, lengths)
    values = moved(centre, made)
    return Followed(values, SoftmaxSlopes(m, values.whole), made.error.flatten(1))


def _exponential(m: Monomials, like: Tensor) -> list[Tensor]:
    """1 / k! for k from 1 on."""
    numbers, own = [], torch.ones_like(like)
    for k in range(1, m.degree + 1):
        own = own / k
        numbers.append(own)
    return numbers


def _raised(forms: Forms, amount: float | Tensor) -> Forms:
    """Plus numbers beside which the constants are small."""
    rows = forms.rows.clone()
    rows[:, 0] += amount
    return replace(forms, rows=rows).loosened(UNIT * rows[:, 0].abs())


def _reciprocal(m: Monomials, s: Forms) -> Forms:
    """1 / (1 + s) - 1 for small s, as a geometric series; infinite errors where s is not."""
    signs = [torch.full_like(s.error, (-1.0) ** k) for k in range(1, m.degree + 1)]
    rows, rest = composed(m, signs, [torch.zeros_like(s.error)] * m.degree, s)
    size, most = s.size * (1 + ROUNDING), s.most
    least = (1 - most) * (1 - ROUNDING)
    rest = rest + size ** (m.degree + 1) / least + s.error / least.square()
    return Forms(rows, torch.where(most < 1, rest * (1 + ROUNDING), torch.inf), s.count)


def _normalised(m: Monomials, layer: Normalise, x: Anchored) -> Followed:
    """A norm y = r c with the scale r: with z = r0 c' for changes c' it becomes ``(y0 + z) (1 + q)``.

    ``1 + q = (1 + u)^(-1/2)`` is what the scale is multiplied by, for u = mean((2 y0 + z) z).
    """
    size, known = x.away.shape[-1], x.away.without_errors()
    centre, scale = normalised_parts(layer, x.anchor)
    change = levelled(known) if layer.centred else known
    change = Forms(change.rows, change.error, change.count)
    z = multiplied(m, SPREAD, change, Forms.exact(scale.high, known.count), 1)
    z = z.loosened(_off(scale) * change.most * (1 + ROUNDING))
    twice = _raised(z, 2 * centre.high).loosened(2 * _off(centre))
    u = multiplied(m, ADDED, z, twice, terms_of(size))
    u = u.scaled(u.error.new_full((), 1 / size).expand(u.shape))
    q = _root(m, u, (scale.high - _off(scale)).clamp_min(0.0).square() * layer.epsilon * (1 - ROUNDING))
    once = _raised(z, centre.high).loosened(_off(centre))
    away = multiplied(m, SPREAD, once, q, 1) + z
    scales = q.scaled(scale.high).raised(scale.high)
    scales = scales.loosened((_off(scale) * (1 + q.most)) * (1 + ROUNDING))
    rest = away.error
    # Errors are stretched as in `joint`.
    steepest = layer.epsilon**-0.5
    low, high = (end.clamp(0.0, steepest * (1 + ROUNDING)) for end in scales.bounds())
    low, high = scales_within(layer, x.away, low, high)
    errors = errors_along(x.away)
    deviating = centre.most / scale.high + change.most + errors
    most = (deviating * high * (1 + ROUNDING)).clamp_max(root_of(size))
    away = away.loosened(*contracted(layer, x.away, most, high))
    scales = scales.loosened(high.square() * errors / size**0.5 * (1 + ROUNDING))
    values = moved(centre, away)
    return Followed(values, NormSlopes(m, layer, values.whole, scales), rest.flatten(1))


def _off(x: Precise) -> Tensor:
    """At least how far numbers are from their first parts."""
    return (x.low.abs() + x.error) * (1 + ROUNDING)


def _root(m: Monomials, u: Forms, floor: Tensor) -> Forms:
    """``(1 + u)^(-1/2) - 1``, where 1 + u is known to be no less than the floor, too."""
    orders = range(1, m.degree + 1)
    numbers = [torch.full_like(u.error, binomial(-0.5, k)) for k in orders]
    off = [4 * UNIT * own.abs() for own in numbers]
    rows, rest = composed(m, numbers, off, u)
    size = u.size * (1 + ROUNDING)
    least = torch.maximum((1 - u.most) * (1 - ROUNDING), floor).clamp(2.0**-900, 1.0)
    highest = m.degree + 1
    bound = abs(binomial(-0.5, highest)) * least.pow(-0.5 - highest)
    rest = rest + bound * size**highest + least.pow(-1.5) / 2 * u.error
    return Forms(rows, rest * (1 + ROUNDING), u.count)
