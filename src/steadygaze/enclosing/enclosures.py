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

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from steadygaze.enclosing.error_free import two_product, two_sum

#: Unit roundoff of float64.
UNIT = 2.0**-53
# Of so few products all are made at once.
_FEW = 2**12
# What products lose below the least normal numbers.
_LEAST = 2.0**-1000


#: Centre, slopes and error.
Parts = tuple[np.ndarray, np.ndarray, np.ndarray]
#: Numbers of two coordinates each.
Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Enclosure:
    """Values known to lie, for every t in [-1, 1]^n, within centre + sum_j t_j slopes_j ± error.

    ``centre`` (B, *shape), ``slopes`` (B, n, *shape) and ``error`` (B, *shape) >= 0, all float64. Sums and
    products with another enclosure of the same boxes, and with arrays or numbers, which count as exact,
    broadcast as arrays of shape (B, *shape) do. ``products`` names the factors j, k of each of the last
    coordinates, twice j for 2 t_j² - 1; only enclosures of parameters tell it, see ``of_boxes``.

    ``rest`` (B, 1 + n, *shape) is what rounding took from centre and slopes, where sums and products keep it:
    values are within centre + rest_0 + sum_j t_j (slopes_j + rest_j) ± rest_error, too, which is much less.
    """

    centre: np.ndarray
    slopes: np.ndarray
    error: np.ndarray
    products: Pairs = ()
    rest: np.ndarray | None = None
    rest_error: np.ndarray | None = None
    kinks: int = 0

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
    def of_boxes(
        boxes: np.ndarray, products: Pairs = (), keep_rest: bool = False, kinks: int = 0
    ) -> Enclosure:
        """The parameters themselves (B, n) over ``boxes`` (B, n, 2), low and high; a width may be 0.

        They are middle + half t, with middle = (low + high) / 2 and half = (high - low) / 2 as computed.
        After their n coordinates come those of the ``products``, on which they do not depend. What is made of
        them keeps its rest if ``keep_rest`` says so; that takes as long again.
        """
        low, high = boxes[..., 0], boxes[..., 1]
        middle, half = low + (high - low) / 2, (high - low) / 2
        axes = np.eye(boxes.shape[1] + len(products) + kinks, boxes.shape[1])
        slopes = half[:, None] * axes
        # The three roundings of middle and half, each below u (|low| + |high|): any point of the box is
        # middle + half t for some t in [-1, 1] up to this.
        error = np.where(half > 0, 4 * UNIT * (np.abs(low) + np.abs(high)), 0.0)
        made = Enclosure(middle, slopes, error, products, kinks=kinks)
        if not keep_rest:
            return made
        # Halves of sums to twice the precision, less what middle and half are of them.
        (width, narrower), (total, lost) = two_sum(high, -low), two_sum(low, high)
        off = [two_sum(sums / 2, -own) for sums, own in ((total, middle), (width, half))]
        rests = [left + (less + lower / 2) for (left, less), lower in zip(off, (lost, narrower), strict=True)]
        rest = np.concatenate([rests[0][:, None], rests[1][:, None] * axes], axis=1)
        return made._with_rest(rest, np.zeros_like(middle), 0.0)

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
        """The rest of centre and slopes, and the error beside it."""
        if self.rest is None or self.rest_error is None:
            return np.zeros((len(self.centre), 1 + self.count, *self.shape)), self.error
        return self.rest, self.rest_error

    @property
    def spread(self) -> np.ndarray:
        """How far the slopes reach from the centre, (B, *shape)."""
        return np.abs(self.slopes).sum(axis=1)

    @property
    def radius(self) -> np.ndarray:
        """How far the values may be from the centre, (B, *shape), rounded up."""
        return (self.spread + self.error) * self.upward

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
            None if self.rest is None else self.rest[(every, every, *inner)],
            None if self.rest_error is None else self.rest_error[(every, *inner)],
            self.kinks,
        )

    def take(self, chosen: np.ndarray) -> Enclosure:
        """The rows of these numbers ``(k,)``."""
        rest, error = self.rest, self.rest_error
        return Enclosure(
            self.centre[chosen],
            self.slopes[chosen],
            self.error[chosen],
            self.products,
            None if rest is None else rest[chosen],
            None if error is None else error[chosen],
        )

    @staticmethod
    def joined(parts: Sequence[Enclosure]) -> Enclosure:
        """Rows of several enclosures of one kind, one after the other."""
        if len(parts) == 1:
            return parts[0]
        known = parts[0].rest is not None
        names = ("centre", "slopes", "error", "rest", "rest_error")[: 5 if known else 3]
        rows = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return replace(parts[0], **rows)

    def reshaped(self, *shape: int) -> Enclosure:
        """The same values with rows of another shape."""
        rows = len(self.centre)
        return Enclosure(
            self.centre.reshape(rows, *shape),
            self.slopes.reshape(rows, self.count, *shape),
            self.error.reshape(rows, *shape),
            (),
            None if self.rest is None else self.rest.reshape(rows, 1 + self.count, *shape),
            None if self.rest_error is None else self.rest_error.reshape(rows, *shape),
        )

    def as_layers(self) -> Enclosure:
        """Rows (..., H, W) as rows (M, H, W)."""
        return self.reshaped(-1, *self.shape[-2:])

    @property
    def moving(self) -> np.ndarray:
        """Numbers ``(k,)`` of the coordinates that move anything."""
        return np.flatnonzero(self.slopes.any(axis=(0, *range(2, self.slopes.ndim))))

    def along(self, coordinates: np.ndarray) -> Enclosure:
        """The same in these coordinates alone, the others moving nothing; what rounding took is left out."""
        return Enclosure(self.centre, self.slopes[:, coordinates], self.error)

    def widened(self, error: np.ndarray | float) -> Enclosure:
        """With so much more error."""
        return Enclosure(self.centre, self.slopes, (self.error + error) * self.upward, self.products)

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
            made = Enclosure(centre, slopes, (self.error + moved) * self.upward)
            if self.rest is None:
                return made
            rest, error = self.beside
            rest = np.broadcast_to(rest, (len(centre), 1 + self.count, *centre.shape[1:])).copy()
            rest[:, 0] += two_sum(self.centre, other)[1]
            return made._with_rest(rest, error, 0.0)
        if self._is_like(other):
            from steadygaze.enclosing.affine_kernels import added  # numba, where it is needed

            return self._met(other, added)
        centre, slopes = self.centre + other.centre, self.slopes + other.slopes
        rounding = 2 * UNIT * (np.abs(centre) + np.abs(slopes).sum(axis=1))
        made = Enclosure(centre, slopes, (self.error + other.error + rounding) * self.upward)
        if self.rest is None and other.rest is None:
            return made
        (rest, error), (others, another) = self.beside, other.beside
        lost = two_sum(self._rows, other._rows)[1]
        size = (np.abs(rest) + np.abs(others)).sum(axis=1)
        return made._with_rest(rest + others + lost, error + another, size)

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
        made = Enclosure(centre, slopes, (self.error * np.abs(factor) + rounding) * self.upward)
        if self.rest is None:
            return made
        rest, error = self.beside
        rest, lost = rest * factor[:, None], two_product(self._rows, factor[:, None])[1]
        return made._with_rest(rest + lost, error * np.abs(factor), np.abs(rest).sum(axis=1))

    def __rmul__(self, other: np.ndarray | float) -> Enclosure:
        return self * other

    def _times(self, other: Enclosure) -> Enclosure:
        """(a + α·t + d)(b + β·t + e) with |d| <= D, |e| <= E.

        Of the quadratic form sum_jk α_j β_k t_j t_k the squares t_j² lie in [0, 1], 1/2 ± 1/2, and the other
        t_j t_k in [-1, 1]. What is left is d times all of the second factor, and e times the first's affine
        part.
        """
        if self._is_like(other):
            from steadygaze.enclosing.affine_kernels import multiplied  # as above

            return self._met(other, multiplied)
        a, b = self.centre, other.centre
        alpha, beta = self.slopes, other.slopes
        squares = alpha * beta / 2
        quadratic = np.abs(squares).sum(axis=1) + _mixed(alpha, beta)
        first, second = np.abs(a) + self.spread, np.abs(b) + other.spread
        error = quadratic + self.error * (second + other.error) + other.error * first
        # first * second is at least the sum of the absolute values of all terms, at most n + 2 to a sum.
        rounding = (self.count + 4) * UNIT * first * second
        made = Enclosure(
            a * b + squares.sum(axis=1),
            a[:, None] * beta + b[:, None] * alpha,
            (error + rounding) * self.upward,
        )
        if self.rest is None and other.rest is None:
            return made
        # With the rests p + π·t and q + ρ·t of both the centre is a b + p b + q a, and the slopes are
        # a (β + ρ) + b (α + π) + p β + q α. What rests do besides is error.
        (rest, own), (others, another) = self.beside, other.beside
        p, q = rest[:, 0], others[:, 0]
        product, lost = two_product(a, b)
        middle = lost + two_sum(product, squares.sum(axis=1))[1] + (p * b + q * a)
        one, two = two_product(a[:, None], beta), two_product(b[:, None], alpha)
        moving = [a[:, None] * others[:, 1:], b[:, None] * rest[:, 1:], p[:, None] * beta, q[:, None] * alpha]
        slanted = (one[1] + two[1] + two_sum(one[0], two[0])[1]) + sum(moving)
        size = (self.count + 4) * self.spread * other.spread + 2 * (np.abs(p * b) + np.abs(q * a))
        size = size + 2 * sum(np.abs(part).sum(axis=1) for part in moving)
        size = size + 2 * np.abs(one[1] + two[1]).sum(axis=1)
        far, farther = (np.abs(x).sum(axis=1) for x in (rest, others))
        error = quadratic + own * (second + farther + another) + another * (first + far)
        error = error + far * farther + np.abs(rest[:, 1:]).sum(axis=1) * other.spread
        error = error + np.abs(others[:, 1:]).sum(axis=1) * self.spread
        made_rest = np.concatenate([middle[:, None], slanted], axis=1)
        return made._with_rest(made_rest, error, size)

    def _is_like(self, other: Enclosure) -> bool:
        """Whether both have few entries, of the same shape, and neither has a rest: kernels take these."""
        same = self.slopes.shape == other.slopes.shape and self.centre.shape == other.centre.shape
        return same and 0 < self.slopes.size <= _FEW and self.rest is None and other.rest is None

    def _met(self, other: Enclosure, kernel: Callable[..., Parts]) -> Enclosure:
        """What a kernel makes of both."""
        return self.like(kernel(*self.parts, *other.parts, UNIT, self.upward))

    @property
    def parts(self) -> Parts:
        """Centre and error ``(B, N)`` and slopes ``(B, n, N)`` as kernels take them."""
        (rows, count), entries = self.slopes.shape[:2], math.prod(self.shape)
        return (
            _writable(self.centre).reshape(rows, entries),
            _writable(self.slopes).reshape(rows, count, entries),
            _writable(self.error).reshape(rows, entries),
        )

    def like(self, parts: Parts) -> Enclosure:
        """Such parts as numbers of the shape of these."""
        return Enclosure(*parts).reshaped(*self.shape)

    @property
    def _rows(self) -> np.ndarray:
        """Centre and slopes, (B, 1 + n, *shape)."""
        shape = np.broadcast_shapes(self.slopes.shape[2:], self.shape)
        slopes = np.broadcast_to(self.slopes, (len(self.centre), self.count, *shape))
        return np.concatenate(
            [np.broadcast_to(self.centre[:, None], (len(slopes), 1, *shape)), slopes], axis=1
        )

    def _with_rest(self, rest: np.ndarray, error: np.ndarray, size: np.ndarray | float) -> Enclosure:
        """With a rest and the error beside it, which sums of numbers of this size have rounded."""
        error = error + 4 * UNIT * (np.abs(rest).sum(axis=1) + size) + _LEAST
        return replace(self, rest=rest, rest_error=error * self.upward)

    @property
    def _terms(self) -> int:
        return self.count * (self.count + 1) + 16

    @property
    def upward(self) -> float:
        """What makes up for the rounding of an error."""
        return 1 + 2 * self._terms * UNIT


def _writable(numbers: np.ndarray) -> np.ndarray:
    """The same one after the other, and not read-only, which to a kernel would be another kind of array."""
    own = np.ascontiguousarray(numbers)
    return own if own.flags.writeable else own.copy()


def _mixed(alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Sum of |alpha_j beta_k + alpha_k beta_j| over all j < k, ``(B, *shape)``; slopes are (B, n, *shape)."""
    count = alpha.shape[1]
    if alpha.size * count <= _FEW:
        pairs = alpha[:, :, None] * beta[:, None]
        first, second = _pairs_of(count)
        return np.abs(pairs[:, first, second] + pairs[:, second, first]).sum(axis=1)
    # Coordinates that move neither factor have no products, and products of parameters often move none.
    some = [own.any(axis=(0, *range(2, own.ndim))) for own in (alpha, beta)]
    left = np.flatnonzero(some[0] | some[1])
    total = np.zeros((len(alpha), *np.broadcast_shapes(alpha.shape[2:], beta.shape[2:])))
    for j in np.flatnonzero(min(some, key=np.count_nonzero)):  # one of each two moves the factor that few do
        left = left[left != j]
        pairs = alpha[:, j, None] * beta[:, left] + alpha[:, left] * beta[:, j, None]
        total = total + np.abs(pairs).sum(axis=1)
    return total


@lru_cache(maxsize=16)
def _pairs_of(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of each two of so many coordinates."""
    return np.triu_indices(count, 1)


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
