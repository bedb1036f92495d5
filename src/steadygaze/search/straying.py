"""Boxes over which pixels stray from what coordinates say of them, and when to give each pixel a symbol.

About 0 every pixel that an affine map of two amounts reads crosses a grid line, whatever size the box has,
and what a kink leaves is a share of how far the pixel moves. As errors, entry by entry, deep networks
multiply that by the norms of all their layers; a symbol for each pixel is seen through them. That takes as
many rows as there are such pixels, and so many times as long. But pixels share their kinks where places move
in like directions (see `kinks`), and one symbol for all that do is seen through layers as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from steadygaze.deadline import Deadline
from steadygaze.enclosing.enclosures import Enclosure
from steadygaze.network.graph import GROWTH
from steadygaze.perturbation.siding import shares_kinks
from steadygaze.question.problem import Problem
from steadygaze.search.boxes import gauges_of, parted_at_zero, volumes_of
from steadygaze.search.experience import Experience
from steadygaze.search.sides import Sides
from steadygaze.search.symbols import seconds_of

# What pixels stray by at least, as a share of how far they move; and at most: what is above that has never
# been decided.
_MUCH, _MOST = 2.0**-6, 2.0**-7
# A box may take this share of the time that is left, one about 0, without which there is no range at all, the
# other one. All that are tried in vain may take such shares together.
_SHARE, _AT_ZERO, _VAIN, _VAIN_AT_ZERO = 0.1, 0.8, 0.3, 0.8
# So many symbols are shared by pixels: the first that let a box take no more than this share of the time.
_SHARED, _AT_ONCE = (512, 256, 128, 64), 0.5
# Symbols that forms have besides: the first where that is affordable.
_ROOMS = (1024, 32)
#: How often edges are halved of the box that tells whether pixels stray at 0, whatever its size; and of the
#: first boxes about 0 of slow networks: many are decided, and where values are not followed as polynomials a
#: wide box takes ten times as long.
NARROW = 16


@dataclass(frozen=True)
class Straying:
    """What is known of the pixels over B boxes.

    Attributes:
        most: ``(B,)`` by how much one of them strays at most. share: ``(B,)`` of how far one moves at most.
        count: of pixels that stray in any box.
    """

    most: np.ndarray
    share: np.ndarray
    count: int

    @staticmethod
    def over(problem: Problem, boxes: np.ndarray) -> Straying:
        """That of boxes ``(B, n, 2)``."""
        perturbation = problem.perturbation
        pixels = perturbation.enclose(problem.image, Enclosure.of_boxes(boxes, perturbation.products))
        error, spread = (own.reshape(len(boxes), -1) for own in (pixels.error, pixels.spread))
        most, moved = error.max(axis=1), spread.max(axis=1)
        share = np.divide(most, moved, out=np.zeros_like(most), where=moved > 0)
        return Straying(most, share, int((error > 0).sum(axis=1).max()))

    def seconds(self, problem: Problem, room: int, shared: int) -> float:
        """About how long one box takes with so much room, and a symbol for each pixel, or so many shared."""
        return seconds_of(problem, (shared or self.count) + room)


def shared_by(problem: Problem, deadline: Deadline) -> int:
    """How many symbols pixels share about 0; 0 where each can have its own, or they take too long.

    All kinks along one direction of the amounts are one. Where there are more directions than there is time
    for, pixels share those of their neighbours, and what that leaves of kinks are errors, as is what bends
    besides: over larger boxes symbols of their own, which have all of that, are better.
    """
    own = seconds_of(problem, problem.image.size + _ROOMS[-1])
    if own < _AT_ZERO * deadline.planned or not shares_kinks(problem.perturbation):
        return 0
    for most in _SHARED:
        if seconds_of(problem, most + _ROOMS[-1]) < _AT_ONCE * deadline.planned:
            small = Enclosure.of_boxes(
                0.5**NARROW * problem.box[None], problem.perturbation.products, kinks=most
            )
            moved = problem.perturbation.enclose(problem.image, small).slopes[0, -most:]
            return int(moved.any(axis=tuple(range(1, moved.ndim))).sum())
    return 0


def first_halvings(problem: Problem, sides: Sides, deadline: Deadline) -> int | None:
    """How often the edges of the first box about 0 are halved where symbols decide how large one can be.

    None where pixels do not stray over all boxes about 0, or not over parts of these that end there, as a
    turn alone has them: polynomials follow it. None, too, where symbols for pixels take too long.
    """
    if problem.graph.growth < GROWTH:
        return None
    small = parted_at_zero(0.5**NARROW * problem.box)
    # Forms of parts that do not stray say less than those of all with so many more symbols.
    across = sides.across(small) & problem.follows_polynomials
    parts = [(problem, small[~across]), *((own, small[across]) for own in sides.problems)]
    found = [Straying.over(own, boxes) for own, boxes in parts if len(boxes)]
    if max(own.share.max() for own in found) < _MUCH:
        return None
    whole = Straying.over(problem, np.concatenate([small, problem.box[None]]))
    shared = shared_by(problem, deadline)
    if whole.seconds(problem, _ROOMS[-1], shared) >= _AT_ZERO * deadline.planned:
        return None
    return 0 if whole.most[-1] <= _MOST else NARROW


def rooms_of(
    problem: Problem, boxes: np.ndarray, experience: Experience, deadline: Deadline, shared: int
) -> np.ndarray:
    """Symbols that boxes ``(B, n, 2)`` have room for besides those of pixels, ``(B,)``; 0 for none.

    Of a search whose pixels stray at 0 (`first_halvings`).
    """
    rooms = np.zeros(len(boxes), np.int64)
    found = Straying.over(problem, boxes)
    strays, seconds = (
        (found.share >= _MUCH) & (found.most <= _MOST),
        found.seconds(problem, _ROOMS[-1], shared),
    )
    if not strays.any() or math.isinf(seconds):
        return rooms
    planned, at_zero = deadline.planned, gauges_of(boxes, problem.box) == 0
    share, vain = (np.where(at_zero, *own) * planned for own in ((_AT_ZERO, _SHARE), (_VAIN_AT_ZERO, _VAIN)))
    # The class holds by what values tell, and these hardly need more symbols.
    for room in reversed(_ROOMS[-1:] if problem.class_alone else _ROOMS):
        rooms[found.seconds(problem, room, shared) < share] = room
    most = np.floor(vain / seconds)
    tried = experience.tries_pixels(volumes_of(boxes) / problem.volume, most, at_zero)
    return np.where(strays & tried, rooms, 0)
