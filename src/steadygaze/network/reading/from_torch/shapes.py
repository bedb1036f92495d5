"""PyTorch operators that move numbers and change none: shapes, axes, parts, frames."""

from __future__ import annotations

import numpy as np

from steadygaze.network.reading.assembling import framing
from steadygaze.network.reading.assembling.assembly import Value
from steadygaze.network.reading.assembling.framing import Framed
from steadygaze.network.reading.from_torch.arguments import Call
from steadygaze.network.reading.from_torch.moving import MIRRORS, mirrored


def padded(call: Call) -> Value | Framed:
    """pad, constant_pad_nd: amounts from the last axis on, (before, after) each."""
    amounts, rank = list(call["pad"]), len(call.shape())
    mode = MIRRORS.get(call.arguments.get("mode", "constant"))
    if mode is not None:
        return mirrored(call, amounts, mode)
    pads = [(0, 0)] * rank
    for place in range(len(amounts) // 2):
        pads[rank - 1 - place] = (amounts[2 * place], amounts[2 * place + 1])
    return framing.framed(call.assembler, call.value(), pads, float(call["value"] or 0.0))


def sliced(call: Call) -> Value:
    """slice: positions start, start + step, ... below end."""
    size = call.shape()[call["dim"]]
    first, end, step = slice(call["start"], call["end"], call["step"]).indices(size)
    return call.assembler.crop(call.value(), call["dim"], first, end, step)


def selected(call: Call) -> Value:
    """select: one position of an axis, which is dropped."""
    shape = call.shape()
    axis, index = call["dim"] % len(shape), call["index"] % shape[call["dim"]]
    taken = call.assembler.crop(call.value(), axis, index, index + 1)
    return call.assembler.reshape(taken, (*shape[:axis], *shape[axis + 1 :]))


def parts(call: Call) -> list[Value]:
    """split, split_with_sizes, chunk."""
    axis, size = call["dim"], call.shape()[call["dim"]]
    if "chunks" in call.arguments:
        length = -(-size // call["chunks"])
    else:
        length = call.arguments.get("split_size", call.arguments.get("split_sizes"))
    lengths = [length] * -(-size // length) if isinstance(length, int) else list(length)
    ends = np.minimum(np.cumsum(lengths), size).tolist()
    firsts = [0, *ends[:-1]]
    return [call.assembler.crop(call.value(), axis, a, b) for a, b in zip(firsts, ends, strict=True)]


def reshaped(call: Call) -> Value:
    """reshape, view."""
    size = call.arguments.get("size", call.arguments.get("shape"))
    return call.assembler.reshape(call.value(), size)


def flattened(call: Call) -> Value:
    """flatten: a run of axes becomes one."""
    shape = call.shape()
    first, last = call["start_dim"] % len(shape), call["end_dim"] % len(shape)
    return call.assembler.reshape(call.value(), (*shape[:first], -1, *shape[last + 1 :]))


def unflattened(call: Call) -> Value:
    """unflatten: one axis becomes several."""
    shape = call.shape()
    axis = call["dim"] % len(shape)
    sizes = [int(size) for size in call["sizes"]]
    rest = -shape[axis] // int(np.prod(sizes)) if -1 in sizes else -1
    return call.assembler.reshape(
        call.value(), (*shape[:axis], *(rest if n == -1 else n for n in sizes), *shape[axis + 1 :])
    )


def squeezed(call: Call) -> Value:
    """squeeze: axes of 1 are dropped, all of them or those named."""
    shape, given = call.shape(), call.arguments.get("dim")
    axes = range(len(shape)) if given is None else [given] if isinstance(given, int) else given
    dropped = {axis % len(shape) for axis in axes}
    return call.assembler.reshape(
        call.value(), [n for i, n in enumerate(shape) if i not in dropped or n != 1]
    )


def unsqueezed(call: Call) -> Value:
    """unsqueeze: an axis of 1 is put in."""
    shape = list(call.shape())
    shape.insert(call["dim"] % (len(shape) + 1), 1)
    return call.assembler.reshape(call.value(), shape)


def transposed(call: Call) -> Value:
    """transpose: two axes change places."""
    order = list(range(len(call.shape())))
    a, b = call["dim0"], call["dim1"]
    order[a], order[b] = order[b], order[a]
    return call.assembler.permute(call.value(), order)


def reversed_axes(call: Call) -> Value:
    """t, T: all axes in reverse."""
    return call.assembler.permute(call.value(), range(len(call.shape()))[::-1])
