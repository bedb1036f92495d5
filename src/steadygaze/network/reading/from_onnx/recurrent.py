"""The recurrent ONNX operators, step after step."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from steadygaze.network.reading.assembling import recurring
from steadygaze.network.reading.assembling.assembly import Assembler, Value
from steadygaze.network.reading.from_onnx.calls import Call, Rule
from steadygaze.network.reading.marks import by_bounds, mixed

Cell = Callable[[Assembler, np.ndarray, np.ndarray], recurring.Step]
"""The step of a cell with these recurrent weights and recurrent biases."""


def _plain(call: Call) -> tuple[Value, ...]:
    rectifies = b"Relu" in call.get("activations", ())
    cell = recurring.rectified if rectifies else recurring.bounded
    return _recurrent(call, 1, lambda asm, kept, biases: cell(asm, kept))


def _long_short(call: Call) -> tuple[Value, ...]:
    return _recurrent(call, 4, lambda asm, kept, biases: recurring.long_short(asm, kept), states=2)


def _gated(call: Call) -> tuple[Value, ...]:
    late = bool(call.get("linear_before_reset", 0))

    def cell(asm: Assembler, kept: np.ndarray, biases: np.ndarray) -> recurring.Step:
        return recurring.gated(asm, kept, biases[2 * kept.shape[1] :] if late else None)

    return _recurrent(call, 3, cell, late=late)


def _recurrent(
    call: Call, gates: int, cell: Cell, *, states: int = 1, late: bool = False
) -> tuple[Value, ...]:
    """All states ``(length, directions, batch, states)``, and the last of each direction, of each kind.

    late says that the recurrent biases of the last gate are the cell's own business.
    """
    asm = call.assembler
    batch_first = bool(call.get("layout", 0))
    x = _sequence(call, batch_first)
    length, direction = asm.shape(x)[1], call.get("direction", b"forward").decode()
    read, kept = (call.constant(place, name) for place, name in ((1, "weight"), (2, "recurrent weight")))
    count, size = len(read), kept.shape[-1]
    if (
        count != 1 + (direction == "bidirectional")
        or read.shape[1:] != (gates * size, asm.shape(x)[2])
        or kept.shape != (count, gates * size, size)
    ):
        raise asm.refuse(
            f"its weights have shapes {read.shape} and {kept.shape} for the direction {direction}",
            f"allowed is one of each for each direction, with {gates} times as many rows as there are states",
        )
    bias = call.optional(3, "bias")
    biases = np.zeros((count, 2, gates * size)) if bias is None else bias.astype(np.float64)
    biases = biases.reshape(count, 2, gates * size)
    before = [_first(call, place, count, size) for place in (5, 6)[:states]]
    ways: list[Value] = []
    last: list[list[Value]] = [[] for _ in range(states)]
    for way in range(count):
        backwards = direction == "reverse" or way == 1
        own, again = biases[way]
        made = own + (np.where(np.arange(len(again)) < 2 * size, again, 0.0) if late else again)
        step = cell(asm, kept[way].astype(np.float64), again)
        fed = asm.dense(x, read[way], made)
        found = recurring.along(asm, fed, tuple(one[way] for one in before), step, backwards=backwards)
        ways.append(recurring.sequence(asm, [state[0] for state in found]))
        for kind, ends in enumerate(last):
            ends.append(found[0 if backwards else -1][kind])
    joined = ways[0] if count == 1 else asm.concat(ways, 2)
    split = asm.reshape(joined, (1, length, count, size))
    ends = [asm.reshape(recurring.sequence(asm, each), (1, count, size)) for each in last]
    if batch_first:
        return split, *ends
    return asm.permute(split, (1, 2, 0, 3)), *(asm.permute(each, (1, 0, 2)) for each in ends)


def _sequence(call: Call, batch_first: bool) -> Value:
    """What is read, ``(1, length, inputs)``."""
    asm, shape = call.assembler, call.assembler.shape(call.value())
    if len(shape) != 3 or shape[0 if batch_first else 1] != 1:
        raise asm.refuse(
            f"got a value of shape {shape}", "allowed are sequences of one image, with the batch"
        )
    x = call.value() if batch_first else asm.permute(call.value(), (1, 0, 2))
    length, lengths = asm.shape(x)[1], call.optional(4, "lengths")
    if lengths is not None and (np.ravel(lengths) != length).any():
        raise asm.refuse(
            f"its lengths are {np.ravel(lengths).tolist()}", f"allowed is all of the sequence, {length}"
        )
    return x


def _first(call: Call, place: int, count: int, size: int) -> np.ndarray:
    """The states before the first, ``(directions, states)``."""
    first = call.optional(place, "first state")
    if first is not None and first.size != count * size:
        raise call.assembler.refuse(
            f"its first state has shape {first.shape}", f"allowed are {size} numbers for each direction"
        )
    return np.zeros((count, size)) if first is None else first.astype(np.float64).reshape(count, size)


RULES: Mapping[str, Rule] = {
    "GRU": by_bounds(_gated),
    "LSTM": by_bounds(_long_short),
    "RNN": mixed(_plain),
}
"""Recurrent operators, by name."""
