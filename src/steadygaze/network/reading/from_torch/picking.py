"""PyTorch operators that pick: the largest and the smallest of numbers, and pieces of a line."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from steadygaze.network.reading.assembling import picking
from steadygaze.network.reading.assembling.assembly import Value
from steadygaze.network.reading.assembling.held import NO_JUMPS
from steadygaze.network.reading.from_torch.arguments import (
    COMPUTED,
    FLAG,
    LIMIT,
    NONE,
    NUMBER,
    OPERAND,
    WHOLE,
    Call,
    Rows,
    Rule,
    only,
    whole_numbers,
)


def _of_two(largest_wins: bool) -> Rule:
    """maximum, minimum: of equal ones the first counts, or the constant."""

    def rule(call: Call) -> Value:
        parts: Sequence[Value | np.ndarray] = [call.part("self"), call.part("other")]
        return picking.bounded(call.assembler, parts, largest_wins, shared=True)

    return rule


def _along(largest_wins: bool, indices: bool = False) -> Rule:
    """amax, amin, max, min: along axes, or all; with the values of those that give positions, too."""

    def rule(call: Call) -> Value | list[Value]:
        asm, value = call.assembler, call.value()
        given, keep = call.arguments.get("dim"), call.arguments.get("keepdim", False)
        axes = [given] if isinstance(given, int) else given or range(len(call.shape()))
        value = value if largest_wins else picking.negative(asm, value)
        value = picking.largest(asm, value, axes, keep, shared=not indices)
        value = value if largest_wins else picking.negative(asm, value)
        return [value] if indices else value

    return rule


def _hard_sigmoid(call: Call) -> Value:
    return picking.hard_sigmoid(call.assembler, call.value(), 1 / 6, 0.5)


def _soft_shrink(call: Call) -> Value:
    return picking.soft_shrink(call.assembler, call.value(), float(call["lambd"]))


def _threshold(call: Call) -> Value:
    edge, value = float(call["threshold"]), float(call["value"])
    if edge != value:
        raise call.assembler.refuse(
            f"it jumps from {value:g} to {edge:g} at {edge:g}",
            f"allowed is a value that is the threshold: {NO_JUMPS}; use one of them for both",
        )
    return call.assembler.clip(call.value(), edge, None)


def _random_slope(call: Call) -> Value:
    """rrelu: in evaluation the slope is the middle of those that are drawn in training."""
    return call.assembler.leaky_relu(call.value(), (float(call["lower"]) + float(call["upper"])) / 2)


_ONE = {"self": COMPUTED}
_TWO = {"self": OPERAND, "other": OPERAND}
_ALONG = {"self": COMPUTED, "dim": WHOLE | whole_numbers(), "keepdim": FLAG}

ROWS: Rows = (
    ("abs", lambda call: picking.absolute(call.assembler, call.value()), _ONE),
    ("maximum max.other", _of_two(largest_wins=True), _TWO),
    ("minimum min.other", _of_two(largest_wins=False), _TWO),
    ("amax max", _along(largest_wins=True), _ALONG),
    ("amin min", _along(largest_wins=False), _ALONG),
    ("max.dim", _along(largest_wins=True, indices=True), _ALONG),
    ("min.dim", _along(largest_wins=False, indices=True), _ALONG),
    ("hardsigmoid", _hard_sigmoid, _ONE),
    (
        "rrelu",
        _random_slope,
        {"self": COMPUTED, "lower": NUMBER, "upper": NUMBER, "training": only(False), "generator": NONE},
    ),
    ("softshrink", _soft_shrink, {"self": COMPUTED, "lambd": LIMIT}),
    ("threshold", _threshold, {"self": COMPUTED, "threshold": NUMBER, "value": NUMBER}),
)
"""Operators that pick, by name and overload."""
