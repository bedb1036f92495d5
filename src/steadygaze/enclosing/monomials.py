"""Polynomials in a few variables of magnitude at most 1, as rows of coefficients, cut off above a degree.

The rows of `Forms` are read so: the constant, the variables themselves, then their products in the order of
their degree. As none of these exceeds 1, a polynomial is a form whose symbols are products of coordinates,
and whatever is said of symbols between -1 and 1 holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import combinations_with_replacement

import numpy as np
import torch
from torch import Tensor

from steadygaze.enclosing import double_kernels


@dataclass(frozen=True)
class Monomials:
    """All products of so many variables, up to a degree.

    Attributes:
        variables: n >= 1. degree: of the highest ones, >= 1.
        beside: how many symbols come behind them in the rows of all forms; their products are not followed.
    """

    variables: int
    degree: int
    beside: int = 0

    @cached_property
    def factors(self) -> list[tuple[int, ...]]:
        """The variables that each is a product of, in the order of rows."""
        return [
            own
            for degree in range(self.degree + 1)
            for own in combinations_with_replacement(range(self.variables), degree)
        ]

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.factors)

    def place(self, own: tuple[int, ...]) -> int:
        """The row of the product of these variables, in order."""
        return self.factors.index(own)

    @cached_property
    def ends(self) -> list[int]:
        """How many have degree 0, at most 1, and so on."""
        return [sum(len(own) <= degree for own in self.factors) for degree in range(self.degree + 1)]

    @cached_property
    def _places(self) -> list[list[int]]:
        """For each the rows where its products with others stand, as long as these are not too high."""
        place = {own: row for row, own in enumerate(self.factors)}
        return [
            [
                place[tuple(sorted((*own, *other)))]
                for other in self.factors[: self.ends[self.degree - len(own)]]
            ]
            for own in self.factors
        ]

    def product(
        self, function: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor, degree: int | None = None
    ) -> Tensor:
        """What a function that is linear in both makes of two polynomials, up to a degree.

        Args:
            function: takes ``(B, 1, *shape)`` and ``(B, k, *other)``.
            a: ``(B, rows, *shape)``, b: ``(B, rows, *other)``; either may have fewer rows, of lower degrees.
            degree: the highest that is followed; by default that of these monomials.
        """
        highest = self.degree if degree is None else degree
        found: Tensor | None = None
        for row in range(min(a.shape[1], self.ends[highest])):
            count = min(b.shape[1], self.ends[highest - len(self.factors[row])])
            part = function(a[:, row : row + 1], b[:, :count])
            if found is None:
                found = part.new_zeros((len(part), self.ends[highest], *part.shape[2:]))
            places = self._places[row][:count]
            if places == list(range(places[0], places[0] + count)):
                found[:, places[0] : places[0] + count] += part
            else:
                found.index_add_(1, torch.tensor(places, device=part.device), part)
        assert found is not None, "there is a constant at least"
        return found

    def graded(self, rows: Tensor) -> Tensor:
        """Sums of magnitudes for each degree, ``(B, degree + 1, *shape)``, of ``(B, <= rows, *shape)``."""
        starts = [0, *self.ends[:-1]]
        sizes = rows.abs()
        return torch.stack(
            [sizes[:, start:end].sum(dim=1) for start, end in zip(starts, self.ends, strict=True)], dim=1
        )

    def composed(self, numbers: Sequence[Tensor], inner: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``sum over k >= 1 of numbers[k - 1] inner^k``, by Horner's rule.

        Returns rows; at least the magnitude of all terms together; and how much of it is left out. inner is
        a polynomial ``(B, rows, *shape)``, whose constant is small, and each number ``(B, *shape)``.
        """
        if double_kernels.suit(inner):
            return self._compiled(numbers, inner)
        sizes = self.graded(inner)
        line = Monomials(1, self.degree)
        most, tails = sizes.sum(dim=1), sizes.flip(1).cumsum(dim=1).flip(1)
        rows, kept = numbers[-1][:, None], numbers[-1].abs()[:, None]
        whole, lost = numbers[-1].abs(), torch.zeros_like(most)
        for left in range(len(numbers) - 1, -1, -1):
            degree = min(self.degree, max(0, self.degree - left))
            lost = lost * most
            for own in range(kept.shape[1]):
                if degree - own + 1 <= self.degree:
                    lost = lost + kept[:, own] * tails[:, max(0, degree - own + 1)]
            rows, kept = self.product(_times, rows, inner, degree), line.product(_times, kept, sizes, degree)
            whole = whole * most
            if left:
                rows[:, 0] += numbers[left - 1]
                kept[:, 0] += numbers[left - 1].abs()
                whole = whole + numbers[left - 1].abs()
        return rows, whole, lost

    def _compiled(self, numbers: Sequence[Tensor], inner: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shape = numbers[0].shape
        rows, beside = double_kernels.composed(
            torch.stack(list(numbers)).flatten(2).numpy(),
            inner.flatten(2).contiguous().numpy(),
            *self._arrays,
        )
        whole, lost = (own.reshape(shape) for own in torch.from_numpy(beside))
        return torch.from_numpy(rows).reshape(len(rows), -1, *shape[1:]), whole, lost

    @cached_property
    def _arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where products stand, how many rows there are of each degree, and degrees: for kernels."""
        places = np.zeros((self.rows, self.rows), np.int64)
        for row, own in enumerate(self._places):
            places[row, : len(own)] = own
        return places, np.array(self.ends), np.array([len(own) for own in self.factors])


def _times(a: Tensor, b: Tensor) -> Tensor:
    return a * b


@cache
def monomials(variables: int, degree: int, beside: int = 0) -> Monomials:
    """The same ones each time."""
    return Monomials(variables, degree, beside)
