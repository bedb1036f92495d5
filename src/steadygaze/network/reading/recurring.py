"""Recurrent layers of rectifiers, step after step: each state is a layer of its own."""

from __future__ import annotations

import numpy as np

from steadygaze.network.reading.assembly import Assembler, Value


def states(
    asm: Assembler,
    x: Value,
    read: np.ndarray,
    kept: np.ndarray,
    bias: np.ndarray | None,
    first: np.ndarray,
    *,
    backwards: bool,
) -> list[Value]:
    """The states ``h = relu(W x + b + V h)`` of one cell along a sequence ``(1, length, inputs)``.

    They are rows ``(1, states)``, in the order of the sequence. read is W, kept V, first the state before.
    """
    fed = asm.dense(x, read, bias)
    length = asm.shape(fed)[1]
    found: list[Value] = []
    for place in range(length)[:: -1 if backwards else 1]:
        own = asm.reshape(asm.crop(fed, 1, place, place + 1), (1, -1))
        if found:
            own = asm.add(own, asm.dense(found[-1], kept, None))
        else:
            own = asm.scale_shift(own, 1.0, kept @ first)
        found.append(asm.leaky_relu(own, 0.0))
    return found[::-1] if backwards else found


def sequence(asm: Assembler, rows: list[Value]) -> Value:
    """Rows ``(1, states)`` as one sequence ``(1, length, states)``."""
    each = [asm.reshape(row, (1, 1, -1)) for row in rows]
    return each[0] if len(each) == 1 else asm.concat(each, 1)
