"""With how many units in doubt boxes of a search have been decided: how finely the next ones are cut."""

from __future__ import annotations

import math
from collections import Counter
from typing import final

import numpy as np

# With how many in doubt boxes are tried at first, and at least. The class alone holds on boxes with many more
# in doubt than maps do.
_FIRST, _FIRST_ALONE, _LEAST = 128, 256, 32
# Of so many boxes with about as many units in doubt such a share has to be decided: more effort for them
# costs what their halves would.
_TRIALS, _SHARE = 8, 0.4


@final
class Decidable:
    """Learns, from what became of boxes, with how many units in doubt they are worth judging.

    Args:
        alone: whether only the class is asked: then any decided box tells that others may be, too.
    """

    def __init__(self, alone: bool) -> None:
        self._alone = alone
        self._most = _FIRST_ALONE if alone else _FIRST
        self._tried, self._decided = Counter[int](), Counter[int]()

    def learn(self, doubts: np.ndarray, decided: np.ndarray) -> None:
        """Take in how many units were in doubt in boxes ``(B,)``, and which of them were decided."""
        if self._alone:
            self._most = max(self._most, int(doubts[decided].max(initial=0)))
            return
        levels = np.ceil(np.log2(np.maximum(doubts, _LEAST))).astype(int)
        self._tried.update(levels.tolist())
        self._decided.update(levels[decided].tolist())
        level = round(math.log2(_FIRST))
        while 2**level > _LEAST and not self._pays(level, True):
            level -= 1
        while self._pays(level + 1, False):
            level += 1
        self._most = 2**level

    @property
    def most(self) -> int:
        """The number of units in doubt."""
        return self._most

    def _pays(self, level: int, unknown: bool) -> bool:
        """Whether enough boxes of this level were decided, or what is to be taken for known of too few."""
        tried = self._tried[level]
        return unknown if tried < _TRIALS else self._decided[level] >= _SHARE * tried
