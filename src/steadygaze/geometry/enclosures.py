"""Numbers known as affine functions of a few coordinates, plus or minus an error: affine arithmetic, batched.

Row b of an enclosure says where numbers lie while a box of parameters is walked through: for every t in
[-1, 1]^n they are

    centre[b] + sum_j t_j slopes[b, j] + e,    |e| <= error[b].

The same t_j means the same in every enclosure of the same boxes, so that what depends on the same parameter
in two of them cancels. Further coordinates may stand for products of the parameters' own, t_j t_k, or for
2 t_j² - 1, which lie in [-1, 1] as well; all that is said of any t holds for them. Remainders of products and
of smooth functions are of second order: halving the box quarters them (Stolfi and de Figueiredo,
Self-Validated Numerical Methods and Applications, 1997).

Rounding. In the standard model of floating-point arithmetic fl(x o y) = (x o y)(1 + d), |d| <= u = 2**-53, so
that a sum of m products is off by at most (m + 1) u times the sum of the absolute values of its terms, to
first order in u. Every operation adds to its error that bound for the centre and for each slope, |t_j| being
at most 1, and at last multiplies the error, itself a sum of at most `_terms` non-negative terms, by a factor
above 1 that makes up for the rounding of that sum and for the higher orders in u. Underflow is not modelled:
it loses less than 1e-300.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from steadygaze.geometry.error_free import two_product, two_sum

#: Unit roundoff of float64.
UNIT = 2.0**-53
# What products lose below the least normal numbers.
_LEAST = 2.0**-1000


#: Numbers of two coordinates each.
Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Enclosure:
    """Values known to lie, for every t in [-1, 1]^n, within centre + sum_j t_j slopes_j ± error.

    ``centre`` (B, *shape), ``slopes`` (B, n, *shape) and ``error`` (B, *shape) >= 0, all float64. Sums and
    products with another enclosure of the same boxes, and with arrays or numbers, which count as exact,
    broadcast as arrays of shape (B, *shape) do. ``products`` names the factors j, k of each of the last
    coordinates, twice j for 2 t_j² - 1; only enclosures of parameters tell it, see ``of_boxes``.

    ``rest`` (B, *shape) is what rounding took from the centre, where sums and products keep it: values
    are within centre + rest + sum_j t_j slopes_j ± rest_error, too, which over small boxes is much less.
    """

    centre: np.ndarray
    slopes: np.ndarray
    error: np.ndarray
    products: Pairs = ()
    rest: np.ndarray | None = None
    rest_error: np.ndarray | None = None

    # Arrays leave sums and products with enclosures to the enclosure.
    __array_ufunc__ = None

    @staticmethod
    def exact(values: np.ndarray, count: int) -> Enclosure:
        """Known numbers (B, *shape), which depend on none of the ``count`` coordinates."""
        values = np.asarray(values, dtype=np.float64)
        slopes = np.broadcast_to(0.0, (len(values), count, *values.shape[1:]))
        return Enclosure(values, slopes, np.broadcast_to(0.0, values.shape))

    @staticmethod
    def between(low: np.ndarray, high: np.ndarray, count: int) -> Enclosure:
        """Numbers of which only a least and a largest value (B, *shape) are known."""
        middle = Enclosure.exact(low + (high - low) / 2, count)
        away = np.maximum(high - middle.centre, middle.centre - low)
        return middle.widened(away)

    @staticmethod
    def of_boxes(boxes: np.ndarray, products: Pairs = (), keep_rest: bool = False) -> Enclosure:
        """The parameters themselves (B, n) over ``boxes`` (B, n, 2), low and high; a width may be 0.

        They are middle + half t, with middle = (low + high) / 2 and half = (high - low) / 2 as computed.
        After their n coordinates come those of the ``products``, on which they do not depend. What is made of
        them keeps the rest of its centre if ``keep_rest`` says so; that takes as long again.
        """
        low, high = boxes[..., 0], boxes[..., 1]
        middle, half = low + (high - low) / 2, (high - low) / 2
        slopes = half[:, None] * np.eye(boxes.shape[1] + len(products), boxes.shape[1])
        # The three roundings of middle and half, each below u (|low| + |high|): any point of the box is
        # middle + half t for some t in [-1, 1] up to this.
        error = np.where(half > 0, 4 * UNIT * (np.abs(low) + np.abs(high)), 0.0)
        made = Enclosure(middle, slopes, error, products)
        return replace(made, rest=np.zeros_like(middle), rest_error=error) if keep_rest else made

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return self.centre.shape[1:]

    @property
    def count(self) -> int:
        """n, the number of coordinates."""
        return self.slopes.shape[1]

    @property
    def is_exact(self) -> bool:
        """Whether the numbers are known: no slopes and no error."""
        return not (self.slopes.any() or self.error.any())

    @property
    def beside(self) -> tuple[np.ndarray, np.ndarray]:
        """The rest, and the error beside it."""
        if self.rest is None or self.rest_error is None:
            return np.zeros_like(self.centre), self.error
        return self.rest, self.rest_error

    @property
    def spread(self) -> np.ndarray:
        """How far the slopes reach from the centre, (B, *shape)."""
        return np.abs(self.slopes).sum(axis=1)

    @property
    def radius(self) -> np.ndarray:
        """How far the values may be from the centre, (B, *shape), rounded up."""
        return (self.spread + self.error) * self._upward

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Least and largest values (B, *shape), rounded outwards."""
        radius = self.radius
        low, high = self.centre - radius, self.centre + radius
        # Where the radius is 0 nothing was rounded; elsewhere the last subtraction was.
        outward = np.where(radius > 0, 2 * UNIT * (np.abs(self.centre) + radius), 0.0)
        return low - outward, high + outward

    def magnitude(self) -> np.ndarray:
        """An upper bound of the absolute values, (B, *shape)."""
        low, high = self.bounds()
        return np.maximum(np.abs(low), np.abs(high))

    def at(self, t: np.ndarray) -> np.ndarray:
        """The affine part at the coordinates ``t`` (B, n)."""
        return self.centre + np.einsum("bn,bn...->b...", t, self.slopes)

    def __getitem__(self, key: int | slice | tuple[int | slice | None, ...]) -> Enclosure:
        """Entries of every row: ``key`` indexes the axes of ``shape``."""
        inner = key if isinstance(key, tuple) else (key,)
        every = slice(None)
        return Enclosure(
            self.centre[(every, *inner)],
            self.slopes[(every, every, *inner)],
            self.error[(every, *inner)],
            self.products,
            *(None if own is None else own[(every, *inner)] for own in (self.rest, self.rest_error)),
        )

    def reshaped(self, *shape: int) -> Enclosure:
        """The same values with rows of another shape."""
        rows = len(self.centre)
        return Enclosure(
            self.centre.reshape(rows, *shape),
            self.slopes.reshape(rows, self.count, *shape),
            self.error.reshape(rows, *shape),
            (),
            *(None if own is None else own.reshape(rows, *shape) for own in (self.rest, self.rest_error)),
        )

    def as_layers(self) -> Enclosure:
        """Rows (..., H, W) as rows (M, H, W)."""
        return self.reshaped(-1, *self.shape[-2:])

    def widened(self, error: np.ndarray | float) -> Enclosure:
        """With so much more error."""
        return Enclosure(self.centre, self.slopes, (self.error + error) * self._upward, self.products)

    def without_error(self) -> Enclosure:
        """The affine part alone."""
        return Enclosure(self.centre, self.slopes, np.zeros_like(self.error), self.products)

    def linear(self, function: Callable[[np.ndarray], np.ndarray], weights: Weights) -> Enclosure:
        """A linear function of the values of each row, of batches (B, *shape) to (B, *other shape).

        ``weights`` says by how much it may enlarge errors, see ``Weights``.
        """
        rows, count = self.slopes.shape[:2]
        flat = self.slopes.reshape(rows * count, *self.shape)
        slopes = function(flat)
        centre, sizes = function(self.centre), weights.absolute(np.abs(self.centre) + self.spread)
        error = weights.absolute(self.error) + (weights.terms + 4) * UNIT * sizes
        upward = 1 + 2 * (self._terms + weights.terms) * UNIT
        return Enclosure(centre, slopes.reshape(rows, count, *centre.shape[1:]), error * upward)

    def __neg__(self) -> Enclosure:
        made = Enclosure(-self.centre, -self.slopes, self.error)
        return made if self.rest is None else replace(made, rest=-self.rest, rest_error=self.rest_error)

    def __add__(self, other: Enclosure | np.ndarray | float) -> Enclosure:
        if not isinstance(other, Enclosure):
            other = np.asarray(other, dtype=np.float64)
            centre = self.centre + other
            slopes = np.broadcast_to(self.slopes, (len(centre), self.count, *centre.shape[1:]))
            moved = np.where(other != 0, UNIT * np.abs(centre), 0.0)
            made = Enclosure(centre, slopes, (self.error + moved) * self._upward)
            if self.rest is None:
                return made
            rest, error = self.beside
            return made._with_rest(rest + two_sum(self.centre, other)[1], error, 2 * np.abs(rest))
        centre, slopes = self.centre + other.centre, self.slopes + other.slopes
        rounding = 2 * UNIT * (np.abs(centre) + np.abs(slopes).sum(axis=1))
        made = Enclosure(centre, slopes, (self.error + other.error + rounding) * self._upward)
        if self.rest is None and other.rest is None:
            return made
        (rest, error), (others, another) = self.beside, other.beside
        size = 2 * (np.abs(rest) + np.abs(others)) + np.abs(slopes).sum(axis=1)
        return made._with_rest(rest + others + two_sum(self.centre, other.centre)[1], error + another, size)

    def __radd__(self, other: np.ndarray | float) -> Enclosure:
        return self + other

    def __sub__(self, other: Enclosure | np.ndarray | float) -> Enclosure:
        return self + (-other)

    def __rsub__(self, other: np.ndarray | float) -> Enclosure:
        return -self + other

    def __mul__(self, other: Enclosure | np.ndarray | float) -> Enclosure:
        if isinstance(other, Enclosure):
            return self._times(other)
        factor = np.asarray(other, dtype=np.float64)
        factor = np.broadcast_to(factor, np.broadcast_shapes(factor.shape, self.centre.shape))
        centre, slopes = self.centre * factor, self.slopes * factor[:, None]
        rounding = 2 * UNIT * (np.abs(centre) + np.abs(slopes).sum(axis=1))
        made = Enclosure(centre, slopes, (self.error * np.abs(factor) + rounding) * self._upward)
        if self.rest is None:
            return made
        rest, error = self.beside
        size = 2 * np.abs(rest * factor) + np.abs(slopes).sum(axis=1)
        return made._with_rest(
            rest * factor + two_product(self.centre, factor)[1], error * np.abs(factor), size
        )

    def __rmul__(self, other: np.ndarray | float) -> Enclosure:
        return self * other

    def _times(self, other: Enclosure) -> Enclosure:
        """(a + α·t + d)(b + β·t + e) with |d| <= D, |e| <= E.

        Of the quadratic form sum_jk α_j β_k t_j t_k the squares t_j² lie in [0, 1], 1/2 ± 1/2, and the other
        t_j t_k in [-1, 1]. What is left is d times all of the second factor, and e times the first's affine
        part.
        """
        a, b = self.centre, other.centre
        alpha, beta = self.slopes, other.slopes
        squares = alpha * beta / 2
        quadratic = np.abs(squares).sum(axis=1)
        for j in range(self.count):
            for k in range(j):
                quadratic = quadratic + np.abs(alpha[:, j] * beta[:, k] + alpha[:, k] * beta[:, j])
        first, second = np.abs(a) + self.spread, np.abs(b) + other.spread
        error = quadratic + self.error * (second + other.error) + other.error * first
        # first * second is at least the sum of the absolute values of all terms, at most n + 2 to a sum.
        rounding = (self.count + 4) * UNIT * first * second
        made = Enclosure(
            a * b + squares.sum(axis=1),
            a[:, None] * beta + b[:, None] * alpha,
            (error + rounding) * self._upward,
        )
        if self.rest is None and other.rest is None:
            return made
        # With the rests p and q of both the centre is a b + p b + q a, and what p and q do besides is error.
        (p, own), (q, others) = self.beside, other.beside
        product, lost = two_product(a, b)
        rest = lost + two_sum(product, squares.sum(axis=1))[1] + (p * b + q * a)
        error = quadratic + own * (second + np.abs(q) + others) + others * (first + np.abs(p))
        error = error + np.abs(p) * (other.spread + np.abs(q)) + np.abs(q) * self.spread
        size = self.spread * second + np.abs(a) * other.spread + np.abs(p * b) + np.abs(q * a)
        return made._with_rest(rest, error, (self.count + 4) * size)

    def _with_rest(self, rest: np.ndarray, error: np.ndarray, size: np.ndarray) -> Enclosure:
        """With a rest and the error beside it, which sums of numbers of this size have rounded."""
        error = error + 4 * UNIT * (np.abs(rest) + size) + _LEAST
        return replace(self, rest=rest, rest_error=error * self._upward)

    @property
    def _terms(self) -> int:
        return self.count * (self.count + 1) + 16

    @property
    def _upward(self) -> float:
        return 1 + 2 * self._terms * UNIT


@dataclass(frozen=True, eq=False)
class Weights:
    """What is known of a linear function x -> W x: ``absolute`` is x -> |W| x, for x >= 0.

    ``terms`` is how many products are summed for one value.
    """

    absolute: Callable[[np.ndarray], np.ndarray]
    terms: int


def tighter(first: Enclosure, second: Enclosure) -> Enclosure:
    """Of two enclosures of the same values, for each of them the one with the smaller error."""
    better = second.error < first.error
    return Enclosure(
        np.where(better, second.centre, first.centre),
        np.where(better[:, None], second.slopes, first.slopes),
        np.where(better, second.error, first.error),
    )
