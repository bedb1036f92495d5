"""What layers that are not affine make of values that are known as polynomials (see `polynomial`)."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from steadygaze.enclosing.double_double import Precise
from steadygaze.enclosing.enclosures import UNIT
from steadygaze.enclosing.forms import Forms, lengths_of
from steadygaze.enclosing.monomials import Monomials
from steadygaze.network.bounding.anchors.anchored import Anchored, anchored_level, moved
from steadygaze.network.bounding.anchors.anchored_layers import (
    Apart,
    bent_apart,
    curved_apart,
    mixed_errors,
    pooled_anchors,
    unhidden,
)
from steadygaze.network.bounding.anchors.centres import (
    levelled_values,
    mean_of,
    normalised_parts,
    precise_slope,
    precise_value,
)
from steadygaze.network.bounding.curves.enclosing import derivative_relaxed
from steadygaze.network.bounding.curves.series import Series, binomial, series_of
from steadygaze.network.bounding.forms.attention import only_softmax_reads, turned
from steadygaze.network.bounding.forms.derivatives import Derivative
from steadygaze.network.bounding.forms.joint import (
    ADDED,
    SPREAD,
    contracted,
    eigenvalue,
    errors_along,
    scales_within,
    softmax_range,
)
from steadygaze.network.bounding.forms.last_axis import levelled, others, root_of, terms_of, total
from steadygaze.network.bounding.forms.relaxing import Choice
from steadygaze.network.bounding.forms.slack import Slack
from steadygaze.network.bounding.taylor.polynomial import (
    FEW_DOUBTS,
    ROUNDING,
    composed,
    differences,
    drift_of,
    drifting_product,
    multiplied,
    off_of,
    repeated,
    strays,
    summed_rows,
    with_doubts,
    with_drift,
    without_strays,
)
from steadygaze.network.bounding.taylor.polynomial_slopes import (
    NormSlopes,
    PolynomialSlopes,
    ProductSlopes,
    Slopes,
    SoftmaxSlopes,
    Winners,
    settled,
    turned_level,
)
from steadygaze.network.graph import Graph
from steadygaze.network.joint import (
    AbstractProduct,
    MatrixProduct,
    Normalise,
    Softmax,
)
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.smooth import Smooth

# Where all values move by less, derivatives are bounded by that in the middle: sampling them takes longer.
_NARROW = 2.0**-6


@dataclass(frozen=True, eq=False)
class Followed:
    """What a layer makes of polynomials.

    Attributes:
        values: of its output. slopes: what its gradient needs. rest: ``(B, N)`` what is not followed.
        line: ``(B, N)`` slopes of the lines that units with kinks are taken for; None of other layers.
    """

    values: Anchored
    slopes: PolynomialSlopes
    rest: Tensor
    line: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Bends:
    """What `bent_apart` says of the units that clip pixels, and which of them are followed as they bend.

    Attributes:
        apart: of all of them. alike: ``(B, N)`` int64, numbers of those that are alike, and bend; -1 of
            others; None where none are followed. By how much these are beside their lines is the last
            variables, in the order of the numbers.
    """

    apart: Apart
    alike: Tensor | None


def followed_units(
    m: Monomials,
    layer: PiecewiseLinear | MaxPool | Smooth,
    x: Anchored,
    tolerance: Slack | None,
    bends: Bends | None = None,
    used: int = 0,
    room: int = FEW_DOUBTS,
) -> Followed:
    """The layer over boxes; tolerance: see `relax`. bends: where it clips pixels, and that is known.

    used: symbols that stand for something else already. room: see `with_doubts`.
    """
    tolerance = Slack.none(x.anchor) if tolerance is None else tolerance
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
    if isinstance(layer, Smooth):
        apart = curved_apart(layer, flat)
    else:
        apart = bent_apart(layer, flat, tolerance) if bends is None else bends.apart
    slope, middle, deviation, derivative = apart
    away, rest = flat.away.scaled(slope), deviation * (1 + ROUNDING)
    drift = _drifting(flat, Precise.exact(slope))
    if bends is not None and bends.alike is not None:
        assert isinstance(layer, PiecewiseLinear), "no other layer bends"
        last, alike = m.variables, bends.alike
        if drift.high.shape[1]:
            drift = replace(drift, high=_with_bends(drift.high, rest, alike, last))
        else:
            away = replace(away, rows=_with_bends(away.rows, rest, alike, 1 + last))
        # Alike they are but for errors, of which those beyond the line's slope are not counted yet.
        jumps = (layer.slopes[1:] - layer.slopes[:-1]).abs().sum(dim=0)
        away = away.loosened(torch.where(alike >= 0, 2 * jumps * away.error, 0.0) * (1 + ROUNDING))
        rest = torch.where(alike >= 0, 0.0, rest)
    shape = x.away.shape
    middle = Precise.exact(middle.reshape(x.anchor.shape))
    # Of smooth units all are off their lines: there is no room for these.
    most = room if isinstance(layer, PiecewiseLinear) else 0
    away = with_doubts(m, away, rest, used, most).reshaped(*shape)
    values = moved(precise_value(layer, x.anchor) + middle, away, _shaped(drift, shape))
    line = slope if isinstance(layer, PiecewiseLinear) else None
    return Followed(values, _slopes(m, derivative, x.away.count, room), deviation, line)


def _with_bends(rows: Tensor, deviation: Tensor, bends: Tensor, end: int) -> Tensor:
    """Rows ``(B, k, N)`` of which those before the end are what units of each bend are beside their lines."""
    rows = rows.clone()
    count = int(bends.max()) + 1
    for number in range(count):
        rows[:, end - count + number] = torch.where(bends == number, deviation, 0.0)
    return rows


def _slopes(m: Monomials, derivative: Derivative, count: int, room: int) -> Slopes:
    """Derivatives ``(B, N)`` of units that are not expanded."""
    anchor, radius = derivative.centre, derivative.radius * (1 + ROUNDING)
    rows = torch.zeros_like(anchor[:, None])
    if derivative.slopes is not None:
        rows = torch.cat([rows, derivative.slopes], dim=1)
    if derivative.two is None:
        return Slopes(m, Anchored(anchor, Forms(rows, radius, count, length=derivative.length).undivided()))
    # Centre and radius of two slopes are themselves rounded.
    rounded = 2 * UNIT * (derivative.centre.abs() + derivative.radius)
    away = Forms(rows, torch.where(radius > 0, rounded, 0.0), count)
    return Slopes(m, Anchored(anchor, away), radius if bool(radius.any()) else None, room)


def _drifting(flat: Anchored, slope: Precise) -> Precise:
    """The drift behind units of these slopes ``(B, N)``, ``(B, k, N)``."""
    drift = Precise.exact(drift_of(flat))
    return repeated(slope, drift) * drift


def _shaped(drift: Precise, shape: tuple[int, ...]) -> Precise:
    """That of units ``(N,)`` in another shape."""
    return drift.shaped(lambda own: own.unflatten(2, shape))


def _expanded(m: Monomials, layer: Smooth, x: Anchored, series: Series) -> Followed:
    """Units of a function of which the series is known: f(a) + f'(a) d, and all that is of higher order."""
    flat, highest = x.flattened(), m.degree + 1
    away, change = flat.away, flat.change
    size = change.size * (1 + ROUNDING)
    beyond = size**highest * (1 + ROUNDING)
    slope = Precise.rounded(series.numbers[1], series.off[1])
    if drift_of(flat).shape[1]:
        slope = precise_slope(layer, flat.anchor, slope)
    nothing = torch.zeros_like(size)
    rows, rest = composed(m, [nothing, *series.numbers[2:highest]], [nothing, *series.off[2:highest]], change)
    rest = rest + series.bound(highest) * beyond
    # What rounding takes from the change moves f - f'(a) d by no more than the bend over the change times it;
    # and what symbols beside its polynomial add to it, likewise.
    bend = 2 * series.bound(2)
    rest = rest + bend * change.most * ((change.error - away.error).clamp_min(0.0) + strays(m, change))
    straight = away.without_errors().scaled(slope.high)
    rows = summed_rows(rows, straight.rows)
    rounding = straight.error + off_of(slope) * away.size + UNIT * rows.abs().sum(dim=1)
    rest = (rest + rounding) * (1 + ROUNDING)
    steepest = _steepest(layer, flat, series)
    values = Forms(rows, rest, away.count, length=lengths_of(rest))
    values = values.loosened(
        steepest * away.error * (1 + ROUNDING), steepest.amax(dim=1) * away.errors * (1 + ROUNDING)
    )
    shape = x.away.shape
    made = moved(
        precise_value(layer, x.anchor), values.reshaped(*shape), _shaped(_drifting(flat, slope), shape)
    )
    return Followed(made, Slopes(m, moved(slope, _derivatives(m, flat, series))), rest)


def _derivatives(m: Monomials, flat: Anchored, series: Series) -> Forms:
    """By how much f' over the boxes differs from that at the anchors, ``(B, N)``."""
    highest, change = m.degree + 1, flat.change
    beyond = (change.size * (1 + ROUNDING)) ** highest * (1 + ROUNDING)
    numbers = [(k + 1) * series.numbers[k + 1] for k in range(1, highest)]
    off = [(k + 1) * series.off[k + 1] for k in range(1, highest)]
    rows, left = composed(m, numbers, off, change)
    left = left + (highest + 1) * series.bound(highest + 1) * beyond
    bend = 2 * series.bound(2)
    left = left * (1 + ROUNDING)
    change = without_strays(m, change).undivided()
    return Forms(rows, left, change.count, length=lengths_of(left)).loosened(
        bend * change.error * (1 + ROUNDING), bend.amax(dim=1) * change.errors * (1 + ROUNDING)
    )


def _steepest(layer: Smooth, x: Anchored, series: Series) -> Tensor:
    """At least the largest derivative over the box, ``(B, N)``."""
    size = x.change.most
    near = (series.numbers[1].abs() + series.off[1] + 2 * series.bound(2) * size) * (1 + ROUNDING)
    if bool((size < _NARROW).all()):
        return torch.fmin(series.bound(1), near)
    low, high = x.hull.bounds()
    bend, offset, error = derivative_relaxed(layer, low, high)
    ends = torch.maximum((bend * low + offset).abs(), (bend * high + offset).abs())
    return torch.fmin(torch.fmin(series.bound(1), near), (ends + error) * (1 + ROUNDING))


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
            second = anchored_level(second)
    away, values = _multiplied(m, layer, first, second)
    return Followed(values, _product_slopes(m, layer, first, second), away.error.flatten(1))


def _product_slopes(m: Monomials, layer: AbstractProduct, first: Anchored, second: Anchored) -> ProductSlopes:
    return ProductSlopes(m, layer, (settled(m, first), settled(m, second)))


def _terms(layer: AbstractProduct, a: Anchored, b: Anchored) -> int:
    return layer.terms(a.away.shape, b.away.shape)


def _multiplied(m: Monomials, layer: AbstractProduct, a: Anchored, b: Anchored) -> tuple[Forms, Anchored]:
    """What is beside anchor and drift, and all of it."""
    terms = _terms(layer, a, b)
    away = differences(m, (layer.product, layer.stretch), a, b, terms)
    drift = drifting_product(layer.product, a, b, terms)
    return away, moved(precise_value(layer, a.anchor, b.anchor), away, drift)


def _mixed(m: Monomials, layer: MatrixProduct, p: Anchored, v: Anchored, asked: bool) -> Followed:
    """Values mixed by probabilities, see `attention`: of their errors e it is known what they sum to."""
    _, values = _multiplied(m, layer, replace(p, away=p.away.without_errors()), v)
    whole = v.whole
    level = turned(levelled(turned(whole)))
    values = replace(values, away=values.away.loosened(*mixed_errors(layer, p, whole, level)))
    slopes = _product_slopes(m, layer, p, v if asked else turned_level(v))
    return Followed(values, slopes, values.away.error.flatten(1))


def _softmax(m: Monomials, layer: Softmax, x: Anchored) -> Followed:
    """With P at the anchor and differences d less their mean by P: ``P exp(d) / sum(P exp(d))``.

    The mean by P of ``exp(d) - 1`` is that of what is of second order, G = exp(d) - 1 - d, and of what is
    beside the drift in d; so that ``P (d + G + (1 + d + G) q)`` for ``1 + q``, 1 divided by 1 and that mean.
    """
    x = unhidden(layer, x)
    anchor, away = x.anchor, x.away
    centre = precise_value(layer, anchor)
    p, off = centre.high, off_of(centre)
    high = softmax_range(x.hull, layer.kept)[1]
    # Softmax does not change where one number is added; which one need not be known exactly.
    rows = away.rows - total(p[:, None] * away.rows)
    rounding = 4 * UNIT * (away.size + total(p * away.size))
    beside = Forms(rows, torch.zeros_like(away.error), away.count)
    drift = Precise.exact(drift_of(x))
    shares = repeated(centre, drift)
    drift = drift - _spread_out((shares * drift).total(-1), drift)
    change = with_drift(beside, drift)
    known = change.without_errors()
    numbers = _exponential(m, p)
    numbers[0] = torch.zeros_like(p)
    rows, rest = composed(m, numbers, [4 * UNIT * own for own in numbers], known)
    size = change.most * (1 + ROUNDING)
    rest = rest + size ** (m.degree + 1) * torch.exp(size) / math.factorial(m.degree + 1) * (1 + ROUNDING)
    rest = rest + size * torch.exp(size) * (change.error + strays(m, change))
    grown = Forms(rows, rest * (1 + ROUNDING), away.count)
    added = multiplied(m, ADDED, grown + beside, Forms.exact(p, away.count), terms_of(p.shape[-1]))
    added = added.loosened(total(off * (grown.most + beside.most)) * (1 + ROUNDING))
    share = _reciprocal(m, added)
    made = multiplied(m, SPREAD, _raised(grown + change, 1.0), share, 1) + grown + beside
    made = made.scaled(p).loosened(off * made.most * (1 + ROUNDING))
    # Errors of the arguments, and what rounding did to them.
    error = away.error + rounding
    own = high * (error + others(high * error)) * (1 + ROUNDING)
    lengths = (away.errors + lengths_of(rounding)) * eigenvalue(high) * (1 + ROUNDING)
    made = made.loosened(own, lengths)
    values = moved(centre, made, shares * drift)
    return Followed(values, SoftmaxSlopes(m, settled(m, values)), made.error.flatten(1))


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
    rows = torch.cat([rows, -s.rows[:, m.rows :]], dim=1)
    rest = rest + strays(m, s) * (1 / least.square() - (1 - ROUNDING)).clamp_min(0.0)
    return Forms(rows, torch.where(most < 1, rest * (1 + ROUNDING), torch.inf), s.count)


def _normalised(m: Monomials, layer: Normalise, x: Anchored) -> Followed:
    """A norm y = r c with the scale r: with z = r0 c' for changes c' it becomes ``(y0 + z) (1 + q)``.

    ``1 + q = (1 + u)^(-1/2)`` is what the scale is multiplied by, for u = mean((2 y0 + z) z): q is -u / 2,
    and what is of second order. What the drift comes to is z - y0 mean(y0 z) for its own z.
    """
    size, known = x.away.shape[-1], x.away.without_errors()
    centre, scale = normalised_parts(layer, x.anchor)
    drift = levelled_values(drift_of(x)) if layer.centred else Precise.exact(drift_of(x))
    drift = repeated(scale, drift) * drift
    along = repeated(centre, drift)
    straight = mean_of(along * drift)
    first = drift - along * _spread_out(straight, drift)
    # Of z, what is beside the drift, and all of it; of u, what is beside the drift's part of first order.
    change = levelled(known) if layer.centred else known
    change = Forms(change.rows, change.error, change.count)
    beside = multiplied(m, SPREAD, change, Forms.exact(scale.high, known.count), 1)
    beside = beside.loosened(off_of(scale) * change.most * (1 + ROUNDING))
    z = with_drift(beside, drift)
    y0, terms = Forms.exact(centre.high, known.count), terms_of(size)
    u_beside = multiplied(m, ADDED, beside, y0.scaled(2 * torch.ones_like(centre.high)), terms)
    u_beside = u_beside + multiplied(m, ADDED, z, z, terms)
    u_beside = u_beside.loosened(2 * total(off_of(centre) * beside.most) * (1 + ROUNDING))
    u_beside = u_beside.scaled(u_beside.error.new_full((), 1 / size).expand(u_beside.shape))
    u = with_drift(u_beside, straight.scaled(1))
    floor = (scale.high - off_of(scale)).clamp_min(0.0).square() * layer.epsilon * (1 - ROUNDING)
    bent = _root(m, u, floor)
    half = torch.full_like(u.error, -0.5)
    q = bent + u.scaled(half)
    less = bent + u_beside.scaled(half)
    away = multiplied(m, SPREAD, y0, less, 1).loosened(off_of(centre) * less.most * (1 + ROUNDING))
    away = away + multiplied(m, SPREAD, z, q, 1) + beside
    grown = q.scaled(scale.high).loosened(off_of(scale) * q.most * (1 + ROUNDING))
    scales, rest = moved(scale, grown).whole, away.error
    # Errors are stretched as in `joint`.
    steepest = layer.epsilon**-0.5
    low, high = (end.clamp(0.0, steepest * (1 + ROUNDING)) for end in scales.bounds())
    low, high = scales_within(layer, x.away, low, high)
    errors = errors_along(x.away)
    deviating = (centre.most + z.most) / scale.high * (1 + ROUNDING) + errors
    most = (deviating * high * (1 + ROUNDING)).clamp_max(root_of(size))
    away = away.loosened(*contracted(layer, x.away, most, high))
    grown = grown.loosened(high.square() * errors / size**0.5 * (1 + ROUNDING))
    values = moved(centre, away, first)
    slopes = NormSlopes(m, layer, settled(m, values), settled(m, moved(scale, grown)))
    return Followed(values, slopes, rest.flatten(1))


def _spread_out(x: Precise, like: Precise) -> Precise:
    """One number for all entries along the last axis."""
    return x.shaped(lambda own: own.expand_as(like.high))


def _root(m: Monomials, u: Forms, floor: Tensor) -> Forms:
    """``(1 + u)^(-1/2) - 1 + u / 2``, where 1 + u is known to be no less than the floor, too."""
    orders = range(2, m.degree + 1)
    nothing = torch.zeros_like(u.error)
    numbers = [nothing, *(torch.full_like(u.error, binomial(-0.5, k)) for k in orders)]
    off = [4 * UNIT * own.abs() for own in numbers]
    rows, rest = composed(m, numbers, off, u)
    # The remainder is that at the true u, for which the floor holds; how far the polynomial is from its value
    # there follows from its derivative.
    most = u.most * (1 + ROUNDING)
    least = torch.maximum((1 - most) * (1 - ROUNDING), floor).clamp(2.0**-900, 1.0)
    highest = m.degree + 1
    bound = abs(binomial(-0.5, highest)) * least.pow(-0.5 - highest)
    steepest = sum((k * abs(binomial(-0.5, k)) * most ** (k - 1) for k in orders), nothing)
    rest = rest + bound * most**highest + steepest * (u.error + strays(m, u))
    return Forms(rows, rest * (1 + ROUNDING), u.count)
