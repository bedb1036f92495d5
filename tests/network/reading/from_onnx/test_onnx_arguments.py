"""Every attribute and input of every operator with unusual values: as onnxruntime reads it, or refused."""

from __future__ import annotations

import contextlib
from itertools import product

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, defs, helper

from onnx_files import SHAPE, array, imported, ints, model_of, node
from smooth_cases import smooth_cases
from steadygaze.errors import ModelError
from steadygaze.network.reading.from_onnx.constants import FOLDS
from steadygaze.network.reading.from_onnx.forms import LATEST
from steadygaze.network.reading.from_onnx.operators import OPERATORS
from steadygaze.network.reading.from_onnx.table import COMPUTED, CONSTANT, UNREAD
from steadygaze.network.reading.marks import Sort, sort_of
from steadygaze.network.reading.onnx_gradients.evaluator import OnnxEvaluator
from stepping_cases import attending, compared, gated, listed, recurrent, summed_up, upsampled

K = {"k": array(3, 2, 3, 3)}
NORM = {"s": array(2) + 1, "t": array(2, seed=1), "m": array(2, seed=2), "v": array(2, seed=3) + 1}
ONE = np.float32(1)
LOW, HIGH = np.float32(0.2), np.float32(0.7)
BEFORE = node("Sub", None, "half")  # pixels from -0.5 to 0.5, so that units switch
HALF = {"half": np.float32(0.5)}


def case(operator, *inputs, opset=13, constants=(), before=(), after=(), **attributes):
    """An operator after `before`, with its own constants."""
    named = [None if one is None else one for one in inputs] or [None]
    nodes = [*before, node(operator, *named, **attributes), *after]
    return nodes, {**HALF, **dict(constants)}, opset


def windows(operator, opset, constants=(), **more):
    """The arguments of a sliding window, one by one and in pairs that affect each other."""
    inputs = [None, *dict(constants)]
    pads, dilated = {"pads": [1, 0, 2, 1]}, {"dilations": [2, 1]}
    unusual = [{"strides": [2, 3]}, pads, dilated, {"kernel_shape": [3, 3]}]
    for rule in ("VALID", "SAME_UPPER", "SAME_LOWER", "NOTSET", "SOMETHING"):
        unusual += [{"auto_pad": rule}, {"auto_pad": rule, "strides": [3, 2]}]
        unusual += [{"auto_pad": rule, **pads}, {"auto_pad": rule, **dilated}]
    unusual += [{"strides": [2]}, {"pads": [1, 1]}, {"pads": [-1, 0, 0, 0]}, {"strides": [0, 1]}]
    unusual += [{"dilations": [3, 3], "pads": [2, 2, 2, 2]}]
    if "kernel_shape" in more:
        for rule, extra in product(("NOTSET", "VALID", "SAME_UPPER"), ({}, pads, dilated)):
            unusual.append({"auto_pad": rule, "ceil_mode": 1, "strides": [2, 2], **extra})
        unusual += [{"kernel_shape": shape} for shape in ([2], [3, 3, 3], [7, 7], [1, 1])]
    return [case(operator, *inputs, opset=opset, constants=constants, **{**more, **one}) for one in unusual]


def sliced(starts, ends, axes=None, steps=None, opset=13):
    given = {"s": starts, "e": ends, "a": axes, "t": steps}
    constants = {name: ints(*value) for name, value in given.items() if value is not None}
    inputs = [name if name in constants else "" for name in given]
    return case("Slice", None, *inputs, opset=opset, constants=constants)


def with_constants(operator, shapes, left=True, **options):
    """A computed value with constants of those shapes on either side."""
    cases = []
    for shape in shapes:
        constants = {"c": array(*shape, seed=5) + np.float32(1.5)}
        cases.append(case(operator, None, "c", constants=constants, **options))
        if left:
            cases.append(case(operator, "c", None, constants=constants, **options))
    return cases


BROADCAST = [(), (1,), (6,), (6, 1), (2, 1, 1), (1, 2, 6, 6), (1, 1, 1, 1, 6), (2, 2, 6, 6), (5,), (2,)]
CASTED = [node("Cast", None, to=1)]
FLATTENED = [node("Flatten", None)]
SPLIT_UP = [node("Concat", "v0", "image", axis=1)]

ROWS = [node("Flatten", None), node("Reshape", None, "row")]
ROW = {"row": ints(1, 4, 18)}
DEEP, WIDE = [node("Reshape", None, "deep")], {"deep": ints(1, 8, 3, 3)}


def in_rows(operator, *inputs, constants=(), **options):
    """An operator on the image as four rows of 18 numbers."""
    return case(operator, *inputs, before=ROWS, constants={**ROW, **dict(constants)}, **options)


def of_volumes(operator, *inputs, constants=(), opset=13, **attributes):
    """An operator on the image as a channel of two slices, and as two of these."""
    return [
        case(operator, None, *inputs, before=[node("Reshape", None, "volume")], opset=opset,
             constants={"volume": ints(*shape), **dict(constants)}, **attributes)
        for shape in ((1, 1, 2, 6, 6), (1, 2, 3, 3, 4))
    ]  # fmt: skip


def of_several(operator, *inputs, constants=(), **attributes):
    """An operator on the image as three maps of two channels, which are no batch."""
    return [
        case(operator, None, *inputs, before=[node("Reshape", None, "maps")],
             constants={"maps": ints(3, 2, 3, 4), **dict(constants)}, **attributes)
    ]  # fmt: skip


def spread(**attributes):
    """Transposed convolution with attributes."""
    constants = {"k": array(2, 3, 3, 2), "b": array(3, seed=1)}
    return case("ConvTranspose", None, "k", "b", constants=constants, **attributes)


def picked(operator):
    """Max and Min of computed values and constants."""
    cases = with_constants(operator, BROADCAST, opset=13, before=[BEFORE])
    cases += [case(operator, None, "image", "c", before=[BEFORE], constants={"c": array(2, 1, 1)})]
    cases += [case(operator, None), case(operator, None, "c", "image", constants={"c": array(6)})]
    return [*cases, case(operator, None, "image", opset=8), case(operator, None, "image", opset=7)]


def reduced(operator):
    """The axes of a reduction, as attributes and as an input."""
    axes = ([2], [3], [-1, -2], [2, 3], [1], [0], [1, 3], [0, 1, 2, 3], [2, 2], [4])
    old, new = 11, 13 if operator == "ReduceSum" else 18
    return [
        *(case(operator, None, axes=one, keepdims=keep, opset=old) for one in axes for keep in (0, 1)),
        case(operator, None, opset=old),
        *(
            case(operator, None, *more, opset=new, constants={"a": ints(*a)}, noop_with_empty_axes=flag)
            for more, a in [(("a",), (2,)), (("a",), ()), ((), ())]
            for flag in (0, 1)
        ),
    ]


def resizings():
    """Modes, coordinates and sizes of Resize."""
    coordinates = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric")
    rules = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
    modes = [{"mode": "nearest", "nearest_mode": rule} for rule in rules]
    modes += [{"mode": "linear"}, {"mode": "cubic"}, {"mode": "cubic", "cubic_coeff_a": -0.5}]
    modes += [{"mode": "cubic", "exclude_outside": 1}]
    cases = []
    for rule, mode in product(coordinates, modes):
        opset = 19 if rule == "half_pixel_symmetric" else 13
        given = {"coordinate_transformation_mode": rule, **mode}
        for scales in ((1, 1, 2, 1.5), (1, 1, 0.6, 1), (1, 1, 0.2, 3)):
            factors = {"s": np.float32(scales)}
            cases.append(case("Resize", None, "", "s", opset=opset, constants=factors, **given))
        size = {"n": ints(1, 2, 9, 4)}
        cases.append(case("Resize", None, "", "", "n", opset=opset, constants=size, **given))
    factors = {"s": np.float32([1, 1, 2, 2]), "r": array(8), "e": np.zeros(0, np.float32)}
    cases += [
        case("Resize", None, "r", "s", opset=11, constants=factors, extrapolation_value=3.0),
        case("Resize", None, "e", "s", opset=11, constants=factors),
        case("Resize", None, "e", "e", "n", opset=11, constants={**factors, "n": ints(1, 2, 3, 4)}),
        case("Resize", None, "e", "s", "n", opset=11, constants={**factors, "n": ints(1, 2, 3, 4)}),
        case("Resize", None, "", "s", opset=13, constants={"s": np.float32([1, 2, 1, 1])}),
        case("Resize", None, "", "s", opset=13, constants={"s": np.float32([1, 1, 1, 1])}),
        case("Resize", None, "", "s", opset=13, constants={"s": np.float32([2, 2])}),
        case(
            "Resize",
            None,
            "r",
            "s",
            opset=13,
            constants=factors,
            coordinate_transformation_mode="tf_crop_and_resize",
        ),
    ]
    for more in ({"axes": [2, 3]}, {"axes": [3, -2]}, {"antialias": 1, "mode": "linear"}, {"antialias": 0}):
        scales = np.float32([2, 1.5]) if "axes" in more else np.float32([1, 1, 2, 1.5])
        cases.append(case("Resize", None, "", "s", opset=18, constants={"s": scales}, **more))
    for scales in ((0.5, 0.7), (0.3, 1.5), (0.2, 1.0), (2.0, 0.4)):
        for more in (
            {"mode": "linear"},
            {"mode": "linear", "exclude_outside": 1},
            {"mode": "nearest"},
            {"mode": "cubic"},
            {"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": 1},
            {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"},
            {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
            {"mode": "cubic", "coordinate_transformation_mode": "asymmetric"},
        ):
            factors = {"s": np.float32([1, 1, *scales])}
            cases.append(case("Resize", None, "", "s", opset=18, constants=factors, antialias=1, **more))
    for policy in ("stretch", "not_larger", "not_smaller"):
        named = {"keep_aspect_ratio_policy": policy}
        cases.append(case("Resize", None, "", "", "n", opset=18, constants={"n": ints(1, 2, 9, 4)}, **named))
    return cases


CASES = {
    "Add": with_constants("Add", BROADCAST),
    "Sub": with_constants("Sub", BROADCAST),
    "Mul": [*with_constants("Mul", BROADCAST), case("Mul", None, None)],
    "Div": [*with_constants("Div", BROADCAST), case("Div", None, None)],
    "Abs": [case("Abs", before=[BEFORE])],
    "AveragePool": [
        *windows("AveragePool", 19, kernel_shape=[3, 2]),
        *windows("AveragePool", 19, kernel_shape=[3, 2], count_include_pad=1),
        *windows("AveragePool", 11, kernel_shape=[2, 2], count_include_pad=1),
        *windows("AveragePool", 22, kernel_shape=[3, 3], ceil_mode=1),
        in_rows("AveragePool", None, kernel_shape=[3], strides=[2], pads=[1, 1]),
        *of_volumes("AveragePool", kernel_shape=[2, 2, 3], strides=[1, 2, 1], pads=[1, 0, 1, 0, 1, 1]),
        *of_volumes("AveragePool", opset=19, kernel_shape=[2, 3, 2], strides=[2, 2, 2], ceil_mode=1),
        *of_volumes("AveragePool", opset=19, kernel_shape=[2, 2, 2], dilations=[1, 2, 1], auto_pad="VALID"),
        *of_volumes("AveragePool", kernel_shape=[2, 3, 2], auto_pad="SAME_UPPER", count_include_pad=1),
        *of_several("AveragePool", kernel_shape=[2, 2], pads=[1, 0, 0, 1]),
    ],
    "Max": picked("Max"),
    "Min": picked("Min"),
    "MaxPool": [
        *windows("MaxPool", 12, kernel_shape=[3, 2]),
        *windows("MaxPool", 22, kernel_shape=[2, 3], storage_order=1),
        *windows("MaxPool", 10, kernel_shape=[3, 3], ceil_mode=1),
        in_rows("MaxPool", None, kernel_shape=[3], strides=[2], pads=[1, 1]),
        *of_volumes("MaxPool", kernel_shape=[2, 2, 3], strides=[1, 2, 1], pads=[1, 0, 1, 0, 1, 1]),
        *of_volumes("MaxPool", kernel_shape=[2, 3, 2], strides=[2, 2, 2], ceil_mode=1, dilations=[1, 1, 2]),
        *of_volumes("MaxPool", kernel_shape=[2, 2], strides=[1, 1]),
        *of_several("MaxPool", kernel_shape=[2, 2], pads=[1, 0, 0, 1], strides=[2, 1]),
        *(
            case(
                "MaxPool",
                None,
                before=[node("Pad", None, "p", "f")],
                constants={"p": ints(0, 0, 1, 0, 0, 0, 2, 1), "f": np.float32(fill)},
                kernel_shape=[3, 2],
                **more,
            )
            for fill in (-np.inf, np.finfo(np.float32).min)
            for more in ({"strides": [2, 1]}, {"pads": [0, 1, 1, 0]}, {"ceil_mode": 1}, {"auto_pad": "VALID"})
        ),
    ],
    "Conv": [
        *windows("Conv", 11, K),
        case("Conv", None, "g", constants={"g": array(4, 1, 3, 3)}, group=2),
        case("Conv", None, "g", constants={"g": array(3, 1, 3, 3)}, group=2),
        case("Conv", None, "k", constants=K, group=0),
        case("Conv", None, "k", "b", constants={**K, "b": array(3)}),
        case("Conv", None, "k", "b", constants={**K, "b": array(1)}),
        case("Conv", None, "k", "b", constants={**K, "b": array(3, 1)}),
        case("Conv", None, "k", constants={"k": array(3, 2, 3)}),
        in_rows("Conv", None, "k", constants={"k": array(3, 4, 3)}, strides=[2], pads=[1, 2], dilations=[2]),
        in_rows("Conv", None, "k", constants={"k": array(4, 2, 3)}, group=2, auto_pad="SAME_UPPER"),
        in_rows("Conv", None, "k", constants={"k": array(3, 4, 3)}, kernel_shape=[3, 3]),
        in_rows("Conv", None, "k", constants={"k": array(3, 4, 1, 3)}),
        *of_volumes("Conv", "k", constants={"k": array(4, 1, 2, 3, 2)}, pads=[1, 0, 1, 0, 2, 0]),
        *of_volumes("Conv", "k", "b", constants={"k": array(4, 1, 2, 3, 2), "b": array(4)}, group=2),
        *of_volumes("Conv", "k", constants={"k": array(3, 2, 2, 1, 2)}, strides=[2, 1, 2]),
        *of_volumes("Conv", "k", constants={"k": array(3, 2, 2, 2, 2)}, dilations=[1, 2, 1]),
        *of_volumes("Conv", "k", constants={"k": array(3, 2, 2, 3, 2)}, auto_pad="SAME_LOWER"),
        *of_volumes("Conv", "k", constants={"k": array(3, 2, 4, 3, 2)}),
        *of_several("Conv", "k", constants={"k": array(3, 2, 2, 3)}, pads=[1, 1, 0, 1]),
        *of_several("Conv", "k", "b", constants={"k": array(4, 1, 2, 3), "b": array(4)}, group=2),
    ],
    "ConvTranspose": [
        *(spread(**one) for one in ({}, {"strides": [2, 3]}, {"pads": [1, 0, 1, 0]}, {"pads": [0, 1, 2, 0]})),
        *(spread(strides=[2, 3], output_padding=more) for more in ([1, 2], [0, 1], [2, 0], [1])),
        *(spread(strides=[2, 2], auto_pad=rule) for rule in ("SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET")),
        spread(strides=[2, 2], output_shape=[12, 12]),
        spread(dilations=[2, 1], pads=[1, 1, 1, 1]),
        spread(kernel_shape=[3, 2]),
        spread(kernel_shape=[2, 2]),
        case("ConvTranspose", None, "k", constants={"k": array(2, 3, 2, 2)}, group=2),
        case("ConvTranspose", None, "k", "b", constants={"k": array(2, 3, 2, 2), "b": array(1)}),
        case("ConvTranspose", None, "k", constants={"k": array(3, 3, 2, 2)}),
        *of_volumes("ConvTranspose", "k", constants={"k": array(2, 3, 2, 3, 1)}),
        *of_volumes(
            "ConvTranspose", "k", "b", constants={"k": array(1, 3, 2, 2, 3), "b": array(3)}, strides=[2, 1, 2]
        ),
        *of_volumes(
            "ConvTranspose", "k", constants={"k": array(2, 3, 2, 3, 1)}, pads=[1, 0, 0, 0, 2, 1], group=2
        ),
        *of_volumes("ConvTranspose", "k", constants={"k": array(2, 1, 2, 2, 1)}, dilations=[2, 1, 1]),
        *of_volumes(
            "ConvTranspose",
            "k",
            constants={"k": array(2, 1, 2, 2, 1)},
            strides=[2, 2, 1],
            output_padding=[1, 0, 0],
        ),
        *of_volumes("ConvTranspose", "k", constants={"k": array(2, 1, 2, 2, 1)}, auto_pad="SAME_UPPER"),
        *of_volumes("ConvTranspose", "k", constants={"k": array(2, 1, 2, 2, 1)}, strides=[2]),
        in_rows("ConvTranspose", None, "k", constants={"k": array(4, 3, 3)}, strides=[2], pads=[1, 0]),
    ],
    "DepthToSpace": [
        case("DepthToSpace", None, before=DEEP, constants=WIDE, blocksize=b, **mode)
        for b in (1, 2, 3, 0)
        for mode in ({}, {"mode": "DCR"}, {"mode": "CRD"}, {"mode": "RDC"})
    ],
    "Einsum": [
        *(
            case("Einsum", None, *"w"[: "," in equation], constants={"w": w}, equation=equation)
            for equation, w in [
                ("bchw,cd->bdhw", array(2, 3)),
                ("bchw,cdh->bdw", array(2, 3, 6)),
                ("bchw,bw", array(1, 6)),
                ("...w,wd->...d", array(6, 4)),
                ("bchw->bc", array(1)),
                ("bcww->bcw", array(1)),
                ("bchw,chh->bcw", array(2, 6, 6)),
                ("bchw,cd->bdx", array(2, 3)),
            ]
        ),
        case("Einsum", "w", None, constants={"w": array(3, 2)}, equation="dc,bchw->bdhw"),
        case("Einsum", None, "image", equation="bchw,bchw->bchw"),
    ],
    "Expand": [
        case(
            "Expand", None, "s", before=[node("Reshape", None, "r")], constants={"r": ints(*r), "s": ints(*s)}
        )
        for r in [(1, 72, 1), (1, 1, 72)]
        for s in [(1, 2, 72, 3), (72, 2), (1,), (3, 72, 1), (1, 5, 72), (2, 5)]
    ],
    "Gather": [
        *(
            case("Gather", None, "i", axis=axis, constants={"i": i})
            for axis in (-1, 1, 2, 0, 4)
            for i in (
                *(ints(1, 0, -1, 0), np.int64(1), ints(0), ints(6), ints(0, 0)),
                np.array([[0, 1], [1, 1]]),
            )
        ),
        case("Gather", None, "i", constants={"i": np.float32([1])}, axis=1),
    ],
    "BatchNormalization": [
        *(
            case("BatchNormalization", None, *NORM, constants=NORM, opset=opset, **one)
            for opset in (7, 9, 15)
            for one in (
                {"epsilon": 0.3},
                {"momentum": 0.1},
                {"spatial": 0},
                {"spatial": 1},
                {"training_mode": 1},
                {"training_mode": 0},
            )
        ),
        *(
            case("BatchNormalization", None, *NORM, constants={**NORM, name: array(*shape) + 1})
            for name in NORM
            for shape in ((1,), (2, 1), ())
        ),
    ],
    "Cast": [
        *(case("Cast", None, opset=24, to=int(kind), after=CASTED) for kind in TensorProto.DataType.values()),
        case("Cast", None, opset=24, to=1, saturate=0, round_mode="down"),
        case("Cast", None, opset=13, to=11, after=CASTED),
    ],
    "Clip": [
        *(
            case("Clip", None, "lo", "hi", constants={"lo": low, "hi": high}, opset=opset)
            for opset in (11, 13)
            for low, high in [
                (LOW, HIGH),
                (np.float32([0.2]), HIGH),
                (np.float32([0.2, 0.6]), HIGH),
                (LOW, array(2, 1, 1)),
                (HIGH, LOW),
                (LOW, LOW),
                (np.float32(-np.inf), HIGH),
                (LOW, np.float32(np.inf)),
                (np.float32(np.nan), HIGH),
            ]
        ),
        case("Clip", None, "lo", "", constants={"lo": LOW}),
        case("Clip", None, "", "hi", constants={"hi": HIGH}),
        case("Clip", None, opset=9, max=0.6),
        case("Clip", None, opset=9, min=0.6),
        case("Clip", None, opset=13, min=0.6),
        case("Clip", None, "image", "hi", constants={"hi": HIGH}),
    ],
    "Concat": [
        *(case("Concat", None, "image", axis=axis) for axis in (-5, -4, -3, -1, 0, 1, 2, 3, 4)),
        case("Concat", None, "c", axis=1, constants={"c": array(1, 1, 6, 6)}),
        case("Concat", "c", None, axis=1, constants={"c": array(1, 1, 6, 6)}),
        case(
            "Concat",
            *("c", None, "d", "image", "c"),
            axis=2,
            constants={"c": array(1, 2, 1, 6), "d": array(1, 2, 2, 6)},
        ),
        case("Concat", None, "c", axis=0, constants={"c": array(1, 2, 6, 6)}),
        case("Concat", None),
    ],
    "Dropout": [
        case("Dropout", None, opset=10, ratio=0.9),
        case("Dropout", None, opset=13, seed=3),
        *(
            case("Dropout", None, "r", *more, constants={"r": np.float32(0.9), "t": np.array(flag)})
            for more, flag in [((), False), (("t",), False), (("t",), True)]
        ),
    ],
    "Atan": [case("Atan", None)],
    **{name: [case(name, None)] for name in ("Cos", "Cosh", "Sinh")},
    "Sin": [case("Sin", None)],
    "Erf": [case("Erf", None)],
    "Flatten": [case("Flatten", None, axis=axis) for axis in range(-5, 6)],
    "GatherElements": [
        case("GatherElements", None, "i", constants={"i": np.int64(i)}, axis=axis)
        for axis in (0, 1, 2, -1)
        for i in ([[[[1, -1]], [[0, 0]]]], [[[[0], [3]]]], [[[[0], [9]]]], [[0, 1]])
    ],
    "GatherND": [
        case("GatherND", None, "i", before=[node("Transpose", None, perm=perm)], constants={"i": i}, **more)
        for perm in ([1, 0, 2, 3], [3, 0, 1, 2], [0, 1, 2, 3])
        for i in (np.int64([[1], [0], [-1]]), np.int64([[[0], [1]]]), np.int64([[0, 0]]), np.int64([[9]]))
        for more in ({}, {"batch_dims": 0}, {"batch_dims": 1})
    ],
    "Gelu": [case("Gelu", None, opset=20, approximate=word) for word in ("none", "tanh", "fast")],
    "Gemm": [
        *(
            case("Gemm", None, "w", "c", before=FLATTENED, constants={"w": array(*shape), "c": c}, **flags)
            for shape, c in [
                ((72, 4), array(4)),
                ((72, 4), array(1, 4)),
                ((72, 4), array(1)),
                ((72, 4), array(1, 1)),
                ((72, 4), np.float32(0.3)),
                ((72, 4), array(4, 4)),
                ((72, 4), array(1, 1, 4)),
                ((4, 72), array(4)),
                ((1, 4), array(72, 1)),
                ((1, 4), array(72, 4)),
            ]
            for flags in ({}, {"alpha": 0.5, "beta": -2.0}, {"transB": 1}, {"transA": 1}, {"transB": 2})
        ),
        case("Gemm", None, "w", before=FLATTENED, constants={"w": array(72, 4)}, alpha=float("inf")),
        case("Gemm", None, "w", constants={"w": array(6, 4)}),
    ],
    "GlobalAveragePool": [
        case("GlobalAveragePool"),
        case("GlobalAveragePool", before=FLATTENED),
        in_rows("GlobalAveragePool", None),
    ],
    "GlobalMaxPool": [
        case("GlobalMaxPool"),
        case("GlobalMaxPool", before=FLATTENED),
        in_rows("GlobalMaxPool", None),
    ],
    "HardSigmoid": [
        case("HardSigmoid", before=[BEFORE], **one)
        for one in ({}, {"alpha": 3.0, "beta": 0.4}, {"alpha": -2.0}, {"beta": float("nan")})
    ],
    **{name: [case(name, before=[BEFORE], opset=18)] for name in ("HardSwish", "Mish", "Softsign")},
    **{
        name: [case(name, before=[BEFORE], alpha=a) for a in (-0.5, 0.0, 1.0, 3.0, float("nan"))]
        for name in ("Celu", "Elu")
    },
    "Selu": [
        case("Selu", before=[BEFORE], **one)
        for one in ({}, {"alpha": 0.5}, {"gamma": 2.0}, {"gamma": float("inf")})
    ],
    "Identity": [case("Identity")],
    "LeakyRelu": [case("LeakyRelu", before=[BEFORE], alpha=a) for a in (-0.5, 0.0, 1.0, 3.0, float("nan"))],
    "MatMul": [
        *with_constants(
            "MatMul",
            [(6, 4), (6, 6), (1, 6, 6), (1, 1, 6, 6), (1, 1, 1, 6, 6), (2, 6, 6), (1, 2, 6, 6), (6,), (1, 6)],
        ),
        *(
            case("MatMul", None, "c", before=FLATTENED, constants={"c": array(*shape)})
            for shape in [(72, 4), (1, 72, 4), (1, 1, 72, 4), (72,), (2, 72, 4), (1, 72)]
        ),
        *(
            case(
                "MatMul", "c", None, before=[node("Reshape", None, "r")], constants={"c": c, "r": ints(72, 1)}
            )
            for c in (array(4, 72), array(1, 4, 72), array(1, 1, 4, 72), array(72))
        ),
        *(
            case(
                "MatMul",
                *order,
                before=[node("Reshape", None, "r")],
                constants={"c": array(*s), "r": ints(-1)},
            )
            for order, s in [((None, "c"), (72, 4)), ((None, "c"), (1, 72, 4)), (("c", None), (4, 72))]
        ),
        case("MatMul", None, None),
    ],
    "Neg": [case("Neg")],
    "PRelu": [
        case(
            "PRelu", None, "p", before=[BEFORE], constants={"p": array(*shape) - np.float32(0.3)}, opset=opset
        )
        for opset in (7, 9, 16)
        for shape in BROADCAST
    ],
    "Pad": [
        *(
            case("Pad", None, "p", opset=opset, mode=mode, constants={"p": ints(0, 0, 1, 2, 0, 0, 0, 1)})
            for opset in (11, 19)
            for mode in ("constant", "reflect", "edge", "wrap", "mirror")
        ),
        *(
            case("Pad", None, "p", opset=19, mode=mode, constants={"p": ints(*p)})
            for p in [
                *((0, 1, 1, 2, 0, 0, 0, 1), (0, 0, 5, 5, 0, 0, 5, 0), (0, 0, 6, 0, 0, 0, 0, 0)),
                (0, 0, -1, 1) * 2,
            ]
            for mode in ("reflect", "edge", "wrap")
        ),
        *(
            case("Pad", None, "p", "f", constants={"p": ints(*p), "f": fill})
            for p in [(0, 1, 1, 2, 0, 0, 0, 1), (0, 0, -1, 2, 0, 0, 0, -2), (1, 0, 0, 0, 0, 0, 0, 0), (1, 1)]
            for fill in (np.float32(-3), np.float32([0.5]), np.float32([0.5, 1]), np.float32(np.inf))
        ),
        *(
            case("Pad", None, "p", "", "a", opset=18, constants={"p": ints(*p), "a": ints(*a)})
            for p, a in [
                ((1, 2), (-1,)),
                ((1, 0, 0, 2), (3, 1)),
                ((1, 1), (5,)),
                ((1, 1, 1, 1), (2, 2)),
                ((1,), (2,)),
            ]
        ),
        case("Pad", None, "p", "f", "a", opset=21, constants={"p": ints(1, 0), "f": HIGH, "a": ints(2)}),
        case("Pad", None, opset=9, pads=[0, 0, 1, -1, 0, 1, 0, 0], value=0.4, mode="constant"),
        case("Pad", None, opset=9, pads=[0, 0, 1, 1, 0, 1, 0, 0], mode="edge"),
    ],
    **{f"Reduce{what}": reduced(f"Reduce{what}") for what in ("L1", "Max", "Mean", "Min", "Sum")},
    "Relu": [case("Relu", before=[BEFORE])],
    "Reshape": [
        case("Reshape", None, "s", constants={"s": ints(*shape)}, opset=14, allowzero=zero)
        for shape in [
            (0, 0, -1),
            (1, -1),
            (-1,),
            (0, 36, 2),
            (2, -1),
            (-1, -1),
            (1, 71),
            (0, 0, 0, 0, 1),
            (1, -2),
        ]
        for zero in (0, 1)
    ],
    "Resize": resizings(),
    "Sigmoid": [case("Sigmoid")],
    "ScatterElements": [
        case(
            "ScatterElements",
            name,
            "i",
            "u",
            before=[BEFORE],
            opset=18,
            axis=axis,
            reduction=how,
            constants={
                "i": ints(0, -1, 3)[None, None, :, None].repeat(2, 1),
                "c": array(1, 2, 6, 6),
                "u": array(1, 2, 3, 1),
            },
        )
        for name in (None, "c")
        for axis in (2, -2, 0, 5)
        for how in ("none", "add")
    ],
    "ScatterND": [
        case(
            "ScatterND",
            name,
            "i",
            given,
            before=[BEFORE],
            opset=18,
            reduction=how,
            constants={"i": index, "c": array(1, 2, 6, 6), "u": array(*shape, seed=3)},
        )
        for index, shape in (
            (ints(0, 1)[None], (1, 6, 6)),
            (np.stack([ints(0, 0, 0), ints(0, 1, 1), ints(2, 3, -1)], 1), (3, 6)),
            (np.stack([ints(0, 0), ints(1, 1)], 1), (2, 6, 6)),
            (ints(0)[None], (1, 2, 6, 6)),
        )
        for name, given in ((None, "u"), ("c", "u"), ("c", "v0"))
        for how in ("none", "mul")
    ],
    "Shrink": [
        case("Shrink", before=[BEFORE], **one)
        for one in ({"lambd": 0.2, "bias": 0.2}, {}, {"lambd": 0.2}, {"lambd": -0.2, "bias": -0.2})
    ],
    "Slice": [
        sliced((1,), (5,), (2,)),
        sliced((1,), (5,)),
        sliced((0, 1), (1, 2)),
        sliced((-3, -4), (-1, 99), (-1, -2)),
        sliced((0,), (6,), (3,), (2,)),
        sliced((1, 2), (6, 6), (2, 3), (3, 2)),
        sliced((5,), (0,), (2,), (-1,)),
        sliced((-1,), (-99,), (1,), (-1,)),
        sliced((0,), (2,), (1,), (2,)),
        sliced((3,), (3,), (2,)),
        sliced((1, 0), (5, 2), (2, 2)),
        sliced((1,), (5,), (7,)),
        sliced((1, 2), (5,), (2,)),
        sliced((1,), (5,), (2,), (0,)),
        sliced((0,), (np.iinfo(np.int64).max,), (3,)),
        case("Slice", None, opset=9, starts=[1, -4], ends=[2, -1], axes=[1, -1]),
        case("Slice", None, opset=9, starts=[0, 1], ends=[1, 2]),
    ],
    "Softplus": [case("Softplus")],
    "SpaceToDepth": [
        *(case("SpaceToDepth", None, blocksize=b) for b in (1, 2, 3, 4)),
        *(case("SpaceToDepth", None, blocksize=2, mode=mode, opset=28) for mode in ("DCR", "CRD")),
    ],
    "Split": [
        # The first part is used, and read again behind the second.
        *(
            case("Split", None, *more, opset=opset, constants={"z": ints(*sizes)}, **attributes)
            for opset, more, sizes, attributes in [
                (13, (), (), {"axis": 1}),
                (13, (), (), {"axis": -2}),
                (13, (), (), {"axis": 0}),
                (13, (), (), {}),
                (13, ("z",), (6,), {"axis": 2}),
                (13, ("z",), (2, 4), {"axis": 2}),
                (11, (), (), {"axis": 3, "split": [6]}),
                (11, (), (), {"axis": 3, "split": [5]}),
                (18, (), (), {"axis": 3, "num_outputs": 1}),
                (18, (), (), {"axis": 3, "num_outputs": 4}),
                (18, ("z",), (6,), {"axis": 3, "num_outputs": 1}),
            ]
        ),
    ],
    "Squeeze": [
        *(case("Squeeze", None, opset=11, axes=axes) for axes in ([0], [-4], [1], [4], [0, 0])),
        case("Squeeze", None, opset=11),
        *(case("Squeeze", None, "a", constants={"a": ints(*axes)}) for axes in ((0,), (-4,), (1,), (), (9,))),
        case("Squeeze", None),
    ],
    "Mean": [
        case("Mean", None),
        case("Mean", None, "image", "c", constants={"c": array(2, 1, 1)}),
        case("Mean", "c", None, constants={"c": array(2, 2, 6, 6)}),
    ],
    "Sum": [
        case("Sum", None),
        case("Sum", None, "image", "c", constants={"c": array(2, 1, 1)}),
        case("Sum", "c", None, constants={"c": array(2, 2, 6, 6)}),
    ],
    "Tanh": [case("Tanh")],
    "ThresholdedRelu": [case("ThresholdedRelu", before=[BEFORE], **one) for one in ({"alpha": 0.0}, {})],
    "Tile": [
        case("Tile", None, "n", constants={"n": ints(*n)})
        for n in [(1, 2, 1, 3), (1, 1, 1, 1), (2, 1, 1, 1), (1, 2), (1, 0, 1, 1)]
    ],
    "Trilu": [
        case("Trilu", None, *["k"] * (k is not None), constants={"k": np.int64(k or 0)}, opset=14, **more)
        for k in (None, 0, 1, -2, 9)
        for more in ({}, {"upper": 0}, {"upper": 1}, {"upper": 2})
    ],
    "Transpose": [
        case("Transpose", perm=p) for p in ([0, 3, 1, 2], [1, 0, 2, 3], [0, 1], [0, 1, 2, -1], [0, 0, 1, 2])
    ],
    "Unsqueeze": [
        *(case("Unsqueeze", None, opset=11, axes=axes) for axes in ([0], [-1, 1], [4], [2, 2], [9])),
        *(
            case("Unsqueeze", None, "a", constants={"a": ints(*axes)})
            for axes in ((0,), (-1, 1), (5, 0), (9,), ())
        ),
    ],
}
CASES |= smooth_cases(case, [BEFORE])
CASES |= {**compared(case, [BEFORE]), **attending(case), "RNN": recurrent(case), "Upsample": upsampled(case)}
CASES |= {
    "GRU": gated(case, "GRU", 3),
    "LSTM": gated(case, "LSTM", 4),
    **summed_up(case, [BEFORE]),
    **listed(case, [BEFORE]),
}
CASES["Resize"] += [
    case("Resize", None, "s", opset=10, constants={"s": np.float32(scales)}, mode=mode)
    for scales in ([1, 1, 2, 1.5], [1, 1, 1, 0.5])
    for mode in ("nearest", "linear")
]
CASES["LpPool"] = [
    *(one for p in (2, 1, 3) for one in windows("LpPool", 18, kernel_shape=[2, 3], p=p)[::7]),
    *windows("LpPool", 18, kernel_shape=[3, 2], ceil_mode=1, dilations=[1, 2], p=2)[:4],
    in_rows("LpPool", None, kernel_shape=[3], strides=[2], pads=[1, 1]),
]
CASES["GlobalLpPool"] = [case("GlobalLpPool", None, p=p) for p in (2, 1, 3)] + [in_rows("GlobalLpPool", None)]


def added(operator, *inputs, opset=13, constants=(), after=(), **attributes):
    """An operator on constants alone, whose result is added to the image."""
    nodes = [node(operator, *inputs, **attributes), *after, node("Add", "image", None)]
    return nodes, dict(constants), opset


def shaped(operator, *inputs, **options):
    """An operator on constants of shapes, whose result is the shape of a reshaped image."""
    nodes, constants, opset = added(operator, *inputs, **options)
    return [*nodes[:-1], node("Reshape", "image", None)], constants, opset


W, V = array(2, 6, 6, seed=6), array(2, 6, 6, seed=7)
TWO = {"w": W, "v": V}
FLAGS = {"w": W > 0, "v": V > 0}
PAIRS = [
    {"w": W, "v": V},
    {"w": W, "v": array(6, 1)},
    {"w": ints(-7, 7, -6, 5, 1, 0), "v": ints(2, -2, 3, 5, 3, 4)},
]

BYTES = {"q": np.random.default_rng(5).integers(-128, 128, (2, 6, 6)).astype(np.int8)}
BLOCKS = {
    "s": array(2, 3, 6, seed=4),
    "z": np.random.default_rng(6).integers(-9, 9, (2, 3, 6)).astype(np.int8),
}
LEVELS = [
    (BYTES, {"z": np.int8(3)}),
    ({"q": BYTES["q"].view(np.uint8)}, {"z": np.uint8(200)}),
    ({"q": 3000 * BYTES["q"].astype(np.int32)}, {"z": np.int32(0)}),
]

CONSTANT_CASES = {
    **{
        operator: [added(operator, "w", "v", constants=c, after=CASTED) for c in PAIRS]
        for operator in ("Add", "Sub", "Mul", "Div")
    },
    **{
        operator: [added(operator, "w", "v", constants=c, after=CASTED) for c in (*PAIRS, {"w": W, "v": W})]
        for operator in ("Greater", "Less", "GreaterOrEqual", "LessOrEqual", "Max", "Min")
    },
    **{operator: [added(operator, "w", "v", constants=FLAGS, after=CASTED)] for operator in ("And", "Or")},
    **{
        operator: [added(operator, "w", constants={"w": 3 * W})]
        for operator in ("Ceil", "Floor", "Cos", "Cosh", "Sin", "Sinh")
    },
    "Not": [added("Not", "w", constants={"w": W > 0}, after=CASTED)],
    "Pow": [
        added("Pow", "w", "v", constants={"w": w, "v": v}, after=CASTED)
        for w in (W, np.abs(W), ints(2, -3, 0, 1, 5, 6))
        for v in (np.float32(2), np.float32(-0.5), np.int64(3), np.int64(-1), ints(0, 1, 2, 3, 4, 1))
    ],
    "Size": [added("Size", "w", constants={"w": W}, after=CASTED)],
    "Tile": [
        added("Tile", "w", "t", constants={"w": array(2, 3, 1), "t": ints(*t)})
        for t in ((1, 2, 6), (1, 1, 1), (3, 2), (1, 0, 1))
    ],
    "Cast": [
        *(
            added("Cast", "w", constants={"w": 4 * W}, to=kind, after=CASTED)
            for kind in (1, 3, 6, 7, 9, 10, 11, 12)
        ),
        *(
            added("Cast", "w", constants={"w": 4 * W}, to=kind, after=CASTED, opset=24)
            for kind in (8, 16, 17, 18, 22)
        ),
        added("Cast", "w", constants={"w": np.float32([300])}, to=3, after=CASTED),
        added("Cast", "w", constants={"w": W}, to=1, opset=24, saturate=0, round_mode="down"),
    ],
    "Concat": [added("Concat", "w", "v", constants={"w": W[:1], "v": V[:1]}, axis=a) for a in (0, -3, 1, 3)],
    "Constant": [
        added("Constant", value=onnx.numpy_helper.from_array(W)),
        added("Constant", value_float=0.25),
        added("Constant", value_floats=[0.25, 0.5, 1.0, 2.0, 3.0, 4.0]),
        added("Constant", value_int=3, after=CASTED),
        shaped("Constant", value_ints=[1, 72]),
        added("Constant", value_string="word"),
        added("Constant", value_strings=["word"]),
        added(
            "Constant",
            sparse_value=helper.make_sparse_tensor(
                helper.make_tensor("values", 1, [1], [0.5]), helper.make_tensor("indices", 7, [1], [0]), [6]
            ),
        ),
    ],
    "ConstantOfShape": [
        added("ConstantOfShape", "s", constants={"s": ints(2, 1, 6)}),
        *(
            added(
                "ConstantOfShape",
                "s",
                constants={"s": ints(6)},
                value=helper.make_tensor("v", kind, [n], [2] * n),
            )
            for kind, n in [(1, 1), (11, 1), (1, 2)]
        ),
    ],
    "DequantizeLinear": [
        *(
            added("DequantizeLinear", *"qsz"[:count], constants=q | s | z, opset=opset, **axis)
            for q, z in LEVELS
            for count in (2, 3)
            for s, axis, opset in [
                ({"s": np.float32(0.25)}, {}, 10),
                ({"s": np.float32(0.25)}, {"axis": -1}, 13),
            ]
        ),
        *(
            added("DequantizeLinear", *names, constants=constants, opset=opset, **more)
            for names in ("qs", "qsz")
            for constants, more in [
                (BYTES | {"s": array(6, seed=4), "z": np.int8(range(-3, 3))}, {"axis": 2}),
                (BYTES | {"s": array(6, seed=4), "z": np.int8(range(-3, 3))}, {"axis": -2}),
                (BYTES | {"s": array(2, seed=4), "z": np.int8([4, -7])}, {"axis": 0}),
                (BYTES | {"s": array(2, seed=4), "z": np.int8([4, -7])}, {"axis": 3}),
                (BYTES | {"s": array(5, seed=4), "z": np.int8(range(5))}, {"axis": 1}),
            ]
            for opset in (13, 21)
        ),
        *(
            added("DequantizeLinear", *"qsz", constants=BYTES | BLOCKS, opset=opset, axis=1, block_size=size)
            for opset in (21, 23)
            for size in (2, 3, 4, -1)
        ),
        *(
            added("DequantizeLinear", *"qs", constants=BYTES | BLOCKS, opset=23, output_dtype=kind)
            for kind in (1, 10)
        ),
    ],
    "Equal": [
        added("Equal", "w", "v", constants={"w": ints(1, 2, 3, -1, 5, 6), "v": v}, after=CASTED)
        for v in (ints(1, 0, 3, -1, 0, 0), ints(-1))
    ],
    "Expand": [
        added("Expand", "w", "s", constants={"w": array(6, 1), "s": ints(*s)})
        for s in ((2, 1, 6), (1,), (5,))
    ],
    "Flatten": [
        added(
            "Flatten",
            "w",
            constants={"w": array(2, 3, 1), "s": ints(6)},
            axis=a,
            after=[node("Reshape", None, "s")],
        )
        for a in (-4, -3, -1, 0, 2, 3, 4)
    ],
    "Gather": [
        added("Gather", "w", "i", constants={"w": W, "i": i}, axis=axis)
        for axis in (0, 2, -1, 3)
        for i in (ints(-1), ints(0, 1, 1, 0, -2, -1), np.int64(-1), ints(9))
    ],
    "Identity": [added("Identity", "w", constants={"w": W})],
    "MatMul": [
        added("MatMul", "w", "v", constants=TWO),
        added("MatMul", "w", "v", constants={"w": W, "v": array(6)}),
    ],
    "Mod": [
        added("Mod", "w", "v", constants={"w": w, "v": v}, after=CASTED, **more)
        for w, v in [(ints(-7, 7, -6, 5, 1, 0), ints(2, -2, 4, 5, 3, 4)), (W, V), (ints(7), ints(0))]
        for more in ({}, {"fmod": 0}, {"fmod": 1})
    ],
    "Neg": [added("Neg", "w", constants={"w": W})],
    "Range": [
        added("Range", "a", "b", "c", constants={"a": a, "b": b, "c": c}, after=CASTED)
        for a, b, c in [
            (np.float32(0), np.float32(6), ONE),
            (np.int64(6), np.int64(0), np.int64(-1)),
            (np.float32(0), np.float32(6), np.float32(0)),
            (np.float32([0, 1]), np.float32(6), ONE),
        ]
    ]
    + [
        added(
            "Range",
            "a",
            "b",
            "c",
            opset=27,
            stash_type=kind,
            constants={"a": np.float32(0), "b": np.float32(6), "c": ONE},
        )
        for kind in (1, 16)
    ],
    "ReduceProd": [
        *(
            added("ReduceProd", "w", constants={"w": W}, keepdims=k, **a)
            for k in (0, 1)
            for a in ({}, {"axes": [2]}, {"axes": [-1, 0]}, {"axes": [5]})
        ),
        *(
            added(
                "ReduceProd", "w", *m, opset=18, constants={"w": W, "a": ints(*a)}, noop_with_empty_axes=flag
            )
            for m, a in [(("a",), (2,)), (("a",), ()), ((), ())]
            for flag in (0, 1)
        ),
    ],
    "Reshape": [
        added("Reshape", "w", "s", opset=14, constants={"w": W, "s": ints(*s)}, allowzero=z)
        for s in [(0, -1, 6), (1, 2, 6, 6), (2, 0, 0), (5,), (-1, -1)]
        for z in (0, 1)
    ],
    "Shape": [
        shaped("Shape", "image", opset=15, **a)
        for a in (
            {},
            {"start": 0},
            {"start": -4, "end": 9},
            {"start": 1},
            {"end": -1},
            {"start": 4, "end": 2},
        )
    ]
    + [shaped("Shape", "w", constants={"w": array(1, 72)})],
    "Slice": [
        added(
            "Slice",
            "w",
            *"seat"[: len(given)],
            constants=dict(zip("wseat", (W, *(ints(*g) for g in given)), strict=False)),
        )
        for given in [
            ((0,), (1,)),
            ((0, 0), (1, 1), (0, -1)),
            ((5,), (-99,), (2,), (-1,)),
            ((5,), (-(2**31),), (2,), (-1,)),
            ((1, 0), (2, 1), (0, 0)),
            ((1,), (2,), (4,)),
            ((0,), (1, 2)),
            ((0,), (6,), (1,), (0,)),
        ]
    ]
    + [added("Slice", "w", opset=9, constants={"w": W}, starts=[0], ends=[1], axes=[-1])],
    "Sqrt": [added("Sqrt", "w", constants={"w": np.abs(W)}), added("Sqrt", "w", constants={"w": W})],
    "Squeeze": [
        *(
            added("Squeeze", "w", opset=11, constants={"w": array(1, 2, 1, 6)}, **a)
            for a in ({}, {"axes": [2]}, {"axes": [-4]}, {"axes": [1]})
        ),
        added("Squeeze", "w", "a", constants={"w": array(1, 2, 1, 6), "a": ints(-2)}),
    ],
    "Transpose": [
        added("Transpose", "w", constants={"w": array(6, 2, 1)}, **a)
        for a in ({}, {"perm": [1, 2, 0]}, {"perm": [1, 0]}, {"perm": [1, 2, -3]})
    ],
    "Unsqueeze": [
        *(
            added("Unsqueeze", "w", opset=11, constants={"w": array(2, 6)}, axes=a)
            for a in ([1], [-2], [0, 2], [7])
        ),
        added("Unsqueeze", "w", "a", constants={"w": array(2, 6), "a": ints(-2)}),
    ],
    "Where": [
        added("Where", "b", "w", "v", constants={"b": np.array(b), "w": W, "v": v})
        for b in ([True, False, True, True, False, False], True, [[True], [False]] * 3)
        for v in (V, array(6, 1), np.float32(2))
    ],
}
ALL = {**CASES, **{f"constant-{name}": cases for name, cases in CONSTANT_CASES.items()}}
# The first, every twentieth, and the last of each operator's cases; the others take long together.
EVERY = [
    pytest.param(
        *one,
        id=f"{operator}-{place}",
        marks=() if place % 20 == 0 or place == len(cases) - 1 else pytest.mark.slow,
    )
    for operator, cases in ALL.items()
    for place, one in enumerate(cases)
]


def points():
    """Pixels at random, at their ends, and where the units above switch."""
    generator = np.random.default_rng(2)
    inside = generator.uniform(0, 1, (6, *SHAPE))
    ends = generator.integers(0, 2, (4, *SHAPE)).astype(float)
    kinks = generator.choice([0.0, 0.2, 0.5, 0.7, 1.0], (6, *SHAPE))
    levels = np.stack([np.full(SHAPE, level) for level in (0.0, 0.2, 0.5, 0.7, 1.0)])
    return np.concatenate([inside, ends, kinks, levels])


POINTS = points()


def headed(nodes, constants, opset):
    """The nodes with a dense layer behind all numbers that they make, as far as onnxruntime can say."""
    body = model_of(nodes, constants, opset=opset)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(body.SerializeToString(), options)
        width = max(np.size(session.run(None, {"image": POINTS[:1].astype(np.float32)})[0]), 1)
    except Exception:  # the runtime raises half a dozen unrelated types
        width = 72
    head = [node("Reshape", None, "row"), node("Gemm", None, "w_out", "b_out", transB=1)]
    weights = {"row": ints(1, -1), "w_out": array(3, width, seed=8), "b_out": array(3, seed=9)}
    return model_of([*nodes, *head], {**dict(constants), **weights}, opset=opset)


@pytest.mark.parametrize(("nodes", "constants", "opset"), EVERY)
def test_it_is_read_as_onnxruntime_reads_it_or_refused(nodes, constants, opset, tmp_path):
    model = headed(nodes, constants, opset)
    try:
        network = imported(model, tmp_path)
    except ModelError:
        return
    theirs = network.original.logits(POINTS)
    ours = network.graph.forward(torch.from_numpy(POINTS)).numpy()
    assert np.abs(ours - theirs).max() <= 2e-6 * max(np.abs(theirs).max(), 1)
    replayed = np.concatenate([OnnxEvaluator(model, "logits").logits(one[None], 1) for one in POINTS])
    assert np.abs(ours - replayed).max() <= 1e-9 * max(np.abs(replayed).max(), 1)


def attributes_of(operator, form):
    """Every attribute that a version of the operator has which the table takes."""
    versions = [v for v in range(form.since, LATEST + 1) if defs.has(operator, v, "")]
    return {name for version in versions for name in defs.get_schema(operator, version, "").attributes}


@pytest.mark.parametrize(
    ("operator", "form", "cases"),
    [(name, form, CASES[name]) for name, form in COMPUTED.items()]
    + [(name, form, CONSTANT_CASES[name]) for name, form in CONSTANT.items()],
)
def test_every_argument_is_in_the_table_and_tried(operator, form, cases):
    latest = defs.get_schema(operator, LATEST, "")
    assert attributes_of(operator, form) - REFUSED_OUTRIGHT == set(form.attributes)
    assert len(form.inputs) == max(
        len(defs.get_schema(operator, version, "").inputs)
        for version in range(form.since, LATEST + 1)
        if defs.has(operator, version, "")
    )
    nodes = [one for nodes, _, _ in cases for one in nodes if one[0] == operator]
    tried = {name for _, _, attributes in nodes for name in attributes}
    assert set(form.attributes) <= tried
    most = max(sum(bool(name) or name is None for name in inputs) for _, inputs, _ in nodes)
    assert most >= min(len(latest.inputs), len(form.inputs))


# Constants of words or with holes: no network has them among its numbers.
REFUSED_OUTRIGHT = {"value_string", "value_strings", "sparse_value"}


def test_the_table_is_that_of_the_rules():
    assert set(COMPUTED) == set(OPERATORS)
    assert set(CONSTANT) == {*FOLDS, "Constant"}
    assert {
        name for form in COMPUTED.values() for name, rule in form.attributes.items() if rule is UNREAD
    } == {
        "momentum",
        "ratio",
        "seed",
        "saturate",
        "round_mode",
        "extrapolation_value",
        "activation_alpha",
        "activation_beta",
        "detect_negative",
        "detect_positive",
        "qk_matmul_output_mode",
        "softmax_precision",
    }


@pytest.mark.parametrize("opset", [1, 5, 6, LATEST + 1])
def test_versions_that_mean_something_else_are_refused(opset, tmp_path):
    nodes = [node("Add", None, "half"), *FLATTENED, node("Gemm", None, "w", "b")]
    model = model_of(nodes, {**HALF, "w": array(72, 3), "b": array(3)}, opset=opset)
    with pytest.raises(ModelError, match=rf"layer 'Add' .* operator set {opset}; allowed are 7 to {LATEST}"):
        imported(model, tmp_path)


@pytest.mark.parametrize(
    ("sizes", "opset", "attributes"),
    [
        ((), 11, {"split": [1, 4, 1], "axis": 2}),
        ((1, 4, 1), 13, {"axis": 2}),
        ((), 13, {"axis": -1}),
        ((), 18, {"axis": 2, "num_outputs": 3}),
        ((3, 2, 1), 18, {"axis": 2}),
    ],
)
def test_the_parts_of_a_split_are_read_each(sizes, opset, attributes, tmp_path):
    inputs = ["image", "sizes"] if sizes else ["image"]
    parts = helper.make_node("Split", inputs, ["a", "b", "c"], **attributes)
    constants = {"sizes": ints(*sizes), "w": array(72, 3, seed=8)}
    rest = [node("Relu", "c"), node("Concat", "a", "b", None, axis=attributes["axis"]), *FLATTENED]
    model = model_of([*rest, node("Gemm", None, "w")], constants, opset=opset)
    model.graph.node.insert(0, parts)
    network = imported(model, tmp_path)
    ours = network.graph.forward(torch.from_numpy(POINTS)).numpy()
    assert np.allclose(ours, network.original.logits(POINTS), atol=2e-6)
    assert np.allclose(
        network.graph.gradient_at(torch.from_numpy(POINTS), 1), network.original.gradients(POINTS, 1)
    )


@pytest.mark.parametrize("operator", sorted({*COMPUTED, *CONSTANT} - {"Constant"}))
def test_inputs_that_are_missing_are_refused(operator, tmp_path):
    needed = defs.get_schema(operator, LATEST, "").min_input
    for inputs in ([], [""] * needed, ["image", *[""] * (needed - 1)][: max(needed - 1, 0)]):
        model = model_of([node("Add", "image", "v"), *FLATTENED], opset=18)
        model.graph.node.insert(0, helper.make_node(operator, inputs, ["v"]))
        with pytest.raises(ModelError):
            imported(model, tmp_path)


def test_uneven_parts_and_other_outputs_are_refused(tmp_path):
    for operator, outputs, attributes, message in [
        ("Split", ["v", "w", "x", "y"], {"axis": 2}, "split into"),
        ("MaxPool", ["m", "v"], {"kernel_shape": [2, 2]}, "reads 'v', which nothing before it makes"),
    ]:
        model = model_of([node("Relu", "v"), *FLATTENED], opset=13)
        model.graph.node.insert(0, helper.make_node(operator, ["image"], outputs, **attributes))
        with pytest.raises(ModelError, match=message):
            imported(model, tmp_path)


@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_the_list_of_layers_says_how_it_is_verified(operator, tmp_path):
    sort, found = sort_of(OPERATORS[operator]), set()
    for nodes, constants, opset in CASES[operator]:
        with contextlib.suppress(ModelError):
            found.add(imported(headed(nodes, constants, opset), tmp_path).graph.piecewise_linear)
        if found:
            break
    assert found == {sort is not Sort.BOUNDS}
