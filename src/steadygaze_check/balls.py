"""Values of the network at points, each with a bound of how far it may be off.

The bounds serve two purposes at once. At a point θ they enclose the exact value. At a vertex of a cell they
enclose
the value there of the affine function that the network is inside the cell, although at a vertex many units
are
within rounding of 0 and the cells around it take them for different signs: a unit is *close* where it may be
of
either sign, and what its choice makes out is added to the bound. docs/checker.md has the proof.

For each row a bound of the Euclidean norm of all errors at once is carried through (`spread`), and per-entry
bounds are sums of few products of a number for each entry and a number for each row: no second matrix
product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from steadygaze_check.dyadic import Dyadic
from steadygaze_check.network import (
    UNIT,
    UP,
    AbstractLinear,
    Clip,
    Dense,
    Diagonal,
    Join,
    Largest,
    Rectifier,
    Select,
    Sum,
    gamma,
    norm,
    norms,
    spectral_bound,
)
from steadygaze_check.onnx_reader import Network

# Products of doubles may fall below the smallest normal number: each is then off by less than this.
_TINY = 1e-300
# How close to 0, beside its terms, a unit may be on the wrong side of the hinge that a vertex lies on.
# Soundness
# does not depend on it: a smaller one would have fewer cells certified.
_CLOSE = 2.0**-34

Terms = list[tuple[np.ndarray, np.ndarray]]
# A bound of the norm of the errors in some of the columns of each row; None for all columns.
Spread = Callable[[np.ndarray | None], np.ndarray]


@dataclass(frozen=True, eq=False)
class Ball:
    """Rows of values with bounds of their errors.

    Attributes:
        value: ``(B, N)``; of the given columns only, where there are any.
        terms: pairs of ``(N,)`` and ``(B,)`` whose products add up to a bound of the error of each entry.
        spread: gives ``(B,)``, bounds of the Euclidean norm of the errors of a row.
        extent: like terms, adding up to about the size of what was summed to make an entry.
        columns: numbers of the entries that are not exactly 0 in all rows; None if nothing is known of them.
    """

    value: np.ndarray
    terms: Terms
    spread: Spread
    extent: Terms
    columns: np.ndarray | None = None
    entries: int = 0

    @cached_property
    def norm(self) -> np.ndarray:
        """At least the Euclidean norm of each row."""
        return norms(self.value)

    def full(self) -> Ball:
        """The same with all its columns."""
        if self.columns is None:
            return self

        def spread_out(of: np.ndarray) -> np.ndarray:
            out = np.zeros((*of.shape[:-1], self.entries))
            out[..., self.columns] = of
            return out

        terms, extent = (
            [(spread_out(entry), row) for entry, row in part] for part in (self.terms, self.extent)
        )
        everything = self.spread(None)
        return Ball(spread_out(self.value), terms, lambda _: everything, extent)


@dataclass(frozen=True, eq=False)
class Hinges:
    """Functions, affine inside a cell, whose signs make out the pattern.

    Attributes:
        node: number of the node, or -1 for class gaps.
        fixed: ``(N,)`` the sign of those that have it at all points for certain; 0 for the others.
        columns: numbers of the others. The arrays below have a column for each of them.
        value, radius: ``(B, k)``, the functions and the bounds of their errors.
        close: ``(B, k)``, whether either sign is allowed.
        level: ``(k,)`` whether a function is exactly 0 everywhere.
    """

    node: int
    fixed: np.ndarray
    columns: np.ndarray
    value: np.ndarray
    radius: np.ndarray
    close: np.ndarray
    level: np.ndarray


@dataclass(frozen=True, eq=False)
class Form:
    """A node that is affine in θ: ``base + θ slopes``, each entry rounded once from the exact numbers.

    level: entries that are exactly 0 for every θ. same: equal numbers for entries that are exactly equal.
    """

    base: np.ndarray
    slopes: np.ndarray
    level: np.ndarray
    same: np.ndarray

    def at(self, theta: np.ndarray, reach: np.ndarray) -> Ball:
        """Values at theta ``(B, n)``, all within ``|theta| <= reach`` (n,)."""
        size = np.abs(self.base) + reach @ np.abs(self.slopes)
        error = np.where(self.level, 0.0, (len(reach) + 4) * UNIT * UP * size + _TINY)
        ones = np.ones(len(theta))

        def spread(columns: np.ndarray | None) -> np.ndarray:
            return ones * norm(error if columns is None else error[columns])

        return Ball(self.base + theta @ self.slopes, [(error, ones)], spread, [(size, ones)])


def forms_of(network: Network, base: np.ndarray, directions: np.ndarray) -> dict[int, Form]:
    """The nodes that are affine in θ and are read by one that is not, by number.

    The image is ``base + θ directions``; all products are exact (`dyadic`), so that nothing is lost before
    the
    first unit.
    """
    start = np.concatenate([base.reshape(1, -1), directions.reshape(len(directions), -1)])
    constant = np.array([1] + [0] * len(directions), dtype=object)
    exact: dict[int, Dyadic] = {0: Dyadic.of(start)}
    for number, node in enumerate(network.nodes):
        if number and all(each in exact for each in node.inputs):
            made = exact_linear(node.operation, [exact[each] for each in node.inputs], constant)
            if made is not None:
                exact[number] = made
    read = {each for k, node in enumerate(network.nodes) if k not in exact for each in node.inputs}
    return {number: _rounded(exact[number]) for number in (read | {network.last}) & set(exact)}


def exact_linear(operation: object, inputs: list[Dyadic], constant: np.ndarray) -> Dyadic | None:
    """What an operation makes of exact rows; None where it is not linear."""
    if isinstance(operation, AbstractLinear):
        return operation.exact(inputs[0], constant)
    if isinstance(operation, Sum):
        return inputs[0] + inputs[1]
    if isinstance(operation, Join):
        exponent = min(each.exponent for each in inputs)
        return Dyadic(
            np.concatenate([each.at(exponent) for each in inputs], axis=1)[:, operation.order], exponent
        )
    return None


def _rounded(exact: Dyadic) -> Form:
    rounded = exact.rounded()
    numbers: dict[tuple[int, ...], int] = {}
    columns = [tuple(column) for column in exact.whole.T.tolist()]
    same = np.array([numbers.setdefault(column, len(numbers)) for column in columns])
    level = np.array([not any(column) for column in columns])
    return Form(rounded[0], rounded[1:], level, same)


def forward(
    network: Network, forms: dict[int, Form], theta: np.ndarray, reach: np.ndarray
) -> tuple[dict[int, Ball], list[Hinges]]:
    """Balls at the nodes that are still wanted, and the hinges of all units in order, at theta ``(B, n)``."""
    balls = {number: form.at(theta, reach) for number, form in forms.items()}
    hinges: list[Hinges] = []
    last_use = {each: k for k, node in enumerate(network.nodes) for each in node.inputs} | {
        network.last: 1 << 62
    }
    for number, node in enumerate(network.nodes):
        operation = node.operation
        if number in balls or not node.inputs or any(each not in balls for each in node.inputs):
            continue
        inputs = [balls[each] for each in node.inputs]
        if isinstance(operation, AbstractLinear):
            made = _linear(operation, inputs[0])
        elif isinstance(operation, Sum):
            made = _sum(*(each.full() for each in inputs))
        elif isinstance(operation, Join):
            made = _joined(operation, [each.full() for each in inputs])
        else:
            form = forms.get(node.inputs[0])
            level = np.zeros(network.nodes[node.inputs[0]].entries, bool) if form is None else form.level
            made, hinge = _unit(operation, number, inputs[0].full(), level)
            hinges.append(hinge)
        balls[number] = made
        for each in node.inputs:
            if last_use[each] == number:
                balls.pop(each, None)
    return balls, hinges


def class_gaps(logits: Ball, label: int) -> Hinges:
    """f_c - f_j for the other classes j, in order."""
    others = np.array([k for k in range(logits.value.shape[1]) if k != label], int)
    value = logits.value[:, [label]] - logits.value[:, others]
    terms = [(reach[label] + reach[others], row) for reach, row in logits.terms]
    radius = _summed(terms, value.shape) + UNIT * UP * np.abs(value)
    extent = _summed([(reach[label] + reach[others], row) for reach, row in logits.extent], value.shape)
    close = np.abs(value) <= radius + _CLOSE * extent
    fixed = np.zeros(len(others), np.int8)
    return Hinges(-1, fixed, np.arange(len(others)), value, radius, close, np.zeros(len(others), bool))


def _summed(terms: Terms, shape: tuple[int, ...], columns: np.ndarray | slice = slice(None)) -> np.ndarray:
    """What terms add up to, in some of the columns."""
    total = np.zeros(shape)
    for entry, row in terms:
        total += row[:, None] * entry[columns]
    total *= UP
    return total


def _most(terms: Terms) -> np.ndarray:
    """What terms add up to at most, in any row."""
    return sum(entry * row.max() for entry, row in terms) * UP  # type: ignore[return-value]


def _linear(operation: AbstractLinear, x: Ball) -> Ball:
    ones = np.ones(len(x.value))
    if isinstance(operation, Dense):
        return _dense(operation, x)
    x = x.full()
    value = operation.multiply(x.value, operation.weight) + operation.bias
    everything = x.spread(None)
    if isinstance(operation, Select):
        kept = operation.index >= 0
        terms, extent = (
            [(np.where(kept, e[operation.index], 0.0), row) for e, row in t] for t in (x.terms, x.extent)
        )
        return Ball(value, terms, lambda _: everything * operation.lift, extent)
    error = gamma(operation.terms)
    size, own = np.abs(operation.bias), error * norm(operation.bias)
    spread = (operation.lift * everything + error * operation.size * x.norm + own + _TINY * len(size)) * UP
    extent = [(operation.reach, x.norm), (size, ones)]
    if isinstance(operation, Diagonal):
        terms = [(operation.reach * e, row) for e, row in x.terms] + [
            (error * e + _TINY, row) for e, row in extent
        ]
    else:
        terms = [(operation.reach, everything + error * x.norm), (error * size + _TINY, ones)]
    return Ball(value, terms, lambda _: spread, extent)


def _dense(operation: Dense, x: Ball) -> Ball:
    """A matrix, of which only the columns are read that meet something else than 0."""
    matrix = operation.matrix if x.columns is None else operation.matrix[:, x.columns]
    ones, everything = np.ones(len(x.value)), x.spread(None)
    reach, error, size = norms(matrix), gamma(matrix.shape[1]), np.abs(operation.bias)

    def spread(columns: np.ndarray | None) -> np.ndarray:
        part, bias = (matrix, size) if columns is None else (matrix[columns], size[columns])
        own = error * (spectral_bound(np.abs(part)) * x.norm + norm(bias)) + _TINY * len(bias)
        return (spectral_bound(part) * everything + own) * UP

    terms = [(reach, everything + error * x.norm), (error * size + _TINY, ones)]
    return Ball(x.value @ matrix.T + operation.bias, terms, spread, [(reach, x.norm), (size, ones)])


def _sum(x: Ball, y: Ball) -> Ball:
    value = x.value + y.value
    norm = x.norm + y.norm
    spread = (x.spread(None) + y.spread(None) + UNIT * norm) * UP
    terms = [*x.terms, *y.terms, (np.ones(value.shape[1]), UNIT * UP * norm)]
    return Ball(value, terms, lambda _: spread, [*x.extent, *y.extent])


def _joined(operation: Join, parts: list[Ball]) -> Ball:
    value = np.concatenate([part.value for part in parts], axis=1)[:, operation.order]
    starts = np.cumsum([0, *(part.value.shape[1] for part in parts)])

    def placed(terms: Terms, start: int) -> Terms:
        spots = [np.zeros(starts[-1]) for _ in terms]
        for spot, (entry, _) in zip(spots, terms, strict=True):
            spot[start : start + len(entry)] = entry
        return [(spot[operation.order], row) for spot, (_, row) in zip(spots, terms, strict=True)]

    terms = [t for part, start in zip(parts, starts, strict=False) for t in placed(part.terms, start)]
    extent = [t for part, start in zip(parts, starts, strict=False) for t in placed(part.extent, start)]
    spread = sum(part.spread(None) for part in parts) * UP
    return Ball(value, terms, lambda _: spread, extent)


def _unit(operation: object, number: int, x: Ball, level: np.ndarray) -> tuple[Ball, Hinges]:
    if isinstance(operation, Rectifier):
        return _rectified(operation, number, x, level)
    if isinstance(operation, Clip):
        return _clipped(operation, number, x)
    assert isinstance(operation, Largest)
    return _largest(operation, number, x)


def _after(
    value: np.ndarray, x: Ball, factor: np.ndarray, doubt: np.ndarray, columns: np.ndarray | None
) -> Ball:
    """What a unit hands on, of some columns.

    Errors are multiplied by at most `factor`; `doubt` ``(B, k)`` is what either side makes out, in whichever
    columns; each value may have been rounded once more.
    """
    own = norms(doubt) + UNIT * norms(value)
    spread = (x.spread(columns) * float(factor.max(initial=0.0)) + own * UP) * UP
    most = doubt.max(axis=1, initial=0.0) + UNIT * UP * np.abs(value).max(axis=1, initial=0.0)
    every = slice(None) if columns is None else columns
    terms = [(entry[every] * factor, row) for entry, row in x.terms] + [(np.ones(value.shape[1]), most)]
    extent = [(entry[every], row) for entry, row in x.extent]
    return Ball(value, terms, lambda _: spread, extent, columns, x.value.shape[1])


def _rectified(operation: Rectifier, number: int, x: Ball, level: np.ndarray) -> tuple[Ball, Hinges]:
    """|s z - s' z'| <= max(|s|, |s'|) |z - z'| + |s - s'| |z'| where the sides s, s' differ."""
    margin = _most(x.terms) + _CLOSE * _most(x.extent)
    below, above = x.value.max(axis=0) < -margin, x.value.min(axis=0) > margin
    fixed = above.astype(np.int8) - below.astype(np.int8)
    mixed = np.flatnonzero(fixed == 0)
    own = x.value[:, mixed]
    radius, extent = (_summed(terms, own.shape, mixed) for terms in (x.terms, x.extent))
    close = np.abs(own) <= radius + _CLOSE * extent
    doubt = np.where(close, np.abs(own) * np.abs(1.0 - operation.slope[mixed]) * UP, 0.0)
    hinges = Hinges(number, fixed, mixed, own, radius, close, level[mixed])
    if operation.slope.any():
        value = np.where(x.value > 0, x.value, operation.slope * x.value)
        return _after(value, x, np.maximum(1.0, np.abs(operation.slope)), doubt, None), hinges
    alive = ~below
    alive[mixed[level[mixed]]] = False
    columns = np.flatnonzero(alive)
    return _after(np.maximum(x.value[:, columns], 0.0), x, np.ones(len(columns)), doubt, columns), hinges


def _clipped(operation: Clip, number: int, x: Ball) -> tuple[Ball, Hinges]:
    """Two hinges for each entry: above `low`, and above `high`."""
    bound = np.repeat([operation.low, operation.high], x.value.shape[1])
    margin = np.tile(_most(x.terms) + 2 * _CLOSE * _most(x.extent), 2) + 2 * _CLOSE * np.abs(bound)
    most, least = np.tile(x.value.max(axis=0), 2) - bound, np.tile(x.value.min(axis=0), 2) - bound
    fixed = (least > margin).astype(np.int8) - (most < -margin).astype(np.int8)
    mixed = np.flatnonzero(fixed == 0)
    source = mixed % x.value.shape[1]
    value = x.value[:, source] - bound[mixed]
    radius = _summed(x.terms, value.shape, source) + UNIT * UP * np.abs(value)
    extent = _summed(x.extent, value.shape, source) + np.abs(bound[mixed])
    close = np.abs(value) <= radius + _CLOSE * extent
    doubt = np.where(close, np.abs(value) * UP, 0.0)
    made = _after(np.clip(x.value, operation.low, operation.high), x, np.ones(x.value.shape[1]), doubt, None)
    return made, Hinges(number, fixed, mixed, value, radius, close, np.zeros(len(mixed), bool))


def _largest(operation: Largest, number: int, x: Ball) -> tuple[Ball, Hinges]:
    """Hinges here are entry - largest: close where the entry may be the largest, and negative elsewhere."""
    shape = x.value.shape
    windows = x.value.reshape(len(x.value), -1, operation.width)
    most = windows.max(axis=2, keepdims=True)
    behind = windows - most
    radius = _summed(x.terms, shape).reshape(windows.shape)
    radius = radius + radius.max(axis=2, keepdims=True)
    extent = _summed(x.extent, shape).reshape(windows.shape).max(axis=2, keepdims=True)
    close = behind >= -(radius + _CLOSE * extent + UNIT * UP * np.abs(behind))
    doubt = np.where(close, -behind, 0.0).max(axis=2) * UP
    terms, wide = (
        [(e.reshape(-1, operation.width).max(axis=1), row) for e, row in part] for part in (x.terms, x.extent)
    )
    everything = x.spread(None)
    made = _after(
        most[:, :, 0],
        Ball(most[:, :, 0], terms, lambda _: everything, wide),
        np.ones(most.shape[1]),
        doubt,
        None,
    )
    none = np.zeros(shape[1], bool)
    every = np.arange(shape[1])
    return made, Hinges(
        number,
        none.astype(np.int8),
        every,
        behind.reshape(shape),
        radius.reshape(shape),
        close.reshape(shape),
        none,
    )
