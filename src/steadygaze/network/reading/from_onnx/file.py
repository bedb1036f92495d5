"""Opening an ONNX file: all weights in memory, none of them read from outside the model's folder."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper
from onnx.inliner import inline_local_functions

from steadygaze.errors import ModelError
from steadygaze.network.building import check_size


def open_onnx(path: Path) -> onnx.ModelProto:
    """The model with its external weights read in; raises ModelError if that cannot be done."""
    try:
        model = onnx.load_model(str(path), load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise ModelError(
            f"{path} cannot be read as an ONNX model ({error}); allowed are files written by an ONNX "
            "exporter, export the network again"
        ) from error
    if model.functions:
        model = _inlined(model)
    if not model.graph.node:
        raise ModelError(
            f"{path} holds no layers; allowed are ONNX models with a graph, export the network again"
        )
    for tensor in tensors_of(model):
        if tensor.data_location == TensorProto.EXTERNAL:
            _read_external(tensor, path)
    return model


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its own functions written out, as exporters leave layers that they made of several.

    One that cannot be written out stays, and is refused by the name of its function.
    """
    try:
        return inline_local_functions(model)
    except (RuntimeError, ValueError):
        return model


def constant_of(tensor: TensorProto) -> np.ndarray:
    """The numbers of a constant; its shape is checked against the bytes present before memory is taken."""
    shape = tuple(tensor.dims)
    name = tensor.name or "a constant"
    if min(shape, default=0) < 0 or tensor.data_type not in helper.get_all_tensor_dtypes():
        raise ModelError(
            f"{name} has shape {shape} and data type {tensor.data_type}, which no ONNX constant has; "
            "export the network again"
        )
    if 0 not in shape:
        check_size(shape, name)
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(
            f"{name} does not hold the numbers its shape {shape} promises ({error}); export the network again"
        ) from error


def tensors_of(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Every constant of the file, in weights and in attributes, those of branches among them."""
    for graph in graphs_of(model.graph):
        yield from graph.initializer
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.TENSOR:
                    yield attribute.t


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph, and those of branches within it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from graphs_of(attribute.g)


def _read_external(tensor: TensorProto, path: Path) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = _found(entries.get("location", ""), path)
    if location is None:
        raise ModelError(
            f"{path} keeps {tensor.name} in {entries.get('location')!r}, allowed is a file in the model's "
            "own folder, or beside what the model's file links to; put the file there or save the network as "
            "one file"
        )
    try:
        offset = int(entries.get("offset", 0))
        length = int(entries.get("length", location.stat().st_size - offset))
    except ValueError as error:
        raise ModelError(
            f"{path} says of {tensor.name} in {location.name} what is no number ({error}); export the "
            "network again"
        ) from error
    expected = math.prod(tensor.dims) * np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
    if offset < 0 or length != expected or offset + length > location.stat().st_size:
        raise ModelError(
            f"{path} promises {expected} bytes of {tensor.name} in {location.name}, which holds {length} "
            "for it; export the network again"
        )
    with location.open("rb") as stream:
        stream.seek(offset)
        tensor.raw_data = stream.read(length)
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]


def _found(location: str, path: Path) -> Path | None:
    """The file of external data, or None where it is not in the model's folder.

    Stores of models keep a link for every file, all pointing into one folder: there the data lies beside the
    file that the model's link points to. A link that leads anywhere else is not followed.
    """
    named = Path(location)
    if not location or "\0" in location or named.is_absolute() or ".." in named.parts:
        return None
    folders = (path.parent.resolve(), path.resolve().parent)
    for folder in folders:
        target = (folder / named).resolve()
        if target.is_file() and any(target.is_relative_to(home) for home in folders):
            return target
    return None
