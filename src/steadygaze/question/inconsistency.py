"""How far a saliency map is from the expected one.

Maps are rows of float64 tensors (B, P), P being the number of compared entries. Every measure is 0 for equal
maps, does not change when a map is multiplied by a positive number, and takes its maximum where a map is all
zero, for a zero map has no direction.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from math import isfinite
from typing import final

import torch
from torch import Tensor

from steadygaze.enclosing.angles import cosine_bounds
from steadygaze.enclosing.enclosures import UNIT
from steadygaze.enclosing.forms import Forms
from steadygaze.errors import SettingError

# Entries handled at once where a temporary is needed: 1 MiB stays in the cache.
_BLOCK = 1 << 17
# Magnitudes that differ by less than this share of the largest are not told apart: rounding leaves some
# 1e-14.
_CLOSE = 1e-11
# A row shorter than this share of what is added up to it is not measured by inner products.
_CANCELLING = 0.1
# The shortest length of a map whose entries' squares keep all digits; the longest is as far above 1.
_LEAST = 1e-140


class AbstractInconsistency(ABC):
    """A measure of the difference between the actual and the expected map, between 0 and ``maximum``."""

    name: str
    maximum: float
    #: Whether an entry that is 0 in both maps makes a difference.
    counts_entries: bool = False
    #: Whether it stays the same when both maps are turned alike: it depends on lengths and angles alone.
    turns: bool = False

    def __repr__(self) -> str:
        return self.name

    @abstractmethod
    def between(self, actual: Tensor, expected: Tensor) -> Tensor:
        """How far each row of ``actual`` (B, P) is from that of ``expected`` (B, P) or (P,): (B,)."""

    def of_combined(self, weights: Tensor, maps: Tensor, expected: Tensor) -> tuple[Tensor, Tensor]:
        """`between` of ``weights`` (B, k) times ``maps`` (k, P) and ``expected`` (P,), (B,).

        With it come the Euclidean lengths of these rows, (B,).
        """
        actual = weights @ maps
        return self.between(actual, expected), torch.linalg.vector_norm(actual, dim=1)

    @abstractmethod
    def bounds(self, actual: Forms, expected: Forms, threshold: float | None = None) -> tuple[Tensor, Tensor]:
        """Least and largest inconsistency (B,) of maps known as forms (P,), over each box.

        threshold: where the largest is to be tight, as it is asked for; None for no such place.
        """

    def doubtful(self, actual: Tensor) -> Tensor:
        """Rows (B,) bool of ``actual`` (B, P) whose inconsistency rounding may have decided."""
        return torch.zeros(len(actual), dtype=torch.bool, device=actual.device)

    def slack(self, maps: Tensor, errors: Tensor) -> Tensor:
        """How far errors of at most ``(B or 1, P)`` of maps ``(B, P)`` may move it, from any other map: (B,).

        Where it `turns`, maps may be turned, for lengths are all that it depends on. By default for measures
        of maps that are divided by their Euclidean length, or by less: at most twice the relative error.
        """
        return _relative(maps, errors, 2.0)

    def cone(self, threshold: float) -> float | None:
        """kappa such that, for non-zero maps, inconsistency <= threshold just where <s, e> >= kappa |s| |e|.

        |.| is the Euclidean norm. None where the measure has no such kappa.
        """
        del threshold


@final
class Cosine(AbstractInconsistency):
    """1 - cos of the angle between the two maps; at most 2."""

    name = "cosine"
    maximum = 2.0
    turns = True

    def between(self, actual: Tensor, expected: Tensor) -> Tensor:
        """1 - <s, e> / (|s| |e|)."""
        (actual, lengths), (expected, extents) = _sized(actual), _sized(expected)
        products = actual @ expected if expected.ndim == 1 else torch.linalg.vecdot(actual, expected)
        sizes = (lengths * extents).squeeze(-1)
        distances = 1 - (products / sizes).clamp_(-1, 1)
        return distances.masked_fill_(sizes == 0, self.maximum)

    def of_combined(self, weights: Tensor, maps: Tensor, expected: Tensor) -> tuple[Tensor, Tensor]:
        """By the inner products of the few maps, which lengths and angles of all rows follow from.

        Rounding leaves of them the square of what it leaves of rows that cancel, so that these are added up.
        """
        products = maps @ torch.cat([maps, expected[None]]).T
        along, terms = weights @ products, weights.abs() @ products.diagonal().sqrt()
        lengths = (along[:, :-1] * weights).sum(dim=1).clamp_min_(0.0).sqrt_()
        sizes = lengths * torch.linalg.vector_norm(expected)
        distances = (1 - (along[:, -1] / sizes).clamp_(-1, 1)).masked_fill_(sizes == 0, self.maximum)
        told = (lengths >= _CANCELLING * terms) & (lengths >= _LEAST) & (sizes <= 1 / _LEAST)
        cancelling = (~told).nonzero()[:, 0]  # those that are not finite, too
        if len(cancelling):
            own = super().of_combined(weights[cancelling], maps, expected)
            distances[cancelling], lengths[cancelling] = own
        return distances, lengths

    def bounds(self, actual: Forms, expected: Forms, threshold: float | None = None) -> tuple[Tensor, Tensor]:
        """See ``enclosing.angles``."""
        near = None if threshold is None else self.cone(threshold)
        least, most = cosine_bounds(actual, expected, near)
        return (1 - most).masked_fill(_vanish(actual) | _vanish(expected), self.maximum), 1 - least

    def cone(self, threshold: float) -> float | None:
        """1 - threshold."""
        return 1 - threshold


class _AbstractNorm(AbstractInconsistency):
    """The distance, in one norm, of the two maps each divided by its own size in the same norm; at most 2."""

    maximum = 2.0
    order: float

    def between(self, actual: Tensor, expected: Tensor) -> Tensor:
        """|s / |s| - e / |e||."""
        (actual, sizes), (expected, extents) = _sized(actual, self.order), _sized(expected, self.order)
        targets = expected / extents if expected.ndim == 1 else expected
        distances = torch.empty(len(actual), dtype=actual.dtype, device=actual.device)
        rows = max(1, _BLOCK // max(1, actual.shape[-1]))
        for start in range(0, len(actual), rows):
            block = slice(start, start + rows)
            unit = actual[block] / sizes[block]
            unit -= targets if targets.ndim == 1 else targets[block] / extents[block]
            distances[block] = torch.linalg.vector_norm(unit, self.order, dim=-1)
        zero = (sizes == 0).squeeze(-1) | (extents == 0).squeeze(-1)
        # Rounding may leave opposite maps a unit in the last place beyond the maximum.
        return distances.clamp_(max=self.maximum).masked_fill_(zero, self.maximum)

    def slack(self, maps: Tensor, errors: Tensor) -> Tensor:
        """|x/|x| - c/|c|| <= 2 |x - c| / |c|; see `bounds`."""
        return _relative(maps, errors, self.order)

    def bounds(self, actual: Forms, expected: Forms, threshold: float | None = None) -> tuple[Tensor, Tensor]:
        """The distance of the centres, give or take how far each unit vector may be from its centre's.

        In every norm |x/|x| - c/|c|| <= 2 |x - c| / |c|, for x/|x| - c/|c| = (x - c)/|c| + x (1/|x| - 1/|c|).
        """
        del threshold
        distance = self.between(actual.centre, expected.centre)
        slack = self._turn(actual) + self._turn(expected)
        slack = slack + 16 * (actual.rows.shape[-1] + 16) * UNIT
        low = (distance - slack).clamp_min(0.0).masked_fill(_vanish(actual) | _vanish(expected), self.maximum)
        return low, (distance + slack).clamp_max(self.maximum)

    def _turn(self, forms: Forms) -> Tensor:
        """How far unit vectors may be from their centre's, (B,); infinite where a map may vanish."""
        size = torch.linalg.vector_norm(forms.centre, self.order, dim=-1)
        away = torch.linalg.vector_norm(forms.reach, self.order, dim=-1)
        return torch.where((away < size) & (size <= 1 / _LEAST), 2 * away / size, torch.inf)


@final
class L1(_AbstractNorm):
    """The l1 distance of the two maps, each divided by its l1 norm; at most 2."""

    name = "l1"
    order = 1.0


@final
class L2(_AbstractNorm):
    """The Euclidean distance of the two maps, each divided by its Euclidean norm; at most 2."""

    name = "l2"
    order = 2.0
    turns = True

    def of_combined(self, weights: Tensor, maps: Tensor, expected: Tensor) -> tuple[Tensor, Tensor]:
        """In as few axes as there are maps: turned, all rows and the expected map lie in them."""
        turned = torch.linalg.qr(torch.cat([maps, expected[None]]).T, mode="r").R
        return super().of_combined(weights, turned[:, :-1].T, turned[:, -1])

    def bounds(self, actual: Forms, expected: Forms, threshold: float | None = None) -> tuple[Tensor, Tensor]:
        """By the angle between the maps: |s/|s| - e/|e||^2 = 2 - 2 cos."""
        near = None if threshold is None else self.cone(threshold)
        least, most = cosine_bounds(actual, expected, near)
        low = (2 - 2 * most - 8 * UNIT).clamp_min(0.0).sqrt() * (1 - 4 * UNIT)
        high = (2 - 2 * least + 8 * UNIT).sqrt() * (1 + 4 * UNIT)
        low = low.masked_fill(_vanish(actual) | _vanish(expected), self.maximum)
        return low, high.clamp_max(self.maximum)

    def cone(self, threshold: float) -> float | None:
        """1 - threshold^2 / 2, for |s/|s| - e/|e||^2 = 2 - 2 cos."""
        return 1 - threshold**2 / 2


@final
class Linf(_AbstractNorm):
    """The largest difference of the two maps, each divided by its largest magnitude; at most 2."""

    name = "linf"
    order = float("inf")


@final
class TopK(AbstractInconsistency):
    """1 - the share of the k entries of largest magnitude that the two maps have in common; at most 1.

    ``k`` is a count (int, at least 1) or a share of the compared entries (float, above 0 and at most 1;
    rounded, at least one entry). Of equal magnitudes the one with the lower index comes first.
    """

    name = "top-k"
    maximum = 1.0
    counts_entries = True

    def __init__(self, k: int | float = 0.05) -> None:
        count = isinstance(k, int) and not isinstance(k, bool) and k >= 1
        share = isinstance(k, float) and isfinite(k) and 0 < k <= 1
        if not (count or share):
            raise SettingError(
                f"the k of top-k is {k!r}; it must be a count of entries (1, 2, ...) or a share of them "
                "above 0 and at most 1.0"
            )
        self.k = k

    def doubtful(self, actual: Tensor) -> Tensor:
        """Rows whose k-th and next magnitude differ, but by no more than rounding leaves."""
        k = self._count(actual.shape[-1])
        if k == actual.shape[-1]:
            return super().doubtful(actual)
        first = actual.abs().topk(k + 1, dim=-1).values
        apart = first[:, k - 1] - first[:, k]
        return (apart > 0) & (apart <= _CLOSE * first[:, 0])

    def slack(self, maps: Tensor, errors: Tensor) -> Tensor:
        """Infinite where the k-th and the next magnitude may come in either order, and 0 elsewhere."""
        k = self._count(maps.shape[-1])
        if k == maps.shape[-1]:
            return maps.new_zeros(len(maps))
        first = maps.abs().topk(k + 1, dim=-1).values
        apart = first[:, k - 1] - first[:, k]
        either = (apart > 0) & (apart <= 2 * errors.amax(dim=-1))
        return maps.new_zeros(len(maps)).masked_fill(either, torch.inf)

    def _count(self, entries: int) -> int:
        return min(entries, self.k) if isinstance(self.k, int) else max(1, round(self.k * entries))

    def bounds(self, actual: Forms, expected: Forms, threshold: float | None = None) -> tuple[Tensor, Tensor]:
        """By the entries that must, and those that may, be among the k largest of each map.

        The top of two maps has at least the entries in common that must be in both, and at most those that
        may. If n entries may be in either top, the two of k entries share at least 2 k - n.
        """
        del threshold
        k = self._count(actual.shape[0])
        (must, may), (wanted, allowed) = _tops(actual, k), _tops(expected, k)
        least = torch.maximum((must & wanted).sum(-1), 2 * k - (may | allowed).sum(-1)).clamp_min(0)
        most = (may & allowed).sum(-1).clamp_max(k)
        low, high = (1 - common.to(actual.error.dtype) / k for common in (most, least))
        low = low.masked_fill(_vanish(actual) | _vanish(expected), self.maximum)
        return low, high.masked_fill(_may_vanish(actual) | _may_vanish(expected), self.maximum)

    def between(self, actual: Tensor, expected: Tensor) -> Tensor:
        """1 - |top(s) and top(e)| / k."""
        entries = actual.shape[-1]
        k = self._count(entries)
        wanted = _largest(torch.atleast_2d(expected).abs(), k)
        distances = torch.empty(len(actual), dtype=actual.dtype, device=actual.device)
        rows = max(1, _BLOCK // max(1, entries))
        for start in range(0, len(actual), rows):
            block = slice(start, start + rows)
            common = _largest(actual[block].abs(), k) & (wanted if len(wanted) == 1 else wanted[block])
            distances[block] = 1 - common.sum(-1, dtype=actual.dtype) / k
        zero = ~actual.any(dim=-1) | ~expected.any(dim=-1)
        return distances.masked_fill_(zero, self.maximum)


def _tops(forms: Forms, k: int) -> tuple[Tensor, Tensor]:
    """Masks (B, P) of the entries that must, and that may, be among the k of largest magnitude.

    An entry must be if fewer than k others can reach it, and may not be if k others are certainly above it.
    """
    low, high = forms.bounds()
    least = torch.maximum(low, -high).clamp_min(0.0)
    most = torch.maximum(high, -low)
    entries = least.shape[-1]
    above = entries - torch.searchsorted(least.sort(dim=-1).values, most, right=True)
    reaching = entries - torch.searchsorted(most.sort(dim=-1).values, least, right=False)
    return reaching - 1 < k, above < k


def _relative(maps: Tensor, errors: Tensor, order: float) -> Tensor:
    """Twice the size of errors beside that of maps, ``(B,)``; 0 for a map that is 0 to the last entry.

    Infinite where lengths leave double precision.
    """
    size = torch.linalg.vector_norm(maps, order, dim=-1)
    found = 2 * torch.linalg.vector_norm(errors, order, dim=-1).to(size.device) / size
    odd = ~((size >= _LEAST) & (size <= 1 / _LEAST))
    if odd.any():  # as where a map is zero
        found = found.masked_fill_(odd, torch.inf).masked_fill_(~maps.any(dim=-1), 0.0)
    return found


def _sized(maps: Tensor, order: float = 2.0) -> tuple[Tensor, Tensor]:
    """Maps, and their lengths ``(..., 1)``; those whose length leaves double precision at another size.

    Entries of 1e160 have squares that are infinite, entries of 1e-170 squares that are 0, and directions yet.
    """
    sizes = torch.linalg.vector_norm(maps, order, dim=-1, keepdim=True)
    odd = ~((sizes >= _LEAST) & (sizes <= 1 / _LEAST))
    if odd.any():
        largest = maps.abs().amax(dim=-1, keepdim=True)
        odd &= (largest > 0) & largest.isfinite()
        maps = torch.where(odd, maps / largest, maps)
        sizes = torch.linalg.vector_norm(maps, order, dim=-1, keepdim=True)
    return maps, sizes


def _vanish(forms: Forms) -> Tensor:
    """Whether the map is 0 all over the box, (B,), and so as far from any other as can be."""
    return ~(forms.rows.flatten(1).any(dim=1) | forms.error.any(dim=1))


def _may_vanish(forms: Forms) -> Tensor:
    """Whether every entry may be 0 at once, (B,)."""
    low, high = forms.bounds()
    return ((low <= 0) & (high >= 0)).all(dim=-1)


def _largest(magnitudes: Tensor, k: int) -> Tensor:
    """A mask (B, P) of the k largest entries of each row; ties go to the lower index."""
    least = magnitudes.topk(k, dim=-1, sorted=False).values.amin(dim=-1, keepdim=True)
    mask = magnitudes >= least
    crowded = (mask.sum(-1) > k).nonzero().squeeze(-1)
    if len(crowded):
        above = magnitudes[crowded] > least[crowded]
        equal = magnitudes[crowded] == least[crowded]
        room = k - above.sum(-1, keepdim=True)
        mask[crowded] = above | (equal & (equal.cumsum(-1) <= room))
    return mask


#: Every measure that a specification can name.
BUILT_IN: tuple[type[AbstractInconsistency], ...] = (Cosine, L1, L2, Linf, TopK)


def by_name(name: str) -> AbstractInconsistency:
    """The measure of that name; ``top-k`` may carry its k, as in ``top-k(20)`` or ``top-k(0.1)``.

    Raises SettingError naming the ones that exist.
    """
    known = {cls.name: cls for cls in BUILT_IN}
    if name in known:
        return known[name]()
    match = re.fullmatch(r"top-k\((\d+)\)|top-k\((\d*\.\d+)\)", name)
    if match:
        return TopK(int(match[1]) if match[1] else float(match[2]))
    raise SettingError(
        f"there is no inconsistency named {name!r}; allowed: {', '.join(known)}, top-k(20), top-k(0.1)"
    )
