"""Frames of minus infinity, which a max pooling behind them never takes for the largest number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from steadygaze.errors import ModelError
from steadygaze.network.reading.assembling.assembly import Assembler, Pads, PoolGeometry, Value
from steadygaze.network.reading.assembling.held import AbstractHeld

# Or of the least number of single precision, which files write in its place.
_LEAST = -3e38


@dataclass(frozen=True, eq=False)
class Framed(AbstractHeld):
    """A map ``(1, C, H, W)`` in a frame of minus infinity: (before, after) for rows and columns."""

    inside: Value
    pads: Pads

    def refusal(self, asm: Assembler) -> ModelError:
        return asm.refuse(
            "it takes a value in a frame of minus infinity",
            "allowed is a max pooling right behind the padding; pad with a finite number otherwise",
        )


def framed(asm: Assembler, x: Value, pads: Sequence[tuple[int, int]], number: float) -> Value | Framed:
    """A constant frame, (before, after) per axis of the file's shape; negative numbers crop."""
    is_map = len(pads) == len(asm.shape(x)) == 4 and not any(map(any, pads[:2]))
    if number > _LEAST or not is_map or min(map(min, pads)) < 0:
        return asm.pad(x, pads, number)
    rows, columns = pads[2:]
    return Framed(x, (rows, columns))


def pooled(asm: Assembler, x: Framed, geometry: PoolGeometry) -> Value:
    """The largest number of each window of the framed map."""
    if geometry.ceil:
        raise asm.refuse(
            "its windows hang over the end of a frame of minus infinity",
            "allowed are windows inside of it (ceil_mode 0)",
        )
    rows, columns = (
        (own[0] + more[0], own[1] + more[1]) for own, more in zip(geometry.pads, x.pads, strict=True)
    )
    return asm.max_pool(x.inside, replace(geometry, pads=(rows, columns)))
