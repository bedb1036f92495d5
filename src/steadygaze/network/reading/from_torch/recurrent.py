"""PyTorch's recurrent layer with rectifiers, step after step."""

from __future__ import annotations

import numpy as np

from steadygaze.network.reading.assembling import recurring
from steadygaze.network.reading.assembling.assembly import Value
from steadygaze.network.reading.from_torch.arguments import (
    COMPUTED,
    COUNT,
    FLAG,
    WEIGHTS,
    Argument,
    Call,
    Rows,
    only,
    unread,
    weights,
)


def _recurrent(call: Call) -> list[Value]:
    """rnn_relu: ``h = relu(W x + b + V h + c)`` along a sequence.

    Returns all h of the last layer, and the last h of all layers.
    """
    asm, shape = call.assembler, call.shape("input")
    first = bool(call["batch_first"])
    if len(shape) != 3 or shape[0 if first else 1] != 1:
        raise asm.refuse(
            f"got a value of shape {shape}", "allowed are sequences of one image, with the batch"
        )
    x = call.value("input") if first else asm.permute(call.value("input"), (1, 0, 2))
    directions, each = 1 + bool(call["bidirectional"]), 4 if call["has_biases"] else 2
    params = [one.detach().double().numpy() for one in call["params"]]
    start, cells = call.constant("hx"), call["num_layers"] * directions
    if len(params) != cells * each or start.ndim != 3 or start.shape[:2] != (cells, 1):
        raise call.refuse("hx", f"a state for each of {cells} cells, and weights for each")
    last: list[Value] = []
    for layer in range(call["num_layers"]):
        ways: list[Value] = []
        for direction in range(directions):
            cell = layer * directions + direction
            read, kept, *biases = params[cell * each : (cell + 1) * each]
            bias = np.sum(biases, axis=0) if biases else None
            states = recurring.states(asm, x, read, kept, bias, start[cell, 0], backwards=direction == 1)
            last.append(states[0 if direction == 1 else -1])
            ways.append(recurring.sequence(asm, states))
        x = ways[0] if directions == 1 else asm.concat(ways, 2)
    hidden = recurring.sequence(asm, last)
    return [x if first else asm.permute(x, (1, 0, 2)), asm.permute(hidden, (1, 0, 2))]


_PARAMS = Argument(
    "constant tensors", lambda given: isinstance(given, (list, tuple)) and all(map(WEIGHTS.fits, given))
)

ROWS: Rows = (
    (
        "rnn_relu.input",
        _recurrent,
        {
            "input": COMPUTED,
            "hx": weights(3),
            "params": _PARAMS,
            "has_biases": FLAG,
            "num_layers": COUNT,
            "dropout": unread("not used in evaluation"),
            "train": only(False),
            "bidirectional": FLAG,
            "batch_first": FLAG,
        },
    ),
)
"""Recurrent operators, by name and overload."""
