"""PyTorch operators with windows: convolutions, transposed or not, and pools, in two dimensions or one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from steadygaze.network.reading import convolving, picking
from steadygaze.network.reading.assembly import Pads, PoolGeometry, Value
from steadygaze.network.reading.torch_arguments import (
    COMPUTED,
    COUNT,
    FLAG,
    NONE,
    Call,
    Rows,
    Rule,
    extent,
    only,
    weights,
    whole_numbers,
)
from steadygaze.network.reading.windows import same_padding


def _pair(numbers: int | Sequence[int]) -> tuple[int, int]:
    listed = [numbers] if isinstance(numbers, int) else list(numbers)
    return (int(listed[0]), int(listed[-1]))


def _flat(rule: Rule) -> Rule:
    """A rule for maps as one for rows of numbers ``(1, C, L)``: they are maps of one row."""

    def flat(call: Call) -> Value | list[Value]:
        asm, given = call.assembler, dict(call.arguments)
        name = "input" if "input" in given else "self"
        shape = call.shape(name)
        if len(shape) != 3 or not call.value(name).batched:
            raise asm.refuse(
                f"got a value of shape {shape}", "allowed is (batch, channels, length) in one dimension"
            )
        given[name] = asm.reshape(call.value(name), (1, shape[1], 1, shape[2]))
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


def _either(call: Call) -> Value:
    """convolution: transposed or not, of maps or of rows."""
    rule = _transposed if call["transposed"] else _convolution
    made: Value = (rule if call.constant("weight").ndim == 4 else _flat(rule))(call)
    return made


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
    weight, stride, dilation = call.constant("weight"), _pair(call["stride"]), _pair(call["dilation"])
    pads = _conv_pads(call, weight.shape[2:], stride, dilation)
    bias = call.optional("bias")
    return call.assembler.conv(call.value("input"), weight, bias, stride, pads, dilation, int(call["groups"]))


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
_ANY_CONVOLUTION = {**_CONVOLUTION, "weight": weights(3, 4)}
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
_ADAPTIVE = {"self": COMPUTED, "output_size": extent(1)}

ROWS: Rows = (
    ("conv2d conv2d.padding", _convolution, _CONVOLUTION),
    ("conv1d conv1d.padding", _flat(_convolution), _ROW_CONVOLUTION),
    ("conv_transpose2d.input", _transposed, _CONVOLUTION),
    ("conv_transpose1d", _flat(_transposed), _ROW_CONVOLUTION),
    ("convolution", _either, _ANY_CONVOLUTION),
    ("max_pool2d", _max_pool, _POOL),
    ("max_pool2d_with_indices", lambda call: [_max_pool(call)], _POOL),
    ("avg_pool2d", _average_pool, _POOL),
    ("max_pool1d", _flat(_max_pool), _POOL),
    ("avg_pool1d", _flat(_average_pool), _POOL),
    ("adaptive_avg_pool1d", _flat(_adaptive_average), _ADAPTIVE),
    ("adaptive_max_pool1d", _flat(_adaptive_max), _ADAPTIVE),
    ("adaptive_avg_pool2d _adaptive_avg_pool2d", _adaptive_average, _ADAPTIVE),
    ("adaptive_max_pool2d", _adaptive_max, _ADAPTIVE),
)
"""Operators with windows, by name and overload."""
