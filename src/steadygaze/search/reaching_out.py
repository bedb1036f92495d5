"""Which boxes about 0 come first where one box may take all the time that there is.

Bounds of deep smooth networks hold up to some size of the box and no further, which is not known before. So
boxes about 0 are judged whose edges were halved some number of times: from a first guess on smaller ones
until one is decided; then larger ones, until the largest that is decided is known up to one halving.
"""

from __future__ import annotations

from typing import final

# Halvings are increased by so many where none is decided, up to so many; and fall to half of those that were.
# After all of the box they are twice as many at first: small boxes take less, and many of these are decided.
# Not where a box is judged in so many parts: to go back from there takes more than there is time for.
_STEP, _MOST, _PARTED = 8, 36, 4


@final
class ReachingOut:
    """A search for the largest box about 0 that is decided.

    Args:
        first: how often the edges of the whole box are halved at first.
        most: how often they are at most.

    Attributes:
        parts: how many a box is judged in.
    """

    def __init__(self, first: int, most: int = _MOST) -> None:
        self._next: int | None = first
        self._most, self.parts = most, 1
        self._decided: int | None = None
        self._open = -1

    @property
    def halvings(self) -> int | None:
        """Those of the next box; None where there is none."""
        return self._next

    @property
    def decided(self) -> int | None:
        """Those of the largest box that was decided."""
        return self._decided

    def learn(self, decided: bool) -> None:
        """Take in what became of that box."""
        halvings = self._next
        assert halvings is not None, "it was the next"
        if decided:
            self._decided = halvings
        else:
            self._open = halvings
        self._next = self._following()

    def _following(self) -> int | None:
        if self._decided is None:
            twice = not self._open and self.parts < _PARTED
            smaller = min(self._open + _STEP * (1 + twice), self._most)
            return smaller if smaller > self._open else None
        middle = (self._decided + self._open) // 2 if self._open >= 0 else self._decided // 2
        return middle if self._open < middle < self._decided else None
