"""A convolution as a matrix, from few of its inputs to few of its outputs."""

from __future__ import annotations

import numpy as np

from steadygaze.geometry.bits import kernel


@kernel
def unrolled(weight, places, column, count, numbers):
    """The matrix ``(T, count)`` of a convolution for its outputs at places ``(T,)``.

    weight: ``(O, C, kh, kw)``. column: ``(N,)`` the column of each input, -1 where it has none.
    numbers: shape of the inputs and extents of the outputs, then stride, padding and dilation, each twice.
    """
    high, wide, made_high, made_wide = numbers[1], numbers[2], numbers[3], numbers[4]
    down, across, above, left, step_down, step_across = numbers[5:]
    _, channels, kernel_high, kernel_wide = weight.shape
    made = np.zeros((len(places), count))
    for number in range(len(places)):
        place = places[number]
        output, top = place // (made_high * made_wide), place // made_wide % made_high * down - above
        first, own = place % made_wide * across - left, made[number]
        for i in range(kernel_high):
            y = top + i * step_down
            if y < 0 or y >= high:
                continue
            for j in range(kernel_wide):
                x = first + j * step_across
                if x < 0 or x >= wide:
                    continue
                for channel in range(channels):
                    at = column[(channel * high + y) * wide + x]
                    if at >= 0:
                        own[at] = weight[output, channel, i, j]
    return made
