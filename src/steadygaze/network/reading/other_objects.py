"""Objects that are no modules, and how to get from each to one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence

import onnx
import torch
from torch import Tensor
from torch.export import ExportedProgram

_LOADED = (
    "build the module that they were saved of, load them with load_state_dict(...), and hand in the module"
)
# Kinds of models by the package that they are from: what they are, and the way to a file that is read.
_PACKAGES = {
    "onnxruntime": "is a session of a runtime: give the path of the .onnx file that it was made from",
    "keras": "is a Keras model: write it as ONNX, with model.export('net.onnx', format='onnx'), and give the "
    "path",
    "tensorflow": "is a TensorFlow object: write it as ONNX, with tf2onnx, and give the path",
    "sklearn": "is an estimator: write it as ONNX, with skl2onnx and the option zipmap=False, and give the "
    "path",
    "jax": "is a function of JAX: write it as ONNX, and give the path",
    "flax": "is a module of Flax: write it as ONNX, and give the path",
}

# Under which names skorch, fastai, transformers and PyTorch's own examples keep the module.
_KEPT_UNDER = ("module_", "model", "module", "net", "network")


def way_with(model: object) -> str | None:
    """What an object of another kind is and what to do with it, in words to follow its type; None if unknown.

    Nothing of it is called.
    """
    package = type(model).__module__.partition(".")[0]
    if isinstance(model, Mapping):
        return _of_mapping(model)
    if isinstance(model, ExportedProgram):
        return (
            "is an exported program: hand in program.module(), or save it with torch.export.save(program, "
            "'net.pt2') and give the path"
        )
    if isinstance(model, onnx.ModelProto):
        return "is an ONNX model: save it with onnx.save(model, 'net.onnx') and give the path"
    if isinstance(model, type):
        made = issubclass(model, torch.nn.Module)
        return f"is a class of modules: hand in one of them, {model.__name__}(...)" if made else None
    if isinstance(model, Sequence) and any(isinstance(one, torch.nn.Module) for one in model):
        return "holds modules: hand in one of them, or put them together, as in torch.nn.Sequential(*modules)"
    if package in _PACKAGES:
        return _PACKAGES[package]
    if isinstance(getattr(model, "__self__", None), torch.nn.Module):
        return "is a method of a module: hand in the module"
    if inspect.isroutine(model) or isinstance(model, functools.partial):
        return "is a function: hand in a torch.nn.Module whose forward does what it does"
    # Learners, trainers and pipelines keep theirs among others, such as a loss.
    kept = [
        name for name, part in getattr(model, "__dict__", {}).items() if isinstance(part, torch.nn.Module)
    ]
    first = next((name for name in _KEPT_UNDER if name in kept), None) or (
        kept[0] if len(kept) == 1 else None
    )
    return None if first is None else f"holds a module: hand in its .{first}"


def _of_mapping(model: Mapping[object, object]) -> str | None:
    """A state_dict, or a checkpoint with one in it, or with the module."""
    if any(isinstance(one, Tensor) for one in model.values()):
        return f"holds weights without layers (a state_dict): {_LOADED}"
    for name, part in model.items():
        if isinstance(part, torch.nn.Module):
            return f"holds a module beside others: hand in its entry {name!r}"
        if isinstance(part, Mapping) and any(isinstance(one, Tensor) for one in part.values()):
            return f"is a checkpoint, with weights and no layers in its entry {name!r}: {_LOADED}"
    return None
