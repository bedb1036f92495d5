"""What a case is about, as one number: two cases with the same key have the same answer.

The key is the SHA-256 of what the answer depends on: the bytes of the model's file (and of the files that an
ONNX model keeps its weights in), the pixels of the image as they are after resizing and cropping, the chain
of perturbations with the contents of its arrays, every setting and limit, the method, and the version of the
package. Where a file lies and what it is called does not count, so that a campaign can go on elsewhere; nor
does the class that a data set gives an image, which changes nothing that is proven.
"""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from steadygaze.errors import ImageError, ModelError
from steadygaze.network.baselines import BASELINES, GIVEN
from steadygaze.perturbation.chain import AbstractPerturbation
from steadygaze.perturbation.notation import chain_of
from steadygaze.question.case import FRAMING, KEEPING, Case
from steadygaze.question.digits import BUILTIN_MODELS, builtin_model
from steadygaze.question.images import Framing, Library
from steadygaze.question.lengths import NOMINAL, texts_in_pixels

SCHEME = "steadygaze/case/1"
_PLACES = ("model", "image", "perturb", *FRAMING, *KEEPING)


class Digests:
    """The digests of models, images and chains that were computed already, by what they are called.

    version: of the package.
    """

    def __init__(self) -> None:
        self._models: dict[str, str] = {}
        self.version = version("steadygaze")
        self._library = Library()
        self._images: dict[tuple[str, Framing], tuple[str, tuple[int, ...]]] = {}
        self._chains: dict[tuple[str, ...], list[Any]] = {}

    def model(self, name: str) -> str:
        """SHA-256 of the model's content. Raises ModelError where there is no such file."""
        if name not in self._models:
            self._models[name] = _model_digest(name)
        return self._models[name]

    def image(self, source: str, framing: Framing) -> tuple[str, tuple[int, ...]]:
        """SHA-256 of the image's shape and pixels once framed, and the shape.

        An image that cannot be read has a digest of why: mended, it is another.
        """
        if (source, framing) not in self._images:
            self._images[source, framing] = _image_digest(self._library, source, framing)
        return self._images[source, framing]

    def chain(self, specifications: tuple[str, ...]) -> list[Any]:
        """The chain link by link, with digests in place of arrays."""
        if specifications not in self._chains:
            self._chains[specifications] = [_link(link) for link in chain_of(specifications).links]
        return self._chains[specifications]


def content_key(case: Case, digests: Digests | None = None) -> str:
    """The content key of a case: 64 hexadecimal digits.

    Args:
        case: the question.
        digests: of files that were read already, for many cases.

    Raises:
        ModelError: if the model cannot be read.
        PerturbationError: if what a perturbation names cannot be read.
    """
    digests = digests or Digests()
    image, shape = digests.image(case.image, case.framing())
    specifications = texts_in_pixels(case.perturb, shape)
    settings = {name: value for name, value in vars(case).items() if name not in _PLACES}
    if case.baseline not in BASELINES:
        settings["baseline"] = f"{GIVEN}:{digests.image(case.baseline, case.framing())[0]}"
    if case.measure:  # what is measured beside an answer is in its record
        settings["measure"] = case.measure
    content = {
        "scheme": SCHEME,
        "version": digests.version,
        "model": digests.model(case.model),
        "image": image,
        "perturbation": digests.chain(specifications),
        "settings": settings,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _model_digest(name: str) -> str:
    path = builtin_model(name) if name in BUILTIN_MODELS else Path(name)
    if path.suffix.lower() not in (".onnx", ".pt2"):
        raise ModelError(
            f"the model is {name!r}; a campaign takes .onnx and .pt2 files and {', '.join(BUILTIN_MODELS)}, "
            "whose content can be told: save the module with torch.export.save"
        )
    if not path.is_file():
        raise ModelError(f"the model is {name!r}, which is not a file; check the path")
    digest = hashlib.sha256(path.read_bytes())
    if path.suffix.lower() == ".onnx" and _keeps_weights_apart(path):
        from steadygaze.network.reading.from_onnx.file import open_onnx  # here: torch comes with it

        for tensor in open_onnx(path).graph.initializer:
            digest.update(tensor.raw_data)
    return digest.hexdigest()


def _keeps_weights_apart(path: Path) -> bool:
    try:
        graph = onnx.load_model(str(path), load_external_data=False).graph
    except Exception:  # a damaged file: its record will say so, in the words of the reader
        return False
    return any(tensor.data_location == TensorProto.EXTERNAL for tensor in graph.initializer)


def _image_digest(library: Library, source: str, framing: Framing) -> tuple[str, tuple[int, ...]]:
    try:
        image = library.load(source, framing).image
    except ImageError as error:
        return hashlib.sha256(f"unreadable: {error}".encode()).hexdigest(), NOMINAL
    return _array_digest(image), image.shape


def _array_digest(array: np.ndarray) -> str:
    values = np.ascontiguousarray(array, np.float64)
    return hashlib.sha256(str(values.shape).encode() + values.tobytes()).hexdigest()


def _link(link: AbstractPerturbation) -> dict[str, Any]:
    """A link by what it does: an array counts by its numbers, not by the file that it was read from."""
    arrays = {s.name: getattr(link, s.name, None) for s in link.settings if s.kind == "array"}
    digests = {name: _array_digest(value) for name, value in arrays.items() if isinstance(value, np.ndarray)}
    return {
        "name": link.name,
        "parameters": [[p.name, p.unit, p.low, p.high] for p in link.parameters],
        "constants": {**link.constants, **digests},
    }
