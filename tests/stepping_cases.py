"""ONNX operators that compare, choose, hide and attend, with usual and unusual arguments."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import TensorProto

from onnx_files import array, ints, node

EDGE = {"c": np.float32(0.25), "w": np.float32(0.2), "n": np.float32(-0.2), "z": np.float32(0.0)}


def compared(case: Callable, before: list) -> dict[str, list]:
    """Comparisons, and what is made of them, that come together again: the larger, or the smaller, of two."""

    def chosen(operator, *inputs, after, before=(), opset=13, constants=()):
        return case(
            operator, *inputs, before=before, after=after, opset=opset, constants={**EDGE, **dict(constants)}
        )

    larger = [node("Where", None, "v0", "c")]
    smaller = [node("Where", None, "c", "v0")]
    band = [*before, node("Greater", None, "n"), node("Less", "v0", "w"), node("Abs", "v0")]
    beyond = [*before, node("Less", None, "n"), node("Greater", "v0", "w"), node("Abs", "v0")]
    both = [*before, node("Greater", None, "n"), node("Greater", "v0", "w"), node("Abs", "v0")]
    halves = [node("Cast", None, to=TensorProto.FLOAT), node("Mul", None, "v0"), node("Div", None, "c")]
    cases = {
        "Greater": [
            *(
                chosen("Greater", None, "c", before=before, after=larger, opset=opset)
                for opset in (9, 11, 13)
            ),
            chosen("Greater", "c", None, before=before, after=smaller),
            chosen("Greater", None, "image", before=before, after=[node("Where", None, "v0", "image")]),
            chosen("Greater", None, "image", before=before, after=[node("Where", None, "image", "v0")]),
            chosen("Greater", None, "z", before=before, after=halves),
            chosen("Greater", None, "z", before=before, after=[node("Mul", None, "v0")]),
            chosen("Greater", None, "k", before=before, after=larger, constants={"k": array(2, 1, 1)}),
            chosen("Greater", None, "c", before=before, after=[node("Where", None, "v0", "z")]),
        ],
        "Less": [chosen("Less", None, "c", before=before, after=smaller, opset=opset) for opset in (9, 13)],
        "GreaterOrEqual": [chosen("GreaterOrEqual", None, "c", before=before, after=larger)],
        "LessOrEqual": [chosen("LessOrEqual", "c", None, before=before, after=larger)],
        "Equal": [
            chosen("Equal", None, "c", before=before, after=smaller, opset=opset) for opset in (11, 13)
        ],
        "Not": [chosen("Not", None, before=[*before, node("Greater", None, "c")], after=smaller)],
        "And": [chosen("And", "v1", "v2", before=band, after=[node("Where", None, "w", "v3")])],
        "Or": [chosen("Or", "v1", "v2", before=beyond, after=[node("Where", None, "v3", "w")])],
        "Xor": [chosen("Xor", "v1", "v2", before=both, after=[node("Where", None, "w", "v3")])],
        "Sign": [
            chosen("Sign", None, before=before, after=[node("Mul", None, "v0")]),
            chosen("Sign", None, before=before, after=[node("Mul", None, "w"), node("Sub", "v0", None)]),
        ],
        "IsNaN": [chosen("IsNaN", None, before=before, after=smaller)],
        "IsInf": [
            case(
                "IsInf",
                None,
                before=before,
                after=smaller,
                constants=EDGE,
                detect_negative=a,
                detect_positive=b,
            )
            for a in (0, 1)
            for b in (0, 1)
        ],
    }
    masks = {"m": np.tri(6, dtype=bool), "f": array(2, 6, 6, seed=5), "i": np.float32(-np.inf)}
    masks |= {"all": np.ones((1, 2, 6, 6), bool), "rows": np.array([[True], [False]] * 3)}
    soft = [node("Softmax", None, axis=-1)]
    cases["Where"] = [
        case("Where", name, *inputs, before=before, constants={**EDGE, **masks}, after=after)
        for name, inputs, after in (
            *(("m", (None, "f"), ()), ("m", ("image", None), ()), ("all", (None, "f"), ())),
            *(("m", (None, "i"), soft), ("rows", (None, "i"), soft), ("m", (None, "i"), ())),
        )
    ]
    return cases


def attending(case: Callable) -> dict[str, list]:
    """Attention of the image with itself: heads on an axis of their own, or in rows."""
    rows, constants = [node("Reshape", None, "s")], {"s": ints(1, 9, 8), "m": array(6, 6, seed=3)}
    constants |= {"seen": np.tri(6, dtype=bool), "none": np.zeros((6, 6), bool), "past": array(1, 2, 3, 6)}
    turned = [node("Mul", None, "m")]
    heads = {"q_num_heads": 2, "kv_num_heads": 2}
    given = (
        *(((), {}), ((), {"scale": 0.3}), (("m",), {}), (("seen",), {}), (("none",), {})),
        *(((), {"is_causal": 1}), (("m",), {"is_causal": 1}), (("seen",), {"is_causal": 1})),
        *(((), {"softcap": 1.0}), ((), {"qk_matmul_output_mode": 0}), ((), {"softmax_precision": 1})),
        (("m", "past", "past", "past"), {}),
        ((), {"left_window_size": 2, "right_window_size": 1}),
    )
    cases = [
        case(
            "Attention",
            None,
            "image",
            "v0",
            *more,
            before=turned,
            constants=constants,
            opset=24,
            **attributes,
        )
        for more, attributes in given
    ]
    cases += [
        case("Attention", None, *["v0"] * 2, before=rows, constants=constants, opset=23, **attributes)
        for attributes in (heads, {**heads, "is_causal": 1}, {"q_num_heads": 4, "kv_num_heads": 4}, {})
    ]
    return {"Attention": cases}


def recurrent(case: Callable) -> list:
    """RNN along the image as a sequence: activations, directions, states, layouts."""
    constants = {"s": ints(6, 1, 12), "t": ints(1, 6, 12), "l": np.array([6], np.int32)}
    constants |= {"w": array(1, 3, 12), "r": array(1, 3, 3, seed=1), "b": array(1, 6, seed=2)}
    constants |= {"w2": array(2, 3, 12), "r2": array(2, 3, 3, seed=1), "h": array(1, 1, 3, seed=3)}
    relu, turned = {"activations": ["Relu"], "hidden_size": 3}, [node("Reshape", None, "s")]
    two = {"activations": ["Relu", "Relu"], "hidden_size": 3}
    own = {"before": turned, "constants": constants, "opset": 14}
    return [
        case("RNN", None, "w", "r", **own, **relu),
        case("RNN", None, "w", "r", "b", "l", "h", **own, **relu, direction="reverse"),
        case("RNN", None, "w2", "r2", **own, **two, direction="bidirectional"),
        case("RNN", None, "w", "r", "b", **{**own, "before": [node("Reshape", None, "t")]}, **relu, layout=1),
        case("RNN", None, "w", "r", **own, hidden_size=3),
        case("RNN", None, "w", "r", **own, **relu, clip=0.1),
        case("RNN", None, "w", "r", **own, activations=["Tanh"], hidden_size=3),
        case("RNN", None, "w", "r", **own, **relu, activation_alpha=[0.5], activation_beta=[0.5]),
    ]  # fmt: skip


def gated(case: Callable, operator: str, gates: int) -> list:
    """GRU and LSTM along the image as a sequence, as RNN before them."""
    size, opset = 3, 14
    wide = gates * size
    constants = {"s": ints(6, 1, 12), "t": ints(1, 6, 12), "l": np.array([6], np.int32)}
    constants |= {"w": array(1, wide, 12), "r": array(1, wide, 3, seed=1), "b": array(1, 2 * wide, seed=2)}
    constants |= {"w2": array(2, wide, 12), "r2": array(2, wide, 3, seed=1), "b2": array(2, 2 * wide, seed=2)}
    constants |= {"h": array(1, 1, 3, seed=3), "c": array(1, 1, 3, seed=4), "p": array(1, 9, seed=5)}
    own = {"before": [node("Reshape", None, "s")], "constants": constants, "opset": opset}
    plain, first = {"hidden_size": size}, ("h", "c") if operator == "LSTM" else ("h",)
    once = ["Sigmoid", "Tanh", "Tanh"][: len(first) + 1]
    rows = {**own, "before": [node("Reshape", None, "t")]}
    cases = [
        case(operator, None, "w", "r", **own, **plain),
        case(operator, None, "w", "r", "b", "l", *first, **own, **plain, direction="reverse"),
        case(operator, None, "w2", "r2", "b2", **own, **plain, direction="bidirectional"),
        case(operator, None, "w", "r", "b", **rows, **plain, layout=1),
        case(operator, None, "w", "r", **own, **plain, activations=once),
        case(operator, None, "w", "r", **own, **plain, activations=["Relu", *once[1:]]),
        case(operator, None, "w", "r", **own, **plain, clip=0.1),
        case(operator, None, "w", "r2", **own, **plain),
        case(operator, None, "w", "r", **own, **plain, activation_alpha=[0.5], activation_beta=[0.5]),
    ]
    if operator == "LSTM":
        return [
            *cases,
            case(operator, None, "w", "r", "b", "l", "h", "c", "p", **own, **plain),
            *(case(operator, None, "w", "r", **own, **plain, input_forget=flag) for flag in (0, 1)),
        ]
    late = [
        case(operator, None, "w", "r", "b", "", *more, **own, **plain, linear_before_reset=flag)
        for flag in (0, 1)
        for more in ((), first)
    ]
    return cases + late


def listed(case: Callable, before: list) -> dict[str, list]:
    """Sequences, made and taken apart again; none is an output."""
    joined = node("ConcatFromSequence", None, axis=-1)
    own = {
        "before": before,
        "constants": {"a": np.int64(-1), "m": ints(4, 2), "t": np.int64(4), "b": array(6)},
    }
    wide = own["constants"] | {"c": array(1, 2, 6, 6), "f": np.int64(3)}
    pair = [*before, node("SequenceConstruct", None, "c", "image")]
    cut, last = {**own, "opset": 11}, [node("SequenceAt", None, "a")]
    return {
        "SequenceConstruct": [
            case("SequenceConstruct", None, "image", **own, after=[joined]),
            case("SequenceConstruct", None, **own, after=[joined]),
            case("SequenceConstruct", None, **own, after=[node("Relu", None)]),
            case("SequenceConstruct", "b", "b", **own, after=[node("ConcatFromSequence", None, axis=0)]),
        ],
        "ConcatFromSequence": [
            case("ConcatFromSequence", None, before=pair, constants=wide, axis=axis, new_axis=new)
            for axis, new in ((1, 0), (-1, 0), (1, 1), (4, 1), (-1, 1), (5, 0), (0, 0))
        ],
        "SequenceAt": [
            case("SequenceAt", None, place, before=pair, constants=wide, after=[node("Add", "image", None)])
            for place in ("a", "t", "f")
        ],
        "SplitToSequence": [
            *(case("SplitToSequence", None, "m", **cut, axis=axis, after=[joined]) for axis in (2, 3, 0)),
            case("SplitToSequence", None, "t", **cut, axis=2, after=last),
            *(case("SplitToSequence", None, **cut, axis=1, keepdims=keep, after=last) for keep in (0, 1)),
        ],
    }


def summed_up(case: Callable, before: list) -> dict[str, list]:
    """CumSum, Col2Im, AffineGrid, GridSample and CastLike."""
    places = np.random.default_rng(5).uniform(-1.2, 1.2, (1, 4, 3, 2)).astype(np.float32)
    rows = {"r": ints(1, 4, 18), "b": ints(2, 2), "n": ints(6), "o": ints(2)}
    reshaped = [*before, node("Reshape", None, "r")]
    return {
        "CumSum": [
            case("CumSum", None, "a", before=before, constants={"a": np.int64(axis)}, **more)
            for axis, more in (
                (3, {}),
                (-2, {"exclusive": 1}),
                (1, {"reverse": 1}),
                (2, {"exclusive": 1, "reverse": 1}),
                (0, {}),
                (4, {}),
            )
        ],
        "Col2Im": [
            case(
                "Col2Im",
                None,
                "i",
                "b",
                opset=18,
                before=reshaped,
                constants={**rows, "i": ints(*size)},
                **more,
            )
            for size, more in (
                ((7, 4), {}),
                ((6, 6), {"pads": [1, 0, 0, 1], "strides": [1, 2]}),
                ((6, 4), {"pads": [1, 0, 1, 1], "dilations": [2, 2]}),
                ((13, 4), {"strides": [2, 1]}),
                ((4, 5), {}),
            )
        ]
        + [case("Col2Im", None, "n", "o", opset=18, before=reshaped, constants=rows, strides=[2])],
        "AffineGrid": [
            case(
                "AffineGrid",
                None,
                "z",
                opset=20,
                before=[
                    node("Flatten", None),
                    node("Slice", None, "s", "e", "o"),
                    node("Reshape", None, "t"),
                ],
                after=after,
                constants={
                    "s": ints(0),
                    "e": ints(6),
                    "o": ints(1),
                    "t": ints(1, 2, 3),
                    "z": ints(1, 2, *size),
                },
                **more,
            )
            for size in ((4, 3), (4, 3, 2))
            for more in ({}, {"align_corners": 1})
            for after in ([], [node("GridSample", "image", None)])
        ],
        "GridSample": [
            case("GridSample", None, "g", opset=opset, before=before, constants={"g": places}, **more)
            for opset, names in (
                (16, ("bilinear", "nearest", "bicubic")),
                (20, ("linear", "nearest", "cubic")),
            )
            for name in names
            for more in (
                {"mode": name},
                {"mode": name, "padding_mode": "border", "align_corners": 1},
                {"mode": name, "padding_mode": "reflection"},
            )
        ],
        "CastLike": [
            case("CastLike", None, "f", opset=15, before=before, constants={"f": np.float32(1)}),
            case("CastLike", None, "f", opset=15, before=before, constants={"f": np.int64(1)}),
            case(
                "CastLike",
                "c",
                "image",
                opset=25,
                saturate=1,
                round_mode="up",
                constants={"c": np.arange(6)},
                after=[node("Add", "image", None)],
            ),
        ],
    }


def upsampled(case: Callable) -> list:
    """Upsample of old operator sets, and Resize of version 10."""
    scales = ([1, 1, 2, 3], [1, 1, 1.5, 2], [1, 1, 0.5, 1], [1, 2, 1, 1])
    modes = ({"mode": "nearest"}, {"mode": "linear"}, {})
    cases = [
        case("Upsample", None, opset=7, scales=[float(n) for n in one], **m) for one in scales for m in modes
    ]
    return cases + [
        case("Upsample", None, "s", opset=9, constants={"s": np.float32(one)}, **m)
        for one in scales
        for m in modes
    ]
