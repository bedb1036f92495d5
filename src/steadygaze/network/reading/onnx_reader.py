"""ONNX model -> graph: walks the file's nodes, folding what is constant and assembling the rest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper

from steadygaze.errors import ModelError
from steadygaze.network.reading.assembly import Assembler, Value
from steadygaze.network.reading.onnx_constants import FOLDS, fold
from steadygaze.network.reading.onnx_file import constant_of
from steadygaze.network.reading.onnx_operators import OPERATORS, Call

_FINAL = ("Softmax", "LogSoftmax")
_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class OnnxReading:
    """The logits as a value of the assembler, their name in the file, and what was left out after them."""

    logits: Value
    logits_name: str
    dropped: str | None


def input_of(model: onnx.ModelProto) -> onnx.ValueInfoProto:
    """The only input that is not a weight."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [one for one in model.graph.input if one.name not in weights]
    if len(inputs) != 1:
        raise ModelError(
            f"the network has {len(inputs)} inputs {[one.name for one in inputs]}, allowed is one, the "
            "image; export the network with the others fixed"
        )
    return inputs[0]


def input_sizes(model: onnx.ModelProto) -> tuple[int | None, ...]:
    """The declared shape of the input; None where the file leaves a size open."""
    kind = input_of(model).type.tensor_type
    if not kind.HasField("shape"):
        raise ModelError(
            "the network's input declares no shape; export the network again with its input's shape"
        )
    return tuple(size.dim_value if size.dim_value > 0 else None for size in kind.shape.dim)


def read_onnx(model: onnx.ModelProto, assembler: Assembler, image: Value) -> OnnxReading:
    """Append the network's layers to `assembler`, reading `image`, whose shape is the file's input's.

    Raises ModelError, naming the layer, for anything outside the table of operators.
    """
    _check_operators(model)
    known: dict[str, Value | np.ndarray] = {t.name: constant_of(t) for t in model.graph.initializer}
    known[input_of(model).name] = image
    output, dropped = _output_of(model)
    opset = max((entry.version for entry in model.opset_import if entry.domain in _DOMAINS), default=1)
    for node in model.graph.node:
        if dropped is not None and node.output[0] == dropped.output[0]:
            continue
        known[node.output[0]] = _result(node, known, assembler, opset)
    logits = known.get(output)
    if not isinstance(logits, Value):
        raise ModelError(
            f"the network's output {output!r} does not depend on the image; export the network again"
        )
    if dropped is not None:
        _check_softmax(dropped, assembler.shape(logits), opset)
    return OnnxReading(logits, output, None if dropped is None else dropped.op_type)


def _check_operators(model: onnx.ModelProto) -> None:
    allowed = {*OPERATORS, *FOLDS, *_FINAL, "Constant"}
    for node in model.graph.node:
        if node.op_type not in allowed or node.domain not in _DOMAINS:
            supported = ", ".join(sorted({*OPERATORS, *_FINAL}))
            raise ModelError(
                f"{_title(node)} is not supported; supported are {supported} (the last two as the output "
                "only), and constants computed from shapes; build the network from these"
            )


def _output_of(model: onnx.ModelProto) -> tuple[str, NodeProto | None]:
    """The name of the logits, and the final softmax that follows them, if any."""
    names = [one.name for one in model.graph.output]
    if len(names) != 1:
        raise ModelError(
            f"the network has {len(names)} outputs {names}, allowed is one, the logits; export only those"
        )
    final = next((node for node in model.graph.node if names[0] in node.output), None)
    if final is not None and final.op_type in _FINAL:
        return final.input[0], final
    return names[0], None


def _check_softmax(node: NodeProto, shape: tuple[int, ...], opset: int) -> None:
    axis = _attributes(node).get("axis", 1 if opset < 13 else -1) % len(shape)
    # Before version 13 the axes from `axis` on were taken together.
    together = math.prod(shape[axis:]) if opset < 13 else shape[axis]
    if together != math.prod(shape):
        raise ModelError(
            f"{_title(node)} works along axis {axis} of {shape}, allowed is one over all classes"
        )


def _result(
    node: NodeProto, known: dict[str, Value | np.ndarray], assembler: Assembler, opset: int
) -> Value | np.ndarray:
    assembler.where = _title(node)
    attributes = _attributes(node)
    if node.op_type == "Constant":
        return _constant(node, attributes)
    inputs = tuple(_input(node, name, known) for name in node.input)
    if node.op_type == "Shape" and isinstance(inputs[0], Value):
        shape = np.array(assembler.shape(inputs[0]), dtype=np.int64)
        return shape[attributes.get("start", 0) : attributes.get("end")]
    if any(isinstance(one, Value) for one in inputs):
        if node.op_type not in OPERATORS:
            raise assembler.refuse(
                "its input is computed from the image",
                f"allowed are constants there, and {', '.join(sorted(OPERATORS))} on computed values",
            )
        return OPERATORS[node.op_type](Call(assembler, inputs, attributes, opset))
    if node.op_type not in FOLDS:
        raise assembler.refuse(
            "its inputs are constants", "allowed is a layer that works on the image; fold it"
        )
    try:
        return fold(node.op_type, [one for one in inputs if not isinstance(one, Value)], attributes)
    except (ValueError, IndexError, TypeError, KeyError) as error:
        raise assembler.refuse(f"its constants do not fit ({error})", "export the network again") from error


def _input(node: NodeProto, name: str, known: dict[str, Value | np.ndarray]) -> Value | np.ndarray | None:
    if name and name not in known:
        raise ModelError(
            f"{_title(node)} reads {name!r}, which nothing before it makes; export the network again"
        )
    return known[name] if name else None


def _constant(node: NodeProto, attributes: dict[str, Any]) -> np.ndarray:
    if len(attributes) != 1 or "sparse_value" in attributes:
        raise ModelError(
            f"{_title(node)} is sparse or empty, allowed is one dense value; export the network again"
        )
    return np.asarray(next(iter(attributes.values())))


def _attributes(node: NodeProto) -> dict[str, Any]:
    found = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    return {k: constant_of(v) if isinstance(v, onnx.TensorProto) else v for k, v in found.items()}


def _title(node: NodeProto) -> str:
    domain = "" if node.domain in _DOMAINS else f"{node.domain}."
    name = node.name or (node.output[0] if node.output else "?")
    return f"layer {domain + node.op_type!r} (node {name!r})"
