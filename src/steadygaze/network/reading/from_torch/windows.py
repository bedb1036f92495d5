"""PyTorch operators with windows: convolutions, transposed or not, and pools, in up to three dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from steadygaze.network.reading.assembling import convolving, framing, picking, volumes
from steadygaze.network.reading.assembling.assembly import Pads, PoolGeometry, Value
from steadygaze.network.reading.assembling.framing import Framed
from steadygaze.network.reading.assembling.mixed_kernels import mixed_convolution
from steadygaze.network.reading.assembling.rearranging import shape_of
from steadygaze.network.reading.assembling.windows import same_padding
from steadygaze.network.reading.from_torch.arguments import (
    COMPUTED,
    COUNT,
    FLAG,
    NONE,
    Call,
    Rows,
    Rule,
    deep_extent,
    extent,
    only,
    weights,
    whole_numbers,
)
from steadygaze.network.reading.from_torch.stepping import HELD
from steadygaze.network.reading.marks import mixed


def _pair(numbers: int | Sequence[int]) -> tuple[int, int]:
    listed = [numbers] if isinstance(numbers, int) else list(numbers)
    return (int(listed[0]), int(listed[-1]))


def _flat(rule: Rule) -> Rule:
    """A rule for maps as one for rows of numbers ``(1, C, L)``: they are maps of one row."""

    def flat(call: Call) -> Value | list[Value]:
        asm, given = call.assembler, dict(call.arguments)
        name = "input" if "input" in given else "self"
        shape = call.shape(name)
        if len(shape) != 3:
            raise asm.refuse(
                f"got a value of shape {shape}", "allowed is (batch, channels, length) in one dimension"
            )
        given[name] = asm.reshape(call.value(name), (*shape[:2], 1, shape[2]))
        for wide, alone in _ALONE.items():
            if wide in given and not isinstance(given[wide], str):
                own = [given[wide]] if isinstance(given[wide], int) else list(given[wide])
                given[wide] = [alone, *own] if own else []
        if "weight" in given:
            given["weight"] = given["weight"].unsqueeze(2)
        made = rule(replace(call, arguments=given))
        several = isinstance(made, list)
        narrow = [asm.reshape(one, (*asm.shape(one)[:2], -1)) for one in (made if several else [made])]
        return narrow if several else narrow[0]

    return flat


# What the windows of a row are in the other direction.
_ALONE = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1, "output_padding": 0, "output_size": 1}


def _each(rule: Rule) -> Rule:
    """A rule for maps that takes several of one image, ``(N, C, H, W)``, too: as channels of one map."""

    def each(call: Call) -> Value | list[Value]:
        asm, given = call.assembler, dict(call.arguments)
        name = "input" if "input" in given else "self"
        value, shape = call.value(name), call.shape(name)
        if value.batched or len(shape) != 4 or isinstance(given.get("weight"), Value):
            made: Value | list[Value] = rule(call)
            return made
        maps, channels, *places = shape
        given[name] = asm.reshape(value, (1, maps * channels, *places))
        if "groups" in given:
            given["groups"] *= maps
            for own in ("weight", "bias"):
                if given[own] is not None:
                    given[own] = given[own].repeat(maps, *[1] * (given[own].ndim - 1))
        made = rule(replace(call, arguments=given))
        several = isinstance(made, list)
        apart = [asm.reshape(one, (maps, -1, *asm.shape(one)[2:])) for one in (made if several else [made])]
        return apart if several else apart[0]

    return each


def _either(call: Call) -> Value:
    """convolution: transposed or not, of maps, of rows or of volumes."""
    rank = call.constant("weight").ndim
    if rank == volumes.RANK:
        return _deep_transposed(call) if call["transposed"] else _deep_convolution(call)
    rule = _each(_transposed if call["transposed"] else _convolution)
    made: Value = (rule if rank == 4 else _flat(rule))(call)
    return made


def _triple(numbers: int | Sequence[int]) -> tuple[int, ...]:
    listed = [numbers] if isinstance(numbers, int) else list(numbers)
    return tuple(map(int, listed * 3 if len(listed) == 1 else listed))


def _deep_convolution(call: Call) -> Value:
    weight, stride, dilation = call.constant("weight"), _triple(call["stride"]), _triple(call["dilation"])
    kernel, padding = weight.shape[2:], call["padding"]
    pads = ((0, 0),) * 3 if isinstance(padding, str) else _sides(_triple(padding))
    if padding == "same":
        each = zip(call.shape("input")[2:], kernel, stride, dilation, strict=True)
        pads = tuple(same_padding(*numbers, "after") for numbers in each)
    geometry = volumes.DeepGeometry(kernel, stride, pads, dilation)
    bias, groups = call.optional("bias"), int(call["groups"])
    return volumes.convolved(call.assembler, call.value("input"), weight, bias, geometry, groups)


def _deep_transposed(call: Call) -> Value:
    weight, stride, dilation = call.constant("weight"), _triple(call["stride"]), _triple(call["dilation"])
    geometry = volumes.DeepGeometry(weight.shape[2:], stride, _sides(_triple(call["padding"])), dilation)
    bias, more, groups = call.optional("bias"), _triple(call["output_padding"]), int(call["groups"])
    return volumes.transposed(call.assembler, call.value("input"), weight, bias, geometry, more, groups)


def _sides(amounts: Sequence[int]) -> tuple[tuple[int, int], ...]:
    return tuple((amount, amount) for amount in amounts)


def _deep_geometry(call: Call) -> volumes.DeepGeometry:
    kernel = _triple(call["kernel_size"])
    stride = _triple(call["stride"]) if call["stride"] else kernel
    dilation = _triple(call.arguments.get("dilation", 1))
    return volumes.DeepGeometry(
        kernel, stride, _sides(_triple(call["padding"])), dilation, bool(call["ceil_mode"])
    )


def _deep_max(call: Call) -> Value:
    return volumes.largest(call.assembler, call.value(), _deep_geometry(call))


def _deep_average(call: Call) -> Value:
    counted, divisor = bool(call["count_include_pad"]), call["divisor_override"]
    return volumes.averaged(call.assembler, call.value(), _deep_geometry(call), counted, divisor)


def _deep_adaptive(made: Callable[..., Value]) -> Rule:
    return lambda call: made(call.assembler, call.value(), _triple(call["output_size"]))


def _of_frame(call: Call) -> Value:
    """A max pooling of a map in a frame of minus infinity."""
    held = call["self"]
    if not isinstance(held, Framed):
        raise held.refusal(call.assembler)
    return framing.pooled(call.assembler, held, _pool_geometry(call))


def _transposed(call: Call) -> Value:
    return convolving.transposed(
        call.assembler,
        call.value("input"),
        call.constant("weight"),
        call.optional("bias"),
        _pair(call["stride"]),
        _both_sides(_pair(call["padding"])),
        _pair(call["output_padding"]),
        _pair(call["dilation"]),
        int(call["groups"]),
    )


def _convolution(call: Call) -> Value:
    asm, stride, dilation = call.assembler, _pair(call["stride"]), _pair(call["dilation"])
    weight, groups = call.part("weight"), int(call["groups"])
    pads = _conv_pads(call, shape_of(asm, weight)[2:], stride, dilation)
    if isinstance(weight, Value):
        return mixed_convolution(
            asm,
            call.value("input"),
            weight,
            None if call["bias"] is None else call.part("bias"),
            groups,
            lambda x, kernels, parts: asm.conv(x, kernels, None, stride, pads, dilation, parts),
        )
    return asm.conv(call.value("input"), weight, call.optional("bias"), stride, pads, dilation, groups)


def _conv_pads(call: Call, kernel: Sequence[int], stride: tuple[int, int], dilation: tuple[int, int]) -> Pads:
    padding = call["padding"]
    if padding == "valid":
        return ((0, 0), (0, 0))
    if padding == "same":
        sizes = call.shape("input")[2:]
        each = zip(sizes, kernel, stride, dilation, strict=True)
        rows, columns = (same_padding(*numbers, "after") for numbers in each)
        return (rows, columns)
    return _both_sides(_pair(padding))


def _both_sides(padding: tuple[int, int]) -> Pads:
    return ((padding[0], padding[0]), (padding[1], padding[1]))


def _pool_geometry(call: Call) -> PoolGeometry:
    kernel = _pair(call["kernel_size"])
    stride = _pair(call["stride"]) if call["stride"] else kernel
    dilation = _pair(call.arguments.get("dilation", 1))
    return PoolGeometry(
        kernel, stride, _both_sides(_pair(call["padding"])), dilation, bool(call["ceil_mode"])
    )


def _max_pool(call: Call) -> Value:
    return call.assembler.max_pool(call.value(), _pool_geometry(call))


def _average_pool(call: Call) -> Value:
    divisor = call.arguments.get("divisor_override")
    return call.assembler.average_pool(call.value(), _pool_geometry(call), call["count_include_pad"], divisor)


def _adaptive_max(call: Call) -> list[Value]:
    return [picking.adaptive_max(call.assembler, call.value(), _pair(call["output_size"]))]


def _adaptive_average(call: Call) -> Value:
    return call.assembler.adaptive_average(call.value(), _pair(call["output_size"]))


_VECTOR = weights(1) | NONE
_CONVOLUTION = {
    "input": COMPUTED,
    "weight": weights(4),
    "bias": _VECTOR,
    "stride": extent(1),
    "padding": extent(0) | only("valid", "same"),
    "dilation": extent(1),
    "groups": COUNT,
    "transposed": FLAG,
    "output_padding": extent(0),
}
_ROW_CONVOLUTION = {**_CONVOLUTION, "weight": weights(3)}
_MIXED_CONVOLUTION = {**_CONVOLUTION, "weight": weights(4) | COMPUTED, "bias": _VECTOR | COMPUTED}
_ANY_CONVOLUTION = {
    **_CONVOLUTION,
    "weight": weights(3, 4, 5),
    **dict.fromkeys(("stride", "dilation"), extent(1) | deep_extent(1)),
    **dict.fromkeys(("padding", "output_padding"), extent(0) | deep_extent(0)),
}
_POOL = {
    "self": COMPUTED,
    "kernel_size": extent(1),
    "stride": extent(1) | whole_numbers(0),
    "padding": extent(0),
    "dilation": extent(1),
    "ceil_mode": FLAG,
    "count_include_pad": FLAG,
    "divisor_override": NONE | COUNT,
}
_DEEP_CONVOLUTION = {
    **_CONVOLUTION,
    "weight": weights(5),
    **dict.fromkeys(("stride", "dilation"), deep_extent(1)),
    "padding": deep_extent(0) | only("valid", "same"),
}
_DEEP_TRANSPOSED = {**_DEEP_CONVOLUTION, **dict.fromkeys(("padding", "output_padding"), deep_extent(0))}
_DEEP_POOL = {
    **_POOL,
    "stride": deep_extent(1) | whole_numbers(0),
    **dict.fromkeys(("kernel_size", "dilation"), deep_extent(1)),
    "padding": deep_extent(0),
}
_DEEP_ADAPTIVE = {"self": COMPUTED, "output_size": deep_extent(1)}
_ADAPTIVE = {"self": COMPUTED, "output_size": extent(1)}

ROWS: Rows = (
    ("conv2d conv2d.padding", mixed(_each(_convolution)), _MIXED_CONVOLUTION),
    ("conv1d conv1d.padding", _flat(_each(_convolution)), _ROW_CONVOLUTION),
    ("conv3d conv3d.padding", _deep_convolution, _DEEP_CONVOLUTION),
    ("conv_transpose2d.input", _each(_transposed), _CONVOLUTION),
    ("conv_transpose1d", _flat(_each(_transposed)), _ROW_CONVOLUTION),
    ("conv_transpose3d.input", _deep_transposed, _DEEP_TRANSPOSED),
    ("convolution", _either, _ANY_CONVOLUTION),
    ("max_pool2d", _each(_max_pool), _POOL),
    ("max_pool2d_with_indices", _each(lambda call: [_max_pool(call)]), _POOL),
    ("avg_pool2d", _each(_average_pool), _POOL),
    ("max_pool1d", _flat(_each(_max_pool)), _POOL),
    ("avg_pool1d", _flat(_each(_average_pool)), _POOL),
    ("max_pool3d", _deep_max, _DEEP_POOL),
    ("max_pool3d_with_indices", lambda call: [_deep_max(call)], _DEEP_POOL),
    ("avg_pool3d", _deep_average, _DEEP_POOL),
    ("adaptive_avg_pool1d", _flat(_each(_adaptive_average)), _ADAPTIVE),
    ("adaptive_max_pool1d", _flat(_each(_adaptive_max)), _ADAPTIVE),
    ("adaptive_avg_pool2d _adaptive_avg_pool2d", _each(_adaptive_average), _ADAPTIVE),
    ("adaptive_max_pool2d", _each(_adaptive_max), _ADAPTIVE),
    (
        "adaptive_avg_pool3d _adaptive_avg_pool3d",
        _deep_adaptive(volumes.adaptively_averaged),
        _DEEP_ADAPTIVE,
    ),
    ("adaptive_max_pool3d", lambda call: [_deep_adaptive(volumes.adaptively_largest)(call)], _DEEP_ADAPTIVE),
)
"""Operators with windows, by name and overload."""

HELD_ROWS: Rows = (
    ("max_pool2d", _of_frame, {**_POOL, "self": HELD}),
    ("max_pool2d_with_indices", lambda call: [_of_frame(call)], {**_POOL, "self": HELD}),
)
"""What they make of what is held."""
