"""Small ONNX files made on the spot: nodes in a chain, and a case for each operator."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from steadygaze.network.reading.load import load_network

SHAPE = (2, 6, 6)


def array(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(np.float32)


def ints(*numbers):
    return np.array(numbers, dtype=np.int64)


def node(operator, *inputs, **attributes):
    """A node that reads `inputs` (None: the node before it)."""
    return operator, inputs, attributes


def model_of(nodes, constants=(), opset=13, batch=1, shape=SHAPE, outputs=("logits",)):
    """A file of `nodes` in a chain, ended by a flattening and a dense layer that makes three logits."""
    made, before = [], "image"
    for place, (operator, inputs, attributes) in enumerate(nodes):
        names = [before if one is None else one for one in inputs]
        made.append(
            helper.make_node(operator, names, [f"v{place}"], name=f"{operator}_{place}", **attributes)
        )
        before = f"v{place}"
    made[-1].output[0] = outputs[0]
    weights = [numpy_helper.from_array(value, name) for name, value in dict(constants).items()]
    graph = helper.make_graph(
        made,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, *shape])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def with_head(nodes, constants, width, **options):
    head = [node("Flatten", None), node("Gemm", None, "w_out", "b_out", transB=1)]
    head_weights = {"w_out": array(3, width, seed=8), "b_out": array(3, seed=9)}
    return model_of([*nodes, *head], {**dict(constants), **head_weights}, **options)


def imported(model, folder, **options):
    path = folder / "net.onnx"
    onnx.save(model, path)
    return load_network(path, **{"input_shape": SHAPE, **options})


C = {"k": array(3, 2, 3, 3), "b": array(3, seed=1)}
POOL = {"kernel_shape": [3, 2], "strides": [2, 1]}

# name: nodes, constants, numbers at the end, opset
TWO = [node("Conv", None, "q"), node("Conv", "image", "r")]
MIXED = {"q": array(2, 2, 1, 1, seed=3), "r": array(2, 2, 1, 1, seed=4)}
OPERATORS = {
    "abs": ([node("Conv", None, "k"), node("Abs", None)], C, 48, 13),
    "conv-one-dimension": (
        [
            node("Flatten", None),
            node("Reshape", None, "s"),
            node("Conv", None, "w", strides=[2], pads=[1, 2]),
        ],
        {"s": ints(0, 4, 18), "w": array(3, 4, 4)},
        27,
        13,
    ),
    "conv-transpose": (
        [node("ConvTranspose", None, "w", "b", strides=[2, 1], pads=[1, 0, 0, 1], output_padding=[1, 0])],
        {"w": array(2, 3, 3, 2), "b": array(3, seed=1)},
        234,
        13,
    ),
    "conv-transpose-groups": (
        [node("ConvTranspose", None, "w", group=2, strides=[2, 2], pads=[1, 1, 1, 1])],
        {"w": array(2, 2, 3, 3)},
        484,
        13,
    ),
    "concat-constant": (
        [node("Concat", "c", None, axis=1), node("Relu", None)],
        {"c": array(1, 1, 6, 6)},
        108,
        13,
    ),
    "depth-to-space": (
        [node("Reshape", None, "s"), node("DepthToSpace", None, blocksize=2, mode="CRD"), node("Relu", None)],
        {"s": ints(0, 8, 3, 3)},
        72,
        13,
    ),
    "einsum": ([node("Einsum", None, "w", equation="bchw,cd->bhdw")], {"w": array(2, 3)}, 108, 13),
    "expand": (
        [node("ReduceSum", None, "x", keepdims=1), node("Expand", None, "s")],
        {"x": ints(1), "s": ints(1, 3, 1, 1)},
        108,
        13,
    ),
    "gather": ([node("Gather", None, "i", axis=2), node("Relu", None)], {"i": ints(5, 0, 0, -2)}, 48, 13),
    "global-max-pool-large": (
        [node("Pad", None, "p", mode="edge"), node("GlobalMaxPool", None)],
        {"p": ints(0, 0, 8, 8, 0, 0, 7, 7)},
        2,
        13,
    ),
    "hard-sigmoid": ([node("Conv", None, "k"), node("HardSigmoid", None, alpha=1.5)], C, 48, 13),
    "matmul-of-channels": ([node("MatMul", None, "w")], {"w": array(1, 2, 6, 3)}, 36, 13),
    "max": ([*TWO, node("Max", "v0", None, "c")], {**MIXED, "c": array(2, 1, 1)}, 72, 13),
    "min": ([*TWO, node("Min", "c", None, "v0")], {**MIXED, "c": array(6)}, 72, 13),
    "max-pool-one-dimension": (
        [node("Reshape", None, "s"), node("MaxPool", None, kernel_shape=[3], strides=[2])],
        {"s": ints(0, 4, 18)},
        32,
        13,
    ),
    "pad-reflect": ([node("Pad", None, "p", mode="reflect")], {"p": ints(0, 0, 1, 2, 0, 0, 3, 1)}, 180, 13),
    "pad-edge": ([node("Pad", None, "p", mode="edge")], {"p": ints(0, 1, 1, 2, 0, 0, 3, 1)}, 270, 13),
    "pad-wrap": ([node("Pad", None, "p", mode="wrap")], {"p": ints(0, 0, 1, 2, 0, 0, 3, 1)}, 180, 19),
    "reduce-max": ([node("ReduceMax", None, axes=[1, 2], keepdims=0)], {}, 6, 13),
    "reduce-min": ([node("ReduceMin", None, "x", keepdims=1)], {"x": ints(3)}, 12, 18),
    "reduce-sum": ([node("ReduceSum", None, "x", keepdims=0)], {"x": ints(1, 3)}, 6, 13),
    "reduce-mean-channels": ([node("ReduceMean", None, axes=[1])], {}, 36, 13),
    "resize-nearest": (
        [node("Resize", None, "", "s", coordinate_transformation_mode="asymmetric", nearest_mode="floor")],
        {"s": np.float32([1, 1, 2, 1.5])},
        216,
        13,
    ),
    "resize-linear": (
        [node("Resize", None, "", "", "n", mode="linear")],
        {"n": ints(1, 2, 9, 4)},
        72,
        13,
    ),
    "resize-cubic": (
        [node("Resize", None, "", "s", mode="cubic", coordinate_transformation_mode="align_corners")],
        {"s": np.float32([1, 1, 1.5, 2])},
        216,
        13,
    ),
    "shrink": ([node("Conv", None, "k"), node("Shrink", None, lambd=0.1, bias=0.1)], C, 48, 13),
    "space-to-depth": ([node("SpaceToDepth", None, blocksize=3), node("Relu", None)], {}, 72, 13),
    "thresholded": ([node("Conv", None, "k"), node("ThresholdedRelu", None, alpha=0.0)], C, 48, 13),
    "tile": (
        [node("Tile", None, "n"), node("Conv", None, "q")],
        {"n": ints(1, 2, 1, 2), "q": array(2, 4, 3, 1)},
        96,
        13,
    ),
    "conv": ([node("Conv", None, "k", "b")], C, 48, 13),
    "conv-pads": ([node("Conv", None, "k", pads=[1, 0, 2, 1], strides=[2, 1])], C, 60, 13),
    "conv-same-upper": ([node("Conv", None, "k", "b", auto_pad="SAME_UPPER", strides=[2, 2])], C, 27, 13),
    "conv-same-lower": ([node("Conv", None, "k", "b", auto_pad="SAME_LOWER", strides=[2, 2])], C, 27, 13),
    "conv-valid": ([node("Conv", None, "k", "b", auto_pad="VALID")], C, 48, 13),
    "conv-groups": ([node("Conv", None, "g", group=2, dilations=[2, 1])], {"g": array(4, 1, 2, 3)}, 64, 13),
    "batch-norm": (
        [node("BatchNormalization", None, "s", "t", "m", "v", epsilon=1e-3)],
        {"s": array(2), "t": array(2, seed=1), "m": array(2, seed=2), "v": array(2, seed=3) + 1},
        72,
        13,
    ),
    "batch-norm-before-padding": (
        [node("BatchNormalization", None, "s", "t", "m", "v"), node("Conv", None, "k", pads=[1, 1, 1, 1])],
        {"s": array(2), "t": array(2, seed=1), "m": array(2, seed=2), "v": array(2, seed=3) + 1, **C},
        108,
        13,
    ),
    "relu": ([node("Conv", None, "k", "b"), node("Relu", None)], C, 48, 13),
    "leaky-relu": ([node("Conv", None, "k"), node("LeakyRelu", None, alpha=0.3)], C, 48, 13),
    "leaky-relu-default": ([node("Conv", None, "k"), node("LeakyRelu", None)], C, 48, 13),
    "prelu": ([node("Conv", None, "k"), node("PRelu", None, "p")], {**C, "p": array(3, 1, 1)}, 48, 13),
    "prelu-one": ([node("Conv", None, "k"), node("PRelu", None, "p")], {**C, "p": array(1)}, 48, 13),
    "clip": (
        [node("Conv", None, "k"), node("Clip", None, "lo", "hi")],
        {**C, "lo": np.float32(-0.1), "hi": np.float32(0.2)},
        48,
        13,
    ),
    "clip-upper": (
        [node("Conv", None, "k"), node("Clip", None, "", "hi")],
        {**C, "hi": np.float32(0.1)},
        48,
        13,
    ),
    "clip-old": ([node("Conv", None, "k"), node("Clip", None, min=-0.1, max=0.3)], C, 48, 9),
    "sigmoid": ([node("Conv", None, "k"), node("Sigmoid", None)], C, 48, 13),
    "tanh": ([node("Conv", None, "k"), node("Tanh", None)], C, 48, 13),
    "erf": ([node("Conv", None, "k"), node("Erf", None)], C, 48, 13),
    "atan": ([node("Conv", None, "k"), node("Atan", None)], C, 48, 13),
    "asinh": ([node("Conv", None, "k"), node("Asinh", None)], C, 48, 13),
    "sin": ([node("Conv", None, "k"), node("Sin", None)], C, 48, 13),
    "cos": ([node("Conv", None, "k"), node("Cos", None)], C, 48, 13),
    "softplus": ([node("Conv", None, "k"), node("Softplus", None)], C, 48, 13),
    "gelu": ([node("Conv", None, "k"), node("Gelu", None)], C, 48, 20),
    "elu": ([node("Conv", None, "k"), node("Elu", None, alpha=0.7)], C, 48, 13),
    "selu": ([node("Conv", None, "k"), node("Selu", None)], C, 48, 13),
    "celu": ([node("Conv", None, "k"), node("Celu", None, alpha=1.5)], C, 48, 13),
    "mish": ([node("Conv", None, "k"), node("Mish", None)], C, 48, 18),
    "hard-swish": ([node("Conv", None, "k"), node("HardSwish", None)], C, 48, 14),
    "softsign": ([node("Conv", None, "k"), node("Softsign", None)], C, 48, 13),
    "gelu-tanh": ([node("Conv", None, "k"), node("Gelu", None, approximate="tanh")], C, 48, 20),
    "max-pool": ([node("MaxPool", None, **POOL)], {}, 20, 13),
    "max-pool-pads": ([node("MaxPool", None, pads=[1, 0, 1, 1], **POOL)], {}, 36, 13),
    "max-pool-ceil": ([node("MaxPool", None, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)], {}, 18, 13),
    "max-pool-dilated": ([node("MaxPool", None, kernel_shape=[2, 2], dilations=[3, 2])], {}, 24, 13),
    "max-pool-same": (
        [node("MaxPool", None, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")],
        {},
        18,
        13,
    ),
    "average-pool": ([node("AveragePool", None, **POOL)], {}, 20, 13),
    "average-pool-pads": ([node("AveragePool", None, pads=[1, 0, 1, 1], **POOL)], {}, 36, 13),
    "average-pool-counted": (
        [node("AveragePool", None, pads=[1, 0, 1, 1], count_include_pad=1, **POOL)],
        {},
        36,
        13,
    ),
    "average-pool-ceil": (
        [node("AveragePool", None, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)],
        {},
        18,
        13,
    ),
    "global-average-pool": ([node("GlobalAveragePool", None)], {}, 2, 13),
    "global-max-pool": ([node("GlobalMaxPool", None)], {}, 2, 13),
    "reduce-mean": ([node("ReduceMean", None, axes=[2, 3], keepdims=0)], {}, 2, 13),
    "reduce-mean-rows": ([node("ReduceMean", None, axes=[-2])], {}, 12, 13),
    "reduce-mean-18": ([node("ReduceMean", None, "a")], {"a": ints(2, 3)}, 2, 18),
    "add-constant": ([node("Add", None, "c")], {"c": array(2, 1, 1)}, 72, 13),
    "add-constant-left": ([node("Add", "c", None)], {"c": array(6)}, 72, 13),
    "add-constant-batch": ([node("Add", None, "c")], {"c": array(1, 2, 6, 6)}, 72, 13),
    "sub-constant": ([node("Sub", None, "c")], {"c": array(1, 2, 1, 6)}, 72, 13),
    "sub-from-constant": ([node("Sub", "c", None)], {"c": array(1)}, 72, 13),
    "mul": ([node("Mul", None, "c")], {"c": array(2, 1, 1)}, 72, 13),
    "div": ([node("Div", None, "c")], {"c": array(2, 1, 1) + 1}, 72, 13),
    "neg": ([node("Neg", None)], {}, 72, 13),
    "residual-add": (
        [node("Relu", None), node("Conv", None, "q"), node("Add", None, "v0")],
        {"q": array(2, 2, 1, 1)},
        72,
        13,
    ),
    "residual-sub": (
        [node("Relu", None), node("Conv", None, "q"), node("Sub", "v0", None)],
        {"q": array(2, 2, 1, 1)},
        72,
        13,
    ),
    "twice": ([node("Conv", None, "q"), node("Add", None, None)], {"q": array(2, 2, 1, 1)}, 72, 13),
    "sum": ([node("Conv", None, "q"), node("Sum", None, "image", None)], {"q": array(2, 2, 1, 1)}, 72, 13),
    "concat": (
        [node("Conv", None, "q"), node("Concat", None, "image", axis=1)],
        {"q": array(4, 2, 1, 1)},
        216,
        13,
    ),
    "concat-rows": ([node("Concat", None, "image", axis=-2)], {}, 144, 13),
    "pad": (
        [node("Pad", None, "p", "f")],
        {"p": ints(0, 0, 1, 2, 0, 0, 0, 1), "f": np.float32(0.3)},
        126,
        13,
    ),
    "pad-old": ([node("Pad", None, pads=[0, 0, 1, 2, 0, 0, 0, 1], value=0.2)], {}, 126, 9),
    "pad-axes": ([node("Pad", None, "p", "", "x")], {"p": ints(1, 2), "x": ints(-1)}, 108, 18),
    "slice": (
        [node("Slice", None, "s", "e", "x")],
        {"s": ints(1, 0), "e": ints(6, -2), "x": ints(2, 3)},
        40,
        13,
    ),
    "slice-steps": (
        [node("Slice", None, "s", "e", "x", "t")],
        {"s": ints(1, 0), "e": ints(9, 6), "x": ints(2, 3), "t": ints(2, 3)},
        12,
        13,
    ),
    "slice-old": ([node("Slice", None, starts=[1], ends=[2], axes=[1])], {}, 36, 9),
    "identity-dropout": (
        [node("Identity", None), node("Dropout", None), node("Cast", None, to=1)],
        {},
        72,
        13,
    ),
    "transpose": ([node("Transpose", None, perm=[0, 2, 3, 1])], {}, 72, 13),
    "transpose-batch": ([node("Transpose", None), node("Transpose", None, perm=[3, 0, 2, 1])], {}, 72, 13),
    "reshape-fixed-batch": ([node("Reshape", None, "s"), node("Relu", None)], {"s": ints(1, 72)}, 72, 13),
    "reshape-zero": ([node("Reshape", None, "s")], {"s": ints(0, 0, -1)}, 72, 13),
    "reshape-no-batch": (
        [node("Reshape", None, "s"), node("MatMul", "w", None), node("Reshape", None, "t")],
        {"s": ints(72, 1), "w": array(5, 72), "t": ints(1, -1)},
        5,
        13,
    ),
    "squeeze-unsqueeze": (
        [node("Unsqueeze", None, "a"), node("Squeeze", None, "a"), node("Unsqueeze", None, "z")],
        {"a": ints(1), "z": ints(-1, 2)},
        72,
        13,
    ),
    "squeeze-old": ([node("Unsqueeze", None, axes=[0]), node("Squeeze", None, axes=[0])], {}, 72, 9),
    "matmul-last-axis": (
        [node("MatMul", None, "w"), node("Add", None, "c")],
        {"w": array(6, 4), "c": array(4)},
        48,
        13,
    ),
    "matmul-left": ([node("MatMul", "w", None)], {"w": array(4, 6)}, 48, 13),
    "gemm-scaled": (
        [node("Flatten", None), node("Gemm", None, "w", "c", alpha=0.5, beta=2.0)],
        {"w": array(72, 4), "c": array(1, 4)},
        4,
        13,
    ),
    "gemm-one-bias": (
        [node("Flatten", None), node("Gemm", None, "w", "c")],
        {"w": array(72, 4), "c": array(1)},
        4,
        13,
    ),
    "flatten-negative": ([node("Flatten", None, axis=-3)], {}, 72, 13),
    "shape-chain": (
        [
            node("Shape", None),
            node("Gather", None, "zero"),
            node("Unsqueeze", None, "zero1"),
            node("Concat", None, "minus", axis=0),
            node("Cast", None, to=7),
            node("Reshape", "image", None),
        ],
        {"zero": np.int64(0), "zero1": ints(0), "minus": ints(-1)},
        72,
        13,
    ),
    "shape-arithmetic": (
        [
            node("Shape", None),
            node("Slice", None, "one", "four"),
            node("ReduceProd", None, keepdims=1),
            node("Div", None, "two"),
            node("Mul", None, "two"),
            node("Concat", "one", None, axis=0),
            node("Reshape", "image", None),
        ],
        {"one": ints(1), "four": ints(4), "two": ints(2)},
        72,
        13,
    ),
    "constant-fill": (
        [node("ConstantOfShape", "s"), node("Expand", None, "t"), node("Add", "image", None)],
        {"s": ints(1, 1), "t": ints(6, 6)},
        72,
        13,
    ),
    "constant-transposed": (
        [node("Transpose", "w", perm=[1, 0]), node("MatMul", "image", None)],
        {"w": array(4, 6)},
        48,
        13,
    ),
}
