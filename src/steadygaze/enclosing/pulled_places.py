"""What rows become before a convolution, at few of its inputs."""

from __future__ import annotations

import numpy as np

from steadygaze.geometry.bits import kernel


@kernel
def pulled_to(rows, weight, places, numbers):
    """Entries ``(B, T, R)`` of W^T r at places ``(B, T)``, of rows ``(B, M, R)``; 0 where there is no place.

    numbers: shape of the inputs and extents of the outputs, then stride, padding and dilation, each twice.
    """
    boxes, _, count = rows.shape
    high, wide, made_high, made_wide = numbers[1], numbers[2], numbers[3], numbers[4]
    down, across, above, left, step_down, step_across = numbers[5:]
    outputs, _, kernel_high, kernel_wide = weight.shape
    found = np.zeros((boxes, places.shape[1], count))
    for b in range(boxes):
        for number in range(places.shape[1]):
            place = places[b, number]
            if place < 0:
                continue
            channel, row, column = place // (high * wide), place // wide % high, place % wide
            own = found[b, number]
            for i in range(kernel_high):
                y = row + above - i * step_down
                if y < 0 or y % down or y // down >= made_high:
                    continue
                for j in range(kernel_wide):
                    x = column + left - j * step_across
                    if x < 0 or x % across or x // across >= made_wide:
                        continue
                    at = y // down * made_wide + x // across
                    for output in range(outputs):
                        times, read = (
                            weight[output, channel, i, j],
                            rows[b, output * made_high * made_wide + at],
                        )
                        for r in range(count):
                            own[r] += times * read[r]
    return found
