"""ONNX operators that compare, choose and hide: what they make of values computed from the image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from onnx import TensorProto

from steadygaze.network.reading.assembling import masking, stepping
from steadygaze.network.reading.assembling.assembly import Value
from steadygaze.network.reading.assembling.held import AbstractHeld
from steadygaze.network.reading.assembling.masking import Masked
from steadygaze.network.reading.assembling.stepping import Operand, Stepped
from steadygaze.network.reading.from_onnx import smooth
from steadygaze.network.reading.from_onnx.calls import Call
from steadygaze.network.reading.marks import by_steps

HeldRule: TypeAlias = Callable[[Call], "Value | AbstractHeld | np.ndarray"]


def _parts(call: Call) -> list[Operand]:
    return [_part(call, place) for place in range(len(call.inputs))]


def _part(call: Call, place: int) -> Operand:
    found = call.inputs[place]
    assert found is not None, "the form of the operator has this input"
    if isinstance(found, AbstractHeld) and not isinstance(found, Stepped):
        raise found.refusal(call.assembler)
    return found


def _compared(how: str) -> HeldRule:
    return lambda call: stepping.compared(call.assembler, _part(call, 0), _part(call, 1), how)


def _logical(how: str) -> HeldRule:
    return lambda call: stepping.logical(call.assembler, _parts(call), how)


def _where(call: Call) -> Value | AbstractHeld:
    """Where: a condition that is constant takes some numbers of each; minus infinities hide scores."""
    asm, condition = call.assembler, call.inputs[0]
    first, second = _part(call, 1), _part(call, 2)
    if not isinstance(condition, np.ndarray):
        return stepping.where(asm, _condition(call), first, second)
    return masking.chosen(asm, condition.astype(np.bool_), first, second)


def _condition(call: Call) -> Stepped:
    found = _part(call, 0)
    if not isinstance(found, Stepped) or not found.truth:
        raise call.assembler.refuse(
            "its condition is no comparison", "allowed are comparisons and what is made of them"
        )
    return found


def _sum(factor: float) -> HeldRule:
    return lambda call: stepping.total(call.assembler, _part(call, 0), _part(call, 1), factor)


def _divided(call: Call) -> Value | AbstractHeld:
    divisor = call.constant(1, "divisor").astype(np.float64)
    if (divisor == 0).any():
        raise call.assembler.refuse("it divides by 0", "allowed are other numbers; check the weights")
    return stepping.scaled(call.assembler, _part(call, 0), 1.0 / divisor)


def _cast(call: Call) -> Value | AbstractHeld:
    part = _part(call, 0)
    if call.get("to", TensorProto.FLOAT) == TensorProto.BOOL:
        return stepping.compared(call.assembler, part, np.zeros(()), "other")
    return stepping.number(call.assembler, part)


def _nowhere(call: Call) -> np.ndarray:
    """IsNaN, IsInf: no number that a network of real numbers computes."""
    return np.zeros(call.assembler.shape(call.value()), np.bool_)


def _held(call: Call) -> AbstractHeld:
    found = call.inputs[0]
    assert isinstance(found, AbstractHeld)
    return found


def _softmax(call: Call) -> Value:
    scores = call.inputs[0]
    if not isinstance(scores, Masked):
        assert isinstance(scores, AbstractHeld), "others have rules of their own"
        raise scores.refusal(call.assembler)
    return smooth.softmax(call, scores)


RULES: Mapping[str, Any] = {
    "And": by_steps(_logical("and")),
    "Equal": by_steps(_compared("equal")),
    "Greater": by_steps(_compared("above")),
    "GreaterOrEqual": by_steps(_compared("at least")),
    "IsInf": _nowhere,
    "IsNaN": _nowhere,
    "Less": by_steps(_compared("below")),
    "LessOrEqual": by_steps(_compared("at most")),
    "Not": by_steps(lambda call: stepping.inverted(call.assembler, _part(call, 0))),
    "Or": by_steps(_logical("or")),
    "Sign": by_steps(lambda call: stepping.sign(call.assembler, _part(call, 0))),
    "Where": by_steps(_where),
    "Xor": by_steps(_logical("xor")),
}
"""Operators that compare and choose, by name."""

HELD: Mapping[str, HeldRule] = {
    **{name: RULES[name] for name in RULES if not name.startswith("Is")},
    "Add": _sum(1.0),
    "Cast": _cast,
    "Div": _divided,
    "Identity": _held,
    "Mul": lambda call: stepping.product(call.assembler, _part(call, 0), _part(call, 1)),
    "Neg": lambda call: stepping.scaled(call.assembler, _part(call, 0), -1.0),
    "Softmax": _softmax,
    "Sub": _sum(-1.0),
}
"""What operators make of what is held: see `AbstractHeld`. All others refuse it."""
