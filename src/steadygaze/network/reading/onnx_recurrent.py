"""The recurrent ONNX operator with rectifiers, step after step."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from steadygaze.network.reading import recurring
from steadygaze.network.reading.assembly import Value
from steadygaze.network.reading.onnx_calls import Call, Rule


def _recurrent(call: Call) -> tuple[Value, ...]:
    """RNN: all states ``(length, directions, batch, states)``, and the last of each direction."""
    asm, shape = call.assembler, call.assembler.shape(call.value())
    batch_first = bool(call.get("layout", 0))
    if "activations" not in call.attributes:
        raise asm.refuse(
            "its activation is tanh",
            "allowed is Relu, by its attribute activations; take nonlinearity='relu'",
        )
    if len(shape) != 3 or shape[0 if batch_first else 1] != 1:
        raise asm.refuse(
            f"got a value of shape {shape}", "allowed are sequences of one image, with the batch"
        )
    x = call.value() if batch_first else asm.permute(call.value(), (1, 0, 2))
    length, direction = asm.shape(x)[1], call.get("direction", b"forward").decode()
    lengths = call.optional(4, "lengths")
    if lengths is not None and (np.ravel(lengths) != length).any():
        raise asm.refuse(
            f"its lengths are {np.ravel(lengths).tolist()}", f"allowed is all of the sequence, {length}"
        )
    read, kept = call.constant(1, "weight"), call.constant(2, "recurrent weight")
    count, size = len(read), read.shape[1]
    bias, first = call.optional(3, "bias"), call.optional(5, "first state")
    if count != 1 + (direction == "bidirectional") or kept.shape != (count, size, size):
        raise asm.refuse(
            f"its weights have shapes {read.shape} and {kept.shape} for the direction {direction}",
            "allowed is one of each for each direction, the second square",
        )
    biases = np.zeros((count, 2 * size)) if bias is None else bias.astype(np.float64)
    before = np.zeros((count, size)) if first is None else first.astype(np.float64).reshape(count, size)
    ways: list[Value] = []
    last: list[Value] = []
    for way in range(count):
        backwards = direction == "reverse" or way == 1
        made = biases[way, :size] + biases[way, size:]
        found = recurring.states(asm, x, read[way], kept[way], made, before[way], backwards=backwards)
        ways.append(recurring.sequence(asm, found))
        last.append(found[0] if backwards else found[-1])
    joined = ways[0] if count == 1 else asm.concat(ways, 2)
    split = asm.reshape(joined, (1, length, count, size))
    ends = asm.reshape(recurring.sequence(asm, last), (1, count, size))
    if batch_first:
        return split, ends
    return asm.permute(split, (1, 2, 0, 3)), asm.permute(ends, (1, 0, 2))


RULES: Mapping[str, Rule] = {"RNN": _recurrent}
"""Recurrent operators, by name."""
