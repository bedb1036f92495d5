"""PyTorch operators that compare, choose and hide: what they make of values computed from the image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from steadygaze.network.reading.assembling import joining, masking, stepping
from steadygaze.network.reading.assembling.assembly import Value
from steadygaze.network.reading.assembling.held import AbstractHeld
from steadygaze.network.reading.assembling.masking import Masked
from steadygaze.network.reading.assembling.stepping import Operand, Stepped
from steadygaze.network.reading.from_torch.arguments import (
    LIMIT,
    NONE,
    NUMBER,
    OPERAND,
    WEIGHTS,
    WHOLE,
    Argument,
    Call,
    Rows,
    Rule,
    only,
    unread,
)
from steadygaze.network.reading.marks import by_steps


def _part(call: Call, name: str) -> Operand:
    found = call[name]
    if isinstance(found, AbstractHeld) and not isinstance(found, Stepped):
        raise found.refusal(call.assembler)
    return found if isinstance(found, Stepped) else call.part(name)


def _two(
    made: Callable[..., Value | AbstractHeld], first: str = "self", second: str = "other", *more: Any
) -> Rule:
    """A rule of two operands."""
    return lambda call: made(call.assembler, _part(call, first), _part(call, second), *more)


def _logical(how: str) -> Rule:
    return lambda call: stepping.logical(call.assembler, [_part(call, "self"), _part(call, "other")], how)


def _total(sign: float) -> Rule:
    return lambda call: stepping.total(
        call.assembler,
        _part(call, "self"),
        _part(call, "other"),
        sign * float(call.arguments.get("alpha", 1)),
    )


def _reversed_sub(call: Call) -> Value | AbstractHeld:
    asm, own = call.assembler, _part(call, "self")
    return stepping.total(asm, _part(call, "other"), own, -float(call["alpha"]))


def _divided(call: Call) -> Value | AbstractHeld:
    divisor = call.constant("other")
    if (divisor == 0).any():
        raise call.assembler.refuse("it divides by 0", "allowed is division by other numbers")
    return stepping.scaled(call.assembler, _part(call, "self"), 1.0 / divisor)


def _where(call: Call) -> Value | AbstractHeld:
    asm, condition = call.assembler, call["condition"]
    first, second = _part(call, "self"), _part(call, "other")
    if isinstance(condition, Stepped):
        return stepping.where(asm, condition, first, second)
    return masking.chosen(asm, call.constant("condition") != 0, first, second)


def _filled(call: Call) -> Value | AbstractHeld:
    """masked_fill: a number where the mask is true."""
    asm, mask, own, fill = call.assembler, call["mask"], _part(call, "self"), call.constant("value")
    if isinstance(mask, Stepped):
        return stepping.where(asm, mask, fill, own)
    return masking.chosen(asm, call.constant("mask") != 0, fill, own)


def _converted(call: Call) -> Value | AbstractHeld:
    """A condition as numbers, of whatever type; copies of what is held."""
    part, kind = _part(call, "self"), call.arguments.get("dtype")
    whole = kind is not None and not kind.is_floating_point
    if isinstance(part, Stepped) and not part.truth and whole:
        raise part.refusal(call.assembler)
    if not isinstance(part, Stepped) or kind is torch.bool or kind is None:
        return part if isinstance(part, Stepped) else call.value()
    return stepping.number(call.assembler, part)


def _softmax(call: Call) -> Value:
    scores = call["self"]
    if not isinstance(scores, Masked):
        assert isinstance(scores, AbstractHeld), "others have rules of their own"
        raise scores.refusal(call.assembler)
    return joining.softmax(call.assembler, scores, call["dim"])


HELD = Argument("a condition, or masked scores", lambda given: isinstance(given, AbstractHeld))
"""What is held until an operator makes a layer of it."""
_ANY = OPERAND | HELD
_TWO = {"self": OPERAND, "other": OPERAND}
_COPIED = {"self": HELD, **dict.fromkeys(("layout", "device", "memory_format"), unread("where it is kept"))}
_COPIED |= dict.fromkeys(("pin_memory", "non_blocking", "copy"), unread("where it is kept"))
_COPIED |= {"dtype": NONE | Argument("a type", lambda given: isinstance(given, torch.dtype))}
_HELD_TWO = {"self": _ANY, "other": _ANY, "alpha": NUMBER, "rounding_mode": NONE}
_COMPARISONS = {
    "gt": "above", "ge": "at least", "lt": "below", "le": "at most", "eq": "equal", "ne": "other",
}  # fmt: skip
_BRANCH = OPERAND | LIMIT
_WHERE = {"condition": WEIGHTS, "self": _BRANCH, "other": _BRANCH}
_FILLING = {"self": OPERAND, "mask": WEIGHTS, "value": LIMIT | WEIGHTS}
_JOINED = ("and", "or", "xor")


def _rows(two: dict[str, Argument], where: dict[str, Argument], filling: dict[str, Argument]) -> Rows:
    comparisons = (
        (f"{name}.Scalar {name}.Tensor", by_steps(_two(stepping.compared, "self", "other", how)), two)
        for name, how in _COMPARISONS.items()
    )
    joined = (
        (f"logical_{how} bitwise_{how}.Tensor __{how}__.Tensor", by_steps(_logical(how)), two)
        for how in _JOINED
    )
    own = {"self": two["self"]}
    return (
        *comparisons,
        *joined,
        (
            "logical_not bitwise_not",
            by_steps(lambda c: stepping.inverted(c.assembler, _part(c, "self"))),
            own,
        ),
        ("sign sgn", by_steps(lambda call: stepping.sign(call.assembler, _part(call, "self"))), own),
        ("where.self where.ScalarOther where.ScalarSelf", by_steps(_where), where),
        ("masked_fill.Scalar masked_fill.Tensor", by_steps(_filled), filling),
    )


ROWS: Rows = _rows(_TWO, _WHERE, _FILLING)
"""Operators that compare and choose, by name and overload."""

HELD_ROWS: Rows = (
    *_rows(
        {"self": _ANY, "other": _ANY},
        {"condition": WEIGHTS | HELD, "self": _ANY | LIMIT, "other": _ANY | LIMIT},
        {"self": _ANY, "mask": WEIGHTS | HELD, "value": LIMIT | WEIGHTS},
    ),
    ("add.Tensor add.Scalar", _total(1.0), _HELD_TWO),
    ("sub.Tensor sub.Scalar", _total(-1.0), _HELD_TWO),
    ("rsub.Tensor rsub.Scalar", _reversed_sub, _HELD_TWO),
    ("mul.Tensor mul.Scalar", _two(stepping.product), _HELD_TWO),
    ("div.Tensor div.Scalar", _divided, _HELD_TWO),
    ("neg", lambda call: stepping.scaled(call.assembler, _part(call, "self"), -1.0), {"self": HELD}),
    ("alias clone contiguous _to_copy to.device to.dtype to.dtype_layout", _converted, _COPIED),
    ("softmax.int", _softmax, {"self": HELD, "dim": WHOLE, "dtype": NONE}),
    ("_softmax", _softmax, {"self": HELD, "dim": WHOLE, "half_to_float": only(False)}),
)
"""What operators make of what is held: see `AbstractHeld`. All others refuse it."""
