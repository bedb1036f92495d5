"""Saliency maps on activation patterns, and how far they are from the expected map, with error bounds."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from steadygaze_check.balls import exact_linear
from steadygaze_check.dyadic import Dyadic
from steadygaze_check.folder import Certificate
from steadygaze_check.network import (
    SMALL,
    UNIT,
    UP,
    AbstractLinear,
    Clip,
    Dense,
    Join,
    Largest,
    Rectifier,
    Select,
    Sum,
    gamma,
    norms,
    spectral_bound,
)
from steadygaze_check.onnx_reader import Network

# What products that fall below the smallest double may be off, a whole row of them together.
_TINY = 1e-280
MOST = 2.0  # what the inconsistencies of the format can be at most


@dataclass(frozen=True, eq=False)
class Side:
    """The sides that the units of one node are on, for each of R patterns.

    Attributes:
        choice: ``(R, N)`` bool, above the hinge (Rectifier) or between the bounds (Clip); for Largest the
        position
            ``(R, windows)`` of the winner.
        open: of the same shape, whether the side is not known.
    """

    choice: np.ndarray
    open: np.ndarray

    def take(self, rows: np.ndarray) -> Side:
        """Some of the patterns."""
        return Side(self.choice[rows], self.open[rows])


Pattern = dict[int, Side]


def gradients(network: Network, label: int, pattern: Pattern, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Gradients ``(R, P)`` of f_label with respect to the pixels, and bounds ``(R,)`` of their errors' norms.

    Where a side is open, all that either would make is within the bound.
    """
    seed = np.zeros((rows, network.nodes[network.last].entries))
    seed[:, label] = 1.0
    found: dict[int, _Back] = {network.last: _Back(seed, np.zeros(rows))}
    for number in range(len(network.nodes) - 1, network.pixels, -1):
        if number not in found:
            continue
        node, back = network.nodes[number], found.pop(number)
        if isinstance(node.operation, Join):
            whole = np.zeros((rows, node.entries))
            whole[:, node.operation.order] = back.value
            cuts = np.cumsum([network.nodes[each].entries for each in node.inputs])[:-1]
            parts = [_Back(part, back.spread) for part in np.split(whole, cuts, axis=1)]
        elif isinstance(node.operation, Sum):
            parts = [back, back]
        elif isinstance(node.operation, Dense):
            parts = [_dense_back(node.operation, back, _passing(network, node.inputs[0], pattern))]
        elif isinstance(node.operation, AbstractLinear):
            operation = node.operation
            kept = back.value[:, operation.index >= 0] if isinstance(operation, Select) else back.value
            length = norms(kept)
            own = gamma(operation.backward_terms) * operation.size * length + np.where(length > 0, _TINY, 0.0)
            parts = [_Back(operation.pull_back(back.value), (operation.lift * back.spread + own) * UP)]
        else:
            value, spread = _through(node.operation, pattern[number], back.value, back.spread)
            parts = [_Back(value, spread, _passing(network, number, pattern))]
        for each, part in zip(node.inputs, parts, strict=True):
            found[each] = part if each not in found else _added(found[each], part)
    last = found.get(network.pixels)
    if last is None:
        return np.zeros((rows, network.nodes[network.pixels].entries)), np.zeros(rows)
    return last.value, last.spread


@dataclass(frozen=True, eq=False)
class _Back:
    """Gradients at a node ``(R, N)``, bounds of their errors' norms, and which entries are not exactly 0."""

    value: np.ndarray
    spread: np.ndarray
    support: np.ndarray | None = None


def _added(one: _Back, two: _Back) -> _Back:
    value = one.value + two.value
    return _Back(value, (one.spread + two.spread + UNIT * norms(value)) * UP)


def _passing(network: Network, node: int, pattern: Pattern) -> np.ndarray | None:
    """Numbers of the rectified units of a node that are above 0, or may be, in some pattern; None for all."""
    operation = network.nodes[node].operation
    if not isinstance(operation, Rectifier) or operation.slope.any() or node not in pattern:
        return None
    return np.flatnonzero(pattern[node].choice.any(axis=0) | pattern[node].open.any(axis=0))


def _dense_back(operation: Dense, back: _Back, columns: np.ndarray | None) -> _Back:
    """The gradient before a matrix, but for entries where the rectifier there lets nothing past."""
    matrix = operation.matrix if back.support is None else operation.matrix[back.support]
    matrix = matrix if columns is None else matrix[:, columns]
    g = back.value if back.support is None else back.value[:, back.support]
    length = norms(g)
    own = gamma(len(matrix)) * spectral_bound(np.abs(matrix)) * length + np.where(length > 0, _TINY, 0.0)
    own[(np.abs(g).sum(axis=1) == 1) & ((g != 0).sum(axis=1) == 1)] = 0.0  # one row of the matrix, as it is
    spread = (spectral_bound(matrix) * back.spread + own) * UP
    if columns is None:
        return _Back(g @ matrix, spread)
    whole = np.zeros((len(g), operation.matrix.shape[1]))
    whole[:, columns] = g @ matrix
    return _Back(whole, spread)


def _through(
    operation: object, side: Side, g: np.ndarray, spread: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The gradient before a unit."""
    if isinstance(operation, Rectifier):
        if not operation.slope.any():
            value, factor, doubt = np.where(side.choice, g, 0.0), 1.0, np.where(side.open, g, 0.0)
            passes = side.choice.any(axis=1) | side.open.any(axis=1)  # where nothing does, nothing is left
            return value, np.where(passes, (spread + norms(doubt)) * UP, 0.0)
        value = np.where(side.choice, g, operation.slope * g)
        factor = float(np.maximum(1.0, np.abs(operation.slope)).max())
        doubt = np.where(side.open, np.abs(g * (1.0 - operation.slope)), 0.0)
        return value, (spread * factor + norms(doubt) + 2 * UNIT * norms(value)) * UP
    if isinstance(operation, Clip):
        return np.where(side.choice, g, 0.0), (spread + norms(np.where(side.open, g, 0.0))) * UP
    assert isinstance(operation, Largest)
    value = np.zeros((*g.shape, operation.width))
    np.put_along_axis(value, side.choice[:, :, None], g[:, :, None], axis=2)
    doubt = np.where(side.open, g, 0.0)
    return value.reshape(len(g), -1), (spread + 1.5 * norms(doubt)) * UP


def exact_point(
    network: Network, certificate: Certificate, piece: int, theta: np.ndarray
) -> tuple[list[Fraction], Pattern]:
    """Logits at θ and the pattern there by exact arithmetic; at 0 a unit counts as below."""
    size = network.nodes[0].entries
    start = Dyadic.of(certificate.piece_base[piece].reshape(1, size))
    slopes = Dyadic.of(certificate.piece_directions[piece].reshape(len(theta), size))
    for each, weight in enumerate(theta):
        start = start + Dyadic(slopes.whole[each : each + 1], slopes.exponent) * Dyadic.of(
            np.array([[weight]])
        )
    values, pattern = {0: start}, {}
    for number, node in enumerate(network.nodes):
        if not number:
            continue
        x = values[node.inputs[0]]
        inputs = [values[each] for each in node.inputs]
        made = exact_linear(node.operation, inputs, np.array([1], dtype=object))
        if made is None:
            made, pattern[number] = _exact_unit(node.operation, x)
        values[number] = made
    last = values[network.last]
    return [last.fraction(0, k) for k in range(network.nodes[network.last].entries)], pattern


def _exact_unit(operation: object, x: Dyadic) -> tuple[Dyadic, Side]:
    """A unit's value and side; the derivative of a clip is open where it just reaches a bound."""
    if isinstance(operation, Rectifier):
        above = (x.whole > 0).astype(bool)
        zero = np.zeros(x.whole.shape, dtype=object)
        below = Dyadic(np.where(above, zero, x.whole), x.exponent) * Dyadic.of(operation.slope[None])
        return Dyadic(np.where(above, x.whole, zero), x.exponent) + below, Side(
            above, np.zeros(above.shape, bool)
        )
    if isinstance(operation, Clip):
        low, high = (Dyadic.of(np.full(x.whole.shape, bound)) for bound in (operation.low, operation.high))
        exponent = min(x.exponent, low.exponent, high.exponent)
        whole, least, most = (each.at(exponent) for each in (x, low, high))
        made = np.minimum(np.maximum(whole, least), most)
        reached = ((whole == least) | (whole == most)).astype(bool)
        return Dyadic(made, exponent), Side(((whole > least) & (whole < most)).astype(bool), reached)
    assert isinstance(operation, Largest)
    windows = x.whole.reshape(len(x.whole), -1, operation.width)
    choice = windows.argmax(axis=2)
    made = np.take_along_axis(windows, choice[:, :, None], axis=2)[:, :, 0]
    return Dyadic(made, x.exponent), Side(choice, np.zeros(choice.shape, bool))


class Comparison:
    """The map at θ = 0 and the distance of others from what is expected of them.

    Attributes:
        kappa: the cosine that a robust map has at least, for inconsistencies that are functions of the angle.
    """

    def __init__(
        self, certificate: Certificate, network: Network, origin: tuple[np.ndarray, np.ndarray]
    ) -> None:
        """`origin`: the gradient ``(1, P)`` at θ = 0, and the bound of its error."""
        question = certificate.question
        self.name = question["inconsistency"]["name"]
        self.threshold = float(question["threshold"])
        self._absolute = question["saliency"]["name"] == "abs-gradient"
        self._summed = bool(question["saliency"]["channel_sum"])
        self._channels = certificate.image.shape[0]
        self._kept = np.flatnonzero(certificate.compared)
        self._certificate = certificate
        whole, self.error = self._shown(*origin)
        self._origin = whole[0]
        self.expected = self._origin[self._kept]
        self._moved: dict[int, tuple[np.ndarray, float]] = {}
        self.moved = bool(question["moves_map"])
        self.kappa = 1 - self.threshold if self.name == "cosine" else 1 - self.threshold**2 / 2

    def maps(self, gradient: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The compared entries ``(R, E)`` of maps, and bounds ``(R,)`` of their errors' norms."""
        whole, error = self._shown(gradient, spread)
        return whole if len(self._kept) == whole.shape[1] else whole[:, self._kept], error

    def _shown(self, gradient: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        whole = np.abs(gradient) if self._absolute else gradient
        if not self._summed:
            return whole, spread
        size, channels = norms(whole), self._channels
        spread = (spread * np.sqrt(channels) + gamma(channels) * np.sqrt(channels) * size) * UP
        return whole.reshape(len(whole), channels, -1).sum(axis=1), spread

    def moved_map(self, piece: int) -> tuple[np.ndarray, float]:
        """The expected map of a piece: rows ``(n + 1, E)``, the constant one and one for each parameter.

        And a bound of the Euclidean norm of the error of each, of which the matrix of moves makes at most
        sqrt(|A|_1 |A|_inf) of that of the map at 0.
        """
        if piece not in self._moved:
            c = self._certificate
            rows, worst = np.zeros((c.dimension + 1, len(self._origin))), 0.0
            for term in range(c.dimension + 1):
                own = (c.moves_piece == piece) & (c.moves_term == term)
                out, into, weight = c.moves_out[own], c.moves_in[own], c.moves_weight[own]
                np.add.at(rows[term], out, weight * self._origin[into])
                sums = [
                    np.bincount(each, np.abs(weight), minlength=1).max(initial=0.0) for each in (out, into)
                ]
                terms = int(np.bincount(out, minlength=1).max(initial=0))
                size = np.sqrt(sums[0] * sums[1]) * UP
                worst = max(
                    worst, size * (float(self.error[0]) + gamma(terms) * float(norms(self._origin[None])[0]))
                )
            self._moved[piece] = rows[:, self._kept], worst * UP
        return self._moved[piece]

    def cones(self, piece: int, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The expected maps ``(B, E)`` at θ, bounds of their errors' norms, and of their terms' norms."""
        rows, error = self.moved_map(piece)
        weight = np.concatenate([np.ones((len(theta), 1)), theta], axis=1)
        size = np.abs(weight) @ norms(rows) * UP
        return weight @ rows, (np.abs(weight).sum(axis=1) * error + gamma(len(rows)) * size) * UP, size

    def inconsistency(
        self, maps: np.ndarray, error: np.ndarray, piece: int, theta: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Bounds ``(R,)`` of the inconsistency with what is expected, at θ ``(R, n)`` where that moves.

        For any norm, |x/|x| - y/|y|| <= 2 |x - y| / |y|; and 1 - cos is half the square of the Euclidean one.
        """
        expected, expected_error = self.expected[None], self.error[:1]
        if self.moved:
            assert theta is not None
            expected, expected_error, _ = self.cones(piece, theta)
        order = {"cosine": 2, "l2": 2, "l1": 1, "linf": np.inf}[self.name]
        factor = np.sqrt(maps.shape[1]) * UP if order == 1 else 1.0
        size, target = np.linalg.norm(maps, order, axis=1), np.linalg.norm(expected, order, axis=1)
        own, given = error * factor, expected_error * factor
        rounding = gamma(4 * maps.shape[1]) * (8.0 if order == 1 else 4.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            between = maps / size[:, None] - expected / target[:, None]
            distance = np.linalg.norm(between, order, axis=1)
            slack = (2 * own / size + 2 * given / target + rounding) * UP
        low, high = np.maximum(distance - slack, 0.0), np.minimum(distance + slack, MOST)
        if self.name == "cosine":
            low, high = low * low / 2 * (1 - 4 * UNIT), high * high / 2 * (1 + 4 * UNIT)
        unknown = ~((own < size / 4) & (given < target / 4) & (size > SMALL) & (target > SMALL))
        nothing = (~maps.any(axis=1) & (own == 0)) | (~expected.any(axis=1) & (given == 0))
        low = np.where(nothing, MOST, np.where(unknown, 0.0, low))
        return low, np.where(nothing | unknown, MOST, high)
