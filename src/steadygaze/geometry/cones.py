"""Attention robustness on regions where the inconsistency varies: second-order cones, in batches."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

# A length is zero below this share of the terms that make it up.
_ZERO = 3e-7
# What rounding may leave of the lengths that add up to that of a map.
_ROUNDING = 1e-14


@dataclass(frozen=True)
class Cones:
    """Inconsistency <= threshold on regions where one map is affine in theta and the other fixed.

    That is h >= 0 for h(theta) = a + b theta - kappa size |m(theta)|, where m is the affine map, as long as
    factor (1, theta). By products of maps, which are squares, its length would be lost where it is below 1e-8
    of what it is made of, as about a point at which it vanishes.

    Attributes:
        a: ``(R,)``. b: ``(R, n)``. size: ``(R,)`` norm of the fixed map. factor: ``(R, k, n + 1)`` of the
            affine map (see `factor_of`).
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
    factor: np.ndarray
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

    def values(self, rows: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The concave one of h and -h, the slack within which it is 0, and its `doubt`; theta ``(k, n)``."""
        product, length = self._parts(rows, theta)
        margin, noise = self.size[rows] * self.margin[rows] * length, self._noise(rows, theta)
        value = self._signed(product - self.kappa * self.size[rows] * length)
        return value, margin + noise, np.where(noise > margin, noise, 0.0)

    def heights(self, rows: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """The first of `values` alone."""
        product, length = self._parts(rows, theta)
        return self._signed(product - self.kappa * self.size[rows] * length)

    def extrapolated(self, middle: np.ndarray) -> Cones:
        """The same with maps that are known at a point ``(R, n)`` of each region, and rounded there."""
        terms = self._terms(np.arange(self.count), middle)
        return replace(self, error=self.error + _ROUNDING * terms)

    def doubt(self, rows: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """By how much rounding may move the same at theta ``(k, n)``, where that is more than the margin.

        Else 0: that is where the affine map is not much shorter than what it is made of.
        """
        return self.values(rows, theta)[2]

    def tangents(self, rows: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tangent planes of the same at theta, nowhere below it: level ``(k,)`` + slope ``(k, n)`` theta."""
        value, made = self.heights(rows, theta), self._made(rows, theta)
        length = np.linalg.norm(made, axis=1)
        turned = made / np.where(length > 0, length, 1.0)[:, None]
        steep = np.einsum("kij,ki->kj", self.factor[rows][:, :, 1:], turned)
        slope = self._signed(self.b[rows] - self.kappa * self.size[rows, None] * steep)
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
        length = self._parts(rows, theta)[1]
        return (length <= _ZERO * self._terms(rows, theta)) & (self.kappa > -1)

    def _parts(self, rows: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        length = np.linalg.norm(self._made(rows, theta), axis=1)
        return self.a[rows] + np.einsum("kn,kn->k", self.b[rows], theta), length

    def _made(self, rows: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """What the factor makes of theta, as long as the affine map there."""
        return np.einsum("kij,kj->ki", self.factor[rows], _with_one(theta))

    def _signed(self, h: np.ndarray) -> np.ndarray:
        return h if self.concave else -h

    def _noise(self, rows: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return 2 * self.size[rows] * (self.error[rows] + _ROUNDING * self._terms(rows, theta))

    def _terms(self, rows: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """The lengths that add up to that of the affine map at most, ``(k,)``."""
        return np.einsum("kj,kj->k", np.linalg.norm(self.factor[rows], axis=1), abs(_with_one(theta)))


def factor_of(maps: np.ndarray) -> np.ndarray:
    """``(R, k, n + 1)`` such that factor w is as long as w maps, for maps ``(R, n + 1, P)``: k is small."""
    return np.asarray(np.linalg.qr(maps.transpose(0, 2, 1), mode="r"))


def joined_cones(parts: list[Cones]) -> Cones:
    """The rows of several, in order."""
    arrays = ("a", "b", "size", "factor", "margin", "error", "zero", "undecided")
    return replace(
        parts[0], **{name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays}
    )


def _with_one(theta: np.ndarray) -> np.ndarray:
    return np.concatenate([np.ones((len(theta), 1)), theta], axis=1)
