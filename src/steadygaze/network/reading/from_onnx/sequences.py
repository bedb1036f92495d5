"""ONNX operators of sequences: lists of values, which exporters keep where a module appends to a list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from steadygaze.errors import ModelError
from steadygaze.network.reading.assembling import rearranging
from steadygaze.network.reading.assembling.assembly import Assembler, Value
from steadygaze.network.reading.assembling.held import AbstractHeld
from steadygaze.network.reading.from_onnx.calls import Call

Part: TypeAlias = "Value | np.ndarray"


@dataclass(frozen=True, eq=False)
class Listed(AbstractHeld):
    """A sequence of values."""

    parts: tuple[Part, ...]

    def refusal(self, asm: Assembler) -> ModelError:
        return asm.refuse(
            f"it reads a sequence of {len(self.parts)} values",
            "allowed are SequenceAt and ConcatFromSequence; put the values together with torch.stack or cat",
        )


def _constructed(call: Call) -> Listed:
    return Listed(tuple(call.given()))


def _split(call: Call) -> Listed:
    """SplitToSequence: in parts of one size, the last of which may be smaller, or of sizes that are named."""
    asm, x, given = call.assembler, call.value(), call.optional(1, "sizes")
    shape = asm.shape(x)
    axis = call.axis(call.get("axis", 0), len(shape))
    size = shape[axis]
    if given is None:
        sizes = [1] * size
    elif np.ndim(given):
        sizes = [int(one) for one in np.ravel(given)]
    else:
        part = max(int(given), 1)
        sizes = [min(part, size - first) for first in range(0, size, part)]
    if not sizes or sum(sizes) != size or min(sizes) < 1:
        raise asm.refuse(
            f"axis {axis} of {shape} is split into {sizes}", "allowed are parts that are all of the axis"
        )
    ends = np.cumsum(sizes).tolist()
    parts = [asm.crop(x, axis, end - part, end) for end, part in zip(ends, sizes, strict=True)]
    if given is None and not call.get("keepdims", 1):
        parts = [asm.reshape(part, (*shape[:axis], *shape[axis + 1 :])) for part in parts]
    return Listed(tuple(parts))


def _at(call: Call) -> Part:
    parts, place = _parts(call), int(call.constant(1, "position").reshape(()))
    if not -len(parts) <= place < len(parts):
        raise call.assembler.refuse(
            f"it takes number {place} of {len(parts)} values", "allowed are those that there are"
        )
    return parts[place]


def _joined(call: Call) -> Part:
    """ConcatFromSequence: side by side along an axis, which may be a new one."""
    asm, parts = call.assembler, _parts(call)
    if not parts:
        raise asm.refuse("it puts no values together", "allowed are sequences of at least one")
    new = bool(call.get("new_axis", 0))
    axis = call.axis(call.get("axis", 0), len(rearranging.shape_of(asm, parts[0])) + new)
    if new:
        parts = tuple(rearranging.with_axis(asm, part, axis) for part in parts)
    if len(parts) == 1:
        return parts[0]
    constants = [part for part in parts if isinstance(part, np.ndarray)]
    if len(constants) == len(parts):
        return np.concatenate(constants, axis=axis)
    return rearranging.side_by_side(asm, parts, axis)


def _parts(call: Call) -> tuple[Part, ...]:
    given = call.inputs[0]
    if not isinstance(given, Listed):
        raise call.assembler.refuse("it reads no sequence", "allowed is a sequence of values")
    return given.parts


TAKEN: Mapping[str, Any] = {"ConcatFromSequence": _joined, "SequenceAt": _at}
"""Operators that make values of a sequence, by name."""

RULES: Mapping[str, Any] = {"SequenceConstruct": _constructed, "SplitToSequence": _split, **TAKEN}
"""Operators of sequences, by name."""
