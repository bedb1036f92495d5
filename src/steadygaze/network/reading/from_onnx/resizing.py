"""The ONNX operator Resize as weights along each axis of a map: by the nearest entries, linear, cubic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from steadygaze.network.building import check_size
from steadygaze.network.reading.assembling.assembly import Value
from steadygaze.network.reading.assembling.resizing import resampled, resized
from steadygaze.network.reading.assembling.sampling import affine_grid
from steadygaze.network.reading.from_onnx.calls import Call, Rule
from steadygaze.network.reading.marks import mixed

_STANDING = "coordinate_transformation_mode"
# The last version in which Resize was as Upsample before it.
_LAST_OLD = 10


def _resize(call: Call) -> Value:
    asm, shape = call.assembler, call.assembler.shape(call.value())
    axes = call.get("axes", None)
    axes = list(range(len(shape))) if axes is None else [call.axis(axis, len(shape)) for axis in axes]
    scales, counts = _wanted(call, [shape[axis] for axis in axes])
    matrices = {}
    for axis, scale, count in zip(axes, scales, counts, strict=True):
        if scale == 1 and count == shape[axis]:
            continue
        if axis < 2 or count < 1:
            raise asm.refuse(
                f"it resizes axis {axis} of {shape} to {count}", "allowed are axes behind the channels"
            )
        check_size((count, shape[axis]), f"the weights of {asm.where}")
        matrices[axis] = torch.from_numpy(_along(call, shape[axis], count, scale))
    if not matrices:
        return call.value()
    whole = [matrices.get(axis, torch.eye(shape[axis], dtype=torch.float64)) for axis in range(2, len(shape))]
    return resized(asm, call.value(), whole)


def _of_old(call: Call) -> Value:
    """Upsample, and the Resize of version 10: from the nearest entry before, or linear from there."""
    asm = call.assembler
    scales = call.get("scales", call.optional(1, "scales"))
    if scales is None or min(np.ravel(scales), default=0) < 1:
        raise asm.refuse(
            f"its scales are {None if scales is None else np.ravel(scales).tolist()}",
            "allowed are numbers of at least 1, one for each axis; export for operator set 11 and above",
        )
    ways = {"coordinate_transformation_mode": b"asymmetric", "nearest_mode": b"floor"}
    inputs = (call.value(), None, np.asarray(scales))
    return _resize(replace(call, inputs=inputs, attributes={"mode": b"nearest", **call.attributes, **ways}))


def _wanted(call: Call, sizes: list[int]) -> tuple[list[float], list[int]]:
    """The factor of each axis, and its new size: one of the two is named, and makes the other."""
    scales, counts = (
        None if one is None or not one.size else np.ravel(one).tolist()
        for one in (call.optional(2, "scales"), call.optional(3, "sizes"))
    )
    given = counts if scales is None else scales
    if (scales is None) == (counts is None) or given is None or len(given) != len(sizes) or min(given) <= 0:
        raise call.assembler.refuse(
            f"its scales are {scales} and its sizes {counts}",
            "allowed is one of the two, with a number above 0 for each axis",
        )
    if scales is None:
        return [new / old for new, old in zip(given, sizes, strict=True)], [int(new) for new in given]
    # Runtimes multiply in single precision.
    made = [int(np.float32(scale) * np.float32(size)) for scale, size in zip(given, sizes, strict=True)]
    return given, made


def _along(call: Call, size: int, count: int, scale: float) -> np.ndarray:
    """What each of `size` entries counts for each of `count`, ``(count, size)``."""
    mode = call.get("mode", b"nearest").decode()
    if call.get("antialias", 0):
        return _blurred(call, size, count, scale)
    places = _places(call, size, count, np.float64(scale))
    if mode == "nearest":
        picked = _nearest(call, places, size)
        if not np.array_equal(picked, _nearest(call, _places(call, size, count, np.float32(scale)), size)):
            raise call.assembler.refuse(
                "which entry is the nearest hangs on how it is rounded",
                "allowed are sizes where float32 and float64 agree; export the network with others",
            )
        return np.eye(size)[picked]
    if mode == "linear":
        places = places.clip(0, size - 1)
        first = np.floor(places).astype(np.int64)
        part = places - first
        return _spread([(first, 1 - part), (first + 1, part)], size, keep=True)
    first = np.floor(places).astype(np.int64)
    part, a = places - first, call.get("cubic_coeff_a", -0.75)
    far = [np.abs(step - part) for step in (-1, 0, 1, 2)]
    weights = [
        np.where(d <= 1, ((a + 2) * d - (a + 3)) * d * d + 1, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a)
        for d in far
    ]
    taps = [(first + step, weight) for step, weight in zip((-1, 0, 1, 2), weights, strict=True)]
    return _spread(taps, size, keep=not call.get("exclude_outside", 0))


def _blurred(call: Call, size: int, count: int, scale: float) -> np.ndarray:
    """With antialias: where a map becomes smaller, hats as wide as a new entry, in sums of 1.

    What lies outside of the map counts for its edge, or is left out (as PyTorch has it).
    """
    ways = [
        call.get(name, usual).decode() for name, usual in (("mode", b"nearest"), (_STANDING, b"half_pixel"))
    ]
    if ways[0] != "linear" or ways[1] not in ("half_pixel", "pytorch_half_pixel"):
        raise call.assembler.refuse(
            f"it resizes with antialias in mode {ways[0]} by the rule {ways[1]}",
            "allowed with antialias are the mode linear and the rules half_pixel and pytorch_half_pixel",
        )
    places, reach = _places(call, size, count, np.float64(scale)), math.ceil(1 / min(scale, 1.0))
    first = np.floor(places).astype(np.int64)
    steps = range(-reach, reach + 2)
    hats = [(1 - np.abs(first + step - places) * min(scale, 1.0)).clip(0) for step in steps]
    total = np.sum(hats, axis=0)
    taps = [(first + step, hat / total) for step, hat in zip(steps, hats, strict=True)]
    return _spread(taps, size, keep=not call.get("exclude_outside", 0))


def _spread(taps: list[tuple[np.ndarray, np.ndarray]], size: int, keep: bool) -> np.ndarray:
    """The matrix of weights at places; those outside count for the edge, or are left out of a sum of 1."""
    count = len(taps[0][0])
    matrix = np.zeros((count, size))
    for place, weight in taps:
        inside = keep | ((place >= 0) & (place < size))
        np.add.at(matrix, (np.arange(count), place.clip(0, size - 1)), np.where(inside, weight, 0.0))
    return matrix if keep else matrix / matrix.sum(axis=1, keepdims=True)


def _places(call: Call, size: int, count: int, scale: np.floating) -> np.ndarray:
    """Where each new entry stands among the old ones, in the precision of the scale."""
    kind = scale.dtype.type
    i, half = np.arange(count).astype(kind), kind(0.5)
    rule = call.get(_STANDING, b"half_pixel").decode()
    if rule == "align_corners":
        return i * kind(size - 1) / kind(max(count - 1, 1))
    if rule == "asymmetric":
        return i / scale
    if rule == "pytorch_half_pixel" and count == 1:
        return i
    made = (i + half) / scale - half
    if rule == "half_pixel_symmetric":
        made = made + kind(size) / kind(2) * (1 - kind(count) / (scale * kind(size)))
    return made


def _nearest(call: Call, places: np.ndarray, size: int) -> np.ndarray:
    rule = call.get("nearest_mode", b"round_prefer_floor").decode()
    made = {
        "round_prefer_floor": np.ceil(places - places.dtype.type(0.5)),
        "round_prefer_ceil": np.floor(places + places.dtype.type(0.5)),
        "floor": np.floor(places),
        "ceil": np.ceil(places),
    }[rule]
    return made.clip(0, size - 1).astype(np.int64)


_MODES = {"linear": "bilinear", "cubic": "bicubic"}
"""What modes are called from version 20 on, and before it, as in PyTorch."""


def _sampled(call: Call) -> Value:
    """GridSample, at places that are constant or computed."""
    mode: str = call.get("mode", b"bilinear").decode()
    padding, corners = call.get("padding_mode", b"zeros").decode(), bool(call.get("align_corners", 0))
    given = call.either(1)
    grid = given if isinstance(given, Value) else torch.from_numpy(np.array(given, np.float64))
    return resampled(call.assembler, call.value(), grid, _MODES.get(mode, mode), padding, corners)


def _affine_grid(call: Call) -> Value:
    sizes, corners = call.wholes(1, "size") or [], bool(call.get("align_corners", 0))
    if len(sizes) != 4:
        raise call.assembler.refuse(f"it makes a grid for sizes {sizes}", "allowed are maps of four axes")
    return affine_grid(call.assembler, call.value(), sizes[2], sizes[3], corners)


RULES: Mapping[str, Rule] = {
    "AffineGrid": _affine_grid,
    "GridSample": mixed(_sampled),
    "Resize": lambda call: _resize(call) if call.opset > _LAST_OLD else _of_old(call),
    "Upsample": _of_old,
}
"""Operators that resize, by name."""
