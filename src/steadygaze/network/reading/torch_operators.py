"""The table of PyTorch (ATen) operators: what each one means as an operation of the `Assembler`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

from steadygaze.network.reading.assembly import Assembler, Pads, PoolGeometry, Value
from steadygaze.network.reading.windows import same_padding


@dataclass(frozen=True)
class Call:
    """One operation of the traced module; `arguments` holds all of them by name, defaults filled in."""

    assembler: Assembler
    arguments: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def value(self, name: str = "self") -> Value:
        """An argument that the network computes."""
        found = self.arguments[name]
        if not isinstance(found, Value):
            raise self.assembler.refuse(
                f"its argument {name!r} does not depend on the image",
                "allowed is a value computed from the image",
            )
        return found

    def constant(self, name: str) -> np.ndarray:
        """A weight, or a number, float64."""
        found = self.optional(name)
        if found is None:
            raise self.assembler.refuse(f"its {name} is missing", "give the layer one")
        return found

    def optional(self, name: str) -> np.ndarray | None:
        """A weight, or a number, float64; None where there is none."""
        found = self.arguments[name]
        if isinstance(found, Value):
            raise self.assembler.refuse(
                f"its {name} is computed from the image", f"allowed is a constant {name}; make it a parameter"
            )
        if found is None:
            return None
        return found.detach().double().numpy() if isinstance(found, Tensor) else np.asarray(found, np.float64)

    def shape(self, name: str = "self") -> tuple[int, ...]:
        """Shape of a computed argument, the batch counted as 1."""
        return self.assembler.shape(self.value(name))


Rule: TypeAlias = Callable[[Call], Any]


def _pair(numbers: int | Sequence[int]) -> tuple[int, int]:
    listed = [numbers] if isinstance(numbers, int) else list(numbers)
    return (int(listed[0]), int(listed[-1]))


def _linear(call: Call) -> Value:
    return call.assembler.dense(call.value("input"), call.constant("weight"), call.optional("bias"))


def _addmm(call: Call) -> Value:
    product = call.assembler.dense(call.value("mat1"), call.constant("mat2").T * call["alpha"], None)
    return call.assembler.scale_shift(product, 1.0, call.constant("self") * call["beta"])


def _matmul(call: Call) -> Value:
    asm = call.assembler
    first, second = (call.arguments[name] for name in tuple(call.arguments)[:2])
    matrix = second if isinstance(first, Value) else first
    if isinstance(matrix, Value) or matrix.ndim != 2:
        what = "two computed values" if isinstance(matrix, Value) else "a constant that is not a matrix"
        raise asm.refuse(f"it multiplies {what}", "allowed is a computed value times a constant matrix")
    weight = matrix.detach().double().numpy()
    return asm.dense(first, weight.T, None) if isinstance(first, Value) else asm.matmul_left(weight, second)


def _convolution(call: Call) -> Value:
    asm, weight = call.assembler, call.constant("weight")
    if call.arguments.get("transposed", False):
        raise asm.refuse("it is a transposed convolution", "allowed are plain convolutions")
    if weight.ndim != 4:
        raise asm.refuse(
            f"the weight has {weight.ndim} axes", "allowed are two-dimensional convolutions (4 axes)"
        )
    stride, dilation = _pair(call["stride"]), _pair(call["dilation"])
    pads = _conv_pads(call, weight.shape[2:], stride, dilation)
    bias = call.optional("bias")
    return asm.conv(call.value("input"), weight, bias, stride, pads, dilation, int(call["groups"]))


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


def _batch_norm(call: Call) -> Value:
    if call.arguments.get("training", False):
        raise call.assembler.refuse(
            "it is in training mode", "allowed is evaluation; call model.eval() first"
        )
    names = ("weight", "bias", "running_mean", "running_var")
    weight, bias = (call.optional(name) for name in names[:2])
    mean, variance = (call.constant(name) for name in names[2:])
    return call.assembler.batch_norm(call.value("input"), weight, bias, mean, variance, call["eps"])


def _native_batch_norm(call: Call) -> list[Value]:
    return [_batch_norm(call)]


def _clip(call: Call) -> Value:
    names = (("min", "min_val"), ("max", "max_val"))
    found = (next((call.optional(n) for n in pair if n in call.arguments), None) for pair in names)
    low, high = (None if limit is None else float(limit.reshape(-1)[0]) for limit in found)
    return call.assembler.clip(call.value(), low, high)


def _prelu(call: Call) -> Value:
    slope, rank = call.constant("weight"), len(call.shape())
    # A vector of slopes goes along the channels; the traced kernel has it in shape already.
    shaped = slope.reshape((-1,) + (1,) * (rank - 2)) if slope.ndim == 1 and slope.size > 1 else slope
    return call.assembler.leaky_relu(call.value(), shaped)


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
    divisor = call["divisor_override"]
    return call.assembler.average_pool(call.value(), _pool_geometry(call), call["count_include_pad"], divisor)


def _adaptive_max(call: Call) -> list[Value]:
    sizes, counts = call.shape()[2:], _pair(call["output_size"])
    if any(size % count for size, count in zip(sizes, counts, strict=True)):
        raise call.assembler.refuse(
            f"{counts} windows do not divide a map of {sizes}", "allowed are sizes that do"
        )
    kernel = (sizes[0] // counts[0], sizes[1] // counts[1])
    return [call.assembler.max_pool(call.value(), PoolGeometry(kernel, kernel))]


def _mean(call: Call) -> Value:
    axes = call.arguments.get("dim")
    return call.assembler.mean(
        call.value(), range(len(call.shape())) if axes is None else axes, call["keepdim"]
    )


def _sum_of(sign: float) -> Rule:
    """``self + sign * alpha * other``: add and sub."""

    def rule(call: Call) -> Value:
        asm, a, b = call.assembler, call["self"], call["other"]
        factor = sign * call.arguments.get("alpha", 1)
        if isinstance(a, Value) and isinstance(b, Value):
            return asm.add(a, b if factor == 1 else asm.scale_shift(b, factor, 0.0))
        if isinstance(a, Value):
            return asm.scale_shift(a, 1.0, factor * call.constant("other"))
        return asm.scale_shift(call.value("other"), factor, call.constant("self"))

    return rule


def _reversed_sub(call: Call) -> Value:
    """``other - alpha * self``."""
    return call.assembler.scale_shift(call.value(), -float(call["alpha"]), call.constant("other"))


def _mul(call: Call) -> Value:
    if isinstance(call["self"], Value) and isinstance(call["other"], Value):
        return call.assembler.product(call["self"], call["other"])
    if isinstance(call["self"], Value):
        return call.assembler.scale_shift(call.value(), call.constant("other"), 0.0)
    return call.assembler.scale_shift(call.value("other"), call.constant("self"), 0.0)


def _div(call: Call) -> Value:
    divisor = call.constant("other")
    if (divisor == 0).any() or call.arguments.get("rounding_mode") is not None:
        raise call.assembler.refuse("it divides by 0 or rounds", "allowed is exact division by other numbers")
    return call.assembler.scale_shift(call.value(), 1.0 / divisor, 0.0)


def _pad(call: Call) -> Value:
    mode = call.arguments.get("mode", "constant")
    if mode != "constant":
        raise call.assembler.refuse(f"the padding mode is {mode!r}", "allowed is 'constant'")
    amounts, rank = list(call["pad"]), len(call.shape())
    pads = [(0, 0)] * rank
    for place in range(len(amounts) // 2):
        pads[rank - 1 - place] = (amounts[2 * place], amounts[2 * place + 1])
    return call.assembler.pad(call.value(), pads, float(call["value"] or 0.0))


def _slice(call: Call) -> Value:
    size = call.shape()[call["dim"]]
    first, end, step = slice(call["start"], call["end"], call["step"]).indices(size)
    return call.assembler.crop(call.value(), call["dim"], first, end, step)


def _select(call: Call) -> Value:
    shape = call.shape()
    axis, index = call["dim"] % len(shape), call["index"] % shape[call["dim"]]
    taken = call.assembler.crop(call.value(), axis, index, index + 1)
    return call.assembler.reshape(taken, (*shape[:axis], *shape[axis + 1 :]))


def _parts(call: Call) -> list[Value]:
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


def _concat(call: Call) -> Value:
    tensors = call["tensors"]
    if not all(isinstance(one, Value) for one in tensors):
        raise call.assembler.refuse(
            "a constant is concatenated", "allowed are values computed from the image"
        )
    return call.assembler.concat(tensors, call["dim"])


def _reshape(call: Call) -> Value:
    size = call.arguments.get("size", call.arguments.get("shape"))
    return call.assembler.reshape(call.value(), size)


def _flatten(call: Call) -> Value:
    shape = call.shape()
    first, last = call["start_dim"] % len(shape), call["end_dim"] % len(shape)
    return call.assembler.reshape(call.value(), (*shape[:first], -1, *shape[last + 1 :]))


def _unflatten(call: Call) -> Value:
    shape = call.shape()
    axis = call["dim"] % len(shape)
    sizes = [int(size) for size in call["sizes"]]
    rest = -shape[axis] // int(np.prod(sizes)) if -1 in sizes else -1
    return call.assembler.reshape(
        call.value(), (*shape[:axis], *(rest if n == -1 else n for n in sizes), *shape[axis + 1 :])
    )


def _squeeze(call: Call) -> Value:
    shape, given = call.shape(), call.arguments.get("dim")
    axes = range(len(shape)) if given is None else [given] if isinstance(given, int) else given
    dropped = {axis % len(shape) for axis in axes}
    return call.assembler.reshape(
        call.value(), [n for i, n in enumerate(shape) if i not in dropped or n != 1]
    )


def _unsqueeze(call: Call) -> Value:
    shape = list(call.shape())
    shape.insert(call["dim"] % (len(shape) + 1), 1)
    return call.assembler.reshape(call.value(), shape)


def _transpose(call: Call) -> Value:
    order = list(range(len(call.shape())))
    a, b = call.arguments.get("dim0", 0), call.arguments.get("dim1", -1)
    order[a], order[b] = order[b], order[a]
    return call.assembler.permute(call.value(), order)


def _dropout(call: Call) -> Value:
    if call["train"]:
        raise call.assembler.refuse(
            "it is in training mode", "allowed is evaluation; call model.eval() first"
        )
    return call.value("input")


def _same(call: Call) -> Value:
    """Copies and conversions that keep the numbers."""
    kind = call.arguments.get("dtype")
    if kind is not None and kind.itemsize < 4:
        raise call.assembler.refuse(f"it converts to {kind}", "allowed are float32 and float64")
    return call.value(next(iter(call.arguments)))


def _smooth(function: str) -> Rule:
    return lambda call: call.assembler.smooth(call.value(), function)


def _gelu(call: Call) -> Value:
    return call.assembler.smooth(call.value(), "gelu-tanh" if call["approximate"] == "tanh" else "gelu")


def _softplus(call: Call) -> Value:
    return call.assembler.softplus(call.value(), float(call["beta"]), float(call["threshold"]))


OPERATORS: dict[str, Rule] = {
    "_adaptive_avg_pool2d": lambda call: call.assembler.adaptive_average(
        call.value(), _pair(call["output_size"])
    ),
    "_native_batch_norm_legit_no_training": _native_batch_norm,
    "_prelu_kernel": _prelu,
    "_to_copy": _same,
    "_unsafe_view": _reshape,
    "adaptive_avg_pool2d": lambda call: call.assembler.adaptive_average(
        call.value(), _pair(call["output_size"])
    ),
    "adaptive_max_pool2d": _adaptive_max,
    "add": _sum_of(1.0),
    "addmm": _addmm,
    "alias": _same,
    "alpha_dropout": _dropout,
    "avg_pool2d": _average_pool,
    "batch_norm": _batch_norm,
    "cat": _concat,
    "chunk": _parts,
    "clamp": _clip,
    "clamp_max": _clip,
    "clamp_min": _clip,
    "clone": _same,
    "concat": _concat,
    "constant_pad_nd": _pad,
    "contiguous": _same,
    "conv2d": _convolution,
    "convolution": _convolution,
    "detach": _same,
    "div": _div,
    "dropout": _dropout,
    "erf": _smooth("erf"),
    "feature_dropout": _dropout,
    "flatten": _flatten,
    "gelu": _gelu,
    "hardtanh": _clip,
    "leaky_relu": lambda call: call.assembler.leaky_relu(call.value(), call["negative_slope"]),
    "lift_fresh_copy": _same,
    "linear": _linear,
    "matmul": _matmul,
    "max_pool2d": _max_pool,
    "max_pool2d_with_indices": lambda call: [_max_pool(call)],
    "mean": _mean,
    "mm": _matmul,
    "mul": _mul,
    "neg": lambda call: call.assembler.scale_shift(call.value(), -1.0, 0.0),
    "numpy_T": _transpose,
    "pad": _pad,
    "permute": lambda call: call.assembler.permute(call.value(), call["dims"]),
    "prelu": _prelu,
    "relu": lambda call: call.assembler.leaky_relu(call.value(), 0.0),
    "relu6": lambda call: call.assembler.clip(call.value(), 0.0, 6.0),
    "reshape": _reshape,
    "rsub": _reversed_sub,
    "select": _select,
    "sigmoid": _smooth("sigmoid"),
    "silu": _smooth("silu"),
    "slice": _slice,
    "softplus": _softplus,
    "split": _parts,
    "split_with_sizes": _parts,
    "squeeze": _squeeze,
    "sub": _sum_of(-1.0),
    "t": _transpose,
    "tanh": _smooth("tanh"),
    "to": _same,
    "transpose": _transpose,
    "unflatten": _unflatten,
    "unsqueeze": _unsqueeze,
    "view": _reshape,
}
"""Operators that become layers when an argument is computed from the image."""
