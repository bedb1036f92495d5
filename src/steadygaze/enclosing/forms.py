"""Numbers affine in the coordinates of a box and in symbols of its own, plus or minus an error: batches.

Row b of such forms says where numbers lie over one box of parameters: they are

    rows[b, 0] + sum_i t_i rows[b, i] + sum_k s_k rows[b, n + k] + e,    |t_i|, |s_k| <= 1, |e| <= error[b],

with t the n coordinates of the box, shared by all forms of the same boxes, and s symbols that stand for what
else is not known: mostly, which piece a unit is on. A symbol means the same wherever it goes, so that what it
does to two numbers may cancel; what is only an error never cancels. Of some symbols it is known that they are
-1 or 1 and nothing between, as a unit is on one of two pieces; and some are products of two others. (Affine
arithmetic; in the verification of networks such forms are called zonotopes: Singh et al., Fast and Effective
Robustness Certification, NeurIPS 2018.)

Rounding is accounted for as in `enclosures`: a sum of m products in float64 is off by at most (m + 1) u times
the sum of the absolute values of its terms, u = 2**-53, in whatever order it is summed up. Every operation
adds that bound to the error, and multiplies the error by a factor above 1 for the rounding of the bound
itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from steadygaze.enclosing.enclosures import UNIT, Enclosure
from steadygaze.enclosing.passes import blame_of, moved_by_units, sums_of


@dataclass(frozen=True, eq=False)
class Forms:
    """Batches of affine forms; see the module.

    Attributes:
        rows: ``(B, 1 + n + symbols, *shape)`` float64: the centre, then the coefficients.
        error: ``(B, *shape)`` >= 0.
        count: n, the number of coordinates of the boxes.
        origin: ``(B, k, 2)`` int64, of the first k symbols what is known of each: twice ANY, twice SIGN if
            it is -1 or 1, or the numbers of two symbols, of which it is the product. None if all are ANY.
        length: ``(B,)`` at least the Euclidean length of all e of one box together; None for that of `error`.
            ``(2, B)`` within a block of layers (`entered`): besides, of what has been added since it began.
    """

    rows: Tensor
    error: Tensor
    count: int
    origin: Tensor | None = None
    length: Tensor | None = None

    @staticmethod
    def of(enclosure: Enclosure, device: torch.device, count: int | None = None) -> Forms:
        """The forms of an enclosure, which has no symbols.

        count: of coordinates, where there are more than those that the enclosure depends on.
        """
        rows = np.concatenate([enclosure.centre[:, None], enclosure.slopes], axis=1)
        error = np.ascontiguousarray(enclosure.error)
        made = Forms(torch.from_numpy(rows).to(device), torch.from_numpy(error).to(device), enclosure.count)
        return made if count is None else replace(made.with_symbols(count - made.count), count=count)

    @staticmethod
    def exact(values: Tensor, count: int) -> Forms:
        """Known numbers ``(B, *shape)``."""
        return Forms(values[:, None], torch.zeros_like(values), count)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one form."""
        return tuple(self.error.shape[1:])

    @property
    def centre(self) -> Tensor:
        """``(B, *shape)``."""
        return self.rows[:, 0]

    @cached_property
    def _sums(self) -> Tensor:
        """``(6, B, *shape)``: spread, reach, size, strays, and least and largest values."""
        upward = _upward(self.rows.shape[1])
        if self.rows.device.type == "cpu":
            flat = numbers_of((self.rows.flatten(2), self.error.flatten(1)))
            return torch.from_numpy(sums_of(*flat, self.count, UNIT, upward)).reshape(6, *self.error.shape)
        spread, beside = (self.rows[:, first:].abs().sum(dim=1) for first in (1, 1 + self.count))
        reach, size = (spread + self.error) * upward, self.centre.abs() + spread
        outward = 2 * UNIT * (self.centre.abs() + reach)
        ends = (self.centre - reach - outward, self.centre + reach + outward)
        return torch.stack([spread, reach, size, (self.error + beside) * upward, *ends])

    @property
    def spread(self) -> Tensor:
        """How far the coefficients reach, ``(B, *shape)``."""
        return self._sums[0]

    @property
    def reach(self) -> Tensor:
        """How far values may be from the centre, ``(B, *shape)``, rounded up."""
        return self._sums[1]

    @property
    def most(self) -> Tensor:
        """The largest magnitudes ``(B, *shape)``, rounded up."""
        return (self.centre.abs() + self.reach) * _upward(1)

    def without_errors(self) -> Forms:
        """What coordinates and symbols say alone."""
        return replace(self, error=torch.zeros_like(self.error), length=None)

    @property
    def size(self) -> Tensor:
        """Sum of the absolute values of centre and coefficients: what rounding is a share of."""
        return self._sums[2]

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Least and largest values ``(B, *shape)``, rounded outwards."""
        return self._sums[4], self._sums[5]

    def take(self, chosen: Tensor) -> Forms:
        """The forms of some boxes."""
        origin = None if self.origin is None else self.origin[chosen]
        length = None if self.length is None else self.length[..., chosen]
        return Forms(self.rows[chosen], self.error[chosen], self.count, origin, length)

    def flattened(self) -> Forms:
        """The same numbers with shape ``(N,)``."""
        return self if self.error.ndim == 2 else self._flat

    @cached_property
    def _flat(self) -> Forms:
        flat = replace(self, rows=self.rows.flatten(2), error=self.error.flatten(1))
        # What was summed up once need not be again.
        if "_sums" in vars(self):
            vars(flat)["_sums"] = self._sums.flatten(2)
        return flat

    def reshaped(self, *shape: int) -> Forms:
        """The same numbers in another shape."""
        return replace(
            self,
            rows=self.rows.reshape(*self.rows.shape[:2], *shape),
            error=self.error.reshape(len(self.error), *shape),
        )

    def with_symbols(self, symbols: int) -> Forms:
        """With room for so many symbols: their coefficients are 0."""
        missing = 1 + self.count + symbols - self.rows.shape[1]
        if missing <= 0:
            return self
        nothing = self.rows.new_zeros((len(self.rows), missing, *self.shape))
        return replace(self, rows=torch.cat([self.rows, nothing], dim=1))

    @property
    def symbols(self) -> int:
        """Number of symbols that the rows have room for."""
        return max(0, self.rows.shape[1] - 1 - self.count)

    def without_symbols(self) -> Forms:
        """What the symbols do as an error: afterwards nothing cancels."""
        length = None
        if self.length is not None:
            own = self.rows[:, 1 + self.count :].abs().sum(dim=1)
            length = (self.errors + lengths_of(own)) * _upward(self.rows.shape[1])
        return Forms(self.rows[:, : 1 + self.count], self.strays, self.count, length=length)

    @property
    def strays(self) -> Tensor:
        """How far values may be from an affine function of the coordinates, ``(B, *shape)``, rounded up."""
        return self._sums[3]

    def linear(
        self,
        function: Callable[[Tensor], Tensor],
        absolute: Callable[[Tensor], Tensor],
        terms: int,
        constant: Tensor | None = None,
        norm: float | None = None,
    ) -> Forms:
        """W x + constant, where `function` is x -> W x and `absolute` x -> |W| x, batches ``(B, *shape)``.

        `terms` is the largest number of products that are summed for one value; constant ``(1, *other)``.
        norm: how much longer W can make a vector, where that is known: no error is above their length.
        """
        moved = function(self.rows.flatten(0, 1))
        rows = moved.reshape(*self.rows.shape[:2], *moved.shape[1:])
        share, upward = (terms + 4) * UNIT, 1 + 2 * (terms + 8) * UNIT
        added = share * (rows.new_zeros(()) if constant is None else constant.abs())
        if constant is not None:
            rows[:, 0] += constant[0]
            added = added + share * rows[:, 0].abs()
        if norm is None:
            error = absolute(self.error + share * self.size) + added
            return Forms(rows, error * upward, self.count, self.origin)
        error, rounding = absolute(torch.cat([self.error, share * self.size])).chunk(2)
        rounding = rounding + added
        length = norm * self.errors * _upward(2)
        error = torch.minimum(error, _spread(all_of(length), error)) + rounding
        return Forms(
            rows, error * upward, self.count, self.origin, (length + lengths_of(rounding)) * upward
        ).shortened()

    def shortened(self) -> Forms:
        """With the length of the errors where that is less than what was known of it."""
        return replace(self, length=None if self.length is None else self.errors)

    def entered(self) -> Forms:
        """At the beginning of a block: nothing has been added yet."""
        own = all_of(self.errors)
        return replace(self, length=torch.stack([own, torch.zeros_like(own)]))

    def left(self, norm: Tensor, before: Tensor) -> Forms:
        """At the end of a block that makes the errors' length ``(B,)`` at its beginning longer by so much.

        That, and what the block has added, is all errors there are. norm ``(B,)``.
        """
        own = torch.broadcast_to(self.errors, (2, len(self.error)))
        length = torch.minimum(own[0], (own[1] + norm * before) * _upward(2))
        return replace(self, error=torch.minimum(self.error, _spread(length, self.error)), length=length)

    def undivided(self) -> Forms:
        """The same anywhere: all errors count."""
        return replace(self, length=None if self.length is None else all_of(self.length))

    def __add__(self, other: Forms) -> Forms:
        symbols = max(self.symbols, other.symbols)
        first, second = self.with_symbols(symbols), other.with_symbols(symbols)
        rows = first.rows + second.rows
        rounding = UNIT * (first.size + second.size)
        error = first.error + second.error + rounding
        length = None
        if self.length is not None or other.length is not None:
            length = (self.errors + other.errors + lengths_of(rounding)) * _upward(2)
        return Forms(
            rows, error * _upward(rows.shape[1]), self.count, _either(self.origin, other.origin), length
        )

    def __neg__(self) -> Forms:
        return replace(self, rows=-self.rows)

    def scaled(self, factor: Tensor) -> Forms:
        """Times numbers ``(B, *shape)`` or ``(*shape,)``, entry by entry."""
        factors = factor if factor.ndim == self.error.ndim else factor[None]
        rows, rounding = self.rows * factors[:, None], UNIT * self.size
        error = (self.error + rounding) * factors.abs()
        length = None
        if self.length is not None:
            most = factors.abs().flatten(1).amax(dim=1)
            length = (self.length * most + lengths_of(rounding * factors.abs())) * _upward(rows.shape[1])
        return replace(self, rows=rows, error=error * _upward(rows.shape[1]), length=length)

    def bent(self, slope: Tensor, offset: Tensor, deviation: Tensor) -> Forms:
        """Times slopes plus offsets, up to deviations >= 0, all ``(B, N)``, of forms ``(N,)``."""
        if self.length is not None or self.rows.device.type != "cpu":
            return self.scaled(slope).raised(offset).loosened(deviation)
        parts = (self.rows, self.error, self.size, slope, offset, deviation)
        rows, error = moved_by_units(*numbers_of(parts), UNIT, _upward(self.rows.shape[1]))
        return replace(self, rows=torch.from_numpy(rows), error=torch.from_numpy(error))

    def blamed(self, deviation: Tensor) -> Tensor:
        """``(B, n)`` what part of deviations ``(B, N)`` of forms ``(N,)`` each coordinate is to blame for."""
        tiny = torch.finfo(deviation.dtype).tiny
        if self.rows.device.type != "cpu":
            share, own = deviation / self.reach.clamp_min(tiny), self.with_symbols(0).rows
            return (share[:, None] * own[:, 1 : 1 + self.count].abs()).sum(dim=2)
        parts = (self.with_symbols(0).rows, deviation, self.reach)
        rows, *others = numbers_of(parts)
        return torch.from_numpy(blame_of(rows, self.count, *others, tiny))

    def raised(self, amount: Tensor) -> Forms:
        """Plus numbers ``(B, *shape)``."""
        rows = self.rows.clone()
        rows[:, 0] += amount
        return replace(self, rows=rows).loosened(UNIT * rows[:, 0].abs())

    def loosened(self, amount: Tensor, length: Tensor | None = None) -> Forms:
        """With errors that are larger by so much ``(B, *shape)`` >= 0.

        length ``(B,)``: of all that is added together, where more is known of it than the entries tell.
        """
        error = (self.error + amount) * _upward(1)
        if self.length is None and length is None:
            return replace(self, error=error)
        added = lengths_of(amount) if length is None else torch.minimum(lengths_of(amount), length)
        return replace(self, error=error, length=(self.errors + added) * _upward(1))

    def times(self, other: Forms) -> Forms:
        """The product, entry by entry; the second factor's symbols, which are not the first's, are dropped.

        With first = a + α + d and second = b + β + e, the products of α, d with β, e are not followed.
        """
        first, second = self.with_symbols(0), other.without_symbols().with_symbols(0)
        a, b = first.centre, second.centre
        rows = first.rows * b[:, None]
        rows[:, 1 : 1 + self.count] += a[:, None] * second.rows[:, 1:]
        rounding = (self.count + 4) * UNIT * first.size * second.size
        error = first.error * b.abs() + second.error * a.abs() + first.reach * second.reach + rounding
        length = None
        if self.length is not None:
            # The first factor's errors are multiplied by all of the second; the rest is as for exact ones.
            beside = second.error * a.abs() + first.spread * second.reach + rounding
            most = second.most.flatten(1).amax(dim=1)
            length = (self.errors * most + lengths_of(beside)) * _upward(rows.shape[1])
        return Forms(rows, error * _upward(rows.shape[1]), self.count, self.origin, length)

    def widened(
        self,
        deviation: Tensor,
        room: int,
        used: int,
        length: Tensor | None = None,
        share: float | None = None,
    ) -> Forms:
        """With a symbol for each of the largest deviations ``(B, *shape)`` >= 0; the rest is added to errors.

        room is the number of symbols that forms may have in all; the first `used` stand for something else.
        length: see `loosened`. share: see `fresh_symbols`.
        """
        fresh = fresh_symbols(deviation.flatten(1), room - used, share)
        rows = fresh.rows.reshape(*fresh.rows.shape[:2], *self.shape)
        return self.loosened(fresh.rest.reshape(self.error.shape), length).joined(rows, used, None)

    def joined(self, symbols: Tensor, used: int, origin: Tensor | None) -> Forms:
        """With new symbols behind the first `used`: rows ``(B, k, *shape)``, origin ``(B, k, 2)``."""
        boxes, fresh = symbols.shape[:2]
        if not fresh:
            return self
        rows = torch.cat([self.with_symbols(used).rows, symbols], dim=1)
        if origin is None:
            return replace(self, rows=rows)
        place = origin.new_full((boxes, used + fresh, 2), ANY)
        place[:, used:] = origin
        return replace(self, rows=rows, origin=_either(place, self.origin))

    def apart(self) -> Forms:
        """With a symbol of its own for each error, of which nothing else is known, in its place."""
        deviation = self.error.flatten(1)
        fresh = fresh_symbols(deviation, max(deviation.shape[1], PLENTY))
        rows = fresh.rows.reshape(*fresh.rows.shape[:2], *self.shape)
        bare = replace(self, error=fresh.rest.reshape(self.error.shape), length=None)
        return bare.joined(rows, self.symbols, None)

    @property
    def errors(self) -> Tensor:
        """At least the length of all errors of one box together, as `length`."""
        own = lengths_of(self.error)
        return own if self.length is None else torch.minimum(own, self.length)


#: What is known of a symbol: that it is between -1 and 1, or that it is one of the two.
ANY, SIGN = -2, -1

# Deviations below this share of the box's largest get no symbol: measured, bounds are hardly less tight. So
# much room is there only for networks that multiply errors, and there they are: on a ViT the inconsistency
# over a box was bounded by 2 with the share, and by 0.07 without.
_WORTHY = 0.05
#: With room for so many symbols every deviation gets one.
PLENTY = 512


@dataclass(frozen=True)
class Fresh:
    """New symbols, as rows ``(B, k, N)`` of one entry each; what got none, ``(B, N)``.

    place ``(B, k)`` is each row's entry, and amount ``(B, k)`` what stands there.
    """

    rows: Tensor
    rest: Tensor
    place: Tensor
    amount: Tensor


def fresh_symbols(deviation: Tensor, room: int, share: float | None = None) -> Fresh:
    """Symbols for the largest of the deviations ``(B, N)`` >= 0, at most `room` of them for a box.

    share: of the box's largest, above which one is worth a symbol; None where the room decides it.

    There are as many rows as the box that needs the most has deviations worth a symbol.
    """
    boxes, entries = deviation.shape
    fresh = 0
    if room > 0 and deviation.numel():
        share = (_WORTHY if room < PLENTY else 0.0) if share is None else share
        worthy = deviation > share * deviation.amax(dim=1, keepdim=True)
        fresh = min(room, entries, int(worthy.sum(dim=1).max()))
    largest, place = deviation.topk(fresh, dim=1)
    rows = deviation.new_zeros((boxes, fresh, entries))
    rows.scatter_(2, place[..., None], largest[..., None])
    rest = deviation.scatter(1, place, 0.0) if fresh else deviation
    return Fresh(rows, rest, place, largest)


def _either(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    """What is known of symbols from two forms: of one that the first lacks, the second may know it."""
    if first is None or second is None:
        return first if second is None else second
    longer, shorter = (first, second) if first.shape[1] >= second.shape[1] else (second, first)
    either = longer.clone()
    either[:, : shorter.shape[1]] = torch.maximum(longer[:, : shorter.shape[1]], shorter)
    return either


def numbers_of(parts: Sequence[Tensor]) -> list[np.ndarray]:
    """The same as a kernel takes them, which is alike on all devices."""
    return [np.ascontiguousarray(own.cpu().numpy()) for own in parts]


def together(parts: Sequence[Forms]) -> Tensor | None:
    """The length of the errors of several forms set side by side; None where none has its own."""
    if all(forms.length is None for forms in parts):
        return None
    own = torch.stack(torch.broadcast_tensors(*(forms.errors for forms in parts)))
    return lengths_of(own.flatten(1).mT).reshape(own.shape[1:])


def all_of(length: Tensor) -> Tensor:
    """That of all errors, ``(B,)``, of a length as forms have it."""
    return length if length.ndim == 1 else length[0]


def lengths_of(numbers: Tensor) -> Tensor:
    """Lengths ``(B,)`` of numbers ``(B, *shape)``, rounded up, what is so small that it vanishes, too."""
    return (torch.linalg.vector_norm(numbers.flatten(1), dim=1) + 2.0**-500) * (1 + 2.0**-30)


def _spread(length: Tensor, like: Tensor) -> Tensor:
    """Numbers ``(B,)``, one for all entries ``(B, *shape)`` of a box."""
    return length.reshape(-1, *(1,) * (like.ndim - 1))


def _upward(terms: int) -> float:
    """Makes up for rounding a sum of so many numbers >= 0 and a few more operations."""
    return 1 + 2 * (terms + 8) * UNIT
