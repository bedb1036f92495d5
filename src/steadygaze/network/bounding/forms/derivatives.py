"""Derivatives of units over boxes, and what becomes of gradients that they multiply: see `relaxing`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from steadygaze.enclosing.enclosures import UNIT
from steadygaze.enclosing.forms import ANY, SIGN, Forms, fresh_symbols, lengths_of
from steadygaze.network.bounding.curves.enclosing import derivative_relaxed
from steadygaze.network.smooth import Smooth

# Products of symbols that are followed for one layer.
_PRODUCTS = 12
#: What rounding in a handful of operations may add, as a share.
ROUNDING = 2.0**-46


@dataclass(frozen=True, eq=False)
class Derivative:
    """Derivatives of units over boxes: centre + sum_i t_i slopes_i ± radius.

    Attributes:
        centre, radius: ``(B, N)``. slopes: ``(B, n, N)``, None where they are 0.
        two: ``(B, N)`` whether it is at one end or the other; None where that is not known of any.
        length: ``(B,)`` at least the length of what all are off by together; None for that of the radius.
    """

    centre: Tensor
    radius: Tensor
    slopes: Tensor | None = None
    two: Tensor | None = None
    length: Tensor | None = None

    @property
    def doubts(self) -> Tensor:
        """``(B,)`` number of units whose derivative is not known."""
        return (self.radius > 0).sum(dim=1)

    def take(self, chosen: Tensor) -> Derivative:
        """Those of some boxes."""
        parts = (self.slopes, self.two, self.length)
        return Derivative(
            self.centre[chosen], self.radius[chosen], *(None if own is None else own[chosen] for own in parts)
        )

    def pulled(self, gradient: Forms, room: int, used: int) -> Forms:
        """The gradient before the units, given the one behind them, ``(B, N)``.

        room and used: see `Forms.widened`.
        """
        scaled = gradient.scaled(self.centre)
        known = gradient.centre.abs() + gradient.reach
        if self.two is not None:
            picked = torch.where(self.two, self.radius, 0.0)
            doubts = split(gradient, picked, room, used)
            scaled = scaled.joined(doubts.rows, used, doubts.origin)
            used = max(used, scaled.symbols)
            # Centre and radius of two slopes are themselves rounded; one slope is what it is.
            rounded = torch.where(self.radius > 0, 2 * UNIT * (self.centre.abs() + self.radius), 0.0)
            whole = (self.radius - picked + rounded) * known
            return scaled.widened((whole + doubts.rest) * (1 + ROUNDING), room, used)
        deviation = self.radius * known
        length = lengths_of(self.radius) if self.length is None else self.length
        length = length * known.amax(dim=1)
        if self.slopes is not None:
            moved = gradient.centre[:, None] * self.slopes
            scaled = scaled + Forms(
                torch.cat([torch.zeros_like(moved[:, :1]), moved], dim=1),
                UNIT * moved.abs().sum(dim=1),
                gradient.count,
            )
            beside = self.slopes.abs().sum(dim=1) * gradient.reach
            deviation, length = deviation + beside, length + lengths_of(beside)
        return scaled.widened(deviation * (1 + ROUNDING), room, used, length * (1 + ROUNDING))


@dataclass(frozen=True, eq=False)
class SmoothSlopes:
    """Derivatives of smooth units over boxes, worked out when a gradient comes back to them.

    None does where the class alone is asked about, or left open: finding where derivatives are largest takes
    up to half of the time of forms.

    Attributes:
        inputs: forms ``(B, N)``, without symbols. low, high: least and largest inputs ``(B, N)``.
    """

    layer: Smooth
    inputs: Forms
    low: Tensor
    high: Tensor

    @property
    def doubts(self) -> Tensor:
        """``(B,)`` number of units whose derivative is not known: of all of them, if by rounding alone."""
        return self.low.new_full((len(self.low),), self.low.shape[1], dtype=torch.int64)

    @cached_property
    def derivative(self) -> Derivative:
        """What a gradient needs."""
        return smooth_derivative(self.layer, self.inputs, self.low, self.high)

    def take(self, chosen: Tensor) -> SmoothSlopes:
        """Those of some boxes."""
        return replace(self, inputs=self.inputs.take(chosen), low=self.low[chosen], high=self.high[chosen])

    def pulled(self, gradient: Forms, room: int, used: int) -> Forms:
        """As `Derivative.pulled`."""
        return self.derivative.pulled(gradient, room, used)


def smooth_derivative(layer: Smooth, forms: Forms, low: Tensor, high: Tensor) -> Derivative:
    """f'(z) in slope z + offset ± error, with z as it depends on the coordinates of the box."""
    slope, offset, error = derivative_relaxed(layer, low, high)
    known = forms.without_symbols()
    centre = slope * known.centre + offset
    slopes = slope[:, None] * known.rows[:, 1 : 1 + forms.count]
    size = centre.abs() + offset.abs() + slopes.abs().sum(dim=1)
    own = error + 8 * UNIT * size
    length = lengths_of(own) + slope.abs().amax(dim=1) * known.errors * (1 + 4 * UNIT)
    return Derivative(centre, own + slope.abs() * known.error, slopes, length=length)


@dataclass(frozen=True)
class Doubts:
    """Symbols of units on one of two pieces: rows ``(B, k, N)``, origin ``(B, k, 2)``; rest ``(B, N)``."""

    rows: Tensor
    origin: Tensor
    rest: Tensor


def split(gradient: Forms, radius: Tensor, room: int, used: int) -> Doubts:
    """D' g for D' = ± radius ``(B, N)``: symbols for what is known of g and for products with its own."""
    known = radius * gradient.centre.abs()
    fresh = fresh_symbols(known, room - used)
    rest = fresh.rest + radius * gradient.reach + 4 * UNIT * known
    boxes, count = fresh.place.shape
    origin = torch.full((boxes, count, 2), SIGN, device=fresh.place.device)
    old = gradient.origin
    many = min(_PRODUCTS, room - used - count)
    if old is None or not count or many <= 0 or not (old != ANY).any():
        return Doubts(fresh.rows, origin, rest)
    first = 1 + gradient.count
    symbols = gradient.rows[:, first : first + old.shape[1]]
    symbols = symbols * (old[:, : symbols.shape[1], :1] != ANY)
    place = fresh.place[:, None].expand(-1, symbols.shape[1], -1)
    sign = torch.where(gradient.centre < 0, -1.0, 1.0) * radius
    products = symbols.gather(2, place) * sign.gather(1, fresh.place)[:, None]
    products = products * (fresh.amount > 0)[:, None]
    largest = products.abs().flatten(1).topk(min(many, symbols.shape[1] * count), dim=1)
    of, unit = largest.indices // count, largest.indices % count
    amount = products.flatten(1).gather(1, largest.indices)
    own = known.new_zeros((boxes, amount.shape[1], known.shape[1]))
    where = fresh.place.gather(1, unit)
    own.scatter_(2, where[..., None], amount[..., None])
    parents = torch.where((amount == 0)[..., None], ANY, torch.stack([of, used + unit], dim=2))
    # What a product takes is no longer in the rest; a share of it makes up for rounding, once for each.
    rest = rest.scatter_add(1, where, -amount.abs() * (1 - 8 * UNIT)).clamp_min(0.0)
    rest = rest + (_PRODUCTS + 8) * UNIT * radius * gradient.reach
    return Doubts(torch.cat([fresh.rows, own], dim=1), torch.cat([origin, parents], dim=1), rest)
