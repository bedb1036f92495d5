"""Compiled: functions of one number that bend at 0 alone, and upwards, as ReLU does, over ranges.

What of each unit is a handful of numbers takes next to no time; one operation after the other for all of
them, of which networks of few units hardly have enough for one, takes most of it.
"""

from __future__ import annotations

import numpy as np

from steadygaze.geometry.bits import kernel, part


@part
def _lesser(one, other):
    """The lesser of two; none if one of them is no number."""
    return one if one < other or one != one else other


@part
def _larger(one, other):
    return one if one > other or one != one else other


@part
def _known_larger(one, other):
    """The larger of those that are numbers."""
    return one if one > other or other != other else other


@part
def _value(slopes, at):
    own = slopes[1] if at > 0 else slopes[0]
    return own * at if own else 0.0


@kernel
def hinges_relaxed(slopes, low, high, below_low, below_high, unit, tiny):
    """Of units with slopes ``(2, N)`` below and above 0, whose inputs lie in ranges ``(B, N)``.

    below_low, below_high: see `piecewise_relaxed`. Returns slope, offset and deviation, middle and half width
    of the derivative, ``(5, B, N)``; and whether that is at one of its two ends, ``(B, N)``.
    """
    boxes, entries = low.shape
    made, two = np.empty((5, boxes, entries)), np.empty((boxes, entries), np.bool_)
    for b in range(boxes):
        for n in range(entries):
            start, end = low[b, n], high[b, n]
            last = end - below_high[b, n] > 0
            first = start + below_low[b, n] > 0 and last
            least = slopes[1, n] if first else slopes[0, n]
            most = slopes[1, n] if last else slopes[0, n]
            centre = (least + most) / 2
            at_low, at_high = _value(slopes[:, n], start), _value(slopes[:, n], end)
            slope = centre
            if first != last:
                chord = (at_high - at_low) / _larger(end - start, tiny)
                slope = _lesser(_larger(chord, least), most)
            one, other = at_low - slope * start, at_high - slope * end
            below, above = _lesser(one, other), _larger(one, other)
            if start < 0 and end > 0:  # it is 0 at its bend, and above any line through there
                below = _lesser(below, 0.0)
            offset, deviation = (below + above) / 2, (above - below) / 2
            # A unit that keeps a piece without a constant term is computed without rounding of its own.
            plain = start >= 0 or end <= 0
            if not (first == last and offset == 0 and deviation == 0 and plain):
                size = _larger(abs(below), abs(above)) + abs(slope) * _larger(abs(start), abs(end))
                deviation += 4 * unit * size
            made[0, b, n], made[1, b, n], made[2, b, n] = slope, offset, deviation
            made[3, b, n], made[4, b, n] = centre, (most - least) / 2
            two[b, n] = first != last
    return made, two


@kernel
def relu_lines(low, high, unit):
    """Lines below and above ReLU over ranges ``(B, N)`` of its inputs, ``(5, B, N)``.

    They are the slope and the offset below, those above, and the largest magnitudes of inputs.
    """
    boxes, entries = low.shape
    made = np.zeros((5, boxes, entries))
    for b in range(boxes):
        for n in range(entries):
            start, end = low[b, n], high[b, n]
            if start < 0 and end > 0:
                # The chord is 0 at the start but for the rounding of its slope: the offset makes up for it.
                chord = end / (end - start) * (1 + 4 * unit)
                made[0, b, n] = 1.0 if end > -start else 0.0
                made[2, b, n], made[3, b, n] = chord, -start * chord * (1 + 4 * unit)
            elif start >= 0:
                made[0, b, n] = made[2, b, n] = 1.0
            made[4, b, n] = _larger(abs(start), abs(end))
    return made


@kernel
def in_all(low, high, least, most, lowest, highest):
    """What is in all of three ranges ``(B, N)``, and the largest magnitudes there, ``(3, B, N)``.

    Ends that are no numbers say nothing.
    """
    boxes, entries = low.shape
    made = np.empty((3, boxes, entries))
    for b in range(boxes):
        for n in range(entries):
            start = _known_larger(_known_larger(low[b, n], least[b, n]), lowest[b, n])
            end = -_known_larger(_known_larger(-high[b, n], -most[b, n]), -highest[b, n])
            made[0, b, n], made[1, b, n], made[2, b, n] = start, end, _larger(abs(start), abs(end))
    return made
