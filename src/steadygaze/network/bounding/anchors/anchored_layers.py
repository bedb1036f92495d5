"""What layers that are not affine make of differences from anchors (see `anchored`).

At a layer f with the anchor a and the difference d, f(a + d) - f(a) is the integral of f' from a to a + d, so
that it is f'(a) d but for what bounds of f' say of its change. Of products it is a d' + b d + d d'; of norms
see `_normalised`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from steadygaze.enclosing.double_double import Precise
from steadygaze.enclosing.enclosures import UNIT
from steadygaze.enclosing.forms import Forms, lengths_of
from steadygaze.network.bounding.anchors.anchored import Anchored, anchored_level, moved
from steadygaze.network.bounding.anchors.centres import (
    normalised_parts,
    precise_value,
)
from steadygaze.network.bounding.curves.enclosing import derivative_relaxed
from steadygaze.network.bounding.forms.attention import only_softmax_reads, turned
from steadygaze.network.bounding.forms.beside import gathered
from steadygaze.network.bounding.forms.derivatives import Derivative, SmoothSlopes, smooth_derivative
from steadygaze.network.bounding.forms.joint import (
    ADDED,
    SPREAD,
    Factors,
    Scales,
    Shares,
    contracted,
    doubts_of,
    eigenvalue,
    errors_along,
    jacobian_times,
    multiplied,
    scales_within,
    softmax_range,
)
from steadygaze.network.bounding.forms.last_axis import levelled, mean, others, share_of, terms_of
from steadygaze.network.bounding.forms.relaxing import (
    NEGLIGIBLE,
    Choice,
    counted_beneath,
    or_all_numbers,
    piecewise_relaxed,
    pooled,
)
from steadygaze.network.bounding.forms.slack import Slack
from steadygaze.network.graph import Graph
from steadygaze.network.joint import AbstractProduct, MatrixProduct, Normalise, Softmax
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.smooth import Smooth

# What rounding in a handful of operations may add, as a share.
_ROUNDING = 2.0**-40
#: Values that are beyond a breakpoint by no more than this share of how far they move count as before it.
BENDING = 2.0**-30


@dataclass(frozen=True, eq=False)
class Moved:
    """What a layer makes of differences.

    Attributes:
        values: of its output. slopes: what its gradient needs. deviation: ``(B, N)``, see `relax_joint`.
    """

    values: Anchored
    slopes: Derivative | SmoothSlopes | Choice | Factors | Shares | Scales
    deviation: Tensor


def anchored_units(
    layer: PiecewiseLinear | MaxPool | Smooth, x: Anchored, tolerance: Slack | None, room: int, used: int
) -> Moved:
    """The layer over boxes; tolerance, room, used: see `relax`."""
    tolerance = Slack.none(x.anchor) if tolerance is None else tolerance
    if isinstance(layer, MaxPool):
        return pooled_anchors(layer, x, tolerance, room, used)
    flat = x.flattened()
    bends = (
        bent_apart(layer, flat, tolerance)
        if isinstance(layer, PiecewiseLinear)
        else curved_apart(layer, flat)
    )
    slope, middle, deviation, derivative = bends
    away = flat.away.scaled(slope)
    rows = away.rows.clone()
    rows[:, 0] += middle
    away = replace(away, rows=rows).loosened(UNIT * rows[:, 0].abs())
    away = _widened(away, deviation * (1 + _ROUNDING), room, used).reshaped(*x.away.shape)
    return Moved(moved(precise_value(layer, x.anchor), away), derivative, deviation)


#: Slope, middle and deviation ``(B, N)`` of what a layer adds to its value at anchors, and the derivative.
Apart: TypeAlias = tuple[Tensor, Tensor, Tensor, Derivative]


def bent_apart(layer: PiecewiseLinear, x: Anchored, tolerance: Slack) -> Apart:
    """Slope, middle and deviation of f(a + d) - f(a) - slope d, and the derivative.

    f(a + d) - f(a) is linear but for what pieces beyond that of a add to it, each behind its breakpoint. The
    slope is that of the chord; what is beside it is largest and least at the ends, or at breakpoints. Values
    are followed on whatever pieces they are: a tolerance may be wider than the box.
    """
    anchor, (least, most), size = x.anchor, x.change.bounds(), x.change.most
    pieces, jumps = layer.pieces_of(anchor), layer.slopes[1:] - layer.slopes[:-1]
    own = layer.slopes_of(pieces)

    def bent(d: Tensor) -> Tensor:
        found = torch.zeros_like(d)
        for piece, edge in enumerate(layer.marks):
            past = d + (anchor - edge)
            found = found + jumps[piece] * torch.where(pieces <= piece, past, -past).clamp_min(0.0)
        return found

    crosses, torn = torch.zeros_like(anchor, dtype=torch.bool), torch.zeros_like(anchor)
    grazes = torch.zeros_like(anchor)
    for piece, edge in enumerate(layer.marks):
        past = _past(x, edge, pieces <= piece)
        crosses |= past > BENDING * size
        torn = torn + (past > 0) * _torn(layer, piece, edge)
        grazes = grazes + jumps[piece].abs() * past.clamp_min(0.0)
    chord = (bent(most) - bent(least)) / (most - least).clamp_min(torch.finfo(most.dtype).tiny)
    ends = [least, most]
    ends += [torch.minimum(torch.maximum(edge - anchor, least), most) for edge in layer.marks]
    found = torch.stack([bent(d) - chord * d for d in ends])
    below, above = found.amin(dim=0), found.amax(dim=0)
    rounding = torn + 16 * UNIT * (own.abs() + chord.abs() + jumps.abs().sum(dim=0)) * size
    low, high = or_all_numbers(*x.hull.bounds())
    beneath = counted_beneath(x.change, tolerance)
    return (
        torch.where(crosses, own + chord, own),
        torch.where(crosses, (below + above) / 2, 0.0),
        torch.where(crosses, (above - below) / 2 + rounding, (grazes + torn) * (1 + _ROUNDING)),
        piecewise_relaxed(layer, low, high, beneath, tolerance.least)[3],
    )


def _past(x: Anchored, edge: float, below: Tensor) -> Tensor:
    """At least how far values may be beyond a breakpoint that anchors are below, or above; <= 0 if none."""
    apart = Precise.exact(x.anchor) + -edge + Precise.exact(x.away.centre)
    high, low = (torch.where(below, own, -own) for own in (apart.high, apart.low))
    past = Precise(high, low, apart.error)
    if x.drift is not None and x.drift.shape[1]:
        past = past + Precise.exact(x.drift.abs()).total(1).shaped(lambda own: own[:, 0])
    return past.high + (past.low.abs() + past.error + x.away.reach) * (1 + _ROUNDING)


def _torn(layer: PiecewiseLinear, piece: int, edge: float) -> Tensor:
    """At least how far two pieces are apart at a breakpoint, ``(N or 1,)``: their numbers are rounded."""
    slopes, offsets = (Precise.exact(own[piece : piece + 2]) for own in (layer.slopes, layer.offsets))
    ends = slopes * Precise.exact(torch.full_like(layer.slopes[piece : piece + 2], edge)) + offsets
    return (ends.narrowed(0, 1, 1) - ends.narrowed(0, 0, 1)).most[0]


def curved_apart(layer: Smooth, x: Anchored) -> Apart:
    """As `bent_apart`: where f'(z) is k z + l ± error, its integral is (k a + l) d + k d² / 2 ± error |d|."""
    anchor, hull, size = x.anchor, x.hull, x.change.most
    low, high = hull.bounds()
    bend, offset, error = derivative_relaxed(layer, low, high)
    slope = bend * anchor + offset
    rounding = 4 * UNIT * (slope.abs() + (bend * anchor).abs() + offset.abs())
    half = bend * size.square() / 4
    return (
        slope,
        half,
        half.abs() * (1 + _ROUNDING) + (error + rounding) * size,
        smooth_derivative(layer, x.whole, low, high),
    )


def pooled_anchors(layer: MaxPool, x: Anchored, tolerance: Slack, room: int, used: int) -> Moved:
    """Windows: what wins among anchors, and by how much others may exceed it."""
    flat = x.flattened()
    winner = layer.winners(layer.compete(flat.anchor)[1])
    # Of numbers that are none the frame wins: what comes of them is none.
    lost, winner = winner < 0, winner.clamp_min(0)
    best, top = gathered(flat.away, winner), flat.anchor.gather(1, winner).masked_fill(lost, torch.nan)
    ours = gathered(flat.change, winner)
    exceeds = torch.zeros_like(top)
    for place in range(layer.windows.shape[1]):
        index = layer.windows[:, place].clamp_min(0).expand(len(winner), -1)
        ahead = (gathered(flat.change, index) + -ours).bounds()[1]
        ahead = ahead + (flat.anchor.gather(1, index) - top)
        real = (layer.windows[:, place] >= 0) & (index != winner)
        exceeds = torch.where(real, torch.maximum(exceeds, ahead), exceeds)
    rows = best.rows.clone()
    rows[:, 0] += exceeds / 2
    away = replace(best, rows=rows).loosened(UNIT * rows[:, 0].abs())
    away = _widened(away, exceeds / 2 * (1 + _ROUNDING), room, used).reshaped(*layer.pooled)
    slopes, drift = pooled(layer, flat.whole, tolerance, 0, 0).slopes, None
    if flat.drift is not None:
        index = winner[:, None].expand(-1, flat.drift.shape[1], -1)
        drift = flat.drift.gather(2, index).unflatten(2, layer.pooled)
    return Moved(Anchored(top.reshape(len(top), *layer.pooled), away, drift), slopes, exceeds / 2)


def _widened(away: Forms, deviation: Tensor, room: int, used: int) -> Forms:
    """With a symbol for each of the largest deviations, if they are worth one."""
    reach = away.reach.flatten(1).amax(dim=1).reshape(-1, *(1,) * (deviation.ndim - 1))
    plain = deviation * (deviation < NEGLIGIBLE * reach)
    return away.loosened(plain).widened(deviation - plain, room, used)


# -- layers of several values


def anchored_joint(
    graph: Graph, index: int, inputs: tuple[Anchored, ...], room: int, used: int, asked: Collection[int]
) -> Moved:
    """As `relax_joint_node`."""
    layer = graph.nodes[index].layer
    if isinstance(layer, Normalise):
        return _normalised(layer, inputs[0], room, used)
    if isinstance(layer, Softmax):
        return _softmax(layer, inputs[0], room, used)
    assert isinstance(layer, AbstractProduct), "the table of joint layers has products, norms and softmax"
    first, second = inputs
    if isinstance(layer, MatrixProduct):
        source = graph.nodes[index].inputs[0]
        if isinstance(graph.nodes[source].layer, Softmax):
            return _mixed(layer, first, second, room, used, asked=source in asked)
        if only_softmax_reads(graph, index, asked):
            second = anchored_level(second)
    return _product(layer, first, second, room, used)


def _product(layer: AbstractProduct, a: Anchored, b: Anchored, room: int, used: int) -> Moved:
    away, deviation = _products_of_differences(layer, a, b)
    values = moved(precise_value(layer, a.anchor, b.anchor), _widened(away, deviation, room, used))
    known = (a.whole.without_symbols(), b.whole.without_symbols())
    return Moved(values, Factors(layer, known, doubts_of(deviation)), deviation.flatten(1))


def _products_of_differences(layer: AbstractProduct, a: Anchored, b: Anchored) -> tuple[Forms, Tensor]:
    """What a product differs from that of the anchors, and a deviation beside that."""
    terms, times = layer.terms(a.away.shape, b.away.shape), (layer.product, layer.stretch)
    known = tuple(Forms.exact(values.anchor, values.away.count) for values in (a, b))
    parts = [
        multiplied(times, a.away, known[1], terms)[0],
        multiplied(times, known[0], b.away, terms)[0],
    ]
    both, deviation = multiplied(times, a.away, b.away, terms)
    return parts[0] + parts[1] + both, deviation


def _mixed(layer: MatrixProduct, p: Anchored, v: Anchored, room: int, used: int, asked: bool) -> Moved:
    """Values mixed by probabilities, see `attention`: of their errors e it is known what they sum to."""
    known = replace(p, away=p.away.without_errors())
    away, deviation = _products_of_differences(layer, known, v)
    whole = v.whole
    level = turned(levelled(turned(whole)))
    away = away.loosened(*mixed_errors(layer, p, whole, level))
    values = moved(precise_value(layer, p.anchor, v.anchor), _widened(away, deviation, room, used))
    factors = (p.whole.without_symbols(), (whole if asked else level).without_symbols())
    return Moved(values, Factors(layer, factors, doubts_of(deviation)), deviation.flatten(1))


def mixed_errors(layer: MatrixProduct, p: Anchored, whole: Forms, level: Forms) -> tuple[Tensor, Tensor]:
    """What errors of probabilities add where they mix values: at most how much, and the lengths of that.

    whole: the values. level: the same less the mean of those that are mixed.
    """
    lost = _missing(p)[..., None] * whole.most.mean(dim=-2, keepdim=True) * (1 + _ROUNDING)
    error = layer.product(p.away.error, level.most) * (1 + _ROUNDING) + lost
    longer = layer.stretch(level.centre) + layer.stretch(level.reach)
    return error, (longer * p.away.errors + lengths_of(lost)) * (1 + _ROUNDING)


def _missing(p: Anchored) -> Tensor:
    """At least how far what is known of probabilities may be from summing to 1, row by row."""
    own, rows = Precise.exact(p.anchor).total(-1) + -1.0, p.away.rows
    sums, known = rows.sum(dim=-1), own.high.abs()[..., 0]
    sums[:, 0] += own.high[..., 0]
    rounding = own.low.abs()[..., 0] + own.error[..., 0]
    if p.drift is not None:
        moving = Precise.exact(p.drift).total(-1).shaped(lambda own: own[..., 0])
        sums[:, 1 : 1 + p.drift.shape[1]] += moving.high
        rounding, known = (
            rounding + (moving.low.abs() + moving.error).sum(dim=1),
            known + moving.high.abs().sum(dim=1),
        )
    rounding = rounding + (p.anchor.shape[-1] + 4) * UNIT * (rows.abs().sum(dim=-1).sum(dim=1) + known)
    return (sums.abs().sum(dim=1) + 2 * rounding) * (1 + _ROUNDING)


def unhidden(layer: Softmax, x: Anchored) -> Anchored:
    """Arguments of which those that do not count are known to be 0, as their probability is, too."""
    if layer.kept is None:
        return x
    hidden, away = ~layer.kept, x.away
    rows, error = away.rows.masked_fill(hidden, 0.0), away.error.masked_fill(hidden, 0.0)
    drift = None if x.drift is None else x.drift.masked_fill(hidden, 0.0)
    return Anchored(x.anchor.masked_fill(hidden, 0.0), replace(away, rows=rows, error=error), drift)


def _softmax(layer: Softmax, x: Anchored, room: int, used: int) -> Moved:
    """The mean-value form: J d for the derivatives J at the anchor, and how far they are off over the box."""
    x = unhidden(layer, x)
    anchor, away = x.anchor, x.away
    centre = precise_value(layer, anchor)
    p, size = centre.high, away.most
    low, high = softmax_range(x.hull, layer.kept)
    off = torch.maximum(high - p, p - low).clamp_min(0.0)
    # As in `joint`, q_j q_k - p_j p_k = (q_j - p_j) q_k + p_j (q_k - p_k), and (q - p) (1 - p - q) beside.
    beside = off * others(high * size) + p * others(off * size)
    deviation = (beside + off * ((1 - p - p).abs() + off).clamp_max(1.0) * size) * (1 + _ROUNDING)
    own = p * (1 - p) * away.error + p * others(p * away.error)
    rounding = share_of(p) * p * (away.size + others(p * away.size) + p * away.size)
    lengths = (away.errors * eigenvalue(high) + lengths_of(rounding)) * (1 + _ROUNDING)
    error = (own + rounding) * (1 + _ROUNDING)
    made = Forms(jacobian_times(p[:, None], away.rows), error, away.count, away.origin, lengths)
    values = moved(centre, _widened(made, deviation, room, used))
    return Moved(values, Shares(values.whole.without_symbols(), doubts_of(deviation)), deviation.flatten(1))


def _normalised(layer: Normalise, x: Anchored, room: int, used: int) -> Moved:
    """A norm y = r c with the scale r: of differences d, c changes by c', and y and r by what follows.

    With A = mean(y c') and u = 2 r A + r² mean(c'²) the scale becomes r (1 + u)^(-1/2) = r (1 - u / 2 + w),
    where w <= 3/8 u² (1 - |u|)^(-5/2): it changes by -r² A, and besides by r (w - r² mean(c'²) / 2). So y
    changes by r (c' - y A), and besides by y (w - r² mean(c'²) / 2) + r c' (w - u / 2).
    """
    size, known = x.away.shape[-1], x.away.without_errors()
    centre, scale = normalised_parts(layer, x.anchor)
    y, r = (Forms.exact(own.high, known.count) for own in (centre, scale))
    y_off, r_off = (own.low.abs() + own.error for own in (centre, scale))
    y_most, r_most = centre.most, scale.most
    change = levelled(known) if layer.centred else known
    along = multiplied(ADDED, change, y, terms_of(size))[0]
    along = along.scaled(along.error.new_full((), 1 / size).expand(along.shape))
    along = along.loosened(mean(y_off * change.most) * (1 + _ROUNDING))
    away = multiplied(SPREAD, change + -multiplied(SPREAD, y, along, 1)[0], r, 1)[0]
    rounding = r_off * (change.most + y_most * along.most) + r_most * y_off * along.most
    away = away.loosened(rounding * (1 + _ROUNDING))
    # What is of second order, or where that series is not to be trusted, what cannot be exceeded.
    squares = mean(change.most.square()) * r_most.square() * (1 + _ROUNDING)
    u = (2 * r_most * along.most + squares) * (1 + _ROUNDING)
    w = 0.375 * u.square() / (1 - u.clamp_max(0.5)).pow(2.5) * (1 + _ROUNDING)
    near, limit = u < 0.5, size**0.5 * (1 + _ROUNDING)
    bend = y_most * (w + squares / 2) + r_most * change.most * (w + u / 2)
    deviation = torch.where(near, bend, 2 * limit + away.most) * (1 + _ROUNDING)
    scales = along.scaled(-scale.high.square()).raised(scale.high)
    rounding = r_off + (2 * r_off + 4 * UNIT * r_most) * r_most * along.most
    steepest = layer.epsilon**-0.5
    bend = torch.where(near, r_most * (w + squares / 2), steepest + scales.most)
    scales = scales.loosened((rounding + bend) * (1 + _ROUNDING))
    # Errors are stretched as in `joint`.
    low, high = (end.clamp(0.0, steepest * (1 + _ROUNDING)) for end in scales.bounds())
    low, high = scales_within(layer, x.away, low, high)
    errors = errors_along(x.away)
    deviating = y_most / scale.high + change.most + errors
    most = (deviating * high * (1 + _ROUNDING)).clamp_max(limit)
    away = away.loosened(*contracted(layer, x.away, most, high))
    scales = scales.loosened(high.square() * errors / size**0.5 * (1 + _ROUNDING))
    values = moved(centre, _widened(away, deviation, room, used))
    slopes = Scales(layer, values.whole.without_symbols(), scales.without_symbols(), doubts_of(deviation))
    return Moved(values, slopes, deviation.flatten(1))
