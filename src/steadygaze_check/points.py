"""Single points in exact arithmetic up to the logits, and where the pieces of the question lie."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from steadygaze_check.arithmetic import Dyadic
from steadygaze_check.folder import ATTENTION_CHANGED, CLASS_CHANGED, ROBUST, UNDECIDED, Certificate, demand
from steadygaze_check.maps import Comparison, Pattern, gradients
from steadygaze_check.network import Network
from steadygaze_check.values import exact

# How far beyond the border of a piece a point may be to be looked at as one of it.
_BORDER = 1e-12


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
        self.comparison = Comparison(certificate, gradients(network, self._label, pattern, 1))

    def kind(self, piece: int, theta: np.ndarray) -> int:
        """The kind at θ, which lies in the piece; UNDECIDED where bounds do not tell."""
        logits, pattern = exact_point(self._network, self._certificate, piece, theta)
        if any(logits[self._label] <= other for k, other in enumerate(logits) if k != self._label):
            return CLASS_CHANGED
        maps = self.comparison.maps(*gradients(self._network, self._label, pattern, 1))
        low, high = self.comparison.inconsistency(*maps, piece, theta[None])
        threshold = self.comparison.threshold
        return ROBUST if high[0] <= threshold else ATTENTION_CHANGED if low[0] > threshold else UNDECIDED

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
