"""The table of ONNX operators: what a node of each may look like, argument by argument."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from onnx import TensorProto

from steadygaze.network.reading.from_onnx.forms import FLOATS, Allowed, Form, Kind

_WHOLE = (
    TensorProto.BOOL,
    TensorProto.INT8,
    TensorProto.INT16,
    TensorProto.INT32,
    TensorProto.INT64,
    TensorProto.UINT8,
    TensorProto.UINT16,
    TensorProto.UINT32,
    TensorProto.UINT64,
)


def _only(value: int, words: str) -> Allowed:
    return Allowed(words, lambda given: given == value)


def _word(*words: str) -> Allowed:
    def text(given: bytes) -> str:
        return given.decode(errors="replace") if isinstance(given, bytes) else repr(given)

    return Allowed(" or ".join(words), lambda given: text(given) in words, lambda given: repr(text(given)))


def _texts(given: Sequence[bytes]) -> str:
    return ", ".join(one.decode(errors="replace") for one in given)


def _functions(*names: bytes) -> Allowed:
    return Allowed(
        f"{_texts(names)} in each direction", lambda given: list(given) in ([*names], [*names] * 2), _texts
    )


def _extent(least: int, times: int = 1, most: int = 2) -> Allowed:
    lengths = [times * dimensions for dimensions in range(1, most + 1)]
    words = "one dimension or two" if most == 2 else "one dimension to three"
    return Allowed(
        f"{' or '.join(map(str, lengths))} whole numbers of at least {least} ({words})",
        lambda given: len(given) in lengths and min(given) >= least,
    )


def _type(words: str, *allowed: int) -> Allowed:
    names = dict(zip(TensorProto.DataType.values(), TensorProto.DataType.keys(), strict=True))
    return Allowed(words, lambda given: given in allowed, lambda given: names.get(given, str(given)))


FLAG = Allowed("0 or 1", lambda given: given in (0, 1))
WHOLE = Allowed("a whole number", lambda given: True)
WHOLES = Allowed("whole numbers", lambda given: True)
COUNT = Allowed("a whole number of at least 1", lambda given: given >= 1)
NUMBER = Allowed("a finite number", math.isfinite)
LIMIT = Allowed("a number", lambda given: not math.isnan(given))
UNREAD = Allowed("anything: it has no effect in evaluation", lambda given: True)
OFF = _only(0, "0: the network in evaluation, export it with model.eval()")
TENSOR = Allowed("a dense tensor", lambda given: True)
TEXT = Allowed("a text", lambda given: True)
ONE = Allowed("a tensor of one number", lambda given: given.size == 1)
FLOAT_TYPE = _type(
    "FLOAT and DOUBLE (and the half precisions): whole numbers jump from one to the next", *FLOATS
)
TYPE = _type("FLOAT, DOUBLE, whole numbers and BOOL", *FLOATS, *_WHOLE)

_PADDING = {"auto_pad": _word("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"), "pads": _extent(0, 2)}
_WINDOW = {
    **_PADDING,
    "strides": _extent(1),
    "dilations": _extent(1),
    "kernel_shape": _extent(1),
    "ceil_mode": FLAG,
}
_DEEP_WINDOW = {
    **_WINDOW,
    "pads": _extent(0, 2, 3),
    **dict.fromkeys(("strides", "dilations", "kernel_shape"), _extent(1, 1, 3)),
}
_AXES = ("axes", Kind.WHOLES)
_X = ("input", Kind.COMPUTED)
_C = ("input", Kind.WEIGHT)
_REDUCE = {"axes": WHOLES, "keepdims": FLAG, "noop_with_empty_axes": FLAG}
_TWO = (("first operand", Kind.EITHER), ("second operand", Kind.EITHER))
_TWO_CONSTANTS = (("first operand", Kind.WEIGHT), ("second operand", Kind.WEIGHT))
_UNARY = Form(since=6)
_WRITTEN = (("input", Kind.EITHER), ("indices", Kind.WEIGHT), ("updates", Kind.EITHER))

_STEPS = {
    **dict.fromkeys(("activation_alpha", "activation_beta"), UNREAD),
    "clip": Allowed("none", lambda given: False),
    "direction": _word("forward", "reverse", "bidirectional"),
    "hidden_size": COUNT,
    "layout": FLAG,
}
_STATES = [
    ("sequence", Kind.COMPUTED),
    *((name, Kind.WEIGHT) for name in ("weight", "recurrent weight", "bias")),
    ("lengths", Kind.WHOLES),
    ("first state", Kind.WEIGHT),
]
_FACTORS = [_X, ("scale", Kind.WEIGHT), ("bias", Kind.WEIGHT)]
_EPSILON = Allowed("a number above 0", lambda given: 0 < given < math.inf)
# The precision in which a runtime computes the statistics: single.
_STASH = {"stash_type": _only(1, "1")}

_SMOOTH: dict[str, Form] = {
    "Exp": _UNARY,
    "GroupNormalization": Form({"epsilon": _EPSILON, "num_groups": COUNT, **_STASH}, _FACTORS, since=18),
    "InstanceNormalization": Form({"epsilon": _EPSILON}, _FACTORS, since=6),
    "LRN": Form({"alpha": NUMBER, "beta": NUMBER, "bias": _EPSILON, "size": COUNT}),
    "LayerNormalization": Form({"axis": WHOLE, "epsilon": _EPSILON, **_STASH}, _FACTORS),
    "Log": _UNARY,
    "LogSoftmax": Form({"axis": WHOLE}),
    "LpNormalization": Form({"axis": WHOLE, "p": Allowed("1 or 2", lambda given: given in (1, 2))}),
    "Pow": Form(inputs=[("base", Kind.EITHER), ("exponent", Kind.EITHER)], since=7),
    "RMSNormalization": Form({"axis": WHOLE, "epsilon": _EPSILON, **_STASH}, _FACTORS[:2]),
    "Reciprocal": _UNARY,
    "ReduceL2": Form(_REDUCE, [_X, _AXES]),
    "ReduceLogSum": Form(_REDUCE, [_X, _AXES]),
    "ReduceLogSumExp": Form(_REDUCE, [_X, _AXES]),
    "ReduceProd": Form(_REDUCE, [_X, _AXES]),
    "ReduceSumSquare": Form(_REDUCE, [_X, _AXES]),
    "Attention": Form(
        {
            "is_causal": FLAG,
            "scale": NUMBER,
            **dict.fromkeys(("q_num_heads", "kv_num_heads"), COUNT),
            "softcap": _only(0, "0"),
            **dict.fromkeys(("left_window_size", "right_window_size"), _only(-1, "-1: all places")),
            # Of a third output, which no node may read; and the precision in which a runtime computes.
            **dict.fromkeys(("qk_matmul_output_mode", "softmax_precision"), UNREAD),
        },
        [
            *((name, Kind.COMPUTED) for name in ("queries", "keys", "values")),
            ("mask", Kind.EITHER),
            *((name, Kind.NOTHING) for name in ("past keys", "past values", "lengths")),
        ],
        since=23,
    ),
    "GlobalLpPool": Form({"p": COUNT}, since=2),
    "LpPool": Form({**_WINDOW, "p": COUNT}, since=2),
    "Softmax": Form({"axis": WHOLE}),
    "Sqrt": _UNARY,
    "Swish": Form({"alpha": NUMBER}),
}

_STEPPING: dict[str, Form] = {
    **dict.fromkeys(("And", "Greater", "Less", "Or", "Xor"), Form(inputs=_TWO, since=7)),
    **dict.fromkeys(("GreaterOrEqual", "LessOrEqual"), Form(inputs=_TWO)),
    "Equal": Form(inputs=_TWO, since=11),
    "IsInf": Form(dict.fromkeys(("detect_negative", "detect_positive"), UNREAD)),
    "IsNaN": Form(),
    "Not": Form(),
    "Sign": Form(),
    "Where": Form(inputs=[("condition", Kind.EITHER), *_TWO], since=9),
}

COMPUTED: dict[str, Form] = {
    **_SMOOTH,
    **_STEPPING,
    "Abs": _UNARY,
    "Add": Form(inputs=_TWO, since=7),
    **dict.fromkeys(("Acos", "Asin", "Atan", "Cos", "Cosh", "Sin", "Sinh", "Tan"), Form()),
    **dict.fromkeys(("Acosh", "Asinh", "Atanh"), Form()),
    "AveragePool": Form({**_DEEP_WINDOW, "count_include_pad": FLAG}),
    "BatchNormalization": Form(
        {"epsilon": NUMBER, "momentum": UNREAD, "training_mode": OFF, "spatial": _only(1, "1")},
        [_X, *((name, Kind.WEIGHT) for name in ("scale", "bias", "mean", "variance"))],
        since=7,
    ),
    # Saturation and rounding modes are of types of eight bits and less, which are refused.
    "Cast": Form({"to": FLOAT_TYPE, "saturate": UNREAD, "round_mode": UNREAD}, since=6),
    "CastLike": Form(
        {"saturate": UNREAD, "round_mode": UNREAD},
        [("input", Kind.EITHER), ("example", Kind.EITHER)],
        since=15,
    ),
    "Celu": Form({"alpha": NUMBER}),
    "Clip": Form(
        {"min": LIMIT, "max": LIMIT},
        [_X, ("lower limit", Kind.NUMBER), ("upper limit", Kind.NUMBER)],
        since=6,
    ),
    "Concat": Form({"axis": WHOLE}, [("input", Kind.EITHER)], since=4, repeated=True),
    "ConcatFromSequence": Form({"axis": WHOLE, "new_axis": FLAG}, [("sequence", Kind.EITHER)], since=11),
    "Conv": Form(
        {
            **{name: allowed for name, allowed in _DEEP_WINDOW.items() if name != "ceil_mode"},
            "group": COUNT,
        },
        [_X, ("weight", Kind.EITHER), ("bias", Kind.EITHER)],
    ),
    "ConvTranspose": Form(
        {
            **_PADDING,
            "pads": _extent(0, 2, 3),
            **dict.fromkeys(("strides", "dilations", "kernel_shape", "output_shape"), _extent(1, 1, 3)),
            "output_padding": _extent(0, 1, 3),
            "group": COUNT,
        },
        [_X, ("weight", Kind.WEIGHT), ("bias", Kind.WEIGHT)],
    ),
    "Col2Im": Form(
        {**dict.fromkeys(("strides", "dilations"), _extent(1)), "pads": _extent(0, 2)},
        [_X, ("image's shape", Kind.WHOLES), ("block's shape", Kind.WHOLES)],
        since=18,
    ),
    "CumSum": Form({"exclusive": FLAG, "reverse": FLAG}, [_X, ("axis", Kind.NUMBER)], since=11),
    "DepthToSpace": Form({"blocksize": COUNT, "mode": _word("DCR", "CRD")}),
    "Div": Form(inputs=_TWO, since=7),
    "Dropout": Form(
        {"ratio": UNREAD, "seed": UNREAD},
        [_X, ("ratio", Kind.UNREAD), ("training mode", Kind.NO_TRAINING)],
        since=7,
    ),
    "Einsum": Form({"equation": TEXT}, [("operand", Kind.EITHER)], since=12, repeated=True),
    "Elu": Form({"alpha": NUMBER}, since=6),
    "Erf": Form(),
    "Expand": Form(inputs=[_X, ("shape", Kind.WHOLES)], since=8),
    "Flatten": Form({"axis": WHOLE}),
    "Gather": Form({"axis": WHOLE}, [_X, ("indices", Kind.WEIGHT)]),
    "GatherElements": Form({"axis": WHOLE}, [_X, ("indices", Kind.WEIGHT)], since=11),
    "GatherND": Form({"batch_dims": _only(0, "0")}, [_X, ("indices", Kind.WEIGHT)], since=11),
    "Gelu": Form({"approximate": _word("none", "tanh")}),
    "Gemm": Form(
        {"alpha": NUMBER, "beta": NUMBER, "transA": FLAG, "transB": FLAG},
        [_X, ("weight", Kind.WEIGHT), ("bias", Kind.WEIGHT)],
        since=7,
    ),
    "GlobalAveragePool": Form(),
    "GlobalMaxPool": Form(),
    "AffineGrid": Form({"align_corners": FLAG}, [("theta", Kind.COMPUTED), ("size", Kind.WHOLES)], since=20),
    "GridSample": Form(
        {
            "mode": _word("linear", "bilinear", "nearest", "cubic", "bicubic"),
            "padding_mode": _word("zeros", "border", "reflection"),
            "align_corners": FLAG,
        },
        [_X, ("grid", Kind.EITHER)],
        since=16,
    ),
    "GRU": Form(
        {**_STEPS, "activations": _functions(b"Sigmoid", b"Tanh"), "linear_before_reset": FLAG},
        _STATES,
        since=7,
    ),
    "HardSigmoid": Form({"alpha": NUMBER, "beta": NUMBER}, since=6),
    "HardSwish": Form(),
    "Identity": Form(),
    "LeakyRelu": Form({"alpha": NUMBER}, since=6),
    "LSTM": Form(
        {**_STEPS, "activations": _functions(b"Sigmoid", b"Tanh", b"Tanh"), "input_forget": _only(0, "0")},
        [*_STATES, ("first cell", Kind.WEIGHT), ("peepholes", Kind.NOTHING)],
        since=7,
    ),
    "MatMul": Form(inputs=_TWO),
    "Max": Form(inputs=[("operand", Kind.EITHER)], since=8, repeated=True),
    # The order of storage is that of the indices, a second output, which no node may read.
    "MaxPool": Form({**_DEEP_WINDOW, "storage_order": FLAG}),
    "Min": Form(inputs=[("operand", Kind.EITHER)], since=8, repeated=True),
    "Mean": Form(inputs=[("input", Kind.EITHER)], since=8, repeated=True),
    "Mish": Form(),
    "Mul": Form(inputs=_TWO, since=7),
    "Neg": _UNARY,
    "PRelu": Form(inputs=[_X, ("slope", Kind.WEIGHT)], since=7),
    "Pad": Form(
        {"mode": _word("constant", "reflect", "edge", "wrap"), "pads": WHOLES, "value": NUMBER},
        [_X, ("padding", Kind.WHOLES), ("fill", Kind.NUMBER), _AXES],
        since=2,
    ),
    "ReduceL1": Form(_REDUCE, [_X, _AXES]),
    "ReduceMax": Form(_REDUCE, [_X, _AXES]),
    "ReduceMean": Form(_REDUCE, [_X, _AXES]),
    "ReduceMin": Form(_REDUCE, [_X, _AXES]),
    "ReduceSum": Form(_REDUCE, [_X, _AXES]),
    "RNN": Form(
        {
            **_STEPS,
            "activations": Allowed(
                "Relu or Tanh, the same in each direction",
                lambda given: {*given} in ({b"Relu"}, {b"Tanh"}),
                _texts,
            ),
        },
        _STATES,
        since=7,
    ),
    "Relu": _UNARY,
    "Reshape": Form({"allowzero": FLAG}, [_X, ("shape", Kind.WHOLES)], since=5),
    "Resize": Form(
        {
            "mode": _word("nearest", "linear", "cubic"),
            "coordinate_transformation_mode": _word(
                *("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric")
            ),
            "nearest_mode": _word("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"),
            "cubic_coeff_a": NUMBER,
            "exclude_outside": FLAG,
            "extrapolation_value": UNREAD,
            "antialias": FLAG,
            "axes": WHOLES,
            "keep_aspect_ratio_policy": _word("stretch"),
        },
        # What is cut out first is for another mode of coordinates, which is refused.
        # In version 10 scales stand in the place of the region.
        [_X, ("region", Kind.UNREAD), ("scales", Kind.WEIGHT), ("sizes", Kind.WHOLES)],
        since=10,
    ),
    "Shrink": Form({"lambd": NUMBER, "bias": NUMBER}),
    "ScatterElements": Form({"axis": WHOLE, "reduction": _word("none")}, _WRITTEN, since=11),
    "ScatterND": Form({"reduction": _word("none")}, _WRITTEN, since=11),
    "SequenceAt": Form(inputs=[("sequence", Kind.EITHER), ("position", Kind.NUMBER)], since=11),
    "SequenceConstruct": Form(inputs=[("value", Kind.EITHER)], since=11, repeated=True),
    "Selu": Form({"alpha": NUMBER, "gamma": NUMBER}, since=6),
    "Sigmoid": _UNARY,
    "Slice": Form(
        {"starts": WHOLES, "ends": WHOLES, "axes": WHOLES},
        [_X, ("starts", Kind.WHOLES), ("ends", Kind.WHOLES), _AXES, ("steps", Kind.WHOLES)],
    ),
    "Softplus": Form(),
    "Softsign": Form(),
    "SpaceToDepth": Form({"blocksize": COUNT, "mode": _word("DCR", "CRD")}),
    "SplitToSequence": Form({"axis": WHOLE, "keepdims": FLAG}, [_X, ("sizes", Kind.WHOLES)], since=11),
    "Split": Form(
        {"axis": WHOLE, "split": WHOLES, "num_outputs": COUNT}, [_X, ("sizes", Kind.WHOLES)], since=2
    ),
    "Squeeze": Form({"axes": WHOLES}, [_X, _AXES]),
    "Sub": Form(inputs=_TWO, since=7),
    "Sum": Form(inputs=[("input", Kind.EITHER)], since=6, repeated=True),
    "Tanh": _UNARY,
    "ThresholdedRelu": Form({"alpha": NUMBER}),
    "Tile": Form(inputs=[_X, ("repeats", Kind.WHOLES)], since=6),
    "Transpose": Form({"perm": Allowed("axes from 0 on", lambda given: min(given, default=0) >= 0)}),
    "Trilu": Form({"upper": FLAG}, [_X, ("diagonal", Kind.NUMBER)], since=14),
    "Unsqueeze": Form({"axes": WHOLES}, [_X, _AXES]),
    "Upsample": Form(
        {"mode": _word("nearest", "linear"), "scales": Allowed("numbers", lambda given: True)},
        [_X, ("scales", Kind.WEIGHT)],
        since=7,
    ),
}
"""Operators with an input that is computed from the image."""

HELD: dict[str, Form] = {
    **COMPUTED,
    "Cast": Form({"to": TYPE, "saturate": UNREAD, "round_mode": UNREAD}, since=6),
}
"""The same where an input is held (see `AbstractHeld`): truth values may become whole numbers."""

CONSTANT: dict[str, Form] = {
    "Add": Form(inputs=_TWO_CONSTANTS, since=7),
    **dict.fromkeys(("And", "Greater", "Less", "Or"), Form(inputs=_TWO_CONSTANTS, since=7)),
    **dict.fromkeys(("Ceil", "Floor"), Form(inputs=[_C], since=6)),
    **dict.fromkeys(("Cos", "Sin"), Form(inputs=[_C])),
    **dict.fromkeys(("GreaterOrEqual", "LessOrEqual"), Form(inputs=_TWO_CONSTANTS)),
    **dict.fromkeys(("Max", "Min"), Form(inputs=[_C], since=8, repeated=True)),
    "Cast": Form({"to": TYPE, "saturate": UNREAD, "round_mode": UNREAD}, [_C], since=6),
    "Concat": Form({"axis": WHOLE}, [_C], since=4, repeated=True),
    "Constant": Form(
        {
            "value": TENSOR,
            "value_float": Allowed("a number", lambda given: True),
            "value_floats": Allowed("numbers", lambda given: True),
            "value_int": WHOLE,
            "value_ints": WHOLES,
        },
        (),
    ),
    "ConstantOfShape": Form({"value": ONE}, [("shape", Kind.WHOLES)]),
    "DequantizeLinear": Form(
        {
            "axis": WHOLE,
            "block_size": Allowed("a whole number of at least 0", lambda given: given >= 0),
            "output_dtype": _type("FLOAT, or none", TensorProto.UNDEFINED, TensorProto.FLOAT),
        },
        [_C, ("scale", Kind.WEIGHT), ("zero point", Kind.WEIGHT)],
        since=10,
    ),
    "Div": Form(inputs=_TWO_CONSTANTS, since=7),
    "Equal": Form(inputs=_TWO_CONSTANTS, since=7),
    "Expand": Form(inputs=[_C, ("shape", Kind.WHOLES)]),
    "Flatten": Form({"axis": WHOLE}, [_C]),
    "Gather": Form({"axis": WHOLE}, [_C, ("indices", Kind.WEIGHT)]),
    "Identity": Form(inputs=[_C]),
    "MatMul": Form(inputs=_TWO_CONSTANTS),
    "Mod": Form({"fmod": FLAG}, _TWO_CONSTANTS, since=10),
    "Mul": Form(inputs=_TWO_CONSTANTS, since=7),
    "Neg": Form(inputs=[_C], since=6),
    "Not": Form(inputs=[_C]),
    "Pow": Form(inputs=_TWO_CONSTANTS, since=7),
    "Range": Form(
        {"stash_type": _only(1, "1")}, [(name, Kind.NUMBER) for name in ("start", "limit", "delta")]
    ),
    "ReduceProd": Form(_REDUCE, [_C, _AXES]),
    "Reshape": Form({"allowzero": FLAG}, [_C, ("shape", Kind.WHOLES)], since=5),
    "Shape": Form({"start": WHOLE, "end": WHOLE}, [("input", Kind.EITHER)]),
    "Size": Form(inputs=[_C]),
    "Slice": Form(COMPUTED["Slice"].attributes, [_C, *COMPUTED["Slice"].inputs[1:]]),
    "Sqrt": Form(inputs=[_C], since=6),
    "Squeeze": Form({"axes": WHOLES}, [_C, _AXES]),
    "Sub": Form(inputs=_TWO_CONSTANTS, since=7),
    "Tile": Form(inputs=[_C, ("repeats", Kind.WHOLES)], since=6),
    "Transpose": Form(COMPUTED["Transpose"].attributes, [_C]),
    "Unsqueeze": Form({"axes": WHOLES}, [_C, _AXES]),
    "Where": Form(inputs=[("condition", Kind.WEIGHT), *_TWO_CONSTANTS], since=9),
}
"""Operators whose inputs are all constants of the file (or which only look at a shape)."""


def constant_form(operator: str) -> Form:
    """What a node may look like whose inputs are all constants: its own line, or that of computed values."""
    if operator in CONSTANT:
        return CONSTANT[operator]
    form = COMPUTED[operator]
    kinds = {Kind.COMPUTED: Kind.WEIGHT, Kind.EITHER: Kind.WEIGHT}
    # A batch norm in training makes standardised weights of weights.
    attributes = {name: FLAG if name == "training_mode" else own for name, own in form.attributes.items()}
    inputs = [(name, kinds.get(kind, kind)) for name, kind in form.inputs]
    return replace(form, attributes=attributes, inputs=inputs)
