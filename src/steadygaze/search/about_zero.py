"""The parts of a box about 0, and how large the ones that were decided are."""

from __future__ import annotations

from typing import final

import numpy as np

from steadygaze.geometry.kinds import UNDECIDED
from steadygaze.search.boxes import shells


@final
class AboutZero:
    """Parts that meet at 0, all halved as often when they are judged; what is known of each is kept.

    A part that is decided is so in all smaller ones, and the one that was left open last comes first.

    Args:
        wholes: ``(P, n, 2)`` the parts, as large as they may be.
    """

    def __init__(self, wholes: np.ndarray) -> None:
        self._wholes = wholes
        self._order = list(range(len(wholes)))
        self._halvings = dict[int, int]()
        self._kinds = dict[int, int]()
        self._entered = dict[int, int]()

    def at(self, halvings: int) -> np.ndarray:
        """The parts ``(P, n, 2)`` with edges halved so often."""
        return self._wholes * 0.5**halvings

    def left(self, halvings: int) -> np.ndarray:
        """Numbers of the parts that are not known to be decided where edges are halved so often."""
        return np.array([own for own in self._order if self._halvings.get(own, halvings + 1) > halvings], int)

    def learn(self, parts: np.ndarray, halvings: int, kinds: np.ndarray) -> None:
        """Take in the kinds of parts of these numbers, halved so often."""
        for own, kind in zip(parts.tolist(), kinds.tolist(), strict=True):
            if kind == UNDECIDED:
                self._order.remove(own)
                self._order.insert(0, own)
            else:
                self._halvings[own], self._kinds[own] = halvings, kind

    @property
    def alike(self) -> bool:
        """Whether all parts are decided, and of one kind."""
        return len(self._kinds) == len(self._wholes) and len(set(self._kinds.values())) == 1

    def added(self) -> tuple[np.ndarray, np.ndarray]:
        """What of all decided parts was not told before, ``(B, n, 2)``, and the kinds of these boxes."""
        boxes, kinds = [self._wholes[:0]], []
        for own, halvings in self._halvings.items():
            whole, before = self._wholes[own] * 0.5**halvings, self._entered.get(own)
            new = whole[None] if before is None else shells(whole, before - halvings)[1:]
            boxes.append(new)
            kinds += [self._kinds[own]] * len(new)
            self._entered[own] = halvings
        return np.concatenate(boxes), np.array(kinds, np.int8)

    def around(self) -> np.ndarray:
        """What lies around the decided parts, ``(B, n, 2)``: all of them are decided."""
        found = [shells(self._wholes[own], halvings)[1:] for own, halvings in self._halvings.items()]
        return np.concatenate(found)
