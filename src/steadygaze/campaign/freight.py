"""What travels with a case to a machine that does not share a disk with this one: model, image, arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, final

import onnx
from onnx.external_data_helper import uses_external_data

from steadygaze.errors import ModelError
from steadygaze.network.baselines import BLACK
from steadygaze.perturbation.chain import Chain
from steadygaze.perturbation.notation import chain_of
from steadygaze.question.case import Case
from steadygaze.question.digits import BUILTIN_MODELS
from steadygaze.question.images import LoadedImage, load_image
from steadygaze.question.images.loading import baseline_of

Files = Mapping[str, bytes]  # contents by path relative to the model's folder


@dataclass(frozen=True)
class Freight:
    """What a case needs where it is answered.

    Attributes:
        loaded: the image. chain: the perturbations, with their arrays.
        model: the name of the model's file, or a built-in one's.
        digest: tells models apart. stored: where the model's files are, for who knows how to fetch them.
        baseline: where the path of integrated gradients begins, a name or an image.
    """

    loaded: LoadedImage
    chain: Chain
    model: str
    digest: str
    stored: tuple[Any, ...]
    baseline: str | LoadedImage = BLACK

    def placed(self, folder: Path, fetch: Callable[[Any], Files]) -> str:
        """The path of the model below `folder`, where its files are written unless they lie there already."""
        if not self.stored:
            return self.model
        place = folder / self.digest
        if not place.is_dir():
            fresh = folder / f"{self.digest}.coming"
            for name, content in fetch(self.stored[0]).items():
                path = fresh / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            fresh.replace(place)
        return str(place / self.model)


@final
class Packer:
    """Freight for the cases of a campaign; each model is stored once, by `store`."""

    def __init__(self, store: Callable[[Files], Any]) -> None:
        self._store = store
        self._models: dict[str, tuple[str, tuple[Any, ...]]] = {}
        self._chains: dict[tuple[str, ...], Chain] = {}
        self._image: tuple[Any, LoadedImage] | None = None

    def freight(self, case: Case) -> Freight:
        """What this case needs. Raises ModelError, ImageError or PerturbationError."""
        if case.model not in self._models:
            self._models[case.model] = self._stored(case.model)
        if case.perturb not in self._chains:
            self._chains[case.perturb] = chain_of(case.perturb)
        asked = case.image, case.framing()
        if self._image is None or self._image[0] != asked:
            self._image = asked, load_image(*asked)
        name = case.model if case.model in BUILTIN_MODELS else Path(case.model).name
        baseline = baseline_of(case.baseline, case.framing())
        return Freight(self._image[1], self._chains[case.perturb], name, *self._models[case.model], baseline)

    def _stored(self, model: str) -> tuple[str, tuple[Any, ...]]:
        if model in BUILTIN_MODELS:
            return "", ()
        files = model_files(Path(model))
        digest = hashlib.sha256()
        for name, content in files.items():
            digest.update(f"{name} {len(content)} ".encode() + content)
        return digest.hexdigest(), (self._store(files),)


def model_files(path: Path) -> dict[str, bytes]:
    """The model's file, and those beside it that an ONNX file keeps weights in. Raises ModelError."""
    try:
        files = {path.name: path.read_bytes()}
        for name in sorted(_beside(path)):
            files[name] = (path.parent / name).read_bytes()
    except OSError as error:
        raise ModelError(f"the model {str(path)!r} cannot be read: {error.strerror or error}") from error
    return files


def _beside(path: Path) -> set[str]:
    """Relative names of the files that hold weights; none that leads out of the folder."""
    if path.suffix.lower() != ".onnx":
        return set()
    try:
        graph = onnx.load_model(str(path), load_external_data=False).graph
    except Exception:  # a damaged file: whoever reads it will say so
        return set()
    told = [
        entry for tensor in graph.initializer if uses_external_data(tensor) for entry in tensor.external_data
    ]
    names = {entry.value for entry in told if entry.key == "location"}
    return {n for n in names if not PurePosixPath(n).is_absolute() and ".." not in PurePosixPath(n).parts}
