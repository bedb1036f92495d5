"""ONNX operators with windows: convolutions, transposed or not, and pools, in up to three dimensions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

import numpy as np

from steadygaze.network.reading.assembling import collapsing, convolving, framing, joining, picking, volumes
from steadygaze.network.reading.assembling.assembly import PoolGeometry, Value
from steadygaze.network.reading.assembling.framing import Framed
from steadygaze.network.reading.assembling.held import AbstractHeld
from steadygaze.network.reading.assembling.mixed_kernels import mixed_convolution
from steadygaze.network.reading.assembling.windows import same_padding
from steadygaze.network.reading.from_onnx.calls import Call, Made, Rule
from steadygaze.network.reading.marks import by_bounds, mixed


def _flat_too(rule: Rule) -> Rule:
    """A rule for maps that takes rows of numbers ``(1, C, L)``, too: they are maps of one row."""

    def either(call: Call) -> Value:
        asm, shape = call.assembler, call.assembler.shape(call.value())
        if len(shape) != 3:
            return _of_each(call, rule)
        inputs: list[Value | AbstractHeld | np.ndarray | None] = [
            asm.reshape(call.value(), (*shape[:2], 1, shape[2]))
        ]
        inputs += [
            one[:, :, None] if isinstance(one, np.ndarray) and one.ndim == 3 else one
            for one in call.inputs[1:]
        ]
        given = dict(call.attributes)
        for name, alone in _ALONE.items():
            if name in given and len(given[name]) == 1:
                given[name] = [alone, *given[name]]
        if len(given.get("pads", ())) == 2:
            given["pads"] = [0, given["pads"][0], 0, given["pads"][1]]
        made = _of_each(replace(call, inputs=tuple(inputs), attributes=given), rule)
        return asm.reshape(made, (*asm.shape(made)[:2], -1))

    return either


def _of_each(call: Call, rule: Rule) -> Value:
    """A rule for maps of several of one image, ``(N, C, H, W)``, too: they are channels of one map."""
    asm, value, shape = call.assembler, call.value(), call.assembler.shape(call.value())
    if value.batched or len(shape) != 4:
        return _single(rule(call))
    maps, channels, *places = shape
    weights = (
        np.tile(one, (maps, *[1] * (one.ndim - 1))) if isinstance(one, np.ndarray) and one.ndim else one
        for one in call.inputs[1:]
    )
    given = dict(call.attributes)
    if len(call.inputs) > 1:
        given["group"] = maps * given.get("group", 1)
    inputs = (asm.reshape(value, (1, maps * channels, *places)), *weights)
    made = _single(rule(replace(call, inputs=inputs, attributes=given)))
    return asm.reshape(made, (maps, -1, *asm.shape(made)[2:]))


# What the windows of a row are in the other direction.
_ALONE = {"kernel_shape": 1, "strides": 1, "dilations": 1, "output_padding": 0, "output_shape": 1}


def _single(made: Made) -> Value:
    assert isinstance(made, Value), "windows make one value"
    return made


def _conv(call: Call) -> Value:
    asm, x = call.assembler, call.value(0)
    if isinstance(call.either(1), Value):
        return _conv_by_computed(call)
    weight = call.constant(1, "weight")
    if weight.ndim not in (4, volumes.RANK):
        raise asm.refuse(
            f"the weight has {weight.ndim} axes",
            "allowed are convolutions in one to three dimensions (3 to 5 axes)",
        )
    kernel = tuple(call.get("kernel_shape", weight.shape[2:]))
    if kernel != weight.shape[2:]:
        raise asm.refuse(f"its kernel_shape is {kernel}", f"allowed is the weight's, {weight.shape[2:]}")
    groups, bias = int(call.get("group", 1)), call.optional(2, "bias")
    if weight.ndim == volumes.RANK:
        return volumes.convolved(asm, x, weight, bias, _deep_geometry(call, kernel), groups)
    window = _geometry(call, kernel, x)
    return asm.conv(x, weight, bias, window.stride, window.pads, window.dilation, groups)


def _conv_by_computed(call: Call) -> Value:
    asm, weight = call.assembler, call.value(1)
    kernel = asm.shape(weight)[2:]
    window = _geometry(call, kernel, call.value())
    return mixed_convolution(
        asm,
        call.value(),
        weight,
        call.either(2),
        int(call.get("group", 1)),
        lambda x, kernels, parts: asm.conv(
            x, kernels, None, window.stride, window.pads, window.dilation, parts
        ),
    )


def _geometry(call: Call, kernel: tuple[int, ...], x: Value) -> PoolGeometry:
    if len(kernel) != 2 or len(call.assembler.shape(x)) != 4:
        raise call.assembler.refuse(
            f"the window is {kernel} on a value of shape {call.assembler.shape(x)}",
            "allowed are windows of as many axes as the map has behind its channels, one to three",
        )
    stride, dilation, (rows, columns) = _windows(call, kernel)
    ceil = bool(call.get("ceil_mode", 0))
    return PoolGeometry(
        (kernel[0], kernel[1]), (stride[0], stride[1]), (rows, columns), (dilation[0], dilation[1]), ceil
    )


def _deep_geometry(call: Call, kernel: tuple[int, ...]) -> volumes.DeepGeometry:
    shape = call.assembler.shape(call.value())
    if len(kernel) != 3 or len(shape) != volumes.RANK:
        raise call.assembler.refuse(
            f"the window is {kernel} on a value of shape {shape}",
            "allowed are windows of as many axes as the map has behind its channels, one to three",
        )
    stride, dilation, pads = _windows(call, kernel)
    return volumes.DeepGeometry(kernel, stride, pads, dilation, bool(call.get("ceil_mode", 0)))


def _windows(
    call: Call, kernel: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Strides, dilations and pads (before, after) of windows, for each axis of places."""
    asm, shape, axes = call.assembler, call.assembler.shape(call.value()), len(kernel)
    lengths = {"strides": axes, "dilations": axes, "pads": 2 * axes, "output_padding": axes}
    wrong = [name for name, length in lengths.items() if len(call.get(name, [0] * length)) != length]
    if wrong:
        raise asm.refuse(
            f"its {wrong[0]} are {call.get(wrong[0], None)} on a value of shape {shape}",
            "allowed are numbers for each axis of the window",
        )
    stride, dilation = (tuple(call.get(name, (1,) * axes)) for name in ("strides", "dilations"))
    amounts = tuple(call.get("pads", (0,) * 2 * axes))
    pads = tuple(zip(amounts[:axes], amounts[axes:], strict=True))
    rule = call.get("auto_pad", b"NOTSET").decode()
    if rule != "NOTSET" and any(map(any, pads)):
        raise asm.refuse(
            f"its auto_pad is {rule} and its pads are {amounts}",
            "allowed is one of the two; export the network again",
        )
    if rule.startswith("SAME"):
        longer: Literal["before", "after"] = "before" if rule == "SAME_LOWER" else "after"
        each = zip(shape[2:], kernel, stride, dilation, strict=True)
        pads = tuple(same_padding(*numbers, longer) for numbers in each)
    return stride, dilation, pads


def _checked(call: Call) -> tuple[int, ...]:
    """The kernel of a pool, whose attributes runtimes read in one way."""
    kernel, rule = tuple(call.get("kernel_shape", ())), call.get("auto_pad", b"NOTSET").decode()
    ceil, dilation = bool(call.get("ceil_mode", 0)), tuple(call.get("dilations", (1,) * len(kernel)))
    if rule != "NOTSET" and (ceil or (rule != "VALID" and any(own != 1 for own in dilation))):
        raise call.assembler.refuse(
            f"its auto_pad is {rule} with ceil_mode {int(ceil)} and dilations {dilation}, "
            "which runtimes read in different ways",
            "allowed are pads in numbers there; export the network with those",
        )
    return kernel


def _is_deep(call: Call) -> bool:
    return len(call.assembler.shape(call.value())) == volumes.RANK


def _pooled(call: Call) -> PoolGeometry:
    return _geometry(call, _checked(call), call.value())


def _max_pool(call: Call) -> Value:
    asm = call.assembler
    if _is_deep(call):
        return volumes.largest(asm, call.value(), _deep_geometry(call, _checked(call)))
    return asm.max_pool(call.value(), _pooled(call))


def _of_frame(call: Call) -> Value:
    """A max pooling of a map in a frame of minus infinity."""
    held = call.inputs[0]
    assert isinstance(held, AbstractHeld), "others have rules of their own"
    if not isinstance(held, Framed):
        raise held.refusal(call.assembler)
    inside = replace(call, inputs=(held.inside, *call.inputs[1:]))
    if call.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise held.refusal(call.assembler)
    return framing.pooled(call.assembler, held, _pooled(inside))


def _average_pool(call: Call) -> Value:
    asm, counted = call.assembler, bool(call.get("count_include_pad", 0))
    if _is_deep(call):
        return volumes.averaged(asm, call.value(), _deep_geometry(call, _checked(call)), counted)
    return asm.average_pool(call.value(), _pooled(call), counted)


def _lp_pool(call: Call) -> Value:
    """The p-th root of the sum of p-th powers of each window."""
    asm, p = call.assembler, int(call.get("p", 2))
    powers = _powers(call, p)
    summed = asm.average_pool(powers, _pooled(call), count_padding=True, divisor=1.0)
    return joining.power(asm, summed, 1 / p)


def _global_lp_pool(call: Call) -> Value:
    asm, p, rank = call.assembler, int(call.get("p", 2)), len(call.assembler.shape(call.value()))
    if rank < 3:
        asm.map_shape(call.value())
    summed = collapsing.total(asm, _powers(call, p), range(2, rank), keep=True)
    return joining.power(asm, summed, 1 / p)


def _powers(call: Call, p: int) -> Value:
    """The p-th powers of absolute values."""
    value = call.value() if p % 2 == 0 else picking.absolute(call.assembler, call.value())
    return joining.power(call.assembler, value, float(p))


def _transposed(call: Call) -> Value:
    asm, x = call.assembler, call.value(0)
    weight, shape = call.constant(1, "weight"), call.get("output_shape", None)
    rule = call.get("auto_pad", b"NOTSET").decode()
    if weight.ndim not in (4, volumes.RANK) or len(asm.shape(x)) != weight.ndim:
        raise asm.refuse(
            f"the weight has {weight.ndim} axes on a value of shape {asm.shape(x)}",
            "allowed are convolutions in one dimension to three (3 to 5 axes)",
        )
    if shape is not None or rule not in ("NOTSET", "VALID"):
        raise asm.refuse(
            f"its auto_pad is {rule} and its output_shape {shape}",
            "allowed are pads in numbers; export the network with those",
        )
    kernel = tuple(call.get("kernel_shape", weight.shape[2:]))
    if kernel != weight.shape[2:]:
        raise asm.refuse(f"its kernel_shape is {kernel}", f"allowed is the weight's, {weight.shape[2:]}")
    groups, bias = int(call.get("group", 1)), call.optional(2, "bias")
    if weight.ndim == volumes.RANK:
        more = tuple(call.get("output_padding", (0, 0, 0)))
        return volumes.transposed(asm, x, weight, bias, _deep_geometry(call, kernel), more, groups)
    window = _geometry(call, kernel, x)
    rows, columns = call.get("output_padding", (0, 0))
    return convolving.transposed(
        asm, x, weight, bias, window.stride, window.pads, (rows, columns), window.dilation, groups
    )


def _folded(call: Call) -> Value:
    """Col2Im: windows put together to a map again, summed up where they lie on each other."""
    asm = call.assembler
    size, kernel = (tuple(call.wholes(place, name) or ()) for place, name in ((1, "image"), (2, "block")))
    if len(size) != 2 or len(kernel) != 2 or min(*size, *kernel) < 1:
        raise asm.refuse(
            f"its image is {size} and its block {kernel}", "allowed are rows and columns of each"
        )
    stride, dilation = (tuple(call.get(name, (1, 1))) for name in ("strides", "dilations"))
    pads = tuple(call.get("pads", (0, 0, 0, 0)))
    if (len(stride), len(dilation), len(pads)) != (2, 2, 4):
        raise asm.refuse("its attributes are those of one dimension", "allowed are those of two")
    frame = ((pads[0], pads[2]), (pads[1], pads[3]))
    return convolving.folded(asm, call.value(), size, kernel, stride, frame, dilation)


def _global_average(call: Call) -> Value:
    rank = len(call.assembler.shape(call.value()))
    if rank < 3:
        call.assembler.map_shape(call.value())
    return collapsing.mean(call.assembler, call.value(), range(2, rank), True)


RULES: Mapping[str, Rule] = {
    "AveragePool": _flat_too(_average_pool),
    "Conv": mixed(_flat_too(_conv)),
    "Col2Im": _folded,
    "ConvTranspose": _flat_too(_transposed),
    "GlobalAveragePool": _global_average,
    "GlobalLpPool": by_bounds(_global_lp_pool),
    "LpPool": by_bounds(_flat_too(_lp_pool)),
    "MaxPool": _flat_too(_max_pool),
}
"""Operators with windows, by name."""

HELD: Mapping[str, Callable[[Call], Value]] = {"MaxPool": _of_frame}
"""What they make of what is held."""
