"""Layers that are not affine, over boxes of parameters: what they make of affine forms, and of gradients.

Forward, unit by unit, ``f(z) in slope z + offset ± deviation`` over the range of z; each deviation becomes a
symbol of its own. Backward a gradient g is multiplied by the unit's derivative D, known as D = d + D' with
|D'| <= radius: D g is d g, and whatever D' g is, |D' g| <= radius max|g|, again a symbol of its own. As D'
multiplies all of the true gradient, there are no products of symbols and no remainder: the layers below
follow what the unit's doubt does to the map as one direction, and doubts of one gradient cancel or add up as
they do in the network.

A unit on one of two pieces has D' = -radius or radius, and its symbol is -1 or 1 as far as g is known. Where
g itself depends on symbols of that kind, from units behind, their products with it are symbols too: the
units' pieces are then told apart in all combinations. What is left of g is one more deviation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from steadygaze.enclosing.enclosures import UNIT
from steadygaze.enclosing.forms import Forms, fresh_symbols, numbers_of
from steadygaze.enclosing.hinges import hinges_relaxed
from steadygaze.enclosing.overtaking import largest_of_windows
from steadygaze.enclosing.windows import may_win
from steadygaze.network.bounding.curves.enclosing import relaxed
from steadygaze.network.bounding.forms.beside import EQUAL, beyond, gathered, or_anything
from steadygaze.network.bounding.forms.derivatives import ROUNDING, Derivative, SmoothSlopes, split
from steadygaze.network.bounding.forms.slack import Slack
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.smooth import Smooth


@dataclass(frozen=True, eq=False)
class Choice:
    """Which inputs may win the windows of a pool over boxes.

    Attributes:
        winner: ``(B, N_out)`` position in the flattened input of the one that wins in the middle.
        rival: ``(B, N_out, k)`` whether another input, in its place in the window, may win.
        layer: the pool.
    """

    winner: Tensor
    rival: Tensor
    layer: MaxPool

    @property
    def doubts(self) -> Tensor:
        """``(B,)`` number of windows that several may win."""
        return self.rival.any(dim=2).sum(dim=1)

    def take(self, chosen: Tensor) -> Choice:
        """Those of some boxes."""
        return replace(self, winner=self.winner[chosen], rival=self.rival[chosen])

    def pulled(self, gradient: Forms, room: int, used: int) -> Forms:
        """The gradient before the windows, ``(B, N_in)``, given the one behind them, ``(B, N_out)``.

        A window's only rival j takes all of its gradient from the winner w, or nothing: half of it, and a
        symbol along e_j - e_w. Of several each has a share between 0 and 1, as the winner has: half of it
        again, and a symbol each. (That they add up to 1 is not followed: what each takes from the winner, as
        symbols along e_j - e_w, would let the winner's share be anything between 1 and 1 less their number.)
        """
        boxes, windows, span = self.rival.shape
        size = math.prod(self.layer.shape)
        taken = 0.5 * self.rival.to(gradient.rows.dtype)
        places = self.layer.windows.clamp_min(0).expand(boxes, windows, span)
        count = gradient.rows.shape[1]
        rows = gradient.rows.new_zeros((boxes, count, size))
        left = 1 - 0.5 * self.rival.any(dim=2).to(taken.dtype)
        rows.scatter_add_(2, _each(self.winner, count), gradient.rows * left[:, None])
        some, shared = bool(self.rival.any()), _windows_of_one(self.layer)
        doubt = gradient.error
        if some or shared > 1:
            # An entry sums up what it gets from each of its windows, and that may cancel.
            doubt = doubt + (shared + 2) * UNIT * gradient.size
        error = gradient.error.new_zeros((boxes, size))
        error.scatter_add_(1, self.winner, doubt * left)
        if not some:
            return Forms(rows, error * (1 + ROUNDING), gradient.count, gradient.origin)
        # From here on only windows matter that some box leaves open.
        open_ = self.rival.any(dim=2).any(dim=0).nonzero()[:, 0]
        part = Choice(self.winner[:, open_], self.rival[:, open_], self.layer)
        own = replace(gradient, rows=gradient.rows[:, :, open_], error=gradient.error[:, open_])
        places, taken, doubt = places[:, open_], taken[:, open_], doubt[:, open_]
        for j in range(span):
            rows.scatter_add_(2, _each(places[:, :, j], count), own.rows * taken[:, None, :, j])
            error.scatter_add_(1, places[:, :, j], doubt * taken[..., j])
        pulled = Forms(rows, error * (1 + ROUNDING), gradient.count, gradient.origin)
        return part._torn(pulled, own, places, taken, room, used)

    def _torn(
        self, pulled: Forms, gradient: Forms, places: Tensor, taken: Tensor, room: int, used: int
    ) -> Forms:
        """With what rivals may take beyond their half, or leave: places, taken ``(B, windows, k)``."""
        size = pulled.error.shape[1]
        one = (self.rival.sum(dim=2) == 1).to(taken.dtype) / 2
        doubts = split(gradient, one, room, used)
        only = self.rival.to(torch.uint8).argmax(dim=2)
        rival = places.gather(2, only[..., None])[..., 0]
        pulled = pulled.joined(_moved(doubts.rows, rival, self.winner, size), used, doubts.origin)
        used = max(used, pulled.symbols)
        # All that may win, the winner last; an only rival's doubt is taken from the winner's share.
        single = one[..., None] > 0
        halves = torch.cat([taken, 0.5 * self.rival.any(dim=2, keepdim=True).to(taken.dtype)], dim=2)
        rest = torch.where(single, 0.0, halves) * (gradient.centre.abs() + gradient.reach)[..., None]
        rest.scatter_add_(2, only[..., None], doubts.rest[..., None])
        fresh = fresh_symbols(rest.flatten(1) * (1 + ROUNDING), room - used)
        taker = torch.cat([places, self.winner[..., None]], dim=2).flatten(1)
        loser = self.winner[..., None].expand(rest.shape).flatten(1)
        from_winner = single.expand(rest.shape).flatten(1).to(taken.dtype)
        error = pulled.error.scatter_add(1, taker, fresh.rest)
        error = error.scatter_add(1, loser, fresh.rest * from_winner)
        own = _moved(fresh.rows, taker, loser, size, from_winner)
        return replace(pulled, error=error * (1 + ROUNDING)).joined(own, used, None)


def _windows_of_one(layer: MaxPool) -> int:
    """The largest number of windows that one input is in."""
    return int(torch.bincount(layer.windows[layer.windows >= 0]).max())


def _moved(rows: Tensor, to: Tensor, away: Tensor, size: int, share: Tensor | None = None) -> Tensor:
    """Rows ``(B, k, M)`` written where `to` says, and a share of their opposites where `away` says.

    share ``(B, M)``: all of them by default. Returns ``(B, k, size)``.
    """
    out = rows.new_zeros((*rows.shape[:2], size))
    out.scatter_add_(2, _each(to, rows.shape[1]), rows)
    lost = rows if share is None else rows * share[:, None]
    return out.scatter_add_(2, _each(away, rows.shape[1]), -lost)


# Inputs of a window are as good as equal below this share of the tolerance: it is above what rounding leaves.
_FAINT = 2.0**-10
# Forward, deviations below this share of the largest reach of a layer's values are errors, not symbols.
NEGLIGIBLE = 2e-3


@dataclass(frozen=True, eq=False)
class Relaxed:
    """What a layer makes of forms.

    Attributes:
        values: ``(B, *shape)``. slopes: what its gradient needs. pull: ``(B, n)``, what part of the doubt
            about its units each coordinate of the box is to blame for.
    """

    values: Forms
    slopes: Derivative | SmoothSlopes | Choice
    pull: Tensor


def relax(
    layer: PiecewiseLinear | MaxPool | Smooth,
    forms: Forms,
    tolerance: Slack | None,
    room: int,
    used: int,
    ranges: tuple[Tensor, Tensor] | None = None,
) -> Relaxed:
    """The layer over boxes.

    tolerance: a unit that reaches above a breakpoint by less keeps its piece, as in the exact engines; its
    value is bounded all the same. `counted_beneath` tells of those that come near to it from above. None: 0.
    room and used: see `Forms.widened`.
    ranges: least and largest inputs ``(B, N)``, where more is known of them than the forms say.
    """
    tolerance = Slack.none(forms.error) if tolerance is None else tolerance
    if isinstance(layer, MaxPool):
        return pooled(layer, forms, tolerance, room, used)
    flat = forms.flattened()
    low, high = flat.bounds() if ranges is None else ranges
    low, high = or_all_numbers(low, high)
    if isinstance(layer, Smooth):
        slope, offset, deviation = relaxed(layer, low, high)
        known = flat.without_symbols()  # copied: what waits for a gradient would keep the symbols' memory
        derivative = SmoothSlopes(layer, replace(known, rows=known.rows.clone()), low, high)
    else:
        beneath = counted_beneath(flat, tolerance)
        slope, offset, deviation, derivative = piecewise_relaxed(layer, low, high, beneath, tolerance.least)
    # What is far below the reach of the layer's own values needs no symbol to cancel.
    plain = deviation * (deviation < NEGLIGIBLE * flat.reach.amax(dim=1, keepdim=True))
    values = flat.bent(slope, offset, plain * (1 + ROUNDING)).widened(deviation - plain, room, used)
    return Relaxed(values.reshaped(*forms.shape), derivative, flat.blamed(deviation))


def counted_beneath(forms: Forms, tolerance: Slack) -> Tensor:
    """How far below a breakpoint units ``(B, N)`` may reach, all of whose points count as above it.

    Affine and moving by more than counts as nothing, they touch it on a face. Others may be level with it on
    any part of the box, and have to be above it by more than that: negative.
    """
    moving = (forms.strays <= tolerance.least) & (forms.reach - forms.strays > tolerance.most)
    return torch.where(moving, tolerance.least, -tolerance.most)


def or_all_numbers(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The same ranges, without an end where it is no number.

    That is on neither side of a breakpoint, and no unit may seem to keep a piece by it.
    """
    infinity = torch.inf
    return low.nan_to_num(-infinity, infinity, -infinity), high.nan_to_num(infinity, infinity, -infinity)


def magnitudes(forms: Forms, room: int) -> Forms:
    """Absolute values ``(B, N)`` of forms ``(B, N)``."""
    return _bent(_ABSOLUTE, forms, room)


def rectified(forms: Forms, room: int) -> Forms:
    """Positive parts ``(B, N)`` of forms ``(B, N)``."""
    return _bent(_RECTIFIED, forms, room)


def _bent(layer: PiecewiseLinear, forms: Forms, room: int) -> Forms:
    low, high = forms.bounds()
    nothing = low.new_zeros(())
    slope, offset, deviation, _ = piecewise_relaxed(layer.to(low.device), low, high, nothing, nothing)
    return forms.scaled(slope).raised(offset).widened(deviation, room, forms.symbols)


def piecewise_relaxed(
    layer: PiecewiseLinear, low: Tensor, high: Tensor, below_low: Tensor, below_high: Tensor
) -> tuple[Tensor, Tensor, Tensor, Derivative]:
    """Slope, offset and deviation, ``(B, N)``, and the derivative, for ranges ``(B, N)``.

    The slope is that of the chord, or of the piece that the unit keeps; what the function deviates from it is
    largest at the ends of the range or at a breakpoint. Which pieces a unit may be on is read off the range
    from low + below_low to high - below_high.
    """
    if layer.is_hinge:
        parts = (
            layer.slopes.expand(2, low.shape[1]),
            low,
            high,
            *(own.expand_as(low) for own in (below_low, below_high)),
        )
        found = hinges_relaxed(*numbers_of(parts), UNIT, torch.finfo(low.dtype).tiny)
        made, two = (torch.from_numpy(own).to(low.device) for own in found)
        slope, offset, deviation, middle, half = made
        return slope, offset, deviation, Derivative(middle, half, two=two)
    last = layer.pieces_of(high - below_high)
    first = torch.minimum(layer.pieces_of(low + below_low), last)
    least, most = layer.slopes_of(first), layer.slopes_of(last)
    least, most = torch.minimum(least, most), torch.maximum(least, most)
    for piece in range(1, len(layer.slopes) - 1):
        inner = layer.slopes_of(torch.full_like(first, piece))
        within = (first < piece) & (piece < last)
        least = torch.where(within, torch.minimum(least, inner), least)
        most = torch.where(within, torch.maximum(most, inner), most)
    derivative = Derivative((least + most) / 2, (most - least) / 2, two=last == first + 1)
    at_low, at_high = layer.forward(low), layer.forward(high)
    chord = (at_high - at_low) / (high - low).clamp_min(torch.finfo(low.dtype).tiny)
    slope = torch.where(first == last, derivative.centre, torch.minimum(torch.maximum(chord, least), most))
    ends = (at_low - slope * low, at_high - slope * high)
    below, above = torch.minimum(*ends), torch.maximum(*ends)
    for edge in layer.breakpoints:
        at = torch.minimum(torch.maximum(edge, low), high)
        gap = layer.forward(at) - slope * at
        below, above = torch.minimum(below, gap), torch.maximum(above, gap)
    offset, deviation = (below + above) / 2, (above - below) / 2
    # A unit that keeps a piece without a constant term is computed without rounding of its own.
    size = torch.maximum(below.abs(), above.abs()) + slope.abs() * torch.maximum(low.abs(), high.abs())
    plain = (low >= 0) | (high <= 0)
    rounded = 4 * UNIT * size
    exact = (first == last) & (offset == 0) & (deviation == 0) & plain
    return slope, offset, torch.where(exact, deviation, deviation + rounded), derivative


def pooled(layer: MaxPool, forms: Forms, tolerance: Slack, room: int, used: int) -> Relaxed:
    """Windows: the winner of the middle plus how far each rival may exceed what is the largest so far."""
    flat = or_anything(forms.flattened())
    place = layer.compete(flat.centre, tolerance.least)[1]
    winner = layer.winners(place)
    best = gathered(flat, winner)
    # Most windows are settled by the ranges alone.
    low, high = flat.bounds()
    slack = tolerance.most.expand(winner.shape)
    found = may_win(*numbers_of((low, high, layer.windows, winner, place, slack)))
    may, near = (torch.from_numpy(own).to(winner.device) for own in found)
    near = near.nonzero()[:, 0]
    rival = torch.zeros((len(winner), *layer.windows.shape), dtype=torch.bool, device=winner.device)
    total = torch.zeros_like(best.error)
    largest = best
    if len(near):
        windows, leader = layer.windows[near], winner[:, near]
        lags, exceeds, strays = beyond(flat, windows, leader, may[:, near])
        least, most = (
            own.expand(*own.shape[:-1], len(layer.windows))[..., near][..., None]
            for own in (tolerance.least, tolerance.most)
        )
        # Of equal inputs the first wins: one that touches, as in `counted_beneath`, is equal on a face alone.
        touches = (strays <= least) & ((exceeds - lags) / 2 - strays > most)
        first = (exceeds > -most) & ~touches
        first &= torch.arange(windows.shape[1], device=first.device) < place[:, near, None]
        beats = exceeds > least
        # Where the winner falls behind the largest, who is ahead of it may still be equal to that.
        beats |= beats.any(dim=2, keepdim=True) & (exceeds > _FAINT * least)
        rival[:, near] = (windows >= 0) & (windows != leader[..., None]) & (beats | first)
        # What is hardly more than rounding needs no lines: on a blank background whole windows are equal.
        ahead = exceeds > (EQUAL * best.most[:, near])[..., None]
        others = exceeds.masked_fill(ahead, 0.0).amax(dim=2).clamp_min(0.0)
        total[:, near] = others
        few = ahead.any(dim=2).any(dim=0).nonzero()[:, 0]
        if len(few):
            own = near[few]
            larger, total[:, own] = _overtaken(
                flat, windows[few], leader[:, few], ahead[:, few], others[:, few]
            )
            rows, error = (
                best.rows.index_copy(2, own, larger.rows),
                best.error.index_copy(1, own, larger.error),
            )
            largest = replace(best, rows=rows, error=error)
    values = largest.widened(total, room, used)
    return Relaxed(values.reshaped(*layer.pooled), Choice(winner, rival, layer), best.blamed(total))


def _overtaken(
    flat: Forms, windows: Tensor, winner: Tensor, rival: Tensor, total: Tensor
) -> tuple[Forms, Tensor]:
    """Of some windows ``(N, k)`` the largest input, and a deviation ``(B, N)``.

    rival: ``(B, N, k)`` the inputs that may exceed the winner; total: ``(B, N)`` by how much the others may.
    """
    # A kernel goes by the rivals of each window alone, and is alike on all devices.
    parts = (flat.rows, flat.error, windows, winner, rival, total)
    found = largest_of_windows(*(own.cpu().numpy() for own in parts))
    rows, error, deviation = (torch.from_numpy(own).to(flat.rows.device) for own in found)
    return replace(flat, rows=rows, error=error, length=None), deviation


def _each(index: Tensor, count: int) -> Tensor:
    """The index ``(B, N)`` for each of `count` rows."""
    return index[:, None].expand(-1, count, -1)


def _simple(*slopes: float) -> PiecewiseLinear:
    """The function with a bend at 0 and these slopes below and above."""
    columns = torch.tensor(slopes, dtype=torch.float64)[:, None]
    return PiecewiseLinear(torch.zeros(1, dtype=torch.float64), columns, torch.zeros_like(columns))


_RECTIFIED, _ABSOLUTE = _simple(0.0, 1.0), _simple(-1.0, 1.0)
