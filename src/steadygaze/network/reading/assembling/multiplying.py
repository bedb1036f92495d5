"""Products of all numbers along axes of the file's shape."""

from __future__ import annotations

import math
from collections.abc import Sequence

from steadygaze.network.reading.assembling import joining
from steadygaze.network.reading.assembling.assembly import Assembler, Value


def product_along(asm: Assembler, x: Value, axes: Sequence[int], keep: bool) -> Value:
    """The product over axes, which stay as axes of one entry or are dropped: half times half, again."""
    shape = asm.shape(x)
    chosen = sorted({axis % len(shape) for axis in axes})
    kept = [1 if axis in chosen else size for axis, size in enumerate(shape)]
    wide = [axis for axis in chosen if shape[axis] > 1]
    if wide:
        span = math.prod(shape[axis] for axis in wide)
        others = [axis for axis in range(len(shape)) if axis not in wide]
        x = asm.permute(x, [*others, *wide])
        x = asm.reshape(x, (1, math.prod(shape) // span, span))
        while span > 1:
            half, odd = divmod(span, 2)
            first, second = (asm.crop(x, 2, start, start + half) for start in (0, half))
            made = joining.multiplied(asm, first, second)
            x = asm.concat([made, asm.crop(x, 2, 2 * half, span)], 2) if odd else made
            span = half + odd
    return asm.reshape(x, kept if keep else [n for axis, n in enumerate(shape) if axis not in chosen])
