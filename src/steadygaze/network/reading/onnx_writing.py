"""ONNX operators that write numbers into a part of a value, as assignments to slices and places do."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from steadygaze.network.reading import rearranging
from steadygaze.network.reading.assembly import Value
from steadygaze.network.reading.onnx_calls import Call, Rule


def _shape(call: Call, part: Value | np.ndarray) -> tuple[int, ...]:
    return call.assembler.shape(part) if isinstance(part, Value) else part.shape


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
    where[call.axis(call.get("axis", 0), len(_shape(call, data)))] = indices
    return _written(call, data, where, updates)


def _written(call: Call, data: Value | np.ndarray, where: list[object], updates: Value | np.ndarray) -> Value:
    places = rearranging.places_of(call.assembler, _shape(call, data), where, _shape(call, updates))
    return rearranging.overwritten(call.assembler, data, places, updates)


RULES: Mapping[str, Rule] = {"ScatterElements": _scatter_elements, "ScatterND": _scatter}
"""Operators that write into a value, by name."""
