"""ONNX operators that write numbers into a part of a value, as assignments to slices and places do."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from steadygaze.network.reading.assembling import rearranging
from steadygaze.network.reading.assembling.assembly import Value
from steadygaze.network.reading.from_onnx.calls import Call, Rule


def _scatter(call: Call) -> Value:
    """ScatterND: the last axis of the indices names a place, or all places behind it."""
    data, indices, updates = call.given()
    assert isinstance(indices, np.ndarray), "the form of the operator has it constant"
    return _written(call, data, list(np.moveaxis(indices, -1, 0)), updates)


def _scatter_elements(call: Call) -> Value:
    """ScatterElements: each index names its own place along the axis."""
    data, indices, updates = call.given()
    assert isinstance(indices, np.ndarray), "the form of the operator has it constant"
    where: list[object] = list(np.indices(indices.shape))
    where[call.axis(call.get("axis", 0), len(rearranging.shape_of(call.assembler, data)))] = indices
    return _written(call, data, where, updates)


def _triangle(call: Call) -> Value:
    """Trilu: zeros on one side of a diagonal of the last two axes."""
    asm, shape, diagonal = call.assembler, call.assembler.shape(call.value()), call.optional(1, "diagonal")
    offset = 0 if diagonal is None else int(diagonal.item())
    kept = (np.triu if call.get("upper", 1) else np.tril)(np.ones(shape[-2:]), offset)
    return asm.scale_shift(call.value(), kept, 0.0)


def _written(call: Call, data: Value | np.ndarray, where: list[object], updates: Value | np.ndarray) -> Value:
    asm = call.assembler
    shapes = [rearranging.shape_of(asm, part) for part in (data, updates)]
    places = rearranging.places_of(asm, shapes[0], where, shapes[1])
    return rearranging.overwritten(asm, data, places, updates)


RULES: Mapping[str, Rule] = {"ScatterElements": _scatter_elements, "ScatterND": _scatter, "Trilu": _triangle}
"""Operators that write into a value, by name."""
