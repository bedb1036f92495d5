"""PyTorch operators that mirror, repeat, shuffle and join numbers, on top of `rearranging`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steadygaze.network.reading.assembling import convolving, rearranging
from steadygaze.network.reading.assembling.assembly import Value
from steadygaze.network.reading.assembling.rearranging import Mirror
from steadygaze.network.reading.from_torch.arguments import (
    COMPUTED,
    COUNT,
    NONE,
    SEVERAL,
    WHOLE,
    Argument,
    Call,
    Rows,
    Rule,
    extent,
    unread,
    whole_numbers,
)

MIRRORS: Mapping[str, Mirror] = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
"""What the modes of padding that repeat numbers are called in `rearranging`."""


def mirrored(call: Call, amounts: list[int], mode: Mirror) -> Value:
    """A frame of the value's own numbers: amounts from the last axis on, (before, after) each."""
    pads = [(0, 0)] * len(call.shape())
    for place in range(len(amounts) // 2):
        pads[-1 - place] = (amounts[2 * place], amounts[2 * place + 1])
    return rearranging.mirrored(call.assembler, call.value(), pads, mode)


def _mirrored(mode: Mirror) -> Rule:
    return lambda call: mirrored(call, list(call["padding"]), mode)


def _expanded(call: Call) -> Value:
    old, size = call.shape(), list(call["size"])
    kept = [0] * (len(size) - len(old)) + list(old)
    return call.assembler.expand(
        call.value(), [have if want == -1 else want for have, want in zip(kept, size, strict=False)]
    )


def _repeated(call: Call) -> Value:
    counts = call.arguments.get("repeats", call.arguments.get("dims"))
    return rearranging.tiled(call.assembler, call.value(), counts)


def _each_repeated(call: Call) -> Value:
    if call["dim"] is None:
        flat = call.assembler.reshape(call.value(), (-1,))
        return rearranging.taken(
            call.assembler, flat, 0, np.repeat(np.arange(np.prod(call.shape())), call["repeats"])
        )
    size = call.shape()[call["dim"]]
    return rearranging.taken(
        call.assembler, call.value(), call["dim"], np.repeat(np.arange(size), call["repeats"])
    )


def _flipped(call: Call) -> Value:
    value = call.value()
    for axis in call["dims"]:
        value = rearranging.taken(call.assembler, value, axis, np.arange(call.shape()[axis])[::-1])
    return value


def _rolled(call: Call) -> Value:
    value, shape = call.value(), call.shape()
    if not call["dims"]:
        value = call.assembler.reshape(value, (-1,))
        size = int(np.prod(shape))
        value = rearranging.taken(call.assembler, value, 0, np.roll(np.arange(size), sum(call["shifts"])))
        return call.assembler.reshape(value, shape)
    for shift, axis in zip(call["shifts"], call["dims"], strict=True):
        value = rearranging.taken(call.assembler, value, axis, np.roll(np.arange(shape[axis]), shift))
    return value


def _selected(call: Call) -> Value:
    places = np.ravel(call["index"].numpy())
    return rearranging.taken(call.assembler, call.value(), call["dim"], places)


def _indexed(call: Call) -> Value:
    """``x[..., index, ...]`` with whole numbers, or truth values, along one axis or several."""
    named = [(axis, one) for axis, one in enumerate(call["indices"]) if one is not None]
    if len(named) != 1 or (named[0][1].ndim > 1 and named[0][1].dtype == torch.bool):
        return _indexed_together(call)
    ((axis, index),) = named
    places = index.nonzero()[:, 0] if index.dtype == torch.bool else index
    if index.dtype == torch.bool and len(index) != call.shape()[axis]:
        raise call.refuse("indices", "a truth value for each place of an axis")
    shape = call.shape()
    value = rearranging.taken(call.assembler, call.value(), axis, np.ravel(places.numpy()))
    return call.assembler.reshape(value, (*shape[:axis], *places.shape, *shape[axis + 1 :]))


def _indexed_together(call: Call) -> Value:
    """Indices along several axes, which are broadcast, or truth values for places of several axes."""
    shape = call.shape()
    numbers = np.arange(math.prod(shape)).reshape(shape)
    where = tuple(slice(None) if one is None else one.numpy() for one in call["indices"])
    try:
        places = numbers[where]
    except IndexError as error:
        raise call.refuse("indices", f"places that there are in a value of shape {shape}") from error
    return rearranging.picked(call.assembler, call.value(), places)


def _gathered(call: Call) -> Value:
    return rearranging.gathered(call.assembler, call.value(), call["dim"], call["index"].numpy())


def _gathered_along(call: Call) -> Value:
    """take_along_dim: an index that is broadcast with the value but for its axis."""
    asm, shape, index = call.assembler, call.shape(), call["indices"].numpy()
    if call["dim"] is None:
        flat = asm.reshape(call.value(), (math.prod(shape),))
        return rearranging.taken(asm, flat, 0, index.ravel())
    axis = call["dim"] % len(shape)
    if index.ndim != len(shape):
        raise call.refuse("indices", f"whole numbers with {len(shape)} axes")
    others = [(1 if i == axis else size) for i, size in enumerate(shape)]
    full = list(asm.broadcast(tuple(others), (*index.shape[:axis], 1, *index.shape[axis + 1 :])))
    wide = asm.expand(call.value(), (*full[:axis], shape[axis], *full[axis + 1 :]))
    index = np.broadcast_to(index, (*full[:axis], index.shape[axis], *full[axis + 1 :]))
    return rearranging.gathered(asm, wide, axis, index)


def _on_diagonal(call: Call) -> Value:
    """diagonal: of two axes, put last."""
    shape = call.shape()
    numbers = np.arange(math.prod(shape)).reshape(shape)
    places = np.diagonal(numbers, call["offset"], call["dim1"], call["dim2"])
    if not places.size:
        raise call.refuse("offset", "one that leaves places on the diagonal")
    return rearranging.picked(call.assembler, call.value(), places)


def _narrowed(call: Call) -> Value:
    size = call.shape()[call["dim"]]
    first = call["start"] + size if call["start"] < 0 else call["start"]
    return call.assembler.crop(call.value(), call["dim"], first, first + call["length"])


def _unbound(call: Call) -> list[Value]:
    shape, axis = call.shape(), call["dim"] % len(call.shape())
    cropped = (call.assembler.crop(call.value(), axis, place, place + 1) for place in range(shape[axis]))
    return [call.assembler.reshape(one, (*shape[:axis], *shape[axis + 1 :])) for one in cropped]


def _joined(call: Call) -> Value:
    return rearranging.side_by_side(call.assembler, call.parts("tensors"), call["dim"])


def _joined_across(call: Call) -> Value:
    """hstack: along the second axis, where there is one."""
    parts = [
        part if rearranging.shape_of(call.assembler, part) else rearranging.with_axis(call.assembler, part, 0)
        for part in call.parts("tensors")
    ]
    rank = len(rearranging.shape_of(call.assembler, parts[0]))
    return rearranging.side_by_side(call.assembler, parts, min(1, rank - 1))


def _stacked(call: Call) -> Value:
    asm, axis = call.assembler, call["dim"]
    widened = [rearranging.with_axis(asm, part, axis) for part in call.parts("tensors")]
    return rearranging.side_by_side(asm, widened, axis)


def _moved(call: Call) -> Value:
    rank = len(call.shape())
    sources, targets = (
        [one] if isinstance(one, int) else one for one in (call["source"], call["destination"])
    )
    kept = [axis for axis in range(rank) if axis not in {one % rank for one in sources}]
    for target, source in sorted((to % rank, of % rank) for of, to in zip(sources, targets, strict=True)):
        kept.insert(target, source)
    return call.assembler.permute(call.value(), kept)


def _windowed(call: Call) -> Value:
    """unfold of a tensor: windows along an axis, their places behind all others."""
    asm, shape = call.assembler, call.shape()
    axis, rank = call["dimension"] % len(shape), len(shape)
    places = _windows(call, shape[axis], call["size"], call["step"])
    order = [*(i for i in range(rank + 1) if i != axis + 1), axis + 1]
    return asm.permute(rearranging.windowed(asm, call.value(), axis, places), order)


def _unfolded(call: Call) -> Value:
    """im2col: each window of a map ``(1, C, H, W)`` as a column."""
    asm = call.assembler
    kernel, dilation, padding, stride = (
        _pair(call[name]) for name in ("kernel_size", "dilation", "padding", "stride")
    )
    x = asm.pad(call.value(), [(0, 0), (0, 0), *((one, one) for one in padding)], 0.0)
    channels, *sizes = asm.map_shape(x)
    for axis in (1, 0):
        places = _windows(call, sizes[axis], kernel[axis], stride[axis], dilation[axis])
        x = rearranging.windowed(asm, x, 2 + axis, places)
    moved = asm.permute(x, (0, 1, 3, 5, 2, 4))
    return asm.reshape(moved, (1, channels * kernel[0] * kernel[1], -1))


def _folded(call: Call) -> Value:
    """col2im: windows put together to a map again, summed up where they lie on each other."""
    size, kernel, dilation, padding, stride = (
        _pair(call[name]) for name in ("output_size", "kernel_size", "dilation", "padding", "stride")
    )
    frame = ((padding[0], padding[0]), (padding[1], padding[1]))
    return convolving.folded(call.assembler, call.value(), size, kernel, stride, frame, dilation)


def _windows(call: Call, extent: int, size: int, step: int, dilation: int = 1) -> np.ndarray:
    """The places of each window along an axis, ``(windows, size)``."""
    count = (extent - dilation * (size - 1) - 1) // step + 1
    if count < 1:
        raise call.assembler.refuse(
            f"its windows span {dilation * (size - 1) + 1} of {extent} places",
            "allowed are windows that fit; hand in a larger image, or --resize it",
        )
    return np.arange(count)[:, None] * step + np.arange(size) * dilation


def _pair(numbers: int | Sequence[int]) -> tuple[int, int]:
    listed = [numbers] if isinstance(numbers, int) else list(numbers)
    return (int(listed[0]), int(listed[-1]))


def _swapped(call: Call) -> Value:
    order = list(range(len(call.shape())))
    a, b = (call["axis0"], call["axis1"]) if "axis0" in call.arguments else (call["dim0"], call["dim1"])
    order[a], order[b] = order[b], order[a]
    return call.assembler.permute(call.value(), order)


def _is_places(given: Any) -> bool:
    return isinstance(given, Tensor) and not (given.is_floating_point() or given.is_complex())


_ONE = {"self": COMPUTED}
_PLACES = Argument(
    "a constant tensor of whole numbers with at most 1 axis",
    lambda given: _is_places(given) and given.ndim <= 1,
)
_INDEX = Argument("a constant tensor of whole numbers", _is_places)
_PLACES_OF = Argument(
    "constant tensors of whole numbers or truth values, or None",
    lambda given: isinstance(given, (list, tuple)) and all(one is None or _is_places(one) for one in given),
)
_SEVERAL_AXES = WHOLE | whole_numbers()

ROWS: Rows = (
    (
        "reflection_pad1d reflection_pad2d reflection_pad3d",
        _mirrored("reflect"),
        {"self": COMPUTED, "padding": whole_numbers()},
    ),
    (
        "replication_pad1d replication_pad2d replication_pad3d",
        _mirrored("edge"),
        {"self": COMPUTED, "padding": whole_numbers()},
    ),
    (
        "expand",
        _expanded,
        {"self": COMPUTED, "size": whole_numbers(), "implicit": Argument("False", lambda g: g is False)},
    ),
    ("repeat", _repeated, {"self": COMPUTED, "repeats": whole_numbers(least=1)}),
    ("tile", _repeated, {"self": COMPUTED, "dims": whole_numbers(least=1)}),
    (
        "repeat_interleave.self_int",
        _each_repeated,
        {"self": COMPUTED, "repeats": COUNT, "dim": NONE | WHOLE, "output_size": NONE},
    ),
    ("flip", _flipped, {"self": COMPUTED, "dims": whole_numbers()}),
    ("roll", _rolled, {"self": COMPUTED, "shifts": whole_numbers(), "dims": whole_numbers()}),
    ("index_select", _selected, {"self": COMPUTED, "dim": WHOLE, "index": _PLACES}),
    ("index.Tensor", _indexed, {"self": COMPUTED, "indices": _PLACES_OF}),
    (
        "gather",
        _gathered,
        {"self": COMPUTED, "dim": WHOLE, "index": _INDEX} | {"sparse_grad": unread("how a gradient is kept")},
    ),
    ("take_along_dim", _gathered_along, {"self": COMPUTED, "indices": _INDEX, "dim": NONE | WHOLE}),
    (
        "diagonal",
        _on_diagonal,
        {"self": COMPUTED, **dict.fromkeys(("offset", "dim1", "dim2"), WHOLE)},
    ),
    ("narrow", _narrowed, {"self": COMPUTED, "dim": WHOLE, "start": WHOLE, "length": COUNT}),
    (
        "unfold",
        _windowed,
        {"self": COMPUTED, "dimension": WHOLE, "size": COUNT, "step": COUNT},
    ),
    (
        "im2col",
        _unfolded,
        {"self": COMPUTED, "kernel_size": extent(1), "dilation": extent(1), "padding": extent(0)}
        | {"stride": extent(1)},
    ),
    (
        "col2im",
        _folded,
        {"self": COMPUTED, "dilation": extent(1), "padding": extent(0)}
        | dict.fromkeys(("output_size", "kernel_size", "stride"), extent(1)),
    ),
    ("unbind.int", _unbound, {"self": COMPUTED, "dim": WHOLE}),
    ("cat concat", _joined, {"tensors": SEVERAL, "dim": WHOLE}),
    ("hstack", _joined_across, {"tensors": SEVERAL}),
    ("stack", _stacked, {"tensors": SEVERAL, "dim": WHOLE}),
    (
        "movedim.int movedim.intlist",
        _moved,
        {"self": COMPUTED, "source": _SEVERAL_AXES, "destination": _SEVERAL_AXES},
    ),
    ("swapaxes", _swapped, {"self": COMPUTED, "axis0": WHOLE, "axis1": WHOLE}),
    ("swapdims", _swapped, {"self": COMPUTED, "dim0": WHOLE, "dim1": WHOLE}),
    (
        "pixel_shuffle",
        lambda call: rearranging.deep_to_wide(call.assembler, call.value(), call["upscale_factor"], False),
        {"self": COMPUTED, "upscale_factor": COUNT},
    ),
    (
        "pixel_unshuffle",
        lambda call: rearranging.wide_to_deep(call.assembler, call.value(), call["downscale_factor"], False),
        {"self": COMPUTED, "downscale_factor": COUNT},
    ),
    (
        "channel_shuffle",
        lambda call: rearranging.shuffled(call.assembler, call.value(), call["groups"]),
        {"self": COMPUTED, "groups": COUNT},
    ),
)
"""Operators that move numbers, by name and overload."""
