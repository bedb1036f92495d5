"""Functions of one number that are affine between places and may jump there: what comparisons are made of.

All is exact, in fractions: whether two sides meet at a place is no matter of rounding.
"""

from __future__ import annotations

import operator
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from itertools import pairwise
from typing import TypeAlias

import numpy as np

Numbers: TypeAlias = np.ndarray
"""Fractions ``(1,)``, the same for all units, or ``(N,)``, one for each."""

_NONE = Fraction(0)
_COMPARED: dict[str, Callable[[int], bool]] = {
    "above": lambda sign: sign > 0,
    "at least": lambda sign: sign >= 0,
    "below": lambda sign: sign < 0,
    "at most": lambda sign: sign <= 0,
    "equal": lambda sign: sign == 0,
    "other": lambda sign: sign != 0,
}


class NotAffineError(ValueError):
    """What comes out is not affine between places, or has other places for other units."""


def exact(numbers: np.ndarray | float) -> Numbers:
    """Finite numbers, flattened, as the fractions that they are. Raises NotAffineError on others."""
    flat = np.asarray(numbers, np.float64).reshape(-1)
    if not np.isfinite(flat).all():
        raise NotAffineError("its constants are not finite")
    if flat.size > 1 and (flat == flat[0]).all():
        flat = flat[:1]
    return np.array([Fraction(float(number)) for number in flat], dtype=object)


@dataclass(frozen=True)
class Line:
    """``slope z + offset``."""

    slope: Numbers
    offset: Numbers

    def __call__(self, z: Fraction) -> Numbers:
        return self.slope * z + self.offset

    def same(self, other: Line) -> bool:
        """Whether both are one line for every unit."""
        return bool((self.slope == other.slope).all() and (self.offset == other.offset).all())


IDENTITY = Line(exact(1.0), exact(0.0))
"""z itself."""

NEVER = Line(exact(0.0), exact(0.0))
"""A condition that does not hold."""


@dataclass(frozen=True)
class Steps:
    """k places, ascending, and 2 k + 1 lines: before the first place, on it, between it and the next, ..."""

    places: tuple[Fraction, ...] = ()
    lines: tuple[Line, ...] = (IDENTITY,)

    @staticmethod
    def constant(numbers: np.ndarray | float) -> Steps:
        """The same whatever the argument."""
        return Steps((), (Line(exact(0.0), exact(numbers)),))

    @staticmethod
    def affine(scale: np.ndarray | float, shift: np.ndarray | float) -> Steps:
        """``scale z + shift``."""
        return Steps((), (Line(exact(scale), exact(shift)),))

    @staticmethod
    def joined(places: Sequence[float], lines: Sequence[tuple[np.ndarray, np.ndarray]]) -> Steps:
        """Lines that meet at these places; a place belongs to the line before it."""
        known = [Line(exact(slope), exact(offset)) for slope, offset in lines]
        found = [known[0]]
        for before, after in pairwise(known):
            found += [before, after]
        return Steps(tuple(Fraction(float(place)) for place in places), tuple(found))

    def refined(self, places: Sequence[Fraction]) -> Steps:
        """The same function with these places, which hold all of its own."""
        return Steps(tuple(places), tuple(self._line_at(place) for place in _parts(places)))

    def with_(self, other: Steps, made: Callable[[Line, Line], Line]) -> Steps:
        """Line by line one of both."""
        places = sorted({*self.places, *other.places})
        pairs = zip(self.refined(places).lines, other.refined(places).lines, strict=True)
        return Steps(tuple(places), tuple(made(a, b) for a, b in pairs))

    def __add__(self, other: Steps) -> Steps:
        return self.with_(other, lambda a, b: Line(a.slope + b.slope, a.offset + b.offset))

    def __mul__(self, other: Steps) -> Steps:
        return self.with_(other, _product)

    def signs(self) -> Steps:
        """-1, 0 or 1. Raises NotAffineError if other units have other zeros."""
        own = self.refined(sorted({*self.places, *self._zeros()}))
        lines = (
            Line(exact(0.0), np.array([Fraction((v > 0) - (v < 0)) for v in line(place.inside)]))
            for place, line in zip(_parts(own.places), own.lines, strict=True)
        )
        return Steps(own.places, tuple(lines))

    def compared(self, how: str) -> Steps:
        """1 where the function is so compared with 0 (see `_COMPARED`), 0 elsewhere."""
        told = np.frompyfunc(lambda sign: Fraction(_COMPARED[how](int(sign))), 1, 1)
        signs = self.signs()
        lines = (Line(line.slope, np.asarray(told(line.offset))) for line in signs.lines)
        return Steps(signs.places, tuple(lines))

    def inside(self, inner: Steps) -> Steps:
        """This function of the inner one, which does not jump.

        Raises NotAffineError if other units have other places.
        """
        places = {*inner.places}
        for part, line in zip(_parts(inner.places), inner.lines, strict=True):
            for place in self.places:
                places |= _reached(line, place, part)
        known = inner.refined(sorted(places))
        lines = []
        for part, line in zip(_parts(known.places), known.lines, strict=True):
            units = max(len(line.slope), len(line.offset), *(len(own.offset) for own in self.lines))
            a, b = (np.broadcast_to(numbers, units) for numbers in (line.slope, line.offset))
            outer = [self._line_at(_Part(value, value)) for value in a * part.inside + b]
            c, d = (
                np.array([_entry(getattr(own, name), i) for i, own in enumerate(outer)], dtype=object)
                for name in ("slope", "offset")
            )
            lines.append(Line(c * a, c * b + d))
        return Steps(known.places, tuple(lines))

    def jump(self) -> tuple[Fraction, Fraction, Fraction] | None:
        """The first place where it jumps, and from which number to which; None if it does not."""
        for k, place in enumerate(self.places):
            values = [line(place) for line in self.lines[2 * k : 2 * k + 3]]
            for before, after in (values[:2], values[1:]):
                before, after = np.broadcast_arrays(before, after)
                apart = np.flatnonzero(before != after)
                if len(apart):
                    return place, _entry(before, apart[0]), _entry(after, apart[0])
        return None

    def bends(self) -> Steps:
        """The same without the places at which it is one line with both sides; it must not jump.

        Where only the place itself has another line, as ``where(z == 0, 0, z)`` has at 0, its slope there is
        what rules of differentiation make of it: the place is kept, so that nobody takes it for a witness.
        """
        kept = [
            k
            for k in range(len(self.places))
            if not all(self.lines[2 * k].same(line) for line in self.lines[2 * k + 1 : 2 * k + 3])
        ]
        lines = [self.lines[0]]
        for k in kept:
            lines += self.lines[2 * k + 1 : 2 * k + 3]
        return Steps(tuple(self.places[k] for k in kept), tuple(lines))

    def _line_at(self, part: _Part) -> Line:
        place = part.inside
        after = bisect_right(self.places, place)
        return self.lines[2 * after - (bisect_left(self.places, place) < after)]

    def _zeros(self) -> set[Fraction]:
        found: set[Fraction] = set()
        for part, line in zip(_parts(self.places), self.lines, strict=True):
            found |= _reached(line, _NONE, part)
        return found


def selected(condition: Steps, first: Steps, second: Steps) -> Steps:
    """The first function where the condition is 1, the second where it is 0."""
    other = condition * Steps.constant(-1.0) + Steps.constant(1.0)
    return condition * first + other * second


@dataclass(frozen=True)
class _Part:
    """Numbers between two places, or a place alone; None for no end."""

    low: Fraction | None
    high: Fraction | None

    @property
    def inside(self) -> Fraction:
        """One of them."""
        if self.low is None:
            return _NONE if self.high is None else self.high - 1
        return self.low + 1 if self.high is None else (self.low + self.high) / 2


def _parts(places: Sequence[Fraction]) -> list[_Part]:
    ends = [None, *places, None]
    parts = [_Part(ends[0], ends[1])]
    for place, following in zip(places, ends[2:], strict=True):
        parts += [_Part(place, place), _Part(place, following)]
    return parts


def _reached(line: Line, level: Fraction, part: _Part) -> set[Fraction]:
    """Where within a part a line comes to a level: nowhere, or at one place for all units."""
    slopes, offsets = np.broadcast_arrays(line.slope, line.offset)
    found = {(level - b) / a for a, b in zip(slopes, offsets, strict=True) if a != 0}
    inside = {z for z in found if (part.low is None or z > part.low) and (part.high is None or z < part.high)}
    if len(inside) > 1:
        raise NotAffineError("other units are compared with other numbers")
    return inside


def _product(a: Line, b: Line) -> Line:
    if (a.slope * b.slope != 0).any():
        raise NotAffineError("it multiplies two values that both depend on what is compared")
    return Line(a.slope * b.offset + b.slope * a.offset, a.offset * b.offset)


def _entry(numbers: Numbers, unit: int) -> Fraction:
    return numbers[unit] if len(numbers) > 1 else numbers[0]


def truths(parts: Sequence[Steps], how: str) -> Steps:
    """Truth values (1 and 0) joined: "and", "or", "xor"."""
    if how == "and":
        return reduce(operator.mul, parts)
    if how == "or":
        return negated(reduce(operator.mul, map(negated, parts)))
    first, second = parts
    return selected(first, negated(second), second)


def negated(part: Steps) -> Steps:
    """1 where it is 0, and 0 where it is 1."""
    return part * Steps.constant(-1.0) + Steps.constant(1.0)
