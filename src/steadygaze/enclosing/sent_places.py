"""What a convolution makes of maps that are 0 but at few places."""

from __future__ import annotations

import numpy as np

from steadygaze.geometry.bits import kernel


@kernel
def sent_from(values, weight, places, numbers):
    """Maps ``(B, R, H' W', O)`` that come of values ``(B, R, T)`` at places ``(B, T)``; -1 is no place.

    weight: ``(C, kh, kw, O)``. numbers: shape of the inputs and extents of the outputs, then stride, padding
    and dilation, each twice.
    """
    boxes, count, _ = values.shape
    high, wide, made_high, made_wide = numbers[1], numbers[2], numbers[3], numbers[4]
    down, across, above, left, step_down, step_across = numbers[5:]
    _, kernel_high, kernel_wide, outputs = weight.shape
    made = np.zeros((boxes, count, made_high * made_wide, outputs))
    for b in range(boxes):
        for number in range(places.shape[1]):
            place = places[b, number]
            if place < 0:
                continue
            channel, row, column = place // (high * wide), place // wide % high, place % wide
            for i in range(kernel_high):
                y = row + above - i * step_down
                if y < 0 or y % down or y // down >= made_high:
                    continue
                for j in range(kernel_wide):
                    x = column + left - j * step_across
                    if x < 0 or x % across or x // across >= made_wide:
                        continue
                    at, times = y // down * made_wide + x // across, weight[channel, i, j]
                    for r in range(count):
                        value, own = values[b, r, number], made[b, r, at]
                        for output in range(outputs):
                            own[output] += value * times[output]
    return made
