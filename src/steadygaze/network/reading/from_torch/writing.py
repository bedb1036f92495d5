"""PyTorch operators that write numbers into a part of a value, as assignments to slices and places do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from steadygaze.network.reading.assembling import rearranging
from steadygaze.network.reading.assembling.assembly import Value
from steadygaze.network.reading.from_torch.arguments import (
    COMPUTED,
    NONE,
    NUMBER,
    WEIGHTS,
    WHOLE,
    Argument,
    Call,
    Rows,
    only,
    unread,
)


def _shape(call: Call, name: str) -> tuple[int, ...]:
    return rearranging.shape_of(call.assembler, call.part(name))


def _copied(call: Call) -> Value:
    """All of a value overwritten by another, broadcast."""
    asm, shape, source = call.assembler, _shape(call, "self"), call.part("src")
    if isinstance(source, Value):
        return asm.expand(source, shape)
    return asm.scale_shift(call.value(), 0.0, source)


def _filled(call: Call) -> Value:
    """All of a value overwritten by one number, which may be computed."""
    if isinstance(call["value"], Value):
        return call.assembler.expand(call.value("value"), _shape(call, "self"))
    return call.assembler.scale_shift(call.value(), 0.0, call.constant("value"))


def _written(call: Call, where: Sequence[object], name: str) -> Value:
    """The value with others, of that name, at an index as numpy has it."""
    asm, shape = call.assembler, _shape(call, "self")
    places = rearranging.places_of(asm, shape, where, _shape(call, name))
    return rearranging.overwritten(asm, call.part("self"), places, call.part(name))


def _selected(call: Call) -> Value:
    where: list[object] = [slice(None)] * len(_shape(call, "self"))
    where[call["dim"]] = call["index"]
    return _written(call, where, "src")


def _sliced(call: Call) -> Value:
    where: list[object] = [slice(None)] * len(_shape(call, "self"))
    where[call["dim"]] = slice(call["start"], call["end"], call["step"])
    return _written(call, where, "src")


def _scattered(call: Call) -> Value:
    """scatter: numbers, or one number, at an index along an axis, each at its own place of the others."""
    asm, shape, index = call.assembler, _shape(call, "self"), call["index"].numpy()
    axis, name = call["dim"] % max(len(shape), 1), "src" if "src" in call.arguments else "value"
    source = call.part(name)
    if index.ndim != len(shape) or not index.size:
        raise call.refuse("index", f"whole numbers with {len(shape)} axes")
    kept = tuple(slice(size) for size in index.shape)
    if isinstance(source, Value):
        for place, size in enumerate(index.shape):
            source = asm.crop(source, place, 0, size)
    else:
        source = source[kept] if source.ndim else np.full(index.shape, source)
    where: list[object] = list(np.indices(index.shape))
    where[axis] = index
    places = rearranging.places_of(asm, shape, where, index.shape)
    return rearranging.overwritten(asm, call.part("self"), places, source)


def _indexed(call: Call) -> Value:
    where = [slice(None) if one is None else one.numpy() for one in call["indices"]]
    return _written(call, where, "values")


def _is_places(given: object) -> bool:
    return given is None or (
        isinstance(given, Tensor) and not (given.is_floating_point() or given.is_complex())
    )


_PART = COMPUTED | WEIGHTS
_PLACES = Argument(
    "constant tensors of whole numbers or truth values, or None",
    lambda given: isinstance(given, (list, tuple)) and all(map(_is_places, given)),
)
_INDEX = Argument("a constant tensor of whole numbers", lambda given: given is not None and _is_places(given))
_END = NONE | WHOLE

ROWS: Rows = (
    ("copy", _copied, {"self": _PART, "src": _PART, "non_blocking": unread("when it is copied")}),
    ("fill.Scalar fill.Tensor", _filled, {"self": _PART, "value": NUMBER | WEIGHTS | COMPUTED}),
    ("select_scatter", _selected, {"self": _PART, "src": _PART, "dim": WHOLE, "index": WHOLE}),
    (
        "slice_scatter",
        _sliced,
        {"self": _PART, "src": _PART, "dim": WHOLE, "start": _END, "end": _END, "step": WHOLE},
    ),
    (
        "scatter.src scatter.value",
        _scattered,
        {"self": _PART, "dim": WHOLE, "index": _INDEX, "src": _PART, "value": NUMBER},
    ),
    (
        "index_put",
        _indexed,
        {"self": _PART, "indices": _PLACES, "values": _PART, "accumulate": only(False)},
    ),
)
"""Operators that write into a value, by name and overload."""
