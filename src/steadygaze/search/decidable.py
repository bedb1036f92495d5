"""With how many units in doubt, or how small, boxes were decided: how finely the next ones are cut."""

from __future__ import annotations

import math
from collections import Counter
from typing import final

import numpy as np

# With how many in doubt boxes are tried at first, and at least. The class alone holds on boxes with many more
# in doubt than maps do.
_FIRST, _FIRST_ALONE, _LEAST = 128, 256, 32
# Of so many boxes with about as many units in doubt such a share has to be decided: more effort for them
# costs what their halves would. Where the class alone is asked, any decided box tells that others may be,
# too, until more of them were tried.
_TRIALS, _TRIALS_ALONE, _SHARE = 8, 1, 0.4
# Of smooth networks so many of a size tell.
_TRIALS_OF_SIZE = 4
# Numbers of units are told apart by so many levels to a factor of two: of three parameters three halvings lie
# between a number and its half, and eight times as many boxes.
_LEVELS = 2


@final
class Sizes:
    """Learns how small boxes of a smooth network have to be, where no number of units in doubt tells it."""

    def __init__(self) -> None:
        self._tried, self._decided = Counter[int](), Counter[int]()

    def learn(self, sizes: np.ndarray, decided: np.ndarray) -> None:
        """Take in how often the whole was halved for boxes ``(B,)``, and which of them were decided."""
        self._tried.update(sizes.tolist())
        self._decided.update(sizes[decided].tolist())

    def halvings(self, size: int, most: int) -> int:
        """How often a box of this size is halved at once: past sizes of which too few were decided."""
        return next((more for more in range(1, most) if not self._is_in_vain(size + more)), most)

    def _is_in_vain(self, size: int) -> bool:
        tried = self._tried[size]
        return tried >= _TRIALS_OF_SIZE and self._decided[size] < _SHARE * tried


@final
class Decidable:
    """Learns, from what became of boxes, with how many units in doubt they are worth judging.

    Args:
        alone: whether only the class is asked.
    """

    def __init__(self, alone: bool) -> None:
        self._first = _level(_FIRST_ALONE if alone else _FIRST)
        self._alone, self._trials = alone, _TRIALS_ALONE if alone else _TRIALS
        self._level = self._first
        self._tried, self._decided = Counter[int](), Counter[int]()

    def learn(self, doubts: np.ndarray, decided: np.ndarray) -> None:
        """Take in how many units were in doubt in boxes ``(B,)``, and which of them were decided."""
        levels = np.array([_level(number) for number in doubts.tolist()], np.int64)
        self._tried.update(levels.tolist())
        self._decided.update(levels[decided].tolist())
        level = self._first
        while level > _level(_LEAST) and not self._pays(level, True):
            level -= 1
        if self._alone:
            level = max([level, *(other for other in self._tried if self._pays(other, False))])
        while self._pays(level + 1, False):
            level += 1
        self._level = level

    @property
    def most(self) -> int:
        """The number of units in doubt."""
        return round(2 ** (self._level / _LEVELS))

    def _pays(self, level: int, unknown: bool) -> bool:
        """Whether enough boxes of this level were decided, or what is to be taken for known of too few."""
        tried = self._tried[level]
        return unknown if tried < self._trials else self._decided[level] >= _SHARE * tried


def _level(doubts: float) -> int:
    return math.ceil(_LEVELS * math.log2(max(doubts, _LEAST)))
