"""Attention robustness on regions where the inconsistency varies: second-order cones, in batches."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

# A squared length is zero below this share of the terms that make it up, of which rounding leaves some 1e-15.
_ROUNDING = 1e-13


@dataclass(frozen=True)
class Cones:
    """Inconsistency <= threshold on regions where one map is affine in theta and the other fixed.

    That is h >= 0 for h(theta) = a + b theta - kappa size |m(theta)|, where m is the affine map and
    |m(theta)|^2 = (1, theta) gram (1, theta)^T.

    Attributes:
        a: ``(R,)``. b: ``(R, n)``. size: ``(R,)`` norm of the fixed map. gram: ``(R, n + 1, n + 1)`` of the
            affine map.
        kappa: least cosine that is robust (see `AbstractInconsistency.cone`).
        margin: ``(R,)`` a cosine this close to kappa is undecided.
        error: ``(R,)`` by so much the affine map may be off, in length.
        zero: ``(R,)`` regions where a map is zero, and the metric's maximum above the threshold. At a
            threshold of just that maximum h vanishes there, which leaves them undecided.
        undecided: ``(R,)`` regions where rounding rules the map.
    """

    a: np.ndarray
    b: np.ndarray
    size: np.ndarray
    gram: np.ndarray
    kappa: float
    margin: np.ndarray
    error: np.ndarray
    zero: np.ndarray
    undecided: np.ndarray

    @property
    def count(self) -> int:
        """Number of regions."""
        return len(self.a)

    @property
    def concave(self) -> bool:
        """Whether h is concave; else -h is, and is what `values` and `tangents` give."""
        return self.kappa >= 0

    def values(self, rows: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The concave one of h and -h, and the slack within which it is zero, at theta ``(k, n)``."""
        product, length = self._parts(rows, theta)
        h = product - self.kappa * self.size[rows] * length
        slack = self.size[rows] * (self.margin[rows] * length + 2 * self.error[rows])
        return h if self.concave else -h, slack

    def tangents(self, rows: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tangent planes of the same at theta, nowhere below it: level ``(k,)`` + slope ``(k, n)`` theta."""
        value, _ = self.values(rows, theta)
        _, length = self._parts(rows, theta)
        bent = np.einsum("kij,kj->ki", self.gram[rows], _with_one(theta))[:, 1:]
        steep = bent / np.where(length > 0, length, 1.0)[:, None]
        slope = self.b[rows] - self.kappa * self.size[rows, None] * steep
        slope = slope if self.concave else -slope
        return value - np.einsum("kn,kn->k", slope, theta), slope

    def inconsistency(self, rows: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """1 - cosine at theta; nan where it is not known."""
        product, length = self._parts(rows, theta)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.zero[rows], np.nan, 1 - product / (self.size[rows] * length))

    def vanishing(self, rows: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """Where at theta ``(k, n)`` the affine map is zero, up to rounding, and that is too far off.

        Around such a point the cosine may be as it should everywhere; at the point there is none.
        """
        whole = _with_one(theta)
        square = np.einsum("ki,kij,kj->k", whole, self.gram[rows], whole)
        terms = np.einsum("ki,kij,kj->k", abs(whole), abs(self.gram[rows]), abs(whole))
        return (square <= _ROUNDING * terms) & (self.kappa > -1)

    def _parts(self, rows: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        whole = _with_one(theta)
        square = np.einsum("ki,kij,kj->k", whole, self.gram[rows], whole)
        return self.a[rows] + np.einsum("kn,kn->k", self.b[rows], theta), np.sqrt(np.maximum(square, 0.0))


def joined_cones(parts: list[Cones]) -> Cones:
    """The rows of several, in order."""
    arrays = ("a", "b", "size", "gram", "margin", "error", "zero", "undecided")
    return replace(
        parts[0], **{name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays}
    )


def _with_one(theta: np.ndarray) -> np.ndarray:
    return np.concatenate([np.ones((len(theta), 1)), theta], axis=1)
