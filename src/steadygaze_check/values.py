"""Values of the network at points, each with a bound of how far it may be off.

The bounds serve two purposes at once. At a point θ they enclose the exact value. At a vertex of a cell they
enclose the value there of the affine function that the network is inside the cell, although at a vertex many
units are within rounding of 0: a unit is *close* where it may be of either sign, and what its choice makes
out is added to the bound. docs/checker.md has the proof.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from steadygaze_check.arithmetic import TINY, UNIT, UP, Dyadic, gamma, norm, norms, spectral_bound
from steadygaze_check.network import Affine, Largest, Network, Rectifier, Sum

# How close to 0, in terms of the largest number of its node, a unit may be on the wrong side of the hinge
# that a vertex lies on. Soundness does not depend on it: a smaller one would have fewer cells certified.
_CLOSE = 2.0**-34


@dataclass(frozen=True, eq=False)
class Ball:
    """Rows of values with bounds of their errors.

    Attributes:
        value, radius: ``(B, N)``.
        spread: gives ``(B,)``, a bound of the norm of the errors of a row in some columns, or all for None.
        alive: numbers of the entries that are not exactly 0 in all rows; None if nothing is known of them.
    """

    value: np.ndarray
    radius: np.ndarray
    spread: Callable[[np.ndarray | None], np.ndarray]
    alive: np.ndarray | None = None

    @cached_property
    def norm(self) -> np.ndarray:
        """At least the Euclidean norm of each row."""
        return norms(self.value)


@dataclass(frozen=True, eq=False)
class Hinges:
    """Functions, affine inside a cell, whose signs make out the pattern of one node (-1 for class gaps).

    Attributes:
        above: ``(N,)``, whether one is above 0 for certain at all points.
        columns: numbers of those whose sign is not known everywhere; the arrays below have a column for each.
            For the largest of windows these have one for all, and `columns` are those that may win.
        value, radius: ``(B, k)``, the functions and the bounds of their errors.
        close: ``(B, k)``, whether either sign is allowed.
    """

    node: int
    above: np.ndarray
    columns: np.ndarray
    value: np.ndarray
    radius: np.ndarray
    close: np.ndarray


@dataclass(frozen=True, eq=False)
class Form:
    """A node that is affine in θ: ``base + θ slopes``, rounded once; `level` entries are 0 for every θ.

    first: for each entry, the number of the first one that is exactly the same function.
    """

    base: np.ndarray
    slopes: np.ndarray
    level: np.ndarray
    first: np.ndarray

    def at(self, theta: np.ndarray, reach: np.ndarray) -> Ball:
        """Values at theta ``(B, n)``, all within ``|theta| <= reach`` (n,)."""
        size = np.abs(self.base) + reach @ np.abs(self.slopes)
        error = np.where(self.level, 0.0, (len(reach) + 4) * UNIT * UP * size + TINY)
        value = self.base + theta @ self.slopes
        every = np.broadcast_to(error, value.shape)
        return Ball(value, every, lambda c: np.full(len(value), norm(error if c is None else error[c])))


def forms_of(network: Network, base: np.ndarray, directions: np.ndarray) -> dict[int, Form]:
    """The nodes that are affine in θ and are read by one that is not, by number.

    The image is ``base + θ directions``; all products are exact, so that nothing is lost before the first
    unit.
    """
    start = np.concatenate([base.reshape(1, -1), directions.reshape(len(directions), -1)])
    constant = np.array([1] + [0] * len(directions), dtype=object)
    exact: dict[int, Dyadic] = {0: Dyadic.of(start)}
    for number, node in enumerate(network.nodes):
        if number and all(each in exact for each in node.inputs):
            made = exact_affine(node.operation, [exact[each] for each in node.inputs], constant)
            if made is not None:
                exact[number] = made
    read = {each for k, node in enumerate(network.nodes) if k not in exact for each in node.inputs}
    return {number: _rounded(exact[number]) for number in (read | {network.last}) & set(exact)}


def exact_affine(operation: object, inputs: list[Dyadic], constant: np.ndarray) -> Dyadic | None:
    """What an operation makes of exact rows; None where it is not affine."""
    if isinstance(operation, Affine):
        return operation.exact(inputs[0], constant)
    return inputs[0] + inputs[1] if isinstance(operation, Sum) else None


def _rounded(exact: Dyadic) -> Form:
    rounded, columns = exact.rounded(), [tuple(column) for column in exact.whole.T.tolist()]
    seen: dict[tuple[int, ...], int] = {}
    first = np.array([seen.setdefault(column, k) for k, column in enumerate(columns)])
    return Form(rounded[0], rounded[1:], np.array([not any(column) for column in columns]), first)


def forward(
    network: Network, forms: dict[int, Form], theta: np.ndarray, reach: np.ndarray
) -> tuple[Ball, list[Hinges]]:
    """The logits at theta ``(B, n)``, and the hinges of all units in order."""
    balls = {number: form.at(theta, reach) for number, form in forms.items()}
    hinges: list[Hinges] = []
    last_use = {each: k for k, node in enumerate(network.nodes) for each in node.inputs}
    for number, node in enumerate(network.nodes):
        ready = node.inputs and all(each in balls for each in node.inputs)
        if number in balls or number not in network.needed or not ready:
            continue
        operation, x = node.operation, balls[node.inputs[0]]
        if isinstance(operation, Affine):
            balls[number] = _affine(operation, x)
        elif isinstance(operation, Sum):
            balls[number] = _sum(x, balls[node.inputs[1]])
        elif isinstance(operation, Rectifier):
            form = forms.get(node.inputs[0])
            level = np.zeros(node.entries, bool) if form is None else form.level
            balls[number], hinge = _rectified(operation, number, x, level)
            hinges.append(hinge)
        elif isinstance(operation, Largest):
            form = forms.get(node.inputs[0])
            first = np.arange(x.value.shape[1]) if form is None else form.first
            balls[number], hinge = _largest(operation, number, x, first)
            hinges.append(hinge)
        for each in node.inputs:
            if last_use[each] == number and each != network.last:
                balls.pop(each, None)
    return balls[network.last], hinges


def class_gaps(logits: Ball, label: int) -> Hinges:
    """f_c - f_j for the other classes j, in order."""
    others = np.array([k for k in range(logits.value.shape[1]) if k != label], int)
    value = logits.value[:, [label]] - logits.value[:, others]
    radius = (logits.radius[:, [label]] + logits.radius[:, others] + UNIT * np.abs(value)) * UP
    close = np.abs(value) <= radius + _CLOSE * np.abs(logits.value).max()
    return Hinges(-1, np.zeros(len(others), bool), np.arange(len(others)), value, radius, close)


def _affine(operation: Affine, x: Ball) -> Ball:
    """Errors of the input go through entry by entry where rows of A are short, else by norms of rows."""
    bias, error = np.abs(operation.bias), gamma(operation.terms[0])
    everything = x.spread(None)
    if operation.matrix is not None:
        return _dense(operation.matrix, operation, x)
    value = operation.apply(x.value, operation.weight) + operation.bias
    if operation.entrywise is not None:
        radius = operation.entrywise(x.radius + error * np.abs(x.value)) + error * bias
    else:
        radius = (everything + error * x.norm)[:, None] * operation.reach + error * bias
    own = error * (operation.size * x.norm + norm(bias)) + TINY
    spread = (operation.lift * everything + own) * UP
    return Ball(value, radius * UP + TINY, lambda _: spread)


def _dense(whole: np.ndarray, operation: Affine, x: Ball) -> Ball:
    """A matrix, of which only the columns are read that meet something else than 0."""
    matrix, given = (whole, x.value) if x.alive is None else (whole[:, x.alive], x.value[:, x.alive])
    everything, error, size = x.spread(None), gamma(matrix.shape[1]), np.abs(operation.bias)

    def spread(columns: np.ndarray | None) -> np.ndarray:
        part, bias = (matrix, size) if columns is None else (matrix[columns], size[columns])
        own = error * (spectral_bound(np.abs(part)) * x.norm + norm(bias)) + TINY
        return (spectral_bound(part) * everything + own) * UP

    radius = (everything + error * x.norm)[:, None] * norms(matrix) + error * size
    return Ball(given @ matrix.T + operation.bias, radius * UP + TINY, spread)


def _sum(x: Ball, y: Ball) -> Ball:
    value = x.value + y.value
    spread = (x.spread(None) + y.spread(None) + UNIT * norms(value)) * UP
    return Ball(value, (x.radius + y.radius + UNIT * np.abs(value)) * UP, lambda _: spread)


def _rectified(operation: Rectifier, number: int, x: Ball, level: np.ndarray) -> tuple[Ball, Hinges]:
    """|s z - s' z'| <= max(|s|, |s'|) |z - z'| + |s - s'| |z'| where the sides s, s' differ."""
    slope, closeness = operation.slope, _CLOSE * np.abs(x.value).max(initial=0.0)
    above = (x.value > x.radius + closeness).all(axis=0)
    below = (x.value < -x.radius - closeness).all(axis=0) | level
    mixed = np.flatnonzero(~above & ~below)
    own, radius = x.value[:, mixed], x.radius[:, mixed]
    close = np.abs(own) <= radius + closeness
    doubt = np.where(close, np.abs(own) * np.abs(1.0 - slope[mixed]) * UP, 0.0)
    hinges = Hinges(number, above, mixed, own, radius, close)
    alive = None if slope.any() else np.flatnonzero(~below)
    factor = np.maximum(1.0, np.abs(slope))
    value = np.where(x.value > 0, x.value, slope * x.value)
    spread = (x.spread(alive) * float(factor.max()) + norms(doubt) + UNIT * norms(value)) * UP
    radius = x.radius * factor + UNIT * np.abs(value)
    radius[:, mixed] += doubt
    if alive is not None:
        value[:, below] = radius[:, below] = 0.0
    return Ball(value, radius * UP, lambda _: spread, alive), hinges


def _largest(operation: Largest, number: int, x: Ball, first: np.ndarray) -> tuple[Ball, Hinges]:
    """Hinges here are entry - largest: close where the entry may be the largest, and negative elsewhere.

    Of entries that are the same function, with the same number in `first`, the first of a window wins.
    """
    ids = first.reshape(-1, operation.width)
    again = [(ids[:, [k]] == ids[:, :k]).any(axis=1) for k in range(operation.width)]
    windows = x.value.reshape(len(x.value), -1, operation.width)
    own = x.radius.reshape(windows.shape)
    most, widest = windows.max(axis=2, keepdims=True), own.max(axis=2, keepdims=True)
    behind, radius = windows - most, own + widest
    closeness = _CLOSE * np.abs(x.value).max(initial=0.0)
    close = behind >= -(radius + closeness + UNIT * UP * np.abs(behind))
    doubt = np.where(close, -behind, 0.0).max(axis=2) * UP
    spread = (x.spread(None) + norms(doubt)) * UP
    made = Ball(most[:, :, 0], (widest[:, :, 0] + doubt) * UP, lambda _: spread)
    behind, radius, close = (each.reshape(x.value.shape) for each in (behind, radius, close))
    columns = np.flatnonzero(~np.stack(again, axis=1).ravel())
    return made, Hinges(number, np.zeros(len(first), bool), columns, behind, radius, close)
