"""Every argument of every PyTorch operator of the table, given unusual values: read in full, or refused.

The oracle is the operator itself in float64, and autograd: forward and backward, at points of all signs.
"""

from __future__ import annotations

import itertools
import random
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from steadygaze.errors import ModelError
from steadygaze.network.reading.assembling import joining
from steadygaze.network.reading.assembling.assembly import Assembler, Value
from steadygaze.network.reading.assembling.held import AbstractHeld
from steadygaze.network.reading.from_torch.operators import OPERATORS, overload, overload_name
from steadygaze.network.reading.marks import Sort, sort_of

MAP = (2, 4, 6)
POINTS = 7


class Computed:
    """Stands for the image, or another value computed from it, in the shape that an operator wants."""

    def __init__(self, *shape, factor=1.0):
        self.shape = (1, *(shape or MAP))
        self.factor = factor

    def as_value(self, assembler):
        scaled = assembler.scale_shift(assembler.pixels, self.factor, 0.0)
        return assembler.reshape(scaled, self.shape)

    def as_tensor(self, image):
        return (self.factor * image).reshape(self.shape)


class Above(Computed):
    """A value that is known to be above 0, as roots and divisors have to be."""

    def as_value(self, assembler):
        return assembler.scale_shift(joining.power(assembler, super().as_value(assembler), 2.0), 0.5, 0.25)

    def as_tensor(self, image):
        return 0.5 * super().as_tensor(image) ** 2 + 0.25


class Within(Computed):
    """A value that is known to lie between -0.6 and 0.8, as inverse functions need it."""

    def as_value(self, assembler):
        return assembler.scale_shift(assembler.smooth(super().as_value(assembler), "sin"), 0.7, 0.1)

    def as_tensor(self, image):
        return 0.7 * super().as_tensor(image).sin() + 0.1


class Beyond(Computed):
    """A value that is known to be above 1."""

    def as_value(self, assembler):
        return assembler.scale_shift(joining.power(assembler, super().as_value(assembler), 2.0), 0.5, 1.25)

    def as_tensor(self, image):
        return 0.5 * super().as_tensor(image) ** 2 + 1.25


def constant(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.3


X, FLAT = Computed(), Computed(48)
KERNEL = {"input": X, "weight": constant(4, 2, 3, 3) - 0.8, "bias": constant(4)}
NORM = {"input": X, "weight": constant(2), "bias": constant(2)}
NORM |= {"running_mean": constant(2), "running_var": constant(2), "momentum": 0.1, "eps": 1e-3}
DEEP = Computed(2, 4, 2, 3)
DEEP_KERNEL = {"input": DEEP, "weight": constant(4, 2, 3, 1, 2) - 0.8, "bias": constant(4)}
MATRIX = constant(6, 5) - 0.8

# What each operator is called with before one argument is changed; {"self": X} where nothing is said.
CALLS = {
    "linear": {"input": FLAT, "weight": constant(5, 48) - 0.8, "bias": constant(5)},
    "addmm": {"self": constant(5), "mat1": FLAT, "mat2": constant(48, 5) - 0.8},
    "matmul": {"self": X, "other": MATRIX},
    "mm": {"self": FLAT, "mat2": constant(48, 5) - 0.8},
    "conv2d": KERNEL,
    "conv2d.padding": KERNEL,
    "convolution": KERNEL
    | {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "output_padding": [0, 0], "groups": 1}
    | {"transposed": False},
    "batch_norm": NORM | {"training": False, "cudnn_enabled": False},
    "_native_batch_norm_legit_no_training": NORM,
    "max_pool2d": {"self": X, "kernel_size": [2, 2]},
    "max_pool2d_with_indices": {"self": X, "kernel_size": [2, 2]},
    "avg_pool2d": {"self": X, "kernel_size": [2, 3], "padding": [1, 1]},
    "adaptive_avg_pool2d": {"self": X, "output_size": [2, 3]},
    "_adaptive_avg_pool2d": {"self": X, "output_size": [2, 3]},
    "adaptive_max_pool2d": {"self": X, "output_size": [2, 3]},
    "mean": {"self": Computed(1, 4, 12)},
    "mean.dim": {"self": X, "dim": [2, 3]},
    "sum.dim_IntList": {"self": X, "dim": [2, 3]},
    "leaky_relu": {"self": X, "negative_slope": 0.2},
    "prelu": {"self": X, "weight": constant(2)},
    "_prelu_kernel": {"self": X, "weight": constant(1, 2, 1, 1)},
    "clamp": {"self": X, "min": -0.3, "max": 0.4},
    "clamp.Tensor": {
        "self": X,
        "min": constant() - 1,
        "max": torch.tensor(0.4, dtype=torch.float64),
    },
    "clamp_min": {"self": X, "min": -0.3},
    "clamp_min.Tensor": {"self": X, "min": constant() - 1},
    "clamp_max": {"self": X, "max": 0.3},
    "clamp_max.Tensor": {"self": X, "max": constant()},
    "pad": {"self": X, "pad": [1, 2, 0, 1]},
    "constant_pad_nd": {"self": X, "pad": [1, 2, 0, 1]},
    "slice.Tensor": {"self": X, "dim": 2},
    "select.int": {"self": X, "dim": 2, "index": 1},
    "chunk": {"self": X, "chunks": 2, "dim": 3},
    "split.Tensor": {"self": X, "split_size": 2, "dim": 3},
    "split.sizes": {"self": X, "split_size": [2, 4], "dim": 3},
    "split": {"self": X, "split_sizes": [2, 4], "dim": 3},
    "split_with_sizes": {"self": X, "split_sizes": [2, 4], "dim": 3},
    "cat": {"tensors": [X, Computed(factor=-2.0)], "dim": 1},
    "concat": {"tensors": [X, Computed(factor=-2.0)], "dim": 1},
    "reshape": {"self": X, "shape": [1, -1]},
    "view": {"self": X, "size": [1, -1]},
    "_unsafe_view": {"self": X, "size": [1, 48]},
    "flatten.using_ints": {"self": X, "start_dim": 1},
    "unflatten.int": {"self": X, "dim": 3, "sizes": [2, 3]},
    "squeeze": {"self": Computed(1, 48, 1)},
    "squeeze.dim": {"self": Computed(1, 48, 1), "dim": 1},
    "squeeze.dims": {"self": Computed(1, 48, 1), "dim": [1, 3]},
    "unsqueeze": {"self": X, "dim": 1},
    "permute": {"self": X, "dims": [0, 2, 3, 1]},
    "transpose.int": {"self": X, "dim0": 1, "dim1": 3},
    "t": {"self": FLAT},
    "to.device": {"self": X, "device": torch.device("cpu"), "dtype": torch.float64},
    "to.dtype": {"self": X, "dtype": torch.float64},
    "to.other": {"self": X, "other": constant(1)},
}
ROW = Computed(4, 12)
ROW_KERNEL = {"input": ROW, "weight": constant(3, 4, 3) - 0.8, "bias": constant(3)}
SPREAD = {"input": X, "weight": constant(2, 3, 3, 2) - 0.8, "bias": constant(3)}
CALLS |= {
    "conv1d": ROW_KERNEL,
    "conv1d.padding": ROW_KERNEL,
    "conv_transpose2d.input": SPREAD | {"stride": [2, 1], "output_padding": [1, 0]},
    "conv_transpose1d": {"input": ROW, "weight": constant(4, 3, 3) - 0.8, "stride": [2]},
    "max_pool1d": {"self": ROW, "kernel_size": [3]},
    "avg_pool1d": {"self": ROW, "kernel_size": [3], "padding": [1]},
    "adaptive_avg_pool1d": {"self": ROW, "output_size": [5]},
    "adaptive_max_pool1d": {"self": ROW, "output_size": [5]},
}
WIDE = ("upsample_nearest2d", "_upsample_nearest_exact2d", "upsample_bilinear2d", "upsample_bicubic2d")
WIDE += ("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa")
CALLS |= {name: {"self": X, "output_size": [7, 3], "align_corners": False} for name in WIDE}
SOLID = ("upsample_nearest3d", "_upsample_nearest_exact3d", "upsample_trilinear3d")
CALLS |= {name: {"self": DEEP, "output_size": [3, 7, 3], "align_corners": False} for name in SOLID}
LONG = ("upsample_nearest1d", "_upsample_nearest_exact1d", "upsample_linear1d")
CALLS |= {name: {"self": ROW, "output_size": [7], "align_corners": False} for name in LONG}
for _name in (*WIDE, *LONG, *SOLID):
    if "nearest" in _name:
        del CALLS[_name]["align_corners"]
    _rest = {key: value for key, value in CALLS[_name].items() if key not in ("self", "output_size")}
    CALLS[f"{_name}.vec"] = {"input": CALLS[_name]["self"], **_rest, "output_size": None}
    CALLS[f"{_name}.vec"] |= {"scale_factors": [1.5, 2.0, 1.5][-CALLS[_name]["output_size"].__len__() :]}
CELL = [constant(3, 12) - 0.8, constant(3, 3) - 0.8, constant(3) - 0.5, constant(3) - 0.8]
CALLS |= {
    "bmm": {"self": Computed(4, 12), "mat2": constant(1, 12, 5) - 0.8},
    "einsum": {"equation": "bchw,cd->bdhw", "tensors": [X, constant(2, 3) - 0.8]},
    "rnn_relu.input": {"input": ROW, "hx": constant(1, 1, 3), "params": CELL, "has_biases": True}
    | {"num_layers": 1, "dropout": 0.0, "train": False, "bidirectional": False, "batch_first": True},
}
OTHER = Computed(factor=-2.0)
PLACES = torch.tensor([2, 0, 0, -1])
ORDER = constant(1, 2, 4, 6).argsort(3)
WHERE = torch.tensor([[[[2, 0, 1], [1, 5, 4]], [[3, 0, 5], [0, 1, 2]]]])
CALLS |= {
    **{name: {"self": X, "other": OTHER} for name in ("maximum", "minimum", "max.other", "min.other")},
    "max.dim": {"self": X, "dim": 1},
    "min.dim": {"self": X, "dim": -1},
    "amax": {"self": X, "dim": [2, 3]},
    "amin": {"self": X, "dim": [1]},
    "softshrink": {"self": X, "lambd": 0.5},
    "elu": {"self": X, "alpha": 1.5, "scale": 0.5, "input_scale": 2.0},
    "celu": {"self": X, "alpha": 1.5},
    "threshold": {"self": X, "threshold": 0.3, "value": 0.3},
    "reflection_pad1d": {"self": Computed(4, 12), "padding": [2, 1]},
    "reflection_pad2d": {"self": X, "padding": [2, 1, 0, 3]},
    "replication_pad1d": {"self": Computed(4, 12), "padding": [2, 1]},
    "replication_pad2d": {"self": X, "padding": [2, 1, 0, 3]},
    "reflection_pad3d": {"self": DEEP, "padding": [2, 1, 0, 1, 3, 1]},
    "replication_pad3d": {"self": DEEP, "padding": [2, 1, 0, 3, 1, 1]},
    "expand": {"self": Computed(1, 48, 1), "size": [1, 2, 48, 3]},
    "repeat": {"self": X, "repeats": [1, 2, 1, 3]},
    "tile": {"self": X, "dims": [2, 1, 3]},
    "repeat_interleave.self_int": {"self": X, "repeats": 2, "dim": 2},
    "flip": {"self": X, "dims": [1, -1]},
    "roll": {"self": X, "shifts": [1, -2], "dims": [1, 3]},
    "index_select": {"self": X, "dim": 3, "index": torch.tensor([2, 0, 0])},
    "index.Tensor": {"self": X, "indices": [None, None, PLACES]},
    "gather": {"self": X, "dim": 3, "index": WHERE},
    "take_along_dim": {"self": X, "dim": 3, "indices": WHERE[:, :, :1]},
    "diagonal": {"self": X, "offset": 1, "dim1": 2, "dim2": 3},
    "scatter.src": {"self": X, "dim": 3, "index": ORDER, "src": OTHER},
    "scatter.value": {"self": X, "dim": 3, "index": WHERE, "value": 0.25},
    "narrow": {"self": X, "dim": 3, "start": 1, "length": 3},
    "unbind.int": {"self": X, "dim": 1},
    "hstack": {"tensors": [X, OTHER]},
    "stack": {"tensors": [X, OTHER], "dim": 2},
    "movedim.int": {"self": X, "source": 1, "destination": -1},
    "movedim.intlist": {"self": X, "source": [1, 3], "destination": [2, 1]},
    "swapaxes": {"self": X, "axis0": 1, "axis1": 2},
    "swapdims": {"self": X, "dim0": 1, "dim1": -1},
    "pixel_shuffle": {"self": Computed(8, 2, 3), "upscale_factor": 2},
    "pixel_unshuffle": {"self": X, "downscale_factor": 2},
    "channel_shuffle": {"self": Computed(6, 4, 2), "groups": 3},
}
OVER_LAST = {
    "input": X,
    "normalized_shape": [4, 6],
    "weight": constant(4, 6),
    "bias": constant(4, 6),
    "eps": 0.1,
}
CALLS |= {
    "celu": {"self": X, "alpha": 0.7},
    "elu": {"self": X, "alpha": 0.7},
    "glu": {"self": X, "dim": 1},
    "sqrt": {"self": Above()},
    "rsqrt": {"self": Above()},
    "reciprocal": {"self": Above()},
    **{name: {"self": Above()} for name in ("log", "log2", "log10", "log1p")},
    "logsumexp": {"self": X, "dim": [1], "keepdim": True},
    "logaddexp": {"self": X, "other": constant(4, 6) - 0.8},
    "cdist": {"x1": Computed(1, 8, 6), "x2": constant(5, 6) - 0.8},
    **{name: {"self": Within()} for name in ("acos", "arccos", "asin", "arcsin", "atanh", "arctanh", "tan")},
    **{name: {"self": Beyond()} for name in ("acosh", "arccosh")},
    "prod": {"self": Within()},
    "prod.dim_int": {"self": X, "dim": 1},
    "rrelu": {"self": X, "lower": 0.1, "upper": 0.5},
    "pow.Tensor_Scalar": {"self": X, "exponent": 3},
    "pow.Scalar": {"self": 1.5, "exponent": X},
    "linalg_vector_norm": {"self": Above(), "dim": [1], "keepdim": True},
    "softmax.int": {"self": X, "dim": 1},
    "_softmax": {"self": X, "dim": -1, "half_to_float": False},
    "scaled_dot_product_attention": {
        "query": X,
        "key": Computed(factor=0.5),
        "value": Computed(2, 4, 6, factor=-0.5),
    },
    "layer_norm": OVER_LAST,
    "native_layer_norm": OVER_LAST,
    "rms_norm": {name: given for name, given in OVER_LAST.items() if name != "bias"},
    "group_norm": {"input": X, "num_groups": 2, "weight": constant(2), "bias": constant(2), "eps": 0.1},
    "instance_norm": NORM | {"use_input_stats": True, "cudnn_enabled": False, "eps": 0.1},
    "conv3d": DEEP_KERNEL,
    "conv3d.padding": DEEP_KERNEL,
    "conv_transpose3d.input": {"input": DEEP, "weight": constant(2, 3, 2, 2, 1) - 0.8, "bias": constant(3)},
    "max_pool3d": {"self": DEEP, "kernel_size": [2, 2, 2]},
    "max_pool3d_with_indices": {"self": DEEP, "kernel_size": [2, 1, 2]},
    "avg_pool3d": {"self": DEEP, "kernel_size": [2, 1, 3], "padding": [1, 0, 1]},
    "adaptive_avg_pool3d": {"self": DEEP, "output_size": [2, 1, 3]},
    "_adaptive_avg_pool3d": {"self": DEEP, "output_size": [3, 2, 2]},
    "adaptive_max_pool3d": {"self": DEEP, "output_size": [2, 1, 3]},
    "expand_as": {"self": Computed(48, 1), "other": Computed(48, 1)},
}
MASK = torch.tensor([[True, False, True, True, False, True]] * 2 + [[False, True] * 3] * 2)
SLICE = Computed(24)
SLICE.shape = (1, 4, 6)
PART = Computed(2, 3, 6)
PART.as_value = lambda asm: asm.crop(X.as_value(asm), 2, 1, 4)
PART.as_tensor = lambda image: X.as_tensor(image)[:, :, 1:4]
SLICE.as_value = lambda asm: asm.reshape(asm.crop(X.as_value(asm), 1, 0, 1), (1, 4, 6))
SLICE.as_tensor = lambda image: X.as_tensor(image)[:, 0]
CALLS |= {
    "copy": {"self": X, "src": OTHER},
    "fill.Scalar": {"self": X, "value": 0.3},
    "fill.Tensor": {"self": X, "value": torch.tensor(0.3)},
    "select_scatter": {"self": X, "src": SLICE, "dim": 1, "index": 1},
    "slice_scatter": {"self": X, "src": PART, "dim": 2, "start": 1, "end": 4},
    "index_put": {"self": X, "indices": [None, None, torch.tensor([2, 0, -1])], "values": PART},
}
CALLS |= {
    "where.self": {"condition": MASK, "self": X, "other": OTHER},
    "where.ScalarSelf": {"condition": MASK, "self": 0.3, "other": X},
    "where.ScalarOther": {"condition": MASK, "self": X, "other": 0.3},
    "masked_fill.Scalar": {"self": X, "mask": MASK, "value": 0.3},
    "masked_fill.Tensor": {"self": X, "mask": MASK, "value": torch.tensor(0.3)},
    "pow.Tensor_Tensor": {"self": X, "exponent": torch.tensor([3.0])},
    **{
        name: {"self": X, "dim": [1, 3], "correction": 1}
        for name in ("var.correction", "std.correction", "var_mean.correction")
    },
    **{
        f"{name}.dim": {"self": X, "dim": [1, -1], "unbiased": name == "std", "keepdim": True}
        for name in ("var", "std", "var_mean")
    },
    "unfold": {"self": X, "dimension": 2, "size": 3, "step": 1},
    "bilinear": {"input1": X, "input2": constant(1, 2, 4, 5) - 0.8, "weight": constant(3, 6, 5) - 0.8}
    | {"bias": constant(3)},
    "col2im": {"self": Computed(6, 8), "output_size": [5, 6], "kernel_size": [2, 3], "dilation": [1, 2]}
    | {"padding": [0, 1], "stride": [1, 2]},
    "cumsum": {"self": X, "dim": 2},
    **dict.fromkeys(
        ("grid_sampler", "grid_sampler_2d"),
        {"input": X, "grid": 2.4 * constant(1, 3, 5, 2) - 1.9, "interpolation_mode": 0, "padding_mode": 0}
        | {"align_corners": False},
    ),
    "im2col": {"self": X, "kernel_size": [2, 3], "dilation": [1, 2], "padding": [0, 1], "stride": [2, 1]},
}
COMPARED = ("gt", "ge", "lt", "le", "eq", "ne")
CALLS |= {f"{name}.{kind}": {"self": X, "other": 0.3} for name in COMPARED for kind in ("Scalar", "Tensor")}
JOINED = [f"{kind}_{how}" for kind in ("logical", "bitwise") for how in ("and", "or", "xor")]
JOINED += [f"__{how}__" for how in ("and", "or", "xor")]
CALLS |= {f"{name}.Tensor" if name[0] in "b_" else name: {"self": X, "other": OTHER} for name in JOINED}
DROPOUT = {"input": X, "p": 0.5, "train": False}
CALLS |= dict.fromkeys(("dropout", "feature_dropout", "alpha_dropout"), DROPOUT)
for _family, _other in itertools.product(("add", "sub", "rsub", "mul", "div"), ("Tensor", "Scalar")):
    CALLS[f"{_family}.{_other}"] = {"self": X, "other": constant(2, 1, 1) if _other == "Tensor" else 0.7}
for _other in ("Tensor_mode", "Scalar_mode"):
    CALLS[f"div.{_other}"] = CALLS[f"div.{_other.removesuffix('_mode')}"] | {"rounding_mode": None}

# Values at which some unit of the calls switches; ties of a window are among them.
ON_KINKS = [0.0, -0.0, 0.25, 0.3, -0.3, 0.4, 0.5, 1.0, 2.0, 3.0, -1.0, -2.0, 25.0, -0.7]
ON_KINKS += [float(constant()), float(constant()) - 1]
NUMBERS = [0, 1, 2, 3, -1, -2, 0.5, -0.7, 1e-3, 25.0, float("inf"), float("-inf"), float("nan"), True, None]
LISTS = [[], [1], [2], [1, 2], [2, 1], [2, 3], [0, 0], [0, 1], [-1, 1], [3, 3], [1, -2, 0, 3], [0, 3, 1, 2]]
LISTS += [[2], [2, 3], [-1], [-2, -1], [1, 2, 3], [1, 3, 2], [3, 2], [2, 2, 2], [1, 48], [2, 24], [-1, 24]]
TENSORS = [
    *(constant(), constant(1), constant(2), constant(6), constant(2, 1, 1), constant(2, 4, 6)),
    *(constant(4, 1), constant(3, 2, 4, 6), constant(1, 1, 1, 1, 1), constant(2, 1, 1) - 0.9),
    *(torch.tensor([3, -2])[:, None, None], torch.tensor([True, False])[:, None, None], torch.tensor(-2)),
    *(torch.tensor(0.0), torch.tensor(float("nan")), torch.full((2, 1, 1), 0.25), torch.zeros(2, 1, 1)),
    *(constant(2, 1, 1).half(), constant(2, 1, 1).to(torch.complex64), constant(1).bfloat16()),
    *(constant(4, 1, 3, 3) - 0.8, constant(2, 2, 2, 1) - 0.8, constant(2, 2, 2) - 0.8, constant(4)),
    *(X, Computed(factor=-0.5), Above(), FLAT, Computed(2, 1, 24), None),
]
UNUSUAL = {
    "Tensor": TENSORS,
    "List[Tensor]": [
        *([None, torch.tensor([1, 0, 1])], [None, None, torch.tensor([True, False, True, True])]),
        *(
            [None, torch.tensor(1)],
            [torch.tensor([0])],
            [None, PLACES, PLACES],
            [None, torch.tensor([[0, 1]])],
        ),
        *([None, None, torch.tensor([4])], [None, torch.tensor([True])], [X, constant(1, 3, 4, 6)]),
        *(
            [constant(1, 1, 4, 6), X, constant(1, 2, 4, 6), OTHER, constant(1, 3, 4, 6)],
            [constant(1, 2, 4, 6)],
        ),
        [X],
        [X, X],
        [X, constant(1, 2, 4, 6)],
        [X, FLAT],
        [X, Computed(2, 4, 6, factor=3.0)],
    ],
    "number": NUMBERS,
    "List[int]": LISTS,
    "bool": [True, False],
    "str": ["none", "tanh", "constant", "reflect", "replicate", "circular", "same", "valid", "floor"],
    "dtype": [
        *(None, torch.float64, torch.float32, torch.half, torch.bfloat16, torch.int32, torch.int64),
        *(torch.uint8, torch.bool, torch.complex64),
    ],
    "Device": [torch.device("cpu"), torch.device("meta"), None],
    "Layout": [None, torch.strided, torch.sparse_coo],
    "memory_format": [None, torch.contiguous_format, torch.channels_last, torch.preserve_format],
}
# Arguments that matter together: each of these is tried with every other.
TOGETHER = {
    "kernel_size": [[2, 2], [3, 2], [3], [1, 4]],
    "stride": [[], [1, 1], [2, 3], [3]],
    "padding": [[0, 0], [1, 0], [1, 1], [1]],
    "dilation": [[1, 1], [2, 1], [2]],
    "ceil_mode": [True, False],
    "count_include_pad": [True, False],
    "divisor_override": [None, 3, 7],
    "groups": [1, 2],
    "output_padding": [[0, 0], [1, 0], [1]],
    "rounding_mode": [None, "floor", "trunc"],
    "alpha": [1, -2, 0.5, 0],
    "beta": [1, -2, 0.5, 0],
    "threshold": [20, 25.0, 5],
    "keepdim": [True, False],
}


def resizings(name):
    """Calls of an operator that resizes, with sizes and factors together."""
    usual = CALLS[name]
    if name.endswith(".vec"):
        for factors in ([2.0], [1.5], [0.4], [3.0, 0.5], [0.7, 2.0], [1.0, 1.0]):
            yield usual | {"scale_factors": factors}
        for size in ([7], [5, 9], [1, 1], [2, 12]):
            yield usual | {"scale_factors": None, "output_size": size}
    else:
        for size, scale in itertools.product(([7], [5, 9], [1, 1], [8, 12], [24]), (None, 2.0, 1.3)):
            named = ("scales",) if len(size) == 1 else ("scales_h", "scales_w")
            yield usual | {"output_size": size} | dict.fromkeys(named, scale)


def sums():
    """Einstein's sums with one computed value and constants in all roles."""
    w = {
        "cd": constant(2, 3),
        "hw": constant(4, 6),
        "cdh": constant(2, 3, 4),
        "c": constant(2),
        "": constant(),
    }
    w |= {"bw": constant(1, 6), "dw": constant(3, 6), "xyz": constant(2, 2, 3)}
    for equation in (
        *("bchw,cd->bdhw", "bchw,cd", "bchw,cd->bhwd", "cd,bchw->bwhd", "bchw,hw->bchw", "bchw,hw->bc"),
        *("bchw,cdh->bdw", "bchw,cdh->bhdw", "bchw,c->bchw", "bchw,c->bhw", "bchw,->bchw", "bchw,bw->bch"),
        *(
            "bchw,cd,dw->bhd",
            "...hw,dw->...hd",
            "...w,dw->...d",
            "b...w,dw",
            "bchw->bc",
            "bchw->",
            "bchw->wb",
        ),
        *("bchw,xyz->bchwz", "bcch,c->bh", "bchw,cd->bddh", "bchw,ch->bw", "bchw;cd", "bchw,cd->bdz"),
    ):
        terms = equation.replace(" ", "").split("->")[0].split(",")
        tensors = [X if {*"bchw"} <= {*t} or "..." in t else w.get(t, constant(2, 4)) for t in terms]
        yield {"equation": equation, "tensors": tensors}


def recurrences():
    usual = CALLS["rnn_relu.input"]
    second = [constant(3, 3) - 0.7, *CELL[1:]]
    yield usual | {"params": CELL[:2], "has_biases": False}
    yield usual | {"params": [*CELL, *second], "num_layers": 2, "hx": constant(2, 1, 3)}
    yield usual | {"params": [*CELL, *CELL[::1]], "bidirectional": True, "hx": constant(2, 1, 3)}
    both = [constant(3, 6) - 0.7, *CELL[1:]]
    four = {"params": [*CELL, *CELL, *both, *both], "bidirectional": True, "num_layers": 2}
    yield usual | four | {"hx": constant(4, 1, 3)}
    turned = Computed(1, 12)
    turned.shape = (4, 1, 12)
    yield usual | {"input": turned, "batch_first": False}


def deep_windows(name, **options):
    """Windows over three axes of places, with frames and in steps."""
    for kernel, stride, padding in (([2, 2, 2], [], [0]), ([3, 2, 1], [2, 1, 1], [1, 1, 0])):
        for ceil in (False, True):
            for chosen in itertools.product(*options.values()):
                given = {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil}
                yield CALLS[name] | given | dict(zip(options, chosen, strict=True))


SEVERAL_MAPS = ("conv2d", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "conv1d")


def several_maps(name):
    """The usual call on several maps, or rows, of one image, which are no batch."""
    usual = CALLS[name]
    given = "input" if "input" in usual else "self"
    several = Computed(3, 2, 8) if name == "conv1d" else Computed(2, 2, 4, 3)
    several.shape = (3, 2, 8) if name == "conv1d" else (2, 2, 4, 3)
    yield usual | {given: several}
    if given == "input":
        weight = constant(4, 1, 3) if name == "conv1d" else constant(4, 1, 3, 2)
        yield usual | {given: several, "weight": weight - 0.8, "groups": 2}


SHAPES = [(6, 3), (2, 6, 3), (1, 2, 6, 3), (2, 1, 6, 3), (3, 1, 6, 2), (6,), (2, 5, 3), (3, 4), (2, 3, 4)]
MATRICES = [constant(*shape) - 0.8 for shape in (*SHAPES, (2, 1, 1, 3, 4), (4,), (48,), (48, 2), (2, 48, 3))]


def schema(name):
    return {argument.name: argument for argument in overload(name)._schema.arguments}


FURTHER = {
    **{name: list(resizings(name)) for name in CALLS if "upsample" in name},
    "einsum": list(sums()),
    "rnn_relu.input": list(recurrences()),
    "scaled_dot_product_attention": [
        {"query": a, "key": b, "value": c, "is_causal": causal}
        for a, b, c in (
            (constant(1, 2, 5, 6), X, Computed(factor=-0.5)),
            (X, constant(1, 2, 5, 6), constant(1, 2, 5, 3)),
            (constant(1, 2, 3, 6), constant(1, 2, 4, 6), X),
        )
        for causal in (False, True)
    ],
    "bilinear": [
        {"input1": X, "input2": Computed(2, 4, 6, factor=-0.5), "weight": constant(3, 6, 6) - 0.8},
        {"input1": constant(1, 2, 4, 5) - 0.8, "input2": X, "weight": constant(2, 5, 6) - 0.8},
    ],
    "grid_sampler": [
        CALLS["grid_sampler"] | {"interpolation_mode": mode, "padding_mode": frame, "align_corners": corners}
        for mode in range(3)
        for frame in range(3)
        for corners in (False, True)
    ],
    "avg_pool3d": [
        {"self": Computed(1, 4, 3, 4), "kernel_size": [3, 1, 1], "stride": [1, 1, 1]},
        *deep_windows("avg_pool3d", count_include_pad=[True, False], divisor_override=[None, 3]),
    ],
    "max_pool3d": list(deep_windows("max_pool3d")),
    "index.Tensor": [
        {"self": X, "indices": indices}
        for indices in (
            [None, None, PLACES, PLACES + 1],
            [None, torch.tensor([[1], [0]]), PLACES],
            [None, PLACES.abs() % 2, None, PLACES],
            [None, None, WHERE[0, 0] % 4],
            [None, None, (WHERE[0, 0, 0, 0] + torch.arange(24).reshape(4, 6)) % 3 == 0],
            [None, None, PLACES, PLACES + 9],
        )
    ],
    "gather": [
        {"self": X, "dim": dim, "index": index}
        for dim in (1, 2, -1)
        for index in (WHERE % 2, WHERE[:, :, :1] % 2, WHERE[0] % 2, WHERE)
    ],
    "take_along_dim": [
        {"self": X, "dim": dim, "indices": index}
        for dim in (None, 1, 2)
        for index in (WHERE % 2, WHERE[:, :, :1] % 2, WHERE[:, :1, :1, :1] % 2)
    ],
    "scatter.src": [
        {"self": X, "dim": dim, "index": index, "src": source}
        for dim in (1, 2, 3)
        for index in (WHERE, WHERE[:, :1], WHERE[:, :, :1] % 2)
        for source in (OTHER, constant(1, 2, 4, 6))
    ],
    **{
        name: [
            {"self": X, end: limit} for limit in (constant(6), constant(2, 1, 1), constant(5)) for end in ends
        ]
        for name, ends in (
            ("clamp.Tensor", ("min", "max")),
            ("clamp_min.Tensor", ("min",)),
            ("clamp_max.Tensor", ("max",)),
        )
    },
    "linalg_vector_norm": [
        {"self": X, "ord": order, "dim": dim}
        for order in (1, 2, 3, 4, float("inf"), 0.5)
        for dim in ([1], [2, 3])
    ],
    "conv_transpose3d.input": [
        {
            **CALLS["conv_transpose3d.input"],
            "weight": constant(2, 4 // groups, 2, 3, 1) - 0.8,
            "groups": groups,
        }
        | {"stride": stride, "padding": padding, "dilation": dilation, "output_padding": more}
        for groups in (1, 2)
        for stride in ([1], [2, 1, 3])
        for padding in ([0], [1, 0, 1])
        for dilation in ([1], [2, 1, 3])
        for more in ([0], [1, 0, 2])
    ],
    "conv3d": [
        {**CALLS["conv3d"], "weight": constant(4, 2 // groups, 2, 2, 1) - 0.8, "groups": groups}
        | {"stride": stride, "padding": padding, "dilation": dilation}
        for groups in (1, 2)
        for stride in ([1], [2, 1, 2])
        for padding in ([0], [1, 0, 1])
        for dilation in ([1], [2, 1, 3])
    ],
    **{name: list(several_maps(name)) for name in CALLS if name in SEVERAL_MAPS},
    "matmul": [{"self": a, "other": b} for m in MATRICES for v in (X, FLAT) for a, b in ((v, m), (m, v))],
}


def defaults(name):
    return {argument: one.default_value for argument, one in schema(name).items()}


def kind_of(argument):
    """What values are worth trying for an argument of a schema."""
    words = str(argument.real_type).replace("Optional[", "").replace("SymInt", "int").rstrip("]")
    if words.startswith("List["):
        return "List[Tensor]" if "Tensor" in words else "List[int]"
    named = {"ScalarType": "dtype", "MemoryFormat": "memory_format", "Device": "Device", "Layout": "Layout"}
    return named.get(words, words if words in UNUSUAL else "number")


def calls_of(name):
    """The usual call, each argument changed to every unusual value, and some that change several."""
    usual, arguments = CALLS.get(name, {"self": X}), schema(name)
    yield usual
    for argument, declared in arguments.items():
        kinds = {kind_of(declared), *(("number",) if kind_of(declared) in ("List[int]", "Tensor") else ())}
        for value in itertools.chain.from_iterable(UNUSUAL[kind] for kind in sorted(kinds)):
            yield usual | {argument: value}
    together = {argument: TOGETHER[argument] for argument in TOGETHER if argument in arguments}
    combined = list(itertools.product(*together.values()))
    for values in random.Random(0).sample(combined, min(len(combined), 60)):
        yield usual | dict(zip(together, values, strict=True))
    yield from FURTHER.get(name, ())
    if name == "convolution":
        spread = {**usual, **SPREAD, "transposed": True}
        flat = {**usual, **ROW_KERNEL, "stride": [2], "padding": [1], "dilation": [1], "output_padding": [0]}
        yield from (spread, spread | {"stride": [2, 2], "output_padding": [1, 0], "padding": [1, 2]})
        yield from (flat, flat | {"weight": constant(4, 3, 3), "transposed": True, "output_padding": [1]})
    if {"self", "other"} <= arguments.keys() and isinstance(usual["other"], Tensor):
        yield usual | {"self": usual["other"], "other": usual["self"]}
        yield {"self": X, "other": Computed(factor=-0.5)}


def substituted(call, replace):
    """The call with what stands for a computed value replaced."""

    def of(value):
        if isinstance(value, list):
            return [of(one) for one in value]
        return replace(value) if isinstance(value, Computed) else value

    return {name: of(value) for name, value in call.items()}


def tensors(found):
    return [found] if isinstance(found, (Tensor, Value)) else list(found)


def truth(name, call, images):
    """What PyTorch makes of each image: its outputs, and the gradient of a weighted sum of the first."""
    made, gradients = [], []
    for image in images:
        image = image[None].clone().requires_grad_()
        outputs = tensors(overload(name)(**substituted(call, lambda one, x=image: one.as_tensor(x))))
        weighted = (0.3 + torch.arange(outputs[0].numel()).double()) @ outputs[0].double().flatten()
        gradients.append(torch.autograd.grad(weighted, image)[0][0])
        made.append([out.detach() for out in outputs])
    return [torch.stack(one) for one in zip(*made, strict=True)], torch.stack(gradients)


# What compares makes no layer by itself: see `test_stepping`.
HELD = {name for name in OPERATORS if sort_of(OPERATORS[name].rule) is Sort.STEPS}
HELD -= {name for name in HELD if name.startswith(("where", "masked_fill"))}
# By itself PyTorch has no gradient of copy, and crashes on unusual values: see `test_torch_layers`.
LAYERS = sorted({*OPERATORS} - HELD - {"copy"})


def outcome(name, call, images):
    """'read' where the graph is the operator's function; 'held', 'refused'; 'impossible' for PyTorch."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # In training PyTorch changes running statistics in place.
            own = {key: one.clone() if isinstance(one, Tensor) else one for key, one in call.items()}
            expected, gradient = truth(name, own, images)
    except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError, OverflowError):
        return "impossible"
    assembler = Assembler(MAP)
    assembler.where = f"layer {name!r}"
    try:
        given = substituted(call, lambda one: one.as_value(assembler))
        made = OPERATORS[name](assembler, defaults(name) | given)
        if isinstance(made, AbstractHeld):
            return "held"
        values = tensors(made)
        graphs = [assembler.build(value) for value in values]
    except ModelError:
        return "refused"
    for value, graph, wanted in zip(values, graphs, expected, strict=False):
        assert assembler.shape(value) == tuple(wanted.shape[1:]), (name, call)
        # float32 rounds no more than a whole network of its kind.
        close = {torch.float64: 1e-9, torch.float32: 1e-5}[wanted.dtype]
        ours, wanted = graph.forward(images), wanted.double().reshape(len(images), -1)
        assert torch.allclose(ours, wanted, 1e-6, close), (name, call)
    row = assembler.reshape(values[0], (1, expected[0][0].numel()))
    weights = 0.3 + np.arange(expected[0][0].numel())
    weighted = assembler.build(assembler.dense(row, np.stack([weights, -weights]), None))
    ours = weighted.gradient_at(images, 0)
    close = {torch.float64: 1e-9, torch.float32: 1e-5}[expected[0].dtype]
    assert torch.allclose(ours, gradient, atol=close), (name, call)
    return "read"


@pytest.fixture(scope="module")
def images():
    """Points of all signs and sizes, so that every unit is seen on every piece, and on its kinks."""
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn((POINTS - 2, *MAP), generator=generator, dtype=torch.float64)
    numbers *= torch.logspace(-1, 1, len(numbers), dtype=torch.float64)[:, None, None, None]
    chosen = torch.randint(len(ON_KINKS), (2, *MAP), generator=generator)
    return torch.cat([numbers, torch.tensor(ON_KINKS, dtype=torch.float64)[chosen]])


# On kinks and ties of these PyTorch has a derivative between those of the pieces, or that of the piece above.
SPLIT_ON_KINKS = ("hardtanh", "relu6", "hardsigmoid", "softshrink", "abs", "maximum", "minimum")
SPLIT_ON_KINKS += ("max.other", "min.other", "amax", "amin", "max", "min")


@pytest.mark.parametrize("name", LAYERS)
def test_every_argument_is_read_in_full_or_refused(name, images):
    # The length of a vector of zeros has no derivative.
    points = images[:-2] if name in (*SPLIT_ON_KINKS, "linalg_vector_norm", "std.correction") else images
    found = [outcome(name, call, points) for call in calls_of(name)]
    assert found[0] == "read", "the usual call is what the table is for"


@pytest.mark.parametrize("name", OPERATORS)
def test_every_argument_is_declared_and_tried(name):
    assert overload_name(overload(name)) == name
    assert set(OPERATORS[name].arguments) == set(schema(name))
    needed = {one for one, argument in schema(name).items() if not argument.has_default_value()}
    assert needed <= set(CALLS.get(name, {"self": X})) | {"dim"}, "say in CALLS how it is called"


def test_an_argument_that_is_not_declared_is_refused():
    assembler = Assembler(MAP)
    with pytest.raises(ModelError, match="its argument 'memory' is not known"):
        OPERATORS["relu"](assembler, {"self": assembler.pixels, "memory": 3})


PER_CHANNEL = torch.tensor([0.1, float("inf")])[:, None, None]


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("clamp.Tensor", {"max": PER_CHANNEL}, r"'max' is a tensor of shape \(2, 1, 1\) .* finite ones"),
        ("clamp_min.Tensor", {"min": constant(2, 3, 1, 1)}, "argument 'min' is a tensor"),
        ("gather", {"index": X}, "'index' is computed from the image; allowed is a constant tensor"),
        ("gather", {"index": WHERE + 1}, r"allowed are positions from -6 to 5"),
        ("scatter.src", {"index": 0 * ORDER}, "several numbers to one place"),
        ("diagonal", {"offset": 9}, "'offset' is 9; allowed is one that leaves places"),
        ("pow.Scalar", {"self": -2.0}, "raises -2 to a computed power; allowed are constant bases"),
        ("pow.Tensor_Tensor", {"exponent": FLAT}, "may be 0 or below .* clamp it there"),
        ("atanh", {"self": X}, "inverse hyperbolic tangent of .* beyond -1 and 1, .* clamp the value"),
        ("asin", {"self": Above()}, "the arc sine or cosine .* clamp the value"),
        ("acosh", {"self": Above()}, "beyond 1, from which on"),
        ("tan", {"self": X}, "-pi/2 and pi/2, its poles"),
        ("convolution", {"transposed": True}, r"weight \(4, 2, 3, 3\) in 1 groups does not fit"),
        ("conv3d", {"weight": X}, "argument 'weight' is computed from the image; allowed is a constant"),
        ("conv2d", {"weight": FLAT}, "weights are computed, in a shape of .* in two dimensions"),
        (
            "grid_sampler",
            {"grid": Computed(2, 6, 4), "interpolation_mode": 1},
            r"where it looks is computed .* mode is nearest .* nearest jumps",
        ),
        ("to.dtype", {"dtype": torch.int32}, "argument 'dtype' is torch.int32; allowed is .* float64"),
        ("dropout", {"train": True}, "argument 'train' is True"),
        ("softplus", {"threshold": float("nan")}, "argument 'threshold' is nan"),
        ("div.Tensor_mode", {"rounding_mode": "floor"}, "'rounding_mode' is 'floor'; allowed is None"),
        ("pad", {"mode": "mirror"}, "argument 'mode' is 'mirror'; allowed is 'constant' or 'reflect'"),
        ("threshold", {"value": 0.0}, "jumps from 0 to 0.3 at 0.3; allowed is a value that is the threshold"),
        ("mean.dim", {"dtype": torch.half}, "argument 'dtype' is torch.float16"),
    ],
)
def test_a_refusal_names_the_argument(name, changed, message):
    assembler = Assembler(MAP)
    assembler.where = f"layer {name!r}"
    call = substituted(CALLS.get(name, {"self": X}) | changed, lambda one: one.as_value(assembler))
    with pytest.raises(ModelError, match=message):
        OPERATORS[name](assembler, defaults(name) | call)


@pytest.mark.parametrize("name", LAYERS)
def test_the_list_of_layers_says_how_it_is_verified(name):
    sort = sort_of(OPERATORS[name].rule)
    assert piecewise_linear(name, CALLS.get(name, {"self": X})) == (sort is not Sort.BOUNDS)


def piecewise_linear(name, call):
    assembler = Assembler(MAP)
    assembler.where = f"layer {name!r}"
    given = substituted(call, lambda one: one.as_value(assembler))
    values = tensors(OPERATORS[name](assembler, defaults(name) | given))
    return assembler.build(values[0]).piecewise_linear
