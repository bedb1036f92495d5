"""ONNX operators that mirror, repeat, shuffle and join numbers, on top of `rearranging`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from steadygaze.network.reading.assembling import framing, rearranging
from steadygaze.network.reading.assembling.assembly import Assembler, Value
from steadygaze.network.reading.assembling.framing import Framed
from steadygaze.network.reading.assembling.rearranging import Mirror
from steadygaze.network.reading.from_onnx.calls import Call, Rule

_MIRRORS: Mapping[str, Mirror] = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}


def _pad(call: Call) -> Value | Framed:
    asm, x = call.assembler, call.value()
    rank = len(asm.shape(x))
    amounts, chosen = call.wholes(1, "pads") or [], call.axes(rank, 3)
    axes = range(rank) if chosen is None else chosen
    if len(amounts) != 2 * len(axes):
        raise asm.refuse(
            f"it has {len(amounts)} amounts of padding for {len(axes)} axes", "allowed are two for each axis"
        )
    pads = [(0, 0)] * rank
    for place, axis in enumerate(axes):
        pads[axis] = (amounts[place], amounts[place + len(axes)])
    mode = _MIRRORS.get(call.get("mode", b"constant").decode())
    if mode is not None:
        return rearranging.mirrored(asm, x, pads, mode)
    return framing.framed(asm, x, pads, call.number(2, "fill", "value") or 0.0)


def _gather(call: Call) -> Value:
    asm, x = call.assembler, call.value()
    index, shape = call.constant(1, "indices"), asm.shape(x)
    axis = call.axis(call.get("axis", 0), len(shape))
    if not np.issubdtype(index.dtype, np.integer):
        raise asm.refuse(f"its indices are of type {index.dtype}", "allowed are whole numbers")
    taken = rearranging.taken(asm, x, axis, np.ravel(index))
    return asm.reshape(taken, (*shape[:axis], *index.shape, *shape[axis + 1 :]))


def _gather_elements(call: Call) -> Value:
    shape = call.assembler.shape(call.value())
    axis, index = call.axis(call.get("axis", 0), len(shape)), call.constant(1, "indices")
    if not np.issubdtype(index.dtype, np.integer):
        raise call.assembler.refuse(f"its indices are of type {index.dtype}", "allowed are whole numbers")
    return rearranging.gathered(call.assembler, call.value(), axis, index)


def _gather_nd(call: Call) -> Value:
    """Entries of the first axes, as many as places are named together, each by a list of places."""
    asm, index, shape = call.assembler, call.constant(1, "indices"), call.assembler.shape(call.value())
    whole = np.issubdtype(index.dtype, np.integer) and index.ndim > 0 and index.shape[-1] <= len(shape)
    sizes = np.array(shape[: index.shape[-1]] if whole else ())
    if not whole or not sizes.size or not ((index >= -sizes) & (index < sizes)).all():
        raise asm.refuse(
            f"its indices are of shape {index.shape} and type {index.dtype} for a value of shape {shape}",
            "allowed are whole numbers that are places of its first axes",
        )
    places = np.moveaxis(np.where(index < 0, index + sizes, index), -1, 0)
    flat = asm.reshape(call.value(), (int(sizes.prod()), *shape[len(sizes) :]))
    taken = rearranging.taken(asm, flat, 0, np.ravel(np.ravel_multi_index(tuple(places), tuple(sizes))))
    return asm.reshape(taken, (*index.shape[:-1], *shape[len(sizes) :]))


def _expand(call: Call) -> Value:
    asm, shape = call.assembler, call.assembler.shape(call.value())
    wanted = [int(size) for size in call.constant(1, "shape").ravel()]
    try:
        full = np.broadcast_shapes(shape, tuple(wanted))
    except ValueError as error:
        raise asm.refuse(f"{shape} is expanded to {wanted}", "allowed are shapes that broadcast") from error
    return asm.expand(call.value(), full)


def _tile(call: Call) -> Value:
    counts = [int(count) for count in call.constant(1, "repeats").ravel()]
    if len(counts) != len(call.assembler.shape(call.value())) or min(counts, default=1) < 1:
        raise call.assembler.refuse(f"its repeats are {counts}", "allowed is one from 1 on for each axis")
    return rearranging.tiled(call.assembler, call.value(), counts)


def _concat(call: Call) -> Value:
    parts = call.given()
    rank = len(call.assembler.shape(next(part for part in parts if isinstance(part, Value))))
    return rearranging.side_by_side(call.assembler, parts, call.axis(call.get("axis", 1), rank))


def _blocks(move: Callable[[Assembler, Value, int, bool], Value]) -> Rule:
    """DepthToSpace, SpaceToDepth."""

    def rule(call: Call) -> Value:
        depth_first = call.get("mode", b"DCR").decode() == "DCR"
        return move(call.assembler, call.value(), call.get("blocksize", 1), depth_first)

    return rule


RULES: Mapping[str, Rule] = {
    "Concat": _concat,
    "DepthToSpace": _blocks(rearranging.deep_to_wide),
    "Expand": _expand,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "Pad": _pad,
    "SpaceToDepth": _blocks(rearranging.wide_to_deep),
    "Tile": _tile,
}
"""Operators that move numbers, by name."""
