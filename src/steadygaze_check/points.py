"""Kinds at single points, by exact arithmetic up to the logits; and where the pieces of the question lie."""

from __future__ import annotations

import numpy as np

from steadygaze_check.folder import ATTENTION_CHANGED, CLASS_CHANGED, ROBUST, UNDECIDED, Certificate, number
from steadygaze_check.maps import Comparison, exact_point, gradients
from steadygaze_check.network import UNIT
from steadygaze_check.onnx_reader import Network

# How far beyond the border of a piece a point may be to be looked at as one of it, in widths of the box.
_BORDER = 1e-12


class Points:
    """Looks at points of one question."""

    def __init__(self, certificate: Certificate, network: Network) -> None:
        """Raises LookupError where no piece holds θ = 0."""
        self._certificate, self._network = certificate, network
        zero = np.zeros(certificate.dimension)
        pieces = self.pieces_at(zero)
        if not pieces:
            raise LookupError
        self.origin_logits, pattern = exact_point(network, certificate, pieces[0], zero)
        origin = gradients(network, certificate.question["label"], pattern, 1)
        self.comparison = Comparison(certificate, network, origin)

    def kind(self, piece: int, theta: np.ndarray) -> int:
        """The kind at θ, which lies in the piece; UNDECIDED where bounds do not tell."""
        question = self._certificate.question
        label, threshold = question["label"], self.comparison.threshold
        logits, pattern = exact_point(self._network, self._certificate, piece, theta)
        if any(logits[label] <= other for k, other in enumerate(logits) if k != label):
            return CLASS_CHANGED
        maps = self.comparison.maps(*gradients(self._network, label, pattern, 1))
        low, high = self.comparison.inconsistency(*maps, piece, theta[None])
        return ROBUST if high[0] <= threshold else ATTENTION_CHANGED if low[0] > threshold else UNDECIDED

    def says(self, piece: int, theta: np.ndarray, predicted: object, gap: object) -> bool:
        """Whether the network predicts this class with this class gap at θ.

        Up to what the single precision of an original model may make out.
        """
        logits = [float(each) for each in exact_point(self._network, self._certificate, piece, theta)[0]]
        label, scale = self._certificate.question["label"], 1e-4 * max(1.0, *(abs(each) for each in logits))
        if predicted is not None and not (
            isinstance(predicted, int)
            and 0 <= predicted < len(logits)
            and logits[predicted] >= max(logits) - scale
        ):
            return False
        found = logits[label] - max((each for k, each in enumerate(logits) if k != label), default=-np.inf)
        return gap is None or abs(number(gap, "class_gap") - found) <= scale

    def pieces_at(self, theta: np.ndarray) -> list[int]:
        """The pieces in which θ lies, or on whose border."""
        return [
            piece
            for piece in range(len(self._certificate.piece_base))
            if (sides := borders(self._certificate, piece, theta[None])) is not None
            and (sides[0] >= -_BORDER * sides[2]).all()
        ]


def borders(
    certificate: Certificate, piece: int, theta: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float] | None:
    """For points ``(B, n)``, functions ``(B, F)`` that are at least 0 in the piece, bounds of their errors,
    their size.

    Pieces are boxes, or polygons; of other polytopes this checker knows no borders (None).
    """
    corners = certificate.piece_vertices[certificate.piece_ptr[piece] : certificate.piece_ptr[piece + 1]]
    low, high = corners.min(axis=0), corners.max(axis=0)
    distinct = np.unique(corners, axis=0)
    if len(distinct) == 2 ** len(low) and ((distinct == low) | (distinct == high)).all():
        value = np.concatenate([theta - low, high - theta], axis=1)
        return value, np.zeros_like(value) + UNIT * np.abs(value), float((high - low).max())
    if len(low) != 2 or len(distinct) < 3:
        return None
    away = distinct - distinct.mean(axis=0)
    ring = distinct[np.argsort(np.arctan2(away[:, 1], away[:, 0]))]
    start, span = ring, np.roll(ring, -1, axis=0) - ring
    if (span[:, 0] * np.roll(span[:, 1], -1) - span[:, 1] * np.roll(span[:, 0], -1) < 0).any():
        return None
    aside = theta[:, None] - start
    one, two = span[:, 0] * aside[:, :, 1], span[:, 1] * aside[:, :, 0]
    return one - two, 8 * UNIT * (np.abs(one) + np.abs(two)), float((np.ptp(ring, axis=0) ** 2).max())
