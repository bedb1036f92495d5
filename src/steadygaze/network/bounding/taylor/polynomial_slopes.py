"""Derivatives of layers over boxes as polynomials, and gradients that go back through them.

See `polynomial`. A gradient is a known number, its anchor, and a polynomial with errors beside that. Where
it goes back precisely, what comes of anchors is computed to twice the precision, as it is of values, for
whatever float64 leaves of them is multiplied by the norms of all layers before. That takes up to three times
as long: elsewhere anchors are nothing, and polynomials are all there is. Rows beyond the coordinates are
products of these: what `Bounds` tells layers of room for symbols does not matter here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from steadygaze.deadline import Deadline
from steadygaze.enclosing.double_double import Precise, precise_products
from steadygaze.enclosing.forms import Forms
from steadygaze.enclosing.monomials import Monomials
from steadygaze.network.bounding.anchors.anchored import Anchored, anchored_level, moved
from steadygaze.network.bounding.anchors.centres import mean_of, precise_along, precise_transpose
from steadygaze.network.bounding.forms.attention import turned
from steadygaze.network.bounding.forms.joint import ADDED, SPREAD, UNITS, Times, contracted, eigenvalue
from steadygaze.network.bounding.forms.last_axis import levelled, root_of, share_of, summed, terms_of
from steadygaze.network.bounding.forms.relaxing import Choice
from steadygaze.network.bounding.forms.single_entries import transpose_of
from steadygaze.network.bounding.taylor.polynomial import (
    FEW_DOUBTS,
    ROUNDING,
    differences,
    multiplied,
    with_doubts,
    without_strays,
)
from steadygaze.network.graph import Graph
from steadygaze.network.joint import AbstractProduct, Multiply, Normalise
from steadygaze.network.layers import AbstractAffine, Add


@dataclass(frozen=True, eq=False)
class Slopes:
    """Derivatives of units, ``(B, N)``.

    Attributes:
        factor: what is known of them. doubt: ``(B, N)`` how far beyond it those may be that are one of two
            numbers; None where none is in doubt.
        room: see `with_doubts`.
    """

    monomials: Monomials
    factor: Anchored
    doubt: Tensor | None = None
    room: int = FEW_DOUBTS

    @property
    def doubts(self) -> Tensor:
        """``(B,)`` none: more symbols would tell no more."""
        return _none(self.factor)

    def take(self, chosen: Tensor) -> Slopes:
        """Those of some boxes."""
        doubt = None if self.doubt is None else self.doubt[chosen]
        return replace(self, factor=self.factor.take(chosen), doubt=doubt)

    @property
    def plain(self) -> Slopes:
        """The same without anchors."""
        return replace(self, factor=_plain(self.factor))

    def pulled(self, gradient: Anchored, used: int) -> tuple[Anchored]:
        """The gradient before the units, given the one behind them.

        What a unit in doubt makes of it is a symbol, which cancels in what is behind: as an error it would
        grow by the magnitudes of all weights. used: symbols that stand for something else already.
        """
        shape, flat = gradient.away.shape, gradient.flattened()
        made = _product(self.monomials, UNITS, flat, self.factor, 1)
        if self.doubt is not None:
            doubt = self.doubt * flat.whole.most * (1 + ROUNDING)
            made = replace(made, away=with_doubts(self.monomials, made.away, doubt, used, self.room))
        return (made.reshaped(*shape),)


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

    @property
    def plain(self) -> Winners:
        """The same: it has no anchors."""
        return self

    def pulled(self, gradient: Anchored, used: int) -> tuple[Anchored]:
        """The gradient before the windows, given the one behind them."""
        del used
        flat, shape = gradient.flattened(), self.choice.layer.shape
        anchored = _is_anchored(flat)
        if anchored and bool(self.choice.rival.any()):
            whole = flat.whole
            return (_apart(self.choice.pulled(whole, 0, whole.symbols)).reshaped(*shape),)
        away = self.choice.pulled(flat.away, 0, flat.away.symbols)
        if not anchored:
            return (_beside(away).reshaped(*shape),)
        windows, span = self.choice.layer.windows, len(flat.anchor)

        def handed(one: Tensor, x: Tensor) -> Tensor:
            found = x.new_zeros((len(x), away.error.shape[1]))
            return found.scatter_add_(1, self.choice.winner.repeat(len(x) // span, 1), one * x)

        # As many windows may be won by one input as they have places.
        anchors = precise_products(
            handed, flat.anchor.new_ones(1), flat.anchor, windows.shape[1], shared=True
        )
        return (moved(anchors, away).reshaped(*shape),)


@dataclass(frozen=True, eq=False)
class ProductSlopes:
    """Both factors of a product, ``(B, *shape)``."""

    monomials: Monomials
    layer: AbstractProduct
    factors: tuple[Anchored, Anchored]

    @property
    def doubts(self) -> Tensor:
        """``(B,)`` none, see `Slopes`."""
        return _none(self.factors[0])

    def take(self, chosen: Tensor) -> ProductSlopes:
        """Those of some boxes."""
        first, second = (forms.take(chosen) for forms in self.factors)
        return replace(self, factors=(first, second))

    @property
    def plain(self) -> ProductSlopes:
        """The same without anchors."""
        first, second = (_plain(own) for own in self.factors)
        return replace(self, factors=(first, second))

    def pulled(self, gradient: Anchored, used: int) -> tuple[Anchored, ...]:
        """The gradients at both factors, given the one at the product."""
        del used
        layer, (a, b) = self.layer, self.factors
        terms = layer.terms(a.away.shape, b.away.shape)
        axes = layer.axes if isinstance(layer, Multiply) else ()
        times = (lambda g, own: layer.second(own, g), layer.stretch)
        own = 1 if isinstance(layer, Multiply) else terms
        m = self.monomials
        return (
            _product(m, (layer.first, layer.stretch), gradient, b, terms, own),
            _product(m, times, gradient, a, terms, own, axes),
        )


@dataclass(frozen=True, eq=False)
class SoftmaxSlopes:
    """Probabilities of a softmax, ``(B, *shape)``."""

    monomials: Monomials
    shares: Anchored

    @property
    def doubts(self) -> Tensor:
        """``(B,)`` none, see `Slopes`."""
        return _none(self.shares)

    def take(self, chosen: Tensor) -> SoftmaxSlopes:
        """Those of some boxes."""
        return replace(self, shares=self.shares.take(chosen))

    @property
    def plain(self) -> SoftmaxSlopes:
        """The same without anchors."""
        return replace(self, shares=_plain(self.shares))

    def pulled(self, gradient: Anchored, used: int) -> tuple[Anchored]:
        """As `joint.Shares`: ``p (g - <p, g>)``, and what is made of errors."""
        del used
        m, p, errors = self.monomials, self.shares, gradient.away
        level = _levelled(_without_errors(gradient))
        made = _product(m, UNITS, _less(level, _summed(m, level, p)), p, 1)
        most, share = p.whole.most, 1 + share_of(errors.error)
        error = most * (errors.error + summed(most * errors.error)) * share
        return (_loosened(made, error, errors.errors * eigenvalue(most)),)


@dataclass(frozen=True, eq=False)
class NormSlopes:
    """A norm: its values ``(B, *shape)`` and its scales, one for each last axis."""

    monomials: Monomials
    layer: Normalise
    values: Anchored
    scales: Anchored

    @property
    def doubts(self) -> Tensor:
        """``(B,)`` none, see `Slopes`."""
        return _none(self.values)

    def take(self, chosen: Tensor) -> NormSlopes:
        """Those of some boxes."""
        return replace(self, values=self.values.take(chosen), scales=self.scales.take(chosen))

    @property
    def plain(self) -> NormSlopes:
        """The same without anchors."""
        return replace(self, values=_plain(self.values), scales=_plain(self.scales))

    def pulled(self, gradient: Anchored, used: int) -> tuple[Anchored]:
        """As `joint.Scales`: ``r (g - mean(g) - y mean(y g))``, and what is made of errors."""
        del used
        m, y, r = self.monomials, self.values, self.scales
        known = _without_errors(gradient)
        along = _summed(m, known, y, mean=True)
        level = _levelled(known) if self.layer.centred else known
        made = _product(m, SPREAD, _less(level, _product(m, SPREAD, y, along, 1)), r, 1)
        most = r.whole.most * (1 + ROUNDING)
        return (_loosened(made, *contracted(self.layer, gradient.away, y.whole.most, most)),)


PolynomialSlopes: TypeAlias = Slopes | Winners | ProductSlopes | SoftmaxSlopes | NormSlopes


class AbstractBehind(ABC):
    """What follows the errors of gradients on their way back: see `block_growth`."""

    @abstractmethod
    def arrived(self, index: int, gradient: Anchored, slopes: PolynomialSlopes | None) -> Anchored:
        """What is known of the gradient at a node, of which nothing more comes; slopes: of its layer."""

    @abstractmethod
    def ended(self, index: int, gradient: Anchored) -> Anchored:
        """The same at the node where gradients are asked for."""


def pulled_back(
    graph: Graph,
    slopes: Mapping[int, PolynomialSlopes],
    seed: Forms,
    to: int,
    deadline: Deadline,
    precise: bool = True,
    behind: AbstractBehind | None = None,
) -> Forms:
    """Forms ``(B, *shape)`` of the gradient of ``<seed, logits>`` at the output of node `to`.

    See `Bounds.pull_back`. precise: to twice the precision. behind: what else is known of errors.

    Raises Expired where the deadline passes on the way.
    """
    used, downstream = seed.symbols, graph.downstream_of(to)
    pending: dict[int, Anchored] = {graph.last: _apart(seed) if precise else _beside(seed)}
    if not precise:
        slopes = {index: own.plain for index, own in slopes.items()}
    for index in range(graph.last, to, -1):
        gradient = pending.pop(index, None)
        if gradient is None:
            continue
        deadline.ask()
        if behind is not None:
            gradient = behind.arrived(index, gradient, slopes.get(index))
        for source, part in _parts(graph, index, slopes, gradient, downstream, used):
            pending[source] = _sum(pending[source], part) if source in pending else part
            used = max(used, part.away.symbols)
    if to in pending:
        gradient = pending[to] if behind is None else behind.ended(to, pending[to])
        return gradient.whole.undivided().reshaped(*graph.nodes[to].shape)
    return Forms.exact(seed.error.new_zeros((len(seed.error), *graph.nodes[to].shape)), seed.count)


def _parts(
    graph: Graph,
    index: int,
    slopes: Mapping[int, PolynomialSlopes],
    gradient: Anchored,
    wanted: frozenset[int],
    used: int,
) -> list[tuple[int, Anchored]]:
    """The gradients that come to the wanted ones of a node's inputs, and which these are."""
    node = graph.nodes[index]
    inputs = [k for k, source in enumerate(node.inputs) if source in wanted]
    if not isinstance(node.layer, AbstractAffine):
        found = slopes[index].pulled(gradient, used)
        return [(node.inputs[k], found[k]) for k in inputs]
    norm = 1.0 if isinstance(node.layer, Add) else graph.norm(index)
    return [(node.inputs[k], _transposed(graph, index, gradient, k, norm)) for k in inputs]


def _transposed(graph: Graph, index: int, gradient: Anchored, source: int, norm: float | None) -> Anchored:
    """The part of a gradient that goes to one input of an affine node, which this norm is of."""
    layer = graph.nodes[index].layer
    assert isinstance(layer, AbstractAffine)
    shapes = tuple(graph.nodes[own].shape for own in graph.nodes[index].inputs)
    away = gradient.away.linear(
        lambda g: transpose_of(layer, g, shapes)[source],
        lambda g: layer.absolute.transpose(g, shapes)[source],
        layer.terms,
        norm=norm,
    )
    if not _is_anchored(gradient):
        return _beside(away)
    return moved(precise_transpose(layer, gradient.anchor, shapes, source), away)


# -- known numbers, and what is beside them


def _is_anchored(*numbers: Anchored) -> bool:
    """Whether any of them has an anchor other than 0: what comes of no anchors has none."""
    return any(bool(own.anchor.any()) for own in numbers)


def _beside(forms: Forms) -> Anchored:
    """Forms beside nothing."""
    return Anchored(torch.zeros_like(forms.error), forms)


def _plain(x: Anchored) -> Anchored:
    """The same without an anchor."""
    return _beside(x.whole)


def _apart(forms: Forms) -> Anchored:
    """The centres as anchors."""
    rows = forms.rows.clone()
    rows[:, 0] = 0.0
    return Anchored(forms.centre, replace(forms, rows=rows))


def _sum(a: Anchored, b: Anchored) -> Anchored:
    if not _is_anchored(a, b):
        return _beside(a.away + b.away)
    return moved(Precise.exact(a.anchor) + Precise.exact(b.anchor), a.away + b.away)


def _less(a: Anchored, b: Anchored) -> Anchored:
    """a less b, which may have one entry for all of a along the last axis."""
    anchor, away = b.anchor.expand_as(a.anchor), b.away
    if away.shape != a.away.shape:
        size = a.away.shape[-1]

        def repeated(x: Tensor) -> Tensor:
            return x.expand(*x.shape[:-1], size)

        away = away.linear(repeated, repeated, 1, norm=root_of(size))
    if not _is_anchored(a, b):
        return _beside(a.away + -away)
    return moved(Precise.exact(a.anchor) + Precise.exact(-anchor), a.away + -away)


def _product(
    m: Monomials,
    times: Times,
    a: Anchored,
    b: Anchored,
    terms: int,
    own: int = 1,
    axes: tuple[int, ...] = (),
) -> Anchored:
    """The product, of which one factor has no symbols; own, axes: see `precise_along`."""
    if not _is_anchored(a, b):
        return _beside(multiplied(m, times, a.away, b.away, terms))
    away = differences(m, times, a, b, terms)
    return moved(precise_along(times[0], a.anchor, b.anchor, own, axes), away)


def _summed(m: Monomials, a: Anchored, b: Anchored, mean: bool = False) -> Anchored:
    """Sums, or means, of products along the last axis, which keeps one entry."""
    size, anchored = a.away.shape[-1], _is_anchored(a, b)
    if anchored:
        away = differences(m, ADDED, a, b, terms_of(size))
    else:
        away = multiplied(m, ADDED, a.away, b.away, terms_of(size))
    if mean:
        away = away.scaled(away.error.new_full((), 1 / size).expand(away.shape))
    if not anchored:
        return _beside(away)
    products = precise_along(UNITS[0], a.anchor, b.anchor, 1, ())
    return moved(mean_of(products) if mean else products.total(-1), away)


def _levelled(x: Anchored) -> Anchored:
    if not _is_anchored(x):
        return _beside(levelled(x.away))
    return anchored_level(x)


def _without_errors(x: Anchored) -> Anchored:
    return replace(x, away=x.away.without_errors())


def _loosened(x: Anchored, amount: Tensor, length: Tensor) -> Anchored:
    return replace(x, away=x.away.loosened(amount, length))


def settled(m: Monomials, x: Anchored) -> Anchored:
    """A factor of gradients: its drift is beside the anchor, and symbols beside the monomials are errors."""
    return Anchored(x.anchor, without_strays(m, x.change).undivided())


def turned_level(v: Anchored) -> Anchored:
    """Values that are mixed, less their mean over all of them."""
    return _turned(anchored_level(_turned(v)))


def _turned(x: Anchored) -> Anchored:
    """With the last two axes exchanged."""
    return Anchored(x.anchor.mT, turned(x.away), None if x.drift is None else x.drift.mT)


def _none(x: Anchored) -> Tensor:
    return torch.zeros(len(x.anchor), dtype=torch.int64, device=x.anchor.device)
