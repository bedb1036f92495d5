"""ONNX operators that pick: the largest and the smallest of numbers, and pieces of a line."""

from __future__ import annotations

from collections.abc import Mapping

from steadygaze.network.reading.assembling import collapsing, picking
from steadygaze.network.reading.assembling.assembly import Value
from steadygaze.network.reading.assembling.held import NO_JUMPS
from steadygaze.network.reading.from_onnx.calls import Call, Rule


def _of_several(largest_wins: bool) -> Rule:
    """Max, Min: of equal computed values the first counts, and a constant before any."""
    return lambda call: picking.bounded(call.assembler, call.given(), largest_wins, shared=False)


def _along(largest_wins: bool) -> Rule:
    """ReduceMax, ReduceMin."""

    def rule(call: Call) -> Value:
        axes, keep = call.reduced()
        value = call.value() if largest_wins else picking.negative(call.assembler, call.value())
        value = picking.largest(call.assembler, value, axes, keep, shared=False)
        return value if largest_wins else picking.negative(call.assembler, value)

    return rule


def _length(call: Call) -> Value:
    """ReduceL1: the sum of absolute values."""
    axes, keep = call.reduced()
    return collapsing.total(call.assembler, picking.absolute(call.assembler, call.value()), axes, keep)


def _global_max(call: Call) -> Value:
    rank = len(call.assembler.shape(call.value()))
    if rank == 4:
        return picking.adaptive_max(call.assembler, call.value(), (1, 1))
    if rank < 3:
        call.assembler.map_shape(call.value())
    return picking.largest(call.assembler, call.value(), range(2, rank), True, shared=False)


def _hard_sigmoid(call: Call) -> Value:
    return picking.hard_sigmoid(call.assembler, call.value(), call.get("alpha", 0.2), call.get("beta", 0.5))


def _shrink(call: Call) -> Value:
    width, back = call.get("lambd", 0.5), call.get("bias", 0.0)
    if width != back:
        raise call.assembler.refuse(
            f"its lambd is {width:g} and its bias {back:g}, so that it jumps",
            f"allowed is one number for both, the continuous one: {NO_JUMPS}",
        )
    return picking.soft_shrink(call.assembler, call.value(), width)


def _thresholded_relu(call: Call) -> Value:
    edge = call.get("alpha", 1.0)
    if edge != 0:
        raise call.assembler.refuse(
            f"it jumps from 0 to {edge:g} at {edge:g}", f"allowed is an alpha of 0: {NO_JUMPS}"
        )
    return call.assembler.leaky_relu(call.value(), 0.0)


RULES: Mapping[str, Rule] = {
    "Abs": lambda call: picking.absolute(call.assembler, call.value()),
    "GlobalMaxPool": _global_max,
    "HardSigmoid": _hard_sigmoid,
    "Max": _of_several(largest_wins=True),
    "Min": _of_several(largest_wins=False),
    "ReduceL1": _length,
    "ReduceMax": _along(largest_wins=True),
    "ReduceMin": _along(largest_wins=False),
    "Shrink": _shrink,
    "ThresholdedRelu": _thresholded_relu,
}
"""Operators that pick, by name."""
