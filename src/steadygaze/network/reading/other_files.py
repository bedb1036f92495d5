"""Files of models that are not read, and how to get from each to one that is."""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path
from typing import IO

PICKLED = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle", ".tar", ".model")
"""What PyTorch's files are called, whatever is in them."""

# Of these kinds nothing is looked at but the name.
_OTHERS = {
    ".safetensors": "holds weights without layers: give 'module:callable', a function that builds the "
    "module, loads them and returns it",
    ".h5": "is a Keras file: write it as ONNX, with tf2onnx or keras's model.export(..., format='onnx')",
    ".keras": "is a Keras file: write it as ONNX, with tf2onnx or keras's model.export(..., format='onnx')",
    ".pb": "is a TensorFlow graph: write it as ONNX, with tf2onnx",
    ".tflite": "is a TensorFlow Lite file: write the network that it was made from as ONNX, with tf2onnx",
    ".mlmodel": "is a Core ML file: write the network that it was made from as ONNX",
    ".py": "is Python code: name a function in it that returns the module, as 'module:callable', without .py",
    ".joblib": "is a pickled estimator: write it as ONNX, with skl2onnx and the option zipmap=False",
}
_SCRIPT = (
    "is TorchScript, whose layers are compiled: hand in the module that it was made from ('module:callable', "
    "or what torch.export.save writes of it), or write it as ONNX with "
    "torch.onnx.export(torch.jit.load(FILE), (image,), 'net.onnx', dynamo=False)"
)
_PROGRAM = "is an exported program: call it NAME.pt2"
_WEIGHTS = (
    "holds weights without layers (a state_dict): give 'module:callable', a function that builds the module, "
    "loads them with load_state_dict(torch.load(FILE)) and returns it"
)
_MODULE = (
    "is a pickled module, and reading it runs what is in it: give 'module:callable', a function that returns "
    "torch.load(FILE, weights_only=False), if you would run it yourself"
)
_FOLDER = (
    "is a folder with a saved model: give 'module:callable', a function that loads it from there (with "
    "from_pretrained, as transformers does) and returns it"
)
_UNKNOWN = (
    "is no file of PyTorch's that is known here: give 'module:callable', a function that returns the module"
)
# What state_dicts are made of; anything else in a file is an object of some class.
_PLAIN = ("collections", "torch", "torch._utils", "torch.storage", "torch.serialization", "torch._tensor")
_PLAIN += ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "_codecs", "builtins", "__builtin__")
# In old files three pickles come before that of the object: a number, a version, what the machine is like.
_PICKLES = 4


def way_from(path: Path) -> str | None:
    """What a file of another kind is and what to do with it, in words to follow its name; None if unknown.

    Nothing in it is run, and no more of it is read than names.
    """
    kind = path.suffix.lower()
    if (path / "config.json").is_file():
        return _FOLDER
    if kind in _OTHERS:
        return _OTHERS[kind]
    if kind not in PICKLED:
        return None
    if not path.is_file():
        return "is not a file: check the path"
    if not zipfile.is_zipfile(path):
        with path.open("rb") as stream:
            return _told(stream)
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if any("/code/" in name or name.endswith("constants.pkl") for name in names):
                return _SCRIPT
            if any("/models/" in name or name.endswith("archive_format") for name in names):
                return _PROGRAM
            with archive.open(next(name for name in names if name.endswith("data.pkl"))) as stream:
                return _told(stream)
    except (zipfile.BadZipFile, OSError, StopIteration):
        return _UNKNOWN


def _told(stream: IO[bytes]) -> str:
    """What an object is, by the classes and functions that its pickle names."""
    found: list[str] = []
    for count in range(_PICKLES):
        try:
            found += _modules(stream)
        except ValueError:  # no pickle, or none any more
            if not count:
                return _UNKNOWN
            break
    return _MODULE if any(module not in _PLAIN for module in found) else _WEIGHTS


def _modules(stream: IO[bytes]) -> list[str]:
    """The modules whose classes or functions one pickle names. Raises ValueError where there is none."""
    named, texts = [], list[str]()
    for operation, argument, _ in pickletools.genops(stream):
        if operation.name == "GLOBAL":
            named.append(str(argument).partition(" ")[0])
        elif operation.name == "STACK_GLOBAL":
            named.append(texts[-2] if len(texts) > 1 else "?")
        if isinstance(argument, str):
            texts.append(argument)
    return named
