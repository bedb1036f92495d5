"""Smooth ONNX operators, and those in which values meet, with usual and unusual arguments."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnx_files import array, ints, node

ONE = {"one": np.float32(1)}


def smooth_cases(case: Callable, before: list) -> dict[str, list]:
    """Cases by operator; `case` makes one, and `before` moves the pixels to both sides of 0."""
    factors = {"s": array(2) + 1, "b": array(2, seed=1)}
    over = {"s": array(6) + 1, "b": array(6, seed=1)}
    # Numbers that are all the same leave nothing to a norm but rounding.
    uneven = [*before, node("Mul", None, "u")]
    factors, over = ({**own, "u": array(2, 6, 6, seed=4) + np.float32(1)} for own in (factors, over))
    # Within -1 and 1, where inverse functions exist, and nowhere near these.
    within = [node("Sigmoid", None), *before]
    return {
        **{
            name: [case(name, before=within), case(name, before=before)]
            for name in ("Acos", "Asin", "Atanh", "Tan")
        },
        "Acosh": [case("Acosh", before=[node("Exp", None), node("Add", None, "one")], constants=ONE)],
        "Asinh": [case("Asinh", before=before)],
        "ReduceProd": [
            case("ReduceProd", None, axes=a, keepdims=k, before=before, opset=11)
            for a in ([1], [2, 3], [-1])
            for k in (0, 1)
        ]
        + [
            case("ReduceProd", None, "a", opset=18, constants={"a": ints(1)}, noop_with_empty_axes=1),
            case("ReduceProd", None, opset=18, noop_with_empty_axes=1),
        ],
        "Exp": [case("Exp", before=before)],
        "GroupNormalization": [
            case("GroupNormalization", None, "s", "b", constants=factors, opset=opset, before=uneven, **more)
            for opset in (18, 21)
            for more in (
                {"num_groups": 1, "stash_type": 1},
                {"num_groups": 2, "epsilon": 0.1},
                {"num_groups": 3},
                {},
            )
        ],
        "InstanceNormalization": [
            case("InstanceNormalization", None, "s", "b", constants=factors, before=uneven, **more)
            for more in ({}, {"epsilon": 0.1}, {"epsilon": 0.0})
        ],
        "LRN": [
            case("LRN", None, before=before, **more)
            for more in ({"size": 1}, {"size": 3, "alpha": 0.4, "beta": 0.6, "bias": 2.0}, {"size": 2}, {})
        ],
        "LayerNormalization": [
            case("LayerNormalization", None, *names, constants=over, before=uneven, opset=17, **more)
            for names in (("s", "b"), ("s",))
            for more in ({}, {"axis": 3, "epsilon": 0.1}, {"axis": 2}, {"axis": 0}, {"stash_type": 1})
        ],
        "LpNormalization": [
            case("LpNormalization", None, before=[node("Sigmoid", None)], **more)
            for more in ({}, {"axis": 1}, {"p": 1}, {"p": 1, "axis": 2}, {"p": 2, "axis": 2}, {"axis": 0})
        ],
        "LogSoftmax": [
            case("LogSoftmax", None, before=before, opset=opset, **more)
            for opset in (11, 13)
            for more in ({}, {"axis": 2}, {"axis": -1}, {"axis": 0})
        ],
        "Log": [
            case("Log", before=[node("Sigmoid", None), node("Add", None, "one")], constants=ONE),
            case("Log", before=[node("Sigmoid", None)]),
            case("Log", before=[node("Softmax", None, axis=-1)]),
            case("Log", before=[node("Exp", None), node("Add", None, "one")], constants=ONE),
            case("Log", before=[node("Exp", None)]),
            case("Log", before=before),
        ],
        **{
            f"Reduce{what}": [
                case(f"Reduce{what}", None, axes=a, keepdims=k, before=[node("Exp", None)], opset=11)
                for a in ([1], [2, 3], [-1])
                for k in (0, 1)
            ]
            + [
                case(f"Reduce{what}", None, "a", opset=18, constants={"a": ints(1)}, noop_with_empty_axes=1),
                case(f"Reduce{what}", None, opset=18, noop_with_empty_axes=1),
            ]
            for what in ("LogSum", "LogSumExp")
        },
        "Pow": [
            case("Pow", None, "e", before=b, constants={"e": np.float32(e)})
            for b in ([node("Sigmoid", None)], before)
            for e in (2, 3, 1, 0, -1, 0.5, [2, 3], [[2]], float("nan"))
        ]
        + [
            case("Pow", "base", None, before=before, constants={"base": np.float32(b)})
            for b in (1.7, 0.3, 1, [0.5, 1, 1.5, 2, 3, 4], 0, -2, [[1], [-1]], float("inf"))
        ]
        + [
            case("Pow", None, "image", before=[node("Exp", None), node("Add", None, "one")], constants=ONE),
            case("Pow", None, "image", before=before),
        ],
        "RMSNormalization": [
            case("RMSNormalization", None, "s", constants=over, before=uneven, opset=23, **more)
            for more in ({"stash_type": 1}, {"epsilon": 0.1, "axis": -1}, {"axis": 2})
        ],
        "Reciprocal": [
            case("Reciprocal", before=[node("Sigmoid", None)]),
            case("Reciprocal", before=before),
        ],
        "ReduceL2": [
            case("ReduceL2", None, axes=a, keepdims=k) for a in ([1], [2, 3], [0], [7]) for k in (0, 1)
        ]
        + [
            case("ReduceL2", None, "a", opset=18, constants={"a": ints(1)}, noop_with_empty_axes=1),
            case("ReduceL2", None, opset=18, noop_with_empty_axes=1),
        ],
        "ReduceSumSquare": [
            case("ReduceSumSquare", None, axes=a, keepdims=k) for a in ([1], [2, 3], [-1]) for k in (0, 1)
        ]
        + [
            case("ReduceSumSquare", None, "a", opset=18, constants={"a": ints(1)}, noop_with_empty_axes=0),
        ],
        "Softmax": [
            case("Softmax", None, before=before, opset=opset, axis=axis, after=[node("Add", None, "image")])
            for opset in (11, 13)
            for axis in (-1, 1, 2, 3, 0, 4)
        ],
        "Sqrt": [case("Sqrt", before=[node("Sigmoid", None)]), case("Sqrt", before=before)],
        "Swish": [case("Swish", before=before, opset=24, alpha=a) for a in (1.0, -0.5, 0.0)],
    }
