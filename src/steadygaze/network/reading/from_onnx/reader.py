"""ONNX model -> graph: walks the file's nodes, folding what is constant and assembling the rest."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper

from steadygaze.errors import ModelError
from steadygaze.network.reading.assembling.assembly import Assembler, Value
from steadygaze.network.reading.assembling.held import AbstractHeld
from steadygaze.network.reading.from_onnx import branches
from steadygaze.network.reading.from_onnx.calls import Call, Made
from steadygaze.network.reading.from_onnx.constants import FOLDS, fold, shape_of
from steadygaze.network.reading.from_onnx.estimators import DOMAIN, ESTIMATORS
from steadygaze.network.reading.from_onnx.file import constant_of
from steadygaze.network.reading.from_onnx.forms import complaint
from steadygaze.network.reading.from_onnx.heads import Head, needed
from steadygaze.network.reading.from_onnx.operators import HELD_OPERATORS, OPERATORS
from steadygaze.network.reading.from_onnx.others import DOMAINS, way_out
from steadygaze.network.reading.from_onnx.sequences import RULES as SEQUENCES
from steadygaze.network.reading.from_onnx.sequences import TAKEN, Listed
from steadygaze.network.reading.from_onnx.table import COMPUTED, CONSTANT, HELD, constant_form
from steadygaze.network.reading.onnx_gradients.evaluator import computed_of_constants

_OTHERS = {DOMAIN: ESTIMATORS}


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


def input_sizes(model: onnx.ModelProto) -> tuple[int | str | None, ...]:
    """The declared shape of the input: where the file leaves a size open its name there, or None."""
    kind = input_of(model).type.tensor_type
    if not kind.HasField("shape"):
        raise ModelError(
            "the network's input declares no shape; export the network again with its input's shape"
        )
    sizes = tuple(_declared(size) for size in kind.shape.dim)
    if 0 in sizes:
        raise ModelError(
            f"the network's input is declared with an axis of 0 entries, got shape {sizes}, allowed are "
            "sizes of at least 1; export the network again"
        )
    return sizes


def _declared(size: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if size.WhichOneof("value") == "dim_value":
        return size.dim_value if size.dim_value >= 0 else None
    return size.dim_param or None


def read_onnx(model: onnx.ModelProto, assembler: Assembler, image: Value, head: Head) -> OnnxReading:
    """Append the network's layers up to `head` to `assembler`, reading `image`, shaped as the file's input.

    Raises ModelError, naming the layer, for anything outside the table of operators.
    """
    nodes = needed(model, head.logits)
    _check_operators(nodes)
    _check_names(model)
    known: dict[str, Value | AbstractHeld | np.ndarray] = {
        t.name: constant_of(t) for t in model.graph.initializer
    }
    known[input_of(model).name] = image
    opset = max((entry.version for entry in model.opset_import if entry.domain in DOMAINS), default=1)
    sizes = input_sizes(model)
    any_size = not all(isinstance(size, int) for size in sizes[1:] or sizes)
    for node in nodes:
        made = _outputs(node, known, assembler, opset)
        if any_size and node.op_type == "Reshape" and isinstance(reshaped := made[node.output[0]], Value):
            _check_not_several(node, known, reshaped, assembler)
        known.update(made)
    logits = known.get(head.logits)
    if isinstance(logits, AbstractHeld):
        raise logits.refusal(assembler)
    if not isinstance(logits, Value):
        raise ModelError(
            f"the network's output {head.logits!r} does not depend on the image; export the network again"
        )
    if head.final is not None and head.final.op_type == "Sigmoid":
        if math.prod(assembler.shape(logits)) > 1:
            return read_onnx(model, assembler, image, head.whole)
    elif head.final is not None:
        _check_softmax(head.final, assembler.shape(logits), opset)
    _check_one_row(model, head, assembler.shape(logits))
    return OnnxReading(logits, head.logits, None if head.final is None else head.final.op_type)


def _check_operators(nodes: Sequence[NodeProto]) -> None:
    for node in nodes:
        known = {*COMPUTED, *CONSTANT, "If"} if node.domain in DOMAINS else _OTHERS.get(node.domain, ())
        if node.op_type not in known:
            raise ModelError(
                f"{_title(node)} is not supported; allowed are the layers that `steadygaze layers` lists; "
                f"{way_out(node)}"
            )


def _check_names(model: onnx.ModelProto) -> None:
    names = [one.name for one in model.graph.initializer]
    names += [name for node in model.graph.node for name in node.output if name]
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise ModelError(
            f"the network makes {twice!r} twice, allowed is one value for each name; export it again"
        )


def _check_not_several(
    node: NodeProto, known: Mapping[str, Value | AbstractHeld | np.ndarray], made: Value, assembler: Assembler
) -> None:
    """Rows as many as there are: in a file for images of any size they are the batch."""
    shape, wanted = assembler.shape(made), known[node.input[1]]
    if len(shape) > 1 and shape[0] > 1 and isinstance(wanted, np.ndarray) and wanted[0] == -1:
        raise assembler.refuse(
            f"it makes {shape[0]} rows of one image, of {math.prod(shape[1:])} numbers each",
            "allowed is one row; hand in an image of the size that the network was made for, or --resize it",
        )


def _check_one_row(model: onnx.ModelProto, head: Head, shape: tuple[int, ...]) -> None:
    """An image that is not the network's own may pass as several: then there are several rows of logits."""
    kind = next((o.type.tensor_type for o in model.graph.output if o.name == head.logits), None)
    sizes = [] if kind is None else [_declared(size) for size in kind.shape.dim]
    disagree = len(sizes) == len(shape) and any(
        isinstance(size, int) and size != found for size, found in zip(sizes, shape, strict=True)
    )
    if disagree or sum(size > 1 for size in shape) > 1:
        declared = f" (declared as {tuple(sizes)})" if sizes else ""
        raise ModelError(
            f"for one image the network's output {head.logits!r} has shape {shape}{declared}, allowed is one "
            "row, a number for each class; hand in an image of the size that the network was made "
            "for, or --resize it"
        )


def _check_softmax(node: NodeProto, shape: tuple[int, ...], opset: int) -> None:
    axis = _attributes(node).get("axis", 1 if opset < 13 else -1)
    fits = -len(shape) <= axis < len(shape)
    # Before version 13 the axes from `axis` on were taken together.
    together = shape[axis:] if opset < 13 else shape[axis : axis + 1 or None]
    if not fits or math.prod(together) != math.prod(shape):
        raise ModelError(
            f"{_title(node)} works along axis {axis} of {shape}, allowed is one over all classes"
        )


def _result(
    node: NodeProto, known: Mapping[str, Value | AbstractHeld | np.ndarray], assembler: Assembler, opset: int
) -> Made:
    assembler.where = _title(node)
    attributes = _attributes(node)
    inputs = tuple(_input(node, name, known) for name in node.input)
    held = next((one for one in inputs if isinstance(one, AbstractHeld)), None)
    if held is not None:
        return _of_held(node, Call(assembler, inputs, attributes, len(node.output), opset), held)
    if node.domain == DOMAIN:
        return ESTIMATORS[node.op_type](Call(assembler, inputs, attributes, len(node.output), opset))
    computed = any(isinstance(one, Value) for one in inputs) and node.op_type != "Shape"
    computed = computed or node.op_type in SEQUENCES  # of constants, too, they make sequences
    if computed and node.op_type not in COMPUTED:
        raise ModelError(
            f"{assembler.where} is not supported for values computed from the image; allowed there are the "
            f"operators that `steadygaze layers` lists for them; {way_out(node)}"
        )
    form = COMPUTED[node.op_type] if computed else constant_form(node.op_type)
    wrong = complaint(node.op_type, form, opset, attributes, inputs)
    if wrong is not None:
        raise assembler.refuse(*wrong)
    if computed:
        return OPERATORS[node.op_type](Call(assembler, inputs, attributes, len(node.output), opset))
    if node.op_type == "Constant":
        return _constant(node, attributes)
    if isinstance(inputs[0], Value):
        return shape_of(assembler.shape(inputs[0]), attributes)
    constants = [one for one in inputs if not isinstance(one, (Value, AbstractHeld))]
    try:
        if node.op_type in FOLDS:
            return fold(node.op_type, constants, attributes)
        return computed_of_constants(node, constants, opset)
    except (ValueError, IndexError, TypeError, KeyError, ArithmeticError, RuntimeError) as error:
        raise assembler.refuse(f"its constants do not fit ({error})", "export the network again") from error


def _outputs(
    node: NodeProto, known: Mapping[str, Value | AbstractHeld | np.ndarray], assembler: Assembler, opset: int
) -> dict[str, Value | AbstractHeld | np.ndarray]:
    """What a node makes, by name; of an `If`, what the branch that is taken makes.

    Further outputs (the indices of a pooling, the mask of a dropout) are unknown to whoever reads them.
    """
    if node.op_type != "If" or node.domain not in DOMAINS:
        made = _result(node, known, assembler, opset)
        return dict(zip(node.output, made if isinstance(made, tuple) else (made,), strict=False))
    inner = branches.taken(node, _input(node, node.input[0], known), _title(node))
    _check_operators(inner.node)
    within = {**known, **{one.name: constant_of(one) for one in inner.initializer}}
    for one in inner.node:
        within.update(_outputs(one, within, assembler, opset))
    return {name: within[one.name] for name, one in zip(node.output, inner.output, strict=True)}


def _of_held(node: NodeProto, call: Call, held: AbstractHeld) -> Made:
    """What an operator makes of what is held; most refuse it."""
    rules = TAKEN if isinstance(held, Listed) else HELD_OPERATORS
    if node.op_type not in rules:
        raise held.refusal(call.assembler)
    wrong = complaint(node.op_type, HELD[node.op_type], call.opset, call.attributes, call.inputs)
    if wrong is not None:
        raise call.assembler.refuse(*wrong)
    return rules[node.op_type](call)


def _input(
    node: NodeProto, name: str, known: Mapping[str, Value | AbstractHeld | np.ndarray]
) -> Value | AbstractHeld | np.ndarray | None:
    if name and name not in known:
        raise ModelError(
            f"{_title(node)} reads {name!r}, which nothing before it makes; export the network again"
        )
    return known[name] if name else None


def _constant(node: NodeProto, attributes: dict[str, Any]) -> np.ndarray:
    if len(attributes) != 1:
        raise ModelError(
            f"{_title(node)} holds {len(attributes)} values, allowed is one; export the network again"
        )
    ((name, value),) = attributes.items()
    kinds = {
        "value_int": np.int64,
        "value_ints": np.int64,
        "value_float": np.float32,
        "value_floats": np.float32,
    }
    return np.asarray(value, kinds.get(name))


def _attributes(node: NodeProto) -> dict[str, Any]:
    found = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    return {k: constant_of(v) if isinstance(v, onnx.TensorProto) else v for k, v in found.items()}


def _title(node: NodeProto) -> str:
    domain = "" if node.domain in DOMAINS else f"{node.domain}."
    name = node.name or (node.output[0] if node.output else "?")
    return f"layer {domain + node.op_type!r} (node {name!r})"
