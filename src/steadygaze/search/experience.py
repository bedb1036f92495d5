"""What is found of boxes that bounds judge, and what efforts for that were worth on boxes of each size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from steadygaze.geometry.kinds import UNDECIDED

# Boxes of each size on which an effort is tried.
_TRIALS = 6
# Boxes of a size are not even tried where larger ones, of which forms decided such a share, were decided by
# less than that part of what would pay.
_SOME, _HOPELESS = 0.1, 0.5
# Rows for gaps come first where forms decide less than this share of the boxes, and rows at least that of all
# that forms do not: what they take besides is half of what they take after forms.
_FORMS_PAY, _FIRST_PAY = 0.5, 0.4
# What trials may cost without success: a share of what has been spent, and so much besides.
_LOST_SHARE, _LOST_FIRST = 0.1, 4.0
# Of boxes that get a symbol for each pixel, the share that is to be decided: without any hardly any would be.
_PIXELS_PAY = 0.25


@dataclass(frozen=True)
class Judged:
    """What bounds say of B boxes.

    Attributes:
        kind: ``(B,)`` int8, UNDECIDED where they leave it open.
        doubts: ``(B,)`` units that may be on several pieces.
        pull: ``(B, n)`` what part of the doubt each parameter is to blame for, 0 to 1.
        forms, gaps, symbols: ``(B,)`` 1 if forms, rows for gaps, or more symbols have decided the class, or
            the box; 0 if they have not, nan where they were not tried.
        units, slopes: ``(B,)`` how far rows for units, or slopes, brought the bound of the least gap towards
            its value in the middle: the share of the distance that was left. nan where they were not tried.
        spent, lost: ``(B,)`` what was done, forms being 1; and what of it decided nothing, less what was
            saved where more than forms did.
        precise: ``(B,)`` bool, whether gradients to twice the precision decided it, and none without.
        pixels: ``(B,)`` 1 if a symbol for each pixel has decided the box; 0 if not, nan where not tried.
        followed: ``(B,)`` how many symbols polynomials had that decided the box; nan where they did not.
    """

    kind: np.ndarray
    doubts: np.ndarray
    pull: np.ndarray
    forms: np.ndarray
    gaps: np.ndarray
    symbols: np.ndarray
    units: np.ndarray
    slopes: np.ndarray
    spent: np.ndarray
    lost: np.ndarray
    precise: np.ndarray
    pixels: np.ndarray
    followed: np.ndarray

    @staticmethod
    def joined(parts: Sequence[Judged]) -> Judged:
        """Those of several batches, one after the other."""
        names = [field.name for field in fields(Judged)]
        return Judged(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def replaced(self, chosen: np.ndarray, rest: Judged) -> Judged:
        """With others in the place of some boxes."""
        order = np.arange(len(self.kind))
        order[chosen] = len(self.kind) + np.arange(len(chosen))
        return Judged.joined([self, rest]).take(order)

    def met(self, chosen: np.ndarray, others: Judged) -> Judged:
        """With what was found of other parts of some boxes: decided are those whose parts are alike."""
        alike = self.kind[chosen] == others.kind
        kind = np.where(alike, others.kind, UNDECIDED).astype(np.int8)
        spent, lost = self.spent[chosen] + others.spent, self.lost[chosen] + others.lost
        return self.replaced(chosen, replace(others, kind=kind, spent=spent, lost=lost))

    def take(self, chosen: np.ndarray) -> Judged:
        """Those of some boxes."""
        return Judged(*(getattr(self, field.name)[chosen] for field in fields(Judged)))


class Experience:
    """What efforts were worth on boxes of each size: sums and numbers of what `Judged` says of them.

    Attributes:
        strays: whether pixels stray over any box about 0, so that symbols for them are worth while.
        is_plain: whether boxes are to have no more effort than polynomials and forms.
        drowned: whether some box was decided by gradients to twice the precision, and not without. As all
            else it is learnt between steps: within one, boxes that are judged side by side know the same.
        followed: the most symbols with which polynomials have decided a box.
    """

    def __init__(self, strays: bool = False) -> None:
        self.strays, self.is_plain = strays, False
        self._seen: dict[tuple[str, int], tuple[float, int]] = {}
        self._spent = self._lost = 0.0
        self.drowned, self.followed = False, 0
        self._pixels: dict[int, tuple[int, int]] = {}

    @property
    def plain(self) -> Experience:
        """What is known of polynomials alone, for boxes that are to have no more effort."""
        known = Experience()
        known.is_plain, known.followed = True, self.followed
        return known

    def learn(self, shares: np.ndarray, judged: Judged) -> None:
        """Take in what became of boxes that are these shares ``(B,)`` of the whole."""
        self._spent += float(judged.spent.sum())
        self._lost = max(0.0, self._lost + float(judged.lost.sum()))
        self.learn_few(shares, judged)
        for name in ("forms", "gaps", "symbols", "units", "slopes"):
            found = getattr(judged, name)
            for number in np.flatnonzero(np.isfinite(found)):
                key = (name, _size(shares[number]))
                total, count = self._seen.get(key, (0.0, 0))
                self._seen[key] = total + float(found[number]), count + 1

    def learn_few(self, shares: np.ndarray, judged: Judged) -> None:
        """Take in whether rounding left any of the boxes open, and which symbols decided."""
        self.drowned = self.drowned or bool(judged.precise.any())
        self.followed = max(self.followed, int(np.fmax.reduce(judged.followed, initial=0)))
        for number in np.flatnonzero(np.isfinite(judged.pixels)):
            size = _size(shares[number])
            decided, tried = self._pixels.get(size, (0, 0))
            self._pixels[size] = decided + int(judged.pixels[number]), tried + 1

    @property
    def pixels_decided(self) -> bool:
        """Whether symbols for pixels have decided any box."""
        return any(decided for decided, _ in self._pixels.values())

    def tries_pixels(self, shares: np.ndarray, most: np.ndarray, at_zero: np.ndarray) -> np.ndarray:
        """``(B,)`` bool: which boxes may have symbols for pixels.

        Boxes of a size of which they decided enough. And others, while no more than so many ``(B,)`` were
        tried in vain: those at 0, for which that does not count any more once one was decided, and from then
        on the rest.
        """
        vain = sum(tried - decided for decided, tried in self._pixels.values())
        seen = [self._pixels.get(_size(share), (0, 0)) for share in shares]
        good = np.array([decided and decided >= _PIXELS_PAY * tried for decided, tried in seen], bool)
        bad = np.array([tried >= _TRIALS for _, tried in seen], bool) & ~good
        if self.pixels_decided:
            return good | (~bad & (at_zero | (vain <= most)))
        return ~bad & at_zero & (vain <= most)

    def pays(
        self, name: str, shares: np.ndarray, least: float, cost: float, first: float | None = None
    ) -> np.ndarray:
        """``(B,)`` bool: where it decided such a share of boxes, or may be tried at this cost.

        first: what its trials may cost before any succeeds, if they have a share of their own; None: they are
        tried as far as all trials together may be.
        """
        seen = [self._seen.get((name, _size(share)), (0.0, 0)) for share in shares]
        known = np.array([count >= _TRIALS for _, count in seen], bool)
        good = np.array([total >= least * count for total, count in seen], bool)
        larger = [self._on_larger(name, _size(share), _TRIALS) for share in shares]
        tried = ~known & np.array([total >= _HOPELESS * least * count for total, count in larger], bool)
        # What is known to pay while it is still tried costs nothing, as far as one can tell.
        costs = np.where(tried, cost, 0.0)
        may = self.affords(costs) if first is None else self._affords_of(name, costs, least, cost, first)
        return np.where(known, good, tried & may)

    def goes_first(self, shares: np.ndarray) -> np.ndarray:
        """``(B,)`` bool: where rows for gaps pay and forms alone decide few boxes."""
        forms, gaps = (
            np.array([self._seen.get((name, _size(share)), (0.0, 0)) for share in shares]).T
            for name in ("forms", "gaps")
        )
        tried = (forms[1] > 0) & (gaps[1] >= _TRIALS)
        left = 1 - forms[0] / np.maximum(forms[1], 1)
        return tried & (left > 1 - _FORMS_PAY) & (left * gaps[0] >= _FIRST_PAY * gaps[1])

    def affords(self, costs: np.ndarray) -> np.ndarray:
        """``(B,)`` bool: what may be tried of things of these costs ``(B,)``, the first ones first."""
        return np.cumsum(costs) <= _LOST_FIRST + _LOST_SHARE * self._spent - self._lost

    def _affords_of(
        self, name: str, costs: np.ndarray, least: float, cost: float, first: float
    ) -> np.ndarray:
        """`affords` for trials of one thing alone, each of that cost: they pay where they decide `least`."""
        found = [found for (own, _), found in self._seen.items() if own == name]
        lost = cost * max(0.0, sum(count for _, count in found) - sum(total for total, _ in found) / least)
        return np.cumsum(costs) <= first + _LOST_SHARE * self._spent - lost

    def left(self, name: str, shares: np.ndarray) -> np.ndarray:
        """``(B,)`` what rows for units, or slopes, are expected to leave; nan where nothing is known.

        Boxes of a size that was not tried yet are taken for those of the next larger one that was.
        """
        sizes = [_size(share) for share in shares]
        seen = [self._seen.get((name, size)) or self._on_larger(name, size, 1) for size in sizes]
        return np.array([total / count if count else np.nan for total, count in seen])

    def _on_larger(self, name: str, size: int, least: int) -> tuple[float, int]:
        """What `Judged` says of the next larger boxes of which so many were tried; twice 0 where none were.

        Only sizes count of which forms decide some: above them boxes are too wide for anything, below them
        more effort gains the less the smaller they are.
        """
        for larger in range(size - 1, -1, -1):
            decided, boxes = self._seen.get(("forms", larger), (0.0, 0))
            total, count = self._seen.get((name, larger), (0.0, 0))
            if count >= least and boxes and decided >= _SOME * boxes:
                return total, count
        return 0.0, 0


def _size(share: float) -> int:
    """How often the whole was halved."""
    return round(-math.log2(share)) if share > 0 else 0
