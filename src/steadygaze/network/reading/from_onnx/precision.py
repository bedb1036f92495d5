"""The file as a network of real numbers: half precision widened to single, whole-number inputs to real ones.

A verdict is about the real-valued network with the given weights. Rounding to half precision inside the
network, and rounding pixels to whole numbers before it, are not part of that; both are left out on reading,
for the graph and for the original alike, and the answer says so.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from steadygaze.errors import ModelError
from steadygaze.network.reading.from_onnx.file import constant_of, graphs_of, tensors_of

_HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
_REALS = (TensorProto.FLOAT, TensorProto.DOUBLE)
# What whole numbers may go through before they are cast: operators that only move them.
_MOVING = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose")


@dataclass(frozen=True)
class Half:
    """A kind of numbers of half precision: its name, and the distance from 1 to the next number."""

    name: str
    rounding: float


_KINDS = {
    TensorProto.FLOAT16: Half("float16", 2.0**-10),
    TensorProto.BFLOAT16: Half("bfloat16", 2.0**-7),
}


@dataclass(frozen=True)
class RealFile:
    """The file to read and to run, what a pixel of 1 is to it, and what was left out, in words.

    halves are the kinds of half precision in the file as it was handed in.
    """

    model: onnx.ModelProto
    scale: float
    notes: tuple[str, ...]
    halves: tuple[Half, ...]


def real_file(model: onnx.ModelProto, image: str) -> RealFile:
    """The file in single or double precision, taking real numbers.

    Raises ModelError where the input has another type, or whole numbers are computed with before a cast.
    """
    kind = next(one for one in model.graph.input if one.name == image).type.tensor_type.elem_type
    if kind not in (*_REALS, *_HALVES, TensorProto.UINT8):
        raise ModelError(
            f"the network takes an input of type {_type_name(kind)}, allowed are FLOAT, DOUBLE, FLOAT16, "
            "BFLOAT16 and UINT8 (pixels times 255); export it for one of these"
        )
    whole = kind == TensorProto.UINT8
    halves = tuple(_KINDS[half] for half in _HALVES if kind == half or half in _kinds_in(model))
    if not whole and not halves:
        return RealFile(model, 1.0, (), ())
    if whole:
        _check_cast_first(model, image)
    real = _retyped(model, _HALVES)
    if whole:
        source = next(one for one in real.graph.input if one.name == image)
        source.type.tensor_type.elem_type = TensorProto.FLOAT
    notes = ("whole-number pixels taken as real numbers",) if whole else ()
    return RealFile(real, 255.0 if whole else 1.0, notes, halves)


def in_single(model: onnx.ModelProto) -> onnx.ModelProto:
    """The file with double precision rounded to single, for a runtime that has no double precision."""
    return _retyped(model, (TensorProto.DOUBLE,))


def _kinds_in(model: onnx.ModelProto) -> set[int]:
    return {one.data_type for one in tensors_of(model)} | {attribute.i for attribute in _casts(model)}


def _retyped(model: onnx.ModelProto, kinds: Collection[int]) -> onnx.ModelProto:
    """The file with constants, casts, inputs and outputs of those types in single precision instead."""
    real = onnx.ModelProto()
    real.CopyFrom(model)
    # What the file says of the types of values in between is found again by the runtime.
    del real.graph.value_info[:]
    for one in (*real.graph.input, *real.graph.output):
        if one.type.tensor_type.elem_type in kinds:
            one.type.tensor_type.elem_type = TensorProto.FLOAT
    for tensor in tensors_of(real):
        if tensor.data_type in kinds:
            single = constant_of(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(single, tensor.name))
    for attribute in _casts(real):
        attribute.i = TensorProto.FLOAT if attribute.i in kinds else attribute.i
    return real


def _casts(model: onnx.ModelProto) -> list[onnx.AttributeProto]:
    casts = (node for graph in graphs_of(model.graph) for node in graph.node if node.op_type == "Cast")
    return [attribute for node in casts for attribute in node.attribute if attribute.name == "to"]


def _check_cast_first(model: onnx.ModelProto, image: str) -> None:
    whole = {image}
    for node in model.graph.node:
        if whole.isdisjoint(node.input):
            continue
        if node.op_type in _MOVING and node.input[0] in whole and whole.isdisjoint(node.input[1:]):
            whole.update(node.output)
        elif node.op_type not in ("Cast", "Shape"):
            raise ModelError(
                f"layer {node.op_type!r} (node {node.name!r}) computes with the whole numbers of the input, "
                "allowed is a Cast to FLOAT first; export the network with one"
            )


def _type_name(kind: int) -> str:
    names = dict(zip(TensorProto.DataType.values(), TensorProto.DataType.keys(), strict=True))
    return names.get(kind, str(kind))
