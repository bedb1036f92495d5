"""How far maps are from what is expected of them, and single points, exactly up to the logits."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from steadygaze_check.arithmetic import SMALL, UNIT, UP, Dyadic, gamma, norms
from steadygaze_check.folder import ATTENTION_CHANGED, CLASS_CHANGED, ROBUST, UNDECIDED, Certificate, demand
from steadygaze_check.network import Network, often
from steadygaze_check.values import Pattern, exact, gradients, vanishing

MOST = 2.0  # what the inconsistencies of the format can be at most
# How far beyond the border of a piece a point may be to be looked at as one of it.
_BORDER = 1e-12
# Logits that differ by less than this share of the largest tie up to rounding.
_TIE = Fraction(1, 10**9)
# An expected map that is this share of the terms that it is made of may be 0.
_FLAT = 2.0**-40
# Networks of so many products are gone through backwards in whole numbers, too.
_WHOLE = 1 << 24


class Comparison:
    """The map at θ = 0, given as gradient ``(1, P)`` and error, and the distance of others from it.

    kappa is the cosine that a robust map has at least, for inconsistencies that are functions of the angle.
    """

    def __init__(
        self, certificate: Certificate, origin: tuple[np.ndarray, np.ndarray], none: np.ndarray | None = None
    ) -> None:
        """From the gradient at θ = 0, its error, and where ``(P,)`` it is known to be exactly 0."""
        question = certificate.question
        self._certificate, self._name = certificate, question["inconsistency"]["name"]
        self.threshold, self.moves = float(question["threshold"]), bool(question["moves_map"])
        self.kappa = 1 - self.threshold if self._name == "cosine" else 1 - self.threshold**2 / 2
        self._kept = np.flatnonzero(certificate.compared)
        self._origin, self._error = self._shown(*origin)
        known = np.zeros(certificate.image.size, bool) if none is None else none
        summed = question["saliency"]["channel_sum"]
        self._none = np.asarray(known.reshape(len(certificate.image), -1).all(axis=0) if summed else known)
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

    def vanishing(self, piece: int, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where at θ ``(B, n)`` a map that moves is 0, and that counts: ``(B, 1)``, by rounding, and exactly.

        Around such a point the map may be as it should everywhere; the point itself is not robust.
        """
        whole, error, size = self.expected(piece, theta)
        near: np.ndarray = np.asarray(np.linalg.norm(whole, axis=1) <= (error + _FLAT * size) * UP)
        near &= self.moves and self.threshold < MOST
        exact = [bool(near[k]) and self._surely_none(piece, each) for k, each in enumerate(theta)]
        return near[:, None], np.array(exact, bool)[:, None]

    def _surely_none(self, piece: int, theta: np.ndarray) -> bool:
        """Whether all moves have the weight 0 at θ ``(n,)``, whatever is moved: in whole numbers."""
        c, weights, kept = self._certificate, {}, set(self._kept.tolist())
        terms = [Fraction(1), *(Fraction(float(each)) for each in theta)]
        for k in np.flatnonzero(c.moves_piece == piece).tolist():
            out, into = int(c.moves_out[k]), int(c.moves_in[k])
            if out in kept and not self._none[into]:
                weight = terms[int(c.moves_term[k])] * Fraction(float(c.moves_weight[k]))
                weights[out, into] = weights.get((out, into), Fraction(0)) + weight
        return not any(weights.values())

    def _cone(self, piece: int) -> tuple[np.ndarray, float]:
        """Rows ``(n + 1, E)``, the constant one and one for each parameter, and a bound of each one's error.

        The matrix A of moves makes at most sqrt(|A|_1 |A|_inf) of the error of the map at 0.
        """
        if not self.moves:
            return self._origin[:, self._kept], float(self._error[0])
        c, size = self._certificate, self._origin.shape[1]
        own = (c.moves_piece == piece) & ~self._none[c.moves_in]
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


class Points:
    """Looks at points of one question. Raises BadCertificate where no piece holds θ = 0."""

    def __init__(self, certificate: Certificate, network: Network) -> None:
        self._certificate, self._network = certificate, network
        self._label = certificate.question["label"]
        zero = np.zeros(certificate.dimension)
        pieces = self.pieces_at(zero)
        demand(pieces, "no affine piece of the image holds θ = 0")
        self.origin_piece = pieces[0]
        self.origin_logits, pattern = exact_point(network, certificate, pieces[0], zero)
        self.comparison = None
        if not certificate.class_alone:
            moves = certificate.question["moves_map"] and network.products <= _WHOLE
            none = vanishing(network, self._label, pattern, 0) if moves else None
            self.comparison = Comparison(certificate, gradients(network, self._label, pattern, 1), none)

    def kind(self, piece: int, theta: np.ndarray) -> int:
        """The kind at θ, which lies in the piece; UNDECIDED where bounds do not tell, or classes tie."""
        logits, pattern = exact_point(self._network, self._certificate, piece, theta)
        gap = self._gap(logits)
        if gap <= 0:
            return CLASS_CHANGED if gap < 0 else UNDECIDED
        if self.comparison is None:
            return ROBUST
        gradient, spread = gradients(self._network, self._label, pattern, 1)
        if spread[0] and not gradient.any() and vanishing(self._network, self._label, pattern, 0).all():
            spread = np.zeros(1)
        maps = self.comparison.maps(gradient, spread)
        low, high = self.comparison.inconsistency(*maps, piece, theta[None])
        threshold = self.comparison.threshold
        return ROBUST if high[0] <= threshold else ATTENTION_CHANGED if low[0] > threshold else UNDECIDED

    def ties(self, piece: int, theta: np.ndarray) -> tuple[bool, bool]:
        """Whether classes tie at θ, or a map that moves vanishes: up to rounding, and to the last bit."""
        logits, _ = exact_point(self._network, self._certificate, piece, theta)
        gap = self._gap(logits)
        near, exact = abs(gap) <= _TIE * max(abs(each) for each in logits), gap == 0
        if self.comparison is not None and self.comparison.moves and gap >= 0:
            about, surely = self.comparison.vanishing(piece, theta[None])
            near, exact = near or bool(about[0, 0]), exact or bool(surely[0, 0])
        return near, exact

    def _gap(self, logits: list[Fraction]) -> Fraction:
        """The class gap; that of a network of one class is above 0."""
        own = logits[self._label]
        return min((own - each for k, each in enumerate(logits) if k != self._label), default=Fraction(1))

    def says(self, piece: int, theta: np.ndarray, predicted: object, gap: float | None) -> bool:
        """Whether the network predicts this class with this class gap at θ.

        Up to what the single precision of an original model may make out.
        """
        logits = [float(each) for each in exact_point(self._network, self._certificate, piece, theta)[0]]
        scale, classes = 1e-4 * max(1.0, *(abs(each) for each in logits)), range(len(logits))
        fits = predicted is None
        if isinstance(predicted, int) and predicted in classes:
            fits = logits[predicted] >= max(logits) - scale
        found = logits[self._label] - max((logits[k] for k in classes if k != self._label), default=-np.inf)
        return fits and (gap is None or abs(gap - found) <= scale)

    def pieces_at(self, theta: np.ndarray) -> list[int]:
        """The pieces in which θ lies, or on whose border."""
        found = [borders(self._certificate, k, theta[None]) for k in range(len(self._certificate.piece_base))]
        return [k for k, (value, size) in enumerate(found) if (value >= -_BORDER * size).all()]


def exact_point(
    network: Network, certificate: Certificate, piece: int, theta: np.ndarray
) -> tuple[list[Fraction], Pattern]:
    """Logits at θ and the pattern there by exact arithmetic."""
    weight, pattern = Dyadic.of(np.append(1.0, theta)), {}

    def choose(number: int, windows: np.ndarray) -> np.ndarray:
        winner = np.tensordot(weight.whole, windows, axes=1).argmax(axis=0)
        pattern[number] = (winner == np.arange(windows.shape[1])[:, None])[None]
        return winner

    base, directions = certificate.piece_base[piece], certificate.piece_directions[piece]
    last = exact(network, base, directions, choose)[network.last]
    return Dyadic(weight.whole @ last.whole, weight.exponent + last.exponent).fractions(), pattern


def borders(certificate: Certificate, piece: int, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For points ``(B, n)``, functions ``(B, F)`` that are at least 0 in the piece, and their terms' size."""
    planes = certificate.piece_planes[slice(*certificate.piece_ptr[piece : piece + 2])]
    normal, offset = planes[:, :-1].T, planes[:, -1]
    return offset - theta @ normal, np.abs(offset) + np.abs(theta) @ np.abs(normal)
