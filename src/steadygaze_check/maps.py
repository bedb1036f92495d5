"""Saliency maps on activation patterns, and how far they are from the expected map, with error bounds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from steadygaze_check.arithmetic import SMALL, TINY, UNIT, UP, gamma, norm, norms
from steadygaze_check.folder import Certificate
from steadygaze_check.network import Linear, Network, often

MOST = 2.0  # what the inconsistencies of the format can be at most

# For each node of windows, of R patterns: which entries may win, ``(R, w, N)``. The first of them does.
Pattern = dict[int, np.ndarray]


class _Back(NamedTuple):
    """Gradients at a node ``(R, N)``, bounds ``(N,)`` of their errors, and which rows are not exactly 0."""

    value: np.ndarray
    radius: np.ndarray
    some: np.ndarray

    def plus(self, other: _Back) -> _Back:
        value = self.value + other.value
        radius = (self.radius + other.radius + UNIT * np.abs(value).max(axis=0)) * UP
        return _Back(value, radius, self.some | other.some)


def gradients(network: Network, label: int, pattern: Pattern, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Gradients ``(R, P)`` of f_label with respect to the pixels, and bounds ``(R,)`` of their errors.

    Rows share the bounds: patterns in which several entries may win should be asked for by themselves.
    """
    start = np.zeros((rows, network.nodes[network.last].entries))
    start[:, label] = 1.0
    found = {network.last: _Back(start, np.zeros(start.shape[1]), np.ones(rows, bool))}
    for number in range(network.last, network.pixels, -1):
        if number not in found:
            continue
        node, back = network.nodes[number], found.pop(number)
        made = [_pulled(part, back) for part in node.parts]
        if node.windows is not None:
            made = [_picked(node.windows, pattern[number], back, network.nodes[node.inputs[0]].entries)]
        for source, each in zip(node.inputs, made, strict=True):
            found[source] = found[source].plus(each) if source in found else each
    nothing = np.zeros((rows, network.nodes[network.pixels].entries))
    value, radius, some = found.get(network.pixels, _Back(nothing, nothing[0], np.zeros(rows, bool)))
    return value, np.where(some, norm(radius), 0.0)


def _pulled(part: Linear, back: _Back) -> _Back:
    """The gradient before a linear map; as in the values, products with 0 do not count."""
    most = np.abs(back.value).max(axis=0)
    error = back.radius + gamma(min(part.terms[1], np.count_nonzero(most))) * most
    radius = part.transposed(error[None], np.abs(part.kernel))[0] * UP + TINY
    return _Back(part.transposed(back.value, part.kernel), radius, back.some)


def _picked(windows: np.ndarray, may: np.ndarray, back: _Back, entries: int) -> _Back:
    """The gradient goes to the winner. Where several may win, it may be missing there and be elsewhere."""
    winner, most = may.argmax(axis=1), np.abs(back.value).max(axis=0)
    doubt = np.where(may.sum(axis=1) > 1, np.abs(back.value), 0.0).max(axis=0)
    own = back.radius + doubt + (gamma(often(windows)) * most if often(windows) > 1 else 0.0)
    out, some = np.zeros((len(may) + 1, entries + 1)), (may & (windows >= 0)).any(axis=(1, 2))
    for place, index in enumerate(windows):
        value, radius = (
            np.where(winner == place, back.value, 0.0),
            np.where(may[:, place].any(axis=0), own, 0.0),
        )
        if often(index) <= 1:
            out[:, index] += np.concatenate([value, radius[None]])
        else:
            np.add.at(out, (slice(None), index), np.concatenate([value, radius[None]]))
    return _Back(out[:-1, :-1], out[-1, :-1] * UP, back.some & some)


class Comparison:
    """The map at θ = 0, given as gradient ``(1, P)`` and error, and the distance of others from it.

    kappa is the cosine that a robust map has at least, for inconsistencies that are functions of the angle.
    """

    def __init__(self, certificate: Certificate, origin: tuple[np.ndarray, np.ndarray]) -> None:
        question = certificate.question
        self._certificate, self._name = certificate, question["inconsistency"]["name"]
        self.threshold, self.moves = float(question["threshold"]), bool(question["moves_map"])
        self.kappa = 1 - self.threshold if self._name == "cosine" else 1 - self.threshold**2 / 2
        self._kept = np.flatnonzero(certificate.compared)
        self._origin, self._error = self._shown(*origin)
        self._cones: dict[int, tuple[np.ndarray, float]] = {}

    def maps(self, gradient: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The compared entries ``(R, E)`` of maps, and bounds ``(R,)`` of their errors' norms."""
        whole, error = self._shown(gradient, spread)
        return (whole if len(self._kept) == whole.shape[1] else whole[:, self._kept]), error

    def _shown(self, gradient: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        saliency, channels = self._certificate.question["saliency"], len(self._certificate.image)
        whole = np.abs(gradient) if saliency["name"] == "abs-gradient" else gradient
        if not saliency["channel_sum"]:
            return whole, spread
        spread = (spread + gamma(channels) * norms(whole)) * np.sqrt(channels) * UP
        return whole.reshape(len(whole), channels, -1).sum(axis=1), spread

    def expected(self, piece: int, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The maps ``(B, E)`` expected at θ, bounds of their errors' norms, and of their terms' norms."""
        if piece not in self._cones:
            self._cones[piece] = self._cone(piece)
        rows, error = self._cones[piece]
        weight = np.concatenate([np.ones((len(theta), 1)), theta], axis=1)[:, : len(rows)]
        size = np.abs(weight) @ norms(rows) * UP
        return weight @ rows, (np.abs(weight).sum(axis=1) * error + gamma(len(rows)) * size) * UP, size

    def _cone(self, piece: int) -> tuple[np.ndarray, float]:
        """Rows ``(n + 1, E)``, the constant one and one for each parameter, and a bound of each one's error.

        The matrix A of moves makes at most sqrt(|A|_1 |A|_inf) of the error of the map at 0.
        """
        if not self.moves:
            return self._origin[:, self._kept], float(self._error[0])
        c, size = self._certificate, self._origin.shape[1]
        own = c.moves_piece == piece
        out, into, weight = c.moves_term[own] * size + c.moves_out[own], c.moves_in[own], c.moves_weight[own]
        rows = np.bincount(out, weight * self._origin[0, into], minlength=(c.dimension + 1) * size)
        one, two = (np.bincount(k, np.abs(weight), minlength=1).max() for k in (out, into))
        error = float(self._error[0]) + gamma(often(out)) * float(norms(self._origin)[0])
        return rows.reshape(-1, size)[:, self._kept], float(np.sqrt(one * two)) * error * UP

    def inconsistency(
        self, maps: np.ndarray, error: np.ndarray, piece: int, theta: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Bounds ``(R,)`` of the inconsistency with what is expected at θ ``(R, n)``.

        For any norm, |x/|x| - y/|y|| <= 2 |x - y| / |y|; and 1 - cos is half the square of the Euclidean one.
        """
        expected, given, _ = self.expected(piece, theta)
        order = {"cosine": 2, "l2": 2, "l1": 1, "linf": np.inf}[self._name]
        factor = np.sqrt(maps.shape[1]) * UP if order == 1 else 1.0
        own, given = error * factor, given * factor
        size, target = np.linalg.norm(maps, order, axis=1), np.linalg.norm(expected, order, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = np.linalg.norm(maps / size[:, None] - expected / target[:, None], order, axis=1)
            slack = (2 * own / size + 2 * given / target + 8 * gamma(4 * maps.shape[1])) * UP
        low, high = np.maximum(distance - slack, 0.0), np.minimum(distance + slack, MOST)
        if self._name == "cosine":
            low, high = low * low / 2 * (1 - 4 * UNIT), high * high / 2 * (1 + 4 * UNIT)
        known = (own < size / 4) & (given < target / 4) & (size > SMALL) & (target > SMALL)
        nothing = (~maps.any(axis=1) & (own == 0)) | (~expected.any(axis=1) & (given == 0))
        low, high = np.where(known, low, 0.0), np.where(known, high, MOST)
        return np.where(nothing, MOST, low), np.where(nothing, MOST, high)
