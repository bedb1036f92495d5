"""Derivatives of layers over boxes as polynomials, and gradients that go back through them.

See `polynomial`. A gradient is a polynomial with errors, too. Rows beyond the coordinates are products of
these: what `Bounds` tells layers of room for symbols does not matter here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from steadygaze.enclosing.forms import Forms
from steadygaze.enclosing.monomials import Monomials
from steadygaze.network.bounding.joint import ADDED, SPREAD, UNITS, contracted, eigenvalue
from steadygaze.network.bounding.last_axis import levelled, root_of, share_of, summed, terms_of
from steadygaze.network.bounding.polynomial import ROUNDING, multiplied, with_doubts
from steadygaze.network.bounding.relaxing import Choice
from steadygaze.network.joint import AbstractProduct, Normalise


@dataclass(frozen=True, eq=False)
class Slopes:
    """Derivatives of units, ``(B, N)``.

    Attributes:
        factor: what is known of them. doubt: ``(B, N)`` how far beyond it those may be that are one of two
            numbers; None where none is in doubt.
    """

    monomials: Monomials
    factor: Forms
    doubt: Tensor | None = None

    @property
    def doubts(self) -> Tensor:
        """``(B,)`` none: more symbols would tell no more."""
        return _none(self.factor)

    def take(self, chosen: Tensor) -> Slopes:
        """Those of some boxes."""
        doubt = None if self.doubt is None else self.doubt[chosen]
        return replace(self, factor=self.factor.take(chosen), doubt=doubt)

    def pulled(self, gradient: Forms, room: int, used: int) -> Forms:
        """The gradient before the units, given the one behind them, ``(B, N)``.

        What a unit in doubt makes of it is a symbol, which cancels in what is behind: as an error it would
        grow by the magnitudes of all weights.
        """
        del room
        made = multiplied(self.monomials, UNITS, gradient, self.factor, 1)
        if self.doubt is None:
            return made
        return with_doubts(self.monomials, made, self.doubt * gradient.most * (1 + ROUNDING), used)


@dataclass(frozen=True, eq=False)
class Winners:
    """Which inputs may win the windows of a pool."""

    choice: Choice

    @property
    def doubts(self) -> Tensor:
        """``(B,)`` none, see `Slopes`."""
        return torch.zeros_like(self.choice.doubts)

    def take(self, chosen: Tensor) -> Winners:
        """Those of some boxes."""
        return Winners(self.choice.take(chosen))

    def pulled(self, gradient: Forms, room: int, used: int) -> Forms:
        """The gradient before the windows, ``(B, N_in)``, given the one behind them, ``(B, N_out)``."""
        del room, used
        return self.choice.pulled(gradient, 0, gradient.symbols)


@dataclass(frozen=True, eq=False)
class ProductSlopes:
    """Both factors of a product, ``(B, *shape)``."""

    monomials: Monomials
    layer: AbstractProduct
    factors: tuple[Forms, Forms]

    @property
    def doubts(self) -> Tensor:
        """``(B,)`` none, see `Slopes`."""
        return _none(self.factors[0])

    def take(self, chosen: Tensor) -> ProductSlopes:
        """Those of some boxes."""
        first, second = (forms.take(chosen) for forms in self.factors)
        return replace(self, factors=(first, second))

    def pulled(self, gradient: Forms, room: int, used: int) -> tuple[Forms, ...]:
        """The gradients at both factors, given the one at the product."""
        del room, used
        layer, (a, b) = self.layer, self.factors
        terms = layer.terms(a.shape, b.shape)
        times = (lambda g, own: layer.second(own, g), layer.stretch)
        return (
            multiplied(self.monomials, (layer.first, layer.stretch), gradient, b, terms),
            multiplied(self.monomials, times, gradient, a, terms),
        )


@dataclass(frozen=True, eq=False)
class SoftmaxSlopes:
    """Probabilities of a softmax, ``(B, *shape)``."""

    monomials: Monomials
    shares: Forms

    @property
    def doubts(self) -> Tensor:
        """``(B,)`` none, see `Slopes`."""
        return _none(self.shares)

    def take(self, chosen: Tensor) -> SoftmaxSlopes:
        """Those of some boxes."""
        return replace(self, shares=self.shares.take(chosen))

    def pulled(self, gradient: Forms, room: int, used: int) -> tuple[Forms, ...]:
        """As `joint.Shares`: ``p (g - <p, g>)``, and what is made of errors."""
        del room, used
        m, size, p = self.monomials, gradient.shape[-1], self.shares
        level = levelled(gradient.without_errors())
        along = multiplied(m, ADDED, level, p, terms_of(size))

        def repeated(x: Tensor) -> Tensor:
            return x.expand(*x.shape[:-1], size)

        spread = along.linear(repeated, repeated, 1, norm=root_of(size))
        made = multiplied(m, UNITS, level + -spread, p, 1)
        most, share = p.most, 1 + share_of(gradient.error)
        error = most * (gradient.error + summed(most * gradient.error)) * share
        return (made.loosened(error, gradient.errors * eigenvalue(most)),)


@dataclass(frozen=True, eq=False)
class NormSlopes:
    """A norm: its values ``(B, *shape)`` and its scales, one for each last axis."""

    monomials: Monomials
    layer: Normalise
    values: Forms
    scales: Forms

    @property
    def doubts(self) -> Tensor:
        """``(B,)`` none, see `Slopes`."""
        return _none(self.values)

    def take(self, chosen: Tensor) -> NormSlopes:
        """Those of some boxes."""
        return replace(self, values=self.values.take(chosen), scales=self.scales.take(chosen))

    def pulled(self, gradient: Forms, room: int, used: int) -> tuple[Forms, ...]:
        """As `joint.Scales`: ``r (g - mean(g) - y mean(y g))``, and what is made of errors."""
        del room, used
        m, size, y, r = self.monomials, gradient.shape[-1], self.values, self.scales
        known = gradient.without_errors()
        along = multiplied(m, ADDED, known, y, terms_of(size))
        along = along.scaled(along.error.new_full((), 1 / size).expand(along.shape))
        along = multiplied(m, SPREAD, along, y, 1)
        level = levelled(known) if self.layer.centred else known
        made = multiplied(m, SPREAD, level + -along, r, 1)
        return (made.loosened(*contracted(self.layer, gradient, y.most, r.most * (1 + ROUNDING))),)


PolynomialSlopes: TypeAlias = Slopes | Winners | ProductSlopes | SoftmaxSlopes | NormSlopes


def _none(forms: Forms) -> Tensor:
    return torch.zeros(len(forms.error), dtype=torch.int64, device=forms.error.device)
