"""What a node of an ONNX file may look like: every attribute and every input of each operator.

Nothing else passes: an attribute that is not in the table, a value that its line does not allow, an input of
another kind, a version of the operator that means something else. So no argument is read in part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from onnx import TensorProto, defs

LATEST = 28
"""The last version of the operator set that the table was held against."""

FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE)
"""The types of numbers that a network may compute in."""

# What `helper.get_attribute_value` makes of an attribute of each type.
_TYPES: dict[Any, type] = {
    defs.OpSchema.AttrType.INT: int,
    defs.OpSchema.AttrType.INTS: list,
    defs.OpSchema.AttrType.FLOAT: float,
    defs.OpSchema.AttrType.FLOATS: list,
    defs.OpSchema.AttrType.STRING: bytes,
    defs.OpSchema.AttrType.STRINGS: list,
    defs.OpSchema.AttrType.TENSOR: np.ndarray,
}


@dataclass(frozen=True)
class Allowed:
    """The values of an attribute that are read in full, and the words for them."""

    words: str
    fits: Callable[[Any], bool]
    show: Callable[[Any], str] = repr


class Kind(Enum):
    """What an input may be."""

    COMPUTED = "a value computed from the image"
    WEIGHT = "a constant"
    NUMBER = "a constant of one number"
    WHOLES = "a constant list of whole numbers"
    EITHER = "a value computed from the image or a constant"
    UNREAD = "a constant, without effect in evaluation"
    NO_TRAINING = "false"
    NOTHING = "nothing: export the network without it"


@dataclass(frozen=True)
class Form:
    """An operator: its attributes, its inputs in order (the last may be repeated), and its first version."""

    attributes: Mapping[str, Allowed] = field(default_factory=dict)
    inputs: Sequence[tuple[str, Kind]] = (("input", Kind.COMPUTED),)
    since: int = 1
    repeated: bool = False


def complaint(
    operator: str, form: Form, opset: int, attributes: Mapping[str, Any], inputs: Sequence[Any]
) -> tuple[str, str] | None:
    """What is wrong with a node and what is allowed, or None; inputs are arrays, None, or computed values."""
    if not form.since <= opset <= LATEST or not defs.has(operator, opset, ""):
        return (
            f"it is of operator set {opset}",
            f"allowed are {form.since} to {LATEST} where it is defined; export the network for one "
            "of these, or convert the file with onnx.version_converter",
        )
    schema = defs.get_schema(operator, opset, "")
    if schema.deprecated:
        return (
            f"it is no part of operator set {opset}",
            "allowed are operators that are; export the network again",
        )
    known, needed = schema.attributes, schema.min_input
    missing = [place for place in range(needed) if place >= len(inputs) or inputs[place] is None]
    if missing:
        return f"its input {missing[0]} is missing", f"allowed is one with its first {needed} inputs"
    for name, value in attributes.items():
        if name not in form.attributes or name not in known:
            allowed = ", ".join(sorted({*form.attributes} & {*known})) or "none"
            return f"it has an attribute {name!r}", f"allowed are {allowed}; export the network without it"
        rule = form.attributes[name]
        if not isinstance(value, _TYPES.get(known[name].type, ())) or not rule.fits(value):
            return f"its {name} is {rule.show(value)}", f"allowed is {rule.words}"
    if len(inputs) > len(form.inputs) and not form.repeated:
        return f"it has {len(inputs)} inputs", f"allowed are at most {len(form.inputs)}"
    for place, value in enumerate(inputs):
        name, kind = form.inputs[min(place, len(form.inputs) - 1)]
        if value is not None and not _is_of(kind, value):
            found = _shown(value) if isinstance(value, np.ndarray) else "computed from the image"
            return f"its {name} is {found}", f"allowed is {kind.value}"
    return None


def _is_of(kind: Kind, value: Any) -> bool:
    if kind is Kind.NOTHING:
        return False
    if not isinstance(value, np.ndarray):
        return kind in (Kind.EITHER, Kind.COMPUTED)
    if kind is Kind.COMPUTED:
        return False
    if kind is Kind.NUMBER:
        return value.size == 1
    if kind is Kind.WHOLES:
        return np.issubdtype(value.dtype, np.integer) and value.ndim <= 1
    return (value.size == 1 and not value.any()) if kind is Kind.NO_TRAINING else True


def _shown(value: np.ndarray) -> str:
    several = f"a constant of shape {value.shape} and type {value.dtype}"
    return f"the constant {value.tolist()}" if value.size == 1 else several
