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
