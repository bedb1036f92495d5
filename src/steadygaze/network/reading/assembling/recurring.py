"""Recurrent layers, step after step: each state is made of layers of its own.

A state is a row ``(1, states)``, or numbers ``(states,)`` where it is the first. Gates stand side by side in
a row, in the order of ONNX.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from steadygaze.network.reading.assembling import joining
from steadygaze.network.reading.assembling.assembly import Assembler, Value

Row: TypeAlias = "Value | np.ndarray"
Step: TypeAlias = Callable[[Value, "tuple[Row, ...]"], "tuple[Value, ...]"]
"""From what a cell is fed, its gates side by side, and the states before, to the states after."""


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
    found = along(asm, asm.dense(x, read, bias), (first,), rectified(asm, kept), backwards=backwards)
    return [state for (state,) in found]


def along(
    asm: Assembler, fed: Value, first: tuple[Row, ...], step: Step, *, backwards: bool
) -> list[tuple[Value, ...]]:
    """The states of a cell along what it is fed, ``(1, length, gates)``, in the order of the sequence."""
    length = asm.shape(fed)[1]
    found: list[tuple[Value, ...]] = []
    for place in range(length)[:: -1 if backwards else 1]:
        own = asm.reshape(asm.crop(fed, 1, place, place + 1), (1, -1))
        found.append(step(own, found[-1] if found else first))
    return found[::-1] if backwards else found


def rectified(asm: Assembler, kept: np.ndarray) -> Step:
    """``relu(z + V h)``."""
    return lambda fed, before: (asm.leaky_relu(_plus(asm, fed, _product(asm, kept, before[0])), 0.0),)


def bounded(asm: Assembler, kept: np.ndarray) -> Step:
    """``tanh(z + V h)``."""
    return lambda fed, before: (asm.smooth(_plus(asm, fed, _product(asm, kept, before[0])), "tanh"),)


def long_short(asm: Assembler, kept: np.ndarray) -> Step:
    """LSTM: gates of input, output, forgetting and cell (Hochreiter and Schmidhuber 1997; Gers 2000)."""

    def step(fed: Value, before: tuple[Row, ...]) -> tuple[Value, ...]:
        hidden, cell = before
        gates = _plus(asm, fed, _product(asm, kept, hidden))
        let_in, let_out, keep = (_gate(asm, gates, place, 4, "sigmoid") for place in range(3))
        made = joining.multiplied(asm, let_in, _gate(asm, gates, 3, 4, "tanh"))
        made = asm.add(_times(asm, keep, cell), made)
        return joining.multiplied(asm, let_out, asm.smooth(made, "tanh")), made

    return step


def gated(asm: Assembler, kept: np.ndarray, late: np.ndarray | None) -> Step:
    """GRU: gates of updating, resetting and the state (Cho et al. 2014).

    late: the recurrent bias of the state where the product is reset, after it is taken, and not the state
    before; None where that is reset.
    """
    size = kept.shape[1]

    def step(fed: Value, before: tuple[Row, ...]) -> tuple[Value, ...]:
        (hidden,) = before
        both = asm.crop(fed, 1, 0, 2 * size)
        both = _plus(asm, both, _product(asm, kept[: 2 * size], hidden))
        update, reset = (_gate(asm, both, place, 2, "sigmoid") for place in range(2))
        if late is None:
            again: Row = asm.dense(_times(asm, reset, hidden), kept[2 * size :], None)
        else:
            product = _product(asm, kept[2 * size :], hidden)
            shifted = (
                product + late if isinstance(product, np.ndarray) else asm.scale_shift(product, 1.0, late)
            )
            again = _times(asm, reset, shifted)
        new = asm.smooth(_plus(asm, asm.crop(fed, 1, 2 * size, 3 * size), again), "tanh")
        rest = asm.scale_shift(update, -1.0, 1.0)
        return (asm.add(joining.multiplied(asm, rest, new), _times(asm, update, hidden)),)

    return step


def sequence(asm: Assembler, rows: list[Value]) -> Value:
    """Rows ``(1, states)`` as one sequence ``(1, length, states)``."""
    each = [asm.reshape(row, (1, 1, -1)) for row in rows]
    return each[0] if len(each) == 1 else asm.concat(each, 1)


def _gate(asm: Assembler, gates: Value, place: int, count: int, function: str) -> Value:
    size = asm.shape(gates)[1] // count
    return asm.smooth(asm.crop(gates, 1, place * size, (place + 1) * size), function)


def _product(asm: Assembler, kept: np.ndarray, row: Row) -> Row:
    return kept @ row if isinstance(row, np.ndarray) else asm.dense(row, kept, None)


def _plus(asm: Assembler, a: Value, b: Row) -> Value:
    return asm.scale_shift(a, 1.0, b) if isinstance(b, np.ndarray) else asm.add(a, b)


def _times(asm: Assembler, a: Value, b: Row) -> Value:
    return asm.scale_shift(a, b, 0.0) if isinstance(b, np.ndarray) else joining.multiplied(asm, a, b)
