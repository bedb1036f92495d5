"""PyTorch operators that multiply matrices, with leading axes, and Einstein's sums."""

from __future__ import annotations

from steadygaze.network.reading.assembling import contracting
from steadygaze.network.reading.assembling.assembly import Value
from steadygaze.network.reading.from_torch.arguments import (
    COMPUTED,
    NONE,
    SEVERAL,
    Argument,
    Call,
    Rows,
    unread,
    weights,
)
from steadygaze.network.reading.marks import mixed


def _matmul(call: Call) -> Value:
    asm = call.assembler
    first, second = (call.part(name) for name in tuple(call.arguments)[:2])
    if isinstance(first, Value):
        if not isinstance(second, Value) and second.ndim == 2:
            return asm.dense(first, second.T, None)
    elif first.ndim == 2 and isinstance(second, Value) and len(asm.shape(second)) > 1:
        return asm.matmul_left(first, second)
    return contracting.matrix_product(asm, first, second)


def _einsum(call: Call) -> Value:
    return contracting.einsum(call.assembler, call["equation"], call.parts("tensors"))


def _bilinear(call: Call) -> Value:
    """``x W y + b``, with a matrix W for each number that is made."""
    asm = call.assembler
    made = contracting.einsum(
        asm, "...i,kij,...j->...k", [call.part("input1"), call.constant("weight"), call.part("input2")]
    )
    bias = call.optional("bias")
    return made if bias is None else asm.scale_shift(made, 1.0, bias)


_ANY = Argument(
    "a constant tensor of 1 axis and more", lambda given: weights().fits(given) and given.ndim > 0
)

ROWS: Rows = (
    ("matmul", mixed(_matmul), {"self": COMPUTED | _ANY, "other": COMPUTED | _ANY}),
    ("mm", mixed(_matmul), {"self": COMPUTED | weights(2), "mat2": COMPUTED | weights(2)}),
    ("bmm", mixed(_matmul), {"self": COMPUTED | weights(3), "mat2": COMPUTED | weights(3)}),
    (
        "bilinear",
        mixed(_bilinear),
        {
            "input1": COMPUTED | _ANY,
            "input2": COMPUTED | _ANY,
            "weight": weights(3),
            "bias": weights(1) | NONE,
        },
    ),
    (
        "einsum",
        mixed(_einsum),
        {
            "equation": Argument("a text", lambda given: isinstance(given, str)),
            "tensors": SEVERAL,
            "path": unread("the order of products"),
        },
    ),
)
"""Operators that multiply by constants, by name and overload."""
