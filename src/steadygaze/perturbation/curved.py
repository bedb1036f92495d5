"""Changes of light, colour and sharpness that no piecewise affine form describes."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import final

import numpy as np

from steadygaze.enclosing.curves import convex, cosine, sine, smooth
from steadygaze.enclosing.enclosures import UNIT, Enclosure, Weights, tighter
from steadygaze.errors import PerturbationError
from steadygaze.perturbation.amount import AbstractOneAmount
from steadygaze.perturbation.records import Setting
from steadygaze.perturbation.settings import varying

# Red, green and blue to YIQ (Rec. 601 luma; NTSC chroma), whose I and Q are 0 for greys.
_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_RGB = np.linalg.inv(_YIQ)
# The chroma of a colour, and its chroma turned by 90 degrees, from red towards yellow.
_CHROMA = _RGB @ np.diag([0.0, 1.0, 1.0]) @ _YIQ
_TURNED = _RGB @ np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]) @ _YIQ
# Bounds of derivatives are computed with a few roundings and logarithms: far fewer than this.
_OUTWARD = 1 + 1e-9
# Powers of pixels, and what multiplies them, are this close to the true ones as a share of them.
_POWER = 64 * UNIT


@final
class Hue(AbstractOneAmount):
    """The chroma turned by degrees in the plane of I and Q (YIQ), from red towards yellow and green.

    Luma and the strength of colours stay what they are. Needs three channels, red, green and blue.
    Not affine: for bounds.

    Args:
        low: least amount, in degrees, at most 0; without `high` a constant amount, which does not vary.
        high: largest amount, at least 0.

    Raises:
        PerturbationError: if the range is reversed, empty, not finite or leaves out 0.
    """

    name = "hue"
    settings = (Setting("degrees", "amount"),)

    def __init__(self, low: float, high: float | None = None) -> None:
        self.parameters, self.constants = varying(self.name, "degrees", "degrees", low, high)

    def check(self, shape: tuple[int, int, int]) -> None:
        """Raise PerturbationError unless there are three channels."""
        if shape[0] != 3:
            raise PerturbationError(
                f"hue needs an image of 3 channels (red, green, blue), got {shape[0]}; a grey image has no "
                "colour to turn: leave hue out"
            )

    def changed(self, images: np.ndarray, amount: np.ndarray) -> np.ndarray:
        """x + (cos - 1) chroma + sin chroma turned by 90 degrees."""
        angle = np.deg2rad(amount)
        chroma, turned = _mixed(_CHROMA)(images), _mixed(_TURNED)(images)
        return images + (np.cos(angle) - 1) * chroma + np.sin(angle) * turned

    def enclosed(self, images: Enclosure, amount: Enclosure) -> Enclosure:
        """The same; errors of the images go through the whole matrix."""
        cos, sin = cosine(amount) - 1.0, sine(amount)
        known = images.without_error()
        matrix = (cos[0] * _CHROMA + sin[0] * _TURNED + np.eye(3)).magnitude()
        error = np.einsum("bij,bj...->bi...", matrix, images.error)
        chroma, turned = (known.linear(_mixed(m), Weights(_mixed(np.abs(m)), 3)) for m in (_CHROMA, _TURNED))
        return (known + cos * chroma + sin * turned).widened(error)

    def describe(self) -> str:
        """In plain words."""
        return f"hue turned by {self.amount_in_words()} degrees"


@final
class Gamma(AbstractOneAmount):
    """max(x, 0) to the power of 1 + amount. Not affine: for bounds.

    Args:
        low: least amount, a pure number above -1, at most 0; without `high` a constant amount, which does
            not vary.
        high: largest amount, at least 0.

    Raises:
        PerturbationError: if the range is reversed, empty, not finite or leaves out 0, or reaches down to
            -1.
    """

    name = "gamma"
    settings = (Setting("amount", "amount"),)

    def __init__(self, low: float, high: float | None = None) -> None:
        self.parameters, self.constants = varying(self.name, "amount", "", low, high)
        if self.limits()[0] <= -1:
            raise PerturbationError(
                f"gamma amount reaches {self.limits()[0]:g}; it must be above -1, where every pixel is 1"
            )

    def changed(self, images: np.ndarray, amount: np.ndarray) -> np.ndarray:
        """max(x, 0) ** (1 + amount)."""
        return np.maximum(images, 0.0) ** (1 + amount)

    def enclosed(self, images: Enclosure, amount: Enclosure) -> Enclosure:
        """At the centre of each pixel convex in the amount; from there on by the mean-value form."""
        first, last = (np.clip(end, *self.limits()) for end in amount.bounds())
        base = np.maximum(images.centre, 0.0)
        log = np.log(np.where(base > 0, base, 1.0))
        central = convex(amount, lambda a: base ** (1 + a), lambda a: base ** (1 + a) * log, (first, last))
        if images.is_exact:
            return central
        low, high = (np.maximum(end, 0.0) for end in images.bounds())
        values = np.stack([x ** (1 + a) for x in (low, high) for a in (first, last)])
        hull = _between(values.min(axis=0), values.max(axis=0), images.count)
        with np.errstate(divide="ignore"):
            powers = np.stack([x**a for x in (low, high) for a in (first, last)])
        # By the pixel it changes by (1 + a) x^a: infinitely fast at 0 where a < 0, not at all below 0.
        steep = ~np.isfinite(powers.max(axis=0))
        least = np.where((low > 0) & ~steep, powers.min(axis=0) * (1 + first), 0.0)
        most = np.where(steep, 0.0, powers.max(axis=0)) * (1 + last)
        away = Enclosure(np.zeros_like(base), images.slopes, images.error)
        moved = central + away * _between(least, most, images.count)
        return tighter(moved.widened(np.where(steep, np.inf, 0.0)), hull)

    def describe(self) -> str:
        """In plain words."""
        return f"gamma changed by {self.amount_in_words()}"


@final
class Blur(AbstractOneAmount):
    """The image blurred by a Gaussian; a sigma of 0 leaves it alone. Not affine: for bounds.

    Mirrored at the edges, and cut off at 4 times the largest sigma (rounded up) for every one of the range.

    Args:
        low: 0; without `high` a constant sigma, in pixels.
        high: largest sigma, in pixels.

    Raises:
        PerturbationError: if the range is reversed, empty, not finite, or does not begin at 0.
    """

    name = "blur"
    settings = (Setting("sigma", "amount"),)

    def __init__(self, low: float, high: float | None = None) -> None:
        self.parameters, self.constants = varying(self.name, "sigma", "pixels", low, high)
        if self.limits()[0] < 0:
            raise PerturbationError(
                f"blur sigma reaches {self.limits()[0]:g} pixels; it must be at least 0: write the range as "
                "0..2"
            )

    def stays_within(self, low: float, high: float) -> bool:
        """Always: a mean of pixels lies between the least and the largest of them."""
        del low, high
        return True

    def changed(self, images: np.ndarray, amount: np.ndarray) -> np.ndarray:
        """Along the rows, then along the columns: one matrix each."""
        weights = self._weights(amount[:, 0, 0])
        rows, columns = (
            np.eye(size) + np.tensordot(weights, self._steps(size), axes=1) for size in images.shape[-2:]
        )
        return rows[:, None] @ images @ columns[:, None].swapaxes(-1, -2)

    def enclosed(self, images: Enclosure, amount: Enclosure) -> Enclosure:
        """The same with enclosed weights."""
        from scipy.ndimage import maximum_filter1d, minimum_filter1d

        sigma = amount[0, 0]
        low, high = (np.clip(end, *self.limits()) for end in sigma.bounds())
        if not self._offsets().size:
            return images
        weights = smooth(
            sigma, self._weights, self._curvature, (0.0, 0.5), self._rounding(low, high), (low, high)
        )
        window = 2 * self._offsets().size + 1
        least, most = images.bounds()
        for axis in (-1, -2):
            stepped = _stepped(images, weights, self._steps(images.shape[axis]), axis)
            # A mean of pixels lies between the least and the largest of them.
            least = minimum_filter1d(least, window, axis=axis, mode="reflect")
            most = maximum_filter1d(most, window, axis=axis, mode="reflect")
            images = tighter(stepped, Enclosure.between(least, most, images.count))
        return images

    def describe(self) -> str:
        """In plain words."""
        return f"blurred by {self.amount_in_words()} pixels"

    def _offsets(self) -> np.ndarray:
        return np.arange(1.0, ceil(4 * self.limits()[1]) + 1)

    def _weights(self, sigma: np.ndarray) -> np.ndarray:
        """What each pixel 1, 2, ... steps away weighs, (..., R), for ``sigma`` (..., 1)."""
        # Squared and halved, a sigma of 1e-100 still divides; every weight is 0 by then.
        raw = np.exp(-(self._offsets() ** 2) / (2 * np.maximum(sigma, 1e-100) ** 2))
        return raw / (1 + 2 * raw.sum(axis=-1, keepdims=True))

    def _rounding(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """How far computed weights may be off the true ones, (..., R), for sigma (..., 1) in ranges.

        A share of what they are, so that pixels of a blank background hardly move: with a = k²/(2 sigma²) off
        by 3 roundings exp(-a) is off by 3a + 1 of them, and the sum of all, at least 1, by what its terms are
        and one for each. exp(-a) grows with sigma, a exp(-a) is largest at a = 1. What is below the least
        normal number is off by no more than that.
        """
        k = self._offsets()

        def exponent(sigma: np.ndarray) -> np.ndarray:
            return k**2 / (2 * np.maximum(sigma, 1e-100) ** 2)

        steepest = exponent(np.clip(k / np.sqrt(2), low, high))
        bound = (4 * k.size + 16) * np.exp(-exponent(high)) + 3 * steepest * np.exp(-steepest)
        return bound * _OUTWARD * UNIT + np.finfo(float).tiny

    def _curvature(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds (..., R) of the second derivatives of all weights by sigma, for sigma (..., 1) in ranges.

        With r_k = exp(-k²/(2 sigma²)), w_k = r_k / sum_j r_j and the moments m2, m4 of j under these weights

            w_k'' = w_k (((k² - m2)² - (m4 - m2²)) / sigma⁶ - 3 (k² - m2) / sigma⁴).

        m2 and m4 grow with sigma; the sum of the r_j, at least 1, does so too; r_k / sigma^p is largest at
        sigma = k / sqrt(p).
        """
        k = self._offsets()
        (m2_low, m4_low), (m2_high, m4_high) = (
            [2 * (self._weights(end) * k**p).sum(axis=-1, keepdims=True) for p in (2, 4)]
            for end in (low, high)
        )
        distances = np.stack([k**2 - m2_low, k**2 - m2_high])
        farthest = np.abs(distances).max(axis=0)
        nearest = np.where(distances[0] * distances[1] <= 0, 0.0, np.abs(distances).min(axis=0))
        spread = np.maximum(m4_low - m2_high**2, 0.0), m4_high - m2_low**2
        most = np.maximum(farthest**2 - spread[0], spread[1] - nearest**2)
        # The differences may cancel: what rounding does is a share of what is subtracted.
        most = most + (_OUTWARD - 1) * (farthest**2 + spread[1])

        def largest(power: int) -> np.ndarray:
            at = np.clip(k / np.sqrt(power), np.maximum(low, 1e-100), np.maximum(high, 1e-100))
            return np.exp(-(k**2) / (2 * at**2) - power * np.log(at))

        share = 1 / (1 + 2 * np.exp(-(k**2) / (2 * np.maximum(low, 1e-100) ** 2)).sum(axis=-1, keepdims=True))
        bound = (largest(6) * most + 3 * largest(4) * farthest) * share * _OUTWARD
        return -bound, bound

    def _steps(self, size: int) -> np.ndarray:
        """The matrices (R, size, size) of x[i + k] + x[i - k] - 2 x[i] for every offset k, mirrored."""
        offsets = self._offsets().astype(int)
        matrices = np.zeros((len(offsets), size, size))
        every = np.arange(size)
        for k, matrix in zip(offsets, matrices, strict=True):
            for sources in ((every + k) % (2 * size), (every - k) % (2 * size)):
                # Mirrored about the outer edge of the outer pixels: ... b a | a b c | c b ...
                np.add.at(matrix, (every, np.where(sources < size, sources, 2 * size - 1 - sources)), 1.0)
            matrix[every, every] -= 2.0
        return matrices


def _between(low: np.ndarray, high: np.ndarray, count: int) -> Enclosure:
    """What lies between two powers, which are off by a few roundings."""
    return Enclosure.between(low * (1 - _POWER), high * (1 + _POWER), count)


def _mixed(matrix: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The linear function of images (B, 3, H, W) that mixes channels by ``matrix``."""
    return lambda images: np.einsum("ij,bj...->bi...", matrix, images)


def _stepped(images: Enclosure, weights: Enclosure, steps: np.ndarray, axis: int) -> Enclosure:
    """x + sum_k w_k steps_k x along an axis, for weights (B, R) of which only enclosures are known.

    Let M = 1 + sum_k w_k steps_k be M_0 + sum_j t_j M_j + sum_k e_k steps_k, and x be x_0 + sum_j t_j x_j
    + d. The errors e_k meet steps_k x_0, which is 0 where nothing changes, and d meets M as a whole.
    """
    size, count = steps.shape[-1], images.count

    def times(matrices: np.ndarray, values: np.ndarray) -> np.ndarray:
        return matrices @ values if axis == -2 else values @ matrices.swapaxes(-1, -2)

    centre = np.eye(size) + np.tensordot(weights.centre, steps, axes=1)
    slopes = np.tensordot(weights.slopes, steps, axes=1)
    moving = [j for j in range(count) if slopes[:, j].any()]
    off = np.tensordot(weights.error, np.abs(steps), axes=1)
    whole = np.abs(centre) + np.abs(slopes).sum(axis=1) + off
    # Without what cancels in the sums over k: what rounding may have done is a share of this.
    gross = np.eye(size) + np.tensordot(np.abs(weights.centre) + weights.radius, np.abs(steps), axes=1)

    made = times(centre[:, None], images.centre)
    made_slopes = times(centre[:, None, None], images.slopes)
    error = times(whole[:, None], images.error) + times(off[:, None], images.spread)
    for k, step in enumerate(steps):
        error += weights.error[:, k, None, None, None] * np.abs(times(step, images.centre))
    for j in moving:
        made_slopes[:, j] += times(slopes[:, j, None], images.centre)
    if images.slopes.any():
        products = {j: times(slopes[:, j, None, None], images.slopes) for j in moving}
        for j, own in products.items():
            # Of t_j t_k the squares lie in [0, 1], the others in [-1, 1].
            made += own[:, j] / 2
            error += np.abs(own[:, j]) / 2
            for k in set(range(count)) - {j}:
                if k not in moving or k < j:
                    error += np.abs(own[:, k] + (products[k][:, j] if k in moving else 0.0))
    sizes = times(gross[:, None], np.abs(images.centre) + images.spread)
    # Matrices are sums over k, values over pixels, and there are count + 1 of each.
    terms = len(steps) + size + 2 * count + 8
    error = (error + terms * UNIT * sizes) * (1 + 2 * terms * UNIT)
    return Enclosure(made, made_slopes, error)
